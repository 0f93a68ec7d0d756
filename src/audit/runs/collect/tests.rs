use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::report::{LabelSource, RunReport, TestUse};
use super::super::testing::{Suite, commented, suite};
use crate::audit::event::Event;

fn tests(report: &RunReport) -> Vec<(Option<&str>, u64, u64)> {
    let each = report.tests.items.iter();
    each.map(|test| (test.test.as_deref(), test.counts.statements, test.counts.failed))
        .collect()
}

#[test]
fn a_suite_by_its_tests() {
    let report = suite("green").report();
    assert_eq!(
        tests(&report),
        [
            (Some("pytest"), 2, 0),
            (Some("test_login"), 2, 1),
            (Some("test_orders.py::test_total"), 14, 0),
            (Some("test_lock"), 2, 1),
        ]
    );
    let by: Vec<_> = report.tests.items.iter().map(|test| test.named_by).collect();
    let (name, comment) = (Some(LabelSource::ApplicationName), Some(LabelSource::Comment));
    assert_eq!(by, [name, comment, comment, name]);
    let totals = &report.totals;
    assert_eq!((totals.sessions, totals.open_sessions, totals.counts.statements), (2, 0, 20));
    assert_eq!((totals.counts.failed, totals.rows_changed), (2, 1));
    assert_eq!(report.endings, BTreeMap::from([("expired".to_owned(), 2)]));
    assert!(report.limits.is_empty());
}

#[test]
fn tables_failures_conflicts_and_rows() {
    let report = suite("green").report();
    let tables: Vec<_> = report
        .tables
        .items
        .iter()
        .map(|uses| {
            (
                uses.table.to_string(),
                uses.reads,
                uses.writes,
                uses.not_done,
                uses.rows_changed,
            )
        })
        .collect();
    let expected = [
        ("shop.orders", 0, 1, 0, 1),
        ("items", 12, 0, 0, 0),
        ("orders", 1, 0, 1, 0),
        ("customers", 1, 0, 0, 0),
        ("missing", 0, 0, 1, 0),
    ];
    assert_eq!(
        tables,
        expected.map(|(table, reads, writes, failed, rows)| (table.to_owned(), reads, writes, failed, rows))
    );
    let failures: Vec<_> = report
        .failures
        .items
        .iter()
        .map(|failed| (failed.sqlstate.as_str(), failed.statement.as_str(), failed.test.as_deref()))
        .collect();
    let lock = (
        "55P03",
        "SELECT * FROM orders WHERE id = ? FOR UPDATE NOWAIT",
        Some("test_lock"),
    );
    assert_eq!(failures, [("42P01", "SELECT * FROM missing", Some("test_login")), lock]);
    assert_eq!(report.conflicts.items.len(), 1);
    assert_eq!(report.conflicts.items[0].sqlstate, "55P03");
    let repeated = &report.repeated.items;
    assert_eq!(repeated.len(), 1);
    assert_eq!(
        (repeated[0].longest_row, repeated[0].times, repeated[0].executions),
        (12, 1, 12)
    );
    assert_eq!(repeated[0].statement, "SELECT * FROM items WHERE order_id = ?");
    assert!(report.slowest.items.is_sorted_by(|a, b| a.duration_us >= b.duration_us));
    let busiest = report.busiest.items.iter().find(|sum| sum.id == repeated[0].id).unwrap();
    assert_eq!((busiest.executions, busiest.tests, busiest.rows), (12, 1, 12));
}

#[test]
fn only_what_is_executed_counts_and_a_portal_counts_once() {
    let mut suite = Suite::begin("run");
    suite.session(1, "");
    suite.prepared(1, "SELECT * FROM a");
    suite.ran(1, "SELECT * FROM a", "SELECT 5");
    for _ in 0..20 {
        suite.continued(1, "SELECT * FROM a");
    }
    let report = suite.report();
    assert_eq!(tests(&report), [(None, 21, 0)]);
    assert_eq!((report.busiest.items[0].executions, report.busiest.items[0].rows), (1, 105));
    assert!(report.repeated.items.is_empty());
}

#[test]
fn what_has_no_outcome_is_unknown_and_what_was_undone_is_said() {
    let mut suite = Suite::begin("run");
    suite.session(1, "");
    suite.ran(1, "INSERT INTO a VALUES (1)", "INSERT 0 1");
    suite.undone(1, 1, 1);
    suite.sent(1, "DELETE FROM a");
    let skipped = suite.sent(1, "DELETE FROM b");
    suite.skipped(1, skipped);
    let report = suite.report();
    let counts = &report.totals.counts;
    assert_eq!(
        (counts.statements, counts.rolled_back, counts.outcome_unknown, counts.skipped),
        (2, 1, 1, 1)
    );
    assert_eq!(report.totals.open_sessions, 1);
    assert!(
        report.tables.items.iter().all(|uses| uses.table.name != "b"),
        "it was not executed"
    );
}

#[test]
fn a_row_is_one_sessions_and_commands_of_transactions_do_not_end_it() {
    let mut suite = Suite::begin("run");
    suite.session(1, "");
    suite.session(2, "");
    for number in 0..10 {
        suite.ran(1, &format!("INSERT INTO a VALUES ({number})"), "INSERT 0 1");
        suite.ran(1, "SAVEPOINT s1", "SAVEPOINT");
        suite.ran(2, "SELECT * FROM b", "SELECT 1");
        suite.ran(2, "SELECT * FROM c", "SELECT 1");
    }
    let report = suite.report();
    let repeated: Vec<_> = report
        .repeated
        .items
        .iter()
        .map(|row| (row.statement.as_str(), row.longest_row))
        .collect();
    assert_eq!(repeated, [("INSERT INTO a VALUES (?)", 10)]);
}

