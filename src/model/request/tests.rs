use proptest::prelude::*;

use super::*;

fn id<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().expect("fit")
}

fn wish() -> RequestSpec {
    RequestSpec {
        identity: id("ana@example.com"),
        groups: BTreeSet::new(),
        issuer: None,
        claims: BTreeMap::new(),
        target: id("orders"),
        profile: id("read-write"),
        window: Duration::from_hours(1),
        reason: Some("BUG-812".to_owned()),
        ticket: None,
        max_sessions: 4,
        break_glass: false,
    }
}

#[test]
fn two_approvers_make_a_grant_of_what_both_agree_to() {
    let now = Timestamp::UNIX_EPOCH;
    let later = Timestamp::from_second(3600).expect("a time");
    let request = Request::waiting(RequestId::from_random([1; 10]), wish(), 2, later, now);
    let profiles = [id("read-only"), id("read-write")];
    let approve = |by: &str, minutes| Approve {
        by: id(by),
        comment: None,
        window: Some(Duration::from_mins(minutes)),
        profile: None,
    };
    let grant = GrantId::from_random([2; 10]);
    let first = request
        .pending(now)
        .expect("pending")
        .approve(approve("bo", 40), &profiles, grant.clone(), now);
    let first = first.expect("approved");
    assert!(!first.granted);
    let twice = first
        .request
        .pending(now)
        .expect("pending")
        .approve(approve("bo", 30), &profiles, grant.clone(), now);
    assert_eq!(twice, Err(StepError::Twice(id("bo"))));
    let second = first
        .request
        .pending(now)
        .expect("pending")
        .approve(approve("cy", 40), &profiles, grant.clone(), now);
    let second = second.expect("approved");
    assert!(second.granted);
    assert_eq!(second.request.wish.window, Duration::from_mins(40));
    assert_eq!(second.request.grant(), Some(&grant));
    assert_eq!(
        second.request.pending(now).err(),
        Some(StepError::Settled(RequestState::Approved))
    );
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_second(1_800_000_000).expect("a time") + Duration::from_secs(seconds)
}

/// The narrowest first.
fn profiles() -> [ProfileName; 3] {
    [id("read-only"), id("read-write"), id("owner")]
}

const REQUESTER: &str = "ana@example.com";

