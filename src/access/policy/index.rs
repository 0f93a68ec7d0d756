//! Index of the policies by action and by the entities in their scope.
//!
//! Cedar evaluates every policy of the set it is given, so a question is asked only of policies whose scope can match. The answer
//! is the same: each policy decides by itself whether it applies, and any forbid outweighs all permits.

use std::collections::{BTreeSet, HashMap};

use cedar_policy::{
    ActionConstraint, Authorizer, Decision as CedarDecision, Effect, Entities, EntityUid, Policy, PolicySet, PrincipalConstraint,
    ResourceConstraint,
};
use serde_json::json;

use super::Action;
use super::cedar::{CedarQuestion, CedarSchema};

/// Policies, in small sets by action and scope.
#[derive(Debug, Default)]
pub(super) struct PolicyIndex {
    sets: HashMap<ScopeKey, PolicySet>,
}

/// Action, principal and resource of a scope; `None` matches everything.
type ScopeKey = (Action, Option<EntityUid>, Option<EntityUid>);

/// Answer of Cedar to a question: ids of policies, and errors.
#[derive(Debug, Default)]
pub(super) struct CedarAnswer {
    pub(super) permits: BTreeSet<String>,
    pub(super) forbids: BTreeSet<String>,
    pub(super) errors: Vec<String>,
}

impl PolicyIndex {
    /// Adds a policy under every action it applies to.
    pub(super) fn add(&mut self, policy: &Policy, actions: &[Action]) -> Result<(), String> {
        let whatever_action = whatever_action(policy).unwrap_or_else(|| policy.clone());
        for action in actions {
            let key = (*action, principal(policy), resource(policy));
            let set = self.sets.entry(key).or_default();
            set.add(whatever_action.clone()).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Asks all policies that can apply to a question.
    pub(super) fn answer(&self, action: Action, put: &CedarQuestion) -> CedarAnswer {
        let (authorizer, mut answer) = (Authorizer::new(), CedarAnswer::default());
        for set in self.about(action, put) {
            let response = authorizer.is_authorized(&put.request, set, &put.entities);
            let diagnostics = response.diagnostics();
            let reasons = diagnostics.reason().map(ToString::to_string);
            match response.decision() {
                CedarDecision::Allow => answer.permits.extend(reasons),
                // The reasons of a denial are forbids; a denial for lack of a permit has none.
                CedarDecision::Deny => answer.forbids.extend(reasons),
            }
            answer.errors.extend(diagnostics.errors().map(ToString::to_string));
        }
        answer.errors.sort();
        answer
    }

    /// Returns the permits whose scope matches, whether their conditions hold or not, in order.
    pub(super) fn near(&self, action: Action, put: &CedarQuestion) -> BTreeSet<String> {
        let policies = self.about(action, put).flat_map(PolicySet::policies);
        let permits = policies.filter(|policy| policy.effect() == Effect::Permit);
        permits.map(|policy| policy.id().to_string()).collect()
    }

    fn about<'a>(&'a self, action: Action, put: &'a CedarQuestion) -> impl Iterator<Item = &'a PolicySet> {
        let any_or = |uids: &'a [EntityUid]| std::iter::once(None).chain(uids.iter().map(Some));
        let keys =
            any_or(&put.principals).flat_map(move |principal| any_or(&put.resources).map(move |resource| (principal, resource)));
        keys.filter_map(move |(principal, resource)| self.sets.get(&(action, principal.cloned(), resource.cloned())))
    }
}

/// Returns the policy without its action, which the key of its set has: comparing it with each policy took a fifth of the time of
/// a decision.
fn whatever_action(policy: &Policy) -> Option<Policy> {
    let mut json = policy.to_json().ok()?;
    *json.get_mut("action")? = json!({"op": "All"});
    Policy::from_json(Some(policy.id().clone()), json).ok()
}

/// Returns the actions a policy applies to.
pub(super) fn actions(policy: &Policy, cedar: &CedarSchema, hierarchy: &Entities) -> Vec<Action> {
    let covers = |named: &EntityUid, action: &EntityUid| named == action || hierarchy.is_ancestor_of(named, action);
    let constraint = policy.action_constraint();
    let is_about = |action: &Action| match &constraint {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(named) => *named == cedar.action(*action),
        ActionConstraint::In(named) => named.iter().any(|named| covers(named, &cedar.action(*action))),
    };
    Action::ALL.into_iter().filter(is_about).collect()
}

fn principal(policy: &Policy) -> Option<EntityUid> {
    match policy.principal_constraint() {
        PrincipalConstraint::Any | PrincipalConstraint::Is(_) => None,
        PrincipalConstraint::In(uid) | PrincipalConstraint::Eq(uid) | PrincipalConstraint::IsIn(_, uid) => Some(uid),
    }
}

fn resource(policy: &Policy) -> Option<EntityUid> {
    match policy.resource_constraint() {
        ResourceConstraint::Any | ResourceConstraint::Is(_) => None,
        ResourceConstraint::In(uid) | ResourceConstraint::Eq(uid) | ResourceConstraint::IsIn(_, uid) => Some(uid),
    }
}
