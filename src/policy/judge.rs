//! The answer to one question, and what becomes of a request.
//!
//! INVARIANT: an error refuses; a permit with `@max_duration` permits nothing longer; nobody approves their own request.

use std::time::Duration;

use super::{Action, Context, Decision, Judgement, Policies, Question, Resource, Verdict};
use crate::identity::Identity;
use crate::request::Wish;

/// The rule that is not in any file: nobody approves their own request.
const OWN_REQUEST: &str = "tidegate:nobody-approves-their-own-request";

impl Policies {
    /// Answers one question. Where it is about a window, permits with an `@max_duration` count only for windows up to it.
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
        let window = match question.resource {
            Resource::Gate => None,
            Resource::Access(wish) => Some(wish.window),
            Resource::Request(request) => Some(request.wish.window),
        };
        let permits: Vec<_> = answer
            .permits
            .into_iter()
            .filter(|id| self.covers(id, question.action, window))
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

    /// As [`Self::judge`]; a denial that no policy has words for has none yet.
    pub(super) fn verdict(&self, identity: &Identity, wish: &Wish, context: Context) -> Judgement {
        let ask = |action| {
            self.decide(&Question {
                identity,
                action,
                resource: Resource::Access(wish),
                context,
            })
        };
        let request = ask(Action::Request);
        if !request.allowed {
            return self.denied(request);
        }
        if wish.break_glass {
            return self.break_glass(wish, ask(Action::BreakGlass));
        }
        let automatic = ask(Action::AutoApprove);
        if !automatic.errors.is_empty() {
            return self.denied(automatic);
        }
        if automatic.allowed {
            return Judgement {
                verdict: Verdict::Automatic,
                policies: automatic.policies,
            };
        }
        let approvals = request.policies.iter().filter_map(|id| self.notes.get(id)?.approvals).max();
        Judgement {
            verdict: Verdict::Approvals(approvals.unwrap_or(1)),
            // With them, what forbids having it without an approver.
            policies: request.policies.into_iter().chain(automatic.policies).collect(),
        }
    }

    fn break_glass(&self, wish: &Wish, decision: Decision) -> Judgement {
        if !decision.allowed {
            return self.denied(decision);
        }
        if wish.reason.as_deref().is_none_or(|reason| reason.trim().is_empty()) {
            return Judgement {
                verdict: Verdict::Denied {
                    why: "break-glass takes a reason: say why (--reason \"...\")".to_owned(),
                },
                policies: decision.policies,
            };
        }
        Judgement {
            verdict: Verdict::Automatic,
            policies: decision.policies,
        }
    }

    /// A refusal in the words of whoever wrote the policies, where they left some.
    fn denied(&self, decision: Decision) -> Judgement {
        let why = if decision.errors.is_empty() {
            let advice = decision
                .policies
                .iter()
                .filter_map(|id| self.notes.get(id)?.advice.as_deref());
            let advice = advice.collect::<Vec<_>>().join("; ");
            match decision.policies.as_slice() {
                [] => String::new(),
                policies if advice.is_empty() => format!("forbidden by {}", policies.join(", ")),
                _ => advice,
            }
        } else {
            format!("the policies could not be evaluated: {}", decision.errors.join("; "))
        };
        Judgement {
            verdict: Verdict::Denied { why },
            policies: decision.policies,
        }
    }

    /// Whether a permit is one for so long a window.
    fn covers(&self, id: &str, action: Action, window: Option<Duration>) -> bool {
        match (self.notes.get(id).and_then(|notes| notes.max_duration), window) {
            (Some(most), Some(window)) => window <= most,
            (Some(_), None) => true,
            // Not in a set that was read; and if it were, it would not count.
            (None, _) => !action.unattended(),
        }
    }
}
