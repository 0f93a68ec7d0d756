//! End of a grant's role. A task follows the grant while the role exists: it moves the end of the role's logins, and at the end
//! locks the role out, ends its backends, drops the grant's own database, hands the role's objects to its profile, and drops it.
//!
//! It creates no role. INVARIANT: a role is not forgotten before it is gone; each step can be repeated, a missing role counts
//! as ended, and no open transaction or lock of the role's sessions keeps a backend logged in.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use super::connection::RoleConnection;
use super::owned_objects::{RelatedRole, RoleAtEnd, UndoneGifts};
use super::{GrantRoles, GrantRolesInner, RoleFault, RoleProfile, RoleSlot, RoleState};
use crate::audit::event::RoleChangeKind;
use crate::base::backoff::Backoff;
use crate::base::error_chain::display_chain;
use crate::base::supervision::restarted;
use crate::database::rights::{RoleMarker, RoleName, profile_role, quoted_text};
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

/// Time within which its backends have to be gone.
const BACKENDS_TIMEOUT: Duration = Duration::from_secs(5);
/// Waits between looks for remaining backends.
const POLL_BACKOFF: Backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(200));

/// `dependent_objects_still_exist`.
const DEPENDENT_OBJECTS: &str = "2BP01";
/// `undefined_object`: the role was dropped by somebody else.
const UNDEFINED_OBJECT: &str = "42704";

impl GrantRoles {
    /// Starts the task that drops the role when its grant has ended, which is now if there is no grant, unless the task runs
    /// already. The caller holds the lock of the role.
    pub(super) fn keep(&self, slot: &Arc<RoleSlot>, grant: Option<watch::Receiver<Arc<Grant>>>, state: &mut RoleState) {
        if std::mem::replace(&mut state.kept, true) {
            return;
        }
        let (roles, slot) = (self.clone(), Arc::clone(slot));
        self.0.runtime.spawn(restarted("the end of a grant's role", move || {
            let (roles, slot, grant) = (roles.clone(), Arc::clone(&slot), grant.clone());
            async move {
                let ended = match grant {
                    Some(grant) => roles.follow(&slot, grant).await,
                    None => true,
                };
                if ended {
                    roles.finish(&slot).await;
                }
            }
        }));
    }

    /// Waits until the grant has ended. Returns false if the gate goes away before.
    async fn follow(&self, slot: &RoleSlot, mut grant: watch::Receiver<Arc<Grant>>) -> bool {
        let clock = &self.0.clock;
        loop {
            let current = grant.borrow_and_update().clone();
            let status = current.status(clock.now());
            let GrantState::Active { until, .. } = status else {
                // The end of a revoked grant came early, so the role's `VALID UNTIL` does not prevent logins.
                if matches!(status, GrantState::Revoked { .. })
                    && let Err(error) = self.0.lock_out(&slot.role, "").await
                {
                    tracing::warn!(role = %slot.role, error = %display_chain(&error), "cannot lock the role of a revoked grant yet; will drop it");
                }
                tokio::time::sleep(END_GRACE).await;
                return true;
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
        let session = self.0.ending.session(&place.target).await?;
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
                self.0.counts.lock().left += 1;
                self.0.note(slot, RoleChangeKind::Left, Some(fault.to_string())).await;
            }
            tokio::time::sleep(backoff.next_wait()).await;
        }
        if told {
            self.0.counts.lock().left -= 1;
        }
    }

    /// Drops the role once; its lock prevents its creation meanwhile.
    pub(super) async fn end(&self, slot: &Arc<RoleSlot>, why: Option<&str>) -> Result<(), RoleFault> {
        let mut state = slot.turn.lock().await;
        state.account = None;
        let retired = self.0.drop_role(slot).await?;
        self.0.slots.lock().remove(&slot.grant);
        if let Some(role) = retired {
            self.0.counts.lock().retired += 1;
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
            async move {
                let mut backoff = RETRY_BACKOFF;
                for _ in 0..MAX_UNDO_ATTEMPTS {
                    tokio::time::sleep(backoff.next_wait()).await;
                    if !roles.undo(&slot, &role).await {
                        return;
                    }
                }
            }
        }));
    }

    /// Undoes once. Returns true if a retry can help.
    async fn undo(&self, slot: &RoleSlot, role: &RoleAtEnd) -> bool {
        let UndoneGifts { statements, fault } = self.0.undo_gifts(role).await;
        if !statements.is_empty() {
            let mut undone = statements.join("; ");
            tracing::warn!(role = %slot.role, undone, "sessions gave objects or privileges of their profile to other roles; took them back");
            undone.truncate(undone.floor_char_boundary(MAX_UNDONE_BYTES));
            self.0.note(slot, RoleChangeKind::Undone, Some(undone)).await;
        }
        let Some(fault) = fault else { return false };
        tracing::warn!(
            role = %slot.role, target_name = %self.0.place().target.name, error = %display_chain(&fault),
            "cannot take back everything that sessions gave to other roles; see `tidegate target plan`"
        );
        fault.collided()
    }
}

