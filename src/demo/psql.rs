//! Running psql, with its output as it arrives.
//!
//! The program may be psql itself or `tidegate psql`.

use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::unix::pipe;
use tokio::process::{Child, ChildStdin};
use tokio::time::Instant;

use super::screen::DemoScreen;
use crate::base::clock::{Clock, Moment};

/// Arguments that make the output readable, whatever the account's own settings are.
pub(super) const ARGUMENTS: [&str; 3] = ["--no-psqlrc", "--echo-all", "--pset=pager=off"];

/// Process with both ends of its pipes.
pub(super) struct PsqlProcess {
    child: Child,
    input: Option<ChildStdin>,
    lines: Lines<BufReader<pipe::Receiver>>,
    clock: Clock,
    begun: Instant,
}

impl PsqlProcess {
    /// Starts the program. Its standard output and error go into one pipe, in the order they are written.
    pub(super) fn start(mut command: Command, clock: &Clock) -> anyhow::Result<Self> {
        let (reader, writer) = std::io::pipe()?;
        for (name, _) in std::env::vars_os() {
            let known = command.get_envs().any(|(set, _)| set == name);
            if !known && name.to_str().is_some_and(|name| name.starts_with("PG")) {
                command.env_remove(name);
            }
        }
        command
            .env("PGCLIENTENCODING", "UTF8")
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::piped())
            .stdout(writer.try_clone()?)
            .stderr(writer);
        let begun = clock.moment().instant;
        let mut command = tokio::process::Command::from(command);
        let mut child = command.kill_on_drop(true).spawn().context("starting psql")?;
        // `command` owns copies of the pipe's writing end: without them the reader sees the end when psql ends.
        drop(command);
        let output = pipe::Receiver::from_owned_fd(OwnedFd::from(reader))?;
        Ok(Self {
            input: child.stdin.take(),
            child,
            lines: BufReader::new(output).lines(),
            clock: clock.clone(),
            begun,
        })
    }

    /// Writes to its standard input.
    pub(super) async fn enter(&mut self, sql: &str) -> anyhow::Result<()> {
        let input = self.input.as_mut().context("psql has no standard input")?;
        Ok(input.write_all(sql.as_bytes()).await?)
    }

    /// Closes its standard input, like Ctrl-D.
    pub(super) fn leave(&mut self) {
        self.input = None;
    }

    /// Shows its output up to a line that contains `text`; returns that line and the time it arrived.
    pub(super) async fn until(&mut self, screen: &DemoScreen, text: &str) -> anyhow::Result<(String, Moment)> {
        loop {
            match self.line(screen).await? {
                Some((line, moment)) if line.contains(text) => return Ok((line, moment)),
                Some(_) => {}
                None => bail!("psql ended before it printed `{text}`"),
            }
        }
    }

    /// Shows the rest of its output. Returns the time of the FATAL error, if there was one.
    pub(super) async fn rest(&mut self, screen: &DemoScreen) -> anyhow::Result<Option<Moment>> {
        let mut told = None;
        while let Some((line, moment)) = self.line(screen).await? {
            if line.contains("FATAL:") {
                told = Some(moment);
            }
        }
        self.child.wait().await?;
        Ok(told)
    }

    /// Returns the time from its start to this moment.
    pub(super) fn after_start(&self, moment: Moment) -> Duration {
        moment.instant.saturating_duration_since(self.begun)
    }

    async fn line(&mut self, screen: &DemoScreen) -> anyhow::Result<Option<(String, Moment)>> {
        let Some(line) = self.lines.next_line().await? else {
            return Ok(None);
        };
        let moment = self.clock.moment();
        screen.timed(self.after_start(moment), &line)?;
        Ok(Some((line, moment)))
    }
}
