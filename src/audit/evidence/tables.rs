//! Report as tables, for the page and for CSV. Pure.
//!
//! This module does no layout. INVARIANT: every text from outside is made visible here, once, for all that show it.

use jiff::Timestamp;

use super::controls;
use super::report::{BoundedList, EvidenceReport, GateChange};
use super::table::{ReportTable, TableRow};
use crate::base::visible::visible;

mod columns;
mod database;
mod grants;

/// Returns all tables of a report, in reading order.
#[must_use]
pub fn tables(report: &EvidenceReport) -> Vec<ReportTable> {
    vec![
        verification(report),
        grants::break_glass(report),
        grants::all(report),
        grants::unused(report),
        denials(report),
        refusals(report),
        endings(report),
        overshoots(report),
        database::roles(report),
        database::rails(report),
        database::unread(report),
        database::undone(report),
        changes("identities", "Identity changes", IDENTITIES, &report.identities),
        changes("policies", "Policy and configuration changes", POLICIES, &report.policies),
        changes(
            "operation",
            "Gate and log: starts, stops, faults",
            OPERATION,
            &report.operation,
        ),
        controls::table(),
    ]
}

const IDENTITIES: &str =
    "Local users made, changed, disabled. People of an identity provider are managed there and are not in it.";
const POLICIES: &str = "Every set of policies and every configuration that was read, by SHA-256 of the set, in force or refused.";
const OPERATION: &str = "What the gate put on record about itself: starts and stops, times in which the log could not be written, \
     keys that signed it, old segments removed.";

fn time(at: Timestamp) -> String {
    format!("{at:.0}")
}

fn maybe(at: Option<Timestamp>) -> String {
    at.map(time).unwrap_or_default()
}

fn text(text: &str) -> String {
    visible(text)
}

fn optional(part: Option<&str>) -> String {
    part.map(text).unwrap_or_default()
}

fn row(cells: Vec<String>) -> TableRow {
    TableRow {
        cells,
        remarkable: false,
    }
}

fn listed<T: ToString>(items: &[T]) -> String {
    let all: Vec<String> = items.iter().map(|item| text(&item.to_string())).collect();
    all.join(", ")
}

#[expect(clippy::too_many_lines, reason = "one line for each question")]
fn verification(report: &EvidenceReport) -> ReportTable {
    let mut rows = Vec::new();
    let mut say = |what: &str, answer: String, remarkable: bool| {
        let cells = vec![what.to_owned(), text(&answer)];
        rows.push(TableRow { cells, remarkable });
    };
    match &report.verdict {
        Err(reason) => say("Result", format!("not verified: {reason}"), true),
        Ok(verdict) => {
            let result = match &verdict.flaw {
                None => "the log is whole".to_owned(),
                Some(flaw) => format!("NOT WHOLE: {flaw}"),
            };
            say("Result", result, verdict.flaw.is_some());
            let log = verdict.log.as_ref().map(ToString::to_string);
            say("Log", log.unwrap_or_else(|| "none".to_owned()), verdict.log.is_none());
            say("Records", format!("{} to {}", verdict.first, verdict.last), false);
            say("Signed up to record", verdict.proven.to_string(), false);
            say("Signed with key", verdict.keys.join(", "), false);
            let held = report.key_from.as_ref().map_or_else(
                || {
                    "the log's own word: no key was given, which proves nothing against somebody who could write all of it anew"
                        .to_owned()
                },
                |from| format!("the key {from}"),
            );
            say("Compared with", held, report.key_from.is_none());
            for held in &verdict.held_against {
                say(
                    "End compared with",
                    format!("{}, which covers record {}", held.source, held.covers),
                    false,
                );
            }
            if verdict.held_against.is_empty() {
                let nothing = "nothing: missing records at the end would not be noticed";
                say("End compared with", nothing.to_owned(), true);
            }
            for remark in &verdict.remarks {
                say("Remark", remark.clone(), true);
            }
        }
    }
    say("Records read for this report", report.records.to_string(), false);
    for line in &report.unreadable.items {
        say("Line that could not be read", line.clone(), true);
    }
    if report.records_missing > 0 {
        let missing = format!(
            "{}: the log could not be written, and they were too many to be kept",
            report.records_missing
        );
        say("Records given up", missing, true);
    }
    ReportTable {
        name: "verification",
        title: "Is the log whole?",
        note: "The chain of hashes and the signatures over all segments of the folder, verified when this report was made. Repeat it \
               on a copy with `tidegate audit verify --key`."
            .to_owned(),
        head: &["what", "found"],
        rows,
        more: report.unreadable.more,
    }
}

