//! Who touched a table: sums by identity, with what is not known.

use super::*;
use crate::audit::testing::{outcome, record, rolled_back, skipped, statement, tagged, time, who};

#[test]
fn sums_by_identity() {
    let (ana, ben) = (who(1, "ana"), who(2, "ben"));
    let mut touched = Touched::default();
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
        (sums[0].statements, sums[0].rows, sums[0].outcome_unknown, sums[0].not_read),
        (2, 1, 1, 1)
    );
    assert_eq!((sums[0].first, sums[0].last), (time(1), time(5)));
    assert_eq!(sums[0].classes, [Class::Select, Class::Update]);
    assert_eq!((sums[1].failed, sums[1].sessions.len()), (1, 1));
}

#[test]
fn an_outcome_counts_whenever_it_came() {
    let ana = who(1, "ana");
    let mut undone = Undone::default();
    undone.add(&record(9, rolled_back(&ana, 2, 2)));
    let mut touched = Touched::new(Some(time(5)), undone);
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
        (ana.statements, ana.skipped, ana.outcome_unknown, ana.rolled_back, ana.rows),
        (2, 1, 0, 1, 2)
    );
    assert_eq!(ana.classes, [Class::Select, Class::Delete]);
}

#[test]
fn what_could_not_be_read_is_told_beside() {
    let (ana, ben, eve) = (who(1, "ana"), who(2, "ben"), who(3, "eve"));
    let mut touched = Touched::default();
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
        .map(|one| (one.identity.as_str(), one.statements, one.not_read, one.unread))
        .collect();
    assert_eq!(short, [("ana", 2, 2, 1), ("eve", 0, 0, 1)]);
    assert_eq!(sums[0].classes, [Class::Select, Class::Delete]);
}
