mod remembered;
mod rotation;

use std::borrow::Cow;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use super::*;
use crate::audit::chain::ChainTip;
use crate::audit::event::{OutsideText, Reloaded, SqlText, Statement, StatementKind, Who};
use crate::audit::key::SigningKey;
use crate::audit::recovery::recover;
use crate::audit::segment;
use crate::audit::{Durability, LogRecord};
use crate::model::ids::{GrantId, SessionId};

fn clock() -> Clock {
    Clock::manual(Timestamp::from_second(1_800_000_000).unwrap())
}

fn settings(dir: &Path) -> JournalSettings {
    JournalSettings::in_folder(dir)
}

fn note(detail: impl Into<String>) -> Event<'static> {
    Event::Reloaded(Reloaded {
        accepted: true,
        detail: detail.into(),
    })
}

fn batch(detail: impl Into<String>) -> RecordBatch {
    let mut batch = RecordBatch::new();
    batch.push(clock().now(), &note(detail));
    batch
}

fn first_file(settings: &JournalSettings) -> PathBuf {
    settings.dir.join("audit-000001.jsonl")
}

/// All records of a file but those that frame it: number and event. Fails on a line that is not whole.
fn records(path: &Path) -> Vec<(u64, Event<'static>)> {
    let mut records = lines(path);
    records.retain(|(_, event)| !matches!(event, Event::SegmentBegan(_) | Event::Checkpoint(_)));
    records
}

/// All records of a file.
fn lines(path: &Path) -> Vec<(u64, Event<'static>)> {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "unfinished line");
    text.lines()
        .map(|line| {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            (value["seq"].as_u64().unwrap(), serde_json::from_str(line).unwrap())
        })
        .collect()
}

/// All lines of the folder follow each other, and the last is signed.
fn assert_whole(settings: &JournalSettings) {
    let found = recover(&settings.dir, &RememberedTip::NotAsked).unwrap();
    assert!(!found.broken && found.faults.is_empty(), "{:?}", found.faults);
    let key = SigningKey::load(&settings.key).unwrap().public();
    let mut tip = ChainTip::START;
    for segment in segment::list(&settings.dir).unwrap() {
        let mut last = None;
        for line in std::io::BufRead::lines(segment.open().unwrap()) {
            let line = line.unwrap();
            let record = LogRecord::parse(line.as_bytes()).unwrap();
            match &record.event {
                Event::SegmentBegan(began) => assert_eq!((began.previous, began.segment), (tip.link, segment.number)),
                Event::Checkpoint(checkpoint) => {
                    assert!(checkpoint.is_genuine(record.time) && checkpoint.key == key);
                    assert_eq!(checkpoint.tip(), tip);
                }
                _ => {}
            }
            last = Some(record.event);
            tip = tip.follow(line.as_bytes()).unwrap();
        }
        assert!(matches!(last, Some(Event::Checkpoint(_))), "the end of a segment is signed");
    }
}

fn details(records: &[(u64, Event<'static>)]) -> Vec<String> {
    records
        .iter()
        .map(|(_, event)| match event {
            Event::Reloaded(reloaded) => reloaded.detail.clone(),
            Event::JournalHealed(healed) => format!("{:?}", healed.fault),
            _ => "other".to_owned(),
        })
        .collect()
}

/// Waits for something that the journal's thread does.
fn eventually(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..500 {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{what} did not come about");
}

/// A file system of 64 KiB; `None` where the tests may not mount one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k", "none"])
            .arg(dir.path())
            .output()
            .is_ok_and(|output| output.status.success());
        if !mounted {
            eprintln!("SKIPPED: mounting a small disk needs root");
        }
        mounted.then_some(Self(dir))
    }

    fn fill(&self) -> PathBuf {
        let filler = self.0.path().join("filler");
        // Fails when the disk is full, which is the purpose.
        let _ = std::fs::write(&filler, vec![b'x'; 1 << 20]);
        filler
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn writes_before_it_answers_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    let journal = Journal::open(&settings, clock()).unwrap();
    // Nobody else writes: at once, on this thread.
    assert!(matches!(journal.submit(&mut batch("alone")), SubmissionResult::Done(Ok(()))));
    journal.defer(&mut batch("outcome"));
    let mut intent = batch("intent 1");
    intent.push(clock().now(), &note("intent 2"));
    // The journal's thread may be at the deferred one just now: then this is written in its turn.
    assert!(journal.submit(&mut intent).wait().await.is_ok());
    assert!(intent.is_empty());
    assert_eq!(
        details(&records(&first_file(&settings))),
        ["alone", "outcome", "intent 1", "intent 2"]
    );
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&settings.dir), mode(&first_file(&settings))), (0o700, 0o600));
}

