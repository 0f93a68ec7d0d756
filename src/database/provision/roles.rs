//! Roles of the grants at one target: each is created when its grant is first used, and dropped when the grant has ended.
//!
//! It does not decide if a grant covers a session, and it creates no profile: the roles of profiles exist already.
//!
//! INVARIANT: a session has its grant's role or none at all; no role is created before it is recorded; only roles whose comment
//! names this gate and this target are ever changed; and the role of an ended grant is retried until it is gone.

mod connection;
mod copies;
mod create;
mod inspect;
mod lifecycle;
mod owned_objects;
mod reconcile;
mod setting;

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::audit::event::{Event, RoleChangeKind, RoleChanged};
use crate::audit::{AuditError, Journal};
use crate::base::clock::Clock;
use crate::base::error_chain::display_chain;
use crate::database::copy::CopySource;
use crate::database::rights::{RoleMarker, RoleName, grant_role};
use crate::database::upstream::{Target, TargetAccount};
use crate::model::ending::{Ending, TargetRefusal};
use crate::model::grant::{Grant, GrantState};
use crate::model::ids::{GrantId, LogId};
use crate::model::names::ProfileName;

pub use connection::RoleFault;
pub use copies::{CopyCounts, CopyProgress, FoundCopy};
pub use inspect::{TargetFinding, inspect_roles, inspect_shared, inspect_templates};
pub use reconcile::{FoundRole, ReconcileResult};

use connection::RoleConnection;
use copies::{CopyError, CopyState};

/// `read_only_sql_transaction`.
const READ_ONLY: &str = "25006";

/// Settings of a profile for the roles of its grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleProfile {
    /// Name of the profile.
    pub name: ProfileName,
    /// Connection limit of a grant's role; `None`: the grant's number of sessions, with room for those that are just closing.
    pub connections: Option<u32>,
    /// Settings of the role (`ALTER ROLE ... SET`).
    pub settings: Vec<(String, String)>,
    /// Schema of its views with masks, if it has any: it precedes the rest of its sessions' `search_path`.
    pub views: Option<RoleName>,
    /// Template of the databases of its grants; `None`: its sessions are in the target's.
    pub copy: Option<CopySource>,
    /// True if its sessions create permanent objects. These belong to the profile, so sessions start in the profile's role; other
    /// sessions keep their grant's role.
    pub creates: bool,
}

/// Roles of a target's grants. Cheap to clone; clones share their state.
#[derive(Clone)]
pub struct GrantRoles(Arc<GrantRolesInner>);

struct GrantRolesInner {
    place: Mutex<Arc<RoleTarget>>,
    /// Owner of the roles: the log's id, which stays the same across restarts.
    gate: LogId,
    journal: Journal,
    clock: Clock,
    /// Runtime of its tasks, independent of the caller's.
    runtime: Handle,
    /// Roles are created on one connection and dropped on another, because dropping may wait for locks.
    making: RoleConnection,
    ending: RoleConnection,
    /// Lock held while the objects of a role are handed over, on a separate connection: it can take long, and two concurrent
    /// tasks would collide when they make the account a member of the same profile.
    legacies: tokio::sync::Mutex<()>,
    slots: Mutex<HashMap<GrantId, Arc<RoleSlot>>>,
    /// Backends without a session, with the time each was first seen.
    strangers: Mutex<HashMap<i32, Instant>>,
    counts: Mutex<RoleCounts>,
    /// Databases of grants.
    copies: Mutex<HashMap<GrantId, CopyState>>,
    copy_counts: Mutex<CopyCounts>,
}

/// Parts that a reload replaces.
struct RoleTarget {
    target: Arc<Target>,
    /// Profiles, the narrowest first.
    profiles: Vec<RoleProfile>,
}

/// Role of one grant.
struct RoleSlot {
    grant: GrantId,
    role: RoleName,
    /// State of the role; locked while the role is created, extended or dropped.
    turn: tokio::sync::Mutex<RoleState>,
}

#[derive(Default)]
struct RoleState {
    /// Account of its sessions; `None`: the role does not exist, or a former run created it and its password is lost.
    account: Option<Arc<TargetAccount>>,
    /// True if a task waits for its end.
    kept: bool,
    /// End of its logins, as set at the server.
    until: Option<Timestamp>,
    /// Last error of creating it, with its time, for callers that waited meanwhile.
    failed: Option<(Instant, RoleError)>,
}

