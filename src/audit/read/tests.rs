mod figures;

use std::fs::OpenOptions;
use std::io::Write as _;

use super::*;
use crate::audit::testing::{all, outcome, record, statement, who};

fn write(dir: &Path, number: u32, records: &[LogRecord]) {
    let text: String = records.iter().map(|record| record.json() + "\n").collect();
    append(dir, number, text.as_bytes());
}

fn append(dir: &Path, number: u32, bytes: &[u8]) {
    let path = dir.join(segment::name(number));
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .unwrap()
        .write_all(bytes)
        .unwrap();
}

fn all_records() -> Vec<LogRecord> {
    (1..).zip(all()).map(|(seq, event)| record(seq, event)).collect()
}

#[test]
fn what_was_written_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let records = all_records();
    write(dir.path(), 1, &records[..4]);
    write(dir.path(), 3, &records[4..]);
    std::fs::write(dir.path().join("unrelated.txt"), "x").unwrap();
    let found: Vec<_> = read(dir.path(), &Filter::default()).unwrap().map(Result::unwrap).collect();
    assert_eq!(found, records);
    // Records serialise as they stand in the file, but for the order of nothing.
    let value: serde_json::Value = serde_json::from_str(&records[7].json()).unwrap();
    assert_eq!(
        serde_json::to_value(&records[7]).unwrap()["overshoot_us"],
        value["overshoot_us"]
    );
}

#[test]
fn the_filter_is_applied() {
    let dir = tempfile::tempdir().unwrap();
    let (ana, ben) = (who(1, "ana"), who(2, "ben"));
    let events = [
        statement(&ana, 1, "a", &[]),
        statement(&ben, 1, "b", &[]),
        outcome(&ben, 1, Some("42P01")),
    ];
    let records: Vec<_> = (1..).zip(events).map(|(seq, event)| record(seq, event)).collect();
    write(dir.path(), 1, &records);
    let filter = Filter {
        identity: Some(ben.identity),
        sqlstate: Some("42".to_owned()),
        ..Filter::default()
    };
    let found: Vec<_> = read(dir.path(), &filter).unwrap().map(|record| record.unwrap().seq).collect();
    assert_eq!(found, [2, 3]);
}

#[test]
fn bad_lines_are_reported_in_their_place() {
    let dir = tempfile::tempdir().unwrap();
    let records = all_records();
    write(dir.path(), 1, &records[..1]);
    append(dir.path(), 1, b"scribble\n\xff\n");
    append(
        dir.path(),
        1,
        br#"{"v":3,"seq":9,"time":"2026-11-23T09:00:00Z","event":"new"}"#,
    );
    append(dir.path(), 1, b"\n{\"v\":2,\"seq\"");
    write(dir.path(), 2, &records[1..2]);
    append(dir.path(), 2, b"{\"v\":2");
    let found: Vec<_> = read(dir.path(), &Filter::default()).unwrap().collect();
    assert!(
        matches!(
            found.as_slice(),
            [
                Ok(_),
                Err(ReadError::Malformed { line: 2, .. }),
                Err(ReadError::Malformed { line: 3, .. }),
                Err(ReadError::Version { line: 4, version: 3, .. }),
                Err(ReadError::Unfinished { line: 5, bytes: 12, .. }),
                Ok(_),
                Err(ReadError::Unfinished { line: 2, bytes: 6, .. }),
            ]
        ),
        "{found:#?}"
    );
}

#[test]
fn lines_are_counted_that_are_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let ben = Filter {
        identity: Some("ben".parse().unwrap()),
        ..Filter::default()
    };
    for number in 1..=3 {
        write(dir.path(), 1, &[record(number, statement(&who(1, "ana"), number, "a", &[]))]);
    }
    append(dir.path(), 1, b"scribble\n");
    write(dir.path(), 1, &[record(4, statement(&who(1, "ana"), 4, "a", &[]))]);
    append(dir.path(), 1, b"{\"v\":2");
    let places = |packed: bool| {
        let found: Vec<_> = read(dir.path(), &ben).unwrap().collect();
        assert!(
            matches!(
                found.as_slice(),
                [
                    Err(ReadError::Malformed { line: 4, .. }),
                    Err(ReadError::Unfinished { line: 6, bytes: 6, .. })
                ]
            ),
            "{packed} {found:#?}"
        );
    };
    places(false);
    crate::audit::compactor::pack(&segment::list(dir.path()).unwrap()[0]).unwrap();
    places(true);
}

