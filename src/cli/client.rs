//! Client of the running gate's control API.
//!
//! It does not interpret the answers. `reach` selects the gate and the token, `dial` connects. Errors map to exit codes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::args::GatePlace;
use super::connect::{self, ControlEndpoint};
use super::endpoint::{self, TokenWords, UsualCaller};
use crate::base::secret::Secret;
use crate::base::tls::{Fingerprint, FingerprintError, GateTrust};
use crate::config::ConfigMistake;
use crate::control::model::Problem;

/// Error of a call to the control API.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The configuration is invalid, so the gate's address is unknown.
    #[error("{}", lines(.0))]
    Config(Vec<ConfigMistake>),
    /// The address given with `--control` is invalid.
    #[error("`{0}` is not the address of a control API; write unix:/path/to/control.sock or https://gate.example.org:7433")]
    Address(String),
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
        /// Reason from the operating system.
        reason: std::io::Error,
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
    #[error("the gate at {address} did not answer within {} s", ANSWER_TIMEOUT.as_secs())]
    Timeout {
        /// Address of the gate.
        address: String,
    },
    /// The connection broke.
    #[error("the connection to the gate failed{}", if .0.is_parse() { ": the answer is not HTTP (is it https://?)" } else { "" })]
    Broken(#[from] hyper::Error),
    /// The request cannot be encoded as HTTP.
    #[error("cannot send the request")]
    Request(#[from] hyper::http::Error),
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
    /// The gate refused.
    #[error("{}", problem(.0))]
    Refused(Box<Problem>),
}

/// Remedy for a call that needs a person's token instead of the admin token.
const AS_A_PERSON: &str = "log in under your own name: tidegate login (an operator creates your token: tidegate user add NAME)";
/// Time limit of an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Client of one gate's control API.
#[derive(Debug)]
pub(super) struct ControlClient {
    address: ControlEndpoint,
    trust: GateTrust,
    token: Secret<String>,
    words: TokenWords,
    operator: String,
}

impl ControlClient {
    /// Finds the gate's address and reads the token; does not connect yet.
    pub(super) fn new(whose: UsualCaller, config: &std::path::Path, place: &GatePlace) -> Result<Self, ClientError> {
        let (address, trust, from) = endpoint::find(whose, config, place)?;
        Ok(Self {
            words: from.words(),
            ..Self::with(address, trust, endpoint::token(&from)?)
        })
    }

    /// Makes a client for this address and a token that the user gave.
    pub(super) fn with(address: ControlEndpoint, trust: GateTrust, token: Secret<String>) -> Self {
        Self {
            address,
            trust,
            token,
            words: TokenWords::given(),
            operator: operator(),
        }
    }

    /// Returns the address of the gate.
    pub(super) fn address(&self) -> &ControlEndpoint {
        &self.address
    }

    /// Returns the basis on which the gate is trusted.
    pub(super) fn trust(&self) -> &GateTrust {
        &self.trust
    }

    /// Sends a GET request and parses the answer.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str, query: &impl Serialize) -> Result<T, ClientError> {
        let response = self.send(Method::GET, &with_query(path, query)?, Bytes::new(), None).await?;
        read(response).await
    }

    /// Sends a POST request and parses the answer.
    pub(super) async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        let response = self.send(Method::POST, path, serde_json::to_vec(body)?.into(), None).await?;
        read(response).await
    }

    /// Sends a POST request that must not take effect twice: by `key` the gate recognizes a repetition. If the connection
    /// breaks, its effect is unknown, and it is sent once more.
    pub(super) async fn post_once<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        key: &str,
    ) -> Result<T, ClientError> {
        let body = Bytes::from(serde_json::to_vec(body)?);
        let response = match self.send(Method::POST, path, body.clone(), Some(key)).await {
            Err(ClientError::Broken(_) | ClientError::Timeout { .. }) => self.send(Method::POST, path, body, Some(key)).await?,
            other => other?,
        };
        read(response).await
    }

    /// Sends a GET request and passes each line of the answer to `each` as it arrives, until the end or until `each` returns
    /// false.
    pub(super) async fn lines(
        &self,
        path: &str,
        query: &impl Serialize,
        mut each: impl FnMut(&[u8]) -> bool,
    ) -> Result<(), ClientError> {
        let mut pending = Vec::new();
        let take = |data: &[u8]| {
            pending.extend_from_slice(data);
            while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                if !each(line.trim_ascii_end()) {
                    return false;
                }
            }
            true
        };
        self.bytes(path, query, take).await
    }

    /// Sends a GET request and passes each piece of the answer to `each` as it arrives, until the end or until `each` returns
    /// false.
    pub(super) async fn bytes(
        &self,
        path: &str,
        query: &impl Serialize,
        mut each: impl FnMut(&[u8]) -> bool,
    ) -> Result<(), ClientError> {
        let mut response = self.send(Method::GET, &with_query(path, query)?, Bytes::new(), None).await?;
        if !response.status().is_success() {
            return read::<serde_json::Value>(response).await.map(drop);
        }
        while let Some(frame) = response.body_mut().frame().await {
            let frame = frame?;
            if let Some(data) = frame.data_ref()
                && !each(data)
            {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn send(&self, method: Method, path: &str, body: Bytes, key: Option<&str>) -> Result<Response<Incoming>, ClientError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "tidegate")
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {}", self.token.expose()))
            .header(crate::control::OPERATOR_HEADER, &self.operator);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let request = request.body(Full::new(body))?;
        let call = async {
            let mut sender = connect::connect(&self.address, &self.trust).await?;
            Ok(sender.send_request(request).await?)
        };
        match tokio::time::timeout(ANSWER_TIMEOUT, call).await {
            Ok(Ok(response)) if response.status() == StatusCode::UNAUTHORIZED => Err(ClientError::Unaccepted {
                address: self.address.clone(),
                words: self.words.clone(),
            }),
            Ok(answer) => answer,
            Err(_) => Err(ClientError::Timeout {
                address: self.address.to_string(),
            }),
        }
    }
}

