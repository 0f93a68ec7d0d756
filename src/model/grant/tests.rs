use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::*;
use crate::model::ending::Ending;

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3));

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap() + Duration::from_secs(seconds)
}

fn terms() -> Terms {
    Terms {
        identity: "ana@example.com".parse().unwrap(),
        target: "orders".parse().unwrap(),
        reason: Some("BUG-812".to_owned()),
        window: Duration::from_mins(30),
        activate_within: Duration::from_hours(1),
        deadline: None,
        max_sessions: 2,
        client_network: None,
        profile: None,
        request: None,
    }
}

fn made(terms: Terms) -> Grant {
    create(GrantId::from_random([7; 10]), terms, "olga", at(0)).unwrap()
}

fn active(terms: Terms) -> Grant {
    apply(&made(terms), &GrantChange::Activate, at(10)).unwrap()
}

fn ask(now: Timestamp) -> PermitQuery<'static> {
    PermitQuery {
        now,
        database: Some("orders"),
        client: CLIENT,
        live_sessions: 0,
    }
}

#[test]
fn a_database_may_name_the_profile_and_then_it_has_to_be_the_grants() {
    let read_only = active(Terms {
        profile: Some("read-only".parse().unwrap()),
        ..terms()
    });
    let none = active(terms());
    let named = |grant: &Grant, database: &str| {
        let question = PermitQuery {
            database: Some(database),
            ..ask(at(20))
        };
        permit(grant, &question).map_or_else(|refusal| refusal.at_login(grant).name(), |_| "permitted")
    };
    let login = format!("{}/read-only", read_only.id());
    for (database, with, without) in [
        ("orders", "permitted", "permitted"),
        ("orders/read-only", "permitted", "wrong_profile"),
        ("orders/read-write", "wrong_profile", "wrong_profile"),
        ("orders/", "wrong_profile", "wrong_profile"),
        ("orders/read-only/", "wrong_profile", "wrong_profile"),
        ("payments/read-only", "wrong_database", "wrong_database"),
        ("/read-only", "wrong_database", "wrong_database"),
        (&login, "permitted", "wrong_profile"),
    ] {
        assert_eq!(
            (named(&read_only, database), named(&none, database)),
            (with, without),
            "{database}"
        );
    }
}

#[test]
fn the_window_opens_at_the_first_connect() {
    let grant = made(terms());
    assert_eq!(grant.status(at(0)), GrantState::Ready);
    assert_eq!(grant.status(at(3600)), GrantState::Lapsed);
    let grant = apply(&grant, &GrantChange::Activate, at(3599)).unwrap();
    let until = at(3599 + 1800);
    assert_eq!(grant.status(at(5398)), GrantState::Active { from: at(3599), until });
    // [from, until): at the deadline it is over.
    assert_eq!(grant.status(until), GrantState::Expired { until });
}

#[test]
fn terms_out_of_bounds_make_no_grant() {
    let make = |terms| create(GrantId::from_random([7; 10]), terms, "olga", at(0));
    let with = |change: fn(&mut Terms)| {
        let mut terms = terms();
        change(&mut terms);
        make(terms).unwrap_err()
    };
    assert!(matches!(with(|t| t.window = Duration::ZERO), TermsError::Window(_)));
    assert!(matches!(with(|t| t.window = Duration::MAX), TermsError::Window(_)));
    assert!(matches!(
        with(|t| t.activate_within = Duration::MAX),
        TermsError::ActivateWithin(_)
    ));
    assert!(matches!(with(|t| t.deadline = Some(at(0))), TermsError::Deadline(_)));
    assert_eq!(with(|t| t.max_sessions = 0), TermsError::NoSessions);
}

#[test]
fn no_window_goes_past_the_deadline() {
    let grant = active(Terms {
        deadline: Some(at(600)),
        ..terms()
    });
    assert_eq!(grant.until(), Some(at(600)));
    assert_eq!(grant.activate_by(), at(600));
    assert_eq!(
        apply(&grant, &GrantChange::Extend(Duration::from_mins(1)), at(20)),
        Err(ChangeError::Deadline(at(600)))
    );
    let shortened = apply(&grant, &GrantChange::ShortenTo(at(300)), at(20)).unwrap();
    let extended = apply(&shortened, &GrantChange::Extend(Duration::from_hours(1)), at(20)).unwrap();
    assert_eq!(extended.until(), Some(at(600)));
    assert_eq!(extended.window(), Duration::from_secs(590));
}

