//! Builds a report from records in the order of the log. Pure.
//!
//! This module reads no files and verifies nothing: it trusts the records it is given. Statements are only counted, so that
//! memory grows with the grants, sessions and refusals of the period and not with the length of the log.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;

use super::grants::GrantHistory;
use super::operations;
use super::report::{
    AccessDenial, ChangedTable, EvidenceReport, LateEnd, LoginRefusal, OvershootStats, RailRefusal, ReportPeriod, ReportedGrant,
    StatementCounts, UndoneStatements,
};
use super::unread::UnreadCollector;
use crate::audit::event::{
    BackendGone, DecisionMade, Event, RequestChangeKind, RequestChanged, RowsChanged, SessionEnded, Statement, StatementOutcome,
    StatementResult,
};
use crate::audit::report::{BoundedList, Groups, MAX_FOLLOWED, MAX_GROUPS, MAX_NAMED, kept};
use crate::audit::verify::VerifyReport;
use crate::audit::{LogRecord, ReadError};
use crate::model::ids::SessionId;

/// Number of delays that are kept to compute the median.
const MAX_DELAYS: usize = 5_000_000;
/// Delay from which the end of a session is listed by itself. Microseconds.
const LATE_US: u64 = 1_000_000;

/// Accumulator of the records read so far.
#[derive(Debug)]
pub struct ReportCollector {
    report: EvidenceReport,
    lives: GrantHistory,
    refusals: Groups<LoginRefusal>,
    rails: Groups<RailRefusal>,
    changed: Groups<ChangedTable>,
    open: HashSet<SessionId>,
    /// Statements of the period by why they could not be parsed, with those that have no outcome yet.
    unread: UnreadCollector,
    delays_us: Vec<u64>,
    /// True if a gate started and has not stopped.
    running: bool,
    /// Number of records that were not followed because a limit was reached.
    unfollowed: u64,
}

impl ReportCollector {
    /// Returns a collector without any records.
    #[must_use]
    pub fn new(period: ReportPeriod) -> Self {
        Self {
            report: EvidenceReport {
                period,
                grants: Vec::new(),
                denials: BoundedList::default(),
                refusals: BoundedList::default(),
                endings: BTreeMap::new(),
                open_sessions: 0,
                lost_sessions: 0,
                overshoots: OvershootStats::default(),
                identities: BoundedList::default(),
                policies: BoundedList::default(),
                operation: BoundedList::default(),
                records_missing: 0,
                log_damaged: 0,
                roles: Vec::new(),
                rails: BoundedList::default(),
                changed: BoundedList::default(),
                unread: BoundedList::default(),
                undone: BoundedList::default(),
                statements: StatementCounts::default(),
                records: 0,
                unreadable: BoundedList::default(),
                verdict: Err("the log was not verified".to_owned()),
                key_from: None,
            },
            lives: GrantHistory::default(),
            refusals: Groups::default(),
            rails: Groups::default(),
            changed: Groups::default(),
            open: HashSet::new(),
            unread: UnreadCollector::default(),
            delays_us: Vec::new(),
            running: false,
            unfollowed: 0,
        }
    }

    /// Takes the next record, or the error of the next line. All of the log up to the period's end has to be given: records
    /// from before the period say how its grants came to be.
    pub fn take(&mut self, found: Result<&LogRecord, &ReadError>) {
        match found {
            Ok(record) if record.time < self.report.period.to => {
                self.report.records += 1;
                self.record(record.time, &record.event);
            }
            Ok(_) => {}
            Err(error) => self.report.unreadable.push(kept(&error.to_string())),
        }
    }

    fn record(&mut self, time: Timestamp, event: &Event<'_>) {
        let period = self.report.period;
        let within = period.has(time);
        match event {
            Event::GrantChanged(event) => self.lives.grant(time, event, period),
            Event::RequestChanged(event) => self.request(time, event),
            Event::RoleChanged(event) => self.lives.role(time, event, period),
            Event::SessionStarted(event) => {
                if self.open.len() < MAX_FOLLOWED {
                    self.open.insert(event.who.session.clone());
                } else {
                    self.unfollowed += 1;
                }
                if within && let Some(used) = self.lives.used(&event.who.grant) {
                    used.sessions += 1;
                    used.at(time);
                }
            }
            Event::SessionEnded(event) => self.ended(time, event),
            Event::BackendGone(event) => self.gone_late(event),
            Event::GateStarted(_) => {
                // The sessions that were open ended with the gate that crashed.
                let open = std::mem::take(&mut self.open).len() as u64;
                self.report.statements.unknown += self.unread.end_all();
                let crashed = std::mem::replace(&mut self.running, true);
                if within {
                    self.report.lost_sessions += open;
                    operations::add(&mut self.report, time, event, crashed);
                }
            }
            _ => {
                if matches!(event, Event::GateStopped {}) {
                    self.running = false;
                }
                if within {
                    self.record_within(time, event);
                }
            }
        }
    }

