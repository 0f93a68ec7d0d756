//! Notices about grants: when they are told, and to whom.

use super::*;
use crate::audit::{self, Journal};
use crate::model::ending::IDENTITY_DISABLED;
use crate::model::grant::{self, GIVEN_BACK, Grant, GrantChange, Terms};
use crate::model::names::IdentityName;

fn at(minutes: i64) -> Timestamp {
    now() + SignedDuration::from_mins(minutes)
}

pub(super) fn terms(who: &str, minutes: u64) -> Terms {
    Terms {
        identity: who.parse().unwrap(),
        target: "orders".parse().unwrap(),
        reason: Some("BUG-812".to_owned()),
        window: Duration::from_mins(minutes),
        activate_within: Duration::from_hours(1),
        deadline: None,
        max_sessions: 4,
        client_network: None,
        profile: Some("read-write".parse().unwrap()),
        request: Some(RequestId::from_random([1; 10])),
    }
}

fn revoke(by: &str, reason: &str) -> GrantChange {
    GrantChange::Revoke {
        by: by.to_owned(),
        reason: Some(reason.to_owned()),
    }
}

/// A grant whose window opened at [`now`].
fn open(minutes: u64) -> Arc<Grant> {
    let ready = grant::create(GrantId::from_random([5; 10]), terms("ana", minutes), "ana", now()).unwrap();
    Arc::new(grant::apply(&ready, &GrantChange::Activate, now()).unwrap())
}

fn after(grant: &Arc<Grant>, change: &GrantChange, time: Timestamp) -> Arc<Grant> {
    Arc::new(grant::apply(grant, change, time).unwrap())
}

fn id_at(grant: &Arc<Grant>, time: Timestamp) -> Option<String> {
    GrantNotice::of(grant, time).map(|notice| notice.id())
}

fn ending(grant: &Arc<Grant>, until: Timestamp) -> String {
    format!("{}.grant_ending.{}", grant.id(), until.as_millisecond())
}

fn ended(grant: &Arc<Grant>, until: Timestamp) -> String {
    format!("{}.grant_ended.{}", grant.id(), until.as_millisecond())
}

#[test]
fn the_end_is_told_five_minutes_before_and_when_it_is_there() {
    let grant = open(30);
    let second = SignedDuration::from_secs(1);
    assert_eq!(GrantNotice::next_at(&grant, now()), Some(at(25)));
    assert_eq!(id_at(&grant, at(25) - second), None);
    assert_eq!(id_at(&grant, at(25)), Some(ending(&grant, at(30))));
    assert_eq!(GrantNotice::next_at(&grant, at(25)), Some(at(30)));
    assert_eq!(id_at(&grant, at(30)), Some(ended(&grant, at(30))));
    assert_eq!(GrantNotice::next_at(&grant, at(30)), None);
    // It is extended: the later end is another one to be told.
    let longer = after(&grant, &GrantChange::Extend(Duration::from_mins(30)), at(26));
    assert_eq!(
        (id_at(&longer, at(26)), GrantNotice::next_at(&longer, at(26))),
        (None, Some(at(55)))
    );
    assert_eq!(id_at(&longer, at(55)), Some(ending(&grant, at(60))));
}

#[test]
fn a_short_window_has_no_end_to_be_told_before() {
    let (short, enough) = (open(9), open(10));
    assert_eq!(
        (id_at(&short, at(8)), GrantNotice::next_at(&short, now())),
        (None, Some(at(9)))
    );
    assert_eq!(id_at(&short, at(9)), Some(ended(&short, at(9))));
    assert_eq!(id_at(&enough, at(5)), Some(ending(&enough, at(10))));
    // Nothing waits for a grant that nobody has used; that it lapses is not told.
    let ready = grant::create(GrantId::from_random([6; 10]), terms("ana", 30), "ana", now()).unwrap();
    let ready = Arc::new(ready);
    for time in [now(), at(59), at(60), at(600)] {
        assert_eq!((id_at(&ready, time), GrantNotice::next_at(&ready, time)), (None, None));
    }
}

