//! What a write leaves that fails and cannot be taken back, or that is cut short with the gate.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::audit::event::Reloaded;
use crate::audit::filter::Filter;
use crate::audit::read;
use crate::audit::testing::time;
use crate::audit::verify::{VerifyExpectation, VerifyReport, verify, verify_folder};

fn lines(details: &[&str]) -> LineBuffer {
    let mut lines = LineBuffer::default();
    for detail in details {
        let detail = (*detail).to_owned();
        lines
            .push(time(0), &Event::Reloaded(Reloaded { accepted: true, detail }))
            .unwrap();
    }
    lines
}

fn open(dir: &Path) -> SegmentWriter {
    SegmentWriter::open(
        &JournalSettings::in_folder(dir),
        &RememberedTip::NotAsked,
        time(0),
        &mut LineBuffer::default(),
    )
    .unwrap()
}

impl SegmentWriter {
    /// Writes to a disk that takes so much of it, then fails, and does not give it back.
    fn fail(&mut self, left: impl Fn(&[u8]) -> usize) {
        // Takes no byte, and cannot be cut.
        self.file = File::options().write(true).open("/dev/full").unwrap();
        self.write(&[&lines(&["lost one", "lost two"])], true, time(1)).unwrap_err();
        assert_eq!(self.state, FileState::Torn);
        let mut real = File::options().append(true).create(true).open(&self.path).unwrap();
        real.write_all(&self.out[..left(&self.out)]).unwrap();
    }

    fn put_down(&mut self, detail: &str) {
        self.write(&[&lines(&[detail])], true, time(2)).unwrap();
    }
}

fn verdict(dir: &Path) -> VerifyReport {
    let settings = JournalSettings::in_folder(dir);
    let expected = VerifyExpectation {
        key: Some(SigningKey::load(&settings.key).unwrap().public()),
        from_start: true,
        ..VerifyExpectation::default()
    };
    verify_folder(&settings.dir, &expected, |_| ()).unwrap()
}

#[track_caller]
fn assert_proven(dir: &Path) {
    let verdict = verdict(dir);
    assert_eq!(verdict.flaw, None);
    assert_eq!((verdict.proven, verdict.lines), (verdict.last, verdict.last));
}

/// Reads the log: each number once, and nothing that was not acknowledged.
#[track_caller]
fn assert_read(dir: &Path, told: &[&str]) {
    let records = read(&JournalSettings::in_folder(dir).dir, &Filter::default()).unwrap();
    let records: Vec<_> = records.map(Result::unwrap).collect();
    assert!(
        (1..).zip(&records).all(|(number, record)| record.seq == number),
        "{records:#?}"
    );
    let found: Vec<_> = records
        .iter()
        .filter_map(|record| match &record.event {
            Event::Reloaded(reloaded) => Some(reloaded.detail.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(found, told);
}

#[test]
fn what_cannot_be_taken_back_is_no_part_of_the_log() {
    let ends: [fn(&[u8]) -> usize; 5] = [
        |_| 0,
        |_| 7,
        |out| out.iter().position(|byte| *byte == b'\n').unwrap() + 1,
        |out| out.len() - 1,
        <[u8]>::len,
    ];
    for (left, end) in ends.into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = open(dir.path());
        writer.put_down("one");
        writer.fail(end);
        writer.put_down("two");
        assert_eq!(writer.segment, 2);
        assert_proven(dir.path());
        let said = verdict(dir.path())
            .remarks
            .iter()
            .any(|remark| remark.contains("not part of the log"));
        assert_eq!(said, left > 0);
        assert_read(dir.path(), &["one", "two"]);
        writer.put_down("three");
        drop(writer);
        open(dir.path()).put_down("four");
        assert_proven(dir.path());
        assert_read(dir.path(), &["one", "two", "three", "four"]);
        // Packed it is the same.
        let first = segment::list(&JournalSettings::in_folder(dir.path()).dir).unwrap().remove(0);
        crate::audit::compactor::pack(&first).unwrap();
        assert_proven(dir.path());
        assert_read(dir.path(), &["one", "two", "three", "four"]);
    }
}

/// The next segment cannot be begun either: all of it is void, and what is behind the one before, too.
#[test]
fn a_segment_without_its_first_line_does_not_count() {
    let ends: [fn(&[u8]) -> usize; 3] = [|_| 0, |_| 9, <[u8]>::len];
    for end in ends {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = open(dir.path());
        writer.put_down("one");
        writer.fail(|out| out.len() - 1);
        writer.make_ready(time(1)).unwrap();
        writer.fail(end);
        writer.put_down("two");
        assert_eq!(writer.segment, 3);
        assert_proven(dir.path());
        assert_read(dir.path(), &["one", "two"]);
    }
}

/// A gate that dies before it could say so: the next start does.
#[test]
fn what_is_left_is_said_by_the_next_start_where_the_gate_died() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open(dir.path());
    writer.put_down("one");
    writer.fail(|_| 9);
    writer.make_ready(time(1)).unwrap();
    drop(writer);
    open(dir.path()).put_down("two");
    assert_proven(dir.path());
    assert_read(dir.path(), &["one", "two"]);
}

/// Only what is behind the last line that was acknowledged is void.
#[test]
fn what_was_acknowledged_stays_proven() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open(dir.path());
    writer.put_down("one");
    let first = writer.path.clone();
    let acknowledged = usize::try_from(writer.length).unwrap();
    writer.fail(<[u8]>::len);
    writer.put_down("two");
    let text = std::fs::read(&first).unwrap();
    for at in (0..acknowledged).step_by(31) {
        let mut bad = text.clone();
        bad[at] ^= 1;
        std::fs::write(&first, bad).unwrap();
        assert!(verdict(dir.path()).flaw.is_some(), "byte {at}");
    }
    let lines: Vec<_> = text.split_inclusive(|byte| *byte == b'\n').collect();
    let last = text[..acknowledged].split_inclusive(|byte| *byte == b'\n').count();
    std::fs::write(&first, [&lines[..last - 1], &lines[last..]].concat().concat()).unwrap();
    assert!(verdict(dir.path()).flaw.is_some());
    std::fs::write(&first, lines[..last - 1].concat()).unwrap();
    assert!(verdict(dir.path()).flaw.is_some());
    // A line that somebody puts there is not shown as one of the log.
    let forged = String::from_utf8(lines[1].to_vec()).unwrap().replace("one", "forged");
    std::fs::write(&first, [&text, forged.replace("\"seq\":2", "\"seq\":9").as_bytes()].concat()).unwrap();
    assert_proven(dir.path());
    assert_read(dir.path(), &["one", "two"]);
}

