//! What the log says is what the server ran: whatever a client does with names, groups, copies and bytes.

use data_encoding::HEXLOWER;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tidegate::demo::testkit::{ServerOptions, TestGate, TestLogin};

use crate::support::script::{
    CLEAR, Scripted, bind, close, column, describe, execute, frame, parse, query, run, sqlstate, sync, tags,
};
use crate::support::{eventually, gate, gate_before, grant, records_of, start};

/// The statements of a grant with their outcomes, once each has one.
pub(crate) async fn statements(gate: &TestGate, login: &TestLogin) -> Vec<(Value, Value)> {
    eventually("every statement but a Parse has its outcome", async || {
        let outcomes = records_of(gate, &login.grant, "outcome");
        let all = records_of(gate, &login.grant, "statement");
        all.into_iter()
            .map(|statement| {
                let of = |outcome: &&Value| {
                    outcome["statement"] == statement["statement"] && outcome["session"] == statement["session"]
                };
                let outcome = outcomes.iter().find(of).cloned();
                let none_due = statement["kind"] == "parse";
                outcome
                    .or_else(|| none_due.then_some(Value::Null))
                    .map(|outcome| (statement, outcome))
            })
            .collect()
    })
    .await
}

pub(crate) async fn executed(gate: &TestGate, login: &TestLogin) -> Vec<(Value, Value)> {
    let mut all = statements(gate, login).await;
    // Beside what was prepared: what could not even be bound or described.
    let executes = |kind: &Value| ["query", "execute", "function_call"].iter().any(|executes| kind == executes);
    all.retain(|(statement, _)| executes(&statement["kind"]));
    all
}

pub(crate) fn text(statement: &Value) -> &str {
    statement["sql"]["text"].as_str().unwrap_or("-")
}

/// The harmless text of these tests, the harmful one, and what tells on record which was run.
const HARMLESS: &str = "SELECT 'harmless'";
const HARMFUL: &str = "SELECT 'harmful'";

/// Instead of a number of ReadyForQuery to wait for: until the server asks for COPY data.
const UNTIL_COPY: usize = usize::MAX;

/// Logs in, plays a script, executes statement `s` (through the unnamed portal) and compares the record with the answer: where
/// they differ the record has to say that the text is uncertain, or have none.
async fn is_told(name: &str, statement: &str, script: &[(Vec<u8>, usize)]) {
    is_told_by(name, &run(statement), script).await;
}

