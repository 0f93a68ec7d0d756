mod log_tip;
mod logins;
mod many;
mod never;
mod restrict;
mod set_clock;
mod sign_ins;
mod users;
mod workflow;

use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::*;
use crate::audit::event::Event;
use crate::model::ending::Ending;
use crate::model::grant::{Grant, GrantChange, PermitError, Terms};
use crate::protocol::scram::Verifier;

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A log that keeps what it is given, and fails when told to.
#[derive(Default)]
pub(super) struct Script {
    full: AtomicBool,
    /// Nothing comes back, as from a disk that hangs.
    hangs: watch::Sender<bool>,
    /// The change that it does not take.
    refused: Mutex<&'static str>,
    lines: Mutex<Vec<(String, String)>>,
}

impl Script {
    pub(super) async fn record(&self, event: &Event<'_>) -> Result<(), AuditError> {
        let mut hangs = self.hangs.subscribe();
        let _ = hangs.wait_for(|hangs| !hangs).await;
        let line = match event {
            Event::GrantChanged(changed) => (changed.change.to_string(), changed.by.clone()),
            Event::RequestChanged(changed) => (format!("request {}", changed.change), changed.by.to_string()),
            Event::UserChanged(changed) => (format!("user {}", changed.change), changed.by.clone()),
            Event::SignInChanged(changed) => (format!("sign-in {}", changed.change), changed.by.clone()),
            Event::ClockSet(set) => ("clock_set".to_owned(), set.by.clone()),
            other => panic!("the ledger records no {other:?}"),
        };
        if self.full.load(Ordering::SeqCst) || *self.refused.lock() == line.0 {
            return Err(AuditError::Write {
                disk_full: true,
                source: Arc::new(std::io::ErrorKind::StorageFull.into()),
            });
        }
        self.lines.lock().push(line);
        Ok(())
    }

    fn changes(&self) -> Vec<String> {
        self.lines.lock().iter().map(|(change, _)| change.clone()).collect()
    }
}

/// Panics on the way of a change to store and log.
#[derive(Default)]
pub(super) struct TestPanics {
    pub(super) store: AtomicBool,
    pub(super) log: AtomicBool,
}

impl TestPanics {
    pub(super) fn break_store(&self) {
        assert!(!self.store.swap(false, Ordering::SeqCst), "as a test wants it");
    }

    pub(super) fn break_log(&self) {
        assert!(!self.log.swap(false, Ordering::SeqCst), "as a test wants it");
    }
}

impl Ledger {
    /// Moves the end of the window nearer by `length`.
    async fn shorten_by(&self, id: &GrantId, length: Duration, by: &str, reason: Option<&str>) -> Result<GrantView, LedgerError> {
        self.change(id, GrantChange::ShortenBy(length), by, reason).await
    }

    /// Moves the end of the window to an earlier time.
    async fn shorten_to(&self, id: &GrantId, to: Timestamp, by: &str, reason: Option<&str>) -> Result<GrantView, LedgerError> {
        self.change(id, GrantChange::ShortenTo(to), by, reason).await
    }
}

struct Bench {
    folder: tempfile::TempDir,
    script: Arc<Script>,
    clock: Clock,
    ledger: Ledger,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = Arc::new(Script::default());
        let clock = Clock::manual(Timestamp::from_second(1_800_000_000).unwrap());
        let ledger = open(&folder, &script, &clock).unwrap();
        Self {
            folder,
            script,
            clock,
            ledger,
        }
    }

    /// The same store, as the next run finds it.
    fn reopened(&self) -> Ledger {
        open(&self.folder, &self.script, &self.clock).unwrap()
    }

    fn fill_disk(&self, full: bool) {
        self.script.full.store(full, Ordering::SeqCst);
    }

    /// Another process with the store open.
    fn sql(&self, sql: &str) {
        let connection = rusqlite::Connection::open(self.folder.path().join("ledger.db")).unwrap();
        connection.execute_batch(sql).unwrap();
    }

    fn step(&self, seconds: u64) {
        // Not by tokio's clock: the store is on a thread, which held time does not wait for.
        self.clock
            .set_wall_ahead(jiff::SignedDuration::from_secs(i64::try_from(seconds).unwrap()));
        let _ = self.clock.observe();
    }
}

