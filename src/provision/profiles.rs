//! Comparison of the roles of a target's profiles with their definitions, and the changes that bring them in step.
//!
//! It does not decide what rights mean; `rights` does. INVARIANT: all changes are one transaction, so there is all of them or
//! nothing; one apply at a time runs on a server; the result is read again before the commit, and anything short of the
//! definition is rolled back.

mod catalogue;
mod error;
mod lift;
mod lock;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Client;

use super::link::{self, Driver};
use crate::backoff::Backoff;
use crate::causes::in_one_line;
use crate::names::{ProfileName, TargetName};
pub use crate::rights::Step;
use crate::rights::catalogue::Snapshot;
use crate::rights::{Marker, Plan, Profile, Rights, RoleName, everybody, plan, profile_role, quoted};
use crate::upstream::Target;
pub use error::ProfilesError;
pub use lift::lift;

/// Maximum number of attempts when a concurrent change or a restart of the server interferes.
const ATTEMPTS: u32 = 6;
/// Waits between them.
const RETRY: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
/// Settings of the connection: catalogue names only, as for ending backends. A statement that waits for a lock gives up, because
/// its place in the queue would hold up all later ones.
const OPTIONS: &str = "-c search_path=pg_catalog -c statement_timeout=0 -c lock_timeout=20s -c standard_conforming_strings=on";

/// Transaction in which everything is read from one snapshot.
const LOOK: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// Roles with the comment of a profile.
const PROFILES: &str = "
    SELECT rolname, shobj_description(oid, 'pg_authid') FROM pg_roles
    WHERE shobj_description(oid, 'pg_authid') LIKE 'tidegate profile %' ORDER BY rolname";

/// Definition of one profile.
#[derive(Debug, Clone)]
pub struct Definition {
    /// Name of the profile.
    pub name: ProfileName,
    /// Rights of the profile.
    pub rights: Rights,
    /// Settings its sessions begin with.
    pub settings: Vec<(String, String)>,
}

/// Profiles of a target, and the account that grants their roles.
#[derive(Debug, Clone)]
pub struct Definitions {
    /// Name of the target.
    pub target: TargetName,
    /// Name of the target's account.
    pub account: String,
    /// Profiles, the narrowest first.
    pub profiles: Vec<Definition>,
}

impl Definitions {
    /// Returns the roles of the profiles, in their order.
    fn roles(&self) -> impl Iterator<Item = RoleName> {
        self.profiles
            .iter()
            .map(|definition| profile_role(&self.target, &definition.name))
    }
}

/// Profile with its differences from the database.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Compared {
    /// Name of the profile.
    pub profile: ProfileName,
    /// Name of its role.
    pub role: String,
    /// Differences, and the steps that remove them.
    #[serde(flatten)]
    pub plan: Plan,
}

/// Differences between a database and a target's profiles.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Comparison {
    /// Comparison of each profile.
    pub profiles: Vec<Compared>,
    /// Rights of `PUBLIC` in the database, which add to those of every profile.
    pub everybody: Vec<String>,
    /// Roles of profiles without a definition, with the SQL that removes them.
    pub left: Vec<String>,
}

impl Comparison {
    /// Returns the number of rights beyond the definitions that others gave and the account cannot revoke.
    #[must_use]
    pub fn beyond(&self) -> usize {
        self.profiles.iter().map(|compared| compared.plan.beyond.len()).sum()
    }

