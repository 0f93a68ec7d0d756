//! Authentication of a call, once and before any handler runs, by the token that it carries, or by the cookie of a sign-in.
//!
//! It is independent of the handlers. A failure counts like a failed login of the wire.
//!
//! INVARIANT: every handler that runs has a [`Call`]; a call without a valid token is answered here. What a caller reads, and what
//! is refused, is answered only if the caller is as before when the answer is made.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, FromRequest as _, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::time::timeout;

use super::long_poll::LongPollLimiter;
use super::problem::ApiError;
use super::renewal::Renewal;
use super::same_origin::{self, changes};
use super::{ControlContext, OPERATOR_HEADER, sign_in_cookie};
use crate::access::identity_limiter::IdentityPermit;
use crate::access::quota::RECORD_BYTES;
use crate::access::strangers::Proof;
use crate::access::{AccessError, Caller};
use crate::base::secret::Secret;
use crate::ledger::{SIGN_IN_PREFIX, SignInView};
use crate::model::ending::HeldBack;
use crate::model::sign_in::SignInVia;

/// Number of bytes that the records of one call count for: a decision, and its effect.
const CALL_RECORD_BYTES: usize = 2 * RECORD_BYTES;
/// Time limit for the body of a call, which is a few fields.
const MAX_BODY_TIME: Duration = Duration::from_secs(15);
/// Longest time that the answer to a person who fills the log too fast is held back.
const MAX_QUOTA_DELAY: Duration = Duration::from_secs(10);

/// Call of a handler: the caller, and the gate that it acts on.
pub struct Call {
    /// Parts of the gate that it acts on.
    pub gate: Arc<ControlContext>,
    /// Caller, proved.
    pub caller: Caller,
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
pub struct CallOrigin {
    /// Address of the caller, if the call comes over a network.
    pub address: Option<IpAddr>,
    tls: bool,
    connection: Option<Arc<TcpConnection>>,
}

/// Connection over TCP: unauthenticated, until one of its calls has proved an identity.
struct TcpConnection {
    proof: Proof,
    place: OnceLock<IdentityPermit>,
}

impl CallOrigin {
    pub(super) fn over_tcp(address: IpAddr, proof: Proof, tls: bool) -> Self {
        Self {
            address: Some(address),
            tls,
            connection: Some(Arc::new(TcpConnection {
                proof,
                place: OnceLock::new(),
            })),
        }
    }

