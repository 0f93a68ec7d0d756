//! `logout`: removes the login from this machine, and ends its sign-in at the gate.
//!
//! The login is removed first, whatever the gate answers. What becomes of the secret is said.

use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::timeout;

use super::client::ControlClient;
use super::client_error::ClientError;
use super::endpoint::{self, EndpointEnvironment, TokenFrom};
use super::render;
use super::stored_login::{self, LOGIN_FILES, StoredLogin, folder, load_from};
use crate::base::secret::Secret;
use crate::control::model::{Me, SignInView};
use crate::ledger::SIGN_IN_PREFIX;

/// Longest wait for the gate.
const GATE_TIMEOUT: Duration = Duration::from_secs(10);

/// Fate of the secret of a login.
#[derive(Debug)]
enum SecretFate {
    /// There was none.
    Missing,
    /// A secret that could not be read, with the reason.
    Unreadable(String),
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
    let (removed, fate) = log_out(&folder).await;
    render::print(&words(removed.as_ref().ok().copied(), &fate))?;
    removed.map(drop)
}

/// Removes the login in a folder and ends its sign-in. Returns true if there was a login.
async fn log_out(folder: &Path) -> (anyhow::Result<bool>, SecretFate) {
    let login = load_from(folder);
    let secret = endpoint::token(&TokenFrom::Login(folder.join("token")));
    // The secret is not left on the disk while the gate is asked.
    let removed = remove(folder);
    (removed, fate_of(login, secret).await)
}

