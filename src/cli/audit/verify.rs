//! `audit verify`: selects the files, the key and the checkpoint, and prints the result of the verification.
//!
//! A gate may be writing the log at the same time. The log of a remote gate is fetched first, and verified here.
//!
//! INVARIANT: the exit code is 0 only if lines were read and all of them are correct.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;

use super::remembered::RememberedEnd;
use super::source::{LogSource, TrustedKey, fetched, here, kept};
use crate::audit::segment::Segment;
use crate::audit::verify::{CheckedCheckpoint, LogFlaw, VerifyExpectation, VerifyReport, verify};
use crate::base::clock::Clock;
use crate::base::times::When;
use crate::cli::args::{self, OutputArgs, OutputFormat};
use crate::cli::render::{self, list, visible};
use crate::cli::speech::{complain, is_quiet};
use crate::cli::terminal;

/// Number of bytes between two updates of the progress line.
const PROGRESS_BYTES: u64 = 64 << 20;

/// Log to verify, and the means to verify it.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Folder of a log, or some of its segments [default: the configured log, or the log of your login's gate]
    #[arg(value_name = "DIR|FILES", conflicts_with_all = ["control", "token_file"])]
    pub places: Vec<PathBuf>,
    /// Public key that must have signed the log: a file or base64 [default: the one beside the key configured here, if any]
    #[arg(long, value_name = "PUB")]
    pub key: Option<String>,
    /// File of a checkpoint stored elsewhere (-: standard input), not a time: the log must contain it, and segments before it are
    /// not read again
    #[arg(long, value_name = "FILE", alias = "since", value_parser = checkpoint_file)]
    pub checkpoint: Option<String>,
    /// Ledger that stores the end of the log: a gate's ledger.sqlite or a copy [default: the configured one, for the configured log]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["control", "token_file"])]
    pub ledger: Option<PathBuf>,
    /// Address of the gate, if it is not the one configured here.
    #[command(flatten)]
    pub place: args::GatePlace,
    /// Output format.
    #[command(flatten)]
    pub printing: OutputArgs,
}

/// Parses the name of a checkpoint's file. A time is refused, with a hint at the command that takes one.
fn checkpoint_file(name: &str) -> Result<String, String> {
    if Path::new(name).exists() || When::parse(name).is_err() {
        return Ok(name.to_owned());
    }
    Err(format!(
        "`{name}` is a time, but a log is verified from a checkpoint: set the file of one (tidegate audit checkpoint prints it). \
         For a period, use the report, which verifies the log too: tidegate audit report --since '{name}'"
    ))
}

/// Log to verify.
enum VerifySource {
    Log(LogSource),
    Files(Vec<Segment>),
}

/// Report in JSON.
#[derive(Serialize)]
struct JsonReport<'a> {
    whole: bool,
    /// Description of the flaw.
    reason: Option<String>,
    remedy: Option<&'static str>,
    /// Source of the key that the log was verified with.
    key_from: Option<&'a str>,
    #[serde(flatten)]
    verdict: &'a VerifyReport,
}

pub(super) async fn run(config: &Path, args: &VerifyArgs) -> u8 {
    match proven(config, args).await {
        Ok(whole) => u8::from(!whole),
        Err(error) => {
            complain(&format!("{error:#}"));
            2
        }
    }
}

/// Verifies the log and prints the report. Returns true if the log is whole.
async fn proven(config: &Path, args: &VerifyArgs) -> anyhow::Result<bool> {
    let place = place(config, args).await?;
    let since = args.checkpoint.as_deref().map(kept).transpose()?;
    // The ledger is read before the log: by then, the log contains all that the ledger knows of it.
    let (key, ledger) = (args.key.as_deref(), args.ledger.as_deref());
    let (trusted, remembered) = match &place {
        VerifySource::Log(log) => log.expected(config, key, ledger)?,
        VerifySource::Files(_) => (TrustedKey::find(config, key)?, RememberedEnd::named(ledger)?),
    };
    let expected = VerifyExpectation {
        key: trusted.as_ref().map(|trusted| trusted.key),
        skip: since.is_some(),
        gaps_known: since.is_some(),
        kept: since,
        ledger: remembered.kept.clone(),
        beside: None,
        from_start: !matches!(place, VerifySource::Files(_)),
    };
    let clock = Clock::system(None);
    let began = clock.moment().instant;
    let progress = VerifyProgress::new();
    let found = match &place {
        VerifySource::Log(log) => log.verify(&expected, |bytes| progress.read(bytes)),
        VerifySource::Files(segments) => verify(segments, &expected, |bytes| progress.read(bytes)),
    };
    progress.end();
    // Its text already names the reason; as an error source it would be printed twice.
    let mut verdict = found.map_err(|unreadable| anyhow::anyhow!("{unreadable}"))?;
    verdict.remarks.extend(remembered.remarks);
    if verdict.segments == 0 && verdict.flaw == Some(LogFlaw::Empty) {
        bail!("no log found: no file is named like audit-000001.jsonl or audit-000001.jsonl.zst");
    }
    let took = clock.moment().instant.saturating_duration_since(began);
    let report = JsonReport {
        whole: verdict.is_whole(),
        reason: verdict.flaw.as_ref().map(|flaw| visible(&flaw.to_string())),
        remedy: verdict.flaw.as_ref().map(LogFlaw::remedy),
        key_from: trusted.as_ref().map(|trusted| &*trusted.from),
        verdict: &verdict,
    };
    render::show(args.printing.output, &report, |report| words(report, took.as_secs_f64()))?;
    if !report.whole && args.printing.output == OutputFormat::Json {
        complain(report.reason.as_deref().unwrap_or("the log is not whole"));
    }
    Ok(report.whole)
}

