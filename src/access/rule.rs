//! Questions to the policies, and the record of answers that no other event records.
//!
//! It does not act on the answers.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use super::{AccessError, Desk, Rules, Visitor, decide};
use crate::audit::event::{DecisionMade, Event};
use crate::causes::in_one_line;
use crate::grant::Grant;
use crate::ledger::{LedgerError, Reasons};
use crate::names::IdentityName;
use crate::policy::{Action, Context, Decision, Question, Resource};

/// Subject of a recorded decision that is about no request and no grant.
const GATE: &str = "gate";

/// Answer of the policies, with the question it answers.
pub(super) struct Ruling {
    pub(super) decision: Decision,
    action: Action,
    who: IdentityName,
    client: Option<IpAddr>,
    policy_set: Option<String>,
}

impl Desk {
    /// Checks that `who` may read the log or administer, and records the decision.
    pub async fn may(&self, who: &Visitor, action: Action) -> Result<(), AccessError> {
        let ruling = self.ask(&self.rules(), who, action, Resource::Gate);
        self.settled(&ruling, GATE).await
    }

    /// Checks the same for an operation that takes rights away. A permission is recorded without waiting for the log.
    pub async fn may_take_away(&self, who: &Visitor, action: Action) -> Result<(), AccessError> {
        let ruling = self.ask(&self.rules(), who, action, Resource::Gate);
        self.settled_at_once(&ruling, GATE).await
    }

    /// Returns true if the policies would allow the action. Nothing is recorded: the answer only shapes output, such as a list.
    #[must_use]
    pub fn would(&self, who: &Visitor, action: Action) -> bool {
        self.ask(&self.rules(), who, action, Resource::Gate).decision.allowed
    }

    /// Asks the policies in `rules`; without policies nothing is allowed.
    pub(super) fn ask(&self, rules: &Rules, who: &Visitor, action: Action, resource: Resource<'_>) -> Ruling {
        let question = Question {
            identity: &who.identity,
            action,
            resource,
            context: self.context(who.name(), who.client),
        };
        let decision = rules
            .policies
            .as_ref()
            .map_or_else(nothing, |policies| policies.decide(&question));
        Ruling {
            decision,
            action,
            who: who.name().clone(),
            client: who.client,
            policy_set: policy_set(rules),
        }
    }

    /// Returns the context of a question: time, client address and number of live grants.
    pub(super) fn context(&self, who: &IdentityName, client: Option<IpAddr>) -> Context {
        Context {
            now: self.0.clock.now(),
            client,
            active_grants: self.0.ledger.active_grants(who),
        }
    }

    /// Records the answer. A refusal becomes an error, and so does a permission that cannot be recorded.
    pub(super) async fn settled(&self, ruling: &Ruling, about: &str) -> Result<(), AccessError> {
        let recorded = self.0.journal.record(&ruling.event(about)).await;
        if !ruling.decision.allowed {
            if let Err(error) = recorded {
                tracing::error!(error = %in_one_line(&error), who = %ruling.who, about, "cannot write a refusal to the audit log");
            }
            return Err(AccessError::Denied {
                action: ruling.action,
                why: decide::why(ruling.action, &ruling.decision),
                policies: ruling.decision.policies.clone(),
            });
        }
        Ok(recorded.map_err(LedgerError::from)?)
    }

    /// Records the answer as [`Desk::settled`] does, but a permission does not wait for the log; it is written when the log can
    /// be written.
    pub(super) async fn settled_at_once(&self, ruling: &Ruling, about: &str) -> Result<(), AccessError> {
        if !ruling.decision.allowed {
            return self.settled(ruling, about).await;
        }
        self.0.journal.note(&ruling.event(about));
        Ok(())
    }

    /// Returns the reasons for a step that is recorded itself. A refusal is recorded here and becomes an error.
    pub(super) async fn reasons(&self, ruling: Ruling, about: &str) -> Result<Reasons, AccessError> {
        if !ruling.decision.allowed {
            self.settled(&ruling, about).await?;
        }
        Ok(Reasons {
            policies: ruling.decision.policies,
            policy_set: ruling.policy_set,
            errors: ruling.decision.errors,
            client: ruling.client,
        })
    }

    /// Records an answer about a grant without waiting for the log.
    pub(super) fn note(&self, grant: &Grant, action: Action, decision: Decision, client: IpAddr) {
        let ruling = Ruling {
            decision,
            action,
            who: grant.identity().clone(),
            client: Some(client),
            policy_set: policy_set(&self.rules()),
        };
        self.0.journal.note(&ruling.event(grant.id().as_str()));
    }
}

impl Ruling {
    fn event(&self, about: &str) -> Event<'static> {
        Event::DecisionMade(Cow::Owned(DecisionMade {
            identity: self.who.clone(),
            action: self.action.name().to_owned(),
            about: about.to_owned(),
            allowed: self.decision.allowed,
            client: self.client,
            policies: self.decision.policies.clone(),
            errors: self.decision.errors.clone(),
            policy_set: self.policy_set.clone().unwrap_or_else(|| "none".to_owned()),
        }))
    }
}

/// Returns the decision of a gate without policies: nothing is allowed.
pub(super) fn nothing() -> Decision {
    Decision {
        allowed: false,
        policies: Vec::new(),
        errors: Vec::new(),
    }
}

/// Returns the SHA-256 of the policies in force.
pub(super) fn policy_set(rules: &Rules) -> Option<String> {
    rules.policies.as_ref().map(|policies: &Arc<_>| policies.hash().to_owned())
}
