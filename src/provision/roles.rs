//! A role for each grant at one target: made when the grant is first used, gone when it is over.
//!
//! It does not decide whether a grant covers anybody, and it makes no profile: the roles of profiles are there already.
//!
//! INVARIANT: a session has its grant's role or none at all; there is no role without a record before it; only roles whose
//! comment names this gate and this target are ever touched; and what is over is ended until it is gone.

mod inspect;
mod keep;
mod legacy;
mod line;
mod lost_host;
mod make;
mod powers;
mod reap;
mod retire;
mod search_path;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::audit::event::{Event, RoleChanged};
use crate::audit::{AuditError, Journal};
use crate::causes::in_one_line;
use crate::clock::Clock;
use crate::ending::{Ending, TargetRefusal};
use crate::grant::{Grant, Status};
use crate::ids::{GrantId, LogId};
use crate::names::ProfileName;
use crate::rights::{Marker, RoleName, grant_role};
use crate::upstream::{Account, Target};

pub use inspect::{Finding, inspect_roles, inspect_shared};
pub use line::Fault;
pub use reap::{Found, Reaped as ReapedRoles};

use line::Line;

/// `read_only_sql_transaction`.
const READ_ONLY: &str = "25006";

/// What grants of one profile get at a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Its name.
    pub name: ProfileName,
    /// How many connections at once a grant's role may have; `None`: as many as the grant allows sessions, with room for those
    /// that are just closing.
    pub connections: Option<u32>,
    /// Settings of the role (`ALTER ROLE ... SET`).
    pub settings: Vec<(String, String)>,
    /// The schema of its views with masks, if it has any: it goes before the rest of its sessions' `search_path`.
    pub views: Option<RoleName>,
    /// Whether its sessions make things that stay: these are the profile's, so sessions start in its role. Others are their grant's role.
    pub creates: bool,
}

/// The roles of a target's grants. Cheap to clone; clones are one.
#[derive(Clone)]
pub struct Roles(Arc<Inner>);

struct Inner {
    place: Mutex<Arc<Place>>,
    /// Whose roles they are: the log's id, which stays when the gate starts again.
    gate: LogId,
    journal: Journal,
    clock: Clock,
    /// Where its tasks run, whoever asks.
    runtime: Handle,
    /// Roles are made over one connection and ended over another: ending may wait for locks.
    making: Line,
    ending: Line,
    /// Whoever sees to what a role leaves has the turn, and a connection of its own: it can take long, and two that make the
    /// account a member of one profile would collide.
    legacies: tokio::sync::Mutex<()>,
    slots: Mutex<HashMap<GrantId, Arc<Slot>>>,
    /// Backends that no session holds, and since when that is known.
    strangers: Mutex<HashMap<i32, Instant>>,
    counts: Counts,
}

/// What a reload replaces.
struct Place {
    target: Arc<Target>,
    /// The narrowest first.
    profiles: Vec<Profile>,
}

/// One grant's role.
struct Slot {
    grant: GrantId,
    role: RoleName,
    /// Who makes, extends or ends the role has the turn.
    turn: tokio::sync::Mutex<State>,
}

#[derive(Default)]
struct State {
    /// How its sessions log in; `None`: the role is not made, or by a former run whose password is lost.
    account: Option<Arc<Account>>,
    /// Somebody sees to its end.
    kept: bool,
    /// Until when it can log in, as the server was told.
    until: Option<Timestamp>,
    /// Why it could not be made, and when that was known: for those who waited meanwhile.
    failed: Option<(Instant, RoleError)>,
}

#[derive(Debug, Default)]
struct Counts {
    made: AtomicU64,
    retired: AtomicU64,
    left: AtomicU64,
    intruders: AtomicU64,
}

/// How many roles of grants there were at a target, since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// Roles that are there now, as far as this gate knows.
    pub present: u64,
    /// Roles made.
    pub made: u64,
    /// Roles ended.
    pub retired: u64,
    /// Roles of ended grants that could not be ended yet.
    pub left: u64,
    /// Backends ended that had logged in past the gate.
    pub intruders: u64,
}

/// Why a grant has no role. The texts are for the operator.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RoleError {
    /// The grant has ended meanwhile.
    #[error("the grant is over")]
    Over,
    /// The target does not have the grant's profile any more.
    #[error("the target has no profile `{asked}`")]
    NoProfile {
        /// The profile.
        asked: String,
        /// Those it has.
        known: Vec<ProfileName>,
    },
    /// There is a role of that name which this gate did not make.
    #[error("the role `{0}` exists and was not created by this gate; rename or drop it")]
    NotOurs(RoleName),
    /// It could not be put on record, so it was not made.
    #[error("cannot write the audit log")]
    Record {
        /// The disk is full.
        disk_full: bool,
    },
    /// The server cannot be reached, or said no.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The operating system's random generator failed, or a worker thread did.
    #[error("an internal step failed: {0}")]
    Internal(&'static str),
}

impl From<AuditError> for RoleError {
    fn from(error: AuditError) -> Self {
        tracing::error!(error = %in_one_line(&error), "did not create or change a role: cannot write its audit record");
        Self::Record {
            disk_full: error.disk_full(),
        }
    }
}

