//! `logout`: removes the login from this machine, and ends its sign-in at the gate.
//!
//! The login is removed whatever the gate answers. What becomes of the secret is said.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::timeout;

use super::client::ControlClient;
use super::client_error::ClientError;
use super::endpoint::{self, EndpointEnvironment, TokenFrom};
use super::render;
use super::stored_login::{StoredLogin, folder, load};
use crate::base::secret::Secret;
use crate::control::model::{Me, SignInView};
use crate::ledger::SIGN_IN_PREFIX;

/// Longest wait for the gate.
const GATE_TIMEOUT: Duration = Duration::from_secs(10);

/// What became of the secret of a login.
#[derive(Debug)]
enum SecretFate {
    /// A token: only its owner's new one, or time, ends it.
    Token,
    /// A sign-in, which ended just now.
    Ended,
    /// A sign-in that had ended before.
    EndedBefore,
    /// A sign-in that may go on, with the reason.
    Unknown(String),
}

/// Removes the login, and ends its sign-in if it is one.
pub(super) async fn run() -> anyhow::Result<()> {
    let Some(folder) = folder() else { return Ok(()) };
    let fate = match load() {
        Ok(Some(login)) => fate_of(&login).await,
        // A login that cannot be read is removed all the same.
        Err(_) if sign_in_secret(folder.join("token")).is_some() => {
            SecretFate::Unknown("the file with the gate's address cannot be read".to_owned())
        }
        Ok(None) | Err(_) => SecretFate::Token,
    };
    let mut found = false;
    for name in ["token", "client.toml"] {
        match fs::remove_file(folder.join(name)) {
            Ok(()) => found = true,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(error) => return Err(error).with_context(|| format!("removing {}", folder.join(name).display())),
        }
    }
    render::print(&if found {
        words(&fate)
    } else {
        "No login is stored here.".to_owned()
    })?;
    Ok(())
}

/// Ends the sign-in of a login, if it is one.
async fn fate_of(login: &StoredLogin) -> SecretFate {
    let Some(secret) = sign_in_secret(login.token_file.clone()) else {
        return SecretFate::Token;
    };
    let ending = async {
        let trust = endpoint::trust(&login.control, &EndpointEnvironment::read(), Some(login))?;
        let client = ControlClient::with(login.control.clone(), trust.unwrap_or_default(), secret)?;
        let me: Me = client.get("/v1/me", &()).await?;
        if let Some(id) = me.sign_in {
            client.delete::<SignInView>(&format!("/v1/signins/{id}")).await?;
        }
        Ok(())
    };
    match timeout(GATE_TIMEOUT, ending).await {
        Ok(Ok(())) => SecretFate::Ended,
        Ok(Err(ClientError::Unaccepted { .. })) => SecretFate::EndedBefore,
        Ok(Err(error)) => SecretFate::Unknown(error.to_string()),
        Err(_) => SecretFate::Unknown(format!("the gate at {} does not answer", login.control)),
    }
}

/// Returns the secret in a file, if it is that of a sign-in.
fn sign_in_secret(file: PathBuf) -> Option<Secret<String>> {
    let secret = endpoint::token(&TokenFrom::Login(file)).ok()?;
    Some(secret).filter(|secret| secret.expose().starts_with(SIGN_IN_PREFIX))
}

fn words(fate: &SecretFate) -> String {
    match fate {
        SecretFate::Token => "Logged out: the login is removed from this machine. Its token stays valid until it expires, or \
                              `tidegate user rotate NAME` replaces it."
            .to_owned(),
        SecretFate::Ended => "Logged out: the sign-in has ended, and its secret is removed from this machine.".to_owned(),
        SecretFate::EndedBefore => {
            "Logged out: the sign-in had ended already; its secret is removed from this machine.".to_owned()
        }
        SecretFate::Unknown(reason) => format!(
            "Logged out: the secret is removed from this machine. The sign-in itself was not ended: {reason}. It ends by itself \
             when it is not used; to end it now, log in again and run `tidegate signins end --all`."
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::Json;
    use axum::extract::State;
    use axum::http::{Method, StatusCode, Uri};
    use parking_lot::Mutex;
    use serde_json::{Value, json};

    use super::*;
    use crate::cli::address::ControlEndpoint;

    type Asked = Arc<Mutex<Vec<String>>>;

    /// A gate that knows one sign-in, or answers everything with `status`.
    async fn gate(status: StatusCode) -> (ControlEndpoint, Asked) {
        let asked = Asked::default();
        let answer = async move |State(asked): State<Asked>, method: Method, uri: Uri| -> (StatusCode, Json<Value>) {
            asked.lock().push(format!("{method} {}", uri.path()));
            let (id, at) = ("si_4k2m9x0a7b", "2026-08-01T12:00:00Z");
            let body = if uri.path() == "/v1/me" {
                json!({ "name": "ana", "groups": [], "source": "https://id", "admin": false, "sign_in": id })
            } else {
                json!({
                    "id": id, "identity": "ana", "source": "https://id", "via": "cli", "created_at": at, "last_used_at": at,
                    "expires_at": at,
                })
            };
            (status, Json(body))
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let control = ControlEndpoint::Tcp(listener.local_addr().unwrap().to_string());
        let router = axum::Router::new().fallback(answer).with_state(Arc::clone(&asked));
        tokio::spawn(async { axum::serve(listener, router).await });
        (control, asked)
    }

    async fn fate(control: ControlEndpoint, secret: &str) -> SecretFate {
        let dir = tempfile::tempdir().unwrap();
        let token_file = dir.path().join("token");
        fs::write(&token_file, secret).unwrap();
        let login = StoredLogin {
            control,
            identity: "ana".to_owned(),
            trust: None,
            token_file,
        };
        fate_of(&login).await
    }

    #[tokio::test]
    async fn a_sign_in_is_ended_and_a_token_is_not_sent() {
        let (control, asked) = gate(StatusCode::OK).await;
        assert!(matches!(fate(control.clone(), "tg_token").await, SecretFate::Token));
        assert!(asked.lock().is_empty());
        assert!(matches!(fate(control, "ts_secret").await, SecretFate::Ended));
        assert_eq!(*asked.lock(), ["GET /v1/me", "DELETE /v1/signins/si_4k2m9x0a7b"]);
    }

    #[tokio::test]
    async fn the_truth_is_said_where_it_cannot_be_ended() {
        let (control, _) = gate(StatusCode::UNAUTHORIZED).await;
        assert!(matches!(fate(control, "ts_secret").await, SecretFate::EndedBefore));
        let (control, _) = gate(StatusCode::SERVICE_UNAVAILABLE).await;
        let fate_now = fate(control, "ts_secret").await;
        let said = words(&fate_now);
        assert!(matches!(fate_now, SecretFate::Unknown(_)));
        assert!(
            said.contains("was not ended: ") && said.contains("tidegate signins end"),
            "{said}"
        );
        // Bound and closed: nobody answers there.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let nowhere = ControlEndpoint::Tcp(listener.local_addr().unwrap().to_string());
        drop(listener);
        assert!(matches!(fate(nowhere, "ts_secret").await, SecretFate::Unknown(_)));
    }
}
