//! Every way to execute something, by its records; and what of texts and values the log shows.

use std::collections::BTreeSet;

use data_encoding::HEXLOWER;
use serde_json::Value;
use tidegate::audit::values::ValueKey;
use tidegate::demo::testkit::{TestGate, TestLogin};

use crate::log::{executed, text};
use crate::support::script::{
    CLEAR, Message, Scripted, bind, close, column, describe, execute, frame, parse, query, run, sqlstate, sync, tags,
};
use crate::support::{database, eventually, gate, gate_before, grant, records_of};

/// A statement with its outcome in one line: kind, text, what is special; result, SQLSTATE, tags, rows, transaction.
fn told((statement, outcome): &(Value, Value)) -> String {
    let flags = ["text_uncertain", "continued", "opaque"];
    let special = flags.into_iter().filter(|flag| statement[*flag] == true);
    let flags = special.map(|flag| [" +", flag].concat()).collect::<String>();
    let tags: Vec<&str> = outcome["tags"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let or_none = |name: &str| outcome[name].as_str().map_or(String::new(), |text| format!(" {text}"));
    let copied = |name: &str| {
        outcome[name]
            .as_u64()
            .map_or(String::new(), |bytes| format!(" {name}={bytes}"))
    };
    format!(
        "{} {}{flags} -> {}{} [{}] {}{}{}{}",
        statement["kind"].as_str().unwrap_or_default(),
        text(statement),
        outcome["result"].as_str().unwrap_or("-"),
        or_none("sqlstate"),
        tags.join(", "),
        outcome["rows"],
        or_none("transaction"),
        copied("copy_in_bytes"),
        copied("copy_out_bytes"),
    )
}

/// Prepares and executes a text through the unnamed statement, without a Sync.
fn once(sql: &str) -> Vec<u8> {
    [parse("", sql, &[]), bind("", "", &[]), execute("", 0)].concat()
}

/// One way to execute something: what is sent, how many ReadyForQuery it has, the records expected.
type Path = (Vec<u8>, usize, &'static [&'static str]);

fn simple() -> Vec<Path> {
    vec![
        (query("SELECT 1"), 1, &["query SELECT 1 -> completed [SELECT 1] 1 idle"]),
        (
            query("CREATE TEMP TABLE p (n int); INSERT INTO p VALUES (1), (2); SELECT * FROM p"),
            1,
            &[
                "query CREATE TEMP TABLE p (n int); INSERT INTO p VALUES (1), (2); SELECT * FROM p \
               -> completed [CREATE TABLE, INSERT 0 2, SELECT 2] 4 idle",
            ],
        ),
        (
            query("SELECT 1; SELECT 1/0; SELECT 3"),
            1,
            &["query SELECT 1; SELECT 1/0; SELECT 3 -> failed 22012 [SELECT 1] 1 idle"],
        ),
        (query(""), 1, &["query  -> completed [] 0 idle"]),
        (
            [query("BEGIN"), query("SELECT 1/0"), query("SELECT 1"), query("COMMIT")].concat(),
            4,
            &[
                "query BEGIN -> completed [BEGIN] 0 open",
                "query SELECT 1/0 -> failed 22012 [] 0 failed",
                "query SELECT 1 -> failed 25P02 [] 0 failed",
                "query COMMIT -> completed [ROLLBACK] 0 idle",
            ],
        ),
        (
            [
                query("COPY p FROM STDIN"),
                frame(b'd', b"6\n7\n"),
                frame(b'd', b"8\n"),
                frame(b'c', b""),
            ]
            .concat(),
            1,
            &["query COPY p FROM STDIN -> completed [COPY 3] 3 idle copy_in_bytes=6"],
        ),
        (
            query("COPY p TO STDOUT"),
            1,
            &["query COPY p TO STDOUT -> completed [COPY 5] 5 idle copy_out_bytes=10"],
        ),
        (
            [query("COPY p FROM STDIN"), frame(b'd', b"9\n"), frame(b'f', b"no\0")].concat(),
            1,
            &["query COPY p FROM STDIN -> failed 57014 [] 0 idle copy_in_bytes=2"],
        ),
        (
            frame(b'F', b"\0\0\0\xb1\0\x01\0\0\0\x02\0\0\0\x012\0\0\0\x0240\0\0"),
            1,
            &["function_call - -> completed [] 0 idle"],
        ),
    ]
}

