//! Sign-ins as policies see them, and as callers make and end them.

use super::*;
use crate::model::arrival::CallerVia;
use crate::model::sign_in::{SignInLimits, SignInVia};

/// Break-glass and approvals of writing want a sign-in of the last quarter of an hour.
pub(super) const FRESH: &str = r#"
@id("fresh-for-breaking-the-glass") @advice("sign in again")
forbid (principal, action == Tidegate::Action::"break-glass", resource)
unless { context has signed_in_ago && context.signed_in_ago < 900 };
@id("fresh-for-writing")
forbid (principal, action == Tidegate::Action::"approve", resource)
when { resource.profile == "read-write" }
unless { context has signed_in_ago && context.signed_in_ago < 900 };
"#;

/// Writing is not approved in a chat.
const NOT_IN_CHAT: &str = r#"
@id("not-in-chat") @advice("approve it at the console")
forbid (principal, action == Tidegate::Action::"approve", resource)
when { resource.profile == "read-write" && context has via && context.via == "slack" };
"#;

impl Bench {
    fn fresh() -> Self {
        Self::with(Some(policies(&format!("{POLICIES}{FRESH}"))))
    }

    pub(super) async fn caller(&self, name: &str, groups: &[&str]) -> Caller {
        let groups = groups.iter().map(|group| group.parse().unwrap()).collect();
        let token = self.ledger.add_user(&name.parse().unwrap(), groups, "ops").await.unwrap();
        self.bearer(token).await
    }

    async fn bearer(&self, token: Secret<String>) -> Caller {
        Caller::Person(self.service.identify(&token, Some(CLIENT)).await.unwrap(), Arc::new(token))
    }

    /// The caller as its sign-in.
    pub(super) async fn signed_in(&self, caller: &Caller) -> Caller {
        let (_, secret) = self.service.sign_in(caller, SignInVia::Console).await.unwrap();
        self.bearer(secret).await
    }
}

pub(super) fn break_glass() -> RequestArgs {
    RequestArgs {
        break_glass: true,
        reason: Some("INC-77".to_owned()),
        ..asked("orders", "read-only")
    }
}

#[tokio::test]
async fn policies_see_how_long_ago_it_was_and_a_token_has_no_age() {
    let bench = Bench::fresh();
    let (ana, lea) = (bench.caller("ana", &["qa"]).await, bench.caller("lea", &["leads"]).await);
    let (signed_in, leas) = (bench.signed_in(&ana).await, bench.signed_in(&lea).await);
    let refused = bench.service.submit(ana.person().unwrap(), break_glass()).await;
    assert!(
        matches!(&refused, Err(AccessError::Denied { why, .. }) if why == "sign in again"),
        "{refused:?}"
    );
    let view = bench
        .service
        .submit(signed_in.person().unwrap(), break_glass())
        .await
        .unwrap();
    // The connect proves a secret of the grant, and no sign-in.
    bench.connect(view.request.grant().unwrap()).await.unwrap();

    let waits = bench
        .service
        .submit(ana.person().unwrap(), asked("orders", "read-write"))
        .await
        .unwrap();
    let named = bench.service.approvers(&waits).await;
    assert_eq!(named.names, ["lea".parse().unwrap()], "she can sign in");
    let approve = async |caller: &Caller| {
        let who = caller.person().unwrap();
        let approved = bench
            .service
            .approve(who, &waits.request.id, NarrowedRequest::default(), None)
            .await;
        approved.is_ok()
    };
    assert!(!approve(&lea).await);
    bench.pass(Duration::from_mins(16));
    let (later, leas) = (
        bench.service.identify(bearer_of(&signed_in), None).await.unwrap(),
        bench.bearer(bearer_of(&leas).clone()).await,
    );
    assert!(!approve(&leas).await);
    assert!(bench.service.submit(&later, break_glass()).await.is_err());
    assert!(approve(&bench.signed_in(&lea).await).await);
}

fn bearer_of(caller: &Caller) -> &Secret<String> {
    match caller {
        Caller::Person(_, secret) => secret,
        Caller::Admin { .. } => panic!("a person"),
    }
}

