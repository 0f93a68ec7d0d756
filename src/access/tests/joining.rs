//! Wishes against what is live or pending already.

use super::*;

/// The grant that is joined; `None`: there is a request.
fn joined(way: Result<EntryDecision, AccessError>) -> Option<GrantId> {
    match way.unwrap() {
        EntryDecision::Grant(view, _) => Some(view.grant.id().clone()),
        EntryDecision::Request(_) => None,
    }
}

async fn granted(bench: &Bench, who: &Principal, approver: &Principal, asked: RequestArgs) -> GrantId {
    let view = bench.service.submit(who, asked).await.unwrap();
    if let Some(grant) = view.request.grant() {
        return grant.clone();
    }
    let id = view.request.id;
    let view = bench
        .service
        .approve(approver, &id, NarrowedRequest::default(), None)
        .await
        .unwrap();
    view.request.grant().unwrap().clone()
}

#[tokio::test]
async fn without_a_profile_the_narrowest_is_meant_whatever_else_is_live() {
    let bench = Bench::new();
    let (ana, lea) = (bench.user("ana", &["qa"]).await, bench.user("lea", &["leads"]).await);
    let long = RequestArgs {
        window: Some(Duration::from_hours(2)),
        ..asked("orders", "read-write")
    };
    let writing = granted(&bench, &ana, &lea, long).await;
    let any = || RequestArgs {
        target: "orders".to_owned(),
        ..RequestArgs::default()
    };
    let way = bench.service.enter(&ana, any()).await.unwrap();
    let EntryDecision::Request(view) = way else {
        panic!("{way:?}")
    };
    assert_eq!(view.request.wish.profile.as_str(), "read-only");
    let reading = view.request.grant().unwrap().clone();
    // With both live it is still the narrowest, though the other one ends later.
    assert_eq!(joined(bench.service.enter(&ana, any()).await), Some(reading.clone()));
    assert_eq!(
        joined(bench.service.enter(&ana, asked("orders", "read-only")).await),
        Some(reading)
    );
    assert_eq!(
        joined(bench.service.enter(&ana, asked("orders", "read-write")).await),
        Some(writing)
    );
}

#[tokio::test]
async fn a_wish_for_more_than_the_grant_gives_is_asked_for() {
    let bench = Bench::new();
    let (ana, lea) = (bench.user("ana", &["qa"]).await, bench.user("lea", &["leads"]).await);
    let base = || RequestArgs {
        window: Some(Duration::from_mins(30)),
        ticket: Some("SHOP-1".to_owned()),
        max_sessions: Some(5),
        reason: Some("BUG-812".to_owned()),
        ..asked("orders", "read-write")
    };
    let grant = granted(&bench, &ana, &lea, base()).await;
    let enters = async |asked: RequestArgs| joined(bench.service.enter(&ana, asked).await) == Some(grant.clone());
    assert!(enters(base()).await, "the same again");
    assert!(enters(asked("orders", "read-write")).await, "content with what there is");
    let less = RequestArgs {
        window: Some(Duration::from_mins(10)),
        max_sessions: Some(2),
        ..base()
    };
    assert!(enters(less).await);
    let longer = RequestArgs {
        window: Some(Duration::from_mins(31)),
        ..base()
    };
    assert!(!enters(longer).await);
    let wider = RequestArgs {
        max_sessions: Some(6),
        ..base()
    };
    assert!(!enters(wider).await);
    let other_ticket = RequestArgs {
        ticket: Some("SHOP-2".to_owned()),
        ..base()
    };
    assert!(!enters(other_ticket).await);
}

#[tokio::test]
async fn a_new_reason_is_on_record_before_a_grant_is_joined() {
    let bench = Bench::new();
    let ana = bench.user("ana", &["qa"]).await;
    let why = |reason: &str| RequestArgs {
        reason: Some(reason.to_owned()),
        ..asked("orders", "read-only")
    };
    assert_eq!(joined(bench.service.enter(&ana, why("BUG-812")).await), None);
    let grant = joined(bench.service.enter(&ana, why(" BUG-812 ")).await).unwrap();
    assert_eq!(joined(bench.service.enter(&ana, why("BUG-813")).await), Some(grant.clone()));
    let on_record: Vec<_> = bench
        .records()
        .into_iter()
        .filter_map(|event| match event {
            Event::GrantJoined(joined) => Some((joined.grant.clone(), joined.reason.clone())),
            _ => None,
        })
        .collect();
    assert_eq!(
        on_record,
        [(grant, "BUG-813".to_owned())],
        "the reason it was asked for is there already"
    );
}

#[tokio::test]
async fn the_same_wish_finds_what_an_approver_made_of_it() {
    let bench = Bench::new();
    let (ana, lea) = (bench.user("ana", &["qa"]).await, bench.user("lea", &["leads"]).await);
    let wish = || RequestArgs {
        window: Some(Duration::from_hours(1)),
        ..asked("orders", "read-write")
    };
    let id = bench.submitted(&ana, wish()).await;
    let less = NarrowedRequest {
        window: Some(Duration::from_mins(10)),
        profile: Some("read-only".parse().unwrap()),
    };
    let view = bench.service.approve(&lea, &id, less, None).await.unwrap();
    let asked_for = view.request.asked_for();
    assert_eq!(
        (asked_for.profile.as_str(), asked_for.window),
        ("read-write", Duration::from_hours(1))
    );
    let grant = view.request.grant().cloned();
    assert_eq!(joined(bench.service.enter(&ana, wish()).await), grant);
    assert_eq!(joined(bench.service.enter(&ana, asked("orders", "read-only")).await), grant);
}

#[tokio::test]
async fn a_pending_request_is_found_again_by_all_that_is_named() {
    let bench = Bench::new();
    let ana = bench.user("ana", &["qa"]).await;
    let wish = |reason: &str| RequestArgs {
        reason: Some(reason.to_owned()),
        window: Some(Duration::from_mins(20)),
        ..asked("orders", "read-write")
    };
    let ask = async |asked: RequestArgs| bench.submitted(&ana, asked).await;
    let first = ask(wish("BUG-812")).await;
    assert_eq!(ask(wish("BUG-812")).await, first);
    assert_eq!(ask(asked("orders", "read-write")).await, first);
    assert_ne!(ask(wish("BUG-813")).await, first, "an approver decides by the reason");
    let longer = RequestArgs {
        window: Some(Duration::from_mins(40)),
        ..wish("BUG-812")
    };
    assert_ne!(ask(longer).await, first);
}
