//! Classes of questions: those that a set of policies cannot tell apart, so that one answer is good for all of them.
//!
//! It answers nothing. INVARIANT: two questions of one class, of one identity and in one context, have the same answer. A part of a
//! question belongs to its class unless it is certain that no policy of the set looks at it.

use std::collections::BTreeSet;
use std::time::Duration;

use cedar_policy::Policy;
use serde_json::Value;

use super::cedar::CedarSchema;
use super::{Action, Policies, Resource};
use crate::model::ids::RequestId;
use crate::model::names::{GroupName, IdentityName, ProfileName, TargetName};
use crate::model::request::RequestSpec;

/// Parts of a question that only some policies about its action look at. The others belong to every class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct DistinguishingParts {
    /// Reason and ticket, which differ in nearly every request.
    texts: bool,
    /// Names of requesters and owners, beyond their groups.
    names: bool,
    /// Ids of requests.
    ids: bool,
}

/// Class of a question about a request or an access.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct QuestionClass {
    action: Action,
    /// Requester or owner, if a policy could tell it from another of the same groups.
    owner: Option<IdentityName>,
    groups: BTreeSet<GroupName>,
    target: TargetName,
    profile: ProfileName,
    window: Duration,
    max_sessions: u32,
    break_glass: bool,
    texts: Option<[Option<String>; 2]>,
    id: Option<RequestId>,
}

impl DistinguishingParts {
    const ALL: Self = Self {
        texts: true,
        names: true,
        ids: true,
    };

    /// Adds the parts that a policy looks at.
    pub(super) fn add(&mut self, policy: &Policy, cedar: &CedarSchema) {
        for entity in policy.entity_literals() {
            self.names |= cedar.is_identity(&entity);
            self.ids |= cedar.is_request(&entity);
        }
        match policy.to_json() {
            Ok(json) => self.look_at(json.get("conditions").unwrap_or(&Value::Null)),
            Err(_) => *self = Self::ALL,
        }
    }

    /// Visits every part of an expression. Attributes are reached by `.` and `has` alone; a context that stands for itself may be
    /// compared as a whole.
    fn look_at(&mut self, value: &Value) {
        let parts = match value {
            Value::Array(parts) => return parts.iter().for_each(|part| self.look_at(part)),
            Value::Object(parts) => parts,
            _ => return,
        };
        for (operator, operands) in parts {
            match (operator.as_str(), operands.get("left"), operands.get("attr")) {
                ("." | "has", Some(left), Some(attribute)) => {
                    self.attribute(attribute);
                    if !left.get("Var").is_some_and(Value::is_string) {
                        self.look_at(left);
                    }
                }
                ("Var", ..) if operands == "context" => self.texts = true,
                _ => self.look_at(operands),
            }
        }
    }

    /// Notes an attribute, or the path of an extended `has`.
    fn attribute(&mut self, attribute: &Value) {
        let path = attribute.as_array().map_or(std::slice::from_ref(attribute), Vec::as_slice);
        for name in path.iter().filter_map(Value::as_str) {
            self.texts |= matches!(name, "reason" | "ticket");
            self.names |= name == "name";
        }
    }
}

impl Policies {
    /// Returns the class of a question of `who`; `None` if it is about the gate.
    #[must_use]
    pub fn class(&self, who: &IdentityName, action: Action, resource: Resource<'_>) -> Option<QuestionClass> {
        let (wish, id): (&RequestSpec, _) = match resource {
            Resource::Gate => return None,
            Resource::Access(wish) => (wish, None),
            Resource::Request(request) => (&request.wish, Some(&request.id)),
        };
        let DistinguishingParts { texts, names, ids } = self.parts.get(&action).copied().unwrap_or_default();
        Some(QuestionClass {
            action,
            // The caller's own is another matter than what belongs to somebody else of the same groups.
            owner: (names || wish.identity == *who).then(|| wish.identity.clone()),
            groups: wish.groups.clone(),
            target: wish.target.clone(),
            profile: wish.profile.clone(),
            window: wish.window,
            max_sessions: wish.max_sessions,
            break_glass: wish.break_glass,
            texts: texts.then(|| [wish.reason.clone(), wish.ticket.clone()]),
            id: id.filter(|_| ids).cloned(),
        })
    }
}
