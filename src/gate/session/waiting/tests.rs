//! Waiting logins against a scripted client and a scripted request; tokio's time stands still, so no test takes time.

use jiff::{SignedDuration, Timestamp};
use tokio::io::{DuplexStream, duplex};
use tokio::task::JoinHandle;

use super::*;
use crate::model::request::{Approval, ApprovedBy, RequestSpec};

const LIMIT: Duration = Duration::from_mins(5);
const REPEAT: Duration = Duration::from_secs(15);

fn settings() -> WaitSettings {
    WaitSettings {
        limit: LIMIT,
        repeat: REPEAT,
        logins: 3,
        of_one: 2,
    }
}

fn name(text: &str) -> IdentityName {
    text.parse().unwrap()
}

struct Stage {
    clock: Clock,
    waiters: Arc<ApprovalWaiters>,
    request: watch::Sender<Arc<Request>>,
    client: DuplexStream,
    login: JoinHandle<Result<GrantId, Ending>>,
}

impl Stage {
    fn set() -> Self {
        Self::waiting_for(1, LIMIT)
    }

    fn waiting_for(approvals: u32, limit: Duration) -> Self {
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        let now = clock.now();
        let request = Request {
            id: RequestId::from_random([1; 10]),
            wish: RequestSpec {
                identity: name("ana@example.com"),
                groups: [].into(),
                issuer: None,
                claims: [].into(),
                target: "orders".parse().unwrap(),
                profile: "read-only".parse().unwrap(),
                window: Duration::from_mins(30),
                reason: None,
                ticket: None,
                max_sessions: 1,
                break_glass: false,
            },
            submitted_at: now,
            expires_at: now + SignedDuration::from_hours(1),
            approvals_needed: approvals,
            approvals: Vec::new(),
            outcome: None,
            narrowed_from: None,
            review: None,
        };
        let waiters = Arc::new(ApprovalWaiters::default());
        let waiter = waiters.enter(&request.wish.identity, &settings()).unwrap();
        let (request, watched) = watch::channel(Arc::new(request));
        let wait = ApprovalWait {
            request: watched,
            approvers: Approvers {
                names: vec![name("ben@example.com"), name("lea@example.com")],
                nobody: false,
            },
            limit,
            repeat: REPEAT,
        };
        let (client, mut gate) = duplex(64 * 1024);
        let theirs = clock.clone();
        let login = tokio::spawn(async move { wait.run(&mut gate, &waiter, &theirs).await });
        Self {
            clock,
            waiters,
            request,
            client,
            login,
        }
    }

    fn step(&self, step: impl FnOnce(&mut Request)) {
        self.request.send_modify(|request| step(Arc::make_mut(request)));
    }

    /// The next message: its type and its texts.
    async fn told(&mut self) -> (u8, String) {
        let kind = self.client.read_u8().await.unwrap();
        let length = self.client.read_u32().await.unwrap();
        let mut body = vec![0; length as usize - 4];
        self.client.read_exact(&mut body).await.unwrap();
        (kind, String::from_utf8(body).unwrap())
    }

    /// What a client reads at once.
    async fn welcome(&mut self) -> String {
        assert_eq!(self.told().await, (b'R', "\0\0\0\0".to_owned()));
        let (kind, words) = self.told().await;
        assert_eq!(kind, b'N');
        words
    }

    async fn ended(self) -> Result<GrantId, Ending> {
        let ended = self.login.await.unwrap();
        assert_eq!(self.waiters.waiting(), 0, "its seat is free again");
        ended
    }
}

