//! The tester's side: a driver with a prepared statement, and a psql whose last query is longer than the grant.
//!
//! It measures when things happened; whether that is good is for [`super::measure`] to say.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::TryStreamExt;
use jiff::Timestamp;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio_postgres::error::DbError;
use tokio_postgres::{Config, SimpleQueryMessage};

use super::TARGET;
use super::measure::{Moments, watch_backends};
use super::screen::Screen;
use super::stage::Stage;
use crate::clock::Clock;
use crate::lab::{Driver, Login};

/// What the tester types. The last one would take a minute; the grant does not.
const SCRIPT: &str = "\
SELECT status, count(*), sum(total) FROM orders GROUP BY status ORDER BY status;
PREPARE in_city (text) AS SELECT id, name, city FROM customers WHERE city = $1 ORDER BY id LIMIT 3;
EXECUTE in_city ('Lisbon');
COPY (SELECT id, total, placed_at FROM orders WHERE status = 'returned' ORDER BY id LIMIT 3) TO STDOUT WITH CSV HEADER;
SELECT pg_sleep(60);
";
const PREPARED: &str = "SELECT brand, last_four FROM cards WHERE customer_id = $1";
/// No step before the deadline takes long; the deadline itself comes within seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// How a client connects.
pub(super) fn connection_string(port: u16, grant: &str) -> String {
    format!("host=127.0.0.1 port={port} dbname={TARGET} user={grant} sslmode=require")
}

/// Everything up to the deadline and over it.
pub(super) async fn work(screen: &Screen, stage: &Stage, login: &Login) -> anyhow::Result<Moments> {
    let all = async {
        let mut driver = driver(screen, stage, login).await?;
        let grant = stage.json(&["grant", "show", &login.grant]).await?;
        let until = grant.pointer("/until").and_then(|until| until.as_str());
        let until: Timestamp = until.context("the grant has no deadline after its first connect")?.parse()?;

        let clock = &stage.clock;
        let driver_told = async { (driver.closed().await, clock.now()) };
        let (driver_told, psql_told, gone) = tokio::join!(
            driver_told,
            long_query(screen, stage, login, until),
            watch_backends(stage, login, until)
        );
        let (last_words, driver_told) = driver_told;
        let words = last_words.as_ref().and_then(|error| error.as_db_error());
        screen.note("and the driver, which had nothing running, was told:")?;
        show(screen, &words.map_or_else(|| "nothing".to_owned(), said))?;
        anyhow::Ok(Moments {
            until,
            psql_told: psql_told?,
            driver_told: words.map(|_| driver_told),
            backends: gone?,
        })
    };
    tokio::time::timeout(PATIENCE, all)
        .await
        .context("the demo hangs; this is a bug")?
}

async fn driver(screen: &Screen, stage: &Stage, login: &Login) -> anyhow::Result<Driver> {
    let mut driver = Driver::connect(stage.gate.address(), &config(login), true).await?;
    let statement = driver.client.prepare(PREPARED).await?;
    let customer = 42_i32;
    let rows = driver.client.query(&statement, &[&customer]).await?;
    for notice in driver.notices() {
        show(screen, &said(&notice))?;
    }
    let cards: Vec<String> = rows
        .iter()
        .map(|row| format!("{} ending in {}", row.get::<_, &str>(0), row.get::<_, &str>(1)))
        .collect();
    screen.note(&format!("the test suite's driver prepares \"{PREPARED}\","))?;
    screen.note(&format!(
        "binds $1 = {customer}, and has its answer over TLS: {}",
        cards.join(", ")
    ))?;
    screen.blank()?;
    Ok(driver)
}

/// The query that outlives its grant. When the client was told, if it was.
async fn long_query(screen: &Screen, stage: &Stage, login: &Login, until: Timestamp) -> anyhow::Result<Option<Timestamp>> {
    match stage.server.binaries().tool("psql") {
        Some(psql) => {
            screen.command(&format!("psql \"{}\"", stage.connection(login)))?;
            with_psql(screen, &stage.clock, &psql, &stage.connection(login), login).await
        }
        None => without_psql(screen, stage, login, until).await,
    }
}

async fn with_psql(
    screen: &Screen,
    clock: &Clock,
    psql: &Path,
    connection: &str,
    login: &Login,
) -> anyhow::Result<Option<Timestamp>> {
    let begun = clock.moment().instant;
    let (mut child, output) = start_psql(psql, connection, login)?;
    let mut input = child.stdin.take().context("psql has no standard input")?;
    input.write_all(SCRIPT.as_bytes()).await?;
    drop(input);
    let mut lines = BufReader::new(output).lines();
    let mut told = None;
    while let Some(line) = lines.next_line().await? {
        let moment = clock.moment();
        if line.contains("FATAL:") {
            told = Some(moment.time);
        }
        screen.timed(moment.instant - begun, &line)?;
    }
    child.wait().await?;
    Ok(told)
}

/// Its standard output and error go into one pipe, in the order they are written.
fn start_psql(psql: &Path, connection: &str, login: &Login) -> anyhow::Result<(Child, pipe::Receiver)> {
    let (reader, writer) = std::io::pipe()?;
    let mut command = Command::new(psql);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("PG")) {
            command.env_remove(name);
        }
    }
    let child = command
        .args(["--no-psqlrc", "--echo-all", "--pset=pager=off", "--dbname", connection])
        .env("PGPASSWORD", login.secret.expose())
        .env("PGCLIENTENCODING", "UTF8")
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::piped())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("starting {}", psql.display()))?;
    // `command`, with our copies of the pipe's writing end, is dropped here: the reader sees the end when psql ends.
    Ok((child, pipe::Receiver::from_owned_fd(OwnedFd::from(reader))?))
}

/// The same with a driver, on a machine that has the server but no psql.
async fn without_psql(screen: &Screen, stage: &Stage, login: &Login, until: Timestamp) -> anyhow::Result<Option<Timestamp>> {
    screen.note("(no psql on this machine: a driver does the same)")?;
    let begun = stage.clock.moment().instant;
    let driver = Driver::connect(stage.gate.address(), &config(login), true).await?;
    for statement in SCRIPT.lines() {
        screen.timed(stage.clock.moment().instant - begun, statement)?;
        let answer = run(&driver, statement).await;
        let moment = stage.clock.moment();
        let at = moment.instant - begun;
        match answer {
            Ok(answer) => screen.timed(at, &answer)?,
            Err(error) => {
                let words = error.as_db_error().map_or_else(|| error.to_string(), said);
                words.lines().try_for_each(|line| screen.timed(at, line))?;
                return Ok(error.as_db_error().map(|_| moment.time));
            }
        }
    }
    bail!("the grant ended at {until}, and the query went on");
}

async fn run(driver: &Driver, statement: &str) -> Result<String, tokio_postgres::Error> {
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

fn config(login: &Login) -> Config {
    let mut config = Config::new();
    config
        .user(&login.grant)
        .password(login.secret.expose())
        .dbname(TARGET)
        .application_name("demo-suite");
    config
}

fn show(screen: &Screen, text: &str) -> std::io::Result<()> {
    text.lines().try_for_each(|line| screen.output(line))
}

/// As psql would print it.
fn said(error: &DbError) -> String {
    let mut text = format!("{}:  {}", error.severity(), error.message());
    for (name, more) in [("DETAIL", error.detail()), ("HINT", error.hint())] {
        if let Some(more) = more {
            text.extend(["\n", name, ":  ", more]);
        }
    }
    text
}
