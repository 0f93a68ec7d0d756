//! Who calls: settled once, before any handler runs, from the token the call carries.
//!
//! It does not know what a handler does. Whoever holds the admin token is an operator and no person: they can neither ask for
//! access nor approve it.
//!
//! INVARIANT: a handler that runs has a [`Caller`]; a call whose token proves nobody is answered here. An answer that goes on for
//! long goes by a [`Standing`], and ends when that does.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::serve::IncomingStream;
use jiff::Timestamp;
use tokio::net::UnixListener;
use tokio::sync::watch;

use super::listen::Front;
use super::problem::ApiError;
use super::{Gate, OPERATOR_HEADER};
use crate::access::{Rules, Visitor};
use crate::identity::Source;
use crate::names::IdentityName;
use crate::policy::Action;
use crate::secret::Secret;

/// Who calls.
#[derive(Debug, Clone)]
pub(super) enum Caller {
    /// Whoever holds the admin token.
    Admin {
        /// The name they give for the record.
        operator: String,
    },
    /// A person or a workload that proved who it is.
    Person(Visitor),
}

/// A person's long answer ends after this: whoever goes on listening proves themselves again.
const LONGEST: Duration = Duration::from_hours(1);

/// What was settled when a call came, for as long as it holds: a long answer must not outlast what allowed it.
pub(super) struct Standing {
    gate: Arc<Gate>,
    caller: Caller,
    rules: watch::Receiver<Arc<Rules>>,
    until: Timestamp,
}

/// Where a call comes from, if it comes over a network.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Client(pub(super) Option<IpAddr>);

impl Connected<IncomingStream<'_, UnixListener>> for Client {
    fn connect_info(_: IncomingStream<'_, UnixListener>) -> Self {
        Self(None)
    }
}

impl Connected<IncomingStream<'_, Front>> for Client {
    fn connect_info(stream: IncomingStream<'_, Front>) -> Self {
        Self(Some(stream.remote_addr().ip()))
    }
}

/// Lets nobody past who did not prove themselves.
pub(super) async fn settle(
    State(gate): State<Arc<Gate>>,
    ConnectInfo(Client(client)): ConnectInfo<Client>,
    mut request: Request,
    next: Next,
) -> Response {
    match prove(&gate, request.headers(), client).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(error) => error.into_response(),
    }
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
    let person = gate.desk.identify(&Secret::new(token.to_owned()), client).await?;
    Ok(Caller::Person(person))
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
            Caller::Person(_) => same_rules && self.caller.is_as_before(&self.gate) && self.gate.clock.now() < self.until,
        }
    }

    /// Done when a person's time is over.
    pub(super) async fn over(&self) {
        match &self.caller {
            Caller::Admin { .. } => std::future::pending().await,
            Caller::Person(_) => self.gate.clock.sleep_until(self.until).await,
        }
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
            Self::Person(person) => person.name().as_str(),
        }
    }

    /// How it was proved.
    pub(super) fn source(&self) -> &str {
        match self {
            Self::Admin { .. } => "admin",
            Self::Person(person) => match &person.identity.source {
                Source::Local => "local",
                Source::Issuer(issuer) => issuer,
            },
        }
    }

    /// The person, where an operator will not do.
    pub(super) fn person(&self) -> Result<&Visitor, ApiError> {
        match self {
            Self::Admin { .. } => Err(ApiError::NoPerson),
            Self::Person(person) => Ok(person),
        }
    }

    /// Whether this is `name`, by its own token.
    pub(super) fn is(&self, name: &IdentityName) -> bool {
        matches!(self, Self::Person(person) if person.name() == name)
    }

    /// Whether the caller is who they were when the call came: let in, and in the same groups.
    pub(super) fn is_as_before(&self, gate: &Gate) -> bool {
        let Self::Person(Visitor { identity, .. }) = self else {
            return true;
        };
        let local = identity.source == Source::Local;
        match gate.ledger.user(&identity.name) {
            Some(user) => !user.disabled && user.local == local && (!local || user.groups == identity.groups),
            None => !local,
        }
    }

    /// Lets through an operator, and persons whom the policies let do this.
    pub(super) async fn may(&self, gate: &Gate, action: Action) -> Result<(), ApiError> {
        match self {
            Self::Admin { .. } => Ok(()),
            Self::Person(person) => Ok(gate.desk.may(person, action).await?),
        }
    }

    /// Whether what belongs to others may be seen too. It only shapes answers, so it does not go on record.
    pub(super) fn sees_all(&self, gate: &Gate) -> bool {
        match self {
            Self::Admin { .. } => true,
            Self::Person(person) => gate.desk.would(person, Action::Administer),
        }
    }
}
