//! State of the log that a gate finds at its start: the end of the chain, and faults.
//!
//! This module changes nothing. It checks only the newest segment, and that the log reaches to the checkpoints that say where
//! its end has to be; [`super::verify`] checks the whole log.

use std::io;
use std::path::Path;

use jiff::Timestamp;

use super::chain::{ChainLink, ChainTip, LinkMark, number, split};
use super::encode::LineBuffer;
use super::event::{Event, JournalFault, JournalHealed, KeyChanged, SegmentBegan};
use super::key::PublicKey;
use super::record::{LogRecord, name_of};
use super::saved_checkpoint::{RememberedTip, SavedCheckpoint};
use super::segment::{self, NextLine, Segment, next_line};
use crate::model::ids::LogId;

/// Number of faults that one start reports: a gate leaves a handful.
const MAX_FAULTS: usize = 100;

/// State of the log.
#[derive(Debug, Default)]
pub(super) struct RecoveredState {
    pub(super) log: Option<LogId>,
    /// Newest segment, with its length up to its last whole line; absent in an empty folder.
    pub(super) newest: Option<(Segment, u64)>,
    /// Time at which the newest segment with a line began.
    pub(super) began: Option<Timestamp>,
    pub(super) tip: ChainTip,
    /// Number of the last line that is signed or a signature.
    pub(super) signed: u64,
    /// Key of the next signature.
    pub(super) key: Option<PublicKey>,
    /// Old and new key of a change that the old one has not vouched for yet.
    changing: Option<(PublicKey, PublicKey)>,
    /// True if nothing may be appended to the existing segment: a new one is due.
    pub(super) broken: bool,
    /// True if a segment before the newest ends in the middle of a line; the newest has no line yet, and its first one has to
    /// say so.
    pub(super) rest_void: bool,
    pub(super) faults: Vec<JournalHealed>,
    /// Checkpoints outside the log, with the log's links at their lines.
    ends: Vec<ExpectedEnd>,
}

/// Checkpoint outside the log that the log has to contain.
#[derive(Debug)]
struct ExpectedEnd {
    kept: SavedCheckpoint,
    /// Origin of the checkpoint, for messages.
    source: &'static str,
    /// Link after that line, as the log has it.
    found: Option<ChainLink>,
}

/// Reads the state of the log in the folder, and compares it with what the ledger remembers of it.
pub(super) fn recover(dir: &Path, remembered: &RememberedTip) -> io::Result<RecoveredState> {
    let mut found = RecoveredState {
        // The checkpoint is read before the log: a line that it covers is in the log before the checkpoint is beside it. One
        // that cannot be read counts as absent, because the ledger has it, too.
        ends: ends(remembered, SavedCheckpoint::beside(dir).ok().flatten()),
        ..RecoveredState::default()
    };
    let segments = segment::list(dir)?;
    // A segment without a line says nothing about the chain; the one before it does.
    for segment in segments.iter().rev() {
        let (length, rest) = found.read(segment)?;
        found.rest_void |= found.newest.is_some() && rest > 0;
        found.newest.get_or_insert_with(|| (segment.clone(), length));
        if length > 0 {
            break;
        }
    }
    found.look_back(&segments)?;
    found.compare(remembered);
    Ok(found)
}

fn ends(remembered: &RememberedTip, beside: Option<SavedCheckpoint>) -> Vec<ExpectedEnd> {
    let ledger = remembered.kept().cloned().map(|kept| (kept, "the ledger"));
    let beside = beside.map(|kept| (kept, "the last checkpoint"));
    let end = |(kept, source)| ExpectedEnd {
        kept,
        source,
        found: None,
    };
    ledger.into_iter().chain(beside).map(end).collect()
}

impl RecoveredState {
    /// Records the faults, and the change to another signing key.
    pub(super) fn note(&self, key: PublicKey, now: Timestamp, notes: &mut LineBuffer) -> Result<(), serde_json::Error> {
        if let Some(gap) = self.gap() {
            tracing::error!(
                gap,
                "the audit log is incomplete or was changed; this is recorded, and `tidegate audit verify` and reports show it; look for the missing records in a copy or at the log's receiver"
            );
        }
        for fault in self.faults.iter().filter(|fault| !fault.fault.is_gap()) {
            tracing::warn!(fault = ?fault.fault, detail = fault.detail, "the audit log is damaged; recorded the fault and continuing");
        }
        for fault in &self.faults {
            notes.push(now, &Event::JournalHealed(fault.clone()))?;
        }
        let Some(previous) = self.key.filter(|known| *known != key) else {
            return Ok(());
        };
        tracing::warn!(
            was = previous.id(),
            is = key.id(),
            "the audit key has changed; signing new records with it"
        );
        let changed = KeyChanged {
            key,
            previous,
            vouched: false,
            by: "gate".to_owned(),
        };
        notes.push(now, &Event::KeyChanged(changed))
    }

