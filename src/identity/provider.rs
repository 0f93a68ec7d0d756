//! Issuers as OpenID providers that people sign in with: where they send a browser, and what an authorization code or a device
//! code proves.
//!
//! It keeps no state of a sign-in, and at most [`MAX_DEVICE_CALLS`] calls of a kind open for devices.
//!
//! RFC 6749 and RFC 7636 (code, PKCE), RFC 8628 (device), RFC 9207 (`iss`), OpenID Connect Core 1.0 and Discovery 1.0.
//!
//! INVARIANT: an ID token counts only for the client that it names, with the nonce of the sign-in that asked for it, after the same
//! verification as any token of the issuer.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use reqwest::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::IssuerSettings;
use super::error::shown;
use super::fetch;
use crate::base::secret::Secret;
use crate::base::tls::web_address;

/// Age from which the metadata are fetched again.
const METADATA_AGE: SignedDuration = SignedDuration::from_mins(10);
/// Age up to which they are good while they cannot be fetched again.
const MAX_METADATA_AGE: SignedDuration = SignedDuration::from_hours(24);
/// Age from which they are fetched again after a failure; a provider that does not answer takes some of it.
const RETRY_INTERVAL: SignedDuration = SignedDuration::from_secs(15);
/// Number of calls of a kind that a provider gets for devices at a time. Strangers can cause them.
const MAX_DEVICE_CALLS: usize = 8;
/// Least time between two messages about a provider that cannot be used.
const MESSAGE_INTERVAL: SignedDuration = SignedDuration::from_mins(1);
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
    /// The provider has no device flow.
    #[error("{0} signs people in with a browser only, and not with a code")]
    NoDeviceFlow(String),
    /// The provider is asked about many devices already.
    #[error("{0} is asked about many other devices at the moment")]
    Busy(String),
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

/// Question that a browser takes to a provider.
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
    /// Longest time since the person has proved who they are there; zero: they are to do so now.
    pub max_age: Duration,
}

/// Code that a browser came back with.
#[derive(Debug, Clone, Copy)]
pub struct RedeemedCode<'a> {
    /// The code.
    pub code: &'a str,
    /// PKCE verifier.
    pub verifier: &'a Secret<String>,
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

/// Progress of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceProgress {
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

/// Answer of the device authorization endpoint (RFC 8628, section 3.2).
#[derive(Deserialize)]
struct DeviceAnswer {
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

/// Failure to fetch the metadata of an issuer.
#[derive(Debug)]
struct Undiscovered {
    reason: String,
    /// True if there was an answer that is of another issuer, so that nothing known before counts any more.
    is_another: bool,
}

impl From<String> for Undiscovered {
    fn from(reason: String) -> Self {
        Self {
            reason,
            is_another: false,
        }
    }
}

/// Metadata, or the reason why there are none.
type FoundMetadata = Result<Arc<Metadata>, String>;

/// Metadata as they were fetched last, and how the last attempt ended.
#[derive(Debug, Default)]
struct KnownMetadata {
    good: Option<(Arc<Metadata>, Timestamp)>,
    failed: Option<(String, Timestamp)>,
}

impl KnownMetadata {
    /// Returns an answer without asking the provider: good metadata, also older ones soon after a failure, or else the failure.
    fn answer(&self, now: Timestamp) -> Option<FoundMetadata> {
        if let Some(fresh) = self.good(METADATA_AGE, now) {
            return Some(Ok(fresh));
        }
        let (reason, _) = self.failed.as_ref().filter(|(_, at)| is_within(*at, now, RETRY_INTERVAL))?;
        Some(self.good(MAX_METADATA_AGE, now).ok_or_else(|| reason.clone()))
    }

    /// Notes how an attempt ended; returns what is to be used.
    fn note(&mut self, fetched: Result<Metadata, Undiscovered>, now: Timestamp) -> FoundMetadata {
        match fetched {
            Ok(metadata) => {
                let metadata = Arc::new(metadata);
                (self.good, self.failed) = (Some((Arc::clone(&metadata), now)), None);
                Ok(metadata)
            }
            Err(Undiscovered { reason, is_another }) => {
                self.failed = Some((reason.clone(), now));
                self.good.take_if(|_| is_another);
                self.good(MAX_METADATA_AGE, now).ok_or(reason)
            }
        }
    }

