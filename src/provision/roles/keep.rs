//! Follows a grant for as long as its role is there: its end moves, then it comes.
//!
//! It makes no role. The law it keeps: a role is not forgotten before it is gone.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use super::legacy::Undone;
use super::retire::Role;
use super::{Fault, Roles, Slot, State, lock};
use crate::causes::in_one_line;
use crate::grant::{Grant, Status};
use crate::supervision::restarted;

/// Sessions end themselves, and better: their clients are told. What is left after this long is ended without that.
const GRACE: Duration = Duration::from_secs(1);
/// How long after one try the next one begins; twice as long after each further one, up to [`LONGEST`].
const AGAIN: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_mins(1);

/// How often it is tried again to undo what was left to others, from [`AGAIN`] on: some minutes in all.
const TRIES: u32 = 10;

/// How much of the statements that undid something goes on record.
const MAX_UNDONE_BYTES: usize = 4096;

impl Roles {
    /// Sees to the role's end, unless somebody does already. Whoever calls has the turn.
    pub(super) fn keep(&self, slot: &Arc<Slot>, grant: watch::Receiver<Arc<Grant>>, state: &mut State) {
        if !std::mem::replace(&mut state.kept, true) {
            let (roles, slot) = (self.clone(), Arc::clone(slot));
            self.0.runtime.spawn(restarted("the end of a grant's role", move || {
                let (roles, slot, grant) = (roles.clone(), Arc::clone(&slot), grant.clone());
                async move {
                    if roles.follow(&slot, grant).await {
                        roles.finish(&slot).await;
                    }
                }
            }));
        }
    }

    /// Sees to the end of a role whose grant is over, unless somebody does already. Whoever calls has the turn.
    pub(super) fn dispose(&self, slot: &Arc<Slot>, state: &mut State) {
        if !std::mem::replace(&mut state.kept, true) {
            let (roles, slot) = (self.clone(), Arc::clone(slot));
            self.0.runtime.spawn(restarted("the end of a grant's role", move || {
                let (roles, slot) = (roles.clone(), Arc::clone(&slot));
                async move { roles.finish(&slot).await }
            }));
        }
    }

    /// Until the grant is over; false when the gate is gone before.
    async fn follow(&self, slot: &Slot, mut grant: watch::Receiver<Arc<Grant>>) -> bool {
        let clock = &self.0.clock;
        loop {
            let current = grant.borrow_and_update().clone();
            let until = match current.status(clock.now()) {
                Status::Active { until, .. } => until,
                Status::Revoked { .. } => {
                    // Before its own time: the server does not know yet.
                    if let Err(error) = self.0.lock_out(&slot.role).await {
                        tracing::warn!(role = %slot.role, error = %in_one_line(&error), "cannot lock the role of a revoked grant yet; will drop it");
                    }
                    tokio::time::sleep(GRACE).await;
                    return true;
                }
                _ => {
                    tokio::time::sleep(GRACE).await;
                    return true;
                }
            };
            let moved = self.extend(slot, until).await;
            if let Err(error) = &moved {
                tracing::warn!(role = %slot.role, error = %in_one_line(error), "cannot change the VALID UNTIL of a role yet; will retry");
            }
            tokio::select! {
                () = clock.sleep_until(until) => {}
                changed = grant.changed() => if changed.is_err() { return false },
                () = tokio::time::sleep(AGAIN), if moved.is_err() => {}
            }
        }
    }

    /// Moves the end of the role's logins to where the grant's end is.
    async fn extend(&self, slot: &Slot, until: Timestamp) -> Result<(), Fault> {
        let mut state = slot.turn.lock().await;
        if state.until == Some(until) {
            return Ok(());
        }
        let place = self.0.place();
        let session = self.0.ending.session(&place.target, &self.0.clock).await?;
        let theirs = session.theirs(until);
        let sql = format!("ALTER ROLE {} VALID UNTIL '{theirs}'", slot.role.quoted());
        self.0.ask(&sql).await?;
        let known = state.until.replace(until).is_some();
        drop(state);
        if known && let Err(error) = self.0.record(slot, "extended", Some(until), None).await {
            tracing::error!(role = %slot.role, error = %in_one_line(&error), "cannot write the extension of a role to the audit log");
        }
        Ok(())
    }

    /// Ends the role, however long it takes.
    async fn finish(&self, slot: &Arc<Slot>) {
        let mut pause = AGAIN;
        let mut told = false;
        while let Err(fault) = self.end(slot, None).await {
            tracing::error!(
                role = %slot.role, target_name = %self.0.place().target.name, error = %in_one_line(&fault),
                "cannot drop the role of an ended grant yet; will retry"
            );
            if !std::mem::replace(&mut told, true) {
                self.0.counts.left.fetch_add(1, Ordering::Relaxed);
                self.0.note(slot, "left", Some(fault.to_string())).await;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST);
        }
        if told {
            self.0.counts.left.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Ends the role once; nobody makes it meanwhile.
    pub(super) async fn end(&self, slot: &Arc<Slot>, why: Option<&str>) -> Result<(), Fault> {
        let mut state = slot.turn.lock().await;
        state.account = None;
        let retired = self.0.retire(&slot.role).await?;
        lock(&self.0.slots).remove(&slot.grant);
        if let Some(role) = retired {
            self.0.counts.retired.fetch_add(1, Ordering::Relaxed);
            self.0.note(slot, "retired", why.map(str::to_owned)).await;
            self.tidy(slot, role).await;
        }
        Ok(())
    }

    /// Undoes what sessions of its profile left for others. Where somebody keeps that locked it is tried again, for some minutes and
    /// beside everything else; where it fails for good it is drift, and told as that.
    async fn tidy(&self, slot: &Arc<Slot>, role: Role) {
        if !self.undo(slot, &role).await {
            return;
        }
        let (roles, slot, role) = (self.clone(), Arc::clone(slot), Arc::new(role));
        self.0.runtime.spawn(restarted("what sessions left others", move || {
            let (roles, slot, role) = (roles.clone(), Arc::clone(&slot), Arc::clone(&role));
            async move { roles.tidy_later(&slot, &role).await }
        }));
    }

    async fn tidy_later(&self, slot: &Slot, role: &Role) {
        let mut pause = AGAIN;
        for _ in 0..TRIES {
            tokio::time::sleep(pause).await;
            if !self.undo(slot, role).await {
                return;
            }
            pause = (pause * 2).min(LONGEST);
        }
    }

    /// The same, once; true where it can help to try it again.
    async fn undo(&self, slot: &Slot, role: &Role) -> bool {
        let Undone { statements, fault } = self.0.undo_gifts(role).await;
        if !statements.is_empty() {
            let undone = statements.join("; ");
            tracing::warn!(role = %slot.role, undone, "sessions gave objects or privileges of their profile to other roles; took them back");
            self.0.note(slot, "undone", Some(truncate(&undone))).await;
        }
        let Some(fault) = fault else { return false };
        tracing::warn!(
            role = %slot.role, target_name = %self.0.place().target.name, error = %in_one_line(&fault),
            "cannot take back everything that sessions gave to other roles; see `tidegate target plan`"
        );
        fault.collided()
    }
}

/// The beginning of a long text.
fn truncate(text: &str) -> String {
    let end = text.floor_char_boundary(MAX_UNDONE_BYTES);
    text.get(..end).unwrap_or(text).to_owned()
}
