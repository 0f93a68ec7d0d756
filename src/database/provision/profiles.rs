//! Comparison of the roles of a target's profiles with their definitions, and the changes that bring them in step.
//!
//! It does not decide what rights mean; `rights` does. INVARIANT: all changes are one transaction, so there is all of them or
//! nothing; one apply at a time runs on a server; the result is read again before the commit, and anything short of the
//! definition is rolled back; a setting that a grant's role could not get is reported when profiles are planned, not when
//! somebody connects.
//!
//! The lock that serializes applies is a role that is created first and dropped last in the transaction, so that it is never
//! visible. The end of the transaction ends the lock. Only accounts that may create roles can hold it. (An advisory lock is
//! open to everybody, so anybody could block every apply. The second transaction that inserts a name into the unique index of
//! `pg_authid` waits until the first commits or aborts, `_bt_check_unique` in access/nbtree/nbtinsert.c, and finds no role then
//! either way.)

mod captured;
pub(super) mod catalogue;
mod error;

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::connection::{ProvisionConnection, within};
use crate::base::backoff::Backoff;
use crate::base::error_chain::display_chain;
pub use crate::database::rights::PlanStep;
use crate::database::rights::capture::{self, CaptureDefinition};
use crate::database::rights::{
    Pattern, PlannedProfile, ProfilePlan, Rights, RoleMarker, capture_marker, capture_schema, everybody, plan, profile_role,
    quoted,
};
use crate::database::upstream::Target;
use crate::model::names::{ProfileName, TargetName};
pub use error::ProfilesError;

/// Maximum number of attempts when a concurrent change or a restart of the server interferes.
const MAX_ATTEMPTS: u32 = 6;
/// Waits between them.
const RETRY_BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
/// Settings of the connection: catalogue names only, as for ending backends. A statement that waits for a lock gives up, because
/// its place in the queue would hold up all later ones.
const OPTIONS: &str = "-c search_path=pg_catalog -c statement_timeout=0 -c lock_timeout=20s -c standard_conforming_strings=on";

/// Transaction in which everything is read from one snapshot.
const LOOK: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// Roles with the comment of a profile.
const PROFILES: &str = "
    SELECT rolname, shobj_description(oid, 'pg_authid') FROM pg_roles
    WHERE shobj_description(oid, 'pg_authid') LIKE 'tidegate profile %' ORDER BY rolname";

/// Query that returns true if the account may create roles.
const MAY_CREATE_ROLES: &str = "SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user";
/// Statement that takes the lock.
const TAKE_LOCK: &str = "CREATE ROLE \"tidegate applies\" NOLOGIN";
/// Statement that drops the lock before the commit.
const DROP_LOCK: &str = "DROP ROLE \"tidegate applies\"";
/// Holders of the lock: transactions that have changed roles and are still open, which keep the lock on the table until they
/// end.
const LOCK_HOLDERS: &str = "
    SELECT format('process %s, user %s, application %s', a.pid, a.usename, quote_literal(a.application_name))
    FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid
    WHERE l.locktype = 'relation' AND l.relation = 'pg_authid'::regclass AND l.mode = 'RowExclusiveLock' AND l.granted
        AND l.pid <> pg_backend_pid()
    ORDER BY a.xact_start";

/// Facts about a setting: which accounts may set it for a role, and if it can only be set at login. A setting without a row
/// belongs to an extension or does not exist. Since version 15 the right to set one can be granted.
const SETTING: &str = "
    SELECT s.context IN ('internal', 'postmaster', 'sighup') AS nobody,
        s.context IN ('superuser', 'superuser-backend') AND NOT coalesce(a.rolsuper OR GRANTED, false) AS superuser,
        s.context IN ('backend', 'superuser-backend') AS at_start
    FROM pg_settings AS s LEFT JOIN pg_roles AS a ON a.rolname = $2 WHERE s.name = lower($1)";
const SETTING_GRANTED: &str = "has_parameter_privilege(a.oid, s.name, 'SET')";

/// Views that the gate created, by their own comment, in a schema that it created, by the schema's comment.
const MASK_VIEWS: &str = "
    SELECT format('%I.%I', n.nspname, v.relname)
    FROM unnest($1::text[], $2::text[]) AS p (role, marker)
    JOIN pg_namespace AS n ON n.nspname = p.role AND obj_description(n.oid, 'pg_namespace') = p.marker
    JOIN pg_class AS v ON v.relnamespace = n.oid AND v.relkind = 'v' AND obj_description(v.oid, 'pg_class') LIKE 'tidegate mask %'
    ORDER BY 1";