    fn good(&self, age: SignedDuration, now: Timestamp) -> Option<Arc<Metadata>> {
        let good = self.good.as_ref().filter(|(_, at)| is_within(*at, now, age));
        good.map(|(metadata, _)| Arc::clone(metadata))
    }
}

/// Returns true if less than `age` is between two times, whichever is first: a clock may have been set back.
fn is_within(at: Timestamp, now: Timestamp, age: SignedDuration) -> bool {
    now.duration_since(at).abs() < age
}

/// Provider with its metadata.
#[derive(Debug)]
pub(super) struct Provider {
    known: Mutex<KnownMetadata>,
    /// Held while the metadata are fetched: once for all who ask.
    turn: tokio::sync::Mutex<()>,
    /// Places of the calls that begin a device, and of those that ask about one.
    begun: Semaphore,
    asked: Semaphore,
    /// Time of the last message about it.
    told: Mutex<Option<Timestamp>>,
}

impl Default for Provider {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            begun: Semaphore::new(MAX_DEVICE_CALLS),
            asked: Semaphore::new(MAX_DEVICE_CALLS),
            told: Mutex::default(),
        }
    }
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
        // With a longest age the ID token says how old the proof is (OpenID Connect Core 1.0, section 3.1.2.1).
        let max_age = question.max_age.as_secs().to_string();
        let mut query = vec![
            ("response_type", "code"),
            ("client_id", &of.1.id),
            ("redirect_uri", question.redirect_uri),
            ("scope", &of.1.scope),
            ("state", question.state),
            ("nonce", question.nonce),
            ("code_challenge", question.challenge),
            ("code_challenge_method", "S256"),
            ("max_age", &max_age),
        ];
        if question.max_age.is_zero() {
            // Some providers know one of the two only.
            query.push(("prompt", "login"));
        }
        let url = fetch::with_query(&metadata.authorization_endpoint, &query);
        url.map_err(|reason| self.away(of.0, reason, now))
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
        self.id_token(of.0, &body, now)
    }

    /// Asks for codes for a device.
    pub(super) async fn device(
        &self,
        of: (&IssuerSettings, &ProviderClient),
        now: Timestamp,
    ) -> Result<DeviceAuthorization, ProviderError> {
        let _place = place(&self.begun, of.0)?;
        let metadata = self.metadata(of.0, now).await?;
        let endpoint = metadata.device_authorization_endpoint.as_ref();
        let endpoint = endpoint.ok_or_else(|| ProviderError::NoDeviceFlow(of.0.issuer.clone()))?;
        let form = [("scope", of.1.scope.as_str())];
        let (status, body) = post(endpoint, &metadata, of.1, &form)
            .await
            .map_err(|reason| self.away(of.0, reason, now))?;
        if !status.is_success() {
            return Err(refused(of.0, status, &body));
        }
        let answer: DeviceAnswer = self.parsed(of.0, &body, now)?;
        Ok(DeviceAuthorization {
            device_code: Secret::new(answer.device_code),
            user_code: answer.user_code,
            verification_uri: answer.verification_uri,
            verification_uri_complete: answer.verification_uri_complete,
            expires_in: answer.expires_in,
            interval: answer.interval,
        })
    }

    /// Asks for the ID token of a device.
    pub(super) async fn ask_device(
        &self,
        of: (&IssuerSettings, &ProviderClient),
        device_code: &Secret<String>,
        now: Timestamp,
    ) -> Result<DeviceProgress, ProviderError> {
        let _place = place(&self.asked, of.0)?;
        let form = [("grant_type", DEVICE_GRANT), ("device_code", device_code.expose())];
        let (status, body) = self.ask_token_endpoint(of, &form, now).await?;
        if status.is_success() {
            return Ok(DeviceProgress::Token(self.id_token(of.0, &body, now)?));
        }
        let error = serde_json::from_slice::<ErrorBody>(&body).map(|body| body.error);
        match error.as_deref() {
            Ok("authorization_pending") => Ok(DeviceProgress::Pending(false)),
            Ok("slow_down") => Ok(DeviceProgress::Pending(true)),
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
        answer.map_err(|reason| self.away(of.0, reason, now))
    }

    /// Returns the metadata; a failure is remembered for a few seconds, so that strangers do not make the gate ask all the time.
    async fn metadata(&self, settings: &IssuerSettings, now: Timestamp) -> Result<Arc<Metadata>, ProviderError> {
        let known = self.known.lock().answer(now);
        let found = match known {
            Some(found) => found,
            None => self.fetched(settings, now).await,
        };
        found.map_err(|reason| self.away(settings, reason, now))
    }

    /// Fetches the metadata, unless somebody else has done so meanwhile.
    async fn fetched(&self, settings: &IssuerSettings, now: Timestamp) -> FoundMetadata {
        let _turn = self.turn.lock().await;
        let known = self.known.lock().answer(now);
        if let Some(found) = known {
            return found;
        }
        let fetched = discover(settings).await;
        if let Err(Undiscovered { reason, .. }) = &fetched {
            self.tell(settings, reason, now);
        }
        self.known.lock().note(fetched, now)
    }

    fn parsed<T: DeserializeOwned>(&self, settings: &IssuerSettings, body: &[u8], now: Timestamp) -> Result<T, ProviderError> {
        let parsed = serde_json::from_slice(body);
        parsed.map_err(|error| self.away(settings, format!("its answer cannot be read: {error}"), now))
    }

    fn id_token(&self, settings: &IssuerSettings, body: &[u8], now: Timestamp) -> Result<Secret<String>, ProviderError> {
        let answer: TokenAnswer = self.parsed(settings, body, now)?;
        let token = answer.id_token.map(Secret::new);
        let missing = || "its answer has no ID token; the scope needs `openid`".to_owned();
        token.ok_or_else(|| self.away(settings, missing(), now))
    }

    /// Returns the error of a provider that cannot be used, and tells the gate's operator of it.
    pub(super) fn away(&self, settings: &IssuerSettings, reason: String, now: Timestamp) -> ProviderError {
        self.tell(settings, &reason, now);
        ProviderError::Away {
            issuer: settings.issuer.clone(),
            reason,
        }
    }

    /// Tells the gate's operator of a failure, once a minute, whoever asks.
    fn tell(&self, settings: &IssuerSettings, reason: &str, now: Timestamp) {
        let mut told = self.told.lock();
        if !told.is_some_and(|at| is_within(at, now, MESSAGE_INTERVAL)) {
            *told = Some(now);
            let issuer = settings.issuer.as_str();
            tracing::warn!(
                issuer,
                reason,
                "an issuer fails to sign people in; will try again when it is asked for"
            );
        }
    }
}