/// Counters of the roles of grants at a target, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RoleCounts {
    /// Number of roles that exist now, as far as this gate knows.
    pub present: u64,
    /// Number of roles created.
    pub made: u64,
    /// Number of roles dropped.
    pub retired: u64,
    /// Number of roles of ended grants that could not be dropped yet.
    pub left: u64,
    /// Number of backends ended that had logged in past the gate.
    pub intruders: u64,
}

/// Reason why a grant has no role. The texts are for the operator.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RoleError {
    /// The grant has ended meanwhile.
    #[error("the grant is over")]
    Over,
    /// The target does not have the grant's profile any more.
    #[error("the target has no profile `{asked}`")]
    NoProfile {
        /// Name of the profile.
        asked: String,
        /// Profiles that the target has.
        known: Vec<ProfileName>,
    },
    /// A role of that name exists that this gate did not create.
    #[error("the role `{0}` exists and was not created by this gate; rename or drop it")]
    NotOurs(RoleName),
    /// The role could not be recorded, so it was not created.
    #[error("cannot write the audit log")]
    Record {
        /// True if the disk is full.
        disk_full: bool,
    },
    /// The server cannot be reached, or refused.
    #[error(transparent)]
    Fault(#[from] RoleFault),
    /// The grant's own database could not be made.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The operating system's random generator failed, or a worker thread did.
    #[error("an internal step failed: {0}")]
    Internal(&'static str),
}

impl From<AuditError> for RoleError {
    fn from(error: AuditError) -> Self {
        tracing::error!(error = %display_chain(&error), "did not create or change a role: cannot write its audit record");
        Self::Record {
            disk_full: error.disk_full(),
        }
    }
}

impl RoleError {
    /// Returns the ending of a session that would have had the role.
    #[must_use]
    pub fn ending(&self, grant: &Grant, now: Timestamp) -> Ending {
        let target = grant.target().clone();
        match self {
            Self::Over => over(grant, now),
            Self::Copy(error) => error.ending(target).unwrap_or_else(|| over(grant, now)),
            Self::NoProfile { asked, known } => Ending::NoSuchProfile {
                target,
                asked: asked.clone(),
                known: known.clone(),
            },
            Self::Record { disk_full } => Ending::AuditFailed { disk_full: *disk_full },
            Self::Fault(RoleFault::Server { code, message }) if let Some(refusal) = TargetRefusal::of(code) => {
                refusal.ending(target, message)
            }
            Self::Fault(fault) if fault.unreachable() => Ending::TargetUnreachable { target },
            Self::NotOurs(_) | Self::Fault(_) | Self::Internal(_) => Ending::RoleNotMade {
                target,
                read_only: matches!(self, Self::Fault(fault) if fault.code() == READ_ONLY),
            },
        }
    }
}

/// Returns the ending of a session whose grant has ended meanwhile.
fn over(grant: &Grant, now: Timestamp) -> Ending {
    let id = grant.id().clone();
    match grant.status(now) {
        GrantState::Revoked { at } if grant.given_back() => Ending::LoginExpired { grant: id, until: at },
        GrantState::Revoked { at } => Ending::LoginRevoked { grant: id, at },
        _ => Ending::LoginExpired {
            grant: id,
            until: grant.until().unwrap_or(now),
        },
    }
}

impl GrantRoles {
    /// Creates the handle; it connects when there is something to do. Must be called within a tokio runtime, in which its tasks
    /// then run.
    #[must_use]
    pub fn new(target: Arc<Target>, profiles: Vec<RoleProfile>, journal: Journal, clock: Clock) -> Self {
        Self(Arc::new(GrantRolesInner {
            place: Mutex::new(Arc::new(RoleTarget { target, profiles })),
            gate: journal.log().clone(),
            journal,
            runtime: Handle::current(),
            making: RoleConnection::new("tidegate (makes roles)", clock.clone()),
            ending: RoleConnection::new("tidegate (ends roles)", clock.clone()),
            clock,
            legacies: tokio::sync::Mutex::default(),
            slots: Mutex::default(),
            strangers: Mutex::default(),
            counts: Mutex::default(),
            copies: Mutex::default(),
            copy_counts: Mutex::default(),
        }))
    }

    /// Switches to a target and profiles with changed settings, for grants first used from now on, and returns true, if host,
    /// port, database and provisioning account are the same.
    #[must_use]
    pub fn renew(&self, target: &Arc<Target>, profiles: &[RoleProfile]) -> bool {
        let place = self.0.place();
        let old = &place.target;
        let same =
            old.same_server(target) && old.database == target.database && old.provisioner().user == target.provisioner().user;
        if same {
            *self.0.place.lock() = Arc::new(RoleTarget {
                target: Arc::clone(target),
                profiles: profiles.to_vec(),
            });
        }
        same
    }

    /// Returns the account of the grant's sessions. Creates the role if there is none yet; concurrent callers wait for the same
    /// role. A creation that has begun is completed even if its callers are gone.
    pub async fn account(&self, grant: watch::Receiver<Arc<Grant>>) -> Result<Arc<TargetAccount>, RoleError> {
        let asked = self.0.clock.moment().instant;
        let slot = {
            let grant = grant.borrow();
            self.0.slot(grant.id(), || grant_role(grant.identity(), grant.id()))
        };
        {
            let state = slot.turn.lock().await;
            if let Some(account) = &state.account {
                return Ok(Arc::clone(account));
            }
        }
        let roles = self.clone();
        let made = self.0.runtime.spawn(async move { roles.make(slot, grant, asked).await });
        made.await.unwrap_or(Err(RoleError::Internal("making a role")))
    }

    /// Forgets an account that the server no longer accepts: its role was dropped there, or its password changed (every role may
    /// change its own). The next caller creates the role anew, unless another has done so by now.
    pub async fn distrust(&self, grant: &GrantId, account: &TargetAccount) {
        let Some(slot) = self.0.slots.lock().get(grant).cloned() else {
            return;
        };
        let mut state = slot.turn.lock().await;
        if state.account.as_deref().is_some_and(|known| std::ptr::eq(known, account)) {
            tracing::warn!(role = %slot.role, "the server rejects a grant role; the next login creates it again");
            state.account = None;
        }
    }

    /// Drops all roles of this run, for an orderly stop. They are created anew when their grants are used again. The role of a grant
    /// with a database of its own only loses its login: what a tester has there outlives the gate.
    pub async fn close(&self) {
        let slots: Vec<_> = self.0.slots.lock().values().cloned().collect();
        let (kept, dropped): (Vec<_>, Vec<_>) = slots.iter().partition(|slot| self.0.has_copy(&slot.grant));
        let ends = dropped.into_iter().map(|slot| self.end(slot, Some("the gate stops")));
        let shuts = kept.into_iter().map(|slot| self.0.lock_out(&slot.role, ""));
        let _ = tokio::join!(futures_util::future::join_all(ends), futures_util::future::join_all(shuts));
    }

    /// Returns the counters.
    #[must_use]
    pub fn counted(&self) -> RoleCounts {
        RoleCounts {
            present: u64::try_from(self.0.slots.lock().len()).unwrap_or(u64::MAX),
            ..*self.0.counts.lock()
        }
    }
}

impl GrantRolesInner {
    fn place(&self) -> Arc<RoleTarget> {
        Arc::clone(&self.place.lock())
    }

    fn slot(&self, grant: &GrantId, role: impl FnOnce() -> RoleName) -> Arc<RoleSlot> {
        let slot = || {
            Arc::new(RoleSlot {
                grant: grant.clone(),
                role: role(),
                turn: tokio::sync::Mutex::default(),
            })
        };
        Arc::clone(self.slots.lock().entry(grant.clone()).or_insert_with(slot))
    }

    fn marker(&self, grant: &GrantId) -> RoleMarker {
        RoleMarker::Grant {
            grant: grant.clone(),
            target: self.place().target.name.clone(),
            gate: self.gate.clone(),
        }
    }

    /// Records a change of a role, before it is made.
    async fn record(
        &self,
        slot: &RoleSlot,
        change: RoleChangeKind,
        until: Option<Timestamp>,
        detail: Option<String>,
    ) -> Result<(), AuditError> {
        let event = RoleChanged {
            grant: slot.grant.clone(),
            target: self.place().target.name.clone(),
            role: slot.role.to_string(),
            change: change.into(),
            until,
            detail,
        };
        self.journal.record(&Event::RoleChanged(std::borrow::Cow::Owned(event))).await
    }

    /// Records a change that has been made already; a failure is only logged.
    async fn note(&self, slot: &RoleSlot, change: RoleChangeKind, detail: Option<String>) {
        if let Err(error) = self.record(slot, change, None, detail).await {
            tracing::error!(role = %slot.role, change = change.as_str(), error = %display_chain(&error), "cannot write the change of a role to the audit log");
        }
    }
}

impl std::fmt::Debug for GrantRoles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Roles({})", self.0.place().target.name)
    }
}

#[cfg(test)]
mod tests;
