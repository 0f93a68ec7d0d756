//! Scene with a request that no rule approves by itself: plain psql waits in its login, an approver grants less, the tester
//! asks for more time, and the access is revoked in the middle of a query.
//!
//! It records times; [`super::measure`] evaluates them.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;

use super::env::{DemoEnv, shown};
use super::psql::{self, PsqlProcess};
use super::screen::DemoScreen;
use super::{DEMO_TARGET, connection_string};

/// Profile that needs an approval.
const PROFILE: &str = "read-write";
const OPTIONS: &str = r"-c tidegate.for=30m -c tidegate.reason=fix\ the\ totals";
const WORK: &str = "UPDATE orders SET total = total + 1 WHERE id = 42;";
/// Statement that the role permits and a guard rail refuses.
const CARELESS: &str = "DELETE FROM orders;";
const LONG: &str = "SELECT pg_sleep(60), 'the nightly report';";
const STEP_TIMEOUT: Duration = Duration::from_secs(30);
/// Interval between two queries to the database.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// Delays from a decision (in the log) to its arrival at the client.
pub(super) struct ApprovalLags {
    pub(super) approved: ChangeLag,
    pub(super) extended: ChangeLag,
    pub(super) revoked: ChangeLag,
}

/// Time at which a change was recorded, and time at which the client noticed it.
pub(super) struct ChangeLag {
    pub(super) from: Timestamp,
    pub(super) to: Option<Timestamp>,
}

/// Plays the scene; returns `None` if there is no psql.
pub(super) async fn play(screen: &DemoScreen, env: &DemoEnv) -> anyhow::Result<Option<ApprovalLags>> {
    let Some(psql) = env.server.binaries().tool("psql") else {
        screen.note("(no psql on this machine, so this scene is left out; postgresql-client has it on Debian and Ubuntu)")?;
        return Ok(None);
    };
    let steps = tokio::time::timeout(STEP_TIMEOUT, scene(screen, env, &psql)).await;
    steps.context("the demo hangs; this is a bug")?.map(Some)
}

async fn scene(screen: &DemoScreen, env: &DemoEnv, psql: &Path) -> anyhow::Result<ApprovalLags> {
    let DemoEnv { ana, bo, .. } = env;
    let (mut psql, request) = wish(screen, env, psql).await?;

    env.show(screen, Some(bo), &["requests"]).await?;
    let approve = ["approve", &request, "--for", "20m", "--comment", "the totals only"];
    screen.command_of(bo.short(), &shown(&approve))?;
    // The first line is sent ahead, and runs as soon as there is a prompt.
    psql.enter(&format!("{WORK}\n")).await?;
    let (approved, prompt) = tokio::join!(env.json(Some(bo), &approve), psql.until(screen, WORK));
    let (approved, (_, prompt)) = (approved?, prompt?);
    let grant = approved.pointer("/outcome/grant").and_then(|grant| grant.as_str());
    let grant = grant.context("the approved request names no grant")?.to_owned();
    psql.until(screen, "UPDATE 1").await?;
    psql.enter(&format!("{CARELESS}\n")).await?;
    psql.until(screen, "HINT:").await?;

    psql.enter(&format!("{LONG}\n")).await?;
    psql.until(screen, LONG).await?;
    runs(env).await?;
    let extend = ["extend", &grant, "--by", "10m", "--reason", "still counting"];
    screen.command_of(ana.short(), &shown(&extend))?;
    let (extended, more) = tokio::join!(env.json(Some(ana), &extend), more(screen, &mut psql));
    let (_, more) = (extended?, more?);
    let extended = env.last(&["--grant", &grant, "--event", "grant_changed"]).await?;

    let revoke = ["grant", "revoke", &grant, "--reason", "the nightly restore begins"];
    screen.command_of(bo.short(), &shown(&revoke))?;
    let (revoked, told) = tokio::join!(env.json(Some(bo), &revoke), psql.rest(screen));
    let (revoked, told) = (revoked?, told?);
    // A revocation is in effect before it is on record, so its own time is the start of the measurement.
    let revoked = revoked.pointer("/revoked/at").and_then(|at| at.as_str());
    let revoked = revoked.context("the grant does not say when it was revoked")?.parse()?;
    let lag = |from, to: Option<Timestamp>| ChangeLag { from, to };
    Ok(ApprovalLags {
        approved: lag(
            env.last(&["--identity", ana.name, "--event", "request_changed"]).await?,
            Some(prompt.time),
        ),
        extended: lag(extended, Some(more)),
        revoked: lag(revoked, told.map(|moment| moment.time)),
    })
}

/// Starts psql with a request in its options, until it waits; returns it with the request's id.
async fn wish(screen: &DemoScreen, env: &DemoEnv, psql: &Path) -> anyhow::Result<(PsqlProcess, String)> {
    let ana = &env.ana;
    screen
        .note("under a ticket (BUG-...) the rules would let her write at once, from 8 to 18 o'clock on working days; its text")?;
    screen.note("is not looked up, only recorded. She names none, and a reason, which they want for writing:")?;
    let connection = connection_string(env.gate.port(), ana.name, &format!("{DEMO_TARGET}/{PROFILE}"));
    screen.command_of(
        ana.short(),
        &format!("export PGPASSWORD=...her token... PGOPTIONS='{OPTIONS}'"),
    )?;
    screen.command_of(ana.short(), &format!("psql \"{connection}\""))?;
    let mut command = Command::new(psql);
    command
        .args(psql::ARGUMENTS)
        .args(["--dbname", &connection])
        .env("PGPASSWORD", ana.token.expose())
        .env("PGOPTIONS", OPTIONS);
    let mut psql = PsqlProcess::start(command, &env.clock)?;
    let (notice, _) = psql.until(screen, "waiting for approval").await?;
    psql.until(screen, "HINT:").await?;
    let request = notice.split_whitespace().find(|word| word.starts_with("rq_"));
    let request = request.context("the notice names no request")?.to_owned();
    Ok((psql, request))
}

/// Waits for the whole of the next notice, and returns the time at which it began.
async fn more(screen: &DemoScreen, psql: &mut PsqlProcess) -> anyhow::Result<Timestamp> {
    let (_, notice) = psql.until(screen, "NOTICE:").await?;
    psql.until(screen, "HINT:").await?;
    Ok(notice.time)
}

/// Waits until the long query runs in the database.
async fn runs(env: &DemoEnv) -> anyhow::Result<()> {
    let count = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = $1";
    while env.admin.query_one(count, &[&LONG]).await?.get::<_, i64>(0) == 0 {
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    Ok(())
}
