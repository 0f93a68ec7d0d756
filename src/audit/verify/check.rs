//! Joins the scans of the segments into one verdict. Pure.
//!
//! This module reads nothing: the segments were scanned before. The first flaw in the order of the log decides.

use std::collections::BTreeSet;
use std::path::Path;

use jiff::SignedDuration;
use serde::Serialize;

use super::flaw::SignatureHint;
use super::scan::{FrameKind, FrameLine, SegmentScan};
use super::{ChainTip, Checkpoint, CheckpointSource, LogFlaw, PublicKey, Segment, VerifyExpectation};
use crate::audit::event::{JournalHealed, SegmentsRemoved};
use crate::model::ids::LogId;

/// Limit for the span of unsigned lines, by their own times, of a gate: twice [`super::super::checkpoint::SIGN_LAG`], with an
/// allowance for clocks that are corrected meanwhile.
///
/// The rule does not depend on speed, so a gate that is killed, starved or hangs on its disk does not break it. Lines that are
/// older than the checkpoint before them are exempt: a gate that could not write for an hour records the events of that hour
/// afterwards, behind a checkpoint of that time. A forger can give lines such times, or all the same one, but not those of a
/// day's work.
const MAX_UNSIGNED_SPAN: SignedDuration = SignedDuration::from_secs(5);
/// Number of remarks about faults, removals and changes of keys in a verdict.
const MAX_REMARKS: usize = 1_000;

/// Result of a verification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// Id of the log.
    pub log: Option<LogId>,
    /// Number of segments that were read.
    pub segments: usize,
    /// Number of lines.
    pub lines: u64,
    /// Number of bytes, unpacked.
    pub bytes: u64,
    /// Number of the first line; 0 if there is none.
    pub first: u64,
    /// Number of the last good line.
    pub last: u64,
    /// Number of the last line that is signed with a trusted key.
    pub proven: u64,
    /// Short names of the keys that signed.
    pub keys: Vec<String>,
    /// True if a key was given to verify the log with.
    pub key_given: bool,
    /// Line up to which the log had to exist, because one of the checkpoints below covers it.
    pub held_to: Option<u64>,
    /// Checkpoints with which the end of the log was compared.
    pub held_against: Vec<CheckedCheckpoint>,
    /// First flaw, in the order of the log.
    pub flaw: Option<LogFlaw>,
    /// Faults that the gate recorded about its log, and other remarks for the reader.
    pub remarks: Vec<String>,
}

/// Checkpoint with which the end of the log was compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckedCheckpoint {
    /// Origin of the checkpoint.
    pub source: CheckpointSource,
    /// Last line it covers.
    pub covers: u64,
}

impl VerifyReport {
    /// Returns true if there is no flaw.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.flaw.is_none()
    }

    /// Returns the verdict with paths relative to the folder that was verified: that of a copy which no longer exists.
    #[must_use]
    pub fn without_folder(mut self, folder: &Path) -> Self {
        if let Some(file) = self.flaw.as_mut().and_then(LogFlaw::file_mut)
            && let Ok(name) = file.strip_prefix(folder)
        {
            *file = name.to_owned();
        }
        let folder = format!("{}/", folder.display());
        for remark in &mut self.remarks {
            *remark = remark.replace(&folder, "");
        }
        self
    }
}

