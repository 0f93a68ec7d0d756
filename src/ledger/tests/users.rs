use std::collections::BTreeSet;

use super::restrict::settled;
use super::workflow::{approve, name, new, reasons};
use super::*;
use crate::base::secret::Secret;
use crate::identity::IdentitySource;
use crate::model::names::{GroupName, IdentityName};
use crate::model::request::{ApprovedBy, RequestOutcome};

fn groups(names: &[&str]) -> BTreeSet<GroupName> {
    names.iter().map(|group| name(group)).collect()
}

impl Ledger {
    /// A user whose token does not expire.
    pub(crate) async fn add_user(
        &self,
        name: &IdentityName,
        groups: BTreeSet<GroupName>,
        by: &str,
    ) -> Result<Secret<String>, LedgerError> {
        self.add_user_until(name, groups, None, by).await
    }

    /// A new token, which does not expire.
    pub(crate) async fn rotate_user(&self, name: &IdentityName, by: &str) -> Result<RotatedToken, LedgerError> {
        self.rotate_user_until(name, None, by).await
    }
}

#[tokio::test]
async fn a_token_that_has_expired_is_nothing_and_says_so_here_only() {
    let bench = Bench::new();
    let (ledger, ana) = (&bench.ledger, name("ana@example.com"));
    let until = bench.clock.now() + Duration::from_secs(100);
    let token = ledger
        .add_user_until(&ana, groups(&["qa"]), Some(until), "olga")
        .await
        .unwrap();
    bench.step(99);
    for ledger in [ledger, &bench.reopened()] {
        assert_eq!(ledger.owner_of_token(&token).unwrap().1, Some(until));
        assert_eq!(ledger.user(&ana).unwrap().token_until, Some(until));
    }
    bench.step(1);
    for ledger in [ledger, &bench.reopened()] {
        let expired = ledger.owner_of_token(&token).unwrap_err();
        assert!(
            expired
                .to_string()
                .starts_with("the token of ana@example.com expired at 2027-01-15"),
            "{expired}"
        );
        assert!(ledger.user_by_token(&token).is_none());
    }
    // Groups do not renew it; a new token does, until its own end.
    ledger.regroup_user(&ana, groups(&["leads"]), "olga").await.unwrap();
    assert!(ledger.user_by_token(&token).is_none());
    let later = until + Duration::from_secs(100);
    let fresh = ledger
        .rotate_user_until(&ana, Some(later), "olga")
        .await
        .unwrap()
        .token
        .unwrap();
    assert_eq!(ledger.owner_of_token(&fresh).unwrap().1, Some(later));
    assert_eq!(ledger.owner_of_token(&token).unwrap_err(), UserTokenError::NotAccepted);
}

#[tokio::test]
async fn a_token_is_good_until_it_is_replaced() {
    let bench = Bench::new();
    let (ledger, ana) = (&bench.ledger, name("ana@example.com"));
    let token = ledger.add_user(&ana, groups(&["qa"]), "olga").await.unwrap();
    assert!(token.expose().len() == 35 && token.expose().starts_with("tg_"));
    let identity = bench.reopened().user_by_token(&token).unwrap();
    assert_eq!((&identity.name, &identity.groups), (&ana, &groups(&["qa"])));
    assert_eq!(identity.source, IdentitySource::Local);
    let twice = ledger.add_user(&ana, groups(&[]), "olga").await;
    assert!(matches!(twice, Err(LedgerError::UserExists(_))));

    let RotatedToken {
        token: fresh, effect, ..
    } = ledger.rotate_user(&ana, "olga").await.unwrap();
    assert!(effect.is_done());
    let fresh = fresh.unwrap();
    ledger.regroup_user(&ana, groups(&["qa", "oncall"]), "olga").await.unwrap();
    for ledger in [ledger, &bench.reopened()] {
        assert!(ledger.user_by_token(&token).is_none());
        assert_eq!(ledger.user_by_token(&fresh).unwrap().groups.len(), 2);
        assert!(ledger.user_by_token(&Secret::new("tg_".to_owned())).is_none());
    }
    let changes = ["user added", "user token_withdrawn", "user rotated", "user regrouped"];
    assert_eq!(bench.script.changes(), changes);
    for nobody in [
        ledger.rotate_user(&name("bo"), "olga").await.err(),
        ledger.regroup_user(&name("bo"), groups(&[]), "olga").await.err(),
        ledger.enable_user(&name("bo"), "olga").await.err(),
    ] {
        assert!(matches!(nobody, Some(LedgerError::NoSuchUser(_))));
    }
    // Not even the file has a token.
    let store = std::fs::read(bench.folder.path().join("ledger.db-wal")).unwrap();
    let held = |secret: &str| store.windows(secret.len()).any(|window| window == secret.as_bytes());
    assert!(held("ana@example.com") && !held(token.expose()) && !held(fresh.expose()));
}

