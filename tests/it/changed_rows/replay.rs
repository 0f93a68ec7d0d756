//! Random statements from several sessions: the images on record, replayed on a copy of the start state, give the same tables, and
//! each change is of the session that made it. `TIDEGATE_CHANGES` sets how many statements there are, `TIDEGATE_CHANGERS` from how
//! many sessions.

use std::collections::HashMap;

use tidegate::audit::LogRecord;
use tidegate::audit::event::{Event, RowValues, RowsChanged};
use tidegate::audit::row_history::in_order;
use tidegate::database::undo::{UndoPlan, apply};
use tidegate::demo::testkit::TestLogin;
use tokio_postgres::Client;

use super::walls;
use crate::support::{ANA, Random, Walls, eventually, records, records_of, seed, suite, trials, value};

const TABLES: [&str; 7] = ["orders", "lines", "plain", "parted", "base", "child", "counted"];

/// Statements; `{n}` and `{m}` are small numbers, `{pid}` is the backend.
const STATEMENTS: [&str; 24] = [
    "INSERT INTO shop.orders (id, status, total, note) VALUES ({n}, 's{m}', {m}.25, '{pid}')",
    "INSERT INTO shop.orders (id, total, note) SELECT g, g, '{pid}' FROM generate_series({n}, {n} + {m}) AS g ON CONFLICT DO NOTHING",
    "INSERT INTO shop.orders (id, status, note) VALUES ({n}, 'up', '{pid}') ON CONFLICT (id) DO UPDATE SET status = 'again', note = excluded.note",
    "UPDATE shop.orders SET total = {m}, tags = ARRAY['a b', NULL, '{m}'], note = '{pid}' WHERE id % 5 = {n} % 5",
    "UPDATE shop.orders SET id = id + 1000 WHERE id = {n}",
    "UPDATE shop.orders SET mood = 'low', at = '2026-01-{m} 10:00+09' WHERE id = {n}",
    "DELETE FROM shop.orders WHERE id = {n}",
    "DELETE FROM shop.orders WHERE id > 1000",
    "INSERT INTO shop.lines SELECT {n} * 100 + {m}, id, {m} FROM shop.orders WHERE id = {n}",
    "UPDATE shop.lines SET n = n + 1 WHERE of = {n}",
    "INSERT INTO shop.plain VALUES ({n}, 'x\"y,{m}'), ({n}, NULL), ({m}, '')",
    "UPDATE shop.plain SET b = b || '{m}' WHERE a = {n}",
    "DELETE FROM shop.plain WHERE a = {m} AND b IS NULL",
    "INSERT INTO shop.parted VALUES ({n} + 60, {m}) ON CONFLICT (id) DO UPDATE SET v = excluded.v",
    "UPDATE shop.parted SET id = id + 7 WHERE id BETWEEN 90 AND 99",
    "UPDATE shop.parted_1 SET v = v + 1",
    "DELETE FROM shop.parted WHERE v = {m}",
    "MERGE INTO shop.base AS b USING (VALUES ({n}, {m})) AS s (id, v) ON b.id = s.id WHEN MATCHED AND s.v > 5 THEN DELETE \
     WHEN MATCHED THEN UPDATE SET v = s.v WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.v)",
    "INSERT INTO shop.child VALUES ({n} + 5000, {m}) ON CONFLICT DO NOTHING",
    "UPDATE shop.child SET v = {m}",
    "INSERT INTO shop.counted VALUES ({n}, {m}) ON CONFLICT (id) DO UPDATE SET n = excluded.n",
    "UPDATE shop.counted SET n = {m} WHERE id = {n}",
    "WITH gone AS (DELETE FROM shop.counted WHERE id = {n} RETURNING *) INSERT INTO shop.plain SELECT n, 'moved' FROM gone",
    "TRUNCATE shop.parted_2",
];

