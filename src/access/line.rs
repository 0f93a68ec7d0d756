//! Line at each target whose profiles exclude each other: who uses the target, who waits, and whose turn it is.
//!
//! It tells no client and ends no session. [`queue`] has the state and [`may_pass`](crate::model::line::may_pass) decides; here are the
//! lock, the records and the guards that logins, calls and sessions hold.
//!
//! INVARIANT: a session of a grant is let in only with a [`TargetUse`], which is held until its backend is gone; a guard that is
//! dropped leaves nothing behind; the line is in memory only, so that no crash leaves it taken.

mod queue;

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{AccessError, AccessRules, AccessService, Principal, RefusedAdmission};
use crate::audit::AuditError;
use crate::audit::event::{Event, LineChangeKind, LineChanged};
use crate::base::clock::Moment;
use crate::base::error_chain::display_chain;
use crate::ledger::{GrantFilter, GrantView, LedgerError};
use crate::model::ending::{Ending, LimitScope};
use crate::model::grant::{self, ChangeError, Grant, PermitQuery};
use crate::model::ids::GrantId;
use crate::model::line::{LineHolder, LinePlace, LineStanding, LineView, UseMode};
use crate::model::names::{IdentityName, ProfileName, TargetName};
pub use queue::LineLimits;
use queue::{ClientKind, GrantQueue, LineFull, LineStep};

/// Interval at which a waiter looks again, whatever it was told: the window of a grant without a client may have closed.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// Time that a grant keeps its use, or a call its place in line, after its last client was cut off: a client that was killed does not
/// come again.
const KEPT_AFTER_BREAK: Duration = Duration::from_secs(1);
/// Time that a call keeps what its grant has, until the next call.
const KEPT_AFTER_CALL: Duration = Duration::from_secs(10);
/// Time that the grants of a former run keep their use after the start, so that their clients can come again.
const KEPT_AFTER_START: Duration = Duration::from_secs(30);

/// Time before a grant in line would lapse in which it gets more time ...
const POSTPONE_MARGIN: SignedDuration = SignedDuration::from_mins(2);
/// ... and that time, from then on.
const POSTPONED: Duration = Duration::from_mins(10);

/// Rules of the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineRules {
    /// Numbers of grants in one line.
    pub limits: LineLimits,
    /// Time that a grant keeps its use after its last client has left in order.
    pub kept: Duration,
}

/// Counters of the line at a target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LineCounts {
    /// Number of grants that wait.
    pub waiting: u64,
    /// Time that the first of them has waited.
    pub longest: Duration,
    /// Number of grants, since the start, whose turn came after they had waited.
    pub waited: u64,
}

/// Lines of all targets.
#[derive(Debug, Default)]
pub(super) struct TargetLines {
    queues: Mutex<HashMap<TargetName, GrantQueue>>,
    /// Counts of grants that waited, since the start.
    waited: Mutex<HashMap<TargetName, u64>>,
    changed: watch::Sender<u64>,
}

impl TargetLines {
    fn within<T>(&self, target: &TargetName, work: impl FnOnce(&mut GrantQueue) -> T) -> T {
        let mut queues = self.queues.lock();
        let done = work(queues.entry(target.clone()).or_default());
        if queues.get(target).is_some_and(GrantQueue::is_empty) {
            queues.remove(target);
        }
        done
    }

    /// Wakes those that wait.
    fn tell(&self) {
        self.changed.send_modify(|changes| *changes = changes.wrapping_add(1));
    }
}

/// Reason why a grant gets no turn.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// It has ended.
    #[error("the grant has ended")]
    Over,
    /// Its turn cannot be put on record.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

/// Standing of a waiter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LineTurn {
    /// The grant may use the target now.
    Now,
    /// It waits.
    Waits(LinePlace),
}

/// Login or call that waits for the turn of its grant, or keeps it. Dropping it gives that up.
#[derive(Debug)]
pub struct LineTicket {
    member: LineMember,
    news: watch::Receiver<u64>,
}

/// Use of a target by one session. Dropping it ends the use, and with the last one that of the grant.
#[derive(Debug)]
pub struct TargetUse(Box<LineMember>);

/// Client of a grant in the line of its target.
struct LineMember {
    service: AccessService,
    target: TargetName,
    grant: watch::Receiver<Arc<Grant>>,
    mode: UseMode,
    kind: ClientKind,
    /// Time for which the grant keeps what it has when this is its last client.
    kept: Duration,
}

impl std::fmt::Debug for LineMember {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} of {} on {}", self.kind, self.id(), self.target)
    }
}

impl LineMember {
    fn id(&self) -> GrantId {
        self.grant.borrow().id().clone()
    }

