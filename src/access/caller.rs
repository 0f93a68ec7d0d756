//! Caller of an operation: an operator with the admin token, or an identity with a token of its own.
//!
//! It proves no token. The admin token identifies an operator, not a person: an operator may administer and see everything, but
//! can neither request access nor approve it.
//!
//! INVARIANT: an answer that goes on for long depends on a [`CallerStanding`], and ends with it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use super::identify::is_sign_in;
use super::{AccessError, AccessRules, AccessService, Principal};
use crate::base::secret::Secret;
use crate::identity::IdentitySource;
use crate::model::names::IdentityName;

/// Identified caller.
#[derive(Debug, Clone)]
pub enum Caller {
    /// Bearer of the admin token.
    Admin {
        /// Name that the operator gives for the record.
        operator: String,
    },
    /// Identified person or workload, with the token, or the secret of a sign-in, that proved the identity.
    Person(Principal, Arc<Secret<String>>),
}

impl Caller {
    /// Returns the name for the record.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Admin { operator } => operator,
            Self::Person(person, _) => person.name().as_str(),
        }
    }

    /// Returns the source of the identity: `admin`, `local`, or the issuer.
    #[must_use]
    pub fn source(&self) -> &str {
        match self {
            Self::Admin { .. } => "admin",
            Self::Person(person, _) => match &person.identity.source {
                IdentitySource::Local => "local",
                IdentitySource::Issuer(issuer) => issuer,
            },
        }
    }

    /// Returns the person, or an error for an operator.
    pub fn person(&self) -> Result<&Principal, AccessError> {
        match self {
            Self::Admin { .. } => Err(AccessError::NoPerson),
            Self::Person(person, _) => Ok(person),
        }
    }

    /// Returns true if this is the person `name`, identified by their own token.
    #[must_use]
    pub fn is(&self, name: &IdentityName) -> bool {
        matches!(self, Self::Person(person, _) if person.name() == name)
    }
}

/// Longest duration of an answer to a person; after it the client must authenticate again.
const MAX_ANSWER_AGE: Duration = Duration::from_hours(1);

/// Permission to go on with a long answer. It ends as soon as the reasons that allowed the answer no longer hold.
pub struct CallerStanding {
    service: AccessService,
    caller: Caller,
    rules: watch::Receiver<Arc<AccessRules>>,
    users: watch::Receiver<u64>,
    until: Timestamp,
}

impl AccessService {
    /// Subscribes to changes of what allows a caller's answer. Call it before checking the caller's rights, so that no change in
    /// between is missed.
    #[must_use]
    pub fn standing(&self, caller: &Caller) -> CallerStanding {
        let mut rules = self.0.rules.clone();
        rules.mark_unchanged();
        CallerStanding {
            service: self.clone(),
            caller: caller.clone(),
            rules,
            users: self.0.ledger.users_changed(),
            until: self.answered_until(caller),
        }
    }

    /// Returns the latest end of an answer to this caller: that of its proof, and for a sign-in also the time at which it ends if it
    /// is not used again. An issuer's token was good when the answer began.
    fn answered_until(&self, caller: &Caller) -> Timestamp {
        let now = self.0.clock.now();
        let latest = now.checked_add(MAX_ANSWER_AGE).unwrap_or(Timestamp::MAX);
        let Caller::Person(who, _) = caller else {
            return latest;
        };
        let proof = who.proof_until.unwrap_or(latest);
        match (&who.sign_in, &who.identity.source) {
            (Some(_), _) => {
                let idle = now.checked_add(self.rules().sign_ins.idle).unwrap_or(Timestamp::MAX);
                latest.min(idle).min(proof)
            }
            (None, IdentitySource::Local) => latest.min(proof),
            (None, IdentitySource::Issuer(_)) => latest,
        }
    }

    /// Returns true if the caller is unchanged since it was identified: enabled, with the same token, and in the same groups.
    #[must_use]
    pub fn is_as_before(&self, caller: &Caller) -> bool {
        let Caller::Person(Principal { identity, client, .. }, token) = caller else {
            return true;
        };
        let ledger = &self.0.ledger;
        if is_sign_in(token) {
            let rules = self.rules();
            let signed_in = ledger.signed_in(token, *client, &rules.sign_ins);
            return signed_in.is_ok_and(|signed_in| signed_in.identity == *identity && rules.vouches_for(identity));
        }
        match identity.source {
            IdentitySource::Local => ledger.user_by_token(token).as_ref() == Some(identity),
            IdentitySource::Issuer(_) => ledger.user(&identity.name).is_none_or(|user| !user.disabled && !user.local),
        }
    }
}

impl CallerStanding {
    /// Returns true while the rules and the person are unchanged; always true for the admin token.
    #[must_use]
    pub fn holds(&self) -> bool {
        let same_rules = !self.rules.has_changed().unwrap_or(false);
        match &self.caller {
            Caller::Admin { .. } => true,
            Caller::Person(..) => {
                same_rules && self.service.is_as_before(&self.caller) && self.service.0.clock.now() < self.until
            }
        }
    }

    /// Completes as soon as it no longer holds.
    pub async fn over(&self) {
        if let Caller::Admin { .. } = self.caller {
            std::future::pending::<()>().await;
        }
        let (mut rules, mut users) = (self.rules.clone(), self.users.clone());
        while self.holds() {
            tokio::select! {
                () = change(&mut rules) => {}
                () = change(&mut users) => {}
                () = self.service.0.clock.sleep_until(self.until) => {}
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
