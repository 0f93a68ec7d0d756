//! Scan of one segment: the chain through it, up to its first flaw, and the lines that decide about the log.
//!
//! This module does not know the other segments, and trusts no key: it only says whether a checkpoint is signed with the key it
//! names.
//!
//! INVARIANT: memory does not grow with the segment. Only decisive checkpoints are kept (a signature covers everything before
//! it, so these are the last of each run with the same key, and those looked for), and no line is held that is longer than
//! those of a gate.

use std::io;

use jiff::{SignedDuration, Timestamp};

use super::flaw::ExcessKind;
use super::{LogFlaw, UnreadableError};
use crate::audit::chain::{ChainBreach, ChainTip, number};
use crate::audit::checkpoint::Checkpoint;
use crate::audit::event::{Event, JournalHealed, KeyChanged, SegmentBegan, SegmentsRemoved};
use crate::audit::record::{LogRecord, event_of, time_of};
use crate::audit::segment::{NextLine, Segment, next_line};
use crate::audit::text::TIME_BYTES;
use crate::base::visible;

/// Number of lines about the log itself that are kept of one segment: a gate that changed its key every second for a day has
/// fewer.
const MAX_FRAMES: usize = 200_000;
/// Number of lines about the log itself that are kept of all segments together.
const MAX_TOTAL_FRAMES: usize = 1_000_000;
/// Number of characters that are kept of the detail of a fault.
const MAX_DETAIL_CHARS: usize = 1_000;
/// Number of faults of one segment that are kept.
const MAX_FAULTS: u64 = 1_000;
/// Number of bytes between two reports of progress.
const PROGRESS_BYTES: u64 = 1 << 22;

/// Result of the scan of a segment.
#[derive(Debug)]
pub(super) struct SegmentScan {
    pub(super) segment: Segment,
    pub(super) began: Option<SegmentBegan>,
    /// Tips of the chain before its first line and after its last good one.
    pub(super) start: ChainTip,
    pub(super) end: ChainTip,
    pub(super) lines: u64,
    pub(super) bytes: u64,
    pub(super) frames: Vec<FrameLine>,
    /// Number of faults that are not among the frames because there are too many.
    pub(super) more_faults: u64,
    pub(super) unsigned: UnsignedSpan,
    pub(super) flaw: Option<LogFlaw>,
    /// Number of bytes after the last whole line.
    pub(super) unfinished: u64,
    /// Number of bytes that are no part of the log, as the segment after it says.
    pub(super) void: u64,
    faults: u64,
    /// Index of the last checkpoint among the frames.
    last_checkpoint: Option<usize>,
}

/// Line about the log itself.
#[derive(Debug)]
pub(super) struct FrameLine {
    pub(super) seq: u64,
    pub(super) what: FrameKind,
}

#[derive(Debug)]
pub(super) enum FrameKind {
    /// Checkpoint, with the time that is signed with it.
    Checkpoint(Checkpoint, Timestamp),
    KeyChanged(KeyChanged),
    Removed(SegmentsRemoved),
    Healed(JournalHealed, Timestamp),
}

/// Time as it is written in a line: the order of such texts is that of the times.
type LineTime = [u8; TIME_BYTES];

/// Range of the times of the lines after the last checkpoint.
#[derive(Debug, Default)]
pub(super) struct UnsignedSpan {
    signed_at: Option<LineTime>,
    first_and_last: Option<(LineTime, LineTime)>,
}

impl UnsignedSpan {
    /// Returns the span of those lines that are younger than the checkpoint; `None` if one of them has no valid time.
    pub(super) fn span(&self) -> Option<SignedDuration> {
        let time = |text: &LineTime| str::from_utf8(text).ok()?.parse::<Timestamp>().ok();
        match &self.first_and_last {
            None => Some(SignedDuration::ZERO),
            Some((first, last)) => Some(time(last)?.duration_since(time(first)?)),
        }
    }

    fn take(&mut self, time: LineTime) {
        if self.signed_at.is_some_and(|signed| time <= signed) {
            return;
        }
        match &mut self.first_and_last {
            None => self.first_and_last = Some((time, time)),
            Some((_, last)) if *last <= time => *last = time,
            Some((first, _)) => *first = time.min(*first),
        }
    }

    fn sign(&mut self, time: LineTime) {
        (self.signed_at, self.first_and_last) = (Some(time), None);
    }
}

