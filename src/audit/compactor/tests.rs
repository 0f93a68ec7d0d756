use jiff::SignedDuration;

use super::*;
use crate::audit::JournalSettings;
use crate::audit::event::{Event, Reloaded};
use crate::audit::verify::{LogFlaw, VerifyExpectation, verify_folder};
use crate::base::clock::Clock;

struct Kept {
    dir: tempfile::TempDir,
    settings: JournalSettings,
    clock: Clock,
    journal: Journal,
}

impl Kept {
    /// Some segments, with a journal that goes on.
    async fn with_segments(keep: Option<Duration>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let settings = JournalSettings {
            segment_bytes: 4000,
            keep,
            ..JournalSettings::in_folder(dir.path())
        };
        let clock = Clock::system(None);
        let journal = Journal::open(&settings, clock.clone()).unwrap();
        let kept = Self {
            dir,
            settings,
            clock,
            journal,
        };
        for line in 0..100 {
            kept.note(&format!("line {line}")).await;
        }
        kept
    }

    async fn note(&self, detail: &str) {
        let event = Event::Reloaded(Reloaded {
            accepted: true,
            detail: detail.to_owned(),
        });
        self.journal.record(&event).await.unwrap();
    }

    async fn compact_at(&self, now: Timestamp) {
        let journal = self.journal.clone();
        tokio::task::spawn_blocking(move || compact(&journal, &mut SegmentPacker::default(), now, || true))
            .await
            .unwrap()
            .unwrap();
    }

    fn segments(&self) -> Vec<Segment> {
        segment::list(&self.settings.dir).unwrap()
    }

    fn text(&self) -> String {
        let read = |segment: &Segment| io::read_to_string(segment.open().unwrap()).unwrap();
        self.segments().iter().map(read).collect()
    }

    fn flaw(&self) -> Option<LogFlaw> {
        let expected = VerifyExpectation {
            from_start: true,
            ..VerifyExpectation::default()
        };
        verify_folder(&self.settings.dir, &expected, |_| ()).unwrap().flaw
    }
}

#[tokio::test]
async fn closed_segments_are_packed_and_read_as_before() {
    let kept = Kept::with_segments(None).await;
    let before = kept.text();
    assert!(kept.segments().len() > 3);
    kept.compact_at(kept.clock.now()).await;
    let (newest, closed) = {
        let mut segments = kept.segments();
        (segments.pop().unwrap(), segments)
    };
    assert!(!newest.packed && closed.iter().all(|segment| segment.packed));
    assert_eq!(kept.text(), before);
    assert_eq!(kept.flaw(), None);
    let leftovers = std::fs::read_dir(&kept.settings.dir).unwrap().filter(|entry| {
        entry
            .as_ref()
            .unwrap()
            .path()
            .extension()
            .is_some_and(|extension| extension == "new")
    });
    assert_eq!(leftovers.count(), 0);
    // The gate goes on behind them after a restart.
    let Kept {
        dir,
        settings,
        clock,
        journal,
    } = kept;
    journal.close().await;
    let journal = Journal::open(&settings, clock.clone()).unwrap();
    let kept = Kept {
        dir,
        settings,
        clock,
        journal,
    };
    kept.note("on").await;
    assert_eq!(kept.flaw(), None);
}

#[tokio::test]
async fn packing_that_was_interrupted_is_done_again() {
    let kept = Kept::with_segments(None).await;
    let before = kept.text();
    let first = &kept.segments()[0];
    std::fs::write(first.path.with_extension("jsonl.zst.new"), "half").unwrap();
    // Between the copy's new name and the removal of the original.
    std::fs::write(first.path.with_extension("jsonl.zst"), "half, too").unwrap();
    assert_eq!(kept.text(), before);
    kept.compact_at(kept.clock.now()).await;
    assert_eq!(kept.text(), before);
    assert!(kept.segments()[0].packed);
}

#[tokio::test]
async fn old_segments_are_removed_on_record_and_the_rest_is_whole() {
    let kept = Kept::with_segments(Some(Duration::from_hours(1))).await;
    kept.compact_at(kept.clock.now()).await;
    assert_eq!(kept.segments()[0].number, 1, "none is old yet");
    kept.compact_at(kept.clock.now() + SignedDuration::from_hours(2)).await;
    let left = kept.segments();
    assert!(left[0].number > 1 && left.len() <= 2, "{left:?}");
    assert!(!kept.settings.dir.join("audit-000001.summary").exists());
    assert!(kept.text().contains(r#""event":"segments_removed","first":1,"#));
    assert_eq!(kept.flaw(), None);
}

#[tokio::test]
async fn a_segment_that_somebody_else_removed_is_missed() {
    let kept = Kept::with_segments(None).await;
    kept.compact_at(kept.clock.now()).await;
    std::fs::remove_file(&kept.segments()[0].path).unwrap();
    assert_eq!(kept.flaw(), Some(LogFlaw::Missing { first: 1, last: 1 }));
}

#[tokio::test]
async fn a_packed_segment_that_was_cut_is_named() {
    let kept = Kept::with_segments(None).await;
    kept.compact_at(kept.clock.now()).await;
    let path = kept.segments()[1].path.clone();
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    assert!(matches!(kept.flaw(), Some(LogFlaw::Damaged { file, .. }) if file == path));
}

#[tokio::test]
async fn the_segment_that_is_written_is_left_alone_whatever_else_is_there() {
    let kept = Kept::with_segments(None).await;
    let written = kept.segments().pop().unwrap();
    std::fs::write(kept.settings.dir.join("audit-000099.jsonl"), b"").unwrap();
    kept.compact_at(kept.clock.now()).await;
    kept.note("goes on").await;
    let text = std::fs::read_to_string(&written.path).unwrap();
    assert!(text.contains("goes on"), "{text}");
}

/// A start finds all the segments there are; each pass takes some of them, and says whether it was all.
#[tokio::test]
async fn missing_summaries_are_made_and_old_indexes_removed() {
    let kept = Kept::with_segments(None).await;
    kept.compact_at(kept.clock.now()).await;
    let packed = kept
        .segments()
        .into_iter()
        .filter(|segment| segment.packed)
        .collect::<Vec<_>>();
    assert!(packed.iter().all(|segment| SegmentSummary::load(segment).is_some()));
    let dir = tempfile::tempdir().unwrap();
    let segments: Vec<_> = (1..=40)
        .map(|number| {
            let path = dir.path().join(segment::name(number)).with_extension("jsonl.zst");
            std::fs::copy(&packed[0].path, &path).unwrap();
            std::fs::write(dir.path().join(format!("audit-{number:06}.index")), "TGINDEX2").unwrap();
            Segment::at(&path).unwrap()
        })
        .collect();
    let mut checked = HashSet::new();
    let passes = [(); 4].map(|()| check_summaries(dir.path(), &mut checked, || true).unwrap());
    assert_eq!(passes, [false, false, true, true]);
    assert!(segments.iter().all(|segment| SegmentSummary::load(segment).is_some()));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 80);
}
