//! Joins what the segments say into one verdict. Pure.
//!
//! It reads nothing: the segments were heard. The first flaw in the order of the log decides.

mod trust;

use std::path::Path;

use jiff::SignedDuration;
use serde::Serialize;

use trust::Trust;

use super::flaw::Sign;
use super::hear::{Frame, Testimony, What};
use super::{Checkpoint, CheckpointSource, Expected, Flaw, PublicKey, Segment, Tip};
use crate::audit::event::{JournalHealed, SegmentsRemoved};
use crate::ids::LogId;

/// Lines that nobody has signed are less far apart than this, by their own times, where a gate wrote them: twice
/// [`super::super::checkpoint::LATE`], and something for clocks that are set right meanwhile.
///
/// The rule does not depend on how fast anything is, so a gate that is killed, starved or hangs on its disk does not break it. Lines
/// that are older than the checkpoint before them are left out of it: a gate that could not write for an hour tells of that hour when
/// it can, behind a checkpoint of that moment. Whoever forges lines can give them such times, or all the same one, but not those of a
/// day's work.
const MOST_APART: SignedDuration = SignedDuration::from_secs(5);
/// Faults that the gate noted and that are told, at most.
const MOST_REMARKS: usize = 1_000;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The log.
    pub log: Option<LogId>,
    /// How many segments were read.
    pub segments: usize,
    /// How many lines.
    pub lines: u64,
    /// How many bytes, unpacked.
    pub bytes: u64,
    /// The first line's number; 0 where there is none.
    pub first: u64,
    /// The last good line's number.
    pub last: u64,
    /// Lines up to this number are signed with a trusted key.
    pub proven: u64,
    /// The keys that signed, by their short names.
    pub keys: Vec<String>,
    /// Whether a key was given to hold the log against.
    pub key_given: bool,
    /// The line up to which the log had to be there, for one of the checkpoints below covers that.
    pub held_to: Option<u64>,
    /// The checkpoints that its end was held against.
    pub held_against: Vec<Held>,
    /// What is wrong first, in the order of the log.
    pub flaw: Option<Flaw>,
    /// What the gate itself has put on record about its log, and what else a reader should know.
    pub remarks: Vec<String>,
}

/// A checkpoint that the log's end was held against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Held {
    /// Where it comes from.
    pub source: CheckpointSource,
    /// The last line it covers.
    pub covers: u64,
}