/// What a gate does next, after so many tenths of a second, with a line that is so many tenths of a second old.
#[derive(Debug, Clone)]
struct Deed {
    after: i64,
    age: i64,
    sign: bool,
    /// The segment cannot be written any more; or the gate dies and is started again.
    fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Good,
    Abandoned,
    Restarted,
}

fn deed() -> impl Strategy<Value = Deed> {
    let tenths = || prop_oneof![0..30_i64, Just(36_000), Just(0)];
    let fate = prop_oneof![
        6 => Just(Fate::Good),
        1 => Just(Fate::Abandoned),
        1 => Just(Fate::Restarted),
    ];
    (tenths(), tenths(), prop::bool::weighted(0.2), fate).prop_map(|(after, age, sign, fate)| Deed { after, age, sign, fate })
}

#[track_caller]
fn assert_not_flawed(dir: &Path) {
    let settings = JournalSettings::in_folder(dir);
    // The checkpoint beside it is written after the line: a gate that dies in between has not.
    let expected = VerifyExpectation {
        from_start: true,
        ..VerifyExpectation::default()
    };
    let segments = segment::list(&settings.dir).unwrap();
    assert_eq!(verify(&segments, &expected, |_| ()).unwrap().flaw, None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// However long it hangs, sleeps or waits between its writes, however old what it tells, and wherever it is killed.
    #[test]
    fn what_a_gate_leaves_unsigned_is_never_taken_for_forged(deeds in prop::collection::vec(deed(), 1..14)) {
        let dir = tempfile::tempdir().unwrap();
        let settings = JournalSettings { segment_bytes: 3000, ..JournalSettings::in_folder(dir.path()) };
        let mut now = time(0);
        let mut writer = SegmentWriter::open(&settings, &RememberedTip::NotAsked, now, &mut LineBuffer::default()).unwrap();
        for deed in deeds {
            now += SignedDuration::from_millis(100 * deed.after);
            match deed.fate {
                Fate::Good => {}
                Fate::Abandoned => writer.state = FileState::Abandoned,
                Fate::Restarted => {
                    drop(writer);
                    writer = SegmentWriter::open(&settings, &RememberedTip::NotAsked, now, &mut LineBuffer::default()).unwrap();
                }
            }
            let mut lines = LineBuffer::default();
            for detail in ["one", "two"] {
                let event = Event::Reloaded(Reloaded { accepted: true, detail: detail.to_owned() });
                lines.push(now - SignedDuration::from_millis(100 * deed.age), &event).unwrap();
            }
            let before = (writer.path.clone(), writer.length);
            writer.write(&[&lines], deed.sign, now).unwrap();
            assert_not_flawed(dir.path());
            // Killed while it wrote: the file has the beginning of it. A file's first page is written whole.
            let whole = std::fs::read(&writer.path).unwrap();
            let had = if before.0 == writer.path { usize::try_from(before.1).unwrap() } else { whole.len() };
            let ends = whole.iter().enumerate().skip(had).filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
            for end in ends.collect::<Vec<_>>() {
                std::fs::write(&writer.path, &whole[..end]).unwrap();
                if had > 0 {
                    assert_not_flawed(dir.path());
                }
            }
            std::fs::write(&writer.path, &whole).unwrap();
        }
    }
}
