use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::identity::IdentitySource;
use crate::model::ids::RequestId;

fn name<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().expect("fit")
}

fn rules() -> AccessRules {
    crate::access::testing::rules(None)
}

fn ana() -> Identity {
    Identity {
        name: name("ana@example.com"),
        groups: BTreeSet::from([name("qa")]),
        source: IdentitySource::Local,
        claims: BTreeMap::new(),
    }
}

fn asked(target: &str) -> RequestArgs {
    RequestArgs {
        target: target.to_owned(),
        ..RequestArgs::default()
    }
}

#[test]
fn what_is_left_out_is_the_least() {
    let wish = wish(&rules(), &ana(), &asked("orders")).expect("a wish");
    assert_eq!(wish.profile, name("read-only"));
    assert_eq!((wish.window, wish.max_sessions), (Duration::from_mins(30), 10));
    assert_eq!((wish.groups, wish.issuer), (ana().groups, None));
}

#[test]
fn a_misspelled_name_is_answered_with_the_nearest() {
    let near = |target: &str| match wish(&rules(), &ana(), &asked(target)) {
        Err(AccessError::NoSuchTarget { nearest, .. }) => nearest,
        other => panic!("{other:?}"),
    };
    assert_eq!(near("order").as_deref(), Some("orders"));
    assert_eq!(near("ORDERS").as_deref(), Some("orders"));
    assert_eq!(near("paymnets").as_deref(), Some("payments"));
    assert_eq!(near("inventory"), None);
    assert_eq!(near(&"x".repeat(1 << 20)), None);
    let profile = RequestArgs {
        profile: Some("readwrite".to_owned()),
        ..asked("orders")
    };
    match wish(&rules(), &ana(), &profile) {
        Err(AccessError::NoSuchProfile { known, .. }) => assert_eq!(known.first(), Some(&name("read-write"))),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_makes_no_request_says_why() {
    let said = |asked: RequestArgs| wish(&rules(), &ana(), &asked).expect_err("no wish").to_string();
    let short = said(RequestArgs {
        window: Some(Duration::from_millis(10)),
        ..asked("orders")
    });
    assert!(short.contains("1 second to 31d"), "{short}");
    let none = said(RequestArgs {
        max_sessions: Some(0),
        ..asked("orders")
    });
    assert!(none.contains("at least 1"), "{none}");
    let long = said(RequestArgs {
        reason: Some("x".repeat(1001)),
        ..asked("orders")
    });
    assert!(long.contains("the reason has 1001 bytes"), "{long}");
    let escape = said(RequestArgs {
        ticket: Some("\u{1b}[2J".to_owned()),
        ..asked("orders")
    });
    assert!(escape.contains("the ticket contains control characters"), "{escape}");
    let key = said(RequestArgs {
        key: Some(String::new()),
        ..asked("orders")
    });
    assert!(key.contains("idempotency key"), "{key}");
}

#[test]
fn what_is_more_than_the_caps_is_refused_with_them_and_never_narrowed() {
    let mut rules = rules();
    rules.caps = RequestCaps {
        sessions: 20,
        window: Duration::from_hours(4),
        reason_bytes: 10,
    };
    let said = |asked: RequestArgs| wish(&rules, &ana(), &asked).expect_err("no wish").to_string();
    let sessions = |number| RequestArgs {
        max_sessions: Some(number),
        ..asked("orders")
    };
    let many = said(sessions(u32::MAX));
    assert!(many.contains("at most 20 concurrent sessions, not 4294967295"), "{many}");
    assert!(said(sessions(21)).contains("at most 20"));
    assert_eq!(wish(&rules, &ana(), &sessions(20)).expect("a wish").max_sessions, 20);
    let long = said(RequestArgs {
        window: Some(Duration::from_hours(5)),
        ..asked("orders")
    });
    assert!(long.contains("1 second to 4h"), "{long}");
    let words = said(RequestArgs {
        reason: Some("x".repeat(11)),
        ..asked("orders")
    });
    assert!(words.contains("at most 10 are allowed"), "{words}");
    // A default is no wish: it gives way to the cap.
    rules.caps.sessions = 3;
    assert_eq!(wish(&rules, &ana(), &asked("orders")).expect("a wish").max_sessions, 3);
}

#[test]
fn a_reason_is_one_line() {
    assert_eq!(
        reason(&RequestCaps::default(), Some(" BUG-812\n\tagain ")).expect("fit"),
        Some("BUG-812 again".to_owned())
    );
    assert_eq!(reason(&RequestCaps::default(), Some(" \n ")).expect("fit"), None);
    assert_eq!(reason(&RequestCaps::default(), None).expect("fit"), None);
}

#[test]
fn a_verdict_becomes_what_is_stored() {
    let mut wish = wish(&rules(), &ana(), &asked("orders")).expect("a wish");
    let of = |verdict, wish: &RequestSpec| submitted(verdict, wish, Duration::from_hours(1), Timestamp::UNIX_EPOCH);
    assert!(matches!(
        of(RequestVerdict::Automatic, &wish),
        SubmitResult::Granted(ApprovedBy::Automatic)
    ));
    // Never without an approver: a set that says 0 is one that says 1.
    match of(RequestVerdict::Approvals(0), &wish) {
        SubmitResult::Waiting {
            approvals: 1,
            expires_at,
        } => assert_eq!(expires_at.as_second(), 3600),
        other => panic!("{other:?}"),
    }
    wish.break_glass = true;
    assert!(matches!(
        of(RequestVerdict::Automatic, &wish),
        SubmitResult::Granted(ApprovedBy::BreakGlass)
    ));
    assert!(matches!(of(RequestVerdict::Approvals(1), &wish), SubmitResult::Denied { .. }));
}

#[test]
fn activation_needs_what_the_approval_needed() {
    let denied = RequestVerdict::Denied {
        why: "at night".to_owned(),
    };
    for how in [ApprovedBy::Automatic, ApprovedBy::People, ApprovedBy::BreakGlass] {
        assert_eq!(still_good(how, 0, &denied), Err("at night".to_owned()));
        assert_eq!(still_good(how, 0, &RequestVerdict::Automatic), Ok(()));
    }
    assert_eq!(still_good(ApprovedBy::People, 2, &RequestVerdict::Approvals(2)), Ok(()));
    assert!(
        still_good(ApprovedBy::People, 1, &RequestVerdict::Approvals(2)).is_err(),
        "one more is needed now"
    );
    assert!(still_good(ApprovedBy::Automatic, 0, &RequestVerdict::Approvals(1)).is_err());
    assert!(still_good(ApprovedBy::BreakGlass, 0, &RequestVerdict::Approvals(1)).is_err());
}

#[test]
fn policies_judge_what_is_to_be_given() {
    let mut asked_for = asked("orders");
    asked_for.profile = Some("read-write".to_owned());
    let wish = wish(&rules(), &ana(), &asked_for).expect("a wish");
    let now = Timestamp::UNIX_EPOCH;
    let request = Request::waiting(RequestId::from_random([1; 10]), wish, 1, now, now);
    let profiles = rules().targets.remove(&name::<TargetName>("orders")).expect("a target");
    let given = |minutes, profile: &str| {
        let less = NarrowedRequest {
            window: Some(Duration::from_mins(minutes)),
            profile: Some(name(profile)),
        };
        let wish = narrowed(&request, &less, &profiles).wish;
        (wish.window, wish.profile)
    };
    assert_eq!(given(10, "read-only"), (Duration::from_mins(10), name("read-only")));
    assert_eq!(given(90, "owner"), (Duration::from_mins(30), name("read-write")));
}

#[test]
fn a_no_has_words() {
    let advised = |policies: &[&str], errors: &[&str], advice: &str| {
        let decision = Decision {
            allowed: false,
            policies: policies.iter().map(|id| (*id).to_owned()).collect(),
            errors: errors.iter().map(|id| (*id).to_owned()).collect(),
        };
        why(Action::ReadLog, &decision, advice)
    };
    let no = |policies: &[&str], errors: &[&str]| advised(policies, errors, "");
    assert_eq!(advised(&["night"], &[], "ask by day"), "ask by day");
    assert_eq!(no(&[], &[]), "no policy lets you read the audit log");
    assert_eq!(no(&["night"], &[]), "policy night does not let you read the audit log");
    assert!(no(&["night"], &["overflow"]).contains("could not be evaluated"));
}
