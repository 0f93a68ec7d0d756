use std::borrow::Cow;
use std::sync::OnceLock;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::flaw::{ExcessKind, SignatureHint};
use super::*;
use crate::audit::chain::{ChainBreach, ChainTip};
use crate::audit::checkpoint::Checkpoint;
use crate::audit::encode::LineBuffer;
use crate::audit::event::{Event, JournalFault, JournalHealed, KeyChanged, Reloaded, SegmentBegan, SegmentsRemoved};
use crate::audit::key::SigningKey;
use crate::audit::{Journal, JournalSettings, LogRecord};
use crate::base::clock::Clock;

/// A log as it is on the disk: its segments as lines, the checkpoint beside it, its key.
#[derive(Clone)]
struct Log {
    segments: Vec<Vec<Vec<u8>>>,
    kept: SavedCheckpoint,
    key: PublicKey,
}

fn settings(dir: &Path) -> JournalSettings {
    JournalSettings {
        segment_bytes: 1500,
        ..JournalSettings::in_folder(dir)
    }
}

/// Some lines in a few segments, by two runs of a gate.
fn write(dir: &Path) -> Log {
    let settings = settings(dir);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        for run in 0..2 {
            let journal = Journal::open(&settings, Clock::system(None)).unwrap();
            for line in 0..12 {
                let detail = format!("run {run}, line {line}");
                journal
                    .record(&Event::Reloaded(Reloaded { accepted: true, detail }))
                    .await
                    .unwrap();
            }
            journal.close().await;
        }
    });
    let segments = segment::list(&settings.dir).unwrap();
    let lines = |segment: &Segment| {
        let text = std::fs::read(&segment.path).unwrap();
        text.strip_suffix(b"\n")
            .unwrap()
            .split(|byte| *byte == b'\n')
            .map(<[u8]>::to_vec)
            .collect()
    };
    Log {
        segments: segments.iter().map(lines).collect(),
        kept: SavedCheckpoint::beside(&settings.dir).unwrap().unwrap(),
        key: SigningKey::load(&settings.key).unwrap().public(),
    }
}

fn log() -> Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    LOG.get_or_init(|| write(tempfile::tempdir().unwrap().path())).clone()
}

impl Log {
    fn verdict(&self) -> VerifyReport {
        self.held_against(&VerifyExpectation {
            key: Some(self.key),
            kept: None,
            ledger: None,
            beside: None,
            skip: false,
            gaps_known: false,
            from_start: true,
        })
    }

    /// Also against the checkpoint beside it, as a folder is.
    fn held_against(&self, expected: &VerifyExpectation) -> VerifyReport {
        let dir = tempfile::tempdir().unwrap();
        for (number, lines) in (1..).zip(&self.segments) {
            let text: Vec<u8> = lines.iter().flat_map(|line| [line.as_slice(), b"\n"].concat()).collect();
            std::fs::write(dir.path().join(segment::name(number)), text).unwrap();
        }
        verify_folder(dir.path(), expected, |_| ()).unwrap()
    }

    fn flaw(&self) -> Option<LogFlaw> {
        self.verdict().flaw
    }

    fn whole(&self) -> VerifyExpectation {
        VerifyExpectation {
            key: Some(self.key),
            kept: Some(self.kept.clone()),
            ledger: None,
            beside: None,
            skip: false,
            gaps_known: false,
            from_start: true,
        }
    }
}

#[test]
fn a_log_as_it_was_written_is_whole_and_proven_to_its_end() {
    let log = log();
    assert!(log.segments.len() >= 3);
    let verdict = log.verdict();
    assert_eq!(verdict.flaw, None);
    let lines = log.segments.iter().map(Vec::len).sum::<usize>() as u64;
    assert_eq!(
        (verdict.first, verdict.lines, verdict.last, verdict.proven),
        (1, lines, lines, lines)
    );
    assert_eq!(verdict.keys, [log.key.id()]);
    assert!(verdict.remarks.is_empty(), "{:?}", verdict.remarks);
    // Without a key it is said that this proves less.
    let unkeyed = log.held_against(&VerifyExpectation::default());
    assert!(unkeyed.is_whole() && unkeyed.remarks.len() == 1);
}

