//! Tokens of issuers (OpenID providers, CI systems): which issuers are trusted, and whether a token is one of theirs.
//!
//! It decides nothing about access, and keeps no token. The law: what a token says counts only after a key of the issuer it names
//! has verified it, with an algorithm that only the issuer can sign with.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};

use super::claims::{self, Claims};
use super::error::{TokenError, cut, shown};
use super::jwks::{Jwks, read_keys};
use super::{Identity, keys};
use crate::names::IdentityName;
use crate::secret::Secret;
use crate::tls::web_address;

/// Longer tokens are not looked at.
const MOST_BYTES: usize = 16 << 10;

/// One trusted issuer: `[[identity.issuers]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerSettings {
    /// As the `iss` claim has it.
    pub issuer: String,
    /// As the `aud` claim has to have it.
    pub audience: String,
    /// Where its keys are.
    pub keys: Keys,
    /// The claim that names the identity.
    pub identity_claim: String,
    /// Whether an address that names the identity is believed where the token does not say that it was verified.
    pub email_verified: EmailVerified,
    /// Put before the claim's value, so that two issuers cannot name the same identity (`ci:`).
    pub identity_prefix: String,
    /// The claim that lists groups.
    pub groups_claim: Option<String>,
    /// Names in the policies' context, with the claims they come from.
    pub claims: BTreeMap<String, String>,
    /// What clocks may differ by.
    pub leeway: Duration,
}

/// What makes an address (the claim `email`) the name of whoever has the token. One that the token says is not verified never is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EmailVerified {
    /// The token has to say that it was verified: anybody can write anybody's address into an account of their own.
    #[default]
    Required,
    /// The issuer has no addresses but those it gave or verified, and its tokens do not say so.
    Assumed,
}

/// Where an issuer's keys (JWKS) are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keys {
    /// Fetched, kept, and fetched again when a key is not among them.
    Url(String),
    /// Read from a file.
    File(PathBuf),
}

impl Keys {
    /// Whether they can be had, as far as that is to be found out without a network: for `tidegate check`.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::Url(url) => web_address(url).map(drop),
            Self::File(path) => read_keys(path).map(drop),
        }
    }
}

/// The trusted issuers with their keys.
#[derive(Debug, Default)]
pub struct Issuers {
    all: Vec<Issuer>,
}

#[derive(Debug)]
struct Issuer {
    settings: IssuerSettings,
    jwks: Arc<Jwks>,
}

/// What a token says of itself, before it is verified.
struct Unverified {
    issuer: String,
    algorithm: Algorithm,
    kid: Option<String>,
}

impl Issuers {
    /// Of these; fetches nothing yet.
    #[must_use]
    pub fn new(settings: Vec<IssuerSettings>) -> Self {
        Self::default().renewed(settings)
    }

    /// Of these, with the keys that are there already: for a reload.
    #[must_use]
    pub fn renewed(&self, settings: Vec<IssuerSettings>) -> Self {
        let issuer = |settings: IssuerSettings| {
            let same = |issuer: &&Issuer| issuer.settings.issuer == settings.issuer && *issuer.jwks.source() == settings.keys;
            let jwks = self.all.iter().find(same).map(|issuer| Arc::clone(&issuer.jwks));
            Issuer {
                jwks: jwks.unwrap_or_else(|| Jwks::new(settings.keys.clone())),
                settings,
            }
        };
        Self {
            all: settings.into_iter().map(issuer).collect(),
        }
    }

    /// The issuers, as configured.
    pub fn settings(&self) -> impl Iterator<Item = &IssuerSettings> {
        self.all.iter().map(|issuer| &issuer.settings)
    }

    /// The issuer that gives names of this kind: its prefix is how `name` begins. One without a prefix is not asked about.
    #[must_use]
    pub fn who_names(&self, name: &IdentityName) -> Option<&IssuerSettings> {
        self.settings()
            .filter(|issuer| !issuer.identity_prefix.is_empty())
            .find(|issuer| name.as_str().starts_with(&issuer.identity_prefix))
    }