#[tokio::test]
async fn it_is_made_with_a_token_and_lasts_no_longer() {
    let bench = Bench::new();
    let ana = bench.caller("ana", &["qa"]).await;
    let before = bench.clock.now();
    let (view, secret) = bench.service.sign_in(&ana, SignInVia::Cli).await.unwrap();
    let standing = bench.bearer(secret.clone()).await;
    assert_eq!(standing.person().unwrap().identity, ana.person().unwrap().identity);
    let again = bench.service.sign_in(&standing, SignInVia::Cli).await;
    assert!(matches!(again, Err(AccessError::SignedInAlready)));
    let admin = Caller::Admin {
        operator: "ops".to_owned(),
    };
    assert!(matches!(
        bench.service.sign_in(&admin, SignInVia::Cli).await,
        Err(AccessError::NoPerson)
    ));
    // A job's token is good for some minutes, and so is what is made of it.
    let until = bench.clock.now() + Duration::from_mins(5);
    let job = Principal {
        proof_until: Some(until),
        ..pipeline("shop/orders")
    };
    let (of_job, _) = bench.service.sign_in(&job.caller(), SignInVia::Cli).await.unwrap();
    assert_eq!(of_job.expires_at, until);
    let longest = SignInLimits::default().longest;
    assert!((before + longest..bench.clock.now() + longest).contains(&view.expires_at));
    // A token that is replaced while its bearer signs in makes none.
    bench.ledger.rotate_user(ana.person().unwrap().name(), "ops").await.unwrap();
    assert!(matches!(
        bench.service.sign_in(&ana, SignInVia::Cli).await,
        Err(AccessError::NotIdentified)
    ));
    assert!(bench.service.identify(&secret, None).await.is_err());
}

#[tokio::test]
async fn an_answer_ends_with_the_sign_in() {
    let bench = Bench::new();
    let ana = bench.caller("ana", &["qa"]).await;
    let signed_in = bench.signed_in(&ana).await;
    let standing = bench.service.standing(&signed_in);
    assert!(standing.holds() && bench.service.is_as_before(&signed_in));
    let id = signed_in.person().unwrap().sign_in.clone().unwrap().id;
    let (eve, ops) = (bench.caller("eve", &["qa"]).await, bench.caller("olga", &["ops"]).await);
    assert!(matches!(
        bench.service.end_sign_in(&eve, &id).await,
        Err(AccessError::NoSuchSignIn(_))
    ));
    assert!(bench.service.sign_ins(&eve, None).is_empty());
    assert_eq!(bench.service.sign_ins(&ops, None).len(), 1);
    let over = standing.over();
    tokio::pin!(over);
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut over).await.is_err());
    bench.service.end_sign_in(&ops, &id).await.unwrap();
    tokio::time::timeout(Duration::from_secs(1), over).await.unwrap();
    assert!(!standing.holds() && !bench.service.is_as_before(&signed_in));
    assert!(bench.decisions().contains(&(
        "olga".to_owned(),
        "administer".to_owned(),
        true,
        "ops-run-the-gate".to_owned()
    )));

    // Bound to an address, and shorter than before, from a reload on.
    let signed_in = bench.signed_in(&ana).await;
    let mut rules = testing::rules(Some(policies(POLICIES)));
    rules.sign_ins.bind_address = true;
    bench.rules.send_replace(Arc::new(rules));
    let secret = bearer_of(&signed_in);
    assert!(bench.service.identify(secret, Some(CLIENT)).await.is_ok());
    let elsewhere = bench.service.identify(secret, Some("192.0.2.7".parse().unwrap())).await;
    assert!(matches!(elsewhere, Err(AccessError::NotIdentified)));
    let told = bench.records().into_iter().find_map(|event| match event {
        Event::IdentityRefused(refused) => Some(refused.detail.clone()),
        _ => None,
    });
    assert!(told.unwrap().contains("console.bind_address"));
}

/// Folders of policies have a schema of their own, which may be from before.
#[tokio::test]
async fn an_older_schema_is_not_told_of_it() {
    let schema = include_str!("../../../policies/schema.cedarschema");
    let file = |name: &str, text: &str| policy::PolicyFile {
        name: name.to_owned(),
        text: text.to_owned(),
    };
    // One from before ways were told, which still asks for the age, and one from before both.
    for (unknown, text) in [
        (&["via?"][..], format!("{POLICIES}{FRESH}")),
        (&["via?", "signed_in_ago"], POLICIES.to_owned()),
    ] {
        let known = |line: &&str| !unknown.iter().any(|attribute| line.contains(attribute));
        let older: Vec<_> = schema.lines().filter(known).collect();
        let (schema, set) = (file("schema.cedarschema", &older.join("\n")), [file("test.cedar", &text)]);
        let set = Policies::parse(&schema, &set, jiff::tz::TimeZone::UTC).unwrap();
        let bench = Bench::with(Some(Arc::new(set)));
        let ana = bench.caller("ana", &["qa"]).await;
        let signed_in = bench.signed_in(&ana).await;
        let who = signed_in.person().unwrap();
        let view = bench.service.submit(who, asked("orders", "read-only")).await;
        assert_eq!(view.unwrap().status, "approved");
        assert!(bench.service.submit(who, break_glass()).await.is_ok(), "{unknown:?}");
    }
}

