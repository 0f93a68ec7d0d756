//! Rows that profiles capture: what each kind of statement leaves on record, ways to switch it off, masks, policies, what is left
//! when the gate is killed, and a replay of the images.

mod replay;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tidegate::demo::testkit::{TestGate, TestLogin};

use crate::support::{ANA, Walls, binary, code, counted, ended, eventually, records, records_of, suite, trials};

const PROFILES: &str = "
[targets.shop.profiles.write]
select = [\"shop.*\"]
insert = [\"shop.*\"]
update = [\"shop.*\"]
delete = [\"shop.*\"]
truncate = [\"shop.*\"]
usage = [\"shop.*\"]
capture = [\"shop.*\", \"!shop.events\"]
[targets.shop.profiles.support]
select = [\"shop.*\"]
insert = [\"shop.*\"]
update = [\"shop.*\"]
mask = { \"shop.cards\" = { pan = \"partial\", holder = \"null\" } }
";

const SHOP: &str = "
CREATE ROLE shop_owner; CREATE SCHEMA shop AUTHORIZATION shop_owner; SET ROLE shop_owner; SET search_path = shop;
CREATE TYPE mood AS ENUM ('low', 'high');
CREATE TABLE orders (id int PRIMARY KEY, status text, total numeric(10,2), twice numeric GENERATED ALWAYS AS (total * 2) STORED,
    tags text[], mood mood, at timestamptz, note text);
CREATE TABLE lines (id int PRIMARY KEY, of int REFERENCES orders ON DELETE CASCADE ON UPDATE CASCADE, n int);
CREATE TABLE events (id int);
CREATE TABLE plain (a int, b text);
CREATE TABLE parted (id int, v int, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (100);
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (100) TO (200);
CREATE TABLE base (id int PRIMARY KEY, v int); CREATE TABLE child (PRIMARY KEY (id)) INHERITS (base);
CREATE TABLE cards (id int PRIMARY KEY, pan text, holder text);
CREATE TABLE counted (id int PRIMARY KEY, n int, times int DEFAULT 0);
CREATE FUNCTION count_it() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN IF NEW.times = OLD.times THEN UPDATE shop.counted SET times = times + 1 WHERE id = NEW.id; END IF; RETURN NULL; END';
CREATE TRIGGER counts AFTER UPDATE ON counted FOR EACH ROW EXECUTE FUNCTION count_it();
RESET ROLE; RESET search_path;
";

/// A server with the shop, whose changes are captured, and a gate before it.
pub(crate) async fn walls() -> Walls {
    walls_with("", "").await
}

/// `more` are further lines of the target, `tables` further tables of the configuration.
pub(crate) async fn walls_with(more: &str, tables: &str) -> Walls {
    let walls = Walls::bare(&format!("{more}{PROFILES}{tables}")).await;
    walls.server.batch("shop", SHOP).await.expect("the shop");
    let (exit, said) = walls.target(&["apply"]);
    assert_eq!(exit, Some(0), "{said}");
    walls
}

/// Runs scripts in a session of their own, each as one message, and waits until it has ended on record. The SQLSTATEs of those
/// that fail are returned.
pub(crate) async fn run(walls: &Walls, login: &TestLogin, scripts: &[&str]) -> Vec<String> {
    let session = suite(&walls.gate, login).await.expect("a session");
    let mut codes = Vec::new();
    for script in scripts {
        codes.push(code(&session.client, script).await);
    }
    drop(session);
    eventually("the session has ended", async || {
        let started = records_of(&walls.gate, &login.grant, "session_started").len();
        (records_of(&walls.gate, &login.grant, "session_ended").len() == started).then_some(())
    })
    .await;
    codes
}

/// Returns the changes of a grant, each as one line: operation, table, and each row's key, old and new values.
fn told(walls: &Walls, login: &TestLogin) -> Vec<String> {
    let one = |record: Value| {
        let rows = record["changes"].as_array().cloned().unwrap_or_default();
        let rows: Vec<String> = rows
            .iter()
            .map(|row| format!("{} {}→{}", row["key"], row["old"], row["new"]))
            .collect();
        let (operation, table) = (&record["operation"], &record["table"]);
        format!(
            "{} {} {}",
            operation.as_str().expect("one"),
            table.as_str().expect("one"),
            rows.join("; ")
        )
        .replace('"', "")
    };
    records_of(&walls.gate, &login.grant, "rows_changed")
        .into_iter()
        .map(one)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_statement_leaves_its_rows() {
    let walls = walls().await;
    let login = walls.grant("write", "10m");
    let codes = run(
        &walls,
        &login,
        &[
            "SET timezone = 'Asia/Tokyo'; SET datestyle = 'German'; SET bytea_output = escape; SET extra_float_digits = -15",
            "INSERT INTO shop.orders (id, status, total, tags, mood, at) VALUES (1, 'open', 1.5, '{a,\"b c\"}', 'low', '2026-01-01 00:00:00Z')",
            "INSERT INTO shop.orders (id, total) VALUES (1, 3) ON CONFLICT (id) DO UPDATE SET total = excluded.total",
            "UPDATE shop.orders SET status = 'say \"hi\", (x)\\' WHERE id = 1",
            "BEGIN; UPDATE shop.orders SET status = 'no'; ROLLBACK",
            "BEGIN; SAVEPOINT s; UPDATE shop.orders SET status = 'no'; ROLLBACK TO s; UPDATE shop.orders SET mood = 'high'; COMMIT",
            "INSERT INTO shop.orders (id) VALUES (1)",
            "UPDATE shop.orders SET note = 'x' WHERE false",
            "INSERT INTO shop.lines VALUES (7, 1, 2)",
            "UPDATE shop.orders SET id = 2 WHERE id = 1",
            "DELETE FROM shop.orders",
            "INSERT INTO shop.plain VALUES (1, NULL), (1, ''); UPDATE shop.plain SET a = 2 WHERE b IS NULL; DELETE FROM shop.plain WHERE a = 1",
            "INSERT INTO shop.parted VALUES (1, 1); UPDATE shop.parted SET id = 101; INSERT INTO shop.parted_1 VALUES (2, 2)",
            "INSERT INTO shop.child VALUES (1, 1); UPDATE shop.base SET v = 2",
            "INSERT INTO shop.events VALUES (1)",
            "TRUNCATE shop.parted",
            "INSERT INTO shop.counted VALUES (1, 1); UPDATE shop.counted SET n = 2",
            "MERGE INTO shop.base AS b USING (VALUES (1, 5), (9, 9)) AS s (id, v) ON b.id = s.id \
             WHEN MATCHED THEN UPDATE SET v = s.v WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.v)",
            "DO $$ BEGIN INSERT INTO shop.plain VALUES (5, 'do'); END $$",
            "WITH gone AS (DELETE FROM shop.plain WHERE a = 5 RETURNING b) INSERT INTO shop.plain SELECT 6, b FROM gone",
        ],
    )
    .await;
    let failed: Vec<_> = codes.iter().enumerate().filter(|(_, code)| !code.is_empty()).collect();
    assert_eq!(failed, [(6, &"23505".to_owned())]);
    insta::assert_snapshot!(told(&walls, &login).join("\n"));
    // In the order in which it happened, before the end of the session, and each once.
    let all = records(&walls.gate);
    let place = |event: &str| {
        all.iter()
            .rposition(|record| record["event"] == event && record["grant"] == *login.grant)
    };
    assert!(place("rows_changed") < place("session_ended"));
    let mut numbers: Vec<_> = all.iter().filter_map(|record| record["change"].as_u64()).collect();
    assert!(numbers.is_sorted());
    numbers.dedup();
    assert_eq!(numbers.len(), told(&walls, &login).len());
    assert_eq!(walls.asks("SELECT count(*) FROM tidegate_shop.changes").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_copy_brings_and_what_is_large_is_bounded() {
    let walls = walls().await;
    let login = walls.grant("write", "10m");
    let session = suite(&walls.gate, &login).await.expect("a session");
    let sink = session.client.copy_in("COPY shop.plain FROM STDIN").await.expect("a copy");
    let mut sink = std::pin::pin!(sink);
    futures_util::SinkExt::send(&mut sink, bytes::Bytes::from_static(b"1\tcopied\n"))
        .await
        .expect("sent");
    futures_util::SinkExt::close(&mut sink).await.expect("done");
    drop(session);
    let codes = run(
        &walls,
        &login,
        &[
            "INSERT INTO shop.plain VALUES (2, repeat('x', 100000))",
            "INSERT INTO shop.parted SELECT n % 200, n FROM generate_series(0, 99) AS n",
            "INSERT INTO shop.counted SELECT n, n FROM generate_series(1, 12000) AS n",
            "INSERT INTO shop.base SELECT n, n FROM generate_series(1, 2500) AS n",
            "TRUNCATE shop.counted",
        ],
    )
    .await;
    assert!(codes.iter().all(String::is_empty), "{codes:?}");
    let all = records_of(&walls.gate, &login.grant, "rows_changed");
    assert_eq!(all[0]["changes"][0]["new"], json!({"a": "1", "b": "copied"}));
    // `(2,` and `)` are around the text.
    assert_eq!(all[1]["changes"][0]["new_digest"]["length"], 100_004);
    let many: Vec<_> = all.iter().filter(|record| record["table"] == "counted").collect();
    assert_eq!(
        (many.len(), &many[0]["rows"], &many[1]["rows"]),
        (2, &json!(12_000), &json!(12_000))
    );
    assert!(many[0]["new_checksum"].is_string() && many[0]["changes"].is_null() && many[1]["operation"] == "truncate");
    let parts: Vec<_> = all.iter().filter(|record| record["table"] == "base").collect();
    let rows: usize = parts.iter().map(|part| part["changes"].as_array().map_or(0, Vec::len)).sum();
    assert!(parts.len() > 1 && rows == 2500, "{} records of {rows} rows", parts.len());
    let offsets: Vec<_> = parts.iter().map(|part| part["offset"].as_u64().unwrap_or_default()).collect();
    assert!(offsets.is_sorted() && offsets[0] == 0 && offsets[1] > 0, "{offsets:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tester_cannot_switch_it_off() {
    let walls = walls().await;
    let login = walls.grant("write", "10m");
    let refused = [
        "SET session_replication_role = replica",
        "ALTER TABLE shop.plain DISABLE TRIGGER ALL",
        "ALTER TABLE shop.plain DISABLE TRIGGER \"~tidegate_shop update\"",
        "DROP TRIGGER \"~tidegate_shop update\" ON shop.plain",
        "DROP FUNCTION tidegate_shop.update()",
        "CREATE OR REPLACE FUNCTION tidegate_shop.update() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "ALTER FUNCTION tidegate_shop.update() RESET ALL",
        "DROP SCHEMA tidegate_shop CASCADE",
        "DROP TABLE tidegate_shop.changes",
        "SELECT * FROM tidegate_shop.changes",
        "INSERT INTO tidegate_shop.changes (role) VALUES ('somebody')",
        "DELETE FROM tidegate_shop.changes",
        "TRUNCATE tidegate_shop.changes",
        "DO $$ BEGIN LOCK TABLE tidegate_shop.changes; END $$",
        "CREATE TABLE tidegate_shop.mine (a int)",
        "CREATE TEMP TABLE t (a int); CREATE TRIGGER forged AFTER INSERT ON t REFERENCING NEW TABLE AS new_rows \
         FOR EACH STATEMENT EXECUTE FUNCTION tidegate_shop.insert()",
        "SET ROLE shop_owner",
        "SET SESSION AUTHORIZATION postgres",
    ];
    let mut scripts = refused.to_vec();
    let past = [
        // Names of one's own before those of the system and of the store.
        "CREATE TEMP TABLE changes (LIKE shop.plain); CREATE FUNCTION pg_temp.statement_timestamp() RETURNS timestamptz LANGUAGE sql \
         AS 'SELECT NULL::timestamptz'; SET search_path = pg_temp, pg_catalog; INSERT INTO shop.plain VALUES (1, 'names')",
        "CREATE FUNCTION pg_temp.mine() RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = pg_temp \
         AS 'INSERT INTO shop.plain VALUES (2, ''function'')'; SELECT pg_temp.mine()",
        "PREPARE p AS INSERT INTO shop.plain VALUES (3, 'prepared'); EXECUTE p",
        "SET default_transaction_isolation = serializable; SET row_security = off; SET lock_timeout = 1; INSERT INTO shop.plain VALUES (4, 'settings')",
        "RESET ALL; SET statement_timeout = 0; BEGIN; SET CONSTRAINTS ALL DEFERRED; INSERT INTO shop.plain VALUES (5, 'deferred'); COMMIT",
    ];
    scripts.extend(past);
    let codes = run(&walls, &login, &scripts).await;
    for (sql, code) in scripts.iter().zip(&codes).take(refused.len()) {
        assert_eq!(code, "42501", "{sql}");
    }
    assert!(codes[refused.len()..].iter().all(String::is_empty), "{codes:?}");
    let told = told(&walls, &login);
    let rows = ["names", "function", "prepared", "settings", "deferred"];
    assert_eq!(told.len(), rows.len(), "{told:#?}");
    for (line, row) in told.iter().zip(rows) {
        assert!(line.contains(row), "{line}");
    }
    let (exit, said) = walls.target(&["plan"]);
    assert_eq!(exit, Some(0), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_owner_changes_is_told_as_drift() {
    let walls = walls().await;
    let drift = async |sql: &str, wanted: &str| {
        walls.server.batch("shop", sql).await.expect(sql);
        let (exit, said) = walls.target(&["plan"]);
        assert_eq!(exit, Some(7), "{sql}: {said}");
        assert!(said.contains(wanted), "{sql}: {wanted} not in\n{said}");
        let (exit, said) = walls.target(&["apply"]);
        assert_eq!(exit, Some(0), "{sql}: {said}");
        let (exit, said) = walls.target(&["plan"]);
        assert_eq!(exit, Some(0), "{sql}: {said}");
    };
    drift("ALTER TABLE shop.plain DISABLE TRIGGER ALL", "ENABLE ALWAYS TRIGGER").await;
    drift("CREATE TABLE shop.later (id int)", "ON \"shop\".\"later\"").await;
    drift(
        "CREATE TABLE shop.parted_3 PARTITION OF shop.parted FOR VALUES FROM (200) TO (300)",
        "ON \"shop\".\"parted_3\"",
    )
    .await;
    drift(
        "DROP TRIGGER \"~tidegate_shop delete\" ON shop.plain",
        "CREATE TRIGGER \"~tidegate_shop delete\"",
    )
    .await;
    drift(
        "CREATE OR REPLACE FUNCTION tidegate_shop.delete() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "CREATE OR REPLACE FUNCTION \"tidegate_shop\".\"delete\"",
    )
    .await;
    drift("GRANT SELECT ON tidegate_shop.changes TO PUBLIC", "FROM PUBLIC CASCADE").await;
    drift(
        "ALTER TABLE shop.plain RENAME TO simple; ALTER TABLE shop.simple ADD c int; CREATE TABLE shop.plain (z int)",
        "ON \"shop\".\"plain\"",
    )
    .await;
    // What is renamed and altered goes on being captured, by the names of its time.
    let login = walls.grant("write", "10m");
    run(&walls, &login, &["INSERT INTO shop.simple VALUES (1, 'b', 3)"]).await;
    assert_eq!(told(&walls, &login), ["insert simple null null→{a:1,b:b,c:3}"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn values_are_as_masks_and_the_targets_policy_say() {
    let walls = walls().await;
    walls
        .server
        .batch("shop", "INSERT INTO shop.cards VALUES (1, '4000123412341234', 'Ana')")
        .await
        .expect("a card");
    eventually("it is recorded as made past the gate", async || {
        let changed: Vec<_> = records(&walls.gate)
            .into_iter()
            .filter(|record| record["event"] == "rows_changed")
            .collect();
        let [card] = changed.as_slice() else { return None };
        assert_eq!(
            (&card["role"], &card["grant"], &card["session"]),
            (&json!("postgres"), &Value::Null, &Value::Null)
        );
        assert_eq!(
            card["changes"][0]["new"],
            json!({"id": "1", "pan": "************1234", "holder": null})
        );
        Some(())
    })
    .await;
    // By a view with masks, and by a profile without.
    let login = walls.grant("support", "10m");
    run(&walls, &login, &["UPDATE tg_shop_support.cards SET id = 2"]).await;
    assert_eq!(told(&walls, &login), ["update cards {id:1} {id:1}→{id:2}"]);
    let login = walls.grant("write", "10m");
    run(&walls, &login, &["UPDATE shop.cards SET pan = '4000123412349999'"]).await;
    assert_eq!(
        told(&walls, &login),
        ["update cards {id:2} {pan:4000123412341234}→{pan:4000123412349999}"]
    );
    assert!(counted(&walls.gate, "tidegate_rows_changed_past_the_gate_total{target=\"shop\"}") > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn values_are_hashed_or_left_out_where_parameters_are() {
    for (policy, hidden) in [("hashed", true), ("none", false)] {
        let walls = walls_with(&format!("parameters = \"{policy}\"\n"), "").await;
        let login = walls.grant("write", "10m");
        run(
            &walls,
            &login,
            &["INSERT INTO shop.plain VALUES (812, 'secret'); UPDATE shop.plain SET b = 'other'"],
        )
        .await;
        let all = records_of(&walls.gate, &login.grant, "rows_changed");
        assert_eq!(all.len(), 2);
        assert!(
            !format!("{all:?}").contains("secret") && !format!("{all:?}").contains("other"),
            "{all:#?}"
        );
        assert_eq!(all[1]["hashed"].as_bool().unwrap_or_default(), hidden);
        let (columns, value) = (&all[1]["changes"][0]["columns"], &all[1]["changes"][0]["new"]["b"]);
        assert!(
            if hidden {
                value.as_str().is_some_and(|hash| hash.len() == 32)
            } else {
                *columns == json!(["b"])
            },
            "{all:#?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_gate_records_each_change_once() {
    let mut walls = walls().await;
    let rounds = trials("TIDEGATE_KILLS", 3);
    let mut committed = 0_u64;
    for round in 0..rounds {
        let login = walls.grant("write", "10m");
        let session = suite(&walls.gate, &login).await.expect("a session");
        // It is killed while changes come, are recorded and are removed.
        for n in 0..60 + 17 * (round % 5) {
            let sql = format!("INSERT INTO shop.plain VALUES ({committed}, 'row')");
            if !code(&session.client, &sql).await.is_empty() {
                break;
            }
            committed += 1;
            if n > 20 {
                tokio::time::sleep(std::time::Duration::from_millis(7)).await;
            }
        }
        walls.gate.kill().expect("kill -9");
        eventually("it is dead", async || walls.gate.ended().then_some(())).await;
        walls.gate.start_again().expect("a gate");
        let end = ended(&walls.gate, &login.grant).await;
        assert_eq!(end["ending"], "gate_died");
        let changed = records_of(&walls.gate, &login.grant, "rows_changed");
        assert!(
            changed.iter().all(|record| record["session"] == end["session"]),
            "{changed:?}"
        );
    }
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    for record in records(&walls.gate).iter().filter(|record| record["event"] == "rows_changed") {
        *seen.entry(record["changes"][0]["new"]["a"].to_string()).or_default() += 1;
    }
    let there: u64 = walls
        .asks("SELECT count(DISTINCT a) FROM shop.plain")
        .await
        .parse()
        .expect("a number");
    assert!(there >= committed);
    assert_eq!((seen.len() as u64, seen.values().max()), (there, Some(&1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn off_leaves_no_trace_and_loses_no_change() {
    let mut walls = walls().await;
    let login = walls.grant("write", "10m");
    run(&walls, &login, &["INSERT INTO shop.plain VALUES (1, 'last')"]).await;
    let config = walls.gate.config_file();
    let text = std::fs::read_to_string(&config).expect("the configuration");
    std::fs::write(&config, text.replace("capture = ", "# capture = ")).expect("written");
    // Nothing moves changes now.
    walls.gate.kill().expect("kill -9");
    eventually("it is dead", async || walls.gate.ended().then_some(())).await;
    walls
        .server
        .batch("shop", "INSERT INTO shop.plain VALUES (2, 'kept')")
        .await
        .expect("a change");
    let (exit, said) = walls.target(&["apply"]);
    assert_eq!(exit, Some(1), "{said}");
    assert!(said.contains("changes in the store are not on record yet"), "{said}");
    walls.gate.start_again().expect("a gate");
    eventually("it is on record", async || {
        records(&walls.gate)
            .iter()
            .any(|record| record["changes"][0]["new"]["b"] == "kept")
            .then_some(())
    })
    .await;
    let (exit, said) = walls.target(&["apply"]);
    assert_eq!(exit, Some(0), "{said}");
    let left = "SELECT count(*) FROM (SELECT tgname::text FROM pg_trigger WHERE tgname LIKE '%tidegate%' \
        UNION ALL SELECT nspname FROM pg_namespace WHERE nspname LIKE 'tidegate%') AS x";
    assert_eq!(walls.asks(left).await, "0");
    let session = suite(&walls.gate, &login).await.expect("a session");
    assert_eq!(code(&session.client, "INSERT INTO shop.plain VALUES (3, 'free')").await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_the_way_is_told_and_loses_nothing() {
    let walls = walls().await;
    let login = walls.grant("write", "10m");
    run(&walls, &login, &["INSERT INTO shop.plain VALUES (0, 'first')"]).await;
    // Somebody with the right to do so locks the store: statements wait for it, and the client learns why nothing happens.
    let locker = walls.server.client("shop").await.expect("a connection");
    locker
        .batch_execute("BEGIN; LOCK TABLE tidegate_shop.changes")
        .await
        .expect("locked");
    let session = suite(&walls.gate, &login).await.expect("a session");
    let waits = "SET lock_timeout = '100ms'; INSERT INTO shop.plain VALUES (1, 'waits')";
    assert_eq!(code(&session.client, waits).await, "55P03");
    eventually("it is told", async || {
        (counted(&walls.gate, "tidegate_captured_changes_failing{target=\"shop\"}") > 0.0).then_some(())
    })
    .await;
    locker.batch_execute("COMMIT").await.expect("unlocked");
    assert_eq!(code(&session.client, "INSERT INTO shop.plain VALUES (2, 'later')").await, "");
    // A table that is gone by the time its changes are read.
    walls
        .server
        .batch(
            "shop",
            "INSERT INTO shop.base VALUES (1, 1); ALTER TABLE shop.child NO INHERIT shop.base; DROP TABLE shop.base",
        )
        .await
        .expect("dropped");
    drop(session);
    eventually("all is on record", async || {
        let all = records(&walls.gate);
        let has = |table: &str, row: &str| {
            all.iter()
                .any(|record| record["table"] == table && record["changes"][0]["new"].to_string().contains(row))
        };
        (has("plain", "later") && has("base", "\"v\":\"1\"")).then_some(())
    })
    .await;
    assert!(walls.gate.log().contains("cannot move captured changes to the audit log"));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gates_take_their_own_changes() {
    let walls = walls().await;
    let target = format!(
        "[targets.shop]\naddress = \"{}\"\ndatabase = \"shop\"\nuser = \"gate\"\npassword_file = \"gate.password\"\n{PROFILES}",
        walls.server.address()
    );
    let other = TestGate::start(binary(), &target, &[("gate.password", "gate")]).expect("a gate");
    let (mine, theirs) = (
        walls.grant("write", "10m"),
        other.grant(ANA, "shop", "10m", &["--profile", "write"]).expect("a grant"),
    );
    let (one, two) = (
        suite(&walls.gate, &mine).await.expect("a session"),
        suite(&other, &theirs).await.expect("a session"),
    );
    for n in 0..20 {
        assert_eq!(
            code(&one.client, &format!("INSERT INTO shop.plain VALUES ({n}, 'one')")).await,
            ""
        );
        assert_eq!(
            code(&two.client, &format!("INSERT INTO shop.plain VALUES ({n}, 'two')")).await,
            ""
        );
    }
    drop((one, two));
    for (gate, login, word) in [(&walls.gate, &mine, "one"), (&other, &theirs, "two")] {
        ended(gate, &login.grant).await;
        let all: Vec<_> = records(gate)
            .into_iter()
            .filter(|record| record["event"] == "rows_changed")
            .collect();
        assert_eq!(all.len(), 20, "{word}");
        assert!(
            all.iter()
                .all(|record| record["changes"][0]["new"]["b"] == word && record["session"].is_string())
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_of_a_row_is_told() {
    let walls = walls().await;
    let login = walls.grant("write", "10m");
    run(
        &walls,
        &login,
        &[
            "INSERT INTO shop.orders (id, status) VALUES (42, 'open'), (43, 'open')",
            "UPDATE shop.orders SET status = 'closed' WHERE id = 42",
            "INSERT INTO shop.counted VALUES (42, 1); UPDATE shop.counted SET n = 2",
        ],
    )
    .await;
    let session = records_of(&walls.gate, &login.grant, "session_ended")[0]["session"]
        .as_str()
        .expect("one")
        .to_owned();
    let shown = |arguments: &[&str]| {
        let output = walls
            .gate
            .command(&[&["log", "changes"], arguments].concat())
            .expect("the command");
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let history = shown(&["--table", "shop.orders", "--key", "42"]);
    assert_eq!(history.matches("orders id='42'").count(), 2, "{history}");
    assert!(
        history.contains("    status: 'open' → 'closed'") && !history.contains("id='43'"),
        "{history}"
    );
    assert!(history.lines().all(|line| line.chars().count() <= 80), "{history}");
    // A trigger's change follows the one that caused it.
    let lines: Vec<Value> = shown(&["--session", &session, "--output", "json"])
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let counted: Vec<_> = lines
        .iter()
        .filter(|line| line["table"] == "counted")
        .map(|line| line["new"].to_string())
        .collect();
    assert_eq!(counted[1..], ["{\"n\":\"2\"}", "{\"times\":\"1\"}"], "{lines:#?}");
    assert!(shown(&["--table", "lines"]).contains("No changed rows in the log."));
    let story = walls.gate.command(&["log", "session", &session]).expect("the command");
    assert!(String::from_utf8_lossy(&story.stdout).contains("update shop.orders: 1 row; row id='42' status: 'open' → 'closed'"));
}
