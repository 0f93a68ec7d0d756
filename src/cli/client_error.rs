//! Errors of a call to the control API: their messages, remedies and exit codes.
//!
//! It calls nothing: what connects, selects or sends makes them.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::StatusCode;

use super::address::{AddressError, ControlEndpoint};
use super::render::joined;
use crate::base::tls::{Fingerprint, FingerprintError};
use crate::config::ConfigMistake;
use crate::control::model::Problem;

/// Error of a call to the control API.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The configuration is invalid, so the gate's address is unknown.
    #[error("{}", joined(.0, "\n"))]
    Config(Vec<ConfigMistake>),
    /// The address given with `--control` is invalid.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// `TIDEGATE_TRUST` is not a fingerprint.
    #[error("TIDEGATE_TRUST is `{0}`; {FingerprintError}")]
    Fingerprint(String),
    /// The token cannot be read.
    #[error("cannot read the token {path}: {reason}; {remedy}", path = path.display())]
    Token {
        /// File of the token.
        path: PathBuf,
        /// Reason from the operating system.
        reason: std::io::Error,
        /// Next step for the user.
        remedy: &'static str,
    },
    /// The stored login cannot be read.
    #[error("cannot read the login {path}: {reason}; remove it with `tidegate logout`", path = path.display())]
    Login {
        /// File of the login.
        path: PathBuf,
        /// Reason in words.
        reason: String,
    },
    /// No gate is specified.
    #[error(
        "no gate is known; log in first: tidegate login --control https://gate:7433 (or set its configuration with --config)"
    )]
    Nowhere,
    /// The gate is known, but there is no token for it.
    #[error("no token for {0}; log in: tidegate login --control {0} (or set --token-file or TIDEGATE_TOKEN)")]
    NoToken(ControlEndpoint),
    /// No gate listens at the address.
    #[error("the gate does not answer at {address}: {reason}; is it running (tidegate serve), with this configuration?")]
    Connect {
        /// Address of the gate.
        address: String,
        /// Reason in words.
        reason: String,
    },
    /// The certificate of the gate is not trusted.
    #[error("the certificate of the gate at {address} is not trusted: {why}.{}", remedy(address, *seen))]
    Untrusted {
        /// Address of the gate.
        address: ControlEndpoint,
        /// Reason in words.
        why: String,
        /// Fingerprint of the certificate, if it was fetched.
        seen: Option<Fingerprint>,
    },
    /// The TLS handshake failed.
    #[error("the TLS handshake with the gate at {address} failed: {reason} (is it http://? Is it the port of control.listen?)")]
    Handshake {
        /// Address of the gate.
        address: String,
        /// Reason in words.
        reason: String,
    },
    /// The gate did not answer in time.
    #[error("the gate at {address} did not answer within {} s", limit.as_secs())]
    Timeout {
        /// Address of the gate.
        address: String,
        /// Time that it had.
        limit: Duration,
    },
    /// The connection broke.
    #[error("the connection to the gate failed{}", if *not_http { ": the answer is not HTTP (is it https://?)" } else { "" })]
    Broken {
        /// True if something else than HTTP was answered.
        not_http: bool,
        /// Reason from the connection.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The request cannot be encoded as HTTP.
    #[error("cannot send the request")]
    Request(#[source] reqwest::Error),
    /// The answer is not one of the control API.
    #[error("the answer is not from a gate (is another server listening there?)")]
    Answer(#[from] serde_json::Error),
    /// The gate does not know the token.
    #[error("the gate at {address} does not accept {}: it may be mistyped, replaced or expired, or its owner be disabled; {}", words.what, words.remedy)]
    Unaccepted {
        /// Address that the token was sent to.
        address: ControlEndpoint,
        /// Description of the token for messages.
        words: TokenWords,
    },
    /// The provider has let a person in, and the gate does not.
    #[error(
        "you signed in at {issuer}, but the gate at {address} does not let you in: your identity may be disabled there, or {issuer} vouches for you otherwise than the gate wants; ask the gate's operator, whose log has the reason, then start again: tidegate login --sign-in"
    )]
    SignInUnaccepted {
        /// Address of the gate.
        address: ControlEndpoint,
        /// Issuer that was signed in at.
        issuer: String,
    },
    /// The gate refused.
    #[error("{}", problem(.0))]
    Refused(Box<Problem>),
}

/// Remedy for a call that needs a person's token instead of the admin token.
const AS_A_PERSON: &str = "log in under your own name: tidegate login (an operator creates your token: tidegate user add NAME)";
/// Time limit of an answer.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Description of a token for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenWords {
    /// Source of the token in words.
    pub what: String,
    /// Remedy if it is not accepted.
    pub remedy: &'static str,
}

impl TokenWords {
    /// Returns the words for a token that was typed, or piped in.
    pub(super) fn given() -> Self {
        Self {
            what: "the token you gave".to_owned(),
            remedy: "an operator of the gate creates a new one: tidegate user rotate NAME",
        }
    }
}

impl ClientError {
    /// Returns true if a retry may help: a gate or a proxy before it that restarts, a network that comes back.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Timeout { .. } | Self::Broken { .. } => true,
            Self::Refused(problem) => matches!(problem.status, 502..=504),
            _ => false,
        }
    }

    /// Returns the exit code for scripts; [`super::command_line`] documents them.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Address(_) | Self::Fingerprint(_) => 2,
            Self::Connect { .. }
            | Self::Untrusted { .. }
            | Self::Handshake { .. }
            | Self::Timeout { .. }
            | Self::Broken { .. } => 3,
            Self::Unaccepted { .. } | Self::SignInUnaccepted { .. } => 5,
            Self::Refused(problem) => match StatusCode::from_u16(problem.status) {
                Ok(StatusCode::NOT_FOUND) => 4,
                Ok(
                    StatusCode::FORBIDDEN
                    | StatusCode::CONFLICT
                    | StatusCode::UNPROCESSABLE_ENTITY
                    | StatusCode::TOO_MANY_REQUESTS,
                ) => 5,
                _ => 1,
            },
            Self::Config(_)
            | Self::Token { .. }
            | Self::Login { .. }
            | Self::Nowhere
            | Self::NoToken(_)
            | Self::Request(_)
            | Self::Answer(_) => 1,
        }
    }
}

/// Returns the remedy for an untrusted certificate.
fn remedy(address: &ControlEndpoint, seen: Option<Fingerprint>) -> String {
    let how = "`tidegate fingerprint` on the gate's machine prints its certificate's SHA-256; the gate also logs it at the start (certificate_sha256)";
    match seen {
        Some(seen) => format!(
            " Its SHA-256 is {seen}. {how}; if they are equal: tidegate login --control {address} --trust {seen} (or set its CA: --ca FILE)"
        ),
        None => format!(" {how}; then: tidegate login --control {address} --trust SHA256 (or set its CA: --ca FILE)"),
    }
}

fn problem(problem: &Problem) -> String {
    let detail = if problem.detail.is_empty() {
        &problem.title
    } else {
        &problem.detail
    };
    match &problem.remedy {
        // The API's remedy is for its caller; here a user can run a command.
        Some(_) if problem.kind.ends_with(":no-person") => format!("{detail}; {AS_A_PERSON}"),
        Some(remedy) => format!("{detail}; {remedy}"),
        None => detail.clone(),
    }
}