/// Sends statements at random, in transactions that end in each way; returns the backend.
async fn change(walls: &Walls, login: &TestLogin, mut random: Random, statements: u64) -> String {
    let session = suite(&walls.gate, login).await.expect("a session");
    let pid = value(&session.client, "SELECT pg_backend_pid()").await.expect("a backend");
    let mut open = false;
    for _ in 0..statements {
        let (n, m) = (random.below(40).to_string(), (1 + random.below(9)).to_string());
        let sql = match random.below(10) {
            0 if !open => {
                open = true;
                "BEGIN".to_owned()
            }
            0 | 1 if open => {
                open = false;
                if random.below(3) == 0 { "ROLLBACK" } else { "COMMIT" }.to_owned()
            }
            2 if open => "SAVEPOINT s".to_owned(),
            3 if open => "ROLLBACK TO s".to_owned(),
            _ => STATEMENTS[random.below(STATEMENTS.len())]
                .replace("{n}", &n)
                .replace("{m}", &m)
                .replace("{pid}", &pid),
        };
        // Some fail: by a constraint, in a failed transaction, by a deadlock.
        let _ = session.client.simple_query(&sql).await;
    }
    let _ = session.client.simple_query("COMMIT").await;
    pid
}

fn quoted(value: Option<&String>) -> String {
    value.map_or_else(|| "NULL".to_owned(), |value| postgres_protocol::escape::escape_literal(value))
}

fn condition(values: &RowValues) -> String {
    let one = |(column, value): (&String, &Option<String>)| match value {
        None => format!("\"{column}\" IS NULL"),
        Some(value) => format!("\"{column}\"::text = {}", quoted(Some(value))),
    };
    values.iter().map(one).collect::<Vec<_>>().join(" AND ")
}

/// Repeats the change of a statement in the copy. An updated row is looked for before any row is changed: the statement may have
/// given its key to another.
async fn repeat(client: &Client, event: &RowsChanged) {
    let table = format!("copy.\"{}\"", event.table);
    let is_made = |column: &str| event.table == "orders" && column == "twice";
    let mut found: Vec<String> = Vec::new();
    for change in &event.changes {
        let values = if change.key.is_empty() {
            change.old.as_ref()
        } else {
            Some(&change.key)
        };
        let Some(values) = values.filter(|_| change.old.is_some()) else {
            continue;
        };
        let taken = if found.is_empty() {
            String::new()
        } else {
            format!("AND (tableoid || ' ' || ctid) NOT IN ({})", found.join(", "))
        };
        let place = value(
            client,
            &format!(
                "SELECT tableoid || ' ' || ctid FROM {table} WHERE {} {taken} LIMIT 1",
                condition(values)
            ),
        )
        .await;
        let place = place.expect("a row");
        assert!(!place.is_empty(), "{values:?} is not in {table}: {event:?}");
        found.push(format!("'{place}'"));
    }
    let mut places = found.iter();
    for change in &event.changes {
        let mut place = || format!("(tableoid || ' ' || ctid) = {}", places.next().expect("it was found"));
        let sql = match (&change.old, &change.new) {
            (None, Some(new)) => {
                let (columns, values): (Vec<_>, Vec<_>) = new
                    .iter()
                    .filter(|(column, _)| !is_made(column))
                    .map(|(column, value)| (format!("\"{column}\""), quoted(value.as_ref())))
                    .unzip();
                format!("INSERT INTO {table} ({}) VALUES ({})", columns.join(", "), values.join(", "))
            }
            (Some(_), None) => format!("DELETE FROM {table} WHERE {}", place()),
            (Some(_), Some(new)) => {
                let set = new.iter().filter(|(column, _)| !is_made(column));
                let set: Vec<_> = set
                    .map(|(column, value)| format!("\"{column}\" = {}", quoted(value.as_ref())))
                    .collect();
                let place = place();
                if set.is_empty() {
                    continue;
                }
                format!("UPDATE {table} SET {} WHERE {place}", set.join(", "))
            }
            (None, None) => panic!("nothing to repeat: {event:?}"),
        };
        let done = client
            .execute(&sql, &[])
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error:?}\n{event:?}"));
        assert_eq!(done, 1, "{sql}\n{event:?}");
    }
}

async fn checksum(client: &Client, schema: &str, table: &str) -> String {
    let sql = format!(
        "SELECT count(*) || ' ' || coalesce(md5(string_agg(t::text, '|' ORDER BY t::text)), '') FROM {schema}.{table} AS t"
    );
    value(client, &sql).await.expect("a checksum")
}