    /// Takes a record of the period that says nothing about the time after it.
    fn record_within(&mut self, time: Timestamp, event: &Event<'_>) {
        match event {
            Event::Statement(event) => self.statement(time, event),
            Event::Outcome(event) => self.outcome(time, event),
            Event::TransactionChanged(event) => {
                if let Some(undone) = &event.rolled_back {
                    self.report.undone.push(UndoneStatements {
                        time,
                        who: event.who.clone().into_owned(),
                        first: undone.first,
                        last: undone.last,
                        sqlstate: kept(&undone.sqlstate.0),
                    });
                }
            }
            Event::RowsChanged(event) => self.changed(time, event),
            Event::DecisionMade(event) if !event.allowed => self.report.denials.push(forbidden(time, event)),
            Event::Refused(event) => {
                let identity = event.identity.as_ref().map(ToString::to_string);
                let grant = event.grant.as_ref().map(ToString::to_string);
                let claimed = identity.or(grant).or_else(|| event.user.clone()).unwrap_or_default();
                self.refused(event.ending.as_str(), &claimed, &event.client.to_string(), 1, (time, time));
            }
            Event::IdentityRefused(event) => {
                let client = event.client.map(|client| client.to_string()).unwrap_or_default();
                let claimed = event.claimed.as_deref().unwrap_or_default();
                self.refused(&event.detail, claimed, &client, 1, (time, time));
            }
            // They have no name, because they may have come from many.
            Event::RefusalsCounted(event) => {
                let (client, times) = (event.network.as_deref().unwrap_or_default(), (event.first, event.last));
                self.refused(event.ending.as_str(), "", client, event.count, times);
            }
            _ => operations::add(&mut self.report, time, event, false),
        }
    }

    fn request(&mut self, time: Timestamp, event: &RequestChanged) {
        self.lives.request(time, event);
        if !self.report.period.has(time) {
            return;
        }
        let wanted = format!("{} {}", event.request, event.target.with(Some(&event.profile)));
        let denials = &mut self.report.denials;
        match event.change.known() {
            Some(how @ (RequestChangeKind::Denied | RequestChangeKind::Rejected)) => denials.push(AccessDenial {
                time,
                identity: event.identity.clone(),
                wanted,
                how,
                by: if how == RequestChangeKind::Denied {
                    "policies".to_owned()
                } else {
                    event.by.to_string()
                },
                reason: event.reason.as_deref().map(kept),
                policies: named(&event.policies),
                policy_set: event.policy_set.as_deref().map(kept),
            }),
            Some(RequestChangeKind::NotStored) => {
                denials.items.pop_if(|denial| denial.wanted == wanted);
            }
            Some(
                RequestChangeKind::Submitted
                | RequestChangeKind::Granted
                | RequestChangeKind::Approved
                | RequestChangeKind::Withdrawn
                | RequestChangeKind::Reviewed,
            )
            | None => {}
        }
    }

    fn refused(&mut self, why: &str, claimed: &str, client: &str, count: u64, times: (Timestamp, Timestamp)) {
        let (claimed, why, client) = (kept(claimed), kept(why), kept(client));
        self.refusals.add(LoginRefusal { claimed, why, client }, count, times);
    }

    fn statement(&mut self, time: Timestamp, event: &Statement<'_>) {
        // Statements that were only prepared or bound did nothing.
        if !event.kind.executes() {
            return;
        }
        self.report.statements.executed += 1;
        if !self.unread.statement(time, event) {
            self.unfollowed += 1;
        }
        if let Some(used) = self.lives.used(&event.who.grant) {
            used.statements += 1;
            used.at(time);
        }
    }

