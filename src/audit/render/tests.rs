use proptest::prelude::*;

use super::*;
use crate::audit::testing::{all, record, statement, who};

/// As it reads in UTC.
fn line(record: &LogRecord) -> String {
    super::line(record, &TimeZone::UTC)
}

#[test]
fn a_line_reads_well() {
    let record = record(3, statement(&who(1, "ana"), 7, "SELECT\n1", &["x"]));
    assert_eq!(
        line(&record),
        r"2026-11-23 09:00:03.000Z  ana               orders              se_1111111111  statement        #7 SELECT\n1 $1='x'"
    );
    let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
    let mut reading = who(1, "ana");
    reading.profile = Some("read-only".parse().unwrap());
    let record = crate::audit::testing::record(3, statement(&reading, 7, "SELECT\n1", &["x"]));
    assert_eq!(
        super::line(&record, &zone),
        r"2026-11-23 10:00:03.000+01  ana               orders/read-only    se_1111111111  statement        #7 SELECT\n1 $1='x'"
    );
}

#[test]
fn every_event_has_words() {
    for event in all() {
        let columns = columns(&record(1, event), &TimeZone::UTC);
        assert!(!columns.text.is_empty(), "{}", columns.event);
    }
}

#[test]
fn long_text_is_cut_visibly() {
    let text = line(&record(1, statement(&who(1, "ana"), 1, &"é".repeat(100_000), &[])));
    assert!(text.ends_with('…'));
    assert!(text.chars().count() < 300);
}

#[test]
fn what_is_too_long_to_be_shown_says_what_it_is() {
    let sql = format!("SELECT 1 /*{}*/; DELETE FROM t", "x".repeat(200));
    let text = line(&record(1, statement(&who(1, "ana"), 1, &sql, &[])));
    assert!(text.contains("#1 (228 bytes: select, delete) SELECT 1 /*xxx"), "{text}");
}

proptest! {
    #[test]
    fn a_terminal_is_safe(sql in any::<String>(), parameter in "[\u{0}-\u{ff}\u{2020}-\u{2070}]*") {
        let text = line(&record(1, statement(&who(1, "ana"), 1, &sql, &[&parameter])));
        prop_assert!(!text.chars().any(visible::is_unseen));
    }
}
