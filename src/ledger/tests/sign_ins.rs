//! Sign-ins: made on record, used by their secret, ended with their identity's rights, gone for good.

use std::collections::{BTreeMap, BTreeSet};

use super::workflow::name;
use super::*;
use crate::base::secret::Secret;
use crate::identity::{Identity, IdentitySource};
use crate::model::names::{GroupName, IdentityName};
use crate::model::sign_in::{SignInLimits, SignInRefusal, SignInVia};

fn groups(names: &[&str]) -> BTreeSet<GroupName> {
    names.iter().map(|group| name(group)).collect()
}

fn ana() -> IdentityName {
    name("ana@example.com")
}

fn limits() -> SignInLimits {
    SignInLimits::default()
}

impl Bench {
    fn new_sign_in(&self, identity: Identity) -> NewSignIn {
        let now = self.clock.now();
        NewSignIn {
            identity,
            via: SignInVia::Console,
            client: Some(CLIENT),
            proved_at: now,
            expires_at: now + limits().longest,
        }
    }

    async fn sign_in(&self, identity: Identity) -> (SignInView, Secret<String>) {
        self.ledger.sign_in(self.new_sign_in(identity), || true).await.unwrap()
    }

    /// A local user that has signed in, with the token.
    async fn ana(&self) -> (Secret<String>, SignInView, Secret<String>) {
        let token = self.ledger.add_user(&ana(), groups(&["qa"]), "olga").await.unwrap();
        let (view, secret) = self.sign_in(self.ledger.user_by_token(&token).unwrap()).await;
        (token, view, secret)
    }
}

fn of_issuer() -> Identity {
    Identity {
        source: IdentitySource::Issuer("https://id.example.org".to_owned()),
        claims: BTreeMap::from([("team".to_owned(), "shop".to_owned())]),
        ..Identity::local(name("id:bo"), groups(&["leads"]))
    }
}

fn refused(ledger: &Ledger, secret: &Secret<String>) -> SignInRefusal {
    ledger.signed_in(secret, Some(CLIENT), &limits()).unwrap_err()
}

#[tokio::test]
async fn a_secret_stands_for_its_identity_until_it_is_signed_out() {
    let bench = Bench::new();
    let (_, view, secret) = bench.ana().await;
    let (bos, of_bo) = bench.sign_in(of_issuer()).await;
    assert!(secret.expose().len() == 55 && secret.expose().starts_with(SIGN_IN_PREFIX));
    for ledger in [&bench.ledger, &bench.reopened()] {
        let found = ledger.signed_in(&secret, None, &limits()).unwrap();
        assert_eq!((&found.id, &found.identity.name), (&view.id, &ana()));
        assert_eq!(found.identity.source, IdentitySource::Local);
        let found = ledger.signed_in(&of_bo, None, &limits()).unwrap();
        assert_eq!(found.identity, of_issuer());
        let of = |who: Option<&IdentityName>| ledger.sign_ins(who, &limits()).len();
        assert_eq!((of(None), of(Some(&ana())), of(Some(&name("eve")))), (2, 1, 0));
    }
    assert_eq!(
        refused(&bench.ledger, &Secret::new("ts_x".to_owned())),
        SignInRefusal::Unknown
    );
    let ended = bench.ledger.end_sign_in(&view.id, "ana@example.com", true).await.unwrap();
    assert!(ended.effect.unwrap().is_done());
    bench.ledger.end_sign_in(&bos.id, "olga", false).await.unwrap();
    for ledger in [&bench.ledger, &bench.reopened()] {
        assert_eq!(refused(ledger, &secret), SignInRefusal::Unknown);
        assert_eq!(refused(ledger, &of_bo), SignInRefusal::Unknown);
        assert!(ledger.sign_ins(None, &limits()).is_empty());
    }
    assert!(bench.ledger.end_sign_in(&view.id, "olga", false).await.is_none());
    let changes = [
        "user added",
        "sign-in signed_in",
        "sign-in signed_in",
        "sign-in signed_out",
        "sign-in ended",
    ];
    assert_eq!(bench.script.changes(), changes);
    let store = std::fs::read(bench.folder.path().join("ledger.db-wal")).unwrap();
    let held = |secret: &str| store.windows(secret.len()).any(|window| window == secret.as_bytes());
    assert!(held(view.id.as_str()) && !held(secret.expose()));
}