fn extended() -> Vec<Path> {
    let named = [
        parse("s", "SELECT n FROM p", &[]),
        run("s"),
        run("s"),
        close(b'S', "s"),
        run("s"),
    ]
    .concat();
    let reused = [once("SELECT 'a'"), once("SELECT 'b'"), sync()].concat();
    let parts = [
        parse("", "SELECT n FROM p", &[]),
        bind("q", "", &[]),
        execute("q", 2),
        execute("q", 2),
        execute("q", 2),
        sync(),
    ];
    let error = [
        once("SELECT 1"),
        once("SELECT 1/(random() * 0)::int"),
        once("SELECT 'skipped'"),
        query("SELECT 'too'"),
        sync(),
    ];
    let transaction = [
        once("BEGIN"),
        sync(),
        once("INSERT INTO p VALUES (3)"),
        sync(),
        once("COMMIT"),
        sync(),
    ];
    let copy = [once("COPY p FROM STDIN"), frame(b'd', b"1\n"), frame(b'c', b""), sync()];
    vec![
        (
            named,
            3,
            &[
                "execute SELECT n FROM p -> completed [SELECT 5] 5",
                "execute SELECT n FROM p -> completed [SELECT 5] 5",
                "execute - -> skipped [] 0",
            ],
        ),
        (
            reused,
            1,
            &[
                "execute SELECT 'a' -> completed [SELECT 1] 1",
                "execute SELECT 'b' -> completed [SELECT 1] 1",
            ],
        ),
        (
            parts.concat(),
            1,
            &[
                "execute SELECT n FROM p -> suspended [] 2",
                "execute SELECT n FROM p +continued -> suspended [] 2",
                "execute SELECT n FROM p +continued -> completed [SELECT 1] 1",
            ],
        ),
        (
            error.concat(),
            1,
            &[
                "execute SELECT 1 -> completed [SELECT 1] 1",
                "execute SELECT 1/(random() * 0)::int -> failed 22012 [] 0",
                "execute SELECT 'skipped' -> skipped [] 0",
                "query SELECT 'too' -> skipped [] 0",
            ],
        ),
        (
            transaction.concat(),
            3,
            &[
                "execute BEGIN -> completed [BEGIN] 0",
                "execute INSERT INTO p VALUES (3) -> completed [INSERT 0 1] 1",
                "execute COMMIT -> completed [COMMIT] 0",
            ],
        ),
        (
            copy.concat(),
            1,
            &["execute COPY p FROM STDIN -> completed [COPY 1] 1 copy_in_bytes=2"],
        ),
    ]
}

