//! Reports and comparisons of runs as documents: findings, figures, tables, and what each of them does not show. Pure.
//!
//! This module lays nothing out.

use super::assemble::repeated_note;
use super::diff::{Divergence, Executions, OnlySide, RunDiff, RunSide, RunStep, StatementDifference, StatementDifferenceKind};
use super::report::{FailedStatement, OtherWriter, RunReport, StatementPlace};
use crate::audit::render::span;
use crate::audit::report::{Elsewhere, ReportDocument, ReportTable};
use crate::base::visible;

/// Number of characters that are shown of a run's name, and of a list of identities.
const MAX_NAME_CHARS: usize = 200;

/// Returns a report as a document.
#[must_use]
pub fn of_report(report: &RunReport) -> ReportDocument {
    ReportDocument {
        title: format!("Run {}", name(&report.run)),
        heading: format!("Run `{}`", name(&report.run)),
        note: format!(
            "{:.0} to {:.0}, from the gate's log. Values are left out of statements. Texts of errors are not on record.",
            report.first, report.last
        ),
        alarms: alarms(report),
        figures: figures(report),
        tables: [
            Some(tests(report)),
            Some(failures(report)),
            Some(conflicts(report)),
            report
                .meanwhile
                .as_ref()
                .map(|meanwhile| writers(&meanwhile.writers.items, meanwhile.writers.more)),
            Some(tables(report)),
            Some(slowest(report)),
            Some(busiest(report)),
            Some(repeated(report)),
            Some(endings(report)),
        ]
        .into_iter()
        .flatten()
        .collect(),
        elsewhere: Elsewhere::Json,
    }
}

/// Returns a comparison as a document.
#[must_use]
pub fn of_diff(diff: &RunDiff) -> ReportDocument {
    let (green, red) = (&diff.green, &diff.red);
    let found = if diff.same {
        "No difference was found.".to_owned()
    } else {
        format!(
            "{} statements differ, and {} tests are in one run only.",
            diff.statements.count(),
            diff.tests.count()
        )
    };
    let of = |side: &RunSide| format!("{} statements, {} failed, {} tests", side.statements, side.failed, side.tests);
    ReportDocument {
        title: format!("Run {} against {}", name(&red.run), name(&green.run)),
        heading: format!("Run `{}` (red) against `{}` (green)", name(&red.run), name(&green.run)),
        note: format!(
            "{found} Statements are compared without their values, test by test, by how often they ran and how they ended."
        ),
        alarms: diff.limits.clone(),
        figures: vec![("Green", of(green)), ("Red", of(red))],
        tables: vec![different(diff), diverged(diff), only(diff)],
        elsewhere: Elsewhere::Json,
    }
}

/// Returns the name of a run as it is shown.
fn name(run: &str) -> String {
    visible::start(run, MAX_NAME_CHARS)
}

fn alarms(report: &RunReport) -> Vec<String> {
    let mut alarms = report.limits.clone();
    let meanwhile = report.meanwhile.as_ref();
    for (count, what) in [
        (report.totals.open_sessions, "Sessions whose end is not on record (yet)"),
        (
            report.totals.counts.outcome_unknown,
            "Statements without an outcome on record, which may have run",
        ),
        (
            report.totals.counts.not_read,
            "Statements whose text could not be read, or does not show what it runs; they may use other tables",
        ),
        (
            meanwhile.map_or(0, |meanwhile| meanwhile.writers.count()),
            "Changes by other sessions to tables of this run meanwhile (by session and table)",
        ),
        (
            meanwhile.map_or(0, |meanwhile| meanwhile.not_read),
            "Statements of other sessions meanwhile that could not be read; each may have changed a table",
        ),
    ] {
        if count > 0 {
            alarms.push(format!("{what}: {count}."));
        }
    }
    if meanwhile.is_none() {
        alarms.push("Other sessions were not looked at: that takes the right to read the log.".to_owned());
    }
    alarms
}

