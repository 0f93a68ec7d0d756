//! Builds a report from records in the order of the log. Pure.
//!
//! This module reads no files and verifies nothing: it trusts the records it is given. Statements are only counted, so that
//! memory grows with the grants, sessions and refusals of the period and not with the length of the log.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;

use super::database::DatabaseUse;
use super::grants::GrantHistory;
use super::limits::{MAX_FOLLOWED, MAX_NAMED, kept};
use super::operations::Operations;
use super::report::{
    AccessDenial, BoundedList, EvidenceReport, LateEnd, LoginRefusals, OvershootStats, ReportPeriod, ReportedGrant,
    StatementCounts,
};
use super::unread::UnreadCollector;
use crate::audit::event::{
    BackendGone, DecisionMade, Event, RefusalsCounted, RequestChangeKind, RequestChanged, SessionEnded, Statement,
    StatementOutcome, StatementResult, Who,
};
use crate::audit::verify::VerifyReport;
use crate::audit::{LogRecord, ReadError};
use crate::model::ids::SessionId;

/// Number of kinds of refusals that are counted separately; a client that uses a new name for each login could fill memory.
const MAX_KINDS: usize = 20_000;
/// Number of delays that are kept to compute the median.
const MAX_DELAYS: usize = 5_000_000;
/// Delay from which the end of a session is listed by itself. Microseconds.
const LATE_US: u64 = 1_000_000;

/// Accumulator of the records read so far.
#[derive(Debug)]
pub struct ReportCollector {
    period: ReportPeriod,
    lives: GrantHistory,
    denials: BoundedList<AccessDenial>,
    refusals: HashMap<(String, String, String), LoginRefusals>,
    refusals_more: u64,
    endings: BTreeMap<String, u64>,
    open: HashSet<SessionId>,
    /// Statements of the period by why they could not be parsed, with those that have no outcome yet.
    unread: UnreadCollector,
    lost_sessions: u64,
    delays_us: Vec<u64>,
    late: BoundedList<LateEnd>,
    operations: Operations,
    database: DatabaseUse,
    statements: StatementCounts,
    records: u64,
    unreadable: BoundedList<String>,
    /// Number of records that were not followed because a limit was reached.
    unfollowed: u64,
}

impl ReportCollector {
    /// Returns a collector without any records.
    #[must_use]
    pub fn new(period: ReportPeriod) -> Self {
        Self {
            period,
            lives: GrantHistory::default(),
            denials: BoundedList::default(),
            refusals: HashMap::new(),
            refusals_more: 0,
            endings: BTreeMap::new(),
            open: HashSet::new(),
            unread: UnreadCollector::default(),
            lost_sessions: 0,
            delays_us: Vec::new(),
            late: BoundedList::default(),
            operations: Operations::default(),
            database: DatabaseUse::default(),
            statements: StatementCounts::default(),
            records: 0,
            unreadable: BoundedList::default(),
            unfollowed: 0,
        }
    }

    /// Takes the next record, or the error of the next line. All of the log up to the period's end has to be given: records
    /// from before the period say how its grants came to be.
    pub fn take(&mut self, found: Result<&LogRecord, &ReadError>) {
        match found {
            Ok(record) if record.time < self.period.to => {
                self.records += 1;
                self.record(record.time, &record.event);
            }
            Ok(_) => {}
            Err(error) => self.unreadable.push(kept(&error.to_string())),
        }
    }

