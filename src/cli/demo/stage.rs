//! What the demo plays on: the throwaway database, the gate in front of it, and the gate's own commands.
//!
//! It plays nothing.

use std::process::Output;
use std::sync::Arc;

use anyhow::{Context, bail};
use serde_json::Value;
use tokio_postgres::Client;

use super::screen::Screen;
use super::{TARGET, tester};
use crate::clock::Clock;
use crate::lab::{Gate, Login, Options, Postgres, Shop};

/// Warnings as near as the demo's window needs; everything else as it comes.
const SESSION: &str = "[session]\nwarnings = [\"3s\"]\n";

/// A running database and gate; both end with it.
pub(super) struct Stage {
    // The gate goes first, so that it does not complain about a lost database.
    pub(super) gate: Arc<Gate>,
    pub(super) server: Postgres,
    /// Straight to the database, as its superuser.
    pub(super) admin: Client,
    pub(super) clock: Clock,
}

impl Stage {
    pub(super) async fn set(screen: &Screen) -> anyhow::Result<Self> {
        let clock = Clock::system(None);
        let begun = clock.moment().instant;
        let server = tokio::task::spawn_blocking(|| Postgres::start(&Options::default())).await??;
        let shop = Shop::make(&server).await?;
        let admin = server.client(Shop::DATABASE).await?;
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
            "database \"{TARGET}\": {customers} customers, {cards} cards, {orders} orders"
        ))?;

        let binary = std::env::current_exe().context("looking for our own program")?;
        let gate = tokio::task::spawn_blocking(move || {
            let config = format!("{SESSION}{}", shop.target_table(TARGET, ""));
            Gate::start(&binary, &config, &[shop.password_file()])
        })
        .await??;
        screen.note(&format!("the gate on {}, with its log and its grants in", gate.address()))?;
        screen.note(&gate.folder().join("state").display().to_string())?;
        screen.note(&format!(
            "ready after {:.1} s",
            (clock.moment().instant - begun).as_secs_f64()
        ))?;
        Ok(Self {
            gate: Arc::new(gate),
            server,
            admin,
            clock,
        })
    }

    /// Runs one of the gate's commands and shows what it prints.
    pub(super) async fn show(&self, screen: &Screen, arguments: &[&str]) -> anyhow::Result<()> {
        screen.command(&format!("tidegate {}", arguments.join(" ")))?;
        let output = self.run(arguments).await?;
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            screen.output(line)?;
        }
        succeeded(arguments, &output)
    }

    /// Makes a grant with the gate's command.
    pub(super) async fn grant(&self, screen: &Screen, create: &[&str]) -> anyhow::Result<Login> {
        screen.command(&format!("tidegate {}", create.join(" ")))?;
        let issued = self.json(create).await?;
        let login = Login::read(&issued).context("the answer to `grant create` has no grant or no secret")?;
        screen.note(&format!(
            "grant {}: user name is the grant, password is its secret, shown once;",
            login.grant
        ))?;
        screen.note("the window opens with the first connect.")?;
        Ok(login)
    }

    /// One of the gate's commands that answers with one JSON value.
    pub(super) async fn json(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let output = self.run(&[arguments, &["--output", "json"]].concat()).await?;
        succeeded(arguments, &output)?;
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Records of the log.
    pub(super) async fn records(&self, grant: &str, event: &str) -> anyhow::Result<Vec<Value>> {
        let arguments = ["log", "--grant", grant, "--event", event, "--output", "json"];
        let output = self.run(&arguments).await?;
        succeeded(&arguments, &output)?;
        let lines = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        Ok(lines.map(serde_json::from_slice).collect::<Result<_, _>>()?)
    }

    /// How to connect with plain psql, without the secret.
    pub(super) fn connection(&self, login: &Login) -> String {
        tester::connection_string(self.gate.port(), &login.grant)
    }

    async fn run(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        let gate = Arc::clone(&self.gate);
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let run = move || gate.command(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        Ok(tokio::task::spawn_blocking(run).await??)
    }
}

fn succeeded(arguments: &[&str], output: &Output) -> anyhow::Result<()> {
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`tidegate {}` failed: {}", arguments.join(" "), said.trim());
    }
    Ok(())
}