/// The same with any execution at the end.
async fn is_told_by(name: &str, end: &[u8], script: &[(Vec<u8>, usize)]) {
    let gate = gate();
    let login = grant(&gate, "10m");
    let mut raw = Scripted::login(&gate, &login, CLEAR).await;
    for (bytes, ready) in script {
        raw.send(bytes).await;
        if *ready == UNTIL_COPY {
            raw.until(b'G').await;
        } else {
            raw.ready(*ready).await;
        }
    }
    raw.send(&[end, &query("ROLLBACK; SELECT 'done'")].concat()).await;
    // There may be answers to the script left to come.
    let mut got = Vec::new();
    while column(&got).last().is_none_or(|last| last != "done") {
        let more = raw.ready(1).await;
        if more.is_empty() {
            // Where nobody could tell any more, the session was ended instead.
            return;
        }
        got.extend(more);
    }
    let rows = column(&got);
    if let [.., ran, _] = rows.as_slice() {
        let mut all = executed(&gate, &login).await;
        all.pop();
        let last = all.pop().expect("a statement").0;
        let uncertain = last["text_uncertain"] == true;
        let said = text(&last);
        assert!(
            said.contains(&format!("'{ran}'")) || uncertain || said == "-",
            "{name}: the server ran {ran}, the log says {last}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_cannot_be_made_to_hide_a_statement() {
    let long = |last: char| format!("{}{last}", "n".repeat(63));
    let p = |name: &str, sql: &str| parse(name, sql, &[]);
    let copy = |data: &[u8]| [query("COPY copied FROM STDIN"), frame(b'd', data)].concat();
    let table = || (query("CREATE TEMP TABLE copied (n int)"), 1);
    let both = |first: &str, then: &str| [p("s", first), sync(), p("s", then), sync()].concat();
    // A Parse of a name in use fails; the old text stays.
    is_told("42P05", "s", &[(both(HARMFUL, HARMLESS), 2)]).await;
    is_told("42P05 in one go", "s", &[(both(HARMFUL, HARMLESS), 0)]).await;
    is_told(
        "42P05 within a group",
        "s",
        &[([p("s", HARMFUL), p("s", HARMLESS), sync()].concat(), 0)],
    )
    .await;
    is_told(
        "skipped",
        "s",
        &[(
            [
                p("s", HARMFUL),
                sync(),
                p("x", "nonsense"),
                close(b'S', "s"),
                p("s", HARMLESS),
                sync(),
            ]
            .concat(),
            0,
        )],
    )
    .await;
    is_told(
        "the unnamed one, skipped",
        "",
        &[([p("", HARMFUL), sync(), close(b'X', ""), p("", HARMLESS), sync()].concat(), 2)],
    )
    .await;
    // Names are cut at 63 bytes by the server.
    let (x, y) = (long('x'), long('y'));
    is_told(
        "long names",
        &x,
        &[([p(&x, HARMLESS), sync(), close(b'S', &y), p(&y, HARMFUL), sync()].concat(), 2)],
    )
    .await;
    // SQL shares the name space.
    let swap = format!("DEALLOCATE s; PREPARE s AS {HARMFUL}");
    is_told("by SQL", "s", &[([p("s", HARMLESS), sync(), query(&swap)].concat(), 2)]).await;
    let far = format!("/*{}*/ {swap}", "-".repeat(300_000));
    is_told(
        "by SQL far behind",
        "s",
        &[([p("s", HARMLESS), sync(), query(far)].concat(), 2)],
    )
    .await;
    let prepared = [
        p("d", "DEALLOCATE s"),
        p("p", &format!("PREPARE s AS {HARMFUL}")),
        p("s", HARMLESS),
        sync(),
        run("d"),
        run("p"),
    ]
    .concat();
    is_told("by SQL prepared before", "s", &[(prepared, 3)]).await;
    let by_execute = [
        p("d", "DEALLOCATE s"),
        p("p", &format!("PREPARE s AS {HARMFUL}")),
        p("s", HARMLESS),
        sync(),
    ]
    .concat();
    is_told(
        "by EXECUTE",
        "s",
        &[(by_execute, 1), (query("EXECUTE d"), 1), (query("EXECUTE p"), 1)],
    )
    .await;
    let hidden = format!(
        "DO $$ BEGIN EXECUTE 'deal'||'locate s'; EXECUTE 'pre'||'pare s as {}'; END $$",
        HARMFUL.replace('\'', "''")
    );
    is_told("by DO", "s", &[([p("s", HARMLESS), sync(), query(hidden)].concat(), 2)]).await;
    // A cursor of SQL in a portal's place.
    let cursor = query(format!("CLOSE p; DECLARE p CURSOR FOR {HARMFUL}"));
    let portal = [query("BEGIN"), p("", HARMLESS), bind("p", "", &[]), sync(), cursor].concat();
    is_told_by("by DECLARE CURSOR", &[execute("p", 0), sync()].concat(), &[(portal, 3)]).await;
    let opened = || [query("BEGIN"), p("", HARMLESS), bind("p", "", &[]), sync(), query("CLOSE p")].concat();
    let late = format!("/*{}*/ DECLARE p CURSOR FOR {HARMFUL}", "-".repeat(64 << 10));
    let pieces = format!(
        "DO $$ BEGIN EXECUTE 'DECLARE p CUR'||'SOR FOR {}'; END $$",
        HARMFUL.replace('\'', "''")
    );
    for (name, text) in [
        ("by DECLARE CURSOR beyond the cut", late),
        ("by DECLARE CURSOR in DO", pieces),
    ] {
        let declare = [p("c", &text), bind("", "c", &[]), execute("", 0), sync()].concat();
        let script = [opened(), declare].concat();
        is_told_by(name, &[execute("p", 0), sync()].concat(), &[(script, 4)]).await;
    }
    // Syncs around a COPY that fails may or may not have been part of it.
    let swap = [close(b'S', "s"), p("s", HARMFUL), sync()].concat();
    let harmless = || ([p("s", HARMLESS), sync()].concat(), 1);
    let failing = [copy(b"not a number\n"), sync(), sync(), frame(b'c', b""), swap.clone()].concat();
    is_told("a copy that fails", "s", &[table(), harmless(), (failing, 0)]).await;
    let early = [
        query("COPY copied FROM STDIN"),
        sync(),
        sync(),
        frame(b'd', b"x\n"),
        sync(),
        frame(b'c', b""),
    ]
    .concat();
    is_told(
        "syncs before a copy",
        "s",
        &[table(), harmless(), ([early, swap.clone()].concat(), 0)],
    )
    .await;
    let asked = || (query("COPY copied FROM STDIN"), UNTIL_COPY);
    let failing = [frame(b'd', b"x\n"), sync(), sync(), frame(b'c', b""), swap.clone()].concat();
    is_told(
        "syncs in a copy that has failed",
        "s",
        &[table(), harmless(), asked(), (failing, 0)],
    )
    .await;
    let failing = [frame(b'd', b"x\n"), sync(), sync(), swap.clone()].concat();
    is_told(
        "no end of a copy that has failed",
        "s",
        &[table(), harmless(), asked(), (failing, 0)],
    )
    .await;
    let group = [p("", "COPY copied FROM STDIN"), bind("", "", &[]), execute("", 0), sync()].concat();
    for end in [&[][..], &frame(b'c', b""), &[frame(b'c', b""), sync()].concat()] {
        let failing = [&frame(b'd', b"x\n"), &sync()[..], end, &swap].concat();
        is_told(
            "the same extended",
            "s",
            &[table(), harmless(), (group.clone(), UNTIL_COPY), (failing, 0)],
        )
        .await;
    }
    let extended = [
        p("", "COPY copied FROM STDIN"),
        bind("", "", &[]),
        execute("", 0),
        sync(),
        frame(b'd', b"x\n"),
        sync(),
        frame(b'c', b""),
        swap.clone(),
    ]
    .concat();
    is_told("an extended copy that fails", "s", &[table(), harmless(), (extended, 0)]).await;
    // Messages nobody can read fail too, and with them their group.
    for odd in [
        frame(b'P', b"s"),
        frame(b'B', b"s"),
        frame(b'C', b""),
        frame(b'D', b""),
        frame(b'H', b"x"),
        frame(b'S', b"x"),
    ] {
        let name = format!("after {}", odd.escape_ascii());
        let script = [odd, close(b'S', "s"), p("s", HARMLESS), sync()].concat();
        is_told(&name, "s", &[([p("s", HARMFUL), sync()].concat(), 1), (script, 0)]).await;
    }
    let huge = format!("s{}", "\x01".repeat(2 << 20));
    let script = [
        query("BEGIN"),
        p("s", HARMLESS),
        bind("", "s", &[]),
        p(&huge, HARMFUL),
        bind("", &huge, &[]),
        sync(),
    ]
    .concat();
    is_told("a name of two megabytes", "s", &[(script, 0)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_execute_is_on_record_with_its_outcome() {
    let gate = gate();
    let login = grant(&gate, "10m");
    let mut raw = Scripted::login(&gate, &login, CLEAR).await;
    raw.ask(
        &query("CREATE TEMP TABLE t (n int); INSERT INTO t SELECT generate_series(1, 5)"),
        1,
    )
    .await;
    raw.ask(&query("SELECT 1; SELECT 1/0; SELECT 3"), 1).await;
    raw.ask(&query(""), 1).await;
    // A named statement, described, executed twice: text, binary, NULL.
    let group = [
        parse("s", "SELECT n, $2::text FROM t WHERE n > $1", &[]),
        describe(b'S', "s"),
        sync(),
    ]
    .concat();
    raw.ask(&group, 1).await;
    let twice = [
        bind("", "s", &[(false, Some(b"3")), (false, Some(b"a\x1b[31m\xe2\x80\xaeb"))]),
        execute("", 0),
        bind("", "s", &[(true, Some(&[0, 0, 0, 4])), (false, None)]),
        execute("", 0),
        sync(),
    ]
    .concat();
    raw.ask(&twice, 1).await;
    // A portal in parts, within one group.
    let parts = [
        parse("", "SELECT n FROM t", &[]),
        bind("p", "", &[]),
        execute("p", 2),
        execute("p", 2),
        execute("p", 2),
        sync(),
    ]
    .concat();
    assert_eq!(tags(&raw.ask(&parts, 1).await), "12DDsDDsDCZ");
    // An error in the middle.
    let error = [
        parse("", "SELECT 1/(random() * 0)::int", &[]),
        bind("", "", &[]),
        execute("", 0),
        execute("", 0),
        query("SELECT 'skipped'"),
        sync(),
        query("SELECT 'after'"),
    ]
    .concat();
    assert_eq!(tags(&raw.ask(&error, 2).await), "12EZTDCZ");
    // A function call: int4pl(2, 40).
    let mut call = vec![0, 0, 0, 177, 0, 1, 0, 0, 0, 2];
    call.extend_from_slice(&[0, 0, 0, 1, b'2', 0, 0, 0, 2, b'4', b'0', 0, 0]);
    assert_eq!(tags(&raw.ask(&frame(b'F', &call), 1).await), "VZ");
    // Copies.
    raw.send(&query("COPY t FROM STDIN")).await;
    raw.until(b'G').await;
    raw.ask(&[frame(b'd', b"6\n7\n"), frame(b'd', b"8\n"), frame(b'c', b"")].concat(), 1)
        .await;
    raw.ask(&query("COPY t TO STDOUT"), 1).await;
    raw.send(&query("COPY t FROM STDIN")).await;
    raw.until(b'G').await;
    raw.ask(&frame(b'f', b"no more\0"), 1).await;
    raw.send(&frame(b'X', b"")).await;

    let all = executed(&gate, &login).await;
    let short: Vec<String> = all
        .iter()
        .map(|(statement, outcome)| {
            format!(
                "{} {} {}{}{}",
                text(statement),
                outcome["result"].as_str().unwrap_or_default(),
                outcome["rows"],
                outcome["sqlstate"].as_str().map_or(String::new(), |code| format!(" {code}")),
                if statement["continued"] == true { " continued" } else { "" },
            )
        })
        .collect();
    let selected = "SELECT n, $2::text FROM t WHERE n > $1";
    assert_eq!(
        short,
        [
            "CREATE TEMP TABLE t (n int); INSERT INTO t SELECT generate_series(1, 5) completed 5".to_owned(),
            "SELECT 1; SELECT 1/0; SELECT 3 failed 1 22012".to_owned(),
            " completed 0".to_owned(),
            format!("{selected} completed 2"),
            format!("{selected} completed 1"),
            "SELECT n FROM t suspended 2".to_owned(),
            "SELECT n FROM t suspended 2 continued".to_owned(),
            "SELECT n FROM t completed 1 continued".to_owned(),
            "SELECT 1/(random() * 0)::int failed 0 22012".to_owned(),
            "SELECT 1/(random() * 0)::int skipped 0 continued".to_owned(),
            "SELECT 'skipped' skipped 0".to_owned(),
            "SELECT 'after' completed 1".to_owned(),
            "- completed 0".to_owned(),
            "COPY t FROM STDIN completed 3".to_owned(),
            "COPY t TO STDOUT completed 8".to_owned(),
            "COPY t FROM STDIN failed 0 57014".to_owned(),
        ]
    );
    assert_eq!(all[3].0["parameters"][0]["text"], "3");
    assert_eq!(all[3].0["parameters"][1]["text"], "a\u{1b}[31m\u{202e}b");
    assert_eq!(all[4].0["parameters"][0]["text"], "4", "binary, decoded");
    assert_eq!(all[4].0["parameters"][1], "null");
    assert_eq!(all[12].0["function"], 177);
    assert_eq!(all[12].0["parameters"][1]["text"], "40");
    assert_eq!(all[13].1["copy_in_bytes"], 6);
    assert_eq!(all[14].1["copy_out_bytes"], 16);
    assert!(all.iter().all(|(_, outcome)| outcome["duration_us"].is_u64()));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_bytes_in_sql_harm_a_record() {
    let gate = gate();
    let login = grant(&gate, "10m");
    let mut raw = Scripted::login(&gate, &login, CLEAR).await;
    let hostile: [&[u8]; 5] = [
        b"SELECT '\n{\"v\":1,\"event\":\"session_ended\"}\r\n'",
        b"SELECT '\x1b]52;c;cm0=\x07\x1b[2J\x7f\xc2\x9b'",
        b"SELECT '\xff\xfe\xc0'",
        b"SELECT '\xe2\x80\xae\xe2\x81\xa6\xe2\x80\xa8'",
        b"SELECT 'before'\0SELECT 'behind the NUL'",
    ];
    for sql in hostile {
        raw.ask(&query(sql), 1).await;
    }
    drop(raw);
    let all = executed(&gate, &login).await;
    for ((statement, _), sql) in all.iter().zip(hostile) {
        let sent = sql.split(|byte| *byte == 0).next().unwrap_or_default();
        if let Ok(sent) = std::str::from_utf8(sent) {
            assert_eq!(text(statement), sent);
        } else {
            assert_eq!(text(statement), r"SELECT '\xff\xfe\xc0'");
            assert_eq!(statement["sql"]["escaped"], 3, "{statement}");
        }
    }
    for file in std::fs::read_dir(gate.audit_folder()).expect("the folder") {
        let bytes = std::fs::read(file.expect("a file").path()).expect("the log");
        let log = String::from_utf8(bytes).expect("UTF-8");
        let odd = |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        assert!(!log.contains(odd), "raw controls in the log");
    }
}

/// Resident memory of the gate in KiB, at most until now.
fn peak(gate: &TestGate) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gate.pid().expect("it runs"))).expect("its status");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a peak");
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn huge_sql_is_cut_visibly_in_bounded_memory() {
    let gate = gate();
    let login = grant(&gate, "10m");
    let mut raw = Scripted::login(&gate, &login, CLEAR).await;
    let before = peak(&gate);
    let huge = |size: usize| format!("SELECT length('{}')", "é".repeat(size / 2));
    let (three, hundred) = (huge(3 << 20), huge(100 << 20));
    assert_eq!(column(&raw.ask(&query(&three), 1).await), [(3 << 19).to_string()]);
    let group = [parse("", &hundred, &[]), bind("", "", &[]), execute("", 0), sync()].concat();
    assert_eq!(column(&raw.ask(&group, 1).await), [(100 << 19).to_string()]);
    let grown = peak(&gate) - before;
    assert!(grown < 8 * 1024, "{grown} KiB more for SQL of 100 MiB");
    drop(raw);
    let all = executed(&gate, &login).await;
    for ((statement, _), sql) in all.iter().zip([three, hundred]) {
        let sha = HEXLOWER.encode(&Sha256::digest(&sql));
        assert_eq!(statement["sql"]["length"], sql.len());
        assert_eq!(statement["sql"]["sha256"], sha);
        assert!(sql.starts_with(text(statement)) && text(statement).len() > 60_000);
    }
}

/// The server's own log is the witness.
#[tokio::test(flavor = "multi_thread")]
async fn the_servers_own_log_agrees() {
    let settings = [
        ("log_statement", "all"),
        ("log_min_messages", "log"),
        ("log_min_error_statement", "panic"),
        ("log_error_verbosity", "terse"),
    ];
    let database = start(&ServerOptions {
        settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        ..ServerOptions::default()
    });
    let gate = gate_before(&database, "", "");
    let login = grant(&gate, "10m");
    let mut raw = Scripted::login(&gate, &login, CLEAR).await;
    let seed = crate::support::seed();
    let mut random = crate::support::Random::new(seed);
    let mut syncs = 0;
    let mut script = Vec::new();
    for n in 0..400 {
        let sql = match random.below(6) {
            0 => format!("SELECT {n}/0 /*mark{n}*/"),
            1 => format!("SELEC {n} /*mark{n}*/"),
            _ => format!("SELECT {n} /*mark{n}*/"),
        };
        let name = ["", "a", "b", "c"][random.below(4)];
        match random.below(10) {
            0 | 1 => {
                script.extend(query(&sql));
                syncs += 1;
            }
            2..=4 => script.extend(parse(name, &sql, &[])),
            5 => script.extend(close(b'S', name)),
            _ => script.extend([bind("", name, &[]), execute("", 0)].concat()),
        }
        if random.below(4) == 0 {
            script.extend(sync());
            syncs += 1;
        }
        if random.below(20) == 0 {
            script.extend(sync());
            raw.send(&std::mem::take(&mut script)).await;
        }
    }
    script.extend([sync(), query("SELECT 'the end'")].concat());
    raw.send(&script).await;
    loop {
        let got = raw.ready(1).await;
        if column(&got).contains(&"the end".to_owned()) {
            break;
        }
        assert!(!got.is_empty(), "seed {seed}");
    }
    drop((raw, syncs));
    // What the server says it ran, in order; only what has a mark is ours.
    let mark = |text: &str| Some(text.split("/*mark").nth(1)?.split("*/").next()?.to_owned());
    let ran: Vec<String> = database
        .server
        .log()
        .lines()
        .filter(|line| line.contains("LOG:  statement: ") || line.contains("LOG:  execute "))
        .filter_map(mark)
        .collect();
    let all = executed(&gate, &login).await;
    let said: Vec<String> = all
        .iter()
        // PostgreSQL logs a simple query after it has parsed it, an Execute before it runs.
        .filter(|(_, outcome)| outcome["result"] != "skipped" && outcome["sqlstate"] != "42601")
        .filter(|(statement, outcome)| !(statement["kind"] == "execute" && outcome["sqlstate"] == "34000"))
        .filter(|(_, outcome)| outcome["parse_failed"] != true)
        .filter_map(|(statement, _)| mark(text(statement)))
        .collect();
    assert!(ran.len() > 40, "seed {seed}: too little to compare: {}", ran.len());
    assert_eq!(said, ran, "seed {seed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_intent_is_written_before_the_server_runs_it() {
    let gate = gate();
    let login = grant(&gate, "10m");
    let mut raw = Scripted::login(&gate, &login, CLEAR).await;
    for n in 0..20 {
        // The row is on its way to us while the statement still runs: its intent must be there by then.
        let group = [
            parse("", format!("SELECT {n}, pg_sleep(0.001)"), &[]),
            bind("", "", &[]),
            execute("", 0),
            sync(),
        ]
        .concat();
        raw.send(&group).await;
        raw.until(b'D').await;
        let written = records_of(&gate, &login.grant, "statement");
        assert!(
            written
                .iter()
                .any(|statement| statement["kind"] == "execute" && text(statement).starts_with(&format!("SELECT {n},"))),
            "statement {n} ran before it was on record"
        );
        raw.ready(1).await;
    }
    let got = raw.ask(&run("none"), 1).await;
    assert_eq!(sqlstate(&got).as_deref(), Some("26000"));
}