fn opaque() -> Vec<Path> {
    vec![
        (
            query("/* x */ DO $$BEGIN END$$"),
            1,
            &["query /* x */ DO $$BEGIN END$$ +opaque -> completed [DO] 0 idle"],
        ),
        (
            [
                query("PREPARE e AS SELECT 7"),
                query("EXECUTE e"),
                query("SELECT 1; EXECUTE e"),
            ]
            .concat(),
            3,
            &[
                "query PREPARE e AS SELECT 7 +opaque -> completed [PREPARE] 0 idle",
                "query EXECUTE e +opaque -> completed [SELECT 1] 1 idle",
                "query SELECT 1; EXECUTE e +opaque -> completed [SELECT 1, SELECT 1] 2 idle",
            ],
        ),
        (
            [once("DO 'BEGIN END'"), sync()].concat(),
            1,
            &["execute DO 'BEGIN END' +opaque -> completed [DO] 0"],
        ),
        (
            query("CALL no_such()"),
            1,
            &["query CALL no_such() +opaque -> failed 42883 [] 0 idle"],
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_path_has_its_records() {
    let gate = gate();
    let login = grant(&gate, "10m");
    let mut raw = Scripted::login(&gate, &login, CLEAR).await;
    let mut expected: Vec<&str> = Vec::new();
    for (bytes, ready, records) in [simple(), extended(), opaque()].concat() {
        raw.ask(&bytes, ready).await;
        expected.extend_from_slice(records);
    }
    drop(raw);
    let all = executed(&gate, &login).await;
    let said: Vec<String> = all.iter().map(told).collect();
    assert_eq!(said, expected);
    for (statement, outcome) in &all {
        let first = outcome["first_byte_us"].as_u64();
        let answered = outcome["result"] != "skipped";
        assert_eq!(first.is_some(), answered, "{statement} {outcome}");
        assert!(first.unwrap_or(0) <= outcome["duration_us"].as_u64().unwrap(), "{outcome}");
    }
    // Where statements are pipelined the transaction's steps are records of their own.
    let steps: Vec<Value> = records_of(&gate, &login.grant, "transaction_changed");
    let steps: Vec<(&str, String)> = steps
        .iter()
        .filter(|step| step["rolled_back"].is_null())
        .map(|step| {
            let of = |(statement, _): &&(Value, Value)| statement["statement"] == step["statement"];
            (
                step["transaction"].as_str().unwrap(),
                text(&all.iter().find(of).unwrap().0).to_owned(),
            )
        })
        .collect();
    assert_eq!(steps, [("open", "BEGIN".to_owned()), ("idle", "COMMIT".to_owned())]);
}

/// Which statements are on record as done for good, of those whose text is an INSERT of one number: these numbers.
fn done_for_good(all: &[(Value, Value)], undone: &[Value]) -> BTreeSet<u64> {
    all.iter()
        .filter(|(statement, outcome)| {
            let number = statement["statement"].as_u64().unwrap();
            let range = |record: &Value, end: &str| record["rolled_back"][end].as_u64();
            let within = |record: &Value| {
                range(record, "first").is_some_and(|first| first <= number)
                    && range(record, "last").is_some_and(|last| number <= last)
            };
            outcome["result"] == "completed" && !undone.iter().any(within)
        })
        .filter_map(|(statement, _)| {
            text(statement)
                .strip_prefix("INSERT INTO deferred VALUES (")?
                .strip_suffix(')')?
                .parse()
                .ok()
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_transaction_undid_at_its_end_is_told() {
    let gate = gate();
    let login = grant(&gate, "10m");
    let mut raw = Scripted::login(&gate, &login, CLEAR).await;
    let insert = |number: u32| format!("INSERT INTO deferred VALUES ({number})");
    let one = |text: &str| [parse("", text, &[]), bind("", "", &[]), execute("", 0)].concat();
    let pipeline = |texts: &[&str]| [texts.iter().flat_map(|text| one(text)).collect(), sync()].concat();
    raw.ask(
        &query("CREATE TEMP TABLE deferred (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)"),
        1,
    )
    .await;
    raw.ask(&pipeline(&[&insert(1)]), 1).await;
    // A driver that commits by itself reads of success, and then of the error.
    let got = raw.ask(&pipeline(&[&insert(1)]), 1).await;
    assert_eq!((tags(&got).as_str(), sqlstate(&got).as_deref()), ("12CEZ", Some("23505")));
    // A pipeline is one transaction.
    raw.ask(&pipeline(&[&insert(2), &insert(3), "SELECT 1/0", &insert(4)]), 1)
        .await;
    raw.ask(&pipeline(&["BEGIN", &insert(5), "COMMIT", &insert(6), "SELECT 1/0"]), 1)
        .await;
    raw.ask(&pipeline(&[&insert(7), "BEGIN", &insert(8), "COMMIT"]), 1).await;
    // Nothing has begun that this COMMIT would end.
    raw.ask(&pipeline(&[&insert(9), "COMMIT", &insert(10), "SELECT 1/0"]), 1)
        .await;
    raw.ask(&pipeline(&[&insert(11), "ROLLBACK", &insert(12), "SELECT 1/0"]), 1)
        .await;
    raw.ask(&[parse("", &insert(0), &[]), sync()].concat(), 1).await;
    // By simple queries: it is the COMMIT that fails.
    for text in ["BEGIN", &insert(13), &insert(1), "COMMIT", "SELECT 1/0", &insert(14)] {
        raw.ask(&query(text), 1).await;
    }
    let there = column(&raw.ask(&query("SELECT n FROM deferred"), 1).await);
    let there: BTreeSet<u64> = there.iter().map(|number| number.parse().unwrap()).collect();
    drop(raw);
    let all = executed(&gate, &login).await;
    let changed = records_of(&gate, &login.grant, "transaction_changed");
    let undone: Vec<Value> = changed
        .into_iter()
        .filter(|record| !record["rolled_back"].is_null())
        .collect();
    assert_eq!(done_for_good(&all, &undone), there, "{undone:?}");
    assert_eq!(undone[0]["rolled_back"]["sqlstate"], "23505");
    assert_eq!(undone[1]["rolled_back"]["sqlstate"], "22012");

    // Whoever asks reads of it, and nothing is unknown: a text that was only prepared has no outcome to wait for.
    let told = |arguments: &[&str]| {
        let output = gate.command(arguments).expect("the command");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let session = all[0].0["session"].as_str().expect("an id");
    let listed = told(&["log", "--session", session]);
    assert!(
        listed.contains("prepare INSERT") && !listed.contains("outcome unknown"),
        "{listed}"
    );
    let story = told(&["log", "session", session]);
    assert!(story.contains("; then rolled back (23505)"), "{story}");
    let sums = |more: &[&str]| -> Value {
        let asked = [
            &["log", "who-touched", "deferred", "--class", "insert", "--output", "json"],
            more,
        ]
        .concat();
        serde_json::from_str::<Value>(&told(&asked)).expect("JSON")[0].take()
    };
    let whole = sums(&[]);
    let (ran, lost) = (whole["statements"].as_u64().unwrap(), whole["rolled_back"].as_u64().unwrap());
    let done = there.len() as u64;
    assert_eq!(
        (ran - lost - whole["failed"].as_u64().unwrap(), whole["skipped"].as_u64()),
        (done, Some(1)),
        "{whole}"
    );
    // What came of a statement may stand behind the time that was asked for.
    let first = &all
        .iter()
        .find(|(statement, _)| text(statement) == insert(1))
        .expect("an INSERT")
        .1;
    let by_then = sums(&["--until", first["time"].as_str().expect("a time")]);
    assert_eq!(
        (&by_then["statements"], &by_then["outcome_unknown"]),
        (&1.into(), &0.into()),
        "{by_then}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_to_the_first_byte_is_not_the_whole() {
    let gate = gate();
    let login = grant(&gate, "10m");
    let mut raw = Scripted::login(&gate, &login, CLEAR).await;
    // 8 KiB at once go out before the sleep is over.
    let sql = "SELECT repeat('x', 20000); SELECT pg_sleep(0.3)";
    raw.ask(&query(sql), 1).await;
    drop(raw);
    let (_, outcome) = executed(&gate, &login).await.remove(0);
    let micros = |name: &str| outcome[name].as_u64().unwrap();
    assert!(
        micros("duration_us") >= 300_000 && micros("first_byte_us") + 250_000 < micros("duration_us"),
        "{outcome}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_those_of_the_answer() {
    let gate = gate();
    let login = grant(&gate, "10m");
    let mut raw = Scripted::login(&gate, &login, CLEAR).await;
    let length = |messages: &[Message]| messages.iter().map(|(_, body)| 5 + body.len() as u64).sum::<u64>();
    let mut expected = Vec::new();
    for sql in ["SELECT repeat('x', 30000), 1 FROM generate_series(1, 9)", "SELECT 1/0", ""] {
        expected.push(length(&raw.ask(&query(sql), 1).await));
    }
    // An Execute has its own part of what comes: neither ParseComplete nor BindComplete, nor what ends the pipeline.
    let answer = raw
        .ask(&[once("SELECT 'two' FROM generate_series(1, 2)"), sync()].concat(), 1)
        .await;
    let own: Vec<Message> = answer.into_iter().filter(|(tag, _)| b"DC".contains(tag)).collect();
    expected.push(length(&own));
    drop(raw);
    let outcomes = executed(&gate, &login).await;
    let bytes: Vec<_> = outcomes.iter().filter_map(|(_, outcome)| outcome["bytes"].as_u64()).collect();
    assert_eq!(bytes, expected);
}

/// The key that hashes what is blanked or cut.
fn value_key(gate: &TestGate) -> ValueKey {
    ValueKey::load_or_make(&gate.folder().join("state/audit-key.values")).expect("a key")
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_the_log() {
    let gate = gate();
    let login = grant(&gate, "10m");
    let mut raw = Scripted::login(&gate, &login, CLEAR).await;
    let group = [
        parse(
            "",
            "SELECT 1 WHERE $1 = current_user OR 'x' = $2 /* password */ OR set_config('a.password', $2, true) = ''",
            &[25, 25],
        ),
        bind("", "", &[(false, Some(b"host=h password=hunter2")), (true, Some(b"hunter2"))]),
        execute("", 0),
        sync(),
    ];
    let long = format!("SELECT '{}'; ALTER ROLE none PASSWORD 'hunter2'", "x".repeat(100_000));
    for bytes in [
        query("ALTER ROLE none PASSWORD 'hunter2' VALID UNTIL '2030-01-01'"),
        query("ALTER ROLE none PASSWORD 'hunter2"),
        query("DO $$BEGIN EXECUTE 'ALTER ROLE none PASSWORD ''hunter2'''; END$$"),
        query(
            "CREATE SUBSCRIPTION s CONNECTION 'host=h password=hunter2' PUBLICATION p WITH (connect = false, slot_name = none)",
        ),
        query("SET a.password TO hunter2"),
        query(&*long),
        [once("SELECT set_config('a.password', 'hunter2', false)"), sync()].concat(),
        group.concat(),
    ] {
        raw.ask(&bytes, 1).await;
    }
    drop(raw);
    let all = executed(&gate, &login).await;
    assert_eq!(text(&all[0].0), "ALTER ROLE none PASSWORD '***' VALID UNTIL '2030-01-01'");
    assert_eq!(all[0].0["sql"]["redacted"], 1);
    assert_eq!(text(&all[1].0), "ALTER ROLE none PASSWORD '***'");
    let key = value_key(&gate);
    for (at, original) in [(0, "ALTER ROLE none PASSWORD 'hunter2' VALID UNTIL '2030-01-01'"), (5, &long)] {
        let sql = &all[at].0["sql"];
        assert!(sql["sha256"].is_null(), "no hash to guess by");
        assert_eq!(
            (&sql["length"], &sql["hmac_sha256"]),
            (&original.len().into(), &key.hash_text(original.as_bytes()).into())
        );
    }
    let blanked = serde_json::json!({"blanked": {"length": 23, "hmac_sha256": key.hash_text(b"host=h password=hunter2")}});
    assert_eq!(all[7].0["parameters"], serde_json::json!([blanked, "redacted"]));
    for file in std::fs::read_dir(gate.audit_folder()).expect("the folder") {
        let bytes = std::fs::read(file.expect("a file").path()).expect("the log");
        assert!(!String::from_utf8_lossy(&bytes).contains("hunter2"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_outside_of_literals_is_left_out() {
    let gate = gate();
    let login = grant(&gate, "10m");
    let mut raw = Scripted::login(&gate, &login, CLEAR).await;
    let hidden = r"/*token*/ DELETE FROM orders WHERE id=1 AND status<>'\'";
    let body = r"DO $x$ BEGIN /* token := 'x' */ PERFORM '\'; DELETE FROM orders WHERE id=2; END $x$";
    let quoted = "DO '/* token := ''x'' */ BEGIN DELETE FROM orders WHERE id=2; END'";
    let long = format!("/*{}*/ DELETE FROM orders WHERE id=3 /* token */", "x".repeat(66_000));
    for text in [hidden, body, quoted, &long] {
        raw.ask(&query(text), 1).await;
    }
    drop(raw);
    let all = executed(&gate, &login).await;
    assert_eq!(text(&all[0].0), "/*token*/ DELETE FROM orders WHERE id=1 AND status<>'***'");
    assert_eq!(
        text(&all[1].0),
        "DO $x$ BEGIN /* token := '***' */ PERFORM '***'; DELETE FROM orders WHERE id=2; END $x$"
    );
    assert_eq!(
        text(&all[2].0),
        "DO '/* token := ''***'' */ BEGIN DELETE FROM orders WHERE id=2; END'"
    );
    assert!(text(&all[3].0).starts_with("/*xxx") && text(&all[3].0).len() == 64 * 1024);
    let key = value_key(&gate);
    for ((statement, outcome), original) in all.iter().zip([hidden, body, quoted, &long]) {
        let sql = &statement["sql"];
        assert_eq!(outcome["result"], "completed", "{statement} {outcome}");
        assert_eq!(
            (&sql["length"], &sql["hmac_sha256"]),
            (&original.len().into(), &key.hash_text(original.as_bytes()).into())
        );
        assert_eq!(sql["cut"] == true, original.len() > 64 * 1024);
        assert!(sql["unclear"].is_null(), "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_huge_parameter_hides_no_other() {
    let gate = gate();
    let login = grant(&gate, "10m");
    let mut raw = Scripted::login(&gate, &login, CLEAR).await;
    let huge = "\u{e9}".repeat(1 << 20);
    let numbers = [
        (false, None),
        (false, Some(huge.as_bytes())),
        (true, Some(&[0, 0, 0, 7][..])),
        (false, Some(b"x")),
    ];
    let group = [
        parse("", "SELECT $1::text, length($2), $3::int4, $4::text", &[25, 25, 23, 25]),
        bind("", "", &numbers),
        execute("", 0),
        sync(),
    ];
    raw.ask(&group.concat(), 1).await;
    // strpos(text, text)
    let argument = |value: &[u8]| [&u32::try_from(value.len()).expect("fits").to_be_bytes()[..], value].concat();
    let call = [
        &868_u32.to_be_bytes()[..],
        b"\0\0\0\x02",
        &argument(huge.as_bytes()),
        &argument(b"x"),
        b"\0\0",
    ];
    raw.ask(&frame(b'F', &call.concat()), 1).await;
    drop(raw);
    let all = executed(&gate, &login).await;
    let hash = HEXLOWER.encode(&<sha2::Sha256 as sha2::Digest>::digest(&huge));
    let long = |parameter: &Value| {
        let long = &parameter["long"];
        let start = long["start"].as_str().expect("a beginning");
        assert!(huge.starts_with(start) && start.len() == 4096, "{} bytes", start.len());
        assert_eq!((&long["length"], &long["sha256"]), (&huge.len().into(), &hash.clone().into()));
    };
    let parameters = &all[0].0["parameters"];
    assert_eq!((&parameters[0], &parameters[2]["text"]), (&"null".into(), &"7".into()));
    assert_eq!(parameters[3]["text"], "x");
    long(&parameters[1]);
    let parameters = &all[1].0["parameters"];
    assert_eq!(
        (all[1].0["kind"].as_str(), &parameters[1]["text"]),
        (Some("function_call"), &"x".into())
    );
    long(&parameters[0]);
    assert!(all.iter().all(|(statement, _)| statement["parameter_count"].is_null()));
}

/// The bytes of the first column.
fn value(messages: &[Message]) -> Vec<u8> {
    let row = messages.iter().find(|(tag, _)| *tag == b'D').expect("a row");
    row.1[6..].to_vec()
}

const TYPES: &[(u32, &str, &[&str])] = &[
    (16, "bool", &["true", "false"]),
    (18, "\"char\"", &["a", "", "\\377"]),
    (19, "name", &["orders"]),
    (20, "int8", &["-9223372036854775808", "0", "9223372036854775807"]),
    (21, "int2", &["-32768", "7"]),
    (23, "int4", &["2147483647", "-1"]),
    (26, "oid", &["4294967295"]),
    (25, "text", &["", "a b", "ÄÖ\u{1f980}"]),
    (114, "json", &["{\"a\" : [1, 2]}"]),
    (3802, "jsonb", &["{\"a\": [1, null]}"]),
    (
        700,
        "float4",
        &[
            "1.5",
            "1e-5",
            "0.0001",
            "123456",
            "1234567",
            "1e6",
            "3.4028235e38",
            "NaN",
            "-Infinity",
            "-0",
        ],
    ),
    (
        701,
        "float8",
        &[
            "0.1",
            "1e15",
            "1e14",
            "123456789012345.6",
            "1e-5",
            "5e-324",
            "1.7976931348623157e308",
            "Infinity",
        ],
    ),
    (
        1700,
        "numeric",
        &[
            "0",
            "0.00",
            "-10005.50",
            "1e30",
            "0.000000001",
            "NaN",
            "Infinity",
            "123456789.987654321",
            "10000",
        ],
    ),
    (1042, "bpchar", &["ab  "]),
    (1043, "varchar", &["ab"]),
    (
        1082,
        "date",
        &[
            "2026-11-23",
            "0001-01-01",
            "0044-03-15 BC",
            "4713-11-24 BC",
            "5874897-12-31",
            "infinity",
            "-infinity",
            "2000-02-29",
        ],
    ),
    (1083, "time", &["00:00", "24:00", "12:34:56.789", "23:59:59.999999"]),
    (
        1266,
        "timetz",
        &["12:34:56+00", "12:34:56.5-08", "00:00+05:30", "00:00-15:59:59"],
    ),
    (
        1114,
        "timestamp",
        &[
            "2026-11-23 09:05:07.000042",
            "0044-03-15 12:00 BC",
            "294276-12-31 23:59:59.999999",
            "infinity",
        ],
    ),
    (
        1184,
        "timestamptz",
        &[
            "2026-11-23 09:05:07+00",
            "1969-12-31 23:59:59.5+00",
            "0044-03-15 12:00+00 BC",
            "-infinity",
        ],
    ),
    (
        1186,
        "interval",
        &[
            "0",
            "1 day",
            "-1 year -2 mons +3 days -04:05:06.789",
            "1 mon -1 day",
            "100:00",
            "-0.5 s",
            "1 year 1 day 1 s",
        ],
    ),
    (2950, "uuid", &["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
    (
        869,
        "inet",
        &["10.0.0.1", "10.0.0.1/8", "::1", "2001:db8::/32", "::ffff:1.2.3.4"],
    ),
    (650, "cidr", &["10.0.0.0/8", "10.0.0.1/32", "2001:db8::/32"]),
    (1000, "bool[]", &["{t,f,NULL}"]),
    (1001, "bytea[]", &["{\"\\\\x00ff\"}"]),
    (
        1007,
        "int4[]",
        &[
            "{}",
            "{1,2,NULL}",
            "{{1,2},{3,4}}",
            "[0:2]={1,2,3}",
            "[-1:0][2:3]={{1,2},{3,4}}",
        ],
    ),
    (1009, "text[]", &["{a,\"b c\",\"\",\"NULL\",NULL,\"\\\"\\\\\",\"{\",ä}"]),
    (1022, "float8[]", &["{1e20,0.5}"]),
    (1185, "timestamptz[]", &["{\"2026-11-23 09:05:07+00\"}"]),
    (1187, "interval[]", &["{\"1 day\"}"]),
    (1231, "numeric[]", &["{1.50,-2}"]),
    (2951, "uuid[]", &["{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}"]),
    (3807, "jsonb[]", &["{\"{\\\"a\\\": 1}\"}"]),
    (1041, "inet[]", &["{10.0.0.1,10.0.0.0/8}"]),
];

#[tokio::test(flavor = "multi_thread")]
async fn binary_values_are_shown_as_the_server_prints_them() {
    let gate = gate();
    let login = grant(&gate, "10m");
    let mut raw = Scripted::login(&gate, &login, CLEAR).await;
    raw.ask(&query("SET TimeZone = 'UTC'"), 1).await;
    let mut expected = Vec::new();
    for (oid, name, values) in TYPES {
        for text in *values {
            // The server itself says what a value is in binary.
            let result_binary = frame(b'B', b"\0\0\0\0\0\0\0\x01\0\x01");
            let sql = format!("SELECT '{}'::{name}", text.replace('\'', "''"));
            let got = raw
                .ask(&[parse("", &sql, &[]), result_binary, execute("", 0), sync()].concat(), 1)
                .await;
            let binary = value(&got);
            // Its type once from the Parse, once from a Describe.
            // A cast adds the mask to an inet and takes the spaces from a bpchar; printing them does not.
            let show = match *name {
                "inet" | "bpchar" => format!("SELECT format('%s', $1::{name})"),
                _ => format!("SELECT ($1::{name})::text"),
            };
            let given = [
                parse("", &show, &[*oid]),
                bind("", "", &[(true, Some(&binary))]),
                execute("", 0),
                sync(),
            ];
            let printed = column(&raw.ask(&given.concat(), 1).await);
            raw.ask(&[parse("", &show, &[]), describe(b'S', ""), sync()].concat(), 1)
                .await;
            let told = [bind("", "", &[(true, Some(&binary))]), execute("", 0), sync()];
            assert_eq!(column(&raw.ask(&told.concat(), 1).await), printed);
            expected.extend(std::iter::repeat_n((*name, printed.concat()), 2));
        }
    }
    drop(raw);
    let shown: Vec<String> = executed(&gate, &login)
        .await
        .iter()
        .filter_map(|(statement, _)| {
            let parameter = statement["parameters"].get(0)?;
            Some(
                parameter["text"]
                    .as_str()
                    .map_or_else(|| parameter.to_string(), str::to_owned),
            )
        })
        .collect();
    assert_eq!(shown.len(), expected.len());
    let wrong: Vec<_> = expected
        .iter()
        .zip(&shown)
        .filter(|((_, printed), shown)| printed != *shown)
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

async fn parameters(gate: &TestGate, login: &TestLogin) -> Vec<Value> {
    let mut raw = Scripted::login(gate, login, CLEAR).await;
    let group = [
        parse("", "SELECT $1::int4, $2::text, $3::text", &[23, 25, 25]),
        bind("", "", &[(true, Some(&[0, 0, 0, 42])), (false, Some(b"42")), (false, None)]),
        execute("", 0),
        sync(),
    ];
    raw.ask(&group.concat(), 1).await;
    drop(raw);
    eventually("the statement", async || {
        let all = records_of(gate, &login.grant, "statement");
        let executed: Vec<_> = all.into_iter().filter(|statement| statement["kind"] == "execute").collect();
        (!executed.is_empty()).then_some(executed)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_says_what_is_told_of_values() {
    let gate = gate_before(database(), "parameters = \"none\"\n", "");
    let login = grant(&gate, "10m");
    let statement = parameters(&gate, &login).await.remove(0);
    assert!(
        statement["parameters"].is_null() && statement["parameter_count"] == 3,
        "{statement}"
    );
    let gate = gate_before(database(), "parameters = \"hashed\"\n", "");
    let login = grant(&gate, "10m");
    let statement = parameters(&gate, &login).await.remove(0);
    let hash = statement["parameters"][0]["hashed"].as_str().expect("a hash");
    assert_eq!(hash.len(), 32);
    assert_eq!(
        statement["parameters"][1]["hashed"], hash,
        "the same value, as a number and as text"
    );
    assert_eq!(statement["parameters"][2], "null");
    let key = gate.folder().join("state/audit-key.values");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(key).expect("the key").permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_and_long_values_are_told_by_length_and_hash() {
    let gate = gate();
    let login = grant(&gate, "10m");
    let mut raw = Scripted::login(&gate, &login, CLEAR).await;
    let (bytes, long) = (b"\x00\xffPNG".repeat(3000), "\u{e9}".repeat(5000));
    let group = [
        parse(
            "",
            "SELECT length($1), length($2), $3, length($4), length($5)",
            &[17, 25, 600, 17, 17],
        ),
        bind(
            "",
            "",
            &[
                (true, Some(&bytes)),
                (false, Some(long.as_bytes())),
                (true, Some(&[0; 16])),
                (false, Some(format!("\\x{}", HEXLOWER.encode(&bytes)).as_bytes())),
                (false, Some(b"a\\\\b")),
            ],
        ),
        execute("", 0),
        sync(),
    ];
    raw.ask(&group.concat(), 1).await;
    drop(raw);
    let (statement, _) = executed(&gate, &login).await.remove(0);
    let hash = |bytes: &[u8]| HEXLOWER.encode(&<sha2::Sha256 as sha2::Digest>::digest(bytes));
    let parameter = |place: usize| &statement["parameters"][place];
    let told = serde_json::json!({"long": {"start": "", "length": bytes.len(), "sha256": hash(&bytes)}});
    assert_eq!(*parameter(0), told, "nothing of the bytes");
    assert_eq!(*parameter(3), told, "the same in text");
    assert_eq!(parameter(4)["long"]["start"], "");
    let told = &parameter(1)["long"];
    let start = told["start"].as_str().expect("a beginning");
    assert!(long.starts_with(start) && start.len() == 4096, "{} bytes", start.len());
    assert_eq!(
        (&told["length"], &told["sha256"]),
        (&10_000.into(), &hash(long.as_bytes()).into())
    );
    // A type that is not decoded.
    let told = serde_json::json!({"binary": {"oid": 600, "hex": "00".repeat(16)}});
    assert_eq!(*parameter(2), told);
}
