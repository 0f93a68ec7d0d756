//! Plan of changes that give a profile's role the rights of its definition, step by step, each with its reason.
//!
//! It compares nothing and makes no change: [`mod@super::compare`] fills it.

use super::Rights;
use super::role::RoleName;

/// Profile at a target.
#[derive(Debug, Clone, Copy)]
pub struct PlannedProfile<'a> {
    /// Role that gets its rights.
    pub role: &'a RoleName,
    /// Comment that marks the role as the gate's.
    pub marker: &'a str,
    /// Rights by its definition.
    pub rights: &'a Rights,
    /// The target's account, which grants the role.
    pub account: &'a str,
}

/// One statement of a plan.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PlanStep {
    /// Text of the statement.
    pub sql: String,
    /// Reason for it.
    pub why: String,
}

/// Differences between a profile and the database.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct ProfilePlan {
    /// Statements to run, in order.
    pub steps: Vec<PlanStep>,
    /// Differences that the connected account cannot remove; while there is any, nothing is done.
    pub blocked: Vec<String>,
    /// Rights of the role beyond the definition that others granted and the connected account cannot revoke; they block nothing.
    pub excess: Vec<String>,
    /// Warnings about facts that are no differences.
    pub warnings: Vec<String>,
}

/// Error of a profile that has no plan, because an object that is not the gate's has the name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} {name} exists and does not belong to the gate (its comment is not `{marker}`); rename or drop it, or rename the profile"
)]
pub struct PlanError {
    /// Kind of the object: a role or a schema.
    pub what: &'static str,
    /// Name of the object.
    pub name: String,
    /// Comment it would have.
    pub marker: String,
}

impl PlanStep {
    pub(super) fn new(sql: String, why: impl Into<String>) -> Self {
        Self { sql, why: why.into() }
    }
}

impl ProfilePlan {
    /// Returns true if the database is as the profile defines.
    #[must_use]
    pub fn in_step(&self) -> bool {
        self.differences() == 0
    }

    /// Returns the number of differences.
    #[must_use]
    pub fn differences(&self) -> u64 {
        let count = self.steps.len() + self.blocked.len() + self.excess.len();
        count.try_into().unwrap_or(u64::MAX)
    }

    /// Returns the first differences, each with its remedy.
    #[must_use]
    pub fn first(&self, most: usize) -> Vec<String> {
        let steps = self.steps.iter().map(|step| format!("{};  -- {}", step.sql, step.why));
        let others = self.excess.iter().chain(&self.blocked).cloned();
        steps.chain(others).take(most).collect()
    }

    pub(super) fn step(&mut self, sql: String, why: impl Into<String>) {
        self.steps.push(PlanStep::new(sql, why));
    }
}
