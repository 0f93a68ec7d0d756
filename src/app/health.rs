//! Readiness, liveness and metrics of the gate.
//!
//! It changes nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{ForwarderHandle, roles};
use crate::access::strangers::Strangers;
use crate::audit::JournalHealth;
use crate::base::clock::ClockDoubt;
use crate::base::diagnostics::Diagnostics;
use crate::base::supervision::Supervisor;
use crate::base::tls::ServerTlsCell;
use crate::control::model::ForwardingStatus;
use crate::gate::session::SharedState;
use crate::outbound::notify::Notifier;

/// Returns `Ok` if the gate takes sessions, and the reason otherwise.
pub(super) fn readiness(shared: &SharedState, supervisor: &Supervisor) -> Result<(), String> {
    if let Some(failure) = supervisor.failure() {
        return Err(failure.to_string());
    }
    if shared.draining.load(Ordering::Relaxed) {
        return Err("the gate is shutting down".to_owned());
    }
    match *shared.journal.health().borrow() {
        JournalHealth::Good => shared
            .ledger
            .trouble()
            .or_else(|| shared.clock.doubt().map(ClockDoubt::words))
            .map_or(Ok(()), Err),
        JournalHealth::Failed { disk_full: true } => Err("the disk of the audit log is full".to_owned()),
        JournalHealth::Failed { disk_full: false } => Err("the audit log cannot be written".to_owned()),
    }
}

/// Returns the state of forwarding the log.
pub(super) fn forwarding(forwarder: &ForwarderHandle) -> ForwardingStatus {
    let (failed_at, failure) = forwarder.failure().unzip();
    ForwardingStatus {
        receiver: forwarder.receiver().to_owned(),
        sent: forwarder.sent(),
        missed: forwarder.missed(),
        received_to: forwarder.received_to(),
        lag_seconds: forwarder.lag().as_secs(),
        failure,
        failed_at,
    }
}

/// Sources of the metrics.
pub(super) struct MetricsSources {
    pub(super) shared: Arc<SharedState>,
    pub(super) notifier: Notifier,
    pub(super) forwarder: Option<Arc<ForwarderHandle>>,
    pub(super) diagnostics: Diagnostics,
    pub(super) certificate: ServerTlsCell,
    pub(super) strangers: Strangers,
}

impl MetricsSources {
    /// Returns the metrics in the Prometheus text format.
    pub(super) fn text(&self) -> String {
        let shared = &self.shared;
        shared.metrics.waiting(shared.waiters.waiting());
        shared.metrics.certificate(self.certificate.current().expires_at());
        shared.metrics.requests_pending(shared.ledger.requests_pending());
        let held = self.strangers.held_back();
        shared
            .metrics
            .held_up(shared.service.floods_refused(), held.address, held.name);
        let statements = shared.registry.statements();
        for target in shared.rules.borrow().targets.keys() {
            let live = statements.get(target).copied().unwrap_or_default();
            shared.metrics.live_statements(target, live);
            shared.metrics.line(target, shared.service.counted_in_line(target));
        }
        shared.metrics.notices_lost(self.notifier.lost());
        shared.metrics.messages_lost(self.diagnostics.lost());
        let written = shared.journal.written();
        let age = written.signed.map(|signed| shared.clock.now().duration_since(signed));
        let age = age.and_then(|age| age.try_into().ok()).unwrap_or_default();
        shared.metrics.log(written, shared.journal.gap().is_some(), age);
        roles::count(shared);
        for (name, target) in &shared.rules.borrow().targets {
            if let Some(changes) = &target.changes {
                shared.metrics.changes(name, changes.counted());
            }
        }
        if let Some(forwarder) = &self.forwarder {
            let (sent, missed, lag) = (forwarder.sent(), forwarder.missed(), forwarder.lag());
            shared.metrics.forwarded(sent, missed, lag);
        }
        shared.metrics.text()
    }
}
