//! What the gate looks after while it runs: its time, what the store remembers, and whether it can take sessions.
//!
//! It gives nothing and ends nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::audit::Health;
use crate::clock::ClockDoubt;
use crate::session::Shared;

/// How often the wall clock is compared with gate time: a step is noticed within this.
const OBSERVE: Duration = Duration::from_millis(250);
/// How often the time is noted on disk, so that a clock set back while the gate is down lengthens nothing by more than this.
const REMEMBER: Duration = Duration::from_secs(10);

/// Whether the gate takes sessions, or why not.
pub(super) fn readiness(shared: &Shared) -> Result<(), String> {
    if shared.draining.load(Ordering::Relaxed) {
        return Err("the gate is shutting down".to_owned());
    }
    match *shared.journal.health().borrow() {
        Health::Good => shared
            .ledger
            .trouble()
            .or_else(|| shared.clock.doubt().map(ClockDoubt::words))
            .map_or(Ok(()), Err),
        Health::Failed { disk_full: true } => Err("the disk of the audit log is full".to_owned()),
        Health::Failed { disk_full: false } => Err("the audit log cannot be written".to_owned()),
    }
}

/// Keeps gate time with the wall clock, and watches the log's health.
pub(super) async fn tick(shared: Arc<Shared>) {
    let mut health = shared.journal.health();
    let mut observe = tokio::time::interval(OBSERVE);
    shared.metrics.audit(true);
    let mut doubted = false;
    loop {
        tokio::select! {
            _ = observe.tick() => {
                shared.metrics.clock(shared.clock.observe());
                let doubt = shared.clock.doubt();
                if doubt.is_some() != doubted {
                    doubted = doubt.is_some();
                    match doubt {
                        Some(doubt) => tracing::error!("{}", doubt.words()),
                        None => tracing::info!("the machine's clock and gate time agree again"),
                    }
                }
            }
            changed = health.changed() => {
                if changed.is_err() {
                    return;
                }
                let health = *health.borrow_and_update();
                shared.metrics.audit(health == Health::Good);
                match health {
                    Health::Good => tracing::info!("the audit log can be written again"),
                    Health::Failed { disk_full } => tracing::error!(disk_full, "the audit log cannot be written: statements are refused"),
                }
            }
        }
    }
}

/// Notes in the store what it is to remember, again and again. A store that hangs holds up nothing but this.
pub(super) async fn remember(shared: Arc<Shared>) {
    let mut remember = tokio::time::interval(REMEMBER);
    remember.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        remember.tick().await;
        remember_in_store(&shared).await;
    }
}

/// Notes in the store the time, and where the log stands.
pub(super) async fn remember_in_store(shared: &Shared) {
    let now = shared.clock.now();
    // Before it is asked what is pending: all that was taken away up to here is stored, or pending.
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
    if let Err(error) = noted {
        tracing::warn!(%error, "the time and the log's tip could not be noted in the store");
    }
}
