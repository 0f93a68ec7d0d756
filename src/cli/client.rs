//! Client of the running gate's control API.
//!
//! It does not interpret the answers. `endpoint` selects the gate and the token; errors: `client_error`.
//!
//! INVARIANT: the token goes to the gate that the address names and [`GateTrust`] vouches for: through no proxy, along no
//! redirect.

use std::error::Error;
use std::io;
use std::path::Path;
use std::time::Duration;

use reqwest::{Client, RequestBuilder, Response, StatusCode, redirect};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::address::ControlEndpoint;
use super::args::GatePlace;
use super::client_error::{ANSWER_TIMEOUT, ClientError, TokenWords};
use super::endpoint::{self, UsualCaller};
use crate::base::error_chain::display_chain;
use crate::base::secret::Secret;
use crate::base::tls::{self, Fingerprint, GateTrust};
use crate::control::model::Problem;

/// Maximum time until HTTP can be spoken.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Time limit of an answer for which the gate reads its log.
const READING_TIMEOUT: Duration = Duration::from_mins(10);

/// Client of one gate's control API.
#[derive(Debug)]
pub(super) struct ControlClient {
    http: Client,
    address: ControlEndpoint,
    trust: GateTrust,
    token: Secret<String>,
    words: TokenWords,
    operator: String,
}

impl ControlClient {
    /// Finds the gate's address and reads the token; does not connect yet.
    pub(super) fn new(whose: UsualCaller, config: &Path, place: &GatePlace) -> Result<Self, ClientError> {
        let (address, trust, from) = endpoint::find(whose, config, place)?;
        Ok(Self {
            words: from.words(),
            ..Self::with(address, trust, endpoint::token(&from)?)?
        })
    }

    /// Makes a client for this address and a token that the user gave.
    pub(super) fn with(address: ControlEndpoint, trust: GateTrust, token: Secret<String>) -> Result<Self, ClientError> {
        Ok(Self {
            http: http(&address, Some(&trust))?,
            address,
            trust,
            token,
            words: TokenWords::given(),
            operator: operator(),
        })
    }

    /// Returns the address of the gate.
    pub(super) fn address(&self) -> &ControlEndpoint {
        &self.address
    }

    /// Returns the basis on which the gate is trusted.
    pub(super) fn trust(&self) -> &GateTrust {
        &self.trust
    }

    /// Asks whether a gate is there that is trusted; sends no token.
    pub(super) async fn reach(&self) -> Result<(), ClientError> {
        self.answer(self.http.get(self.url("/healthz")), ANSWER_TIMEOUT)
            .await
            .map(drop)
    }

    /// Sends a GET request and parses the answer.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str, query: &impl Serialize) -> Result<T, ClientError> {
        read(self.send(self.http.get(self.url(path)).query(query)).await?).await
    }

    /// Sends a GET request whose answer takes as long as the gate reads its log, and parses the answer.
    pub(super) async fn get_slowly<T: DeserializeOwned>(&self, path: &str, query: &impl Serialize) -> Result<T, ClientError> {
        let request = self.http.get(self.url(path)).query(query);
        read(self.send_within(request, READING_TIMEOUT).await?).await
    }

    /// Sends a POST request and parses the answer.
    pub(super) async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        read(self.send(self.http.post(self.url(path)).json(body)).await?).await
    }

    /// Sends a DELETE request and parses the answer.
    pub(super) async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        read(self.send(self.http.delete(self.url(path))).await?).await
    }

    /// Sends a POST request that must not take effect twice: by `key` the gate recognizes a repetition. If the connection
    /// breaks, its effect is unknown, and it is sent once more.
    pub(super) async fn post_once<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        key: &str,
    ) -> Result<T, ClientError> {
        let request = || self.http.post(self.url(path)).json(body).header("idempotency-key", key);
        let response = match self.send(request()).await {
            Err(ClientError::Broken { .. } | ClientError::Timeout { .. }) => self.send(request()).await?,
            other => other?,
        };
        read(response).await
    }

    /// Sends a GET request and passes each line of the answer to `each` as it arrives, and `None` after those that arrived
    /// together, until the end or until `each` returns false.
    pub(super) async fn lines(
        &self,
        path: &str,
        query: &impl Serialize,
        mut each: impl FnMut(Option<&[u8]>) -> bool,
    ) -> Result<(), ClientError> {
        let mut begun = Vec::new();
        let take = |piece: &[u8]| whole_lines(&mut begun, piece, &mut each) && each(None);
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
        let mut response = self.send(self.http.get(self.url(path)).query(query)).await?;
        if !response.status().is_success() {
            return read::<serde_json::Value>(response).await.map(drop);
        }
        while let Some(piece) = response.chunk().await.map_err(broken)? {
            if !each(&piece) {
                break;
            }
        }
        Ok(())
    }

    fn url(&self, path: &str) -> String {
        url(&self.address, path)
    }

    /// Sends a request under the token.
    async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        self.send_within(request, ANSWER_TIMEOUT).await
    }

    /// Sends a request under the token, and waits so long for the beginning of the answer.
    async fn send_within(&self, request: RequestBuilder, limit: Duration) -> Result<Response, ClientError> {
        let request = request.bearer_auth(self.token.expose());
        let request = request.header(crate::control::OPERATOR_HEADER, &self.operator);
        let response = self.answer(request, limit).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            return Err(ClientError::Unaccepted {
                address: self.address.clone(),
                words: self.words.clone(),
            });
        }
        Ok(response)
    }

    async fn answer(&self, request: RequestBuilder, limit: Duration) -> Result<Response, ClientError> {
        match timeout(limit, request.send()).await {
            Ok(answer) => answer.map_err(|error| unanswered(&self.address, &self.trust, error)),
            Err(_) => Err(ClientError::Timeout {
                address: self.address.to_string(),
                limit,
            }),
        }
    }
}

