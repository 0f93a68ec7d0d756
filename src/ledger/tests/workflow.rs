use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::audit::event::RequestChangeKind;
use crate::model::names::ProfileName;
use crate::model::request::{Approve, ApprovedBy, Request, RequestSpec, RequestState, StepError, StepResult};

/// What a step comes to in these tests.
#[derive(Debug)]
pub(super) enum NotTaken {
    Illegal(StepError),
    Ledger(LedgerError),
}

impl From<StepError> for NotTaken {
    fn from(error: StepError) -> Self {
        Self::Illegal(error)
    }
}

impl From<LedgerError> for NotTaken {
    fn from(error: LedgerError) -> Self {
        Self::Ledger(error)
    }
}

pub(super) fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

pub(super) fn new(submitted: SubmitResult) -> NewRequest {
    NewRequest {
        wish: RequestSpec {
            identity: name("ana@example.com"),
            groups: BTreeSet::from([name("qa")]),
            issuer: None,
            claims: BTreeMap::new(),
            target: name("orders"),
            profile: name("read-write"),
            window: Duration::from_mins(30),
            reason: Some("BUG-812".to_owned()),
            ticket: Some("SHOP-7".to_owned()),
            max_sessions: 3,
            break_glass: matches!(submitted, SubmitResult::Granted(ApprovedBy::BreakGlass)),
        },
        submitted,
        key: None,
        activate_within: Duration::from_hours(1),
    }
}

impl Bench {
    pub(super) fn waiting(&self, approvals: u32) -> NewRequest {
        let expires_at = self.clock.now() + Duration::from_hours(1);
        new(SubmitResult::Waiting { approvals, expires_at })
    }

    pub(super) async fn submit(&self, new: NewRequest) -> RequestView {
        self.ledger.submit(new, reasons()).await.unwrap()
    }
}

pub(super) fn reasons() -> DecisionReasons {
    DecisionReasons {
        policies: vec!["qa-may".to_owned()],
        policy_set: Some("5e7".to_owned()),
        ..DecisionReasons::default()
    }
}

pub(super) async fn approve(ledger: &Ledger, id: &RequestId, by: &str) -> Result<RequestView, NotTaken> {
    let approve = Approve {
        by: name(by),
        comment: Some(format!("{by} says yes")),
        window: None,
        profile: Some(name("read-only")),
    };
    let profiles: [ProfileName; 2] = [name("read-only"), name("read-write")];
    let step = move |request: &Request, grant, now| Ok(request.pending(now)?.approve(approve, &profiles, grant, now)?);
    ledger.step(id, &name(by), RequestChangeKind::Approved, reasons(), step).await
}

async fn settle(
    ledger: &Ledger,
    id: &RequestId,
    change: RequestChangeKind,
    step: impl FnOnce(&Request, Timestamp) -> Result<Request, StepError> + Send + 'static,
) -> Result<RequestView, NotTaken> {
    let step = |request: &Request, now| Ok::<_, NotTaken>(step(request, now)?);
    let by = name("bo");
    ledger.settle(id, &by, change, reasons(), step).await
}

async fn reject(ledger: &Ledger, id: &RequestId) -> Result<RequestView, NotTaken> {
    settle(ledger, id, RequestChangeKind::Rejected, |request, now| {
        Ok(request.pending(now)?.reject(name("bo"), None, now))
    })
    .await
}

async fn withdraw(ledger: &Ledger, id: &RequestId) -> Result<RequestView, NotTaken> {
    settle(ledger, id, RequestChangeKind::Withdrawn, |request, now| {
        request.pending(now)?.withdraw(&name("ana@example.com"), now)
    })
    .await
}

async fn review(ledger: &Ledger, id: &RequestId) -> Result<RequestView, NotTaken> {
    let step = |request: &Request, _, now| -> Result<StepResult, NotTaken> {
        Ok(StepResult {
            request: request.reviewed(&name("bo"), "was needed".to_owned(), now)?,
            granted: false,
        })
    };
    ledger
        .step(id, &name("bo"), RequestChangeKind::Reviewed, reasons(), step)
        .await
}