    fn event(&self, change: LineChangeKind) -> LineChanged {
        let grant = self.grant.borrow();
        LineChanged {
            grant: grant.id().clone(),
            identity: grant.identity().clone(),
            target: self.target.clone(),
            profile: grant.profile().cloned(),
            change: change.into(),
            mode: self.mode.into(),
            place: None,
            behind: None,
            behind_identity: None,
            waited_us: None,
        }
    }
}

impl Drop for LineMember {
    fn drop(&mut self) {
        let inner = &self.service.0;
        let now = inner.clock.moment();
        let kept_until = now.instant.checked_add(self.kept).unwrap_or(now.instant);
        let (id, kind) = (self.id(), self.kind);
        let left = inner
            .lines
            .within(&self.target, |queue| queue.leave(&id, kind, kept_until, now));
        if let Some(since) = left {
            let mut event = self.event(LineChangeKind::Left);
            event.waited_us = Some(micros(now, since));
            inner.journal.note(&Event::LineChanged(Cow::Owned(event)));
        }
        inner.lines.tell();
    }
}

impl LineTicket {
    /// Returns the standing of the grant, which uses the target from now on if its turn has come; that is on record then.
    pub async fn look(&mut self) -> Result<LineTurn, LineError> {
        let inner = &self.member.service.0;
        let now = inner.clock.moment();
        let id = self.member.id();
        self.news.mark_unchanged();
        let step = inner.lines.within(&self.member.target, |queue| queue.look(&id, now));
        match step {
            LineStep::Uses => Ok(LineTurn::Now),
            LineStep::Took { waited_since, behind } => {
                inner.lines.tell();
                if waited_since.is_some() {
                    *inner.lines.waited.lock().entry(self.member.target.clone()).or_default() += 1;
                }
                if waited_since.is_some() || self.member.mode.is_exclusive() {
                    let mut event = self.member.event(LineChangeKind::Took);
                    event.waited_us = waited_since.map(|since| micros(now, since));
                    self.record(with_behind(event, behind)).await?;
                }
                Ok(LineTurn::Now)
            }
            LineStep::Waits { place, first } => {
                if first {
                    let mut event = self.member.event(LineChangeKind::Waits);
                    event.place = Some(place.place);
                    let holder = place.held_by.first();
                    let behind = holder.map(|holder| (holder.grant.clone(), holder.identity.clone()));
                    self.record(with_behind(event, behind)).await?;
                }
                self.postpone(now).await;
                Ok(LineTurn::Waits(place))
            }
            LineStep::Gone => Err(LineError::Over),
        }
    }

    /// Waits until another look is due.
    pub async fn changed(&mut self) {
        // The sender lives as long as the service.
        let _ = tokio::time::timeout(LOOK_INTERVAL, self.news.changed()).await;
    }

    /// Returns the target of the line.
    #[must_use]
    pub fn target(&self) -> &TargetName {
        &self.member.target
    }

    /// Returns the grant, now and after every change.
    #[must_use]
    pub fn grant(&self) -> &watch::Receiver<Arc<Grant>> {
        &self.member.grant
    }

    /// Notes that this is one call of several: what the grant has is kept until the next.
    pub(super) fn keep_for_next_call(&mut self) {
        self.member.kept = KEPT_AFTER_CALL;
    }

    /// Makes it the use of a session. Only a waiter whose turn has come has one: see [`Self::look`].
    #[must_use]
    pub fn into_use(self) -> TargetUse {
        let Self { mut member, .. } = self;
        let id = member.id();
        let inner = &member.service.0;
        inner.lines.within(&member.target, |queue| queue.begin_session(&id));
        member.kind = ClientKind::Session;
        member.kept = KEPT_AFTER_BREAK;
        TargetUse(Box::new(member))
    }

    /// Keeps a grant from lapsing while a client of it waits: it came in time, and its turn has not.
    async fn postpone(&self, now: Moment) {
        let id = {
            let grant = self.member.grant.borrow();
            let left = grant.activate_by().duration_since(now.time);
            let is_due = grant.activated_at().is_none() && left < POSTPONE_MARGIN;
            is_due.then(|| grant.id().clone())
        };
        let Some(id) = id else { return };
        match self.member.service.0.ledger.postpone(&id, POSTPONED).await {
            // Another client of the grant has done it, or its turn has come, or it has waited for as long as any may.
            Ok(_) | Err(LedgerError::Illegal(_)) => {}
            Err(error) => {
                tracing::warn!(grant = %id, error = %display_chain(&error), "cannot give a grant in line more time for its first connect");
            }
        }
    }

    async fn record(&self, event: LineChanged) -> Result<(), AuditError> {
        let journal = &self.member.service.0.journal;
        journal.record(&Event::LineChanged(Cow::Owned(event))).await
    }

