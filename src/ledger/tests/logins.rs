use super::workflow::new;
use super::*;
use crate::ledger::cache::MAX_LOGINS;
use crate::model::request::ApprovedBy;

#[tokio::test]
async fn several_logins_are_good_at_once_and_the_oldest_goes_first() {
    let bench = Bench::new();
    let ledger = &bench.ledger;
    let request = bench.submit(new(SubmitResult::Granted(ApprovedBy::Automatic))).await.request;
    let id = request.grant().unwrap();
    let mock = |user: &str| Verifier::mock(user, &ledger.0.mock_key);
    // It has no secret of its own.
    assert!(ledger.verifier(id.as_str()).await == mock(id.as_str()));
    let mut users = Vec::new();
    for _ in 0..MAX_LOGINS {
        let login = ledger.issue_login(id, "ana@example.com").await.unwrap();
        assert_eq!(login.secret.expose().len(), 32);
        assert_eq!(GrantId::of_login(&login.user).as_ref(), Some(id));
        users.push(login.user);
    }
    let mut distinct = Vec::new();
    for user in &users {
        let verifier = ledger.verifier(user).await;
        assert!(verifier != mock(user));
        distinct.push(verifier.to_string());
    }
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), MAX_LOGINS);
    let further = ledger.issue_login(id, "ana@example.com").await.unwrap().user;
    for ledger in [ledger, &bench.reopened()] {
        assert!(ledger.verifier(&users[0]).await == mock(&users[0]));
        for user in users[1..].iter().chain([&further]) {
            assert!(ledger.verifier(user).await != mock(user));
        }
    }
    // libpq names the database like the user when it is told none.
    assert!(ledger.admit(id, Some(&further), CLIENT, fine).await.is_ok());
    assert_eq!(bench.script.changes()[2..4], ["login_issued", "login_issued"]);
}

#[tokio::test]
async fn only_what_has_not_ended_gets_a_login() {
    let bench = Bench::new();
    let (grant, _) = bench.ledger.create(terms(), "olga").await.unwrap();
    let login = bench.ledger.issue_login(grant.id(), "ana@example.com").await.unwrap();
    let own = bench.ledger.verifier(grant.id().as_str()).await;
    let made = bench.ledger.verifier(&login.user).await;
    assert!(own != made);
    assert!(bench.reopened().verifier(&login.user).await == made);
    bench.fill_disk(true);
    let refused = bench.ledger.issue_login(grant.id(), "ana@example.com").await;
    assert!(matches!(refused, Err(LedgerError::Audit(_))));
    bench.fill_disk(false);
    bench.ledger.revoke(grant.id(), "olga", None).await.unwrap();
    let late = bench.ledger.issue_login(grant.id(), "ana@example.com").await;
    assert!(matches!(late, Err(LedgerError::Illegal(ChangeError::Ended(_)))));
    // Whoever has one is still told why it is over.
    let refused = bench.ledger.admit(grant.id(), None, CLIENT, fine).await.unwrap_err();
    assert_eq!(refused.name(), "login_revoked");
    let nobody = GrantId::from_random([0; 10]);
    let unknown = bench.ledger.issue_login(&nobody, "ana@example.com").await;
    assert!(matches!(unknown, Err(LedgerError::NoSuchGrant(_))));
}
