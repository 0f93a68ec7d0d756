//! Databases of grants at one target, each a copy of a template: made with the grant's role, and dropped before it.
//!
//! Names and SQL are in [`crate::database::copy`]. INVARIANT: no database is made before it is on record; a database that this gate
//! made for a grant that has ended is dropped, with retries, before the grant's role is; only databases whose name says this gate are
//! ever dropped.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use super::connection::OpenConnection;
use super::setting::setting;
use super::{GrantRoles, GrantRolesInner, RoleFault, RoleSlot};
use crate::audit::AuditError;
use crate::audit::event::{CopyChangeKind, CopyChanged, Event};
use crate::base::backoff::Backoff;
use crate::base::error_chain::display_chain;
use crate::database::copy::{self, CopySource, copy_name, owner_of};
use crate::database::rights::{RoleName, quoted, quoted_text};
use crate::model::ending::{CopyFault, Ending, LimitScope};
use crate::model::grant::{Grant, GrantState};
use crate::model::ids::GrantId;
use crate::model::names::TargetName;

/// Application name in the server's `pg_stat_activity`.
const NAME: &str = "tidegate (copies)";
/// Time for which a template that is in use is tried again. The server itself waits 5 s each time.
const IN_USE_TIMEOUT: Duration = Duration::from_secs(30);
/// Waits between these attempts.
const RETRY_BACKOFF: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(2));
/// Time limit of dropping a database, which waits for a checkpoint.
const DROP_TIMEOUT: Duration = Duration::from_secs(120);
/// Version whose backends notice in the middle of a statement that their client has gone (`client_connection_check_interval`).
const CHECKING_VERSION: u32 = 140_000;

/// `object_in_use`.
const IN_USE: &str = "55006";
/// `invalid_catalog_name`.
const NO_DATABASE: &str = "3D000";
/// `disk_full`.
const DISK_FULL: &str = "53100";
/// `duplicate_database`, `unique_violation`: another statement has made it, or is making it.
const DUPLICATE: [&str; 2] = ["42P04", "23505"];
/// `insufficient_privilege`.
const NOT_ALLOWED: &str = "42501";

/// Query for the state of a database: whether it was dropped in part (`DATCONNLIMIT_INVALID_DB`, catalog/pg_database.h).
const STATE: &str = "SELECT datconnlimit = -2 FROM pg_database WHERE datname = $name";
/// Query for the version of a server, and whether it clones files by default.
const SERVER: &str =
    "SELECT current_setting('server_version_num'), coalesce(current_setting('file_copy_method', true), '') = 'clone'";
/// Query for the settings of a database for all roles, which `CREATE DATABASE` does not copy.
const SETTINGS: &str = "
    SELECT c.setting FROM pg_db_role_setting AS s JOIN pg_database AS d ON d.oid = s.setdatabase
    CROSS JOIN unnest(s.setconfig) AS c (setting) WHERE d.datname = $name AND s.setrole = 0";
/// Query for the databases of grants, with their sizes.
const COPIES: &str = "
    SELECT d.datname, CASE WHEN d.datconnlimit <> -2 AND pg_has_role(d.datdba, 'USAGE') THEN pg_database_size(d.oid) END
    FROM pg_database AS d WHERE d.datname LIKE 'gr\\_%\\_lg\\_%' ORDER BY 1";

/// Reason why a grant has no database of its own. The texts are for the operator.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CopyError {
    /// As many grants have one as may.
    #[error("{0} grants have a database of their own already (`copies` of the target)")]
    Limit(u32),
    /// The template is in use.
    #[error("the template `{0}` is in use; close the connections to it, or: ALTER DATABASE \"{0}\" ALLOW_CONNECTIONS false")]
    InUse(String),
    /// The grant has ended meanwhile.
    #[error("the grant is over")]
    Over,
    /// It could not be put on record.
    #[error("cannot write the audit log")]
    Record {
        /// True if the disk is full.
        disk_full: bool,
    },
    /// The server refused or failed.
    #[error("cannot copy `{template}`: {fault}")]
    Fault {
        /// Name of the template.
        template: String,
        /// Error of the server.
        fault: RoleFault,
    },
}

impl From<AuditError> for CopyError {
    fn from(error: AuditError) -> Self {
        Self::Record {
            disk_full: error.disk_full(),
        }
    }
}

