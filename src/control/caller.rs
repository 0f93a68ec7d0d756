//! Caller of a handler, as the token of the call identifies it, and what it may do.
//!
//! It proves no token: [`mod@super::authenticate`] does. The admin token identifies an operator, not a person: an operator can
//! neither request access nor approve it.
//!
//! INVARIANT: an answer that goes on for long depends on a [`CallerStanding`], and ends with it.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use jiff::Timestamp;
use tokio::sync::watch;

use super::ControlContext;
use super::problem::ApiError;
use crate::access::policy::Action;
use crate::access::{AccessRules, Principal};
use crate::base::secret::Secret;
use crate::identity::IdentitySource;
use crate::model::names::IdentityName;

/// Identified caller.
#[derive(Debug, Clone)]
pub(super) enum Caller {
    /// Bearer of the admin token.
    Admin {
        /// Name that the operator gives for the record.
        operator: String,
    },
    /// Identified person or workload, with the token that proved the identity.
    Person(Principal, Arc<Secret<String>>),
}

/// Longest duration of an answer to a person; after it the client must authenticate again.
const MAX_ANSWER_AGE: Duration = Duration::from_hours(1);

/// Permission to go on with a long answer. It ends as soon as the reasons that allowed the answer no longer hold.
pub(super) struct CallerStanding {
    gate: Arc<ControlContext>,
    caller: Caller,
    rules: watch::Receiver<Arc<AccessRules>>,
    users: watch::Receiver<u64>,
    until: Timestamp,
}

impl CallerStanding {
    /// Subscribes to changes. Call it before checking the caller's rights, so that no change in between is missed.
    pub(super) fn of(caller: &Caller, gate: &Arc<ControlContext>) -> Self {
        let mut rules = gate.rules.clone();
        rules.mark_unchanged();
        Self {
            users: gate.ledger.users_changed(),
            gate: Arc::clone(gate),
            caller: caller.clone(),
            rules,
            until: gate.clock.now().checked_add(MAX_ANSWER_AGE).unwrap_or(Timestamp::MAX),
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
                IdentitySource::Local => "local",
                IdentitySource::Issuer(issuer) => issuer,
            },
        }
    }

    /// Returns the person, or an error for an operator.
    pub(super) fn person(&self) -> Result<&Principal, ApiError> {
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
    pub(super) fn is_as_before(&self, gate: &ControlContext) -> bool {
        let Self::Person(Principal { identity, .. }, token) = self else {
            return true;
        };
        match identity.source {
            IdentitySource::Local => gate.ledger.user_by_token(token).as_ref() == Some(identity),
            IdentitySource::Issuer(_) => gate
                .ledger
                .user(&identity.name)
                .is_none_or(|user| !user.disabled && !user.local),
        }
    }

    /// Returns an error unless the caller is an operator, or a person that the policies permit this action.
    pub(super) async fn may(&self, gate: &ControlContext, action: Action) -> Result<(), ApiError> {
        match self {
            Self::Admin { .. } => Ok(()),
            Self::Person(person, _) => Ok(gate.service.may(person, action).await?),
        }
    }

    /// Does the same for actions that take rights away: permission is recorded, but nothing waits for the record.
    pub(super) async fn may_take_away(&self, gate: &ControlContext, action: Action) -> Result<(), ApiError> {
        match self {
            Self::Admin { .. } => Ok(()),
            Self::Person(person, _) => Ok(gate.service.may_take_away(person, action).await?),
        }
    }

    /// Returns true if the caller may see other people's objects too. It only shapes answers, so it is not recorded.
    pub(super) fn sees_all(&self, gate: &ControlContext) -> bool {
        match self {
            Self::Admin { .. } => true,
            Self::Person(person, _) => gate.service.would(person, Action::Administer),
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
            source: IdentitySource::Local,
            claims: std::collections::BTreeMap::new(),
        };
        Caller::Person(Principal { identity, client: None }, Arc::new(Secret::new("tg_x".to_owned())))
    }
}