impl GrantRolesInner {
    /// Ends the role, and before it the grant's own database. Returns the former state of the role, if it existed.
    async fn drop_role(&self, slot: &RoleSlot) -> Result<Option<RoleAtEnd>, RoleFault> {
        let role = &slot.role;
        let Some(found) = self.find(&self.ending, role).await? else {
            if self.has_copy(&slot.grant) {
                self.drop_copy(slot, None).await?;
            }
            return Ok(None);
        };
        let shut = if found.can_login {
            self.shut(role, &found).await
        } else {
            Ok(())
        };
        if found.backends || found.can_login {
            self.clear(&found.oid).await?;
        }
        if self.has_copy(&slot.grant) {
            self.drop_copy(slot, None).await?;
        }
        // Backends are ended even if the role cannot be locked out (the account has lost CREATEROLE).
        shut?;
        if found.prepared {
            self.roll_back_prepared(&found.oid).await?;
        }
        let dropped = match self.ask(&format!("DROP ROLE {}", role.quoted())).await {
            Err(fault) if fault.code() == DEPENDENT_OBJECTS => self.hand_over(role, &found).await,
            dropped => dropped.map(drop),
        };
        match dropped {
            Err(fault) if fault.code() == UNDEFINED_OBJECT && self.find(&self.ending, role).await?.is_none() => {}
            dropped => dropped?,
        }
        // A login that was under way during the lock-out may have completed after the first look.
        self.clear(&found.oid).await?;
        Ok(Some(found))
    }

    /// Locks the role out, whatever its holder does to prevent it. Every role may change its own password, and such a change,
    /// uncommitted in an open or prepared transaction, locks the role's row.
    async fn shut(&self, role: &RoleName, found: &RoleAtEnd) -> Result<(), RoleFault> {
        match self.lock_out(role, "").await {
            Err(fault) if fault.collided() => {}
            shut => return shut,
        }
        tracing::warn!(%role, "a transaction blocks locking a role; terminating the role's backends first");
        // In one message: a waiter for the row lock is queued before any new session that wants it too.
        let end = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usesysid = {}; ",
            found.oid
        );
        match self.lock_out(role, &end).await {
            Err(fault) if fault.collided() => {
                self.roll_back_prepared(&found.oid).await?;
                self.lock_out(role, &end).await
            }
            shut => shut,
        }
    }

    /// Prevents new logins as this role, after running the statement `first`; existing backends stay.
    pub(super) async fn lock_out(&self, role: &RoleName, first: &str) -> Result<(), RoleFault> {
        let sql = format!("{first}ALTER ROLE {} NOLOGIN PASSWORD NULL", role.quoted());
        match self.ask(&sql).await {
            Err(fault) if fault.code() == UNDEFINED_OBJECT => Ok(()),
            done => done.map(drop),
        }
    }

    pub(super) async fn find(&self, line: &RoleConnection, role: &RoleName) -> Result<Option<RoleAtEnd>, RoleFault> {
        let sql = format!(
            "SELECT r.oid, r.rolcanlogin, EXISTS (SELECT FROM pg_stat_activity a WHERE a.usesysid = r.oid), \
             EXISTS (SELECT FROM pg_prepared_xacts), shobj_description(r.oid, 'pg_authid'), \
             b.rolname, shobj_description(b.oid, 'pg_authid'), pg_has_role(current_user, b.oid, 'USAGE') \
             FROM pg_roles r LEFT JOIN pg_auth_members m ON m.member = r.oid LEFT JOIN pg_roles b ON b.oid = m.roleid \
             WHERE r.rolname = {}",
            quoted_text(role.as_str())
        );
        let rows = line.run(&self.place().target, &sql).await?;
        Ok(rows.first().map(|row| RoleAtEnd {
            oid: row.get(0).unwrap_or("0").to_owned(),
            can_login: row.get(1) == Some("t"),
            backends: row.get(2) == Some("t"),
            prepared: row.get(3) == Some("t"),
            comment: row.get(4).unwrap_or_default().to_owned(),
            member_of: rows.iter().filter_map(|row| RelatedRole::read(row, 5)).collect(),
        }))
    }

    /// Ends the role's backends and waits until none is left.
    async fn clear(&self, oid: &str) -> Result<(), RoleFault> {
        let started = self.clock.moment().instant;
        let mut backoff = POLL_BACKOFF;
        loop {
            let sql = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usesysid = {oid}");
            let there = self.ask(&sql).await?.len();
            if there == 0 {
                return Ok(());
            }
            if self.clock.moment().instant.duration_since(started) > BACKENDS_TIMEOUT {
                return Err(RoleFault::Busy(there));
            }
            tokio::time::sleep(backoff.next_wait()).await;
        }
    }

    /// Returns true if a role is a profile's of this target.
    pub(super) fn is_profile(&self, role: &RelatedRole) -> bool {
        let place = self.place();
        let name = &place.target.name;
        // A role made by hand has the name that the configuration gives.
        let called = |profile: &RoleProfile| profile_role(name, &profile.name).as_str() == role.name;
        match role.comment.parse() {
            Ok(RoleMarker::Profile { target, .. }) => target == *name,
            Ok(RoleMarker::Grant { .. }) => false,
            Err(_) => place.profiles.iter().any(called),
        }
    }

    /// Returns true if a role is a profile's of this target, or a grant's of this gate.
    pub(super) fn knows(&self, role: &RelatedRole) -> bool {
        self.is_profile(role) || matches!(role.comment.parse(), Ok(RoleMarker::Grant { gate, .. }) if gate == self.gate)
    }

    pub(super) async fn ask(&self, sql: &str) -> Result<Vec<tokio_postgres::SimpleQueryRow>, RoleFault> {
        self.ending.run(&self.place().target, sql).await
    }
}
