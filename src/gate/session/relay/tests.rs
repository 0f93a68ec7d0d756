//! Refusals against a real PostgreSQL: what a client reads after one must be what it reads after an error of the server's own.

use std::collections::HashMap;
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::OnceLock;
use std::time::Duration;

use bytes::BytesMut;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

mod instructions;

use super::*;
use crate::access::quota::QuotaLimits;
use crate::audit::event::StatementResult::{Completed, Failed, Skipped};
use crate::audit::event::{Event, StatementKind, StatementOutcome, Who};
use crate::audit::values::ParameterDisplay;
use crate::audit::{JournalSettings, LogRecord};
use crate::base::secret::Secret;
use crate::base::tls::{ClientTls, TlsMode};
use crate::database::provision::{Backend, Terminator};
use crate::database::upstream::{BackendKey, Target};
use crate::demo::testkit;
use crate::gate::metrics::Metrics;
use crate::gate::session::filter::SessionFilter;
use crate::gate::session::registry::{SessionOrders, SessionProgress};
use crate::gate::session::{RecordLimits, TargetState};
use crate::gate::sql_filter::{FilterRules, SqlFilter};
use crate::model::grant::{Terms, create};
use crate::model::ids::{GrantId, SessionId};

/// The database all tests of this file share.
fn server() -> &'static testkit::TestPostgres {
    static SERVER: OnceLock<testkit::TestPostgres> = OnceLock::new();
    let options = testkit::ServerOptions {
        auth: testkit::ServerAuth::Trust,
        ..testkit::ServerOptions::default()
    };
    SERVER.get_or_init(|| testkit::TestPostgres::start(&options).unwrap())
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[tag][..], &length, body].concat()
}

/// A connection to the server, or through a relay with rails.
struct Line {
    stream: TcpStream,
    read: BytesMut,
    relay: Option<(JoinHandle<RelayStop>, tempfile::TempDir)>,
}

type Said = (u8, Vec<u8>);

