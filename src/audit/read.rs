//! Reads the log in order, line by line, also while it is being written.
//!
//! This module changes nothing in the log. A line that cannot be read is reported in its place and never skipped silently,
//! unless it begins and ends like a record and cannot match the filter.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::filter::{Filter, Selector, Sieve};
use super::index::Demand;
use super::record::{EventName, NotARecord, Record};
use super::segment::{self, LONGEST, Segment};
pub use error::ReadError;
use file::{Line, Open};
use source::Source;

mod error;
mod file;
mod source;

/// Number of times that an unfinished last line is read again before it is reported: usually it is being written.
pub(super) const LOOKS: u32 = 5;
/// Records that say how grants were created, and with which profile.
const ORIGINS: [EventName; 3] = [EventName::GrantChanged, EventName::RequestChanged, EventName::SessionStarted];
/// Number of packed segments that are unpacked at once: each may hold a few lines of the greatest length.
const MAX_SEGMENTS_AHEAD: usize = 5;
/// Time between two attempts to read the end.
const PAUSE: Duration = Duration::from_millis(10);

/// Reads the records of the log that pass the filter, oldest first, up to the end of the log when it is reached. Blocks.
pub fn read(dir: &Path, filter: &Filter) -> Result<Records, ReadError> {
    Ok(Records {
        scan: Scan::oldest(dir, filter)?,
        ready: VecDeque::new(),
        over: false,
    })
}

/// Reads like [`read`], but looks at every line: no index, which is not signed, can leave one out. Used for results that are
/// handed on as complete. Blocks.
pub fn read_whole(dir: &Path, filter: &Filter) -> Result<Records, ReadError> {
    read_since(dir, filter, 1)
}

/// Reads like [`read_whole`], from the beginning of a segment. Blocks.
pub fn read_since(dir: &Path, filter: &Filter, segment: u32) -> Result<Records, ReadError> {
    let mut scan = Scan::from_segment(dir, filter, segment)?;
    scan.by_index = false;
    scan.origins.iter_mut().for_each(|origins| origins.by_index = false);
    Ok(Records {
        scan,
        ready: VecDeque::new(),
        over: false,
    })
}

/// Iterator over the records of [`read`]. An error takes the place of its line; [`ReadError::Io`] is the last item.
#[derive(Debug)]
pub struct Records {
    scan: Scan,
    ready: VecDeque<Result<Record, ReadError>>,
    over: bool,
}

impl Iterator for Records {
    type Item = Result<Record, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut looks = 0;
        while self.ready.is_empty() && !self.over {
            match self.scan.step(&mut self.ready) {
                Step::Read => {}
                Step::End => self.over = true,
                Step::Partial(_) if looks < LOOKS => {
                    looks += 1;
                    thread::sleep(PAUSE);
                }
                Step::Partial(error) | Step::Failed(error) => {
                    self.ready.push_back(Err(error));
                    self.over = true;
                }
            }
        }
        self.ready.pop_front()
    }
}

/// Scan of the files line by line, with a selector that chooses records.
#[derive(Debug)]
pub(super) struct Scan {
    dir: PathBuf,
    selector: Selector,
    sieve: Arc<Sieve>,
    /// Files up to this number are left out.
    before: u32,
    /// True if blocks may be skipped if an index rules them out.
    by_index: bool,
    /// Scans for the wanted sessions and grants, which come first if the filter has a group, a run or a profile.
    origins: VecDeque<Scan>,
    /// Number of a file: the wanted sessions and grants that began before it are known.
    known: u32,
    /// Packed segments that are being unpacked already, in order, so that the processor does not wait.
    ahead: VecDeque<(Segment, Source)>,
    file: Option<Open>,
    line: Vec<u8>,
}

/// Result of one step of a scan.
#[derive(Debug)]
pub(super) enum Step {
    /// A line was read; it may have produced records or an error.
    Read,
    /// The current end of the log is reached.
    End,
    /// The log currently ends in the middle of a line.
    Partial(ReadError),
    /// Reading cannot continue.
    Failed(ReadError),
}

