//! Ticker: compares gate time with the wall clock, stores the time and the end of the log, forgets sign-ins that are over, and
//! watches the log's health.
//!
//! The tick itself waits for no disk, since the clock would stand still meanwhile.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;

use super::log_end;
use super::pulse::Pulse;
use crate::audit::JournalHealth;
use crate::base::error_chain::display_chain;
use crate::gate::session::SharedState;

/// Interval between two comparisons of the wall clock with gate time: a step of the clock is noticed within this time.
const OBSERVE_INTERVAL: Duration = Duration::from_millis(250);
/// Interval at which the time is stored; the next start takes no earlier time than this. If the clock is set back while the
/// gate is down, grants end later by the time it was down, plus up to this interval of the time it ran.
const REMEMBER_INTERVAL: Duration = Duration::from_secs(10);
/// Interval at which the end of the log is stored. If the log is truncated while the gate is down, the loss of records newer
/// than this can go unnoticed.
const REMEMBER_END_INTERVAL: Duration = Duration::from_secs(1);

/// Ticks for as long as the gate runs.
pub(super) async fn tick(shared: Arc<SharedState>, pulse: Pulse) {
    tokio::join!(observe(&shared, &pulse), remember(&shared), remember_end(&shared));
}

async fn observe(shared: &SharedState, pulse: &Pulse) {
    let mut health = shared.journal.health();
    let mut observe = tokio::time::interval(OBSERVE_INTERVAL);
    shared.metrics.audit(true);
    let mut doubted = false;
    loop {
        tokio::select! {
            _ = observe.tick() => {
                shared.metrics.clock(SignedDuration::from_micros(shared.clock.observe()));
                pulse.beat(&shared.clock);
                let doubt = shared.clock.doubt();
                if doubt.is_some() != doubted {
                    doubted = doubt.is_some();
                    if let Some(doubt) = doubt { tracing::error!("{}", doubt.words()) } else { tracing::info!("the machine's clock and gate time agree again") }
                }
            }
            Ok(()) = health.changed() => {
                let health = *health.borrow_and_update();
                shared.metrics.audit(health == JournalHealth::Good);
                match health {
                    JournalHealth::Good => tracing::info!("the audit log is writable again"),
                    JournalHealth::Failed { disk_full } => tracing::error!(disk_full, "cannot write the audit log; refusing statements"),
                }
            }
        }
    }
}

/// Stores the end of the log at each interval. A failure is reported by [`remember_in_store`].
async fn remember_end(shared: &SharedState) {
    let (mut remember, mut noted) = (tokio::time::interval(REMEMBER_END_INTERVAL), None);
    remember.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        remember.tick().await;
        let _ = log_end::remember(shared, &mut noted).await;
    }
}

async fn remember(shared: &SharedState) {
    let mut remember = tokio::time::interval(REMEMBER_INTERVAL);
    remember.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        remember.tick().await;
        remember_in_store(shared).await;
    }
}

/// Stores the time and the end of the log.
pub(super) async fn remember_in_store(shared: &SharedState) {
    let now = shared.clock.now();
    // Read before asking for pending changes: every change up to here that takes rights away is then stored or pending.
    let written = shared.journal.written();
    let mut noted = shared.ledger.remember_time(now).await;
    if noted.is_ok() {
        let segment = u32::try_from(written.segment).unwrap_or(u32::MAX);
        noted = shared
            .ledger
            .reflects_log(shared.journal.log(), segment, written.last_seq)
            .await;
    }
    if let (Ok(()), Some(tip)) = (&noted, shared.journal.signed_tip()) {
        noted = shared.ledger.remember_log_tip(tip, now).await;
    }
    if let Err(error) = shared.service.forget_sign_ins().await {
        tracing::warn!(error = %display_chain(&error), "cannot forget sign-ins that are over; they are good for nothing all the same");
    }
    if let Err(error) = noted {
        tracing::warn!(error = %display_chain(&error), "cannot store the time and the end of the audit log");
    }
}