/// Definition of one profile.
#[derive(Debug, Clone)]
pub struct ProfileDefinition {
    /// Name of the profile.
    pub name: ProfileName,
    /// Rights of the profile.
    pub rights: Rights,
    /// Settings its sessions begin with.
    pub settings: Vec<(String, String)>,
    /// Tables whose changed rows are captured.
    pub capture: Vec<Pattern>,
}

/// Profiles of a target, and the account that grants their roles.
#[derive(Debug, Clone)]
pub struct ProfileDefinitions {
    /// Name of the target.
    pub target: TargetName,
    /// Name of the target's account.
    pub account: String,
    /// Profiles, the narrowest first.
    pub profiles: Vec<ProfileDefinition>,
    /// Other profiles of the target, whose rights are in another database.
    pub elsewhere: Vec<ProfileName>,
}

impl ProfileDefinitions {
    /// Returns the roles of the profiles, in their order.
    fn roles(&self) -> Vec<String> {
        let role = |definition: &ProfileDefinition| profile_role(&self.target, &definition.name).to_string();
        self.profiles.iter().map(role).collect()
    }

    /// Returns the tables of the target whose changed rows are captured, for whoever changes them.
    fn capture(&self) -> CaptureDefinition {
        let patterns = self.profiles.iter().map(|definition| definition.capture.clone());
        CaptureDefinition {
            schema: capture_schema(&self.target),
            marker: capture_marker(&self.target),
            account: self.account.clone(),
            patterns: patterns.filter(|patterns| !patterns.is_empty()).collect(),
        }
    }

    /// Returns the place of the profile whose plan has the changes for capture: the first that captures, or else the first.
    fn capturing(&self) -> usize {
        let captures = |definition: &ProfileDefinition| !definition.capture.is_empty();
        self.profiles.iter().position(captures).unwrap_or(0)
    }

    /// Returns the comment on a profile's role.
    fn marker(&self, definition: &ProfileDefinition) -> String {
        let (target, profile) = (self.target.clone(), definition.name.clone());
        RoleMarker::Profile { target, profile }.to_string()
    }
}

/// Profile with its differences from the database.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ProfileComparison {
    /// Name of the profile.
    pub profile: ProfileName,
    /// Name of its role.
    pub role: String,
    /// Differences, and the steps that remove them.
    #[serde(flatten)]
    pub plan: ProfilePlan,
}

/// Differences between a database and a target's profiles.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct TargetComparison {
    /// Comparison of each profile.
    pub profiles: Vec<ProfileComparison>,
    /// Rights of `PUBLIC` in the database, which add to those of every profile.
    pub everybody: Vec<String>,
    /// Roles of profiles without a definition, with the SQL that removes them.
    pub left: Vec<String>,
}

impl TargetComparison {
    /// Returns the number of rights beyond the definitions that others gave and the account cannot revoke.
    #[must_use]
    pub fn excess(&self) -> usize {
        self.profiles.iter().map(|compared| compared.plan.excess.len()).sum()
    }

    /// Returns the differences that the connected account cannot remove.
    fn blocked(&self) -> Vec<String> {
        let of = |compared: &ProfileComparison| {
            let profile = compared.profile.clone();
            let lines = compared.plan.blocked.clone().into_iter();
            lines.map(move |why| format!("{profile}: {why}"))
        };
        self.profiles.iter().flat_map(of).collect()
    }

    /// Fails if the account cannot bring the database in step; `locked` is true if it may create roles.
    fn may_be_done(&self, locked: bool) -> Result<(), ProfilesError> {
        let mut blocked = self.blocked();
        if blocked.is_empty() && !locked {
            blocked.push("this account may not create or change roles: it lacks CREATEROLE".to_owned());
        }
        if blocked.is_empty() {
            Ok(())
        } else {
            Err(ProfilesError::Blocked(blocked))
        }
    }

    /// Returns true if the database is as the profiles define.
    #[must_use]
    pub fn in_step(&self) -> bool {
        self.profiles.iter().all(|compared| compared.plan.in_step())
    }
}

/// Compares the database with the definitions, over a connection as `target` configures it; changes nothing.
pub async fn compare(target: &Arc<Target>, definitions: &ProfileDefinitions) -> Result<TargetComparison, ProfilesError> {
    let session = open(target).await?;
    session.client.batch_execute(LOOK).await?;
    let compared = look(&session.client, definitions).await?;
    session.client.batch_execute("COMMIT").await?;
    Ok(compared)
}

