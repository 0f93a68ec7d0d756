//! Reads the log without blocking the runtime, and continues as the log grows.
//!
//! This module does not filter or parse (the reader does). It polls the file a few times a second, so that the writer has to
//! wait for no reader and notify none.

use std::collections::VecDeque;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::extent::{RecordCollector, SearchExtent};
use super::filter::Filter;
use super::read::{LogScan, MAX_LAST_LINE_READS, ReadError, ScanStep};
use super::record::LogRecord;
use super::saved_checkpoint::UnreadableError;
use super::segment;

/// Interval at which the end of the log is read again.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Limits of a turn on a blocking thread: it ends after `LINES` lines or `RECORDS` records.
const MAX_TURN_LINES: usize = 20_000;
const MAX_TURN_RECORDS: usize = 256;

/// Factor by which the number of segments grows if those read so far have too few records.
const WIDENING_FACTOR: u32 = 4;

/// Opens the log for asynchronous reading.
pub fn follow(dir: &Path, filter: &Filter, extent: SearchExtent) -> Result<RecordStream, ReadError> {
    let (gather, filter) = (extent.gather(filter), extent.filter(filter));
    let from_now = extent.follow && extent.last.is_none() && filter.since.is_none() && filter.after.is_none();
    let older = match &gather {
        Some(_) if extent.last.is_some() && filter.looks_at_each_alone() => {
            let newest = segment::list(dir).map_err(|error| UnreadableError::new(dir, error))?.pop();
            let from = newest.map_or(1, |newest| newest.number);
            Some(OlderSearch { from, count: 1 })
        }
        _ => None,
    };
    let scan = match &older {
        _ if from_now => LogScan::newest(dir, &filter)?,
        Some(older) => LogScan::from_segment(dir, &filter, older.from)?,
        None => LogScan::oldest(dir, &filter)?,
    };
    Ok(RecordStream {
        state: StreamState::Resting(Box::new(scan), false),
        ready: VecDeque::new(),
        gather,
        older,
        left: extent.limit.filter(|_| extent.sort.is_none()),
        endless: extent.follow,
        looks: 0,
        threads: None,
        place: None,
    })
}

/// Stream of records that exist and, if wanted, of those to come. It holds few at a time: a slow consumer makes it read slowly.
#[derive(Debug)]
pub struct RecordStream {
    state: StreamState,
    ready: VecDeque<Result<LogRecord, ReadError>>,
    /// Records that are held back until the end is reached for the first time.
    gather: Option<RecordCollector>,
    older: Option<OlderSearch>,
    /// Number of records that are still wanted, if there is a limit.
    left: Option<u32>,
    endless: bool,
    /// Number of times that an unfinished last line was read.
    looks: u32,
    /// Permits for reading threads that several streams share.
    threads: Option<Arc<Semaphore>>,
    /// Permit that is held until the end of the log is reached for the first time.
    place: Option<Box<dyn fmt::Debug + Send>>,
}

/// State of a search for the newest records that goes back over more and more segments.
#[derive(Debug)]
struct OlderSearch {
    /// First segment that was read, and the number of segments.
    from: u32,
    count: u32,
}

#[derive(Debug)]
enum StreamState {
    /// Reads on when the next record is wanted; first waits a moment if the end was reached.
    Resting(Box<LogScan>, bool),
    Reading(JoinHandle<Option<StreamTurn>>),
    Over,
}

#[derive(Debug)]
struct StreamTurn {
    scan: Box<LogScan>,
    found: VecDeque<Result<LogRecord, ReadError>>,
    end: Option<Result<ScanStep, ReadError>>,
}

impl RecordStream {
    /// Makes the stream read only while one of these permits is free, because a gate has many readers. `place` is dropped as
    /// soon as all existing records are read; from then on the stream costs little.
    #[must_use]
    pub fn sharing(self, threads: Arc<Semaphore>, place: impl fmt::Debug + Send + 'static) -> Self {
        Self {
            threads: Some(threads),
            place: Some(Box::new(place)),
            ..self
        }
    }

