//! `run`: a report on what a test run did, and the difference between two runs.
//!
//! The gate reads its log, or this program the log's folder; both count in the same way. Here the result is only laid out.

use std::path::Path;

use clap::builder::ArgPredicate;
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::args::COMMON_HEADING;
use super::log::args::{LogLocation, PeriodArgs};
use super::{render, report_text, zone};
use crate::audit::report::{ReportDocument, ReportTable, markdown, page};
use crate::audit::runs::{self, RunDiff, RunError, RunPeriod, RunReport, RunSelector};
use crate::control::model::{RunDiffQuery, RunReportQuery};

/// Commands about runs.
#[derive(Debug, Subcommand)]
pub enum RunsCommand {
    /// Reports on a run: statements by test, failures, tables, the slowest, and who else changed the same tables meanwhile
    #[command(after_help = "\
Examples:
  tidegate run report ci-4711
  tidegate run report ci-4711 --output markdown >> \"$GITHUB_STEP_SUMMARY\"
  tidegate run report gr_4k2m9x0a7b --output html > run.html
  tidegate run report nightly --since 12h --dir copy/audit

A run is the name that its sessions have: the setting tidegate.run of the connection
(PGOPTIONS=\"-c tidegate.run=ci-4711\"), or the run of a pipeline's token. The id of a grant or of a
session stands for a run, too. Without the right to read the log you get the report on your own
grants by id, without the part about others.")]
    Report(RunReportArgs),
    /// Compares two runs: the statements of RED that GREEN does not have, and the reverse
    #[command(after_help = "\
Examples:
  tidegate run diff ci-4710 ci-4711
  tidegate run diff ci-4710 ci-4711 --output markdown >> \"$GITHUB_STEP_SUMMARY\"
  tidegate run diff ci-4710 ci-4711 --json | jq -e .same

Statements are compared without their values, test by test: which are in one run only, which ran
more or less often, which ended otherwise, and where the order of a test differs first.")]
    Diff(RunDiffArgs),
}

/// Run to report on.
#[derive(Debug, Args)]
pub struct RunReportArgs {
    /// Run: its name, or the id of a grant or a session
    #[arg(value_name = "RUN")]
    pub run: RunSelector,
    /// Period.
    #[command(flatten)]
    pub period: PeriodArgs,
    /// Location of the log.
    #[command(flatten)]
    pub origin: LogLocation,
    /// Output format
    #[arg(long, short, value_enum, default_value = "table", default_value_if("json", ArgPredicate::IsPresent, "json"), help_heading = COMMON_HEADING)]
    pub output: RunReportFormat,
    /// Prints JSON, like `--output json`
    #[arg(long, conflicts_with = "output", help_heading = COMMON_HEADING)]
    pub json: bool,
}

/// Runs to compare.
#[derive(Debug, Args)]
pub struct RunDiffArgs {
    /// Run that was well: its name, or the id of a grant or a session
    #[arg(value_name = "GREEN")]
    pub green: RunSelector,
    /// Run that was not
    #[arg(value_name = "RED")]
    pub red: RunSelector,
    /// Location of the log.
    #[command(flatten)]
    pub origin: LogLocation,
    /// Output format
    #[arg(long, short, value_enum, default_value = "table", default_value_if("json", ArgPredicate::IsPresent, "json"), help_heading = COMMON_HEADING)]
    pub output: RunDiffFormat,
    /// Prints JSON, like `--output json`
    #[arg(long, conflicts_with = "output", help_heading = COMMON_HEADING)]
    pub json: bool,
}

/// Output format of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RunReportFormat {
    /// Text for people
    Table,
    /// JSON for scripts
    Json,
    /// Markdown for the summary of a job
    Markdown,
    /// Page to keep, without anything that is loaded
    Html,
}

/// Output format of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RunDiffFormat {
    /// Text for people
    Table,
    /// JSON for scripts
    Json,
    /// Markdown for the summary of a job
    Markdown,
}

