//! Environment of the demo: the throwaway database, the gate in front of it, its users, and the program's own commands.
//!
//! INVARIANT: no token is printed whole; commands get theirs in their environment.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, bail};
use jiff::Timestamp;
use serde_json::Value;
use tokio_postgres::Client;

use super::screen::DemoScreen;
use super::testkit::{ServerOptions, ShopFixture, TestGate, TestPostgres, free_port};
use super::{DEMO_TARGET, rules};
use crate::base::clock::Clock;
use crate::base::secret::Secret;

/// Configuration of warnings close to the end, as the demo's short window needs; everything else is the default.
const SESSION: &str = "[session]\nwarnings = [\"3s\"]\n";
/// Rights of the two profiles, as lines of the target's table.
const PROFILES: &str = r#"
[targets.shop.profiles.read-only]
select = ["public.*"]
mask = { "public.cards" = { number = "partial" } }

[targets.shop.profiles.read-write]
select = ["public.*"]
insert = ["public.*"]
update = ["public.*"]
delete = ["public.*"]
usage = ["public.*"]
rails = { need_where = true }
"#;
/// Number of characters of a token that are shown.
const SHOWN_TOKEN_CHARS: usize = 6;

/// Running database and gate; both end when it is dropped.
pub(super) struct DemoEnv {
    // The gate is dropped first, so that it does not report a lost database.
    pub(super) gate: TestGate,
    pub(super) server: TestPostgres,
    /// Port of the console.
    pub(super) console: u16,
    /// Direct connection to the database, as its superuser.
    pub(super) admin: Client,
    pub(super) clock: Clock,
    /// Tester.
    pub(super) ana: DemoPerson,
    /// Approver of the tester's requests.
    pub(super) bo: DemoPerson,
}

/// Local user.
pub(super) struct DemoPerson {
    pub(super) name: &'static str,
    pub(super) token: Secret<String>,
}

impl DemoPerson {
    /// Returns the name without the part after `@`.
    pub(super) fn short(&self) -> &'static str {
        self.name.split('@').next().unwrap_or(self.name)
    }
}

impl DemoEnv {
    pub(super) async fn set(screen: &DemoScreen) -> anyhow::Result<Self> {
        let clock = Clock::system(None);
        let begun = clock.moment().instant;
        let server = tokio::task::spawn_blocking(|| TestPostgres::start(&ServerOptions::default())).await??;
        let shop = ShopFixture::make(&server).await?.behind_roles(&server).await?;
        let admin = server.client(ShopFixture::DATABASE).await?;
        let counts = "SELECT (SELECT count(*) FROM customers), (SELECT count(*) FROM cards), (SELECT count(*) FROM orders),
                      split_part(current_setting('server_version'), ' ', 1)";
        let row = admin.query_one(counts, &[]).await?;
        let (customers, cards, orders): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
        screen.note(&format!(
            "PostgreSQL {} on {}, thrown away at the end",
            row.get::<_, &str>(3),
            server.address()
        ))?;
        screen.note(&format!(
            "database \"{DEMO_TARGET}\": {customers} customers, {cards} cards, {orders} orders"
        ))?;

        let binary = std::env::current_exe().context("looking for our own program")?;
        let console = free_port()?;
        let gate = tokio::task::spawn_blocking(move || {
            let pages = format!("[console]\nlisten = \"127.0.0.1:{console}\"\n");
            let config = format!("{SESSION}{pages}{}", shop.target_table(DEMO_TARGET, PROFILES));
            let files = [&[shop.password_file()], &rules::FILES[..]].concat();
            TestGate::start(&binary, &config, &files)
        })
        .await??;
        screen.note(&format!(
            "the gate on {}, with the example policies; its log and its grants in",
            gate.address()
        ))?;
        screen.note(&gate.folder().join("state").display().to_string())?;
        screen.note(&format!(
            "its account there, \"{}\", may make roles and end backends (CREATEROLE, pg_signal_backend); it owns nothing",
            ShopFixture::GATE
        ))?;
        screen.note(&format!(
            "ready after {:.1} s",
            (clock.moment().instant - begun).as_secs_f64()
        ))?;
        Ok(Self {
            ana: person(screen, &gate, "ana@example.com", "qa").await?,
            bo: person(screen, &gate, "bo@example.com", "leads").await?,
            gate,
            server,
            console,
            admin,
            clock,
        })
    }