    /// Returns the next record, or the error of the next line; `None` at the end. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<LogRecord, ReadError>> {
        loop {
            if self.left == Some(0) {
                return None;
            }
            if let Some(item) = self.ready.pop_front() {
                self.left = self.left.map(|left| left - u32::from(item.is_ok()));
                return Some(item);
            }
            match &mut self.state {
                StreamState::Over => return None,
                StreamState::Resting(_, at_end) => {
                    if *at_end {
                        tokio::time::sleep(POLL_INTERVAL).await;
                    }
                    self.begin_turn();
                }
                StreamState::Reading(turn) => {
                    let turn = turn.await;
                    self.state = StreamState::Over;
                    // A reading thread that panicked ends the stream, as does a runtime that shuts down.
                    self.end_turn(turn.ok()??);
                }
            }
        }
    }

    /// Converts it into a stream.
    pub fn into_stream(self) -> impl Stream<Item = Result<LogRecord, ReadError>> + Send {
        futures_util::stream::unfold(
            self,
            |mut follow| async move { follow.next().await.map(|item| (item, follow)) },
        )
    }

    fn begin_turn(&mut self) {
        if let StreamState::Resting(scan, _) = std::mem::replace(&mut self.state, StreamState::Over) {
            self.state = StreamState::Reading(tokio::spawn(in_turn(scan, self.threads.clone())));
        }
    }

    fn end_turn(&mut self, turn: StreamTurn) {
        match &mut self.gather {
            None => self.ready = turn.found,
            Some(gather) => turn.found.into_iter().for_each(|item| gather.take(item, &mut self.ready)),
        }
        self.state = match turn.end {
            None => StreamState::Resting(turn.scan, false),
            // An unfinished line is read again before it counts.
            Some(Ok(ScanStep::Partial(_))) if !self.endless && self.looks < MAX_LAST_LINE_READS => {
                self.looks += 1;
                StreamState::Resting(turn.scan, true)
            }
            Some(end) => self.reach_end(turn.scan, end),
        };
    }

    /// Goes further back if that is wanted; otherwise hands out what was held back, and waits for more if the stream is endless.
    fn reach_end(&mut self, scan: Box<LogScan>, end: Result<ScanStep, ReadError>) -> StreamState {
        if end.is_ok() {
            match self.further_back(&scan) {
                Ok(None) => {}
                Ok(Some(scan)) => return StreamState::Resting(Box::new(scan), false),
                Err(error) => self.ready.push_back(Err(error)),
            }
        }
        if let Some(gather) = self.gather.take() {
            gather.finish(&mut self.ready);
        }
        self.place = None;
        match end {
            Ok(_) if self.endless => return StreamState::Resting(scan, true),
            Ok(ScanStep::Partial(error)) | Err(error) => self.ready.push_back(Err(error)),
            Ok(_) => {}
        }
        StreamState::Over
    }

    /// Returns a scan that begins further back, if the newest records are wanted, too few were found, and there are older segments.
    fn further_back(&mut self, scan: &LogScan) -> Result<Option<LogScan>, ReadError> {
        let (Some(gather), Some(older)) = (&mut self.gather, &mut self.older) else {
            return Ok(None);
        };
        if !gather.wants_older() || scan.first_segment()?.is_none_or(|first| first >= older.from) {
            return Ok(None);
        }
        older.count = older.count.saturating_mul(WIDENING_FACTOR);
        older.from = older.from.saturating_sub(older.count);
        let scan = scan.again_from(older.from)?;
        gather.clear();
        Ok(Some(scan))
    }
}

/// Runs a turn as soon as a permit is free.
async fn in_turn(scan: Box<LogScan>, threads: Option<Arc<Semaphore>>) -> Option<StreamTurn> {
    let _thread = match threads {
        Some(threads) => Some(threads.acquire_owned().await.ok()?),
        None => None,
    };
    tokio::task::spawn_blocking(|| turn(scan)).await.ok()
}

fn turn(mut scan: Box<LogScan>) -> StreamTurn {
    let mut found = VecDeque::new();
    let mut end = None;
    for _ in 0..MAX_TURN_LINES {
        match scan.step(&mut found) {
            Ok(ScanStep::Read) if found.len() < MAX_TURN_RECORDS => {}
            Ok(ScanStep::Read) => break,
            other => {
                end = Some(other);
                break;
            }
        }
    }
    StreamTurn { scan, found, end }
}

#[cfg(test)]
mod tests;
