//! `log`: asks the gate for records, or reads the log's folder when the gate is not running.
//!
//! It filters nothing itself: the reader does, on either way.

use std::path::Path;

use super::args::{LogArgs, Output};
use super::client::Client;
use super::record::Line;
use super::render::{print_line, visible};
use crate::clock::Clock;
use crate::control::model::LogQuery;

pub(super) async fn run(config: &Path, args: LogArgs) -> anyhow::Result<()> {
    let now = Clock::system(None).now();
    let query = LogQuery {
        identity: args.identity,
        grant: args.grant,
        session: args.session,
        target: args.target,
        since: args.since.map(|when| when.time(now)),
        until: args.until.map(|when| when.time(now)),
        text: args.text,
        sqlstate: args.sqlstate,
        event: args.event,
        follow: args.follow,
    };
    let output = args.remote.output;
    match args.dir {
        Some(dir) => offline(&dir, &query, output),
        None => Ok(Client::new(config, &args.remote)?
            .lines("/v1/log", &query, |line| show(line, output))
            .await?),
    }
}

/// Prints a record; `false` when nobody reads any more.
fn show(line: &[u8], output: Output) -> bool {
    let raw = || String::from_utf8_lossy(line);
    match output {
        // The log's own form is safe: it has no control characters outside of escapes.
        Output::Json => print_line(&raw()),
        Output::Table => match Line::read(line) {
            Ok(record) => print_line(&record.show()),
            Err(_) => print_line(&visible(&raw())),
        },
    }
}

fn offline(_dir: &Path, _query: &LogQuery, _output: Output) -> anyhow::Result<()> {
    anyhow::bail!("not built yet")
}