/// Options of the scan of a segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct ScanOptions<'a> {
    /// Tips of checkpoints that are looked for.
    wanted: &'a [ChainTip],
    /// Last line of the segment that belongs to the log.
    last: u64,
    /// True to check every signature, and not only those that decide.
    every: bool,
}

impl<'a> ScanOptions<'a> {
    /// Returns options that keep the checkpoints with these tips.
    pub(super) fn for_checkpoints(wanted: &'a [ChainTip]) -> Self {
        Self {
            wanted,
            last: u64::MAX,
            every: false,
        }
    }

    /// Returns the same options, but with nothing after this line.
    pub(super) fn up_to(self, last: u64) -> Self {
        Self { last, ..self }
    }

    /// Follows the chain through one segment, up to its first flaw, or to its last line that belongs to the log.
    pub(super) fn scan(self, segment: &Segment, progress: &impl Fn(u64)) -> Result<SegmentScan, UnreadableError> {
        let heard = self.follow(segment, progress)?;
        if self.every || heard.is_genuine() {
            return Ok(heard);
        }
        // A second scan finds the first false signature.
        Self { every: true, ..self }.follow(segment, &|_| ())
    }

    fn follow(self, segment: &Segment, progress: &impl Fn(u64)) -> Result<SegmentScan, UnreadableError> {
        let unreadable = |error| UnreadableError::new(&segment.path, error);
        let mut heard = SegmentScan::of(segment);
        let mut lines = segment.open().map_err(unreadable)?;
        let mut line = Vec::new();
        let mut told = 0;
        loop {
            let next = match next_line(&mut lines, &mut line) {
                // A packed segment that is damaged or cut is a flaw of the log, not an error of reading.
                Err(_) if segment.packed => {
                    heard.flaw = Some(LogFlaw::Damaged {
                        file: segment.path.clone(),
                        after: heard.lines,
                    });
                    break;
                }
                answer => answer.map_err(unreadable)?,
            };
            let read = line.len() as u64 + u64::from(next == NextLine::Line);
            if heard.is_void_behind(self.last, &line, read) {
                // An error in the void part does not matter.
                heard.void = read + io::copy(&mut lines, &mut io::sink()).unwrap_or(0);
                break;
            }
            if let NextLine::Rest(rest) = next {
                heard.unfinished = rest;
                break;
            }
            heard.lines += 1;
            heard.bytes += read;
            if heard.bytes - told >= PROGRESS_BYTES {
                progress(heard.bytes - told);
                told = heard.bytes;
            }
            if next == NextLine::TooLong {
                heard.exceeds(ExcessKind::Line);
                break;
            }
            if !heard.take(&line, self) {
                break;
            }
        }
        progress(heard.bytes - told);
        Ok(heard)
    }
}

impl SegmentScan {
    fn of(segment: &Segment) -> Self {
        Self {
            segment: segment.clone(),
            began: None,
            start: ChainTip::START,
            end: ChainTip::START,
            lines: 0,
            bytes: 0,
            frames: Vec::new(),
            more_faults: 0,
            unsigned: UnsignedSpan::default(),
            flaw: None,
            unfinished: 0,
            void: 0,
            faults: 0,
            last_checkpoint: None,
        }
    }

    /// Returns the last line of the log in the segments before, if this one says that their files may have further bytes.
    pub(super) fn voids_behind(&self) -> Option<u64> {
        let began = self.began.as_ref()?;
        began.rest_void.then_some(self.start.seq)
    }

    /// Returns true if the next bytes (at least a part of a line) are after the last line of the segment that belongs to the
    /// log.
    fn is_void_behind(&self, last: u64, next: &[u8], length: u64) -> bool {
        let done = match &self.began {
            Some(_) => self.end.seq >= last,
            None => self.lines == 0 && last < u64::MAX && number(next).is_none_or(|first| first > last),
        };
        done && length > 0
    }

    /// Frees the kept lines if all segments together have kept too many; this is then a flaw.
    pub(super) fn fit(&mut self, kept: &mut usize) {
        *kept += self.frames.len();
        if *kept > MAX_TOTAL_FRAMES {
            *kept -= self.frames.len();
            (self.frames, self.last_checkpoint) = (Vec::new(), None);
            self.exceeds(ExcessKind::Frames);
        }
    }

    /// Returns true if the decisive signatures were made with the keys that they name.
    fn is_genuine(&self) -> bool {
        self.frames.iter().all(|frame| match &frame.what {
            FrameKind::Checkpoint(checkpoint, time) => checkpoint.is_genuine(*time),
            _ => true,
        })
    }