fn figures(report: &RunReport) -> Vec<(&'static str, String)> {
    let totals = &report.totals;
    let named = report.tests.items.iter().filter(|test| test.test.is_some()).count() as u64;
    let identities: Vec<String> = report.identities.items.iter().map(ToString::to_string).collect();
    let count = |count: u64| count.to_string();
    vec![
        ("Identities", name(&identities.join(", "))),
        ("Sessions", count(totals.sessions)),
        ("Tests named", count(named + report.tests.more)),
        ("Statements", count(totals.counts.statements)),
        ("failed", count(totals.counts.failed)),
        ("rolled back later", count(totals.counts.rolled_back)),
        ("Rows returned", count(totals.rows_returned)),
        ("Rows changed", count(totals.rows_changed)),
        ("Time in statements", span(totals.duration_us)),
    ]
}

fn time(at: jiff::Timestamp) -> String {
    format!("{at:.0}")
}

/// Returns the name of a test, or a dash.
fn test(name: Option<&String>) -> String {
    name.cloned().unwrap_or_else(|| "-".to_owned())
}

fn number(place: &StatementPlace) -> String {
    place.number.to_string()
}

fn tests(report: &RunReport) -> ReportTable {
    ReportTable::of(
        "tests",
        "Tests",
        "As the suite names them: by a comment of each statement (sqlcommenter's `test`), or by the application name of the session. \
         A dash stands for statements without a name. Rows changed are those of the command tags, also if they were rolled back.",
    )
    .marked(
        &report.tests.items,
        |uses| uses.counts.failed > 0,
        &[
            ("test", |uses| test(uses.test.as_ref())),
            ("statements", |uses| uses.counts.statements.to_string()),
            ("failed", |uses| uses.counts.failed.to_string()),
            ("took", |uses| span(uses.duration_us)),
            ("rows changed", |uses| uses.rows_changed.to_string()),
            ("rows returned", |uses| uses.rows_returned.to_string()),
            ("rolled back", |uses| uses.counts.rolled_back.to_string()),
            ("first", |uses| time(uses.first)),
        ],
    )
    .and_more(report.tests.more)
}

fn failures(report: &RunReport) -> ReportTable {
    ReportTable::of(
        "failures",
        "Failures",
        "Statements that failed, equal ones of a test together. `tidegate log session` shows the session of the first one.",
    )
    .filled(
        &report.failures.items,
        &[
            ("sqlstate", |failed| failed.sqlstate.clone()),
            ("count", |failed| failed.count.to_string()),
            ("test", |failed| test(failed.test.as_ref())),
            ("statement", |failed| failed.statement.clone()),
            ("session", |failed| failed.first.session.to_string()),
            ("number", |failed| number(&failed.first)),
            ("guard rail", |failed| failed.rule.clone().unwrap_or_default()),
            ("trace", |failed| failed.first.trace.clone().unwrap_or_default()),
            ("id", |failed| failed.id.clone()),
        ],
    )
    .and_more(report.failures.more)
}

/// Returns what an SQLSTATE tells of other transactions.
fn meaning(failed: &FailedStatement) -> String {
    let meaning = match failed.sqlstate.as_str() {
        "55P03" => "lock not available (NOWAIT, lock_timeout)",
        "40P01" => "deadlock",
        "40001" => "serialization failure",
        "57014" => "cancelled (statement_timeout, a client, the gate)",
        _ => "",
    };
    meaning.to_owned()
}