/// Nothing against it.
#[expect(clippy::unnecessary_wraps, reason = "as `admit` takes it")]
fn fine(_: &Grant) -> Result<(), Ending> {
    Ok(())
}

/// All grants.
fn everything() -> GrantFilter {
    GrantFilter {
        ended: true,
        ..GrantFilter::default()
    }
}

fn open(folder: &tempfile::TempDir, script: &Arc<Script>, clock: &Clock) -> Result<Ledger, LedgerError> {
    let path = folder.path().join("ledger.db");
    Ledger::open_with(&path, ChangeRecorder::Scripted(script.clone()), clock.clone())
}

fn terms() -> Terms {
    Terms {
        identity: "ana@example.com".parse().unwrap(),
        target: "orders".parse().unwrap(),
        reason: Some("BUG-812".to_owned()),
        window: Duration::from_mins(30),
        activate_within: Duration::from_hours(1),
        deadline: None,
        max_sessions: 3,
        client_network: Some("127.0.0.0/8".parse().unwrap()),
        profile: None,
        request: None,
    }
}

fn session(letter: u8, grant: &GrantId) -> OpenSession {
    OpenSession {
        session: SessionId::from_random([letter; 10]),
        grant: grant.clone(),
        identity: "ana@example.com".parse().unwrap(),
        target: "orders".parse().unwrap(),
        backend_pid: 4711,
        opened_at: Timestamp::from_second(1_800_000_000).unwrap(),
    }
}

#[tokio::test]
async fn the_first_connect_opens_the_window_and_only_it() {
    let bench = Bench::new();
    let (grant, _) = bench.ledger.create(terms(), "olga").await.unwrap();
    // A mistyped database or a wrong address does not start the time.
    let refused = bench
        .ledger
        .admit(grant.id(), Some("postgres"), CLIENT, fine)
        .await
        .unwrap_err();
    assert_eq!(refused.name(), "wrong_database");
    let refused = bench
        .ledger
        .admit(grant.id(), None, "::1".parse().unwrap(), fine)
        .await
        .unwrap_err();
    assert_eq!(refused.name(), "address_refused");
    assert_eq!(bench.ledger.grant(grant.id()).await.unwrap().status, "ready");

    let mut admissions = Vec::new();
    for admission in
        futures_util::future::join_all((0..3).map(|_| bench.ledger.admit(grant.id(), Some("orders"), CLIENT, fine))).await
    {
        admissions.push(admission.unwrap());
    }
    assert_eq!(bench.script.changes(), ["created", "activated"]);
    let until = admissions[0].permit.until();
    assert!(admissions.iter().all(|admission| admission.permit.until() == until));
    let view = bench.ledger.grant(grant.id()).await.unwrap();
    assert_eq!((view.status.as_str(), view.live_sessions), ("active", 3));
    let refused = bench
        .ledger
        .admit(grant.id(), Some("orders"), CLIENT, fine)
        .await
        .unwrap_err();
    assert_eq!(refused.name(), "too_many_sessions_of_grant");
    admissions.pop();
    assert!(bench.ledger.admit(grant.id(), Some("orders"), CLIENT, fine).await.is_ok());
}