    fn record(&mut self, time: Timestamp, event: &Event<'_>) {
        let within = self.period.has(time);
        match event {
            Event::GrantChanged(event) => self.lives.grant(time, event, self.period),
            Event::RequestChanged(event) => self.request(time, event),
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
                self.statements.unknown += self.unread.end_all();
                if within {
                    self.lost_sessions += open;
                }
                self.operations.take(time, event, within);
            }
            Event::Statement(event) if within => self.statement(time, event),
            Event::Outcome(event) if within => self.outcome(time, event),
            Event::TransactionChanged(event) if within => self.database.transaction(time, event),
            Event::RoleChanged(event) => {
                let over_at = self.lives.get(&event.grant).map(ReportedGrant::over_at);
                self.database.role(time, event, over_at, self.period);
            }
            Event::DecisionMade(event) if within && !event.allowed => self.denials.push(forbidden(time, event)),
            Event::Refused(event) if within => {
                let identity = event.identity.as_ref().map(ToString::to_string);
                let grant = event.grant.as_ref().map(ToString::to_string);
                let claimed = identity.or(grant).or_else(|| event.user.clone()).unwrap_or_default();
                self.refused(time, event.ending.as_str(), &claimed, event.client.to_string());
            }
            Event::IdentityRefused(event) if within => {
                let client = event.client.map(|client| client.to_string()).unwrap_or_default();
                self.refused(time, &event.detail, event.claimed.as_deref().unwrap_or_default(), client);
            }
            Event::RefusalsCounted(event) if within => self.refusals_counted(event),
            _ => self.operations.take(time, event, within),
        }
    }

    fn request(&mut self, time: Timestamp, event: &RequestChanged) {
        self.lives.request(time, event);
        if !self.period.has(time) {
            return;
        }
        let wanted = format!("{} {}", event.request, event.target.with(Some(&event.profile)));
        match event.change.known() {
            Some(how @ (RequestChangeKind::Denied | RequestChangeKind::Rejected)) => self.denials.push(AccessDenial {
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
                self.denials.items.pop_if(|denial| denial.wanted == wanted);
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

    fn refused(&mut self, time: Timestamp, why: &str, claimed: &str, client: String) {
        self.count_refusals((kept(why), kept(claimed), client), 1, (time, time));
    }

    /// Counts refusals that have no record of their own. They have no name, because they may have come from many.
    fn refusals_counted(&mut self, event: &RefusalsCounted) {
        let client = event.network.clone().unwrap_or_default();
        self.count_refusals(
            (kept(event.ending.as_str()), String::new(), kept(&client)),
            event.count,
            (event.first, event.last),
        );
    }

    fn count_refusals(&mut self, key: (String, String, String), count: u64, (first, last): (Timestamp, Timestamp)) {
        if self.refusals.len() >= MAX_KINDS && !self.refusals.contains_key(&key) {
            self.refusals_more += count;
            return;
        }
        let (why, claimed, client) = key.clone();
        let refusals = self.refusals.entry(key).or_insert(LoginRefusals {
            why,
            claimed,
            client,
            count: 0,
            first,
            last,
        });
        refusals.count += count;
        refusals.first = refusals.first.min(first);
        refusals.last = refusals.last.max(last);
    }

    fn statement(&mut self, time: Timestamp, event: &Statement<'_>) {
        // Statements that were only prepared or bound did nothing.
        if !event.kind.executes() {
            return;
        }
        self.statements.executed += 1;
        if !self.unread.statement(time, event) {
            self.unfollowed += 1;
        }
        if let Some(used) = self.lives.used(&event.who.grant) {
            used.statements += 1;
            used.at(time);
        }
    }

    fn outcome(&mut self, time: Timestamp, event: &StatementOutcome<'_>) {
        let profile = self.lives.get(&event.who.grant).and_then(ReportedGrant::profile);
        self.database.outcome(time, event, profile);
        // Outcomes of statements that were only prepared, or that are from before the period.
        if !self.unread.outcome(event) {
            return;
        }
        let used = self.lives.used(&event.who.grant);
        match event.result {
            StatementResult::Completed | StatementResult::Suspended => {}
            StatementResult::Failed if event.rule.is_none() => self.statements.failed += 1,
            StatementResult::Unknown => self.statements.unknown += 1,
            // The target skipped it, or the guard rails refused it: it was not executed.
            StatementResult::Skipped | StatementResult::Failed => {
                self.statements.executed = self.statements.executed.saturating_sub(1);
                if let Some(used) = used {
                    used.statements = used.statements.saturating_sub(1);
                }
                return;
            }
        }
        if let Some(used) = used {
            used.rows += event.rows;
            used.at(time);
        }
    }

    fn ended(&mut self, time: Timestamp, event: &SessionEnded) {
        self.open.remove(&event.who.session);
        self.statements.unknown += self.unread.end(&event.who.session);
        if !self.period.has(time) {
            return;
        }
        if self.endings.len() < MAX_KINDS || self.endings.contains_key(event.ending.as_str()) {
            *self.endings.entry(kept(event.ending.as_str())).or_default() += 1;
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
            let Who {
                session,
                grant,
                identity,
                target,
                profile: _,
            } = event.who.clone();
            self.late.push(LateEnd {
                time,
                session,
                grant,
                identity,
                target,
                ending: kept(event.ending.as_str()),
                overshoot_us: event.overshoot_us,
                confirmed: !unconfirmed,
            });
        }
    }

    /// Confirms the end of a session that could not be confirmed when it ended.
    fn gone_late(&mut self, event: &BackendGone) {
        let end = self.late.items.iter_mut().find(|late| late.session == event.who.session);
        if let Some(end) = end.filter(|end| !end.confirmed) {
            end.confirmed = true;
            end.overshoot_us = Some(event.overshoot_us);
            self.delays_us.push(event.overshoot_us);
        }
    }

    /// Returns the report, with the result of the log's verification.
    #[must_use]
    pub fn report(mut self, verdict: Result<VerifyReport, String>, key_from: Option<String>) -> EvidenceReport {
        let unfollowed = self.unfollowed + self.lives.unfollowed() + self.database.unfollowed();
        if unfollowed > 0 {
            self.unreadable.push(format!(
                "{unfollowed} records were about more grants, requests, roles, sessions or statements than one report follows at once: take a shorter time"
            ));
        }
        let mut refusals: Vec<LoginRefusals> = self.refusals.into_values().collect();
        refusals.sort_by(|a, b| (b.count, a.first, &a.claimed).cmp(&(a.count, b.first, &b.claimed)));
        self.delays_us.sort_unstable();
        self.statements.unknown += self.unread.end_all();
        let overshoots = OvershootStats {
            count: self.delays_us.len() as u64,
            p50_us: self.delays_us.get(self.delays_us.len() / 2).copied().unwrap_or(0),
            max_us: self.delays_us.last().copied().unwrap_or(0),
            late: self.late,
        };
        let roles = self.database.roles(|grant| self.lives.get(grant).map(ReportedGrant::over_at));
        let (rails, rails_more, undone) = self.database.finish();
        EvidenceReport {
            period: self.period,
            grants: self.lives.within(self.period),
            denials: self.denials,
            refusals,
            refusals_more: self.refusals_more,
            endings: self.endings,
            open_sessions: self.open.len() as u64,
            lost_sessions: self.lost_sessions,
            overshoots,
            identities: self.operations.identities,
            policies: self.operations.policies,
            operation: self.operations.operation,
            records_missing: self.operations.records_missing,
            log_damaged: self.operations.log_damaged,
            roles,
            rails,
            rails_more,
            unread: self.unread.finish(),
            undone,
            statements: self.statements,
            records: self.records,
            unreadable: self.unreadable,
            verdict,
            key_from,
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