    /// Runs a command as this person, or as the operator, and shows its output.
    pub(super) async fn show(&self, screen: &DemoScreen, who: Option<&DemoPerson>, arguments: &[&str]) -> anyhow::Result<()> {
        match who {
            Some(who) => screen.command_of(who.short(), &shown(arguments))?,
            None => screen.command(&shown(arguments))?,
        }
        let output = self.run(who, arguments).await?;
        Ok(screen.output(&String::from_utf8_lossy(&output))?)
    }

    /// Runs a command as this person, or as the operator, and returns its output.
    pub(super) async fn run(&self, who: Option<&DemoPerson>, arguments: &[&str]) -> anyhow::Result<Vec<u8>> {
        run(&self.gate, who, arguments).await
    }

    /// Runs a command as this person, or as the operator, and parses its JSON output.
    pub(super) async fn json(&self, who: Option<&DemoPerson>, arguments: &[&str]) -> anyhow::Result<Value> {
        json(&self.gate, who, arguments).await
    }

    /// Returns a command of this person, with the folder of psql in its `PATH`.
    pub(super) fn command_of(&self, who: &DemoPerson, arguments: &[&str], psql: &std::path::Path) -> anyhow::Result<Command> {
        let mut command = self.gate.command_of(&who.token, arguments);
        let usual = std::env::var_os("PATH").unwrap_or_default();
        let folders = psql.parent().map(PathBuf::from).into_iter();
        command.env("PATH", std::env::join_paths(folders.chain(std::env::split_paths(&usual)))?);
        Ok(command)
    }

    /// Returns the records of the log about a grant.
    pub(super) async fn records(&self, grant: &str, event: &str) -> anyhow::Result<Vec<Value>> {
        self.read(&["log", "--grant", grant, "--event", event]).await
    }

    /// Returns the time of the last record that matches.
    pub(super) async fn last(&self, arguments: &[&str]) -> anyhow::Result<Timestamp> {
        let records = self.read(&[&["log"], arguments].concat()).await?;
        let time = records.last().and_then(|record| record.get("time")?.as_str());
        Ok(time.context("there is no such record in the log")?.parse()?)
    }

    async fn read(&self, arguments: &[&str]) -> anyhow::Result<Vec<Value>> {
        let output = self.run(None, &[arguments, &["--output", "json"]].concat()).await?;
        let lines = output.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        Ok(lines.map(serde_json::from_slice).collect::<Result<_, _>>()?)
    }
}

/// Creates a user with an operator command.
async fn person(screen: &DemoScreen, gate: &TestGate, name: &'static str, group: &str) -> anyhow::Result<DemoPerson> {
    let add = ["user", "add", name, "--group", group];
    let issued = json(gate, None, &add).await?;
    let token = issued.get("token").and_then(Value::as_str);
    let token = Secret::new(token.context("the answer to `user add` has no token")?.to_owned());
    let start = token.expose().get(..SHOWN_TOKEN_CHARS).unwrap_or_default();
    screen.command(&shown(&add))?;
    screen.note(&format!("  token {start}... (shown whole this once, kept as a hash)"))?;
    Ok(DemoPerson { name, token })
}

async fn json(gate: &TestGate, who: Option<&DemoPerson>, arguments: &[&str]) -> anyhow::Result<Value> {
    let output = run(gate, who, &[arguments, &["--output", "json"]].concat()).await?;
    Ok(serde_json::from_slice(&output)?)
}

async fn run(gate: &TestGate, who: Option<&DemoPerson>, arguments: &[&str]) -> anyhow::Result<Vec<u8>> {
    let command = who.map_or_else(|| gate.operator(arguments), |who| gate.command_of(&who.token, arguments));
    let output = tokio::process::Command::from(command).kill_on_drop(true).output().await?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`tidegate {}` failed: {}", arguments.join(" "), said.trim());
    }
    Ok(output.stdout)
}

/// Returns a command of this program as a user would type it.
pub(super) fn shown(arguments: &[&str]) -> String {
    let quoted = arguments.iter().map(|&argument| {
        if argument.contains(' ') {
            format!("\"{argument}\"")
        } else {
            argument.to_owned()
        }
    });
    format!("tidegate {}", quoted.collect::<Vec<_>>().join(" "))
}