#[test]
fn the_first_bad_line_is_named() {
    let changed = {
        let mut log = log();
        let text = String::from_utf8(log.segments[1][2].clone()).unwrap();
        log.segments[1][2] = text.replace("line", "lime").into_bytes();
        log
    };
    let Some(LogFlaw::Line {
        file,
        line: 3,
        breach: ChainBreach::Changed,
        ..
    }) = changed.flaw()
    else {
        panic!("{:?}", changed.flaw());
    };
    assert!(file.ends_with("audit-000002.jsonl"));
    let mut dropped = log();
    dropped.segments[0].remove(4);
    assert!(matches!(
        dropped.flaw(),
        Some(LogFlaw::Line {
            line: 5,
            breach: ChainBreach::Number { expected: 5, found: 6 },
            ..
        })
    ));
    let mut swapped = log();
    swapped.segments[0].swap(3, 5);
    assert!(matches!(swapped.flaw(), Some(LogFlaw::Line { line: 4, .. })));
}

#[test]
fn segments_that_are_missing_or_from_elsewhere_are_named() {
    let log = log();
    let dir = tempfile::tempdir().unwrap();
    let place = |number| dir.path().join(segment::name(number));
    let put = |number, lines: &[Vec<u8>]| std::fs::write(place(number), lines.join(&b'\n')).unwrap();
    let verdict = || verify_folder(dir.path(), &log.whole(), |_| ()).unwrap().flaw;
    let text = |lines: &[Vec<u8>]| [lines.join(&b'\n'), b"\n".to_vec()].concat();
    for (number, lines) in (1..).zip(&log.segments) {
        std::fs::write(place(number), text(lines)).unwrap();
    }
    assert_eq!(verdict(), None);
    std::fs::remove_file(place(2)).unwrap();
    assert_eq!(verdict(), Some(LogFlaw::Missing { first: 2, last: 2 }));
    let other = write(tempfile::tempdir().unwrap().path());
    std::fs::write(place(2), text(&other.segments[1])).unwrap();
    assert!(matches!(verdict(), Some(LogFlaw::Follows { other: Some(_), .. })));
    // Half of a segment in the middle of the log.
    put(2, &log.segments[1]);
    assert!(matches!(
        verdict(),
        Some(LogFlaw::Unfinished { .. } | LogFlaw::Follows { .. })
    ));
    std::fs::write(place(2), text(&log.segments[1])).unwrap();
    std::fs::remove_file(place(1)).unwrap();
    assert_eq!(verdict(), Some(LogFlaw::Missing { first: 1, last: 1 }));
    std::fs::write(place(1), "").unwrap();
    assert!(verdict().is_some());
}

impl Log {
    /// Some runs of a gate; behind each an empty segment is left, as by one that dies before the first line of it.
    fn with_empty(dir: &Path, runs: usize, empty: &[u32]) -> VerifyReport {
        let settings = settings(dir);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for run in 0..runs {
            runtime.block_on(async {
                let journal = Journal::open(&settings, Clock::system(None)).unwrap();
                let detail = format!("run {run}");
                journal
                    .record(&Event::Reloaded(Reloaded { accepted: true, detail }))
                    .await
                    .unwrap();
                journal.close().await;
            });
            if let Some(number) = empty.get(run) {
                std::fs::write(settings.dir.join(segment::name(*number)), "").unwrap();
            }
        }
        let expected = VerifyExpectation {
            key: Some(SigningKey::load(&settings.key).unwrap().public()),
            from_start: true,
            ..VerifyExpectation::default()
        };
        verify_folder(&settings.dir, &expected, |_| ()).unwrap()
    }
}

#[test]
fn an_empty_newest_segment_takes_nothing_away() {
    let verdict = Log::with_empty(tempfile::tempdir().unwrap().path(), 1, &[2]);
    assert_eq!((verdict.flaw, verdict.segments), (None, 2));
    assert!(verdict.last > 0 && verdict.proven == verdict.last);
    // A gate goes on in it.
    let dir = tempfile::tempdir().unwrap();
    let verdict = Log::with_empty(dir.path(), 2, &[2]);
    assert_eq!((verdict.flaw, verdict.segments), (None, 2));
    assert!(
        std::fs::metadata(settings(dir.path()).dir.join(segment::name(2)))
            .unwrap()
            .len()
            > 0
    );
}