#[tokio::test]
async fn an_automatic_request_is_a_grant_at_once() {
    let bench = Bench::new();
    let view = bench.submit(new(SubmitResult::Granted(ApprovedBy::Automatic))).await;
    assert_eq!((view.status.as_str(), view.approvals_missing), ("approved", 0));
    assert_eq!(bench.script.changes(), ["request granted", "created"]);
    let id = view.request.grant().unwrap();
    let grant = bench.ledger.grant(id).await.unwrap().grant;
    assert_eq!(grant.request(), Some(&view.request.id));
    assert_eq!(grant.profile().map(ProfileName::as_str), Some("read-write"));
    assert_eq!((grant.window(), grant.max_sessions()), (Duration::from_mins(30), 3));
    let json = serde_json::to_value(bench.ledger.grant(id).await.unwrap()).unwrap();
    assert_eq!(
        (&json["profile"], &json["request"]),
        (&"read-write".into(), &view.request.id.as_str().into())
    );
    let json = serde_json::to_value(&view).unwrap();
    assert_eq!(
        (&json["status"], &json["outcome"]["grant"]),
        (&"approved".into(), &id.as_str().into())
    );
    assert_eq!(serde_json::from_value::<RequestView>(json).unwrap(), view);
}

#[tokio::test]
async fn a_waiting_request_becomes_a_grant_of_what_the_approvers_give() {
    let bench = Bench::new();
    let (ledger, mut news) = (&bench.ledger, bench.ledger.changes());
    let view = bench.submit(bench.waiting(2)).await;
    let id = &view.request.id;
    assert_eq!((view.status.as_str(), view.approvals_missing), ("pending", 2));
    let mut watch = ledger.watch_request(id).unwrap();
    let wish = &view.request.wish;
    let pending = ledger.pending_requests(&wish.identity, &wish.target).into_iter().next();
    assert_eq!(pending.as_ref(), Some(&view));
    assert!(ledger.pending_requests(&name("bo"), &wish.target).is_empty());
    assert!(ledger.live_grants(&wish.identity, &wish.target).is_empty());

    assert_eq!(approve(ledger, id, "bo").await.unwrap().approvals_missing, 1);
    let own = approve(ledger, id, "ana@example.com").await.unwrap_err();
    assert!(matches!(own, NotTaken::Illegal(StepError::OwnRequest)));
    let done = approve(ledger, id, "cy").await.unwrap();
    assert_eq!(done.status, "approved");
    watch.changed().await.unwrap();
    assert!(watch.borrow_and_update().grant().is_some());
    assert!(ledger.pending_requests(&wish.identity, &wish.target).is_empty());
    let found = ledger.live_grants(&wish.identity, &wish.target);
    let [live] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(live.grant.profile(), Some(&name("read-only")));
    assert_eq!(Some(live.grant.id()), done.request.grant());
    assert_eq!(live.grant.created_by(), "cy");
    assert_eq!(ledger.active_grants(&wish.identity), 1);
    let heard: Vec<_> = std::iter::from_fn(|| news.try_recv().ok())
        .map(|news| match news {
            ChangedSubject::Request(request) => request.status(bench.clock.now()).name(),
            ChangedSubject::Grant(_) => "grant",
        })
        .collect();
    assert_eq!(heard, ["pending", "pending", "grant", "approved"]);
    let words = ["request submitted", "request approved", "request approved", "created"];
    assert_eq!(bench.script.changes(), words);
}

#[tokio::test]
async fn two_approvers_at_once_give_one_result() {
    let bench = Bench::new();
    let id = bench.submit(bench.waiting(1)).await.request.id;
    let (one, two) = tokio::join!(approve(&bench.ledger, &id, "bo"), approve(&bench.ledger, &id, "cy"));
    let late = [&one, &two].into_iter().filter_map(|result| result.as_ref().err());
    let late: Vec<_> = late.collect();
    assert!(
        matches!(late[..], [NotTaken::Illegal(StepError::Settled(RequestState::Approved))]),
        "{late:?}"
    );
    assert_eq!(bench.ledger.grants(&everything()).await.unwrap().len(), 1);
    assert_eq!(bench.script.changes(), ["request submitted", "request approved", "created"]);
    let late = withdraw(&bench.ledger, &id).await.unwrap_err();
    assert!(matches!(late, NotTaken::Illegal(StepError::Settled(RequestState::Approved))));
}

