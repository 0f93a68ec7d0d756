//! What takes rights away: in effect at once whatever fails or hangs, durable as soon as it can be, and never undone by a crash.

use std::path::PathBuf;

use super::workflow::{approve, name, new, reasons};
use super::*;
use crate::model::request::{ApprovedBy, RequestOutcome};

const IN_EFFECT: ChangeEffect = ChangeEffect {
    in_effect: true,
    stored: false,
    recorded: false,
};

/// Waits until nothing is pending.
pub(super) async fn settled(ledger: &Ledger) {
    assert!(ledger.finish(Duration::from_secs(20)).await, "it settles");
}

/// A grant with a session that watches it.
async fn in_use(ledger: &Ledger) -> (GrantId, AdmittedSession) {
    let (grant, _) = ledger.create(terms(), "olga").await.unwrap();
    let admission = ledger.admit(grant.id(), None, CLIENT, fine).await.unwrap();
    (grant.id().clone(), admission)
}

fn is_revoked(admission: &mut AdmittedSession) -> bool {
    admission.changes.borrow_and_update().revoked().is_some()
}

const BROKEN: &str = "CREATE TRIGGER broken BEFORE UPDATE ON grants BEGIN SELECT RAISE(FAIL, 'full'); END;
    CREATE TRIGGER broken_too BEFORE UPDATE ON users BEGIN SELECT RAISE(FAIL, 'full'); END";
const MENDED: &str = "DROP TRIGGER broken; DROP TRIGGER broken_too";

#[tokio::test]
async fn a_revocation_needs_neither_log_nor_store_and_reaches_both_in_the_end() {
    let bench = Bench::new();
    let (id, mut admission) = in_use(&bench.ledger).await;
    bench.fill_disk(true);
    bench.sql(BROKEN);
    let view = bench.ledger.revoke(&id, "olga", Some("left")).await.unwrap();
    assert_eq!((view.status.as_str(), view.effect), ("revoked", Some(IN_EFFECT)));
    assert!(is_revoked(&mut admission));
    let refused = bench.ledger.admit(&id, None, CLIENT, fine).await.unwrap_err();
    assert_eq!(refused.name(), "login_revoked");
    assert!(bench.ledger.trouble().is_some(), "not ready");

    bench.sql(MENDED);
    bench.fill_disk(false);
    settled(&bench.ledger).await;
    assert_eq!(bench.ledger.trouble(), None);
    assert_eq!(bench.script.changes(), ["created", "activated", "revoked"], "once");
    let after = bench.reopened();
    assert_eq!(
        after.grant(&id).await.unwrap().grant.revoked().unwrap().reason.as_deref(),
        Some("left")
    );
    settled(&after).await;
    assert_eq!(bench.script.changes().len(), 3, "nothing is left to be recorded");
}

#[tokio::test]
async fn a_revocation_reaches_store_and_log_though_what_takes_it_there_panics() {
    let bench = Bench::new();
    let (id, mut admission) = in_use(&bench.ledger).await;
    let breaks = &bench.ledger.0.pending.breaks;
    breaks.store.store(true, Ordering::SeqCst);
    breaks.log.store(true, Ordering::SeqCst);
    bench.ledger.revoke(&id, "olga", None).await.unwrap();
    assert!(is_revoked(&mut admission));
    settled(&bench.ledger).await;
    assert_eq!(bench.script.changes(), ["created", "activated", "revoked"]);
    assert!(bench.reopened().grant(&id).await.unwrap().grant.revoked().is_some());
}

#[tokio::test]
async fn what_takes_away_waits_for_no_turn_that_something_hanging_holds() {
    let bench = Bench::new();
    let (id, mut admission) = in_use(&bench.ledger).await;
    let until = admission.permit.until();
    bench.script.hangs.send_replace(true);
    let (ledger, hung) = (bench.ledger.clone(), id.clone());
    let extend = tokio::spawn(async move { ledger.extend(&hung, Duration::from_mins(9), "olga", None).await });
    let entry = bench.ledger.0.entry(&id).unwrap();
    while entry.turn.try_lock().is_ok() {
        tokio::task::yield_now().await;
    }
    let view = bench
        .ledger
        .shorten_by(&id, Duration::from_mins(1), "olga", None)
        .await
        .unwrap();
    assert_eq!(
        view.effect,
        Some(ChangeEffect {
            stored: true,
            ..IN_EFFECT
        }),
        "the store works"
    );
    let shortened = until - jiff::SignedDuration::from_mins(1);
    assert_eq!(admission.changes.borrow_and_update().until(), Some(shortened));

    bench.script.hangs.send_replace(false);
    let overtaken = extend.await.unwrap().unwrap_err();
    assert!(
        matches!(overtaken, LedgerError::Store(StoreError::Overtaken)),
        "{overtaken:?}"
    );
    settled(&bench.ledger).await;
    for ledger in [&bench.ledger, &bench.reopened()] {
        assert_eq!(ledger.grant(&id).await.unwrap().grant.until(), Some(shortened));
    }
    // In the order in which they hold.
    let changes = ["created", "activated", "extended", "not_stored", "shortened"];
    assert_eq!(bench.script.changes(), changes);
}

