//! Grants at one target: those that use it, and those that wait in line, in the order in which they came.
//!
//! It has no lock, reads no clock and records nothing. INVARIANT: a grant stands here once at most, and two grants whose modes exclude
//! each other never both use the target.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::base::clock::Moment;
use crate::model::grant::Grant;
use crate::model::ids::GrantId;
use crate::model::line::{LineHolder, LinePlace, LineStanding, UseMode, may_pass};
use crate::model::names::IdentityName;

/// Numbers of grants that wait in one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineLimits {
    /// In all.
    pub grants: u32,
    /// Of one identity.
    pub of_one: u32,
}

/// Limit of a line that is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LineFull {
    /// That of the identity.
    OfOne,
    /// That of the line.
    InAll,
}

/// Place that a client of a grant holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientKind {
    /// A login or a call that waits for the grant's turn or keeps it.
    Waiter,
    /// A session.
    Session,
}

/// Result of a look at a grant's standing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LineStep {
    /// It uses the target already.
    Uses,
    /// It uses the target from now on.
    Took {
        /// Time at which it came to the line, if it has waited.
        waited_since: Option<Instant>,
        /// Grant that was in its way then.
        behind: Option<(GrantId, IdentityName)>,
    },
    /// It waits; `first` if that is told for the first time.
    Waits {
        /// Its place.
        place: LinePlace,
        /// True at the first look.
        first: bool,
    },
    /// It has ended.
    Gone,
}

/// Grants at one target.
#[derive(Debug, Default)]
pub(super) struct GrantQueue {
    users: Vec<Member>,
    waiting: VecDeque<Member>,
}

/// Grant that uses the target, or waits.
#[derive(Debug)]
struct Member {
    grant: watch::Receiver<Arc<Grant>>,
    mode: UseMode,
    sessions: u32,
    waiters: u32,
    /// Time until which it stays without sessions and waiters.
    kept_until: Instant,
    since: Instant,
    /// Grant that was in its way when it came to the line.
    behind: Option<(GrantId, IdentityName)>,
    told: bool,
}

impl Member {
    fn is(&self, id: &GrantId) -> bool {
        self.grant.borrow().id() == id
    }

    fn is_of(&self, identity: &IdentityName) -> bool {
        self.grant.borrow().identity() == identity
    }

    /// Returns true if the grant is still here. Sessions of a grant that has ended count until their backends are gone.
    fn is_present(&self, now: Moment) -> bool {
        let held = self.waiters > 0 || now.instant < self.kept_until;
        self.sessions > 0 || (held && !self.grant.borrow().status(now.time).ended())
    }

    fn count(&mut self, kind: ClientKind) -> &mut u32 {
        match kind {
            ClientKind::Waiter => &mut self.waiters,
            ClientKind::Session => &mut self.sessions,
        }
    }

    fn holder(&self) -> LineHolder {
        let grant = self.grant.borrow();
        LineHolder {
            grant: grant.id().clone(),
            identity: grant.identity().clone(),
            profile: grant.profile().cloned(),
            until: grant.until(),
        }
    }
}

impl GrantQueue {
    /// Adds a waiter of a grant, which comes to the line with its first one.
    pub(super) fn enter(
        &mut self,
        grant: &watch::Receiver<Arc<Grant>>,
        mode: UseMode,
        limits: LineLimits,
        now: Moment,
    ) -> Result<(), LineFull> {
        self.tidy(now);
        let (id, identity) = {
            let grant = grant.borrow();
            (grant.id().clone(), grant.identity().clone())
        };
        if let Some(member) = self.member(&id) {
            member.waiters += 1;
            member.kept_until = now.instant;
            return Ok(());
        }
        if !may_pass(mode, self.modes_of_users(), self.modes_before(self.waiting.len())) {
            let of_one = self.waiting.iter().filter(|member| member.is_of(&identity)).count();
            if of_one >= limits.of_one as usize {
                return Err(LineFull::OfOne);
            }
            if self.waiting.len() >= limits.grants as usize {
                return Err(LineFull::InAll);
            }
        }
        self.waiting.push_back(Member {
            grant: grant.clone(),
            mode,
            sessions: 0,
            waiters: 1,
            kept_until: now.instant,
            since: now.instant,
            behind: None,
            told: false,
        });
        Ok(())
    }

    /// Adds a grant of a former run that uses the target, and is kept until then.
    pub(super) fn restore(&mut self, grant: watch::Receiver<Arc<Grant>>, mode: UseMode, kept_until: Instant, now: Moment) {
        self.users.push(Member {
            grant,
            mode,
            sessions: 0,
            waiters: 0,
            kept_until,
            since: now.instant,
            behind: None,
            told: false,
        });
    }

