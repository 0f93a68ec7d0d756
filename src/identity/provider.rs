//! Issuers as OpenID providers that people sign in with: where they send a browser, and what an authorization code or a device
//! code proves.
//!
//! It keeps no state of a sign-in. RFC 6749 and RFC 7636 (code, PKCE), RFC 8628 (device), RFC 9207 (`iss`), OpenID Connect Core 1.0
//! and Discovery 1.0.
//!
//! INVARIANT: an ID token counts only for the client that it names, with the nonce of the sign-in that asked for it, after the same
//! verification as any token of the issuer.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use reqwest::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::IssuerSettings;
use super::error::shown;
use super::fetch;
use crate::base::secret::Secret;
use crate::base::tls::web_address;

/// Age from which the metadata are fetched again.
const METADATA_AGE: SignedDuration = SignedDuration::from_mins(10);
/// Age from which they are fetched again after a failure; a provider that does not answer takes some of it.
const RETRY_INTERVAL: SignedDuration = SignedDuration::from_secs(15);
/// Type of the grant of a device (RFC 8628, section 3.4).
const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// The gate as a client of a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderClient {
    /// Its `client_id`.
    pub id: String,
    /// Its secret; `None`: a public client.
    pub secret: Option<Secret<String>>,
    /// Scopes that are asked for.
    pub scope: String,
}

/// Reason why a sign-in at a provider failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// People cannot sign in with this issuer here.
    #[error("people cannot sign in with {0} here")]
    Unknown(String),
    /// The provider cannot be reached, or does not answer as one.
    #[error("{issuer} cannot be used to sign in: {reason}")]
    Away {
        /// Issuer.
        issuer: String,
        /// Reason.
        reason: String,
    },
    /// The provider refuses.
    #[error("{issuer} refuses: {reason}")]
    Refused {
        /// Issuer.
        issuer: String,
        /// Error and description of the provider.
        reason: String,
    },
    /// The ID token proves nothing.
    #[error("the ID token is not accepted: {0}")]
    Token(String),
}

/// What a browser is sent to a provider with.
#[derive(Debug, Clone, Copy)]
pub struct AuthorizationQuestion<'a> {
    /// Value that comes back with the code.
    pub state: &'a str,
    /// Value that comes back in the ID token.
    pub nonce: &'a str,
    /// SHA-256 of the PKCE verifier, in base64url.
    pub challenge: &'a str,
    /// Address that the browser comes back to.
    pub redirect_uri: &'a str,
}

/// Code that a browser came back with.
#[derive(Debug, Clone, Copy)]
pub struct RedeemedCode<'a> {
    /// The code.
    pub code: &'a str,
    /// PKCE verifier.
    pub verifier: &'a Secret<String>,
    /// Nonce of the sign-in.
    pub nonce: &'a str,
    /// Address that the browser came back to.
    pub redirect_uri: &'a str,
}

/// Device that waits for its user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceAuthorization {
    /// Code for the token endpoint.
    pub device_code: Secret<String>,
    /// Code that the user types.
    pub user_code: String,
    /// Address where the user types it.
    pub verification_uri: String,
    /// The same with the code in it.
    pub verification_uri_complete: Option<String>,
    /// Life of the codes, in seconds.
    pub expires_in: u64,
    /// Shortest time between two questions, in seconds.
    pub interval: u64,
}

/// Answer about a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceAnswer {
    /// The user has not decided yet. True: it is asked too often.
    Pending(bool),
    /// The user has let it in: the ID token.
    Token(Secret<String>),
}

/// Metadata of a provider (OpenID Connect Discovery 1.0, section 3).
#[derive(Debug, Clone, Deserialize)]
struct Metadata {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    #[serde(default)]
    device_authorization_endpoint: Option<String>,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

#[derive(Deserialize)]
struct TokenAnswer {
    id_token: Option<String>,
}

#[derive(Deserialize)]
struct DeviceBody {
    device_code: String,
    user_code: String,
    #[serde(alias = "verification_url")]
    verification_uri: String,
    verification_uri_complete: Option<String>,
    expires_in: u64,
    #[serde(default = "usual_interval")]
    interval: u64,
}

/// Error of the token endpoint (RFC 6749, section 5.2).
#[derive(Deserialize)]
struct ErrorBody {
    error: String,
    #[serde(default)]
    error_description: String,
}

/// Interval if the provider names none (RFC 8628, section 3.2).
fn usual_interval() -> u64 {
    5
}

/// Metadata, or the reason why there are none.
type FoundMetadata = Result<Arc<Metadata>, String>;

/// Provider with what is known of it.
#[derive(Debug, Default)]
pub(super) struct Provider {
    known: Mutex<Option<(FoundMetadata, Timestamp)>>,
    /// Held while the metadata are fetched: once for all who ask.
    turn: tokio::sync::Mutex<()>,
}

impl Provider {
    /// Returns the address that a browser is sent to.
    pub(super) async fn authorization_url(
        &self,
        of: (&IssuerSettings, &ProviderClient),
        question: AuthorizationQuestion<'_>,
        now: Timestamp,
    ) -> Result<String, ProviderError> {
        let metadata = self.metadata(of.0, now).await?;
        let query = [
            ("response_type", "code"),
            ("client_id", &of.1.id),
            ("redirect_uri", question.redirect_uri),
            ("scope", &of.1.scope),
            ("state", question.state),
            ("nonce", question.nonce),
            ("code_challenge", question.challenge),
            ("code_challenge_method", "S256"),
        ];
        fetch::with_query(&metadata.authorization_endpoint, &query).map_err(|reason| away(of.0, reason))
    }

