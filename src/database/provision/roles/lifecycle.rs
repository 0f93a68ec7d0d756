//! Task that follows a grant while its role exists: it moves the end of the role's logins, and drops the role at the end.
//!
//! It creates no role. INVARIANT: a role is not forgotten before it is gone.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use super::drop::RoleAtEnd;
use super::owned_objects::UndoneGifts;
use super::{GrantRoles, RoleFault, RoleSlot, RoleState};
use crate::audit::event::RoleChangeKind;
use crate::base::backoff::Backoff;
use crate::base::error_chain::display_chain;
use crate::base::supervision::restarted;
use crate::model::grant::{Grant, GrantState};

/// Time for sessions to end themselves, which informs their clients of the reason. Backends left after it are ended without that.
const END_GRACE: Duration = Duration::from_secs(1);
/// Retry interval of moving the end of a role's logins.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Waits between attempts to drop a role, and to undo what was given to others.
const RETRY_BACKOFF: Backoff = Backoff::new(RETRY_INTERVAL, Duration::from_mins(1));

/// Maximum number of attempts to undo what was given to others: some minutes in all.
const MAX_UNDO_ATTEMPTS: u32 = 10;

/// Maximum number of bytes recorded of the statements that undid something.
const MAX_UNDONE_BYTES: usize = 4096;

impl GrantRoles {
    /// Starts the task that waits for the role's end, unless it runs already. The caller holds the lock of the role.
    pub(super) fn keep(&self, slot: &Arc<RoleSlot>, grant: watch::Receiver<Arc<Grant>>, state: &mut RoleState) {
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

    /// Starts the task that drops a role whose grant has ended, unless it runs already. The caller holds the lock of the role.
    pub(super) fn dispose(&self, slot: &Arc<RoleSlot>, state: &mut RoleState) {
        if !std::mem::replace(&mut state.kept, true) {
            let (roles, slot) = (self.clone(), Arc::clone(slot));
            self.0.runtime.spawn(restarted("the end of a grant's role", move || {
                let (roles, slot) = (roles.clone(), Arc::clone(&slot));
                async move { roles.finish(&slot).await }
            }));
        }
    }

    /// Waits until the grant has ended. Returns false if the gate goes away before.
    async fn follow(&self, slot: &RoleSlot, mut grant: watch::Receiver<Arc<Grant>>) -> bool {
        let clock = &self.0.clock;
        loop {
            let current = grant.borrow_and_update().clone();
            let until = match current.status(clock.now()) {
                GrantState::Active { until, .. } => until,
                GrantState::Revoked { .. } => {
                    // The end came early, so the role's `VALID UNTIL` does not prevent logins.
                    if let Err(error) = self.0.lock_out(&slot.role).await {
                        tracing::warn!(role = %slot.role, error = %display_chain(&error), "cannot lock the role of a revoked grant yet; will drop it");
                    }
                    tokio::time::sleep(END_GRACE).await;
                    return true;
                }
                _ => {
                    tokio::time::sleep(END_GRACE).await;
                    return true;
                }
            };
            let moved = self.extend(slot, until).await;
            if let Err(error) = &moved {
                tracing::warn!(role = %slot.role, error = %display_chain(error), "cannot change the VALID UNTIL of a role yet; will retry");
            }
            tokio::select! {
                () = clock.sleep_until(until) => {}
                changed = grant.changed() => if changed.is_err() { return false },
                () = tokio::time::sleep(RETRY_INTERVAL), if moved.is_err() => {}
            }
        }
    }

    /// Moves the end of the role's logins to the grant's end.
    async fn extend(&self, slot: &RoleSlot, until: Timestamp) -> Result<(), RoleFault> {
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
        if known && let Err(error) = self.0.record(slot, RoleChangeKind::Extended, Some(until), None).await {
            tracing::error!(role = %slot.role, error = %display_chain(&error), "cannot write the extension of a role to the audit log");
        }
        Ok(())
    }

    /// Drops the role, and retries without limit.
    async fn finish(&self, slot: &Arc<RoleSlot>) {
        let mut backoff = RETRY_BACKOFF;
        let mut told = false;
        while let Err(fault) = self.end(slot, None).await {
            tracing::error!(
                role = %slot.role, target_name = %self.0.place().target.name, error = %display_chain(&fault),
                "cannot drop the role of an ended grant yet; will retry"
            );
            if !std::mem::replace(&mut told, true) {
                self.0.counts.left.fetch_add(1, Ordering::Relaxed);
                self.0.note(slot, RoleChangeKind::Left, Some(fault.to_string())).await;
            }
            tokio::time::sleep(backoff.next_wait()).await;
        }
        if told {
            self.0.counts.left.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Drops the role once; its lock prevents its creation meanwhile.
    pub(super) async fn end(&self, slot: &Arc<RoleSlot>, why: Option<&str>) -> Result<(), RoleFault> {
        let mut state = slot.turn.lock().await;
        state.account = None;
        let retired = self.0.drop_role(&slot.role).await?;
        self.0.slots.lock().remove(&slot.grant);
        if let Some(role) = retired {
            self.0.counts.retired.fetch_add(1, Ordering::Relaxed);
            self.0.note(slot, RoleChangeKind::Retired, why.map(str::to_owned)).await;
            self.tidy(slot, role).await;
        }
        Ok(())
    }

    /// Undoes what sessions of its profile gave to others. If a lock prevents that, it is retried for some minutes in a task of
    /// its own; if it fails for good, the comparison of profiles shows it.
    async fn tidy(&self, slot: &Arc<RoleSlot>, role: RoleAtEnd) {
        if !self.undo(slot, &role).await {
            return;
        }
        let (roles, slot, role) = (self.clone(), Arc::clone(slot), Arc::new(role));
        self.0.runtime.spawn(restarted("what sessions left others", move || {
            let (roles, slot, role) = (roles.clone(), Arc::clone(&slot), Arc::clone(&role));
            async move { roles.tidy_later(&slot, &role).await }
        }));
    }

    async fn tidy_later(&self, slot: &RoleSlot, role: &RoleAtEnd) {
        let mut backoff = RETRY_BACKOFF;
        for _ in 0..MAX_UNDO_ATTEMPTS {
            tokio::time::sleep(backoff.next_wait()).await;
            if !self.undo(slot, role).await {
                return;
            }
        }
    }

    /// Undoes once. Returns true if a retry can help.
    async fn undo(&self, slot: &RoleSlot, role: &RoleAtEnd) -> bool {
        let UndoneGifts { statements, fault } = self.0.undo_gifts(role).await;
        if !statements.is_empty() {
            let undone = statements.join("; ");
            tracing::warn!(role = %slot.role, undone, "sessions gave objects or privileges of their profile to other roles; took them back");
            self.0.note(slot, RoleChangeKind::Undone, Some(truncate(&undone))).await;
        }
        let Some(fault) = fault else { return false };
        tracing::warn!(
            role = %slot.role, target_name = %self.0.place().target.name, error = %display_chain(&fault),
            "cannot take back everything that sessions gave to other roles; see `tidegate target plan`"
        );
        fault.collided()
    }
}

/// Returns the beginning of a long text.
fn truncate(text: &str) -> String {
    let end = text.floor_char_boundary(MAX_UNDONE_BYTES);
    text.get(..end).unwrap_or(text).to_owned()
}
