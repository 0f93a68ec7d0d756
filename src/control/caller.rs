//! Who calls: settled once, before any handler runs, from the token the call carries.
//!
//! It does not know what a handler does. Whoever holds the admin token is an operator and no person: they can neither ask for
//! access nor approve it.
//!
//! INVARIANT: a handler that runs has a [`Caller`]; a call whose token proves nobody is answered here. An answer that goes on for
//! long goes by a [`Standing`], and ends when that does.

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

/// Who calls.
#[derive(Debug, Clone)]
pub(super) enum Caller {
    /// Whoever holds the admin token.
    Admin {
        /// The name they give for the record.
        operator: String,
    },
    /// A person or a workload that proved who it is, and the token that proved it.
    Person(Visitor, Arc<Secret<String>>),
}

/// A person's long answer ends after this: whoever goes on listening proves themselves again.
const LONGEST: Duration = Duration::from_hours(1);
/// The records of one call count for so much: a decision, and what was done.
const CALL_BYTES: usize = 2 * RECORD_BYTES;
/// The longest that the answer to a person is held back who fills the log too fast.
const MAX_HOLD: Duration = Duration::from_secs(10);

/// What was settled when a call came, for as long as it holds: a long answer must not outlast what allowed it.
pub(super) struct Standing {
    gate: Arc<Gate>,
    caller: Caller,
    rules: watch::Receiver<Arc<Rules>>,
    users: watch::Receiver<u64>,
    until: Timestamp,
}

/// Where a call comes from; by default this machine's own socket.
#[derive(Clone, Default)]
pub(super) struct Client {
    /// The address, if it comes over a network.
    pub(super) address: Option<IpAddr>,
    connection: Option<Arc<Connection>>,
}

/// A connection over TCP: a stranger's, until one of its calls has proved whose it is.
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

    /// The connection is this caller's from now on, and no newer one takes its place, as long as they do not have too many.
    fn proved(&self, caller: &Caller, hold: &Hold) {
        let Some(connection) = &self.connection else { return };
        if connection.place.get().is_none()
            && let Ok(place) = hold.connect(caller)
            && connection.place.set(place).is_ok()
        {
            connection.proof.leave();
        }
    }

    /// Counts what proved nothing, with the failed logins of the wire, and waits as long as the answer is to be held back; then it
    /// returns why.
    async fn failed(&self) -> Option<HeldBack> {
        let delay = self.connection.as_ref()?.proof.failed(None);
        tokio::time::sleep(delay.time).await;
        delay.held
    }
}

/// Lets nobody past who did not prove themselves.
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
            // What was asked for is done: only its answer waits.
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

/// Counts the records of a person's call for their share of the log. Returns how long its answer is to be held back.
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

/// The name for the record. It is what the caller says it is: a short printable word, or `admin`.
fn operator(headers: &HeaderMap) -> String {
    headers
        .get(OPERATOR_HEADER)
        .and_then(|name| name.to_str().ok())
        .filter(|name| !name.is_empty() && name.len() <= 63 && name.bytes().all(|byte| byte.is_ascii_graphic()))
        .unwrap_or("admin")
        .to_owned()
}

impl Standing {
    /// To be taken before the caller is asked about, so that no change in between is missed.
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

    /// Whether it holds still: the rules are the same, and the person is as they were. The admin token's does always.
    pub(super) fn holds(&self) -> bool {
        let same_rules = !self.rules.has_changed().unwrap_or(false);
        match &self.caller {
            Caller::Admin { .. } => true,
            Caller::Person(..) => same_rules && self.caller.is_as_before(&self.gate) && self.gate.clock.now() < self.until,
        }
    }

    /// Done when it does not hold any more, at once.
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

/// Done at the next change; never when there can be none any more.
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
    /// The name for the record.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Admin { operator } => operator,
            Self::Person(person, _) => person.name().as_str(),
        }
    }

    /// How it was proved.
    pub(super) fn source(&self) -> &str {
        match self {
            Self::Admin { .. } => "admin",
            Self::Person(person, _) => match &person.identity.source {
                Source::Local => "local",
                Source::Issuer(issuer) => issuer,
            },
        }
    }

    /// The person, where an operator will not do.
    pub(super) fn person(&self) -> Result<&Visitor, ApiError> {
        match self {
            Self::Admin { .. } => Err(ApiError::NoPerson),
            Self::Person(person, _) => Ok(person),
        }
    }

    /// Whether this is `name`, by its own token.
    pub(super) fn is(&self, name: &IdentityName) -> bool {
        matches!(self, Self::Person(person, _) if person.name() == name)
    }

    /// Whether the caller is who they were when the call came: let in, by the same token, and in the same groups.
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

    /// Lets through an operator, and persons whom the policies let do this.
    pub(super) async fn may(&self, gate: &Gate, action: Action) -> Result<(), ApiError> {
        match self {
            Self::Admin { .. } => Ok(()),
            Self::Person(person, _) => Ok(gate.desk.may(person, action).await?),
        }
    }

    /// The same for what takes rights away: a yes is put on record, and nothing waits for that.
    pub(super) async fn may_take_away(&self, gate: &Gate, action: Action) -> Result<(), ApiError> {
        match self {
            Self::Admin { .. } => Ok(()),
            Self::Person(person, _) => Ok(gate.desk.may_take_away(person, action).await?),
        }
    }

    /// Whether what belongs to others may be seen too. It only shapes answers, so it does not go on record.
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
