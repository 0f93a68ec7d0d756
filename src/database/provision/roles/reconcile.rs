//! Comparison of the roles at a server with the grants of this gate; roles and backends without a live grant are ended.
//!
//! It does not know grants: the caller passes the live ones. INVARIANT: a role without this gate's own comment, and a backend of
//! such a role, is never touched.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{GrantRoles, RoleFault, RoleSlot};
use crate::audit::event::RoleChangeKind;
use crate::base::error_chain::display_chain;
use crate::database::rights::{RoleMarker, RoleName, quoted, quoted_text};
use crate::model::grant::Grant;
use crate::model::ids::{GrantId, LogId};
use crate::model::names::TargetName;

/// Age from which a backend without a session is an intruder; a younger one may be just opening its session.
const SUSPECT_INTERVAL: Duration = Duration::from_secs(15);

/// Suffix of the record of an intruder found at the start. A session is in the store once it is logged in at the target, not
/// before.
const AT_THE_START: &str = ", found at the gate's start, and no session that the former run has in its store (unless it was just being opened when that died)";

/// Backend of a grant's role without a session of this run.
struct UnheldBackend {
    pid: i32,
    slot: Arc<RoleSlot>,
    /// True if a session of the former run had it.
    former: bool,
}

/// Role of a grant at the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundRole {
    /// Name of the role.
    pub role: String,
    /// Id of its grant.
    pub grant: GrantId,
    /// Target it was created for.
    pub target: TargetName,
    /// Gate that created it.
    pub gate: LogId,
    /// True if it can log in.
    pub can_login: bool,
    /// End of its logins, by the server's clock.
    pub valid_until: Option<String>,
    /// Process ids of its backends.
    pub backends: Vec<i32>,
    /// Roles that became members of it, except accounts that may create roles (the present one, or the target's former one): the
    /// role was given away (possible before PostgreSQL 15).
    pub given_to: Vec<String>,
}

/// Result of a comparison.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReconcileResult {
    /// Number of roles of this gate and target.
    pub found: usize,
    /// Number of roles whose end was begun, because their grant has ended.
    pub over: usize,
    /// Number of backends ended, because no session holds them.
    pub intruders: usize,
    /// Number of backends without a session that may be opening one; compare again after [`ReconcileResult::LATER`].
    pub suspects: usize,
}

impl ReconcileResult {
    /// Time after which to compare again if there are suspects.
    pub const LATER: Duration = SUSPECT_INTERVAL;
}

impl GrantRoles {
    /// Returns the roles of grants at this server, of all gates.
    pub async fn look(&self) -> Result<Vec<FoundRole>, RoleFault> {
        let rows = self
            .0
            .ask(
                "SELECT r.rolname, d.description, r.rolcanlogin, r.rolvaliduntil, \
                 (SELECT string_agg(a.pid::text, ' ') FROM pg_stat_activity a \
                  WHERE a.usesysid = r.oid AND coalesce(a.backend_type, 'client backend') = 'client backend'), \
                 (SELECT jsonb_agg(b.rolname) FROM pg_auth_members m JOIN pg_roles b ON b.oid = m.member \
                  WHERE m.roleid = r.oid AND NOT b.rolcreaterole AND NOT b.rolsuper) \
                 FROM pg_shdescription d JOIN pg_roles r ON r.oid = d.objoid \
                 WHERE d.classoid = 'pg_authid'::regclass AND d.description LIKE 'tidegate grant %' ORDER BY 1",
            )
            .await?;
        let found = rows.iter().filter_map(|row| {
            let role = row.get(0)?.to_owned();
            let Ok(RoleMarker::Grant { grant, target, gate }) = row.get(1)?.parse() else {
                return None;
            };
            let pids = row.get(4).unwrap_or_default();
            // A role whose name does not match its grant was not created by a gate, whatever its comment says.
            role.starts_with(grant.as_str()).then(|| FoundRole {
                role,
                grant,
                target,
                gate,
                can_login: row.get(2) == Some("t"),
                valid_until: row.get(3).map(str::to_owned),
                backends: pids.split_whitespace().filter_map(|pid| pid.parse().ok()).collect(),
                // As JSON: a name can contain any character, line breaks included.
                given_to: row
                    .get(5)
                    .and_then(|names| serde_json::from_str(names).ok())
                    .unwrap_or_default(),
            })
        });
        Ok(found.collect())
    }

    /// Returns true if this gate created it, for this target.
    #[must_use]
    pub fn ours(&self, found: &FoundRole) -> bool {
        found.gate == self.0.gate && found.target == self.0.place().target.name
    }

