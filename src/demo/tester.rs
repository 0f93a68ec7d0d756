//! Scene with a tester whom a rule lets in at once: `tidegate psql`, whose last query is longer than the grant, and a driver
//! with a prepared statement beside it.
//!
//! It records times; [`super::measure`] evaluates them.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::TryStreamExt;
use jiff::Timestamp;
use serde_json::Value;
use tokio::time::Instant;
use tokio_postgres::error::DbError;
use tokio_postgres::{Config, SimpleQueryMessage};

use super::DEMO_TARGET;
use super::env::{DemoEnv, DemoPerson, shown};
use super::measure::{DeadlineMoments, watch_backends};
use super::psql::{self, PsqlProcess};
use super::roles;
use super::screen::DemoScreen;
use super::testkit::DriverConnection;

/// Length of the tester's window; short enough to watch it close.
const WINDOW: &str = "6s";
const TICKET: &str = "BUG-812";
/// Statements of the tester: permitted ones, one with masked columns, and one that her role may not run.
const SCRIPT: &str = "\
SELECT status, count(*), sum(total) FROM orders GROUP BY status ORDER BY status;
COPY (SELECT id, total, placed_at FROM orders WHERE status = 'returned' ORDER BY id LIMIT 3) TO STDOUT WITH CSV HEADER;
SELECT brand, number FROM cards WHERE customer_id = 42;
UPDATE orders SET total = 1 WHERE id = 42;
";
/// Query of one minute, which is longer than the grant.
const LONG: &str = "SELECT pg_sleep(60);";
const PREPARED: &str = "SELECT brand, last_four FROM cards WHERE customer_id = $1";
/// Time limit of the scene. No step before the deadline takes long, and the deadline comes within seconds.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);

/// Client that runs the query beyond the end of the grant.
enum TesterClient {
    Psql(Box<PsqlProcess>),
    /// Driver, for a machine that has the server but no psql.
    Driver(Box<DriverConnection>, Instant),
}

/// Plays the scene up to the deadline and past it.
pub(super) async fn work(screen: &DemoScreen, env: &DemoEnv) -> anyhow::Result<DeadlineMoments> {
    let all = async {
        let ask = ["psql", DEMO_TARGET, "--for", WINDOW, "--ticket", TICKET];
        screen.command_of(env.ana.short(), &shown(&ask))?;
        let (mut client, first_row) = match env.server.binaries().tool("psql") {
            Some(psql) => with_psql(screen, env, &ask, &psql).await?,
            None => without_psql(screen, env).await?,
        };
        let (grant, until) = grant(env).await?;
        screen.note("meanwhile, the role of her grant; it may only read, so the database itself refused her UPDATE:")?;
        let roles = roles::show(screen, env).await?;
        screen.note("which rule let her in:")?;
        let decided = ["log", "--identity", env.ana.name, "--event", "request_changed"];
        env.show(screen, None, &decided).await?;
        let mut driver = driver(screen, env).await?;

        let clock = &env.clock;
        let driver_told = async { (driver.closed().await, clock.now()) };
        let (driver_told, psql_told, gone) = tokio::join!(
            driver_told,
            client.rest(screen, env, until),
            watch_backends(env, &grant, until)
        );
        let (last_words, driver_told) = driver_told;
        let words = last_words.as_ref().and_then(|error| error.as_db_error());
        screen.note("and the driver, which had nothing running, was told:")?;
        screen.output(&words.map_or_else(|| "nothing".to_owned(), said))?;
        anyhow::Ok(DeadlineMoments {
            grant,
            first_row,
            until,
            psql_told: psql_told?,
            driver_told: words.map(|_| driver_told),
            backends: gone?,
            roles,
        })
    };
    tokio::time::timeout(STEP_TIMEOUT, all)
        .await
        .context("the demo hangs; this is a bug")?
}

/// Works with psql up to the long query; returns the client and the time from the request to the first row.
async fn with_psql(screen: &DemoScreen, env: &DemoEnv, ask: &[&str], psql: &Path) -> anyhow::Result<(TesterClient, Duration)> {
    let arguments = [ask, &["--"], &psql::ARGUMENTS].concat();
    let mut psql = PsqlProcess::start(env.command_of(&env.ana, &arguments, psql)?, &env.clock)?;
    psql.enter(SCRIPT).await?;
    psql.enter(&format!("{LONG}\n")).await?;
    psql.leave();
    let (_, first) = psql.until(screen, " | ").await?;
    let first_row = psql.after_start(first);
    psql.until(screen, LONG).await?;
    Ok((TesterClient::Psql(Box::new(psql)), first_row))
}