/// Judges segments in the order of their numbers. The `skipped` ones come before them and were not read.
pub(super) fn check(skipped: &[Segment], heard: &[SegmentScan], expected: &VerifyExpectation) -> VerifyReport {
    let spoken = heard.iter().find(|segment| segment.began.is_some()).or(heard.first());
    let first = spoken.map_or(0, |first| first.start.seq + 1);
    let log = heard
        .iter()
        .find_map(|segment| segment.began.as_ref())
        .map(|began| &began.log);
    // A checkpoint older than the one for which segments were skipped is in those, if it is of this log.
    let comparable = |kept: &Checkpoint| skipped.is_empty() || kept.covers >= first || log.is_some_and(|log| *log != kept.log);
    let checkpoints = || expected.checkpoints().filter(|(_, kept)| comparable(kept));
    let mut verdict = VerifyReport {
        log: log.cloned(),
        segments: heard.len(),
        lines: heard.iter().map(|segment| segment.lines).sum(),
        bytes: heard.iter().map(|segment| segment.bytes).sum(),
        first,
        // The newest segment has no line yet if a gate crashed before it wrote one.
        last: heard.iter().map(|segment| segment.end.seq).max().unwrap_or(0),
        proven: 0,
        keys: Vec::new(),
        key_given: expected.key.is_some(),
        held_to: checkpoints().map(|(_, kept)| kept.covers).max(),
        held_against: checkpoints()
            .map(|(source, kept)| CheckedCheckpoint {
                source,
                covers: kept.covers,
            })
            .collect(),
        flaw: None,
        remarks: Vec::new(),
    };
    let mut trust = KeyTrust::new(expected.key);
    let broken = chain(heard, &mut trust).err();
    verdict.proven = trust.proven;
    verdict.keys = trust.signed_by.iter().map(PublicKey::id).collect();
    let missed = checkpoints().find_map(|(source, kept)| missed(heard, source, kept, &verdict));
    let flaw = broken
        .or_else(|| (verdict.lines == 0).then(|| missed.clone().unwrap_or(LogFlaw::Empty)))
        .or_else(|| trust.flaw())
        .or_else(|| unsigned(heard, verdict.proven))
        .or(missed)
        .or_else(|| gap_on_record(heard, expected.accepted()));
    let gone = match (skipped.first(), heard.first()) {
        (None, Some(first)) if expected.from_start => first.segment.number - 1,
        _ => 0,
    };
    // Removals in the log count as far as the log is proven; if it is not because of another flaw, that one is reported.
    let believed = if flaw.is_some() { u64::MAX } else { verdict.proven };
    let missing = gap(skipped, heard).or_else(|| unsaid(heard, gone, believed));
    verdict.flaw = missing.or(flaw);
    verdict.remarks = remarks(heard, &verdict);
    verdict
}

/// Returns a flaw if segments are missing among those that were not read.
fn gap(skipped: &[Segment], heard: &[SegmentScan]) -> Option<LogFlaw> {
    let mut numbers = skipped.iter().chain(heard.first().map(|first| &first.segment));
    let mut before = numbers.next()?.number;
    numbers.find_map(|segment| {
        let due = std::mem::replace(&mut before, segment.number) + 1;
        (segment.number > due).then(|| LogFlaw::Missing {
            first: due,
            last: segment.number - 1,
        })
    })
}

/// Follows the chain through the segments in order.
fn chain(heard: &[SegmentScan], trust: &mut KeyTrust) -> Result<(), LogFlaw> {
    let mut before: Option<&SegmentScan> = None;
    // These are the log and its tip so far; a segment without a line does not change them.
    let (mut log, mut tip) = (None, None);
    for segment in heard {
        match before {
            // The first segment read has no predecessor.
            None => tip = (segment.segment.number == 1).then_some(ChainTip::START),
            Some(before) => adjoins(before, segment)?,
        }
        follows(log, tip, segment)?;
        trust.scan(segment);
        if let Some(flaw) = &segment.flaw {
            return Err(flaw.clone());
        }
        before = Some(segment);
        if let Some(began) = &segment.began {
            (log, tip) = (Some(&began.log), Some(segment.end));
        }
    }
    Ok(())
}

/// Returns the kept lines of all segments.
fn frames(heard: &[SegmentScan]) -> impl Iterator<Item = &FrameLine> {
    heard.iter().flat_map(|segment| &segment.frames)
}

/// Returns the records of removed segments, in lines up to this one.
fn removals(heard: &[SegmentScan], believed: u64) -> impl Iterator<Item = &SegmentsRemoved> {
    frames(heard).filter_map(move |frame| match &frame.what {
        FrameKind::Removed(removed) if frame.seq <= believed => Some(removed),
        _ => None,
    })
}

/// Returns a flaw unless the log has a record that `gone` segments before its first one were removed. An interrupted removal
/// has left the last segments that it names.
fn unsaid(heard: &[SegmentScan], gone: u32, believed: u64) -> Option<LogFlaw> {
    let start = heard
        .iter()
        .find(|segment| segment.began.is_some())
        .map(|first| first.start.link);
    let said =
        removals(heard, believed).any(|removed| removed.last > gone || (removed.last == gone && Some(removed.link) == start));
    (gone > 0 && !said).then_some(LogFlaw::Missing { first: 1, last: gone })
}

