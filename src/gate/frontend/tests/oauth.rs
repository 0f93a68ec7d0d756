//! Logins by OAUTHBEARER: who is offered it, every message byte by byte, and what a refusal costs.

use super::token::{ANA, TOKEN};
use super::*;
use crate::model::ending::TokenForm;

const REFUSAL: &str = concat!(
    r#"{"status":"invalid_token","scope":"openid email","#,
    r#""openid-configuration":"https://id.example.org/qa/.well-known/openid-configuration"}"#
);
const OFFER: &[u8] = b"\0\0\0\x0aOAUTHBEARER\0\0";

/// Logins as `sso`, and of the identities `id:…`.
pub(super) fn logins() -> OauthLogins {
    let discovery = Discovery::new("https://id.example.org/qa", "openid email");
    OauthLogins {
        oauth_user: Some(("sso".to_owned(), discovery.clone())),
        prefixes: vec![("id:".to_owned(), Some(discovery)), ("ci:".to_owned(), None)],
    }
}

fn first(auth: &str) -> Vec<u8> {
    initial("OAUTHBEARER", format!("n,,\x01auth={auth}\x01\x01").as_bytes())
}

trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> ByteStream for T {}

/// Both ways in which a client of this machine may send a token.
const IN_CLEAR_AND_ON_TLS: [bool; 2] = [false, true];

async fn connected(gate: &Arc<Gate>, tls: bool) -> (Box<dyn ByteStream>, JoinHandle<Outcome>) {
    let (client, outcome) = gate.connect().await;
    let client: Box<dyn ByteStream> = if tls {
        Box::new(secure(client).await)
    } else {
        Box::new(client)
    };
    (client, outcome)
}

/// The client's side up to the offer.
async fn offered(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), user: &str) {
    stream.write_all(&startup(0, user, b"database\0orders\0")).await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(message(stream).await, (b'R', OFFER.to_vec()), "{user}");
}

async fn say(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) {
    stream.write_all(bytes).await.unwrap();
    stream.flush().await.unwrap();
}