#[test]
fn a_person_is_told_what_others_and_time_do() {
    let person = |name: &str| Audience::Person(name.parse().unwrap());
    let told = |audience: &Audience, grant: &Arc<Grant>, time| {
        audience.is_told(&Notice::Grant(GrantNotice::of(grant, time).expect("a notice")))
    };
    let grant = open(30);
    let revoked = after(&grant, &revoke("lea", "an incident"), at(1));
    let disabled = after(&grant, &revoke("ops", IDENTITY_DISABLED), at(1));
    let given_back = after(&grant, &revoke("ana", GIVEN_BACK), at(1));
    let by_herself = after(&grant, &revoke("ana", "I was wrong"), at(1));
    for (grant, time, expected) in [
        (&grant, at(25), true),
        (&grant, at(30), true),
        (&revoked, at(1), true),
        (&disabled, at(1), true),
        (&given_back, at(1), false),
        (&by_herself, at(1), false),
    ] {
        assert_eq!(told(&person("ana"), grant, time), expected, "{grant:?}");
        assert!(told(&Audience::Everybody, grant, time) && !told(&person("lea"), grant, time));
    }
    let kind = |grant| GrantNotice::of(grant, at(1)).unwrap().kind();
    assert_eq!(
        [kind(&revoked), kind(&given_back), kind(&by_herself)],
        [EventKind::GrantRevoked, EventKind::GrantEnded, EventKind::GrantRevoked]
    );
}

#[test]
fn a_person_is_told_of_decisions_that_others_make() {
    let at = now();
    let grant = || GrantId::from_random([2; 10]);
    let approved = |how| outcome(RequestOutcome::Approved { at, how, grant: grant() });
    let rejected = |by: &str| {
        let by = by.parse().unwrap();
        outcome(RequestOutcome::Rejected { at, by, comment: None })
    };
    let without_approver = RequestNotice {
        event: EventKind::RequestWithoutApprover,
        ..pending(1)
    };
    let mut reviewed = request(1);
    reviewed.outcome = approved(ApprovedBy::BreakGlass).request.outcome.clone();
    reviewed.review = Some(Review {
        by: "lea".parse().unwrap(),
        at,
        comment: "was right".to_owned(),
    });
    let ana: IdentityName = "ana@example.com".parse().unwrap();
    let (ana, bob) = (Audience::Person(ana), Audience::Person("bob".parse().unwrap()));
    for (notice, expected) in [
        (approved(ApprovedBy::People), true),
        (approved(ApprovedBy::BreakGlass), true),
        (notice(reviewed), true),
        (
            outcome(RequestOutcome::Denied {
                at,
                why: "no policy".to_owned(),
            }),
            true,
        ),
        (rejected("lea"), true),
        (rejected("ana@example.com"), false),
        // Her client goes on at once.
        (approved(ApprovedBy::Automatic), false),
        (pending(1), false),
        (without_approver, false),
        (outcome(RequestOutcome::Withdrawn { at }), false),
    ] {
        let notice = Notice::from(notice);
        assert_eq!(ana.is_told(&notice), expected, "{notice:?}");
        assert!(!bob.is_told(&notice) && Audience::Everybody.is_told(&notice));
    }
}

/// A gate's ledger, and a receiver for Ana alone.
struct Bench {
    folder: tempfile::TempDir,
    clock: Clock,
    ledger: Ledger,
    url: String,
    got: Got,
    /// Ids that came: a message whose receipt was not noted comes again.
    known: BTreeSet<String>,
}