    /// Returns the ending of a client that gets no turn for this reason.
    #[must_use]
    pub fn ending(&self, error: LineError) -> Ending {
        if let LineError::Audit(error) = error {
            return LedgerError::from(error).at_login();
        }
        let grant = self.member.grant.borrow().clone();
        let question = PermitQuery {
            now: self.member.service.0.clock.now(),
            database: None,
            client: IpAddr::from([127, 0, 0, 1]),
            live_sessions: 0,
        };
        match grant::permit(&grant, &question) {
            Err(refusal) => refusal.at_login(&grant),
            // It has not ended, and yet it is not in the line: a fault of the gate, which must not admit a client.
            Ok(_) => Ending::LedgerFailed,
        }
    }
}

impl TargetUse {
    /// Notes that the client has left in order: the grant keeps its use for a while, because the next client may come soon.
    pub fn left_in_order(&mut self) {
        self.0.kept = self.0.service.rules().line.kept;
    }
}

impl AccessService {
    /// Brings a client that has proved a secret of the grant to the line of its target, after the checks that its admission would
    /// begin with. The window of its grant stays closed.
    pub async fn line_up(&self, id: &GrantId, database: Option<&str>, client: IpAddr) -> Result<LineTicket, RefusedAdmission> {
        let refused = |ending, identity| RefusedAdmission { ending, identity };
        let grant = match self.0.ledger.admissible(id, database, client).await {
            Ok(grant) => grant,
            Err(ending) => {
                let view = self.0.ledger.grant(id).await.ok();
                return Err(refused(ending, view.map(|view| view.grant.identity().clone())));
            }
        };
        let identity = grant.borrow().identity().clone();
        self.ticket(grant, Duration::ZERO)
            .map_err(|(scope, limit)| refused(Ending::TooMany { scope, limit }, Some(identity)))
    }

    /// Waits in line with a grant of the caller, for at most `wait`, and returns the grant with its standing. With `keep` the call
    /// goes on while the grant uses the target, which keeps that use. `stopped` ends the wait early.
    pub async fn line_of_own(
        &self,
        who: &Principal,
        id: &GrantId,
        (wait, keep): (Duration, bool),
        stopped: impl Future<Output = ()>,
    ) -> Result<GrantView, AccessError> {
        let view = self.own(who, id).await?;
        let over = |grant: &Grant| {
            let standing = grant.standing(self.0.clock.now());
            AccessError::Ledger(LedgerError::Illegal(ChangeError::Ended(standing)))
        };
        let Some(grant) = self.0.ledger.watch_live(id) else {
            return Err(over(&view.grant));
        };
        let mut ticket = self
            .ticket(grant, KEPT_AFTER_BREAK)
            .map_err(|(_, limit)| AccessError::LineFull { limit })?;
        let enough = tokio::time::sleep(wait);
        tokio::pin!(enough, stopped);
        loop {
            let turn = match ticket.look().await {
                Ok(turn) => turn,
                Err(LineError::Audit(error)) => return Err(AccessError::Ledger(error.into())),
                Err(LineError::Over) => return Err(over(&ticket.grant().borrow())),
            };
            let keeps = keep && ticket.member.mode.is_exclusive();
            if turn == LineTurn::Now && !keeps {
                break;
            }
            tokio::select! {
                () = ticket.changed() => {}
                () = &mut enough => break,
                () = &mut stopped => break,
            }
        }
        // Until here a call whose connection breaks is dropped, and with it what it held.
        ticket.keep_for_next_call();
        let mut view = self.own(who, id).await?;
        self.add_standing(&mut view);
        Ok(view)
    }

    /// Restores the use of the grants that used their targets when the former run died: those with sessions in its store, or else the
    /// one at each target whose window opened last. Called before the gate listens.
    pub async fn restore_lines(&self) -> Result<(), LedgerError> {
        let all = GrantFilter {
            limit: usize::MAX,
            ..GrantFilter::default()
        };
        let rules = self.rules();
        let held: Vec<GrantId> = self
            .0
            .ledger
            .leftovers()
            .await?
            .into_iter()
            .map(|session| session.grant)
            .collect();
        let live = self.0.ledger.grants(&all).await?;
        let mut exclusive: Vec<Grant> = live.into_iter().map(|view| view.grant).collect();
        exclusive.retain(|grant| rules.use_mode(grant).is_exclusive() && grant.activated_at().is_some());
        // Those that were in use first, then the one that was opened last.
        exclusive.sort_by_key(|grant| std::cmp::Reverse((held.contains(grant.id()), grant.activated_at())));
        let now = self.0.clock.moment();
        let kept_until = now.instant.checked_add(KEPT_AFTER_START).unwrap_or(now.instant);
        for grant in exclusive {
            let Some(watched) = self.0.ledger.watch_live(grant.id()) else {
                continue;
            };
            let mode = rules.use_mode(&grant);
            self.0.lines.within(grant.target(), |queue| {
                if queue.is_empty() {
                    queue.restore(watched, mode, kept_until, now);
                }
            });
        }
        Ok(())
    }