#[tokio::test]
async fn a_terminal_comes_once_in_time_with_its_own_verifier() {
    let bench = Bench::new();
    let ana = bench.signed_in(&bench.caller("ana", &["qa"]).await).await;
    bench.pass(Duration::from_mins(10));
    let [own, other] = ["own", "other"].map(|text| Secret::new(text.to_owned()));
    let let_in = || bench.service.let_terminal_in(&ana, &challenge_of(&own)).unwrap();
    let finish = async |code: &Secret<String>, verifier: &Secret<String>| {
        let finished = bench.service.finish_terminal_sign_in(code, verifier, Some(CLIENT)).await;
        finished.map_err(|error| matches!(error, AccessError::NoSuchCode))
    };
    let code = let_in();
    assert_eq!(finish(&code, &other).await.err(), Some(true));
    assert_eq!(finish(&other, &own).await.err(), Some(true));
    let (view, secret) = finish(&code, &own).await.unwrap();
    assert_eq!(finish(&code, &own).await.err(), Some(true), "once");
    // It is as old as the browser's, so it is no fresh sign-in, and ends with it.
    let terminal = bench.bearer(secret).await;
    let (theirs, own_sign_in) = (terminal.person().unwrap(), ana.person().unwrap());
    assert_eq!(theirs.sign_in.as_ref().unwrap().at, own_sign_in.sign_in.as_ref().unwrap().at);
    assert_eq!((theirs.proof_until, view.via), (own_sign_in.proof_until, SignInVia::Cli));
    let late = let_in();
    bench.pass(Duration::from_mins(1));
    assert_eq!(finish(&late, &own).await.err(), Some(true));
    // Who was let in by somebody who is disabled meanwhile stays out.
    let code = let_in();
    bench.ledger.disable_user(own_sign_in.name(), "ops").await.unwrap();
    assert_eq!(finish(&code, &own).await.err(), Some(false));
    for challenge in ["", "short", &"x".repeat(43), &format!("{}=", challenge_of(&own))] {
        let refused = bench.service.let_terminal_in(&ana, challenge);
        assert!(matches!(refused, Err(AccessError::Invalid(_))), "{challenge}");
    }
}

/// An identity of an issuer answers from a chat with the groups of its sign-in, and only while that is good.
#[tokio::test]
async fn an_issuers_identity_answers_from_a_chat_while_it_is_signed_in() {
    let bench = Bench::new();
    let (issuers, sign) = issuer(bench.folder.path());
    let mut rules = testing::rules(Some(policies(&format!("{POLICIES}{NOT_IN_CHAT}"))));
    rules.issuers = Arc::new(issuers);
    bench.rules.send_replace(Arc::new(rules));
    let bo = ChatPerson::Named("bo".parse().unwrap());
    let unknown = bench.service.identify_in_chat(&bo, "slack:U1").await.unwrap_err().to_string();
    assert!(unknown.contains("sign in at the console"), "{unknown}");
    let bos = bench.bearer(sign("bo")).await;
    let signed_in = bench.signed_in(&bos).await;
    let who = bench.service.identify_in_chat(&bo, "slack:U1").await.unwrap();
    assert_eq!(who.identity, bos.person().unwrap().identity);
    assert_eq!((who.via, who.client, who.sign_in.as_ref()), (CallerVia::Slack, None, None));
    // The way is what policies see of it.
    let ana = bench.caller("ana", &["qa"]).await;
    let asked = bench
        .service
        .submit(ana.person().unwrap(), asked("orders", "read-write"))
        .await
        .unwrap();
    let approve = async |who: &Principal| {
        bench
            .service
            .approve(who, &asked.request.id, NarrowedRequest::default(), None)
            .await
    };
    let refused = approve(&who).await.unwrap_err().to_string();
    assert!(refused.contains("approve it at the console"), "{refused}");
    assert_eq!(approve(signed_in.person().unwrap()).await.unwrap().status, "approved");
    let id = signed_in.person().unwrap().sign_in.clone().unwrap().id;
    bench.service.end_sign_in(&signed_in, &id).await.unwrap();
    assert!(bench.service.identify_in_chat(&bo, "slack:U1").await.is_err());
    let vias: Vec<_> = bench
        .requests_changed()
        .into_iter()
        .map(|step| step.via.unwrap().to_string())
        .collect();
    assert_eq!(vias, ["api", "console"]);
}
