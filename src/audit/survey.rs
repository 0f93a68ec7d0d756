//! What a gate finds in the log's folder when it starts: where the chain stands, and what is wrong with it.
//!
//! It changes nothing and judges only the newest segment; the whole log is [`super::verify`]'s.

use std::io;
use std::path::Path;

use jiff::Timestamp;

use super::chain::{Mark, Tip, number, split};
use super::encode::Lines;
use super::event::{Event, Fault, JournalHealed, KeyChanged, SegmentBegan};
use super::key::PublicKey;
use super::record::{Record, name_of};
use super::segment::{self, Next, Segment, next_line};
use crate::ids::LogId;

/// The file beside the segments that holds the last checkpoint, as its line.
pub const CHECKPOINT: &str = "checkpoint.json";

/// Where the log stands.
#[derive(Debug)]
pub(super) struct Survey {
    pub(super) log: Option<LogId>,
    /// The newest segment, and how long it is up to its last whole line; absent in an empty folder.
    pub(super) newest: Option<(Segment, u64)>,
    /// When it began.
    pub(super) began: Option<Timestamp>,
    pub(super) tip: Tip,
    /// The number of the last line that is signed or a signature.
    pub(super) signed: u64,
    /// Whose signature is due next.
    pub(super) key: Option<PublicKey>,
    /// A change of keys that the old one has not vouched for yet: old and new.
    changing: Option<(PublicKey, PublicKey)>,
    /// Nothing may be written behind what is there: a new segment is due.
    pub(super) broken: bool,
    /// A segment before the newest ends in the middle of a line, which the newest has to say: it has no line yet.
    pub(super) rest_void: bool,
    pub(super) faults: Vec<JournalHealed>,
}

/// Looks at the folder.
pub(super) fn survey(dir: &Path) -> io::Result<Survey> {
    let mut found = Survey {
        log: None,
        newest: None,
        began: None,
        tip: Tip::START,
        signed: 0,
        key: None,
        changing: None,
        broken: false,
        rest_void: false,
        faults: Vec::new(),
    };
    let segments = segment::list(dir)?;
    // A segment without a line has nothing to say of the chain: the one before it has.
    for segment in segments.iter().rev() {
        let (length, rest) = found.read(segment)?;
        found.rest_void |= found.newest.is_some() && rest > 0;
        found.newest.get_or_insert_with(|| (segment.clone(), length));
        if length > 0 {
            break;
        }
    }
    found.compare(dir);
    Ok(found)
}

impl Survey {
    /// Puts what is wrong on record, and that another key signs from here on.
    pub(super) fn note(&self, key: PublicKey, now: Timestamp, notes: &mut Lines) -> Result<(), serde_json::Error> {
        for fault in &self.faults {
            tracing::warn!(fault = ?fault.fault, detail = fault.detail, "the audit log was not as it was left");
            notes.push(now, &Event::JournalHealed(fault.clone()))?;
        }
        let Some(previous) = self.key.filter(|known| *known != key) else {
            return Ok(());
        };
        tracing::warn!(
            was = previous.id(),
            is = key.id(),
            "the audit log is signed with another key from here on"
        );
        let changed = KeyChanged {
            key,
            previous,
            vouched: false,
            by: "gate".to_owned(),
        };
        notes.push(now, &Event::KeyChanged(changed))
    }

    /// Follows the chain through a segment; returns where its last whole line ends, and how much there is behind it.
    fn read(&mut self, segment: &Segment) -> io::Result<(u64, u64)> {
        let mut lines = segment.open()?;
        let mut line = Vec::new();
        let (mut end, mut count) = (0, 0_u64);
        loop {
            match next_line(&mut lines, &mut line)? {
                Next::Line => {}
                // It does not fit, whatever is in it; nothing is written behind it, so it does not matter where it ends.
                Next::TooLong => {
                    self.follow(b"", segment, count + 1);
                    return Ok((end + line.len() as u64 + io::copy(&mut lines, &mut io::sink())?, 0));
                }
                Next::Rest(rest) => {
                    if rest > 0 {
                        let place = format!("{}, behind line {count}", segment.path.display());
                        self.fault(Fault::TornTail, rest, place);
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

    /// The first line of a segment says where the chain stood before it.
    fn begin(&mut self, line: &[u8]) {
        let Ok(record) = Record::parse(line) else { return };
        if let Event::SegmentBegan(began) = record.event {
            let SegmentBegan { log, previous, key, .. } = began.into_owned();
            self.began = Some(record.time);
            (self.log, self.key) = (Some(log), Some(key));
            self.tip = Tip {
                seq: record.seq.saturating_sub(1),
                link: previous,
            };
        }
    }

    fn follow(&mut self, line: &[u8], segment: &Segment, count: u64) {
        match self.tip.follow(line) {
            Ok(tip) => self.tip = tip,
            Err(breach) => {
                if !self.broken {
                    self.broken = true;
                    let place = format!("{}, line {count}: {breach}", segment.path.display());
                    self.fault(Fault::ChainBroken, 0, place);
                }
                // The chain goes on over what is there, so that it can be followed to what comes.
                let (body, _) = split(line).unwrap_or((line, Mark::default()));
                self.tip = Tip {
                    seq: number(line).unwrap_or_default().max(self.tip.seq + 1),
                    link: self.tip.link.after(body),
                };
            }
        }
        // Few lines are of these kinds: most are not parsed.
        if matches!(name_of(line), Some("checkpoint" | "key_changed")) {
            match Record::parse(line).map(|record| record.event) {
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

    /// Whether the log reaches at least to the last checkpoint that was published.
    fn compare(&mut self, dir: &Path) {
        let Ok(text) = std::fs::read(dir.join(CHECKPOINT)) else {
            return;
        };
        let Ok(Event::Checkpoint(last)) = Record::parse(text.trim_ascii_end()).map(|record| record.event) else {
            return;
        };
        let missing = last.covers.saturating_sub(self.tip.seq);
        if missing > 0 && self.log.as_ref().is_none_or(|log| *log == last.log) {
            self.fault(
                Fault::LinesMissing,
                0,
                format!(
                    "{missing} lines: the last checkpoint covers {}, the log ends at {}",
                    last.covers, self.tip.seq
                ),
            );
        }
    }

    fn fault(&mut self, fault: Fault, cut_bytes: u64, detail: String) {
        self.faults.push(JournalHealed {
            fault,
            since: None,
            refused: 0,
            lost: 0,
            cut_bytes,
            detail: Some(detail),
        });
    }
}

/// The last line of the segments before, where the first line of the next one says that there may be more in their files.
pub(super) fn voids_behind(first: &[u8]) -> Option<u64> {
    header(first)
        .filter(|began| began.rest_void)
        .and_then(|_| number(first)?.checked_sub(1))
}

/// What the first line of a segment says, if it is one.
pub(super) fn header(line: &[u8]) -> Option<SegmentBegan> {
    match Record::parse(line).ok()?.event {
        Event::SegmentBegan(began) => Some(began.into_owned()),
        _ => None,
    }
}
