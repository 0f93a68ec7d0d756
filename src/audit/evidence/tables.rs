//! Report as tables, for the page and for CSV. Pure.
//!
//! This module does no layout.

use jiff::Timestamp;

use super::controls;
use super::report::{EvidenceReport, GateChange, ReportedGrant, ReportedRole, RequestHistory};
use crate::audit::report::{BoundedList, ReportTable};
use crate::audit::sql_analysis::ParseFailure;

/// Time after its grant's end from which a role that still exists needs attention: the reaper has run since then. Microseconds.
const LATE_ROLE_US: u64 = 60_000_000;

/// Returns all tables of a report, in reading order.
#[must_use]
pub fn tables(report: &EvidenceReport) -> Vec<ReportTable> {
    vec![
        verification(report),
        break_glass(report),
        grants(report),
        unused(report),
        denials(report),
        refusals(report),
        endings(report),
        overshoots(report),
        roles(report),
        rails(report),
        changed(report),
        unread(report),
        undone(report),
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

/// Formats microseconds as seconds with milliseconds.
fn seconds(micros: u64) -> String {
    format!("{}.{:03}", micros / 1_000_000, micros / 1_000 % 1_000)
}

fn maybe<T: ToString>(part: Option<T>) -> String {
    part.map(|part| part.to_string()).unwrap_or_default()
}

fn listed<T: ToString>(items: &[T]) -> String {
    let all: Vec<String> = items.iter().map(ToString::to_string).collect();
    all.join(", ")
}

#[expect(clippy::too_many_lines, reason = "one line for each question")]
fn verification(report: &EvidenceReport) -> ReportTable {
    let mut rows = Vec::new();
    let mut say = |what: &str, answer: String, remarkable: bool| rows.push((what.to_owned(), answer, remarkable));
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
    ReportTable::of(
        "verification",
        "Is the log whole?",
        "The chain of hashes and the signatures over all segments of the folder, verified when this report was made. Repeat it \
               on a copy with `tidegate audit verify --key`.",
    )
    .marked(
        rows.iter(),
        |(.., remarkable)| *remarkable,
        &[
            ("what", |(what, ..)| what.clone()),
            ("found", |(_, answer, _)| answer.clone()),
        ],
    )
    .and_more(report.unreadable.more)
}

fn break_glass(report: &EvidenceReport) -> ReportTable {
    let broken = report.grants.iter().filter_map(|life| {
        let asked = life.asked.as_ref().filter(|asked| asked.break_glass)?;
        Some((life, asked))
    });
    ReportTable::of(
        "break_glass",
        "Break-glass access and its reviews",
        "Access that was taken without waiting for an approver. Reviews are as they stood at the period's end.",
    )
    .marked(
        broken,
        |(_, asked)| asked.review.is_none(),
        &[
            ("time", |(life, _)| time(life.created_at)),
            ("identity", |(life, _)| life.identity.to_string()),
            ("target", |(life, _)| life.target.to_string()),
            ("profile", |(_, asked)| asked.profile.to_string()),
            ("reason", |(_, asked)| maybe(asked.reason.as_ref())),
            ("ticket", |(_, asked)| maybe(asked.ticket.as_ref())),
            ("grant", |(life, _)| life.grant.to_string()),
            ("statements", |(life, _)| life.used.statements.to_string()),
            ("reviewed by", |(_, asked)| {
                let by = asked.review.as_ref().map(|(by, ..)| by.to_string());
                by.unwrap_or_else(|| "NOT REVIEWED".to_owned())
            }),
            ("reviewed at", |(_, asked)| {
                maybe(asked.review.as_ref().map(|(_, at, _)| time(*at)))
            }),
            ("review", |(_, asked)| {
                maybe(asked.review.as_ref().and_then(|(.., said)| said.as_ref()))
            }),
        ],
    )
    // Accesses without a review come first.
    .remarkable_first()
}

fn of_request(life: &ReportedGrant, cell: fn(&RequestHistory) -> String) -> String {
    maybe(life.asked.as_ref().map(cell))
}

fn grants(report: &EvidenceReport) -> ReportTable {
    ReportTable::of(
        "grants",
        "Grants",
        "Every grant that could be used in the period, with who allowed it and what was done with it in the period. Without \
               approvers: the policies granted it at once, or (without policies either) an operator made it. Rows are as the \
               database's command tags count them.",
    )
    .filled(
        &report.grants,
        &[
            ("grant", |life| life.grant.to_string()),
            ("identity", |life| life.identity.to_string()),
            ("target", |life| life.target.to_string()),
            ("profile", |life| maybe(life.profile())),
            ("reason", |life| maybe(life.reason())),
            ("ticket", |life| of_request(life, |asked| maybe(asked.ticket.as_ref()))),
            ("made by", |life| life.by.clone()),
            ("approvers", |life| of_request(life, |asked| listed(&asked.approvers))),
            ("policies", |life| of_request(life, |asked| listed(&asked.policies))),
            ("policy set", |life| {
                of_request(life, |asked| maybe(asked.policy_set.as_ref()))
            }),
            ("made at", |life| time(life.created_at)),
            ("opened at", |life| maybe(life.activated_at.map(time))),
            ("ends or ended", |life| {
                let revoked_at = life.revoked.as_ref().map(|(at, _)| *at);
                maybe(revoked_at.or(life.until).map(time))
            }),
            ("window s", |life| life.window_seconds.to_string()),
            ("moved", |life| life.moved.to_string()),
            ("revoked", |life| maybe(life.revoked.as_ref().map(|(_, by)| by))),
            ("sessions", |life| life.used.sessions.to_string()),
            ("statements", |life| life.used.statements.to_string()),
            ("rows", |life| life.used.rows.to_string()),
            ("first use", |life| maybe(life.used.first.map(time))),
            ("last use", |life| maybe(life.used.last.map(time))),
        ],
    )
}

fn unused(report: &EvidenceReport) -> ReportTable {
    ReportTable::of(
        "unused",
        "Unused grants",
        "Grants without a single login up to the period's end. They closed by themselves; many of them for one person or \
               purpose are access that was not needed.",
    )
    .filled(
        report.grants.iter().filter(|life| life.is_unused()),
        &[
            ("grant", |life| life.grant.to_string()),
            ("identity", |life| life.identity.to_string()),
            ("target", |life| life.target.to_string()),
            ("profile", |life| maybe(life.profile())),
            ("reason", |life| maybe(life.reason())),
            ("made at", |life| time(life.created_at)),
            ("could be used until", |life| time(life.over_at())),
        ],
    )
}

fn denials(report: &EvidenceReport) -> ReportTable {
    ReportTable::of(
        "denials",
        "Requests and actions denied",
        "What known people wanted and did not get: from the policies, or from an approver. No deciding policy means that none \
               allowed it.",
    )
    .filled(
        &report.denials.items,
        &[
            ("time", |denial| time(denial.time)),
            ("identity", |denial| denial.identity.to_string()),
            ("wanted", |denial| denial.wanted.clone()),
            ("how", |denial| denial.how.to_string()),
            ("by", |denial| denial.by.clone()),
            ("reason", |denial| maybe(denial.reason.as_ref())),
            ("policies", |denial| listed(&denial.policies)),
            ("policy set", |denial| maybe(denial.policy_set.as_ref())),
        ],
    )
    .and_more(report.denials.more)
}

fn refusals(report: &EvidenceReport) -> ReportTable {
    ReportTable::of(
        "refusals",
        "Logins and tokens refused",
        "Connections that did not become a session and tokens that proved nothing; equal ones together. Names are as they were \
               given, not proved.",
    )
    .filled(
        &report.refusals.items,
        &[
            ("why", |refusals| refusals.of.why.clone()),
            ("name given", |refusals| refusals.of.claimed.clone()),
            ("from", |refusals| refusals.of.client.clone()),
            ("count", |refusals| refusals.count.to_string()),
            ("first", |refusals| time(refusals.first)),
            ("last", |refusals| time(refusals.last)),
        ],
    )
    .and_more(report.refusals.more)
}

fn endings(report: &EvidenceReport) -> ReportTable {
    let lost = ("(no end on record: the gate died)", report.lost_sessions, true);
    let open = ("(not ended within the period)", report.open_sessions, false);
    let known = report.endings.iter().map(|(ending, count)| (&**ending, *count, false));
    ReportTable::of(
        "endings",
        "Why sessions ended",
        "expired, revoked, killed, identity_disabled and the like were ended by the gate; quit and disconnected by the client.",
    )
    .marked(
        known.chain([lost, open].into_iter().filter(|(_, count, _)| *count > 0)),
        |(.., remarkable)| remarkable,
        &[
            ("ending", |(ending, ..)| ending.to_owned()),
            ("sessions", |(_, count, _)| count.to_string()),
        ],
    )
}

fn overshoots(report: &EvidenceReport) -> ReportTable {
    let all = &report.overshoots;
    ReportTable::of("overshoots", "How late sessions ended", format!(
            "From the deadline, or the order to end, until the database confirmed that the session's backend is gone: {} sessions, \
             median {} s, longest {} s. Listed: those that took more than one second, and those whose backend was not confirmed gone.",
            all.count,
            seconds(all.p50_us),
            seconds(all.max_us)
        ))
    .marked(
        &all.late.items,
        |_| true,
        &[
            ("time", |late| time(late.time)),
            ("session", |late| late.who.session.to_string()),
            ("grant", |late| late.who.grant.to_string()),
            ("identity", |late| late.who.identity.to_string()),
            ("target", |late| late.who.target.to_string()),
            ("ending", |late| late.ending.clone()),
            ("late s", |late| maybe(late.overshoot_us.map(seconds))),
            ("confirmed gone", |late| if late.confirmed { "yes" } else { "NO" }.to_owned()),
        ],
    )
    .and_more(all.late.more)
}

fn roles(report: &EvidenceReport) -> ReportTable {
    let late = |role: &ReportedRole| role.gone_after_us().is_some_and(|after| after > LATE_ROLE_US);
    ReportTable::of("roles", "Roles of grants at the databases", "Each grant has a role of its own where profiles say what they may do; it is to be gone with the grant. From the grant's \
               end, or its revocation, until the role was gone. Those that are late, not gone, or were used past the gate come first.")
    .marked(
        report.roles.iter().map(|role| (role, role.is_left(report.period.to))),
        |(role, is_left)| is_left || role.intruders > 0 || late(role),
        &[
            ("role", |(role, _)| role.role.clone()),
            ("grant", |(role, _)| role.grant.to_string()),
            ("target", |(role, _)| role.target.to_string()),
            ("made at", |(role, _)| maybe(role.made_at.map(time))),
            ("grant over at", |(role, _)| maybe(role.over_at.map(time))),
            ("gone at", |(role, _)| maybe(role.retired_at.map(time))),
            ("gone after s", |(role, _)| maybe(role.gone_after_us().map(seconds))),
            ("state", |(role, is_left)| {
                let state = match role.retired_at {
                    Some(_) => "gone",
                    None if is_left => "NOT GONE",
                    None => "in use",
                };
                state.to_owned()
            }),
            ("logins past the gate", |(role, _)| role.intruders.to_string()),
            ("trouble", |(role, _)| maybe(role.trouble.as_ref())),
        ],
    )
    // Roles that need attention come first.
    .remarkable_first()
}

fn rails(report: &EvidenceReport) -> ReportTable {
    ReportTable::of(
        "rails",
        "Statements that the gate refused",
        "They were not executed; equal ones together. By the guard rails of a profile, which stop mistakes early and clearly \
               (what a profile may do the database decides by its privileges), and by what holds for every session, like a text \
               that is too long to be judged (54000) or a statement after the deadline.",
    )
    .filled(
        &report.rails.items,
        &[
            ("identity", |refusals| refusals.of.identity.to_string()),
            ("target", |refusals| refusals.of.target.to_string()),
            ("profile", |refusals| maybe(refusals.of.profile.as_ref())),
            ("rule", |refusals| refusals.of.rule.clone()),
            ("count", |refusals| refusals.count.to_string()),
            ("first", |refusals| time(refusals.first)),
            ("last", |refusals| time(refusals.last)),
        ],
    )
    .and_more(report.rails.more)
}

fn changed(report: &EvidenceReport) -> ReportTable {
    ReportTable::of(
        "changed",
        "Rows that were changed",
        "Committed changes of tables that a profile captures, by the number of rows; other tables are not in it. Without an identity: \
               past the gate, by the role. `tidegate log changes` shows each row.",
    )
    .marked(
        &report.changed.items,
        |changed| changed.of.role.is_some(),
        &[
            ("identity", |changed| maybe(changed.of.identity.as_ref())),
            ("role", |changed| maybe(changed.of.role.as_ref())),
            ("target", |changed| changed.of.target.to_string()),
            ("table", |changed| changed.of.table.clone()),
            ("operation", |changed| changed.of.operation.clone()),
            ("rows", |changed| changed.count.to_string()),
            ("first", |changed| time(changed.first)),
            ("last", |changed| time(changed.last)),
        ],
    )
    .and_more(report.changed.more)
}

fn unread(report: &EvidenceReport) -> ReportTable {
    ReportTable::of("unread", "Statements that could not be read", "They were executed, and the log cannot tell all that they touched: nobody may conclude from it that they did not touch a \
               table. `tidegate log --unread` shows them.")
    .marked(
        &report.unread.items,
        |unread| unread.of.why == ParseFailure::Contradicted,
        &[
            ("identity", |unread| unread.of.identity.to_string()),
            ("target", |unread| unread.of.target.to_string()),
            ("why", |unread| unread.of.why.words().to_owned()),
            ("count", |unread| unread.count.to_string()),
            ("first", |unread| time(unread.first)),
            ("last", |unread| time(unread.last)),
        ],
    )
    .and_more(report.unread.more)
}

fn undone(report: &EvidenceReport) -> ReportTable {
    ReportTable::of("undone", "Statements that ran and were undone", "Their outcome says that they ran, but their transaction failed when it ended (a deferred constraint, a conflict, a later \
               error of the same pipeline). By number within the session. What people rolled back themselves is a statement of its own, \
               and not in it.")
    .filled(
        &report.undone.items,
        &[
            ("time", |undone| time(undone.time)),
            ("session", |undone| undone.who.session.to_string()),
            ("grant", |undone| undone.who.grant.to_string()),
            ("identity", |undone| undone.who.identity.to_string()),
            ("target", |undone| undone.who.target.to_string()),
            ("first", |undone| undone.first.to_string()),
            ("last", |undone| undone.last.to_string()),
            ("sqlstate", |undone| undone.sqlstate.clone()),
        ],
    )
    .and_more(report.undone.more)
}

fn changes(name: &'static str, title: &'static str, note: &str, list: &BoundedList<GateChange>) -> ReportTable {
    ReportTable::of(name, title, note)
        .marked(
            &list.items,
            |change| change.remarkable,
            &[
                ("time", |change| time(change.time)),
                ("what", |change| change.what.clone()),
                ("by", |change| change.by.clone()),
                ("detail", |change| change.detail.clone()),
            ],
        )
        .and_more(list.more)
}