#[tokio::test]
async fn the_same_key_is_the_same_request() {
    let bench = Bench::new();
    let keyed = |who: &str| {
        let mut new = bench.waiting(1);
        new.key = Some("ci-4711".to_owned());
        new.wish.identity = name(who);
        new
    };
    let many = (0..8).map(|_| bench.submit(keyed("ana@example.com")));
    let views = futures_util::future::join_all(many).await;
    assert!(views.iter().all(|view| *view == views[0]));
    assert_eq!(bench.script.changes(), ["request submitted"]);
    let other = bench.submit(keyed("bo")).await;
    assert_ne!(other.request.id, views[0].request.id);
    let after = bench.reopened().submit(keyed("ana@example.com"), reasons()).await.unwrap();
    assert_eq!(after, views[0]);
    // Also once it is settled.
    approve(&bench.ledger, &after.request.id, "bo").await.unwrap();
    assert_eq!(bench.submit(keyed("ana@example.com")).await.status, "approved");
}

#[tokio::test]
async fn what_makes_no_grant_is_no_request() {
    let bench = Bench::new();
    for submitted in [SubmitResult::Granted(ApprovedBy::Automatic), bench.waiting(1).submitted] {
        let mut new = new(submitted);
        new.wish.window = Duration::from_millis(900);
        let refused = bench.ledger.submit(new, reasons()).await.unwrap_err();
        assert!(matches!(refused, LedgerError::Terms(_)), "{refused:?}");
    }
    assert!(bench.script.changes().is_empty());
}

#[tokio::test]
async fn what_is_not_on_record_is_no_request_and_no_step() {
    let bench = Bench::new();
    let id = bench.submit(bench.waiting(1)).await.request.id;
    bench.fill_disk(true);
    let refused = bench
        .ledger
        .submit(new(SubmitResult::Granted(ApprovedBy::Automatic)), reasons())
        .await;
    assert!(matches!(refused, Err(LedgerError::Audit(_))));
    let refused = approve(&bench.ledger, &id, "bo").await;
    assert!(matches!(refused, Err(NotTaken::Ledger(LedgerError::Audit(_)))));
    bench.fill_disk(false);
    // The request's record is written, the grant's is not.
    *bench.script.refused.lock() = "created";
    assert!(approve(&bench.ledger, &id, "bo").await.is_err());
    *bench.script.refused.lock() = "";
    for ledger in [bench.ledger.clone(), bench.reopened()] {
        let all = ledger.requests(RequestFilter::default()).await.unwrap();
        assert_eq!(
            (all.len(), all[0].status.as_str(), all[0].approvals_missing),
            (1, "pending", 1)
        );
        assert!(ledger.grants(&everything()).await.unwrap().is_empty());
    }
    let words = ["request submitted", "request approved", "request not_stored"];
    assert_eq!(bench.script.changes(), words);
    assert!(approve(&bench.ledger, &id, "bo").await.is_ok());
}

#[tokio::test]
async fn what_is_not_stored_is_taken_back() {
    let bench = Bench::new();
    let id = bench.submit(bench.waiting(1)).await.request.id;
    bench.sql("CREATE TRIGGER broken BEFORE UPDATE ON requests BEGIN SELECT RAISE(FAIL, 'broken'); END");
    let failed = approve(&bench.ledger, &id, "bo").await;
    assert!(matches!(failed, Err(NotTaken::Ledger(LedgerError::Store(_)))));
    let words = [
        "request submitted",
        "request approved",
        "created",
        "not_stored",
        "request not_stored",
    ];
    assert_eq!(bench.script.changes(), words);
    // Not half of it either.
    let next = bench.reopened();
    assert_eq!(
        (
            next.grants(&everything()).await.unwrap().len(),
            bench.ledger.grants(&everything()).await.unwrap().len()
        ),
        (0, 0)
    );
    bench.sql("DROP TRIGGER broken");
    assert!(approve(&next, &id, "bo").await.is_ok());
    assert_eq!(next.grants(&everything()).await.unwrap().len(), 1);
    // The other program's memory is behind; the store refuses what may not follow.
    reject(&bench.ledger, &id).await.unwrap();
    assert_eq!(next.request(&id).await.unwrap().status, "approved");
}