impl CopyError {
    /// Returns the ending of a session that would have been in the database; `None` if the grant itself has ended.
    pub(super) fn ending(&self, target: TargetName) -> Option<Ending> {
        Some(match self {
            Self::Limit(limit) => Ending::TooMany {
                scope: LimitScope::Copies(target),
                limit: *limit,
            },
            Self::InUse(template) => Ending::TemplateInUse {
                target,
                template: template.clone(),
                tried: IN_USE_TIMEOUT,
            },
            Self::Over => return None,
            Self::Record { disk_full } => Ending::AuditFailed { disk_full: *disk_full },
            Self::Fault { fault, .. } if fault.unreachable() => Ending::TargetUnreachable { target },
            Self::Fault { template, fault } => Ending::CopyNotMade {
                target,
                template: template.clone(),
                fault: match fault.code() {
                    NO_DATABASE => CopyFault::NoTemplate,
                    DISK_FULL => CopyFault::DiskFull,
                    _ => CopyFault::Other,
                },
            },
        })
    }
}

/// Progress of a database that is being made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyProgress {
    /// It is being copied.
    Copying,
    /// The template is in use; it is tried again.
    TemplateInUse,
}

/// Database of a grant, as far as this run knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CopyState {
    /// It is being made.
    Making(CopySource, CopyProgress),
    /// It is there, also if a former run made it.
    There,
}

/// Database of a grant at a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundCopy {
    /// Name of the database.
    pub database: String,
    /// Id of its grant.
    pub grant: GrantId,
    /// Size in bytes, if it can be known.
    pub bytes: Option<u64>,
}

/// Counters of the databases of grants at a target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CopyCounts {
    /// Number of databases that exist now, as far as this gate knows.
    pub present: u64,
    /// Number of databases made since the start.
    pub made: u64,
    /// Number of databases dropped since the start.
    pub dropped: u64,
}

/// Order to make a database.
pub(super) struct NewCopy<'a> {
    pub(super) slot: &'a RoleSlot,
    /// Role of the profile.
    pub(super) holder: &'a RoleName,
    pub(super) source: &'a CopySource,
    /// Grant, now and after every change.
    pub(super) grant: watch::Receiver<Arc<Grant>>,
}

impl NewCopy<'_> {
    fn failed(&self, fault: RoleFault) -> CopyError {
        CopyError::Fault {
            template: self.source.template.clone(),
            fault,
        }
    }
}

impl GrantRoles {
    /// Returns the template of the grant's database and the progress, while it is being made.
    #[must_use]
    pub fn copying(&self, grant: &GrantId) -> Option<(String, CopyProgress)> {
        match self.0.copies.lock().get(grant)? {
            CopyState::Making(source, progress) => Some((source.template.clone(), *progress)),
            CopyState::There => None,
        }
    }

    /// Returns the databases that this gate made for grants at this server.
    pub async fn look_for_copies(&self) -> Result<Vec<FoundCopy>, RoleFault> {
        let rows = self.0.ask(COPIES).await?;
        let found = rows.iter().filter_map(|row| {
            let database = row.get(0)?.to_owned();
            let (grant, gate) = owner_of(&database)?;
            (gate == self.0.gate).then(|| FoundCopy {
                database,
                grant,
                bytes: row.get(1).and_then(|bytes| bytes.parse().ok()),
            })
        });
        Ok(found.collect())
    }

    /// Returns the counters.
    #[must_use]
    pub fn copies_counted(&self) -> CopyCounts {
        CopyCounts {
            present: u64::try_from(self.0.copies.lock().len()).unwrap_or(u64::MAX),
            ..*self.0.copy_counts.lock()
        }
    }
}

impl GrantRolesInner {
    /// Makes the grant's own database, or completes the one that a former run has made, and returns its name.
    pub(super) async fn make_copy(&self, new: NewCopy<'_>) -> Result<String, CopyError> {
        let place = self.place();
        let (id, limit) = (&new.slot.grant, place.target.max_copies);
        let name = copy_name(id, &self.gate);
        let there = self.is_valid(&name).await.map_err(|fault| new.failed(fault))?;
        if there == Some(false) {
            self.drop_copy(new.slot, None).await.map_err(|fault| new.failed(fault))?;
        }
        {
            let mut copies = self.copies.lock();
            if !copies.contains_key(id) && copies.len() >= limit as usize {
                return Err(CopyError::Limit(limit));
            }
            let making = CopyState::Making(new.source.clone(), CopyProgress::Copying);
            copies.insert(id.clone(), making);
        }
        let made = if there == Some(true) {
            self.complete(&new, &name).await.map_err(|fault| new.failed(fault))
        } else {
            self.make_anew(&new, &name).await
        };
        if let Err(error) = &made {
            tracing::warn!(database = name, target_name = %place.target.name, error = %display_chain(error), "cannot make the database of a grant");
        }
        // Unless it is known to be gone: then it counts, and the end of the role drops it.
        if let Some(state) = self.copies.lock().get_mut(id) {
            *state = CopyState::There;
        }
        made.map(|()| name)
    }