fn conflicts(report: &RunReport) -> ReportTable {
    ReportTable::of(
        "conflicts",
        "Locks and conflicts",
        "Statements that failed because of another transaction, or were stopped while they may have waited for one. A wait that ended \
         well is not on record: it is a part of the statement's duration. Nor is the session that held the lock.",
    )
    .filled(
        &report.conflicts.items,
        &[
            ("sqlstate", |failed| failed.sqlstate.clone()),
            ("meaning", meaning),
            ("count", |failed| failed.count.to_string()),
            ("longest", |failed| span(failed.longest_us)),
            ("test", |failed| test(failed.test.as_ref())),
            ("statement", |failed| failed.statement.clone()),
            ("session", |failed| failed.first.session.to_string()),
            ("number", |failed| number(&failed.first)),
        ],
    )
    .and_more(report.conflicts.more)
}

fn writers(items: &[OtherWriter], more: u64) -> ReportTable {
    ReportTable::of(
        "meanwhile",
        "Others who changed the same tables meanwhile",
        "Other sessions through this gate that changed a table which this run names, between its first and its last record. Changes \
         through views, functions, triggers and cascades, and past the gate, are not seen; work that a client rolled back itself counts.",
    )
    .marked(
        items,
        |writer| writer.run_writes,
        &[
            ("table", |writer| writer.table.to_string()),
            ("identity", |writer| writer.identity.to_string()),
            ("session", |writer| writer.session.to_string()),
            ("statements", |writer| writer.counts.statements.to_string()),
            ("rows changed", |writer| writer.rows_changed.to_string()),
            ("run", |writer| writer.run.clone().unwrap_or_default()),
            ("first", |writer| time(writer.first)),
            ("last", |writer| time(writer.last)),
            ("failed", |writer| writer.counts.failed.to_string()),
            ("rolled back", |writer| writer.counts.rolled_back.to_string()),
            ("target", |writer| writer.target.to_string()),
        ],
    )
    .and_more(more)
}

fn tables(report: &RunReport) -> ReportTable {
    ReportTable::of(
        "tables",
        "Tables",
        "As the statements name them, so that a table may stand here with and without its schema. Rows are those of statements that \
         change one table.",
    )
    .filled(
        &report.tables.items,
        &[
            ("table", |uses| uses.table.to_string()),
            ("writes", |uses| uses.writes.to_string()),
            ("rows changed", |uses| uses.rows_changed.to_string()),
            ("reads", |uses| uses.reads.to_string()),
            ("failed", |uses| uses.not_done.to_string()),
            ("target", |uses| uses.target.to_string()),
        ],
    )
    .and_more(report.tables.more)
}

fn slowest(report: &RunReport) -> ReportTable {
    ReportTable::of(
        "slowest",
        "Slowest statements",
        "From forwarding to the last byte of the response, as the gate saw it: with waits for locks, and with the time that the client \
         took to read.",
    )
    .marked(
        &report.slowest.items,
        |slow| slow.sqlstate.is_some(),
        &[
            ("took", |slow| span(slow.duration_us)),
            ("test", |slow| test(slow.test.as_ref())),
            ("statement", |slow| slow.statement.clone()),
            ("rows", |slow| slow.rows.to_string()),
            ("session", |slow| slow.place.session.to_string()),
            ("number", |slow| number(&slow.place)),
            ("failed", |slow| slow.sqlstate.clone().unwrap_or_default()),
            ("trace", |slow| slow.place.trace.clone().unwrap_or_default()),
        ],
    )
    .and_more(report.slowest.more)
}

fn busiest(report: &RunReport) -> ReportTable {
    ReportTable::of(
        "busiest",
        "Statements by time",
        "Executions of each normalised statement, by the time that they took in all.",
    )
    .filled(
        &report.busiest.items,
        &[
            ("took", |sum| span(sum.duration_us)),
            ("count", |sum| sum.executions.to_string()),
            ("statement", |sum| sum.statement.clone()),
            ("longest", |sum| span(sum.longest_us)),
            ("failed", |sum| sum.failed.to_string()),
            ("tests", |sum| sum.tests.to_string()),
            ("rows", |sum| sum.rows.to_string()),
            ("id", |sum| sum.id.clone()),
        ],
    )
    .and_more(report.busiest.more)
}

