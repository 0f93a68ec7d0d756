//! Roles in the demo's database: those of the profiles, applied with the program's own command, and those of grants, as `\du`
//! shows them.
//!
//! It creates and drops no role: `target apply` and the gate do.
//!
//! INVARIANT: everything it shows was just queried from the server, not through the gate.

use std::time::Duration;

use anyhow::Context;

use super::DEMO_TARGET;
use super::env::{DemoEnv, shown};
use super::screen::DemoScreen;

/// Query for the output of `\du`, without the columns and roles that do not matter here.
const LIST: &str = "
SELECT rolname::text,
       CASE WHEN rolcanlogin THEN 'Password valid until ' || to_char(rolvaliduntil AT TIME ZONE 'UTC', 'HH24:MI:SS') || ' UTC'
            ELSE 'Cannot login' END,
       (SELECT string_agg(of.rolname::text, ',') FROM pg_auth_members
        JOIN pg_roles AS of ON of.oid = roleid WHERE member = role.oid)
FROM pg_roles AS role WHERE rolname ~ '^(gr|tg)_' ORDER BY rolname";
const LEFT: &str = r"SELECT count(*) FROM pg_roles WHERE rolname LIKE 'gr\_%'";
/// Longest time that a role may exist after the end of its grant.
const ROLE_END_TIMEOUT: Duration = Duration::from_secs(5);
/// Interval between two queries to the database.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Applies the profiles: their roles, rights and masks.
pub(super) async fn apply(screen: &DemoScreen, env: &DemoEnv) -> anyhow::Result<()> {
    screen.note("what its two profiles may do becomes two roles, made once by who may (their SQL: `target plan`):")?;
    let who = ["target", "apply", DEMO_TARGET, "--user", env.server.superuser()];
    screen.command(&format!("{} --password-file .../password", shown(&who)))?;
    let file = env.server.folder().join("password").display().to_string();
    let output = env.run(None, &[&who[..], &["--password-file", &file]].concat()).await?;
    // The lines before it are the statements.
    let output = String::from_utf8_lossy(&output).into_owned();
    screen.output(output.lines().last().context("`target apply` says nothing")?)?;
    Ok(())
}

/// Shows the existing roles and returns the number of those that belong to grants.
pub(super) async fn show(screen: &DemoScreen, env: &DemoEnv) -> anyhow::Result<usize> {
    screen.command_of(env.server.superuser(), r"psql -c '\du (gr|tg)_*'   (shortened)")?;
    let mut grants = 0;
    for row in env.admin.query(LIST, &[]).await? {
        let (role, attributes, of) = (row.get::<_, &str>(0), row.get::<_, &str>(1), row.get::<_, Option<&str>>(2));
        grants += usize::from(role.starts_with("gr_"));
        let of = of.map(|of| format!(" | {{{of}}}")).unwrap_or_default();
        screen.output(&format!(" {role:<29} | {attributes}{of}"))?;
    }
    Ok(grants)
}

/// Waits until no grant has a role, or until the time limit.
pub(super) async fn gone(env: &DemoEnv) -> anyhow::Result<()> {
    let begun = env.clock.moment().instant;
    loop {
        let left: i64 = env.admin.query_one(LEFT, &[]).await?.get(0);
        if left == 0 || env.clock.moment().instant.saturating_duration_since(begun) > ROLE_END_TIMEOUT {
            return Ok(());
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