    /// Returns true for a database that is there, false for one that was dropped in part.
    async fn is_valid(&self, name: &str) -> Result<Option<bool>, RoleFault> {
        let state = STATE.replace("$name", &quoted_text(name));
        let rows = self.making.run(&self.place().target, &state).await?;
        Ok(rows.first().map(|row| row.get(0) != Some("t")))
    }

    /// Makes a database. If that fails, drops what there is of it.
    async fn make_anew(&self, new: &NewCopy<'_>, name: &str) -> Result<(), CopyError> {
        let begun = self.clock.moment().instant;
        self.record_copy(new.slot, Some(new.source), CopyChangeKind::Made, (None, None))
            .await?;
        // A grant that ends takes the connection with it, and the server notices that.
        let made = tokio::select! {
            created = self.create(new, name, begun) => created,
            () = self.ended(new.grant.clone()) => Err(CopyError::Over),
        };
        let made = match made {
            Ok(()) => self.complete(new, name).await.map_err(|fault| new.failed(fault)),
            failed => failed,
        };
        let took = self.clock.moment().instant.saturating_duration_since(begun);
        let recorded = match made {
            Ok(()) => self
                .record_copy(new.slot, Some(new.source), CopyChangeKind::Ready, (Some(took), None))
                .await
                .map_err(CopyError::from),
            failed => failed,
        };
        let Err(error) = recorded else {
            self.copy_counts.lock().made += 1;
            return Ok(());
        };
        let detail = Some(error.to_string());
        self.note_copy(new.slot, Some(new.source), CopyChangeKind::NotMade, (Some(took), detail))
            .await;
        if let Err(fault) = self.drop_copy(new.slot, None).await {
            tracing::warn!(database = name, error = %display_chain(&fault), "cannot drop what there is of the database of a grant yet; will retry");
        }
        Err(error)
    }

    /// Gives a copy the settings of its template, and opens it to its grant. Each step can be repeated.
    async fn complete(&self, new: &NewCopy<'_>, name: &str) -> Result<(), RoleFault> {
        let connection = OpenConnection::open_kept(&self.place().target, NAME, &self.clock).await?;
        let settings = SETTINGS.replace("$name", &quoted_text(&new.source.template));
        for row in connection.run(&settings).await? {
            let Some((key, value)) = row.get(0).and_then(|setting| setting.split_once('=')) else {
                continue;
            };
            let key = key.split('.').map(quoted).collect::<Vec<_>>().join(".");
            let set = format!("ALTER DATABASE {} SET {key} = {}", quoted(name), setting(&key, value));
            match connection.run(&set).await {
                Err(fault) if fault.code() == NOT_ALLOWED => {
                    tracing::warn!(database = name, setting = key, error = %display_chain(&fault), "cannot give the database of a grant a setting of its template");
                }
                done => drop(done?),
            }
        }
        let comment = self.marker(&new.slot.grant).to_string();
        let open = copy::open(name, new.slot.role.as_str(), new.holder.as_str(), &comment);
        connection.run(&open).await.map(drop)
    }