#[tokio::test]
async fn nothing_is_given_where_something_taken_is_not_durable() {
    let bench = Bench::new();
    let (id, admission) = in_use(&bench.ledger).await;
    bench.sql(BROKEN);
    bench
        .ledger
        .shorten_by(&id, Duration::from_mins(1), "olga", None)
        .await
        .unwrap();
    let extended = bench.ledger.extend(&id, Duration::from_mins(9), "olga", None).await;
    assert!(matches!(extended, Err(LedgerError::Unsettled)), "{extended:?}");
    assert!(bench.ledger.issue_login(&id, "ana@example.com").await.is_err());
    let refused = bench.ledger.admit(&id, None, CLIENT, fine).await.unwrap_err();
    assert_eq!(refused.name(), "ledger_failed");
    bench.sql(MENDED);
    settled(&bench.ledger).await;
    assert!(bench.ledger.admit(&id, None, CLIENT, fine).await.is_ok());
    drop(admission);
}

/// The answer that says 200 has reached whoever decides by the same value: an extension that comes after the end is none.
#[tokio::test]
async fn an_extension_that_comes_after_the_end_is_refused_and_leaves_nothing() {
    let bench = Bench::new();
    let (id, admission) = in_use(&bench.ledger).await;
    bench.script.hangs.send_replace(true);
    let (ledger, hung) = (bench.ledger.clone(), id.clone());
    let extend = tokio::spawn(async move { ledger.extend(&hung, Duration::from_mins(9), "olga", None).await });
    let entry = bench.ledger.0.entry(&id).unwrap();
    while entry.turn.try_lock().is_ok() {
        tokio::task::yield_now().await;
    }
    // The end comes while it is put on record.
    bench.step(31 * 60);
    bench.script.hangs.send_replace(false);
    let late = extend.await.unwrap().unwrap_err();
    assert!(matches!(late, LedgerError::Illegal(ChangeError::Ended(_))), "{late:?}");
    settled(&bench.ledger).await;
    let after = bench.reopened();
    for ledger in [&bench.ledger, &after] {
        let grant = ledger.grant(&id).await.unwrap();
        assert_eq!(
            (grant.status.as_str(), grant.grant.until()),
            ("expired", Some(admission.permit.until()))
        );
    }
    assert_eq!(bench.script.changes().last().map(String::as_str), Some("not_stored"));
}

#[tokio::test]
async fn who_is_shut_out_is_out_though_nothing_can_be_written() {
    let bench = Bench::new();
    let (ledger, ana) = (&bench.ledger, name("ana@example.com"));
    let token = ledger
        .add_user(&ana, ["qa", "oncall"].map(name).into(), "olga")
        .await
        .unwrap();
    let (id, mut admission) = in_use(ledger).await;
    let pending = bench.submit(bench.waiting(1)).await.request;
    bench.fill_disk(true);
    bench.sql(BROKEN);
    // Groups and tokens are taken as well as everything.
    let regrouped = ledger.regroup_user(&ana, ["qa"].map(name).into(), "olga").await.unwrap();
    assert_eq!((regrouped.effect, regrouped.groups.len()), (Some(IN_EFFECT), 1));
    assert_eq!(ledger.user_by_token(&token).unwrap().groups.len(), 1);
    let rotated = ledger.rotate_user(&ana, "olga").await.unwrap();
    assert!(rotated.token.is_none() && rotated.effect == IN_EFFECT);
    assert!(ledger.user_by_token(&token).is_none());
    let view = ledger.disable_user(&ana, "olga").await.unwrap();
    assert!(view.disabled && view.effect == Some(IN_EFFECT));
    assert!(is_revoked(&mut admission));
    assert!(matches!(
        ledger.request(&pending.id).await.unwrap().request.outcome,
        Some(RequestOutcome::Rejected { .. })
    ));
    assert!(ledger.enable_user(&ana, "olga").await.is_err(), "not before it is durable");
    bench.sql(MENDED);
    bench.fill_disk(false);
    settled(ledger).await;
    let after = bench.reopened();
    assert!(after.is_disabled(&ana) && after.user_by_token(&token).is_none());
    assert_eq!(after.grant(&id).await.unwrap().status, "revoked");
    assert!(approve(&after, &pending.id, "bo").await.is_err());
    let _ = new(SubmitResult::Granted(ApprovedBy::Automatic));
    let _ = reasons();
}

/// A ledger with a real log, whose files can be looked at as a crash would leave them.
struct Logged {
    folder: tempfile::TempDir,
    journal: Journal,
    clock: Clock,
    ledger: Ledger,
}

