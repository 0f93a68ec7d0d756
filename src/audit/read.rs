//! Reads the log in order, line by line, also while it is being written.
//!
//! This module changes nothing in the log. A line that cannot be read is reported in its place and never skipped silently,
//! unless it begins and ends like a record and cannot match the filter.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::filter::{Filter, LinePrefilter, Neighbours, ORIGIN_EVENTS, RecordJoiner};
use super::record::{LogRecord, RecordError};
use super::saved_checkpoint::UnreadableError;
use super::segment::{self, MAX_LINE_BYTES, NextLine, Segment};
use super::summary::SegmentSummary;
use lines::SegmentLines;

mod lines;

/// Number of times that an unfinished last line is read again before it is reported: usually it is being written.
pub(super) const MAX_LAST_LINE_READS: u32 = 5;
/// Number of packed segments that are unpacked at once: each may hold a few lines of the greatest length.
const MAX_SEGMENTS_AHEAD: usize = 5;
/// Time between two attempts to read the end.
const REREAD_INTERVAL: Duration = Duration::from_millis(10);

/// Error of a line, or of reading as such.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// The folder or a file cannot be read. Reading ends here.
    #[error(transparent)]
    Io(#[from] UnreadableError),
    /// A line is not a record.
    #[error("{}, line {line}: not a record: {source}", file.display())]
    Malformed {
        /// Path of the file.
        file: PathBuf,
        /// Number of the line, from 1.
        line: u64,
        /// Error of the parser.
        source: Arc<serde_json::Error>,
    },
    /// The line was written by a newer program.
    #[error("{}, line {line}: unknown record version {version}; use a newer tidegate", file.display())]
    Version {
        /// Path of the file.
        file: PathBuf,
        /// Number of the line, from 1.
        line: u64,
        /// Version of the line.
        version: u32,
    },
    /// The line is longer than any record.
    #[error("{}, line {line}: longer than {MAX_LINE_BYTES} bytes", file.display())]
    TooLong {
        /// Path of the file.
        file: PathBuf,
        /// Number of the line, from 1.
        line: u64,
    },
    /// More statements without an outcome, or more wanted sessions, than can be remembered: no gate leaves as many.
    #[error("{}, line {line}: too many records before it to keep track of; the output may be incomplete", file.display())]
    TooMuch {
        /// Path of the file.
        file: PathBuf,
        /// Number of the line, from 1.
        line: u64,
    },
    /// Records that were to be held back, to be sorted or for the newest of them, take too much memory.
    #[error("{count} of the requested records are too large to sort; ask for fewer, or for a shorter time")]
    NotHeldBack {
        /// Number of the records that were not held back.
        count: u64,
    },
    /// A packed segment cannot be unpacked. Reading continues with the next one.
    #[error("{}: damaged after line {after}; the rest of the file is not shown: {source}", file.display())]
    Damaged {
        /// Path of the file.
        file: PathBuf,
        /// Number of the last line that was read, from 1.
        after: u64,
        /// Error of the decompression.
        source: Arc<io::Error>,
    },
    /// A file ends in the middle of a line: the gate crashed while writing it (its next start cuts it off and records that).
    #[error("{}, line {line}: the file ends inside the line, after {bytes} bytes", file.display())]
    Unfinished {
        /// Path of the file.
        file: PathBuf,
        /// Number of the line, from 1.
        line: u64,
        /// Number of bytes of the line.
        bytes: u64,
    },
}

/// Reads the records of the log that pass the filter, oldest first, up to the end of the log when it is reached. Blocks.
pub fn read(dir: &Path, filter: &Filter) -> Result<LogRecords, ReadError> {
    Ok(LogScan::oldest(dir, filter)?.into())
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
    Ok(scan.into())
}

/// Iterator over the records of [`read`]. An error takes the place of its line; [`ReadError::Io`] is the last item.
#[derive(Debug)]
pub struct LogRecords {
    scan: LogScan,
    ready: VecDeque<Result<LogRecord, ReadError>>,
    over: bool,
}

