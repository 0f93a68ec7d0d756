//! The answer to one question, and what becomes of a request.
//!
//! INVARIANT: an error refuses; a permit with `@max_duration` permits nothing longer, one with `@max_sessions` no more at once;
//! nobody approves their own request.

use std::collections::BTreeSet;

use super::{Action, Context, Decision, Judgement, NOT_EVALUATED, Policies, Question, Resource, Verdict};
use crate::identity::Identity;
use crate::request::Wish;

/// The rule that is not in any file: nobody approves their own request.
const OWN_REQUEST: &str = "tidegate:nobody-approves-their-own-request";

impl Policies {
    /// Answers one question. Where it is about access, permits with an `@max_duration` count only for windows up to it, and those
    /// with an `@max_sessions` only for so many sessions at once.
    #[must_use]
    pub fn decide(&self, question: &Question<'_>) -> Decision {
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

    /// What becomes of a new request.
    #[must_use]
    pub fn judge(&self, identity: &Identity, wish: &Wish, context: Context) -> Judgement {
        let judgement = self.verdict(identity, wish, context);
        match judgement.verdict {
            // Only who is refused by nobody's words needs to be told what would help.
            Verdict::Denied { ref why } if why.is_empty() => Judgement {
                verdict: Verdict::Denied {
                    why: self.why_not(identity, wish, context),
                },
                ..judgement
            },
            _ => judgement,
        }
    }

    /// As [`Self::judge`]; a denial for which no policy has words has none yet.
    pub(super) fn verdict(&self, identity: &Identity, wish: &Wish, context: Context) -> Judgement {
        let question = |action| Question {
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
                verdict: Verdict::Automatic,
                policies: automatic.policies,
                errors: Vec::new(),
            };
        }
        let approvals = request.policies.iter().filter_map(|id| self.notes.get(id)?.approvals).max();
        Judgement {
            verdict: Verdict::Approvals(approvals.unwrap_or(1)),
            // With them, what forbids having it without an approver.
            policies: request.policies.into_iter().chain(automatic.policies).collect(),
            errors: Vec::new(),
        }
    }

    fn break_glass(&self, wish: &Wish, question: &Question<'_>) -> Judgement {
        let decision = self.decide(question);
        if !decision.allowed {
            return self.denied(question, decision);
        }
        let reason = wish.reason.as_deref().is_some_and(|reason| !reason.trim().is_empty());
        let verdict = if reason {
            Verdict::Automatic
        } else {
            Verdict::Denied {
                why: "break-glass needs a reason".to_owned(),
            }
        };
        Judgement {
            verdict,
            policies: decision.policies,
            errors: Vec::new(),
        }
    }

    /// Why a question was answered with no, in words for whoever asked: those of the policies, where they have some.
    #[must_use]
    pub fn why(&self, question: &Question<'_>, decision: &Decision) -> String {
        let words = self.words_for(question, decision);
        if !words.is_empty() {
            return words;
        }
        let (name, action) = (&question.identity.name, question.action.name());
        format!("no policy permits {name} to {action} this")
    }

    /// As [`Self::why`]; empty where the policies have no words.
    fn words_for(&self, question: &Question<'_>, decision: &Decision) -> String {
        if !decision.errors.is_empty() {
            return NOT_EVALUATED.to_owned();
        }
        let advice = |ids: &mut dyn Iterator<Item = &String>| {
            let advice: BTreeSet<_> = ids.filter_map(|id| self.notes.get(id)?.advice.as_deref()).collect();
            advice.into_iter().collect::<Vec<_>>().join("; ")
        };
        match decision.policies.as_slice() {
            // Nothing permits: those that would have, were a condition met, may say which.
            [] => {
                let put = self.cedar.put(question);
                let near = put.map(|put| self.index.near(question.action, &put)).unwrap_or_default();
                advice(&mut near.iter())
            }
            [own] if own == OWN_REQUEST => "you cannot approve or reject your own request; ask another approver".to_owned(),
            forbids => match advice(&mut forbids.iter()) {
                words if words.is_empty() => format!("forbidden by {}", forbids.join(", ")),
                words => words,
            },
        }
    }

    fn denied(&self, question: &Question<'_>, decision: Decision) -> Judgement {
        Judgement {
            verdict: Verdict::Denied {
                why: self.words_for(question, &decision),
            },
            policies: decision.policies,
            errors: decision.errors,
        }
    }

    /// Whether a permit is one for so long a window and so many sessions.
    fn covers(&self, id: &str, action: Action, wish: Option<&Wish>) -> bool {
        let Some(notes) = self.notes.get(id) else { return false };
        if wish.is_some_and(|wish| notes.max_sessions.is_some_and(|most| wish.max_sessions > most)) {
            return false;
        }
        match (notes.max_duration, wish) {
            (Some(most), Some(wish)) => wish.window <= most,
            (Some(_), None) => true,
            // Not in a set that was read; and if it were, it would not count.
            (None, _) => !action.unattended(),
        }
    }
}