/// Returns a flaw if lines are not signed that a gate would have signed: lines before another segment, whose second line is a
/// checkpoint at the latest, and lines that are too far apart.
fn unsigned(heard: &[SegmentScan], proven: u64) -> Option<LogFlaw> {
    let mut spoken = heard.iter().rev().filter(|segment| segment.began.is_some());
    let newest = spoken.next()?;
    let first = proven + 1;
    if spoken.next().is_some() && proven < newest.start.seq {
        return Some(LogFlaw::Unsigned {
            first,
            last: newest.start.seq,
            why: SignatureHint::Followed,
        });
    }
    let late = newest.unsigned.span().is_none_or(|span| span > MAX_UNSIGNED_SPAN);
    late.then_some(LogFlaw::Unsigned {
        first,
        last: newest.end.seq,
        why: SignatureHint::Late,
    })
}

/// Checks that a segment has the number after the one before, and that this one ends with a whole line.
fn adjoins(before: &SegmentScan, segment: &SegmentScan) -> Result<(), LogFlaw> {
    if segment.segment.number != before.segment.number + 1 {
        return Err(LogFlaw::Missing {
            first: before.segment.number + 1,
            last: segment.segment.number - 1,
        });
    }
    if before.unfinished > 0 {
        return Err(LogFlaw::Unfinished {
            file: before.segment.path.clone(),
        });
    }
    Ok(())
}

/// Checks that a segment begins at the tip of the log. A segment without a line does: the gate crashed before it wrote one, or
/// could not, and the next segment begins where that one would have.
fn follows(log: Option<&LogId>, tip: Option<ChainTip>, segment: &SegmentScan) -> Result<(), LogFlaw> {
    let file = segment.segment.path.clone();
    let Some(began) = &segment.began else {
        // The scan reports a flaw of its first line, if no segment is before it.
        return match log {
            Some(_) if segment.lines > 0 => Err(LogFlaw::Follows { file, other: None }),
            _ => Ok(()),
        };
    };
    let other = log.filter(|log| **log != began.log).map(|_| began.log.clone());
    if other.is_some() || tip.is_some_and(|tip| tip != segment.start) || began.segment != segment.segment.number {
        return Err(LogFlaw::Follows { file, other });
    }
    Ok(())
}

/// Returns the first gap after this line that the gate found and recorded.
fn gap_on_record(heard: &[SegmentScan], accepted: u64) -> Option<LogFlaw> {
    frames(heard).find_map(|frame| match &frame.what {
        FrameKind::Healed(healed, time) if frame.seq > accepted && healed.fault.is_gap() => Some(LogFlaw::Gap {
            seq: frame.seq,
            time: *time,
            fault: healed.fault,
            detail: healed.detail.clone().unwrap_or_default(),
        }),
        _ => None,
    })
}

/// Returns a flaw if the checkpoint is not in the log.
fn missed(heard: &[SegmentScan], held_against: CheckpointSource, kept: &Checkpoint, verdict: &VerifyReport) -> Option<LogFlaw> {
    let covers = kept.covers;
    if verdict.log.as_ref().is_some_and(|log| *log != kept.log) {
        return Some(LogFlaw::Diverged { held_against, covers });
    }
    if verdict.last < covers {
        return Some(LogFlaw::Truncated {
            held_against,
            last: verdict.last,
            covers,
        });
    }
    if verdict.first > covers {
        // All lines that it covers may have been removed since.
        let removed = removals(heard, verdict.proven).any(|removed| removed.last_seq >= covers);
        return (!removed).then_some(LogFlaw::Beheaded {
            held_against,
            first: verdict.first,
            covers,
        });
    }
    let same = |frame: &FrameLine| matches!(&frame.what, FrameKind::Checkpoint(found, _) if found.tip() == kept.tip() && found.log == kept.log);
    let found = frames(heard).any(same);
    (!found).then_some(LogFlaw::Diverged { held_against, covers })
}

/// Keys that are trusted, and the line up to which they prove the log.
struct KeyTrust {
    given: Option<PublicKey>,
    trusted: BTreeSet<String>,
    signed_by: Vec<PublicKey>,
    proven: u64,
    /// Old and new key of a change; the new key is trusted as soon as the old one signs.
    pending: Option<(PublicKey, PublicKey)>,
    /// Key without trust that has signed after all proven lines.
    stranger: Option<PublicKey>,
}