#[tokio::test]
async fn deferred_records_are_written_soon_by_themselves_and_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    let journal = Journal::open(&settings, clock()).unwrap();
    journal.defer(&mut batch("soon"));
    eventually("the deferred record", || records(&first_file(&settings)).len() == 1);
    journal.defer(&mut batch("at the end"));
    journal.close().await;
    assert_eq!(details(&records(&first_file(&settings))), ["soon", "at the end"]);
    assert!(matches!(journal.record(&note("late")).await, Err(AuditError::Closed)));
    journal.close().await;
}

#[tokio::test]
async fn what_was_written_is_signed_soon_by_itself_and_once() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    let journal = Journal::open(&settings, Clock::system(None)).unwrap();
    journal.record(&note("one")).await.unwrap();
    let checkpoints = || {
        let lines = lines(&first_file(&settings));
        lines
            .iter()
            .filter(|(_, event)| matches!(event, Event::Checkpoint(_)))
            .count()
    };
    eventually("the checkpoint", || checkpoints() == 1);
    assert_whole(&settings);
    // Nothing new is there to be signed at the end.
    journal.close().await;
    assert_eq!(checkpoints(), 1);
}

/// While lines wait for their signature the thread is not deaf to those that are deferred.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "measures real time, against a generous bound")]
async fn what_is_deferred_does_not_wait_for_a_signature() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    let journal = Journal::open(&settings, Clock::system(None)).unwrap();
    let mut quickest = Duration::MAX;
    for number in 0..20 {
        let known = records(&first_file(&settings)).len();
        journal.record(&note(format!("intent {number}"))).await.unwrap();
        // The thread goes to rest.
        std::thread::sleep(Duration::from_millis(30));
        let begun = std::time::Instant::now();
        journal.defer(&mut batch(format!("outcome {number}")));
        eventually("the outcome", || records(&first_file(&settings)).len() == known + 2);
        quickest = quickest.min(begun.elapsed());
    }
    assert!(quickest < Duration::from_millis(200), "{quickest:?}");
}

#[tokio::test]
async fn a_segment_is_closed_when_it_is_full_or_old() {
    let dir = tempfile::tempdir().unwrap();
    let settings = JournalSettings {
        segment_bytes: 1500,
        segment_age: Duration::from_hours(1),
        ..settings(dir.path())
    };
    let clock = clock();
    let count = || segment::list(&settings.dir).unwrap().len();
    let journal = Journal::open(&settings, clock.clone()).unwrap();
    for line in 0..40 {
        journal.record(&note(format!("line {line}"))).await.unwrap();
    }
    journal.close().await;
    let full = count();
    assert!(full > 2, "{full}");
    // Its age goes on over a restart.
    let journal = Journal::open(&settings, Clock::manual(clock.now() + jiff::SignedDuration::from_mins(61))).unwrap();
    assert_eq!(count(), full);
    journal.record(&note("later")).await.unwrap();
    assert_eq!(count(), full + 1);
    journal.close().await;
    assert_whole(&settings);
}

#[tokio::test]
async fn a_key_that_is_lost_is_replaced_and_that_is_on_record() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    Journal::open(&settings, clock()).unwrap().record(&note("one")).await.unwrap();
    let old = SigningKey::load(&settings.key).unwrap().public();
    std::fs::remove_file(&settings.key).unwrap();
    Journal::open(&settings, clock()).unwrap().record(&note("two")).await.unwrap();
    let new = SigningKey::load(&settings.key).unwrap().public();
    let written = records(&first_file(&settings));
    let changed = written.iter().find_map(|(_, event)| match event {
        Event::KeyChanged(changed) => Some(changed.clone()),
        _ => None,
    });
    let changed = changed.expect("it is on record");
    assert_eq!((changed.previous, changed.key, changed.vouched), (old, new, false));
    assert!(recover(&settings.dir, &RememberedTip::NotAsked).unwrap().faults.is_empty());
}

