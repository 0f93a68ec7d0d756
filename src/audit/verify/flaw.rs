//! What can be wrong with a log, in words, and what to do about it.
//!
//! It finds nothing (the judge does).

use std::path::PathBuf;

use jiff::Timestamp;
use serde::Serialize;

use crate::audit::chain::Breach;
use crate::audit::event::Fault;
use crate::audit::kept::CheckpointSource;
use crate::ids::LogId;

/// What is wrong with a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize)]
#[serde(tag = "flaw", rename_all = "snake_case")]
pub enum Flaw {
    /// A line is not the one that was written there: changed, dropped before it, inserted or out of order.
    #[error("{}, line {line}: {breach}", file.display())]
    Line {
        /// The segment.
        file: PathBuf,
        /// The line in it, from 1.
        line: u64,
        /// The number it should have.
        seq: u64,
        /// In what way.
        #[serde(serialize_with = "as_text")]
        breach: Breach,
    },
    /// A packed segment cannot be unpacked.
    #[error("{}: cannot unpack after line {after}: the file is damaged or truncated", file.display())]
    Damaged {
        /// The segment.
        file: PathBuf,
        /// The last line that could be read.
        after: u64,
    },
    /// Segments are not there, and nothing says that they were removed.
    #[error("segments {first} to {last} are missing, and the log has no record of their removal")]
    Missing {
        /// The first of them.
        first: u32,
        /// The last.
        last: u32,
    },
    /// A segment is of another log, or of another time of this one.
    #[error("{}: does not continue the previous segment{}", file.display(), other.as_ref().map(|log| format!(": it belongs to log {log}")).unwrap_or_default())]
    Follows {
        /// The segment.
        file: PathBuf,
        /// The log it is of, if that is another.
        other: Option<LogId>,
    },
    /// A segment before the last ends in the middle of a line.
    #[error("{}: ends inside a line, but another segment follows", file.display())]
    Unfinished {
        /// The segment.
        file: PathBuf,
    },
    /// A checkpoint's signature is not that of the key it names.
    #[error("{}, line {line}: the signature is invalid", file.display())]
    Forged {
        /// The segment.
        file: PathBuf,
        /// The line in it, from 1.
        line: u64,
    },
    /// There is more of something than a gate writes.
    #[error("{}, line {line}: {excess} than a gate writes", file.display())]
    Excess {
        /// The segment.
        file: PathBuf,
        /// The line in it, from 1.
        line: u64,
        /// Of what.
        excess: Excess,
    },
    /// There is no line in it.
    #[error("the log has no records, so it proves nothing")]
    Empty,
    /// Lines are not signed, and are not such as a gate leaves unsigned.
    #[error("lines {first} to {last} are not signed, but a gate would have signed them: {why}")]
    Unsigned {
        /// The first of them.
        first: u64,
        /// The last.
        last: u64,
        /// How that is known.
        why: Sign,
    },
    /// The log begins behind a checkpoint that was kept, and nothing says why.
    #[error(
        "the log begins at line {first}, but {held_against} covers line {covers}: earlier lines are missing, and the log has no record of their removal"
    )]
    Beheaded {
        /// Where the checkpoint comes from.
        held_against: CheckpointSource,
        /// The log's first line.
        first: u64,
        /// The last that the checkpoint covers.
        covers: u64,
    },
    /// Nothing in it is signed with the key that was given.
    #[error("no checkpoint is signed with the key {expected}; {}", if found.is_empty() { "the log has no signature".to_owned() } else { format!("the log is signed with {}", found.join(", ")) })]
    WrongKey {
        /// The key given.
        expected: String,
        /// Those that signed.
        found: Vec<String>,
    },
    /// From a line on it is signed with a key that nobody vouched for.
    #[error("lines after {after} are signed with key {key}, which no trusted key has confirmed")]
    Unvouched {
        /// The last proven line.
        after: u64,
        /// The key.
        key: String,
    },
    /// The log ends before a checkpoint that was kept.
    #[error("the log ends at line {last}, but {held_against} covers line {covers}: lines are missing at the end")]
    Truncated {
        /// Where the checkpoint comes from.
        held_against: CheckpointSource,
        /// The log's last line.
        last: u64,
        /// The last that must be there.
        covers: u64,
    },
    /// The log is another than that of the checkpoint that was kept, or was written anew.
    #[error("line {covers} differs from the one signed in {held_against}: the log was rewritten, or is another")]
    Diverged {
        /// Where the checkpoint comes from.
        held_against: CheckpointSource,
        /// The line.
        covers: u64,
    },
    /// The gate found at a start that something was missing, and put that on record: for good, for that does not come back.
    #[error("{}, recorded in line {seq} at {time:.0}: {detail}", fault.words())]
    Gap {
        /// The line that says so.
        seq: u64,
        /// When the gate found it.
        time: Timestamp,
        /// What it found.
        fault: Fault,
        /// What is missing.
        detail: String,
    },
}

/// Of what there is too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Excess {
    /// A line is too long.
    #[error("a longer line")]
    Line,
    /// Too many lines are about the log itself.
    #[error("more lines about the log itself")]
    Frames,
}

/// How it is known that a gate would have signed lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sign {
    /// Only the newest segment has lines that are not signed.
    #[error("another segment follows")]
    Followed,
    /// It signs them within seconds.
    #[error("by their times there was time enough to sign")]
    Late,
}

impl Flaw {
    /// The file with the flaw, where it is in one.
    pub(super) fn file_mut(&mut self) -> Option<&mut PathBuf> {
        match self {
            Self::Line { file, .. }
            | Self::Damaged { file, .. }
            | Self::Follows { file, .. }
            | Self::Unfinished { file }
            | Self::Forged { file, .. }
            | Self::Excess { file, .. } => Some(file),
            _ => None,
        }
    }

    /// What whoever finds it does next.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Line { .. } => {
                "keep the files unchanged; signed lines before that line are valid; compare that line with a copy or a backup"
            }
            Self::Excess { .. } => "keep the file unchanged; from that line on, or earlier, it was not written by a gate",
            Self::Empty => "check that this is the log's folder, and look for the log in a copy or a backup",
            Self::Unsigned { .. } => {
                "these lines may have been written without the key, in place of the gate's; signed lines before them are valid"
            }
            Self::Beheaded { .. } => {
                "compare the checkpoint with the whole log, or look for the missing lines in a copy or a backup"
            }
            Self::Damaged { .. } | Self::Unfinished { .. } => {
                "keep a copy of the file, and replace it with the segment from a copy or a backup"
            }
            Self::Missing { .. } => "if they were only moved, restore them from a copy or a backup",
            Self::Follows { .. } => "keep the file unchanged, and look for the right segment in a copy or a backup",
            Self::Forged { .. } => {
                "that line was written without the key; no line after the last proven one is known to be the gate's"
            }
            Self::WrongKey { .. } => "use the key of the gate that wrote the log; `tidegate audit key` at that gate prints it",
            Self::Unvouched { .. } => {
                "if the key was lost and replaced, verify the rest with the new one (--key); if not, these lines are not the gate's"
            }
            Self::Gap { .. } => {
                "look for the missing lines in a copy or at the log's receiver; to accept the gap, verify from a later checkpoint (--checkpoint)"
            }
            Self::Truncated { .. } => "look for a newer copy; these lines existed when the checkpoint was made",
            Self::Diverged { .. } => "check that log and checkpoint belong together; if they do, compare with a copy or a backup",
        }
    }
}

fn as_text<S: serde::Serializer>(breach: &Breach, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(breach)
}