    /// Returns the standing of a grant, which uses the target from now on if its turn has come.
    pub(super) fn look(&mut self, id: &GrantId, now: Moment) -> LineStep {
        self.tidy(now);
        if self.users.iter().any(|member| member.is(id)) {
            return LineStep::Uses;
        }
        let Some(at) = self.waiting.iter().position(|member| member.is(id)) else {
            return LineStep::Gone;
        };
        let mode = self.waiting.get(at).map_or(UseMode::All, |member| member.mode);
        if may_pass(mode, self.modes_of_users(), self.modes_before(at)) {
            let Some(member) = self.waiting.remove(at) else {
                return LineStep::Gone;
            };
            let waited_since = member.told.then_some(member.since);
            let behind = member.behind.clone();
            self.users.push(member);
            return LineStep::Took { waited_since, behind };
        }
        let place = self.place(at);
        let Some(member) = self.waiting.get_mut(at) else {
            return LineStep::Gone;
        };
        let first = !std::mem::replace(&mut member.told, true);
        if first {
            let holder = place.held_by.first();
            member.behind = holder.map(|holder| (holder.grant.clone(), holder.identity.clone()));
        }
        LineStep::Waits { place, first }
    }

    /// Makes a waiter of a grant that uses the target a session of it.
    pub(super) fn begin_session(&mut self, id: &GrantId) {
        if let Some(member) = self.member(id) {
            member.waiters = member.waiters.saturating_sub(1);
            member.sessions += 1;
        }
    }

    /// Removes a session or a waiter of a grant, which then stays until `kept_until`. Returns how long ago the grant came if it has
    /// left the line with that.
    pub(super) fn leave(&mut self, id: &GrantId, kind: ClientKind, kept_until: Instant, now: Moment) -> Option<Instant> {
        let since = self.waiting.iter().find(|member| member.is(id)).map(|member| member.since);
        let member = self.member(id)?;
        let count = member.count(kind);
        *count = count.saturating_sub(1);
        // The last one says how long. The use of those that exclude nobody is not kept: others would wait for nothing.
        let is_last = member.sessions == 0 && member.waiters == 0;
        if is_last && (member.mode.is_exclusive() || since.is_some()) {
            member.kept_until = kept_until;
        }
        self.tidy(now);
        since.filter(|_| self.member(id).is_none())
    }

    /// Returns the standing of a grant, if it uses the target exclusively or waits.
    pub(super) fn standing(&self, id: &GrantId, now: Moment) -> Option<LineStanding> {
        let uses = |member: &&Member| member.is(id) && member.mode.is_exclusive() && member.is_present(now);
        if self.users.iter().any(|member| uses(&member)) {
            return Some(LineStanding::Uses);
        }
        let at = self
            .waiting
            .iter()
            .position(|member| member.is(id) && member.is_present(now))?;
        Some(LineStanding::Waits(self.place(at)))
    }

    /// Returns those who exclude others or are in the way of one that waits, and those who wait.
    pub(super) fn holders(&self, now: Moment) -> (Vec<LineHolder>, Vec<LineHolder>) {
        let is_in_the_way = |user: &&Member| {
            user.is_present(now)
                && (user.mode.is_exclusive() || self.waiting.iter().any(|waiting| waiting.mode.excludes(user.mode)))
        };
        let users = self.users.iter().filter(is_in_the_way).map(Member::holder).collect();
        let waiting = self.waiting.iter().filter(|member| member.is_present(now));
        (users, waiting.map(Member::holder).collect())
    }

    /// Returns the number of grants that wait, and the time at which the first of them came.
    pub(super) fn waiting(&self, now: Moment) -> (usize, Option<Instant>) {
        let mut waiting = self.waiting.iter().filter(|member| member.is_present(now));
        let first = waiting.next();
        (
            usize::from(first.is_some()) + waiting.count(),
            first.map(|member| member.since),
        )
    }

    /// Returns true if no grant is here.
    pub(super) fn is_empty(&self) -> bool {
        self.users.is_empty() && self.waiting.is_empty()
    }

    fn place(&self, at: usize) -> LinePlace {
        let before: Vec<UseMode> = self.modes_before(at.saturating_add(1)).collect();
        let in_the_way = |user: &&Member| before.iter().any(|mode| mode.excludes(user.mode));
        LinePlace {
            place: u32::try_from(at.saturating_add(1)).unwrap_or(u32::MAX),
            held_by: self.users.iter().filter(in_the_way).map(Member::holder).collect(),
        }
    }

    fn modes_of_users(&self) -> impl Iterator<Item = UseMode> {
        self.users.iter().map(|member| member.mode)
    }

    fn modes_before(&self, at: usize) -> impl Iterator<Item = UseMode> {
        self.waiting.iter().take(at).map(|member| member.mode)
    }

    fn member(&mut self, id: &GrantId) -> Option<&mut Member> {
        self.users.iter_mut().chain(&mut self.waiting).find(|member| member.is(id))
    }

    /// Removes the grants that are here no longer.
    fn tidy(&mut self, now: Moment) {
        self.users.retain(|member| member.is_present(now));
        self.waiting.retain(|member| member.is_present(now));
    }
}

#[cfg(test)]
mod tests;
