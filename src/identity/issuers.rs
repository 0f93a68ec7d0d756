//! Trusted issuers of tokens (OpenID providers, CI systems), and the verification of their tokens.
//!
//! It decides nothing about access, and keeps no token. INVARIANT: claims count only after a key of the issuer they name has
//! verified the token, with an algorithm that only the issuer can sign with.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::Identity;
use super::claims::{self, Claims};
use super::error::{TokenError, cut, shown};
use super::jwks::{Jwks, read_keys};
use super::keys::{Algorithm, VerificationKey};
use super::provider::{
    AuthorizationQuestion, DeviceAuthorization, DeviceProgress, Provider, ProviderClient, ProviderError, RedeemedCode,
};
use crate::base::secret::Secret;
use crate::base::tls::web_address;
use crate::model::names::IdentityName;

/// Maximum length of a token, in bytes.
pub const MAX_TOKEN_BYTES: usize = 16 << 10;

/// Settings of one trusted issuer: `[[identity.issuers]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerSettings {
    /// Required value of the `iss` claim.
    pub issuer: String,
    /// Required value of the `aud` claim.
    pub audience: String,
    /// Source of its keys.
    pub keys: KeysLocation,
    /// Claim that names the identity.
    pub identity_claim: String,
    /// Treatment of an address that names the identity in a token without `email_verified`.
    pub email_verified: EmailVerified,
    /// Prefix of the identity's name, so that two issuers cannot name the same identity (`ci:`).
    pub identity_prefix: String,
    /// Claim that lists groups.
    pub groups_claim: Option<String>,
    /// Claims that policies see, by their names in the policies' context.
    pub claims: BTreeMap<String, String>,
    /// Maximum difference between the issuer's clock and gate time.
    pub leeway: Duration,
    /// The gate as its client, if people sign in with it.
    pub client: Option<ProviderClient>,
}

impl IssuerSettings {
    /// Returns the host of the issuer, with its port: the name by which people know it.
    #[must_use]
    pub fn host(&self) -> &str {
        let address = self.address();
        address.split('/').next().unwrap_or(address)
    }

    fn address(&self) -> &str {
        let address = self
            .issuer
            .split_once("://")
            .map_or(self.issuer.as_str(), |(_, address)| address);
        address.trim_end_matches('/')
    }

    /// Returns the name of the issuer beside others of its host: host and path, with `~` between.
    #[must_use]
    pub fn address_name(&self) -> String {
        self.address().replace('/', "~")
    }
}

/// Condition under which an email address (the claim `email`) names an identity. An address that the token marks as not verified
/// never does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EmailVerified {
    /// The token has to say that the address is verified: users can write any address into their own accounts.
    #[default]
    Required,
    /// An absent `email_verified` counts as verified: all addresses of the issuer were given or verified by it, and its tokens do
    /// not say so.
    Assumed,
}

/// Person whom an ID token names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvedPerson {
    /// Identity.
    pub identity: Identity,
    /// Time of the proof at the issuer, if the token says so.
    pub authenticated_at: Option<Timestamp>,
}

/// Source of an issuer's keys (JWKS).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeysLocation {
    /// Address they are fetched from, cached, and fetched again when a key is not among them.
    Url(String),
    /// File they are read from.
    File(PathBuf),
}

impl KeysLocation {
    /// Checks the source as far as possible without a network, for `tidegate check`.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::Url(url) => web_address(url).map(drop),
            Self::File(path) => read_keys(path).map(drop),
        }
    }
}

/// Trusted issuers with their keys.
#[derive(Debug, Default)]
pub struct Issuers {
    all: Vec<Issuer>,
}

#[derive(Debug)]
struct Issuer {
    settings: IssuerSettings,
    jwks: Arc<Jwks>,
    provider: Arc<Provider>,
}

/// Fields of a token before its signature is verified. They choose the key, and are not trusted.
struct Unverified {
    issuer: String,
    algorithm: &'static Algorithm,
    kid: Option<String>,
    claims: Claims,
}

impl Issuers {
    /// Creates the issuers; fetches no keys yet.
    #[cfg(test)]
    pub(crate) fn new(settings: Vec<IssuerSettings>) -> Self {
        Self::default().renewed(settings)
    }

