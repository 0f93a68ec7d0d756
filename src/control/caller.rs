//! Identification of the caller, once per call and before any handler runs, from the token that the call carries.
//!
//! It is independent of the handlers. The admin token identifies an operator, not a person: an operator can neither request
//! access nor approve it.
//!
//! INVARIANT: every handler that runs has a [`Caller`]; a call without a valid token is answered here. An answer that goes on
//! for long depends on a [`Standing`], and ends with it.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Extension;
use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use tokio::sync::watch;

use super::hold::{Hold, Place};
use super::problem::ApiError;
use super::{Gate, OPERATOR_HEADER};
use crate::access::{AccessError, Rules, Visitor};
use crate::ending::HeldBack;
use crate::identity::Source;
use crate::names::IdentityName;
use crate::policy::Action;
use crate::quota::RECORD_BYTES;
use crate::secret::Secret;
use crate::strangers::Proof;

/// Identified caller.
#[derive(Debug, Clone)]
pub(super) enum Caller {
    /// Bearer of the admin token.
    Admin {
        /// Name that the operator gives for the record.
        operator: String,
    },
    /// Identified person or workload, with the token that proved the identity.
    Person(Visitor, Arc<Secret<String>>),
}

/// Longest duration of an answer to a person; after it the client must authenticate again.
const LONGEST: Duration = Duration::from_hours(1);
/// Number of bytes that the records of one call count for: a decision, and its effect.
const CALL_BYTES: usize = 2 * RECORD_BYTES;
/// Longest time that the answer to a person who fills the log too fast is held back.
const MAX_HOLD: Duration = Duration::from_secs(10);

/// Permission to go on with a long answer. It ends as soon as the reasons that allowed the answer no longer hold.
pub(super) struct Standing {
    gate: Arc<Gate>,
    caller: Caller,
    rules: watch::Receiver<Arc<Rules>>,
    users: watch::Receiver<u64>,
    until: Timestamp,
}

/// Origin of a call; by default this machine's own socket.
#[derive(Clone, Default)]
pub(super) struct Client {
    /// Address of the caller, if the call comes over a network.
    pub(super) address: Option<IpAddr>,
    connection: Option<Arc<Connection>>,
}

/// Connection over TCP: unauthenticated, until one of its calls has proved an identity.
struct Connection {
    proof: Proof,
    place: OnceLock<Place>,
}

impl Client {
    pub(super) fn over_tcp(address: IpAddr, proof: Proof) -> Self {
        Self {
            address: Some(address),
            connection: Some(Arc::new(Connection {
                proof,
                place: OnceLock::new(),
            })),
        }
    }

    /// Counts the connection as this caller's from now on, unless the caller has too many, so that no newer connection
    /// displaces it.
    fn proved(&self, caller: &Caller, hold: &Hold) {
        let Some(connection) = &self.connection else { return };
        if connection.place.get().is_none()
            && let Ok(place) = hold.connect(caller)
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
    State(gate): State<Arc<Gate>>,
    Extension(hold): Extension<Hold>,
    ConnectInfo(client): ConnectInfo<Client>,
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
fn wait_of(caller: &Caller, gate: &Gate) -> Duration {
    let Caller::Person(person, _) = caller else {
        return Duration::ZERO;
    };
    let now = gate.clock.moment().instant;
    let until = gate.quotas.of(person.name(), now).log(CALL_BYTES, now);
    until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now).min(MAX_HOLD))
}