    fn outcome(&mut self, time: Timestamp, event: &StatementOutcome<'_>) {
        if let Some(rule) = &event.rule {
            let of = RailRefusal {
                identity: event.who.identity.clone(),
                target: event.who.target.clone(),
                profile: self.lives.get(&event.who.grant).and_then(ReportedGrant::profile).cloned(),
                rule: kept(&rule.0),
            };
            self.rails.add(of, 1, (time, time));
        }
        // Outcomes of statements that were only prepared, or that are from before the period.
        if !self.unread.outcome(event) {
            return;
        }
        let statements = &mut self.report.statements;
        let used = self.lives.used(&event.who.grant);
        if !event.was_executed() {
            statements.executed = statements.executed.saturating_sub(1);
            if let Some(used) = used {
                used.statements = used.statements.saturating_sub(1);
            }
            return;
        }
        statements.failed += u64::from(event.result == StatementResult::Failed);
        statements.unknown += u64::from(event.result == StatementResult::Unknown);
        if let Some(used) = used {
            used.rows += event.rows;
            used.at(time);
        }
    }

    fn changed(&mut self, time: Timestamp, event: &RowsChanged) {
        // A statement with many rows has several records.
        if event.offset > 0 {
            return;
        }
        let of = ChangedTable {
            identity: event.identity.clone(),
            role: event.grant.is_none().then(|| kept(&event.role)),
            target: event.target.clone(),
            table: kept(&event.shown()),
            operation: kept(event.operation.as_str()),
        };
        self.changed.add(of, event.rows, (time, time));
    }

    fn ended(&mut self, time: Timestamp, event: &SessionEnded) {
        self.open.remove(&event.who.session);
        let report = &mut self.report;
        report.statements.unknown += self.unread.end(&event.who.session);
        if !report.period.has(time) {
            return;
        }
        let ending = event.ending.as_str();
        if report.endings.len() < MAX_GROUPS || report.endings.contains_key(ending) {
            *report.endings.entry(kept(ending)).or_default() += 1;
        } else {
            self.unfollowed += 1;
        }
        if let Some(used) = self.lives.used(&event.who.grant) {
            used.at(time);
        }
        if self.delays_us.len() < MAX_DELAYS {
            self.delays_us.extend(event.overshoot_us);
        } else {
            self.unfollowed += u64::from(event.overshoot_us.is_some());
        }
        let unconfirmed = event.backend_gone == Some(false);
        if unconfirmed || event.overshoot_us.is_some_and(|delay| delay > LATE_US) {
            report.overshoots.late.push(LateEnd {
                time,
                who: event.who.clone(),
                ending: kept(ending),
                overshoot_us: event.overshoot_us,
                confirmed: !unconfirmed,
            });
        }
    }

    /// Confirms the end of a session that could not be confirmed when it ended.
    fn gone_late(&mut self, event: &BackendGone) {
        let mut ends = self.report.overshoots.late.items.iter_mut();
        let end = ends.find(|late| late.who.session == event.who.session);
        if let Some(end) = end.filter(|end| !end.confirmed) {
            end.confirmed = true;
            end.overshoot_us = Some(event.overshoot_us);
            self.delays_us.push(event.overshoot_us);
        }
    }

    /// Returns the report, with the result of the log's verification.
    #[must_use]
    pub fn report(mut self, verdict: Result<VerifyReport, String>, key_from: Option<String>) -> EvidenceReport {
        let mut report = self.report;
        let unfollowed = self.unfollowed + self.lives.unfollowed;
        if unfollowed > 0 {
            report.unreadable.push(format!(
                "{unfollowed} records were about more grants, requests, roles, sessions or statements than one report follows at once: take a shorter time"
            ));
        }
        self.delays_us.sort_unstable();
        report.overshoots.count = self.delays_us.len() as u64;
        report.overshoots.p50_us = self.delays_us.get(self.delays_us.len() / 2).copied().unwrap_or(0);
        report.overshoots.max_us = self.delays_us.last().copied().unwrap_or(0);
        report.statements.unknown += self.unread.end_all();
        report.open_sessions = self.open.len() as u64;
        (report.grants, report.roles) = self.lives.finish(report.period);
        EvidenceReport {
            refusals: self.refusals.finish(),
            rails: self.rails.finish(),
            changed: self.changed.finish(),
            unread: self.unread.groups.finish(),
            verdict,
            key_from,
            ..report
        }
    }
}

/// Returns the names of the policies, at most [`MAX_NAMED`].
fn named(policies: &[String]) -> Vec<String> {
    policies.iter().take(MAX_NAMED).map(|name| kept(name)).collect()
}

fn forbidden(time: Timestamp, event: &DecisionMade) -> AccessDenial {
    AccessDenial {
        time,
        identity: event.identity.clone(),
        wanted: kept(&format!("{} {}", event.action, event.about)),
        how: RequestChangeKind::Denied,
        by: "policies".to_owned(),
        reason: None,
        policies: named(&event.policies),
        policy_set: Some(kept(&event.policy_set)),
    }
}

#[cfg(test)]
mod tests;