fn denials(report: &EvidenceReport) -> ReportTable {
    let rows = report.denials.items.iter().map(|denial| {
        row(vec![
            time(denial.time),
            denial.identity.to_string(),
            text(&denial.wanted),
            denial.how.to_string(),
            text(&denial.by),
            optional(denial.reason.as_deref()),
            listed(&denial.policies),
            optional(denial.policy_set.as_deref()),
        ])
    });
    ReportTable {
        name: "denials",
        title: "Requests and actions denied",
        note: "What known people wanted and did not get: from the policies, or from an approver. No deciding policy means that none \
               allowed it."
            .to_owned(),
        head: &["time", "identity", "wanted", "how", "by", "reason", "policies", "policy set"],
        rows: rows.collect(),
        more: report.denials.more,
    }
}

fn refusals(report: &EvidenceReport) -> ReportTable {
    let rows = report.refusals.iter().map(|refusals| {
        row(vec![
            text(&refusals.why),
            text(&refusals.claimed),
            text(&refusals.client),
            refusals.count.to_string(),
            time(refusals.first),
            time(refusals.last),
        ])
    });
    ReportTable {
        name: "refusals",
        title: "Logins and tokens refused",
        note: "Connections that did not become a session and tokens that proved nothing; equal ones together. Names are as they were \
               given, not proved."
            .to_owned(),
        head: &["why", "name given", "from", "count", "first", "last"],
        rows: rows.collect(),
        more: report.refusals_more,
    }
}

fn endings(report: &EvidenceReport) -> ReportTable {
    let mut rows: Vec<TableRow> = report
        .endings
        .iter()
        .map(|(ending, count)| row(vec![text(ending), count.to_string()]))
        .collect();
    if report.lost_sessions > 0 {
        let cells = vec![
            "(no end on record: the gate died)".to_owned(),
            report.lost_sessions.to_string(),
        ];
        rows.push(TableRow { cells, remarkable: true });
    }
    if report.open_sessions > 0 {
        rows.push(row(vec![
            "(not ended within the period)".to_owned(),
            report.open_sessions.to_string(),
        ]));
    }
    ReportTable {
        name: "endings",
        title: "Why sessions ended",
        note: "expired, revoked, killed, identity_disabled and the like were ended by the gate; quit and disconnected by the client."
            .to_owned(),
        head: &["ending", "sessions"],
        rows,
        more: 0,
    }
}

fn overshoots(report: &EvidenceReport) -> ReportTable {
    let all = &report.overshoots;
    let rows = all.late.items.iter().map(|late| TableRow {
        cells: vec![
            time(late.time),
            late.session.to_string(),
            late.grant.to_string(),
            late.identity.to_string(),
            late.target.to_string(),
            text(&late.ending),
            late.overshoot_us.map(seconds).unwrap_or_default(),
            if late.confirmed { "yes" } else { "NO" }.to_owned(),
        ],
        remarkable: true,
    });
    ReportTable {
        name: "overshoots",
        title: "How late sessions ended",
        note: format!(
            "From the deadline, or the order to end, until the database confirmed that the session's backend is gone: {} sessions, \
             median {} s, longest {} s. Listed: those that took more than one second, and those whose backend was not confirmed gone.",
            all.count,
            seconds(all.p50_us),
            seconds(all.max_us)
        ),
        head: &[
            "time",
            "session",
            "grant",
            "identity",
            "target",
            "ending",
            "late s",
            "confirmed gone",
        ],
        rows: rows.collect(),
        more: all.late.more,
    }
}

/// Formats microseconds as seconds with milliseconds.
fn seconds(micros: u64) -> String {
    format!("{}.{:03}", micros / 1_000_000, micros / 1_000 % 1_000)
}

fn changes(name: &'static str, title: &'static str, note: &str, list: &BoundedList<GateChange>) -> ReportTable {
    let rows = list.items.iter().map(|change| TableRow {
        cells: vec![time(change.time), text(&change.what), text(&change.by), text(&change.detail)],
        remarkable: change.remarkable,
    });
    ReportTable {
        name,
        title,
        note: note.to_owned(),
        head: &["time", "what", "by", "detail"],
        rows: rows.collect(),
        more: list.more,
    }
}
