//! Metrics of the gate in the Prometheus text format.
//!
//! Labels have few values by design: endings, rules, and names of the configuration; never a grant, an identity or an address.

mod process;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry, Unit};

use crate::access::LineCounts;
use crate::audit::StatsSnapshot;
use crate::database::provision::{CaptureCounts, CopyCounts, RoleCounts};
use crate::model::names::{ProfileName, TargetName};

/// Upper bounds of the overshoot histogram in seconds; the promised maximum is 0.25.
const OVERSHOOT_BOUNDS: [f64; 9] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
/// Upper bounds of the decision histogram in seconds: policies decide in milliseconds, people in minutes.
const DECISION_BOUNDS: [f64; 9] = [0.1, 1.0, 10.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0];

/// One label with a value that the program knows.
type ByWord = [(&'static str, &'static str); 1];
type ByTarget = [(&'static str, TargetName); 1];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByEnding {
    target: TargetName,
    ending: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByProfile {
    target: TargetName,
    profile: ProfileName,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByRule {
    target: TargetName,
    profile: ProfileName,
    rule: &'static str,
}

impl EncodeLabelValue for TargetName {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.as_str().encode(encoder)
    }
}

impl EncodeLabelValue for ProfileName {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.as_str().encode(encoder)
    }
}

/// Counters of a gate. Cheap to clone; clones count together.
#[derive(Debug, Clone, Default)]
pub struct Metrics(Arc<Counters>);

#[derive(Debug)]
struct Counters {
    registry: Registry,
    /// Statements of ended sessions, to which those of live sessions are added.
    ended_statements: Family<ByTarget, Counter>,
    connections: Counter,
    refused: Family<ByWord, Counter>,
    sessions: Family<ByTarget, Gauge>,
    ended: Family<ByEnding, Counter>,
    statements: Family<ByTarget, Counter>,
    cancels: Counter,
    overshoot: Histogram,
    clock_ahead: Gauge<f64, AtomicU64>,
    certificate_end: Gauge,
    requests_pending: Gauge,
    decisions: Family<ByWord, Histogram, fn() -> Histogram>,
    requests_refused: Family<ByWord, Counter>,
    held_back: Family<ByWord, Counter>,
    audit_good: Gauge,
    audit_lines: Counter,
    audit_bytes: Counter,
    audit_writes: Counter,
    audit_syncs: Counter,
    audit_segment: Gauge,
    audit_gap: Gauge,
    audit_unsigned: Gauge<f64, AtomicU64>,
    waiting: Gauge,
    notices_lost: Counter,
    messages_lost: Counter,
    forwarded: Counter,
    forward_missed: Counter,
    forward_lag: Gauge<f64, AtomicU64>,
    drift: Family<ByProfile, Gauge>,
    looked_at: Family<ByTarget, Gauge>,
    roles: Family<ByTarget, Gauge>,
    roles_made: Family<ByTarget, Counter>,
    roles_retired: Family<ByTarget, Counter>,
    roles_left: Family<ByTarget, Gauge>,
    role_intruders: Family<ByTarget, Counter>,
    rail_refusals: Family<ByRule, Counter>,
    in_line: Family<ByTarget, Gauge>,
    longest_in_line: Family<ByTarget, Gauge<f64, AtomicU64>>,
    turns: Family<ByTarget, Counter>,
    copies: Family<ByTarget, Gauge>,
    copies_made: Family<ByTarget, Counter>,
    copies_dropped: Family<ByTarget, Counter>,
    rows_changed: Family<ByTarget, Counter>,
    rows_past_the_gate: Family<ByTarget, Counter>,
    changes_unknown: Family<ByTarget, Gauge>,
    changes_failing: Family<ByTarget, Gauge>,
}

impl Default for Counters {
    #[expect(clippy::too_many_lines, reason = "one entry for each metric, in the order of the text")]
    fn default() -> Self {
        let mut registry = Registry::with_prefix("tidegate");
        let r = &mut registry;
        Self {
            ended_statements: Family::default(),
            connections: add(r, "connections", "TCP connections accepted"),
            refused: add(r, "connections_refused", "Connections that did not become a session"),
            sessions: add(r, "sessions", "Sessions alive"),
            ended: add(r, "sessions_ended", "Sessions ended"),
            statements: add(r, "statements", "Statements"),
            cancels: add(r, "cancel_requests", "CancelRequests received"),
            overshoot: add_seconds(
                r,
                "ending_overshoot",
                "From the order to end until the backend was confirmed gone",
                Histogram::new(OVERSHOOT_BOUNDS),
            ),
            clock_ahead: add_seconds(
                r,
                "wall_clock_ahead",
                "Wall clock minus gate time; negative after the clock was set back",
                Gauge::default(),
            ),
            certificate_end: add(
                r,
                "certificate_expiry_timestamp_seconds",
                "When the certificate that clients see ends (Unix time)",
            ),
            requests_pending: add(r, "requests_pending", "Requests that wait for approvers"),
            decisions: add_seconds(
                r,
                "request_decision",
                "From a request's submission until it was settled, by what it came to",
                Family::new_with_constructor(|| Histogram::new(DECISION_BOUNDS)),
            ),
            requests_refused: add(r, "requests_refused", "Requests that were not even decided, by the reason"),
            held_back: add(
                r,
                "answers_held_back",
                "Answers to failed logins and calls that were held back, by whose failures before were too many",
            ),
            audit_good: add(r, "audit_writable", "1 while the audit log can be written"),
            audit_lines: add(r, "audit_lines", "Lines written to the audit log"),
            audit_bytes: add(r, "audit_bytes", "Bytes written to the audit log"),
            audit_writes: add(r, "audit_writes", "Writes of the audit log"),
            audit_syncs: add(r, "audit_syncs", "Writes of the audit log that were synced"),
            audit_segment: add(r, "audit_segment", "The number of the segment being written"),
            audit_gap: add(
                r,
                "audit_gap",
                "1 where this start found that the audit log is shorter than, or another than, the ledger knows it",
            ),
            audit_unsigned: add(
                r,
                "audit_checkpoint_age_seconds",
                "Since the last checkpoint was signed; none is due while nothing is written",
            ),
            waiting: add(r, "logins_waiting", "Logins that wait for approval"),
            notices_lost: add(r, "notices_lost", "Messages to webhooks that were not kept or were given up"),
            messages_lost: add(
                r,
                "messages_lost",
                "Messages of the gate itself that standard error did not take",
            ),
            forwarded: add(
                r,
                "audit_forwarded",
                "Records of the audit log sent to the receiver; one sent twice counts twice",
            ),
            forward_missed: add(
                r,
                "audit_forward_missed",
                "Records of the audit log that were removed before they could be sent",
            ),
            forward_lag: add(
                r,
                "audit_forward_lag_seconds",
                "How long the oldest record that is not sent has waited; 0 without a receiver",
            ),
            drift: add(
                r,
                "profile_drift",
                "1 while the target's database differs from what the profile says",
            ),
            looked_at: add(
                r,
                "profile_checked_timestamp_seconds",
                "when the target's database was last seen to be as its drift says (Unix time)",
            ),
            roles: add(r, "roles", "Roles of grants at the target"),
            roles_made: add(r, "roles_made", "Roles of grants made"),
            roles_retired: add(r, "roles_retired", "Roles of grants ended"),
            roles_left: add(
                r,
                "roles_left",
                "Roles of ended grants that could not be ended yet: they can log nobody in",
            ),
            role_intruders: add(
                r,
                "role_intruders",
                "Backends ended that had logged in as a grant's role past the gate",
            ),
            rail_refusals: add(
                r,
                "rail_refusals",
                "Messages of clients that the guard rails of a profile refused, by rule",
            ),
            in_line: add(
                r,
                "line_grants",
                "Grants that wait in line for their target, which is in exclusive use",
            ),
            longest_in_line: add_seconds(
                r,
                "line_longest_wait",
                "How long the first in line has waited; 0 where none waits",
                Family::default(),
            ),
            turns: add(r, "line_turns", "Grants whose turn came after they had waited in line"),
            copies: add(r, "copies", "Databases of grants at the target, each a copy of a template"),
            copies_made: add(r, "copies_made", "Databases of grants made"),
            copies_dropped: add(r, "copies_dropped", "Databases of grants dropped"),
            rows_changed: add(r, "rows_changed", "Changed rows that were captured and recorded"),
            rows_past_the_gate: add(
                r,
                "rows_changed_past_the_gate",
                "Changed rows that were captured and recorded, of roles that no gate made",
            ),
            changes_unknown: add(
                r,
                "captured_changes_unknown",
                "Captured changes that stay at the target, because this gate does not know their grants",
            ),
            changes_failing: add(
                r,
                "captured_changes_failing",
                "1 while captured changes cannot be moved from the target to the audit log",
            ),
            registry,
        }
    }
}

/// Registers a new metric.
fn add<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

/// Registers a metric whose unit is the second.
fn add_seconds<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register_with_unit(name, help, Unit::Seconds, metric.clone());
    metric
}