impl KeyTrust {
    fn new(given: Option<PublicKey>) -> Self {
        Self {
            trusted: given.iter().map(PublicKey::to_string).collect(),
            given,
            signed_by: Vec::new(),
            proven: 0,
            pending: None,
            stranger: None,
        }
    }

    /// Takes the decisive lines of a segment, up to its flaw; the signatures of its checkpoints were checked.
    fn scan(&mut self, segment: &SegmentScan) {
        for frame in &segment.frames {
            match &frame.what {
                FrameKind::Checkpoint(checkpoint, _) => self.take(checkpoint.key, frame.seq),
                FrameKind::KeyChanged(changed) if changed.vouched => self.pending = Some((changed.previous, changed.key)),
                FrameKind::KeyChanged(changed) if self.given.is_none() => drop(self.trusted.insert(changed.key.to_string())),
                _ => {}
            }
        }
    }

    fn take(&mut self, key: PublicKey, seq: u64) {
        if !self.signed_by.contains(&key) {
            self.signed_by.push(key);
        }
        if self.given.is_none() && self.trusted.is_empty() {
            self.trusted.insert(key.to_string());
        }
        if !self.trusted.contains(&key.to_string()) {
            self.stranger = Some(key);
            return;
        }
        (self.proven, self.stranger) = (seq, None);
        if let Some((_, new)) = self.pending.take_if(|(previous, _)| *previous == key) {
            self.trusted.insert(new.to_string());
        }
    }

    fn flaw(&self) -> Option<LogFlaw> {
        match (&self.given, &self.stranger) {
            // An unsigned log is proven as little as one with a foreign signature.
            (Some(given), _) if self.proven == 0 => Some(LogFlaw::WrongKey {
                expected: given.id(),
                found: self.signed_by.iter().map(PublicKey::id).collect(),
            }),
            (_, Some(stranger)) => Some(LogFlaw::Unvouched {
                after: self.proven,
                key: stranger.id(),
            }),
            _ => None,
        }
    }
}

/// Describes a fault that the gate recorded.
fn noted(seq: u64, healed: &JournalHealed) -> String {
    let mut parts = vec![format!("at line {seq} the gate recorded: {}", healed.fault.words())];
    if healed.cut_bytes > 0 {
        parts.push(format!("{} bytes cut off", healed.cut_bytes));
    }
    if healed.lost > 0 {
        parts.push(format!("{} outcomes lost", healed.lost));
    }
    parts.extend(healed.detail.clone());
    parts.join(", ")
}

fn remarks(heard: &[SegmentScan], verdict: &VerifyReport) -> Vec<String> {
    let mut remarks = Vec::new();
    let mut more = heard.iter().map(|segment| segment.more_faults).sum::<u64>();
    for frame in frames(heard) {
        let remark = match &frame.what {
            FrameKind::Healed(healed, _) => noted(frame.seq, healed),
            FrameKind::KeyChanged(changed) if !changed.vouched => {
                format!("at line {} the key changed without confirmation by the old one", frame.seq)
            }
            FrameKind::Removed(removed) => format!(
                "at line {} segments {} to {} were removed, up to line {}",
                frame.seq, removed.first, removed.last, removed.last_seq
            ),
            _ => continue,
        };
        if remarks.len() < MAX_REMARKS {
            remarks.push(remark);
        } else {
            more += 1;
        }
    }
    if more > 0 {
        remarks.push(format!("the gate recorded {more} more faults, removals and key changes"));
    }
    for segment in heard.iter().filter(|segment| segment.void > 0) {
        remarks.push(format!(
            "{}: {} bytes at its end are not part of the log: the gate recorded a failed write there",
            segment.segment.path.display(),
            segment.void
        ));
    }
    if verdict.is_whole() && verdict.proven < verdict.last {
        remarks.push(match verdict.last - verdict.proven {
            1 => format!("line {} is not signed yet", verdict.last),
            _ => format!("lines {} to {} are not signed yet", verdict.proven + 1, verdict.last),
        });
    }
    if let Some(cut) = heard.last().map(|last| last.unfinished).filter(|cut| *cut > 0) {
        remarks.push(format!(
            "{cut} bytes at the end are an incomplete line and not part of the log"
        ));
    }
    if !verdict.key_given {
        remarks.push("no key was given, so a complete rewrite of the log would not be detected".to_owned());
    }
    remarks
}