/// Removes the files of a login. Returns true if there were any.
fn remove(folder: &Path) -> anyhow::Result<bool> {
    let remove = |name: &str| {
        stored_login::remove(&folder.join(name)).with_context(|| format!("removing {}", folder.join(name).display()))
    };
    // Each of them, whatever becomes of the others.
    let removed = LOGIN_FILES.map(remove).into_iter().collect::<anyhow::Result<Vec<bool>>>()?;
    Ok(removed.contains(&true))
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Ends the sign-in, if the secret is that of one.
async fn fate_of(login: Result<Option<StoredLogin>, ClientError>, secret: Result<Secret<String>, ClientError>) -> SecretFate {
    let secret = match secret {
        Ok(secret) if secret.expose().starts_with(SIGN_IN_PREFIX) => secret,
        Ok(_) => return SecretFate::Token,
        Err(ClientError::Token { reason, .. }) if is_missing(&reason) => return SecretFate::Missing,
        Err(ClientError::Token { reason, .. }) => return SecretFate::Unreadable(reason.to_string()),
        Err(error) => return SecretFate::Unreadable(error.to_string()),
    };
    match login {
        Ok(Some(login)) => match timeout(GATE_TIMEOUT, end(&login, secret)).await {
            Ok(Ok(fate)) => fate,
            Ok(Err(ClientError::Unaccepted { .. })) => SecretFate::EndedBefore,
            Ok(Err(error)) => SecretFate::Unknown(error.to_string()),
            Err(_) => SecretFate::Unknown(format!("the gate at {} does not answer", login.control)),
        },
        Ok(None) => SecretFate::Unknown("the file with the gate's address is missing".to_owned()),
        Err(_) => SecretFate::Unknown("the file with the gate's address cannot be read".to_owned()),
    }
}

/// Ends the sign-in that a secret belongs to.
async fn end(login: &StoredLogin, secret: Secret<String>) -> Result<SecretFate, ClientError> {
    let trust = endpoint::trust(&login.control, &EndpointEnvironment::read(), Some(login))?;
    let client = ControlClient::with(login.control.clone(), trust.unwrap_or_default(), secret)?;
    let me: Me = client.get("/v1/me", &()).await?;
    let Some(id) = me.sign_in else {
        return Ok(SecretFate::Unknown(format!("the gate at {} does not name it", login.control)));
    };
    client.delete::<SignInView>(&format!("/v1/signins/{id}")).await?;
    Ok(SecretFate::Ended)
}

/// Says what became of a login; `removed` is true if there was one, and `None` if it could not be removed.
fn words(removed: Option<bool>, fate: &SecretFate) -> String {
    let login = match removed {
        Some(true) => "Logged out: the login is removed from this machine.",
        Some(false) => return "No login is stored here.".to_owned(),
        None => "The login could not be removed from this machine.",
    };
    let secret = match fate {
        SecretFate::Missing => return login.to_owned(),
        SecretFate::Unreadable(reason) => format!(
            "Its secret cannot be read: {reason}. A token stays valid until it expires, or `tidegate user rotate NAME` replaces \
             it; a sign-in until it is not used, or `tidegate signins end` ends it."
        ),
        SecretFate::Token => "Its token stays valid until it expires, or `tidegate user rotate NAME` replaces it.".to_owned(),
        SecretFate::Ended => "The sign-in has ended.".to_owned(),
        SecretFate::EndedBefore => "The sign-in had ended already.".to_owned(),
        SecretFate::Unknown(reason) => format!(
            "The sign-in may not have ended: {reason}. It ends by itself when it is not used; to end it now, log in again and run \
             `tidegate signins end --all`."
        ),
    };
    format!("{login} {secret}")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;
    use std::sync::Arc;

    use axum::Json;
    use axum::extract::State;
    use axum::http::{Method, StatusCode, Uri};
    use parking_lot::Mutex;
    use serde_json::{Value, json};

    use super::*;
    use crate::base::tls::GateTrust;
    use crate::cli::address::ControlEndpoint;
    use crate::cli::stored_login::store_in;

    type Asked = Arc<Mutex<Vec<String>>>;

    const SIGN_IN: &str = "si_4k2m9x0a7b";

    /// A folder with these files, and a gate whose answers have this status; it knows a sign-in, or none.
    struct Bench {
        folder: tempfile::TempDir,
        control: ControlEndpoint,
        asked: Asked,
    }

    impl Bench {
        async fn new(status: StatusCode, sign_in: Option<&'static str>) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let token = folder.path().join("token");
            let asked = Asked::default();
            let answer = async move |State(asked): State<Asked>, method: Method, uri: Uri| -> (StatusCode, Json<Value>) {
                assert!(!token.exists(), "the secret is still there");
                asked.lock().push(format!("{method} {}", uri.path()));
                let at = "2026-08-01T12:00:00Z";
                let body = if uri.path() == "/v1/me" {
                    json!({ "name": "ana", "groups": [], "source": "https://id", "admin": false, "sign_in": sign_in })
                } else {
                    json!({
                        "id": SIGN_IN, "identity": "ana", "source": "https://id", "via": "cli", "created_at": at,
                        "last_used_at": at, "expires_at": at,
                    })
                };
                (status, Json(body))
            };
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let control = ControlEndpoint::Tcp(listener.local_addr().unwrap().to_string());
            let router = axum::Router::new().fallback(answer).with_state(Arc::clone(&asked));
            tokio::spawn(async { axum::serve(listener, router).await });
            Self { folder, control, asked }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        async fn log_out(&self, secret: &str) -> (anyhow::Result<bool>, SecretFate) {
            let (place, secret) = ((&self.control, &GateTrust::Machine), Secret::new(secret.to_owned()));
            store_in(self.folder.path(), place, "ana", &secret).unwrap();
            log_out(self.folder.path()).await
        }
    }

    #[tokio::test]
    async fn a_sign_in_is_ended_and_a_token_is_not_sent() {
        let bench = Bench::new(StatusCode::OK, Some(SIGN_IN)).await;
        let (removed, fate) = bench.log_out("tg_token").await;
        assert!(removed.unwrap() && matches!(fate, SecretFate::Token) && bench.asked.lock().is_empty());
        let (removed, fate) = bench.log_out("ts_secret").await;
        assert!(removed.unwrap() && matches!(fate, SecretFate::Ended), "{fate:?}");
        assert_eq!(*bench.asked.lock(), ["GET /v1/me", &format!("DELETE /v1/signins/{SIGN_IN}")]);
        let (removed, fate) = log_out(bench.folder.path()).await;
        assert!(!removed.unwrap() && matches!(fate, SecretFate::Missing), "{fate:?}");
    }

    #[tokio::test]
    async fn the_truth_is_said_where_it_cannot_be_ended() {
        let bench = Bench::new(StatusCode::UNAUTHORIZED, None).await;
        assert!(matches!(bench.log_out("ts_secret").await.1, SecretFate::EndedBefore));
        let bench = Bench::new(StatusCode::SERVICE_UNAVAILABLE, None).await;
        let (_, fate) = bench.log_out("ts_secret").await;
        let said = words(Some(true), &fate);
        assert!(matches!(fate, SecretFate::Unknown(_)), "{fate:?}");
        assert!(
            said.contains("may not have ended: ") && said.contains("tidegate signins end"),
            "{said}"
        );
        // The gate knows of no sign-in: none was ended.
        let mut bench = Bench::new(StatusCode::OK, None).await;
        assert!(matches!(bench.log_out("ts_secret").await.1, SecretFate::Unknown(_)));
        assert_eq!(*bench.asked.lock(), ["GET /v1/me"]);
        // Bound and closed: nobody answers there.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        bench.control = ControlEndpoint::Tcp(listener.local_addr().unwrap().to_string());
        drop(listener);
        assert!(matches!(bench.log_out("ts_secret").await.1, SecretFate::Unknown(_)));
    }

    #[tokio::test]
    async fn the_file_of_the_secret_says_what_it_is_also_alone() {
        let bench = Bench::new(StatusCode::OK, Some(SIGN_IN)).await;
        for (secret, sign_in) in [("ts_secret", true), ("tg_token", false)] {
            fs::write(bench.path("token"), secret).unwrap();
            let (removed, fate) = log_out(bench.folder.path()).await;
            assert!(removed.unwrap(), "{secret}");
            assert_eq!(matches!(fate, SecretFate::Unknown(_)), sign_in, "{fate:?}");
            assert_eq!(matches!(fate, SecretFate::Token), !sign_in, "{fate:?}");
        }
        // No text.
        fs::write(bench.path("token"), [0xff]).unwrap();
        let (removed, fate) = log_out(bench.folder.path()).await;
        assert!(removed.unwrap() && matches!(fate, SecretFate::Unreadable(_)), "{fate:?}");
        let said = words(Some(true), &fate);
        assert!(
            said.contains("A token stays valid") && said.contains("a sign-in until"),
            "{said}"
        );
    }

    #[tokio::test]
    async fn what_an_interrupted_login_has_left_is_removed() {
        let bench = Bench::new(StatusCode::OK, Some(SIGN_IN)).await;
        fs::write(bench.path("token.new"), "ts_secret").unwrap();
        fs::write(bench.path("client.new"), "control = 1").unwrap();
        let (removed, fate) = log_out(bench.folder.path()).await;
        assert!(removed.unwrap() && matches!(fate, SecretFate::Missing), "{fate:?}");
        assert_eq!(fs::read_dir(bench.folder.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn what_cannot_be_removed_hides_nothing() {
        let bench = Bench::new(StatusCode::OK, Some(SIGN_IN)).await;
        fs::create_dir(bench.path("client.toml")).unwrap();
        fs::write(bench.path("token"), "ts_secret").unwrap();
        let (removed, fate) = log_out(bench.folder.path()).await;
        assert!(removed.unwrap_err().to_string().contains("client.toml") && !bench.path("token").exists());
        assert!(matches!(fate, SecretFate::Unknown(_)), "{fate:?}");
        let said = words(None, &SecretFate::Ended);
        assert_eq!(
            said,
            "The login could not be removed from this machine. The sign-in has ended."
        );
    }
}
