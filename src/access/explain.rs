//! Explanations of what the policies would answer and what would have to change, without side effects.
//!
//! It makes no request and records no decision, because none is made. INVARIANT: a question about another identity is answered
//! only for callers that may read the log or administer.

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::Timestamp;

use super::{AccessError, AccessRules, AccessService, Caller, Principal, RequestArgs, decide};
use crate::access::policy::{AccessQuestion, Action, Decision, Policies, RequestExplanation, Resource, TargetProfileNames};
use crate::identity::Identity;
use crate::model::ids::{GrantId, RequestId};
use crate::model::names::{GroupName, IdentityName};
use crate::model::request::RequestSpec;

/// Hypothetical question to the policies.
#[derive(Debug, Clone)]
pub struct HypotheticalQuestion {
    /// Identity that would act; `None`: the caller's.
    pub identity: Option<IdentityName>,
    /// Groups of that identity; `None`: its present groups.
    pub groups: Option<BTreeSet<GroupName>>,
    /// Time of the action, in the policies' time zone; `None`: now.
    pub at: Option<String>,
    /// Client address; `None`: the caller's.
    pub client: Option<IpAddr>,
    /// Subject of the question.
    pub about: QuestionSubject,
}

/// Subject of a hypothetical question.
#[derive(Debug, Clone)]
pub enum QuestionSubject {
    /// Request for access: with an approver, without one, or by break-glass.
    Access(RequestArgs),
    /// Approval, rejection or review of a request.
    Request(RequestId),
    /// Extension or revocation of a grant.
    Grant(Action, GrantId),
    /// Reading the log, or administering.
    Gate(Action),
}

/// Answer to a hypothetical question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedDecision {
    /// Identity the answer is about.
    pub identity: IdentityName,
    /// Action the answer is about.
    pub action: Action,
    /// Access the answer is about; `None` for questions about the gate.
    pub wish: Option<RequestSpec>,
    /// Verdict or decision.
    pub answer: ExplainedAnswer,
    /// SHA-256 of the policies, in hexadecimal.
    pub policy_set: String,
}

/// Verdict on a request, or decision on another action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExplainedAnswer {
    /// Verdict on a request, and the changes that would make it better.
    Access(RequestExplanation),
    /// Decision, and the reason if it is a refusal.
    Action(Decision, Option<String>),
}

impl AccessService {
    /// Answers a hypothetical question. Everybody may ask about themselves; questions about others need the right to read the log
    /// or to administer.
    pub async fn explain(&self, caller: &Caller, wanted: HypotheticalQuestion) -> Result<ExplainedDecision, AccessError> {
        let who = caller.person()?;
        let own = wanted.identity.as_ref().is_none_or(|identity| identity == who.name());
        let as_they_are = own && wanted.groups.is_none();
        if !(as_they_are || self.would(caller, Action::Administer)) {
            self.may(caller, Action::ReadLog).await?;
        }
        let rules = self.rules();
        let policies = rules
            .policies
            .clone()
            .ok_or_else(|| AccessError::Invalid("this gate has no policies, so every request is refused".to_owned()))?;
        let identity = self.hypothetical(who, &wanted);
        let mut context = self.context(&identity.name, wanted.client.or(who.client.filter(|_| own)));
        if let Some(text) = &wanted.at {
            context.now = time(&policies, text)?;
        }
        let explained = |action, wish, answer| ExplainedDecision {
            identity: identity.name.clone(),
            action,
            wish,
            answer,
            policy_set: policies.hash().to_owned(),
        };
        let decided = |action, resource: Resource<'_>| {
            let question = AccessQuestion {
                identity: &identity,
                action,
                resource,
                context,
            };
            let decision = policies.decide(&question);
            let why = (!decision.allowed).then(|| policies.why(&question, &decision));
            ExplainedAnswer::Action(decision, why)
        };
        match &wanted.about {
            QuestionSubject::Access(asked) => {
                let wish = decide::wish(&rules, &identity, asked)?;
                let explanation = policies.explain(&identity, &wish, context, &known(&rules));
                let action = if wish.break_glass {
                    Action::BreakGlass
                } else {
                    Action::Request
                };
                Ok(explained(action, Some(wish), ExplainedAnswer::Access(explanation)))
            }
            QuestionSubject::Request(id) => {
                let request = self.request(caller, id).await?.request;
                let answer = decided(Action::Approve, Resource::Request(&request));
                Ok(explained(Action::Approve, Some(request.wish.clone()), answer))
            }
            QuestionSubject::Grant(action, id) => {
                let grant = self.grant(caller, id).await?.grant;
                let wish = self.wish_of(&rules, &grant, grant.window()).await?;
                let answer = decided(*action, Resource::Access(&wish));
                Ok(explained(*action, Some(wish), answer))
            }
            QuestionSubject::Gate(action) => Ok(explained(*action, None, decided(*action, Resource::Gate))),
        }
    }

    /// Returns the identity of the question: as known to the gate, with the groups that the question names.
    fn hypothetical(&self, who: &Principal, wanted: &HypotheticalQuestion) -> Identity {
        let named = wanted.identity.as_ref().filter(|named| *named != who.name());
        let mut identity = named.map_or_else(
            || who.identity.clone(),
            |name| {
                let user = self.0.ledger.user(name);
                Identity::local(name.clone(), user.map(|user| user.groups).unwrap_or_default())
            },
        );
        if let Some(groups) = &wanted.groups {
            identity.groups.clone_from(groups);
        }
        identity
    }
}

fn time(policies: &Policies, text: &str) -> Result<Timestamp, AccessError> {
    let wrong = || format!("{text:?} is not a time; write 2026-08-03T10:00 or 2026-08-03T08:00Z");
    policies.time(text).ok_or_else(|| AccessError::Invalid(wrong()))
}

/// Returns the names of targets and profiles, for suggestions.
fn known(rules: &AccessRules) -> Vec<TargetProfileNames> {
    let targets = rules.targets.iter();
    targets
        .map(|(target, profiles)| TargetProfileNames {
            target: target.clone(),
            profiles: profiles.clone(),
        })
        .collect()
}