    /// Who the token says its bearer is, if it is good at `now`.
    pub async fn verify(&self, token: &Secret<String>, now: Timestamp) -> Result<Identity, TokenError> {
        let token = token.expose().as_str();
        let says = unverified(token)?;
        let issuer = self
            .all
            .iter()
            .find(|issuer| issuer.settings.issuer == says.issuer)
            .ok_or_else(|| TokenError::UnknownIssuer(shown(&says.issuer)))?;
        let settings = &issuer.settings;
        let found = issuer.jwks.keys(says.kid.as_deref(), now).await;
        let found = found.map_err(|reason| TokenError::NoKeys {
            issuer: settings.issuer.clone(),
            reason,
        })?;
        let key = found.keys.find(says.kid.as_deref(), says.algorithm);
        let key = key.ok_or_else(|| TokenError::UnknownKey {
            kid: says.kid.as_deref().map_or_else(|| "(none named)".to_owned(), shown),
            algorithm: format!("{:?}", says.algorithm),
            trouble: found.trouble.map(|trouble| format!(", and {trouble}")).unwrap_or_default(),
        })?;
        let claims = verified(token, says.algorithm, key, settings)?;
        let leeway = SignedDuration::try_from(settings.leeway).unwrap_or(SignedDuration::ZERO);
        claims::good_at(&claims, leeway, now)?;
        let identity = claims::identity(&claims, settings)?;
        self.nobody_elses(&identity, settings)?;
        Ok(identity)
    }

    /// A name that begins with the longer prefix of another issuer is that issuer's to give.
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

/// Reads what is needed to choose a key. Nothing of it is believed.
fn unverified(token: &str) -> Result<Unverified, TokenError> {
    if token.len() > MOST_BYTES {
        return Err(TokenError::TooLong {
            length: token.len(),
            most: MOST_BYTES,
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
    let algorithm = keys::algorithm(&named).ok_or_else(|| TokenError::Algorithm(shown(&named)))?;
    if header.contains_key("crit") {
        return Err(TokenError::CriticalExtension);
    }
    Ok(Unverified {
        issuer: text(&payload, "iss").ok_or(TokenError::Malformed("it has no issuer"))?,
        algorithm,
        kid: text(&header, "kid"),
    })
}

fn object(part: &str) -> Option<Claims> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

/// The claims, once the signature, the issuer and the audience are found right. Times are not looked at: the library would ask
/// the machine's clock.
fn verified(token: &str, algorithm: Algorithm, key: &DecodingKey, settings: &IssuerSettings) -> Result<Claims, TokenError> {
    let mut rules = Validation::new(algorithm);
    rules.validate_exp = false;
    rules.validate_nbf = false;
    rules.set_issuer(&[&settings.issuer]);
    rules.set_audience(&[&settings.audience]);
    rules.set_required_spec_claims(&["iss", "aud"]);
    match jsonwebtoken::decode::<Claims>(token, key, &rules) {
        Ok(token) => Ok(token.claims),
        Err(error) => Err(match error.kind() {
            ErrorKind::InvalidSignature => TokenError::Signature,
            ErrorKind::InvalidAlgorithm => TokenError::Algorithm(format!("{algorithm:?}")),
            ErrorKind::InvalidAudience => audience(token, settings),
            ErrorKind::MissingRequiredClaim(claim) if claim == "aud" => audience(token, settings),
            ErrorKind::Json(_) | ErrorKind::Utf8(_) => TokenError::Malformed("its header or payload is malformed"),
            ErrorKind::Base64(_) => TokenError::Malformed("its signature is not base64url"),
            _ => TokenError::Malformed("the key is unusable, or the claims are malformed"),
        }),
    }
}

fn audience(token: &str, settings: &IssuerSettings) -> TokenError {
    let payload = token.split('.').nth(1).and_then(object);
    let found = payload.and_then(|payload| payload.get("aud").map(|found| cut(&found.to_string())));
    TokenError::Audience {
        found: found.unwrap_or_else(|| "missing".to_owned()),
        expected: settings.audience.clone(),
    }
}

/// Reads bytes as a token, and as the claims of one that was verified: for fuzzers.
pub(crate) fn read_hostile(bytes: &[u8]) {
    let settings = IssuerSettings {
        issuer: "https://issuer".to_owned(),
        audience: "tidegate".to_owned(),
        keys: Keys::File(PathBuf::new()),
        identity_claim: "email".to_owned(),
        email_verified: EmailVerified::Required,
        identity_prefix: "ci:".to_owned(),
        groups_claim: Some("groups".to_owned()),
        claims: BTreeMap::from([("repository".to_owned(), "repo".to_owned())]),
        leeway: Duration::from_mins(1),
    };
    if let Ok(token) = str::from_utf8(bytes)
        && let Ok(says) = unverified(token)
    {
        // A key of somebody else: of Ed25519's base point.
        let key = DecodingKey::from_ed_der(&[0x58; 32]);
        assert!(
            verified(token, says.algorithm, &key, &settings).is_err(),
            "nobody has the key"
        );
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

/// Whether a text has the form of a JWT (three parts, the first a JSON object).
#[must_use]
pub fn looks_like_jwt(token: &str) -> bool {
    token.starts_with("ey") && token.split('.').count() == 3
}
