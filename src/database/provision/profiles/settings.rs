//! Check that the server accepts the settings of a profile's sessions.
//!
//! It keeps none of them: each is tried and rolled back. INVARIANT: a setting that a grant's role could not get is reported when
//! profiles are planned, not when somebody connects.

use tokio_postgres::Client;

use super::ProfilesError;
use crate::base::error_chain::display_chain;

/// Facts about a setting: which accounts may set it for a role, and if it can only be set at login. A setting without a row
/// belongs to an extension or does not exist. Since version 15 the right to set one can be granted.
const KNOWN: &str = "
    SELECT s.context IN ('internal', 'postmaster', 'sighup') AS nobody,
        s.context IN ('superuser', 'superuser-backend') AND NOT coalesce(a.rolsuper OR GRANTED, false) AS superuser,
        s.context IN ('backend', 'superuser-backend') AS at_start
    FROM pg_settings AS s LEFT JOIN pg_roles AS a ON a.rolname = $2 WHERE s.name = lower($1)";
const GRANTED: &str = "has_parameter_privilege(a.oid, s.name, 'SET')";

/// Returns the settings that this account cannot give a role, with the reasons. Must be called within a transaction.
pub(super) async fn wrong(
    client: &Client,
    version: u32,
    account: &str,
    settings: &[(String, String)],
) -> Result<Vec<String>, ProfilesError> {
    let known = KNOWN.replace("GRANTED", if version >= 150_000 { GRANTED } else { "false" });
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