#[derive(Debug, Clone)]
enum Event {
    Approve {
        by: &'static str,
        window: Option<u64>,
        profile: Option<usize>,
    },
    Reject(&'static str),
    Withdraw(&'static str),
    Review(&'static str),
}

fn anybody() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec![REQUESTER, "bo", "cy", "di"])
}

fn any_event() -> impl Strategy<Value = Event> {
    let window = proptest::option::of(0u64..6000);
    prop_oneof![
        6 => (anybody(), window, proptest::option::of(0usize..3))
            .prop_map(|(by, window, profile)| Event::Approve { by, window, profile }),
        1 => anybody().prop_map(Event::Reject),
        1 => anybody().prop_map(Event::Withdraw),
        1 => anybody().prop_map(Event::Review),
    ]
}

fn any_request() -> impl Strategy<Value = Request> {
    let (rq, gr) = (RequestId::from_random([1; 10]), GrantId::from_random([9; 10]));
    (0u8..6, 0u32..4, 1u64..5000).prop_map(move |(kind, approvals, expires)| {
        let wish = RequestSpec {
            break_glass: kind == 0,
            ..wish()
        };
        match kind {
            0 => Request::granted(rq.clone(), wish, ApprovedBy::BreakGlass, gr.clone(), at(0)),
            1 => Request::granted(rq.clone(), wish, ApprovedBy::Automatic, gr.clone(), at(0)),
            2 => Request::denied(rq.clone(), wish, "no".to_owned(), at(0)),
            _ => Request::waiting(rq.clone(), wish, approvals, at(expires), at(0)),
        }
    })
}

fn take(request: &Request, event: &Event, number: u8, now: Timestamp) -> Result<Request, StepError> {
    match *event {
        Event::Approve { by, window, profile } => {
            let approve = Approve {
                by: id(by),
                comment: None,
                window: window.map(Duration::from_secs),
                profile: profile.map(|place| profiles()[place].clone()),
            };
            let grant = GrantId::from_random([number; 10]);
            let next = request.pending(now)?.approve(approve, &profiles(), grant, now)?;
            assert_eq!(next.granted, next.request.grant().is_some());
            Ok(next.request)
        }
        Event::Reject(by) => Ok(request.pending(now)?.reject(id(by), None, now)),
        Event::Withdraw(by) => request.pending(now)?.withdraw(&id(by), now),
        Event::Review(by) => request.reviewed(&id(by), "seen".to_owned(), now),
    }
}

/// How wide a profile is.
fn width(request: &Request) -> usize {
    let place = profiles().into_iter().position(|profile| profile == request.wish.profile);
    place.expect("one of the target's")
}

proptest! {
    #[test]
    fn no_sequence_of_events_takes_a_request_back_from_its_end(
        first in any_request(),
        events in proptest::collection::vec((any_event(), 0u64..600), 1..40),
    ) {
        let mut request = first.clone();
        let (mut now, mut ended) = (at(0), None);
        for (number, (event, wait)) in (1u8..).zip(events) {
            now += Duration::from_secs(wait);
            let before = request.status(now);
            // Time alone changes what is pending, and nothing else.
            if let Some(ended) = ended {
                prop_assert_eq!(before, ended);
            }
            prop_assert!(matches!(before, RequestState::Pending) == request.pending(now).is_ok());
            let is_review = matches!(event, Event::Review(_));
            if let Ok(next) = take(&request, &event, number, now) {
                prop_assert!(is_review || before == RequestState::Pending);
                if is_review {
                    // It changes what is known, and not what is allowed; and it happens once.
                    let without = Request { review: None, ..next.clone() };
                    prop_assert_eq!(&without, &request);
                    prop_assert!(next.review.as_ref().is_some_and(|review| review.by != first.wish.identity));
                }
                // Never more than was asked for, nor than the approver before gave.
                prop_assert!(next.wish.window <= request.wish.window);
                prop_assert!(width(&next) <= width(&request));
                let same = RequestSpec { window: first.wish.window, profile: first.wish.profile.clone(), ..next.wish.clone() };
                prop_assert_eq!(&same, &first.wish);
                prop_assert_eq!((next.expires_at, next.approvals_needed), (first.expires_at, first.approvals_needed));
                request = next;
            }
            let after = request.status(now);
            prop_assert_eq!(after == RequestState::Approved, request.grant().is_some());
            if ended.is_none() && after != RequestState::Pending {
                ended = Some(after);
            }
            // Whoever has a grant of people has as many of them as it needed, each once, and not the requester.
            let approvers: BTreeSet<_> = request.approvals.iter().map(|approval| &approval.by).collect();
            prop_assert_eq!(approvers.len(), request.approvals.len());
            prop_assert!(!approvers.contains(&first.wish.identity));
            if matches!(request.outcome, Some(RequestOutcome::Approved { how: ApprovedBy::People, .. })) {
                prop_assert_eq!(request.approvals_missing(), 0);
                prop_assert!(!approvers.is_empty());
            }
            if after == RequestState::Pending {
                prop_assert!(request.approvals_missing() > 0 && now < request.expires_at);
            }
        }
    }

    #[test]
    fn a_request_is_read_as_it_was_written(first in any_request(), events in proptest::collection::vec(any_event(), 0..6)) {
        let mut request = first;
        for (number, event) in (1u8..).zip(events) {
            if let Ok(next) = take(&request, &event, number, at(u64::from(number))) {
                request = next;
            }
        }
        let json = serde_json::to_string(&request).expect("JSON");
        prop_assert_eq!(serde_json::from_str::<Request>(&json).expect("a request"), request);
    }
}