    /// Returns a description of what is missing, if anything is.
    pub(super) fn gap(&self) -> Option<String> {
        let gap = self.faults.iter().find(|fault| fault.fault.is_gap())?;
        let detail = gap.detail.as_deref().unwrap_or_default();
        Some(format!("{}: {detail}", gap.fault.words()))
    }

    /// Follows the chain through a segment; returns the offset after its last whole line, and the number of bytes after it.
    fn read(&mut self, segment: &Segment) -> io::Result<(u64, u64)> {
        let mut lines = segment.open()?;
        let mut line = Vec::new();
        let (mut end, mut count) = (0, 0_u64);
        loop {
            match next_line(&mut lines, &mut line)? {
                NextLine::Line => {}
                // The line cannot fit the chain; nothing is appended to this segment, so its end does not matter.
                NextLine::TooLong => {
                    self.follow(b"", segment, count + 1);
                    return Ok((end + line.len() as u64 + io::copy(&mut lines, &mut io::sink())?, 0));
                }
                NextLine::Rest(rest) => {
                    if rest > 0 {
                        let place = format!("{}, behind line {count}", segment.path.display());
                        self.fault(JournalFault::TornTail, rest, place);
                    }
                    return Ok((end, rest));
                }
            }
            (end, count) = (end + line.len() as u64 + 1, count + 1);
            if count == 1 {
                self.begin(&line);
            }
            self.follow(&line, segment, count);
        }
    }

    /// Takes the state of the chain from the first line of a segment.
    fn begin(&mut self, line: &[u8]) {
        if let Some((time, tip, began)) = opening(line) {
            (self.began, self.tip) = (Some(time), tip);
            (self.log, self.key) = (Some(began.log), Some(began.key));
        }
    }

    fn follow(&mut self, line: &[u8], segment: &Segment, count: u64) {
        match self.tip.follow(line) {
            Ok(tip) => self.tip = tip,
            Err(breach) => {
                if !self.broken {
                    self.broken = true;
                    let place = format!("{}, line {count}: {breach}", segment.path.display());
                    self.fault(JournalFault::ChainBroken, 0, place);
                }
                // The chain continues over the existing line, so that later lines can be followed.
                let (body, _) = split(line).unwrap_or((line, LinkMark::default()));
                self.tip = ChainTip {
                    seq: number(line).unwrap_or_default().max(self.tip.seq + 1),
                    link: self.tip.link.after(body),
                };
            }
        }
        for end in &mut self.ends {
            if end.kept.checkpoint.covers == self.tip.seq {
                end.found = Some(self.tip.link);
            }
        }
        // Only these few kinds of lines are parsed.
        if matches!(name_of(line), Some("checkpoint" | "key_changed")) {
            match LogRecord::parse(line).map(|record| record.event) {
                Ok(Event::Checkpoint(checkpoint)) => {
                    let vouched = self.changing.take_if(|(old, _)| *old == checkpoint.key);
                    (self.signed, self.key) = (self.tip.seq, Some(vouched.map_or(checkpoint.key, |(_, new)| new)));
                }
                Ok(Event::KeyChanged(changed)) if changed.vouched => self.changing = Some((changed.previous, changed.key)),
                Ok(Event::KeyChanged(changed)) => self.key = Some(changed.key),
                _ => {}
            }
        }
    }

    /// Looks for the checkpoints' lines in segments before the newest: a ledger that could not be written for a while remembers
    /// an earlier end.
    fn look_back(&mut self, segments: &[Segment]) -> io::Result<()> {
        let Self { log, tip, ends, .. } = self;
        let inside =
            |end: &&mut ExpectedEnd| Some(&end.kept.checkpoint.log) == log.as_ref() && end.kept.checkpoint.covers <= tip.seq;
        for end in ends.iter_mut().filter(|end| end.found.is_none()).filter(inside) {
            end.found = link_at(segments, end.kept.checkpoint.covers)?;
        }
        Ok(())
    }