#[test]
fn a_window_not_open_yet_changes_its_length() {
    let grant = made(terms());
    let longer = apply(&grant, &GrantChange::Extend(Duration::from_secs(200)), at(1)).unwrap();
    assert_eq!(longer.window(), Duration::from_secs(2000));
    let shorter = apply(&longer, &GrantChange::ShortenBy(Duration::from_secs(1000)), at(1)).unwrap();
    assert_eq!(shorter.window(), Duration::from_secs(1000));
    assert_eq!(
        apply(&shorter, &GrantChange::ShortenBy(Duration::from_secs(1000)), at(1)),
        Err(ChangeError::TooShort)
    );
    assert_eq!(
        apply(&grant, &GrantChange::Extend(MAX_WINDOW), at(1)),
        Err(ChangeError::TooLong)
    );
    let bounded = apply(&shorter, &GrantChange::ShortenTo(at(100)), at(1)).unwrap();
    assert_eq!((bounded.deadline(), bounded.activate_by()), (Some(at(100)), at(100)));
    assert_eq!(
        apply(&bounded, &GrantChange::ShortenTo(at(100)), at(1)),
        Err(ChangeError::NotShorter)
    );
}

#[test]
fn an_open_window_is_moved() {
    let grant = active(terms());
    let longer = apply(&grant, &GrantChange::Extend(Duration::from_secs(100)), at(20)).unwrap();
    assert_eq!(longer.until(), Some(at(1910)));
    assert_eq!(longer.activated_at(), Some(at(10)));
    assert_eq!(
        apply(&grant, &GrantChange::Extend(MAX_WINDOW), at(20)),
        Err(ChangeError::TooLong)
    );
    assert_eq!(
        apply(&grant, &GrantChange::ShortenTo(at(1810)), at(20)),
        Err(ChangeError::NotShorter)
    );
    assert_eq!(apply(&grant, &GrantChange::Activate, at(20)), Err(ChangeError::Active));
    // Into the past is to end it now.
    let over = apply(&grant, &GrantChange::ShortenBy(Duration::from_secs(9999)), at(20)).unwrap();
    assert_eq!(over.status(at(20)), GrantState::Expired { until: at(20) });
}

#[test]
fn a_permit_is_for_the_grant_as_it_is() {
    let grant = active(terms());
    let permit = permit(&grant, &ask(at(20))).unwrap();
    assert_eq!(
        (permit.grant(), permit.target(), permit.until()),
        (grant.id(), grant.target(), at(1810))
    );
    let longer = apply(&grant, &GrantChange::Extend(Duration::from_secs(100)), at(20)).unwrap();
    assert_eq!(permit.renew(&longer, at(1850)).map(|p| p.until()), Ok(at(1910)));
    assert_eq!(permit.renew(&grant, at(1810)), Err(PermitError::Expired { until: at(1810) }));
    let revoke = GrantChange::Revoke {
        by: "olga".to_owned(),
        reason: Some("left".to_owned()),
    };
    let revoked = apply(&grant, &revoke, at(30)).unwrap();
    let refusal = permit.renew(&revoked, at(31)).unwrap_err();
    let id = grant.id().clone();
    assert_eq!(
        refusal.clone().in_session(&revoked),
        Ending::Revoked {
            grant: id.clone(),
            at: at(30),
            by: Some("olga".to_owned()),
            reason: Some("left".to_owned()),
        }
    );
    assert_eq!(refusal.at_login(&grant), Ending::LoginRevoked { grant: id, at: at(30) });
    let other = create(GrantId::from_random([8; 10]), terms(), "olga", at(0)).unwrap();
    let other = apply(&other, &GrantChange::Activate, at(10)).unwrap();
    assert!(permit.renew(&other, at(20)).is_err());
}

#[test]
fn each_refusal_has_its_ending() {
    let named = |question: &PermitQuery<'_>, grant: &Grant| {
        permit(grant, question).map_or_else(|refusal| refusal.at_login(grant).name(), |_| "permitted")
    };
    let grant = active(Terms {
        client_network: Some("10.0.0.0/8".parse().unwrap()),
        ..terms()
    });
    let ok = ask(at(20));
    assert_eq!(named(&ok, &grant), "permitted");
    assert_eq!(named(&PermitQuery { database: None, ..ok }, &grant), "permitted");
    let id = Some(grant.id().as_str());
    assert_eq!(named(&PermitQuery { database: id, ..ok }, &grant), "permitted");
    let login = format!("{}.k7zz", grant.id());
    let database = Some(login.as_str());
    assert_eq!(named(&PermitQuery { database, ..ok }, &grant), "permitted");
    let database = Some("gr_7777777777.");
    assert_eq!(named(&PermitQuery { database, ..ok }, &grant), "wrong_database");
    let mapped = Ipv4Addr::new(10, 1, 2, 3).to_ipv6_mapped().into();
    assert_eq!(named(&PermitQuery { client: mapped, ..ok }, &grant), "permitted");
    let database = Some("postgres");
    assert_eq!(named(&PermitQuery { database, ..ok }, &grant), "wrong_database");
    let client = "192.168.0.1".parse().unwrap();
    assert_eq!(named(&PermitQuery { client, ..ok }, &grant), "address_refused");
    assert_eq!(
        named(
            &PermitQuery {
                client: "::1".parse().unwrap(),
                ..ok
            },
            &grant
        ),
        "address_refused"
    );
    assert_eq!(named(&PermitQuery { live_sessions: 1, ..ok }, &grant), "permitted");
    assert_eq!(
        named(&PermitQuery { live_sessions: 2, ..ok }, &grant),
        "too_many_sessions_of_grant"
    );
    assert_eq!(named(&ask(at(1810)), &grant), "login_expired");
    assert_eq!(named(&ask(at(3600)), &made(terms())), "lapsed");
    assert_eq!(named(&ask(at(1)), &made(terms())), "ledger_failed");
}

