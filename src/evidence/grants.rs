//! The lives of grants, put together from the steps of their requests and their own changes. Pure.
//!
//! It keeps those that a period can still show, and drops what was over before it began.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::limits::{MAX_FOLLOWED, MAX_NAMED, kept};
use super::report::{Asked, GrantLife, Period, Use};
use crate::audit::event::{GrantChanged, RequestChanged};
use crate::ids::{GrantId, RequestId};

/// The change of a record that takes back the one before.
pub(super) const NOT_STORED: &str = "not_stored";

/// All grants and requests that may still matter.
#[derive(Debug, Default)]
pub(super) struct Lives {
    grants: BTreeMap<GrantId, GrantLife>,
    requests: BTreeMap<RequestId, Steps>,
    /// Which request a grant is of.
    of: BTreeMap<GrantId, RequestId>,
    /// So many are dropped together.
    since_sweep: usize,
    /// Records about grants and requests that are too many to be followed.
    unfollowed: u64,
}

/// A request on its way.
#[derive(Debug, Clone)]
struct Steps {
    asked: Asked,
    /// As it was before its last step, should that be taken back.
    before: Option<Box<Asked>>,
    grant: Option<GrantId>,
    touched: Timestamp,
}

/// How many grants are made between two looks for those that are over.
const SWEEP: usize = 4096;
/// A request that led to nothing in that time leads to nothing: pending ones lapse within days at most.
const STALE: jiff::SignedDuration = jiff::SignedDuration::from_hours(31 * 24);

impl Lives {
    /// What was used.
    pub(super) fn used(&mut self, grant: &GrantId) -> Option<&mut Use> {
        self.grants.get_mut(grant).map(|life| &mut life.used)
    }

    /// What is known of a grant.
    pub(super) fn get(&self, grant: &GrantId) -> Option<&GrantLife> {
        self.grants.get(grant)
    }

    /// How many records were left out, for they were about too many.
    pub(super) fn unfollowed(&self) -> u64 {
        self.unfollowed
    }

    /// A request took a step.
    pub(super) fn request(&mut self, time: Timestamp, event: &RequestChanged) {
        if self.requests.len() >= MAX_FOLLOWED && !self.requests.contains_key(&event.request) {
            self.unfollowed += 1;
            return;
        }
        let steps = self.requests.entry(event.request.clone()).or_insert_with(|| Steps {
            asked: Asked {
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
        if event.change == NOT_STORED {
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
        if matches!(&*event.change, "denied" | "rejected" | "withdrawn") {
            self.requests.remove(&event.request);
        }
    }

    /// A grant was made or changed.
    pub(super) fn grant(&mut self, time: Timestamp, event: &GrantChanged, period: Period) {
        let undone = (event.change == NOT_STORED).then(|| event.reason.as_deref().unwrap_or_default());
        if undone.is_some_and(|reason| reason.contains("`created`")) {
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
        let life = self.grants.entry(event.grant.clone()).or_insert_with(|| GrantLife {
            grant: event.grant.clone(),
            identity: event.identity.clone(),
            target: event.target.clone(),
            profile: event.profile.clone(),
            asked: asked.map(|steps| steps.asked.clone()),
            by: kept(&event.by),
            reason: event.reason.as_deref().map(kept),
            // Of one whose beginning is no longer in the log, this is the first that is known.
            created_at: time,
            activated_at: None,
            until: None,
            activate_by: event.activate_by,
            window_seconds: event.window_seconds,
            revoked: None,
            moved: 0,
            used: Use::default(),
        });
        life.until = event.until;
        life.activate_by = event.activate_by;
        life.window_seconds = event.window_seconds;
        match (&*event.change, undone) {
            ("activated", _) => life.activated_at = Some(time),
            ("extended" | "shortened", _) => life.moved += 1,
            ("revoked", _) => {
                let why = event.reason.as_deref().map(|reason| format!(": {reason}"));
                life.revoked = Some((time, kept(&format!("{}{}", event.by, why.unwrap_or_default()))));
            }
            (_, Some(undone)) => life.take_back(undone),
            _ => {}
        }
        self.since_sweep += 1;
        if self.since_sweep >= SWEEP {
            self.sweep(time, period);
        }
    }

    /// Drops what was over before the period, and requests that led to nothing.
    fn sweep(&mut self, now: Timestamp, period: Period) {
        self.since_sweep = 0;
        self.grants.retain(|_, life| life.over_at() >= period.from.min(now));
        let (grants, of) = (&self.grants, &mut self.of);
        of.retain(|grant, _| grants.contains_key(grant));
        self.requests.retain(|_, steps| {
            let kept = steps.grant.as_ref().is_some_and(|grant| grants.contains_key(grant));
            kept || now.duration_since(steps.touched) < STALE
        });
    }

    /// All that were there in the period, oldest first.
    pub(super) fn within(self, period: Period) -> Vec<GrantLife> {
        let mut lives: Vec<GrantLife> = self
            .grants
            .into_values()
            .filter(|life| life.created_at < period.to && life.over_at() >= period.from)
            .collect();
        lives.sort_by(|a, b| (a.created_at, &a.grant).cmp(&(b.created_at, &b.grant)));
        lives
    }
}

impl Steps {
    fn step(&mut self, time: Timestamp, event: &RequestChanged) {
        let asked = &mut self.asked;
        asked.profile = event.profile.clone();
        asked.break_glass |= event.break_glass;
        match &*event.change {
            "submitted" | "granted" => asked.reason = event.reason.as_deref().map(kept),
            "approved" if asked.approvers.len() < MAX_NAMED => asked.approvers.push(event.by.clone()),
            "reviewed" => asked.review = Some((event.by.clone(), time, event.reason.as_deref().map(kept))),
            _ => {}
        }
        if event.change != "reviewed" {
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

impl GrantLife {
    /// What was said to be done was not stored; the record has the grant as it stays.
    fn take_back(&mut self, undone: &str) {
        if undone.contains("`revoked`") {
            self.revoked = None;
        } else if undone.contains("`activated`") {
            self.activated_at = None;
        } else if undone.contains("`extended`") || undone.contains("`shortened`") {
            self.moved = self.moved.saturating_sub(1);
        }
    }
}