async fn prove(gate: &Gate, headers: &HeaderMap, client: Option<IpAddr>) -> Result<Caller, ApiError> {
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
    let person = gate.desk.identify(&token, client).await?;
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

impl Standing {
    /// Subscribes to changes. Call it before checking the caller's rights, so that no change in between is missed.
    pub(super) fn of(caller: &Caller, gate: &Arc<Gate>) -> Self {
        let mut rules = gate.rules.clone();
        rules.mark_unchanged();
        Self {
            users: gate.ledger.users_changed(),
            gate: Arc::clone(gate),
            caller: caller.clone(),
            rules,
            until: gate.clock.now().checked_add(LONGEST).unwrap_or(Timestamp::MAX),
        }
    }

    /// Returns true while the rules and the person are unchanged; always true for the admin token.
    pub(super) fn holds(&self) -> bool {
        let same_rules = !self.rules.has_changed().unwrap_or(false);
        match &self.caller {
            Caller::Admin { .. } => true,
            Caller::Person(..) => same_rules && self.caller.is_as_before(&self.gate) && self.gate.clock.now() < self.until,
        }
    }

    /// Completes as soon as it no longer holds.
    pub(super) async fn over(&self) {
        if let Caller::Admin { .. } = self.caller {
            std::future::pending::<()>().await;
        }
        let (mut rules, mut users) = (self.rules.clone(), self.users.clone());
        while self.holds() {
            tokio::select! {
                () = change(&mut rules) => {}
                () = change(&mut users) => {}
                () = self.gate.clock.sleep_until(self.until) => {}
            }
        }
    }
}

/// Completes at the next change; never, if no further change is possible.
async fn change<T>(watched: &mut watch::Receiver<T>) {
    if watched.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts.extensions.get().cloned().ok_or(ApiError::Unauthorized)
    }
}

impl Caller {
    /// Returns the name for the record.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Admin { operator } => operator,
            Self::Person(person, _) => person.name().as_str(),
        }
    }

    /// Returns the source of the identity: `admin`, `local`, or the issuer.
    pub(super) fn source(&self) -> &str {
        match self {
            Self::Admin { .. } => "admin",
            Self::Person(person, _) => match &person.identity.source {
                Source::Local => "local",
                Source::Issuer(issuer) => issuer,
            },
        }
    }

    /// Returns the person, or an error for an operator.
    pub(super) fn person(&self) -> Result<&Visitor, ApiError> {
        match self {
            Self::Admin { .. } => Err(ApiError::NoPerson),
            Self::Person(person, _) => Ok(person),
        }
    }

    /// Returns true if this is the person `name`, identified by their own token.
    pub(super) fn is(&self, name: &IdentityName) -> bool {
        matches!(self, Self::Person(person, _) if person.name() == name)
    }

    /// Returns true if the caller is unchanged since the call arrived: enabled, with the same token, and in the same groups.
    pub(super) fn is_as_before(&self, gate: &Gate) -> bool {
        let Self::Person(Visitor { identity, .. }, token) = self else {
            return true;
        };
        match identity.source {
            Source::Local => gate.ledger.user_by_token(token).as_ref() == Some(identity),
            Source::Issuer(_) => gate
                .ledger
                .user(&identity.name)
                .is_none_or(|user| !user.disabled && !user.local),
        }
    }

    /// Returns an error unless the caller is an operator, or a person that the policies permit this action.
    pub(super) async fn may(&self, gate: &Gate, action: Action) -> Result<(), ApiError> {
        match self {
            Self::Admin { .. } => Ok(()),
            Self::Person(person, _) => Ok(gate.desk.may(person, action).await?),
        }
    }

    /// Does the same for actions that take rights away: permission is recorded, but nothing waits for the record.
    pub(super) async fn may_take_away(&self, gate: &Gate, action: Action) -> Result<(), ApiError> {
        match self {
            Self::Admin { .. } => Ok(()),
            Self::Person(person, _) => Ok(gate.desk.may_take_away(person, action).await?),
        }
    }

    /// Returns true if the caller may see other people's objects too. It only shapes answers, so it is not recorded.
    pub(super) fn sees_all(&self, gate: &Gate) -> bool {
        match self {
            Self::Admin { .. } => true,
            Self::Person(person, _) => gate.desk.would(person, Action::Administer),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A local user of no group.
    pub(in crate::control) fn person(name: &str) -> Caller {
        let identity = crate::identity::Identity {
            name: name.parse().unwrap(),
            groups: std::collections::BTreeSet::new(),
            source: Source::Local,
            claims: std::collections::BTreeMap::new(),
        };
        Caller::Person(Visitor { identity, client: None }, Arc::new(Secret::new("tg_x".to_owned())))
    }
}
