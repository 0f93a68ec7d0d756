//! What grants left at the databases, what guard rails refused there, and what was undone. Pure.
//!
//! It knows when a grant was over only where it is told.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use super::limits::{MAX_FOLLOWED, kept};
use super::report::{Listed, Period, RailRefusals, RoleLife, Undone};
use crate::audit::event::{Outcome, RoleChanged, TransactionChanged};
use crate::ids::GrantId;
use crate::names::{IdentityName, ProfileName, TargetName};

/// Kinds of refusals that are kept apart: rules are few, but people and targets may be many.
const MOST_KINDS: usize = 20_000;

/// What makes refusals equal.
type Kind = (IdentityName, TargetName, Option<ProfileName>, String);

/// What has been seen so far.
#[derive(Debug, Default)]
pub(super) struct Database {
    roles: BTreeMap<GrantId, RoleLife>,
    refusals: HashMap<Kind, RailRefusals>,
    refusals_more: u64,
    undone: Listed<Undone>,
    /// Records about roles that are too many to be followed.
    unfollowed: u64,
}

impl Database {
    /// How many records were left out, for they were about too many.
    pub(super) fn unfollowed(&self) -> u64 {
        self.unfollowed
    }

    /// A grant's role changed; `over_at` is when the grant was over, or will be, as far as is known.
    pub(super) fn role(&mut self, time: Timestamp, event: &RoleChanged, over_at: Option<Timestamp>, period: Period) {
        if self.roles.len() >= MAX_FOLLOWED && !self.roles.contains_key(&event.grant) {
            self.unfollowed += 1;
            return;
        }
        let role = self.roles.entry(event.grant.clone()).or_insert_with(|| RoleLife {
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
        match &*event.change {
            "made" => (role.made_at, role.retired_at) = (Some(time), None),
            "retired" => role.retired_at = Some(time),
            "left" => role.trouble = event.detail.as_deref().map(kept),
            "intruder_ended" => {
                role.intruders += u64::from(period.has(time));
                role.trouble = event.detail.as_deref().map(kept);
            }
            _ => {}
        }
        // What is found of one that was not made after all comes to be `left`.
        if event.change == "not_made" || role.retired_at.is_some_and(|at| at < period.from) {
            self.roles.remove(&event.grant);
        }
    }

    /// An outcome within the period; `profile` is its grant's.
    pub(super) fn outcome(&mut self, time: Timestamp, event: &Outcome<'_>, profile: Option<&ProfileName>) {
        let Some(rule) = &event.rule else { return };
        let who = &event.who;
        let kind = (who.identity.clone(), who.target.clone(), profile.cloned(), kept(&rule.0));
        if self.refusals.len() >= MOST_KINDS && !self.refusals.contains_key(&kind) {
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

    /// A transaction within the period ended.
    pub(super) fn transaction(&mut self, time: Timestamp, event: &TransactionChanged<'_>) {
        if let Some(undone) = &event.rolled_back {
            self.undone.push(Undone {
                time,
                who: event.who.clone().into_owned(),
                first: undone.first,
                last: undone.last,
                sqlstate: kept(&undone.sqlstate.0),
            });
        }
    }

    /// The roles that were there in the period, in the order they were made; `over_at` as in [`Database::role`].
    pub(super) fn roles(&mut self, over_at: impl Fn(&GrantId) -> Option<Timestamp>) -> Vec<RoleLife> {
        let mut roles: Vec<RoleLife> = std::mem::take(&mut self.roles).into_values().collect();
        for role in roles.iter_mut().filter(|role| role.retired_at.is_none()) {
            role.over_at = over_at(&role.grant).or(role.over_at);
        }
        roles.sort_by(|a, b| (a.made_at, &a.grant).cmp(&(b.made_at, &b.grant)));
        roles
    }

    /// What guard rails refused, the most frequent first, and how many more there were; and what was undone.
    pub(super) fn finish(self) -> (Vec<RailRefusals>, u64, Listed<Undone>) {
        let mut refusals: Vec<RailRefusals> = self.refusals.into_values().collect();
        refusals.sort_by(|a, b| {
            b.count
                .cmp(&a.count)
                .then_with(|| (a.first, &a.identity).cmp(&(b.first, &b.identity)))
        });
        (refusals, self.refusals_more, self.undone)
    }
}