impl Scan {
    /// Starts at the first line of the first file.
    pub(super) fn oldest(dir: &Path, filter: &Filter) -> Result<Self, ReadError> {
        segment::list(dir).map_err(|error| ReadError::io(dir, error))?;
        let scan = |filter: Filter| Self {
            dir: dir.to_owned(),
            sieve: Arc::new(Sieve::of(&filter)),
            before: 0,
            by_index: true,
            known: u32::MAX,
            selector: Selector::new(filter),
            origins: VecDeque::new(),
            ahead: VecDeque::new(),
            file: None,
            line: Vec::new(),
        };
        let sessions = filter.by_session().then(|| filter.of_sessions());
        let grants = ORIGINS.map(|event| filter.of_origins(event));
        let grants = filter.by_grant().then_some(grants).into_iter().flatten();
        Ok(Self {
            origins: sessions.into_iter().chain(grants).map(&scan).collect(),
            ..scan(filter.clone())
        })
    }

    /// Starts at the beginning of a segment.
    pub(super) fn from_segment(dir: &Path, filter: &Filter, segment: u32) -> Result<Self, ReadError> {
        let mut scan = Self::oldest(dir, filter)?;
        scan.before = segment.saturating_sub(1);
        Ok(scan)
    }

    /// Starts at the end of the newest file. Line numbers in errors count from there.
    pub(super) fn newest(dir: &Path, filter: &Filter) -> Result<Self, ReadError> {
        let mut scan = Self::oldest(dir, filter)?;
        let newest = segment::list(dir).map_err(|error| ReadError::io(dir, error))?.pop();
        if let Some(segment) = newest {
            let reader = scan.open(&segment)?;
            let mut open = Open::new(segment, reader);
            open.reader.skip_to_end().map_err(|error| ReadError::io(&open.path, error))?;
            scan.file = Some(open);
        }
        Ok(scan)
    }

    /// Reads one more line.
    pub(super) fn step(&mut self, ready: &mut VecDeque<Result<Record, ReadError>>) -> Step {
        let step = match self.origins.front_mut() {
            Some(scan) => {
                let mut found = VecDeque::new();
                let step = scan.try_step(&mut found);
                self.learn(&found);
                step.map(|step| self.end_of_origins(&step))
            }
            None => self.try_step(ready),
        };
        match step {
            Ok(step) => step,
            Err(error) => Step::Failed(error),
        }
    }

    /// Passes the sessions and grants that were found to the selector. A line that cannot be read is reported when the scan
    /// itself reads it.
    fn learn(&mut self, found: &VecDeque<Result<Record, ReadError>>) {
        for record in found.iter().flatten() {
            self.selector.know(&record.event);
        }
    }

    /// Continues with the next search when one is at its end.
    fn end_of_origins(&mut self, step: &Step) -> Step {
        if !matches!(step, Step::Read)
            && let Some(scan) = self.origins.pop_front()
        {
            // Without an open file yet, all files may still have some.
            let reached = scan.file.as_ref().map_or(0, |file| file.number);
            if self.selector.filter().by_session() || self.selector.filter().by_grant() {
                self.known = self.known.min(reached);
            }
        }
        Step::Read
    }

