//! Authentication of a call, once and before any handler runs, by the token that it carries.
//!
//! It is independent of the handlers. A failure counts like a failed login of the wire.
//!
//! INVARIANT: every handler that runs has a [`Call`]; a call without a valid token is answered here.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Extension;
use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::long_poll::LongPollLimiter;
use super::problem::ApiError;
use super::{ControlContext, OPERATOR_HEADER};
use crate::access::identity_limiter::IdentityPermit;
use crate::access::quota::RECORD_BYTES;
use crate::access::strangers::Proof;
use crate::access::{AccessError, Caller};
use crate::base::secret::Secret;
use crate::model::ending::HeldBack;

/// Number of bytes that the records of one call count for: a decision, and its effect.
const CALL_RECORD_BYTES: usize = 2 * RECORD_BYTES;
/// Longest time that the answer to a person who fills the log too fast is held back.
const MAX_QUOTA_DELAY: Duration = Duration::from_secs(10);

/// Call of a handler: the caller, and the gate that it acts on.
pub(super) struct Call {
    pub(super) gate: Arc<ControlContext>,
    pub(super) caller: Caller,
}

impl FromRequestParts<Arc<ControlContext>> for Call {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, gate: &Arc<ControlContext>) -> Result<Self, ApiError> {
        Ok(Self {
            caller: parts.extensions.get().cloned().ok_or(ApiError::Unauthorized)?,
            gate: Arc::clone(gate),
        })
    }
}

/// Origin of a call; by default this machine's own socket.
#[derive(Clone, Default)]
pub(super) struct CallOrigin {
    /// Address of the caller, if the call comes over a network.
    pub(super) address: Option<IpAddr>,
    connection: Option<Arc<TcpConnection>>,
}

/// Connection over TCP: unauthenticated, until one of its calls has proved an identity.
struct TcpConnection {
    proof: Proof,
    place: OnceLock<IdentityPermit>,
}

impl CallOrigin {
    pub(super) fn over_tcp(address: IpAddr, proof: Proof) -> Self {
        Self {
            address: Some(address),
            connection: Some(Arc::new(TcpConnection {
                proof,
                place: OnceLock::new(),
            })),
        }
    }

    /// Counts the connection as this caller's from now on, unless the caller has too many, so that no newer connection
    /// displaces it.
    fn proved(&self, caller: &Caller, hold: &LongPollLimiter) {
        let Some(connection) = &self.connection else { return };
        if connection.place.get().is_none()
            && let Ok(place) = hold.connections.enter(caller)
            && connection.place.set(place).is_ok()
        {
            connection.proof.leave();
        }
    }

    /// Counts a failed authentication together with the failed logins of the wire, waits for as long as the answer is to be
    /// held back, and returns the reason of the delay.
    async fn failed(&self) -> Option<HeldBack> {
        let delay = self.connection.as_ref()?.proof.failed(None);
        tokio::time::sleep(delay.time).await;
        delay.held
    }
}

/// Identifies the caller and runs the handler, or answers with an error.
pub(super) async fn settle(
    State(gate): State<Arc<ControlContext>>,
    Extension(hold): Extension<LongPollLimiter>,
    ConnectInfo(client): ConnectInfo<CallOrigin>,
    mut request: Request,
    next: Next,
) -> Response {
    match prove(&gate, request.headers(), client.address).await {
        Ok(caller) => {
            client.proved(&caller, &hold);
            let wait = wait_of(&caller, &gate);
            request.extensions_mut().insert(caller);
            let answer = next.run(request).await;
            // The action is done; only its answer waits.
            tokio::time::sleep(wait).await;
            answer
        }
        Err(error) => {
            let error = match (client.failed().await, error) {
                (Some(delay), ApiError::Unauthorized | ApiError::Access(AccessError::NotIdentified)) => ApiError::HeldBack(delay),
                (_, error) => error,
            };
            error.into_response()
        }
    }
}

/// Counts the records of a person's call against that person's share of the log. Returns the time to hold the answer back.
fn wait_of(caller: &Caller, gate: &ControlContext) -> Duration {
    let Caller::Person(person, _) = caller else {
        return Duration::ZERO;
    };
    let now = gate.clock.moment().instant;
    let until = gate.quotas.of(person.name(), now).log(CALL_RECORD_BYTES, now);
    until.map_or(Duration::ZERO, |until| {
        until.saturating_duration_since(now).min(MAX_QUOTA_DELAY)
    })
}

async fn prove(gate: &ControlContext, headers: &HeaderMap, client: Option<IpAddr>) -> Result<Caller, ApiError> {
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if gate.token.proved_by(authorization) {
        return Ok(Caller::Admin {
            operator: operator(headers),
        });
    }
    let (scheme, token) = authorization
        .and_then(|text| text.split_once(' '))
        .ok_or(ApiError::Unauthorized)?;
    let token = token.trim();
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
        return Err(ApiError::Unauthorized);
    }
    let token = Secret::new(token.to_owned());
    let person = gate.service.identify(&token, client).await?;
    Ok(Caller::Person(person, Arc::new(token)))
}

/// Returns the name for the record, as the caller claims it: a short printable word, or `admin`.
fn operator(headers: &HeaderMap) -> String {
    headers
        .get(OPERATOR_HEADER)
        .and_then(|name| name.to_str().ok())
        .filter(|name| !name.is_empty() && name.len() <= 63 && name.bytes().all(|byte| byte.is_ascii_graphic()))
        .unwrap_or("admin")
        .to_owned()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::access::Principal;
    use crate::identity::Identity;

    /// A local user of no group.
    pub(in crate::control) fn person(name: &str) -> Caller {
        let identity = Identity::local(name.parse().unwrap(), std::collections::BTreeSet::new());
        Caller::Person(Principal { identity, client: None }, Arc::new(Secret::new("tg_x".to_owned())))
    }
}
