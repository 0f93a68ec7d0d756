//! Logins with a token: who is asked for one, what is read of it, and what a wrong one costs.

use super::*;
use crate::base::secret::Secret;
use crate::model::ending::TokenForm;

pub(super) const ANA: &str = "ana@example.com";
pub(super) const TOKEN: &str = "tg_right";

impl Gate {
    /// Serves a client that shows a token, in either form.
    pub(super) async fn serve_identity(&self, greeted: Box<GreetedClient>) -> Outcome {
        let user = greeted.startup().user.clone();
        let judge = async |token: Secret<String>| match token.expose().as_str() {
            TOKEN if user == ANA || self.settings.oauth.is_oauth_user(&user) => Ok(()),
            TOKEN => Err(TokenRefusalError::AnotherIdentity),
            "slow" => std::future::pending().await,
            _ => Err(TokenRefusalError::NotAccepted {
                why: "nobody has it".to_owned(),
            }),
        };
        let clear = self.settings.token_in_clear;
        let exchange = self.settings.oauth.offered_to(&user);
        let exchange = exchange.map_or(TokenExchange::Password, TokenExchange::Bearer);
        match identify(greeted, clear, exchange, judge).await {
            Ok((authenticated, ())) => {
                close(authenticated.transport).await;
                Outcome::In(authenticated.startup)
            }
            Err(rejected) => Outcome::Rejected(rejected),
        }
    }

    pub(super) async fn without_tokens_in_clear() -> Arc<Self> {
        let mut gate = Self::open().await;
        Arc::get_mut(&mut gate).unwrap().settings.token_in_clear = TokenInClear::Never;
        gate
    }
}

fn password(token: &str) -> Vec<u8> {
    response(&[token.as_bytes(), b"\0"].concat())
}

/// The client's side up to the question.
async fn asked(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), user: &str) {
    stream.write_all(&startup(0, user, b"database\0orders\0")).await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(message(stream).await, (b'R', vec![0, 0, 0, 3]));
}

#[tokio::test]
async fn a_token_on_tls_and_from_this_machine_in_clear() {
    let gate = Gate::open().await;
    let (mut client, outcome) = gate.connect().await;
    asked(&mut client, ANA).await;
    client.write_all(&password(TOKEN)).await.unwrap();
    // AuthenticationOk is not the frontend's to say.
    assert_eq!(all(&mut client).await, b"");
    drop(client);
    assert!(matches!(outcome.await.unwrap(), Outcome::In(startup) if startup.user == ANA));

    let gate = Gate::without_tokens_in_clear().await;
    let (client, outcome) = gate.connect().await;
    let mut client = secure(client).await;
    asked(&mut client, ANA).await;
    client.write_all(&password(TOKEN)).await.unwrap();
    client.flush().await.unwrap();
    assert_eq!(all(&mut client).await, b"");
    drop(client);
    assert!(matches!(outcome.await.unwrap(), Outcome::In(_)));
    assert!(gate.strangers.is_empty());
}

#[tokio::test]
async fn in_clear_it_is_not_even_asked_for_where_that_is_not_allowed() {
    let gate = Gate::without_tokens_in_clear().await;
    for user in [ANA, "nobody@example.com"] {
        let (mut client, outcome) = gate.connect().await;
        client.write_all(&startup(0, user, b"")).await.unwrap();
        assert_eq!(fatal_code(&mut client).await, "28000");
        drop(client);
        assert_eq!(outcome.await.unwrap().ending(), &Ending::TokenInClear);
    }
}

#[tokio::test]
async fn unknown_names_wrong_tokens_and_others_tokens_read_the_same() {
    let gate = Gate::open().await;
    let mut answers = Vec::new();
    let tries = [
        (ANA, "tg_wrong"),
        (ANA, ""),
        ("ben@example.com", TOKEN),
        ("nobody@example.com", "tg_wrong"),
    ];
    for (user, token) in tries {
        let (mut client, outcome) = gate.connect().await;
        asked(&mut client, user).await;
        client.write_all(&password(token)).await.unwrap();
        let refused = all(&mut client).await;
        assert_eq!(code_of(&refused), "28P01");
        drop(client);
        assert_eq!(
            outcome.await.unwrap().ending(),
            &Ending::BadToken {
                user: user.to_owned(),
                form: TokenForm::Password,
                held: None
            }
        );
        let shape = String::from_utf8(refused[5..].to_vec()).unwrap();
        answers.push(shape.replace(user, "?"));
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
}

#[tokio::test]
async fn what_is_not_a_password_ends_it() {
    let gate = Gate::open().await;
    let second = startup(0, "ben@example.com", b"");
    let long = [&b"p"[..], &(1_u32 << 20).to_be_bytes()].concat();
    for bytes in [&second[..], &long, b"Q\0\0\0\x04", &response(b"no terminator")] {
        let (mut client, outcome) = gate.connect().await;
        asked(&mut client, ANA).await;
        client.write_all(bytes).await.unwrap();
        assert_eq!(fatal_code(&mut client).await, "08P01");
        drop(client);
        assert!(matches!(outcome.await.unwrap().ending(), Ending::Malformed { .. }));
    }
}

#[tokio::test]
async fn wrong_tokens_count_against_the_address_and_the_name() {
    let gate = Gate::open().await;
    for _ in 0..5 {
        let (mut client, outcome) = gate.connect().await;
        client.write_all(&startup(0, ANA, b"")).await.unwrap();
        message(&mut client).await;
        client.write_all(&password("tg_wrong")).await.unwrap();
        assert_eq!(message(&mut client).await.0, b'E');
        drop(client);
        outcome.await.unwrap();
    }
    let permit = gate.strangers.enter([127, 0, 0, 1].into());
    assert!(permit.proof().failed(Some("ben@example.com")).time.is_zero());
    assert!(!permit.proof().failed(Some(ANA)).time.is_zero());
}

#[tokio::test]
async fn the_handshakes_limit_holds_for_silence_and_for_the_judge() {
    let gate = Gate::start(Plaintext::Loopback, Duration::from_millis(200), StrangerLimits::default()).await;
    for token in [None, Some("slow")] {
        let (mut client, outcome) = gate.connect().await;
        asked(&mut client, ANA).await;
        if let Some(token) = token {
            client.write_all(&password(token)).await.unwrap();
        }
        assert_eq!(fatal_code(&mut client).await, "57014");
        drop(client);
        assert!(matches!(outcome.await.unwrap().ending(), Ending::HandshakeTimeout { .. }));
    }
}
