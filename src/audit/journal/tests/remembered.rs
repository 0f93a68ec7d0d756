//! A start holds the log against what the ledger remembers of its end, and what is missing is the first thing on record.

use super::*;
use crate::audit::event::JournalFault;
use crate::audit::saved_checkpoint::{CHECKPOINT_FILE, RememberedTip, SavedCheckpoint};
use crate::audit::verify::{LogFlaw, VerifyExpectation, VerifyReport, verify_folder};

/// A log of several segments, and its last checkpoint, as the ledger has it.
async fn log(dir: &Path) -> (JournalSettings, RememberedTip) {
    let settings = JournalSettings {
        segment_bytes: 1500,
        ..settings(dir)
    };
    let journal = Journal::open(&settings, clock()).unwrap();
    for line in 0..40 {
        journal.record(&note(format!("line {line}"))).await.unwrap();
    }
    journal.close().await;
    assert!(segment::list(&settings.dir).unwrap().len() >= 5);
    let kept = SavedCheckpoint::beside(&settings.dir).unwrap().unwrap();
    (settings, RememberedTip::At(kept))
}

/// The next start, and what its first record of this run is about.
async fn start(settings: &JournalSettings, remembered: &RememberedTip) -> Option<(JournalFault, String)> {
    let all = || {
        let files = segment::list(&settings.dir).unwrap_or_default();
        files.iter().flat_map(|segment| records(&segment.path)).collect::<Vec<_>>()
    };
    // From the files: the journal may write before it can be asked.
    let before = all().last().map_or(0, |(seq, _)| *seq);
    let journal = Journal::open_remembered(settings, remembered, clock()).unwrap();
    let gap = journal.gap().map(str::to_owned);
    journal.record(&note("on")).await.unwrap();
    journal.close().await;
    let first = all()
        .into_iter()
        .find(|(seq, _)| *seq > before)
        .map(|(_, event)| event)
        .unwrap();
    match first {
        Event::JournalHealed(healed) => {
            let detail = healed.detail.unwrap();
            assert_eq!(gap, Some(format!("{}: {detail}", healed.fault.words())));
            Some((healed.fault, detail))
        }
        other => {
            assert_eq!((other, gap), (note("on"), None));
            None
        }
    }
}

fn verdict(settings: &JournalSettings, ledger: Option<&RememberedTip>) -> VerifyReport {
    let expected = VerifyExpectation {
        ledger: ledger.and_then(RememberedTip::kept).cloned(),
        from_start: true,
        ..VerifyExpectation::default()
    };
    verify_folder(&settings.dir, &expected, |_| ()).unwrap()
}

