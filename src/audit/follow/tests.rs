use super::*;
use crate::audit::event::{Event, Reloaded};
use crate::audit::testing::record;
use crate::audit::{Journal, JournalSettings};
use crate::base::clock::Clock;

const NEW: SearchExtent = SearchExtent {
    follow: true,
    last: None,
    sort: None,
    limit: None,
};

/// Follows it from its beginning on.
fn whole(dir: &Path) -> RecordStream {
    let after = Filter {
        after: Some(0),
        ..Filter::default()
    };
    follow(dir, &after, NEW).unwrap()
}

fn note(detail: &str) -> Event<'static> {
    Event::Reloaded(Reloaded {
        accepted: true,
        detail: detail.to_owned(),
    })
}

fn open(dir: &Path) -> Journal {
    let settings = JournalSettings {
        dir: dir.to_owned(),
        ..JournalSettings::in_folder(dir)
    };
    Journal::open(&settings, Clock::system(None)).unwrap()
}

async fn next(follow: &mut RecordStream) -> String {
    loop {
        let item = tokio::time::timeout(Duration::from_secs(10), follow.next()).await.unwrap();
        match item.unwrap().unwrap().event {
            Event::Reloaded(reloaded) => return reloaded.detail,
            Event::SegmentBegan(_) | Event::Checkpoint(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn follows_as_the_log_grows() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    journal.record(&note("old")).await.unwrap();
    let mut all = whole(dir.path());
    let mut new = follow(dir.path(), &Filter::default(), NEW).unwrap();
    assert_eq!(next(&mut all).await, "old");
    for round in 0..3 {
        // Dropped in the middle, nothing is lost.
        assert!(tokio::time::timeout(Duration::from_millis(20), new.next()).await.is_err());
        let detail = format!("new {round}");
        journal.record(&note(&detail)).await.unwrap();
        assert_eq!(next(&mut all).await, detail);
        assert_eq!(next(&mut new).await, detail);
    }
}

#[tokio::test]
async fn goes_on_with_the_next_file() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).record(&note("one")).await.unwrap();
    let mut all = whole(dir.path());
    assert_eq!(next(&mut all).await, "one");
    let line = std::fs::read_to_string(dir.path().join("audit-000001.jsonl")).unwrap();
    std::fs::write(dir.path().join("audit-000002.jsonl"), line.replace("one", "two")).unwrap();
    assert_eq!(next(&mut all).await, "two");
}

#[tokio::test]
async fn history_ends() {
    use futures_util::StreamExt as _;
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    for number in 0..1000 {
        journal.record(&note(&number.to_string())).await.unwrap();
    }
    let history = follow(dir.path(), &Filter::default(), SearchExtent::default()).unwrap();
    let found: Vec<_> = history.into_stream().map(|found| found.unwrap().seq).collect().await;
    // With the segment's first line, and perhaps a checkpoint.
    assert!(found.len() > 1000);
    assert!(found.iter().copied().eq(1..=found.len() as u64));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_log_is_read_whole() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    let mut all = whole(dir.path());
    let writer = tokio::spawn(async move {
        for number in 0..2000 {
            journal.record(&note(&"x".repeat(number % 9000))).await.unwrap();
        }
    });
    for seq in 1..=2000 {
        assert_eq!(all.next().await.unwrap().unwrap().seq, seq);
    }
    writer.await.unwrap();
}

/// The notes among the next records, until there have been so many.
async fn notes(follow: &mut RecordStream, count: usize) -> Vec<String> {
    let mut notes = Vec::new();
    while notes.len() < count {
        notes.push(next(follow).await);
    }
    notes
}

#[tokio::test]
async fn the_newest_come_first_and_then_what_comes() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    let noted = Filter {
        event: Some(crate::audit::EventName::Reloaded),
        ..Filter::default()
    };
    for number in 0..100 {
        journal.record(&note(&number.to_string())).await.unwrap();
    }
    let last = |follow| SearchExtent {
        follow,
        last: Some(3),
        ..SearchExtent::default()
    };
    let mut history = follow(dir.path(), &noted, last(false)).unwrap();
    assert_eq!(notes(&mut history, 3).await, ["97", "98", "99"]);
    assert!(history.next().await.is_none());
    let mut followed = follow(dir.path(), &noted, last(true)).unwrap();
    assert_eq!(notes(&mut followed, 3).await, ["97", "98", "99"]);
    journal.record(&note("new")).await.unwrap();
    assert_eq!(next(&mut followed).await, "new");
}

#[tokio::test]
async fn the_newest_are_found_however_far_back_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let line = |seq: u64| record(seq, note(&format!("note {seq}"))).json() + "\n";
    // Three to a segment.
    for segment in 0..30_u64 {
        let text: String = (1..=3).map(|line_of| line(segment * 3 + line_of)).collect();
        std::fs::write(dir.path().join(format!("audit-{:06}.jsonl", segment + 1)), text).unwrap();
    }
    let newest = |last| SearchExtent {
        last: Some(last),
        ..SearchExtent::default()
    };
    for last in [1, 3, 4, 17, 89, 90, 1_000] {
        let mut found = follow(dir.path(), &Filter::default(), newest(last)).unwrap();
        let mut seqs = Vec::new();
        while let Some(item) = found.next().await {
            seqs.push(item.unwrap().seq);
        }
        let first = 90_u64.saturating_sub(u64::from(last)) + 1;
        assert!(seqs.iter().copied().eq(first..=90), "{last}: {seqs:?}");
    }
    // Only as far as it has to.
    std::fs::write(dir.path().join("audit-000020.jsonl"), "no record\n").unwrap();
    let mut found = follow(dir.path(), &Filter::default(), newest(5)).unwrap();
    while let Some(item) = found.next().await {
        item.unwrap();
    }
}

#[tokio::test]
async fn no_more_are_given_than_were_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let text: String = (1..=9).map(|seq| record(seq, note("x")).json() + "\n").collect();
    std::fs::write(dir.path().join("audit-000001.jsonl"), text).unwrap();
    let four = SearchExtent {
        limit: Some(4),
        ..SearchExtent::default()
    };
    let mut found = follow(dir.path(), &Filter::default(), four).unwrap();
    for seq in 1..=4 {
        assert_eq!(found.next().await.unwrap().unwrap().seq, seq);
    }
    assert!(found.next().await.is_none());
}
