//! Verdicts of the policies for one caller at one moment: what a list shows them. Each class of questions is asked once.
//!
//! They only shape output: whatever is done is judged and recorded by itself ([`super::recorded_decision`]).

use std::collections::HashMap;
use std::sync::Arc;

use super::{AccessRules, AccessService, Principal};
use crate::access::policy::{AccessQuestion, Action, Decision, QuestionClass, QuestionContext, Resource};
use crate::model::request::Request;

/// Maximum number of classes that are kept.
const MAX_KNOWN_CLASSES: usize = 10_000;

/// Verdicts for one caller at one moment.
pub(super) struct CallerVerdicts<'w> {
    rules: Arc<AccessRules>,
    pub(super) who: &'w Principal,
    context: QuestionContext,
    known: HashMap<QuestionClass, bool>,
}

impl AccessService {
    /// Begins to judge what `who` may see and do now. A sign-in counts as one of this moment: what its person may do after signing in
    /// again does not vanish from a page while the sign-in gets older.
    pub(super) fn verdicts<'w>(&self, who: &'w Principal) -> CallerVerdicts<'w> {
        let context = self.context(who);
        CallerVerdicts {
            rules: self.rules(),
            who,
            context: context.signed_in_now().unwrap_or(context),
            known: HashMap::new(),
        }
    }
}

impl CallerVerdicts<'_> {
    /// Returns true if the policies allow an action.
    pub(super) fn allows(&mut self, action: Action, resource: Resource<'_>) -> bool {
        let policies = self.rules.policies.as_ref();
        let class = policies.and_then(|policies| policies.class(self.who.name(), action, resource));
        if let Some(known) = class.as_ref().and_then(|class| self.known.get(class)) {
            return *known;
        }
        let allowed = self.decide(action, resource).allowed;
        if self.known.len() >= MAX_KNOWN_CLASSES {
            self.known.clear();
        }
        self.known.extend(class.map(|class| (class, allowed)));
        allowed
    }

    /// Returns the decision of the policies.
    pub(super) fn decide(&self, action: Action, resource: Resource<'_>) -> Decision {
        self.rules.decide(&AccessQuestion {
            identity: &self.who.identity,
            action,
            resource,
            context: self.context,
        })
    }

    /// Returns true if the caller may approve or reject this request: another's, which they have not approved yet.
    pub(super) fn may_decide(&mut self, request: &Request) -> bool {
        request.wish.identity != *self.who.name()
            && request.approvals.iter().all(|approval| approval.by != *self.who.name())
            && self.allows(Action::Approve, Resource::Request(request))
    }

    pub(super) fn rules(&self) -> &AccessRules {
        &self.rules
    }

    /// Returns the number of classes that were asked about.
    #[cfg(test)]
    pub(super) fn asked(&self) -> usize {
        self.known.len()
    }
}
