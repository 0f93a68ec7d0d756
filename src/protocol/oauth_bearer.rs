//! Server side of OAUTHBEARER (RFC 7628), one message at a time, as PostgreSQL 18 speaks it (`auth-oauth.c`).
//!
//! This module does not judge tokens, and has no channel binding: the mechanism has none.
//!
//! INVARIANT: a token is a slice of the message that brought it, so the caller alone holds bytes to wipe. No error repeats any of
//! the message.

use serde_json::json;

#[cfg(test)]
mod tests;

/// Name of the mechanism.
pub const MECHANISM: &str = "OAUTHBEARER";

/// Separator of key-value pairs, and the whole of the client's answer to a refusal (RFC 7628, section 3.1).
const SEPARATOR: u8 = 0x01;
/// Key of the pair with the credentials.
const AUTH: &[u8] = b"auth";
/// Scheme of the credentials, in any case (RFC 7628, section 4).
const SCHEME: &[u8] = b"bearer ";

/// Place where a client gets a token, as a refusal tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovery {
    issuer: String,
    message: String,
}

/// Credentials in a client's first message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credentials<'m> {
    /// None: the client asks where it gets a token (RFC 7628, section 4.3).
    Discovery,
    /// A token, in characters that RFC 6750 allows (section 2.1); never empty.
    Token(&'m str),
    /// Credentials that are no bearer token, with the reason. PostgreSQL refuses them as it does a wrong token.
    Unusable(&'static str),
}

/// Error of a message that is not one of the mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OauthBearerError {
    /// A malformed message.
    #[error("malformed OAUTHBEARER message: {what}")]
    Malformed {
        /// Description of the fault.
        what: &'static str,
    },
    /// An authorization identity, to act as somebody else.
    #[error("the client uses an authorization identity (OAUTHBEARER)")]
    AuthorizationIdentity,
}

impl Discovery {
    /// Creates the place: `issuer` as in its tokens, `scope` as its clients have to ask for.
    ///
    /// The address of its document is made as PostgreSQL makes it, whatever `issuer` ends with: libpq takes the suffix away again
    /// and compares the rest byte by byte.
    #[must_use]
    pub fn new(issuer: &str, scope: &str) -> Self {
        let document = format!("{issuer}/.well-known/openid-configuration");
        // `invalid_token` is the only status that libpq gets a token for.
        let message = json!({"status": "invalid_token", "scope": scope, "openid-configuration": document});
        Self {
            issuer: issuer.to_owned(),
            message: message.to_string(),
        }
    }

    /// Returns the issuer.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Returns the message that tells a client of its refusal (RFC 7628, section 3.2.2): one JSON object.
    #[must_use]
    pub fn refusal(&self) -> &[u8] {
        self.message.as_bytes()
    }
}

/// Reads a client's first message.
pub fn credentials(message: &[u8]) -> Result<Credentials<'_>, OauthBearerError> {
    if message.contains(&0) {
        return Err(malformed("a NUL byte"));
    }
    let rest = match message {
        [] => return Err(malformed("it is empty")),
        [b'p', ..] => return Err(malformed("channel binding, which the mechanism does not have")),
        // `y`: the client could bind but saw no offer. PostgreSQL takes it for the sake of a future mechanism.
        [b'n' | b'y', b',', rest @ ..] => rest,
        _ => return Err(malformed("no GS2 header")),
    };
    let pairs = match rest {
        [b'a', ..] => return Err(OauthBearerError::AuthorizationIdentity),
        [b',', SEPARATOR, pairs @ ..] => pairs,
        _ => return Err(malformed("no separator behind the GS2 header")),
    };
    let auth = auth_of(pairs)?;
    if auth.is_empty() {
        return Ok(Credentials::Discovery);
    }
    Ok(bearer(auth).map_or_else(Credentials::Unusable, Credentials::Token))
}

/// Checks the client's answer to a refusal: a single separator (RFC 7628, section 3.2.3).
pub fn answered(message: &[u8]) -> Result<(), OauthBearerError> {
    match message {
        [SEPARATOR] => Ok(()),
        _ => Err(malformed("the answer to a refusal is not a single separator")),
    }
}

/// Returns the value of the one pair `auth`; others are ignored (RFC 7628, section 3.1), but must be pairs.
fn auth_of(pairs: &[u8]) -> Result<&[u8], OauthBearerError> {
    let (mut rest, mut auth) = (pairs, None);
    loop {
        let (pair, after) = cut(rest, SEPARATOR).ok_or(malformed("no final separator"))?;
        if pair.is_empty() && !after.is_empty() {
            return Err(malformed("data behind the final separator"));
        }
        if pair.is_empty() {
            return auth.ok_or(malformed("no auth value"));
        }
        let (key, value) = cut(pair, b'=').ok_or(malformed("a key without a value"))?;
        if key.is_empty() || !key.iter().all(u8::is_ascii_alphabetic) {
            return Err(malformed("an invalid key"));
        }
        if !value.iter().all(|byte| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~')) {
            return Err(malformed("an invalid value"));
        }
        if key == AUTH && auth.replace(value).is_some() {
            return Err(malformed("several auth values"));
        }
        rest = after;
    }
}

/// Returns the token of `Bearer` credentials (RFC 6750, section 2.1), or the reason why there is none.
fn bearer(auth: &[u8]) -> Result<&str, &'static str> {
    let (scheme, token) = auth.split_at_checked(SCHEME.len()).ok_or("its scheme is not Bearer")?;
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return Err("its scheme is not Bearer");
    }
    // Spaces only: a token has no other white space either, but it would be an error there.
    let text = str::from_utf8(token).map_err(|_| "it is not text")?.trim_start_matches(' ');
    let body = text.trim_end_matches('=');
    if body.is_empty() {
        return Err("it is empty");
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    if body.bytes().all(allowed) {
        Ok(text)
    } else {
        Err("it has characters that no bearer token has")
    }
}

/// Cuts at the first `separator`, which belongs to neither part.
fn cut(bytes: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|byte| *byte == separator)?;
    Some((bytes.get(..at)?, bytes.get(at + 1..)?))
}

const fn malformed(what: &'static str) -> OauthBearerError {
    OauthBearerError::Malformed { what }
}
