//! Joins what the segments say into one verdict. Pure.
//!
//! It reads nothing: the segments were heard. The first flaw in the order of the log decides.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{Checkpoint, Expected, Flaw, Frame, LogId, PublicKey, Testimony, Tip, What};

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
    /// Up to which line the log had to be there, for a checkpoint that was kept elsewhere or beside it covers that.
    pub held_to: Option<u64>,
    /// What is wrong first, in the order of the log.
    pub flaw: Option<Flaw>,
    /// What the gate itself has put on record about its log, and what else a reader should know.
    pub remarks: Vec<String>,
}

impl Verdict {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.flaw.is_none()
    }
}

/// Judges segments that are in the order of their numbers.
pub(super) fn judge(heard: &[Testimony], expected: &Expected) -> Verdict {
    let spoken = heard.iter().find(|segment| segment.began.is_some()).or(heard.first());
    let first = spoken.map_or(0, |first| first.start.seq + 1);
    let mut verdict = Verdict {
        log: heard
            .iter()
            .find_map(|segment| segment.began.as_ref())
            .map(|began| began.log.clone()),
        segments: heard.len(),
        lines: heard.iter().map(|segment| segment.lines).sum(),
        bytes: heard.iter().map(|segment| segment.bytes).sum(),
        first,
        // The newest segment has no line yet where a gate died before it wrote one.
        last: heard.iter().map(|segment| segment.end.seq).max().unwrap_or(0),
        proven: 0,
        keys: Vec::new(),
        key_given: expected.key.is_some(),
        held_to: expected.checkpoints().map(|kept| kept.covers).max(),
        flaw: None,
        remarks: Vec::new(),
    };
    let mut trust = Trust::new(expected.key);
    let flaw = chain(heard, expected, &mut trust).err();
    verdict.proven = trust.proven;
    verdict.keys = trust.signed_by.iter().map(PublicKey::id).collect();
    verdict.flaw = flaw.or_else(|| trust.flaw()).or_else(|| {
        let mut kept = expected.checkpoints();
        kept.find_map(|checkpoint| missed(heard, checkpoint, verdict.last))
    });
    verdict.remarks = remarks(heard, &verdict);
    verdict
}

