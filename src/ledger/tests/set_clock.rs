use super::restrict::settled;
use super::workflow::{approve, name};
use super::*;

/// Ten years for a second, believed because an operator said so by mistake; then set right: nothing that was over comes back, nothing
/// that was made in the future stays.
#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one walk, step by step")]
async fn a_clock_that_is_set_back_revives_nothing() {
    let bench = Bench::new();
    let (ledger, ana) = (&bench.ledger, name("ana@example.com"));
    let now = bench.clock.now();
    let years = jiff::SignedDuration::from_hours(10 * 365 * 24);
    let (used, _) = ledger.create(terms(), "olga").await.unwrap();
    drop(ledger.admit(used.id(), None, CLIENT, fine).await.unwrap());
    let lapsed = bench.submit(bench.waiting(1)).await.request;
    bench.clock.jump_wall(years);
    let _ = bench.clock.observe();
    assert_eq!(ledger.grant(used.id()).await.unwrap().status, "active", "it is not believed");
    assert!(ledger.clock().doubt.is_some());

    ledger.set_clock_right("olga", None).await.unwrap();
    assert_eq!(ledger.grant(used.id()).await.unwrap().status, "expired");
    let (late, _) = ledger.create(terms(), "olga").await.unwrap();
    let mut session = ledger.admit(late.id(), None, CLIENT, fine).await.unwrap();
    let pending = bench.submit(bench.waiting(1)).await.request;
    let signed_in = NewSignIn {
        identity: crate::identity::Identity {
            source: crate::identity::IdentitySource::Issuer("https://id.example.org".to_owned()),
            ..crate::identity::Identity::local(name("bo"), std::collections::BTreeSet::new())
        },
        via: crate::model::sign_in::SignInVia::Cli,
        client: None,
        proved_at: bench.clock.now(),
        expires_at: bench.clock.now() + Duration::from_hours(12),
    };
    ledger.sign_in(signed_in, || true).await.unwrap();
    ledger.remember_time(bench.clock.now()).await.unwrap();
    bench.clock.jump_wall(-years);
    let _ = bench.clock.observe();
    assert!(ledger.clock().doubt.is_some(), "told, and not followed");

    bench.fill_disk(true);
    assert!(ledger.set_clock_right("olga", None).await.is_err(), "not off the record");
    assert!(bench.clock.now() > now + years - jiff::SignedDuration::from_hours(1));
    bench.fill_disk(false);
    settled(ledger).await;
    let view = ledger.set_clock_right("olga", Some("it was wrong")).await.unwrap();
    assert!(view.gate_time.duration_since(now).abs() < jiff::SignedDuration::from_mins(1) && view.doubt.is_none());
    assert!(session.changes.borrow_and_update().revoked().is_some());
    let path = bench.folder.path().join("ledger.db");
    let stored = highest_time(&path).unwrap().unwrap();
    assert!(
        stored.duration_since(now).abs() < jiff::SignedDuration::from_mins(1),
        "{stored}"
    );
    for ledger in [ledger, &bench.reopened()] {
        assert!(
            ledger
                .sign_ins(None, &crate::model::sign_in::SignInLimits::default())
                .is_empty()
        );
        assert_eq!(ledger.active_grants(&ana), 0);
        for id in [used.id(), late.id()] {
            assert_eq!(ledger.grant(id).await.unwrap().status, "revoked");
        }
        for request in [&lapsed.id, &pending.id] {
            assert!(approve(ledger, request, "bo").await.is_err());
        }
    }
    assert_eq!(
        bench.script.changes().iter().filter(|change| *change == "clock_set").count(),
        2
    );
    // Life goes on.
    let (fresh, _) = ledger.create(terms(), "olga").await.unwrap();
    assert!(ledger.admit(fresh.id(), None, CLIENT, fine).await.is_ok());
}