#[tokio::test]
async fn a_change_reaches_whoever_watches() {
    let bench = Bench::new();
    let (grant, _) = bench.ledger.create(terms(), "olga").await.unwrap();
    let id = grant.id();
    let mut admission = bench.ledger.admit(id, None, CLIENT, fine).await.unwrap();
    let until = admission.permit.until();
    assert!(!admission.changes.has_changed().unwrap());

    bench.ledger.extend(id, Duration::from_mins(1), "olga", None).await.unwrap();
    admission.changes.changed().await.unwrap();
    let now = bench.clock.now();
    let grant = admission.changes.borrow_and_update().clone();
    let permit = admission.permit.renew(&grant, now).unwrap();
    assert_eq!(permit.until(), until + Duration::from_mins(1));

    bench.ledger.revoke(id, "olga", Some("left the team")).await.unwrap();
    admission.changes.changed().await.unwrap();
    let grant = admission.changes.borrow_and_update().clone();
    assert!(matches!(permit.renew(&grant, now), Err(PermitError::Revoked { .. })));
    let refused = bench.ledger.admit(id, None, CLIENT, fine).await.unwrap_err();
    assert_eq!(refused.name(), "login_revoked");
    let again = bench
        .ledger
        .extend(id, Duration::from_mins(1), "olga", None)
        .await
        .unwrap_err();
    assert!(matches!(again, LedgerError::Illegal(ChangeError::Ended(_))));
    assert_eq!(bench.script.changes(), ["created", "activated", "extended", "revoked"]);
    // Who did it: the identity itself opens its window.
    assert_eq!(bench.script.lines.lock()[1].1, "ana@example.com");
}

#[tokio::test]
async fn what_cannot_be_put_on_record_does_not_happen() {
    let bench = Bench::new();
    let (grant, _) = bench.ledger.create(terms(), "olga").await.unwrap();
    let id = grant.id();
    bench.fill_disk(true);
    assert!(matches!(
        bench.ledger.create(terms(), "olga").await,
        Err(LedgerError::Audit(_))
    ));
    let refused = bench.ledger.admit(id, None, CLIENT, fine).await.unwrap_err();
    assert_eq!(refused, Ending::AuditFailed { disk_full: true });
    for ledger in [bench.ledger.clone(), bench.reopened()] {
        assert_eq!(ledger.grants(&everything()).await.unwrap().len(), 1);
        assert_eq!(ledger.grant(id).await.unwrap().status, "ready");
    }
    bench.fill_disk(false);
    assert!(bench.ledger.admit(id, None, CLIENT, fine).await.is_ok());
}

#[tokio::test]
async fn what_cannot_be_stored_does_not_happen_and_the_log_says_so() {
    let bench = Bench::new();
    let (grant, _) = bench.ledger.create(terms(), "olga").await.unwrap();
    let id = grant.id();
    let mut admission = bench.ledger.admit(id, None, CLIENT, fine).await.unwrap();
    bench.sql("CREATE TRIGGER broken BEFORE UPDATE ON grants BEGIN SELECT RAISE(FAIL, 'broken'); END");
    let error = bench
        .ledger
        .extend(id, Duration::from_mins(1), "olga", None)
        .await
        .unwrap_err();
    assert!(matches!(error, LedgerError::Store(StoreError::Sqlite(_))));
    assert!(!admission.changes.has_changed().unwrap());
    assert_eq!(
        *admission.changes.borrow_and_update().until().as_ref().unwrap(),
        admission.permit.until()
    );
    assert_eq!(bench.script.changes(), ["created", "activated", "extended", "not_stored"]);
    bench.sql("DROP TRIGGER broken");
    assert!(bench.ledger.extend(id, Duration::from_mins(1), "olga", None).await.is_ok());
}

#[tokio::test]
async fn grants_survive_a_restart() {
    let bench = Bench::new();
    let (grant, secret) = bench.ledger.create(terms(), "olga").await.unwrap();
    let id = grant.id().clone();
    assert_eq!(secret.expose().len(), 32);
    let admission = bench.ledger.admit(&id, None, CLIENT, fine).await.unwrap();
    bench
        .ledger
        .shorten_by(&id, Duration::from_secs(100), "olga", None)
        .await
        .unwrap();
    let (revoked, _) = bench.ledger.create(terms(), "olga").await.unwrap();
    bench.ledger.revoke(revoked.id(), "olga", Some("why not")).await.unwrap();

    let next = bench.reopened();
    assert_eq!(next.grants(&everything()).await.unwrap().len(), 2);
    for id in [&id, revoked.id()] {
        let (before, after) = (bench.ledger.grant(id).await.unwrap(), next.grant(id).await.unwrap());
        assert_eq!((before.grant, before.status), (after.grant, after.status));
        assert!(next.verifier(id.as_str()).await == bench.ledger.verifier(id.as_str()).await);
    }
    // No second window: the deadline is the one fixed at the first connect.
    let again = next.admit(&id, None, CLIENT, fine).await.unwrap();
    assert_eq!(again.permit.until() + Duration::from_secs(100), admission.permit.until());
}