#[tokio::test]
async fn the_store_keeps_what_is_settled() {
    let bench = Bench::new();
    let id = bench.submit(bench.waiting(1)).await.request.id;
    reject(&bench.ledger, &id).await.unwrap();
    let glass = bench.submit(new(SubmitResult::Granted(ApprovedBy::BreakGlass))).await.request;
    bench.ledger.revoke(glass.grant().unwrap(), "olga", None).await.unwrap();
    let connection = rusqlite::Connection::open(bench.folder.path().join("ledger.db")).unwrap();
    for sql in [
        "UPDATE requests SET outcome = NULL WHERE outcome = 'rejected'",
        "UPDATE requests SET outcome = 'approved', grant_id = (SELECT id FROM grants) WHERE outcome = 'rejected'",
        "UPDATE requests SET body = json_set(body, '$.window_seconds', 999)",
        "UPDATE requests SET body = json_set(body, '$.review', 'x')",
        "UPDATE requests SET unreviewed = 0",
        "UPDATE requests SET expires_at = expires_at + 1",
        "UPDATE grants SET revoked_at = NULL",
        "UPDATE grants SET until = until + 1",
    ] {
        assert!(connection.execute(sql, []).is_err(), "{sql}");
    }
    review(&bench.ledger, &glass.id).await.unwrap();
    let again = connection.execute(
        "UPDATE requests SET body = json_set(body, '$.review', 'x') WHERE outcome = 'approved'",
        [],
    );
    assert!(again.is_err());
}

/// A request in every state but lapsed, in the order of [`STATES`]: the third's grant is active, the last one's is revoked.
async fn in_every_state(bench: &Bench) -> Vec<Request> {
    let ledger = &bench.ledger;
    let mut ids = Vec::new();
    for approvals in [1, 2, 1, 1, 1] {
        ids.push(bench.submit(bench.waiting(approvals)).await.request.id);
    }
    approve(ledger, &ids[1], "bo").await.unwrap();
    let approved = approve(ledger, &ids[2], "bo").await.unwrap();
    reject(ledger, &ids[3]).await.unwrap();
    withdraw(ledger, &ids[4]).await.unwrap();
    let why = "not at night".to_owned();
    ids.push(bench.submit(new(SubmitResult::Denied { why })).await.request.id);
    let glass = bench.submit(new(SubmitResult::Granted(ApprovedBy::BreakGlass))).await.request;
    let seen = bench.submit(new(SubmitResult::Granted(ApprovedBy::BreakGlass))).await.request;
    review(ledger, &seen.id).await.unwrap();
    ids.extend([glass.id, seen.id.clone()]);
    let active = approved.request.grant().unwrap();
    ledger.admit(active, None, CLIENT, fine).await.unwrap();
    ledger.extend(active, Duration::from_mins(5), "ana", None).await.unwrap();
    ledger.revoke(seen.grant().unwrap(), "olga", None).await.unwrap();
    let mut requests = Vec::new();
    for id in ids {
        requests.push(ledger.request(&id).await.unwrap().request);
    }
    requests
}

const STATES: [&str; 8] = [
    "pending",
    "pending",
    "approved",
    "rejected",
    "withdrawn",
    "denied",
    "approved",
    "approved",
];

#[tokio::test]
async fn every_state_survives_a_restart() {
    let bench = Bench::new();
    let ledger = &bench.ledger;
    let requests = in_every_state(&bench).await;
    let [pending, half, approved, .., glass, _] = &requests[..] else {
        panic!("there are eight");
    };
    let next = bench.reopened();
    let all = RequestFilter::default;
    for request in &requests {
        assert_eq!(next.request(&request.id).await.unwrap().request, *request);
    }
    let statuses: Vec<_> = next
        .requests(all())
        .await
        .unwrap()
        .into_iter()
        .rev()
        .map(|view| view.status)
        .collect();
    assert_eq!(statuses, STATES);
    let stored = async |ledger: &Ledger| {
        ledger
            .grants(&everything())
            .await
            .unwrap()
            .into_iter()
            .map(|view| (view.grant, view.status))
            .collect::<Vec<_>>()
    };
    assert_eq!(stored(&next).await, stored(ledger).await);
    assert_eq!(next.active_grants(&name("ana@example.com")), 2);
    let unreviewed = next
        .requests(RequestFilter {
            unreviewed: true,
            ..all()
        })
        .await
        .unwrap();
    assert_eq!(
        unreviewed.iter().map(|view| &view.request.id).collect::<Vec<_>>(),
        [&glass.id]
    );
    // And everything goes on from where it stood.
    assert_eq!(approve(&next, &half.id, "cy").await.unwrap().status, "approved");
    assert_eq!(withdraw(&next, &pending.id).await.unwrap().status, "withdrawn");
    assert!(next.admit(approved.grant().unwrap(), None, CLIENT, fine).await.is_ok());
    assert!(review(&next, &glass.id).await.unwrap().request.review.is_some());
    let twice = review(&next, &glass.id).await;
    assert!(matches!(twice, Err(NotTaken::Illegal(StepError::Reviewed(_)))));
}