impl Line {
    /// Straight to the server, logged in.
    async fn direct() -> Self {
        let mut stream = TcpStream::connect(server().address()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let body = b"\0\x03\0\0user\0postgres\0database\0postgres\0\0";
        stream.write_u32(u32::try_from(body.len() + 4).unwrap()).await.unwrap();
        stream.write_all(body).await.unwrap();
        let mut line = Self {
            stream,
            read: BytesMut::new(),
            relay: None,
        };
        line.until(b'Z', 1).await;
        line
    }

    /// The same, through a relay: everything is allowed but `drop` and calls of functions.
    async fn guarded() -> Self {
        Self::guarded_for(Duration::from_hours(1)).await
    }

    /// The same, so long before its deadline.
    async fn guarded_for(left: Duration) -> Self {
        Self::under(QuotaLimits::default(), left).await
    }

    /// The same, under a quota.
    async fn under(limits: QuotaLimits, left: Duration) -> Self {
        let target = Self::direct().await.stream;
        let doors = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let stream = TcpStream::connect(doors.local_addr().unwrap()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (client, address) = doors.accept().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut relay = relay((Transport::Plain(client), address), Transport::Plain(target), folder.path());
        relay.deadline = relay.clock.moment().instant + left;
        relay.quota = Arc::new(Quota::new(limits));
        let running = tokio::spawn(async move {
            let stop = relay.run().await;
            relay.recorder.abandon();
            relay.journal.defer(&mut relay.recorder.outcomes);
            relay.journal.close().await;
            stop
        });
        Self {
            stream,
            read: BytesMut::new(),
            relay: Some((running, folder)),
        }
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    async fn message(&mut self) -> Said {
        let reading = async {
            loop {
                if let Some([tag, length @ ..]) = self.read.first_chunk::<5>() {
                    let (tag, length) = (*tag, u32::from_be_bytes(*length) as usize);
                    if self.read.len() > length {
                        return (tag, self.read.split_to(length + 1)[5..].to_vec());
                    }
                }
                assert_ne!(self.stream.read_buf(&mut self.read).await.unwrap(), 0, "the end");
            }
        };
        tokio::time::timeout(Duration::from_secs(20), reading)
            .await
            .expect("a message")
    }

    /// Reads up to the `count`th message of this kind.
    async fn until(&mut self, kind: u8, mut count: usize) -> Vec<Said> {
        let mut said = Vec::new();
        while count > 0 {
            let message = self.message().await;
            count -= usize::from(message.0 == kind);
            said.push(message);
        }
        said
    }

    /// Ends a guarded session; what is on record of it.
    async fn records(mut self) -> Vec<Event<'static>> {
        self.send(&message(b'X', b"")).await;
        drop(self.stream);
        let (running, folder) = self.relay.unwrap();
        assert!(matches!(
            running.await.unwrap(),
            RelayStop::ClientGone | RelayStop::TargetGone
        ));
        let mut text = String::new();
        for segment in crate::audit::segment::list(&folder.path().join("audit")).unwrap() {
            segment.open().unwrap().read_to_string(&mut text).unwrap();
        }
        text.lines()
            .map(|line| LogRecord::parse(line.as_bytes()).unwrap().event)
            .collect()
    }

    async fn outcomes(self) -> Vec<StatementOutcome<'static>> {
        let records = self.records().await.into_iter();
        let outcome = |event| {
            if let Event::Outcome(outcome) = event {
                Some(outcome)
            } else {
                None
            }
        };
        records.filter_map(outcome).collect()
    }
}

fn relay((client, address): (Transport, SocketAddr), target: Transport, folder: &std::path::Path) -> Relay {
    let clock = Clock::manual("2026-11-23T09:05:07Z".parse().unwrap());
    let journal = Journal::open(&JournalSettings::in_folder(folder), clock.clone()).unwrap();
    let who = Arc::new(Who {
        session: SessionId::from_random([1; 10]),
        grant: GrantId::from_random([2; 10]),
        identity: "ana@example.com".parse().unwrap(),
        target: "orders".parse().unwrap(),
        profile: None,
    });
    let rules = FilterRules {
        statements: Some(vec!["!drop".to_owned(), "!call".to_owned()]),
        refuse_unknown: true,
        ..FilterRules::default()
    };
    let keep = RecordLimits {
        sql: 64 * 1024,
        parameter: 256,
        show: ParameterDisplay::Full,
        key: crate::audit::values::ValueKey::for_test(),
    };
    let mut recorder = StatementRecorder::new(Arc::clone(&who), keep, clock.clone());
    let rails = SqlFilter::new(&rules, "careful".parse().unwrap()).unwrap();
    recorder.guard = Some(SessionFilter::new(
        Arc::new(rails),
        who.target.clone(),
        Metrics::default(),
        64 << 10,
    ));
    Relay {
        client,
        target,
        recorder,
        up: ClientToTarget::new(),
        down: TargetToClient::new(),
        pool: BufferPool::default(),
        idle_since: clock.moment().instant,
        deadline: clock.moment().instant + Duration::from_hours(1),
        stop_when_idle: false,
        live: Arc::new(live(who, address, &clock)),
        quota: Arc::default(),
        pause: None,
        clock,
        journal,
    }
}

/// A session on a target that is not there.
pub(in crate::gate::session) fn live(who: Arc<Who>, client: SocketAddr, clock: &Clock) -> SessionHandle {
    let terms = Terms {
        identity: who.identity.clone(),
        target: who.target.clone(),
        reason: None,
        window: Duration::from_mins(30),
        activate_within: Duration::from_hours(1),
        deadline: None,
        max_sessions: 1,
        client_network: None,
        profile: Some("careful".parse().unwrap()),
        request: None,
    };
    let grant = create(who.grant.clone(), terms, "olga", clock.now()).unwrap();
    let tls = ClientTls::new(TlsMode::Disable, None).unwrap();
    let target = Target::new(
        who.target.clone(),
        "localhost".to_owned(),
        "postgres".to_owned(),
        "postgres".to_owned(),
        tls,
    );
    let target = Arc::new(target);
    SessionHandle {
        who,
        client,
        application: None,
        since: clock.now(),
        target_state: Arc::new(TargetState {
            leftovers: crate::gate::session::TargetLeftovers::none(),
            terminator: Terminator::spawn(Arc::clone(&target), clock.clone()),
            target,
            places: Arc::new(Semaphore::new(1)),
            changes: None,
            roles: None,
            limit: 1,
            show: ParameterDisplay::Full,
            masked: HashMap::new(),
            rails: HashMap::new(),
        }),
        backend: Backend {
            pid: 1,
            opened: clock.moment().instant,
            role: None,
        },
        backend_key: BackendKey {
            pid: 1,
            secret: Vec::new(),
        },
        grant: watch::channel(Arc::new(grant)).1,
        key: Secret::new(Box::default()),
        orders: SessionOrders::default(),
        progress: SessionProgress::default(),
    }
}

/// A client that fills the log is read more slowly, and all it sent runs and is on record.
#[tokio::test]
async fn who_fills_the_log_waits_and_loses_nothing() {
    // A minute's worth is let through at once: 6,000 bytes, a fifth of what is written here.
    let slow = |log_bytes_per_second| QuotaLimits {
        log_bytes_per_second,
        ..QuotaLimits::default()
    };
    let mut line = Line::under(slow(100), Duration::from_hours(1)).await;
    let text = format!("SELECT '{}'\0", "x".repeat(3_000));
    for _ in 0..2 {
        line.send(&message(b'Q', text.as_bytes())).await;
        line.until(b'Z', 1).await;
    }
    line.send(&message(b'Q', b"SELECT 'late'\0")).await;
    let waits = tokio::time::timeout(Duration::from_millis(300), line.until(b'Z', 1)).await;
    assert!(waits.is_err(), "it is not even read");
    drop(line);
    let mut line = Line::under(slow(10_000), Duration::from_hours(1)).await;
    let text = format!("SELECT '{}'\0", "x".repeat(20_000));
    let began = Instant::now();
    for _ in 0..31 {
        line.send(&message(b'Q', text.as_bytes())).await;
        line.until(b'Z', 1).await;
    }
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    let outcomes = line.outcomes().await;
    assert!(outcomes.len() == 31 && outcomes.iter().all(|outcome| outcome.result == Completed));
}

/// What a client sends. What is refused here is an error of the server's own when it is sent straight to it.
#[derive(Debug, Clone)]
enum Ask {
    Query(&'static str),
    Refused,
    /// A text of this length, more or less.
    RefusedLong(usize),
    RefusedCall,
    /// Parse, Bind and Execute of the unnamed statement.
    Run(&'static str),
    RunRefused,
    /// Only Parse.
    Prepare(&'static str, &'static str),
    PrepareRefused(&'static str),
    /// Bind and Execute.
    Again(&'static str),
    Data(&'static str),
    CopyDone,
    Flush,
    Sync,
}

impl Ask {
    fn bytes(&self, guarded: bool) -> Vec<u8> {
        let refused = if guarded { "DROP TABLE t" } else { "DORP TABLE t" };
        let query = |text: &str| message(b'Q', format!("{text}\0").as_bytes());
        let parse = |name: &str, text: &str| message(b'P', format!("{name}\0{text}\0\0\0").as_bytes());
        let again = |name: &str| {
            let bind = message(b'B', format!("\0{name}\0\0\0\0\0\0\0").as_bytes());
            [bind, message(b'D', b"P\0"), message(b'E', b"\0\0\0\0\0")].concat()
        };
        match self {
            Self::Query(text) => query(text),
            Self::Refused => query(refused),
            Self::RefusedLong(length) => query(&format!("INSERT INTO t VALUES ('{}'); {refused}", "x".repeat(*length))),
            // int4pl, or none.
            Self::RefusedCall if guarded => message(b'F', b"\0\0\0\xb1\0\x01\0\0\0\x02\0\0\0\x012\0\0\0\x0240\0\0"),
            Self::RefusedCall => message(b'F', b"\x7f\0\0\xb1\0\0\0\0\0\0"),
            Self::Run(text) => [parse("", text), again("")].concat(),
            Self::RunRefused => [parse("", refused), again("")].concat(),
            Self::Prepare(name, text) => parse(name, text),
            Self::PrepareRefused(name) => parse(name, refused),
            Self::Again(name) => again(name),
            Self::Data(data) => message(b'd', data.as_bytes()),
            Self::CopyDone => message(b'c', b""),
            Self::Flush => message(b'H', b""),
            Self::Sync => message(b'S', b""),
        }
    }
}

/// What a client makes of an answer: everything but the words of errors.
fn gist((tag, body): &Said) -> String {
    match tag {
        b'E' => match std::str::from_utf8(crate::protocol::wire::backend::error_code(body).sqlstate).unwrap() {
            // Ours; a mistake in the text; no such function.
            "42501" | "42601" | "42883" => "E refused".to_owned(),
            code => format!("E {code}"),
        },
        // A row description has the number of the table, which is another in each session.
        b'S' | b'N' | b'T' => (*tag as char).to_string(),
        _ => format!("{} {}", *tag as char, String::from_utf8_lossy(body)),
    }
}

const BEFORE: &str = "CREATE TEMP TABLE t (n text); PREPARE p AS SELECT 7";
const AFTER: [Ask; 3] = [
    Ask::Query("ROLLBACK"),
    Ask::Query("SELECT * FROM t"),
    Ask::Query("SELECT 'end'"),
];

/// Sends the same to the server and through the relay, in parts: each part is read up to so many messages of a kind before the
/// next is sent. What a client makes of the answers has to be the same.
async fn compare(parts: &[(Vec<Ask>, u8, usize)]) -> (Vec<String>, Vec<StatementOutcome<'static>>) {
    let mut answers = Vec::new();
    let mut outcomes = Vec::new();
    // Without a relay, through one, and through one that forwards statements one by one.
    for left in [None, Some(Duration::from_hours(1)), Some(Duration::from_secs(9))] {
        let guarded = left.is_some();
        let mut line = match left {
            Some(left) => Line::guarded_for(left).await,
            None => Line::direct().await,
        };
        line.send(&Ask::Query(BEFORE).bytes(guarded)).await;
        line.until(b'Z', 1).await;
        let mut said = Vec::new();
        let after = (AFTER.to_vec(), b'Z', AFTER.len());
        for (asks, kind, count) in parts.iter().chain([&after]) {
            let bytes: Vec<u8> = asks.iter().flat_map(|ask| ask.bytes(guarded)).collect();
            line.send(&bytes).await;
            said.extend(line.until(*kind, *count).await);
        }
        for (_, body) in said.iter().filter(|(tag, _)| guarded && *tag == b'E') {
            let text = String::from_utf8_lossy(body);
            assert!(!text.contains("08P01"), "{text}");
            if text.contains("C42501") {
                assert!(
                    text.contains("SERROR\0VERROR\0C42501\0Mthe guard rails of profile \"careful\""),
                    "{text}"
                );
                assert!(text.contains("DRule \"") && text.contains("tidegate request"), "{text}");
            }
        }
        answers.push(said.iter().map(gist).collect::<Vec<_>>());
        if guarded {
            outcomes = line.outcomes().await;
        }
    }
    assert_eq!(answers[1], answers[0], "{parts:?}");
    assert_eq!(answers[2], answers[0], "one by one: {parts:?}");
    (answers.remove(0), outcomes)
}

/// Compares, where each Query, call and Sync has its ReadyForQuery.
async fn in_step(asks: &[Ask]) -> (Vec<String>, Vec<StatementOutcome<'static>>) {
    compare(&[(asks.to_vec(), b'Z', ready(asks))]).await
}

fn ready(asks: &[Ask]) -> usize {
    let has_one = |ask: &&Ask| {
        matches!(
            ask,
            Ask::Query(_) | Ask::Refused | Ask::RefusedLong(_) | Ask::RefusedCall | Ask::Sync
        )
    };
    asks.iter().filter(has_one).count()
}

fn rules(outcomes: &[StatementOutcome<'static>]) -> Vec<(u64, String, String)> {
    let refused = outcomes.iter().filter(|outcome| outcome.rule.is_some());
    refused
        .map(|outcome| {
            let said = |text: &Option<crate::audit::event::OutsideText<'_>>| {
                text.as_ref().map(|text| text.0.to_string()).unwrap_or_default()
            };
            (outcome.statement, said(&outcome.sqlstate), said(&outcome.rule))
        })
        .collect()
}

#[tokio::test]
async fn a_simple_query_is_refused() {
    use Ask::{Query, Refused, RefusedCall, RefusedLong};
    let (answers, outcomes) = in_step(&[Refused]).await;
    assert_eq!(answers[..2], ["E refused", "Z I"]);
    assert_eq!(rules(&outcomes), [(2, "42501".to_owned(), "statements".to_owned())]);
    in_step(&[Query("SELECT 1"), Refused, Query("SELECT 2"), Refused, Refused]).await;
    // In a transaction, and in one that has failed.
    let (answers, _) = in_step(&[
        Query("BEGIN"),
        Query("INSERT INTO t VALUES ('lost')"),
        Refused,
        Query("SELECT 1"),
        Query("COMMIT"),
    ])
    .await;
    assert!(
        answers.contains(&"Z E".to_owned()) && answers.contains(&"C ROLLBACK\0".to_owned()),
        "{answers:?}"
    );
    in_step(&[
        Query("BEGIN"),
        Query("SELECT 1/0"),
        Refused,
        Query("ROLLBACK"),
        Query("SELECT 1"),
    ])
    .await;
    in_step(&[
        Query("BEGIN"),
        Query("SAVEPOINT a"),
        Refused,
        Query("ROLLBACK TO a"),
        Query("INSERT INTO t VALUES ('kept')"),
        Query("COMMIT"),
    ])
    .await;
    // However long.
    in_step(&[
        Query("SELECT 1"),
        RefusedLong(100),
        RefusedLong(20_000),
        RefusedLong(400_000),
        RefusedLong(1_000_000),
        Query("SELECT 2"),
    ])
    .await;
    in_step(&[Query("BEGIN"), RefusedCall, Query("COMMIT"), RefusedCall, Query("SELECT 1")]).await;
}

#[tokio::test]
async fn a_pipeline_is_refused_at_any_place() {
    use Ask::{Again, Prepare, PrepareRefused, Query, Run, RunRefused, Sync};
    const INSERT: Ask = Run("INSERT INTO t VALUES ('x') RETURNING n");
    let pipelines = [
        vec![RunRefused, Sync],
        vec![RunRefused, INSERT, Run("SELECT 1"), Sync, Run("SELECT 2"), Sync],
        vec![INSERT, RunRefused, INSERT, Sync],
        vec![INSERT, INSERT, RunRefused, Sync, INSERT, Sync],
        vec![INSERT, RunRefused, RunRefused, Sync],
        vec![RunRefused, Sync, RunRefused, Sync, RunRefused, Sync],
        vec![Run("SELECT 1/0"), RunRefused, Sync, RunRefused, Sync],
        vec![
            Query("BEGIN"),
            INSERT,
            Sync,
            RunRefused,
            Sync,
            INSERT,
            Sync,
            RunRefused,
            Sync,
            Query("COMMIT"),
        ],
        vec![Run("BEGIN"), INSERT, RunRefused, Sync, Run("COMMIT"), Sync],
        vec![Run("BEGIN"), INSERT, Run("COMMIT"), RunRefused, Sync],
        vec![
            Prepare("a", "SELECT 1"),
            PrepareRefused("b"),
            Sync,
            Again("a"),
            Sync,
            Again("b"),
            Sync,
        ],
        vec![
            Prepare("a", "SELECT 1"),
            PrepareRefused("a"),
            Sync,
            Again("a"),
            Sync,
            Again("p"),
            Sync,
        ],
        vec![RunRefused, Query("SELECT 'dropped'"), Sync, Query("SELECT 1")],
    ];
    for asks in pipelines {
        let mut parts = vec![(asks.clone(), b'Z', ready(&asks))];
        if let [RunRefused, Query(_), ..] = asks.as_slice() {
            // The query is skipped with the rest of its group.
            parts[0].2 -= 1;
        }
        compare(&parts).await;
    }
}

#[tokio::test]
async fn a_refusal_in_a_pipeline_is_on_record_with_its_rule() {
    use Ask::{Run, RunRefused, Sync};
    const INSERT: Ask = Run("INSERT INTO t VALUES ('x') RETURNING n");
    let (_, outcomes) = in_step(&[INSERT, RunRefused, INSERT, Sync]).await;
    let results: Vec<_> = outcomes.iter().map(|outcome| (outcome.statement, outcome.result)).collect();
    // Query; Parse and Execute in one; Parse, which is refused alone, Execute; Parse, Execute, which are known to be skipped.
    assert_eq!(
        results[..6],
        [
            (1, Completed),
            (2, Completed),
            (3, Failed),
            (4, Skipped),
            (5, Skipped),
            (6, Skipped)
        ]
    );
    assert_eq!(rules(&outcomes), [(3, "42501".to_owned(), "statements".to_owned())]);
}

#[tokio::test]
async fn a_refusal_beside_a_copy_and_with_flush() {
    use Ask::{CopyDone, Data, Flush, Query, Refused, Run, RunRefused, Sync};
    const COPY: Ask = Run("COPY t FROM STDIN");
    in_step(&[RunRefused, COPY, Data("a\n"), CopyDone, Sync, Query("SELECT 1")]).await;
    in_step(&[
        Refused,
        Query("COPY t FROM STDIN"),
        Data("a\n"),
        Data("b\n"),
        CopyDone,
        Query("SELECT 1"),
    ])
    .await;
    in_step(&[Refused, Data("a\n"), CopyDone, Query("SELECT 1")]).await;
    in_step(&[RunRefused, Sync, COPY, Data("a\n"), CopyDone, Sync, RunRefused, Sync]).await;
    in_step(&[Query("COPY t TO STDOUT"), Refused]).await;
    compare(&[
        (vec![Run("SELECT 1"), RunRefused, Flush], b'E', 1),
        (vec![Run("SELECT 'skipped'"), Flush, Sync], b'Z', 1),
        (vec![Run("BEGIN"), Flush], b'C', 1),
        (vec![RunRefused, Flush], b'E', 1),
        (vec![Sync, Run("COMMIT"), Sync], b'Z', 2),
    ])
    .await;
}

/// The rule is told also where the target would say that the transaction has failed before.
#[tokio::test]
async fn a_call_is_refused_in_a_failed_transaction() {
    let asks = [
        Ask::Query("BEGIN"),
        Ask::Query("SELECT 1/0"),
        Ask::RefusedCall,
        Ask::Query("SELECT 1"),
        Ask::Query("COMMIT"),
        Ask::RefusedCall,
    ];
    let bytes: Vec<u8> = asks.iter().flat_map(|ask| ask.bytes(true)).collect();
    let mut line = Line::guarded().await;
    line.send(&bytes).await;
    let said: Vec<_> = line.until(b'Z', asks.len()).await.iter().map(gist).collect();
    assert_eq!(
        said.join(", ").replace('\0', ""),
        "C BEGIN, Z T, E 22012, Z E, E refused, Z E, E 25P02, Z E, C ROLLBACK, Z I, E refused, Z I"
    );
    let call = |statement| (statement, "42501".to_owned(), "statements".to_owned());
    assert_eq!(rules(&line.outcomes().await), [call(3), call(6)]);
}

/// Whatever a client's system makes of its writes.
#[tokio::test]
async fn a_refusal_comes_in_single_bytes() {
    let asks = [
        Ask::RunRefused,
        Ask::Sync,
        Ask::Refused,
        Ask::RefusedCall,
        Ask::Run("SELECT 1"),
        Ask::Sync,
    ];
    let bytes: Vec<u8> = asks.iter().flat_map(|ask| ask.bytes(true)).collect();
    let mut line = Line::guarded().await;
    for byte in bytes {
        line.send(&[byte]).await;
        // The relay runs on this thread too: it reads what is there.
        tokio::task::yield_now().await;
    }
    let said: Vec<_> = line.until(b'Z', 4).await.iter().map(gist).collect();
    let kinds: String = said.iter().filter_map(|gist| gist.chars().next()).collect();
    assert_eq!(kinds, "EZEZEZ12TDCZ", "{said:?}");
    assert_eq!(rules(&line.outcomes().await).len(), 3);
}

/// A Query drops the unnamed statement, also one with a mistake, and so does a refused one.
#[tokio::test]
async fn a_refused_query_drops_the_unnamed_statement() {
    use Ask::{Again, Prepare, Query, Refused, Run, RunRefused, Sync};
    const ONE: Ask = Prepare("", "SELECT 'still there'");
    let dropped = "E 26000".to_owned();
    let (answers, outcomes) = in_step(&[ONE, Sync, Refused, Again(""), Sync]).await;
    assert!(answers.contains(&dropped), "{answers:?}");
    assert_eq!(rules(&outcomes).len(), 1);
    in_step(&[Query("BEGIN"), ONE, Sync, Refused, Query("ROLLBACK"), Again(""), Sync]).await;
    in_step(&[Query("BEGIN"), Query("SELECT 1/0"), Refused, Refused, Query("ROLLBACK")]).await;
    in_step(&[Run("INSERT INTO t VALUES ('lost')"), Refused, Sync, Again(""), Sync]).await;
    // A named one stays. A refused Parse drops it, too.
    in_step(&[Prepare("a", "SELECT 1"), Sync, Refused, Again("a"), Sync]).await;
    in_step(&[ONE, Sync, RunRefused, Sync, Again(""), Sync]).await;
}

/// But for one that is too long to be held until it is judged, which the target cannot be made to parse: it outlives that. The log has
/// to know it.
#[tokio::test]
async fn the_log_names_what_runs_after_a_refusal() {
    let mut line = Line::guarded().await;
    let asks = [
        Ask::Prepare("", "SELECT 'still there'"),
        Ask::Sync,
        Ask::RefusedLong(100_000),
        Ask::Again(""),
        Ask::Sync,
    ];
    let bytes: Vec<u8> = asks.iter().flat_map(|ask| ask.bytes(true)).collect();
    line.send(&bytes).await;
    let said: Vec<_> = line.until(b'Z', 3).await.iter().map(gist).collect();
    assert!(said.iter().any(|gist| gist.contains("still there")), "{said:?}");
    let records = line.records().await;
    let executed = records.iter().find_map(|event| match event {
        Event::Statement(statement) if statement.kind == StatementKind::Execute => statement.sql.as_ref(),
        _ => None,
    });
    assert_eq!(executed.unwrap().text.0, "SELECT 'still there'");
}

/// What came too late is on record as refused, not as perhaps executed.
#[tokio::test]
async fn what_was_refused_when_the_session_ended_was_not_executed() {
    let mut line = Line::guarded().await;
    line.send(&Ask::Query("SELECT pg_sleep(1)").bytes(true)).await;
    line.send(&Ask::Refused.bytes(true)).await;
    let outcomes = line.outcomes().await;
    let last = outcomes.last().unwrap();
    assert_eq!((last.statement, last.rule.is_some()), (2, true), "{outcomes:?}");
}

/// One part of a random session.
fn part() -> impl Strategy<Value = Vec<Ask>> {
    let run = prop_oneof![
        3 => Just(Ask::Run("SELECT 1")),
        2 => Just(Ask::Run("INSERT INTO t VALUES ('r') RETURNING n")),
        1 => Just(Ask::Run("BEGIN")),
        1 => Just(Ask::Run("COMMIT")),
        1 => Just(Ask::Run("SELECT 1/0")),
        1 => Just(Ask::Again("p")),
        1 => Just(Ask::Prepare("q", "SELECT 'q'")),
        1 => Just(Ask::Again("q")),
        1 => Just(Ask::PrepareRefused("q")),
        1 => Just(Ask::Flush),
        4 => Just(Ask::RunRefused),
    ];
    let query = prop_oneof![
        Just(Ask::Query("SELECT 1")),
        Just(Ask::Query("INSERT INTO t VALUES ('q')")),
        Just(Ask::Query("BEGIN")),
        Just(Ask::Query("COMMIT")),
        Just(Ask::Query("ROLLBACK")),
        Just(Ask::Query("SELECT 1/0")),
        Just(Ask::Query("COPY t TO STDOUT")),
        Just(Ask::Refused),
        Just(Ask::RefusedLong(20_000)),
    ];
    prop_oneof![
        proptest::collection::vec(run, 0..6).prop_map(|mut asks| {
            asks.push(Ask::Sync);
            asks
        }),
        query.prop_map(|ask| vec![ask]),
    ]
}

#[test]
fn random_sessions_stay_in_step() {
    let runtime = Runtime::new().unwrap();
    let config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(48)
    };
    let sessions = proptest::collection::vec(part(), 1..12);
    let tried = TestRunner::new(config).run(&sessions, |parts| {
        runtime.block_on(in_step(&parts.concat()));
        Ok(())
    });
    tried.unwrap();
}
