//! Why a token proves nothing: precise, for the log.
//!
//! None of it is for whoever showed the token: they learn that it was refused, and no more.

/// Why a token proves nothing. For the log, never for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Longer than any issuer's token.
    #[error("the token has {length} bytes, more than {most}")]
    TooLong {
        /// Its length.
        length: usize,
        /// What is allowed.
        most: usize,
    },
    /// Not a signed JWT.
    #[error("it is not a signed JWT: {0}")]
    Malformed(&'static str),
    /// Of an issuer that is not configured.
    #[error("the issuer {0} is not one of [[identity.issuers]]")]
    UnknownIssuer(String),
    /// `none`, a shared secret (`HS256`), or one nobody knows.
    #[error("the algorithm {0} is not accepted; an issuer signs with RS, PS, ES or EdDSA")]
    Algorithm(String),
    /// It has to be understood and is not.
    #[error("the token's header has critical extensions (`crit`)")]
    CriticalExtension,
    /// The issuer has no such key.
    #[error("the issuer has no key {kid} for {algorithm}{trouble}")]
    UnknownKey {
        /// As the token names it.
        kid: String,
        /// As the token names it.
        algorithm: String,
        /// What went wrong when the keys were last fetched.
        trouble: String,
    },
    /// There are no keys to verify it with.
    #[error("cannot get the keys of {issuer}: {reason}")]
    NoKeys {
        /// The issuer.
        issuer: String,
        /// Why.
        reason: String,
    },
    /// Signed by somebody else, or changed since.
    #[error("the signature is invalid")]
    Signature,
    /// Made for somebody else.
    #[error("the audience is {found}, not \"{expected}\"")]
    Audience {
        /// The token's.
        found: String,
        /// The issuer's setting.
        expected: String,
    },
    /// No `exp`, or not a time.
    #[error("the token has no valid time in `{0}`")]
    NoTime(&'static str),
    /// After its `exp`.
    #[error("the token expired at {0}")]
    Expired(String),
    /// Before its `nbf` or `iat`.
    #[error("the token is not valid before {at} (`{claim}`)")]
    NotYet {
        /// Which of them.
        claim: &'static str,
        /// What it says.
        at: String,
    },
    /// What was to be in it is not.
    #[error("the claim `{claim}` {reason}")]
    Claim {
        /// Which.
        claim: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Text of a token that nobody has verified, fit for a line of the log.
pub(super) fn shown(text: &str) -> String {
    format!("{:?}", cut(text))
}

/// The beginning of a long text.
pub(super) fn cut(text: &str) -> String {
    let cut: String = text.chars().take(120).collect();
    if cut.len() < text.len() { cut + "…" } else { cut }
}
