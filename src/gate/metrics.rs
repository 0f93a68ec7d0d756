//! Metrics of the gate in the Prometheus text format.
//!
//! Labels have few values by design: endings, rules, and names of the configuration; never a grant, an identity or an address.

mod labels;
mod log;
mod process;
mod profiles;
mod requests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use labels::{ByBoth, ByEnding, ByOutcome, ByProfile, ByReason, ByRule, ByTarget};

use crate::database::provision::RoleCounts;
use crate::model::names::{ProfileName, TargetName};

/// Upper bounds of the overshoot histogram in seconds; the promised maximum is 0.25.
const OVERSHOOT_BOUNDS: [f64; 9] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// Counters of a gate. Cheap to clone; clones count together.
#[derive(Debug, Clone, Default)]
pub struct Metrics(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    connections: Counter,
    refused: Family<ByEnding, Counter>,
    sessions: Family<ByTarget, Gauge>,
    ended: Family<ByBoth, Counter>,
    statements: Family<ByTarget, Counter>,
    /// Statements of ended sessions, to which those of live sessions are added.
    ended_statements: Family<ByTarget, Counter>,
    cancels: Counter,
    histograms: Histograms,
    clock_ahead: Gauge<f64, AtomicU64>,
    audit_good: Gauge,
    audit_lines: Counter,
    audit_bytes: Counter,
    audit_writes: Counter,
    audit_syncs: Counter,
    audit_segment: Gauge,
    audit_gap: Gauge,
    audit_unsigned: Gauge<f64, AtomicU64>,
    certificate_end: Gauge,
    waiting: Gauge,
    requests_pending: Gauge,
    requests_refused: Family<ByReason, Counter>,
    held_back: Family<ByReason, Counter>,
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
}

/// Histograms, which have bounds of their own.
#[derive(Debug)]
struct Histograms {
    overshoot: Histogram,
    decisions: Family<ByOutcome, Histogram, fn() -> Histogram>,
}

impl Default for Histograms {
    fn default() -> Self {
        Self {
            overshoot: Histogram::new(OVERSHOOT_BOUNDS),
            decisions: Family::new_with_constructor(requests::decisions),
        }
    }
}

impl Counters {
    /// Registers the metrics of the roles of grants.
    fn register_roles(&self, registry: &mut Registry) {
        registry.register("roles", "Roles of grants at the target", self.roles.clone());
        registry.register("roles_made", "Roles of grants made", self.roles_made.clone());
        registry.register("roles_retired", "Roles of grants ended", self.roles_retired.clone());
        registry.register(
            "roles_left",
            "Roles of ended grants that could not be ended yet: they can log nobody in",
            self.roles_left.clone(),
        );
        registry.register(
            "role_intruders",
            "Backends ended that had logged in as a grant's role past the gate",
            self.role_intruders.clone(),
        );
    }

    /// Registers the metrics of waiting logins and of lost notifications and messages.
    fn register_tellings(&self, registry: &mut Registry) {
        registry.register("logins_waiting", "Logins that wait for approval", self.waiting.clone());
        registry.register(
            "notices_lost",
            "Messages to webhooks that were not kept or were given up",
            self.notices_lost.clone(),
        );
        registry.register(
            "messages_lost",
            "Messages of the gate itself that standard error did not take",
            self.messages_lost.clone(),
        );
    }

    /// Registers the metrics of forwarding the audit log.
    fn register_forwarding(&self, registry: &mut Registry) {
        registry.register(
            "audit_forwarded",
            "Records of the audit log sent to the receiver; one sent twice counts twice",
            self.forwarded.clone(),
        );
        registry.register(
            "audit_forward_missed",
            "Records of the audit log that were removed before they could be sent",
            self.forward_missed.clone(),
        );
        registry.register(
            "audit_forward_lag_seconds",
            "How long the oldest record that is not sent has waited; 0 without a receiver",
            self.forward_lag.clone(),
        );
    }
}

impl Metrics {
    /// Counts an accepted TCP connection.
    pub fn connection(&self) {
        self.0.connections.inc();
    }

    /// Counts a refused connection.
    pub fn refused(&self, ending: &'static str) {
        self.0.refused.get_or_create(&ByEnding { ending }).inc();
    }

    /// Counts the start of a session.
    pub fn session_started(&self, target: &TargetName) {
        self.0.sessions.get_or_create(&ByTarget { target: target.clone() }).inc();
    }

    /// Counts the end of a session. `overshoot_us` is the time in microseconds from the order to end until its backend was
    /// confirmed gone.
    pub fn session_ended(&self, target: &TargetName, ending: &'static str, statements: u64, overshoot_us: Option<u64>) {
        let by_target = ByTarget { target: target.clone() };
        self.0.sessions.get_or_create(&by_target).dec();
        self.0.ended_statements.get_or_create(&by_target).inc_by(statements);
        self.0
            .ended
            .get_or_create(&ByBoth {
                target: target.clone(),
                ending,
            })
            .inc();
        if let Some(micros) = overshoot_us {
            let micros = u32::try_from(micros).unwrap_or(u32::MAX);
            self.0.histograms.overshoot.observe(f64::from(micros) / 1e6);
        }
    }

