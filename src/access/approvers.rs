//! Names of the users that could approve a pending request. The policies are asked about every local user, on a blocking
//! thread; an answer is kept for a minute at most.
//!
//! The names are a hint: the policies decide again at the approval, with the approver's address. The address is not known
//! here, so approvers that may approve only from certain networks are not named.
//!
//! INVARIANT: at most one such question is evaluated at a time, on no thread that serves sessions, however many callers ask.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Desk, Rules, Visitor, rule};
use crate::identity::{Identity, Source};
use crate::ids::RequestId;
use crate::ledger::RequestView;
use crate::names::IdentityName;
use crate::policy::{Action, Resource};
use crate::request::Request;

/// Maximum number of approvers named to a waiting requester; a longer list would not be read.
const APPROVERS: usize = 20;
/// Maximum number of users evaluated per question; more would take over half a second of processor time for a hint.
const CANDIDATES: usize = 500;
/// Maximum number of cached answers.
const ANSWERS: usize = 256;

/// Cache of recent answers, and the lock of the one evaluation.
#[derive(Debug, Default)]
pub(super) struct Approvers {
    known: Mutex<HashMap<RequestId, Answer>>,
    /// Lock held during an evaluation.
    asking: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug)]
struct Answer {
    basis: Basis,
    names: Vec<IdentityName>,
}

/// Inputs of an answer. A cached answer is valid while they are equal.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Basis {
    policy_set: Option<String>,
    /// Version of the users and their groups.
    users: u64,
    /// Number of approvals; each changes what is to be granted and which approvers are left.
    approvals: usize,
    /// Minute of gate time, so that the time of day and the approvers' grants are evaluated again.
    minute: i64,
}

impl Desk {
    /// Returns the local users that the policies would let approve the request, without those that have approved it already.
    pub async fn approvers(&self, request: &RequestView) -> Vec<IdentityName> {
        let (rules, request) = (self.rules(), &request.request);
        let basis = Basis {
            policy_set: rule::policy_set(&rules),
            users: *self.0.ledger.users_changed().borrow(),
            approvals: request.approvals.len(),
            minute: self.0.clock.now().as_second().div_euclid(60),
        };
        let approvers = &self.0.approvers;
        if let Some(names) = approvers.known(&request.id, &basis) {
            return names;
        }
        let turn = Arc::clone(&approvers.asking).lock_owned().await;
        // The previous holder of the lock may have answered the same question.
        if let Some(names) = approvers.known(&request.id, &basis) {
            return names;
        }
        let (desk, request) = (self.clone(), request.clone());
        let asking = tokio::task::spawn_blocking(move || {
            // Held by the thread, because the evaluation continues when its caller hangs up.
            let _turn = turn;
            let names = desk.would_approve(&rules, &request);
            let answer = Answer {
                basis,
                names: names.clone(),
            };
            desk.0.approvers.remember(request.id, answer);
            names
        });
        // The join fails only when the gate shuts down.
        asking.await.unwrap_or_default()
    }

    /// Returns true if no known identity can approve a request: no enabled user may, and no issuer is configured that could name
    /// another.
    pub async fn waits_for_nobody(&self, request: &RequestView) -> bool {
        self.approvers(request).await.is_empty() && self.rules().issuers.settings().next().is_none()
    }

    fn would_approve(&self, rules: &Rules, request: &Request) -> Vec<IdentityName> {
        let approved = |name: &IdentityName| request.approvals.iter().any(|approval| approval.by == *name);
        let users = self.0.ledger.users().into_iter();
        users
            .filter(|user| user.local && !user.disabled && user.name != request.wish.identity && !approved(&user.name))
            .take(CANDIDATES)
            .map(|user| Visitor {
                identity: Identity {
                    name: user.name,
                    groups: user.groups,
                    source: Source::Local,
                    claims: BTreeMap::new(),
                },
                client: None,
            })
            .filter(|user| {
                let ruling = self.ask(rules, user, Action::Approve, Resource::Request(request));
                ruling.decision.allowed
            })
            .take(APPROVERS)
            .map(|user| user.identity.name)
            .collect()
    }
}

impl Approvers {
    fn known(&self, request: &RequestId, basis: &Basis) -> Option<Vec<IdentityName>> {
        let known = self.known.lock();
        let answer = known.get(request).filter(|answer| answer.basis == *basis)?;
        Some(answer.names.clone())
    }

    fn remember(&self, request: RequestId, answer: Answer) {
        let mut known = self.known.lock();
        if known.len() >= ANSWERS {
            known.retain(|_, old| old.basis.minute == answer.basis.minute);
        }
        if known.len() >= ANSWERS {
            known.clear();
        }
        known.insert(request, answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_does_not_grow_without_end() {
        let approvers = Approvers::default();
        let basis = |minute| Basis {
            policy_set: None,
            users: 0,
            approvals: 0,
            minute,
        };
        for minute in 0..2_u8 {
            for i in 0..=255_u8 {
                // A letter of an id is five bits.
                let random = [minute, i % 32, i / 32, 0, 0, 0, 0, 0, 0, 0];
                let answer = Answer {
                    basis: basis(minute.into()),
                    names: Vec::new(),
                };
                approvers.remember(RequestId::from_random(random), answer);
                assert!(approvers.known.lock().len() <= ANSWERS);
            }
        }
        let known = approvers.known.lock();
        assert!(known.len() == ANSWERS && known.values().all(|answer| answer.basis == basis(1)));
    }
}
