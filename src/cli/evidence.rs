//! `audit report`: the evidence that auditors ask for, as a page, as CSV files, or as text.
//!
//! It reads the log's folder, or a copy fetched from a remote gate; `evidence` counts and formats.

use std::path::{Path, PathBuf};

use clap::Args;

use super::args::GatePlace;
use super::audit::remembered::RememberedEnd;
use super::audit::source::{LogSource, TrustedKey, fetched};
use super::client_error::ClientError;
use super::render::{self, visible};
use super::zone;
use crate::audit::evidence::{ReportCollector, ReportPeriod, document, tables, write};
use crate::audit::report::page;
use crate::audit::verify::{VerifyExpectation, VerifyReport};
use crate::audit::{Filter, read_whole};
use crate::base::times::When;
use crate::config;

mod text;

/// Period and destination of a report.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  tidegate audit report --since 2026-07-01 --until 2026-08-01 --key gate-audit.pub --out july

Writes report.html (to read and print) and a CSV file for each table to the folder. Without --out
the report is printed as text, as wide as the terminal or 80 columns; ids are never cut, the least
important columns are dropped first. On another machine it uses the log that the gate sends:
  tidegate audit report --since 30d --control https://gate:7433 --key gate-audit.pub --out july")]
pub struct ReportArgs {
    /// Start of the period: an age (30d) or a time (2026-07-01, yesterday, last tuesday, 2026-07-01T12:00Z)
    #[arg(long, value_name = "WHEN", value_parser = When::parse)]
    pub since: When,
    /// End of the period, exclusive; like --since [default: now]
    #[arg(long, value_name = "WHEN", value_parser = When::parse)]
    pub until: Option<When>,
    /// Folder of the log or of a copy [default: the configured log, or the log of your login's gate]
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["control", "token_file"])]
    pub dir: Option<PathBuf>,
    /// Public key that must have signed the log: a file or base64 [default: the one beside the key configured here, if any]
    #[arg(long, value_name = "PUB")]
    pub key: Option<String>,
    /// Ledger that stores the end of the log: a gate's ledger.sqlite or a copy [default: the configured one, for the configured log]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["control", "token_file"])]
    pub ledger: Option<PathBuf>,
    /// Folder for the page and the CSV files; created if it does not exist [default: prints the report as text]
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Address of the gate, if it is not the one configured here.
    #[command(flatten)]
    pub place: GatePlace,
}

pub(super) async fn report(config: &Path, args: &ReportArgs) -> anyhow::Result<()> {
    let now = zone::now();
    let made_at = now.timestamp();
    let period = ReportPeriod {
        from: args.since.time(&now),
        to: args.until.as_ref().map_or(made_at, |until| until.time(&now)),
    };
    anyhow::ensure!(
        period.from < period.to,
        "the period since {} until {} is empty",
        render::time(period.from),
        render::time(period.to)
    );
    let log = source(config, args).await?;
    let mut collector = ReportCollector::new(period);
    // From the log's beginning, since some of the state at the start of the period comes from before it.
    let filter = Filter {
        until: Some(period.to),
        ..Filter::default()
    };
    for found in read_whole(log.folder(), &filter)? {
        collector.take(found.as_ref());
    }
    let (trusted, remembered) = log.expected(config, args.key.as_deref(), args.ledger.as_deref())?;
    let verdict = verdict(&log, trusted.as_ref(), remembered);
    let whole = verdict.as_ref().is_ok_and(VerifyReport::is_whole);
    let report = collector.report(verdict, trusted.map(|trusted| trusted.from));
    let document = document(&report, tables(&report), made_at);
    let key = report
        .key_from
        .as_ref()
        .map_or("no key, which detects little".to_owned(), |from| format!("the key {from}"));
    match &args.out {
        Some(out) => {
            let files = write(out, &page(&document), &document.tables)?;
            let found = format!("wrote {files} files to {}; the log was verified with {key}", out.display());
            render::print(&visible(&found))?;
        }
        None => render::print(&text::report(&document, period, made_at))?,
    }
    anyhow::ensure!(whole, "the log is not whole or could not be verified; see the report");
    anyhow::ensure!(
        report.unreadable.count() == 0,
        "cannot read {} lines of the log; the report is incomplete and notes it",
        report.unreadable.count()
    );
    Ok(())
}

/// Verifies the log. A log that cannot be read is a result too.
fn verdict(log: &LogSource, trusted: Option<&TrustedKey>, remembered: RememberedEnd) -> Result<VerifyReport, String> {
    let expected = VerifyExpectation {
        key: trusted.map(|trusted| trusted.key),
        ledger: remembered.kept,
        from_start: true,
        ..VerifyExpectation::default()
    };
    let mut verdict = log.verify(&expected, |_| {}).map_err(|error| error.to_string())?;
    verdict.remarks.extend(remembered.remarks);
    Ok(verdict)
}

/// Returns the named folder, a copy fetched from the specified gate, or the folder of the gate configured here.
async fn source(config: &Path, args: &ReportArgs) -> anyhow::Result<LogSource> {
    if let Some(dir) = &args.dir {
        return Ok(LogSource::Folder(dir.clone()));
    }
    if let Some(copy) = fetched(config, &args.place).await? {
        return Ok(LogSource::Copy(copy));
    }
    let place = config::control_address(config).map_err(|mistakes| {
        let mistakes = ClientError::Config(mistakes);
        anyhow::anyhow!("{mistakes}\nor set the log's folder (--dir), or the gate (--control)")
    })?;
    Ok(LogSource::Folder(place.audit_dir))
}