    /// Sets the number of statements of live sessions. A session that is just ending may be missing for a moment; the sum never
    /// decreases.
    pub fn live_statements(&self, target: &TargetName, statements: u64) {
        let by_target = ByTarget { target: target.clone() };
        let all = self
            .0
            .ended_statements
            .get_or_create(&by_target)
            .get()
            .saturating_add(statements);
        let counter = self.0.statements.get_or_create(&by_target);
        counter.inner().fetch_max(all, Ordering::Relaxed);
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

    /// Sets the number of logins that wait for approval.
    pub fn waiting(&self, logins: u32) {
        self.0.waiting.set(i64::from(logins));
    }

    /// Sets the number of messages to webhooks, since the start, that were not kept or were given up.
    pub fn notices_lost(&self, messages: u64) {
        self.0.notices_lost.inner().store(messages, Ordering::Relaxed);
    }

    /// Sets the number of the gate's own messages, since the start, that standard error did not take.
    pub fn messages_lost(&self, messages: u64) {
        self.0.messages_lost.inner().store(messages, Ordering::Relaxed);
    }

    /// Sets the figures of forwarding the audit log since the start: records sent, records removed before they were sent, and
    /// the time that the oldest unsent record has waited.
    pub fn forwarded(&self, sent: u64, missed: u64, lag: Duration) {
        self.0.forwarded.inner().store(sent, Ordering::Relaxed);
        self.0.forward_missed.inner().store(missed, Ordering::Relaxed);
        self.0.forward_lag.set(lag.as_secs_f64());
    }

    /// Counts a message refused by the guard rails of a profile because it breaks this rule.
    pub fn rail_refused(&self, target: &TargetName, profile: &ProfileName, rule: &'static str) {
        let (target, profile) = (target.clone(), profile.clone());
        self.0.rail_refusals.get_or_create(&ByRule { target, profile, rule }).inc();
    }

    /// Sets the counts of the roles of grants at a target.
    pub fn roles(&self, target: &TargetName, roles: RoleCounts) {
        let by_target = ByTarget { target: target.clone() };
        let gauge = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.0.roles.get_or_create(&by_target).set(gauge(roles.present));
        self.0.roles_left.get_or_create(&by_target).set(gauge(roles.left));
        for (counters, count) in [
            (&self.0.roles_made, roles.made),
            (&self.0.roles_retired, roles.retired),
            (&self.0.role_intruders, roles.intruders),
        ] {
            counters.get_or_create(&by_target).inner().store(count, Ordering::Relaxed);
        }
    }

    /// Returns all metrics in the Prometheus text format.
    #[must_use]
    pub fn text(&self) -> String {
        let mut registry = Registry::with_prefix("tidegate");
        let Counters {
            connections,
            refused,
            sessions,
            ended,
            statements,
            cancels,
            clock_ahead,
            rail_refusals,
            ..
        } = &*self.0;
        registry.register("connections", "TCP connections accepted", connections.clone());
        registry.register(
            "connections_refused",
            "Connections that did not become a session",
            refused.clone(),
        );
        registry.register("sessions", "Sessions alive", sessions.clone());
        registry.register("sessions_ended", "Sessions ended", ended.clone());
        registry.register("statements", "Statements", statements.clone());
        registry.register("cancel_requests", "CancelRequests received", cancels.clone());
        registry.register_with_unit(
            "ending_overshoot",
            "From the order to end until the backend was confirmed gone",
            Unit::Seconds,
            self.0.histograms.overshoot.clone(),
        );
        registry.register_with_unit(
            "wall_clock_ahead",
            "Wall clock minus gate time; negative after the clock was set back",
            Unit::Seconds,
            clock_ahead.clone(),
        );
        registry.register(
            "certificate_expiry_timestamp_seconds",
            "When the certificate that clients see ends (Unix time)",
            self.0.certificate_end.clone(),
        );
        self.0.register_requests(&mut registry);
        self.0.register_log(&mut registry);
        self.0.register_tellings(&mut registry);
        self.0.register_forwarding(&mut registry);
        self.0.register_profiles(&mut registry);
        self.0.register_roles(&mut registry);
        registry.register(
            "rail_refusals",
            "Messages of clients that the guard rails of a profile refused, by rule",
            rail_refusals.clone(),
        );
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode_registry(&mut text, &registry);
        let _ = encode_registry(&mut text, &process::registry());
        let _ = encode_eof(&mut text);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::StatsSnapshot;

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
        metrics.rail_refused(&target, &"read-only".parse().unwrap(), "need_where");
        let text = metrics.text();
        for line in [
            "tidegate_roles{target=\"orders\"} 1",
            "tidegate_roles_made_total{target=\"orders\"} 3",
            "tidegate_roles_left{target=\"orders\"} 0",
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
            "tidegate_ending_overshoot_seconds_bucket{le=\"0.005\"} 1",
        ] {
            assert!(text.contains(line), "{line} not in\n{text}");
        }
    }
}
