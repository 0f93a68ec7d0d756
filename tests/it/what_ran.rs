//! The record tells what ran: rows as they were sent, errors at the message that caused them, a target's last words, texts in their
//! encoding, where clients were and with which privileges.

use serde_json::{Value, json};
use tidegate::demo::testkit::{TestGate, TestLogin};

use crate::answers::{found, in_order, told};
use crate::log::{executed, statements, text};
use crate::support::script::{
    CLEAR, Scripted, bind, close, describe, execute, frame, parse, query, run, sqlstate, startup, sync, tags, tcp,
};
use crate::support::{House, Raw, TARGET, database, ended, eventually, gate, grant, psql_as, records_of, said};

/// A table of a thousand numbers that is the session's own.
const THOUSAND: &str = "CREATE TEMP TABLE thousand AS SELECT n FROM generate_series(1, 1000) n";

/// The rows of a statement's outcome: returned or changed, sent, those of its portal until then.
fn rows((_, outcome): &(Value, Value)) -> (u64, u64, Option<u64>) {
    (
        outcome["rows"].as_u64().expect("a number"),
        outcome["rows_sent"].as_u64().unwrap_or(0),
        outcome["portal_rows_sent"].as_u64(),
    )
}

async fn session(gate: &TestGate, login: &TestLogin) -> Scripted {
    Scripted::login(gate, login, CLEAR).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_has_the_rows_that_it_sent() {
    let gate = gate();
    let login = grant(&gate, "10m");
    let mut raw = session(&gate, &login).await;
    raw.ask(&query(THOUSAND), 1).await;
    raw.ask(&query("BEGIN"), 1).await;
    // As drivers fetch: a portal with a name, a Sync behind each part.
    let first = [
        parse("", "SELECT n FROM thousand", &[]),
        bind("c", "", &[]),
        execute("c", 50),
        sync(),
    ];
    let got = raw.ask(&first.concat(), 1).await;
    assert!(tags(&got).ends_with("DsZ"), "{}", tags(&got));
    for _ in 0..19 {
        raw.ask(&[execute("c", 50), sync()].concat(), 1).await;
    }
    let last = raw.ask(&[execute("c", 50), sync()].concat(), 1).await;
    assert_eq!(tags(&last), "CZ");
    raw.ask(
        &query("DECLARE k CURSOR FOR SELECT n FROM thousand; FETCH 30 FROM k; MOVE 5 FROM k"),
        1,
    )
    .await;
    raw.ask(&query("COMMIT"), 1).await;
    raw.send(&frame(b'X', b"")).await;
    drop(raw);

    let all = executed(&gate, &login).await;
    let portal: Vec<_> = all
        .iter()
        .filter(|(statement, _)| statement["portal"] == "c")
        .map(rows)
        .collect();
    assert_eq!(portal.len(), 21);
    let expected = (1..=20).map(|part| (50, 50, Some(part * 50))).chain([(0, 0, Some(1000))]);
    assert_eq!(portal, expected.collect::<Vec<_>>());
    let fetched = all
        .iter()
        .find(|(statement, _)| text(statement).starts_with("DECLARE"))
        .expect("it");
    assert_eq!(rows(fetched), (35, 30, None));
    let end = ended(&gate, &login.grant).await;
    // What made the table counts what it wrote.
    assert_eq!((&end["rows"], &end["rows_sent"]), (&2035.into(), &1030.into()));

    // What readers make of it.
    let touched = told(
        &gate,
        &["log", "who-touched", "thousand", "--class", "select", "--output", "json"],
    );
    let touched: Value = serde_json::from_str(&touched).expect("JSON");
    let sum = touched[0]["rows"].as_u64().expect("a sum");
    assert!(sum >= 1000, "{touched}");
    let many = found(&gate, &["--grant", &login.grant, "--min-rows", "900", "--event", "outcome"]);
    let many: Vec<_> = many.iter().map(|outcome| outcome["portal_rows_sent"].as_u64()).collect();
    assert_eq!(many, [None, Some(900), Some(950), Some(1000), Some(1000)]);
    let few = found(
        &gate,
        &[
            "--grant",
            &login.grant,
            "--max-rows",
            "50",
            "--min-rows",
            "50",
            "--event",
            "outcome",
        ],
    );
    assert_eq!(few.len(), 1, "{few:?}");
    let session = end["session"].as_str().expect("an id");
    let story = told(&gate, &["log", "session", session]);
    in_order(
        &story,
        &[
            "suspended, 50 rows (50 of its portal)",
            "suspended, 50 rows (1000 of its portal)",
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_late_has_the_rows_that_it_sent() {
    let gate = gate();
    let login = grant(&gate, "10m");
    let mut raw = session(&gate, &login).await;
    raw.ask(&query(THOUSAND), 1).await;
    let late = "SELECT 1/(900-n) FROM thousand";
    let got = raw.ask(&query(late), 1).await;
    assert_eq!(sqlstate(&got).as_deref(), Some("22012"));
    assert_eq!(tags(&got).matches('D').count(), 899);
    let extended = [
        parse("", late, &[]),
        bind("", "", &[]),
        execute("", 0),
        execute("", 0),
        sync(),
    ];
    raw.ask(&extended.concat(), 1).await;
    raw.ask(&query(format!("COPY ({late}) TO STDOUT")), 1).await;
    raw.ask(&query("UPDATE thousand SET n = n WHERE n < 8; SELECT n/0 FROM thousand"), 1)
        .await;
    raw.ask(
        &query("EXPLAIN SELECT 1; INSERT INTO thousand VALUES (1), (2) RETURNING n"),
        1,
    )
    .await;
    drop(raw);
    let all = executed(&gate, &login).await;
    let told: Vec<_> = all
        .iter()
        .skip(1)
        .map(|all| (all.1["result"].as_str().unwrap_or_default(), rows(all)))
        .collect();
    assert_eq!(
        told,
        [
            ("failed", (899, 899, None)),
            ("failed", (899, 899, None)),
            ("skipped", (0, 0, Some(899))),
            ("failed", (899, 899, None)),
            ("failed", (7, 0, None)),
            ("completed", (3, 3, None)),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_ended_has_the_rows_that_came_through() {
    let gate = gate();
    let login = grant(&gate, "10m");
    let mut raw = session(&gate, &login).await;
    // Ten rows at once, more than fills the server's buffer, and then none for a long time.
    let slow = "SELECT CASE WHEN n = 11 THEN pg_sleep(600)::text ELSE repeat('x', 100000) END FROM generate_series(1, 11) n";
    raw.send(&query(slow)).await;
    for _ in 0..9 {
        raw.until(b'D').await;
    }
    gate.json(&["grant", "revoke", &login.grant]).expect("revoked");
    let rest = raw.rest().await;
    let got = 9 + tags(&rest).matches('D').count();
    let end = ended(&gate, &login.grant).await;
    let all = executed(&gate, &login).await;
    let (returned, sent, _) = rows(&all[0]);
    assert_eq!((returned, sent), (got as u64, got as u64), "{:?}", all[0]);
    assert_eq!(end["rows_sent"].as_u64(), Some(sent));
}

/// What failed on record: kind, text, SQLSTATE, in order.
fn failed(all: &[(Value, Value)]) -> Vec<(String, String, String)> {
    let of = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    all.iter()
        .filter(|(_, outcome)| outcome["result"] == "failed")
        .map(|(statement, outcome)| (of(&statement["kind"]), text(statement).to_owned(), of(&outcome["sqlstate"])))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_is_on_record_at_the_message_that_caused_it() {
    let gate = gate();
    let login = grant(&gate, "10m");
    let mut raw = session(&gate, &login).await;
    let bound = |sql: &str, value: &[u8]| {
        [
            parse("", sql, &[]),
            bind("p", "", &[(false, Some(value))]),
            describe(b'P', "p"),
            execute("p", 0),
            sync(),
        ]
        .concat()
    };
    let mut scripts: Vec<(Vec<u8>, &str)> = vec![
        (bound("select $1::int", b"x"), "22P02"),
        // What is planned with its values may fail there.
        (bound("select 1/$1::int", b"0"), "22012"),
        (run("none"), "26000"),
        ([describe(b'S', "none"), sync()].concat(), "26000"),
        ([describe(b'P', "none"), execute("none", 0), sync()].concat(), "34000"),
        ([close(b'X', "none"), sync()].concat(), "08P01"),
        (frame(b'B', b"no end"), "08P01"),
    ];
    scripts.push((sync(), ""));
    for (script, code) in &scripts {
        raw.send(script).await;
        if script[0] == b'B' && script.ends_with(b"no end") {
            continue;
        }
        let got = raw.ready(1).await;
        if !code.is_empty() {
            assert_eq!(sqlstate(&got).as_deref(), Some(*code));
        }
    }
    let end = raw.ask(&query("select 'after'"), 1).await;
    assert_eq!(tags(&end), "TDCZ");
    drop(raw);
    let all = statements(&gate, &login).await;
    let line = |kind: &str, text: &str, code: &str| (kind.to_owned(), text.to_owned(), code.to_owned());
    let expected = [
        line("bind", "select $1::int", "22P02"),
        line("bind", "select 1/$1::int", "22012"),
        line("bind", "-", "26000"),
        line("describe", "-", "26000"),
        line("describe", "-", "34000"),
        line("close", "-", "08P01"),
        line("bind", "-", "08P01"),
    ];
    assert_eq!(failed(&all), expected);
    let (bind, _) = all.iter().find(|(statement, _)| statement["kind"] == "bind").expect("it");
    assert_eq!(
        (&bind["portal"], &bind["prepared"], &bind["parameters"]),
        (&"p".into(), &"".into(), &json!([{"text": "x"}]))
    );
    // What stood behind it did not run, and says so.
    let skipped = all.iter().filter(|(_, outcome)| outcome["result"] == "skipped");
    assert_eq!(skipped.count(), 4);
    let numbers: std::collections::BTreeSet<_> = all.iter().map(|(statement, _)| statement["statement"].as_u64()).collect();
    assert_eq!(numbers.len(), all.len(), "each has a number of its own");
    // Readers find it, and count nothing as run that was not.
    let by_class = found(&gate, &["--grant", &login.grant, "--sqlstate", "22"]);
    let mut kinds: Vec<_> = by_class.iter().filter_map(|record| record["kind"].as_str()).collect();
    kinds.dedup();
    assert_eq!((by_class.len(), kinds), (4, vec!["bind"]));
    let end = ended(&gate, &login.grant).await;
    let session = end["session"].as_str().expect("an id");
    let story = told(&gate, &["log", "session", session]);
    in_order(
        &story,
        &[
            "bind select $1::int $1='x'",
            "failed 22P02",
            "1 statements: 0 failed",
            "4 more were skipped",
        ],
    );
}

/// A Parse that comes with its Execute is in the record of that. The answers are those of a Parse with a record of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_parse_tells_the_same_in_the_record_of_its_execute() {
    let gate = gate();
    let texts = [
        "SELECT count(*) FROM customers",
        "SELECT 1/(random() * 0)::int FROM customers",
        "SELECT nothing FROM customers",
        "SELEKT 1 FROM customers",
    ];
    let mut totals = Vec::new();
    for together in [true, false] {
        let login = grant(&gate, "10m");
        let mut raw = session(&gate, &login).await;
        for sql in texts {
            let (first, rest) = (parse("", sql, &[]), [bind("", "", &[]), execute("", 0), sync()].concat());
            if together {
                raw.ask(&[first, rest].concat(), 1).await;
                continue;
            }
            raw.send(&[first, frame(b'H', b"")].concat()).await;
            while !matches!(raw.message().await.expect("an answer").0, b'1' | b'E') {}
            raw.ask(&rest, 1).await;
        }
        raw.send(&frame(b'X', b"")).await;
        drop(raw);
        let end = ended(&gate, &login.grant).await;
        let all = statements(&gate, &login).await;
        let joined: Vec<_> = all
            .iter()
            .filter(|(statement, _)| statement["with_parse"] == true)
            .map(|(_, outcome)| (outcome["sqlstate"].as_str(), outcome["parse_failed"] == true))
            .collect();
        let expected = [
            (None, false),
            (Some("22012"), false),
            (Some("42703"), true),
            (Some("42601"), true),
        ];
        assert_eq!(joined, expected[..if together { 4 } else { 0 }]);
        assert_eq!(all.len(), if together { 4 } else { 8 });

        let of_grant = ["--grant", &login.grant];
        let found = |more: &[&str]| found(&gate, &[&of_grant, more].concat());
        let parses = found(&["--kind", "parse", "--event", "statement"]);
        let parses: Vec<_> = parses.iter().map(text).collect();
        assert_eq!(parses, texts, "{together}");
        for (code, sql) in [("42601", texts[3]), ("42703", texts[2]), ("22012", texts[1])] {
            let both = found(&["--sqlstate", code]);
            assert_eq!((both.len(), text(&both[0]), &both[1]["sqlstate"]), (2, sql, &code.into()));
        }
        let session = end["session"].as_str().expect("an id");
        let story = told(&gate, &["log", "session", session, "--output", "json"]);
        let story: Value = serde_json::from_str(&story).expect("JSON");
        let touched = [&["log", "who-touched", "customers", "--output", "json"][..], &of_grant].concat();
        let touched: Value = serde_json::from_str(&told(&gate, &touched)).expect("JSON");
        let counted = |name: &str| touched[0][name].clone();
        totals.push((
            story["totals"].clone(),
            ["statements", "failed", "rows", "unread", "classes"].map(counted),
            end["statements"].clone(),
        ));
    }
    assert_eq!(totals[0], totals[1]);
    let counts = &totals[0].0;
    assert_eq!(
        (&counts["statements"], &counts["failed"], &counts["skipped"]),
        (&2.into(), &1.into(), &2.into()),
        "{counts}"
    );
}

/// Ends a session from the side of the database, and returns what is on record of its end.
async fn ended_by(gate: &TestGate, settings: &str, statement: &str) -> Value {
    let login = grant(gate, "10m");
    let mut raw = session(gate, &login).await;
    if !settings.is_empty() {
        raw.ask(&query(settings), 1).await;
    }
    raw.ask(&query("BEGIN"), 1).await;
    if !statement.is_empty() {
        database()
            .server
            .batch("postgres", &statement.replace("$pid", &raw.pid.to_string()))
            .await
            .expect("told");
    }
    let told = raw.rest().await;
    let record = ended(gate, &login.grant).await;
    assert_eq!(
        record["sqlstate"].as_str(),
        sqlstate(&told).as_deref(),
        "as the client read it: {record}"
    );
    record
}

#[tokio::test(flavor = "multi_thread")]
async fn a_targets_last_word_is_that_of_the_end() {
    let gate = gate();
    for (settings, statement, code, words) in [
        (
            "",
            "SELECT pg_terminate_backend($pid)",
            "57P01",
            "terminating connection due to administrator command",
        ),
        (
            "SET idle_in_transaction_session_timeout = 50",
            "",
            "25P03",
            "terminating connection due to idle-in-transaction timeout",
        ),
    ] {
        let record = ended_by(&gate, settings, statement).await;
        let told = (&record["ending"], &record["sqlstate"], &record["detail"]);
        assert_eq!(told, (&"target_closed".into(), &code.into(), &words.into()), "{record}");
        assert_eq!(record["fate"], "rolled_back");
    }
    let found = found(&gate, &["--sqlstate", "25P03"]);
    assert_eq!((found.len(), &found[0]["event"]), (1, &json!("session_ended")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_that_the_target_refuses_is_on_record_with_its_code() {
    let gate = gate();
    let login = grant(&gate, "10m");
    let wanted = [("database", TARGET), ("DateStyle", "nonsense")];
    let refused = Raw::connect(&gate).await.login_with(&login, &wanted).await;
    assert_eq!(refused.map(|_| "let in").map_err(|told| told.code), Err("22023".to_owned()));
    let record = eventually("the refusal is on record", async || {
        records_of(&gate, &login.grant, "refused").pop()
    })
    .await;
    assert_eq!(
        (&record["ending"], &record["sqlstate"]),
        (&"target_closed".into(), &"22023".into())
    );
}

/// Logs in with this encoding.
async fn encoded(gate: &TestGate, login: &TestLogin, encoding: &str) -> Scripted {
    let mut raw = Scripted::on(tidegate::base::tls::Transport::Plain(tcp(gate).await));
    let wanted = [
        ("user", login.grant.as_str()),
        ("database", TARGET),
        ("client_encoding", encoding),
    ];
    raw.send(&startup(0, &wanted)).await;
    raw.authenticate(login.secret.expose()).await;
    raw
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_are_on_record_as_they_were_typed() {
    let gate = gate();
    let login = grant(&gate, "10m");
    let group = |sql: &[u8], value: &[u8]| {
        [
            parse("", sql, &[25]),
            bind("", "", &[(false, Some(value))]),
            execute("", 0),
            sync(),
        ]
        .concat()
    };
    // The sign of the euro, as Windows and Latin 9 have it; and what looks like the latter's byte, typed.
    for (encoding, sql, value) in [
        ("LATIN9", &b"select '\xa4', $1"[..], &b"\xa4"[..]),
        ("WIN1252", b"select '\x80', $1", b"\x80"),
        ("UTF8", b"select '\\xa4', $1", b"\\xa4"),
        ("UTF8", b"select '\xa4', $1", b"\xa4"),
        // Its second byte is a backslash.
        ("SJIS", b"select '\x95\x5c', $1", b"\x95\x5c"),
    ] {
        let mut raw = encoded(&gate, &login, encoding).await;
        raw.ask(&group(sql, value), 1).await;
        raw.ask(&query(sql.strip_suffix(b", $1").expect("a statement")), 1).await;
        drop(raw);
    }
    let all = eventually("all are on record", async || {
        let all = records_of(&gate, &login.grant, "statement");
        let all: Vec<_> = all.into_iter().filter(|statement| statement["kind"] != "bind").collect();
        // One for each Query, and one for each Parse with its Execute.
        (all.len() == 10).then_some(all)
    })
    .await;
    let simple: Vec<_> = all.iter().filter(|statement| statement["kind"] == "query").collect();
    let told: Vec<_> = simple
        .iter()
        .map(|statement| {
            let sql = &statement["sql"];
            (
                text(statement),
                sql["encoding"].as_str(),
                sql["converted"] == true,
                sql["escaped"].as_u64(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("select '€'", Some("LATIN9"), true, None),
            ("select '€'", Some("WIN1252"), true, None),
            (r"select '\xa4'", None, false, None),
            (r"select '\xa4'", None, false, Some(1)),
            ("select '表'", Some("SJIS"), true, None),
        ]
    );
    let values: Vec<_> = all
        .iter()
        .filter(|statement| statement["kind"] == "execute")
        .map(|statement| statement["parameters"][0].clone())
        .collect();
    assert_eq!(
        values,
        [
            json!({"text": "€"}),
            json!({"text": "€"}),
            json!({"text": r"\xa4"}),
            // It was skipped, for its text was refused.
            json!({"binary": {"oid": 25, "hex": "a4"}}),
            json!({"text": "表"}),
        ]
    );
    assert_eq!(
        found(&gate, &["--text", "€", "--kind", "query", "--event", "statement"]).len(),
        2
    );
    // What is no text in the session's encoding is no text to the server either.
    let escaped: Vec<_> = all.iter().filter(|statement| statement["sql"]["escaped"] == 1).collect();
    let refused = eventually("they have their outcomes", async || {
        let outcomes = records_of(&gate, &login.grant, "outcome");
        let of = |statement: &&&Value| {
            outcomes.iter().any(|outcome| {
                outcome["session"] == statement["session"]
                    && outcome["statement"] == statement["statement"]
                    && outcome["sqlstate"] == "22021"
            })
        };
        let kinds: Vec<_> = escaped
            .iter()
            .filter(of)
            .filter_map(|statement| statement["kind"].as_str())
            .collect();
        (kinds.len() == 2).then(|| kinds.join(" "))
    })
    .await;
    assert_eq!(refused, "execute query");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_in_any_encoding_are_found() {
    let gate = gate();
    let login = grant(&gate, "10m");
    let mut raw = encoded(&gate, &login, "LATIN1").await;
    raw.ask(&query(b"CREATE TEMP TABLE \"\xfcberweisungen\" (n int)"), 1).await;
    raw.ask(&query(b"SELECT n FROM \"\xfcberweisungen\""), 1).await;
    drop(raw);
    executed(&gate, &login).await;
    let touched = told(&gate, &["log", "who-touched", "überweisungen", "--output", "json"]);
    let touched: Value = serde_json::from_str(&touched).expect("JSON");
    assert_eq!(
        (&touched[0]["statements"], &touched[0]["not_read"]),
        (&2.into(), &0.into()),
        "{touched}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_says_with_which_profile_and_from_where() {
    let house = House::open(&[("ana", "qa")], "", &[]).await;
    let gate = &house.gate;
    let ran = said(psql_as(gate, "ana", house.token("ana"), "shop/read-only", "", "SELECT 1")).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let started = found(gate, &["--event", "session_started"]);
    assert_eq!(
        (&started[0]["profile"], &started[0]["client"]),
        (&"read-only".into(), &"127.0.0.1".into())
    );
    let statement = found(gate, &["--event", "statement"]);
    assert_eq!(statement[0]["profile"], "read-only");
    let csv = told(gate, &["log", "--event", "outcome", "--output", "csv"]);
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let at = reader
        .headers()
        .expect("a header")
        .iter()
        .position(|name| name == "profile")
        .expect("a column");
    assert!(reader.records().all(|row| &row.expect("a row")[at] == "read-only"), "{csv}");
}

/// A gate that listens for both families shows one client alike, however it comes.
#[tokio::test(flavor = "multi_thread")]
async fn addresses_have_one_form() {
    let mut gate = gate();
    gate.terminate().expect("SIGTERM");
    eventually("it is gone", async || gate.ended().then_some(())).await;
    let config = std::fs::read_to_string(gate.config_file()).expect("its configuration");
    let both = config.replace("listen = [\"127.0.0.1:", "listen = [\"[::]:");
    assert_ne!(both, config);
    std::fs::write(gate.config_file(), both).expect("written");
    gate.start_again().expect("started");
    let login = gate
        .grant("ana", TARGET, "10m", &["--client-network", "::ffff:127.0.0.0/104"])
        .expect("a grant");
    drop(session(&gate, &login).await);
    ended(&gate, &login.grant).await;
    let started = records_of(&gate, &login.grant, "session_started");
    assert_eq!(started[0]["client"], "127.0.0.1");
    let shown = told(&gate, &["grant", "show", &login.grant]);
    assert!(shown.contains("127.0.0.0/8"), "{shown}");
}
