use std::io::Write as _;

use super::*;
use crate::audit::chain::ChainLink;

fn line(seq: u64, text: &str) -> String {
    let mark = ChainLink::START.after(format!("{seq}{text}").as_bytes()).mark();
    format!(r#"{{"v":2,"seq":{seq},"event":"{text}","chain":"{mark}"}}"#)
}

fn append(dir: &Path, segment: u32, text: &str) {
    let path = dir.join(format!("audit-{segment:06}.jsonl"));
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn lines(dir: &Path, segment: u32, seqs: std::ops::RangeInclusive<u64>) {
    seqs.for_each(|seq| append(dir, segment, &(line(seq, "a") + "\n")));
}

/// The next line, with the position after it.
fn next(tailer: &mut LogTailer) -> Option<(String, LogPosition)> {
    let mut line = Vec::new();
    let position = tailer.next(&mut line).unwrap()?;
    Some((String::from_utf8(line).unwrap(), position))
}

fn rest(tailer: &mut LogTailer) -> Vec<(String, LogPosition)> {
    std::iter::from_fn(|| next(tailer)).collect()
}

fn all(tailer: &mut LogTailer) -> Vec<u64> {
    rest(tailer).iter().map(|(_, position)| position.seq).collect()
}

fn end(tailer: &mut LogTailer) -> LogPosition {
    rest(tailer).last().unwrap().1
}

fn pack(dir: &Path, number: u32) {
    let segment = Segment::at(&dir.join(format!("audit-{number:06}.jsonl"))).unwrap();
    crate::audit::compactor::pack(&segment).unwrap();
}

#[test]
fn lines_come_once_in_order_as_they_stand() {
    let dir = tempfile::tempdir().unwrap();
    let mut tailer = LogTailer::new(dir.path(), LogPosition::default());
    assert_eq!(all(&mut tailer), [0_u64; 0]);
    lines(dir.path(), 1, 1..=2);
    assert_eq!(next(&mut tailer).unwrap().0, line(1, "a"));
    assert_eq!(all(&mut tailer), [2]);
    append(dir.path(), 1, &line(3, "a"));
    assert_eq!(all(&mut tailer), [0_u64; 0], "it has no end yet");
    append(dir.path(), 1, "\n");
    lines(dir.path(), 2, 4..=5);
    lines(dir.path(), 3, 6..=6);
    assert_eq!(all(&mut tailer), [3, 4, 5, 6]);
    assert_eq!(tailer.gap(), None);
}

#[test]
fn it_goes_on_from_any_position_packed_or_not() {
    let dir = tempfile::tempdir().unwrap();
    lines(dir.path(), 1, 1..=3);
    lines(dir.path(), 2, 4..=5);
    let mut positions = vec![LogPosition::default()];
    let given = rest(&mut LogTailer::new(dir.path(), LogPosition::default()));
    positions.extend(given.iter().map(|(_, position)| *position));
    for packed in [false, true] {
        if packed {
            pack(dir.path(), 1);
        }
        for position in &positions {
            let mut tailer = LogTailer::new(dir.path(), *position);
            let expected: Vec<u64> = (position.seq + 1..=5).collect();
            assert_eq!(all(&mut tailer), expected, "from {position:?}, packed: {packed}");
            assert_eq!(tailer.gap(), None);
        }
    }
}

#[test]
fn what_was_removed_before_it_was_read_is_said_once() {
    let dir = tempfile::tempdir().unwrap();
    lines(dir.path(), 1, 1..=3);
    let last = end(&mut LogTailer::new(dir.path(), LogPosition::default()));
    lines(dir.path(), 2, 4..=6);
    lines(dir.path(), 3, 7..=8);
    for gone in [1, 2] {
        std::fs::remove_file(dir.path().join(format!("audit-{gone:06}.jsonl"))).unwrap();
    }
    let mut tailer = LogTailer::new(dir.path(), last);
    assert_eq!(all(&mut tailer), [7, 8]);
    assert_eq!((tailer.gap(), tailer.gap()), (Some((4, 6)), None));
}

#[test]
fn a_line_that_was_taken_back_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit-000001.jsonl");
    lines(dir.path(), 1, 1..=2);
    let mut tailer = LogTailer::new(dir.path(), LogPosition::default());
    let length = std::fs::metadata(&path).unwrap().len();
    append(dir.path(), 1, &(line(3, "taken back") + "\n"));
    assert_eq!(all(&mut tailer), [1, 2, 3]);
    // The disk was full in the middle of a batch: the journal cut it off, and wrote others when there was room.
    std::fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(length)
        .unwrap();
    assert_eq!(all(&mut tailer), [0_u64; 0]);
    lines(dir.path(), 1, 3..=9);
    assert_eq!(all(&mut tailer), [3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(tailer.gap(), None);
}

#[test]
fn what_is_no_record_is_passed_on() {
    let dir = tempfile::tempdir().unwrap();
    lines(dir.path(), 1, 1..=1);
    append(dir.path(), 1, "garbage\n");
    lines(dir.path(), 1, 2..=2);
    append(dir.path(), 1, "torn");
    lines(dir.path(), 2, 3..=3);
    let mut tailer = LogTailer::new(dir.path(), LogPosition::default());
    let texts: Vec<_> = rest(&mut tailer).into_iter().map(|(line, _)| line).collect();
    assert_eq!(texts, [line(1, "a"), "garbage".to_owned(), line(2, "a"), line(3, "a")]);
}

#[test]
fn what_a_line_says_of_itself_leaves_none_out() {
    let dir = tempfile::tempdir().unwrap();
    lines(dir.path(), 1, 1..=2);
    append(dir.path(), 1, "no record\n");
    append(dir.path(), 1, &(line(9_000_000, "a") + "\n"));
    lines(dir.path(), 1, 4..=5);
    append(dir.path(), 1, "no record\n");
    let mut tailer = LogTailer::new(dir.path(), LogPosition::default());
    let mut given = rest(&mut tailer);
    assert_eq!(given.len(), 7);
    assert_eq!(next(&mut tailer), None, "none is sent again and again");
    append(dir.path(), 1, "nor this\n");
    lines(dir.path(), 2, 6..=6);
    given.extend(rest(&mut tailer));
    assert_eq!(given.len(), 9);
    assert_eq!(tailer.gap(), None);
    for (at, line) in given.iter().enumerate() {
        let behind = rest(&mut LogTailer::new(dir.path(), line.1));
        assert_eq!(behind, given[at + 1..], "from behind {line:?}");
    }
}

#[test]
fn another_log_in_its_place_is_sent_from_its_beginning() {
    let dir = tempfile::tempdir().unwrap();
    lines(dir.path(), 1, 1..=3);
    lines(dir.path(), 2, 4..=5);
    let last = end(&mut LogTailer::new(dir.path(), LogPosition::default()));
    for segments in 1..=3 {
        for number in 1..=3 {
            let _ = std::fs::remove_file(dir.path().join(format!("audit-{number:06}.jsonl")));
        }
        for number in 1..=segments {
            append(dir.path(), number, &(line(u64::from(number) * 2 - 1, "another") + "\n"));
            append(dir.path(), number, &(line(u64::from(number) * 2, "another") + "\n"));
        }
        let expected: Vec<u64> = (1..=u64::from(segments) * 2).collect();
        assert_eq!(all(&mut LogTailer::new(dir.path(), last)), expected, "{segments} segments");
    }
}

#[test]
fn what_was_lost_with_the_power_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    lines(dir.path(), 1, 1..=2);
    lines(dir.path(), 2, 3..=9);
    let last = end(&mut LogTailer::new(dir.path(), LogPosition::default()));
    // The position was on the disk, its line was not.
    std::fs::remove_file(dir.path().join("audit-000002.jsonl")).unwrap();
    lines(dir.path(), 2, 3..=4);
    let mut tailer = LogTailer::new(dir.path(), last);
    assert_eq!(all(&mut tailer), [3, 4]);
    append(dir.path(), 2, &(line(5, "after the start") + "\n"));
    assert_eq!(all(&mut tailer), [5]);
}
