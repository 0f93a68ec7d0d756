use super::*;
use crate::access::quota::Quota;
use crate::audit::testing::events;
use crate::audit::values::{ParameterDisplay, ValueKey};
use crate::gate::session::pace::MAX_STATEMENTS_IN_FLIGHT;
use crate::model::ending::{Fate, FateKind};
use crate::model::ids::{GrantId, SessionId};

const MAX_SQL_BYTES: usize = 64 * 1024;

fn keep() -> RecordLimits {
    RecordLimits {
        sql: MAX_SQL_BYTES,
        parameter: 256,
        show: ParameterDisplay::Full,
        key: ValueKey::for_test(),
    }
}

fn recorder() -> StatementRecorder {
    let who = Who {
        session: SessionId::from_random([1; 10]),
        grant: GrantId::from_random([2; 10]),
        identity: "ana@example.com".parse().unwrap(),
        target: "orders".parse().unwrap(),
        profile: None,
    };
    StatementRecorder::new(Arc::new(who), keep(), Clock::manual("2026-11-23T09:05:07Z".parse().unwrap()))
}

/// Hands a message over whole, or in two pieces.
fn send(recorder: &mut StatementRecorder, tag: u8, body: &[u8], cut: bool) -> Result<MessageFlow, Ending> {
    let now = recorder.clock.moment();
    let length = u32::try_from(body.len()).unwrap();
    let piece = |bytes, first, last| BodyPiece {
        tag,
        length,
        bytes,
        first,
        last,
    };
    let mut look = |piece: BodyPiece<'_>| {
        recorder.refuses(&piece);
        recorder.client(&piece, now)
    };
    if !cut {
        return look(piece(body, true, true));
    }
    let (start, end) = body.split_at(body.len() / 2);
    look(piece(start, true, false))?;
    look(piece(end, false, true))
}

/// The limit that refuses the message just sent.
fn over_limit(recorder: &StatementRecorder) -> Option<crate::gate::sql_filter::FilterRule> {
    recorder.extended.refusal().map(|refused| refused.rule)
}

fn hear(recorder: &mut StatementRecorder, tag: u8, body: &[u8]) {
    let length = u32::try_from(body.len()).unwrap();
    let piece = BodyPiece {
        tag,
        length,
        bytes: body,
        first: true,
        last: true,
    };
    recorder.target(&piece, &mut None);
}

fn parse(name: &str, text: &str) -> Vec<u8> {
    format!("{name}\0{text}\0\0\0").into_bytes()
}

fn bind(portal: &str, statement: &str) -> Vec<u8> {
    format!("{portal}\0{statement}\0\0\0\0\0\0\0").into_bytes()
}

