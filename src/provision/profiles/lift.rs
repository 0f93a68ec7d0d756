//! Takes the views with masks of a target's profiles away for a while, so that the tables behind them can be changed or made anew.
//!
//! It brings nothing back: `apply` does. The law: no profile comes to read more by it. A profile has no right on a table that it is shown
//! with masks, so without the view it is shown nothing of it. The salts stay, so that hashes are the same afterwards.

use std::sync::Arc;

use super::{Definitions, ProfilesError, lock, look, open, run_step};
use crate::rights::{Marker, RoleName};
use crate::upstream::Target;

/// The views that are the gate's by their own comment, in a schema that is by its comment.
const VIEWS: &str = "
    SELECT format('%I.%I', n.nspname, v.relname)
    FROM unnest($1::text[], $2::text[]) AS p (role, marker)
    JOIN pg_namespace AS n ON n.nspname = p.role AND obj_description(n.oid, 'pg_namespace') = p.marker
    JOIN pg_class AS v ON v.relnamespace = n.oid AND v.relkind = 'v' AND obj_description(v.oid, 'pg_class') LIKE 'tidegate mask %'
    ORDER BY 1";

/// Drops the views, in one transaction; returns their names as they stand in SQL.
pub async fn lift(target: &Arc<Target>, definitions: &Definitions) -> Result<Vec<String>, ProfilesError> {
    let session = open(target).await?;
    let client = &session.client;
    let locked = lock::begin(client).await?;
    // Who cannot apply afterwards does not lift.
    look(client, definitions).await?.may_be_done(locked)?;
    let roles: Vec<RoleName> = definitions.roles().collect();
    let roles: Vec<&str> = roles.iter().map(RoleName::as_str).collect();
    let markers: Vec<String> = definitions
        .profiles
        .iter()
        .map(|definition| {
            let (target, profile) = (definitions.target.clone(), definition.name.clone());
            Marker::Profile { target, profile }.to_string()
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