impl Bench {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual(now());
        let journal = Journal::open(&audit::JournalSettings::in_folder(folder.path()), clock.clone()).unwrap();
        let ledger = Ledger::open(&folder.path().join("ledger.sqlite"), journal, clock.clone()).unwrap();
        let (url, got) = receiver(&[]).await;
        Self {
            folder,
            clock,
            ledger,
            url,
            got,
            known: BTreeSet::new(),
        }
    }

    fn notifier(&self) -> Notifier {
        let anas = Webhook {
            audience: Audience::Person("ana".parse().unwrap()),
            ..hook("ana", &self.url)
        };
        let path = self.folder.path().join("outbox.sqlite");
        Notifier::with_pace(&path, to(vec![anas]), self.clock.clone(), FAST).unwrap()
    }

    /// Starts to tell; ends when what is returned is dropped.
    fn tells(&self) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        tasks.spawn(self.notifier().run_grants(self.ledger.clone(), self.ledger.changes()));
        tasks
    }

    /// Makes a grant whose window is open.
    async fn open(&self, who: &str, minutes: u64) -> GrantId {
        let terms = Terms {
            request: None,
            ..terms(who, minutes)
        };
        let (grant, _) = self.ledger.create(terms, who).await.unwrap();
        self.change(grant.id(), GrantChange::Activate, who).await;
        grant.id().clone()
    }

    async fn change(&self, grant: &GrantId, change: GrantChange, by: &str) {
        self.ledger.change(grant, change, by, None).await.unwrap();
    }

    /// Not by tokio's clock: the store is on a thread, which held time does not wait for.
    fn pass(&self, minutes: i64) {
        self.clock.set_wall_ahead(SignedDuration::from_mins(minutes));
        let _ = self.clock.observe();
    }

    async fn told(&mut self) -> (Value, Value) {
        let body = self.message().await;
        (body["event"].clone(), body["grant"]["id"].clone())
    }

    async fn message(&mut self) -> Value {
        loop {
            let (_, body) = next(&mut self.got).await;
            if self.known.insert(body["id"].to_string()) {
                return body;
            }
        }
    }
}

#[tokio::test]
async fn the_holder_hears_of_each_end_and_of_nothing_else() {
    let mut bench = Bench::new().await;
    let _telling = bench.tells();
    let (first, longer) = (bench.open("ana", 30).await, bench.open("ana", 60).await);
    // Nobody else's, and not what she does herself.
    bench.open("bob", 30).await;
    let back = bench.open("ana", 30).await;
    bench.ledger.revoke(&back, "ana", Some(GIVEN_BACK)).await.unwrap();
    bench.pass(26);
    assert_eq!(bench.told().await, (json!("grant_ending"), json!(first)));
    // The end is moved: the one that was told does not come, and the later one is told, too.
    bench
        .change(&first, GrantChange::Extend(Duration::from_mins(20)), "ana")
        .await;
    bench.pass(20);
    assert_eq!(bench.told().await, (json!("grant_ending"), json!(first)));
    bench.pass(5);
    assert_eq!(bench.told().await, (json!("grant_ended"), json!(first)));
    // A revocation takes the place of the end.
    let lea = revoke("lea", "an incident");
    bench.change(&longer, lea, "lea").await;
    let body = bench.message().await;
    assert_eq!(
        (&body["event"], &body["grant"]["id"]),
        (&json!("grant_revoked"), &json!(longer))
    );
    assert_eq!(body["grant"]["revoked"]["by"], "lea");
    let last = bench.open("ana", 9).await;
    bench.pass(60);
    assert_eq!(bench.told().await, (json!("grant_ended"), json!(last)));
}

#[tokio::test]
async fn what_happened_while_nobody_told_is_told_once() {
    let mut bench = Bench::new().await;
    let telling = bench.tells();
    let (over, soon, gone) = (
        bench.open("ana", 30).await,
        bench.open("ana", 60).await,
        bench.open("ana", 60).await,
    );
    bench.pass(26);
    assert_eq!(bench.told().await, (json!("grant_ending"), json!(over)));
    drop(telling);
    bench.change(&gone, revoke("ops", "disabled"), "ops").await;
    bench.pass(31);
    // The next run reads what there is; the one after it has nothing to add.
    let telling = bench.tells();
    let mut told = Vec::new();
    for _ in 0..3 {
        told.push(bench.told().await);
    }
    // In the order of time, which is not that of the grants.
    assert_eq!(
        told,
        [
            (json!("grant_revoked"), json!(gone)),
            (json!("grant_ended"), json!(over)),
            (json!("grant_ending"), json!(soon)),
        ]
    );
    drop(telling);
    let _telling = bench.tells();
    bench.pass(5);
    assert_eq!(bench.told().await, (json!("grant_ended"), json!(soon)));
}

