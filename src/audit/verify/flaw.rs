//! Flaws of a log, with messages and remedies.
//!
//! This module finds no flaw (the judge does).

use std::path::PathBuf;

use jiff::Timestamp;
use serde::Serialize;
use serde_with::{As, DisplayFromStr};

use crate::audit::chain::ChainBreach;
use crate::audit::event::JournalFault;
use crate::audit::saved_checkpoint::CheckpointSource;
use crate::model::ids::LogId;

/// Flaw of a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize)]
#[serde(tag = "flaw", rename_all = "snake_case")]
pub enum LogFlaw {
    /// A line is not the one that was written there: changed, inserted, out of order, or after a line that was dropped.
    #[error("{}, line {line}: {breach}", file.display())]
    Line {
        /// Path of the segment.
        file: PathBuf,
        /// Number of the line in the segment, from 1.
        line: u64,
        /// Sequence number that is due.
        seq: u64,
        /// Difference from the line that is due.
        #[serde(serialize_with = "As::<DisplayFromStr>::serialize")]
        breach: ChainBreach,
    },
    /// A packed segment cannot be unpacked.
    #[error("{}: cannot unpack after line {after}: the file is damaged or truncated", file.display())]
    Damaged {
        /// Path of the segment.
        file: PathBuf,
        /// Number of the last line that could be read.
        after: u64,
    },
    /// Segments are missing, and the log has no record of their removal.
    #[error("segments {first} to {last} are missing, and the log has no record of their removal")]
    Missing {
        /// Number of the first one.
        first: u32,
        /// Number of the last one.
        last: u32,
    },
    /// A segment is from another log, or from another state of this one.
    #[error("{}: does not continue the previous segment{}", file.display(), other.as_ref().map(|log| format!(": it belongs to log {log}")).unwrap_or_default())]
    Follows {
        /// Path of the segment.
        file: PathBuf,
        /// Log of the segment, if it is another.
        other: Option<LogId>,
    },
    /// A segment before the last ends in the middle of a line.
    #[error("{}: ends inside a line, but another segment follows", file.display())]
    Unfinished {
        /// Path of the segment.
        file: PathBuf,
    },
    /// The signature of a checkpoint was not made with the key it names.
    #[error("{}, line {line}: the signature is invalid", file.display())]
    Forged {
        /// Path of the segment.
        file: PathBuf,
        /// Number of the line in the segment, from 1.
        line: u64,
    },
    /// The log exceeds a limit that every gate keeps.
    #[error("{}, line {line}: {excess} than a gate writes", file.display())]
    Excess {
        /// Path of the segment.
        file: PathBuf,
        /// Number of the line in the segment, from 1.
        line: u64,
        /// Limit that is exceeded.
        excess: ExcessKind,
    },
    /// The log has no line.
    #[error("the log has no records, so it proves nothing")]
    Empty,
    /// Lines are not signed that a gate would have signed.
    #[error("lines {first} to {last} are not signed, but a gate would have signed them: {why}")]
    Unsigned {
        /// Number of the first one.
        first: u64,
        /// Number of the last one.
        last: u64,
        /// Evidence that a gate would have signed them.
        why: SignatureHint,
    },
    /// The log begins after a checkpoint that was kept, without a record of a removal.
    #[error(
        "the log begins at line {first}, but {held_against} covers line {covers}: earlier lines are missing, and the log has no record of their removal"
    )]
    Beheaded {
        /// Origin of the checkpoint.
        held_against: CheckpointSource,
        /// First line of the log.
        first: u64,
        /// Last line that the checkpoint covers.
        covers: u64,
    },
    /// The given key has signed no checkpoint of the log.
    #[error("no checkpoint is signed with the key {expected}; {}", if found.is_empty() { "the log has no signature".to_owned() } else { format!("the log is signed with {}", found.join(", ")) })]
    WrongKey {
        /// Key that was given.
        expected: String,
        /// Keys that signed.
        found: Vec<String>,
    },
    /// Lines are signed with a key that no trusted key vouches for.
    #[error("lines after {after} are signed with key {key}, which no trusted key has confirmed")]
    Unvouched {
        /// Last line that is proven.
        after: u64,
        /// Key of the later signatures.
        key: String,
    },
    /// The log ends before a checkpoint that was kept.
    #[error("the log ends at line {last}, but {held_against} covers line {covers}: lines are missing at the end")]
    Truncated {
        /// Origin of the checkpoint.
        held_against: CheckpointSource,
        /// Last line of the log.
        last: u64,
        /// Last line that must be there.
        covers: u64,
    },
    /// The log differs from that of a checkpoint that was kept, or was rewritten.
    #[error("line {covers} differs from the one signed in {held_against}: the log was rewritten, or is another")]
    Diverged {
        /// Origin of the checkpoint.
        held_against: CheckpointSource,
        /// Last line that the checkpoint covers.
        covers: u64,
    },
    /// The gate found at a start that something was missing, and recorded that. The flaw is permanent.
    #[error("{}, recorded in line {seq} at {time:.0}: {detail}", fault.words())]
    Gap {
        /// Line with the record.
        seq: u64,
        /// Time at which the gate found it.
        time: Timestamp,
        /// Kind of the fault.
        fault: JournalFault,
        /// Description of what is missing.
        detail: String,
    },
}

/// Limit that every gate keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ExcessKind {
    /// A line is too long.
    #[error("a longer line")]
    Line,
    /// Too many lines are about the log itself.
    #[error("more lines about the log itself")]
    Frames,
}

/// Evidence that a gate would have signed lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SignatureHint {
    /// A segment follows them: only the newest segment has unsigned lines.
    #[error("another segment follows")]
    Followed,
    /// They are old enough: a gate signs lines within seconds.
    #[error("by their times there was time enough to sign")]
    Late,
}

impl LogFlaw {
    /// Returns the path of the file with the flaw, if it is in one.
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

    /// Returns the next step for a reader who finds the flaw.
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