#[tokio::test]
async fn it_ends_with_the_rights_that_it_was_made_with() {
    let bench = Bench::new();
    let (token, _, secret) = bench.ana().await;
    let ledger = &bench.ledger;
    let again = async || {
        bench
            .sign_in(
                ledger
                    .user(&ana())
                    .map(|user| Identity::local(user.name, user.groups))
                    .unwrap(),
            )
            .await
            .1
    };
    // More groups, fewer groups, and the same.
    let regrouped = ledger.regroup_user(&ana(), groups(&["qa", "leads"]), "olga").await.unwrap();
    assert_eq!(
        regrouped.effect,
        Some(ChangeEffect::DONE),
        "the end is stored before the answer"
    );
    assert!(bench.reopened().sign_ins(None, &limits()).is_empty());
    assert_eq!(refused(ledger, &secret), SignInRefusal::Unknown);
    let secret = again().await;
    let found = ledger.signed_in(&secret, None, &limits()).unwrap();
    assert_eq!(found.identity.groups, groups(&["qa", "leads"]));
    ledger.regroup_user(&ana(), groups(&["qa"]), "olga").await.unwrap();
    assert_eq!(refused(ledger, &secret), SignInRefusal::Unknown);
    let secret = again().await;
    ledger.regroup_user(&ana(), groups(&["qa"]), "olga").await.unwrap();
    assert!(ledger.signed_in(&secret, None, &limits()).is_ok());
    // Another token.
    ledger.rotate_user(&ana(), "olga").await.unwrap();
    assert_eq!(refused(ledger, &secret), SignInRefusal::Unknown);
    assert!(ledger.user_by_token(&token).is_none());
    // Disabled, also where the record of the end has not come.
    let secret = again().await;
    let mut changes = ledger.users_changed();
    changes.mark_unchanged();
    let disabled = ledger.disable_user(&ana(), "olga").await.unwrap();
    assert!(disabled.effect.unwrap().is_done() && changes.has_changed().unwrap());
    assert_eq!(refused(ledger, &secret), SignInRefusal::Unknown);
    assert!(bench.reopened().sign_ins(None, &limits()).is_empty());
    let new = bench.new_sign_in(Identity::local(ana(), groups(&["qa"])));
    assert!(matches!(ledger.sign_in(new, || true).await, Err(LedgerError::Disabled(_))));
    ledger.enable_user(&ana(), "olga").await.unwrap();
    assert_eq!(refused(ledger, &secret), SignInRefusal::Unknown);
    // An issuer's, too, and one whose name becomes a local user's.
    let (_, of_bo) = bench.sign_in(of_issuer()).await;
    ledger.add_user(&name("id:bo"), groups(&[]), "olga").await.unwrap();
    assert_eq!(refused(ledger, &of_bo), SignInRefusal::Identity);
}

#[tokio::test]
async fn the_store_alone_does_not_bring_it_back() {
    let bench = Bench::new();
    let (_, view, secret) = bench.ana().await;
    // As if the gate had died before the end was stored, with the new token in the store.
    bench.ledger.rotate_user(&ana(), "olga").await.unwrap();
    bench.sql("DROP TRIGGER sign_ins_keep_who_and_how_long");
    bench.sql(&format!("UPDATE sign_ins SET ended_at = NULL WHERE id = '{}'", view.id));
    assert_eq!(refused(&bench.reopened(), &secret), SignInRefusal::Identity);
}