    /// Creates the issuers of new settings, with the keys cached so far, for a reload.
    #[must_use]
    pub fn renewed(&self, settings: Vec<IssuerSettings>) -> Self {
        let issuer = |settings: IssuerSettings| {
            let same = |issuer: &&Issuer| issuer.settings.issuer == settings.issuer && *issuer.jwks.source() == settings.keys;
            let jwks = self.all.iter().find(same).map(|issuer| Arc::clone(&issuer.jwks));
            let known = self.all.iter().find(|issuer| issuer.settings.issuer == settings.issuer);
            Issuer {
                provider: known.map(|issuer| Arc::clone(&issuer.provider)).unwrap_or_default(),
                jwks: jwks.unwrap_or_else(|| Jwks::new(settings.keys.clone())),
                settings,
            }
        };
        Self {
            all: settings.into_iter().map(issuer).collect(),
        }
    }

    /// Returns the settings of the issuers.
    pub fn settings(&self) -> impl Iterator<Item = &IssuerSettings> {
        self.all.iter().map(|issuer| &issuer.settings)
    }

    /// Returns the issuer whose prefix `name` begins with. Issuers without a prefix are left out.
    #[must_use]
    pub fn who_names(&self, name: &IdentityName) -> Option<&IssuerSettings> {
        self.settings()
            .filter(|issuer| !issuer.identity_prefix.is_empty())
            .find(|issuer| name.as_str().starts_with(&issuer.identity_prefix))
    }

    /// Verifies a token at the time `now` and returns the identity it proves.
    pub async fn verify(&self, token: &Secret<String>, now: Timestamp) -> Result<Identity, TokenError> {
        Ok(self.verify_until(token, now).await?.0)
    }

    /// Verifies a token as [`Self::verify`] does; returns also the time at which the token expires.
    pub async fn verify_until(&self, token: &Secret<String>, now: Timestamp) -> Result<(Identity, Timestamp), TokenError> {
        let token = token.expose().as_str();
        let says = unverified(token)?;
        let issuer = self
            .all
            .iter()
            .find(|issuer| issuer.settings.issuer == says.issuer)
            .ok_or_else(|| TokenError::UnknownIssuer(shown(&says.issuer)))?;
        let claims = issuer.claims(&issuer.settings, token, says, now).await?;
        let identity = claims::identity(&claims, &issuer.settings)?;
        self.nobody_elses(&identity, &issuer.settings)?;
        Ok((identity, claims::expiry(&claims)))
    }

    /// Returns true if tokens of this issuer are accepted.
    #[must_use]
    pub fn has(&self, issuer: &str) -> bool {
        self.settings().any(|known| known.issuer == issuer)
    }

    /// Returns the settings of the issuers that people can sign in with.
    pub fn providers(&self) -> impl Iterator<Item = &IssuerSettings> {
        self.settings().filter(|issuer| issuer.client.is_some())
    }

    /// Returns the last part of the address that browsers come back to from an issuer: its host, or with path beside another one of
    /// that host.
    #[must_use]
    pub fn callback_name(&self, issuer: &IssuerSettings) -> String {
        let mut others = self.providers().filter(|other| other.issuer != issuer.issuer);
        if others.any(|other| other.host() == issuer.host()) {
            issuer.address_name()
        } else {
            issuer.host().to_owned()
        }
    }

    /// Returns the settings of an issuer that people can sign in with.
    pub fn provider_settings(&self, issuer: &str) -> Result<&IssuerSettings, ProviderError> {
        Ok(&self.provider(issuer)?.0.settings)
    }

    /// Returns the address that a browser is sent to, to sign in with an issuer.
    pub async fn authorization_url(
        &self,
        issuer: &str,
        question: AuthorizationQuestion<'_>,
        now: Timestamp,
    ) -> Result<String, ProviderError> {
        let (issuer, client) = self.provider(issuer)?;
        issuer
            .provider
            .authorization_url((&issuer.settings, client), question, now)
            .await
    }

    /// Checks the issuer that a browser came back from.
    pub async fn check_issuer(&self, issuer: &str, named: Option<&str>, now: Timestamp) -> Result<(), ProviderError> {
        let (issuer, _) = self.provider(issuer)?;
        issuer.provider.check_issuer(&issuer.settings, named, now).await
    }

    /// Exchanges a code for the ID token.
    pub async fn redeem(&self, issuer: &str, code: RedeemedCode<'_>, now: Timestamp) -> Result<Secret<String>, ProviderError> {
        let (issuer, client) = self.provider(issuer)?;
        issuer.provider.redeem((&issuer.settings, client), code, now).await
    }

    /// Asks an issuer for codes for a device.
    pub async fn device(&self, issuer: &str, now: Timestamp) -> Result<DeviceAuthorization, ProviderError> {
        let (issuer, client) = self.provider(issuer)?;
        issuer.provider.device((&issuer.settings, client), now).await
    }

