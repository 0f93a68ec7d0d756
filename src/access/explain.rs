//! Explanations of what the policies would answer and what would have to change, without side effects.
//!
//! It makes no request and records no decision, because none is made. INVARIANT: a question about another identity is answered
//! only for callers that may read the log or administer.

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use utoipa::ToSchema;

use super::{AccessError, AccessService, Caller, Principal, RequestArgs, decide};
use crate::access::policy::{
    AccessQuestion, Action, Judgement, Policies, QuestionContext, Remedy, RequestExplanation, RequestVerdict, Resource,
};
use crate::identity::Identity;
use crate::model::ids::{GrantId, RequestId};
use crate::model::names::{GroupName, IdentityName, ProfileName, TargetName};
use crate::model::request::{Request, RequestSpec};

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

/// Verdict of the policies.
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = VerdictBody)]
pub struct VerdictView {
    /// `automatic`, `approvals` or `denied`; for actions other than requests, `allowed` or `denied`.
    pub verdict: String,
    /// Number of approvers that are needed.
    #[schema(nullable = false)]
    pub approvals: Option<u32>,
    /// Reason for a denial.
    #[schema(nullable = false)]
    pub why: Option<String>,
}

impl From<RequestVerdict> for VerdictView {
    fn from(verdict: RequestVerdict) -> Self {
        let (verdict, approvals, why) = match verdict {
            RequestVerdict::Automatic => ("automatic", None, None),
            RequestVerdict::Approvals(approvals) => ("approvals", Some(approvals), None),
            RequestVerdict::Denied { why } => ("denied", None, Some(why)),
        };
        Self {
            verdict: verdict.to_owned(),
            approvals,
            why,
        }
    }
}

/// Answer of the policies to a query without effect.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Explanation)]
pub struct ExplanationView {
    /// Identity that the answer is about.
    pub identity: IdentityName,
    /// Action that the answer is about.
    pub action: String,
    /// Target, for actions about access.
    #[schema(nullable = false)]
    pub target: Option<TargetName>,
    /// Profile, for actions about access.
    #[schema(nullable = false)]
    pub profile: Option<ProfileName>,
    /// Length of the window in seconds, for actions about access.
    #[schema(nullable = false)]
    pub window_seconds: Option<u64>,
    /// Verdict of the policies.
    pub answer: VerdictView,
    /// Policies that decided.
    pub policies: Vec<String>,
    /// Changes that would improve the verdict.
    pub remedies: Vec<RemedyView>,
    /// SHA-256 of the policies.
    pub policy_set: String,
}

/// Change to a request, with the verdict it would lead to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = RemedyBody)]
pub struct RemedyView {
    /// Change in words, such as `with a reason (--reason)`.
    pub change: String,
    /// Verdict after the change.
    pub answer: VerdictView,
}

impl ExplanationView {
    /// Returns the explanation of a request: the verdict, and the changes that would improve it. `profiles` are those of its target;
    /// `None`: those that the policies name are tried.
    #[must_use]
    pub fn of_request(
        policies: &Policies,
        identity: &Identity,
        action: Action,
        wish: &RequestSpec,
        context: QuestionContext,
        profiles: Option<&[ProfileName]>,
    ) -> Self {
        let RequestExplanation { judgement, remedies } = policies.explain(identity, wish, context, profiles);
        Self {
            answer: judgement.verdict.into(),
            policies: judgement.policies,
            remedies: remedies.into_iter().map(RemedyView::from).collect(),
            ..Self::about(policies, &identity.name, action, Some(wish))
        }
    }

    /// Returns an explanation without an answer.
    fn about(policies: &Policies, identity: &IdentityName, action: Action, wish: Option<&RequestSpec>) -> Self {
        Self {
            identity: identity.clone(),
            action: action.name().to_owned(),
            target: wish.map(|wish| wish.target.clone()),
            profile: wish.map(|wish| wish.profile.clone()),
            window_seconds: wish.map(|wish| wish.window.as_secs()),
            answer: VerdictView::default(),
            policies: Vec::new(),
            remedies: Vec::new(),
            policy_set: policies.hash().to_owned(),
        }
    }
}

impl From<Remedy> for RemedyView {
    fn from(Remedy { change, verdict }: Remedy) -> Self {
        let answer = verdict.into();
        Self { change, answer }
    }
}

impl AccessService {
    /// Answers a hypothetical question. Everybody may ask about themselves; questions about others need the right to read the log
    /// or to administer.
    pub async fn explain(&self, caller: &Caller, wanted: HypotheticalQuestion) -> Result<ExplanationView, AccessError> {
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
        let mut context = self.context_of(&identity.name, wanted.client.or(who.client.filter(|_| own)));
        if own {
            context.arrival = self.context(who).arrival;
        }
        if let Some(text) = &wanted.at {
            context.now = time(&policies, text)?;
        }
        let question = |action, resource| AccessQuestion {
            identity: &identity,
            action,
            resource,
            context,
        };
        Ok(match &wanted.about {
            QuestionSubject::Access(asked) => {
                let wish = decide::wish(&rules, &identity, asked)?;
                let profiles = rules.targets.get(&wish.target).map(Vec::as_slice);
                let action = if wish.break_glass {
                    Action::BreakGlass
                } else {
                    Action::Request
                };
                ExplanationView::of_request(&policies, &identity, action, &wish, context, profiles)
            }
            QuestionSubject::Request(id) => {
                let request = self.request(caller, id).await?.request;
                decided(
                    &policies,
                    &question(Action::Approve, Resource::Request(&request)),
                    Some(&request.wish),
                )
            }
            QuestionSubject::Grant(action, id) => {
                let grant = self.grant(caller, id).await?.grant;
                let wish = self.wish_of(&rules, &grant, grant.window()).await?;
                decided(&policies, &question(*action, Resource::Access(&wish)), Some(&wish))
            }
            QuestionSubject::Gate(action) => decided(&policies, &question(*action, Resource::Gate), None),
        })
    }

    /// Returns the judgement that the policies would give on a request now, without the requester's address. Nothing is recorded.
    #[must_use]
    pub fn judgement(&self, request: &Request) -> Judgement {
        let wish = &request.wish;
        self.rules()
            .judge(&self.present(wish), wish, self.context_of(&wish.identity, None))
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

fn decided(policies: &Policies, question: &AccessQuestion<'_>, wish: Option<&RequestSpec>) -> ExplanationView {
    let decision = policies.decide(question);
    let verdict = if decision.allowed { "allowed" } else { "denied" };
    ExplanationView {
        answer: VerdictView {
            verdict: verdict.to_owned(),
            approvals: None,
            why: (!decision.allowed).then(|| policies.why(question, &decision)),
        },
        policies: decision.policies,
        ..ExplanationView::about(policies, &question.identity.name, question.action, wish)
    }
}
