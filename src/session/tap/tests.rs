use super::*;
use crate::audit::values::{Show, ValueKey};
use crate::ending::{Fate, FateKind};
use crate::ids::{GrantId, SessionId};
use crate::session::pace::MAX_STATEMENTS_IN_FLIGHT;

const MAX_SQL_BYTES: usize = 64 * 1024;

fn keep() -> Keep {
    Keep {
        sql: MAX_SQL_BYTES,
        parameter: 256,
        show: Show::Full,
        key: ValueKey::for_test(),
    }
}

fn tap() -> Tap {
    let who = Who {
        session: SessionId::from_random([1; 10]),
        grant: GrantId::from_random([2; 10]),
        identity: "ana@example.com".parse().unwrap(),
        target: "orders".parse().unwrap(),
        profile: None,
    };
    Tap::new(Arc::new(who), keep(), Clock::manual("2026-11-23T09:05:07Z".parse().unwrap()))
}

/// Hands a message over whole, or in two pieces.
fn send(tap: &mut Tap, tag: u8, body: &[u8], cut: bool) -> Result<Flow, Ending> {
    let now = tap.clock.moment();
    let length = u32::try_from(body.len()).unwrap();
    let piece = |bytes, first, last| Piece {
        tag,
        length,
        bytes,
        first,
        last,
    };
    let mut look = |piece: Piece<'_>| {
        tap.refuses(&piece);
        tap.client(&piece, now)
    };
    if !cut {
        return look(piece(body, true, true));
    }
    let (start, end) = body.split_at(body.len() / 2);
    look(piece(start, true, false))?;
    look(piece(end, false, true))
}

/// The limit that refuses the message just sent.
fn over_limit(tap: &Tap) -> Option<crate::rails::Rule> {
    tap.book.refusal().map(|refused| refused.rule)
}

fn hear(tap: &mut Tap, tag: u8, body: &[u8]) {
    let length = u32::try_from(body.len()).unwrap();
    let piece = Piece {
        tag,
        length,
        bytes: body,
        first: true,
        last: true,
    };
    tap.target(&piece, &mut None);
}

fn parse(name: &str, text: &str) -> Vec<u8> {
    format!("{name}\0{text}\0\0\0").into_bytes()
}

fn bind(portal: &str, statement: &str) -> Vec<u8> {
    format!("{portal}\0{statement}\0\0\0\0\0\0\0").into_bytes()
}