    /// Copies the template, and tries again for a while if it is in use.
    async fn create(&self, new: &NewCopy<'_>, name: &str, begun: Instant) -> Result<(), CopyError> {
        let failed = |fault| new.failed(fault);
        let connection = OpenConnection::open_kept(&self.place().target, NAME, &self.clock)
            .await
            .map_err(failed)?;
        let (version, clones) = {
            let rows = connection.run(SERVER).await.map_err(failed)?;
            let column = |at| rows.first().and_then(|row| row.get(at)).unwrap_or_default();
            (column(0).parse().unwrap_or(0), column(1) == "t")
        };
        let limit = self.time_left(&new.grant);
        let mut prepare = format!("SET statement_timeout = {}", limit.as_millis());
        if version >= CHECKING_VERSION {
            prepare.push_str("; SET client_connection_check_interval = '1s'");
        }
        connection.run(&prepare).await.map_err(failed)?;
        let mut statements = copy::create(name, new.source, version, clones);
        let last = statements.pop().unwrap_or_default();
        for statement in statements {
            connection.run(&statement).await.map_err(failed)?;
        }
        let mut backoff = RETRY_BACKOFF;
        loop {
            let fault = match connection.run_within(&last, limit).await {
                Ok(_) => return Ok(()),
                Err(fault) => fault,
            };
            let tried = self.clock.moment().instant.saturating_duration_since(begun);
            match fault.code() {
                code if DUPLICATE.contains(&code) => return Ok(()),
                IN_USE if tried < IN_USE_TIMEOUT => {
                    let making = CopyState::Making(new.source.clone(), CopyProgress::TemplateInUse);
                    self.copies.lock().insert(new.slot.grant.clone(), making);
                    tokio::time::sleep(backoff.next_wait()).await;
                }
                IN_USE => return Err(CopyError::InUse(new.source.template.clone())),
                _ if fault.collided() && tried < IN_USE_TIMEOUT => tokio::time::sleep(backoff.next_wait()).await,
                _ => return Err(failed(fault)),
            }
        }
    }

    /// Drops the grant's database, if there is one, with all that is connected to it. `why` is for the record.
    pub(super) async fn drop_copy(&self, slot: &RoleSlot, why: Option<&str>) -> Result<(), RoleFault> {
        let place = self.place();
        let name = copy_name(&slot.grant, &self.gate);
        let there = self.ask(&STATE.replace("$name", &quoted_text(&name))).await?;
        if !there.is_empty() {
            self.roll_back_prepared_in(&name).await?;
            let connection = OpenConnection::open_kept(&place.target, NAME, &self.clock).await?;
            connection
                .run(&format!("SET statement_timeout = {}", DROP_TIMEOUT.as_millis()))
                .await?;
            let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(&name));
            connection.run_within(&sql, DROP_TIMEOUT).await?;
            self.copy_counts.lock().dropped += 1;
            self.note_copy(slot, None, CopyChangeKind::Dropped, (None, why.map(str::to_owned)))
                .await;
        }
        self.copies.lock().remove(&slot.grant);
        Ok(())
    }

    /// Returns true if the grant has a database of its own, as far as this run knows.
    pub(super) fn has_copy(&self, grant: &GrantId) -> bool {
        self.copies.lock().contains_key(grant)
    }

    /// Notes a database that a former run has made.
    pub(super) fn found_copy(&self, grant: &GrantId) {
        self.copies.lock().entry(grant.clone()).or_insert(CopyState::There);
    }

    /// Returns the time until the grant's window closes.
    fn time_left(&self, grant: &watch::Receiver<Arc<Grant>>) -> Duration {
        let until = grant.borrow().until().unwrap_or(Timestamp::MIN);
        let left = until.duration_since(self.clock.now());
        Duration::try_from(left).unwrap_or_default().max(Duration::from_secs(1))
    }

    /// Waits until the grant has ended.
    async fn ended(&self, mut grant: watch::Receiver<Arc<Grant>>) {
        loop {
            let status = grant.borrow_and_update().status(self.clock.now());
            let GrantState::Active { until, .. } = status else { return };
            tokio::select! {
                () = self.clock.sleep_until(until) => {}
                changed = grant.changed() => if changed.is_err() { return },
            }
        }
    }

    async fn record_copy(
        &self,
        slot: &RoleSlot,
        source: Option<&CopySource>,
        change: CopyChangeKind,
        (took, detail): (Option<Duration>, Option<String>),
    ) -> Result<(), AuditError> {
        let event = CopyChanged {
            grant: slot.grant.clone(),
            target: self.place().target.name.clone(),
            database: copy_name(&slot.grant, &self.gate),
            template: source.map(|source| source.template.clone()),
            change: change.into(),
            took_us: took.map(|took| u64::try_from(took.as_micros()).unwrap_or(u64::MAX)),
            detail,
        };
        self.journal.record(&Event::CopyChanged(Cow::Owned(event))).await
    }

    /// Records a change that has been made already; a failure is only logged.
    async fn note_copy(
        &self,
        slot: &RoleSlot,
        source: Option<&CopySource>,
        change: CopyChangeKind,
        more: (Option<Duration>, Option<String>),
    ) {
        if let Err(error) = self.record_copy(slot, source, change, more).await {
            tracing::error!(grant = %slot.grant, change = change.as_str(), error = %display_chain(&error), "cannot write the change of a grant's database to the audit log");
        }
    }
}
