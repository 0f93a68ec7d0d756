use super::*;
use crate::audit::event::ConnectionRefused;
use crate::audit::{Filter, JournalSettings, LogRecord, read};
use crate::model::ending::EndingKind;
use std::borrow::Cow;
use tokio::time::advance;

const BAD_SECRET: RefusalKind = RefusalKind::Ending(EndingKind::BadSecret);

struct Bench {
    _folder: tempfile::TempDir,
    dir: std::path::PathBuf,
    log: RefusalLog,
}

fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let settings = JournalSettings::in_folder(folder.path());
    let clock = Clock::manual(Timestamp::UNIX_EPOCH);
    let journal = Journal::open(&settings, clock.clone()).unwrap();
    Bench {
        dir: settings.dir.clone(),
        _folder: folder,
        log: RefusalLog::new(journal, clock),
    }
}

impl Bench {
    async fn refuse(&self, address: &str, times: usize) {
        let client: IpAddr = address.parse().unwrap();
        let refused = ConnectionRefused {
            client,
            port: 1,
            user: Some("x".repeat(200)),
            database: None,
            grant: None,
            identity: None,
            ending: EndingKind::BadSecret.into(),
            sqlstate: "28P01".to_owned(),
            detail: None,
        };
        for _ in 0..times {
            self.log
                .record(Some(client), BAD_SECRET, &Event::Refused(Cow::Borrowed(&refused)))
                .await;
        }
    }

    fn records(&self) -> Vec<LogRecord> {
        read(&self.dir, &Filter::default()).unwrap().map(Result::unwrap).collect()
    }

    fn alone(&self) -> usize {
        let refused = |record: &LogRecord| matches!(record.event, Event::Refused(_));
        self.records().iter().filter(|record| refused(record)).count()
    }

    fn counted(&self) -> Vec<RefusalsCounted> {
        let counts = self.records().into_iter().filter_map(|record| match record.event {
            Event::RefusalsCounted(counted) => Some(counted),
            _ => None,
        });
        counts.collect()
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_few_have_records_and_the_rest_one() {
    let bench = bench();
    bench.refuse("10.0.0.1", 1000).await;
    advance(Duration::from_secs(30)).await;
    bench.refuse("10.0.0.1", 1).await;
    bench.refuse("10.0.0.2", 3).await;
    assert_eq!((bench.alone(), bench.counted().len()), (13, 0));
    bench.log.end_interval().await;
    let counted = RefusalsCounted {
        network: Some("10.0.0.1".to_owned()),
        ending: BAD_SECRET.into(),
        count: 991,
        first: Timestamp::UNIX_EPOCH,
        last: Timestamp::UNIX_EPOCH + Duration::from_secs(30),
    };
    assert_eq!(bench.counted(), [counted]);
    bench.log.end_interval().await;
    assert_eq!(bench.counted().len(), 1, "nothing came since");
    bench.refuse("10.0.0.1", 1).await;
    assert_eq!(bench.alone(), 14, "another interval");
}

#[tokio::test(start_paused = true)]
async fn a_crowd_of_addresses_costs_no_more_than_so_many_records() {
    let bench = bench();
    for n in 0..5000_u32 {
        bench.refuse(&IpAddr::from(n.to_be_bytes()).to_string(), 1).await;
    }
    bench.log.end_interval().await;
    assert_eq!(bench.alone(), usize::try_from(MAX_ALONE).unwrap());
    let counted = bench.counted();
    assert_eq!(counted.len(), MAX_COUNTS + 1);
    assert_eq!(counted.iter().map(|counted| counted.count).sum::<u64>(), 4900);
    assert!(counted.iter().any(|counted| counted.network.is_none()));
}
