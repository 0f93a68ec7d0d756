//! Tables about the databases: roles, refused statements, statements that could not be parsed, rolled back statements. Pure.
//!
//! This module does no layout.

use jiff::Timestamp;

use super::{ReportTable, TableRow, maybe, optional, row, seconds, text, time};
use crate::audit::evidence::report::{EvidenceReport, ReportedRole};
use crate::audit::sql_analysis::ParseFailure;

/// Time after its grant's end from which a role that still exists needs attention: the reaper has run since then. Microseconds.
const LATE_US: u64 = 60_000_000;

pub(super) fn roles(report: &EvidenceReport) -> ReportTable {
    let mut rows: Vec<TableRow> = report.roles.iter().map(|role| one(role, report.period.to)).collect();
    // Roles that need attention come first.
    rows.sort_by_key(|row| !row.remarkable);
    ReportTable {
        name: "roles",
        title: "Roles of grants at the databases",
        note: "Each grant has a role of its own where profiles say what they may do; it is to be gone with the grant. From the grant's \
               end, or its revocation, until the role was gone. Those that are late, not gone, or were used past the gate come first."
            .to_owned(),
        head: &[
            "role",
            "grant",
            "target",
            "made at",
            "grant over at",
            "gone at",
            "gone after s",
            "state",
            "logins past the gate",
            "trouble",
        ],
        rows,
        more: 0,
    }
}

fn one(role: &ReportedRole, to: Timestamp) -> TableRow {
    let after = role.gone_after_us();
    let state = match role.retired_at {
        Some(_) => "gone",
        None if role.is_left(to) => "NOT GONE",
        None => "in use",
    };
    TableRow {
        cells: vec![
            text(&role.role),
            role.grant.to_string(),
            role.target.to_string(),
            maybe(role.made_at),
            maybe(role.over_at),
            maybe(role.retired_at),
            after.map(seconds).unwrap_or_default(),
            state.to_owned(),
            role.intruders.to_string(),
            optional(role.trouble.as_deref()),
        ],
        remarkable: role.is_left(to) || role.intruders > 0 || after.is_some_and(|after| after > LATE_US),
    }
}

pub(super) fn rails(report: &EvidenceReport) -> ReportTable {
    let rows = report.rails.iter().map(|refusals| {
        row(vec![
            refusals.identity.to_string(),
            refusals.target.to_string(),
            refusals.profile.as_ref().map(ToString::to_string).unwrap_or_default(),
            text(&refusals.rule),
            refusals.count.to_string(),
            time(refusals.first),
            time(refusals.last),
        ])
    });
    ReportTable {
        name: "rails",
        title: "Statements that the gate refused",
        note:
            "They were not executed; equal ones together. By the guard rails of a profile, which stop mistakes early and clearly \
               (what a profile may do the database decides by its privileges), and by what holds for every session, like a text \
               that is too long to be judged (54000) or a statement after the deadline."
                .to_owned(),
        head: &["identity", "target", "profile", "rule", "count", "first", "last"],
        rows: rows.collect(),
        more: report.rails_more,
    }
}

pub(super) fn unread(report: &EvidenceReport) -> ReportTable {
    let rows = report.unread.items.iter().map(|unread| TableRow {
        cells: vec![
            unread.identity.to_string(),
            unread.target.to_string(),
            unread.why.words().to_owned(),
            unread.count.to_string(),
            time(unread.first),
            time(unread.last),
        ],
        remarkable: unread.why == ParseFailure::Contradicted,
    });
    ReportTable {
        name: "unread",
        title: "Statements that could not be read",
        note: "They were executed, and the log cannot tell all that they touched: nobody may conclude from it that they did not touch a \
               table. `tidegate log --unread` shows them."
            .to_owned(),
        head: &["identity", "target", "why", "count", "first", "last"],
        rows: rows.collect(),
        more: report.unread.more,
    }
}

pub(super) fn undone(report: &EvidenceReport) -> ReportTable {
    let rows = report.undone.items.iter().map(|undone| {
        row(vec![
            time(undone.time),
            undone.who.session.to_string(),
            undone.who.grant.to_string(),
            undone.who.identity.to_string(),
            undone.who.target.to_string(),
            undone.first.to_string(),
            undone.last.to_string(),
            text(&undone.sqlstate),
        ])
    });
    ReportTable {
        name: "undone",
        title: "Statements that ran and were undone",
        note: "Their outcome says that they ran, but their transaction failed when it ended (a deferred constraint, a conflict, a later \
               error of the same pipeline). By number within the session. What people rolled back themselves is a statement of its own, \
               and not in it."
            .to_owned(),
        head: &["time", "session", "grant", "identity", "target", "first", "last", "sqlstate"],
        rows: rows.collect(),
        more: report.undone.more,
    }
}
