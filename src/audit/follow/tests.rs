use super::*;
use crate::audit::event::{Event, Reloaded};
use crate::audit::{Journal, Settings};
use crate::clock::Clock;

fn note(detail: &str) -> Event<'static> {
    Event::Reloaded(Reloaded {
        accepted: true,
        detail: detail.to_owned(),
    })
}

fn open(dir: &Path) -> Journal {
    let settings = Settings {
        dir: dir.to_owned(),
        ..Settings::in_folder(dir)
    };
    Journal::open(&settings, Clock::system(None)).unwrap()
}

async fn next(follow: &mut Follow) -> String {
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
    let mut all = follow(dir.path(), &Filter::default(), Span::All).unwrap();
    let mut new = follow(dir.path(), &Filter::default(), Span::New).unwrap();
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
    let mut all = follow(dir.path(), &Filter::default(), Span::All).unwrap();
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
    let history = follow(dir.path(), &Filter::default(), Span::History).unwrap();
    let found: Vec<_> = history.into_stream().map(|record| record.unwrap().seq).collect().await;
    // With the segment's first line, and perhaps a checkpoint.
    assert!(found.len() > 1000);
    assert!(found.iter().copied().eq(1..=found.len() as u64));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_log_is_read_whole() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    let mut all = follow(dir.path(), &Filter::default(), Span::All).unwrap();
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
