//! Histories of grants and of their roles at the databases, built from the steps of their requests and their own changes. Pure.
//!
//! This module keeps the grants that the period can still show, and drops those that were over before it began.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::report::{GrantUse, ReportPeriod, ReportedGrant, ReportedRole, RequestHistory};
use crate::audit::event::{GrantChangeKind, GrantChanged, RequestChangeKind, RequestChanged, RoleChangeKind, RoleChanged};
use crate::audit::report::{MAX_FOLLOWED, MAX_NAMED, kept};
use crate::model::ids::{GrantId, RequestId};

/// Grants, roles and requests that the period may still show.
#[derive(Debug, Default)]
pub(super) struct GrantHistory {
    grants: BTreeMap<GrantId, ReportedGrant>,
    roles: BTreeMap<GrantId, ReportedRole>,
    requests: BTreeMap<RequestId, RequestSteps>,
    /// Request of each grant.
    of: BTreeMap<GrantId, RequestId>,
    /// Number of records about grants since the last sweep.
    since_sweep: usize,
    /// Number of records that were left out because too many grants, roles and requests are followed.
    pub(super) unfollowed: u64,
}

/// Request with the steps it has taken.
#[derive(Debug, Clone)]
struct RequestSteps {
    asked: RequestHistory,
    /// State before the last step, in case that step is taken back.
    before: Option<Box<RequestHistory>>,
    grant: Option<GrantId>,
    touched: Timestamp,
}

/// Number of records about grants between two sweeps.
const GRANTS_PER_SWEEP: usize = 4096;
/// Time after which a request without a grant is dropped: pending ones lapse within days.
const MAX_REQUEST_AGE: jiff::SignedDuration = jiff::SignedDuration::from_hours(31 * 24);

impl GrantHistory {
    /// Returns the use of a grant.
    pub(super) fn used(&mut self, grant: &GrantId) -> Option<&mut GrantUse> {
        self.grants.get_mut(grant).map(|life| &mut life.used)
    }

    /// Returns a grant, if it is known.
    pub(super) fn get(&self, grant: &GrantId) -> Option<&ReportedGrant> {
        self.grants.get(grant)
    }

    /// Takes a step of a request.
    pub(super) fn request(&mut self, time: Timestamp, event: &RequestChanged) {
        if self.requests.len() >= MAX_FOLLOWED && !self.requests.contains_key(&event.request) {
            self.unfollowed += 1;
            return;
        }
        let steps = self.requests.entry(event.request.clone()).or_insert_with(|| RequestSteps {
            asked: RequestHistory {
                request: event.request.clone(),
                profile: event.profile.clone(),
                reason: None,
                ticket: event.ticket.as_deref().map(kept),
                approvers: Vec::new(),
                policies: Vec::new(),
                policy_set: None,
                break_glass: event.break_glass,
                review: None,
            },
            before: None,
            grant: None,
            touched: time,
        });
        steps.touched = time;
        if event.change == RequestChangeKind::NotStored {
            if let Some(before) = steps.before.take() {
                steps.asked = *before;
            }
        } else {
            steps.before = Some(Box::new(steps.asked.clone()));
            steps.step(time, event);
        }
        if let Some(grant) = &steps.grant {
            self.of.insert(grant.clone(), event.request.clone());
            if let Some(life) = self.grants.get_mut(grant) {
                life.asked = Some(steps.asked.clone());
            }
        }
        match event.change.known() {
            Some(RequestChangeKind::Denied | RequestChangeKind::Rejected | RequestChangeKind::Withdrawn) => {
                self.requests.remove(&event.request);
            }
            Some(
                RequestChangeKind::Submitted
                | RequestChangeKind::Granted
                | RequestChangeKind::Approved
                | RequestChangeKind::Reviewed
                | RequestChangeKind::NotStored,
            )
            | None => {}
        }
    }

    /// Takes the creation or a change of a grant.
    pub(super) fn grant(&mut self, time: Timestamp, event: &GrantChanged, period: ReportPeriod) {
        let taken_back = match event.change.known() {
            Some(GrantChangeKind::NotStored) => event.reason.as_deref().and_then(GrantChangeKind::taken_back),
            _ => None,
        };
        if taken_back == Some(GrantChangeKind::Created) {
            self.grants.remove(&event.grant);
            return;
        }
        if self.grants.len() >= MAX_FOLLOWED && !self.grants.contains_key(&event.grant) {
            self.sweep(time, period);
            if self.grants.len() >= MAX_FOLLOWED {
                self.unfollowed += 1;
                return;
            }
        }
        let asked = self.of.get(&event.grant).and_then(|request| self.requests.get(request));
        let life = self.grants.entry(event.grant.clone()).or_insert_with(|| ReportedGrant {
            grant: event.grant.clone(),
            identity: event.identity.clone(),
            target: event.target.clone(),
            profile: event.profile.clone(),
            asked: asked.map(|steps| steps.asked.clone()),
            by: kept(&event.by),
            reason: event.reason.as_deref().map(kept),
            // If the creation is no longer in the log, this is the first record of the grant.
            created_at: time,
            activated_at: None,
            until: None,
            activate_by: event.activate_by,
            window_seconds: event.window_seconds,
            revoked: None,
            moved: 0,
            used: GrantUse::default(),
        });
        life.until = event.until;
        life.activate_by = event.activate_by;
        life.window_seconds = event.window_seconds;
        match event.change.known() {
            Some(GrantChangeKind::Activated) => life.activated_at = Some(time),
            Some(GrantChangeKind::Extended | GrantChangeKind::Shortened) => life.moved += 1,
            Some(GrantChangeKind::Revoked) => {
                let why = event.reason.as_deref().map(|reason| format!(": {reason}"));
                life.revoked = Some((time, kept(&format!("{}{}", event.by, why.unwrap_or_default()))));
            }
            Some(GrantChangeKind::NotStored) => life.take_back(taken_back),
            Some(GrantChangeKind::Created | GrantChangeKind::LoginIssued | GrantChangeKind::Postponed) | None => {}
        }
        self.since_sweep += 1;
        if self.since_sweep >= GRANTS_PER_SWEEP {
            self.sweep(time, period);
        }
    }

