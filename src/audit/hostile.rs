//! Readers of the log as fuzzers call them ([`crate::fuzzing`]): they take bytes and have no effect.
//!
//! This module is no part of the product.

use std::io;
use std::path::Path;

use jiff::tz::TimeZone;

use super::filter::{Filter, Neighbours};
use super::read::{read, read_whole};
use super::record::LogRecord;
use super::render::AnalysedEncoder;
use super::saved_checkpoint::{RememberedTip, SavedCheckpoint};
use super::timeline::SessionTimeline;
use super::verify::{VerifyExpectation, verify_folder};
use super::{recovery, render, summary};

/// Parses a line and renders it in each form; `None` if it is not a record.
pub(crate) fn show_hostile(line: &[u8]) -> Option<String> {
    let _ = SavedCheckpoint::parse(line);
    let record = LogRecord::parse(line).ok()?;
    let again = LogRecord::parse(record.json().as_bytes());
    assert_eq!(again.ok().as_ref(), Some(&record), "what is shown can be read");
    let story = SessionTimeline::of(vec![record.clone()], vec![record.clone()])
        .lines(&TimeZone::UTC)
        .join("\n");
    let mut json = Vec::new();
    AnalysedEncoder::default().push(&mut json, &record);
    let json = String::from_utf8(json).unwrap_or_default();
    Some([render::line(&record, &TimeZone::UTC), json, record.json(), story].join("\n"))
}

/// Reads the summary of a packed segment, and asks it.
pub(crate) fn summary_hostile(content: &[u8]) {
    if let Some(this) = summary::parse_hostile(content) {
        let (before, behind) = (Some(&this), Some(&this));
        let this = &this;
        let _ = filter().may_be_in(Neighbours { before, this, behind });
    }
}

/// Unpacks a segment, and summarises it.
pub(crate) fn packed_hostile(packed: &[u8]) {
    let unpacked = zstd::Decoder::new(packed);
    let _ = unpacked.and_then(|unpacked| summary::of_lines(io::BufReader::new(unpacked)));
}

fn filter() -> Filter {
    Filter {
        text: Some("orders".to_owned()),
        sqlstate: Some("42".to_owned()),
        ..Filter::default()
    }
}

/// Puts a segment into a folder, as it is written or packed by its first byte, with what is behind a blank line as its summary and
/// checkpoint, and has it read by all that read a folder.
pub(crate) fn folder_hostile(bytes: &[u8]) {
    let Some((how, bytes)) = bytes.split_first() else { return };
    // An error here is one of the machine.
    let _ = in_folder(*how, bytes);
}

fn in_folder(how: u8, bytes: &[u8]) -> io::Result<()> {
    let dir = tempfile::tempdir()?;
    let at = memchr::memmem::find(bytes, b"\n\n").map_or(bytes.len(), |at| at + 1);
    let (segment, beside) = bytes.split_at_checked(at).unwrap_or((bytes, &[]));
    let beside = beside.get(1..).unwrap_or_default();
    if how & 1 == 0 {
        std::fs::write(dir.path().join("audit-000001.jsonl"), segment)?;
    } else {
        // Packed here, so that the fuzzer reaches the content.
        let packed = if how & 2 == 0 {
            zstd::bulk::compress(segment, 1)?
        } else {
            segment.to_vec()
        };
        std::fs::write(dir.path().join("audit-000001.jsonl.zst"), packed)?;
        std::fs::write(dir.path().join("audit-000001.summary"), beside)?;
    }
    std::fs::write(dir.path().join(super::CHECKPOINT_FILE), beside)?;
    read_all(dir.path());
    Ok(())
}

fn read_all(dir: &Path) {
    let _ = verify_folder(
        dir,
        &VerifyExpectation {
            from_start: true,
            ..VerifyExpectation::default()
        },
        |_| {},
    );
    let _ = recovery::recover(dir, &RememberedTip::NoLedger);
    let count = |filter: &Filter| read(dir, filter).map(Iterator::count).unwrap_or_default();
    let found = count(&Filter::default());
    assert!(count(&filter()) <= found.max(1) * 2, "a search finds no more than there is");
    let _ = read_whole(dir, &Filter::default()).map(Iterator::count);
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::path::PathBuf;

    use super::*;
    use crate::audit::{Journal, JournalSettings, compactor, segment};
    use crate::base::clock::Clock;

    /// Writes the seeds of the log's targets; needed again when the format of the log changes.
    #[tokio::test]
    #[ignore = "writes into fuzz/seeds"]
    async fn write_seeds() {
        let dir = tempfile::tempdir().unwrap();
        let settings = JournalSettings::in_folder(dir.path());
        let journal = Journal::open(&settings, Clock::system(None)).unwrap();
        for event in crate::audit::testing::all() {
            journal.record(&event).await.unwrap();
        }
        journal.close().await;
        let seed = |target: &str, name: &str, bytes: &[u8]| {
            let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
            std::fs::File::create(folder.join(name)).unwrap().write_all(bytes).unwrap();
        };
        let [segment] = segment::list(&settings.dir).unwrap().try_into().unwrap();
        let text = std::fs::read(&segment.path).unwrap();
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\n").unwrap();
            let name = super::super::record::name_of(line).unwrap().to_owned();
            seed("log_line", &name, line);
        }
        let checkpoint = std::fs::read(settings.dir.join(crate::audit::CHECKPOINT_FILE)).unwrap();
        seed("log_folder", "written", &[b"\x00", &text[..], b"\n", &checkpoint].concat());
        compactor::pack(&segment).unwrap();
        let [packed] = segment::list(&settings.dir).unwrap().try_into().unwrap();
        let summary = std::fs::read(summary::path(&packed)).unwrap();
        seed("log_folder", "packed", &[b"\x01", &text[..], b"\n", &summary].concat());
        seed("log_packed", "whole", &std::fs::read(&packed.path).unwrap());
        seed(
            "log_packed",
            "two",
            &[
                zstd::bulk::compress(b"a\n", 1).unwrap(),
                zstd::bulk::compress(b"b\n", 1).unwrap(),
            ]
            .concat(),
        );
        seed("log_summary", "whole", &summary::seed(&text));
        seed("log_summary", "none", &summary::seed(b""));
    }
}