    fn try_step(&mut self, ready: &mut VecDeque<Result<Record, ReadError>>) -> Result<Step, ReadError> {
        let Some(open) = &mut self.file else {
            return Ok(if self.next_file(None)? { Step::Read } else { Step::End });
        };
        let found = match open.line(&mut self.line) {
            Err(error) if open.reader.is_packed() => {
                let (number, file, after) = (open.number, open.path.clone(), open.lines);
                let source = Arc::new(error);
                ready.push_back(Err(ReadError::Damaged { file, after, source }));
                return Ok(if self.next_file(Some(number))? {
                    Step::Read
                } else {
                    Step::End
                });
            }
            answer => answer.map_err(|error| ReadError::io(&open.path, error))?,
        };
        match found {
            Line::Whole => {
                open.final_look = false;
                let place = (open.path.as_path(), open.lines);
                if let Err(error) = choose(&self.line, place, &mut self.selector, ready) {
                    ready.push_back(Err(error));
                }
                Ok(Step::Read)
            }
            Line::TooLong => {
                let (file, line) = (open.path.clone(), open.lines);
                ready.push_back(Err(ReadError::TooLong { file, line }));
                Ok(Step::Read)
            }
            Line::End(bytes) => {
                let (number, looked) = (open.number, std::mem::replace(&mut open.final_look, true));
                let unfinished = (bytes > 0).then(|| ReadError::Unfinished {
                    file: open.path.clone(),
                    line: open.lines + 1,
                    bytes,
                });
                if segment::after(&self.dir, number)
                    .map_err(|error| ReadError::io(&self.dir, error))?
                    .is_none()
                {
                    open.final_look = false;
                    return Ok(unfinished.map_or(Step::End, Step::Partial));
                }
                if looked {
                    ready.extend(unfinished.map(Err));
                    self.next_file(Some(number))?;
                } else {
                    let closed = open.reader.is_closed(&self.dir, number);
                    closed.map_err(|error| ReadError::io(&self.dir, error))?;
                }
                Ok(Step::Read)
            }
        }
    }

    /// Opens the file after this one; returns false if there is none.
    fn next_file(&mut self, number: Option<u32>) -> Result<bool, ReadError> {
        let number = number.unwrap_or(self.before);
        self.look_ahead(number)?;
        let (segment, reader) = match self.ahead.pop_front() {
            Some(read) => read,
            None => match segment::after(&self.dir, number).map_err(|error| ReadError::io(&self.dir, error))? {
                Some(segment) => {
                    let reader = self.open(&segment)?;
                    (segment, reader)
                }
                None => return Ok(false),
            },
        };
        self.file = Some(Open::new(segment, reader));
        Ok(true)
    }

    /// Starts to unpack the next packed segments, a few at once, but only those before `known`: for later ones, wanted sessions
    /// may still be found that the index has to be asked for.
    fn look_ahead(&mut self, number: u32) -> Result<(), ReadError> {
        let last = self.ahead.back().map_or(number, |(segment, _)| segment.number);
        let most = thread::available_parallelism()
            .map_or(1, usize::from)
            .min(MAX_SEGMENTS_AHEAD - 1)
            + 1;
        let segments = segment::list(&self.dir).map_err(|error| ReadError::io(&self.dir, error))?;
        let next = segments.into_iter().filter(|segment| segment.number > last);
        for segment in next.take(most.saturating_sub(self.ahead.len())) {
            if !segment.packed || segment.number >= self.known {
                break;
            }
            let reader = self.open(&segment)?;
            self.ahead.push_back((segment, reader));
        }
        Ok(())
    }

    fn open(&self, segment: &Segment) -> Result<Source, ReadError> {
        // The demand is built anew for each file: wanted sessions may have begun in the one before.
        let sure = segment.number < self.known;
        let (sessions, grants) = (self.selector.sessions(), self.selector.grants());
        let demand = Demand::of(self.selector.filter(), sessions.filter(|_| sure), grants.filter(|_| sure));
        let demand = Some(demand).filter(|demand| self.by_index && !demand.is_empty());
        Source::open(&self.dir, segment, demand, &self.sieve).map_err(|error| ReadError::io(&segment.path, error))
    }
}

/// Parses a line if it may match, and offers it to the selector.
fn choose(
    line: &[u8],
    (file, number): (&Path, u64),
    selector: &mut Selector,
    ready: &mut VecDeque<Result<Record, ReadError>>,
) -> Result<(), ReadError> {
    let malformed = |error| ReadError::Malformed {
        file: file.to_owned(),
        line: number,
        source: Arc::new(error),
    };
    if !selector.may_want(line) {
        return Ok(());
    }
    let record = Record::parse(line).map_err(|error| match error {
        NotARecord::Malformed(error) => malformed(error),
        NotARecord::Version(version) => ReadError::Version {
            file: file.to_owned(),
            line: number,
            version,
        },
    })?;
    selector.offer(record, |record| ready.push_back(Ok(record)));
    if selector.let_go() {
        let file = file.to_owned();
        return Err(ReadError::TooMuch { file, line: number });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
