//! Reads the log without blocking the runtime, and goes on as it grows.
//!
//! It does not filter or parse (the reader does). It looks at the file a few times a second instead of being told: the
//! writer has nobody to wait for and nothing to tell.

use std::collections::VecDeque;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::filter::Filter;
use super::read::{LOOKS, ReadError, Scan, Step};
use super::record::Record;

/// How often the end of the log is looked at.
const POLL: Duration = Duration::from_millis(50);
/// A turn on a blocking thread ends after this many lines, or this many records.
const LINES: usize = 20_000;
const RECORDS: usize = 256;

/// Which part of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// What is there; then the end.
    History,
    /// What is there, then what comes, without end.
    All,
    /// What comes from now on, without end.
    New,
}

/// Opens the log for asynchronous reading.
pub fn follow(dir: &Path, filter: &Filter, span: Span) -> Result<Follow, ReadError> {
    let start = match span {
        Span::History | Span::All => Scan::oldest(dir, filter)?,
        Span::New => Scan::newest(dir, filter)?,
    };
    let endless = span != Span::History;
    Ok(Follow {
        state: State::Resting(Box::new(start)),
        ready: VecDeque::new(),
        endless,
        looks: 0,
        threads: None,
        place: None,
    })
}

/// Records as they are found or come. Holds few of them at a time: whoever takes them slowly makes it read slowly.
#[derive(Debug)]
pub struct Follow {
    state: State,
    ready: VecDeque<Result<Record, ReadError>>,
    endless: bool,
    /// How often an unfinished last line was looked at.
    looks: u32,
    /// Where several share the threads that read.
    threads: Option<Arc<Semaphore>>,
    /// Held until the end of the log is reached for the first time.
    place: Option<Box<dyn fmt::Debug + Send>>,
}

#[derive(Debug)]
enum State {
    Resting(Box<Scan>),
    Reading(JoinHandle<Option<Turn>>),
    /// Waits before it looks again.
    Pausing(Box<Scan>),
    Over,
}

#[derive(Debug)]
struct Turn {
    scan: Box<Scan>,
    found: VecDeque<Result<Record, ReadError>>,
    end: Option<Step>,
}

impl Follow {
    /// The same, reading only while one of these threads is free: the readers of a gate are many. `place` is given back as soon as
    /// all that was there is read; from then on it costs little.
    #[must_use]
    pub fn sharing(self, threads: Arc<Semaphore>, place: impl fmt::Debug + Send + 'static) -> Self {
        Self {
            threads: Some(threads),
            place: Some(Box::new(place)),
            ..self
        }
    }

    /// The next record, or what is wrong with the next line; `None` at the end. May be dropped and called again without loss.
    pub async fn next(&mut self) -> Option<Result<Record, ReadError>> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Some(item);
            }
            match &mut self.state {
                State::Over => return None,
                State::Resting(_) => self.begin_turn(),
                State::Pausing(_) => {
                    tokio::time::sleep(POLL).await;
                    self.begin_turn();
                }
                State::Reading(turn) => {
                    let turn = turn.await;
                    self.state = State::Over;
                    // A reading thread that panicked ends the stream, as a runtime does that shuts down.
                    self.end_turn(turn.ok()??);
                }
            }
        }
    }

    /// The same as a stream.
    pub fn into_stream(self) -> impl Stream<Item = Result<Record, ReadError>> + Send {
        futures_util::stream::unfold(
            self,
            |mut follow| async move { follow.next().await.map(|item| (item, follow)) },
        )
    }

    fn begin_turn(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Over) {
            State::Resting(scan) | State::Pausing(scan) => State::Reading(tokio::spawn(in_turn(scan, self.threads.clone()))),
            other => other,
        };
    }

    fn end_turn(&mut self, turn: Turn) {
        self.ready = turn.found;
        if turn.end.is_some() {
            self.place = None;
        }
        self.state = match turn.end {
            None => State::Resting(turn.scan),
            Some(Step::Failed(error)) => {
                self.ready.push_back(Err(error));
                State::Over
            }
            Some(_) if self.endless => State::Pausing(turn.scan),
            Some(Step::Partial(_)) if self.looks < LOOKS => {
                self.looks += 1;
                State::Pausing(turn.scan)
            }
            Some(Step::Partial(error)) => {
                self.ready.push_back(Err(error));
                State::Over
            }
            Some(_) => State::Over,
        };
    }
}

/// A turn, as soon as there is a thread for it.
async fn in_turn(scan: Box<Scan>, threads: Option<Arc<Semaphore>>) -> Option<Turn> {
    let _thread = match threads {
        Some(threads) => Some(threads.acquire_owned().await.ok()?),
        None => None,
    };
    tokio::task::spawn_blocking(|| turn(scan)).await.ok()
}

fn turn(mut scan: Box<Scan>) -> Turn {
    let mut found = VecDeque::new();
    let mut end = None;
    for _ in 0..LINES {
        match scan.step(&mut found) {
            Step::Read if found.len() < RECORDS => {}
            Step::Read => break,
            other => {
                end = Some(other);
                break;
            }
        }
    }
    Turn { scan, found, end }
}

#[cfg(test)]
mod tests;