#[test]
fn an_empty_segment_between_others_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    // The second run goes on in the empty one, with number 3: 2 is not there.
    let verdict = Log::with_empty(dir.path(), 2, &[3]);
    assert_eq!(verdict.flaw, Some(LogFlaw::Missing { first: 2, last: 2 }));
    let place = |number| settings(dir.path()).dir.join(segment::name(number));
    std::fs::write(place(2), "").unwrap();
    let verdict = || {
        verify_folder(
            &settings(dir.path()).dir,
            &VerifyExpectation {
                from_start: true,
                ..VerifyExpectation::default()
            },
            |_| (),
        )
        .unwrap()
    };
    assert_eq!((verdict().flaw, verdict().segments), (None, 3));
    // What was in a segment that somebody emptied is missed.
    let third = std::fs::read(place(3)).unwrap();
    let first = std::fs::read(place(1)).unwrap();
    std::fs::write(place(1), "").unwrap();
    assert!(
        matches!(verdict().flaw, Some(LogFlaw::Follows { .. })),
        "{:?}",
        verdict().flaw
    );
    std::fs::write(place(1), &first).unwrap();
    std::fs::remove_file(place(2)).unwrap();
    assert_eq!(verdict().flaw, Some(LogFlaw::Missing { first: 2, last: 2 }));
    // One that is put in the first one's place is not the first.
    std::fs::remove_file(place(3)).unwrap();
    std::fs::write(place(1), &third).unwrap();
    assert!(
        matches!(verdict().flaw, Some(LogFlaw::Follows { .. })),
        "{:?}",
        verdict().flaw
    );
}

#[test]
fn what_was_cut_off_the_end_shows_against_a_checkpoint() {
    let mut log = log();
    let last = log.segments.len() - 1;
    log.segments[last].pop();
    assert!(matches!(log.held_against(&log.whole()).flaw, Some(LogFlaw::Diverged { .. })));
    // Its own checkpoint before that still proves what it covers.
    let verdict = log.verdict();
    assert!(verdict.is_whole() && verdict.proven < verdict.last, "{verdict:?}");
    assert!(verdict.remarks.iter().any(|remark| remark.contains("not signed yet")));
    log.segments[last].pop();
    let flaw = log.held_against(&log.whole()).flaw;
    assert!(matches!(flaw, Some(LogFlaw::Truncated { .. })), "{flaw:?}");
}

#[test]
fn a_wrong_key_is_named() {
    let log = log();
    let dir = tempfile::tempdir().unwrap();
    let other = SigningKey::load_or_make(&dir.path().join("key.pem")).unwrap().public();
    let verdict = log.held_against(&VerifyExpectation {
        key: Some(other),
        ..VerifyExpectation::default()
    });
    assert_eq!(
        verdict.flaw,
        Some(LogFlaw::WrongKey {
            expected: other.id(),
            found: vec![log.key.id()]
        })
    );
    assert_eq!(verdict.proven, 0);
}

/// Somebody who can write the folder but has not the key writes all of it anew.
#[test]
fn a_log_written_anew_with_another_key_is_not_taken_for_the_old_one() {
    let (old, new) = (log(), write(tempfile::tempdir().unwrap().path()));
    assert!(matches!(new.held_against(&old.whole()).flaw, Some(LogFlaw::WrongKey { .. })));
    let without_key = VerifyExpectation {
        key: None,
        ..old.whole()
    };
    assert!(matches!(
        new.held_against(&without_key).flaw,
        Some(LogFlaw::Diverged { .. } | LogFlaw::Truncated { .. })
    ));
}

#[test]
fn a_checkpoint_kept_elsewhere_spares_what_is_before_it() {
    let log = log();
    let dir = tempfile::tempdir().unwrap();
    for (number, lines) in (1..).zip(&log.segments) {
        let text = [lines.join(&b'\n'), b"\n".to_vec()].concat();
        std::fs::write(dir.path().join(segment::name(number)), text).unwrap();
    }
    let expected = VerifyExpectation {
        skip: true,
        ..log.whole()
    };
    let verdict = verify_folder(dir.path(), &expected, |_| ()).unwrap();
    assert_eq!(verdict.segments, 1);
    assert!(verdict.is_whole() && verdict.first > 1);
    // A ledger that was told of the log a while ago covers lines that are spared: it says nothing then, and is not named.
    let early = log.segments[0]
        .iter()
        .find_map(|line| SavedCheckpoint::parse(line).ok())
        .unwrap();
    let expected = VerifyExpectation {
        ledger: Some(early),
        ..expected
    };
    let verdict = verify_folder(dir.path(), &expected, |_| ()).unwrap();
    assert_eq!(verdict.flaw, None);
    let sources: Vec<_> = verdict.held_against.iter().map(|held| held.source).collect();
    assert_eq!(sources, [CheckpointSource::Given]);
    // All of it is held against the ledger, too.
    let all = VerifyExpectation { skip: false, ..expected };
    let verdict = verify_folder(dir.path(), &all, |_| ()).unwrap();
    assert_eq!((verdict.flaw, verdict.held_against.len()), (None, 2));
}