/// Sets a counter to a count that is kept elsewhere.
fn set(counter: &Counter, count: u64) {
    counter.inner().store(count, Ordering::Relaxed);
}

fn gauge(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl Metrics {
    /// Counts an accepted TCP connection.
    pub fn connection(&self) {
        self.0.connections.inc();
    }

    /// Counts a refused connection.
    pub fn refused(&self, ending: &'static str) {
        self.0.refused.get_or_create(&[("ending", ending)]).inc();
    }

    /// Counts the start of a session.
    pub fn session_started(&self, target: &TargetName) {
        self.0.sessions.get_or_create(&[("target", target.clone())]).inc();
    }

    /// Counts the end of a session. `overshoot_us` is the time in microseconds from the order to end until its backend was
    /// confirmed gone.
    pub fn session_ended(&self, target: &TargetName, ending: &'static str, statements: u64, overshoot_us: Option<u64>) {
        let (target, by_target) = (target.clone(), [("target", target.clone())]);
        self.0.sessions.get_or_create(&by_target).dec();
        self.0.ended_statements.get_or_create(&by_target).inc_by(statements);
        self.0.ended.get_or_create(&ByEnding { target, ending }).inc();
        if let Some(micros) = overshoot_us {
            let micros = u32::try_from(micros).unwrap_or(u32::MAX);
            self.0.overshoot.observe(f64::from(micros) / 1e6);
        }
    }

    /// Sets the number of statements of live sessions. A session that is just ending may be missing for a moment; the sum never
    /// decreases.
    pub fn live_statements(&self, target: &TargetName, statements: u64) {
        let by_target = [("target", target.clone())];
        let ended = self.0.ended_statements.get_or_create(&by_target).get();
        let counter = self.0.statements.get_or_create(&by_target);
        counter.inner().fetch_max(ended.saturating_add(statements), Ordering::Relaxed);
    }

    /// Sets the expiry of the certificate that clients see; 0 if it cannot be read.
    pub fn certificate(&self, end: Option<jiff::Timestamp>) {
        self.0.certificate_end.set(end.map_or(0, jiff::Timestamp::as_second));
    }

    /// Counts a CancelRequest.
    pub fn cancel(&self) {
        self.0.cancels.inc();
    }

    /// Sets the difference of the wall clock from gate time; negative if the wall clock is behind.
    pub fn clock(&self, ahead: jiff::SignedDuration) {
        self.0.clock_ahead.set(ahead.as_secs_f64());
    }

    /// Sets whether the audit log can be written.
    pub fn audit(&self, good: bool) {
        self.0.audit_good.set(i64::from(good));
    }

    /// Sets the counters of the audit log, and whether a part of it is missing. `since_checkpoint` is the time since the last
    /// checkpoint was signed; none is due while nothing is written.
    pub fn log(&self, log: StatsSnapshot, gap: bool, since_checkpoint: Duration) {
        set(&self.0.audit_lines, log.lines);
        set(&self.0.audit_bytes, log.bytes);
        set(&self.0.audit_writes, log.writes);
        set(&self.0.audit_syncs, log.syncs);
        self.0.audit_segment.set(gauge(log.segment));
        self.0.audit_gap.set(i64::from(gap));
        self.0.audit_unsigned.set(since_checkpoint.as_secs_f64());
    }

    /// Sets the number of requests that wait for approvers.
    pub fn requests_pending(&self, requests: usize) {
        self.0.requests_pending.set(i64::try_from(requests).unwrap_or(i64::MAX));
    }

    /// Counts a settled request and the time from its submission.
    pub fn request_settled(&self, outcome: &'static str, after: Duration) {
        let histogram = self.0.decisions.get_or_create(&[("outcome", outcome)]);
        histogram.observe(after.as_secs_f64());
    }

    /// Sets the number, since the start, of requests refused because their identity asked too often, and of answers to failed
    /// logins that were held back because of failures of an address or of a name.
    pub fn held_up(&self, requests: u64, address: u64, name: u64) {
        for (family, reason, count) in [
            (&self.0.requests_refused, "too_many_requests", requests),
            (&self.0.held_back, "address", address),
            (&self.0.held_back, "name", name),
        ] {
            set(&family.get_or_create(&[("reason", reason)]), count);
        }
    }

    /// Sets the number of logins that wait for approval.
    pub fn waiting(&self, logins: u32) {
        self.0.waiting.set(i64::from(logins));
    }

    /// Sets the number of messages to webhooks, since the start, that were not kept or were given up.
    pub fn notices_lost(&self, messages: u64) {
        set(&self.0.notices_lost, messages);
    }

    /// Sets the number of the gate's own messages, since the start, that standard error did not take.
    pub fn messages_lost(&self, messages: u64) {
        set(&self.0.messages_lost, messages);
    }

    /// Sets the figures of forwarding the audit log since the start: records sent, records removed before they were sent, and
    /// the time that the oldest unsent record has waited.
    pub fn forwarded(&self, sent: u64, missed: u64, lag: Duration) {
        set(&self.0.forwarded, sent);
        set(&self.0.forward_missed, missed);
        self.0.forward_lag.set(lag.as_secs_f64());
    }

    /// Counts a message refused by the guard rails of a profile because it breaks this rule.
    pub fn rail_refused(&self, target: &TargetName, profile: &ProfileName, rule: &'static str) {
        let (target, profile) = (target.clone(), profile.clone());
        self.0.rail_refusals.get_or_create(&ByRule { target, profile, rule }).inc();
    }

    /// Sets whether a target's database differs from a profile.
    pub fn profile(&self, target: &TargetName, profile: &ProfileName, differs: bool) {
        let (target, profile) = (target.clone(), profile.clone());
        let gauge = self.0.drift.get_or_create(&ByProfile { target, profile });
        gauge.set(i64::from(differs));
    }

    /// Removes the metrics of all profiles, because a reload has replaced them.
    pub fn no_profiles(&self) {
        self.0.drift.clear();
        self.0.looked_at.clear();
    }

    /// Sets the time at which a target's database was last compared with its profiles, or seen unchanged since.
    pub fn profiles_looked_at(&self, target: &TargetName, at: jiff::Timestamp) {
        let gauge = self.0.looked_at.get_or_create(&[("target", target.clone())]);
        gauge.set(at.as_second());
    }

    /// Sets the counts of the roles of grants at a target.
    pub fn roles(&self, target: &TargetName, roles: RoleCounts) {
        let by_target = [("target", target.clone())];
        self.0.roles.get_or_create(&by_target).set(gauge(roles.present));
        self.0.roles_left.get_or_create(&by_target).set(gauge(roles.left));
        set(&self.0.roles_made.get_or_create(&by_target), roles.made);
        set(&self.0.roles_retired.get_or_create(&by_target), roles.retired);
        set(&self.0.role_intruders.get_or_create(&by_target), roles.intruders);
    }

    /// Sets the counts of the line at a target.
    pub fn line(&self, target: &TargetName, line: LineCounts) {
        let by_target = [("target", target.clone())];
        self.0.in_line.get_or_create(&by_target).set(gauge(line.waiting));
        let longest = self.0.longest_in_line.get_or_create(&by_target);
        longest.set(line.longest.as_secs_f64());
        set(&self.0.turns.get_or_create(&by_target), line.waited);
    }

    /// Sets the counts of the databases of grants at a target.
    pub fn copies(&self, target: &TargetName, copies: CopyCounts) {
        let by_target = [("target", target.clone())];
        self.0.copies.get_or_create(&by_target).set(gauge(copies.present));
        set(&self.0.copies_made.get_or_create(&by_target), copies.made);
        set(&self.0.copies_dropped.get_or_create(&by_target), copies.dropped);
    }

    /// Sets the counts of the captured changes of a target.
    pub fn changes(&self, target: &TargetName, changes: CaptureCounts) {
        let by_target = [("target", target.clone())];
        set(&self.0.rows_changed.get_or_create(&by_target), changes.rows);
        set(&self.0.rows_past_the_gate.get_or_create(&by_target), changes.past_the_gate);
        self.0.changes_unknown.get_or_create(&by_target).set(gauge(changes.unknown));
        self.0
            .changes_failing
            .get_or_create(&by_target)
            .set(i64::from(changes.failing));
    }

    /// Returns all metrics in the Prometheus text format.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode_registry(&mut text, &self.0.registry);
        let _ = encode_registry(&mut text, &process::registry());
        let _ = encode_eof(&mut text);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::too_many_lines, reason = "one line for each metric")]
    fn counts_are_shown() {
        let metrics = Metrics::default();
        let target: TargetName = "orders".parse().unwrap();
        metrics.session_started(&target);
        metrics.session_ended(&target, "expired", 3, Some(4_000));
        metrics.refused("bad_secret");
        metrics.live_statements(&target, 2);
        metrics.live_statements(&target, 0);
        metrics.clock(jiff::SignedDuration::from_millis(-1500));
        metrics.requests_pending(2);
        metrics.request_settled("approved", Duration::from_secs(61));
        metrics.held_up(4, 5, 6);
        metrics.waiting(3);
        metrics.notices_lost(2);
        metrics.messages_lost(5);
        let written = StatsSnapshot {
            lines: 9,
            bytes: 900,
            writes: 4,
            syncs: 1,
            segment: 2,
            signed: None,
            last_seq: 9,
        };
        metrics.log(written, true, Duration::from_millis(1500));
        metrics.forwarded(7, 1, Duration::from_millis(1500));
        metrics.profile(&target, &"read-only".parse().unwrap(), true);
        metrics.profiles_looked_at(&target, jiff::Timestamp::from_second(1_764_000_000).unwrap());
        let roles = RoleCounts {
            present: 1,
            made: 3,
            retired: 2,
            left: 0,
            intruders: 0,
        };
        metrics.roles(&target, roles);
        let line = LineCounts {
            waiting: 2,
            longest: Duration::from_millis(1500),
            waited: 5,
        };
        metrics.line(&target, line);
        let copies = CopyCounts {
            present: 1,
            made: 4,
            dropped: 3,
        };
        metrics.copies(&target, copies);
        metrics.rail_refused(&target, &"read-only".parse().unwrap(), "need_where");
        let changes = CaptureCounts {
            rows: 8,
            past_the_gate: 2,
            unknown: 1,
            failing: true,
        };
        metrics.changes(&target, changes);
        let text = metrics.text();
        for line in [
            "tidegate_roles{target=\"orders\"} 1",
            "tidegate_roles_made_total{target=\"orders\"} 3",
            "tidegate_roles_left{target=\"orders\"} 0",
            "tidegate_line_grants{target=\"orders\"} 2",
            "tidegate_line_longest_wait_seconds{target=\"orders\"} 1.5",
            "tidegate_line_turns_total{target=\"orders\"} 5",
            "tidegate_copies{target=\"orders\"} 1",
            "tidegate_copies_made_total{target=\"orders\"} 4",
            "tidegate_copies_dropped_total{target=\"orders\"} 3",
            "tidegate_sessions{target=\"orders\"} 0",
            "tidegate_sessions_ended_total{target=\"orders\",ending=\"expired\"} 1",
            "tidegate_statements_total{target=\"orders\"} 5",
            "tidegate_wall_clock_ahead_seconds -1.5",
            "tidegate_requests_pending 2",
            "tidegate_requests_refused_total{reason=\"too_many_requests\"} 4",
            "tidegate_answers_held_back_total{reason=\"address\"} 5",
            "tidegate_answers_held_back_total{reason=\"name\"} 6",
            "tidegate_request_decision_seconds_bucket{le=\"300.0\",outcome=\"approved\"} 1",
            "tidegate_build_info{version=\"",
            "process_cpu_seconds_total ",
            "process_resident_memory_bytes ",
            "process_open_fds ",
            "process_start_time_seconds ",
            "tidegate_connections_refused_total{ending=\"bad_secret\"} 1",
            "tidegate_logins_waiting 3",
            "tidegate_notices_lost_total 2",
            "tidegate_messages_lost_total 5",
            "tidegate_audit_lines_total 9",
            "tidegate_audit_syncs_total 1",
            "tidegate_audit_segment 2",
            "tidegate_audit_gap 1",
            "tidegate_audit_checkpoint_age_seconds 1.5",
            "tidegate_audit_forwarded_total 7",
            "tidegate_audit_forward_missed_total 1",
            "tidegate_audit_forward_lag_seconds 1.5",
            "tidegate_profile_drift{target=\"orders\",profile=\"read-only\"} 1",
            "tidegate_profile_checked_timestamp_seconds{target=\"orders\"} 1764000000",
            "tidegate_rail_refusals_total{target=\"orders\",profile=\"read-only\",rule=\"need_where\"} 1",
            "tidegate_rows_changed_total{target=\"orders\"} 8",
            "tidegate_rows_changed_past_the_gate_total{target=\"orders\"} 2",
            "tidegate_captured_changes_unknown{target=\"orders\"} 1",
            "tidegate_captured_changes_failing{target=\"orders\"} 1",
            "tidegate_ending_overshoot_seconds_bucket{le=\"0.005\"} 1",
        ] {
            assert!(text.contains(line), "{line} not in\n{text}");
        }
    }
}
