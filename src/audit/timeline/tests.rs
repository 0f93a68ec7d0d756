//! A session's story: everything that belongs to it, in order, with its sums; and nothing raw.

use super::*;
use crate::audit::event::StatementKind;
use crate::audit::testing::{all, ended, outcome, parse_failed, record, rolled_back, skipped, statement, who, with_parse};

#[test]
fn a_session_from_request_to_ending() {
    let ana = who(1, "ana");
    let started = all()
        .into_iter()
        .find(|event| matches!(event, Event::SessionStarted(_)))
        .unwrap();
    let background: Vec<_> = (1..).zip(all()).map(|(seq, event)| record(seq, event)).collect();
    let session = vec![
        record(103, outcome(&ana, 1, None)),
        record(101, started),
        record(102, statement(&ana, 1, "SELECT * FROM customers", &[])),
        record(104, statement(&ana, 2, "DELETE FROM \"\u{1b}[2J\"", &[])),
        record(105, outcome(&ana, 2, Some("42P01"))),
        record(106, statement(&ana, 3, "SELECT pg_sleep(10)", &[])),
        record(106, statement(&ana, 3, "SELECT pg_sleep(10)", &[])),
        record(107, ended(&ana)),
    ];
    let story = SessionTimeline::of(session, background);
    assert_eq!(story.totals.counts.statements, 3);
    assert_eq!(
        (
            story.totals.counts.failed,
            story.totals.counts.outcome_unknown,
            story.totals.rows
        ),
        (1, 1, 2)
    );
    let lines = story.lines(&TimeZone::UTC).join("\n");
    let places: Vec<_> = [
        "granted",
        "TLSv1.3",
        "#1 SELECT",
        "#1 completed",
        "#2 DELETE",
        "42P01",
        "#3 SELECT",
        OUTCOME_UNKNOWN,
        "expired (57P01)",
        "Tables: customers",
    ]
    .iter()
    .map(|part| lines.find(part).unwrap_or_else(|| panic!("{part} is missing in {lines}")))
    .collect();
    assert!(places.is_sorted(), "{lines}");
    assert!(!lines.contains('\u{1b}'));
    let json = story.json().unwrap();
    assert!(!json.contains('\u{1b}') && json.contains("\"outcome\":null"));
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["identity"], "ana");
    assert_eq!(value["statements"][0]["reading"]["tables"][0], "customers");
}

#[test]
fn a_session_that_nobody_knows_the_end_of() {
    let ana = who(1, "ana");
    let story = SessionTimeline::of(vec![record(1, statement(&ana, 1, "SELECT 1", &[]))], Vec::new());
    let lines = story.lines(&TimeZone::UTC).join("\n");
    assert!(
        lines.contains("its start is not in what was read") && lines.contains("has not ended"),
        "{lines}"
    );
    assert_eq!(
        SessionTimeline::of(Vec::new(), Vec::new()).lines(&TimeZone::UTC)[0],
        "There is no record of this session."
    );
}

#[test]
fn what_was_undone_skipped_or_only_prepared_is_told_as_such() {
    let ana = who(1, "ana");
    let mut parse = statement(&ana, 1, "SELECT $1", &[]);
    if let Event::Statement(statement) = &mut parse {
        statement.kind = StatementKind::Parse;
    }
    let events = [
        parse,
        statement(&ana, 2, "INSERT INTO t VALUES (1)", &[]),
        outcome(&ana, 2, None),
        statement(&ana, 3, "INSERT INTO t VALUES (2)", &[]),
        outcome(&ana, 3, Some("22012")),
        statement(&ana, 4, "INSERT INTO t VALUES (3)", &[]),
        skipped(&ana, 4),
        rolled_back(&ana, 2, 2),
        statement(&ana, 5, "INSERT INTO t VALUES (4)", &[]),
        outcome(&ana, 5, None),
    ];
    let story = SessionTimeline::of((1..).zip(events).map(|(seq, event)| record(seq, event)).collect(), Vec::new());
    let totals = &story.totals.counts;
    assert_eq!(
        (
            totals.statements,
            totals.skipped,
            totals.failed,
            totals.rolled_back,
            totals.outcome_unknown
        ),
        (3, 1, 1, 1, 0)
    );
    let lines = story.lines(&TimeZone::UTC).join("\n");
    assert_eq!(lines.matches("; then rolled back (23505)").count(), 1, "{lines}");
    assert!(lines.contains("idle: #2 to #2 rolled back (23505)"), "{lines}");
    assert!(
        lines.contains("1 of them ran and were rolled back") && lines.contains("1 more were skipped"),
        "{lines}"
    );
    assert!(
        !lines.contains("#1 prepare SELECT $1\n  "),
        "a text that was only prepared has no outcome: {lines}"
    );
    assert_eq!(lines.matches(OUTCOME_UNKNOWN).count(), 1, "in the sums only: {lines}");
}

#[test]
fn a_statement_whose_parse_failed_was_not_executed() {
    let ana = who(1, "ana");
    let events = [
        with_parse(&ana, 1, "SELECT 1 FROM a"),
        outcome(&ana, 1, None),
        with_parse(&ana, 2, "SELEKT 1 FROM b"),
        parse_failed(&ana, 2, "42601"),
    ];
    let story = SessionTimeline::of((1..).zip(events).map(|(seq, event)| record(seq, event)).collect(), Vec::new());
    let totals = &story.totals;
    assert_eq!(
        (totals.counts.statements, totals.counts.skipped, totals.counts.failed),
        (1, 1, 0)
    );
    assert_eq!(totals.tables.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a"]);
    let lines = story.lines(&TimeZone::UTC).join("\n");
    assert!(lines.contains("#2 failed 42601 at its Parse, 0 rows"), "{lines}");
}
