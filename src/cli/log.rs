//! `log`: asks the gate for records, or reads the log's folder when the gate is not running.
//!
//! It filters nothing itself: the reader does, on either way.

use std::path::Path;

use jiff::Timestamp;

use super::args::{LogArgs, Output};
use super::client::Client;
use super::reach::Whose;
use super::render::{print_line, visible};
use crate::audit::event::Event;
use crate::audit::{Record, Span, follow, render};
use crate::clock::Clock;
use crate::control::model::{LogQuery, Unreadable};

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
    let mut shown = Shown {
        output: args.remote.printing.output,
        room: args.limit,
        unreadable: 0,
    };
    if let Some(dir) = args.dir {
        offline(&dir, &query, &mut shown).await?;
    } else {
        let client = Client::new(Whose::Operator, config, &args.remote.place)?;
        client.lines("/v1/log", &query, |line| shown.line(line)).await?;
    }
    match shown.unreadable {
        0 => Ok(()),
        lines => anyhow::bail!("{lines} lines of the log could not be read: what is shown is not all there is"),
    }
}

async fn offline(dir: &Path, query: &LogQuery, shown: &mut Shown) -> anyhow::Result<()> {
    let span = if query.follow { Span::All } else { Span::History };
    let mut found = follow(dir, &query.filter(), span)?;
    while let Some(item) = found.next().await {
        let go_on = match item {
            Ok(record) => shown.line(record.json().as_bytes()),
            Err(error) => shown.unreadable(&error.to_string()),
        };
        if !go_on {
            break;
        }
    }
    Ok(())
}

/// What was shown so far, and how.
struct Shown {
    output: Output,
    /// How many more are to be shown, where that was said.
    room: Option<u64>,
    unreadable: u64,
}

impl Shown {
    /// Prints a record; `false` when nobody reads any more, or it is one too many.
    fn line(&mut self, line: &[u8]) -> bool {
        let raw = String::from_utf8_lossy(line);
        if let Ok(Unreadable { error }) = serde_json::from_slice(line) {
            return self.unreadable(&error);
        }
        if let Some(room) = &mut self.room {
            match room.checked_sub(1) {
                Some(less) => *room = less,
                None => return full(line),
            }
        }
        match self.output {
            // The log's own form is safe: it has no control characters outside of escapes.
            Output::Json => print_line(&raw),
            Output::Table => match read(line) {
                Ok(record) => print_line(&render::line(&record)),
                Err(_) => print_line(&visible(&raw)),
            },
        }
    }

    fn unreadable(&mut self, error: &str) -> bool {
        self.unreadable += 1;
        super::complain(error);
        true
    }
}

/// There is no room for this record: says how to see it.
fn full(line: &[u8]) -> bool {
    let since = read(line).map(|record| format!(" The next ones: the same with --since {}", record.time));
    super::complain(&format!("there is more.{}", since.unwrap_or_default()));
    false
}

/// Reads a record back from its line.
fn read(line: &[u8]) -> Result<Record, serde_json::Error> {
    #[derive(serde::Deserialize)]
    struct Line {
        v: u32,
        seq: u64,
        time: Timestamp,
        #[serde(flatten)]
        event: Event<'static>,
    }
    let Line { v, seq, time, event } = serde_json::from_slice(line)?;
    Ok(Record { v, seq, time, event })
}