/// Compares as [`compare`] does, and returns the comparison with the fingerprint of its catalogue; `None` if that is still
/// `known`.
pub async fn compare_if_changed(
    target: &Arc<Target>,
    definitions: &ProfileDefinitions,
    known: Option<&str>,
) -> Result<Option<(String, TargetComparison)>, ProfilesError> {
    let session = open(target).await?;
    session.client.batch_execute(LOOK).await?;
    let fingerprint = catalogue::fingerprint(&session.client, &definitions.roles(), &definitions.account).await?;
    let changed = if known == Some(fingerprint.as_str()) {
        None
    } else {
        Some((fingerprint, look(&session.client, definitions).await?))
    };
    session.client.batch_execute("COMMIT").await?;
    Ok(changed)
}

/// Makes the changes that [`compare`] returns, in one transaction, and reports each step to `progress`. Returns the comparison
/// whose steps were carried out.
///
/// An attempt is repeated, a few times within some seconds, if an object has vanished, somebody else changed the same rows of the
/// catalogue, or the server restarts.
pub async fn apply(
    target: &Arc<Target>,
    definitions: &ProfileDefinitions,
    mut progress: impl FnMut(&ProfileName, &PlanStep),
) -> Result<TargetComparison, ProfilesError> {
    let mut backoff = RETRY_BACKOFF;
    let mut tries = 1;
    loop {
        match attempt(target, definitions, &mut progress).await {
            Err(error) if error.may_pass() && tries < MAX_ATTEMPTS => {
                tracing::debug!(error = %display_chain(&error), "cannot compare or apply the profiles; retrying");
            }
            done => return done,
        }
        tokio::time::sleep(backoff.next_wait()).await;
        tries += 1;
    }
}

async fn attempt(
    target: &Arc<Target>,
    definitions: &ProfileDefinitions,
    progress: &mut impl FnMut(&ProfileName, &PlanStep),
) -> Result<TargetComparison, ProfilesError> {
    let session = open(target).await?;
    let client = &session.client;
    let locked = begin(client).await?;
    let todo = look(client, definitions).await?;
    let nothing = todo.profiles.iter().all(|compared| compared.plan.steps.is_empty());
    if nothing && todo.blocked().is_empty() {
        return Ok(todo);
    }
    todo.may_be_done(locked)?;
    for compared in &todo.profiles {
        for step in &compared.plan.steps {
            run_step(client, &step.sql).await?;
            progress(&compared.profile, step);
        }
    }
    let left = look(client, definitions).await?;
    let steps = left.profiles.iter().flat_map(|compared| &compared.plan.steps);
    let left: Vec<String> = steps.map(|step| step.sql.clone()).collect();
    if !left.is_empty() {
        return Err(ProfilesError::NotReached(left));
    }
    commit(client).await?;
    Ok(todo)
}

/// Drops the views with masks, in one transaction, so that the tables they read can be changed or created anew; returns their
/// names as written in SQL. [`apply`] restores them.
///
/// No profile can read more because of it: a profile has no right on a table that it sees with masks, so without the view it
/// sees nothing of the table. The salts stay, so that hashes are the same afterwards.
pub async fn lift(target: &Arc<Target>, definitions: &ProfileDefinitions) -> Result<Vec<String>, ProfilesError> {
    let session = open(target).await?;
    let client = &session.client;
    let locked = begin(client).await?;
    // An account that could not apply afterwards must not lift.
    look(client, definitions).await?.may_be_done(locked)?;
    let markers = definitions.profiles.iter().map(|definition| definitions.marker(definition));
    let markers: Vec<String> = markers.collect();
    let mut lifted = Vec::new();
    for row in client.query(MASK_VIEWS, &[&definitions.roles(), &markers]).await? {
        let view: String = row.try_get(0)?;
        run_step(client, &format!("DROP VIEW {view}")).await?;
        lifted.push(view);
    }
    commit(client).await?;
    Ok(lifted)
}

/// Runs one statement of a change; an error names it.
async fn run_step(client: &Client, sql: &str) -> Result<(), ProfilesError> {
    let failed = |error| ProfilesError::Step {
        sql: sql.to_owned(),
        error,
    };
    client.batch_execute(sql).await.map_err(failed)
}

/// Begins a transaction and takes the lock in it; see [`take_lock`].
async fn begin(client: &Client) -> Result<bool, ProfilesError> {
    // Each statement has to see the changes of the previous holder.
    client
        .batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
        .await?;
    take_lock(client).await
}

/// Takes the lock within a transaction, waiting for earlier holders. Returns `false` if the account may not create roles; it
/// has no lock then and can change nothing.
async fn take_lock(client: &Client) -> Result<bool, ProfilesError> {
    if !client.query_one(MAY_CREATE_ROLES, &[]).await?.try_get::<_, bool>(0)? {
        return Ok(false);
    }
    match client.batch_execute(TAKE_LOCK).await {
        Ok(()) => Ok(true),
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
            client.batch_execute("ROLLBACK").await?;
            let holders = client.query(LOCK_HOLDERS, &[]).await?;
            let holders = holders.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
            Err(ProfilesError::Busy(holders))
        }
        Err(error) => Err(ProfilesError::Step {
            sql: TAKE_LOCK.to_owned(),
            error,
        }),
    }
}

