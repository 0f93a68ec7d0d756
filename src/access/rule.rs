//! Asks the policies, and puts on record what they answered where nothing else does.
//!
//! It does nothing with the answer.

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

/// What a decision is about, in the log, where it is about no request and no grant.
const GATE: &str = "gate";

/// An answer of the policies to a question of somebody.
pub(super) struct Ruling {
    pub(super) decision: Decision,
    action: Action,
    who: IdentityName,
    client: Option<IpAddr>,
    policy_set: Option<String>,
}

impl Desk {
    /// Whether `who` may read the log or administer; the decision is on record.
    pub async fn may(&self, who: &Visitor, action: Action) -> Result<(), AccessError> {
        let ruling = self.ask(&self.rules(), who, action, Resource::Gate);
        self.settled(&ruling, GATE).await
    }

    /// The same for what takes rights away: a yes is put on record, and nothing waits for that.
    pub async fn may_take_away(&self, who: &Visitor, action: Action) -> Result<(), AccessError> {
        let ruling = self.ask(&self.rules(), who, action, Resource::Gate);
        self.settled_at_once(&ruling, GATE).await
    }

    /// The same question where it only shapes an answer (what a list shows): nothing goes on record.
    #[must_use]
    pub fn would(&self, who: &Visitor, action: Action) -> bool {
        self.ask(&self.rules(), who, action, Resource::Gate).decision.allowed
    }

    /// Asks the policies as they are in `rules`; without policies nothing is allowed.
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

    /// What the policies may look at beside the question itself.
    pub(super) fn context(&self, who: &IdentityName, client: Option<IpAddr>) -> Context {
        Context {
            now: self.0.clock.now(),
            client,
            active_grants: self.0.ledger.active_grants(who),
        }
    }

    /// Puts the answer on record; a no becomes an error, and so does a yes that cannot be put on record.
    pub(super) async fn settled(&self, ruling: &Ruling, about: &str) -> Result<(), AccessError> {
        let recorded = self.0.journal.record(&ruling.event(about)).await;
        if !ruling.decision.allowed {
            if let Err(error) = recorded {
                tracing::error!(error = %in_one_line(&error), who = %ruling.who, about, "cannot write a refusal to the audit log");
            }
            return Err(AccessError::Denied {
                why: decide::why(ruling.action, &ruling.decision),
                policies: ruling.decision.policies.clone(),
            });
        }
        Ok(recorded.map_err(LedgerError::from)?)
    }

    /// As [`Desk::settled`], where a yes must not wait for the log: its record follows when the log can be written.
    pub(super) async fn settled_at_once(&self, ruling: &Ruling, about: &str) -> Result<(), AccessError> {
        if !ruling.decision.allowed {
            return self.settled(ruling, about).await;
        }
        self.0.journal.note(&ruling.event(about));
        Ok(())
    }

    /// The reasons for a step that itself goes on record; a no goes there alone, as an error.
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

    /// Puts an answer about a grant on record that is given where nobody can wait for the log.
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

/// The answer where there are no policies: nothing is allowed.
pub(super) fn nothing() -> Decision {
    Decision {
        allowed: false,
        policies: Vec::new(),
        errors: Vec::new(),
    }
}

/// SHA-256 of the policies in force.
pub(super) fn policy_set(rules: &Rules) -> Option<String> {
    rules.policies.as_ref().map(|policies: &Arc<_>| policies.hash().to_owned())
}
