//! The notices of a session and of a login that waits, each in its situation: one snapshot, to be read as a whole. And the time
//! at which an idle session gives its buffers back.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::BytesMut;
use jiff::{SignedDuration, Timestamp};

use super::super::limits::{ArrivalNote, DueEvent, SessionLimits};
use super::super::start::token_notice;
use super::super::waiting::{ApprovalWait, narrowed};
use crate::base::clock::Clock;
use crate::model::ending::EndingText;
use crate::model::grant::{Grant, GrantChange, Permit, PermitQuery, Terms, apply, create, permit};
use crate::model::ids::{GrantId, RequestId};
use crate::model::request::{Approval, Request, RequestExtent, RequestSpec};
use crate::protocol::wire::error_response;

/// Within a second, so that what is announced is seen to be before it.
fn began() -> Timestamp {
    "2026-08-01T12:00:00.7Z".parse().unwrap()
}

fn grant(requested: bool) -> Grant {
    let terms = Terms {
        identity: "ana".parse().unwrap(),
        target: "orders".parse().unwrap(),
        profile: Some("read-write".parse().unwrap()),
        reason: Some("BUG-812".to_owned()),
        window: Duration::from_mins(30),
        activate_within: Duration::from_hours(1),
        deadline: None,
        max_sessions: 10,
        client_network: None,
        request: requested.then(|| RequestId::from_random([2; 10])),
    };
    let made = create(GrantId::from_random([1; 10]), terms, "ana", began()).unwrap();
    apply(&made, &GrantChange::Activate, began()).unwrap()
}

fn permitted(grant: &Grant) -> Permit {
    let question = PermitQuery {
        now: began(),
        database: None,
        client: std::net::Ipv4Addr::LOCALHOST.into(),
        live_sessions: 0,
    };
    permit(grant, &question).unwrap()
}

fn limits(grant: &Grant) -> SessionLimits {
    SessionLimits::new(permitted(grant), &[Duration::from_mins(5)], None, None)
}

fn request() -> Request {
    let wish = RequestSpec {
        identity: "ana".parse().unwrap(),
        groups: [].into(),
        issuer: None,
        claims: [].into(),
        target: "orders".parse().unwrap(),
        profile: "read-write".parse().unwrap(),
        window: Duration::from_mins(30),
        reason: None,
        ticket: None,
        max_sessions: 10,
        break_glass: false,
    };
    let until = began() + SignedDuration::from_hours(1);
    Request::waiting(RequestId::from_random([2; 10]), wish, 2, until, began())
}

fn approval(by: &str, comment: Option<&str>) -> Approval {
    Approval {
        by: by.parse().unwrap(),
        at: began(),
        comment: comment.map(str::to_owned),
    }
}

/// The fields of a NoticeResponse that a person sees.
fn fields(message: &[u8]) -> String {
    let fields = message.get(5..).unwrap_or_default().split(|byte| *byte == 0);
    let mut text = String::new();
    for field in fields {
        let Some((kind, value)) = field.split_first() else { continue };
        let label = match kind {
            b'V' => continue,
            b'S' | b'C' | b'M' => "",
            b'D' => "\n  DETAIL: ",
            b'H' => "\n  HINT: ",
            other => panic!("field {other}"),
        };
        let _ = write!(text, "{label}{} ", String::from_utf8_lossy(value));
    }
    text.trim_end().to_owned()
}

fn of_words(words: &EndingText) -> String {
    fields(&error_response::notice(words))
}

fn of_login(request: &Request, approvers: &[&str], nobody: bool, what: &str) -> String {
    let wait = ApprovalWait {
        request: tokio::sync::watch::channel(std::sync::Arc::new(request.clone())).1,
        approvers: crate::access::Approvers {
            names: approvers.iter().map(|name| name.parse().unwrap()).collect(),
            nobody,
        },
        limit: Duration::from_mins(5),
        repeat: Duration::from_secs(15),
    };
    let mut out = BytesMut::new();
    wait.notice(&mut out, request, what);
    fields(&out)
}