    /// Checks the issuer that came back with a code: providers that say that they name it have to, so that a code of one is not
    /// taken to another (RFC 9207).
    pub(super) async fn check_issuer(
        &self,
        settings: &IssuerSettings,
        named: Option<&str>,
        now: Timestamp,
    ) -> Result<(), ProviderError> {
        let metadata = self.metadata(settings, now).await?;
        match named {
            None if !metadata.authorization_response_iss_parameter_supported => Ok(()),
            Some(named) if named == settings.issuer => Ok(()),
            _ => Err(ProviderError::Refused {
                issuer: settings.issuer.clone(),
                reason: "the answer does not name it as its issuer (`iss`)".to_owned(),
            }),
        }
    }

    /// Exchanges a code for the ID token.
    pub(super) async fn redeem(
        &self,
        of: (&IssuerSettings, &ProviderClient),
        code: RedeemedCode<'_>,
        now: Timestamp,
    ) -> Result<Secret<String>, ProviderError> {
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code.code),
            ("redirect_uri", code.redirect_uri),
            ("code_verifier", code.verifier.expose()),
        ];
        let (status, body) = self.ask_token_endpoint(of, &form, now).await?;
        if !status.is_success() {
            return Err(refused(of.0, status, &body));
        }
        id_token(of.0, &body)
    }

    /// Asks for codes for a device.
    pub(super) async fn device(
        &self,
        of: (&IssuerSettings, &ProviderClient),
        now: Timestamp,
    ) -> Result<DeviceAuthorization, ProviderError> {
        let metadata = self.metadata(of.0, now).await?;
        let endpoint = metadata.device_authorization_endpoint.as_ref();
        let endpoint = endpoint.ok_or_else(|| away(of.0, "it has no device flow; sign in with a browser".to_owned()))?;
        let form = [("scope", of.1.scope.as_str())];
        let (status, body) = post(endpoint, &metadata, of.1, &form)
            .await
            .map_err(|reason| away(of.0, reason))?;
        if !status.is_success() {
            return Err(refused(of.0, status, &body));
        }
        let body: DeviceBody = parsed(of.0, &body)?;
        Ok(DeviceAuthorization {
            device_code: Secret::new(body.device_code),
            user_code: body.user_code,
            verification_uri: body.verification_uri,
            verification_uri_complete: body.verification_uri_complete,
            expires_in: body.expires_in,
            interval: body.interval,
        })
    }

    /// Asks for the ID token of a device.
    pub(super) async fn ask_device(
        &self,
        of: (&IssuerSettings, &ProviderClient),
        device_code: &Secret<String>,
        now: Timestamp,
    ) -> Result<DeviceAnswer, ProviderError> {
        let form = [("grant_type", DEVICE_GRANT), ("device_code", device_code.expose())];
        let (status, body) = self.ask_token_endpoint(of, &form, now).await?;
        if status.is_success() {
            return Ok(DeviceAnswer::Token(id_token(of.0, &body)?));
        }
        let error = serde_json::from_slice::<ErrorBody>(&body).map(|body| body.error);
        match error.as_deref() {
            Ok("authorization_pending") => Ok(DeviceAnswer::Pending(false)),
            Ok("slow_down") => Ok(DeviceAnswer::Pending(true)),
            _ => Err(refused(of.0, status, &body)),
        }
    }

    async fn ask_token_endpoint(
        &self,
        of: (&IssuerSettings, &ProviderClient),
        form: &[(&str, &str)],
        now: Timestamp,
    ) -> Result<(StatusCode, Vec<u8>), ProviderError> {
        let metadata = self.metadata(of.0, now).await?;
        let answer = post(&metadata.token_endpoint, &metadata, of.1, form).await;
        answer.map_err(|reason| away(of.0, reason))
    }

    /// Returns the metadata; a failure is remembered for a few seconds, so that strangers do not make the gate ask all the time.
    async fn metadata(&self, settings: &IssuerSettings, now: Timestamp) -> Result<Arc<Metadata>, ProviderError> {
        let found = match self.fresh(now) {
            Some(found) => found,
            None => self.fetched(settings, now).await,
        };
        found.map_err(|reason| away(settings, reason))
    }

    /// Fetches the metadata, unless somebody else has done so meanwhile.
    async fn fetched(&self, settings: &IssuerSettings, now: Timestamp) -> FoundMetadata {
        let _turn = self.turn.lock().await;
        if let Some(found) = self.fresh(now) {
            return found;
        }
        let found = discover(settings).await.map(Arc::new);
        *self.known.lock() = Some((found.clone(), now));
        found
    }

    /// Returns what was found not long ago.
    fn fresh(&self, now: Timestamp) -> Option<FoundMetadata> {
        let known = self.known.lock().clone();
        let (found, _) = known.filter(|(known, at)| {
            let age = if known.is_ok() { METADATA_AGE } else { RETRY_INTERVAL };
            now.duration_since(*at) < age
        })?;
        Some(found)
    }
}