/// All but the first segment are taken away, and the checkpoint beside them is the one from then.
fn rewind(settings: &JournalSettings) {
    let segments = segment::list(&settings.dir).unwrap();
    let (first, rest) = segments.split_first().unwrap();
    for segment in rest {
        std::fs::remove_file(&segment.path).unwrap();
    }
    let text = std::fs::read_to_string(&first.path).unwrap();
    let last = text.lines().rfind(|line| line.contains(r#""event":"checkpoint""#)).unwrap();
    std::fs::write(settings.dir.join(CHECKPOINT_FILE), last).unwrap();
}

#[tokio::test]
async fn a_first_start_and_one_that_finds_everything_say_nothing() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(start(&settings(dir.path()), &RememberedTip::NoLedger).await, None);
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(start(&settings(dir.path()), &RememberedTip::None).await, None);
    let dir = tempfile::tempdir().unwrap();
    let (settings, remembered) = log(dir.path()).await;
    assert_eq!(start(&settings, &remembered).await, None);
    // A ledger that could not be written for a while knows of a line in a segment long closed.
    assert_eq!(start(&settings, &remembered).await, None);
    assert!(verdict(&settings, Some(&remembered)).is_whole());
}

#[tokio::test]
async fn segments_that_are_gone_with_the_checkpoint_rewound_are_missed_by_the_ledger() {
    let dir = tempfile::tempdir().unwrap();
    let (settings, remembered) = log(dir.path()).await;
    rewind(&settings);
    // What is left looks whole by itself.
    assert!(verdict(&settings, None).is_whole());
    let flaw = verdict(&settings, Some(&remembered)).flaw;
    assert!(
        matches!(&flaw, Some(flaw @ LogFlaw::Truncated { .. }) if flaw.to_string().contains("the ledger covers line")),
        "{flaw:?}"
    );
    let (fault, detail) = start(&settings, &remembered).await.expect("it is on record");
    assert_eq!(fault, JournalFault::LinesMissing);
    assert!(detail.contains("the ledger covers"), "{detail}");
    // For ever, and also for who has no ledger; until it is accepted.
    let found = verdict(&settings, None);
    let Some(LogFlaw::Gap {
        fault: JournalFault::LinesMissing,
        ..
    }) = found.flaw
    else {
        panic!("{found:?}");
    };
    let mut accepted = VerifyExpectation {
        kept: SavedCheckpoint::beside(&settings.dir).unwrap(),
        skip: true,
        from_start: true,
        ..VerifyExpectation::default()
    };
    // A gate that goes on from its own checkpoint has not accepted what is missing before it.
    let found = verify_folder(&settings.dir, &accepted, |_| ()).unwrap();
    assert!(matches!(found.flaw, Some(LogFlaw::Gap { .. })), "{found:?}");
    accepted.gaps_known = true;
    assert!(verify_folder(&settings.dir, &accepted, |_| ()).unwrap().is_whole());
}

#[tokio::test]
async fn a_log_that_is_gone_is_missed() {
    let dir = tempfile::tempdir().unwrap();
    let (settings, remembered) = log(dir.path()).await;
    std::fs::remove_dir_all(&settings.dir).unwrap();
    let (fault, detail) = start(&settings, &remembered).await.expect("it is on record");
    assert_eq!(fault, JournalFault::LogMissing);
    let known = &remembered.kept().unwrap().checkpoint;
    assert!(
        detail.contains(&known.log.to_string()) && detail.contains(&known.covers.to_string()),
        "{detail}"
    );
    assert!(matches!(verdict(&settings, None).flaw, Some(LogFlaw::Gap { .. })));
    assert!(matches!(
        verdict(&settings, Some(&remembered)).flaw,
        Some(LogFlaw::Diverged { .. })
    ));
}

#[tokio::test]
async fn another_log_in_its_place_is_noticed() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (settings, _) = log(dir.path()).await;
    let (_, remembered) = log(other.path()).await;
    assert_eq!(start(&settings, &remembered).await.unwrap().0, JournalFault::LogReplaced);
}

/// By somebody who has the key: each line follows the one before, and is signed.
#[tokio::test]
async fn a_log_that_was_written_anew_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let (settings, remembered) = log(dir.path()).await;
    let RememberedTip::At(mut kept) = remembered else {
        panic!("a checkpoint")
    };
    // As if another line had stood there, in a segment long closed and in the newest.
    let newest = kept.checkpoint.covers;
    for covers in [newest, 5] {
        kept.checkpoint.covers = covers;
        kept.checkpoint.link = crate::audit::chain::ChainLink::START.after(b"another");
        let found = recover(&settings.dir, &RememberedTip::At(kept.clone())).unwrap();
        assert!(
            matches!(found.faults.as_slice(), [fault] if fault.fault == JournalFault::LogRewritten),
            "{covers}: {:?}",
            found.faults
        );
    }
}

#[tokio::test]
async fn a_ledger_that_is_gone_is_missed_where_there_is_a_log() {
    let dir = tempfile::tempdir().unwrap();
    let (settings, _) = log(dir.path()).await;
    for lost in [RememberedTip::NoLedger, RememberedTip::Damaged] {
        assert_eq!(start(&settings, &lost).await.unwrap().0, JournalFault::LedgerMissing);
    }
    assert!(matches!(
        verdict(&settings, None).flaw,
        Some(LogFlaw::Gap {
            fault: JournalFault::LedgerMissing,
            ..
        })
    ));
}

#[tokio::test]
async fn the_checkpoint_beside_the_log_is_for_its_owner_only_whatever_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    let mode = |name: &str| std::fs::metadata(settings.dir.join(name)).unwrap().permissions().mode() & 0o777;
    let journal = Journal::open(&settings, clock()).unwrap();
    // What a gate has left that was killed in between.
    std::fs::write(settings.dir.join("checkpoint.next"), "x").unwrap();
    std::fs::set_permissions(settings.dir.join("checkpoint.next"), std::fs::Permissions::from_mode(0o666)).unwrap();
    journal.record(&note("one")).await.unwrap();
    journal.close().await;
    assert_eq!((mode(CHECKPOINT_FILE), mode("audit-000001.jsonl")), (0o600, 0o600));
}
