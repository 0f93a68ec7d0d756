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

use super::connection::{self, ConnectionDriver};
use crate::base::backoff::Backoff;
use crate::base::error_chain::display_chain;
pub use crate::database::rights::PlanStep;
use crate::database::rights::catalogue::CatalogSnapshot;
use crate::database::rights::{PlannedProfile, ProfilePlan, Rights, RoleMarker, RoleName, everybody, plan, profile_role, quoted};
use crate::database::upstream::Target;
use crate::model::names::{ProfileName, TargetName};
pub use error::ProfilesError;
pub use lift::lift;

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

/// Definition of one profile.
#[derive(Debug, Clone)]
pub struct ProfileDefinition {
    /// Name of the profile.
    pub name: ProfileName,
    /// Rights of the profile.
    pub rights: Rights,
    /// Settings its sessions begin with.
    pub settings: Vec<(String, String)>,
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
}

impl ProfileDefinitions {
    /// Returns the roles of the profiles, in their order.
    fn roles(&self) -> impl Iterator<Item = RoleName> {
        self.profiles
            .iter()
            .map(|definition| profile_role(&self.target, &definition.name))
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

/// Connection for a comparison or an apply.
struct ProfilesConnection {
    client: Client,
    driver: ConnectionDriver,
}

impl Drop for ProfilesConnection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Result of comparing a database again.
#[derive(Debug)]
pub enum DriftLook {
    /// The catalogue has not changed since the last comparison.
    AsBefore,
    /// New comparison, with the fingerprint of its catalogue.
    Changed(String, TargetComparison),
}

/// Compares the database with the definitions, over a connection as `target` configures it; changes nothing.
pub async fn compare(target: &Arc<Target>, definitions: &ProfileDefinitions) -> Result<TargetComparison, ProfilesError> {
    let session = open(target).await?;
    session.client.batch_execute(LOOK).await?;
    let compared = look(&session.client, definitions).await?;
    session.client.batch_execute("COMMIT").await?;
    Ok(compared)
}

/// Compares as [`compare`] does, unless the catalogue still has the fingerprint `known`.
pub async fn compare_if_changed(
    target: &Arc<Target>,
    definitions: &ProfileDefinitions,
    known: Option<&str>,
) -> Result<DriftLook, ProfilesError> {
    let session = open(target).await?;
    session.client.batch_execute(LOOK).await?;
    let roles: Vec<RoleName> = definitions.roles().collect();
    let roles: Vec<&str> = roles.iter().map(RoleName::as_str).collect();
    let fingerprint = catalogue::fingerprint(&session.client, &roles, &definitions.account).await?;
    let looked = if known == Some(fingerprint.as_str()) {
        DriftLook::AsBefore
    } else {
        DriftLook::Changed(fingerprint, look(&session.client, definitions).await?)
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
    definitions: &ProfileDefinitions,
    mut progress: impl FnMut(&ProfileName, &PlanStep),
) -> Result<TargetComparison, ProfilesError> {
    let mut backoff = RETRY_BACKOFF;
    for _ in 1..MAX_ATTEMPTS {
        match attempt(target, definitions, &mut progress).await {
            Err(error) if error.may_pass() => {
                tracing::debug!(error = %display_chain(&error), "cannot compare or apply the profiles; retrying");
            }
            done => return done,
        }
        tokio::time::sleep(backoff.next_wait()).await;
    }
    attempt(target, definitions, &mut progress).await
}

async fn attempt(
    target: &Arc<Target>,
    definitions: &ProfileDefinitions,
    progress: &mut impl FnMut(&ProfileName, &PlanStep),
) -> Result<TargetComparison, ProfilesError> {
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

async fn open(target: &Arc<Target>) -> Result<ProfilesConnection, ProfilesError> {
    let connect = connection::client(target, "tidegate (profiles)", OPTIONS);
    let (client, driver) = tokio::time::timeout(target.connect_timeout, connect)
        .await
        .map_err(|_| ProfilesError::Timeout(target.connect_timeout))??;
    Ok(ProfilesConnection { client, driver })
}

async fn look(client: &Client, definitions: &ProfileDefinitions) -> Result<TargetComparison, ProfilesError> {
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
    Ok(TargetComparison {
        profiles,
        everybody: everybody(&snapshot),
        left: left(client, definitions).await?,
    })
}

/// Returns the roles of this target's profiles that have no definition. They are not dropped here: another gate may define them.
async fn left(client: &Client, definitions: &ProfileDefinitions) -> Result<Vec<String>, ProfilesError> {
    let mut left = Vec::new();
    for row in client.query(PROFILES, &[]).await? {
        let (role, comment): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        let Ok(RoleMarker::Profile { target, profile }) = comment.parse() else {
            continue;
        };
        if target == definitions.target && definitions.profiles.iter().all(|there| there.name != profile) {
            let role = quoted(role);
            left.push(format!(
                "{role} has the rights of {profile}, which {target} does not define; dropping it drops what its sessions created, unless that has another owner (functions and views run with that owner's rights); if no other gate uses it: DROP SCHEMA IF EXISTS {role} CASCADE; DROP OWNED BY {role}; DROP ROLE {role}"
            ));
        }
    }
    Ok(left)
}

fn one(
    definitions: &ProfileDefinitions,
    definition: &ProfileDefinition,
    role: &RoleName,
    snapshot: &CatalogSnapshot,
) -> Result<ProfileComparison, ProfilesError> {
    let marker = RoleMarker::Profile {
        target: definitions.target.clone(),
        profile: definition.name.clone(),
    };
    let profile = PlannedProfile {
        role,
        marker: &marker.to_string(),
        rights: &definition.rights,
        account: &definitions.account,
    };
    Ok(ProfileComparison {
        profile: definition.name.clone(),
        role: role.to_string(),
        plan: plan(&profile, snapshot)?,
    })
}

#[cfg(test)]
mod tests;