#[tokio::test]
async fn lines_that_are_missing_at_the_end_are_noticed_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    let journal = Journal::open(&settings, clock()).unwrap();
    for detail in ["one", "two", "three"] {
        journal.record(&note(detail)).await.unwrap();
    }
    journal.close().await;
    let text = std::fs::read_to_string(first_file(&settings)).unwrap();
    let kept: String = text.split_inclusive('\n').take(2).collect();
    std::fs::write(first_file(&settings), kept).unwrap();
    Journal::open(&settings, clock()).unwrap().record(&note("on")).await.unwrap();
    assert_eq!(details(&records(&first_file(&settings))), ["one", "LinesMissing", "on"]);
}

#[tokio::test]
async fn much_that_is_deferred_is_written_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    let journal = Journal::open(&settings, clock()).unwrap();
    journal.defer(&mut batch("x".repeat(100_000)));
    assert_eq!(records(&first_file(&settings)).len(), 1);
}

#[tokio::test]
async fn numbering_goes_on_after_a_restart_and_a_torn_tail_is_cut_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    for detail in ["one", "two"] {
        Journal::open(&settings, clock())
            .unwrap()
            .record(&note(detail))
            .await
            .unwrap();
    }
    let whole = std::fs::read(first_file(&settings)).unwrap();
    let torn = [whole.as_slice(), br#"{"v":2,"seq":3,"time":"2026-"#].concat();
    std::fs::write(first_file(&settings), torn).unwrap();
    Journal::open(&settings, clock())
        .unwrap()
        .record(&note("three"))
        .await
        .unwrap();
    assert_whole(&settings);
    let written = records(&first_file(&settings));
    assert_eq!(details(&written), ["one", "two", "TornTail", "three"]);
    assert!(matches!(&written[2].1, Event::JournalHealed(healed) if healed.cut_bytes == 28));
}

#[tokio::test]
async fn a_tail_cut_anywhere_is_healed() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    let journal = Journal::open(&settings, clock()).unwrap();
    for detail in ["one", "two"] {
        journal.record(&note(detail)).await.unwrap();
    }
    drop(journal);
    let whole = std::fs::read(first_file(&settings)).unwrap();
    for length in 0..whole.len() {
        std::fs::write(first_file(&settings), &whole[..length]).unwrap();
        Journal::open(&settings, clock())
            .unwrap()
            .record(&note("next"))
            .await
            .unwrap();
        assert_whole(&settings);
        let written = records(&first_file(&settings));
        assert_eq!(details(&written).last().map(String::as_str), Some("next"));
    }
}

#[tokio::test]
async fn nothing_is_written_behind_a_line_of_somebody_else() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    Journal::open(&settings, clock()).unwrap().record(&note("one")).await.unwrap();
    let mut text = std::fs::read_to_string(first_file(&settings)).unwrap();
    text.push_str("scribble\n");
    std::fs::write(first_file(&settings), &text).unwrap();
    Journal::open(&settings, clock()).unwrap().record(&note("two")).await.unwrap();
    assert_eq!(std::fs::read_to_string(first_file(&settings)).unwrap(), text);
    let written = records(&settings.dir.join("audit-000002.jsonl"));
    assert_eq!(details(&written), ["ChainBroken", "two"]);
    // Behind the line of nobody, whatever number it may have had.
    assert!(written[0].0 > 4, "{written:?}");
}

#[tokio::test]
async fn a_folder_has_one_gate() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    let journal = Journal::open(&settings, clock()).unwrap();
    assert!(matches!(Journal::open(&settings, clock()), Err(AuditError::Locked { .. })));
    journal.close().await;
    assert!(Journal::open(&settings, clock()).is_ok());
}

#[tokio::test]
async fn a_place_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = Journal::open(&settings(&file), clock()).unwrap_err();
    assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
}

