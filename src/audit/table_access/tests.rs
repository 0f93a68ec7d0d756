//! Who touched a table: sums by identity, with what is not known.

use super::*;
use crate::audit::testing::{outcome, parse_failed, record, rolled_back, skipped, statement, tagged, time, who, with_parse};

#[test]
fn sums_by_identity() {
    let (ana, ben) = (who(1, "ana"), who(2, "ben"));
    let mut touched = TableAccessSums::new(None, Rollbacks::default());
    let events = [
        statement(&ana, 1, "SELECT * FROM a", &[]),
        outcome(&ana, 1, None),
        statement(&ben, 1, "DELETE FROM a", &[]),
        outcome(&ben, 1, Some("42501")),
        statement(&ana, 2, "UPDATE a SET x = (", &[]),
        outcome(&ana, 9, None),
    ];
    for (seq, event) in (1..).zip(events) {
        touched.add(&record(seq, event));
    }
    let sums = touched.sums();
    assert_eq!(sums.len(), 2);
    assert_eq!(sums[0].identity.as_str(), "ana");
    assert_eq!(
        (
            sums[0].counts.statements,
            sums[0].rows,
            sums[0].counts.outcome_unknown,
            sums[0].counts.not_read
        ),
        (2, 1, 1, 1)
    );
    assert_eq!((sums[0].first, sums[0].last), (time(1), time(5)));
    assert_eq!(sums[0].classes, [CommandClass::Select, CommandClass::Update]);
    assert_eq!((sums[1].counts.failed, sums[1].sessions.len()), (1, 1));
}

#[test]
fn an_outcome_counts_whenever_it_came() {
    let ana = who(1, "ana");
    let mut undone = Rollbacks::default();
    undone.add(&record(9, rolled_back(&ana, 2, 2)));
    let mut touched = TableAccessSums::new(Some(time(5)), undone);
    let events = [
        statement(&ana, 1, "SELECT * FROM a", &[]),
        statement(&ana, 2, "DELETE FROM a", &[]),
        statement(&ana, 3, "DELETE FROM a", &[]),
        outcome(&ana, 1, None),
        // From here on it is too late for a statement.
        outcome(&ana, 2, None),
        skipped(&ana, 3),
        statement(&ana, 4, "TRUNCATE a", &[]),
        outcome(&ana, 4, None),
    ];
    for (seq, event) in (1..).zip(events) {
        touched.add(&record(seq, event));
    }
    let ana = touched.sums().remove(0);
    assert_eq!(
        (
            ana.counts.statements,
            ana.counts.skipped,
            ana.counts.outcome_unknown,
            ana.counts.rolled_back,
            ana.rows
        ),
        (2, 1, 0, 1, 2)
    );
    assert_eq!(ana.classes, [CommandClass::Select, CommandClass::Delete]);
}

/// As if each Parse had a record of its own.
#[test]
fn a_statement_whose_parse_failed_was_skipped() {
    let (ana, ben) = (who(1, "ana"), who(2, "ben"));
    let mut touched = TableAccessSums::new(None, Rollbacks::default());
    let found = [
        with_parse(&ana, 1, "SELECT * FROM a"),
        outcome(&ana, 1, None),
        with_parse(&ana, 2, "DELETE FROM a"),
        parse_failed(&ana, 2, "42P01"),
    ];
    for (seq, event) in (1..).zip(found) {
        touched.add(&record(seq, event));
    }
    for (seq, event) in (5..).zip([with_parse(&ben, 1, "SELECT * FROM ("), parse_failed(&ben, 1, "42601")]) {
        touched.add_unread(&record(seq, event));
    }
    let sums = touched.sums();
    assert_eq!(sums.len(), 1, "what was not executed touched nothing");
    let counts = &sums[0].counts;
    assert_eq!((counts.statements, counts.skipped, counts.failed, sums[0].rows), (1, 1, 0, 1));
    assert_eq!(sums[0].classes, [CommandClass::Select]);
}

#[test]
fn what_could_not_be_read_is_told_beside() {
    let (ana, ben, eve) = (who(1, "ana"), who(2, "ben"), who(3, "eve"));
    let mut touched = TableAccessSums::new(None, Rollbacks::default());
    let found = [
        statement(&ana, 1, "SELECT * FROM a WHERE (", &[]),
        outcome(&ana, 1, None),
        // The server ran more than was read.
        statement(&ana, 2, "SELECT * FROM a WHERE b = 'x; DELETE FROM a'", &[]),
        tagged(&ana, 2, &["SELECT 1", "DELETE 3"]),
    ];
    for (seq, event) in (1..).zip(found) {
        touched.add(&record(seq, event));
    }
    let unread = [
        // These have the name and are counted.
        statement(&ana, 1, "SELECT * FROM a WHERE (", &[]),
        statement(&ana, 2, "SELECT * FROM a WHERE b = 'x; DELETE FROM a'", &[]),
        statement(&ana, 3, "SELECT * FROM (", &[]),
        statement(&ben, 1, "SELECT * FROM (", &[]),
        skipped(&ben, 1),
        statement(&eve, 1, "SELECT * FROM (", &[]),
        outcome(&eve, 1, None),
    ];
    for (seq, event) in (1..).zip(unread) {
        touched.add_unread(&record(seq, event));
    }
    let sums = touched.sums();
    let short: Vec<_> = sums
        .iter()
        .map(|one| (one.identity.as_str(), one.counts.statements, one.counts.not_read, one.unread))
        .collect();
    assert_eq!(short, [("ana", 2, 2, 1), ("eve", 0, 0, 1)]);
    assert_eq!(sums[0].classes, [CommandClass::Select, CommandClass::Delete]);
}

#[test]
fn what_is_kept_is_bounded_and_what_is_left_out_is_told() {
    let mut touched = TableAccessSums {
        max_kept: 2,
        ..TableAccessSums::new(None, Rollbacks::default())
    };
    let mut seq = 0;
    let mut add = |touched: &mut TableAccessSums, event, unread| {
        seq += 1;
        let record = record(seq, event);
        if unread {
            touched.add_unread(&record);
        } else {
            touched.add(&record);
        }
    };
    for session in 1..=4 {
        let name = format!("u{session}");
        let of = who(session, &name);
        add(&mut touched, statement(&of, 1, "SELECT * FROM a WHERE (", &[]), false);
        add(&mut touched, statement(&of, 2, "SELECT * FROM a", &[]), false);
    }
    let of = who(1, "u1");
    for number in 10..14 {
        add(&mut touched, statement(&of, number, "SELECT (", &[]), true);
    }
    assert_eq!(
        (
            touched.by.len(),
            touched.open.len(),
            touched.named.len(),
            touched.open_unread.len()
        ),
        (2, 2, 2, 2)
    );
    let left_out = touched.left_out();
    assert_eq!((left_out.statements, left_out.not_followed), (4, 4));
    assert!(!left_out.is_nothing());
    // Nothing is lost that has a sum: what has no outcome here is counted all the same.
    let sums = touched.sums();
    assert_eq!(
        sums.iter().map(|sum| (sum.counts.statements, sum.unread)).collect::<Vec<_>>(),
        [(2, 4), (2, 0)]
    );
}
