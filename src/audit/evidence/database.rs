//! Roles of grants at the databases, statements that guard rails refused, and statements that were rolled back. Pure.
//!
//! This module does not follow grants: its callers pass the time at which a grant was over.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use super::limits::{MAX_FOLLOWED, kept};
use super::report::{BoundedList, RailRefusals, ReportPeriod, ReportedRole, UndoneStatements};
use crate::audit::event::{RoleChangeKind, RoleChanged, StatementOutcome, TransactionChanged};
use crate::model::ids::GrantId;
use crate::model::names::{IdentityName, ProfileName, TargetName};

/// Number of kinds of refusals that are counted separately: rules are few, but identities and targets may be many.
const MAX_KINDS: usize = 20_000;

/// Key by which refusals are grouped.
type FilterRefusalKey = (IdentityName, TargetName, Option<ProfileName>, String);

/// Accumulator of the records read so far.
#[derive(Debug, Default)]
pub(super) struct DatabaseUse {
    roles: BTreeMap<GrantId, ReportedRole>,
    refusals: HashMap<FilterRefusalKey, RailRefusals>,
    refusals_more: u64,
    undone: BoundedList<UndoneStatements>,
    /// Number of records that were left out because too many roles are followed.
    unfollowed: u64,
}

impl DatabaseUse {
    /// Returns the number of records that were left out because too many roles are followed.
    pub(super) fn unfollowed(&self) -> u64 {
        self.unfollowed
    }

    /// Takes a change of a grant's role; `over_at` is the time at which the grant was or will be over, if it is known.
    pub(super) fn role(&mut self, time: Timestamp, event: &RoleChanged, over_at: Option<Timestamp>, period: ReportPeriod) {
        if self.roles.len() >= MAX_FOLLOWED && !self.roles.contains_key(&event.grant) {
            self.unfollowed += 1;
            return;
        }
        let role = self.roles.entry(event.grant.clone()).or_insert_with(|| ReportedRole {
            grant: event.grant.clone(),
            target: event.target.clone(),
            role: kept(&event.role),
            made_at: None,
            over_at: None,
            retired_at: None,
            trouble: None,
            intruders: 0,
        });
        role.over_at = over_at.or(event.until).or(role.over_at);
        match event.change.known() {
            Some(RoleChangeKind::Made) => (role.made_at, role.retired_at) = (Some(time), None),
            Some(RoleChangeKind::Retired) => role.retired_at = Some(time),
            Some(RoleChangeKind::Left) => role.trouble = event.detail.as_deref().map(kept),
            Some(RoleChangeKind::IntruderEnded) => {
                role.intruders += u64::from(period.has(time));
                role.trouble = event.detail.as_deref().map(kept);
            }
            Some(RoleChangeKind::NotMade | RoleChangeKind::Extended | RoleChangeKind::Undone) | None => {}
        }
        // A role that was not made after all and is found later is on record as `left`.
        if event.change == RoleChangeKind::NotMade || role.retired_at.is_some_and(|at| at < period.from) {
            self.roles.remove(&event.grant);
        }
    }

    /// Takes an outcome within the period; `profile` is that of its grant.
    pub(super) fn outcome(&mut self, time: Timestamp, event: &StatementOutcome<'_>, profile: Option<&ProfileName>) {
        let Some(rule) = &event.rule else { return };
        let who = &event.who;
        let kind = (who.identity.clone(), who.target.clone(), profile.cloned(), kept(&rule.0));
        if self.refusals.len() >= MAX_KINDS && !self.refusals.contains_key(&kind) {
            self.refusals_more += 1;
            return;
        }
        let (identity, target, profile, rule) = kind.clone();
        let refusals = self.refusals.entry(kind).or_insert(RailRefusals {
            identity,
            target,
            profile,
            rule,
            count: 0,
            first: time,
            last: time,
        });
        refusals.count += 1;
        refusals.last = time;
    }

    /// Takes the end of a transaction within the period.
    pub(super) fn transaction(&mut self, time: Timestamp, event: &TransactionChanged<'_>) {
        if let Some(undone) = &event.rolled_back {
            self.undone.push(UndoneStatements {
                time,
                who: event.who.clone().into_owned(),
                first: undone.first,
                last: undone.last,
                sqlstate: kept(&undone.sqlstate.0),
            });
        }
    }

    /// Returns the roles that existed in the period, in the order of their creation; `over_at` as in [`DatabaseUse::role`].
    pub(super) fn roles(&mut self, over_at: impl Fn(&GrantId) -> Option<Timestamp>) -> Vec<ReportedRole> {
        let mut roles: Vec<ReportedRole> = std::mem::take(&mut self.roles).into_values().collect();
        for role in roles.iter_mut().filter(|role| role.retired_at.is_none()) {
            role.over_at = over_at(&role.grant).or(role.over_at);
        }
        roles.sort_by(|a, b| (a.made_at, &a.grant).cmp(&(b.made_at, &b.grant)));
        roles
    }

    /// Returns the refusals of guard rails, the most frequent first, with the number of those that were left out; and the
    /// statements that were rolled back.
    pub(super) fn finish(self) -> (Vec<RailRefusals>, u64, BoundedList<UndoneStatements>) {
        let mut refusals: Vec<RailRefusals> = self.refusals.into_values().collect();
        refusals.sort_by(|a, b| {
            b.count
                .cmp(&a.count)
                .then_with(|| (a.first, &a.identity).cmp(&(b.first, &b.identity)))
        });
        (refusals, self.refusals_more, self.undone)
    }
}
