use tokio::time::Instant;

use super::workflow::{name, new, reasons};
use super::*;
use crate::model::request::{ApprovedBy, Request, RequestState};

/// A hundred thousand requests of the past, half of them with grants: some ended long ago, some within the last hours.
fn past(bench: &Bench, sample: &Request) {
    let now = bench.clock.now().as_microsecond();
    let body = serde_json::to_string(&Request {
        outcome: None,
        ..sample.clone()
    });
    let body = body.unwrap().replace(sample.id.as_str(), "ID");
    let settled = |outcome: &str| format!("{},{outcome}}}", body.strip_suffix('}').unwrap());
    let at = "\"at\":\"2026-01-01T00:00:00Z\"";
    let approved = settled(&format!(
        "\"outcome\":{{\"outcome\":\"approved\",{at},\"how\":\"people\",\"grant\":\"GRANT\"}}"
    ));
    let denied = settled(&format!("\"outcome\":{{\"outcome\":\"denied\",{at},\"why\":\"no\"}}"));
    let hour = 3_600_000_000_i64;
    bench.sql(&format!(
        "BEGIN;
        CREATE TEMP TABLE n AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) SELECT i FROM n;
        INSERT INTO grants (id, identity, target, created_at, created_by, activate_by, window_us, max_sessions, activated_at,
            until, profile, request, verifier)
        SELECT printf('gr_%010d', i), '{who}', 'orders', 1, 'bo', 2, 1000000, 3, 1, {now} - {hour} * (1 + i % 4000),
            'read-only', printf('rq_%010d', i), '' FROM n;
        INSERT INTO requests (id, identity, target, expires_at, activate_within_us, outcome, grant_id, unreviewed, key, body)
        SELECT printf('rq_%010d', i), '{who}', 'orders', 1, 1, iif(i % 2, 'approved', 'denied'),
            iif(i % 2, printf('gr_%010d', i), NULL), 0, printf('key-%d', i),
            replace(replace(iif(i % 2, '{approved}', '{denied}'), 'ID', printf('rq_%010d', i)), 'GRANT', printf('gr_%010d', i))
        FROM n;
        COMMIT;",
        who = sample.wish.identity,
    ));
}

#[tokio::test]
async fn a_long_past_slows_nothing() {
    let bench = Bench::new();
    let sample = bench.submit(bench.waiting(1)).await.request;
    past(&bench, &sample);
    let begin = Instant::now();
    let ledger = bench.reopened();
    assert!(begin.elapsed() < Duration::from_secs(5), "opening took {:?}", begin.elapsed());

    let (who, target) = (&sample.wish.identity, &sample.wish.target);
    let granted = ledger
        .submit(new(SubmitResult::Granted(ApprovedBy::Automatic)), reasons())
        .await
        .unwrap();
    let begin = Instant::now();
    for _ in 0..20 {
        let mut new = new(SubmitResult::Granted(ApprovedBy::Automatic));
        new.key = Some("key-7x".to_owned());
        ledger.submit(new, reasons()).await.unwrap();
    }
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "submitting took {:?}",
        begin.elapsed()
    );

    let begin = Instant::now();
    for _ in 0..1000 {
        assert!(!ledger.live_grants(who, target).is_empty());
        assert!(ledger.active_grants(who) == 2);
        assert!(!ledger.pending_requests(who, target).is_empty());
    }
    assert!(begin.elapsed() < Duration::from_secs(5), "looking took {:?}", begin.elapsed());

    let begin = Instant::now();
    for _ in 0..1000 {
        let own = GrantFilter {
            identity: Some(who.clone()),
            ..GrantFilter::default()
        };
        assert_eq!(ledger.grants(&own).await.unwrap().len(), 2);
        assert_eq!(ledger.grants(&GrantFilter::default()).await.unwrap().len(), 2);
    }
    assert!(begin.elapsed() < Duration::from_secs(5), "listing took {:?}", begin.elapsed());
    let begin = Instant::now();
    grant_pages(&ledger, who, target).await;
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "pages of grants took {:?}",
        begin.elapsed()
    );

    let begin = Instant::now();
    pages(&ledger, who, target).await;
    assert!(begin.elapsed() < Duration::from_secs(5), "pages took {:?}", begin.elapsed());
    assert_eq!(ledger.grant(granted.request.grant().unwrap()).await.unwrap().status, "ready");
}