async fn discover(settings: &IssuerSettings) -> Result<Metadata, String> {
    let url = format!("{}/.well-known/openid-configuration", settings.issuer.trim_end_matches('/'));
    let body = fetch::get(&url).await?;
    let metadata: Metadata = serde_json::from_slice(&body).map_err(|error| format!("{url} is no metadata: {error}"))?;
    if metadata.issuer != settings.issuer {
        return Err(format!("{url} is of another issuer, {}", shown(&metadata.issuer)));
    }
    let endpoints = [
        Some(&metadata.authorization_endpoint),
        Some(&metadata.token_endpoint),
        metadata.device_authorization_endpoint.as_ref(),
    ];
    for endpoint in endpoints.into_iter().flatten() {
        web_address(endpoint).map_err(|reason| format!("{url} names the endpoint {}: {reason}", shown(endpoint)))?;
    }
    Ok(metadata)
}

/// Sends a form as the client: with its secret in the header, unless the provider takes it in the form only.
async fn post(
    url: &str,
    metadata: &Metadata,
    client: &ProviderClient,
    form: &[(&str, &str)],
) -> Result<(StatusCode, Vec<u8>), String> {
    let methods = metadata.token_endpoint_auth_methods_supported.as_deref();
    let takes = |method: &str| methods.is_some_and(|methods| methods.iter().any(|known| known == method));
    let in_form = !takes("client_secret_basic") && takes("client_secret_post");
    let mut form = form.to_vec();
    match &client.secret {
        Some(secret) if !in_form => fetch::post(url, &form, Some((&client.id, secret))).await,
        Some(secret) => {
            form.extend([("client_id", client.id.as_str()), ("client_secret", secret.expose().as_str())]);
            fetch::post(url, &form, None).await
        }
        None => {
            form.push(("client_id", &client.id));
            fetch::post(url, &form, None).await
        }
    }
}

fn parsed<T: DeserializeOwned>(settings: &IssuerSettings, body: &[u8]) -> Result<T, ProviderError> {
    serde_json::from_slice(body).map_err(|error| away(settings, format!("its answer cannot be read: {error}")))
}

fn id_token(settings: &IssuerSettings, body: &[u8]) -> Result<Secret<String>, ProviderError> {
    let answer: TokenAnswer = parsed(settings, body)?;
    let token = answer.id_token.map(Secret::new);
    token.ok_or_else(|| ProviderError::Token("there is none in the provider's answer; the scope needs `openid`".to_owned()))
}

fn away(settings: &IssuerSettings, reason: String) -> ProviderError {
    ProviderError::Away {
        issuer: settings.issuer.clone(),
        reason,
    }
}

fn refused(settings: &IssuerSettings, status: StatusCode, body: &[u8]) -> ProviderError {
    let said = serde_json::from_slice::<ErrorBody>(body);
    let reason = match said {
        Ok(said) if said.error_description.is_empty() => shown(&said.error),
        Ok(said) => format!("{}, {}", shown(&said.error), shown(&said.error_description)),
        Err(_) => status.to_string(),
    };
    ProviderError::Refused {
        issuer: settings.issuer.clone(),
        reason,
    }
}