impl Logged {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = crate::audit::JournalSettings::in_folder(folder.path());
        let clock = Clock::system(None);
        let journal = Journal::open(&settings, clock.clone()).unwrap();
        let ledger = Ledger::open(&folder.path().join("ledger.db"), journal.clone(), clock.clone()).unwrap();
        Self {
            folder,
            journal,
            clock,
            ledger,
        }
    }

    /// What was there before this is reflected in the store, and known to be.
    async fn note(&self) {
        let written = self.journal.written();
        let segment = u32::try_from(written.segment).unwrap();
        let log = self.journal.log();
        self.ledger.reflects_log(log, segment, written.last_seq).await.unwrap();
    }

    /// The gate is killed now: the next start finds the files as they are.
    fn killed(&self) -> (tempfile::TempDir, Ledger) {
        let copy = tempfile::tempdir().unwrap();
        for name in ["ledger.db", "ledger.db-wal"] {
            let _ = std::fs::copy(self.path(name), copy.path().join(name));
        }
        // The log's folder is this one's still: it is locked, and only read.
        let ledger = Ledger::open(&copy.path().join("ledger.db"), self.journal.clone(), self.clock.clone()).unwrap();
        (copy, ledger)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// The store is locked by another program, the log is not, and the gate is killed: the next start holds to the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_the_log_knows_holds_after_a_crash() {
    let gate = Logged::new();
    let (ana, bo) = (name("ana@example.com"), name("bo@example.com"));
    let token = gate
        .ledger
        .add_user(&bo, ["qa", "oncall"].map(name).into(), "olga")
        .await
        .unwrap();
    gate.ledger.add_user(&ana, ["qa"].map(name).into(), "olga").await.unwrap();
    let (revoked, _one) = in_use(&gate.ledger).await;
    let (shortened, two) = in_use(&gate.ledger).await;
    let (ready, _) = gate.ledger.create(terms(), "olga").await.unwrap();
    let (extended, three) = in_use(&gate.ledger).await;
    gate.note().await;
    // Both know of this one.
    gate.ledger
        .extend(&extended, Duration::from_mins(5), "olga", None)
        .await
        .unwrap();

    let lock = rusqlite::Connection::open(gate.path("ledger.db")).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let soon = gate.clock.now() + Duration::from_mins(2);
    let ledger = &gate.ledger;
    ledger.revoke(&revoked, "olga", Some("left")).await.unwrap();
    ledger
        .shorten_by(&shortened, Duration::from_mins(1), "olga", None)
        .await
        .unwrap();
    ledger.shorten_to(ready.id(), soon, "olga", None).await.unwrap();
    ledger.regroup_user(&bo, ["qa"].map(name).into(), "olga").await.unwrap();
    ledger.rotate_user(&bo, "olga").await.unwrap();
    ledger.disable_user(&name("eve"), "olga").await.unwrap();
    let all_recorded = async {
        while !ledger.0.pending.all_recorded() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), all_recorded).await.unwrap();

    let (_files, after) = gate.killed();
    let grant = async |id| after.grant(id).await.unwrap().grant;
    let revocation = grant(&revoked).await.revoked().cloned().unwrap();
    assert_eq!((revocation.by.as_str(), revocation.reason.as_deref()), ("olga", Some("left")));
    assert_eq!(
        grant(&shortened).await.until().unwrap() + Duration::from_mins(1),
        two.permit.until()
    );
    // Records have milliseconds.
    let deadline = grant(ready.id()).await.deadline().unwrap();
    assert!(
        deadline.duration_since(soon).abs() < jiff::SignedDuration::from_millis(2),
        "{deadline} {soon}"
    );
    assert_eq!(
        grant(&extended).await.until().unwrap() - Duration::from_mins(5),
        three.permit.until()
    );
    assert!(after.user_by_token(&token).is_none());
    assert_eq!(after.user(&bo).unwrap().groups.len(), 1);
    assert!(after.is_disabled(&name("eve")) && !after.is_disabled(&ana));
    lock.execute_batch("ROLLBACK").unwrap();
}

/// The log is full, the store is not, and the gate is killed: the store holds, and the record follows, once.
#[tokio::test]
async fn what_only_the_store_knows_is_put_on_record_by_the_next_start() {
    let bench = Bench::new();
    let (id, _admission) = in_use(&bench.ledger).await;
    bench.fill_disk(true);
    let effect = bench.ledger.revoke(&id, "olga", None).await.unwrap().effect.unwrap();
    assert_eq!(
        effect,
        ChangeEffect {
            stored: true,
            ..IN_EFFECT
        }
    );
    let copy = tempfile::tempdir().unwrap();
    for name in ["ledger.db", "ledger.db-wal"] {
        std::fs::copy(bench.folder.path().join(name), copy.path().join(name)).unwrap();
    }
    let script = Arc::new(Script::default());
    let after = open(&copy, &script, &bench.clock).unwrap();
    assert_eq!(after.grant(&id).await.unwrap().status, "revoked");
    settled(&after).await;
    assert_eq!(script.changes(), ["revoked"]);
}