mod forged;

/// Prints how fast a log of `TIDEGATE_LOG_MB` (1000) megabytes is proven, as it is written and packed; run in release.
#[tokio::test]
#[ignore = "a measurement, not a test"]
#[expect(clippy::disallowed_methods, reason = "measures real time")]
async fn measure() {
    use crate::audit::testing::{outcome, statement, who};
    use crate::audit::{RecordBatch, compactor};
    let wanted: u64 = std::env::var("TIDEGATE_LOG_MB").map_or(1000, |megabytes| megabytes.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let settings = JournalSettings::in_folder(dir.path());
    let (clock, ana) = (Clock::system(None), who(1, "ana@example.com"));
    let journal = Journal::open(&settings, clock.clone()).unwrap();
    let mut batch = RecordBatch::new();
    let mut number = 0;
    while journal.written().bytes < wanted * 1_000_000 {
        for _ in 0..100 {
            number += 1;
            let sql = format!(
                "SELECT * FROM customers WHERE email = 'c{number}@example.com' AND region = {}",
                number % 7
            );
            batch.push(clock.now(), &statement(&ana, number, &sql, &[]));
            batch.push(clock.now(), &outcome(&ana, number, None));
        }
        journal.submit(&mut batch).wait().await.unwrap();
    }
    journal.close().await;
    let expected = VerifyExpectation {
        key: Some(SigningKey::load(&settings.key).unwrap().public()),
        from_start: true,
        ..VerifyExpectation::default()
    };
    let prove = |how: &str| {
        for _ in 0..3 {
            let start = std::time::Instant::now();
            let verdict = verify_folder(&settings.dir, &expected, |_| ()).unwrap();
            let seconds = start.elapsed().as_secs_f64();
            assert!(verdict.is_whole());
            let megabytes = std::time::Duration::from_micros(verdict.bytes).as_secs_f64();
            println!(
                "{how}: {} lines, {megabytes:.0} MB in {} segments: {seconds:.2} s, {:.0} MB/s",
                verdict.lines,
                verdict.segments,
                megabytes / seconds
            );
        }
    };
    prove("as written");
    let files: Vec<_> = segment::list(&settings.dir)
        .unwrap()
        .into_iter()
        .map(|segment| segment.path)
        .collect();
    let start = std::time::Instant::now();
    let sums = std::process::Command::new("sha256sum").args(&files).output().unwrap();
    assert!(sums.status.success());
    println!(
        "sha256sum of the same files, one thread: {:.2} s",
        start.elapsed().as_secs_f64()
    );
    for segment in segment::list(&settings.dir).unwrap() {
        compactor::pack(&segment).unwrap();
    }
    prove("packed");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn nothing_is_changed_anywhere_unseen(
        segment in any::<prop::sample::Index>(),
        line in any::<prop::sample::Index>(),
        other in any::<prop::sample::Index>(),
        how in 0..5,
    ) {
        let good = log();
        let mut bad = good.clone();
        let segment = segment.index(bad.segments.len());
        let lines = &mut bad.segments[segment];
        let at = line.index(lines.len());
        match how {
            0 => {
                let bit = other.index(lines[at].len() * 8);
                lines[at][bit / 8] ^= 1 << (bit % 8);
            }
            1 => drop(lines.remove(at)),
            2 => lines.insert(other.index(lines.len() + 1), lines[at].clone()),
            3 => {
                let other = other.index(lines.len());
                lines.swap(at, other);
            }
            _ => lines.truncate(at),
        }
        let changed = bad.segments != good.segments;
        let verdict = bad.held_against(&bad.whole());
        prop_assert_eq!(!changed, verdict.is_whole(), "{:?}", verdict);
    }
}