#[tokio::test]
async fn grants_end_by_time_alone_and_are_forgotten_by_clients_later() {
    let bench = Bench::new();
    let (unused, _) = bench.ledger.create(terms(), "olga").await.unwrap();
    let (used, _) = bench.ledger.create(terms(), "olga").await.unwrap();
    drop(bench.ledger.admit(used.id(), None, CLIENT, fine).await.unwrap());
    bench.step(3600);
    let named = async |id| bench.ledger.admit(id, None, CLIENT, fine).await.unwrap_err().name();
    assert_eq!(named(unused.id()).await, "lapsed");
    assert_eq!(named(used.id()).await, "login_expired");
    bench.step(8 * 86_400);
    bench.ledger.create(terms(), "olga").await.unwrap();
    for ledger in [bench.ledger.clone(), bench.reopened()] {
        assert_eq!(ledger.0.grants.lock().entries.len(), 1);
        assert!(ledger.verifier(used.id().as_str()).await == Verifier::mock(used.id().as_str(), &ledger.0.mock_key));
        let refused = ledger.admit(used.id(), None, CLIENT, fine).await.unwrap_err();
        assert_eq!(refused.name(), "bad_secret");
        assert_eq!(ledger.grant(used.id()).await.unwrap().status, "expired");
        assert_eq!(ledger.grants(&everything()).await.unwrap().len(), 3);
        let late = ledger.revoke(used.id(), "olga", None).await.unwrap_err();
        assert!(matches!(late, LedgerError::Illegal(ChangeError::Ended(_))));
    }
}

#[tokio::test]
async fn memory_keeps_nothing_that_is_over_but_what_somebody_holds() {
    let bench = Bench::new();
    let (used, _) = bench.ledger.create(terms(), "olga").await.unwrap();
    let admission = bench.ledger.admit(used.id(), None, CLIENT, fine).await.unwrap();
    bench.ledger.revoke(used.id(), "olga", None).await.unwrap();
    for _ in 0..20 {
        // Its window would have been open for long.
        let (grant, _) = bench.ledger.create(terms(), "olga").await.unwrap();
        bench.ledger.revoke(grant.id(), "olga", None).await.unwrap();
    }
    let in_memory = async |second| {
        bench.step(second);
        let (grant, _) = bench.ledger.create(terms(), "olga").await.unwrap();
        bench.ledger.revoke(grant.id(), "olga", None).await.unwrap();
        bench.ledger.0.grants.lock().entries.len()
    };
    assert_eq!(in_memory(61).await, 2, "the one with a session, and the latest");
    assert_eq!(bench.ledger.grant(used.id()).await.unwrap().live_sessions, 1);
    drop(admission);
    assert_eq!(in_memory(122).await, 1);
    let refused = bench.ledger.admit(used.id(), None, CLIENT, fine).await.unwrap_err();
    assert_eq!(refused.name(), "login_revoked");
}