    /// Asks an issuer for the ID token of a device.
    pub async fn ask_device(
        &self,
        issuer: &str,
        device_code: &Secret<String>,
        now: Timestamp,
    ) -> Result<DeviceProgress, ProviderError> {
        let (issuer, client) = self.provider(issuer)?;
        issuer.provider.ask_device((&issuer.settings, client), device_code, now).await
    }

    /// Returns the person that an ID token names, with the nonce of the sign-in if it has one.
    pub async fn person(
        &self,
        issuer: &str,
        token: &Secret<String>,
        nonce: Option<&str>,
        now: Timestamp,
    ) -> Result<ProvedPerson, ProviderError> {
        let (issuer, client) = self.provider(issuer)?;
        let person = self.of_id_token(issuer, client, token, nonce, now).await;
        person.map_err(|error| match error {
            // Nothing was said about the person.
            TokenError::NoKeys { reason, .. } => issuer.provider.away(&issuer.settings, reason, now),
            error => ProviderError::Token(error.to_string()),
        })
    }

    fn provider(&self, issuer: &str) -> Result<(&Issuer, &ProviderClient), ProviderError> {
        let found = self.all.iter().find(|known| known.settings.issuer == issuer);
        let found = found.and_then(|issuer| Some((issuer, issuer.settings.client.as_ref()?)));
        found.ok_or_else(|| ProviderError::Unknown(shown(issuer)))
    }

    /// Verifies an ID token as any token of the issuer, but for the client in place of the audience, and with the nonce of the
    /// sign-in (OpenID Connect Core 1.0, section 3.1.3.7).
    async fn of_id_token(
        &self,
        issuer: &Issuer,
        client: &ProviderClient,
        token: &Secret<String>,
        nonce: Option<&str>,
        now: Timestamp,
    ) -> Result<ProvedPerson, TokenError> {
        let token = token.expose().as_str();
        let says = unverified(token)?;
        if says.issuer != issuer.settings.issuer {
            return Err(TokenError::UnknownIssuer(shown(&says.issuer)));
        }
        let settings = IssuerSettings {
            audience: client.id.clone(),
            ..issuer.settings.clone()
        };
        let claims = issuer.claims(&settings, token, says, now).await?;
        let wrong = |claim: &str, reason: &str| TokenError::Claim {
            claim: claim.to_owned(),
            reason: reason.to_owned(),
        };
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let several = claims.get("aud").is_some_and(Value::is_array);
        match text("azp") {
            Some(party) if party != client.id => return Err(wrong("azp", "names another client")),
            None if several && claims.get("aud").and_then(Value::as_array).is_some_and(|all| all.len() > 1) => {
                return Err(wrong("azp", "is missing, and the token is for several audiences"));
            }
            _ => {}
        }
        if nonce.is_some_and(|nonce| text("nonce") != Some(nonce)) {
            return Err(wrong("nonce", "is not that of this sign-in"));
        }
        let identity = claims::identity(&claims, &settings)?;
        self.nobody_elses(&identity, &settings)?;
        Ok(ProvedPerson {
            identity,
            authenticated_at: claims::authenticated_at(&claims, leeway(&settings), now)?,
        })
    }

    /// Checks that the name does not begin with the longer prefix of another issuer; such a name belongs to that issuer.
    fn nobody_elses(&self, identity: &Identity, settings: &IssuerSettings) -> Result<(), TokenError> {
        let name = identity.name.as_str();
        let other = self
            .all
            .iter()
            .map(|issuer| &issuer.settings.identity_prefix)
            .find(|prefix| prefix.len() > settings.identity_prefix.len() && name.starts_with(prefix.as_str()));
        match other {
            None => Ok(()),
            Some(prefix) => Err(TokenError::Claim {
                claim: settings.identity_claim.clone(),
                reason: format!("gives the name {name}, but {prefix} is the prefix of another issuer"),
            }),
        }
    }
}

impl Issuer {
    /// Returns the claims of a token that a key of the issuer has verified, for the audience of `settings` and valid at `now`.
    async fn claims(
        &self,
        settings: &IssuerSettings,
        token: &str,
        says: Unverified,
        now: Timestamp,
    ) -> Result<Claims, TokenError> {
        let found = self.jwks.keys(says.kid.as_deref(), now).await;
        let found = found.map_err(|reason| TokenError::NoKeys {
            issuer: settings.issuer.clone(),
            reason,
        })?;
        let key = found.keys.find(says.kid.as_deref(), says.algorithm);
        let key = key.ok_or_else(|| TokenError::UnknownKey {
            kid: says.kid.as_deref().map_or_else(|| "(none named)".to_owned(), shown),
            algorithm: says.algorithm.name.to_owned(),
            trouble: found.trouble.map(|trouble| format!(", and {trouble}")).unwrap_or_default(),
        })?;
        let claims = verified(token, says, key, settings)?;
        claims::good_at(&claims, leeway(settings), now)?;
        Ok(claims)
    }
}