    /// Adds its standing in the line of its target to a grant.
    pub(super) fn add_standing(&self, view: &mut GrantView) {
        let (target, id) = (view.grant.target(), view.grant.id());
        let now = self.0.clock.moment();
        let queues = self.0.lines.queues.lock();
        view.line = queues.get(target).and_then(|queue| queue.standing(id, now));
    }

    /// Returns the standing of a grant in the line of its target, if it uses the target exclusively or waits.
    #[must_use]
    pub fn standing_in_line(&self, target: &TargetName, id: &GrantId) -> Option<LineStanding> {
        let now = self.0.clock.moment();
        self.0.lines.queues.lock().get(target)?.standing(id, now)
    }

    /// Returns the lines at which somebody excludes others or waits, by target. `of`: only those that this identity is in.
    #[must_use]
    pub fn lines(&self, of: Option<&IdentityName>) -> Vec<LineView> {
        let now = self.0.clock.moment();
        let queues = self.0.lines.queues.lock();
        let view = |(target, queue): (&TargetName, &GrantQueue)| {
            let (held_by, waiting) = queue.holders(now);
            LineView {
                target: target.clone(),
                held_by,
                waiting,
            }
        };
        let mut lines: Vec<LineView> = queues.iter().map(view).collect();
        let is_there = |of: &IdentityName, holders: &[LineHolder]| holders.iter().any(|holder| holder.identity == *of);
        lines.retain(|line| {
            let is_told = of.is_none_or(|of| is_there(of, &line.held_by) || is_there(of, &line.waiting));
            is_told && !(line.held_by.is_empty() && line.waiting.is_empty())
        });
        lines.sort_by(|a, b| a.target.cmp(&b.target));
        lines
    }

    /// Returns the counters of the line at a target.
    #[must_use]
    pub fn counted_in_line(&self, target: &TargetName) -> LineCounts {
        let now = self.0.clock.moment();
        let (waiting, first) = {
            let queues = self.0.lines.queues.lock();
            queues.get(target).map_or((0, None), |queue| queue.waiting(now))
        };
        LineCounts {
            waiting: u64::try_from(waiting).unwrap_or(u64::MAX),
            longest: first
                .map(|since| now.instant.saturating_duration_since(since))
                .unwrap_or_default(),
            waited: self.0.lines.waited.lock().get(target).copied().unwrap_or_default(),
        }
    }

    /// Brings a client of a grant to the line; `kept`: see [`LineMember::kept`].
    fn ticket(&self, grant: watch::Receiver<Arc<Grant>>, kept: Duration) -> Result<LineTicket, (LimitScope, u32)> {
        let rules = self.rules();
        let (target, identity, mode) = {
            let grant = grant.borrow();
            (grant.target().clone(), grant.identity().clone(), rules.use_mode(&grant))
        };
        let limits = rules.line.limits;
        let now = self.0.clock.moment();
        let news = self.0.lines.changed.subscribe();
        let entered = self.0.lines.within(&target, |queue| queue.enter(&grant, mode, limits, now));
        entered.map_err(|full| match full {
            LineFull::OfOne => (LimitScope::LineOf(identity), limits.of_one),
            LineFull::InAll => (LimitScope::Line(target.clone()), limits.grants),
        })?;
        Ok(LineTicket {
            member: LineMember {
                service: self.clone(),
                target,
                grant,
                mode,
                kind: ClientKind::Waiter,
                kept,
            },
            news,
        })
    }
}

impl AccessRules {
    /// Returns the way in which a grant uses its target. A grant without a profile has that of the narrowest, like its rights.
    #[must_use]
    pub fn use_mode(&self, grant: &Grant) -> UseMode {
        let narrowest = || self.targets.get(grant.target()).and_then(|profiles| profiles.first());
        let Some(profile) = grant.profile().or_else(narrowest) else {
            return UseMode::Shared;
        };
        self.mode_of(grant.target(), profile)
    }

    /// Returns the way in which grants of a profile use the target.
    #[must_use]
    pub fn mode_of(&self, target: &TargetName, profile: &ProfileName) -> UseMode {
        let mode = self.use_modes.get(&(target.clone(), profile.clone()));
        mode.copied().unwrap_or(UseMode::Shared)
    }
}

fn with_behind(event: LineChanged, behind: Option<(GrantId, IdentityName)>) -> LineChanged {
    let (behind, behind_identity) = behind.unzip();
    LineChanged {
        behind,
        behind_identity,
        ..event
    }
}

fn micros(now: Moment, since: Instant) -> u64 {
    u64::try_from(now.instant.saturating_duration_since(since).as_micros()).unwrap_or(u64::MAX)
}