#[tokio::test]
async fn whoever_comes_with_what_ended_before_a_start_is_told_so() {
    let bench = Bench::new();
    let (unused, _) = bench.ledger.create(terms(), "olga").await.unwrap();
    let (used, _) = bench.ledger.create(terms(), "olga").await.unwrap();
    let login = bench.ledger.issue_login(used.id(), "ana@example.com").await.unwrap().user;
    drop(bench.ledger.admit(used.id(), None, CLIENT, fine).await.unwrap());
    let users = [unused.id().as_str(), used.id().as_str(), &login];
    let mut verifiers = Vec::new();
    for user in users {
        verifiers.push(bench.ledger.verifier(user).await);
    }
    bench.step(6 * 86_400);
    let next = bench.reopened();
    // None of it is in memory, and none of it comes there.
    for (user, verifier) in users.into_iter().zip(&verifiers) {
        assert!(next.verifier(user).await == *verifier, "{user}");
    }
    let named = async |id| next.admit(id, None, CLIENT, fine).await.unwrap_err().name();
    assert_eq!(named(unused.id()).await, "lapsed");
    assert_eq!(named(used.id()).await, "login_expired");
    assert!(next.0.grants.lock().entries.is_empty());
    // So they are for who disables their owner, extends or wants a login.
    for late in [
        next.extend(used.id(), Duration::from_hours(200), "olga", None)
            .await
            .unwrap_err(),
        next.issue_login(used.id(), "ana@example.com").await.unwrap_err(),
    ] {
        assert!(matches!(late, LedgerError::Illegal(ChangeError::Ended(_))));
    }
    // A store that cannot be read lets nobody in.
    bench.sql("ALTER TABLE grants RENAME TO elsewhere");
    assert!(next.verifier(&login).await == Verifier::mock(&login, &next.0.mock_key));
    assert_eq!(named(used.id()).await, "ledger_failed");
}

#[tokio::test]
async fn what_ended_is_dropped_from_memory_and_still_known() {
    let bench = Bench::new();
    let (used, _) = bench.ledger.create(terms(), "olga").await.unwrap();
    let (held, _) = bench.ledger.create(terms(), "olga").await.unwrap();
    drop(bench.ledger.admit(used.id(), None, CLIENT, fine).await.unwrap());
    let session = bench.ledger.admit(held.id(), None, CLIENT, fine).await.unwrap();
    let before = bench.ledger.verifier(used.id().as_str()).await;
    bench.step(7200);
    bench.ledger.create(terms(), "olga").await.unwrap();
    assert!(bench.ledger.0.entry(used.id()).is_none());
    assert!(bench.ledger.verifier(used.id().as_str()).await == before);
    let refused = bench.ledger.admit(used.id(), None, CLIENT, fine).await.unwrap_err();
    assert_eq!(refused.name(), "login_expired");
    // A session that is still being ended is counted.
    assert_eq!(bench.ledger.grant(held.id()).await.unwrap().live_sessions, 1);
    let listed = bench.ledger.grants(&everything()).await.unwrap();
    let sessions: Vec<_> = listed.iter().map(|view| (view.grant.id(), view.live_sessions)).collect();
    assert_eq!(sessions.len(), 3);
    assert!(sessions.contains(&(held.id(), 1)) && sessions.contains(&(used.id(), 0)));
    drop(session);
}

#[tokio::test]
async fn a_stranger_meets_the_same_verifier_each_time() {
    let bench = Bench::new();
    let next = bench.reopened();
    for user in ["gr_zzzzzzzzzz", "postgres", "'; --", ""] {
        assert!(bench.ledger.verifier(user).await == next.verifier(user).await, "{user}");
    }
    let id: GrantId = "gr_zzzzzzzzzz".parse().unwrap();
    assert_eq!(
        bench.ledger.admit(&id, None, CLIENT, fine).await.unwrap_err().sqlstate(),
        "28P01"
    );
    assert!(matches!(bench.ledger.grant(&id).await, Err(LedgerError::NoSuchGrant(_))));
    assert!(matches!(
        bench.ledger.revoke(&id, "olga", None).await,
        Err(LedgerError::NoSuchGrant(_))
    ));
}

#[tokio::test]
async fn leftovers_are_the_sessions_that_were_not_closed() {
    let bench = Bench::new();
    let (grant, _) = bench.ledger.create(terms(), "olga").await.unwrap();
    let sessions: Vec<_> = (0..20).map(|letter| session(letter, grant.id())).collect();
    let opened = sessions.iter().map(|session| bench.ledger.session_opened(session.clone()));
    assert!(futures_util::future::join_all(opened).await.iter().all(Result::is_ok));
    let closed = sessions
        .iter()
        .skip(2)
        .map(|session| bench.ledger.session_closed(&session.session));
    assert!(futures_util::future::join_all(closed).await.iter().all(Result::is_ok));
    assert_eq!(bench.reopened().leftovers().await.unwrap(), sessions[..2]);
}

