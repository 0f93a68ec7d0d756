//! Authentication methods: their names, and those that a target may ask for.
//!
//! It answers no request: [`mod@super::auth`] does.

use std::fmt;
use std::str::FromStr;

/// Method by which a server authenticates a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMethod {
    /// SCRAM-SHA-256 and -PLUS: both sides prove that they know the password, neither reveals it.
    ScramSha256,
    /// An MD5 challenge: an eavesdropper can try passwords against it, and a hostile server can use the answer elsewhere.
    Md5,
    /// The password in clear text; it is sent over TLS only, but the peer gets it.
    Password,
    /// No proof is required, and the server gives none.
    Trust,
}

/// Error of a text that is not a method.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown authentication method `{text}`; use scram-sha-256, md5, password or trust")]
pub struct AuthMethodError {
    text: String,
}

impl AuthMethod {
    const ALL: [Self; 4] = [Self::ScramSha256, Self::Md5, Self::Password, Self::Trust];

    /// Returns PostgreSQL's name in `pg_hba.conf`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ScramSha256 => "scram-sha-256",
            Self::Md5 => "md5",
            Self::Password => "password",
            Self::Trust => "trust",
        }
    }
}

impl fmt::Display for AuthMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for AuthMethod {
    type Err = AuthMethodError;

    fn from_str(text: &str) -> Result<Self, AuthMethodError> {
        Self::ALL
            .into_iter()
            .find(|method| method.name() == text)
            .ok_or_else(|| AuthMethodError {
                text: text.chars().take(80).collect(),
            })
    }
}

/// Authentication methods that a target may ask for. The default is SCRAM and trust: neither reveals the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthMethods(Vec<AuthMethod>);

impl AuthMethods {
    /// Returns true if the method may be used.
    #[must_use]
    pub fn allow(&self, method: AuthMethod) -> bool {
        self.0.contains(&method)
    }
}

impl Default for AuthMethods {
    fn default() -> Self {
        Self(vec![AuthMethod::ScramSha256, AuthMethod::Trust])
    }
}

impl FromIterator<AuthMethod> for AuthMethods {
    fn from_iter<I: IntoIterator<Item = AuthMethod>>(methods: I) -> Self {
        Self(methods.into_iter().collect())
    }
}