#[tokio::test]
async fn a_full_disk_refuses_keeps_and_recovers() {
    let Some(disk) = SmallDisk::mount() else { return };
    let settings = settings(disk.0.path());
    let journal = Journal::open(&settings, clock()).unwrap();
    let mut health = journal.health();
    journal.record(&note("before")).await.unwrap();
    let filler = disk.fill();
    // Larger than the rest of the file's last block: written in part, then taken back.
    let kept = "ran before it was known".repeat(300);
    journal.defer(&mut batch(kept.clone()));
    let error = journal.record(&note("y".repeat(9000))).await.unwrap_err();
    assert!(error.disk_full());
    assert_eq!(*health.borrow_and_update(), JournalHealth::Failed { disk_full: true });
    assert_eq!(details(&records(&first_file(&settings))), ["before"]);
    std::fs::remove_file(filler).unwrap();
    // Without anybody asking.
    tokio::time::timeout(Duration::from_secs(5), health.changed())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(*health.borrow(), JournalHealth::Good);
    journal.record(&note("after")).await.unwrap();
    journal.close().await;
    assert_whole(&settings);
    let written = records(&first_file(&settings));
    assert_eq!(details(&written), ["before", "DiskFull", kept.as_str(), "after"]);
    assert!(matches!(&written[1].1, Event::JournalHealed(healed) if healed.refused == 1));
}

#[tokio::test]
async fn a_disk_full_at_any_byte_leaves_whole_lines() {
    let Some(disk) = SmallDisk::mount() else { return };
    let settings = settings(disk.0.path());
    let journal = Journal::open(&settings, clock()).unwrap();
    // What the last checkpoint needs at the end.
    let reserve = disk.0.path().join("reserve");
    std::fs::write(&reserve, vec![b'x'; 8192]).unwrap();
    let (mut written, mut refused) = (0, 0);
    // Lines of changing length hit the end of the disk at changing places.
    for length in 0..400 {
        match journal.record(&note("z".repeat(length * 7 % 1000))).await {
            Ok(()) => written += 1,
            Err(error) => {
                assert!(error.disk_full());
                refused += 1;
            }
        }
    }
    std::fs::remove_file(reserve).unwrap();
    drop(journal);
    assert_whole(&settings);
    let records = records(&first_file(&settings));
    // Short lines may still fit after a long one did not; the notes of that are records, too.
    assert_eq!(
        details(&records).iter().filter(|detail| *detail != "DiskFull").count(),
        written
    );
    assert!(refused > 0);
}

#[tokio::test]
async fn a_deleted_folder_is_noticed_and_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    let journal = Journal::open(&settings, clock()).unwrap();
    journal.record(&note("one")).await.unwrap();
    std::fs::remove_dir_all(&settings.dir).unwrap();
    let next = settings.dir.join("audit-000002.jsonl");
    eventually("the new file", || {
        assert!(matches!(
            journal.submit(&mut batch("still here")),
            SubmissionResult::Done(Ok(())) | SubmissionResult::Waiting(_)
        ));
        journal.defer(&mut batch("still here"));
        next.exists()
    });
    journal.close().await;
    let written = records(&next);
    assert_eq!(details(&written)[0], "FileLost");
    assert!(written[0].0 > 1);
    // The new folder is locked like the first.
    let again = Journal::open(&settings, clock()).unwrap();
    assert!(matches!(Journal::open(&settings, clock()), Err(AuditError::Locked { .. })));
    drop(again);
}

/// Nothing can be written until this is done; then all is well by itself.
async fn fails_until(journal: &Journal, mended: impl FnOnce()) {
    let mut health = journal.health();
    eventually("the failure", || {
        matches!(journal.submit(&mut batch("one")), SubmissionResult::Done(Err(_)))
    });
    assert_eq!(*health.borrow_and_update(), JournalHealth::Failed { disk_full: false });
    mended();
    tokio::time::timeout(Duration::from_secs(5), health.changed())
        .await
        .unwrap()
        .unwrap();
    journal.record(&note("two")).await.unwrap();
    journal.close().await;
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_again_fails_until_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    let journal = Journal::open(&settings, clock()).unwrap();
    std::fs::remove_dir_all(&settings.dir).unwrap();
    std::fs::write(&settings.dir, "in the way").unwrap();
    fails_until(&journal, || std::fs::remove_file(&settings.dir).unwrap()).await;
    let written = records(&settings.dir.join("audit-000002.jsonl"));
    assert_eq!(details(&written).last().map(String::as_str), Some("two"));
}

