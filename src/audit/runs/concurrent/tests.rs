use super::super::testing::{Suite, suite};

fn writers(report: &super::super::report::RunReport) -> Vec<(String, String, u64, u64, bool)> {
    let meanwhile = report.meanwhile.as_ref().unwrap();
    let each = meanwhile.writers.items.iter();
    each.map(|writer| {
        (
            writer.table.to_string(),
            writer.identity.to_string(),
            writer.counts.statements,
            writer.rows_changed,
            writer.run_writes,
        )
    })
    .collect()
}

#[test]
fn another_session_that_changed_a_table_of_the_run() {
    let report = suite("green").report();
    // The run reads `orders` and changes `shop.orders`, which may be the same table.
    assert_eq!(writers(&report), [("orders".to_owned(), "ben".to_owned(), 1, 40, true)]);
    assert_eq!(report.meanwhile.unwrap().writers.items[0].run.as_deref(), Some("nightly"));
}

#[test]
fn what_changes_nothing_of_the_run_meanwhile_is_not_in_it() {
    let mut suite = Suite::begin("run");
    suite.other(9, None);
    suite.ran(9, "DELETE FROM a", "DELETE 1");
    suite.session(1, "");
    suite.ran(1, "SELECT * FROM a", "SELECT 1");
    suite.ran(9, "SELECT * FROM a FOR UPDATE", "SELECT 1");
    suite.ran(9, "DELETE FROM b", "DELETE 1");
    suite.ran(9, "EXPLAIN DELETE FROM a", "EXPLAIN");
    suite.ended(1);
    suite.ran(9, "DELETE FROM a", "DELETE 1");
    assert_eq!(writers(&suite.report()), []);
}

#[test]
fn what_failed_or_was_undone_is_counted_as_such() {
    let mut suite = Suite::begin("run");
    suite.session(1, "");
    suite.other(9, None);
    suite.ran(1, "UPDATE a SET x = 1", "UPDATE 1");
    suite.ran(9, "INSERT INTO a VALUES (1)", "INSERT 0 1");
    suite.undone(9, 1, 1);
    suite.failed(9, "DELETE FROM a", "42501");
    suite.sent(9, "TRUNCATE a");
    suite.ended(1);
    let report = suite.report();
    let [writer] = &report.meanwhile.as_ref().unwrap().writers.items[..] else {
        panic!("one writer")
    };
    let counts = &writer.counts;
    assert_eq!(
        (counts.statements, counts.rolled_back, counts.failed, counts.outcome_unknown),
        (3, 1, 1, 1)
    );
    assert!(writer.run_writes);
}

#[test]
fn what_cannot_be_read_is_counted() {
    let mut suite = Suite::begin("run");
    suite.session(1, "");
    suite.other(9, None);
    suite.ran(1, "SELECT * FROM a", "SELECT 1");
    suite.ran(9, "DO $$ BEGIN DELETE FROM a; END $$", "DO");
    suite.ran(9, "CALL p()", "CALL");
    suite.failed(9, "DELETE FROM (", "42601");
    suite.ran(9, "SELECT 1", "SELECT 1");
    suite.ended(1);
    let meanwhile = suite.report().meanwhile.unwrap();
    assert_eq!((meanwhile.not_read, meanwhile.writers.items.len()), (2, 0));
}
