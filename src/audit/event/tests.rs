//! The schema of the log, by example: `audit/snapshots/records.jsonl` has a record of each kind with every field it can have.

use std::collections::BTreeSet;

use crate::audit::{EventName, Record};

const EXAMPLES: &str = include_str!("../snapshots/records.jsonl");

#[test]
fn every_kind_of_record_is_written_as_the_examples_say() {
    for line in EXAMPLES.lines() {
        let record = Record::parse(line.as_bytes()).unwrap_or_else(|error| panic!("{error} in {line}"));
        assert_eq!(record.json(), line);
    }
    let shown: BTreeSet<&str> = EXAMPLES
        .lines()
        .map(|line| Record::parse(line.as_bytes()).unwrap().event.name().as_str())
        .collect();
    let all: BTreeSet<&str> = EventName::ALL.iter().map(|name| name.as_str()).collect();
    assert_eq!(shown, all);
}

/// A field that an example lacks would be written by no test.
#[test]
fn the_examples_have_every_field() {
    let source = [
        include_str!("../event.rs"),
        include_str!("statement.rs"),
        include_str!("text.rs"),
        include_str!("../checkpoint.rs"),
    ]
    .concat();
    let fields = source
        .lines()
        .filter_map(|line| line.strip_prefix("    pub ")?.split_once(": ").map(|(name, _)| name))
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') && *name != "who");
    let missing: Vec<&str> = fields.filter(|name| !EXAMPLES.contains(&format!("\"{name}\":"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