    /// Finds the roles of this gate, and ends those without a live grant in the background. `live` returns the live grants;
    /// `held` has the backends of all sessions. At the `start` these are the sessions of the former run: all backends are ended
    /// at once, and those not in `held` came in past the gate.
    pub async fn reconcile(
        &self,
        live: impl Fn(&GrantId) -> Option<watch::Receiver<Arc<Grant>>>,
        held: &HashSet<i32>,
        start: bool,
    ) -> Result<ReconcileResult, RoleFault> {
        let roles: Vec<FoundRole> = self.look().await?.into_iter().filter(|found| self.ours(found)).collect();
        let mut reaped = ReconcileResult {
            found: roles.len(),
            ..ReconcileResult::default()
        };
        // Before a role is ended, so that its database is dropped first.
        let mut copies = self.look_for_copies().await?;
        copies.retain(|copy| {
            let has_role = roles.iter().any(|found| found.grant == copy.grant);
            // The grant may be another target's, at the same server; such a live one is none of this target's.
            let here = live(&copy.grant).map(|grant| *grant.borrow().target() == self.0.place().target.name);
            if has_role || here == Some(true) {
                self.0.found_copy(&copy.grant);
            }
            !has_role && here.is_none()
        });
        let mut unheld = Vec::new();
        for found in &roles {
            let slot = self.0.slot(&found.grant, || RoleName::found(&found.role));
            let grant = live(&found.grant);
            // A locked slot belongs to a task that is creating or ending the role.
            if let Ok(mut state) = slot.turn.try_lock() {
                reaped.over += usize::from(grant.is_none() && !state.kept);
                self.keep(&slot, grant, &mut state);
            }
            // Includes backends of ended grants, whose role may exist, and accept logins, for as long as it cannot be dropped.
            let backends = found.backends.iter().filter(|pid| start || !held.contains(pid));
            unheld.extend(backends.map(|&pid| UnheldBackend {
                pid,
                slot: Arc::clone(&slot),
                former: held.contains(&pid),
            }));
            if !found.given_to.is_empty() {
                self.take_back(found).await;
            }
        }
        for copy in copies {
            self.end_copy(&copy.grant);
        }
        self.judge(unheld, start, &mut reaped).await?;
        Ok(reaped)
    }

    /// Ends the database of a grant that has ended, and whose role is gone.
    fn end_copy(&self, grant: &GrantId) {
        self.0.found_copy(grant);
        // No role has this name: there is only the database to be dropped.
        let slot = self.0.slot(grant, || RoleName::found(grant.as_str()));
        if let Ok(mut state) = slot.turn.try_lock() {
            self.keep(&slot, None, &mut state);
        }
    }

    /// Ends the backends that have had no session for long enough.
    async fn judge(&self, unheld: Vec<UnheldBackend>, start: bool, reaped: &mut ReconcileResult) -> Result<(), RoleFault> {
        let now = self.0.clock.moment().instant;
        let mut due = Vec::new();
        {
            let mut strangers = self.0.strangers.lock();
            strangers.retain(|pid, _| unheld.iter().any(|there| there.pid == *pid));
            for backend in unheld {
                let since = *strangers.entry(backend.pid).or_insert(now);
                if start || now.duration_since(since) >= SUSPECT_INTERVAL {
                    due.push(backend);
                }
            }
            reaped.suspects = strangers.len() - due.len();
        }
        for UnheldBackend { pid, slot, former } in due {
            // The process id may belong to another backend by now.
            let sql = format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = {pid} AND usename = {}",
                quoted_text(slot.role.as_str())
            );
            self.0.ask(&sql).await?;
            reaped.intruders += 1;
            if !former {
                self.0.counts.lock().intruders += 1;
                tracing::error!(
                    role = %slot.role, backend = pid, target_name = %self.0.place().target.name,
                    "ended a login as a grant role that bypassed the gate; allow these roles only from the gate in pg_hba.conf"
                );
                let when = if start { AT_THE_START } else { "" };
                self.0
                    .note(&slot, RoleChangeKind::IntruderEnded, Some(format!("backend {pid}{when}")))
                    .await;
            }
        }
        Ok(())
    }

    /// Revokes a role from those it was given to.
    async fn take_back(&self, found: &FoundRole) {
        tracing::error!(role = %found.role, to = found.given_to.join(", "), "a grant role was granted to other roles; revoking that");
        for member in &found.given_to {
            let sql = format!("REVOKE {} FROM {}", quoted(&found.role), quoted(member));
            if let Err(error) = self.0.ask(&sql).await {
                tracing::error!(role = %found.role, error = %display_chain(&error), "cannot revoke a grant role from another role");
            }
        }
    }
}