impl GatePlace {
    /// Returns a client for a command of a person, under their own name.
    pub(super) fn person(&self, config: &Path) -> Result<ControlClient, ClientError> {
        ControlClient::new(UsualCaller::Person, config, self)
    }

    /// Returns a client for a command of an operator.
    pub(super) fn operator(&self, config: &Path) -> Result<ControlClient, ClientError> {
        ControlClient::new(UsualCaller::Operator, config, self)
    }
}

/// Passes each line that ends in this piece to `each`, until that returns false, which it then returns. `begun` has the beginning of
/// a line from the pieces before, and then that of the next.
fn whole_lines(begun: &mut Vec<u8>, mut piece: &[u8], mut each: impl FnMut(Option<&[u8]>) -> bool) -> bool {
    while let Some((line, rest)) = memchr::memchr(b'\n', piece).and_then(|end| piece.split_at_checked(end + 1)) {
        piece = rest;
        let go_on = if begun.is_empty() {
            each(Some(line.trim_ascii_end()))
        } else {
            begun.extend_from_slice(line);
            each(Some(begun.trim_ascii_end()))
        };
        begun.clear();
        if !go_on {
            return false;
        }
    }
    begun.extend_from_slice(piece);
    true
}

fn url(address: &ControlEndpoint, path: &str) -> String {
    match address {
        ControlEndpoint::Unix(_) => format!("http://tidegate{path}"),
        address => format!("{address}{path}"),
    }
}

/// Makes the HTTP client for one gate. Each call has a connection of its own: none stands idle while a program runs.
fn http(address: &ControlEndpoint, trust: Option<&GateTrust>) -> Result<Client, ClientError> {
    let unusable = |error: &(dyn Error + 'static)| ClientError::Handshake {
        address: address.to_string(),
        reason: error.to_string(),
    };
    // Without TLS nothing is verified, and the CAs of the machine need not be read.
    let trust = trust.filter(|_| matches!(address, ControlEndpoint::Tls(_)));
    let tls = tls::gate_client(trust).map_err(|error| unusable(&error))?;
    let mut builder = Client::builder()
        .tls_backend_preconfigured(tls)
        .http1_only()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .pool_max_idle_per_host(0)
        // A quiet stream outlives a network that is away for a minute.
        .tcp_keepalive(None)
        .tcp_user_timeout(None)
        .connect_timeout(CONNECT_TIMEOUT);
    if let ControlEndpoint::Unix(path) = address {
        builder = builder.unix_socket(path.as_path());
    }
    builder.build().map_err(|error| unusable(&error))
}

/// Returns the fingerprint of the certificate that is shown there; `None` where there is no TLS. Nothing is sent to the gate,
/// which is not trusted.
pub(super) async fn seen(address: &ControlEndpoint) -> Result<Option<Fingerprint>, ClientError> {
    if !matches!(address, ControlEndpoint::Tls(_)) {
        return Ok(None);
    }
    let Err(error) = http(address, None)?.get(url(address, "/healthz")).send().await else {
        return Ok(None);
    };
    match tls_failure(&error).and_then(tls::shown) {
        Some(seen) => Ok(Some(seen)),
        None => Err(unanswered(address, &GateTrust::Machine, error)),
    }
}