impl Verdict {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.flaw.is_none()
    }

    /// The same of files named without the folder they were verified in: that of a copy, which is there no longer.
    #[must_use]
    pub fn without_folder(mut self, folder: &Path) -> Self {
        if let Some(file) = self.flaw.as_mut().and_then(Flaw::file_mut)
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

/// Judges segments that are in the order of their numbers. The `skipped` stand before them and were not read.
pub(super) fn judge(skipped: &[Segment], heard: &[Testimony], expected: &Expected) -> Verdict {
    let spoken = heard.iter().find(|segment| segment.began.is_some()).or(heard.first());
    let first = spoken.map_or(0, |first| first.start.seq + 1);
    let log = heard
        .iter()
        .find_map(|segment| segment.began.as_ref())
        .map(|began| &began.log);
    // What is older than the checkpoint for which segments were skipped is in those, if it is of this log.
    let comparable = |kept: &Checkpoint| skipped.is_empty() || kept.covers >= first || log.is_some_and(|log| *log != kept.log);
    let checkpoints = || expected.checkpoints().filter(|(_, kept)| comparable(kept));
    let mut verdict = Verdict {
        log: log.cloned(),
        segments: heard.len(),
        lines: heard.iter().map(|segment| segment.lines).sum(),
        bytes: heard.iter().map(|segment| segment.bytes).sum(),
        first,
        // The newest segment has no line yet where a gate died before it wrote one.
        last: heard.iter().map(|segment| segment.end.seq).max().unwrap_or(0),
        proven: 0,
        keys: Vec::new(),
        key_given: expected.key.is_some(),
        held_to: checkpoints().map(|(_, kept)| kept.covers).max(),
        held_against: checkpoints()
            .map(|(source, kept)| Held {
                source,
                covers: kept.covers,
            })
            .collect(),
        flaw: None,
        remarks: Vec::new(),
    };
    let mut trust = Trust::new(expected.key);
    let broken = chain(heard, &mut trust).err();
    verdict.proven = trust.proven;
    verdict.keys = trust.signed_by.iter().map(PublicKey::id).collect();
    let missed = checkpoints().find_map(|(source, kept)| missed(heard, source, kept, &verdict));
    let flaw = broken
        .or_else(|| (verdict.lines == 0).then(|| missed.clone().unwrap_or(Flaw::Empty)))
        .or_else(|| trust.flaw())
        .or_else(|| unsigned(heard, verdict.proven))
        .or(missed)
        .or_else(|| gap_on_record(heard, expected.accepted()));
    let gone = match (skipped.first(), heard.first()) {
        (None, Some(first)) if expected.from_start => first.segment.number - 1,
        _ => 0,
    };
    // What the log says counts as far as it is proven; where it is not because of another flaw, that one is told.
    let believed = if flaw.is_some() { u64::MAX } else { verdict.proven };
    let missing = gap(skipped, heard).or_else(|| unsaid(heard, gone, believed));
    verdict.flaw = missing.or(flaw);
    verdict.remarks = remarks(heard, &verdict);
    verdict
}

/// Whether segments are missing among those that were not read.
fn gap(skipped: &[Segment], heard: &[Testimony]) -> Option<Flaw> {
    let mut numbers = skipped.iter().chain(heard.first().map(|first| &first.segment));
    let mut before = numbers.next()?.number;
    numbers.find_map(|segment| {
        let due = std::mem::replace(&mut before, segment.number) + 1;
        (segment.number > due).then(|| Flaw::Missing {
            first: due,
            last: segment.number - 1,
        })
    })
}

/// Goes through the segments in order.
fn chain(heard: &[Testimony], trust: &mut Trust) -> Result<(), Flaw> {
    let mut before: Option<&Testimony> = None;
    // The log and where its chain stands, as far as segments have said: one without a line says nothing.
    let (mut log, mut tip) = (None, None);
    for segment in heard {
        match before {
            // Nothing is before the first one, whichever are read.
            None => tip = (segment.segment.number == 1).then_some(Tip::START),
            Some(before) => adjoins(before, segment)?,
        }
        follows(log, tip, segment)?;
        trust.hear(segment);
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

/// What the log says of segments that were removed, in lines up to this one.
fn removals(heard: &[Testimony], believed: u64) -> impl Iterator<Item = &SegmentsRemoved> {
    let frames = heard.iter().flat_map(|segment| &segment.frames);
    frames.filter_map(move |frame| match &frame.what {
        What::Removed(removed) if frame.seq <= believed => Some(removed),
        _ => None,
    })
}

/// Whether the log does not say that so many segments before its first one were removed. A removal that was interrupted has left the
/// last of what it names.
fn unsaid(heard: &[Testimony], gone: u32, believed: u64) -> Option<Flaw> {
    let start = heard
        .iter()
        .find(|segment| segment.began.is_some())
        .map(|first| first.start.link);
    let said =
        removals(heard, believed).any(|removed| removed.last > gone || (removed.last == gone && Some(removed.link) == start));
    (gone > 0 && !said).then_some(Flaw::Missing { first: 1, last: gone })
}

/// Whether lines are not signed that a gate would have signed: those in front of another segment, whose second line is a checkpoint at
/// the latest, and those that are too far apart.
fn unsigned(heard: &[Testimony], proven: u64) -> Option<Flaw> {
    let mut spoken = heard.iter().rev().filter(|segment| segment.began.is_some());
    let newest = spoken.next()?;
    let first = proven + 1;
    if spoken.next().is_some() && proven < newest.start.seq {
        return Some(Flaw::Unsigned {
            first,
            last: newest.start.seq,
            why: Sign::Followed,
        });
    }
    let late = newest.unsigned.span().is_none_or(|span| span > MOST_APART);
    late.then_some(Flaw::Unsigned {
        first,
        last: newest.end.seq,
        why: Sign::Late,
    })
}

/// Whether it is the file after the one before, and that one ends with the end of a line.
fn adjoins(before: &Testimony, segment: &Testimony) -> Result<(), Flaw> {
    if segment.segment.number != before.segment.number + 1 {
        return Err(Flaw::Missing {
            first: before.segment.number + 1,
            last: segment.segment.number - 1,
        });
    }
    if before.unfinished > 0 {
        return Err(Flaw::Unfinished {
            file: before.segment.path.clone(),
        });
    }
    Ok(())
}

/// Whether it begins where the log stands. A segment without a line does: the gate died before it wrote one, or could not, and the
/// next begins where that one would have.
fn follows(log: Option<&LogId>, tip: Option<Tip>, segment: &Testimony) -> Result<(), Flaw> {
    let file = segment.segment.path.clone();
    let Some(began) = &segment.began else {
        // What is wrong with its first line it says itself, if nothing is before it.
        return match log {
            Some(_) if segment.lines > 0 => Err(Flaw::Follows { file, other: None }),
            _ => Ok(()),
        };
    };
    let other = log.filter(|log| **log != began.log).map(|_| began.log.clone());
    if other.is_some() || tip.is_some_and(|tip| tip != segment.start) || began.segment != segment.segment.number {
        return Err(Flaw::Follows { file, other });
    }
    Ok(())
}

/// The first gap behind this line that the gate found and put on record.
fn gap_on_record(heard: &[Testimony], accepted: u64) -> Option<Flaw> {
    let mut frames = heard.iter().flat_map(|segment| &segment.frames);
    frames.find_map(|frame| match &frame.what {
        What::Healed(healed, time) if frame.seq > accepted && healed.fault.is_gap() => Some(Flaw::Gap {
            seq: frame.seq,
            time: *time,
            fault: healed.fault,
            detail: healed.detail.clone().unwrap_or_default(),
        }),
        _ => None,
    })
}

/// Whether the checkpoint is not in the log.
fn missed(heard: &[Testimony], held_against: CheckpointSource, kept: &Checkpoint, verdict: &Verdict) -> Option<Flaw> {
    let covers = kept.covers;
    if verdict.log.as_ref().is_some_and(|log| *log != kept.log) {
        return Some(Flaw::Diverged { held_against, covers });
    }
    if verdict.last < covers {
        return Some(Flaw::Truncated {
            held_against,
            last: verdict.last,
            covers,
        });
    }
    if verdict.first > covers {
        // What it covers may have been removed as a whole since.
        let removed = removals(heard, verdict.proven).any(|removed| removed.last_seq >= covers);
        return (!removed).then_some(Flaw::Beheaded {
            held_against,
            first: verdict.first,
            covers,
        });
    }
    let same =
        |frame: &Frame| matches!(&frame.what, What::Checkpoint(found, _) if found.tip() == kept.tip() && found.log == kept.log);
    let found = heard.iter().flat_map(|segment| &segment.frames).any(same);
    (!found).then_some(Flaw::Diverged { held_against, covers })
}

/// A fault that the gate noted, in words.
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

fn remarks(heard: &[Testimony], verdict: &Verdict) -> Vec<String> {
    let mut remarks = Vec::new();
    let mut more = heard.iter().map(|segment| segment.more_faults).sum::<u64>();
    for frame in heard.iter().flat_map(|segment| &segment.frames) {
        let remark = match &frame.what {
            What::Healed(healed, _) => noted(frame.seq, healed),
            What::KeyChanged(changed) if !changed.vouched => {
                format!("at line {} the key changed without confirmation by the old one", frame.seq)
            }
            What::Removed(removed) => format!(
                "at line {} segments {} to {} were removed, up to line {}",
                frame.seq, removed.first, removed.last, removed.last_seq
            ),
            _ => continue,
        };
        if remarks.len() < MOST_REMARKS {
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