    /// Returns the differences that the connected account cannot remove.
    fn blocked(&self) -> Vec<String> {
        let of = |compared: &Compared| {
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
            blocked.push("this account may not make or change roles: it lacks CREATEROLE".to_owned());
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

/// Connection for a comparison or an apply.
struct Session {
    client: Client,
    driver: Driver,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Result of comparing a database again.
#[derive(Debug)]
pub enum Looked {
    /// The catalogue has not changed since the last comparison.
    AsBefore,
    /// New comparison, with the fingerprint of its catalogue.
    Changed(String, Comparison),
}

/// Compares the database with the definitions, over a connection as `target` configures it; changes nothing.
pub async fn compare(target: &Arc<Target>, definitions: &Definitions) -> Result<Comparison, ProfilesError> {
    let session = open(target).await?;
    session.client.batch_execute(LOOK).await?;
    let compared = look(&session.client, definitions).await?;
    session.client.batch_execute("COMMIT").await?;
    Ok(compared)
}

/// Compares as [`compare`] does, unless the catalogue still has the fingerprint `known`.
pub async fn compare_if_changed(
    target: &Arc<Target>,
    definitions: &Definitions,
    known: Option<&str>,
) -> Result<Looked, ProfilesError> {
    let session = open(target).await?;
    session.client.batch_execute(LOOK).await?;
    let roles: Vec<RoleName> = definitions.roles().collect();
    let roles: Vec<&str> = roles.iter().map(RoleName::as_str).collect();
    let fingerprint = catalogue::fingerprint(&session.client, &roles, &definitions.account).await?;
    let looked = if known == Some(fingerprint.as_str()) {
        Looked::AsBefore
    } else {
        Looked::Changed(fingerprint, look(&session.client, definitions).await?)
    };
    session.client.batch_execute("COMMIT").await?;
    Ok(looked)
}

/// Makes the changes that [`compare`] returns, in one transaction, and reports each step to `progress`. Returns the comparison
/// whose steps were carried out.
///
/// An attempt is repeated, a few times within some seconds, if an object has vanished, somebody else changed the same rows of the
/// catalogue, or the server restarts.
pub async fn apply(
    target: &Arc<Target>,
    definitions: &Definitions,
    mut progress: impl FnMut(&ProfileName, &Step),
) -> Result<Comparison, ProfilesError> {
    let mut backoff = RETRY;
    for _ in 1..ATTEMPTS {
        match attempt(target, definitions, &mut progress).await {
            Err(error) if error.may_pass() => tracing::debug!(error = %in_one_line(&error), "profiles: tried again"),
            done => return done,
        }
        tokio::time::sleep(backoff.next_wait()).await;
    }
    attempt(target, definitions, &mut progress).await
}

async fn attempt(
    target: &Arc<Target>,
    definitions: &Definitions,
    progress: &mut impl FnMut(&ProfileName, &Step),
) -> Result<Comparison, ProfilesError> {
    let session = open(target).await?;
    let client = &session.client;
    let locked = lock::begin(client).await?;
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
    lock::commit(client).await?;
    Ok(todo)
}

/// Runs one statement of a change; an error names it.
async fn run_step(client: &Client, sql: &str) -> Result<(), ProfilesError> {
    let failed = |error| ProfilesError::Step {
        sql: sql.to_owned(),
        error,
    };
    client.batch_execute(sql).await.map_err(failed)
}

async fn open(target: &Arc<Target>) -> Result<Session, ProfilesError> {
    let connect = link::client(target, "tidegate (profiles)", OPTIONS);
    let (client, driver) = tokio::time::timeout(target.connect_timeout, connect)
        .await
        .map_err(|_| ProfilesError::Timeout(target.connect_timeout))??;
    Ok(Session { client, driver })
}

async fn look(client: &Client, definitions: &Definitions) -> Result<Comparison, ProfilesError> {
    let names: Vec<RoleName> = definitions.roles().collect();
    let texts: Vec<&str> = names.iter().map(RoleName::as_str).collect();
    let owners = definitions
        .profiles
        .iter()
        .filter_map(|profile| profile.rights.owner.as_deref());
    let owners: Vec<&str> = owners.collect();
    let snapshot = catalogue::read(client, &texts, &owners, &definitions.account).await?;
    let mut profiles = Vec::new();
    for (definition, role) in definitions.profiles.iter().zip(&names) {
        let mut compared = one(definitions, definition, role, &snapshot)?;
        let wrong = settings::wrong(client, snapshot.version, &definitions.account, &definition.settings);
        compared.plan.blocked.extend(wrong.await?);
        profiles.push(compared);
    }
    Ok(Comparison {
        profiles,
        everybody: everybody(&snapshot),
        left: left(client, definitions).await?,
    })
}

/// Returns the roles of this target's profiles that have no definition. They are not dropped here: another gate may define them.
async fn left(client: &Client, definitions: &Definitions) -> Result<Vec<String>, ProfilesError> {
    let mut left = Vec::new();
    for row in client.query(PROFILES, &[]).await? {
        let (role, comment): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        let Ok(Marker::Profile { target, profile }) = comment.parse() else {
            continue;
        };
        if target == definitions.target && definitions.profiles.iter().all(|there| there.name != profile) {
            let role = quoted(role);
            left.push(format!(
                "{role} has the rights of {profile}, which is no profile of {target} here; what its sessions made goes with it, unless it has another owner (functions and views run with that one's rights); if it is none elsewhere: DROP SCHEMA IF EXISTS {role} CASCADE; DROP OWNED BY {role}; DROP ROLE {role}"
            ));
        }
    }
    Ok(left)
}

fn one(
    definitions: &Definitions,
    definition: &Definition,
    role: &RoleName,
    snapshot: &Snapshot,
) -> Result<Compared, ProfilesError> {
    let marker = Marker::Profile {
        target: definitions.target.clone(),
        profile: definition.name.clone(),
    };
    let profile = Profile {
        role,
        marker: &marker.to_string(),
        rights: &definition.rights,
        account: &definitions.account,
    };
    Ok(Compared {
        profile: definition.name.clone(),
        role: role.to_string(),
        plan: plan(&profile, snapshot)?,
    })
}

#[cfg(test)]
mod tests;