/// Returns the error of a request without an answer.
fn unanswered(address: &ControlEndpoint, trust: &GateTrust, error: reqwest::Error) -> ClientError {
    if error.is_builder() {
        return ClientError::Request(error.without_url());
    }
    if !error.is_connect() {
        return broken(error);
    }
    if let Some(reason) = tls_failure(&error) {
        return handshake(address, trust, reason);
    }
    match causes(&error).last() {
        Some(reason) if !error.is_timeout() => unreachable(address, reason),
        _ => unreachable(address, &io::Error::from(io::ErrorKind::TimedOut)),
    }
}

/// Returns what a handshake failed with: it comes as an error of a stream in an error of a stream, unlike what TCP fails with.
fn tls_failure(error: &reqwest::Error) -> Option<&io::Error> {
    causes(error).find_map(|cause| cause.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref::<io::Error>())
}

fn unreachable(address: &ControlEndpoint, reason: &(dyn Error + 'static)) -> ClientError {
    ClientError::Connect {
        address: address.to_string(),
        reason: reason.to_string(),
    }
}

fn handshake(address: &ControlEndpoint, trust: &GateTrust, reason: &io::Error) -> ClientError {
    if !tls::is_distrust(reason) {
        return ClientError::Handshake {
            address: address.to_string(),
            reason: reason.to_string(),
        };
    }
    ClientError::Untrusted {
        address: address.clone(),
        why: match trust {
            GateTrust::Machine => format!("no CA of this machine has signed it ({reason})"),
            GateTrust::Ca(path) => format!("{} does not verify it ({reason})", path.display()),
            GateTrust::Pin(pin) => format!("the trusted certificate has the SHA-256 {pin}"),
        },
        seen: None,
    }
}

/// Returns the error of a connection that broke, with what HTTP says of it.
fn broken(error: reqwest::Error) -> ClientError {
    let error = error.without_url();
    let of_http = causes(&error).find_map(|cause| cause.downcast_ref::<hyper::Error>());
    ClientError::Broken {
        not_http: of_http.is_some_and(hyper::Error::is_parse),
        source: of_http
            .map_or_else(|| display_chain(&error), |cause| display_chain(cause))
            .into(),
    }
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(error.source(), |&cause| cause.source())
}

async fn read<T: DeserializeOwned>(response: Response) -> Result<T, ClientError> {
    let status = response.status();
    let body = response.bytes().await.map_err(broken)?;
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
        sign_in_again: false,
    });
    Err(ClientError::Refused(Box::new(problem)))
}

/// Returns the name of the user at the keyboard, for the record. It is unverified: the token proves the right.
fn operator() -> String {
    ["SUDO_USER", "USER", "LOGNAME"]
        .iter()
        .find_map(|variable| std::env::var(variable).ok())
        .filter(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic()))
        .unwrap_or_else(|| "admin".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Filter;
    use crate::control::model::{LogQuery, SearchExtent};

    #[test]
    fn lines_are_whole_however_they_arrive() {
        for size in 1..20 {
            let (mut begun, mut lines) = (Vec::new(), Vec::new());
            let mut each = |line: Option<&[u8]>| {
                lines.extend(line.map(|line| String::from_utf8(line.to_vec()).unwrap()));
                lines.last().is_none_or(|line| line != "last")
            };
            let pieces = "one\n\ntwo, longer\r\nlast\nmore\n".as_bytes().chunks(size);
            let go_on: Vec<_> = pieces.map(|piece| whole_lines(&mut begun, piece, &mut each)).collect();
            assert!(go_on.contains(&false), "{size}");
            let before_last = lines.iter().take_while(|line| *line != "last");
            assert_eq!(before_last.collect::<Vec<_>>(), ["one", "", "two, longer"], "{size}");
        }
    }

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
        let client = ControlClient::with(
            ControlEndpoint::Tcp("gate:1".to_owned()),
            GateTrust::Machine,
            Secret::new("t".to_owned()),
        )
        .unwrap();
        let url = |query: &LogQuery| {
            let request = client.http.get(client.url("/v1/log")).query(query);
            request.build().unwrap().url().to_string()
        };
        assert_eq!(
            url(&query),
            "http://gate:1/v1/log?text=a%26b%3D%C3%BC+c&min_rows=7&follow=true"
        );
        assert_eq!(url(&LogQuery::default()), "http://gate:1/v1/log");
    }
}
