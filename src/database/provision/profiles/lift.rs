//! Temporary removal of the views with masks of a target's profiles, so that the tables they read can be changed or created anew.
//!
//! It does not restore them: `apply` does. INVARIANT: no profile can read more because of it. A profile has no right on a table
//! that it sees with masks, so without the view it sees nothing of the table. The salts stay, so that hashes are the same
//! afterwards.

use std::sync::Arc;

use super::{ProfileDefinitions, ProfilesError, lock, look, open, run_step};
use crate::database::rights::{RoleMarker, RoleName};
use crate::database::upstream::Target;

/// Views that the gate created, by their own comment, in a schema that it created, by the schema's comment.
const VIEWS: &str = "
    SELECT format('%I.%I', n.nspname, v.relname)
    FROM unnest($1::text[], $2::text[]) AS p (role, marker)
    JOIN pg_namespace AS n ON n.nspname = p.role AND obj_description(n.oid, 'pg_namespace') = p.marker
    JOIN pg_class AS v ON v.relnamespace = n.oid AND v.relkind = 'v' AND obj_description(v.oid, 'pg_class') LIKE 'tidegate mask %'
    ORDER BY 1";

/// Drops the views, in one transaction; returns their names as written in SQL.
pub async fn lift(target: &Arc<Target>, definitions: &ProfileDefinitions) -> Result<Vec<String>, ProfilesError> {
    let session = open(target).await?;
    let client = &session.client;
    let locked = lock::begin(client).await?;
    // An account that could not apply afterwards must not lift.
    look(client, definitions).await?.may_be_done(locked)?;
    let roles: Vec<RoleName> = definitions.roles().collect();
    let roles: Vec<&str> = roles.iter().map(RoleName::as_str).collect();
    let markers: Vec<String> = definitions
        .profiles
        .iter()
        .map(|definition| {
            let (target, profile) = (definitions.target.clone(), definition.name.clone());
            RoleMarker::Profile { target, profile }.to_string()
        })
        .collect();
    let mut lifted = Vec::new();
    for row in client.query(VIEWS, &[&roles, &markers]).await? {
        let view: String = row.try_get(0)?;
        run_step(client, &format!("DROP VIEW {view}")).await?;
        lifted.push(view);
    }
    lock::commit(client).await?;
    Ok(lifted)
}