async fn without_psql(screen: &DemoScreen, env: &DemoEnv) -> anyhow::Result<(TesterClient, Duration)> {
    screen.note("(no psql on this machine: a driver does the same)")?;
    let begun = env.clock.moment().instant;
    let since = || env.clock.moment().instant.saturating_duration_since(begun);
    let mut config = config(&env.ana);
    config.options(format!("-c tidegate.for={WINDOW} -c tidegate.ticket={TICKET}"));
    let driver = DriverConnection::connect(env.gate.address(), &config, true).await?;
    let mut first_row = None;
    for statement in SCRIPT.lines() {
        screen.timed(since(), statement)?;
        let answer = match run(&driver, statement).await {
            Ok(answer) => answer,
            Err(error) => said(error.as_db_error().context("the connection is lost")?),
        };
        let at = *first_row.get_or_insert_with(since);
        screen.timed(at.max(since()), &answer)?;
    }
    screen.timed(since(), LONG)?;
    let first_row = first_row.context("the script is empty")?;
    Ok((TesterClient::Driver(Box::new(driver), begun), first_row))
}

impl TesterClient {
    /// Runs the long query until the grant ends it. Returns the time at which the client got the error, if it did.
    async fn rest(&mut self, screen: &DemoScreen, env: &DemoEnv, until: Timestamp) -> anyhow::Result<Option<Timestamp>> {
        let (driver, begun) = match self {
            Self::Psql(psql) => return Ok(psql.rest(screen).await?.map(|moment| moment.time)),
            Self::Driver(driver, begun) => (driver, *begun),
        };
        let Err(error) = run(driver, LONG).await else {
            bail!("the grant ended at {until}, and the query went on");
        };
        let moment = env.clock.moment();
        let words = error.as_db_error().map_or_else(|| error.to_string(), said);
        for line in words.lines() {
            screen.timed(moment.instant.saturating_duration_since(begun), line)?;
        }
        Ok(error.as_db_error().map(|_| moment.time))
    }
}

/// Returns the id and the end of her grant.
async fn grant(env: &DemoEnv) -> anyhow::Result<(String, Timestamp)> {
    let grants = env.json(Some(&env.ana), &["grants"]).await?;
    let field = |name: &str| grants.pointer("/grants/0")?.get(name).and_then(Value::as_str);
    let until = field("until").context("the grant has no deadline after its first connect")?;
    let id = field("id").context("the grant has no id")?;
    Ok((id.to_owned(), until.parse()?))
}

/// Connects the driver of a test suite: with her name and the same grant, by nothing but a connection string.
async fn driver(screen: &DemoScreen, env: &DemoEnv) -> anyhow::Result<DriverConnection> {
    let driver = DriverConnection::connect(env.gate.address(), &config(&env.ana), true).await?;
    let statement = driver.client.prepare(PREPARED).await?;
    let customer = 42_i32;
    let rows = driver.client.query(&statement, &[&customer]).await?;
    let cards: Vec<String> = rows
        .iter()
        .map(|row| format!("{} ending in {}", row.get::<_, &str>(0), row.get::<_, &str>(1)))
        .collect();
    screen.note("her test suite's driver, with her name and her token, joins the same grant,")?;
    screen.note(&format!(
        "prepares \"{PREPARED}\", binds $1 = {customer}: {}",
        cards.join(", ")
    ))?;
    Ok(driver)
}

async fn run(driver: &DriverConnection, statement: &str) -> Result<String, tokio_postgres::Error> {
    if statement.starts_with("COPY") {
        let chunks = driver.client.copy_out(statement).await?;
        let bytes = chunks.try_fold(0, async |sum, chunk| Ok(sum + chunk.len())).await?;
        return Ok(format!("({bytes} bytes)"));
    }
    let messages = driver.client.simple_query(statement).await?;
    let rows = messages
        .iter()
        .filter(|message| matches!(message, SimpleQueryMessage::Row(_)))
        .count();
    Ok(format!("({rows} rows)"))
}

fn config(person: &DemoPerson) -> Config {
    let mut config = Config::new();
    config
        .user(person.name)
        .password(person.token.expose())
        .dbname(DEMO_TARGET)
        .application_name("demo-suite");
    config
}

/// Formats an error like psql.
fn said(error: &DbError) -> String {
    let mut text = format!("{}:  {}", error.severity(), error.message());
    for (name, more) in [("DETAIL", error.detail()), ("HINT", error.hint())] {
        if let Some(more) = more {
            text.extend(["\n", name, ":  ", more]);
        }
    }
    text
}
