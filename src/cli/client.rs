//! Client of the running gate's control API.
//!
//! It does not interpret the answers. `endpoint` selects the gate and the token, `connect` connects; errors: `client_error`.

use std::collections::BTreeMap;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::address::ControlEndpoint;
use super::args::GatePlace;
use super::client_error::{ANSWER_TIMEOUT, ClientError, TokenWords};
use super::connect;
use super::endpoint::{self, UsualCaller};
use crate::base::secret::Secret;
use crate::base::tls::GateTrust;
use crate::control::model::Problem;

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
