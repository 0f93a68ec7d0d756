//! Who could approve a request, for whoever waits: the policies are asked about every local user, aside and once a minute at most.
//!
//! It decides nothing: whoever approves is asked about then, from where they are. Where they are is not known here, so who may
//! approve from some network only is not named.
//!
//! INVARIANT: at most one such question is worked on at a time, on no thread that serves sessions, however many ask.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Desk, Rules, Visitor, rule};
use crate::identity::{Identity, Source};
use crate::ids::RequestId;
use crate::ledger::RequestView;
use crate::names::IdentityName;
use crate::policy::{Action, Resource};
use crate::request::Request;

/// Approvers named to somebody who waits: more would not be read.
const APPROVERS: usize = 20;
/// Users asked about for that: half a second of somebody's processor is enough for a hint.
const CANDIDATES: usize = 500;
/// Answers remembered.
const ANSWERS: usize = 256;

/// What was found out lately.
#[derive(Debug, Default)]
pub(super) struct Approvers {
    known: Mutex<HashMap<RequestId, Answer>>,
    /// Whose turn it is to ask.
    asking: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug)]
struct Answer {
    basis: Basis,
    names: Vec<IdentityName>,
}

/// What an answer depends on: while it is the same, so is the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Basis {
    policy_set: Option<String>,
    /// The users and their groups.
    users: u64,
    /// Approvals change what is to be given, and who has given theirs.
    approvals: usize,
    /// The hour, and the grants that approvers have, are looked at again.
    minute: i64,
}

impl Desk {
    /// Local users whom the policies would let approve, for "who can approve this"; not those who have.
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
        // Whoever had the turn before may have asked the same.
        if let Some(names) = approvers.known(&request.id, &basis) {
            return names;
        }
        let (desk, request) = (self.clone(), request.clone());
        let asking = tokio::task::spawn_blocking(move || {
            // Held here: it goes on when whoever asked hangs up.
            let _turn = turn;
            let names = desk.would_approve(&rules, &request);
            let answer = Answer {
                basis,
                names: names.clone(),
            };
            desk.0.approvers.remember(request.id, answer);
            names
        });
        // It fails only when the gate goes down.
        asking.await.unwrap_or_default()
    }

    /// Returns whether a request waits for nobody: none of the users that are enabled may approve it, and nobody else is known, for
    /// there is no issuer.
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
        let known = self.answers();
        let answer = known.get(request).filter(|answer| answer.basis == *basis)?;
        Some(answer.names.clone())
    }

    fn remember(&self, request: RequestId, answer: Answer) {
        let mut known = self.answers();
        if known.len() >= ANSWERS {
            known.retain(|_, old| old.basis.minute == answer.basis.minute);
        }
        if known.len() >= ANSWERS {
            known.clear();
        }
        known.insert(request, answer);
    }

    /// Poisoned or not: each answer is whole at any time.
    fn answers(&self) -> MutexGuard<'_, HashMap<RequestId, Answer>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
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
                assert!(approvers.answers().len() <= ANSWERS);
            }
        }
        let known = approvers.answers();
        assert!(known.len() == ANSWERS && known.values().all(|answer| answer.basis == basis(1)));
    }
}
