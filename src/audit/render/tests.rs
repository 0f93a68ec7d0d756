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
fn json_is_the_line_of_the_log_with_the_analysis_of_a_statement() {
    let ana = who(1, "ana");
    let events = all().into_iter().chain([
        statement(&ana, 8, "DELETE FROM \"a\u{202e}b\" -- \u{1b}[2J", &[]),
        statement(&ana, 9, "SELECT (", &["x"]),
    ]);
    // Times go back and forth, and so do the lengths of lines.
    let records: Vec<_> = [3, 9, 3]
        .into_iter()
        .cycle()
        .zip(events)
        .map(|(seq, event)| record(seq, event))
        .collect();
    let (mut encoder, mut out) = (AnalysedEncoder::default(), Vec::new());
    for record in &records {
        encoder.push(&mut out, record);
    }
    let out = String::from_utf8(out).unwrap();
    assert!(out.ends_with('\n') && !out.contains(|character| character != '\n' && visible::is_unseen(character)));
    assert_eq!(out.lines().count(), records.len());
    for (line, record) in out.lines().zip(&records) {
        let Event::Statement(statement) = &record.event else {
            assert_eq!(line, record.json());
            continue;
        };
        let reading: serde_json::Value = serde_json::from_str(line).unwrap();
        let wanted = serde_json::to_value(&*AnalysisCache::default().of_statement(statement)).unwrap();
        assert_eq!(reading["reading"], wanted);
        assert!(line.starts_with(record.json().strip_suffix('}').unwrap()), "{line}");
    }
    assert!(
        out.contains(r#""reading":{"tables":["a\u202eb"],"classes":["delete"]}}"#),
        "{out}"
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