impl RoleError {
    /// How a session ends that would have had the role.
    #[must_use]
    pub fn ending(&self, grant: &Grant, now: Timestamp) -> Ending {
        let target = grant.target().clone();
        match self {
            Self::Over => match grant.status(now) {
                Status::Revoked { at } if grant.given_back() => Ending::LoginExpired {
                    grant: grant.id().clone(),
                    until: at,
                },
                Status::Revoked { at } => Ending::LoginRevoked {
                    grant: grant.id().clone(),
                    at,
                },
                _ => Ending::LoginExpired {
                    grant: grant.id().clone(),
                    until: grant.until().unwrap_or(now),
                },
            },
            Self::NoProfile { asked, known } => Ending::NoSuchProfile {
                target,
                asked: asked.clone(),
                known: known.clone(),
            },
            Self::Record { disk_full } => Ending::AuditFailed { disk_full: *disk_full },
            Self::Fault(Fault::Server { code, message }) if let Some(refusal) = TargetRefusal::of(code) => {
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

impl Roles {
    /// The roles of a target's grants; connects when there is something to do. To be called within a tokio runtime, in which
    /// its tasks then run.
    #[must_use]
    pub fn new(target: Arc<Target>, profiles: Vec<Profile>, journal: Journal, clock: Clock) -> Self {
        Self(Arc::new(Inner {
            place: Mutex::new(Arc::new(Place { target, profiles })),
            gate: journal.log().clone(),
            journal,
            clock,
            runtime: Handle::current(),
            making: Line::new("tidegate (makes roles)"),
            ending: Line::new("tidegate (ends roles)"),
            legacies: tokio::sync::Mutex::default(),
            slots: Mutex::default(),
            strangers: Mutex::default(),
            counts: Counts::default(),
        }))
    }

    /// Takes a target and profiles that were changed, if the roles are at the same place still; for grants used first from
    /// now on.
    #[must_use]
    pub fn renew(&self, target: &Arc<Target>, profiles: &[Profile]) -> bool {
        let place = |target: &Target| {
            (
                target.host.clone(),
                target.port,
                target.database.clone(),
                target.provisioner().user.clone(),
            )
        };
        let same = place(target) == place(&self.0.place().target);
        if same {
            *lock(&self.0.place) = Arc::new(Place {
                target: Arc::clone(target),
                profiles: profiles.to_vec(),
            });
        }
        same
    }

    /// How the grant's sessions log in. Makes the role if there is none yet; whoever asks meanwhile waits for the same. What was
    /// begun is done even if nobody waits for it any more.
    pub async fn account(&self, grant: watch::Receiver<Arc<Grant>>) -> Result<Arc<Account>, RoleError> {
        let asked = self.0.clock.moment().instant;
        let slot = self.0.slot(&grant.borrow());
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

    /// The server does not take `account` any more: its role was dropped there, or its password changed (every role may change
    /// its own). The next who asks makes it anew, unless somebody has by now.
    pub async fn distrust(&self, grant: &GrantId, account: &Account) {
        let Some(slot) = lock(&self.0.slots).get(grant).cloned() else {
            return;
        };
        let mut state = slot.turn.lock().await;
        if state.account.as_deref().is_some_and(|known| std::ptr::eq(known, account)) {
            tracing::warn!(role = %slot.role, "the server rejects a grant role; the next login creates it again");
            state.account = None;
        }
    }

    /// Ends all roles of this run: for an orderly stop. They are made anew when their grants are used again.
    pub async fn close(&self) {
        let slots: Vec<_> = lock(&self.0.slots).values().cloned().collect();
        let ends = slots.iter().map(|slot| self.end(slot, Some("the gate stops")));
        futures_util::future::join_all(ends).await;
    }

    /// How many roles there were.
    #[must_use]
    pub fn counted(&self) -> Counted {
        let counts = &self.0.counts;
        Counted {
            present: u64::try_from(lock(&self.0.slots).len()).unwrap_or(u64::MAX),
            made: counts.made.load(Ordering::Relaxed),
            retired: counts.retired.load(Ordering::Relaxed),
            left: counts.left.load(Ordering::Relaxed),
            intruders: counts.intruders.load(Ordering::Relaxed),
        }
    }
}

impl Inner {
    fn place(&self) -> Arc<Place> {
        Arc::clone(&lock(&self.place))
    }

    fn slot(&self, grant: &Grant) -> Arc<Slot> {
        let slot = || {
            Arc::new(Slot {
                grant: grant.id().clone(),
                role: grant_role(grant.identity(), grant.id()),
                turn: tokio::sync::Mutex::default(),
            })
        };
        Arc::clone(lock(&self.slots).entry(grant.id().clone()).or_insert_with(slot))
    }

    fn marker(&self, grant: &GrantId) -> Marker {
        Marker::Grant {
            grant: grant.clone(),
            target: self.place().target.name.clone(),
            gate: self.gate.clone(),
        }
    }

    /// Puts on record what is done with a role.
    async fn record(
        &self,
        slot: &Slot,
        change: &str,
        until: Option<Timestamp>,
        detail: Option<String>,
    ) -> Result<(), AuditError> {
        let event = RoleChanged {
            grant: slot.grant.clone(),
            target: self.place().target.name.clone(),
            role: slot.role.to_string(),
            change: change.to_owned(),
            until,
            detail,
        };
        self.journal.record(&Event::RoleChanged(std::borrow::Cow::Owned(event))).await
    }

    /// Puts on record what has happened already.
    async fn note(&self, slot: &Slot, change: &str, detail: Option<String>) {
        if let Err(error) = self.record(slot, change, None, detail).await {
            tracing::error!(role = %slot.role, change, error = %in_one_line(&error), "cannot write the change of a role to the audit log");
        }
    }
}

impl std::fmt::Debug for Roles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Roles({})", self.0.place().target.name)
    }
}

/// A poisoned lock only means that a thread died while it had it: what is in it is whole at any time.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
