//! Steps that end a role: lock it out, end its backends, hand its objects to its profile, drop it.
//!
//! It does not know the reason. INVARIANT: each step can be repeated, a missing role counts as ended, and no open transaction or
//! lock of the role's sessions keeps a backend logged in.

use std::time::Duration;

use super::connection::RoleConnection;
use super::{GrantRolesInner, RoleFault, RoleProfile};
use crate::base::backoff::Backoff;
use crate::database::rights::{RoleMarker, RoleName, profile_role, quoted_text};

/// Time within which its backends have to be gone.
const BACKENDS_TIMEOUT: Duration = Duration::from_secs(5);
/// Waits between looks for remaining backends.
const POLL_BACKOFF: Backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(200));

/// `dependent_objects_still_exist`.
const DEPENDENT_OBJECTS: &str = "2BP01";
/// `undefined_object`: the role was dropped by somebody else.
const UNDEFINED_OBJECT: &str = "42704";

/// Facts about a role that is to be dropped.
pub(super) struct RoleAtEnd {
    pub(super) oid: String,
    can_login: bool,
    backends: bool,
    /// True if the server has prepared transactions; they outlive their session and keep its locks.
    prepared: bool,
    pub(super) comment: String,
    pub(super) member_of: Vec<RelatedRole>,
}

/// Role that is related to the one to be dropped.
pub(super) struct RelatedRole {
    pub(super) name: String,
    /// Comment on the role.
    pub(super) comment: String,
    /// True if the account has its rights.
    pub(super) inherited: bool,
}

impl GrantRolesInner {
    /// Prevents new logins as this role; existing backends stay.
    pub(super) async fn lock_out(&self, role: &RoleName) -> Result<(), RoleFault> {
        self.bar(role, "").await
    }

    /// Ends the role. Returns its former state, if it existed.
    pub(super) async fn drop_role(&self, role: &RoleName) -> Result<Option<RoleAtEnd>, RoleFault> {
        let Some(found) = self.find(&self.ending, role).await? else {
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
        match self.lock_out(role).await {
            Err(fault) if fault.collided() => {}
            shut => return shut,
        }
        tracing::warn!(%role, "a transaction blocks locking a role; terminating the role's backends first");
        // In one message: a waiter for the row lock is queued before any new session that wants it too.
        let end = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usesysid = {}; ",
            found.oid
        );
        match self.bar(role, &end).await {
            Err(fault) if fault.collided() => {
                self.roll_back_prepared(&found.oid).await?;
                self.bar(role, &end).await
            }
            shut => shut,
        }
    }

    async fn bar(&self, role: &RoleName, first: &str) -> Result<(), RoleFault> {
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
        let rows = line.run(&self.place().target, &self.clock, &sql).await?;
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
        self.ending.run(&self.place().target, &self.clock, sql).await
    }
}

impl RelatedRole {
    /// Reads its name, the comment on it and its inheritance, from the column `first` on.
    pub(super) fn read(row: &tokio_postgres::SimpleQueryRow, first: usize) -> Option<Self> {
        Some(Self {
            name: row.get(first)?.to_owned(),
            comment: row.get(first + 1).unwrap_or_default().to_owned(),
            inherited: row.get(first + 2) == Some("t"),
        })
    }
}