/// Page by page, everything is shown once, the newest first.
async fn grant_pages(ledger: &Ledger, who: &IdentityName, target: &TargetName) {
    let mut filter = GrantFilter {
        identity: Some(who.clone()),
        target: Some(target.clone()),
        limit: 9_000,
        ..everything()
    };
    let mut shown = Vec::new();
    loop {
        let page = ledger.grants(&filter).await.unwrap();
        filter.before = page.last().map(|view| view.grant.id().clone());
        let whole = page.len() == filter.limit;
        shown.extend(
            page.into_iter()
                .map(|view| (view.grant.created_at(), view.grant.id().clone())),
        );
        if !whole {
            break;
        }
    }
    assert_eq!(shown.len(), 100_002);
    assert!(shown.is_sorted_by(|a, b| a > b));
    filter.identity = None;
    filter.before = None;
    assert_eq!(ledger.grants(&filter).await.unwrap().len(), filter.limit);
    filter.target = Some(name("payments"));
    assert!(ledger.grants(&filter).await.unwrap().is_empty());
}

async fn pages(ledger: &Ledger, who: &IdentityName, target: &TargetName) {
    let half: RequestId = "rq_0000050000".parse().unwrap();
    for (status, first) in [
        (None, "rq_0000049999"),
        (Some(RequestState::Denied), "rq_0000049998"),
        (Some(RequestState::Approved), "rq_0000049999"),
    ] {
        for (identity, target) in [
            (None, None),
            (Some(who.clone()), None),
            (Some(who.clone()), Some(target.clone())),
        ] {
            let filter = RequestFilter {
                status,
                identity,
                target,
                before: Some(half.clone()),
                limit: 50,
                ..RequestFilter::default()
            };
            let page = ledger.requests(filter).await.unwrap();
            assert_eq!((page.len(), page[0].request.id.as_str()), (50, first));
        }
    }
    for status in [RequestState::Pending, RequestState::Lapsed, RequestState::Rejected] {
        let identity = Some(who.clone());
        let filter = RequestFilter {
            status: Some(status),
            identity,
            ..RequestFilter::default()
        };
        let found = ledger.requests(filter).await.unwrap().len();
        assert_eq!(found, usize::from(status == RequestState::Pending), "{status:?}");
    }
    // Who has no past does not pay for that of others.
    for _ in 0..100 {
        let filter = RequestFilter {
            status: Some(RequestState::Approved),
            identity: Some(name("bo")),
            target: Some(target.clone()),
            ..RequestFilter::default()
        };
        assert!(ledger.requests(filter).await.unwrap().is_empty());
    }
    let unreviewed = RequestFilter {
        unreviewed: true,
        identity: Some(name("ana@example.com")),
        ..RequestFilter::default()
    };
    assert!(ledger.requests(unreviewed).await.unwrap().is_empty());
    assert_eq!(ledger.request(&half).await.unwrap().status, "denied");
}

#[tokio::test]
async fn a_store_of_the_first_version_is_brought_up_to_date() {
    let bench = Bench::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let old = rusqlite::Connection::open(&path).unwrap();
    old.execute_batch(migrations::MIGRATIONS[0]).unwrap();
    let verifier = Verifier::derive(b"pencil", b"salt", 1);
    let now = bench.clock.now();
    old.execute(
        "INSERT INTO grants VALUES ('gr_1111111111', 'ana', 'orders', NULL, ?1, 'olga', ?2, 60000000, NULL, 3, NULL, NULL, NULL, \
         NULL, NULL, NULL, ?3)",
        rusqlite::params![
            now.as_microsecond(),
            (now + Duration::from_hours(1)).as_microsecond(),
            verifier.to_string()
        ],
    )
    .unwrap();
    old.execute_batch("INSERT INTO gate VALUES (zeroblob(32), 0); PRAGMA user_version = 1")
        .unwrap();
    drop(old);

    let ledger = open(&folder, &bench.script, &bench.clock).unwrap();
    let view = ledger.live_grants(&name("ana"), &name("orders")).into_iter().next().unwrap();
    assert_eq!((view.grant.profile(), view.grant.request()), (None, None));
    assert!(ledger.verifier("gr_1111111111").await == verifier);
    assert!(ledger.admit(view.grant.id(), None, CLIENT, fine).await.is_ok());
    ledger
        .submit(new(SubmitResult::Granted(ApprovedBy::Automatic)), reasons())
        .await
        .unwrap();
    drop(ledger);
    assert_eq!(
        open(&folder, &bench.script, &bench.clock)
            .unwrap()
            .grants(&everything())
            .await
            .unwrap()
            .len(),
        2
    );
}