    /// Takes the next line; returns false at a flaw.
    fn take(&mut self, line: &[u8], options: ScanOptions<'_>) -> bool {
        if self.lines == 1
            && let Ok(Event::SegmentBegan(began)) = LogRecord::parse(line).map(|record| record.event)
        {
            self.start = ChainTip {
                seq: number(line).unwrap_or(1).saturating_sub(1),
                link: began.previous,
            };
            self.end = self.start;
            self.began = Some(began.into_owned());
        }
        let before = self.end;
        match self.end.follow(line) {
            // Without its first line, a segment cannot be followed.
            Ok(tip) if self.began.is_some() => self.end = tip,
            Ok(_) => self.breach(ChainBreach::Foreign),
            Err(breach) => self.breach(breach),
        }
        if self.flaw.is_none() {
            self.look(line, before, options);
        }
        self.flaw.is_none()
    }

    fn breach(&mut self, breach: ChainBreach) {
        self.flaw = Some(LogFlaw::Line {
            file: self.segment.path.clone(),
            line: self.lines,
            seq: self.end.seq + 1,
            breach,
        });
    }

    fn exceeds(&mut self, excess: ExcessKind) {
        self.flaw = Some(LogFlaw::Excess {
            file: self.segment.path.clone(),
            line: self.lines,
            excess,
        });
    }

    /// Notes the time of a line, and keeps the line if it is about the log itself.
    fn look(&mut self, line: &[u8], before: ChainTip, options: ScanOptions<'_>) {
        let Some((time, rest)) = time_of(line) else {
            return self.breach(ChainBreach::Foreign);
        };
        let time = time.as_bytes().try_into().unwrap_or([0; TIME_BYTES]);
        let name = event_of(rest).map(|(name, _)| name);
        if name == Some(b"checkpoint") {
            self.unsigned.sign(time);
        } else {
            self.unsigned.take(time);
        }
        if !matches!(
            name,
            Some(b"checkpoint" | b"key_changed" | b"segments_removed" | b"journal_healed")
        ) {
            return;
        }
        let Ok(record) = LogRecord::parse(line) else {
            return self.breach(ChainBreach::Foreign);
        };
        match record.event {
            Event::Checkpoint(checkpoint) if checkpoint.tip() == before => {
                self.checkpoint(checkpoint.into_owned(), record.time, options);
            }
            Event::KeyChanged(mut changed) => {
                changed.by = String::new();
                self.keep(FrameKind::KeyChanged(changed));
            }
            Event::SegmentsRemoved(removed) => self.keep(FrameKind::Removed(removed)),
            Event::JournalHealed(healed) => self.fault(healed, record.time),
            _ => self.breach(ChainBreach::Changed),
        }
    }

    /// Keeps a checkpoint, in place of the one before it if that one is superseded.
    fn checkpoint(&mut self, checkpoint: Checkpoint, time: Timestamp, options: ScanOptions<'_>) {
        if options.every && !checkpoint.is_genuine(time) {
            self.flaw = Some(LogFlaw::Forged {
                file: self.segment.path.clone(),
                line: self.lines,
            });
            return;
        }
        let spoken_for = |frame: &FrameLine| match &frame.what {
            FrameKind::Checkpoint(before, _) => before.key == checkpoint.key && !options.wanted.contains(&before.tip()),
            _ => false,
        };
        if let Some(at) = self.last_checkpoint.take()
            && self.frames.get(at).is_some_and(spoken_for)
        {
            self.frames.remove(at);
        }
        self.last_checkpoint = Some(self.frames.len());
        self.keep(FrameKind::Checkpoint(checkpoint, time));
    }

    fn fault(&mut self, mut healed: JournalHealed, time: Timestamp) {
        self.faults += 1;
        // Gaps are kept whatever the number of other faults, because a log with a gap is not whole.
        if self.faults > MAX_FAULTS && !healed.fault.is_gap() {
            self.more_faults += 1;
            return;
        }
        healed.detail = healed.detail.map(|detail| visible::start(&detail, MAX_DETAIL_CHARS));
        self.keep(FrameKind::Healed(healed, time));
    }

    fn keep(&mut self, what: FrameKind) {
        if self.frames.len() >= MAX_FRAMES {
            return self.exceeds(ExcessKind::Frames);
        }
        let seq = self.end.seq;
        self.frames.push(FrameLine { seq, what });
    }
}
