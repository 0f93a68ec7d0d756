//! Report of evidence as a document: its findings, its figures, its tables. Pure.
//!
//! This module lays nothing out.

use jiff::Timestamp;

use super::report::{EvidenceReport, ReportedRole};
use crate::audit::report::{Elsewhere, ReportDocument, ReportTable};

/// Returns the document; `made_at` is the time of its creation.
#[must_use]
pub fn document(report: &EvidenceReport, tables: Vec<ReportTable>, made_at: Timestamp) -> ReportDocument {
    let period = format!("{:.0} to {:.0}", report.period.from, report.period.to);
    let figures = figures(report).map(|(name, value)| (name, value.to_string()));
    ReportDocument {
        title: format!("Access evidence, {period}"),
        heading: "Evidence of database access".to_owned(),
        note: format!(
            "Tidegate {}, {period} (the end is not in it), made {made_at:.0}. All times are UTC, as the gate kept them.",
            env!("CARGO_PKG_VERSION")
        ),
        alarms: alarms(report),
        figures: figures.into(),
        tables,
        elsewhere: Elsewhere::Csv,
    }
}

/// Returns the findings that need attention, as sentences.
fn alarms(report: &EvidenceReport) -> Vec<String> {
    let mut alarms = Vec::new();
    match &report.verdict {
        Err(_) => alarms.push("The log was not verified.".to_owned()),
        Ok(verdict) if verdict.flaw.is_some() => alarms.push("The log is not whole: see the first table.".to_owned()),
        Ok(_) => {}
    }
    let unreviewed = report
        .grants
        .iter()
        .filter_map(|life| life.asked.as_ref())
        .filter(|asked| asked.break_glass && asked.review.is_none())
        .count();
    let unconfirmed = report.overshoots.late.items.iter().filter(|late| !late.confirmed).count();
    let roles_left = report.roles.iter().filter(|role| role.is_left(report.period.to)).count();
    let intruders: u64 = report.roles.iter().map(|role| role.intruders).sum();
    for (count, what) in [
        (unreviewed as u64, "Break-glass accesses without a review"),
        (unconfirmed as u64, "Sessions that ended without the database confirming it"),
        (
            roles_left as u64,
            "Roles that were still at their database although their grant was over",
        ),
        (intruders, "Logins with a grant's role past the gate"),
        (report.lost_sessions, "Sessions without an end on record"),
        (report.records_missing, "Records given up while the log could not be written"),
        (
            report.log_damaged,
            "Times that the gate found records of its log changed or missing, or the file gone",
        ),
        (
            report.unreadable.count(),
            "Unreadable lines of the log, so this report is incomplete",
        ),
    ] {
        if count > 0 {
            alarms.push(format!("{what}: {count}."));
        }
    }
    alarms
}

/// Returns the summary figures.
fn figures(report: &EvidenceReport) -> [(&'static str, u64); 11] {
    let sessions: u64 = report.grants.iter().map(|life| life.used.sessions).sum();
    let unused = report.grants.iter().filter(|life| life.is_unused()).count();
    let made = |role: &&ReportedRole| role.made_at.is_some_and(|at| report.period.has(at));
    let roles = report.roles.iter().filter(made).count();
    [
        ("Grants", report.grants.len() as u64),
        ("of these unused", unused as u64),
        ("Sessions begun", sessions),
        ("Statements executed", report.statements.executed),
        ("failed", report.statements.failed),
        ("with unknown outcome", report.statements.unknown),
        ("that could not be read", report.unread.total()),
        ("refused by the gate", report.rails.total()),
        ("Roles made at databases", roles as u64),
        ("Requests and actions denied", report.denials.count()),
        ("Logins refused", report.refusals.total()),
    ]
}

#[cfg(test)]
mod tests;
