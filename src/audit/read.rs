//! Reads the log in order, line by line, also while it is being written.
//!
//! This module changes nothing in the log. A line that cannot be read is reported in its place and never skipped silently,
//! unless it begins and ends like a record and cannot match the filter.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::filter::{Filter, LinePrefilter, Neighbours, RecordJoiner};
use super::record::{EventName, LogRecord, RecordError};
use super::segment::{self, MAX_LINE_BYTES, Segment};
use super::summary::SegmentSummary;
pub use error::ReadError;
use file::{FileLine, OpenLogFile};
use source::SegmentLines;

mod error;
mod file;
mod source;

/// Number of times that an unfinished last line is read again before it is reported: usually it is being written.
pub(super) const MAX_LAST_LINE_READS: u32 = 5;
/// Records that say how grants were created, and with which profile.
const ORIGIN_EVENTS: [EventName; 3] = [EventName::GrantChanged, EventName::RequestChanged, EventName::SessionStarted];
/// Number of packed segments that are unpacked at once: each may hold a few lines of the greatest length.
const MAX_SEGMENTS_AHEAD: usize = 5;
/// Time between two attempts to read the end.
const REREAD_INTERVAL: Duration = Duration::from_millis(10);

/// Reads the records of the log that pass the filter, oldest first, up to the end of the log when it is reached. Blocks.
pub fn read(dir: &Path, filter: &Filter) -> Result<LogRecords, ReadError> {
    Ok(LogRecords {
        scan: LogScan::oldest(dir, filter)?,
        ready: VecDeque::new(),
        over: false,
    })
}

/// Reads like [`read`], but looks at every line: no summary, which is not signed, can leave one out. Used for results that are
/// handed on as complete. Blocks.
pub fn read_whole(dir: &Path, filter: &Filter) -> Result<LogRecords, ReadError> {
    read_since(dir, filter, 1)
}

/// Reads like [`read_whole`], from the beginning of a segment. Blocks.
pub fn read_since(dir: &Path, filter: &Filter, segment: u32) -> Result<LogRecords, ReadError> {
    let mut scan = LogScan::from_segment(dir, filter, segment)?;
    scan.by_summary = false;
    scan.origins.iter_mut().for_each(|origins| origins.by_summary = false);
    Ok(LogRecords {
        scan,
        ready: VecDeque::new(),
        over: false,
    })
}

/// Iterator over the records of [`read`]. An error takes the place of its line; [`ReadError::Io`] is the last item.
#[derive(Debug)]
pub struct LogRecords {
    scan: LogScan,
    ready: VecDeque<Result<LogRecord, ReadError>>,
    over: bool,
}