#[tokio::test(flavor = "multi_thread")]
async fn replayed_images_give_the_same_tables() {
    let seed = seed();
    println!("TIDEGATE_SEED={seed}");
    let (statements, changers) = (trials("TIDEGATE_CHANGES", 800), trials("TIDEGATE_CHANGERS", 4));
    let walls = walls().await;
    let client = walls.server.client("shop").await.expect("a connection");
    let more = ["--profile", "write", "--max-sessions", &changers.to_string()];
    let login = walls.gate.grant(ANA, "shop", "10m", &more).expect("a grant");
    let sessions = (0..changers).map(|n| change(&walls, &login, Random::new(seed + 7919 * n), statements / changers));
    let backends = futures_util::future::join_all(sessions).await;
    let ends = async || (records_of(&walls.gate, &login.grant, "session_ended").len() as u64 == changers).then_some(());
    eventually("all sessions have ended", ends).await;

    let mut sessions = HashMap::new();
    let mut changes = Vec::new();
    for record in records(&walls.gate) {
        let record = LogRecord::parse(record.to_string().as_bytes()).expect("a record");
        match record.event {
            Event::SessionStarted(started) => drop(sessions.insert(started.who.session.clone(), started.backend_pid)),
            Event::RowsChanged(changed) => changes.push(changed.into_owned()),
            _ => {}
        }
    }
    assert!(!changes.is_empty());
    for event in &changes {
        let session = event.session.as_ref().expect("a session");
        assert_eq!(sessions[session], event.backend_pid, "of the wrong session");
        for change in event.changes.iter().filter(|_| event.table == "orders" && event.depth == 1) {
            if let Some(Some(author)) = change.new.as_ref().and_then(|new| new.get("note")) {
                assert!(
                    *author == event.backend_pid.to_string() && backends.contains(author),
                    "of the wrong session"
                );
            }
        }
    }

    // The start state had no rows.
    let copy = TABLES.map(|table| match table {
        "parted" => "CREATE TABLE copy.parted (LIKE shop.parted) PARTITION BY RANGE (id); \
             CREATE TABLE copy.parted_1 PARTITION OF copy.parted FOR VALUES FROM (0) TO (100); \
             CREATE TABLE copy.parted_2 PARTITION OF copy.parted FOR VALUES FROM (100) TO (200);"
            .to_owned(),
        "child" => "CREATE TABLE copy.child () INHERITS (copy.base);".to_owned(),
        table => format!("CREATE TABLE copy.{table} (LIKE shop.{table} INCLUDING GENERATED);"),
    });
    client
        .batch_execute(&format!("CREATE SCHEMA copy; {}; SET timezone = 'UTC'; BEGIN", copy.concat()))
        .await
        .expect("a copy");
    let mut rows = 0;
    let changes = in_order(changes, |event| event);
    for event in &changes {
        repeat(&client, event).await;
        rows += event.changes.len();
    }
    client.batch_execute("COMMIT").await.expect("committed");
    for table in TABLES {
        let [there, copied] = [checksum(&client, "shop", table).await, checksum(&client, "copy", table).await];
        assert_eq!(there, copied, "{table}");
    }
    undo_all(&client, &changes).await;
    println!("{statements} statements from {changers} sessions changed {rows} rows; replayed, they give the same tables");
}

/// Undoes all changes: the start state had no rows. In `counted` a trigger of the application counts what is undone, too.
async fn undo_all(client: &Client, changes: &[RowsChanged]) {
    let numbered: Vec<_> = (1..).zip(changes).filter(|(_, event)| event.table != "counted").collect();
    let plan = UndoPlan::of(&numbered);
    assert_eq!(plan.lost, []);
    let result = apply(client, &plan, false).await.expect("undone");
    assert_eq!(result.conflicts, []);
    for table in TABLES.into_iter().filter(|table| *table != "counted") {
        let left = value(client, &format!("SELECT count(*) FROM shop.{table}"))
            .await
            .expect("a number");
        assert_eq!(left, "0", "{table}");
    }
    println!("{} changes undone", result.undone);
}