/// Returns the log to verify.
async fn place(config: &Path, args: &VerifyArgs) -> anyhow::Result<VerifySource> {
    match args.places.as_slice() {
        [] => {
            let asked = args.ledger.is_none();
            if let Some(copy) = if asked { fetched(config, &args.place).await? } else { None } {
                return Ok(VerifySource::Log(LogSource::Copy(copy)));
            }
            let here = here(config).with_context(|| {
                format!(
                    "cannot read {} as a gate's configuration; set the folder of the log, the gate (--control) or --config",
                    config.display()
                )
            })?;
            Ok(VerifySource::Log(LogSource::Folder(here.audit_dir)))
        }
        [dir] if dir.is_dir() => Ok(VerifySource::Log(LogSource::Folder(dir.clone()))),
        files => Ok(VerifySource::Files(segments(files)?)),
    }
}

/// Returns the files as segments in their order. A segment that exists both packed and unpacked counts once.
fn segments(files: &[PathBuf]) -> anyhow::Result<Vec<Segment>> {
    let mut segments = Vec::with_capacity(files.len());
    for file in files {
        let segment = Segment::at(file).with_context(|| {
            format!(
                "{} is not a segment of a log; set one folder, or files like audit-000001.jsonl or audit-000001.jsonl.zst",
                file.display()
            )
        })?;
        segments.push(segment);
    }
    segments.sort_by_key(|segment| (segment.number, segment.packed));
    let of_one_folder = |a: &Segment, b: &Segment| a.path.parent() == b.path.parent();
    if let Some([one, other]) = segments
        .array_windows()
        .find(|[one, other]| one.number == other.number && !of_one_folder(one, other))
    {
        bail!(
            "{} and {} have the same number; verify one log at a time",
            one.path.display(),
            other.path.display()
        );
    }
    segments.dedup_by_key(|segment| segment.number);
    Ok(segments)
}

/// Returns the report as text.
fn words(report: &JsonReport<'_>, seconds: f64) -> String {
    let verdict = report.verdict;
    let mut text = match (&report.reason, report.remedy) {
        (Some(reason), remedy) => format!("NOT WHOLE: {reason}\nWhat to do: {}\n", remedy.unwrap_or_default()),
        (None, _) => "The log is whole.\n".to_owned(),
    };
    let signed = match verdict.keys.as_slice() {
        _ if verdict.proven == 0 => "nothing".to_owned(),
        keys => format!("up to line {}, by {}", verdict.proven, keys.join(", then ")),
    };
    let log = verdict.log.as_ref().map_or("-".to_owned(), ToString::to_string);
    let rows = [
        ("log", log),
        (
            "lines",
            format!(
                "{} to {}, in {}; {} in {seconds:.1} s",
                verdict.first,
                verdict.last,
                if verdict.segments == 1 {
                    "1 segment".to_owned()
                } else {
                    format!("{} segments", verdict.segments)
                },
                megabytes(verdict.bytes)
            ),
        ),
        ("signed", signed),
        ("key", report.key_from.map_or("none given".to_owned(), visible)),
        ("end", held(&verdict.held_against)),
    ];
    text.push_str(&list(&rows));
    for remark in &verdict.remarks {
        text.push_str("\n- ");
        text.push_str(&visible(remark));
    }
    text
}

/// Describes the checkpoints that the log's end was compared with.
pub(in crate::cli) fn held(against: &[CheckedCheckpoint]) -> String {
    if against.is_empty() {
        return "compared with nothing: missing lines at the end cannot be detected".to_owned();
    }
    let each: Vec<String> = against
        .iter()
        .map(|held| format!("{} (line {})", held.source, held.covers))
        .collect();
    format!("compared with {}", each.join(", "))
}

fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000)
}

/// Progress line on a terminal.
struct VerifyProgress {
    read: AtomicU64,
    shown: bool,
}

impl VerifyProgress {
    fn new() -> Self {
        Self {
            read: AtomicU64::new(0),
            shown: io::stderr().is_terminal() && !is_quiet(),
        }
    }

    /// Counts bytes read. Called from several threads.
    fn read(&self, bytes: u64) {
        let before = self.read.fetch_add(bytes, Ordering::Relaxed);
        if self.shown && (before + bytes) / PROGRESS_BYTES > before / PROGRESS_BYTES {
            terminal::write(&format!("\rread {}", megabytes(before + bytes)));
        }
    }

    /// Clears the line.
    fn end(&self) {
        if self.shown {
            terminal::write(&format!("\r{:30}\r", ""));
        }
    }
}

#[cfg(test)]
mod tests;