/// However the lines lie in the pieces in which a segment is unpacked.
#[test]
fn a_packed_segment_has_the_lines_that_it_was_packed_from() {
    let dir = tempfile::tempdir().unwrap();
    let ana = who(1, "ana");
    let sizes = [10, 700_000, 3 << 20, 10, (1 << 20) - 300, 600_000, 100];
    let texts = sizes.into_iter().map(|bytes| "x".repeat(bytes));
    let records: Vec<_> = (1..)
        .zip(texts)
        .map(|(seq, sql)| record(seq, statement(&ana, seq, &sql, &[])))
        .collect();
    write(dir.path(), 1, &records);
    append(dir.path(), 1, b"{\"v\":2");
    crate::audit::compactor::pack(&segment::list(dir.path()).unwrap()[0]).unwrap();
    let mut found: Vec<_> = read(dir.path(), &Filter::default()).unwrap().collect();
    let last = found.pop();
    assert!(
        matches!(last, Some(Err(ReadError::Unfinished { line: 8, bytes: 6, .. }))),
        "{last:?}"
    );
    let found: Vec<_> = found.into_iter().map(Result::unwrap).collect();
    assert!(found == records, "{} records", found.len());
}

/// One flipped bit hides nothing behind its own segment, nor anything in front of it.
#[test]
fn a_packed_segment_that_is_damaged_is_told_and_the_next_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let all = all_records();
    for (number, record) in (1..).zip(&all[..4]) {
        write(dir.path(), number, std::slice::from_ref(record));
    }
    for segment in &segment::list(dir.path()).unwrap()[..3] {
        crate::audit::compactor::pack(segment).unwrap();
    }
    let path = dir.path().join("audit-000002.jsonl.zst");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let found: Vec<_> = read(dir.path(), &Filter::default()).unwrap().collect();
    assert!(
        matches!(
            found.as_slice(),
            [Ok(first), Err(ReadError::Damaged { file, after: 0, .. }), Ok(third), Ok(fourth)]
                if *file == path && [first, third, fourth] == [&all[0], &all[2], &all[3]]
        ),
        "{found:#?}"
    );
}

#[test]
fn a_folder_that_is_not_there_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(
        read(&dir.path().join("none"), &Filter::default()),
        Err(ReadError::Io { .. })
    ));
    assert_eq!(read(dir.path(), &Filter::default()).unwrap().count(), 0);
}

/// Lines that would take many times their length to read, or that no gate writes as long.
#[test]
fn lines_made_to_take_memory_are_not_records() {
    let long = |event: &str, rest: &str| {
        format!(r#"{{"v":2,"seq":1,"time":"2026-11-23T09:05:07.000042Z","event":"{event}",{rest},"chain":"0123456789abcdef"}}"#)
    };
    let padded = format!(r#""accepted":true,"detail":"{}""#, "x".repeat(2 << 20));
    let many = format!(r#""x":[{}0]"#, "0,".repeat(1 << 20));
    let deep = format!(r#""x":{}{}"#, "[".repeat(100_000), "]".repeat(100_000));
    for (line, why) in [
        (long("reloaded", &padded), "longer than any record of its kind"),
        (long("statement", &many), "more values than any record has"),
        (long("reloaded", &deep), "recursion limit"),
    ] {
        let error = LogRecord::parse(line.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    // A statement's own text may be as long.
    let sql = format!("SELECT '{}'", "x,".repeat(2 << 20));
    let record = record(1, statement(&who(1, "ana"), 1, &sql, &[]));
    assert_eq!(LogRecord::parse(record.json().as_bytes()).unwrap(), record);
}

/// Prints how long a line takes to read and parse; run in release.
#[test]
#[ignore = "a measurement, not a test"]
#[expect(clippy::disallowed_methods, reason = "measures real time")]
fn measure() {
    let dir = tempfile::tempdir().unwrap();
    let ana = who(1, "ana");
    let records: Vec<_> = (1..=100_000)
        .map(|seq| {
            record(
                seq,
                statement(&ana, seq, "SELECT abalance FROM pgbench_accounts WHERE aid = 1", &["x"]),
            )
        })
        .collect();
    write(dir.path(), 1, &records);
    for filter in [
        Filter::default(),
        Filter {
            identity: Some("zoe".parse().unwrap()),
            ..Filter::default()
        },
    ] {
        let start = std::time::Instant::now();
        let count = read(dir.path(), &filter).unwrap().count();
        println!("{count} of 100000 found: {} ns a line", start.elapsed().as_nanos() / 100_000);
    }
}
