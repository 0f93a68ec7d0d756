use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Event {
    Create,
    Admit(usize),
    Login(usize),
    Extend(usize, u64),
    Shorten(usize, u64),
    Revoke(usize),
    Wait(u64),
    /// The gate is started again with the store as it is.
    Start,
}

fn event() -> impl Strategy<Value = Event> {
    let (which, minutes) = (0..4_usize, 0..90_u64);
    prop_oneof![
        2 => Just(Event::Create),
        4 => which.clone().prop_map(Event::Admit),
        1 => which.clone().prop_map(Event::Login),
        3 => (which.clone(), minutes.clone()).prop_map(|(which, minutes)| Event::Extend(which, minutes)),
        1 => (which.clone(), minutes.clone()).prop_map(|(which, minutes)| Event::Shorten(which, minutes)),
        1 => which.prop_map(Event::Revoke),
        3 => minutes.prop_map(|minutes| Event::Wait(60 * minutes)),
        1 => (1..9_u64).prop_map(|days| Event::Wait(86_400 * days)),
        2 => Just(Event::Start),
    ]
}

/// What is live according to each way of asking, and whether an ended grant is among it.
async fn check(ledger: &Ledger, grants: &[GrantId], ended: &mut BTreeMap<GrantId, String>) {
    let living = ledger.grants(&GrantFilter::default()).await.unwrap();
    let all = ledger.grants(&everything()).await.unwrap();
    assert_eq!(all.len(), grants.len());
    for id in grants {
        let view = ledger.grant(id).await.unwrap();
        assert!(all.contains(&view), "{view:?}");
        let over = !matches!(view.status.as_str(), "ready" | "active");
        assert_eq!(living.iter().any(|live| live.grant.id() == id), !over, "{view:?}");
        if let Some(end) = ended.get(id) {
            assert_eq!(&view.status, end, "{view:?}");
        } else if over {
            ended.insert(id.clone(), view.status);
        }
    }
    let live = ledger
        .live_grants(&"ana@example.com".parse().unwrap(), &"orders".parse().unwrap())
        .into_iter()
        .next();
    assert!(live.is_none_or(|live| !ended.contains_key(live.grant.id())));
}

async fn happen(events: Vec<Event>) {
    let bench = Bench::new();
    let mut ledger = bench.ledger.clone();
    let (mut grants, mut ended, mut ahead): (Vec<GrantId>, _, _) = (Vec::new(), BTreeMap::new(), 0);
    let mut sessions = Vec::new();
    for event in events {
        let of = |which: usize| grants.get(which % grants.len().max(1)).cloned();
        let minutes = |minutes: u64| Duration::from_mins(minutes.max(1));
        let (named, done) = match event {
            Event::Create => {
                grants.push(ledger.create(terms(), "olga").await.unwrap().0.id().clone());
                (None, true)
            }
            Event::Wait(seconds) => {
                ahead += seconds;
                bench.step(ahead);
                (None, true)
            }
            Event::Start => {
                // A session that was not over when the gate died holds nothing.
                sessions.clear();
                ledger = bench.reopened();
                (None, true)
            }
            Event::Admit(which) => match of(which) {
                Some(id) => {
                    let admitted = ledger.admit(&id, None, CLIENT, fine).await;
                    let done = admitted.is_ok();
                    sessions.extend(admitted);
                    (Some(id), done)
                }
                None => (None, true),
            },
            Event::Login(which) => match of(which) {
                Some(id) => (Some(id.clone()), ledger.issue_login(&id, "ana@example.com").await.is_ok()),
                None => (None, true),
            },
            Event::Extend(which, by) => match of(which) {
                Some(id) => (Some(id.clone()), ledger.extend(&id, minutes(by), "olga", None).await.is_ok()),
                None => (None, true),
            },
            Event::Shorten(which, by) => match of(which) {
                Some(id) => (
                    Some(id.clone()),
                    ledger.shorten_by(&id, minutes(by), "olga", None).await.is_ok(),
                ),
                None => (None, true),
            },
            Event::Revoke(which) => match of(which) {
                Some(id) => (Some(id.clone()), ledger.revoke(&id, "olga", None).await.is_ok()),
                None => (None, true),
            },
        };
        if let Some(id) = named {
            assert!(!(done && ended.contains_key(&id)), "an ended grant took part in something");
        }
        check(&ledger, &grants, &mut ended).await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// In memory, from the store, after a start, after it was dropped from memory.
    #[test]
    fn no_sequence_of_events_makes_an_ended_grant_live(events in prop::collection::vec(event(), 1..30)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(happen(events));
    }
}
