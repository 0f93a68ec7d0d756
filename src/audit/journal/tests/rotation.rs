//! Checkpoints on demand, and the change of keys, whole and interrupted anywhere.

use super::*;
use crate::audit::checkpoint::Checkpoint;
use crate::audit::key::{PublicKey, public_path};
use crate::audit::verify::{SavedCheckpoint, VerifyExpectation, VerifyReport, verify_folder};

fn next(settings: &JournalSettings) -> PathBuf {
    settings.key.with_extension("pem.next")
}

fn key(settings: &JournalSettings) -> PublicKey {
    SigningKey::load(&settings.key).unwrap().public()
}

fn published(settings: &JournalSettings) -> PublicKey {
    std::fs::read_to_string(public_path(&settings.key)).unwrap().parse().unwrap()
}

/// The verdict with this key pinned.
fn pinned(settings: &JournalSettings, key: PublicKey) -> VerifyReport {
    let expected = VerifyExpectation {
        key: Some(key),
        from_start: true,
        ..VerifyExpectation::default()
    };
    verify_folder(&settings.dir, &expected, |_| ()).unwrap()
}

#[track_caller]
fn assert_proven(settings: &JournalSettings, key: PublicKey) {
    let verdict = pinned(settings, key);
    assert!(verdict.is_whole(), "{:?}", verdict.flaw);
    assert_eq!(verdict.proven, verdict.last);
}

#[tokio::test]
async fn a_checkpoint_can_be_had_at_any_time_and_covers_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    let journal = Journal::open(&settings, clock()).unwrap();
    assert_eq!(journal.checkpoint().await.unwrap(), None);
    journal.record(&note("one")).await.unwrap();
    let line = journal.checkpoint().await.unwrap().unwrap();
    let Checkpoint { covers, key: by, .. } = SavedCheckpoint::parse(line.as_bytes()).unwrap().checkpoint;
    assert_eq!((covers, by), (2, key(&settings)));
    // Nothing new, nothing signed.
    assert_eq!(journal.checkpoint().await.unwrap().as_ref(), Some(&line));
    assert_eq!(SavedCheckpoint::beside(&settings.dir).unwrap().unwrap().line, line);
    journal.close().await;
    assert!(matches!(journal.checkpoint().await, Err(AuditError::Closed)));
}