fn approved() -> RequestOutcome {
    RequestOutcome::Approved {
        at: Timestamp::UNIX_EPOCH,
        how: ApprovedBy::People,
        grant: GrantId::from_random([2; 10]),
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_is_told_what_is_waited_for_and_comes_in_when_it_is_approved() {
    let mut stage = Stage::set();
    let words = stage.welcome().await;
    for said in [
        "SNOTICE",
        "C01000",
        "waiting for approval: rq_1111111111",
        "ben@example.com, lea",
        "tidegate approve rq_1111111111",
    ] {
        assert!(words.contains(said), "no {said:?} in {words:?}");
    }
    stage.step(|request| request.outcome = Some(approved()));
    assert_eq!(stage.ended().await, Ok(GrantId::from_random([2; 10])));
}

#[tokio::test(start_paused = true)]
async fn it_is_told_again_and_at_the_limit_refused() {
    let mut stage = Stage::set();
    stage.welcome().await;
    for waited in ["15 s", "30 s", "45 s", "1 min"] {
        let (_, words) = stage.told().await;
        assert!(words.contains(&format!("still waiting after {waited}")), "{words:?}");
        assert!(words.contains("ben@example.com, lea@example.com can approve it"), "{words:?}");
    }
    let before = stage.clock.now();
    let ended = stage.login.await.unwrap().unwrap_err();
    assert_eq!(ended.name(), "approval_pending");
    assert!(stage.clock.now().duration_since(before) <= SignedDuration::from_mins(4));
    let words = ended.words().unwrap();
    assert!(words.message.contains("not approved within 5 min"), "{words:?}");
    assert!(words.hint.unwrap().contains("tidegate approve rq_1111111111"));
    assert!(words.detail.unwrap().contains("ben@example.com"));
}

#[tokio::test(start_paused = true)]
async fn one_approval_of_two_is_said_and_not_enough() {
    let mut stage = Stage::waiting_for(2, LIMIT);
    assert!(stage.welcome().await.contains("(0 of 2 approvals)"));
    stage.step(|request| {
        request.approvals.push(Approval {
            by: name("ben@example.com"),
            at: Timestamp::UNIX_EPOCH,
            comment: None,
        });
    });
    let (_, words) = stage.told().await;
    assert!(
        words.contains("approved in part: rq_1111111111 (1 of 2 approvals)"),
        "{words:?}"
    );
    stage.step(|request| request.outcome = Some(approved()));
    assert!(stage.ended().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn every_no_has_its_ending() {
    let at = Timestamp::UNIX_EPOCH;
    let by = name("ben@example.com");
    let comment = Some("not today".to_owned());
    for (outcome, ending) in [
        (RequestOutcome::Rejected { at, by, comment }, "request_rejected"),
        (RequestOutcome::Withdrawn { at }, "request_withdrawn"),
        (
            RequestOutcome::Denied {
                at,
                why: "no".to_owned(),
            },
            "access_denied",
        ),
    ] {
        let mut stage = Stage::set();
        stage.welcome().await;
        stage.step(|request| request.outcome = Some(outcome));
        let ended = stage.ended().await.unwrap_err();
        assert_eq!((ended.name(), ended.sqlstate()), (ending, "28000"));
        assert!(ended.words().is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_nobody_looks_at_lapses_by_itself() {
    let mut stage = Stage::waiting_for(1, Duration::from_hours(2));
    stage.welcome().await;
    let drained = async {
        // The client reads what it is told; else the notices would fill its side.
        let mut all = Vec::new();
        let _ = stage.client.read_to_end(&mut all).await;
    };
    drained.await;
    assert_eq!(stage.login.await.unwrap().unwrap_err().name(), "request_lapsed");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_or_speaks_waits_no_longer() {
    let mut stage = Stage::set();
    stage.welcome().await;
    drop(std::mem::replace(&mut stage.client, duplex(1).0));
    assert_eq!(stage.ended().await, Err(Ending::Disconnected));

    for (bytes, ending) in [(&b"X\0\0\0\x04"[..], "quit"), (b"Q\0\0\0\x05\0", "malformed")] {
        let mut stage = Stage::set();
        stage.welcome().await;
        stage.client.write_all(bytes).await.unwrap();
        assert_eq!(stage.ended().await.unwrap_err().name(), ending);
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_sends_everybody_away_and_whoever_comes() {
    let mut stage = Stage::set();
    stage.welcome().await;
    stage.waiters.close();
    assert_eq!(stage.ended().await, Err(Ending::Draining));
}

#[test]
fn seats_are_bounded_and_free_again() {
    let waiters = Arc::new(ApprovalWaiters::default());
    let (ana, ben) = (name("ana"), name("ben"));
    let first = waiters.enter(&ana, &settings()).unwrap();
    let _second = waiters.enter(&ana, &settings()).unwrap();
    let refused = waiters.enter(&ana, &settings()).unwrap_err();
    assert!(
        matches!(
            refused,
            Ending::TooMany {
                scope: LimitScope::WaitingOf(_),
                limit: 2
            }
        ),
        "{refused:?}"
    );
    let third = waiters.enter(&ben, &settings()).unwrap();
    let refused = waiters.enter(&ben, &settings()).unwrap_err();
    assert!(
        matches!(
            refused,
            Ending::TooMany {
                scope: LimitScope::Waiting,
                limit: 3
            }
        ),
        "{refused:?}"
    );
    drop((first, third));
    assert_eq!(waiters.waiting(), 1);
    assert!(waiters.enter(&ana, &settings()).is_ok());
}