/// Goes through the segments in order.
fn chain(heard: &[Testimony], expected: &Expected, trust: &mut Trust) -> Result<(), Flaw> {
    let from_start = expected.from_start && !expected.skip;
    let mut before: Option<&Testimony> = None;
    // The log and where its chain stands, as far as segments have said: one without a line says nothing.
    let (mut log, mut tip) = (None, None);
    for segment in heard {
        match before {
            None if from_start && segment.segment.number > 1 => removed(heard, segment.segment.number - 1)?,
            None if from_start => tip = Some(Tip::START),
            None => {}
            Some(before) => adjoins(before, segment)?,
        }
        follows(log, tip, segment)?;
        trust.hear(segment)?;
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

/// Whether the log says that everything before its first segment was removed. A removal that was interrupted has left the last of
/// what it names.
fn removed(heard: &[Testimony], gone: u32) -> Result<(), Flaw> {
    let start = heard
        .iter()
        .find(|segment| segment.began.is_some())
        .map(|first| first.start.link);
    let frames = heard.iter().flat_map(|segment| &segment.frames);
    let mut said = frames.filter_map(|frame| match &frame.what {
        What::Removed(removed) => Some(removed),
        _ => None,
    });
    let known = said.any(|removed| removed.last > gone || (removed.last == gone && Some(removed.link) == start));
    if known {
        Ok(())
    } else {
        Err(Flaw::Missing { first: 1, last: gone })
    }
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

/// Whether the checkpoint that was kept is not in the log.
fn missed(heard: &[Testimony], kept: &Checkpoint, last: u64) -> Option<Flaw> {
    if last < kept.covers {
        return Some(Flaw::Truncated {
            last,
            covers: kept.covers,
        });
    }
    let same =
        |frame: &Frame| matches!(&frame.what, What::Checkpoint(found) if found.tip() == kept.tip() && found.log == kept.log);
    // What it covers may have been removed as a whole since.
    let older = heard.first().is_some_and(|first| first.start.seq >= kept.covers);
    let found = older || heard.iter().flat_map(|segment| &segment.frames).any(same);
    (!found).then_some(Flaw::Diverged { covers: kept.covers })
}

fn remarks(heard: &[Testimony], verdict: &Verdict) -> Vec<String> {
    let mut remarks = Vec::new();
    for frame in heard.iter().flat_map(|segment| &segment.frames) {
        match &frame.what {
            What::Healed(healed) => {
                let detail = healed
                    .detail
                    .as_ref()
                    .map(|detail| format!(" ({detail})"))
                    .unwrap_or_default();
                let cut = if healed.cut_bytes > 0 {
                    format!(", {} bytes cut off", healed.cut_bytes)
                } else {
                    String::new()
                };
                let lost = if healed.lost > 0 {
                    format!(", {} outcomes lost", healed.lost)
                } else {
                    String::new()
                };
                remarks.push(format!(
                    "at line {} the gate noted {:?}{cut}{lost}{detail}",
                    frame.seq, healed.fault
                ));
            }
            What::KeyChanged(changed) if !changed.vouched => {
                remarks.push(format!("at line {} the key changed without the old one's word", frame.seq));
            }
            What::Removed(removed) => remarks.push(format!(
                "at line {} segments {} to {} were removed, up to line {}",
                frame.seq, removed.first, removed.last, removed.last_seq
            )),
            _ => {}
        }
    }
    for segment in heard.iter().filter(|segment| segment.void > 0) {
        remarks.push(format!(
            "{}: {} bytes at its end are not part of the log: the gate could neither write them whole nor take them back, and says so",
            segment.segment.path.display(),
            segment.void
        ));
    }
    if verdict.is_whole() && verdict.proven < verdict.last {
        remarks.push(format!("lines {} to {} are not signed yet", verdict.proven + 1, verdict.last));
    }
    if let Some(cut) = heard.last().map(|last| last.unfinished).filter(|cut| *cut > 0) {
        remarks.push(format!(
            "{cut} bytes at the end are a line being written, or what is left of one: not part of the log"
        ));
    }
    if !verdict.key_given {
        remarks.push("no key was given: whoever could write the whole log anew could have done so".to_owned());
    }
    remarks
}

/// Which keys are trusted, and up to where they prove the log.
struct Trust {
    given: Option<PublicKey>,
    trusted: BTreeSet<String>,
    signed_by: Vec<PublicKey>,
    proven: u64,
    /// A new key that counts as soon as the old one signs.
    pending: Option<(PublicKey, PublicKey)>,
    /// The last checkpoint of a key that is not trusted, behind all proven lines.
    stranger: Option<(u64, PublicKey)>,
}

impl Trust {
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

    /// Takes a segment's checkpoints. A signature covers everything before it, so only those are computed that decide: the last
    /// of each segment and the one behind a change of keys; and all of a segment whose last one is forged, to name the first.
    fn hear(&mut self, segment: &Testimony) -> Result<(), Flaw> {
        let last = segment
            .frames
            .iter()
            .rposition(|frame| matches!(frame.what, What::Checkpoint(_)));
        for (index, frame) in segment.frames.iter().enumerate() {
            match &frame.what {
                What::Checkpoint(checkpoint) => {
                    let decides = Some(index) == last || self.pending.is_some();
                    if decides && !checkpoint.is_genuine(frame.time) {
                        return Err(first_forged(segment));
                    }
                    self.take(checkpoint.key, frame.seq);
                }
                What::KeyChanged(changed) if changed.vouched => self.pending = Some((changed.previous, changed.key)),
                What::KeyChanged(changed) if self.given.is_none() => drop(self.trusted.insert(changed.key.to_string())),
                _ => {}
            }
        }
        Ok(())
    }

    fn take(&mut self, key: PublicKey, seq: u64) {
        if !self.signed_by.contains(&key) {
            self.signed_by.push(key);
        }
        if self.given.is_none() && self.trusted.is_empty() {
            self.trusted.insert(key.to_string());
        }
        if !self.trusted.contains(&key.to_string()) {
            self.stranger = Some((seq, key));
            return;
        }
        (self.proven, self.stranger) = (seq, None);
        if let Some((_, new)) = self.pending.take_if(|(previous, _)| *previous == key) {
            self.trusted.insert(new.to_string());
        }
    }

    fn flaw(&self) -> Option<Flaw> {
        let (_, stranger) = self.stranger.as_ref()?;
        Some(match &self.given {
            Some(given) if self.proven == 0 => Flaw::WrongKey {
                expected: given.id(),
                found: self.signed_by.iter().map(PublicKey::id).collect(),
            },
            _ => Flaw::Unvouched {
                after: self.proven,
                key: stranger.id(),
            },
        })
    }
}

fn first_forged(segment: &Testimony) -> Flaw {
    let mut checkpoints = segment.frames.iter().filter_map(|frame| match &frame.what {
        What::Checkpoint(checkpoint) => Some((frame, checkpoint)),
        _ => None,
    });
    let forged = checkpoints.find(|(frame, checkpoint)| !checkpoint.is_genuine(frame.time));
    Flaw::Forged {
        file: segment.segment.path.clone(),
        line: forged.map_or(0, |(frame, _)| frame.line),
    }
}