/// Nobody looks for it in a place that was made anew for it.
#[tokio::test]
async fn a_folder_whose_own_place_is_gone_is_not_made_again_until_that_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("place");
    let settings = settings(&place);
    let journal = Journal::open(&settings, clock()).unwrap();
    std::fs::remove_dir_all(&place).unwrap();
    fails_until(&journal, || {
        assert!(!place.exists());
        std::fs::create_dir(&place).unwrap();
    })
    .await;
}

async fn many_writers(durability: Durability) {
    let dir = tempfile::tempdir().unwrap();
    let settings = JournalSettings {
        durability,
        ..settings(dir.path())
    };
    let journal = Journal::open(&settings, clock()).unwrap();
    let tasks: Vec<_> = (0..50)
        .map(|task| {
            let journal = journal.clone();
            tokio::spawn(async move {
                let mut batch = RecordBatch::new();
                for turn in 0..100 {
                    batch.push(clock().now(), &note(format!("{task} intent {turn:03}")));
                    journal.submit(&mut batch).wait().await.unwrap();
                    batch.push(clock().now(), &note(format!("{task} outcome {turn:03}")));
                    journal.defer(&mut batch);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    journal.close().await;
    let written = records(&first_file(&settings));
    assert_eq!(written.len(), 10_000);
    assert_whole(&settings);
    let details = details(&written);
    for task in 0..50 {
        let prefix = format!("{task} ");
        let own: Vec<_> = details.iter().filter(|detail| detail.starts_with(&prefix)).collect();
        let expected: Vec<_> = (0..100)
            .flat_map(|turn| [format!("{task} intent {turn:03}"), format!("{task} outcome {turn:03}")])
            .collect();
        assert!(own.iter().copied().eq(expected.iter()), "order of task {task}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_writers_keep_lines_whole_and_in_order() {
    many_writers(Durability::Process).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_writers_share_syncs() {
    many_writers(Durability::Power).await;
}

/// Prints what one statement costs on the hot path: encode, lock, write, and the deferred outcome; run in release.
#[tokio::test]
#[ignore = "a measurement, not a test"]
#[expect(clippy::disallowed_methods, reason = "measures real time")]
async fn measure() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(&settings(dir.path()), clock()).unwrap();
    let who = Who {
        session: SessionId::from_random([1; 10]),
        grant: GrantId::from_random([2; 10]),
        identity: "ana".parse().unwrap(),
        target: "orders".parse().unwrap(),
        profile: None,
    };
    let event = Event::Statement(Statement {
        who: Cow::Borrowed(&who),
        statement: 1,
        kind: StatementKind::Query,
        sql: Some(SqlText::whole(OutsideText::of(
            b"SELECT abalance FROM pgbench_accounts WHERE aid = 4711;",
        ))),
        prepared: None,
        portal: None,
        with_parse: false,
        text_uncertain: false,
        continued: false,
        opaque: false,
        parameters: Cow::Borrowed(&[]),
        parameter_count: None,
        function: None,
    });
    let mut batch = RecordBatch::new();
    let (now, count) = (clock().now(), 200_000);
    let start = std::time::Instant::now();
    for _ in 0..count {
        batch.push(now, &event);
        assert!(matches!(
            journal.submit(&mut batch),
            SubmissionResult::Done(Ok(())) | SubmissionResult::Waiting(_)
        ));
        batch.push(now, &event);
        journal.defer(&mut batch);
    }
    println!("one statement, intent and outcome: {} ns", start.elapsed().as_nanos() / count);
}

/// A thread that dies leaves nobody waiting, whether it or the sessions write.
#[tokio::test(flavor = "multi_thread")]
async fn without_its_thread_the_journal_is_closed() {
    for durability in [Durability::Process, Durability::Power] {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = settings(dir.path());
        settings.durability = durability;
        let journal = Journal::open(&settings, clock()).unwrap();
        journal.record(&note("the first")).await.unwrap();
        journal.break_thread();
        journal.thread_end().wait().await;
        let refused = journal.record(&note("the second")).await;
        assert!(matches!(refused, Err(AuditError::Closed)), "{refused:?}");
        assert!(journal.checkpoint().await.is_err());
        assert_eq!(*journal.health().borrow(), JournalHealth::Failed { disk_full: false });
        // A stop does not wait for it.
        journal.close().await;
        assert_eq!(records(&first_file(&settings)).len(), 1);
    }
}
