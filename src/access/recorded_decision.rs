//! Questions to the policies, and the record of answers that no other event records.
//!
//! It does not act on the answers.

use std::borrow::Cow;
use std::net::IpAddr;

use super::{AccessError, AccessRules, AccessService, Caller, Principal, PrincipalSignIn, decide};
use crate::access::policy::{AccessQuestion, Action, Decision, QuestionContext, Resource};
use crate::audit::event::{DecisionMade, Event};
use crate::base::error_chain::display_chain;
use crate::ledger::{DecisionReasons, LedgerError};
use crate::model::arrival::{Arrival, CallerVia};
use crate::model::grant::Grant;
use crate::model::names::IdentityName;

/// Subject of a recorded decision that is about no request and no grant.
const GATE_RESOURCE: &str = "gate";

/// Answer of the policies, with the question it answers.
pub(super) struct RecordedDecision {
    pub(super) decision: Decision,
    pub(super) action: Action,
    pub(super) who: IdentityName,
    pub(super) client: Option<IpAddr>,
    pub(super) via: CallerVia,
    pub(super) policy_set: Option<String>,
    /// `@advice` of the policies that decided; empty if they have none.
    pub(super) advice: String,
    /// True if they deny what they would allow to a sign-in of this moment.
    pub(super) sign_in_again: bool,
}

impl AccessService {
    /// Checks that the caller may read the log or administer: an operator may, for a person the policies decide, and the decision
    /// is recorded.
    pub async fn may(&self, caller: &Caller, action: Action) -> Result<(), AccessError> {
        let Caller::Person(who, _) = caller else { return Ok(()) };
        let decided = self.ask(&self.rules(), who, action, Resource::Gate);
        self.settled(&decided, GATE_RESOURCE).await
    }

    /// Checks the same for an operation that takes rights away. A permission is recorded without waiting for the log.
    pub async fn may_take_away(&self, caller: &Caller, action: Action) -> Result<(), AccessError> {
        let Caller::Person(who, _) = caller else { return Ok(()) };
        let decided = self.ask(&self.rules(), who, action, Resource::Gate);
        self.settled_at_once(&decided, GATE_RESOURCE).await
    }

    /// Returns true if the caller would be allowed the action. Nothing is recorded: the answer only shapes output, such as a list.
    #[must_use]
    pub fn would(&self, caller: &Caller, action: Action) -> bool {
        match caller {
            Caller::Admin { .. } => true,
            Caller::Person(who, _) => self.would_on(who, action, Resource::Gate),
        }
    }

    /// Asks the policies in `rules`; without policies nothing is allowed.
    pub(super) fn ask(&self, rules: &AccessRules, who: &Principal, action: Action, resource: Resource<'_>) -> RecordedDecision {
        let question = AccessQuestion {
            identity: &who.identity,
            action,
            resource,
            context: self.context(who),
        };
        let decision = rules.decide(&question);
        let sign_in_again = !decision.allowed
            && question
                .context
                .signed_in_now()
                .is_some_and(|context| rules.decide(&AccessQuestion { context, ..question }).allowed);
        let advice = rules
            .policies
            .as_ref()
            .map(|policies| policies.advice(decision.policies.iter()));
        RecordedDecision {
            advice: advice.unwrap_or_default(),
            sign_in_again,
            decision,
            action,
            who: who.name().clone(),
            client: who.client,
            via: who.via,
            policy_set: rules.policy_set(),
        }
    }

    /// Returns the context of a principal's question: time, client address, number of live grants, arrival.
    pub(super) fn context(&self, who: &Principal) -> QuestionContext {
        let context = self.context_of(who.name(), who.client);
        let age = |sign_in: &PrincipalSignIn| context.now.duration_since(sign_in.at).try_into().unwrap_or_default();
        QuestionContext {
            arrival: Arrival {
                via: who.via,
                signed_in_ago: who.sign_in.as_ref().map(age),
            },
            ..context
        }
    }

    /// Returns the context of a question of an identity that sends a token.
    pub(super) fn context_of(&self, who: &IdentityName, client: Option<IpAddr>) -> QuestionContext {
        QuestionContext {
            now: self.0.clock.now(),
            client,
            active_grants: self.0.ledger.active_grants(who),
            arrival: Arrival::TOKEN,
        }
    }

    /// Records the answer. A refusal becomes an error, and so does a permission that cannot be recorded.
    pub(super) async fn settled(&self, decided: &RecordedDecision, about: &str) -> Result<(), AccessError> {
        let recorded = self.0.journal.record(&decided.event(about)).await;
        if !decided.decision.allowed {
            if let Err(error) = recorded {
                tracing::error!(error = %display_chain(&error), who = %decided.who, about, "cannot write a refusal to the audit log");
            }
            return Err(AccessError::Denied {
                action: decided.action,
                why: decide::why(decided.action, &decided.decision, &decided.advice),
                policies: decided.decision.policies.clone(),
                sign_in_again: decided.sign_in_again,
            });
        }
        Ok(recorded.map_err(LedgerError::from)?)
    }

    /// Records the answer as [`AccessService::settled`] does, but a permission does not wait for the log; it is written when the log can
    /// be written.
    pub(super) async fn settled_at_once(&self, decided: &RecordedDecision, about: &str) -> Result<(), AccessError> {
        if !decided.decision.allowed {
            return self.settled(decided, about).await;
        }
        self.0.journal.note(&decided.event(about));
        Ok(())
    }

    /// Returns the reasons for a step that is recorded itself. A refusal is recorded here and becomes an error.
    pub(super) async fn reasons(&self, decided: RecordedDecision, about: &str) -> Result<DecisionReasons, AccessError> {
        if !decided.decision.allowed {
            self.settled(&decided, about).await?;
        }
        Ok(DecisionReasons {
            policies: decided.decision.policies,
            policy_set: decided.policy_set,
            errors: decided.decision.errors,
            client: decided.client,
            via: Some(decided.via),
        })
    }

    /// Records an answer about a grant without waiting for the log.
    pub(super) fn note(&self, grant: &Grant, action: Action, decision: Decision, client: IpAddr) {
        let decided = RecordedDecision {
            decision,
            action,
            who: grant.identity().clone(),
            client: Some(client),
            via: CallerVia::Wire,
            policy_set: self.rules().policy_set(),
            advice: String::new(),
            sign_in_again: false,
        };
        self.0.journal.note(&decided.event(grant.id().as_str()));
    }
}

impl RecordedDecision {
    pub(super) fn event(&self, about: &str) -> Event<'static> {
        Event::DecisionMade(Cow::Owned(DecisionMade {
            identity: self.who.clone(),
            action: self.action.name().to_owned(),
            about: about.to_owned(),
            allowed: self.decision.allowed,
            client: self.client,
            via: Some(self.via.into()),
            policies: self.decision.policies.clone(),
            errors: self.decision.errors.clone(),
            policy_set: self.policy_set.clone().unwrap_or_else(|| "none".to_owned()),
        }))
    }
}