async fn read<T: DeserializeOwned>(response: Response<Incoming>) -> Result<T, ClientError> {
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    if status.is_success() {
        return Ok(serde_json::from_slice(&body)?);
    }
    // A proxy in front of the gate may answer without a problem body.
    let problem = serde_json::from_slice(&body).unwrap_or_else(|_| Problem {
        kind: "about:blank".to_owned(),
        title: status.canonical_reason().unwrap_or("failed").to_owned(),
        status: status.as_u16(),
        detail: String::from_utf8_lossy(&body).chars().take(200).collect(),
        remedy: None,
        policies: Vec::new(),
        nearest: None,
    });
    Err(ClientError::Refused(Box::new(problem)))
}

impl ClientError {
    /// Returns true if a retry may help: a gate that restarts, a network that comes back.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Timeout { .. } | Self::Broken(_) => true,
            Self::Refused(problem) => problem.status == 503,
            _ => false,
        }
    }

    /// Returns the exit code for scripts; [`super::args`] documents them.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Address(_) | Self::Fingerprint(_) => 2,
            Self::Connect { .. } | Self::Untrusted { .. } | Self::Handshake { .. } | Self::Timeout { .. } | Self::Broken(_) => 3,
            Self::Unaccepted { .. } => 5,
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

/// Returns the name of the user at the keyboard, for the record. It is unverified: the token proves the right.
fn operator() -> String {
    ["SUDO_USER", "USER", "LOGNAME"]
        .iter()
        .find_map(|variable| std::env::var(variable).ok())
        .filter(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic()))
        .unwrap_or_else(|| "admin".to_owned())
}

/// Appends the query as `?a=b&c=d`, without absent and false values.
fn with_query(path: &str, query: &impl Serialize) -> Result<String, ClientError> {
    let mut text = path.to_owned();
    if let serde_json::Value::Object(fields) = serde_json::to_value(query)? {
        let mut mark = '?';
        // Sorted by name: the order of the map itself depends on how the crate was built.
        for (name, value) in fields.into_iter().collect::<BTreeMap<_, _>>() {
            let value = match value {
                serde_json::Value::String(value) => value,
                serde_json::Value::Null | serde_json::Value::Bool(false) => continue,
                other => other.to_string(),
            };
            text.push(mark);
            text.push_str(&name);
            text.push('=');
            escape(&value, &mut text);
            mark = '&';
        }
    }
    Ok(text)
}

/// Percent-encodes a query's value: only RFC 3986's unreserved characters stay.
pub(super) fn escape(value: &str, into: &mut String) {
    use std::fmt::Write as _;
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            let _ = write!(into, "%{byte:02X}");
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

fn lines(mistakes: &[ConfigMistake]) -> String {
    mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Filter;
    use crate::control::model::{LogQuery, SearchExtent};

    #[test]
    fn queries_are_escaped() {
        let query = LogQuery {
            filter: Filter {
                text: Some("a&b=ü c".to_owned()),
                min_rows: Some(7),
                ..Filter::default()
            },
            extent: SearchExtent {
                follow: true,
                ..SearchExtent::default()
            },
        };
        assert_eq!(
            with_query("/v1/log", &query).unwrap(),
            "/v1/log?follow=true&min_rows=7&text=a%26b%3D%C3%BC%20c"
        );
        assert_eq!(with_query("/v1/log", &LogQuery::default()).unwrap(), "/v1/log");
    }
}