#[tokio::test]
async fn who_is_disabled_loses_everything_at_once() {
    let bench = Bench::new();
    let (ledger, ana) = (&bench.ledger, name("ana@example.com"));
    let token = ledger.add_user(&ana, groups(&["qa"]), "olga").await.unwrap();
    let granted = bench.submit(new(SubmitResult::Granted(ApprovedBy::Automatic))).await.request;
    let (by_hand, _) = ledger.create(terms(), "olga").await.unwrap();
    let pending = bench.submit(bench.waiting(1)).await.request;
    let mut admission = ledger.admit(granted.grant().unwrap(), None, CLIENT, fine).await.unwrap();

    assert!(ledger.disable_user(&ana, "olga\nsmith").await.unwrap().disabled);
    admission.changes.changed().await.unwrap();
    assert!(admission.changes.borrow_and_update().revoked().is_some());
    assert!(ledger.user_by_token(&token).is_none());
    for ledger in [ledger, &bench.reopened()] {
        assert!(ledger.is_disabled(&ana));
        assert_eq!(ledger.active_grants(&ana), 0);
        assert_eq!(ledger.grant(by_hand.id()).await.unwrap().status, "revoked");
        let outcome = ledger.request(&pending.id).await.unwrap().request.outcome;
        assert!(matches!(outcome, Some(RequestOutcome::Rejected { by, .. }) if by.as_str() == "operator"));
    }
    let before = bench.script.changes().len();
    ledger.disable_user(&ana, "olga").await.unwrap();
    assert_eq!(bench.script.changes().len(), before, "it was disabled already");

    // Nothing is made for it now, and what was lost does not come back.
    let late = ledger.create(terms(), "olga").await;
    assert!(matches!(late, Err(LedgerError::Disabled(_))), "{late:?}");
    for submitted in [SubmitResult::Granted(ApprovedBy::Automatic), bench.waiting(1).submitted] {
        let late = ledger.submit(new(submitted), reasons()).await;
        assert!(matches!(late, Err(LedgerError::Disabled(_))), "{late:?}");
    }
    assert!(!ledger.enable_user(&ana, "olga").await.unwrap().disabled);
    assert!(ledger.user_by_token(&token).is_some());
    assert_eq!(ledger.active_grants(&ana), 0);
    assert!(approve(ledger, &pending.id, "bo").await.is_err());
}

