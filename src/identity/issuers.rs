//! Tokens of issuers (OpenID providers, CI systems): which issuers are trusted, and whether a token is one of theirs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use super::Identity;
use crate::secret::Secret;

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
    /// Put before the claim's value, so that two issuers cannot name the same identity (`ci:`).
    pub identity_prefix: String,
    /// The claim that lists groups.
    pub groups_claim: Option<String>,
    /// Names in the policies' context, with the claims they come from.
    pub claims: BTreeMap<String, String>,
    /// What clocks may differ by.
    pub leeway: Duration,
}

/// Where an issuer's keys (JWKS) are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keys {
    /// Fetched, kept, and fetched again when a key is not among them.
    Url(String),
    /// Read from a file.
    File(PathBuf),
}

/// Why a token proves nothing. For the log, never for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TokenError(pub String);

/// The trusted issuers with their keys.
#[derive(Debug, Default)]
pub struct Issuers {}

impl Issuers {
    /// Of these; fetches nothing yet.
    #[must_use]
    pub fn new(_settings: Vec<IssuerSettings>) -> Self {
        Self {}
    }

    /// Who the token says its bearer is, if it is good at `now`.
    pub async fn verify(&self, _token: &Secret<String>, _now: Timestamp) -> Result<Identity, TokenError> {
        Err(TokenError("no issuer is configured".to_owned()))
    }
}

/// Whether a text has the form of a JWT (three parts, the first a JSON object).
#[must_use]
pub fn looks_like_jwt(token: &str) -> bool {
    token.starts_with("ey") && token.split('.').count() == 3
}