fn leeway(settings: &IssuerSettings) -> SignedDuration {
    SignedDuration::try_from(settings.leeway).unwrap_or(SignedDuration::ZERO)
}

/// Parses a token without its signature.
fn unverified(token: &str) -> Result<Unverified, TokenError> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(TokenError::TooLong {
            length: token.len(),
            most: MAX_TOKEN_BYTES,
        });
    }
    let parts: Vec<&str> = token.split('.').collect();
    let &[header, payload, _] = parts.as_slice() else {
        return Err(TokenError::Malformed("it does not have three parts"));
    };
    let header = object(header).ok_or(TokenError::Malformed("its header is not a JSON object"))?;
    let payload = object(payload).ok_or(TokenError::Malformed("its payload is not a JSON object"))?;
    let text = |object: &Claims, key: &str| object.get(key).and_then(|value| value.as_str()).map(str::to_owned);
    let named = text(&header, "alg").ok_or(TokenError::Malformed("its header has no algorithm"))?;
    let algorithm = Algorithm::parse(&named).ok_or_else(|| TokenError::Algorithm(shown(&named)))?;
    if header.contains_key("crit") {
        return Err(TokenError::CriticalExtension);
    }
    Ok(Unverified {
        issuer: text(&payload, "iss").ok_or(TokenError::Malformed("it has no issuer"))?,
        algorithm,
        kid: text(&header, "kid"),
        claims: payload,
    })
}

fn object(part: &str) -> Option<Claims> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

/// Returns the claims after checking the signature and the audience. The issuer is the one whose key is given, and times are
/// checked against gate time (`claims`).
fn verified(token: &str, says: Unverified, key: &VerificationKey, settings: &IssuerSettings) -> Result<Claims, TokenError> {
    let parts = token.rsplit_once('.');
    let (signed, signature) = parts.ok_or(TokenError::Malformed("it does not have three parts"))?;
    let signature = URL_SAFE_NO_PAD.decode(signature);
    let signature = signature.map_err(|_| TokenError::Malformed("its signature is not base64url"))?;
    if !key.verifies(says.algorithm, signed.as_bytes(), &signature) {
        return Err(TokenError::Signature);
    }
    let audience = says.claims.get("aud");
    if !audience.is_some_and(|audience| names(audience, &settings.audience)) {
        return Err(TokenError::Audience {
            found: audience.map_or_else(|| "missing".to_owned(), |found| cut(&found.to_string())),
            expected: settings.audience.clone(),
        });
    }
    Ok(says.claims)
}

/// Returns true if a claim `aud` names this audience (RFC 7519 section 4.1.3): one text, or a list of them.
fn names(claim: &Value, audience: &str) -> bool {
    match claim {
        Value::String(one) => one == audience,
        Value::Array(several) => several.iter().all(Value::is_string) && several.iter().any(|one| one == audience),
        _ => false,
    }
}

/// Parses bytes as a token, and as the claims of a verified one, for fuzzing.
pub(crate) fn read_hostile(bytes: &[u8]) {
    let settings = IssuerSettings {
        issuer: "https://issuer".to_owned(),
        audience: "tidegate".to_owned(),
        keys: KeysLocation::File(PathBuf::new()),
        identity_claim: "email".to_owned(),
        email_verified: EmailVerified::Required,
        identity_prefix: "ci:".to_owned(),
        groups_claim: Some("groups".to_owned()),
        claims: BTreeMap::from([("repository".to_owned(), "repo".to_owned())]),
        leeway: Duration::from_mins(1),
        client: None,
    };
    if let Ok(token) = str::from_utf8(bytes)
        && let Ok(says) = unverified(token)
    {
        // Key of another issuer: the Ed25519 base point.
        let key = VerificationKey::Point(vec![0x58; 32]);
        assert!(verified(token, says, &key, &settings).is_err(), "nobody has the key");
    }
    if let Ok(claims) = serde_json::from_slice::<Claims>(bytes)
        && claims::good_at(&claims, SignedDuration::from_secs(60), Timestamp::UNIX_EPOCH).is_ok()
        && let Ok(identity) = claims::identity(&claims, &settings)
    {
        assert!(
            identity.name.as_str().starts_with("ci:"),
            "an issuer names nobody but its own"
        );
    }
}

/// Returns true if a text has the form of a JWT (three parts, the first a JSON object).
#[must_use]
pub fn looks_like_jwt(token: &str) -> bool {
    token.starts_with("ey") && token.split('.').count() == 3
}
