//! Summary of a packed segment: its range of times and numbers, and the values that stand in its records.
//!
//! A reader skips a segment whose summary excludes the filter. A summary is never the truth: it falls out of packing, may be removed
//! at any time and is made again. One that is missing, damaged, of another version or made for another file is not used.
//! Verification does not look at it.
//!
//! INVARIANT: reading with summaries gives what reading without them gives. So a summary says more rather than less: a set that
//! grew too large, or of which not all values can be told, is left out and stands for any value.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::File;
use std::io::{self, BufRead, Read, Seek, SeekFrom};
use std::path::PathBuf;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::event::Event;
use super::segment::{MAX_LINE_BYTES, Segment, remove_if_there, replace_private};
use crate::model::ids::{GrantId, SessionId};
use crate::model::names::{IdentityName, TargetName};

mod builder;

pub(super) use builder::{Handover, SummaryBuilder};

/// The version of the format and of the meaning of the values.
const VERSION: u32 = 4;
/// The values of one set, with what JSON puts around them: a thousand sessions. A larger set is left out.
const MAX_SET_BYTES: usize = 32 << 10;
/// A larger file is not one of ours.
const MAX_SUMMARY_BYTES: u64 = 2 << 20;
/// Number of bytes at both ends of the packed file that go into its identity: they have the log's id, the chain's state and
/// signatures.
const END_BYTES: u64 = 4096;
/// Hexadecimal digits of a SHA-256.
const HASH_DIGITS: usize = 64;

/// A field whose values a summary lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Field {
    Session,
    Grant,
    Identity,
    Target,
    Event,
    Sqlstate,
    /// The runs of sessions that begin in the segment.
    Run,
    /// The classes of statements, by their text and by the server's command tags.
    Class,
    /// The words of statements' texts, in small ASCII letters: the names of tables are among them. Those that begin with a digit are
    /// left out ([`is_listed`]): names seldom do, and numbers have no end.
    Word,
    /// The statements (session and number) whose outcome does not stand in the segment.
    Unanswered,
    /// The outcomes (session and number) whose statement does not stand in the segment.
    Late,
    /// The executed statements (session and number) that could not be parsed, or whose outcome has other commands, or may have.
    Unread,
}

impl Field {
    const ALL: [Self; 12] = [
        Self::Session,
        Self::Grant,
        Self::Identity,
        Self::Target,
        Self::Event,
        Self::Sqlstate,
        Self::Run,
        Self::Class,
        Self::Word,
        Self::Unanswered,
        Self::Late,
        Self::Unread,
    ];

    /// Returns the value that an event has by itself; none for a field that depends on another record, or on the text.
    pub(super) fn of<'e>(self, event: &'e Event<'_>) -> Option<&'e str> {
        match self {
            Self::Session => event.session().map(SessionId::as_str),
            Self::Grant => event.grant().map(GrantId::as_str),
            Self::Identity => event.identity().map(IdentityName::as_str),
            Self::Target => event.target().map(TargetName::as_str),
            Self::Event => Some(event.name().as_str()),
            Self::Sqlstate => event.sqlstate(),
            Self::Run => match event {
                Event::SessionStarted(started) => started.run.as_deref(),
                _ => None,
            },
            Self::Class | Self::Word | Self::Unanswered | Self::Late | Self::Unread => None,
        }
    }
}

/// The summary of one segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SegmentSummary {
    /// The number of the last record.
    last_seq: u64,
    /// The earliest and the latest time, as lines have it: the order of such texts is that of the times.
    first_time: String,
    last_time: String,
    /// The values of each field. A field that is not among them may have any value.
    values: BTreeMap<Field, BTreeSet<Box<str>>>,
}

/// The packed file that a summary was made for: its length, and a hash of its two ends.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct PackedFile {
    bytes: u64,
    ends: String,
}

impl PackedFile {
    fn of(segment: &Segment) -> io::Result<Self> {
        let mut file = File::open(&segment.path)?;
        let bytes = file.metadata()?.len();
        let mut hash = Sha256::new();
        for start in [0, bytes.saturating_sub(END_BYTES)] {
            let mut end = Vec::new();
            file.seek(SeekFrom::Start(start))?;
            Read::take(&mut file, END_BYTES).read_to_end(&mut end)?;
            hash.update(&end);
        }
        Ok(Self {
            bytes,
            ends: HEXLOWER.encode(&hash.finalize()),
        })
    }
}

/// The content of a summary's file, behind its checksum.
#[derive(Debug, Serialize, Deserialize)]
struct Content<S> {
    version: u32,
    packed: PackedFile,
    summary: S,
}

impl SegmentSummary {
    /// Returns whether a record of the segment may have such a value.
    pub(super) fn may_have(&self, field: Field, is_wanted: impl Fn(&str) -> bool) -> bool {
        let values = self.values.get(&field);
        values.is_none_or(|values| values.iter().any(|value| is_wanted(value)))
    }

    /// Returns whether a statement of the segment may have this word in its text.
    pub(super) fn may_have_word(&self, word: &str) -> bool {
        !is_listed(word) || self.may_have(Field::Word, |found| found.eq_ignore_ascii_case(word))
    }