/// Binds portal `p`, then executes `text` through another: whether `p` is uncertain then.
fn makes_uncertain(text: &str) -> bool {
    let mut recorder = recorder();
    for (tag, body) in [
        (b'P', parse("s", "select 1")),
        (b'B', bind("p", "s")),
        (b'P', parse("t", text)),
        (b'B', bind("", "t")),
        (b'E', b"\0\0\0\0\0".to_vec()),
    ] {
        assert_eq!(send(&mut recorder, tag, &body, false), Ok(MessageFlow::Go));
    }
    match recorder.extended.portal(b"p") {
        NameLookup::Known(portal) => portal.uncertain.load(Ordering::Relaxed),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_portal_is_uncertain_after_what_may_put_a_cursor_in_its_place() {
    assert!(!makes_uncertain("select 2"));
    assert!(makes_uncertain("declare p cursor for select 2"));
    let hidden = format!("/*{}*/ declare p cursor for select 2", "-".repeat(MAX_SQL_BYTES));
    assert!(makes_uncertain(&hidden), "beyond the cut");
    assert!(makes_uncertain("do $$begin execute 'cur' || 'sor'; end$$"), "put together");
}

#[test]
fn nothing_of_a_message_in_pieces_is_held_after_it() {
    let mut recorder = recorder();
    send(&mut recorder, b'Q', b"select 1\0", true).unwrap();
    assert_eq!(format!("{:?}", recorder.from_client), format!("{:?}", BodyBuffer::default()));
    let piece = |bytes, first, last| BodyPiece {
        tag: b'C',
        length: 9,
        bytes,
        first,
        last,
    };
    recorder.target(&piece(b"SELE", true, false), &mut None);
    recorder.target(&piece(b"CT 1\0", false, true), &mut None);
    assert_eq!(format!("{:?}", recorder.from_target), format!("{:?}", BodyBuffer::default()));
}

#[test]
fn names_are_limited_by_bytes() {
    let mut recorder = recorder();
    let text = "x".repeat(MAX_SQL_BYTES);
    let mut made = 0;
    let prepare = |recorder: &mut StatementRecorder, name: &str| send(recorder, b'P', &parse(name, &text), false).unwrap();
    let refused = loop {
        prepare(&mut recorder, &format!("s{made}"));
        if let Some(rule) = over_limit(&recorder) {
            break rule;
        }
        hear(&mut recorder, b'1', b"");
        made += 1;
        assert!(made < 1000, "64 MiB are passed");
    };
    assert_eq!(refused, crate::gate::sql_filter::FilterRule::PreparedBytes);
    assert!(made > 800);
    // However many are refused, they take nothing.
    send(&mut recorder, b'B', &bind("", &format!("s{made}")), false).unwrap();
    let held = recorder.extended.quota.held();
    send(&mut recorder, b'S', b"", false).unwrap();
    for _ in 0..100 {
        prepare(&mut recorder, "more");
        send(&mut recorder, b'S', b"", false).unwrap();
    }
    assert_eq!(recorder.extended.quota.held(), held);
    for _ in 0..101 {
        hear(&mut recorder, b'E', b"SERROR\0C08P01\0\0");
        hear(&mut recorder, b'Z', b"I");
    }
    // What is there can be run, and given up.
    send(&mut recorder, b'B', &bind("", "s0"), false).unwrap();
    assert_eq!(over_limit(&recorder), None);
    hear(&mut recorder, b'2', b"");
    send(&mut recorder, b'Q', b"DEALLOCATE ALL\0", false).unwrap();
    hear(&mut recorder, b'C', b"DEALLOCATE ALL\0");
    hear(&mut recorder, b'Z', b"I");
    prepare(&mut recorder, "s0");
    assert_eq!(over_limit(&recorder), None);
}

#[test]
fn portals_are_limited_by_bytes() {
    let mut recorder = recorder();
    let mut values = b"\0\0\0\xc8".to_vec();
    for _ in 0..200 {
        values.extend_from_slice(&200_u32.to_be_bytes());
        values.extend_from_slice(&[b'v'; 200]);
    }
    let mut made = 0;
    while made < 3000 {
        let body = [format!("p{made}\0s\0").as_bytes(), &values, b"\0\0"].concat();
        send(&mut recorder, b'B', &body, false).unwrap();
        if over_limit(&recorder).is_some() {
            break;
        }
        hear(&mut recorder, b'2', b"");
        made += 1;
    }
    assert!((500..2000).contains(&made), "{made}");
}

#[test]
fn what_is_given_back_does_not_count() {
    let mut recorder = recorder();
    let text = "x".repeat(MAX_SQL_BYTES);
    for _ in 0..1500 {
        send(&mut recorder, b'P', &parse("", &text), false).unwrap();
        hear(&mut recorder, b'1', b"");
        send(&mut recorder, b'B', &bind("", ""), false).unwrap();
        hear(&mut recorder, b'2', b"");
    }
    assert!(recorder.extended.quota.held() < 2 * MAX_SQL_BYTES);
    send(&mut recorder, b'Q', b"select 1\0", false).unwrap();
    hear(&mut recorder, b'C', b"SELECT 1\0");
    hear(&mut recorder, b'Z', b"I");
    assert_eq!(recorder.extended.quota.held(), 0);
    // Those that fail and those that are skipped.
    send(&mut recorder, b'P', &parse("a", &text), false).unwrap();
    send(&mut recorder, b'P', &parse("b", &text), false).unwrap();
    recorder.complete_intents();
    hear(&mut recorder, b'E', b"C42601\0\0");
    assert_eq!(recorder.extended.quota.held(), 0);
}

#[test]
fn what_sql_gives_up_takes_no_memory() {
    let mut recorder = recorder();
    let text = "x".repeat(keep().sql);
    let parsed = |recorder: &mut StatementRecorder, name: &str, text: &str| {
        send(recorder, b'P', &parse(name, text), false).unwrap();
        hear(recorder, b'1', b"");
    };
    for n in 0..2000 {
        let name = format!("_pg3_{n}");
        parsed(&mut recorder, &name, &text);
        send(&mut recorder, b'Q', format!("DEALLOCATE \"{name}\"\0").as_bytes(), false).unwrap();
        hear(&mut recorder, b'C', b"DEALLOCATE\0");
        hear(&mut recorder, b'Z', b"I");
    }
    // In the extended protocol, and of one that is not there: the server says so, and nothing is given up.
    parsed(&mut recorder, "a", &text);
    parsed(&mut recorder, "", "DEALLOCATE a");
    for fails in [true, false] {
        send(&mut recorder, b'B', &bind("", ""), false).unwrap();
        hear(&mut recorder, b'2', b"");
        send(&mut recorder, b'E', b"\0\0\0\0\0", false).unwrap();
        if fails {
            hear(&mut recorder, b'E', b"C26000\0\0");
        } else {
            hear(&mut recorder, b'C', b"DEALLOCATE\0");
        }
        send(&mut recorder, b'S', b"", false).unwrap();
        hear(&mut recorder, b'Z', b"I");
        assert_eq!(recorder.extended.quota.held() > keep().sql, fails);
    }
    for sql in ["DEALLOCATE ALL", "DISCARD ALL"] {
        for n in 0..20 {
            parsed(&mut recorder, &format!("s{n}"), &text);
        }
        assert!(recorder.extended.quota.held() > 20 * keep().sql);
        send(&mut recorder, b'Q', format!("{sql}\0").as_bytes(), false).unwrap();
        hear(&mut recorder, b'C', format!("{sql}\0").as_bytes());
        hear(&mut recorder, b'Z', b"I");
        assert_eq!(recorder.extended.quota.held(), 0, "{sql}");
    }
}

#[test]
fn the_sessions_of_an_identity_share_their_memory() {
    let quota = Arc::new(Quota::new(crate::access::quota::QuotaLimits {
        prepared_bytes: 10 * keep().sql,
        ..Default::default()
    }));
    let (mut first, mut second) = (recorder(), recorder());
    first.extended.quota = Arc::clone(&quota);
    second.extended.quota = Arc::clone(&quota);
    let text = "x".repeat(keep().sql);
    let prepare = |recorder: &mut StatementRecorder, name: &str| {
        send(recorder, b'P', &parse(name, &text), false).unwrap();
        let refused = over_limit(recorder).is_some();
        if !refused {
            hear(recorder, b'1', b"");
        }
        refused
    };
    for n in 0..6 {
        prepare(&mut first, &format!("s{n}"));
    }
    let mut made = 0;
    while !prepare(&mut second, &format!("s{made}")) {
        made += 1;
    }
    assert_eq!(made, 3);
    drop(first);
    hear(&mut second, b'E', b"SERROR\0C08P01\0\0");
    send(&mut second, b'S', b"", false).unwrap();
    hear(&mut second, b'Z', b"I");
    assert!(!prepare(&mut second, "more"));
}

#[test]
fn types_the_server_tells_count() {
    let mut recorder = recorder();
    send(&mut recorder, b'P', &parse("s", "select 1"), false).unwrap();
    send(&mut recorder, b'D', b"Ss\0", false).unwrap();
    hear(&mut recorder, b'1', b"");
    let before = recorder.extended.quota.held();
    hear(&mut recorder, b't', &[b"\0\x02", &[0, 0, 0, 23].repeat(2)[..]].concat());
    assert_eq!(recorder.extended.quota.held(), before + 8);
}

#[test]
fn a_long_statement_name_is_kept_as_the_server_keeps_it() {
    let mut recorder = recorder();
    send(&mut recorder, b'B', &bind("p", &"n".repeat(1000)), false).unwrap();
    assert!(matches!(recorder.extended.portal(b"p"), NameLookup::Known(portal) if portal.name.len() == 63));
}

#[test]
fn what_has_no_intent_on_record_has_no_outcome() {
    let mut recorder = recorder();
    send(&mut recorder, b'Q', b"select 1\0", false).unwrap();
    recorder.abandon();
    assert!(recorder.outcomes.is_empty());
    assert_eq!(recorder.totals.statements, 0);
    // Written, and then one that is not.
    send(&mut recorder, b'Q', b"select 1\0", false).unwrap();
    recorder.written();
    send(&mut recorder, b'Q', b"select 2\0", false).unwrap();
    recorder.abandon();
    assert!(!recorder.outcomes.is_empty());
    assert_eq!(recorder.totals.statements, 1);
}

#[test]
fn a_skipped_statement_has_its_outcome_after_its_intent() {
    let mut recorder = recorder();
    send(&mut recorder, b'D', b"Snone\0", false).unwrap();
    hear(&mut recorder, b'E', b"C26000\0\0");
    let failed = recorder.outcomes.size();
    assert!(failed > 0, "the Describe is on record");
    send(&mut recorder, b'P', &parse("", "select 1"), false).unwrap();
    assert_eq!(recorder.outcomes.size(), failed);
    recorder.written();
    assert!(recorder.outcomes.size() > failed);
}

#[test]
fn a_statement_skipped_while_its_intent_is_being_written_has_its_outcome_too() {
    let mut recorder = recorder();
    send(&mut recorder, b'P', &parse("", "select 1/0"), false).unwrap();
    recorder.written();
    // On its way to the log when the error before it arrives.
    send(&mut recorder, b'E', b"\0\0\0\0\0", false).unwrap();
    hear(&mut recorder, b'E', b"C22012\0\0");
    let before = recorder.outcomes.size();
    recorder.written();
    assert!(recorder.outcomes.size() > before, "the Execute is on record as skipped");
}

#[test]
fn what_was_too_late_to_be_forwarded_was_not_run() {
    let mut recorder = recorder();
    send(&mut recorder, b'Q', b"select 1\0", false).unwrap();
    recorder.written();
    send(&mut recorder, b'Q', b"select 2\0", false).unwrap();
    recorder.not_forwarded(recorder.clock.moment());
    assert!(!recorder.outcomes.is_empty());
    let one = recorder.outcomes.size();
    recorder.abandon();
    assert_eq!(recorder.totals.statements, 1);
    assert!(
        recorder.outcomes.size() > one,
        "the first was forwarded: nobody knows what became of it"
    );
}

#[test]
fn a_transaction_undone_at_its_end_has_a_record_and_was_not_committed() {
    let mut recorder = recorder();
    send(&mut recorder, b'E', b"\0\0\0\0\0", false).unwrap();
    send(&mut recorder, b'S', b"", false).unwrap();
    recorder.written();
    recorder.stopping();
    hear(&mut recorder, b'C', b"INSERT 0 1\0");
    let before = recorder.outcomes.size();
    hear(&mut recorder, b'E', b"C23505\0\0");
    hear(&mut recorder, b'Z', b"I");
    assert!(recorder.outcomes.size() > before);
    // Not a transaction block, but it had one of its own.
    assert_eq!(recorder.fate(false), Fate::Stopped);
    assert_eq!(Fate::Stopped.kind(), FateKind::RolledBack);
}

#[test]
fn a_lone_statement_that_is_stopped_is_no_transaction_rolled_back() {
    for (before, fate) in [(&b"I"[..], Fate::Stopped), (b"T", Fate::RolledBack)] {
        let mut recorder = recorder();
        send(&mut recorder, b'Q', b"begin\0", false).unwrap();
        recorder.written();
        hear(&mut recorder, b'C', b"BEGIN\0");
        hear(&mut recorder, b'Z', before);
        send(&mut recorder, b'Q', b"select pg_sleep(60)\0", false).unwrap();
        recorder.written();
        recorder.stopping();
        hear(&mut recorder, b'E', b"SFATAL\0VFATAL\0C57P01\0Mterminating connection\0\0");
        assert_eq!(recorder.fate(false), fate, "{}", before.escape_ascii());
    }
}

#[test]
fn a_pipeline_is_bounded_and_goes_on_with_many_at_once() {
    let mut recorder = recorder();
    for _ in 0..MAX_STATEMENTS_IN_FLIGHT {
        assert!(!recorder.extended.waits(b'Q'));
        assert_eq!(send(&mut recorder, b'Q', b"select 1\0", false), Ok(MessageFlow::Go));
    }
    assert!(recorder.extended.waits(b'Q') && recorder.extended.waits(b'E') && recorder.extended.waits(b'F'));
    // What executes nothing, and what ends a group.
    assert!(
        !recorder.extended.waits(b'S')
            && !recorder.extended.waits(b'P')
            && !recorder.extended.waits(b'd')
            && !recorder.extended.waits(b'X')
    );
    assert!(!recorder.extended.needs_flush(), "each query has its answer sent");
    for left in (MAX_STATEMENTS_IN_FLIGHT / 2..MAX_STATEMENTS_IN_FLIGHT).rev() {
        assert!(recorder.extended.waits(b'Q'), "{left}");
        hear(&mut recorder, b'C', b"SELECT 1\0");
        hear(&mut recorder, b'Z', b"I");
    }
    assert!(!recorder.extended.waits(b'Q'));
}

#[test]
fn answers_that_are_waited_for_are_asked_for() {
    let mut recorder = recorder();
    for n in 1..=MAX_STATEMENTS_IN_FLIGHT {
        assert_eq!(send(&mut recorder, b'E', b"\0\0\0\0\0", false), Ok(MessageFlow::Go));
        assert_eq!(recorder.extended.needs_flush(), n == MAX_STATEMENTS_IN_FLIGHT, "{n}");
    }
    recorder.extended.flush();
    assert!(!recorder.extended.needs_flush() && !recorder.extended.unflushed);
    // A Sync of the client's makes it unnecessary.
    let mut recorder = self::recorder();
    recorder.extended.pace = ForwardingPace::OneByOne;
    send(&mut recorder, b'E', b"\0\0\0\0\0", false).unwrap();
    assert!(recorder.extended.needs_flush());
    send(&mut recorder, b'S', b"", false).unwrap();
    assert!(!recorder.extended.needs_flush());
}

#[test]
fn in_the_last_seconds_one_statement_goes_after_the_other() {
    let mut recorder = recorder();
    recorder.extended.pace = ForwardingPace::OneByOne;
    send(&mut recorder, b'Q', b"select 1\0", false).unwrap();
    for tag in *b"QPBEDCF" {
        assert!(recorder.extended.waits(tag), "{}", tag as char);
    }
    for tag in *b"SHcdfX" {
        assert!(!recorder.extended.waits(tag), "{}", tag as char);
    }
    // One that had begun to be forwarded: its last byte waits.
    assert_eq!(send(&mut recorder, b'Q', b"select 2\0", true), Ok(MessageFlow::Hold));
    let now = recorder.clock.moment();
    assert_eq!(recorder.retry_held(now), Ok(MessageFlow::Hold));
    hear(&mut recorder, b'C', b"SELECT 1\0");
    hear(&mut recorder, b'Z', b"I");
    assert_eq!(recorder.retry_held(now), Ok(MessageFlow::Go));
    assert_eq!(recorder.totals.statements, 2);
    // A group's next one does not wait for the Sync behind it; the next group does.
    hear(&mut recorder, b'C', b"SELECT 1\0");
    hear(&mut recorder, b'Z', b"I");
    send(&mut recorder, b'E', b"\0\0\0\0\0", false).unwrap();
    assert!(recorder.extended.waits(b'P'));
    hear(&mut recorder, b'C', b"SELECT 1\0");
    assert!(!recorder.extended.waits(b'P'));
    send(&mut recorder, b'S', b"", false).unwrap();
    assert!(recorder.extended.waits(b'P'));
    hear(&mut recorder, b'Z', b"I");
    assert!(!recorder.extended.waits(b'P'));
}

#[test]
fn what_had_no_answer_asked_for_is_not_waited_for() {
    let mut recorder = recorder();
    send(&mut recorder, b'E', b"\0\0\0\0\0", false).unwrap();
    recorder.extended.pace = ForwardingPace::OneByOne;
    assert_eq!(send(&mut recorder, b'P', &parse("", "select 1"), true), Ok(MessageFlow::Go));
}

#[test]
fn right_before_the_deadline_nothing_begins() {
    let mut recorder = recorder();
    recorder.extended.pace = ForwardingPace::Still;
    for tag in *b"QPBEDCFSHcf" {
        assert!(recorder.extended.waits(tag), "{}", tag as char);
    }
    assert!(!recorder.extended.waits(b'X') && !recorder.extended.waits(b'd'));
    assert_eq!(send(&mut recorder, b'Q', b"select 1\0", true), Ok(MessageFlow::Hold));
    assert!(recorder.intents.is_empty());
    // The deadline was moved.
    recorder.extended.pace = ForwardingPace::OneByOne;
    assert_eq!(recorder.retry_held(recorder.clock.moment()), Ok(MessageFlow::Go));
    assert!(!recorder.intents.is_empty());
}

/// A Bind fails while a statement behind it waits for the log: that keeps its number, and only that was not forwarded.
#[test]
fn what_failed_has_the_next_number_and_no_intent_that_waits() {
    let mut recorder = recorder();
    send(&mut recorder, b'B', &bind("", "none"), false).unwrap();
    send(&mut recorder, b'S', b"", false).unwrap();
    hear(&mut recorder, b'E', b"SERROR\0VERROR\0C26000\0\0");
    assert_eq!(
        (recorder.numbers.last, recorder.numbers.written, recorder.numbers.failed.len()),
        (1, 1, 0)
    );
    hear(&mut recorder, b'Z', b"I");
    send(&mut recorder, b'B', &bind("", "none"), false).unwrap();
    send(&mut recorder, b'S', b"", false).unwrap();
    send(&mut recorder, b'Q', b"select 1\0", false).unwrap();
    hear(&mut recorder, b'E', b"SERROR\0VERROR\0C26000\0\0");
    assert_eq!(
        (
            recorder.numbers.last,
            recorder.numbers.written,
            recorder.numbers.failed.as_slice()
        ),
        (3, 1, &[3][..])
    );
    let before = recorder.outcomes.size();
    recorder.not_forwarded(recorder.clock.moment());
    let one = recorder.outcomes.size() - before;
    recorder.numbers.failed.clear();
    recorder.not_forwarded(recorder.clock.moment());
    assert!(
        recorder.outcomes.size() - before > 2 * one,
        "the second would have told of the Bind, too"
    );
    recorder.written();
    assert_eq!((recorder.numbers.written, recorder.numbers.failed.len()), (3, 0));
}

/// Only the last thing a target says is its last word.
#[test]
fn a_last_word_is_one_that_ends_the_session() {
    let mut recorder = recorder();
    let said = |recorder: &StatementRecorder| {
        recorder
            .last_word
            .as_ref()
            .map(|last| (last.fatal, last.sqlstate.clone(), last.message.clone()))
    };
    hear(&mut recorder, b'N', b"SWARNUNG\0VWARNING\0C57P02\0Mcrash of another\0\0");
    assert_eq!(
        said(&recorder),
        Some((false, "57P02".to_owned(), "crash of another".to_owned()))
    );
    // Whoever raises a warning like it goes on after it.
    hear(&mut recorder, b'C', b"DO\0");
    assert_eq!(said(&recorder), None);
    hear(&mut recorder, b'N', b"SWARNING\0VWARNING\0C01000\0Mask C57P01\0\0");
    hear(&mut recorder, b'E', b"SERROR\0VERROR\0C22012\0Mdivision\0\0");
    assert_eq!(said(&recorder), None);
    hear(&mut recorder, b'E', b"SFATAL\0VFATAL\0C25P03\0Mtoo long\0\0");
    assert_eq!(said(&recorder), Some((true, "25P03".to_owned(), "too long".to_owned())));
}

/// Kind and number of the intents so far, and whether a Parse is in them.
fn intents(recorder: &mut StatementRecorder) -> Vec<(StatementKind, u64, bool)> {
    recorder.complete_intents();
    let intents = events(&recorder.intents).into_iter().map(|event| match event {
        Event::Statement(statement) => (statement.kind, statement.statement, statement.with_parse),
        other => panic!("{other:?}"),
    });
    intents.collect()
}

/// Number, result and SQLSTATE of the outcomes so far, and whether it was the Parse that failed.
fn outcomes(recorder: &StatementRecorder) -> Vec<(u64, StatementResult, Option<String>, bool)> {
    let outcomes = events(&recorder.outcomes).into_iter().filter_map(|event| match event {
        Event::Outcome(outcome) => {
            let sqlstate = outcome.sqlstate.map(|code| code.0.into_owned());
            Some((outcome.statement, outcome.result, sqlstate, outcome.parse_failed))
        }
        _ => None,
    });
    outcomes.collect()
}

fn send_all(recorder: &mut StatementRecorder, messages: &[(u8, Vec<u8>)]) {
    for (tag, body) in messages {
        assert_eq!(send(recorder, *tag, body, false), Ok(MessageFlow::Go));
    }
}

/// Body of an Execute, without a limit on rows.
fn execute(portal: &str) -> Vec<u8> {
    format!("{portal}\0\0\0\0\0").into_bytes()
}

#[test]
fn a_parse_and_its_execute_have_one_record() {
    let mut recorder = recorder();
    let group = [
        (b'P', parse("", "select 1 from customers")),
        (b'B', bind("", "")),
        (b'D', b"P\0".to_vec()),
        (b'E', execute("")),
        (b'E', execute("")),
        (b'S', Vec::new()),
    ];
    send_all(&mut recorder, &group);
    assert_eq!(
        intents(&mut recorder),
        [(StatementKind::Execute, 1, true), (StatementKind::Execute, 2, false)]
    );
    let Event::Statement(statement) = events(&recorder.intents).remove(0) else {
        panic!("a statement")
    };
    assert_eq!(statement.sql.unwrap().text.0, "select 1 from customers");
    assert_eq!(
        (statement.prepared.unwrap().0.as_ref(), statement.text_uncertain),
        ("", false)
    );
    assert_eq!(recorder.totals.statements, 2);
    // In pieces, named, and with its statement closed in between.
    let mut recorder = self::recorder();
    for (tag, body) in [
        (b'P', parse("s", "select 1")),
        (b'B', bind("p", "s")),
        (b'C', b"Ss\0".to_vec()),
        (b'E', execute("p")),
    ] {
        send(&mut recorder, tag, &body, true).unwrap();
    }
    assert_eq!(intents(&mut recorder), [(StatementKind::Execute, 1, true)]);
}

#[test]
fn a_parse_without_its_execute_behind_it_has_its_own_record() {
    use StatementKind::{Execute, FunctionCall, Parse, Query};
    let known = || {
        let mut recorder = recorder();
        send_all(&mut recorder, &[(b'P', parse("known", "select 0")), (b'S', Vec::new())]);
        assert_eq!(intents(&mut recorder), [(Parse, 1, false)]);
        recorder.intents = RecordBatch::new();
        recorder.written();
        hear(&mut recorder, b'1', b"");
        hear(&mut recorder, b'Z', b"I");
        recorder
    };
    let (one, own) = (|| parse("", "select 1"), (Parse, 2, false));
    let long = "n".repeat(64);
    for (messages, expected) in [
        (vec![(b'P', one()), (b'S', Vec::new())], vec![own]),
        // Another statement before its Execute, which may be of another text.
        (
            vec![
                (b'P', one()),
                (b'P', parse("b", "select 2")),
                (b'B', bind("", "")),
                (b'E', execute("")),
            ],
            vec![own, (Parse, 3, false), (Execute, 4, false)],
        ),
        (
            vec![(b'P', one()), (b'B', bind("", "known")), (b'E', execute(""))],
            vec![own, (Execute, 3, false)],
        ),
        (vec![(b'P', one()), (b'E', execute("none"))], vec![own, (Execute, 3, false)]),
        (
            vec![(b'P', one()), (b'Q', b"select 2\0".to_vec())],
            vec![own, (Query, 3, false)],
        ),
        (
            vec![(b'P', one()), (b'F', b"\0\0\0\xb1\0\0\0\0\0\0".to_vec())],
            vec![own, (FunctionCall, 3, false)],
        ),
        // The Execute's record has the name as the server keeps it.
        (
            vec![(b'P', parse(&long, "select 1")), (b'B', bind("", &long)), (b'E', execute(""))],
            vec![own, (Execute, 3, false)],
        ),
    ] {
        let mut recorder = known();
        send_all(&mut recorder, &messages);
        assert_eq!(intents(&mut recorder), expected, "{messages:?}");
    }
    // On record before the Execute came.
    let mut recorder = known();
    send_all(&mut recorder, &[(b'P', one()), (b'B', bind("", ""))]);
    assert_eq!(intents(&mut recorder), [own]);
    recorder.written();
    send_all(&mut recorder, &[(b'E', execute(""))]);
    assert_eq!(intents(&mut recorder), [own, (Execute, 3, false)]);
    // The target is known to drop both.
    let mut recorder = known();
    send_all(&mut recorder, &[(b'D', b"Snone\0".to_vec())]);
    hear(&mut recorder, b'E', b"C26000\0\0");
    send_all(&mut recorder, &[(b'P', one()), (b'B', bind("", "")), (b'E', execute(""))]);
    assert_eq!(intents(&mut recorder), [(Parse, 3, false), (Execute, 4, false)]);
}

#[test]
fn a_parse_and_its_execute_have_one_outcome() {
    use StatementResult::{Completed, Failed, Skipped, Unknown};
    let sent = || {
        let mut recorder = recorder();
        let group = [
            (b'P', parse("", "select 1")),
            (b'B', bind("", "")),
            (b'E', execute("")),
            (b'S', Vec::new()),
        ];
        send_all(&mut recorder, &group);
        assert_eq!(intents(&mut recorder), [(StatementKind::Execute, 1, true)]);
        recorder.written();
        recorder
    };
    let (parsed, bound) = ((b'1', &b""[..]), (b'2', &b""[..]));
    let complete = (b'C', &b"SELECT 1\0"[..]);
    let error = (b'E', &b"SERROR\0C42601\0\0"[..]);
    let code = || Some("42601".to_owned());
    for (answers, expected) in [
        (vec![parsed, bound, complete], vec![(1, Completed, None, false)]),
        (vec![error], vec![(1, Failed, code(), true)]),
        (
            vec![parsed, error],
            vec![(2, Failed, code(), false), (1, Skipped, None, false)],
        ),
        (vec![parsed, bound, error], vec![(1, Failed, code(), false)]),
        (vec![], vec![(1, Unknown, None, false)]),
        (vec![parsed, bound], vec![(1, Unknown, None, false)]),
    ] {
        let mut recorder = sent();
        for (tag, body) in &answers {
            hear(&mut recorder, *tag, body);
        }
        recorder.abandon();
        assert_eq!(outcomes(&recorder), expected, "{answers:?}");
        assert_eq!(recorder.totals.statements, 1);
    }
    // An error before them arrives while their intent is on its way, and after it was too late for them.
    for is_late in [false, true] {
        let mut recorder = recorder();
        send_all(&mut recorder, &[(b'E', execute("none"))]);
        recorder.written();
        let group = [(b'P', parse("", "select 1")), (b'B', bind("", "")), (b'E', execute(""))];
        send_all(&mut recorder, &group);
        assert_eq!(
            intents(&mut recorder),
            [(StatementKind::Execute, 1, false), (StatementKind::Execute, 2, true)]
        );
        hear(&mut recorder, b'E', b"C34000\0\0");
        if is_late {
            recorder.not_forwarded(recorder.clock.moment());
        } else {
            recorder.written();
        }
        assert_eq!(
            outcomes(&recorder),
            [(1, Failed, Some("34000".to_owned()), false), (2, Skipped, None, false)]
        );
    }
}

/// Nobody could tell it apart from a new analysis.
#[test]
fn a_text_that_is_parsed_again_is_not_analysed_again() {
    let mut recorder = recorder();
    recorder.settings.reported(b"client_encoding", b"UTF8");
    recorder.settings.reported(b"standard_conforming_strings", b"on");
    let parsed = |recorder: &mut StatementRecorder, text: &str| {
        send_all(recorder, &[(b'P', parse("", text)), (b'S', Vec::new())]);
        recorder.complete_intents();
        recorder.written();
        hear(recorder, b'1', b"");
        hear(recorder, b'Z', b"I");
        match recorder.extended.statement(b"") {
            NameLookup::Known(prepared) => Arc::clone(&prepared.read),
            other => panic!("{other:?}"),
        }
    };
    let text = r"select '\', $1";
    let first = parsed(&mut recorder, text);
    assert!(Arc::ptr_eq(&first, &parsed(&mut recorder, text)));
    let other = parsed(&mut recorder, "select 2");
    assert!(!Arc::ptr_eq(&first, &other) && !Arc::ptr_eq(&other, &parsed(&mut recorder, text)));
    recorder.settings.reported(b"standard_conforming_strings", b"off");
    assert_ne!(parsed(&mut recorder, text).sql, first.sql, "a setting that matters");
    for text in ["alter role ana password 'x'".to_owned(), "x".repeat(MAX_SQL_BYTES + 1)] {
        let first = parsed(&mut recorder, &text);
        assert!(
            !Arc::ptr_eq(&first, &parsed(&mut recorder, &text)),
            "not on record as it came"
        );
    }
}