#[tokio::test]
async fn the_highest_time_is_kept() {
    let bench = Bench::new();
    let path = bench.folder.path().join("ledger.db");
    let now = bench.clock.now();
    bench.ledger.remember_time(now).await.unwrap();
    bench.ledger.remember_time(now - Duration::from_mins(1)).await.unwrap();
    assert_eq!(highest_time(&path).unwrap(), Some(now));
    assert_eq!(highest_time(&bench.folder.path().join("none.db")).unwrap(), None);
    // Made, but not yet opened as a store.
    std::fs::write(bench.folder.path().join("empty.db"), "").unwrap();
    assert_eq!(highest_time(&bench.folder.path().join("empty.db")).unwrap(), None);
}

#[tokio::test]
async fn the_files_are_for_their_owner_only() {
    let bench = Bench::new();
    bench.ledger.create(terms(), "olga").await.unwrap();
    let mut seen = 0;
    for file in std::fs::read_dir(bench.folder.path()).unwrap() {
        let file = file.unwrap();
        assert_eq!(
            file.metadata().unwrap().permissions().mode() & 0o777,
            0o600,
            "{:?}",
            file.path()
        );
        seen += 1;
    }
    assert!(seen >= 2, "the database and its write-ahead log");
}

#[tokio::test]
async fn a_store_that_cannot_be_trusted_is_not_opened() {
    let bench = Bench::new();
    bench.ledger.create(terms(), "olga").await.unwrap();
    let reopen = || open(&bench.folder, &bench.script, &bench.clock).err().unwrap();
    bench.sql("UPDATE grants SET verifier = 'x'");
    assert!(matches!(
        reopen(),
        LedgerError::Store(StoreError::Damaged { what: "verifier", .. })
    ));
    bench.sql("UPDATE grants SET target = 'a b'");
    assert!(matches!(
        reopen(),
        LedgerError::Store(StoreError::Damaged { what: "target", .. })
    ));
    bench.sql("PRAGMA user_version = 99");
    assert!(matches!(reopen(), LedgerError::Store(StoreError::TooNew { found: 99, .. })));
    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("ledger.db"), "x".repeat(9000)).unwrap();
    let refused = open(&other, &bench.script, &bench.clock).err();
    assert!(matches!(refused, Some(LedgerError::Store(StoreError::Sqlite(_)))));
}

#[tokio::test]
async fn a_commit_goes_on_when_whoever_asked_has_gone() {
    let bench = Bench::new();
    let (grant, _) = bench.ledger.create(terms(), "olga").await.unwrap();
    let entry = bench.ledger.0.entry(grant.id()).unwrap();
    let mut changes = entry.state.subscribe();
    let turn = entry.turn.lock().await;
    {
        let extend = bench.ledger.extend(grant.id(), Duration::from_mins(1), "olga", None);
        assert!(tokio::time::timeout(Duration::from_millis(50), extend).await.is_err());
    }
    drop(turn);
    changes.changed().await.unwrap();
    let window = bench.ledger.grant(grant.id()).await.unwrap().grant.window();
    assert_eq!(window, Duration::from_mins(31));
}

#[tokio::test]
async fn changes_are_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let settings = crate::audit::JournalSettings::in_folder(folder.path());
    let clock = Clock::system(None);
    let journal = Journal::open(&settings, clock.clone()).unwrap();
    let ledger = Ledger::open(&folder.path().join("state/ledger.db"), journal, clock).unwrap();
    let (grant, _) = ledger.create(terms(), "olga").await.unwrap();
    ledger.admit(grant.id(), None, CLIENT, fine).await.unwrap();
    ledger.revoke(grant.id(), "olga", Some("done")).await.unwrap();
    let mut log = String::new();
    for file in std::fs::read_dir(&settings.dir).unwrap() {
        log.push_str(&std::fs::read_to_string(file.unwrap().path()).unwrap());
    }
    let changes: Vec<_> = log
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|record| record["event"] == "grant_changed" && record["grant"] == grant.id().as_str())
        .map(|record| record["change"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(changes, ["created", "activated", "revoked"]);
}