#[test]
fn json_has_what_a_person_looks_for() {
    let grant = active(terms());
    let json = serde_json::to_value(&grant).unwrap();
    assert_eq!(json["id"], "gr_7777777777");
    assert_eq!(json["window_seconds"], 1800);
    assert_eq!((json.get("profile"), json.get("request")), (None, None));
    assert_eq!(serde_json::from_value::<Grant>(json).unwrap(), grant);
}

fn any_change() -> impl Strategy<Value = GrantChange> {
    prop_oneof![
        Just(GrantChange::Activate),
        any::<u64>().prop_map(|s| GrantChange::Extend(Duration::from_secs(s))),
        (0u64..5000).prop_map(|s| GrantChange::Extend(Duration::from_secs(s))),
        (0u64..5000).prop_map(|s| GrantChange::ShortenBy(Duration::from_secs(s))),
        (0u64..9000).prop_map(|s| GrantChange::ShortenTo(at(s))),
        Just(GrantChange::Revoke {
            by: "olga".to_owned(),
            reason: None
        }),
    ]
}

proptest! {
    #[test]
    fn no_sequence_of_changes_revives_an_ended_grant(
        deadline in proptest::option::of(1u64..9000),
        steps in proptest::collection::vec((any_change(), 0u64..1500), 1..40),
    ) {
        let deadline = deadline.map(at);
        let mut grant = made(Terms { deadline, ..terms() });
        let mut now = at(0);
        let mut ended = false;
        for (change, wait) in steps {
            now += Duration::from_secs(wait);
            let before = grant.status(now);
            prop_assert!(!ended || before.ended(), "revived by time: {before:?}");
            if let Ok(next) = apply(&grant, &change, now) {
                prop_assert!(!before.ended(), "{change:?} after {before:?}");
                grant = next;
            }
            let after = grant.status(now);
            ended = after.ended();
            prop_assert!(!(ended && permit(&grant, &ask(now)).is_ok()));
            if let GrantState::Active { from, until } = after {
                prop_assert!(from <= now && now < until);
                prop_assert!(until <= from + MAX_WINDOW);
                prop_assert!(grant.deadline().is_none_or(|deadline| until <= deadline));
                prop_assert!(deadline.is_none_or(|deadline| until <= deadline));
                prop_assert_eq!(permit(&grant, &ask(now)).map(|p| p.until()), Ok(until));
            }
        }
    }

    #[test]
    fn only_an_extension_moves_the_end_further_off(change in any_change(), now in 11u64..1810) {
        let grant = active(terms());
        if let Ok(next) = apply(&grant, &change, at(now)) {
            let further = next.until() > grant.until();
            prop_assert!(!further || matches!(change, GrantChange::Extend(_)));
        }
    }
}

#[test]
fn a_network_has_the_form_of_the_addresses_that_it_is_compared_with() {
    for (written, kept) in [
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("::ffff:192.0.2.7/128", "192.0.2.7/32"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::/0", "::/0"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("10.0.0.0/8", "10.0.0.0/8"),
    ] {
        let network = canonical_network(written.parse().unwrap());
        assert_eq!(network.to_string(), kept, "{written}");
    }
}

#[test]
fn a_grant_in_line_does_not_lapse_for_a_day() {
    let grant = made(terms());
    let postponed = |grant: &Grant, by, now| apply(grant, &GrantChange::Postpone(Duration::from_secs(by)), at(now));
    assert_eq!(
        postponed(&grant, 600, 10).unwrap_err(),
        ChangeError::NotLater,
        "it has an hour"
    );
    let later = postponed(&grant, 600, 3500).unwrap();
    assert_eq!(later.activate_by(), at(4100));
    assert_eq!(
        Grant {
            activate_by: grant.activate_by,
            ..later.clone()
        },
        grant,
        "nothing else has changed"
    );
    let day = MAX_LINE_AGE.as_secs();
    let last = Grant {
        activate_by: at(day - 100),
        ..grant.clone()
    };
    assert_eq!(postponed(&last, 600, day - 200).unwrap().activate_by(), at(day));
    let bounded = made(Terms {
        deadline: Some(at(3700)),
        ..terms()
    });
    assert_eq!(postponed(&bounded, 600, 3590).unwrap().activate_by(), at(3700));
    assert_eq!(postponed(&grant, 600, 3600).unwrap_err(), ChangeError::Ended("lapsed"));
    assert_eq!(postponed(&active(terms()), 600, 20).unwrap_err(), ChangeError::Active);
}