    /// Drops the grants that were over before the period, and stale requests without a grant.
    fn sweep(&mut self, now: Timestamp, period: ReportPeriod) {
        self.since_sweep = 0;
        self.grants.retain(|_, life| life.over_at() >= period.from.min(now));
        let (grants, of) = (&self.grants, &mut self.of);
        of.retain(|grant, _| grants.contains_key(grant));
        self.requests.retain(|_, steps| {
            let kept = steps.grant.as_ref().is_some_and(|grant| grants.contains_key(grant));
            kept || now.duration_since(steps.touched) < MAX_REQUEST_AGE
        });
    }

    /// Takes a change of a grant's role.
    pub(super) fn role(&mut self, time: Timestamp, event: &RoleChanged, period: ReportPeriod) {
        if self.roles.len() >= MAX_FOLLOWED && !self.roles.contains_key(&event.grant) {
            self.unfollowed += 1;
            return;
        }
        let over_at = self.get(&event.grant).map(ReportedGrant::over_at);
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

    /// Returns all grants that existed in the period and their roles, oldest first.
    pub(super) fn finish(self, period: ReportPeriod) -> (Vec<ReportedGrant>, Vec<ReportedRole>) {
        let mut roles: Vec<ReportedRole> = self.roles.into_values().collect();
        for role in roles.iter_mut().filter(|role| role.retired_at.is_none()) {
            role.over_at = self.grants.get(&role.grant).map(ReportedGrant::over_at).or(role.over_at);
        }
        roles.sort_by(|a, b| (a.made_at, &a.grant).cmp(&(b.made_at, &b.grant)));
        let mut lives: Vec<ReportedGrant> = self
            .grants
            .into_values()
            .filter(|life| life.created_at < period.to && life.over_at() >= period.from)
            .collect();
        lives.sort_by(|a, b| (a.created_at, &a.grant).cmp(&(b.created_at, &b.grant)));
        (lives, roles)
    }
}

impl RequestSteps {
    fn step(&mut self, time: Timestamp, event: &RequestChanged) {
        let asked = &mut self.asked;
        asked.profile = event.profile.clone();
        asked.break_glass |= event.break_glass;
        match event.change.known() {
            Some(RequestChangeKind::Submitted | RequestChangeKind::Granted) => asked.reason = event.reason.as_deref().map(kept),
            Some(RequestChangeKind::Approved) => {
                if asked.approvers.len() < MAX_NAMED {
                    asked.approvers.push(event.by.clone());
                }
            }
            Some(RequestChangeKind::Reviewed) => asked.review = Some((event.by.clone(), time, event.reason.as_deref().map(kept))),
            Some(
                RequestChangeKind::Denied
                | RequestChangeKind::Rejected
                | RequestChangeKind::Withdrawn
                | RequestChangeKind::NotStored,
            )
            | None => {}
        }
        if event.change != RequestChangeKind::Reviewed {
            for policy in &event.policies {
                if asked.policies.len() < MAX_NAMED && !asked.policies.contains(policy) {
                    asked.policies.push(kept(policy));
                }
            }
            if event.policy_set.is_some() {
                asked.policy_set = event.policy_set.as_deref().map(kept);
            }
        }
        if event.grant.is_some() {
            self.grant.clone_from(&event.grant);
        }
    }
}

impl ReportedGrant {
    /// Takes back a change that was not stored; the record has the grant's state without it.
    fn take_back(&mut self, change: Option<GrantChangeKind>) {
        match change {
            Some(GrantChangeKind::Revoked) => self.revoked = None,
            Some(GrantChangeKind::Activated) => self.activated_at = None,
            Some(GrantChangeKind::Extended | GrantChangeKind::Shortened) => self.moved = self.moved.saturating_sub(1),
            Some(
                GrantChangeKind::Created | GrantChangeKind::LoginIssued | GrantChangeKind::Postponed | GrantChangeKind::NotStored,
            )
            | None => {}
        }
    }
}