/// Commits the transaction, which releases the lock.
async fn commit(client: &Client) -> Result<(), ProfilesError> {
    client.batch_execute(DROP_LOCK).await?;
    Ok(client.batch_execute("COMMIT").await?)
}

async fn open(target: &Arc<Target>) -> Result<ProvisionConnection, ProfilesError> {
    let connect = ProvisionConnection::open(target, &target.database, "tidegate (profiles)", OPTIONS);
    Ok(within(target.connect_timeout, connect).await?)
}

async fn look(client: &Client, definitions: &ProfileDefinitions) -> Result<TargetComparison, ProfilesError> {
    let account = definitions.account.as_str();
    let owners = definitions
        .profiles
        .iter()
        .filter_map(|profile| profile.rights.owner.as_deref());
    let owners: Vec<&str> = owners.collect();
    let snapshot = catalogue::read(client, &definitions.roles(), &owners, account).await?;
    let capture = definitions.capture();
    let captured = captured::read(client, &capture).await?;
    let mut profiles = Vec::new();
    for (at, definition) in definitions.profiles.iter().enumerate() {
        let role = profile_role(&definitions.target, &definition.name);
        let planned = PlannedProfile {
            role: &role,
            marker: &definitions.marker(definition),
            rights: &definition.rights,
            account,
        };
        let mut plan = plan(&planned, &snapshot)?;
        let wrong = wrong_settings(client, snapshot.version, account, &definition.settings);
        plan.blocked.extend(wrong.await?);
        if at == definitions.capturing() {
            capture::compare(&capture, &captured, &snapshot, &mut plan)?;
        }
        profiles.push(ProfileComparison {
            profile: definition.name.clone(),
            role: role.to_string(),
            plan,
        });
    }
    Ok(TargetComparison {
        profiles,
        everybody: everybody(&snapshot),
        left: left(client, definitions).await?,
    })
}

/// Returns the settings that this account cannot give a role, with the reasons. Must be called within a transaction.
async fn wrong_settings(
    client: &Client,
    version: u32,
    account: &str,
    settings: &[(String, String)],
) -> Result<Vec<String>, ProfilesError> {
    let known = SETTING.replace("GRANTED", if version >= 150_000 { SETTING_GRANTED } else { "false" });
    let mut wrong = Vec::new();
    for (name, value) in settings {
        let line = format!("`settings`: {name} cannot be '{value}'");
        let row = client.query_opt(&known, &[name, &account]).await?;
        let is = |column: &str| row.as_ref().map_or(Ok(false), |row| row.try_get::<_, bool>(column));
        if is("nobody")? {
            wrong.push(format!("{line}: it is the whole server's, not a session's; leave it out"));
        } else if is("superuser")? {
            let remedy = "leave it out, or, from PostgreSQL 15 on, GRANT SET ON PARAMETER";
            wrong.push(format!("{line}: {account} may not set it; {remedy} {name} TO {account}"));
        } else if !is("at_start")? {
            client.batch_execute("SAVEPOINT setting").await?;
            let tried = client.query_one("SELECT set_config($1, $2, true)", &[name, value]).await;
            client.batch_execute("ROLLBACK TO SAVEPOINT setting").await?;
            match tried {
                Err(error) if error.as_db_error().is_none() => return Err(error.into()),
                Err(error) => wrong.push(format!("{line}: {}", display_chain(&error))),
                Ok(_) => {}
            }
        }
    }
    Ok(wrong)
}

/// Returns the roles of this target's profiles that have no definition. They are not dropped here: another gate may define them.
async fn left(client: &Client, definitions: &ProfileDefinitions) -> Result<Vec<String>, ProfilesError> {
    let mut left = Vec::new();
    for row in client.query(PROFILES, &[]).await? {
        let (role, comment): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        let Ok(RoleMarker::Profile { target, profile }) = comment.parse() else {
            continue;
        };
        let is_defined =
            definitions.profiles.iter().any(|there| there.name == profile) || definitions.elsewhere.contains(&profile);
        if target == definitions.target && !is_defined {
            let role = quoted(role);
            left.push(format!(
                "{role} has the rights of {profile}, which {target} does not define; dropping it drops what its sessions created, unless that has another owner (functions and views run with that owner's rights); if no other gate uses it: DROP SCHEMA IF EXISTS {role} CASCADE; DROP OWNED BY {role}; DROP ROLE {role}"
            ));
        }
    }
    Ok(left)
}

#[cfg(test)]
mod tests;
