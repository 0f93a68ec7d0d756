//! Tables about grants. Pure.
//!
//! This module does no layout.

use super::{ReportTable, TableRow, listed, maybe, optional, row, text, time};
use crate::audit::evidence::report::{EvidenceReport, ReportedGrant, RequestHistory};

pub(super) fn break_glass(report: &EvidenceReport) -> ReportTable {
    let broken = report.grants.iter().filter_map(|life| {
        let asked = life.asked.as_ref().filter(|asked| asked.break_glass)?;
        Some((life, asked))
    });
    let mut rows: Vec<TableRow> = broken
        .map(|(life, asked)| {
            let (by, at, said) = match &asked.review {
                Some((by, at, said)) => (by.to_string(), time(*at), optional(said.as_deref())),
                None => ("NOT REVIEWED".to_owned(), String::new(), String::new()),
            };
            TableRow {
                cells: vec![
                    time(life.created_at),
                    life.identity.to_string(),
                    life.target.to_string(),
                    asked.profile.to_string(),
                    optional(asked.reason.as_deref()),
                    optional(asked.ticket.as_deref()),
                    life.grant.to_string(),
                    life.used.statements.to_string(),
                    by,
                    at,
                    said,
                ],
                remarkable: asked.review.is_none(),
            }
        })
        .collect();
    // Accesses without a review come first.
    rows.sort_by_key(|row| !row.remarkable);
    ReportTable {
        name: "break_glass",
        title: "Break-glass access and its reviews",
        note: "Access that was taken without waiting for an approver. Reviews are as they stood at the period's end.".to_owned(),
        head: &[
            "time",
            "identity",
            "target",
            "profile",
            "reason",
            "ticket",
            "grant",
            "statements",
            "reviewed by",
            "reviewed at",
            "review",
        ],
        rows,
        more: 0,
    }
}

const GRANT: &[&str] = &[
    "grant",
    "identity",
    "target",
    "profile",
    "reason",
    "ticket",
    "made by",
    "approvers",
    "policies",
    "policy set",
    "made at",
    "opened at",
    "ends or ended",
    "window s",
    "moved",
    "revoked",
    "sessions",
    "statements",
    "rows",
    "first use",
    "last use",
];

fn grant(life: &ReportedGrant) -> TableRow {
    let asked = life.asked.as_ref();
    let of = |part: fn(&RequestHistory) -> Option<&str>| optional(asked.and_then(part));
    let used = life.used;
    row(vec![
        life.grant.to_string(),
        life.identity.to_string(),
        life.target.to_string(),
        life.profile().map(ToString::to_string).unwrap_or_default(),
        optional(life.reason()),
        of(|asked| asked.ticket.as_deref()),
        text(&life.by),
        asked.map(|asked| listed(&asked.approvers)).unwrap_or_default(),
        asked.map(|asked| listed(&asked.policies)).unwrap_or_default(),
        of(|asked| asked.policy_set.as_deref()),
        time(life.created_at),
        maybe(life.activated_at),
        maybe(life.revoked.as_ref().map(|(at, _)| *at).or(life.until)),
        life.window_seconds.to_string(),
        life.moved.to_string(),
        optional(life.revoked.as_ref().map(|(_, by)| &**by)),
        used.sessions.to_string(),
        used.statements.to_string(),
        used.rows.to_string(),
        maybe(used.first),
        maybe(used.last),
    ])
}

pub(super) fn all(report: &EvidenceReport) -> ReportTable {
    ReportTable {
        name: "grants",
        title: "Grants",
        note:
            "Every grant that could be used in the period, with who allowed it and what was done with it in the period. Without \
               approvers: the policies granted it at once, or (without policies either) an operator made it. Rows are as the \
               database's command tags count them."
                .to_owned(),
        head: GRANT,
        rows: report.grants.iter().map(grant).collect(),
        more: 0,
    }
}

pub(super) fn unused(report: &EvidenceReport) -> ReportTable {
    let unused = report.grants.iter().filter(|life| life.is_unused());
    ReportTable {
        name: "unused",
        title: "Unused grants",
        note: "Grants without a single login up to the period's end. They closed by themselves; many of them for one person or \
               purpose are access that was not needed."
            .to_owned(),
        head: &[
            "grant",
            "identity",
            "target",
            "profile",
            "reason",
            "made at",
            "could be used until",
        ],
        rows: unused
            .map(|life| {
                row(vec![
                    life.grant.to_string(),
                    life.identity.to_string(),
                    life.target.to_string(),
                    life.profile().map(ToString::to_string).unwrap_or_default(),
                    optional(life.reason()),
                    time(life.created_at),
                    time(life.over_at()),
                ])
            })
            .collect(),
        more: 0,
    }
}
