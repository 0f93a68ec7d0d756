use proptest::prelude::*;

use super::super::testing::{Suite, changed, commented, suite};
use super::*;

fn told(diff: &RunDiff) -> Vec<(StatementDifferenceKind, &str, &str)> {
    let each = diff.statements.items.iter();
    each.map(|difference| {
        (
            difference.kind,
            difference.test.as_deref().unwrap_or_default(),
            difference.statement.as_str(),
        )
    })
    .collect()
}

#[test]
fn a_run_is_the_same_as_itself_and_as_one_with_other_values() {
    let green = suite("green");
    let diff = green.diff(&suite("red"));
    assert!(
        diff.same && diff.statements.items.is_empty() && diff.divergences.items.is_empty(),
        "{diff:?}"
    );
    assert_eq!((diff.green.run.as_str(), diff.red.run.as_str()), ("green", "red"));
    assert_eq!((diff.red.tests, diff.red.statements, diff.red.failed), (4, 20, 2));
}

#[test]
fn what_was_changed_is_named_and_nothing_else() {
    let (green, red) = (suite("green"), changed("red"));
    let diff = green.diff(&red);
    assert!(!diff.same);
    let total = "test_orders.py::test_total";
    assert_eq!(
        told(&diff),
        [
            (StatementDifferenceKind::Outcome, "test_login", "SELECT * FROM missing"),
            (StatementDifferenceKind::OnlyRed, total, "DELETE FROM orders WHERE id = ?"),
            (
                StatementDifferenceKind::Count,
                total,
                "SELECT * FROM items WHERE order_id = ?"
            ),
        ]
    );
    let counts = |at: usize| (diff.statements.items[at].green.count, diff.statements.items[at].red.count);
    assert_eq!((counts(1), counts(2)), ((0, 1), (12, 11)));
    let outcomes = &diff.statements.items[0];
    assert_eq!(outcomes.green.outcomes, BTreeMap::from([("42P01".to_owned(), 1)]));
    assert_eq!(outcomes.red.outcomes, BTreeMap::from([("42501".to_owned(), 1)]));
    let [login, of_total] = &diff.divergences.items[..] else {
        panic!("two: {:?}", diff.divergences)
    };
    assert_eq!((login.test.as_deref(), login.at), (Some("test_login"), 2));
    assert_eq!((of_total.test.as_deref(), of_total.at), (Some(total), 13));
    let step = |step: &Option<RunStep>| step.as_ref().map(|step| (step.statement.clone(), step.outcome.clone()));
    let (green, red) = (step(&of_total.green).unwrap(), step(&of_total.red).unwrap());
    assert!(
        green.0.starts_with("SELECT * FROM items") && red.0.starts_with("UPDATE shop.orders"),
        "{of_total:?}"
    );
}

#[test]
fn a_test_of_one_run_only_is_named_once() {
    let (green, mut red) = (suite("green"), suite("red"));
    red.session(3, "");
    red.ran(3, &commented("SELECT 1", "test_new"), "SELECT 1");
    red.ran(3, &commented("SELECT 2, 3", "test_new"), "SELECT 1");
    for (diff, side) in [(green.diff(&red), OnlySide::Red), (red.diff(&green), OnlySide::Green)] {
        let only = TestDifference {
            test: "test_new".to_owned(),
            only: side,
            statements: 2,
        };
        assert_eq!(diff.tests.items, [only]);
        assert!(diff.statements.items.is_empty() && !diff.same);
    }
}

#[test]
fn another_order_is_a_divergence_and_chance_where_several_sessions_work() {
    let run = |texts: [&str; 2], sessions: [u8; 2]| {
        let mut suite = Suite::begin("run");
        (1..=2).for_each(|session| suite.session(session, ""));
        for (text, session) in texts.into_iter().zip(sessions) {
            suite.ran(session, text, "SELECT 1");
        }
        suite
    };
    let (one, other) = (["SELECT a", "SELECT b"], ["SELECT b", "SELECT a"]);
    let diff = run(one, [1, 1]).diff(&run(other, [1, 1]));
    assert_eq!(
        (diff.same, diff.divergences.items.len(), diff.statements.items.len()),
        (false, 1, 0)
    );
    let diff = run(one, [1, 2]).diff(&run(other, [2, 1]));
    assert_eq!((diff.same, diff.divergences.items.len()), (true, 1));
    assert!(diff.divergences.items[0].several_sessions);
}

#[test]
fn the_end_of_a_test_is_a_divergence() {
    let mut green = Suite::begin("green");
    green.session(1, "");
    green.ran(1, "SELECT a", "SELECT 1");
    let mut red = green.clone();
    red.ran(1, "SELECT b", "SELECT 1");
    let diff = green.diff(&red);
    let [divergence] = &diff.divergences.items[..] else {
        panic!("one")
    };
    assert_eq!(
        (divergence.at, divergence.green.is_none(), divergence.red.is_some()),
        (2, true, true)
    );
}

proptest! {
    /// However a run is changed in one place, that statement is named, and no other.
    #[test]
    fn one_change_is_found(texts in proptest::collection::vec(0..5_usize, 1..40), tests in proptest::collection::vec(0..3_usize, 40), at in 0..40_usize) {
        let at = at % texts.len();
        let run = |changed: Option<usize>| {
            let mut suite = Suite::begin("run");
            suite.session(1, "");
            for (number, text) in texts.iter().enumerate() {
                let sql = if changed == Some(number) { "SELECT seeded".to_owned() } else { format!("SELECT c FROM t{text} WHERE id = {number}") };
                suite.ran(1, &commented(&sql, &format!("test_{}", tests[number])), "SELECT 1");
            }
            suite
        };
        let (green, red) = (run(None), run(Some(at)));
        prop_assert!(green.diff(&green).same);
        let diff = green.diff(&red);
        let test = format!("test_{}", tests[at]);
        let lost = format!("SELECT c FROM t{} WHERE id = ?", texts[at]);
        prop_assert_eq!(diff.statements.items.len(), 2, "{:?}", diff);
        for difference in &diff.statements.items {
            prop_assert_eq!(difference.test.as_deref(), Some(test.as_str()));
            prop_assert!(difference.statement == "SELECT seeded" || difference.statement == lost, "{:?}", difference);
        }
        prop_assert_eq!(diff.divergences.items.len(), 1);
        let before = tests[..at].iter().filter(|other| **other == tests[at]).count() as u64;
        prop_assert_eq!(diff.divergences.items[0].at, before + 1);
        // Compared the other way round it is the same, mirrored.
        let mirrored = red.diff(&green);
        prop_assert_eq!(mirrored.statements.items.len(), 2);
    }
}