#[tokio::test]
async fn a_new_key_signs_at_once_and_the_old_one_still_proves_all_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    let journal = Journal::open(&settings, clock()).unwrap();
    journal.record(&note("one")).await.unwrap();
    let first = key(&settings);
    let second = journal.rotate_key("ops").await.unwrap();
    assert_ne!(first, second);
    assert_eq!((key(&settings), published(&settings)), (second, second));
    assert!(!next(&settings).exists());
    // What stands there now is proven by either, before anything else is written.
    assert_proven(&settings, first);
    assert_proven(&settings, second);
    journal.record(&note("two")).await.unwrap();
    let third = journal.rotate_key("ops").await.unwrap();
    journal.record(&note("three")).await.unwrap();
    journal.close().await;
    for key in [first, second, third] {
        assert_proven(&settings, key);
    }
    assert_eq!(pinned(&settings, first).keys, [first.id(), second.id(), third.id()]);
    assert_eq!(pinned(&settings, first).remarks, Vec::<String>::new());
    // A start has nothing to say about it.
    Journal::open(&settings, clock())
        .unwrap()
        .record(&note("four"))
        .await
        .unwrap();
    assert_proven(&settings, first);
    let text = std::fs::read_to_string(first_file(&settings)).unwrap();
    assert_eq!(text.matches(r#""event":"key_changed""#).count(), 2);
    assert!(text.contains(r#""vouched":true,"by":"ops""#), "{text}");
}

#[tokio::test]
async fn a_change_of_keys_that_is_interrupted_anywhere_is_finished_or_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    let journal = Journal::open(&settings, clock()).unwrap();
    journal.record(&note("one")).await.unwrap();
    journal.checkpoint().await.unwrap();
    let (first, old) = (key(&settings), std::fs::read(&settings.key).unwrap());
    let before = std::fs::read(first_file(&settings)).unwrap().len();
    let second = journal.rotate_key("ops").await.unwrap();
    journal.close().await;
    let (whole, new) = (
        std::fs::read(first_file(&settings)).unwrap(),
        std::fs::read(&settings.key).unwrap(),
    );
    let vouched = before
        + whole[before..]
            .split_inclusive(|byte| *byte == b'\n')
            .take(2)
            .map(<[u8]>::len)
            .sum::<usize>();
    assert!(vouched < whole.len());
    for length in before..=whole.len() {
        // The old key is still in its place, the new one beside it.
        let put = |path: &Path, bytes: &[u8]| {
            std::fs::write(path, bytes).unwrap();
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
        };
        put(&settings.key, &old);
        put(&next(&settings), &new);
        put(&first_file(&settings), &whole[..length]);
        std::fs::remove_file(settings.dir.join("checkpoint.json")).unwrap();
        let journal = Journal::open(&settings, clock()).unwrap();
        let signs = key(&settings);
        assert_eq!(signs, if length >= vouched { second } else { first }, "cut at {length}");
        assert!(!next(&settings).exists());
        journal.record(&note("on")).await.unwrap();
        journal.close().await;
        assert_proven(&settings, first);
        assert_proven(&settings, signs);
    }
    assert_eq!(published(&settings), second);
    // Half a key beside it, of a gate that died while it made it.
    std::fs::write(next(&settings), "-----BEGIN").unwrap();
    std::fs::set_permissions(next(&settings), std::fs::Permissions::from_mode(0o600)).unwrap();
    drop(Journal::open(&settings, clock()).unwrap());
    assert!(!next(&settings).exists() && key(&settings) == second);
}

#[tokio::test]
async fn without_a_place_for_the_new_key_the_old_one_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("keys");
    std::fs::create_dir(&folder).unwrap();
    let settings = JournalSettings {
        key: folder.join("audit-key.pem"),
        ..settings(dir.path())
    };
    let journal = Journal::open(&settings, clock()).unwrap();
    let first = key(&settings);
    std::fs::rename(&folder, dir.path().join("away")).unwrap();
    assert!(matches!(journal.rotate_key("ops").await, Err(AuditError::Key(_))));
    std::fs::rename(dir.path().join("away"), &folder).unwrap();
    journal.record(&note("one")).await.unwrap();
    journal.close().await;
    assert_eq!(key(&settings), first);
    assert_proven(&settings, first);
    assert_eq!(pinned(&settings, first).keys, [first.id()]);
}

#[tokio::test]
async fn on_a_full_disk_the_old_key_goes_on_and_the_change_can_be_tried_again() {
    let Some(disk) = SmallDisk::mount() else { return };
    let elsewhere = tempfile::tempdir().unwrap();
    let settings = JournalSettings {
        key: elsewhere.path().join("audit-key.pem"),
        ..settings(disk.0.path())
    };
    let journal = Journal::open(&settings, clock()).unwrap();
    // To the end of a page, so that not even a line fits that is not there yet.
    journal.record(&note("one")).await.unwrap();
    let filler = disk.fill();
    while journal.record(&note("x".repeat(300))).await.is_ok() {}
    let first = key(&settings);
    assert!(journal.rotate_key("ops").await.unwrap_err().disk_full());
    assert_eq!(key(&settings), first);
    std::fs::remove_file(filler).unwrap();
    let second = journal.rotate_key("ops").await.unwrap();
    journal.record(&note("two")).await.unwrap();
    journal.close().await;
    assert_proven(&settings, first);
    assert_proven(&settings, second);
}

#[tokio::test]
async fn what_was_written_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let settings = JournalSettings {
        durability: Durability::Power,
        ..settings(dir.path())
    };
    let journal = Journal::open(&settings, clock()).unwrap();
    // The first write of a log is signed at once.
    journal.record(&note("one")).await.unwrap();
    journal.record(&note("two")).await.unwrap();
    journal.checkpoint().await.unwrap();
    let written = journal.written();
    let bytes = std::fs::metadata(first_file(&settings)).unwrap().len();
    assert_eq!((written.lines, written.bytes, written.segment), (5, bytes, 1));
    assert_eq!((written.writes, written.syncs), (3, 3));
    assert!(written.signed.is_some());
}
