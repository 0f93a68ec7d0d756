//! Requests and grants, as those see them whom they concern, and others.

use super::*;
use crate::ledger::GrantFilter;

/// Requests and grants as somebody is shown them: how many there are in lists, and whether one is shown by its id.
async fn sees(bench: &Bench, who: &Principal, request: &RequestId, grant: &GrantId) -> (usize, usize, bool, bool) {
    let requests = bench.service.requests(&who.caller(), RequestFilter::default()).await.unwrap();
    let all = GrantFilter {
        ended: true,
        limit: 10,
        ..GrantFilter::default()
    };
    let grants = bench.service.grants(&who.caller(), all).await.unwrap();
    (
        requests.len(),
        grants.len(),
        bench.service.request(&who.caller(), request).await.is_ok(),
        bench.service.grant(&who.caller(), grant).await.is_ok(),
    )
}

#[tokio::test]
async fn those_it_concerns_see_it_before_and_after_and_others_never() {
    let bench = Bench::new();
    let (ana, eve) = (bench.user("ana", &["qa"]).await, bench.user("eve", &["qa"]).await);
    let (lea, sam) = (bench.user("lea", &["leads"]).await, bench.user("sam", &["security"]).await);
    let (tom, olga) = (bench.user("tom", &["leads"]).await, bench.user("olga", &["ops"]).await);
    let (id, grant) = bench.approved(&ana, &lea).await;
    for after in ["approved", "revoked"] {
        // The approver, another who could have been, who reads the log, who runs the gate, and the owner.
        for who in [&lea, &tom, &sam, &olga, &ana] {
            assert_eq!(
                sees(&bench, who, &id, &grant).await,
                (1, 1, true, true),
                "{} {after}",
                who.name()
            );
        }
        assert_eq!(sees(&bench, &eve, &id, &grant).await, (0, 0, false, false), "{after}");
        if after == "approved" {
            bench.service.revoke(&tom.caller(), &grant, Some("enough")).await.unwrap();
        }
    }
    let settled = RequestFilter {
        status: Some(crate::model::request::RequestState::Approved),
        ..RequestFilter::default()
    };
    assert_eq!(bench.service.requests(&tom.caller(), settled).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_needed_no_approver_is_seen_by_those_who_may_end_it() {
    let bench = Bench::new();
    let (ana, eve) = (bench.user("ana", &["qa"]).await, bench.user("eve", &["qa"]).await);
    let lea = bench.user("lea", &["leads"]).await;
    let long = RequestArgs {
        window: Some(Duration::from_mins(90)),
        ..asked("orders", "read-only")
    };
    let view = bench.service.submit(&ana, long).await.unwrap();
    let (id, grant) = (view.request.id.clone(), view.request.grant().unwrap().clone());
    assert_eq!(sees(&bench, &lea, &id, &grant).await, (1, 1, true, true));
    assert_eq!(sees(&bench, &eve, &id, &grant).await, (0, 0, false, false));
    assert!(bench.service.revoke(&lea.caller(), &grant, None).await.is_ok());
}
