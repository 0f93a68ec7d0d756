//! `audit report` and `audit export`: what others are given of the log.
//!
//! It reads the log's folder itself and needs no gate; counting and laying out is `evidence`'s.

use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::audit::{Remembered, Trusted};
use super::log::args::{When, events};
use super::render::{self, visible};
use crate::audit::verify::{Expected, Verdict, verify_folder};
use crate::audit::{EventName, Filter, read_whole};
use crate::clock::Clock;
use crate::config;
use crate::evidence::{self, Collector, Period, page, tables, write};
use crate::ids::{GrantId, SessionId};
use crate::names::{IdentityName, TargetName};

/// Which time, and where to.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  tidegate audit report --from 2026-07-01 --to 2026-08-01 --key gate-audit.pub --out july

Writes report.html (to read and print) and a CSV file for each table into the folder.")]
pub struct ReportArgs {
    /// From this time on: a time (2026-07-01, yesterday, 2026-07-01T12:00:00Z) or how long ago (30d)
    #[arg(long, value_name = "WHEN", value_parser = When::parse)]
    pub from: When,
    /// Before this time; as --from [default: now]
    #[arg(long, value_name = "WHEN", value_parser = When::parse)]
    pub to: Option<When>,
    /// The log's folder, or a copy of it [default: as the configuration says]
    #[arg(long, value_name = "FOLDER")]
    pub dir: Option<PathBuf>,
    /// The public key that has to have signed it: a file, or its base 64 [default: the one beside the key configured here, if there
    /// is one]
    #[arg(long, value_name = "PUB")]
    pub key: Option<String>,
    /// The ledger that remembers where the log ends: a gate's ledger.sqlite, or a copy [default: the one configured here, for the log
    /// configured here]
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
    /// The folder for the report; made if it does not exist
    #[arg(long, value_name = "FOLDER", default_value = "tidegate-report")]
    pub out: PathBuf,
}

/// Which records, and where to.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tidegate audit export --from 30d --out log.parquet
  duckdb -c \"SELECT identity, count(*) FROM 'log.parquet' WHERE event = 'statement' GROUP BY identity\"")]
pub struct ExportArgs {
    /// From this time on: a time (2026-07-01, yesterday, 2026-07-01T12:00:00Z) or how long ago (30d)
    #[arg(long, value_name = "WHEN", value_parser = When::parse)]
    pub from: Option<When>,
    /// Before this time; as --from
    #[arg(long, value_name = "WHEN", value_parser = When::parse)]
    pub to: Option<When>,
    /// Of this identity
    #[arg(long, value_name = "NAME")]
    pub identity: Option<IdentityName>,
    /// Under this grant
    #[arg(long, value_name = "GRANT")]
    pub grant: Option<GrantId>,
    /// Of this session
    #[arg(long, value_name = "SESSION")]
    pub session: Option<SessionId>,
    /// On this target
    #[arg(long, value_name = "NAME")]
    pub target: Option<TargetName>,
    /// Only this kind of record
    #[arg(long, value_name = "KIND", value_parser = PossibleValuesParser::new(events()).try_map(|kind| kind.parse::<EventName>()))]
    pub event: Option<EventName>,
    /// The log's folder, or a copy of it [default: as the configuration says]
    #[arg(long, value_name = "FOLDER")]
    pub dir: Option<PathBuf>,
    /// The file to be written; it is replaced if it exists
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

pub(super) fn report(config: &Path, args: &ReportArgs) -> anyhow::Result<()> {
    let now = Clock::system(None).now();
    let period = Period {
        from: args.from.time(now),
        to: args.to.map_or(now, |to| to.time(now)),
    };
    anyhow::ensure!(
        period.from < period.to,
        "the time from {} to {} is none",
        period.from,
        period.to
    );
    let dir = folder(config, args.dir.as_deref())?;
    let mut collector = Collector::new(period);
    // From the log's beginning: what was there at the period's began before it.
    let filter = Filter {
        until: Some(period.to),
        ..Filter::default()
    };
    for found in read_whole(&dir, &filter)? {
        collector.take(found.as_ref());
    }
    let trusted = Trusted::find(config, args.key.as_deref())?;
    let remembered = Remembered::find(config, &dir, args.ledger.as_deref())?;
    let verdict = verdict(&dir, trusted.as_ref(), remembered);
    let whole = verdict.as_ref().is_ok_and(Verdict::is_whole);
    let report = collector.report(verdict, trusted.map(|trusted| trusted.from));
    let tables = tables(&report);
    let files = write(&args.out, &page(&report, &tables, now), &tables)?;
    let key = report
        .key_from
        .as_ref()
        .map_or("no key, which proves little".to_owned(), |from| format!("the key {from}"));
    let found = format!("{files} files are in {}; the log was held against {key}", args.out.display());
    render::print(&visible(&found))?;
    anyhow::ensure!(
        whole,
        "the log is not whole, or could not be verified: the report says what was found"
    );
    anyhow::ensure!(
        report.unreadable.count() == 0,
        "{} lines of the log could not be read: the report is not complete, and says so",
        report.unreadable.count()
    );
    Ok(())
}

/// Proves the log; that it cannot be read is a finding, too.
fn verdict(dir: &Path, trusted: Option<&Trusted>, remembered: Remembered) -> Result<Verdict, String> {
    let expected = Expected {
        key: trusted.map(|trusted| trusted.key),
        ledger: remembered.kept,
        from_start: true,
        ..Expected::default()
    };
    let mut verdict = verify_folder(dir, &expected, |_| {}).map_err(|error| error.to_string())?;
    verdict.remarks.extend(remembered.remarks);
    Ok(verdict)
}

fn folder(config: &Path, named: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(dir) = named {
        return Ok(dir.to_owned());
    }
    let place = config::control_address(config).map_err(|mistakes| {
        let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("{}\nor name the log's folder: --dir", lines.join("\n"))
    })?;
    Ok(place.audit_dir)
}

pub(super) fn export(config: &Path, args: &ExportArgs) -> anyhow::Result<()> {
    let now = Clock::system(None).now();
    let filter = Filter {
        identity: args.identity.clone(),
        grant: args.grant.clone(),
        session: args.session.clone(),
        target: args.target.clone(),
        since: args.from.map(|from| from.time(now)),
        until: args.to.map(|to| to.time(now)),
        event: args.event,
        ..Filter::default()
    };
    let mut unreadable = 0_u64;
    let records = read_whole(&folder(config, args.dir.as_deref())?, &filter)?.filter_map(|found| {
        found
            .inspect_err(|error| {
                unreadable += 1;
                super::complain(&error.to_string());
            })
            .ok()
    });
    let rows = evidence::export(&args.out, records)?;
    render::print(&format!("{rows} records are in {}", args.out.display()))?;
    anyhow::ensure!(
        unreadable == 0,
        "{unreadable} lines of the log could not be read: the file has not all there is"
    );
    Ok(())
}
