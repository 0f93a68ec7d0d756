//! Retention: removes closed segments that are older than is to be kept.
//!
//! The law: segments are removed only after the log says so, on record, signed and on the disk; and oldest first, so that what is
//! left is always one piece.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{CompactionError, Segment, io_error, list, summary};
use crate::audit::Journal;
use crate::audit::chain::ChainLink;
use crate::audit::event::{Event, SegmentsRemoved};
use crate::audit::record::LogRecord;
use crate::audit::recovery::header;
use crate::audit::segment::next_line;

/// Removes packed segments whose last line is older than `age`, oldest first, after that is on record.
pub(super) fn remove_older(journal: &Journal, now: Timestamp, age: Duration) -> Result<(), CompactionError> {
    let limit = SignedDuration::try_from(age).ok().and_then(|age| now.checked_sub(age).ok());
    let segments = list(&journal.settings().dir)?;
    let mut old = Vec::new();
    let mut removed = None;
    for pair in segments.windows(2) {
        let [segment, next] = pair else { continue };
        // Its last line is not younger than the first of the next.
        let Some((began, record)) = first_line(next)? else { break };
        if !segment.packed || limit.is_none_or(|limit| record.time > limit) {
            break;
        }
        old.push(segment);
        removed = Some(SegmentsRemoved {
            first: old.first().map_or(0, |first| first.number),
            last: segment.number,
            last_seq: record.seq.saturating_sub(1),
            link: began,
        });
    }
    let Some(removed) = removed else { return Ok(()) };
    journal.record_blocking(&Event::SegmentsRemoved(removed))?;
    // Signed and on the disk before anything is gone: else a gate or a machine that dies now would leave a log of which segments are
    // missing, and nothing that proves why.
    journal.checkpoint_blocking()?;
    sync_written(&journal.settings().dir)?;
    for segment in old {
        std::fs::remove_file(&segment.path)
            .and_then(|()| summary::remove(segment))
            .map_err(|error| io_error(&segment.path, error))?;
    }
    Ok(())
}

/// Puts on the disk what is not packed yet, names and contents.
fn sync_written(dir: &Path) -> Result<(), CompactionError> {
    let sync = |path: &Path| {
        File::open(path)
            .and_then(|file| file.sync_all())
            .map_err(|error| io_error(path, error))
    };
    for segment in list(dir)?.iter().filter(|segment| !segment.packed) {
        sync(&segment.path)?;
    }
    sync(dir)
}

/// Returns what the first line of a segment says, and the line; `None` if it has none.
fn first_line(segment: &Segment) -> Result<Option<(ChainLink, LogRecord)>, CompactionError> {
    let mut line = Vec::new();
    let read = segment.open().and_then(|mut lines| next_line(&mut lines, &mut line));
    read.map_err(|error| io_error(&segment.path, error))?;
    Ok(header(&line).map(|began| began.previous).zip(LogRecord::parse(&line).ok()))
}