#[test]
fn what_is_noticed_in_each_situation() {
    let (asked, by_hand) = (grant(true), grant(false));
    let joined = ArrivalNote::Joined(Some("the totals".to_owned()));
    let extended = apply(&asked, &GrantChange::Extend(Duration::from_mins(30)), began()).unwrap();
    let sooner = began() + SignedDuration::from_mins(10);
    let shortened = apply(&asked, &GrantChange::ShortenTo(sooner), began()).unwrap();
    let waiting = request();
    let mut in_part = request();
    in_part.approvals.push(approval("lea", None));
    let mut less = request();
    less.narrowed_from = Some(RequestExtent {
        profile: less.wish.profile.clone(),
        window: less.wish.window,
    });
    less.wish.profile = "read-only".parse().unwrap();
    less.wish.window = Duration::from_mins(15);
    less.approvals.push(approval("lea", Some("reading will do")));
    let table = [
        ("a login", fields(&limits(&asked).welcome(&asked, None, began()))),
        (
            "a login under a grant made by hand",
            fields(&limits(&by_hand).welcome(&by_hand, None, began())),
        ),
        (
            "a login that joins a live grant",
            fields(&limits(&asked).welcome(&asked, Some(&joined), began())),
        ),
        (
            "the token expires soon",
            of_words(&token_notice(&"ana".parse().unwrap(), began() + SignedDuration::from_hours(73), began()).unwrap()),
        ),
        ("the end is near", fields(&limits(&asked).warning().unwrap())),
        ("extended", fields(&limits(&extended).moved_notice(began()))),
        ("shortened", fields(&limits(&shortened).moved_notice(began()))),
        (
            "a request waits",
            of_login(&waiting, &["lea", "ben"], false, "waiting for approval"),
        ),
        (
            "it waits for people of an issuer",
            of_login(&waiting, &[], false, "waiting for approval"),
        ),
        ("it waits for nobody", of_login(&waiting, &[], true, "waiting for approval")),
        (
            "one of two has approved",
            of_login(&in_part, &["ben"], false, "approved in part"),
        ),
        ("approved for less", of_words(&narrowed(&less).unwrap())),
    ];
    let text: Vec<_> = table.iter().map(|(title, said)| format!("== {title}\n{said}")).collect();
    let text = text.join("\n\n");
    // The second in which it ends, and never the next.
    assert!(
        text.contains("until 2026-08-01 12:30:00 UTC") && text.contains("now ends at 2026-08-01 13:00:00 UTC"),
        "{text}"
    );
    assert!(!text.contains(":01 UTC"), "{text}");
    insta::assert_snapshot!(text);
}

#[test]
fn a_token_is_spoken_of_in_its_last_week() {
    let said = |hours| {
        let until = began() + SignedDuration::from_hours(hours);
        token_notice(&"ana".parse().unwrap(), until, began()).map(|words| words.message)
    };
    assert_eq!(said(7 * 24), None);
    for (hours, words) in [
        (167, "6 days"),
        (25, "1 day"),
        (23, "23 h"),
        (1, "1 h"),
        (0, "less than an hour"),
    ] {
        assert!(
            said(hours)
                .unwrap()
                .starts_with(&format!("your token expires in {words}, at 2026-08-0")),
            "{hours}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn buffers_are_looked_at_a_second_after_the_last_message_and_then_rarely() {
    let clock = Clock::manual(began());
    let mut limits = limits(&grant(true));
    let second = Duration::from_secs(1);
    let last = clock.moment().instant;
    assert_eq!(limits.next(&clock, last), (last + second, DueEvent::Rest));
    // Another message came since the timer was set.
    assert!(!limits.rests(last + second, last + second));
    assert_eq!(limits.next(&clock, last + second), (last + 2 * second, DueEvent::Rest));
    assert!(limits.rests(last + second, last + 2 * second));
    assert_eq!(limits.next(&clock, last + second), (last + 62 * second, DueEvent::Rest));
    // It is used again.
    let again = last + 10 * second;
    assert_eq!(limits.next(&clock, again), (again + second, DueEvent::Rest));
}