    /// Returns true if the browser that sent a request is known to reach the gate over TLS: its own, or that of a proxy in front of
    /// it, at an https address of the console or from a page of this host. Its cookies are then those of
    /// [`super::sign_in_cookie`] for TLS.
    #[must_use]
    pub fn is_tls_to_browser(&self, gate: &ControlContext, headers: &HeaderMap) -> bool {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let rules = gate.service.rules();
        let own = [rules.console_address.as_deref(), text(header::ORIGIN)];
        let mut on_tls = own
            .into_iter()
            .flatten()
            .filter_map(|address| address.strip_prefix("https://"));
        self.tls || text(header::HOST).is_some_and(|host| on_tls.any(|own| own.eq_ignore_ascii_case(host)))
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

/// Identifies the caller, unless a layer in front has done so ([`visitor`]), and runs the handler, or answers with an error.
pub async fn settle(
    State(gate): State<Arc<ControlContext>>,
    Extension(hold): Extension<LongPollLimiter>,
    ConnectInfo(client): ConnectInfo<CallOrigin>,
    mut request: Request,
    next: Next,
) -> Response {
    let proved = match request.extensions().get::<Caller>() {
        Some(caller) => Ok(caller.clone()),
        None => {
            let renewal = Renewal::of(request.method(), request.uri(), request.headers());
            prove(&gate, (request.method(), request.headers()), renewal, &client).await
        }
    };
    match proved {
        Ok(caller) => {
            client.proved(&caller, &hold);
            if changes(request.method()) {
                request = match whole(request).await {
                    Ok((parts, body)) => Request::from_parts(parts, body.into()),
                    Err(refused) => return refused,
                };
                // The body may have come long after the head that proved the caller.
                if !gate.service.is_as_before(&caller) {
                    return ApiError::Access(AccessError::NotIdentified).into_response();
                }
            }
            let (wait, reads) = (wait_of(&caller, &gate), !changes(request.method()));
            request.extensions_mut().insert(caller.clone());
            let answer = next.run(request).await;
            // The action is done; only its answer waits.
            tokio::time::sleep(wait).await;
            // Of a change the caller is told also if it took their own rights: sign out. What is refused shows them what there is.
            let changed = !reads && (answer.status().is_success() || answer.status().is_redirection());
            if !changed && !gate.service.is_as_before(&caller) {
                return ApiError::Access(AccessError::NotIdentified).into_response();
            }
            answer
        }
        // The secret of a sign-in cannot be guessed, and the page of one that has ended asks again and again.
        Err(error) if is_by_cookie(&gate, request.headers(), &client) => error.into_response(),
        Err(error) => held_back(&client, error).await.into_response(),
    }
}

/// Returns the request with all of its body, or the answer to one whose body is too long or too slow.
pub(super) async fn whole(request: Request) -> Result<(Parts, Bytes), Response> {
    let (parts, body) = request.into_parts();
    let reading = Bytes::from_request(Request::from_parts(parts.clone(), body), &());
    let slow = || ApiError::Malformed(format!("the body did not come within {} s", MAX_BODY_TIME.as_secs()));
    let read = timeout(MAX_BODY_TIME, reading).await;
    let body = read
        .map_err(|_| slow().into_response())?
        .map_err(|error| ApiError::Malformed(error.body_text()).into_response())?;
    Ok((parts, body))
}

fn is_by_cookie(gate: &ControlContext, headers: &HeaderMap, client: &CallOrigin) -> bool {
    !headers.contains_key(header::AUTHORIZATION) && cookie(gate, headers, client).is_some()
}

fn cookie(gate: &ControlContext, headers: &HeaderMap, client: &CallOrigin) -> Option<Secret<String>> {
    sign_in_cookie::read(headers, client.is_tls_to_browser(gate, headers))
}

/// Counts a failed authentication, waits for as long as its answer is to be held back, and returns the error to answer.
pub(super) async fn held_back(client: &CallOrigin, error: ApiError) -> ApiError {
    match (client.failed().await, error) {
        (Some(delay), ApiError::Unauthorized | ApiError::Access(AccessError::NotIdentified)) => ApiError::HeldBack(delay),
        (_, error) => error,
    }
}

/// Identifies the reader of a page by the cookie of a sign-in; `None` without one that is good. A request that would change
/// something and does not come from a page of the gate is an error.
pub async fn visitor(gate: &ControlContext, request: &Parts) -> Result<Option<Caller>, ApiError> {
    let client = origin(request);
    let Some(secret) = cookie(gate, &request.headers, &client) else {
        return Ok(None);
    };
    let renewal = Renewal::of(&request.method, &request.uri, &request.headers);
    match by_cookie(gate, (&request.method, &request.headers), renewal, &client, secret).await {
        Ok(caller) => {
            if let Some(hold) = request.extensions.get::<LongPollLimiter>() {
                client.proved(&caller, hold);
            }
            Ok(Some(caller))
        }
        // Most often it has ended; a page then says how to sign in again.
        Err(ApiError::Access(AccessError::NotIdentified)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Signs the bearer of a token in at the console. A failure counts like a failed login of the wire, and its answer is held back.
/// The form that sends the token has to come from a page of the gate, so that no other site signs its reader in as somebody
/// else.
pub async fn sign_in_with_token(
    gate: &ControlContext,
    request: &Parts,
    token: Secret<String>,
) -> Result<(SignInView, Secret<String>), ApiError> {
    let client = origin(request);
    if !may_act(gate, &request.method, &request.headers, &client) {
        return Err(ApiError::CrossSite);
    }
    let caller = match gate.service.identify(&token, client.address).await {
        Ok(person) => Caller::Person(person, Arc::new(token)),
        Err(error) => return Err(held_back(&client, error.into()).await),
    };
    if let Some(hold) = request.extensions.get::<LongPollLimiter>() {
        client.proved(&caller, hold);
    }
    let wait = wait_of(&caller, gate);
    let made = gate.service.sign_in(&caller, SignInVia::Console).await?;
    tokio::time::sleep(wait).await;
    Ok(made)
}

/// Returns true if the request may act by a cookie.
fn may_act(gate: &ControlContext, method: &Method, headers: &HeaderMap, client: &CallOrigin) -> bool {
    same_origin::may_act(method, headers, client.is_tls_to_browser(gate, headers))
}

fn origin(request: &Parts) -> CallOrigin {
    let origin = request.extensions.get::<ConnectInfo<CallOrigin>>();
    origin.map(|ConnectInfo(origin)| origin.clone()).unwrap_or_default()
}

async fn by_cookie(
    gate: &ControlContext,
    (method, headers): (&Method, &HeaderMap),
    renewal: Renewal,
    client: &CallOrigin,
    secret: Secret<String>,
) -> Result<Caller, ApiError> {
    if !may_act(gate, method, headers, client) {
        return Err(ApiError::CrossSite);
    }
    // A cookie stands for a sign-in and nothing else: no token gets into a browser's store.
    if !secret.expose().starts_with(SIGN_IN_PREFIX) {
        return Err(AccessError::NotIdentified.into());
    }
    let person = match renewal {
        Renewal(true) => gate.service.identify_renewal(&secret, client.address).await?,
        Renewal(false) => gate.service.identify(&secret, client.address).await?,
    };
    Ok(Caller::Person(person, Arc::new(secret)))
}

/// Counts the records of a person's call against that person's share of the log. Returns the time to hold the answer back.
pub(super) fn wait_of(caller: &Caller, gate: &ControlContext) -> Duration {
    let Caller::Person(person, _) = caller else {
        return Duration::ZERO;
    };
    let now = gate.clock.moment().instant;
    let until = gate.quotas.of(person.name(), now).log(CALL_RECORD_BYTES, now);
    until.map_or(Duration::ZERO, |until| {
        until.saturating_duration_since(now).min(MAX_QUOTA_DELAY)
    })
}

async fn prove(
    gate: &ControlContext,
    (method, headers): (&Method, &HeaderMap),
    renewal: Renewal,
    client: &CallOrigin,
) -> Result<Caller, ApiError> {
    if !headers.contains_key(header::AUTHORIZATION) {
        let secret = cookie(gate, headers, client).ok_or(ApiError::Unauthorized)?;
        return by_cookie(gate, (method, headers), renewal, client, secret).await;
    }
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
    let person = gate.service.identify(&token, client.address).await?;
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
        let token = Arc::new(Secret::new("tg_x".to_owned()));
        Caller::Person(Principal::of_token(identity, None), token)
    }
}