#[test]
fn a_name_of_a_session_holds_until_the_next() {
    let mut suite = Suite::begin("run");
    suite.session(1, "pytest");
    suite.ran(1, "SELECT 1", "SELECT 1");
    suite.ran(1, "SET application_name TO test_a", "SET");
    suite.ran(1, "SELECT 1", "SELECT 1");
    suite.failed(1, "SET application_name TO test_b", "25P02");
    suite.ran(1, &commented("SELECT 1", "test_c"), "SELECT 1");
    suite.ran(1, "RESET application_name", "RESET");
    let report = suite.report();
    let names: Vec<_> = tests(&report)
        .into_iter()
        .map(|(name, statements, _)| (name.unwrap(), statements))
        .collect();
    // The change that failed was still in its own name.
    assert_eq!(names, [("pytest", 2), ("test_a", 2), ("test_b", 1), ("test_c", 1)]);
}

/// Something that happens in a session.
#[derive(Debug, Clone)]
enum Act {
    Ran(u8, usize, u8),
    Failed(u8, usize, u8),
    Sent(u8, usize, u8),
    Ended(u8),
}

const TEXTS: [&str; 6] = [
    "SELECT * FROM a WHERE x = 1",
    "SELECT * FROM b",
    "UPDATE a SET x = 2",
    "INSERT INTO b VALUES (1), (2)",
    "BEGIN",
    "COMMIT",
];
const TAGS: [&str; 6] = ["SELECT 3", "SELECT 0", "UPDATE 2", "INSERT 0 2", "BEGIN", "COMMIT"];

fn act() -> impl Strategy<Value = Act> {
    let what = || (1..4_u8, 0..TEXTS.len(), 0..3_u8);
    prop_oneof![
        8 => what().prop_map(|(session, text, test)| Act::Ran(session, text, test)),
        2 => what().prop_map(|(session, text, test)| Act::Failed(session, text, test)),
        1 => what().prop_map(|(session, text, test)| Act::Sent(session, text, test)),
        1 => (1..4_u8).prop_map(Act::Ended),
    ]
}

fn suite_of(acts: &[Act]) -> Suite {
    let mut suite = Suite::begin("run");
    (1..4).for_each(|session| suite.session(session, ""));
    let mut over = [false; 4];
    let text = |text: usize, test: u8| match test {
        0 => TEXTS[text].to_owned(),
        test => commented(TEXTS[text], &format!("test_{test}")),
    };
    for act in acts {
        let (Act::Ran(session, ..) | Act::Failed(session, ..) | Act::Sent(session, ..) | Act::Ended(session)) = act;
        if over[usize::from(*session)] {
            continue;
        }
        match act {
            Act::Ran(session, at, test) => suite.ran(*session, &text(*at, *test), TAGS[*at]),
            Act::Failed(session, at, test) => suite.failed(*session, &text(*at, *test), "22012"),
            Act::Sent(session, at, test) => {
                suite.sent(*session, &text(*at, *test));
            }
            Act::Ended(session) => {
                suite.ended(*session);
                over[usize::from(*session)] = true;
            }
        }
    }
    suite
}

proptest! {
    /// The sums of the parts are the totals, and those are what a plain count of the acts gives.
    #[test]
    fn the_parts_add_up(acts in proptest::collection::vec(act(), 0..120)) {
        let suite = suite_of(&acts);
        let statements = suite.statements();
        let report = suite.report();
        let counted = |is: &dyn Fn(&Event<'_>) -> bool| suite.records.iter().filter(|record| is(&record.event)).count() as u64;
        let sent = counted(&|event| matches!(event, Event::Statement(_)));
        let answered = counted(&|event| matches!(event, Event::Outcome(_)));
        let failed = counted(&|event| event.sqlstate() == Some("22012"));
        let totals = &report.totals;
        prop_assert_eq!(totals.counts.statements, sent);
        prop_assert_eq!(totals.counts.failed, failed);
        prop_assert_eq!(totals.counts.outcome_unknown, sent - answered);
        let of_tests = |field: fn(&TestUse) -> u64| report.tests.items.iter().map(field).sum::<u64>();
        prop_assert_eq!(of_tests(|test| test.counts.statements), sent);
        prop_assert_eq!(of_tests(|test| test.counts.failed), failed);
        prop_assert_eq!(of_tests(|test| test.rows_changed), totals.rows_changed);
        prop_assert_eq!(of_tests(|test| test.duration_us), totals.duration_us);
        let executed: u64 = statements.uses.values().flat_map(|uses| uses.outcomes.values()).sum();
        prop_assert_eq!(executed, sent);
        prop_assert_eq!(statements.steps.iter().map(Vec::len).sum::<usize>() as u64, sent);
        prop_assert_eq!(report.busiest.items.iter().map(|sum| sum.executions).sum::<u64>(), sent);
        prop_assert_eq!(report.failures.items.iter().map(|failed| failed.count).sum::<u64>(), failed);
        prop_assert!(report.limits.is_empty());
    }
}