fn repeated(report: &RunReport) -> ReportTable {
    ReportTable::of("repeated", "Repeated statements", repeated_note())
        .filled(
            &report.repeated.items,
            &[
                ("in a row", |row| row.longest_row.to_string()),
                ("times", |row| row.times.to_string()),
                ("test", |row| test(row.test.as_ref())),
                ("statement", |row| row.statement.clone()),
                ("session", |row| row.first.session.to_string()),
                ("number", |row| number(&row.first)),
            ],
        )
        .and_more(report.repeated.more)
}

fn endings(report: &RunReport) -> ReportTable {
    ReportTable::of(
        "endings",
        "Ends of its sessions",
        "quit and disconnected are the client's; expired, revoked, killed and the like are the gate's.",
    )
    .filled(
        &report.endings,
        &[
            ("ending", |(ending, _)| ending.clone()),
            ("sessions", |(_, count)| count.to_string()),
        ],
    )
}

fn different(diff: &RunDiff) -> ReportTable {
    ReportTable::of(
        "statements",
        "Statements that differ",
        "In tests of both runs. `tidegate log session` shows the session of the first execution.",
    )
    .filled(
        &diff.statements.items,
        &[
            ("difference", difference),
            ("test", |difference| test(difference.test.as_ref())),
            ("statement", |difference| difference.statement.clone()),
            ("green", |difference| executions(&difference.green)),
            ("red", |difference| executions(&difference.red)),
            ("see", |difference| {
                format!("{} #{}", difference.first.session, difference.first.number)
            }),
        ],
    )
    .and_more(diff.statements.more)
}

fn difference(difference: &StatementDifference) -> String {
    let kind = match difference.kind {
        StatementDifferenceKind::OnlyRed => "only in red",
        StatementDifferenceKind::OnlyGreen => "only in green",
        StatementDifferenceKind::Outcome => "another outcome",
        StatementDifferenceKind::Count => "another count",
    };
    kind.to_owned()
}

fn executions(executions: &Executions) -> String {
    let each: Vec<String> = executions
        .outcomes
        .iter()
        .map(|(outcome, count)| format!("{count} {outcome}"))
        .collect();
    if each.is_empty() { "none".to_owned() } else { each.join(", ") }
}

fn diverged(diff: &RunDiff) -> ReportTable {
    ReportTable::of(
        "divergences",
        "First divergence of each test",
        "The first statement at which the order of a test, or an outcome, differs. Where several sessions work for a test the order \
         may be chance.",
    )
    .marked(
        &diff.divergences.items,
        |divergence| !divergence.several_sessions,
        &[
            ("test", |divergence| test(divergence.test.as_ref())),
            ("at", at),
            ("green", |divergence| step(divergence.green.as_ref())),
            ("red", |divergence| step(divergence.red.as_ref())),
        ],
    )
    .and_more(diff.divergences.more)
}

fn at(divergence: &Divergence) -> String {
    let chance = if divergence.several_sessions {
        " (several sessions)"
    } else {
        ""
    };
    format!("statement {}{chance}", divergence.at)
}

fn step(step: Option<&RunStep>) -> String {
    step.map_or_else(
        || "(no more)".to_owned(),
        |step| format!("{} -> {}", step.statement, step.outcome),
    )
}

fn only(diff: &RunDiff) -> ReportTable {
    ReportTable::of("tests", "Tests in one run only", "Their statements are not compared.")
        .filled(
            &diff.tests.items,
            &[
                ("test", |only| only.test.clone()),
                ("only in", |only| side(only.only)),
                ("statements", |only| only.statements.to_string()),
            ],
        )
        .and_more(diff.tests.more)
}

fn side(side: OnlySide) -> String {
    match side {
        OnlySide::Green => "green",
        OnlySide::Red => "red",
    }
    .to_owned()
}

#[cfg(test)]
mod tests;