#[tokio::test]
async fn it_ends_by_time_and_by_silence() {
    let bench = Bench::new();
    let (_, view, secret) = bench.ana().await;
    let ledger = &bench.ledger;
    let use_it = async || ledger.use_sign_in(&secret, Some(CLIENT), &limits()).await;
    bench.step(3_500);
    assert_eq!(use_it().await.unwrap().until, view.expires_at);
    let used = view.created_at + Duration::from_secs(3_500);
    bench.step(3_500);
    // The store knows of the use, so that a restart does not end it.
    for ledger in [ledger, &bench.reopened()] {
        let found = ledger.sign_ins(Some(&ana()), &limits());
        assert!(
            (used..used + Duration::from_mins(1)).contains(&found[0].last_used_at),
            "{found:?}"
        );
        assert!(ledger.signed_in(&secret, None, &limits()).is_ok());
    }
    bench.step(100);
    assert_eq!(use_it().await.unwrap_err(), SignInRefusal::Idle);
    assert!(ledger.sign_ins(None, &limits()).is_empty());
    ledger.forget_sign_ins(&limits()).await.unwrap();
    ledger.finish(Duration::from_secs(10)).await;
    assert_eq!(use_it().await.unwrap_err(), SignInRefusal::Unknown);
    assert_eq!(bench.script.changes(), ["user added", "sign-in signed_in", "sign-in ended"]);
    ledger.forget_sign_ins(&limits()).await.unwrap();
    let connection = rusqlite::Connection::open(bench.folder.path().join("ledger.db")).unwrap();
    let rows = || {
        connection
            .query_row("SELECT count(*) FROM sign_ins", [], |row| row.get::<_, u32>(0))
            .unwrap()
    };
    assert_eq!(rows(), 0);

    let (view, secret) = bench.sign_in(of_issuer()).await;
    bench.step(43_200);
    assert_eq!(refused(ledger, &secret), SignInRefusal::Expired);
    assert_eq!(rows(), 1);
    ledger.forget_sign_ins(&limits()).await.unwrap();
    assert_eq!(
        (rows(), ledger.end_sign_in(&view.id, "olga", false).await.is_none()),
        (0, true)
    );
}

#[tokio::test]
async fn one_identity_has_so_many_and_others_are_not_touched() {
    let bench = Bench::new();
    let (_, first, secret) = bench.ana().await;
    let (_, of_bo) = bench.sign_in(of_issuer()).await;
    for _ in 0..20 {
        bench.step(1);
        bench.sign_in(Identity::local(ana(), groups(&["qa"]))).await;
    }
    let of_ana = bench.ledger.sign_ins(Some(&ana()), &limits());
    assert!(of_ana.len() == 20 && of_ana.iter().all(|view| view.id != first.id));
    assert_eq!(refused(&bench.ledger, &secret), SignInRefusal::Unknown);
    assert!(bench.ledger.signed_in(&of_bo, None, &limits()).is_ok());
}

#[tokio::test]
async fn what_is_not_on_record_or_overtaken_is_no_sign_in() {
    let bench = Bench::new();
    bench.ledger.add_user(&ana(), groups(&["qa"]), "olga").await.unwrap();
    let new = || bench.new_sign_in(Identity::local(ana(), groups(&["qa"])));
    bench.fill_disk(true);
    assert!(matches!(
        bench.ledger.sign_in(new(), || true).await,
        Err(LedgerError::Audit(_))
    ));
    bench.fill_disk(false);
    bench.sql("CREATE TRIGGER broken BEFORE INSERT ON sign_ins BEGIN SELECT RAISE(FAIL, 'broken'); END");
    assert!(matches!(
        bench.ledger.sign_in(new(), || true).await,
        Err(LedgerError::Store(_))
    ));
    bench.sql("DROP TRIGGER broken");
    let overtaken = bench.ledger.sign_in(new(), || false).await;
    assert!(matches!(overtaken, Err(LedgerError::Store(StoreError::Overtaken))));
    bench.ledger.finish(Duration::from_secs(10)).await;
    for ledger in [&bench.ledger, &bench.reopened()] {
        assert!(ledger.sign_ins(None, &limits()).is_empty());
    }
    let changes = [
        "user added",
        "sign-in signed_in",
        "sign-in not_stored",
        "sign-in signed_in",
        "sign-in ended",
    ];
    assert_eq!(bench.script.changes(), changes);
}