/// Returns the place of a call, for as long as it takes.
fn place<'p>(places: &'p Semaphore, settings: &IssuerSettings) -> Result<SemaphorePermit<'p>, ProviderError> {
    let place = places.try_acquire();
    place.map_err(|_| ProviderError::Busy(settings.issuer.clone()))
}

async fn discover(settings: &IssuerSettings) -> Result<Metadata, Undiscovered> {
    let url = format!("{}/.well-known/openid-configuration", settings.issuer.trim_end_matches('/'));
    let body = fetch::get(&url).await?;
    let metadata: Metadata = serde_json::from_slice(&body).map_err(|error| format!("{url} is no metadata: {error}"))?;
    if metadata.issuer != settings.issuer {
        return Err(Undiscovered {
            reason: format!("{url} is of another issuer, {}", shown(&metadata.issuer)),
            is_another: true,
        });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_metadata_outlive_a_failure_of_a_day() {
        let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
        let metadata = |issuer: &str| Metadata {
            issuer: issuer.to_owned(),
            authorization_endpoint: String::new(),
            token_endpoint: String::new(),
            device_authorization_endpoint: None,
            token_endpoint_auth_methods_supported: None,
            authorization_response_iss_parameter_supported: false,
        };
        let told = |found: FoundMetadata| found.map_or_else(|reason| reason, |found| found.issuer.clone());
        let answer = |known: &KnownMetadata, second| known.answer(at(second)).map_or_else(|| "ask".to_owned(), told);
        let down = || Err(Undiscovered::from("down".to_owned()));
        let mut known = KnownMetadata::default();
        assert_eq!(answer(&known, 0), "ask");
        assert_eq!(told(known.note(down(), at(0))), "down");
        assert_eq!(
            (answer(&known, 14), answer(&known, 15)),
            ("down".to_owned(), "ask".to_owned())
        );
        assert_eq!(told(known.note(Ok(metadata("first")), at(15))), "first");
        assert_eq!(
            (answer(&known, 614), answer(&known, 615)),
            ("first".to_owned(), "ask".to_owned())
        );
        assert_eq!(told(known.note(down(), at(615))), "first");
        assert_eq!(
            (answer(&known, 629), answer(&known, 630)),
            ("first".to_owned(), "ask".to_owned())
        );
        assert_eq!(told(known.note(down(), at(86_415))), "down", "a day is too old");
        assert_eq!(told(known.note(Ok(metadata("second")), at(86_430))), "second");
        assert_eq!(answer(&known, 86_430 - 3_600), "ask", "the clock was set back");
        let another = Undiscovered {
            reason: "another".to_owned(),
            is_another: true,
        };
        assert_eq!(
            told(known.note(Err(another), at(86_500))),
            "another",
            "whatever was good before"
        );
    }
}
