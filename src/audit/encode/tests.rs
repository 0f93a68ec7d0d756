mod without_serde;

use std::borrow::Cow;

use proptest::prelude::*;

use super::*;
use crate::audit::chain::{LinkMark, seal_as};
use crate::audit::event::{
    OutsideText, ParameterValue, SqlText, Statement, StatementKind, StatementOutcome, StatementResult, TransactionStatus, Who,
};
use crate::audit::text::decimal;
use crate::model::ids::{GrantId, SessionId};

pub(super) fn who() -> Who {
    Who {
        session: SessionId::from_random([1; 10]),
        grant: GrantId::from_random([2; 10]),
        // Every character that JSON or a reader of it may take amiss.
        identity: "auth0|Zoë O'B\\\"<&".parse().unwrap(),
        target: "orders".parse().unwrap(),
        profile: None,
    }
}

fn time() -> Timestamp {
    "2026-11-23T09:05:07.000042Z".parse().unwrap()
}

fn statement<'a>(who: &'a Who, sql: &'a [u8], parameter: &'a [u8]) -> Event<'a> {
    Event::Statement(Statement {
        who: Cow::Borrowed(who),
        statement: 7,
        kind: StatementKind::Execute,
        sql: Some(SqlText::whole(OutsideText::of(sql))),
        prepared: Some(OutsideText::of(b"")),
        portal: Some(OutsideText::of(parameter)),
        with_parse: false,
        text_uncertain: false,
        continued: false,
        opaque: false,
        parameters: vec![ParameterValue::Text(OutsideText::of(parameter)), ParameterValue::Null].into(),
        parameter_count: None,
        function: None,
    })
}

fn line(event: &Event<'_>) -> String {
    let mut lines = LineBuffer::default();
    lines.push(time(), event).unwrap();
    let mut out = Vec::new();
    for line in lines.iter() {
        seal_as(&mut out, 9, line, LinkMark::default());
    }
    String::from_utf8(out).unwrap()
}

#[test]
fn a_line_reads_as_documented() {
    let who = who();
    assert_eq!(
        line(&statement(&who, b"SELECT 1", b"x")),
        concat!(
            r#"{"v":2,"seq":9,"time":"2026-11-23T09:05:07.000042Z","event":"statement","session":"se_1111111111","#,
            r#""grant":"gr_2222222222","identity":"auth0|Zoë O'B\\\"<&","target":"orders","statement":7,"kind":"execute","#,
            r#""sql":{"text":"SELECT 1"},"prepared":"","portal":"x","parameters":[{"text":"x"},"null"],"#,
            r#""chain":"0000000000000000"}"#,
            "\n"
        )
    );
}

#[test]
fn hostile_characters_are_escaped() {
    let who = who();
    let text = line(&statement(
        &who,
        "a\u{7f}\u{85}\u{9b}31m\u{2028}\u{2029}\u{202e}\u{2066}é".as_bytes(),
        b"\x1b]52;\xff\n",
    ));
    assert!(text.contains(r"a\u007f\u0085\u009b31m\u2028\u2029\u202e\u2066é"), "{text}");
    assert!(text.contains(r"\u001b]52;\\xff\n"), "{text}");
}

#[test]
fn numbers_and_times() {
    for value in [0, 9, 10, 12_345, u64::MAX] {
        let mut out = Vec::new();
        decimal(&mut out, value);
        assert_eq!(out, value.to_string().as_bytes());
    }
    for text in [
        "1970-01-01T00:00:00.000000Z",
        "2026-12-31T23:59:59.999999Z",
        "0000-01-01T00:00:00.000001Z",
    ] {
        let mut out = Vec::new();
        timestamp(&mut out, text.parse().unwrap());
        assert_eq!(out, text.as_bytes());
    }
}

#[test]
fn names_once_written_are_those_of_the_event() {
    let (own, mut other) = (Arc::new(who()), who());
    other.identity = "somebody else".parse().unwrap();
    let equal = who();
    let mut batch = RecordBatch::of_session(Arc::clone(&own));
    for released in [false, true] {
        for who in [&*own, &other, &*own, &equal, &*own] {
            batch.push(time(), &statement(who, b"SELECT 1", b""));
        }
        let lines: Vec<&[u8]> = batch.lines.iter().collect();
        let mut plain = LineBuffer::default();
        for who in [&*own, &other, &*own, &equal, &*own] {
            plain.push(time(), &statement(who, b"SELECT 1", b"")).unwrap();
        }
        assert_eq!(lines, plain.iter().collect::<Vec<_>>(), "{released}");
        batch.release();
        assert!(batch.is_empty());
    }
}

proptest! {
    #[test]
    fn a_second_once_written_is_written_the_same_again(times in proptest::collection::vec((-5_i64..5, 0_i64..1_000_000), 1..20)) {
        let mut second = FormattedSecond::default();
        for (seconds, micros) in times {
            let time = Timestamp::from_microsecond(seconds * 1_000_000 + micros).unwrap();
            let (mut quick, mut plain) = (Vec::new(), Vec::new());
            second.write(&mut quick, time);
            timestamp(&mut plain, time);
            prop_assert_eq!(quick, plain);
        }
    }

    #[test]
    fn any_bytes_make_one_harmless_line(sql in proptest::collection::vec(any::<u8>(), 0..200), parameter in any::<String>()) {
        let who = who();
        let event = statement(&who, &sql, parameter.as_bytes());
        let text = line(&event);
        let whole = text.ends_with("}\n");
        prop_assert!(whole);
        prop_assert!(!text.trim_end_matches('\n').chars().any(visible::is_unseen));
        let parsed: Event<'_> = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(parsed, event);
    }

    #[test]
    fn hostile_text_survives(text in "[\u{0}-\u{ff}\u{2020}-\u{2070}\"\\\\]*") {
        let who = who();
        let event = statement(&who, text.as_bytes(), b"");
        let line = line(&event);
        prop_assert!(!line.trim_end_matches('\n').chars().any(visible::is_unseen));
        let parsed: Event<'_> = serde_json::from_str(&line).unwrap();
        prop_assert_eq!(parsed, event);
    }
}

/// Prints the cost of one statement record and one outcome record; run in release.
#[test]
#[ignore = "a measurement, not a test"]
#[expect(clippy::disallowed_methods, reason = "measures real time")]
fn measure() {
    let who = who();
    let sql = b"SELECT abalance FROM pgbench_accounts WHERE aid = 4711 AND note = 'a quoted \"text\"';";
    let mut lines = LineBuffer::default();
    let mut out = Vec::new();
    for (name, event) in [
        ("statement", statement(&who, sql, b"4711")),
        (
            "outcome",
            Event::Outcome(StatementOutcome {
                who: Cow::Borrowed(&who),
                statement: 7,
                result: StatementResult::Completed,
                sqlstate: None,
                rule: None,
                tags: vec![OutsideText::of(b"SELECT 1")],
                rows: 1,
                rows_sent: 1,
                portal_rows_sent: None,
                bytes: 80,
                copy_in_bytes: None,
                copy_out_bytes: None,
                first_byte_us: Some(220),
                duration_us: 230,
                transaction: Some(TransactionStatus::Idle),
                parse_failed: false,
            }),
        ),
    ] {
        let count = 1_000_000;
        let start = std::time::Instant::now();
        for _ in 0..count {
            lines.clear();
            lines.push(time(), &event).unwrap();
            out.clear();
            for line in lines.iter() {
                seal_as(&mut out, 123_456, line, LinkMark::default());
            }
        }
        println!("{name}: {} ns, {} bytes", start.elapsed().as_nanos() / count, out.len());
    }
}