/// Whatever is made while somebody is shut out: it ended with the rest, or was not made; letting them in again brings nothing back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_slips_through_while_somebody_is_shut_out() {
    let bench = Bench::new();
    let (ledger, ana) = (&bench.ledger, name("ana@example.com"));
    ledger.add_user(&ana, groups(&["qa"]), "olga").await.unwrap();
    let (mut made, mut refused) = (0, 0);
    for round in 0..30_u8 {
        let pending = bench.submit(bench.waiting(1)).await.request;
        // Each time a few of the store's turns later, so that each of them comes before it, after it and in the middle.
        let disable = async {
            for _ in 0..round % 10 {
                let unknown = ledger.grant(&GrantId::from_random([round; 10])).await;
                assert!(unknown.is_err());
            }
            ledger.disable_user(&ana, "olga").await
        };
        let (by_hand, granted, approved, waiting, disabled) = tokio::join!(
            ledger.create(terms(), "olga"),
            ledger.submit(new(SubmitResult::Granted(ApprovedBy::Automatic)), reasons()),
            approve(ledger, &pending.id, "bo"),
            ledger.submit(bench.waiting(1), reasons()),
            disable,
        );
        disabled.unwrap();
        for was_made in [by_hand.is_ok(), granted.is_ok(), approved.is_ok(), waiting.is_ok()] {
            *(if was_made { &mut made } else { &mut refused }) += 1;
        }
        assert_eq!(ledger.active_grants(&ana), 0, "round {round}");
        ledger.enable_user(&ana, "olga").await.unwrap();
        assert_eq!(ledger.active_grants(&ana), 0, "round {round}");
        for request in [Some(pending.id), waiting.ok().map(|view| view.request.id)]
            .into_iter()
            .flatten()
        {
            assert!(approve(ledger, &request, "cy").await.is_err(), "round {round}");
        }
        let again = bench.reopened();
        assert_eq!(again.active_grants(&ana), 0, "round {round}: what is stored has ended too");
    }
    println!("{made} were made and ended, {refused} were not made");
    assert!(made > 0 && refused > 0);
}

/// What the store of another program still has of somebody who is shut out ends before they are let in again.
#[tokio::test]
async fn what_was_left_open_ends_before_somebody_is_let_in_again() {
    let bench = Bench::new();
    let (ledger, ana) = (&bench.ledger, name("ana@example.com"));
    ledger.add_user(&ana, groups(&["qa"]), "olga").await.unwrap();
    let (grant, _) = ledger.create(terms(), "olga").await.unwrap();
    let pending = bench.submit(bench.waiting(1)).await.request;
    bench.sql("UPDATE users SET disabled = 1");
    let ledger = bench.reopened();
    bench.fill_disk(true);
    assert!(ledger.enable_user(&ana, "olga").await.is_err());
    assert!(ledger.is_disabled(&ana), "not before it has ended");
    bench.fill_disk(false);
    settled(&ledger).await;
    ledger.enable_user(&ana, "olga").await.unwrap();
    assert_eq!(ledger.grant(grant.id()).await.unwrap().status, "revoked");
    assert!(approve(&ledger, &pending.id, "bo").await.is_err());
}

#[tokio::test]
async fn identities_of_issuers_can_be_disabled_too() {
    let bench = Bench::new();
    let ci = name("ci:shop/orders");
    let view = bench.ledger.disable_user(&ci, "olga").await.unwrap();
    assert!(view.disabled && !view.local);
    assert!(bench.reopened().is_disabled(&ci));
    // Made a local user it stays shut out until somebody says otherwise.
    let token = bench.ledger.add_user(&ci, groups(&[]), "olga").await.unwrap();
    assert!(bench.ledger.user_by_token(&token).is_none());
    bench.ledger.enable_user(&ci, "olga").await.unwrap();
    assert!(bench.ledger.user_by_token(&token).is_some());
    assert_eq!(bench.ledger.users().len(), 1);
}

#[tokio::test]
async fn a_user_that_is_not_on_record_is_none() {
    let bench = Bench::new();
    let (ledger, ana) = (&bench.ledger, name("ana@example.com"));
    let token = ledger.add_user(&ana, groups(&["qa"]), "olga").await.unwrap();
    bench.fill_disk(true);
    assert!(ledger.add_user(&name("bo"), groups(&[]), "olga").await.is_err());
    bench.fill_disk(false);
    for ledger in [ledger, &bench.reopened()] {
        assert_eq!(ledger.users().len(), 1);
        assert!(ledger.user_by_token(&token).is_some());
    }
    bench.sql("CREATE TRIGGER broken BEFORE INSERT ON users BEGIN SELECT RAISE(FAIL, 'broken'); END");
    assert!(ledger.add_user(&name("bo"), groups(&[]), "olga").await.is_err());
    assert_eq!(bench.script.changes().last().map(String::as_str), Some("user not_stored"));
    assert!(ledger.user(&name("bo")).is_none());
}