    /// Returns whether records with greater numbers may stand in it.
    pub(super) fn goes_beyond(&self, seq: u64) -> bool {
        self.last_seq > seq
    }

    /// Returns whether a record of this number, or a greater one, stands in it for sure.
    pub(super) fn reaches(&self, seq: u64) -> bool {
        self.last_seq >= seq && self.last_seq != u64::MAX
    }

    /// Returns the earliest and the latest time.
    pub(super) fn times(&self) -> (&str, &str) {
        (&self.first_time, &self.last_time)
    }

    /// Returns whether all statements without an outcome in it have theirs in `next`, and `next` has no other late outcomes.
    pub(super) fn is_answered_by(&self, next: &Self) -> bool {
        let unanswered = self.values.get(&Field::Unanswered);
        unanswered.is_some() && unanswered == next.values.get(&Field::Late)
    }

    /// Returns the statements (session and number) that may not have been parsed, as far as their texts or outcomes stand in it; `None`
    /// if any may be.
    pub(super) fn unread(&self) -> Option<HashSet<Box<str>>> {
        let fields = [Field::Unread, Field::Unanswered, Field::Late];
        let values: Option<Vec<_>> = fields.iter().map(|field| self.values.get(field)).collect();
        Some(values?.into_iter().flatten().cloned().collect())
    }

    /// Reads the summary of a packed segment; `None` if there is none that can be used.
    pub(super) fn load(segment: &Segment) -> Option<Self> {
        let file = File::open(path(segment)).ok()?;
        let mut bytes = Vec::new();
        file.take(MAX_SUMMARY_BYTES + 1).read_to_end(&mut bytes).ok()?;
        Self::parse(&bytes, &PackedFile::of(segment).ok()?)
    }

    /// Parses a summary that was made for this packed file; `None` if it was not, or is damaged.
    fn parse(bytes: &[u8], of: &PackedFile) -> Option<Self> {
        if bytes.len() as u64 > MAX_SUMMARY_BYTES {
            return None;
        }
        let (sum, rest) = bytes.split_at_checked(HASH_DIGITS)?;
        if sum != HEXLOWER.encode(&Sha256::digest(rest)).as_bytes() {
            return None;
        }
        let content: Content<Self> = serde_json::from_slice(rest).ok()?;
        (content.version == VERSION && content.packed == *of).then_some(content.summary)
    }

    /// Puts the summary beside its packed segment, whole or not at all.
    pub(super) fn save(&self, segment: &Segment) -> io::Result<()> {
        let content = Content {
            version: VERSION,
            packed: PackedFile::of(segment)?,
            summary: self,
        };
        let content = serde_json::to_vec(&content)?;
        let sum = HEXLOWER.encode(&Sha256::digest(&content));
        replace_private(&path(segment), &[sum.as_bytes(), &content].concat())
    }
}

/// Returns whether a summary lists a word.
fn is_listed(word: &str) -> bool {
    !word.starts_with(|first: char| first.is_ascii_digit())
}

/// Returns the place of a segment's summary.
pub(super) fn path(segment: &Segment) -> PathBuf {
    segment.path.with_file_name(format!("audit-{:06}.summary", segment.number))
}

/// Makes the summary of a packed segment by reading it, unless there is one that can be used.
pub(super) fn ensure(segment: &Segment) -> io::Result<()> {
    if SegmentSummary::load(segment).is_some() {
        return Ok(());
    }
    of_lines(segment.open()?)?.save(segment)
}

/// Summarises lines.
pub(super) fn of_lines(mut lines: impl BufRead) -> io::Result<SegmentSummary> {
    let mut builder = SummaryBuilder::default();
    let mut line = Vec::new();
    while Read::take(&mut lines, MAX_LINE_BYTES).read_until(b'\n', &mut line)? > 0 {
        builder.add(&line);
        line.clear();
    }
    let (summary, _) = builder.finish();
    Ok(summary)
}

/// Parses the content of a summary that says it was made for no file, whatever its checksum: for fuzzers.
pub(super) fn parse_hostile(content: &[u8]) -> Option<SegmentSummary> {
    let whole = [HEXLOWER.encode(&Sha256::digest(content)).as_bytes(), content].concat();
    SegmentSummary::parse(&whole, &PackedFile::default())
}

/// Returns a seed for fuzzers: the content of the summary of these lines, as [`parse_hostile`] takes it.
#[cfg(test)]
pub(super) fn seed(lines: &[u8]) -> Vec<u8> {
    let content = Content {
        version: VERSION,
        packed: PackedFile::default(),
        summary: of_lines(lines).unwrap(),
    };
    serde_json::to_vec(&content).unwrap()
}

/// Removes the summary of a segment that was removed.
pub(super) fn remove(segment: &Segment) -> io::Result<()> {
    remove_if_there(&path(segment))?;
    remove_index(segment)
}

/// Removes the search index that version 0.1.0 has left beside a segment.
pub(super) fn remove_index(segment: &Segment) -> io::Result<()> {
    remove_if_there(&path(segment).with_extension("index"))
}

#[cfg(test)]
mod tests;