#[tokio::test]
async fn a_person_who_is_disabled_hears_why_it_ends() {
    let mut bench = Bench::new().await;
    let _telling = bench.tells();
    let grant = bench.open("ana", 60).await;
    bench.ledger.disable_user(&"ana".parse().unwrap(), "ops").await.unwrap();
    let body = bench.message().await;
    assert_eq!(body["id"], format!("{grant}.grant_revoked"));
    assert_eq!(body["grant"]["revoked"]["by"], "ops");
    assert_eq!(body["grant"]["revoked"]["reason"], IDENTITY_DISABLED);
}

#[tokio::test]
async fn changes_that_were_missed_are_read_again() {
    let mut bench = Bench::new().await;
    let (news, changes) = broadcast::channel(1);
    let revoked = async |bench: &Bench| {
        let grant = bench.open("ana", 30).await;
        bench.ledger.revoke(&grant, "lea", None).await.unwrap();
        (json!("grant_revoked"), json!(grant))
    };
    let first = revoked(&bench).await;
    let telling = tokio::spawn(bench.notifier().run_grants(bench.ledger.clone(), changes));
    assert_eq!(bench.told().await, first);
    let second = revoked(&bench).await;
    // One more than it holds.
    for number in [1, 2] {
        assert!(news.send(ChangedSubject::Request(Arc::new(request(number)))).is_ok());
    }
    assert_eq!(bench.told().await, second);
    drop(news);
    telling.await.unwrap();
}

#[tokio::test]
async fn a_change_of_long_ago_is_judged_by_what_became_of_the_grant() {
    let mut bench = Bench::new().await;
    let (news, changes) = broadcast::channel(8);
    let (extended, revoked) = (bench.open("ana", 30).await, bench.open("ana", 30).await);
    let before = [
        bench.ledger.grant(&extended).await.unwrap(),
        bench.ledger.grant(&revoked).await.unwrap(),
    ];
    let extend = GrantChange::Extend(Duration::from_mins(30));
    bench.change(&extended, extend, "ana").await;
    bench.change(&revoked, revoke("lea", "an incident"), "lea").await;
    let telling = tokio::spawn(bench.notifier().run_grants(bench.ledger.clone(), changes));
    assert_eq!(bench.told().await, (json!("grant_revoked"), json!(revoked)));
    bench.pass(31);
    for view in before {
        assert!(news.send(ChangedSubject::Grant(Box::new(view))).is_ok());
    }
    bench.pass(24);
    assert_eq!(bench.told().await, (json!("grant_ending"), json!(extended)));
    bench.pass(5);
    assert_eq!(bench.told().await, (json!("grant_ended"), json!(extended)));
    drop(news);
    telling.await.unwrap();
}

#[tokio::test]
async fn what_had_ended_before_the_clock_was_set_back_is_not_told_as_revoked() {
    let mut bench = Bench::new().await;
    let over = bench.open("ana", 30).await;
    let (lapsed, _) = bench.ledger.create(terms("ana", 30), "ana").await.unwrap();
    bench.pass(61);
    let live = bench.open("ana", 30).await;
    bench.clock.jump_wall(SignedDuration::from_hours(-6));
    bench.ledger.set_clock_right("ops", None).await.unwrap();
    let stored = bench.ledger.grant(lapsed.id()).await.unwrap().grant;
    assert!(stored.revoked().is_some(), "{stored:?}");
    // As at a start: all are read, and only the one that the clock took away is news.
    let _telling = bench.tells();
    assert_eq!(bench.told().await, (json!("grant_revoked"), json!(live)));
    let last = bench.open("ana", 9).await;
    bench.pass(9);
    assert_eq!(bench.told().await, (json!("grant_ended"), json!(last)), "and not {over}");
}