impl From<LogScan> for LogRecords {
    fn from(scan: LogScan) -> Self {
        Self {
            scan,
            ready: VecDeque::new(),
            over: false,
        }
    }
}

impl Iterator for LogRecords {
    type Item = Result<LogRecord, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut looks = 0;
        while self.ready.is_empty() && !self.over {
            match self.scan.step(&mut self.ready) {
                Ok(ScanStep::Read) => {}
                Ok(ScanStep::End) => self.over = true,
                Ok(ScanStep::Partial(_)) if looks < MAX_LAST_LINE_READS => {
                    looks += 1;
                    thread::sleep(REREAD_INTERVAL);
                }
                Ok(ScanStep::Partial(error)) | Err(error) => {
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
    ahead: VecDeque<SegmentLines>,
    file: Option<SegmentLines>,
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
}

impl LogScan {
    /// Starts at the first line of the first file.
    pub(super) fn oldest(dir: &Path, filter: &Filter) -> Result<Self, ReadError> {
        segment::list(dir).map_err(|error| UnreadableError::new(dir, error))?;
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

    /// Starts again at the beginning of a segment.
    pub(super) fn again_from(&self, segment: u32) -> Result<Self, ReadError> {
        Self::from_segment(&self.dir, self.joiner.filter(), segment)
    }

    /// Returns the number of the oldest segment.
    pub(super) fn first_segment(&self) -> Result<Option<u32>, ReadError> {
        let segments = segment::list(&self.dir).map_err(|error| UnreadableError::new(&self.dir, error))?;
        Ok(segments.first().map(|first| first.number))
    }

    /// Starts at the end of the newest file. Line numbers in errors count from there.
    pub(super) fn newest(dir: &Path, filter: &Filter) -> Result<Self, ReadError> {
        let mut scan = Self::oldest(dir, filter)?;
        let newest = segment::list(dir).map_err(|error| UnreadableError::new(dir, error))?.pop();
        if let Some(segment) = newest {
            let mut open = scan.open(&segment)?;
            open.skip_to_end().map_err(|error| UnreadableError::new(&open.path, error))?;
            scan.reached = open.number;
            scan.file = Some(open);
        }
        Ok(scan)
    }

    /// Reads one more line. After an error reading cannot continue.
    pub(super) fn step(&mut self, ready: &mut VecDeque<Result<LogRecord, ReadError>>) -> Result<ScanStep, ReadError> {
        let Some(scan) = self.origins.front_mut() else {
            return self.read_line(ready);
        };
        let mut found = VecDeque::new();
        let begun = scan.reached();
        let step = scan.read_line(&mut found);
        if found.iter().any(Result::is_err) {
            // Sessions may begin in what could not be read: nothing from here on is left out for not being theirs. The line is
            // reported when the scan itself reads it.
            self.known = self.known.min(begun);
        }
        found.iter().flatten().for_each(|record| self.joiner.know(&record.event));
        if !matches!(step?, ScanStep::Read) {
            self.known = self.known.min(scan.reached());
            self.origins.pop_front();
        }
        Ok(ScanStep::Read)
    }

    /// Returns the number of the segment that is read, or was read last.
    fn reached(&self) -> u32 {
        self.file.as_ref().map_or(self.before, |file| file.number)
    }

    fn read_line(&mut self, ready: &mut VecDeque<Result<LogRecord, ReadError>>) -> Result<ScanStep, ReadError> {
        let Some(open) = &mut self.file else {
            return self.go_on(None);
        };
        let number = open.number;
        match open.read() {
            Err(error) if open.is_packed() => {
                let (file, after, source) = (open.path.clone(), open.lines, Arc::new(error));
                ready.push_back(Err(ReadError::Damaged { file, after, source }));
                self.go_on(Some(number))
            }
            Err(error) => Err(UnreadableError::new(&open.path, error).into()),
            Ok(NextLine::Line) => {
                open.final_look = false;
                if let Err(error) = choose(open, &mut self.joiner, ready) {
                    ready.push_back(Err(error));
                }
                Ok(ScanStep::Read)
            }
            Ok(NextLine::TooLong) => {
                let (file, line) = (open.path.clone(), open.lines);
                ready.push_back(Err(ReadError::TooLong { file, line }));
                Ok(ScanStep::Read)
            }
            Ok(NextLine::Rest(bytes)) => {
                let looked = std::mem::replace(&mut open.final_look, true);
                let unfinished = (bytes > 0).then(|| ReadError::Unfinished {
                    file: open.path.clone(),
                    line: open.lines + 1,
                    bytes,
                });
                let next = segment::after(&self.dir, number).map_err(|error| UnreadableError::new(&self.dir, error))?;
                if next.is_none() {
                    open.final_look = false;
                    return Ok(unfinished.map_or(ScanStep::End, ScanStep::Partial));
                }
                if looked {
                    ready.extend(unfinished.map(Err));
                    return self.go_on(Some(number));
                }
                open.is_closed(&self.dir)
                    .map_err(|error| UnreadableError::new(&self.dir, error))?;
                Ok(ScanStep::Read)
            }
        }
    }

    /// Goes on in the file after this one, or ends.
    fn go_on(&mut self, number: Option<u32>) -> Result<ScanStep, ReadError> {
        self.before = number.unwrap_or(self.before);
        self.look_ahead()?;
        self.file = self.ahead.pop_front();
        if self.file.is_some() {
            return Ok(ScanStep::Read);
        }
        self.before = self.before.max(self.reached);
        Ok(ScanStep::End)
    }

    /// Begins to read the next packed segments, a few at once: they are unpacked side by side. One that is not packed, or in which
    /// sessions may begin that are wanted, is opened when it is its turn.
    fn look_ahead(&mut self) -> Result<(), ReadError> {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let most = threads.min(MAX_SEGMENTS_AHEAD - 1) + 1;
        let segments = segment::list(&self.dir).map_err(|error| UnreadableError::new(&self.dir, error))?;
        let reached = self.reached.max(self.before);
        for (at, segment) in segments.iter().enumerate().filter(|(_, segment)| segment.number > reached) {
            let alone = !segment.packed || segment.number >= self.known;
            if self.ahead.len() >= most || (alone && !self.ahead.is_empty()) {
                break;
            }
            if !self.is_excluded(&segments, at) {
                let open = self.open(segment)?;
                self.ahead.push_back(open);
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
        let filter = self.joiner.filter();
        let summary = self
            .summaries
            .get(&segment.number)
            .filter(|_| filter.unread && segment.packed);
        let few = summary.and_then(|summary| summary.as_ref()?.unread());
        let prefilter = few.map(|few| Arc::new(LinePrefilter::among(filter, few)));
        let lines = SegmentLines::open(&self.dir, segment, prefilter.as_ref().unwrap_or(&self.prefilter));
        Ok(lines.map_err(|error| UnreadableError::new(&segment.path, error))?)
    }
}

/// Parses the line that was read last if it may match, and offers it to the selector.
fn choose(
    open: &SegmentLines,
    joiner: &mut RecordJoiner,
    ready: &mut VecDeque<Result<LogRecord, ReadError>>,
) -> Result<(), ReadError> {
    if !joiner.may_want(open.line()) {
        return Ok(());
    }
    let (file, line) = (|| open.path.clone(), open.lines);
    let record = LogRecord::parse(open.line()).map_err(|error| match error {
        RecordError::Malformed(error) => ReadError::Malformed {
            file: file(),
            line,
            source: Arc::new(error),
        },
        RecordError::Version(version) => ReadError::Version {
            file: file(),
            line,
            version,
        },
    })?;
    joiner.offer(record, |record| ready.push_back(Ok(record)));
    if joiner.let_go() {
        return Err(ReadError::TooMuch { file: file(), line });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