#[tokio::test]
async fn a_request_lapses_by_time_alone() {
    let bench = Bench::new();
    let id = bench.submit(bench.waiting(1)).await.request.id;
    bench.step(3600);
    for ledger in [bench.ledger.clone(), bench.reopened()] {
        assert_eq!(ledger.request(&id).await.unwrap().status, "lapsed");
        let late = approve(&ledger, &id, "bo").await;
        assert!(matches!(
            late,
            Err(NotTaken::Illegal(StepError::Settled(RequestState::Lapsed)))
        ));
        let pending = RequestFilter {
            status: Some(RequestState::Pending),
            ..RequestFilter::default()
        };
        assert!(ledger.requests(pending).await.unwrap().is_empty());
    }
    // Settled ones leave the memory, and are found all the same.
    bench.step(120);
    bench.submit(bench.waiting(1)).await;
    assert!(bench.ledger.watch_request(&id).is_none());
    assert_eq!(bench.ledger.request(&id).await.unwrap().status, "lapsed");
    let nobody = RequestId::from_random([0; 10]);
    assert!(matches!(
        bench.ledger.request(&nobody).await,
        Err(LedgerError::NoSuchRequest(_))
    ));
}

#[tokio::test]
async fn pages_go_back_in_time() {
    let bench = Bench::new();
    let mut ids = Vec::new();
    for number in 0..7 {
        let mut new = bench.waiting(1);
        new.wish.identity = name(["ana", "bo"][number % 2]);
        ids.push(bench.submit(new).await.request.id);
    }
    reject(&bench.ledger, &ids[6]).await.unwrap();
    ids.reverse();
    for status in [None, Some(RequestState::Pending)] {
        let mut found = Vec::new();
        while let Ok(page) = {
            let before = found.last().cloned();
            let filter = RequestFilter {
                status,
                before,
                limit: 2,
                ..RequestFilter::default()
            };
            bench.ledger.requests(filter).await
        } {
            if page.is_empty() {
                break;
            }
            found.extend(page.into_iter().map(|view| view.request.id));
        }
        assert_eq!(found, ids[usize::from(status.is_some())..]);
        let identity = Some(name("bo"));
        let bos = bench.ledger.requests(RequestFilter {
            status,
            identity,
            ..RequestFilter::default()
        });
        assert_eq!(bos.await.unwrap().len(), 3);
    }
    let status = Some(RequestState::Rejected);
    let rejected = bench.ledger.requests(RequestFilter {
        status,
        ..RequestFilter::default()
    });
    assert_eq!(rejected.await.unwrap()[0].request.id, ids[0]);
    let before = Some(RequestId::from_random([0; 10]));
    let unknown = bench.ledger.requests(RequestFilter {
        before,
        ..RequestFilter::default()
    });
    assert!(matches!(unknown.await, Err(LedgerError::NoSuchRequest(_))));
}

#[tokio::test]
async fn the_first_connect_asks_again() {
    let bench = Bench::new();
    let granted = bench.submit(new(SubmitResult::Granted(ApprovedBy::Automatic))).await.request;
    let id = granted.grant().unwrap();
    let refuse = |grant: &Grant| {
        assert!(grant.profile().is_some());
        Err(Ending::AddressRefused {
            grant: grant.id().clone(),
        })
    };
    let refused = bench.ledger.admit(id, None, CLIENT, refuse).await.unwrap_err();
    assert_eq!(refused.name(), "address_refused");
    assert_eq!(bench.ledger.grant(id).await.unwrap().status, "ready");
    assert!(bench.ledger.admit(id, None, CLIENT, fine).await.is_ok());
    // Not once the window is open, and not of a grant made by hand.
    assert!(bench.ledger.admit(id, None, CLIENT, refuse).await.is_ok());
    let (by_hand, _) = bench.ledger.create(terms(), "olga").await.unwrap();
    assert!(bench.ledger.admit(by_hand.id(), None, CLIENT, refuse).await.is_ok());
}
