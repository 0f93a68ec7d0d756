//! Decision of one question, and the verdict on a request.
//!
//! INVARIANT: an error refuses; a permit with `@max_duration` permits nothing longer, one with `@max_sessions` no more at once;
//! nobody approves their own request.

use std::collections::BTreeSet;

use super::{AccessQuestion, Action, Decision, Judgement, NOT_EVALUATED, Policies, QuestionContext, RequestVerdict, Resource};
use crate::identity::Identity;
use crate::model::request::RequestSpec;

/// Id of the built-in rule against the approval of one's own request.
const OWN_REQUEST: &str = "tidegate:nobody-approves-their-own-request";

impl Policies {
    /// Decides one question. If it is about access, permits with an `@max_duration` count only for windows up to it, and those
    /// with an `@max_sessions` only for that many concurrent sessions.
    #[must_use]
    pub fn decide(&self, question: &AccessQuestion<'_>) -> Decision {
        let refused = |policies: Vec<String>, errors: Vec<String>| Decision {
            allowed: false,
            policies,
            errors,
        };
        if let (Action::Approve, Resource::Request(request)) = (question.action, question.resource)
            && request.wish.identity == question.identity.name
        {
            return refused(vec![OWN_REQUEST.to_owned()], Vec::new());
        }
        let put = match self.cedar.put(question) {
            Ok(put) => put,
            Err(error) => return refused(Vec::new(), vec![error]),
        };
        let answer = self.index.answer(question.action, &put);
        if !answer.errors.is_empty() || !answer.forbids.is_empty() {
            return refused(answer.forbids.into_iter().collect(), answer.errors);
        }
        let wish = match question.resource {
            Resource::Gate => None,
            Resource::Access(wish) => Some(wish),
            Resource::Request(request) => Some(&request.wish),
        };
        let permits: Vec<_> = answer
            .permits
            .into_iter()
            .filter(|id| self.covers(id, question.action, wish))
            .collect();
        Decision {
            allowed: !permits.is_empty(),
            policies: permits,
            errors: Vec::new(),
        }
    }

    /// Returns the verdict on a new request.
    #[must_use]
    pub fn judge(&self, identity: &Identity, wish: &RequestSpec, context: QuestionContext) -> Judgement {
        let judgement = self.verdict(identity, wish, context);
        match judgement.verdict {
            // The search for changes is needed only for a denial without an `@advice`.
            RequestVerdict::Denied { ref why } if why.is_empty() => Judgement {
                verdict: RequestVerdict::Denied {
                    why: self.why_not(identity, wish, context),
                },
                ..judgement
            },
            _ => judgement,
        }
    }

    /// Returns the verdict as [`Self::judge`] does, but with an empty reason for a denial for which no policy has an `@advice`.
    #[must_use]
    pub fn verdict(&self, identity: &Identity, wish: &RequestSpec, context: QuestionContext) -> Judgement {
        let question = |action| AccessQuestion {
            identity,
            action,
            resource: Resource::Access(wish),
            context,
        };
        let asked = question(Action::Request);
        let request = self.decide(&asked);
        if !request.allowed {
            return self.denied(&asked, request);
        }
        if wish.break_glass {
            return self.break_glass(wish, &question(Action::BreakGlass));
        }
        let asked = question(Action::AutoApprove);
        let automatic = self.decide(&asked);
        if !automatic.errors.is_empty() {
            return self.denied(&asked, automatic);
        }
        if automatic.allowed {
            return Judgement {
                verdict: RequestVerdict::Automatic,
                policies: automatic.policies,
                errors: Vec::new(),
            };
        }
        let approvals = request.policies.iter().filter_map(|id| self.notes.get(id)?.approvals).max();
        Judgement {
            verdict: RequestVerdict::Approvals(approvals.unwrap_or(1)),
            // Followed by the forbids of `auto-approve`, which explain why approvers are needed.
            policies: request.policies.into_iter().chain(automatic.policies).collect(),
            errors: Vec::new(),
        }
    }

    fn break_glass(&self, wish: &RequestSpec, question: &AccessQuestion<'_>) -> Judgement {
        let decision = self.decide(question);
        if !decision.allowed {
            return self.denied(question, decision);
        }
        let reason = wish.reason.as_deref().is_some_and(|reason| !reason.trim().is_empty());
        let verdict = if reason {
            RequestVerdict::Automatic
        } else {
            RequestVerdict::Denied {
                why: "break-glass needs a reason".to_owned(),
            }
        };
        Judgement {
            verdict,
            policies: decision.policies,
            errors: Vec::new(),
        }
    }

    /// Returns the reason of a refusal, in words for the caller: the `@advice` of the policies, if they have any.
    #[must_use]
    pub fn why(&self, question: &AccessQuestion<'_>, decision: &Decision) -> String {
        let words = self.words_for(question, decision);
        if !words.is_empty() {
            return words;
        }
        let (name, action) = (&question.identity.name, question.action.name());
        format!("no policy permits {name} to {action} this")
    }

    /// Returns the `@advice` of policies; empty if they have none.
    #[must_use]
    pub fn advice<'i>(&self, ids: impl Iterator<Item = &'i String>) -> String {
        let advice: BTreeSet<_> = ids.filter_map(|id| self.notes.get(id)?.advice.as_deref()).collect();
        advice.into_iter().collect::<Vec<_>>().join("; ")
    }

    /// Returns the reason as [`Self::why`] does; empty if no policy has an `@advice`.
    fn words_for(&self, question: &AccessQuestion<'_>, decision: &Decision) -> String {
        if !decision.errors.is_empty() {
            return NOT_EVALUATED.to_owned();
        }
        match decision.policies.as_slice() {
            // Nothing permits: the permits whose conditions failed may say in their `@advice` which.
            [] => {
                let put = self.cedar.put(question);
                let near = put.map(|put| self.index.near(question.action, &put)).unwrap_or_default();
                self.advice(near.iter())
            }
            [own] if own == OWN_REQUEST => "you cannot approve or reject your own request; ask another approver".to_owned(),
            forbids => match self.advice(forbids.iter()) {
                words if words.is_empty() => format!("forbidden by {}", forbids.join(", ")),
                words => words,
            },
        }
    }

    fn denied(&self, question: &AccessQuestion<'_>, decision: Decision) -> Judgement {
        Judgement {
            verdict: RequestVerdict::Denied {
                why: self.words_for(question, &decision),
            },
            policies: decision.policies,
            errors: decision.errors,
        }
    }

    /// Returns true if a permit covers the window and the number of sessions.
    fn covers(&self, id: &str, action: Action, wish: Option<&RequestSpec>) -> bool {
        let Some(notes) = self.notes.get(id) else { return false };
        if wish.is_some_and(|wish| notes.max_sessions.is_some_and(|most| wish.max_sessions > most)) {
            return false;
        }
        match (notes.max_duration, wish) {
            (Some(most), Some(wish)) => wish.window <= most,
            (Some(_), None) => true,
            // Loading refuses such a permit; if there were one, it would not count.
            (None, _) => !action.unattended(),
        }
    }
}