/// Binds portal `p`, then executes `text` through another: whether `p` is uncertain then.
fn makes_uncertain(text: &str) -> bool {
    let mut tap = tap();
    for (tag, body) in [
        (b'P', parse("s", "select 1")),
        (b'B', bind("p", "s")),
        (b'P', parse("t", text)),
        (b'B', bind("", "t")),
        (b'E', b"\0\0\0\0\0".to_vec()),
    ] {
        assert_eq!(send(&mut tap, tag, &body, false), Ok(Flow::Go));
    }
    match tap.book.portal(b"p") {
        Lookup::Known(portal) => portal.uncertain.load(Ordering::Relaxed),
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
    let mut tap = tap();
    send(&mut tap, b'Q', b"select 1\0", true).unwrap();
    assert_eq!(format!("{:?}", tap.from_client), format!("{:?}", Gather::default()));
    let piece = |bytes, first, last| Piece {
        tag: b'C',
        length: 9,
        bytes,
        first,
        last,
    };
    tap.target(&piece(b"SELE", true, false), &mut None);
    tap.target(&piece(b"CT 1\0", false, true), &mut None);
    assert_eq!(format!("{:?}", tap.from_target), format!("{:?}", Gather::default()));
}

#[test]
fn names_are_limited_by_bytes() {
    let mut tap = tap();
    let text = "x".repeat(MAX_SQL_BYTES);
    let mut made = 0;
    let prepare = |tap: &mut Tap, name: &str| send(tap, b'P', &parse(name, &text), false).unwrap();
    let refused = loop {
        prepare(&mut tap, &format!("s{made}"));
        if let Some(rule) = over_limit(&tap) {
            break rule;
        }
        hear(&mut tap, b'1', b"");
        made += 1;
        assert!(made < 1000, "64 MiB are passed");
    };
    assert_eq!(refused, crate::rails::Rule::PreparedBytes);
    assert!(made > 800);
    // However many are refused, they take nothing.
    send(&mut tap, b'B', &bind("", &format!("s{made}")), false).unwrap();
    let held = tap.book.held().bytes();
    send(&mut tap, b'S', b"", false).unwrap();
    for _ in 0..100 {
        prepare(&mut tap, "more");
        send(&mut tap, b'S', b"", false).unwrap();
    }
    assert_eq!(tap.book.held().bytes(), held);
    for _ in 0..101 {
        hear(&mut tap, b'E', b"SERROR\0C08P01\0\0");
        hear(&mut tap, b'Z', b"I");
    }
    // What is there can be run, and given up.
    send(&mut tap, b'B', &bind("", "s0"), false).unwrap();
    assert_eq!(over_limit(&tap), None);
    hear(&mut tap, b'2', b"");
    send(&mut tap, b'Q', b"DEALLOCATE ALL\0", false).unwrap();
    hear(&mut tap, b'C', b"DEALLOCATE ALL\0");
    hear(&mut tap, b'Z', b"I");
    prepare(&mut tap, "s0");
    assert_eq!(over_limit(&tap), None);
}

#[test]
fn portals_are_limited_by_bytes() {
    let mut tap = tap();
    let mut values = b"\0\0\0\xc8".to_vec();
    for _ in 0..200 {
        values.extend_from_slice(&200_u32.to_be_bytes());
        values.extend_from_slice(&[b'v'; 200]);
    }
    let mut made = 0;
    while made < 3000 {
        let body = [format!("p{made}\0s\0").as_bytes(), &values, b"\0\0"].concat();
        send(&mut tap, b'B', &body, false).unwrap();
        if over_limit(&tap).is_some() {
            break;
        }
        hear(&mut tap, b'2', b"");
        made += 1;
    }
    assert!((500..2000).contains(&made), "{made}");
}

#[test]
fn what_is_given_back_does_not_count() {
    let mut tap = tap();
    let text = "x".repeat(MAX_SQL_BYTES);
    for _ in 0..1500 {
        send(&mut tap, b'P', &parse("", &text), false).unwrap();
        hear(&mut tap, b'1', b"");
        send(&mut tap, b'B', &bind("", ""), false).unwrap();
        hear(&mut tap, b'2', b"");
    }
    assert!(tap.book.held().bytes() < 2 * MAX_SQL_BYTES);
    send(&mut tap, b'Q', b"select 1\0", false).unwrap();
    hear(&mut tap, b'C', b"SELECT 1\0");
    hear(&mut tap, b'Z', b"I");
    assert_eq!(tap.book.held().bytes(), 0);
    // Those that fail and those that are skipped.
    send(&mut tap, b'P', &parse("a", &text), false).unwrap();
    send(&mut tap, b'P', &parse("b", &text), false).unwrap();
    hear(&mut tap, b'E', b"C42601\0\0");
    assert_eq!(tap.book.held().bytes(), 0);
}

#[test]
fn what_sql_gives_up_takes_no_memory() {
    let mut tap = tap();
    let text = "x".repeat(keep().sql);
    let parsed = |tap: &mut Tap, name: &str, text: &str| {
        send(tap, b'P', &parse(name, text), false).unwrap();
        hear(tap, b'1', b"");
    };
    for n in 0..2000 {
        let name = format!("_pg3_{n}");
        parsed(&mut tap, &name, &text);
        send(&mut tap, b'Q', format!("DEALLOCATE \"{name}\"\0").as_bytes(), false).unwrap();
        hear(&mut tap, b'C', b"DEALLOCATE\0");
        hear(&mut tap, b'Z', b"I");
    }
    // In the extended protocol, and of one that is not there: the server says so, and nothing is given up.
    parsed(&mut tap, "a", &text);
    parsed(&mut tap, "", "DEALLOCATE a");
    for fails in [true, false] {
        send(&mut tap, b'B', &bind("", ""), false).unwrap();
        hear(&mut tap, b'2', b"");
        send(&mut tap, b'E', b"\0\0\0\0\0", false).unwrap();
        if fails {
            hear(&mut tap, b'E', b"C26000\0\0");
        } else {
            hear(&mut tap, b'C', b"DEALLOCATE\0");
        }
        send(&mut tap, b'S', b"", false).unwrap();
        hear(&mut tap, b'Z', b"I");
        assert_eq!(tap.book.held().bytes() > keep().sql, fails);
    }
    for sql in ["DEALLOCATE ALL", "DISCARD ALL"] {
        for n in 0..20 {
            parsed(&mut tap, &format!("s{n}"), &text);
        }
        assert!(tap.book.held().bytes() > 20 * keep().sql);
        send(&mut tap, b'Q', format!("{sql}\0").as_bytes(), false).unwrap();
        hear(&mut tap, b'C', format!("{sql}\0").as_bytes());
        hear(&mut tap, b'Z', b"I");
        assert_eq!(tap.book.held().bytes(), 0, "{sql}");
    }
}

#[test]
fn the_sessions_of_an_identity_share_their_memory() {
    let quota = Arc::new(Quota::new(crate::quota::QuotaLimits {
        prepared_bytes: 10 * keep().sql,
        ..Default::default()
    }));
    let (mut first, mut second) = (tap(), tap());
    first.share(&quota);
    second.share(&quota);
    let text = "x".repeat(keep().sql);
    let prepare = |tap: &mut Tap, name: &str| {
        send(tap, b'P', &parse(name, &text), false).unwrap();
        let refused = over_limit(tap).is_some();
        if !refused {
            hear(tap, b'1', b"");
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
    let mut tap = tap();
    send(&mut tap, b'P', &parse("s", "select 1"), false).unwrap();
    send(&mut tap, b'D', b"Ss\0", false).unwrap();
    hear(&mut tap, b'1', b"");
    let before = tap.book.held().bytes();
    hear(&mut tap, b't', &[b"\0\x02", &[0, 0, 0, 23].repeat(2)[..]].concat());
    assert_eq!(tap.book.held().bytes(), before + 8);
}

#[test]
fn a_long_statement_name_is_kept_as_the_server_keeps_it() {
    let mut tap = tap();
    send(&mut tap, b'B', &bind("p", &"n".repeat(1000)), false).unwrap();
    assert!(matches!(tap.book.portal(b"p"), Lookup::Known(portal) if portal.name.len() == 63));
}

#[test]
fn what_has_no_intent_on_record_has_no_outcome() {
    let mut tap = tap();
    send(&mut tap, b'Q', b"select 1\0", false).unwrap();
    tap.abandon();
    assert!(tap.outcomes.is_empty());
    assert_eq!(tap.totals.statements, 0);
    // Written, and then one that is not.
    send(&mut tap, b'Q', b"select 1\0", false).unwrap();
    tap.written();
    send(&mut tap, b'Q', b"select 2\0", false).unwrap();
    tap.abandon();
    assert!(!tap.outcomes.is_empty());
    assert_eq!(tap.totals.statements, 1);
}

#[test]
fn a_skipped_statement_has_its_outcome_after_its_intent() {
    let mut tap = tap();
    send(&mut tap, b'D', b"Snone\0", false).unwrap();
    hear(&mut tap, b'E', b"C26000\0\0");
    let failed = tap.outcomes.size();
    assert!(failed > 0, "the Describe is on record");
    send(&mut tap, b'P', &parse("", "select 1"), false).unwrap();
    assert_eq!(tap.outcomes.size(), failed);
    tap.written();
    assert!(tap.outcomes.size() > failed);
}

#[test]
fn a_statement_skipped_while_its_intent_is_being_written_has_its_outcome_too() {
    let mut tap = tap();
    send(&mut tap, b'P', &parse("", "select 1/0"), false).unwrap();
    tap.written();
    // On its way to the log when the error before it arrives.
    send(&mut tap, b'E', b"\0\0\0\0\0", false).unwrap();
    hear(&mut tap, b'E', b"C22012\0\0");
    let before = tap.outcomes.size();
    tap.written();
    assert!(tap.outcomes.size() > before, "the Execute is on record as skipped");
}

#[test]
fn what_was_too_late_to_be_forwarded_was_not_run() {
    let mut tap = tap();
    send(&mut tap, b'Q', b"select 1\0", false).unwrap();
    tap.written();
    send(&mut tap, b'Q', b"select 2\0", false).unwrap();
    tap.not_forwarded(tap.clock.moment());
    assert!(!tap.outcomes.is_empty());
    let one = tap.outcomes.size();
    tap.abandon();
    assert_eq!(tap.totals.statements, 1);
    assert!(
        tap.outcomes.size() > one,
        "the first was forwarded: nobody knows what became of it"
    );
}

#[test]
fn a_transaction_undone_at_its_end_has_a_record_and_was_not_committed() {
    let mut tap = tap();
    send(&mut tap, b'E', b"\0\0\0\0\0", false).unwrap();
    send(&mut tap, b'S', b"", false).unwrap();
    tap.written();
    tap.stopping();
    hear(&mut tap, b'C', b"INSERT 0 1\0");
    let before = tap.outcomes.size();
    hear(&mut tap, b'E', b"C23505\0\0");
    hear(&mut tap, b'Z', b"I");
    assert!(tap.outcomes.size() > before);
    // Not a transaction block, but it had one of its own.
    assert_eq!(tap.fate(false), Fate::Stopped);
    assert_eq!(Fate::Stopped.kind(), FateKind::RolledBack);
}

#[test]
fn a_lone_statement_that_is_stopped_is_no_transaction_rolled_back() {
    for (before, fate) in [(&b"I"[..], Fate::Stopped), (b"T", Fate::RolledBack)] {
        let mut tap = tap();
        send(&mut tap, b'Q', b"begin\0", false).unwrap();
        tap.written();
        hear(&mut tap, b'C', b"BEGIN\0");
        hear(&mut tap, b'Z', before);
        send(&mut tap, b'Q', b"select pg_sleep(60)\0", false).unwrap();
        tap.written();
        tap.stopping();
        hear(&mut tap, b'E', b"SFATAL\0VFATAL\0C57P01\0Mterminating connection\0\0");
        assert_eq!(tap.fate(false), fate, "{}", before.escape_ascii());
    }
}

#[test]
fn a_pipeline_is_bounded_and_goes_on_with_many_at_once() {
    let mut tap = tap();
    for _ in 0..MAX_STATEMENTS_IN_FLIGHT {
        assert!(!tap.waits(b'Q'));
        assert_eq!(send(&mut tap, b'Q', b"select 1\0", false), Ok(Flow::Go));
    }
    assert!(tap.waits(b'Q') && tap.waits(b'E') && tap.waits(b'F'));
    // What executes nothing, and what ends a group.
    assert!(!tap.waits(b'S') && !tap.waits(b'P') && !tap.waits(b'd') && !tap.waits(b'X'));
    assert!(!tap.needs_flush(), "each query has its answer sent");
    for left in (MAX_STATEMENTS_IN_FLIGHT / 2..MAX_STATEMENTS_IN_FLIGHT).rev() {
        assert!(tap.waits(b'Q'), "{left}");
        hear(&mut tap, b'C', b"SELECT 1\0");
        hear(&mut tap, b'Z', b"I");
    }
    assert!(!tap.waits(b'Q'));
}

#[test]
fn answers_that_are_waited_for_are_asked_for() {
    let mut tap = tap();
    for n in 1..=MAX_STATEMENTS_IN_FLIGHT {
        assert_eq!(send(&mut tap, b'E', b"\0\0\0\0\0", false), Ok(Flow::Go));
        assert_eq!(tap.needs_flush(), n == MAX_STATEMENTS_IN_FLIGHT, "{n}");
    }
    tap.flush();
    assert!(!tap.needs_flush() && !tap.unflushed());
    // A Sync of the client's makes it unnecessary.
    let mut tap = self::tap();
    tap.pace = Pace::OneByOne;
    send(&mut tap, b'E', b"\0\0\0\0\0", false).unwrap();
    assert!(tap.needs_flush());
    send(&mut tap, b'S', b"", false).unwrap();
    assert!(!tap.needs_flush());
}

#[test]
fn in_the_last_seconds_one_statement_goes_after_the_other() {
    let mut tap = tap();
    tap.pace = Pace::OneByOne;
    send(&mut tap, b'Q', b"select 1\0", false).unwrap();
    for tag in *b"QPBEDCF" {
        assert!(tap.waits(tag), "{}", tag as char);
    }
    for tag in *b"SHcdfX" {
        assert!(!tap.waits(tag), "{}", tag as char);
    }
    // One that had begun to be forwarded: its last byte waits.
    assert_eq!(send(&mut tap, b'Q', b"select 2\0", true), Ok(Flow::Hold));
    let now = tap.clock.moment();
    assert_eq!(tap.held(now), Ok(Flow::Hold));
    hear(&mut tap, b'C', b"SELECT 1\0");
    hear(&mut tap, b'Z', b"I");
    assert_eq!(tap.held(now), Ok(Flow::Go));
    assert_eq!(tap.totals.statements, 2);
    // A group's next one does not wait for the Sync behind it; the next group does.
    hear(&mut tap, b'C', b"SELECT 1\0");
    hear(&mut tap, b'Z', b"I");
    send(&mut tap, b'E', b"\0\0\0\0\0", false).unwrap();
    assert!(tap.waits(b'P'));
    hear(&mut tap, b'C', b"SELECT 1\0");
    assert!(!tap.waits(b'P'));
    send(&mut tap, b'S', b"", false).unwrap();
    assert!(tap.waits(b'P'));
    hear(&mut tap, b'Z', b"I");
    assert!(!tap.waits(b'P'));
}

#[test]
fn what_had_no_answer_asked_for_is_not_waited_for() {
    let mut tap = tap();
    send(&mut tap, b'E', b"\0\0\0\0\0", false).unwrap();
    tap.pace = Pace::OneByOne;
    assert_eq!(send(&mut tap, b'P', &parse("", "select 1"), true), Ok(Flow::Go));
}

#[test]
fn right_before_the_deadline_nothing_begins() {
    let mut tap = tap();
    tap.pace = Pace::Still;
    for tag in *b"QPBEDCFSHcf" {
        assert!(tap.waits(tag), "{}", tag as char);
    }
    assert!(!tap.waits(b'X') && !tap.waits(b'd'));
    assert_eq!(send(&mut tap, b'Q', b"select 1\0", true), Ok(Flow::Hold));
    assert!(tap.intents.is_empty());
    // The deadline was moved.
    tap.pace = Pace::OneByOne;
    assert_eq!(tap.held(tap.clock.moment()), Ok(Flow::Go));
    assert!(!tap.intents.is_empty());
}

/// A Bind fails while a statement behind it waits for the log: that keeps its number, and only that was not forwarded.
#[test]
fn what_failed_has_the_next_number_and_no_intent_that_waits() {
    let mut tap = tap();
    send(&mut tap, b'B', &bind("", "none"), false).unwrap();
    send(&mut tap, b'S', b"", false).unwrap();
    hear(&mut tap, b'E', b"SERROR\0VERROR\0C26000\0\0");
    assert_eq!((tap.number, tap.written, tap.failed.len()), (1, 1, 0));
    hear(&mut tap, b'Z', b"I");
    send(&mut tap, b'B', &bind("", "none"), false).unwrap();
    send(&mut tap, b'S', b"", false).unwrap();
    send(&mut tap, b'Q', b"select 1\0", false).unwrap();
    hear(&mut tap, b'E', b"SERROR\0VERROR\0C26000\0\0");
    assert_eq!((tap.number, tap.written, tap.failed.as_slice()), (3, 1, &[3][..]));
    let before = tap.outcomes.size();
    tap.not_forwarded(tap.clock.moment());
    let one = tap.outcomes.size() - before;
    tap.failed.clear();
    tap.not_forwarded(tap.clock.moment());
    assert!(
        tap.outcomes.size() - before > 2 * one,
        "the second would have told of the Bind, too"
    );
    tap.written();
    assert_eq!((tap.written, tap.failed.len()), (3, 0));
}

/// Only the last thing a target says is its last word.
#[test]
fn a_last_word_is_one_that_ends_the_session() {
    let mut tap = tap();
    let said = |tap: &Tap| {
        tap.last_word
            .as_ref()
            .map(|last| (last.fatal, last.sqlstate.clone(), last.message.clone()))
    };
    hear(&mut tap, b'N', b"SWARNUNG\0VWARNING\0C57P02\0Mcrash of another\0\0");
    assert_eq!(said(&tap), Some((false, "57P02".to_owned(), "crash of another".to_owned())));
    // Whoever raises a warning like it goes on after it.
    hear(&mut tap, b'C', b"DO\0");
    assert_eq!(said(&tap), None);
    hear(&mut tap, b'N', b"SWARNING\0VWARNING\0C01000\0Mask C57P01\0\0");
    hear(&mut tap, b'E', b"SERROR\0VERROR\0C22012\0Mdivision\0\0");
    assert_eq!(said(&tap), None);
    hear(&mut tap, b'E', b"SFATAL\0VFATAL\0C25P03\0Mtoo long\0\0");
    assert_eq!(said(&tap), Some((true, "25P03".to_owned(), "too long".to_owned())));
}