    /// Compares the log with the checkpoints that say where its end has to be.
    fn compare(&mut self, remembered: &RememberedTip) {
        let gap = match (remembered, &self.log) {
            (RememberedTip::NoLedger | RememberedTip::Damaged, Some(_)) => Some((
                JournalFault::LedgerMissing,
                format!(
                    "the ledger that knew the end of the log is not there; what is left of the log ends at line {}",
                    self.tip.seq
                ),
            )),
            (RememberedTip::At(kept), log) if log.as_ref() != Some(&kept.checkpoint.log) => {
                let known = format!(
                    "the ledger knows log {} up to line {}",
                    kept.checkpoint.log, kept.checkpoint.covers
                );
                Some(match log {
                    None => (JournalFault::LogMissing, format!("{known}; a new log begins")),
                    Some(log) => (JournalFault::LogReplaced, format!("{known}; this is log {log}")),
                })
            }
            _ => self.shortened().or_else(|| self.rewritten()),
        };
        if let Some((fault, detail)) = gap {
            self.fault(fault, 0, detail);
        }
    }

    /// Returns the number of lines that are missing at the end.
    fn shortened(&self) -> Option<(JournalFault, String)> {
        let ours = |end: &&ExpectedEnd| self.log.as_ref().is_none_or(|log| *log == end.kept.checkpoint.log);
        let last = self.ends.iter().filter(ours).max_by_key(|end| end.kept.checkpoint.covers)?;
        let covers = last.kept.checkpoint.covers;
        let missing = covers.checked_sub(self.tip.seq).filter(|missing| *missing > 0)?;
        let detail = format!(
            "{missing} lines: {} covers {covers}, the log ends at {}",
            last.source, self.tip.seq
        );
        Some((JournalFault::LinesMissing, detail))
    }

    /// Returns the fault of a signed line that is another one now. A line that was removed for its age cannot be compared.
    fn rewritten(&self) -> Option<(JournalFault, String)> {
        let other = |end: &&ExpectedEnd| end.found.is_some_and(|found| found != end.kept.checkpoint.link);
        let end = self.ends.iter().find(other)?;
        let detail = format!(
            "line {} is not the one that {} covers",
            end.kept.checkpoint.covers, end.source
        );
        Some((JournalFault::LogRewritten, detail))
    }

    fn fault(&mut self, fault: JournalFault, cut_bytes: u64, detail: String) {
        if self.faults.len() >= MAX_FAULTS && !fault.is_gap() {
            return;
        }
        self.faults.push(JournalHealed {
            cut_bytes,
            detail: Some(detail),
            ..JournalHealed::of(fault)
        });
    }
}

/// Returns the link after this line, from the segment that has it; `None` if there is none, or the chain cannot be followed
/// that far.
fn link_at(segments: &[Segment], seq: u64) -> io::Result<Option<ChainLink>> {
    let mut line = Vec::new();
    for segment in segments.iter().rev() {
        let mut lines = segment.open()?;
        if next_line(&mut lines, &mut line)? != NextLine::Line {
            continue;
        }
        let Some((_, mut tip, _)) = opening(&line) else {
            return Ok(None);
        };
        if tip.seq >= seq {
            continue;
        }
        while let Ok(next) = tip.follow(&line) {
            tip = next;
            if tip.seq == seq {
                return Ok(Some(tip.link));
            }
            if next_line(&mut lines, &mut line)? != NextLine::Line {
                break;
            }
        }
        return Ok(None);
    }
    Ok(None)
}

/// Returns the last line of the segments before, if the first line of the next one says that their files may have further
/// bytes.
pub(super) fn voids_behind(first: &[u8]) -> Option<u64> {
    opening(first)
        .filter(|(.., began)| began.rest_void)
        .and_then(|_| number(first)?.checked_sub(1))
}

/// Returns the event in the first line of a segment, with its time and the tip before it, if it is one.
fn opening(line: &[u8]) -> Option<(Timestamp, ChainTip, SegmentBegan)> {
    let LogRecord { seq, time, event, .. } = LogRecord::parse(line).ok()?;
    let Event::SegmentBegan(began) = event else { return None };
    let tip = ChainTip {
        seq: seq.saturating_sub(1),
        link: began.previous,
    };
    Some((time, tip, began.into_owned()))
}