pub(super) async fn run(config: &Path, command: RunsCommand) -> anyhow::Result<()> {
    match command {
        RunsCommand::Report(args) => report(config, args).await,
        RunsCommand::Diff(args) => diff(config, args).await,
    }
}

async fn report(config: &Path, args: RunReportArgs) -> anyhow::Result<()> {
    let now = zone::now();
    let period = RunPeriod {
        since: args.period.since.map(|when| when.time(&now)),
        until: args.period.until.map(|when| when.time(&now)),
    };
    let query = RunReportQuery {
        run: args.run.clone(),
        since: period.since,
        until: period.until,
    };
    let read = |dir: &Path| runs::report(dir, &args.run, period, true);
    let report: RunReport = answer(config, &args.origin, "/v1/runs/report", &query, read).await?;
    let document = || runs::of_report(&report);
    let text = match args.output {
        RunReportFormat::Json => render::json(&report)?,
        RunReportFormat::Markdown => markdown(&document()),
        RunReportFormat::Html => page(&document()),
        RunReportFormat::Table => text(&document(), &report_head(&report), report_text::width()),
    };
    render::print(&text)?;
    Ok(())
}

async fn diff(config: &Path, args: RunDiffArgs) -> anyhow::Result<()> {
    let query = RunDiffQuery {
        green: args.green.clone(),
        red: args.red.clone(),
    };
    let read = |dir: &Path| runs::diff(dir, &args.green, &args.red);
    let diff: RunDiff = answer(config, &args.origin, "/v1/runs/diff", &query, read).await?;
    let document = || runs::of_diff(&diff);
    let text = match args.output {
        RunDiffFormat::Json => render::json(&diff)?,
        RunDiffFormat::Markdown => markdown(&document()),
        RunDiffFormat::Table => text(&document(), &diff_head(&diff), report_text::width()),
    };
    render::print(&text)?;
    Ok(())
}

/// Returns the gate's answer, or what is read in the folder that is given.
async fn answer<T: DeserializeOwned>(
    config: &Path,
    origin: &LogLocation,
    path: &str,
    query: &impl Serialize,
    read: impl Fn(&Path) -> Result<T, RunError>,
) -> anyhow::Result<T> {
    match &origin.dir {
        Some(dir) => Ok(read(dir)?),
        None => Ok(origin.place.operator(config)?.get_slowly(path, query).await?),
    }
}

fn report_head(report: &RunReport) -> String {
    let [first, last] = [report.first, report.last].map(render::time);
    format!("Run {}\n{first} until {last}", render::visible(&report.run))
}

fn diff_head(diff: &RunDiff) -> String {
    let side = |name: &str, side: &runs::RunSide| {
        let [first, last] = [side.first, side.last].map(render::time);
        format!("{name:<6} {}  {first} until {last}", render::visible(&side.run))
    };
    let found = if diff.same {
        "No difference was found."
    } else {
        "The runs differ."
    };
    format!("{}\n{}\n{found}", side("green", &diff.green), side("red", &diff.red))
}

fn text(document: &ReportDocument, head: &str, width: usize) -> String {
    let rest = |table: &ReportTable| format!("--output json has {} rows.", table.rows.len());
    report_text::text(document, head.to_owned(), rest, width)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::runs::testing::{changed, suite};

    #[test]
    fn a_report_fits_eighty_columns_and_cuts_no_session() {
        let report = suite("green").report();
        let document = runs::of_report(&report);
        let text = text(&document, &report_head(&report), 80);
        for line in text.lines().skip_while(|line| !line.starts_with("Tests")) {
            assert!(line.chars().count() <= 80, "{line}");
        }
        for failed in &report.failures.items {
            assert!(text.contains(failed.first.session.as_str()), "{text}");
        }
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_difference_is_told_whole() {
        let (green, red) = (suite("green"), changed("red"));
        let diff = green.diff(&red);
        let text = text(&runs::of_diff(&diff), &diff_head(&diff), 80);
        for different in &diff.statements.items {
            assert!(text.contains(&different.statement), "{text}");
        }
        insta::assert_snapshot!(text);
    }
}