/// The client's side of a refusal: it reads where to sign in, answers as it must, and reads the last message.
async fn turned_away(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Vec<u8> {
    let (kind, told) = message(stream).await;
    assert_eq!((kind, &told[..4]), (b'R', &[0, 0, 0, 11][..]));
    assert_eq!(String::from_utf8_lossy(&told[4..]), REFUSAL);
    say(stream, &response(b"\x01")).await;
    let refused = all(stream).await;
    assert_eq!(code_of(&refused), "28000");
    refused
}

fn bad_token(user: &str) -> Ending {
    Ending::BadToken {
        user: user.to_owned(),
        form: TokenForm::Bearer,
        held: None,
    }
}

#[tokio::test]
async fn a_token_on_tls_and_from_this_machine_in_clear() {
    let gate = Gate::open().await;
    let (mut client, outcome) = gate.connect().await;
    offered(&mut client, "sso").await;
    say(&mut client, &first(&format!("Bearer {TOKEN}"))).await;
    // There is no last message of the mechanism, and AuthenticationOk is not the frontend's to say.
    assert_eq!(all(&mut client).await, b"");
    drop(client);
    assert!(matches!(outcome.await.unwrap(), Outcome::In(startup) if startup.user == "sso"));

    let gate = Gate::without_tokens_in_clear().await;
    let (client, outcome) = gate.connect().await;
    let mut client = secure(client).await;
    offered(&mut client, "sso").await;
    say(&mut client, &first(&format!("bearer  {TOKEN}"))).await;
    assert_eq!(all(&mut client).await, b"");
    drop(client);
    assert!(matches!(outcome.await.unwrap(), Outcome::In(_)));
    assert!(gate.strangers.is_empty());
}

#[tokio::test]
async fn the_first_message_may_come_after_an_empty_challenge() {
    let gate = Gate::open().await;
    let (mut client, outcome) = gate.connect().await;
    offered(&mut client, "sso").await;
    say(&mut client, &response(b"OAUTHBEARER\0\xff\xff\xff\xff")).await;
    assert_eq!(message(&mut client).await, (b'R', vec![0, 0, 0, 11]));
    say(
        &mut client,
        &response(format!("n,,\x01auth=Bearer {TOKEN}\x01\x01").as_bytes()),
    )
    .await;
    assert_eq!(all(&mut client).await, b"");
    drop(client);
    assert!(matches!(outcome.await.unwrap(), Outcome::In(_)));
}

#[tokio::test]
async fn names_choose_the_mechanism_whether_anybody_has_them() {
    let gate = Gate::open().await;
    for user in ["sso", "id:ana", "id:nobody", "id:"] {
        let (mut client, _outcome) = gate.connect().await;
        offered(&mut client, user).await;
    }
    // Never beside SCRAM, and never instead of what other names are asked for.
    for (user, request) in [
        ("gr_known", &b"\0\0\0\x0aSCRAM-SHA-256\0\0"[..]),
        ("gr_sso", b"\0\0\0\x0aSCRAM-SHA-256\0\0"),
        (ANA, b"\0\0\0\x03"),
    ] {
        let (mut client, _outcome) = gate.connect().await;
        say(&mut client, &startup(0, user, b"")).await;
        assert_eq!(message(&mut client).await, (b'R', request.to_vec()), "{user}");
    }
}

#[tokio::test]
async fn in_clear_it_is_not_even_offered_where_that_is_not_allowed() {
    let gate = Gate::without_tokens_in_clear().await;
    for user in ["sso", "id:ana"] {
        let (mut client, outcome) = gate.connect().await;
        say(&mut client, &startup(0, user, b"")).await;
        assert_eq!(fatal_code(&mut client).await, "28000");
        drop(client);
        assert_eq!(outcome.await.unwrap().ending(), &Ending::TokenInClear);
    }
}

#[tokio::test]
async fn asking_where_to_sign_in_is_no_failure() {
    let gate = Gate::open().await;
    for (round, tls) in (0..20).flat_map(|round| IN_CLEAR_AND_ON_TLS.map(|tls| (round, tls))) {
        let (mut client, outcome) = connected(&gate, tls).await;
        offered(&mut client, "sso").await;
        say(&mut client, &first("")).await;
        if round % 2 == 0 {
            turned_away(&mut client).await;
        } else {
            // libpq hangs up here if it has a token at once.
            message(&mut client).await;
        }
        drop(client);
        match outcome.await.unwrap() {
            Outcome::Rejected(rejected) => {
                assert!(matches!(rejected.error, HandshakeError::Discovery), "{rejected:?}");
                assert_eq!(rejected.ending, bad_token("sso"));
            }
            other => panic!("{other:?}"),
        }
    }
    let permit = gate.strangers.enter([127, 0, 0, 1].into());
    assert!(permit.proof().failed(Some("sso")).time.is_zero());
    assert_eq!(permit.proof().failures_before("sso"), None);
}

#[tokio::test]
async fn unknown_names_wrong_tokens_and_others_tokens_read_the_same() {
    let gate = Gate::open().await;
    let mut answers = Vec::new();
    let tries = [
        ("sso", "Bearer tg_wrong"),
        ("id:ana", "Bearer tg_right"),
        ("id:nobody", "Bearer tg_wrong"),
        // Credentials that are no token are refused like a wrong one, as by PostgreSQL.
        ("sso", "Basic YTpi"),
        ("id:nobody", "Bearer "),
        ("id:ana", "Bearer a b"),
    ];
    for ((user, auth), tls) in tries
        .into_iter()
        .flat_map(|tried| IN_CLEAR_AND_ON_TLS.map(|tls| (tried, tls)))
    {
        let (mut client, outcome) = connected(&gate, tls).await;
        offered(&mut client, user).await;
        say(&mut client, &first(auth)).await;
        let refused = turned_away(&mut client).await;
        drop(client);
        assert_eq!(outcome.await.unwrap().ending(), &bad_token(user), "{auth}");
        let shape = String::from_utf8(refused[5..].to_vec()).unwrap();
        assert!(
            shape.contains(&format!("OAuth bearer authentication failed for user \"{user}\"")),
            "{shape}"
        );
        answers.push(shape.replace(user, "?"));
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
}

#[tokio::test]
async fn what_is_no_message_of_the_mechanism_ends_it() {
    let gate = Gate::open().await;
    let longest = u32::try_from(16 * 1024 + 1024 + 5).unwrap();
    let long = [&b"p"[..], &longest.to_be_bytes()].concat();
    let second = startup(0, "id:ben", b"");
    for bytes in [
        &second[..],
        &long,
        b"p\0\0\0\x03",
        b"Q\0\0\0\x04",
        &password(TOKEN),
        &initial("SCRAM-SHA-256", b"n,,n=,r=abc"),
        &initial("OAUTHBEARER-PLUS", b"n,,\x01auth=\x01\x01"),
        &initial("OAUTHBEARER", b""),
        &initial("OAUTHBEARER", b"p=tls-server-end-point,,\x01auth=\x01\x01"),
        &initial("OAUTHBEARER", b"n,a=ana,\x01auth=\x01\x01"),
        &initial("OAUTHBEARER", b"n,,\x01auth=Bearer t"),
        &initial("OAUTHBEARER", b"n,,\x01host=x\x01\x01"),
        &initial("OAUTHBEARER", b"n,,\x01auth=\x01auth=\x01\x01"),
    ] {
        for tls in IN_CLEAR_AND_ON_TLS {
            let (mut client, outcome) = connected(&gate, tls).await;
            offered(&mut client, "sso").await;
            say(&mut client, bytes).await;
            assert_eq!(fatal_code(&mut client).await, "08P01", "{}", bytes.escape_ascii());
            drop(client);
            let outcome = outcome.await.unwrap();
            assert!(matches!(outcome.ending(), Ending::Malformed { .. }), "{outcome:?}");
        }
    }
}

fn password(token: &str) -> Vec<u8> {
    response(&[token.as_bytes(), b"\0"].concat())
}

#[tokio::test]
async fn the_longest_token_fits_and_other_pairs_with_it() {
    let gate = Gate::open().await;
    let token = "t".repeat(16 * 1024);
    let (mut client, outcome) = gate.connect().await;
    offered(&mut client, "sso").await;
    let pairs = format!("n,,\x01host={}\x01auth=Bearer {token}\x01\x01", "h".repeat(900));
    say(&mut client, &initial("OAUTHBEARER", pairs.as_bytes())).await;
    turned_away(&mut client).await;
    drop(client);
    assert_eq!(outcome.await.unwrap().ending(), &bad_token("sso"));
}

#[tokio::test]
async fn a_wrong_answer_to_a_refusal_changes_no_record() {
    for answer in [
        response(b""),
        response(b"\x01\x01"),
        response(b"n,,\x01auth=Bearer tg_right\x01\x01"),
        response(&[b'x'; 65]),
        b"Q\0\0\0\x04".to_vec(),
        startup(0, ANA, b""),
    ] {
        let gate = Gate::open().await;
        for (auth, code, ending, tls) in [
            ("Bearer tg_wrong", "28000", Some(bad_token("sso")), false),
            ("Bearer tg_wrong", "28000", Some(bad_token("sso")), true),
            // Nothing was refused before: what is wrong is the answer.
            ("", "08P01", None, false),
            ("", "08P01", None, true),
        ] {
            let (mut client, outcome) = connected(&gate, tls).await;
            offered(&mut client, "sso").await;
            say(&mut client, &first(auth)).await;
            message(&mut client).await;
            say(&mut client, &answer).await;
            assert_eq!(fatal_code(&mut client).await, code, "{}", answer.escape_ascii());
            drop(client);
            let outcome = outcome.await.unwrap();
            match ending {
                Some(ending) => assert_eq!(outcome.ending(), &ending),
                None => assert!(matches!(outcome.ending(), Ending::Malformed { .. }), "{outcome:?}"),
            }
        }
    }
}

/// A guesser who reads the refusal and hangs up has learnt as much as one who waits for the last message.
#[tokio::test]
async fn wrong_tokens_count_before_the_client_is_told() {
    let gate = Gate::open().await;
    for _ in 0..7 {
        let (mut client, outcome) = gate.connect().await;
        offered(&mut client, "sso").await;
        say(&mut client, &first("Bearer tg_wrong")).await;
        assert_eq!(message(&mut client).await.0, b'R');
        drop(client);
        assert!(matches!(
            outcome.await.unwrap().ending(),
            Ending::BadToken {
                form: TokenForm::Bearer,
                ..
            }
        ));
    }
    let (mut client, outcome) = gate.connect().await;
    offered(&mut client, "sso").await;
    let asked = gate.settings.clock.moment().instant;
    say(&mut client, &first("Bearer tg_wrong")).await;
    assert_eq!(message(&mut client).await.0, b'R');
    let waited = gate.settings.clock.moment().instant.duration_since(asked);
    assert!(waited >= Duration::from_millis(50), "{waited:?}");
    say(&mut client, &response(b"\x01")).await;
    let refused = String::from_utf8_lossy(&all(&mut client).await).into_owned();
    assert!(refused.contains("held back"), "{refused}");
    drop(client);
    assert!(matches!(
        outcome.await.unwrap().ending(),
        Ending::BadToken { held: Some(_), .. }
    ));
    // One name's failures, and a good token is let in at once.
    let permit = gate.strangers.enter([127, 0, 0, 1].into());
    assert!(permit.proof().failed(Some("id:ana")).time.is_zero());
    let (mut client, outcome) = gate.connect().await;
    offered(&mut client, "sso").await;
    say(&mut client, &first(&format!("Bearer {TOKEN}"))).await;
    assert_eq!(all(&mut client).await, b"");
    drop(client);
    assert!(matches!(outcome.await.unwrap(), Outcome::In(_)));
}

#[tokio::test]
async fn the_handshakes_limit_holds_for_each_step_and_for_the_judge() {
    let gate = Gate::start(Plaintext::Loopback, Duration::from_millis(200), StrangerLimits::default()).await;
    for sent in [None, Some("Bearer slow"), Some("")] {
        let (mut client, outcome) = gate.connect().await;
        offered(&mut client, "sso").await;
        if let Some(auth) = sent {
            say(&mut client, &first(auth)).await;
        }
        if sent == Some("") {
            assert_eq!(message(&mut client).await.0, b'R');
        }
        assert_eq!(fatal_code(&mut client).await, "57014", "{sent:?}");
        drop(client);
        assert!(matches!(outcome.await.unwrap().ending(), Ending::HandshakeTimeout { .. }));
    }
    // A client that is silent after its refusal has its token's reason on record.
    let (mut client, outcome) = gate.connect().await;
    offered(&mut client, "sso").await;
    say(&mut client, &first("Bearer tg_wrong")).await;
    message(&mut client).await;
    assert_eq!(fatal_code(&mut client).await, "28000");
    drop(client);
    assert_eq!(outcome.await.unwrap().ending(), &bad_token("sso"));
}

/// Clients that were displaced while their refusal was held back do not stay until the handshake's limit.
#[tokio::test]
async fn a_displaced_client_is_not_waited_for() {
    let limits = StrangerLimits {
        connections_per_address: 1,
        failure_delay: Duration::from_secs(2),
        ..StrangerLimits::default()
    };
    let gate = Gate::start(Plaintext::Loopback, AMPLE, limits).await;
    let (mut client, outcome) = gate.connect().await;
    offered(&mut client, "sso").await;
    say(&mut client, &first("Bearer tg_wrong")).await;
    assert_eq!(message(&mut client).await.0, b'R');
    let (_newer, _) = gate.connect().await;
    let outcome = timeout(Duration::from_secs(10), outcome).await.expect("in time").unwrap();
    assert!(matches!(outcome.ending(), Ending::TooMany { .. }), "{outcome:?}");
    drop(client);
}

#[tokio::test]
async fn an_older_client_says_itself_what_it_lacks() {
    let gate = Gate::open().await;
    let (mut client, outcome) = gate.connect().await;
    offered(&mut client, "sso").await;
    // libpq before 18 knows no mechanism here, and hangs up.
    client.shutdown().await.unwrap();
    assert_eq!(all(&mut client).await, b"");
    drop(client);
    assert_eq!(outcome.await.unwrap().ending(), &Ending::Disconnected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_bytes_end_in_time(
        prefix in prop_oneof![Just(Vec::new()), Just(b"n,,\x01auth=Bearer ".to_vec()), Just(b"n,,\x01".to_vec())],
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        rest in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let gate = Gate::open().await;
            let (mut client, outcome) = gate.connect().await;
            client.write_all(&startup(0, "sso", b"")).await.unwrap();
            // The gate may have closed before all of it is sent.
            let _ = client.write_all(&initial("OAUTHBEARER", &[prefix, bytes].concat())).await;
            let _ = client.write_all(&rest).await;
            let _ = client.shutdown().await;
            all(&mut client).await;
            let outcome = timeout(AMPLE, outcome).await.expect("in time").expect("no panic");
            assert!(!matches!(outcome, Outcome::In(_)));
        });
    }
}
