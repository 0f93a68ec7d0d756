//! Errors of token verification: precise, for the log.
//!
//! The bearer of the token learns only that it was refused.

/// Error of a token that proves no identity. For the log, never for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Longer than any issuer's token.
    #[error("the token has {length} bytes, more than {most}")]
    TooLong {
        /// Length of the token, in bytes.
        length: usize,
        /// Maximum length, in bytes.
        most: usize,
    },
    /// Not a signed JWT.
    #[error("it is not a signed JWT: {0}")]
    Malformed(&'static str),
    /// The issuer is not configured.
    #[error("the issuer {0} is not one of [[identity.issuers]]")]
    UnknownIssuer(String),
    /// The algorithm is `none`, a shared secret (`HS256`), or unknown.
    #[error("the algorithm {0} is not accepted; an issuer signs with RS, PS, ES or EdDSA")]
    Algorithm(String),
    /// The header has a critical extension (`crit`), and none is supported.
    #[error("the token's header has critical extensions (`crit`)")]
    CriticalExtension,
    /// The issuer has no key that fits.
    #[error("the issuer has no key {kid} for {algorithm}{trouble}")]
    UnknownKey {
        /// Key id in the token.
        kid: String,
        /// Algorithm in the token.
        algorithm: String,
        /// Error of the last fetch of the keys; empty if it succeeded.
        trouble: String,
    },
    /// No keys of the issuer are available.
    #[error("cannot get the keys of {issuer}: {reason}")]
    NoKeys {
        /// The issuer.
        issuer: String,
        /// Reason why there are none.
        reason: String,
    },
    /// The signature does not match: another key signed the token, or it was changed.
    #[error("the signature is invalid")]
    Signature,
    /// Issued for another audience.
    #[error("the audience is {found}, not \"{expected}\"")]
    Audience {
        /// Audience in the token.
        found: String,
        /// Audience in the issuer's settings.
        expected: String,
    },
    /// The claim is missing or is not a time.
    #[error("the token has no valid time in `{0}`")]
    NoTime(&'static str),
    /// The time is after `exp`.
    #[error("the token expired at {0}")]
    Expired(String),
    /// The time is before `nbf` or `iat`.
    #[error("the token is not valid before {at} (`{claim}`)")]
    NotYet {
        /// Name of the claim.
        claim: &'static str,
        /// Time in the claim.
        at: String,
    },
    /// A claim is missing or not usable.
    #[error("the claim `{claim}` {reason}")]
    Claim {
        /// Name of the claim.
        claim: String,
        /// Reason why it is not usable.
        reason: String,
    },
}

/// Quotes unverified text of a token for a line of the log.
pub(super) fn shown(text: &str) -> String {
    format!("{:?}", cut(text))
}

/// Returns the first 120 characters of a text, with `…` if it is longer.
pub(super) fn cut(text: &str) -> String {
    let cut: String = text.chars().take(120).collect();
    if cut.len() < text.len() { cut + "…" } else { cut }
}
