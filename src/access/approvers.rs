//! Names of the users that could approve a request, pending or not made yet. The policies are asked about every local user, on a blocking
//! thread; an answer is kept for a minute at most.
//!
//! The names are a hint: the policies decide again at the approval, with the approver's address. The address is not known
//! here, so approvers that may approve only from certain networks are not named.
//!
//! INVARIANT: at most one such question is evaluated at a time, on no thread that serves sessions, however many callers ask.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{AccessRules, AccessService, Principal};
use crate::access::policy::{AccessQuestion, Action, QuestionContext, Resource};
use crate::identity::Identity;
use crate::ledger::RequestView;
use crate::model::arrival::Arrival;
use crate::model::ids::RequestId;
use crate::model::names::{IdentityName, ProfileName, TargetName};
use crate::model::request::{Request, RequestSpec};

/// Maximum number of approvers named to a waiting requester; a longer list would not be read.
const MAX_APPROVERS: usize = 20;
/// Maximum number of users evaluated per question; more would take over half a second of processor time for a hint.
const MAX_CANDIDATES: usize = 500;
/// Maximum number of cached answers.
const MAX_CACHED_ANSWERS: usize = 256;

/// Identities that could approve a request, as far as they are known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Approvers {
    /// Local users that the policies would let approve it, without those that have approved it already.
    pub names: Vec<IdentityName>,
    /// True if no known identity can: no enabled user may, and no issuer is configured that could name another.
    pub nobody: bool,
}

/// Cache of recent answers, and the lock of the one evaluation.
#[derive(Debug, Default)]
pub(super) struct ApproverCache {
    known: Mutex<HashMap<ApproverQuestion, CachedApprovers>>,
    /// Lock held during an evaluation.
    asking: Arc<tokio::sync::Mutex<()>>,
}

/// Subject of a question for approvers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum ApproverQuestion {
    /// Request that was made.
    Request(RequestId),
    /// Request that this identity could make.
    Offer(IdentityName, TargetName, ProfileName),
}

#[derive(Debug)]
struct CachedApprovers {
    basis: AnswerBasis,
    names: Vec<IdentityName>,
}

/// Inputs of an answer. A cached answer is valid while they are equal.
#[derive(Debug, Clone, PartialEq, Eq)]
struct AnswerBasis {
    policy_set: Option<String>,
    /// Version of the users and their groups.
    users: u64,
    /// Number of approvals; each changes what is to be granted and which approvers are left.
    approvals: usize,
    /// Minute of gate time, so that the time of day and the approvers' grants are evaluated again.
    minute: i64,
}

impl AccessService {
    /// Returns the identities that could approve the request.
    pub async fn approvers(&self, request: &RequestView) -> Approvers {
        let rules = self.rules();
        let no_issuer = rules.issuers.settings().next().is_none();
        let subject = ApproverQuestion::Request(request.request.id.clone());
        let names = self.approving_users(rules, subject, &request.request).await;
        Approvers {
            nobody: names.is_empty() && no_issuer,
            names,
        }
    }

    /// Returns the identities that could approve a request of this kind, if it were made now.
    pub(super) async fn approvers_of_offer(
        &self,
        rules: Arc<AccessRules>,
        wish: RequestSpec,
        approvals: u32,
    ) -> Vec<IdentityName> {
        let subject = ApproverQuestion::Offer(wish.identity.clone(), wish.target.clone(), wish.profile.clone());
        let now = self.0.clock.now();
        let request = Request::waiting(RequestId::from_random([0; 10]), wish, approvals, now, now);
        self.approving_users(rules, subject, &request).await
    }

    async fn approving_users(&self, rules: Arc<AccessRules>, subject: ApproverQuestion, request: &Request) -> Vec<IdentityName> {
        let basis = AnswerBasis {
            policy_set: rules.policy_set(),
            users: *self.0.ledger.users_changed().borrow(),
            approvals: request.approvals.len(),
            minute: self.0.clock.now().as_second().div_euclid(60),
        };
        let approvers = &self.0.approvers;
        if let Some(names) = approvers.known(&subject, &basis) {
            return names;
        }
        let turn = Arc::clone(&approvers.asking).lock_owned().await;
        // The previous holder of the lock may have answered the same question.
        if let Some(names) = approvers.known(&subject, &basis) {
            return names;
        }
        let (service, request) = (self.clone(), request.clone());
        let asking = tokio::task::spawn_blocking(move || {
            // Held by the thread, because the evaluation continues when its caller hangs up.
            let _turn = turn;
            let names = service.would_approve(&rules, &request);
            let answer = CachedApprovers {
                basis,
                names: names.clone(),
            };
            service.0.approvers.remember(subject, answer);
            names
        });
        // The join fails only when the gate shuts down.
        asking.await.unwrap_or_default()
    }

    fn would_approve(&self, rules: &AccessRules, request: &Request) -> Vec<IdentityName> {
        let approved = |name: &IdentityName| request.approvals.iter().any(|approval| approval.by == *name);
        let users = self.0.ledger.users().into_iter();
        users
            .filter(|user| user.local && !user.disabled && user.name != request.wish.identity && !approved(&user.name))
            .take(MAX_CANDIDATES)
            .map(|user| Principal::of_token(Identity::local(user.name, user.groups), None))
            .filter(|user| {
                // Where the policies want a fresh sign-in, they can have one.
                let context = QuestionContext {
                    arrival: Arrival::FRESH,
                    ..self.context(user)
                };
                let question = AccessQuestion {
                    identity: &user.identity,
                    action: Action::Approve,
                    resource: Resource::Request(request),
                    context,
                };
                rules.decide(&question).allowed
            })
            .take(MAX_APPROVERS)
            .map(|user| user.identity.name)
            .collect()
    }
}

impl ApproverCache {
    fn known(&self, subject: &ApproverQuestion, basis: &AnswerBasis) -> Option<Vec<IdentityName>> {
        let known = self.known.lock();
        let answer = known.get(subject).filter(|answer| answer.basis == *basis)?;
        Some(answer.names.clone())
    }

    fn remember(&self, subject: ApproverQuestion, answer: CachedApprovers) {
        let mut known = self.known.lock();
        if known.len() >= MAX_CACHED_ANSWERS {
            known.retain(|_, old| old.basis.minute == answer.basis.minute);
        }
        if known.len() >= MAX_CACHED_ANSWERS {
            known.clear();
        }
        known.insert(subject, answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_does_not_grow_without_end() {
        let approvers = ApproverCache::default();
        let basis = |minute| AnswerBasis {
            policy_set: None,
            users: 0,
            approvals: 0,
            minute,
        };
        for minute in 0..2_u8 {
            for i in 0..=255_u8 {
                // A letter of an id is five bits.
                let random = [minute, i % 32, i / 32, 0, 0, 0, 0, 0, 0, 0];
                let answer = CachedApprovers {
                    basis: basis(minute.into()),
                    names: Vec::new(),
                };
                approvers.remember(ApproverQuestion::Request(RequestId::from_random(random)), answer);
                assert!(approvers.known.lock().len() <= MAX_CACHED_ANSWERS);
            }
        }
        let known = approvers.known.lock();
        assert!(known.len() == MAX_CACHED_ANSWERS && known.values().all(|answer| answer.basis == basis(1)));
    }
}