impl Iterator for LogRecords {
    type Item = Result<LogRecord, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut looks = 0;
        while self.ready.is_empty() && !self.over {
            match self.scan.step(&mut self.ready) {
                ScanStep::Read => {}
                ScanStep::End => self.over = true,
                ScanStep::Partial(_) if looks < MAX_LAST_LINE_READS => {
                    looks += 1;
                    thread::sleep(REREAD_INTERVAL);
                }
                ScanStep::Partial(error) | ScanStep::Failed(error) => {
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
pub(super) struct LogScan {
    dir: PathBuf,
    joiner: RecordJoiner,
    prefilter: Arc<LinePrefilter>,
    /// Files up to this number are left out.
    before: u32,
    /// Segments are skipped whose summaries exclude what is looked for.
    by_summary: bool,
    /// The summaries of a few segments, by their numbers; nothing for one that has none to be used.
    summaries: BTreeMap<u32, Option<SegmentSummary>>,
    /// The last segment that was opened or skipped.
    reached: u32,
    /// Look for the sessions and grants that matter, where a group, a run or a profile is asked for, before anything else.
    origins: VecDeque<LogScan>,
    /// Number of a file: the wanted sessions and grants that began before it are known.
    known: u32,
    /// Packed segments that are being unpacked already, in order, so that the processor does not wait.
    ahead: VecDeque<(Segment, SegmentLines)>,
    file: Option<OpenLogFile>,
    line: Vec<u8>,
}

/// Result of one step of a scan.
#[derive(Debug)]
pub(super) enum ScanStep {
    /// A line was read; it may have produced records or an error.
    Read,
    /// The current end of the log is reached.
    End,
    /// The log currently ends in the middle of a line.
    Partial(ReadError),
    /// Reading cannot continue.
    Failed(ReadError),
}

impl LogScan {
    /// Starts at the first line of the first file.
    pub(super) fn oldest(dir: &Path, filter: &Filter) -> Result<Self, ReadError> {
        segment::list(dir).map_err(|error| ReadError::io(dir, error))?;
        let scan = |filter: Filter| Self {
            dir: dir.to_owned(),
            prefilter: Arc::new(LinePrefilter::of(&filter)),
            before: 0,
            by_summary: true,
            summaries: BTreeMap::new(),
            reached: 0,
            known: u32::MAX,
            joiner: RecordJoiner::new(filter),
            origins: VecDeque::new(),
            ahead: VecDeque::new(),
            file: None,
            line: Vec::new(),
        };
        let sessions = filter.by_session().then(|| filter.of_sessions());
        let grants = ORIGIN_EVENTS.map(|event| filter.of_origins(event));
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
            let mut open = OpenLogFile::new(segment, reader);
            open.reader.skip_to_end().map_err(|error| ReadError::io(&open.path, error))?;
            scan.reached = open.number;
            scan.file = Some(open);
        }
        Ok(scan)
    }

    /// Reads one more line.
    pub(super) fn step(&mut self, ready: &mut VecDeque<Result<LogRecord, ReadError>>) -> ScanStep {
        let step = match self.origins.front_mut() {
            Some(scan) => {
                let mut found = VecDeque::new();
                let at = scan.file.as_ref().map_or(scan.before, |file| file.number);
                let step = scan.try_step(&mut found);
                if found.iter().any(Result::is_err) {
                    // Sessions may begin in what could not be read: nothing from here on is left out for not being theirs.
                    self.known = self.known.min(at);
                }
                self.learn(&found);
                step.map(|step| self.end_of_origins(&step))
            }
            None => self.try_step(ready),
        };
        match step {
            Ok(step) => step,
            Err(error) => ScanStep::Failed(error),
        }
    }

    /// Passes the sessions and grants that were found to the selector. A line that cannot be read is reported when the scan
    /// itself reads it.
    fn learn(&mut self, found: &VecDeque<Result<LogRecord, ReadError>>) {
        for record in found.iter().flatten() {
            self.joiner.know(&record.event);
        }
    }

    /// Continues with the next search when one is at its end.
    fn end_of_origins(&mut self, step: &ScanStep) -> ScanStep {
        if !matches!(step, ScanStep::Read)
            && let Some(scan) = self.origins.pop_front()
        {
            let read = scan.file.as_ref().map_or(scan.before, |file| file.number);
            self.known = self.known.min(read);
        }
        ScanStep::Read
    }

    fn try_step(&mut self, ready: &mut VecDeque<Result<LogRecord, ReadError>>) -> Result<ScanStep, ReadError> {
        let Some(open) = &mut self.file else {
            return self.go_on(None);
        };
        let found = match open.line(&mut self.line) {
            Err(error) if open.reader.is_packed() => {
                let (number, file, after) = (open.number, open.path.clone(), open.lines);
                let source = Arc::new(error);
                ready.push_back(Err(ReadError::Damaged { file, after, source }));
                return self.go_on(Some(number));
            }
            answer => answer.map_err(|error| ReadError::io(&open.path, error))?,
        };
        match found {
            FileLine::Whole => {
                open.final_look = false;
                let place = (open.path.as_path(), open.lines);
                if let Err(error) = choose(&self.line, place, &mut self.joiner, ready) {
                    ready.push_back(Err(error));
                }
                Ok(ScanStep::Read)
            }
            FileLine::TooLong => {
                let (file, line) = (open.path.clone(), open.lines);
                ready.push_back(Err(ReadError::TooLong { file, line }));
                Ok(ScanStep::Read)
            }
            FileLine::End(bytes) => {
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
                    return Ok(unfinished.map_or(ScanStep::End, ScanStep::Partial));
                }
                if looked {
                    ready.extend(unfinished.map(Err));
                    return self.go_on(Some(number));
                }
                let closed = open.reader.is_closed(&self.dir, number);
                closed.map_err(|error| ReadError::io(&self.dir, error))?;
                Ok(ScanStep::Read)
            }
        }
    }

    /// Goes on in the file after this one, or ends.
    fn go_on(&mut self, number: Option<u32>) -> Result<ScanStep, ReadError> {
        let next = self.next_file(number)?;
        Ok(if next { ScanStep::Read } else { ScanStep::End })
    }

    /// Opens the file after this one; returns false if there is none.
    fn next_file(&mut self, number: Option<u32>) -> Result<bool, ReadError> {
        self.before = number.unwrap_or(self.before);
        self.look_ahead()?;
        let next = self.ahead.pop_front();
        self.file = next.map(|(segment, reader)| OpenLogFile::new(segment, reader));
        if self.file.is_none() {
            self.before = self.before.max(self.reached);
        }
        Ok(self.file.is_some())
    }

    /// Begins to read the next packed segments, a few at once: they are unpacked side by side. One that is not packed, or in which
    /// sessions may begin that are wanted, is opened when it is its turn.
    fn look_ahead(&mut self) -> Result<(), ReadError> {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let most = threads.min(MAX_SEGMENTS_AHEAD - 1) + 1;
        let segments = segment::list(&self.dir).map_err(|error| ReadError::io(&self.dir, error))?;
        let reached = self.reached.max(self.before);
        for (at, segment) in segments.iter().enumerate().filter(|(_, segment)| segment.number > reached) {
            let alone = !segment.packed || segment.number >= self.known;
            if self.ahead.len() >= most || (alone && !self.ahead.is_empty()) {
                break;
            }
            if !self.is_excluded(&segments, at) {
                let reader = self.open(segment)?;
                self.ahead.push_back((segment.clone(), reader));
            }
            self.reached = segment.number;
            if alone && !self.ahead.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// Returns whether the summaries of this segment and its neighbours say that it has nothing that is wanted.
    fn is_excluded(&mut self, segments: &[Segment], at: usize) -> bool {
        let Some(this) = segments
            .get(at)
            .filter(|_| self.by_summary && *self.joiner.filter() != Filter::default())
        else {
            return false;
        };
        let around = [at.checked_sub(1), Some(at), at.checked_add(1)];
        let [before, this_one, behind] = around.map(|at| segments.get(at?).filter(|segment| segment.packed));
        for segment in [before, this_one, behind].into_iter().flatten() {
            let summary = || SegmentSummary::load(segment);
            self.summaries.entry(segment.number).or_insert_with(summary);
        }
        self.summaries = self.summaries.split_off(&before.map_or(0, |before| before.number));
        let summary = |segment: Option<&Segment>| self.summaries.get(&segment?.number)?.as_ref();
        let Some(summary_of_this) = summary(this_one) else {
            return false;
        };
        let neighbours = Neighbours {
            before: summary(before),
            this: summary_of_this,
            behind: summary(behind),
        };
        // Sessions that are wanted may begin in one that was not reached when they were looked for.
        let excludes = |joiner: &RecordJoiner| this.number < self.known && !joiner.may_be_in(summary_of_this);
        !self.joiner.filter().may_be_in(neighbours) || excludes(&self.joiner)
    }

    fn open(&self, segment: &Segment) -> Result<SegmentLines, ReadError> {
        SegmentLines::open(&self.dir, segment, &self.prefilter).map_err(|error| ReadError::io(&segment.path, error))
    }
}

/// Parses a line if it may match, and offers it to the selector.
fn choose(
    line: &[u8],
    (file, number): (&Path, u64),
    joiner: &mut RecordJoiner,
    ready: &mut VecDeque<Result<LogRecord, ReadError>>,
) -> Result<(), ReadError> {
    let malformed = |error| ReadError::Malformed {
        file: file.to_owned(),
        line: number,
        source: Arc::new(error),
    };
    if !joiner.may_want(line) {
        return Ok(());
    }
    let record = LogRecord::parse(line).map_err(|error| match error {
        RecordError::Malformed(error) => malformed(error),
        RecordError::Version(version) => ReadError::Version {
            file: file.to_owned(),
            line: number,
            version,
        },
    })?;
    joiner.offer(record, |record| ready.push_back(Ok(record)));
    if joiner.let_go() {
        let file = file.to_owned();
        return Err(ReadError::TooMuch { file, line: number });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
