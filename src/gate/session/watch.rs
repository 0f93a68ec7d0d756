//! Supervision of a session: the relay runs until a limit is reached, an order arrives, or one side stops; then the session is
//! ended.
//!
//! This module does not inspect the bytes, and does not end the session itself.

use std::borrow::Cow;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::end::{self, SessionEnd};
use super::limits::{DueEvent, SessionLimits};
use super::recorder::{SessionTotals, TargetLastWord};
use super::registry::{SessionCommand, SessionHandle, SessionOrders};
use super::relay::{Relay, RelayStop};
use super::start::StartedSession;
use super::{SharedState, micros};
use crate::access::TargetUse;
use crate::audit::event::{BackendGone, Event as Recorded, SessionEnded};
use crate::audit::{AuditError, RecordBatch};
use crate::base::error_chain::display_chain;
use crate::database::provision::{BackendGoneness, GoneLater};
use crate::model::ending::{Ending, Fate};
use crate::model::grant::Grant;

/// Runs a session to its end and records the end.
///
/// The session stays in its box until it ends: a future that takes it apart would hold the memory for it twice.
pub(super) async fn run(mut started: Box<StartedSession>, shared: &Arc<SharedState>) {
    let ending = until_it_ends(&mut started, shared).await;
    // Boxed, so that a running session does not hold the memory for its end.
    Box::pin(finish(*started, ending, shared)).await;
}

/// Ends a session for this reason and records its end.
async fn finish(started: StartedSession, ending: Ending, shared: &Arc<SharedState>) {
    let StartedSession {
        relay,
        entry,
        places,
        mut using,
        rules,
        since,
        connection: _until_closed,
        ..
    } = started;
    let noticed = shared.clock.moment();
    let ordered = end::due(&ending, &shared.clock, noticed);
    let live = Arc::clone(entry.live());
    // The cancel key is invalid from here on. The entry itself is held until the end, because a shutdown waits for it.
    entry.leave();
    let ended = end::end(relay, &ending, rules.session.end_grace).await;
    drop(places);
    changes_on_record(&live).await;
    if ending == Ending::Quit {
        using.left_in_order();
    }
    put_on_record(&live, &ending, &ended, (since.instant, ordered), shared).await;
    confirm_later(ended.gone, Some(using), (&live, ordered), shared);
    if let Some(closing) = ended.closing {
        // It has its own time limit; a failure needs no report.
        let _ = closing.await;
    }
    drop(entry);
}

/// Ends a session that has panicked: its client's connection is closed by then, so its backend and its record remain.
pub(super) async fn broke_off(live: &Arc<SessionHandle>, shared: &Arc<SharedState>) {
    let noticed = shared.clock.moment().instant;
    let ended = SessionEnd {
        fate: Fate::Unknown,
        totals: SessionTotals::default(),
        last_word: None,
        told: Some(false),
        gone: Some(live.end_backend().await),
        closing: None,
    };
    changes_on_record(live).await;
    put_on_record(live, &Ending::GateFault, &ended, (live.backend.opened, noticed), shared).await;
    confirm_later(ended.gone, None, (live, noticed), shared);
}

/// Runs the relay until there is a reason to end. Limits take precedence over the target, the target over the client.
async fn until_it_ends(started: &mut StartedSession, shared: &SharedState) -> Ending {
    let StartedSession {
        relay,
        entry,
        limits,
        changes,
        rules,
        ..
    } = started;
    let clock = &shared.clock;
    let mut steps = clock.steps();
    let orders = &entry.live().orders;
    loop {
        relay.deadline = clock.instant_at(limits.permit.until());
        let (at, due) = limits.next(clock, relay.idle_since);
        // Polled only if one of them was woken, not with every byte: that saves a tenth of the gate's own work per statement.
        // Boxed, because the set has room for two: the future, and none.
        let mut events = FuturesUnordered::from_iter([Box::pin(wait(&mut steps, orders, changes, at))]);
        let event = tokio::select! {
            biased;
            event = events.next() => Ok(event.unwrap_or(SessionEvent::Step)),
            stop = relay.run() => Err(stop),
        };
        drop(events);
        let event = match event {
            Ok(event) => event,
            Err(RelayStop::Late) if is_moved(changes) => SessionEvent::Change,
            Err(stop) => return reason(stop, relay, limits),
        };
        match event {
            // Deadlines are computed again.
            SessionEvent::Step => {}
            SessionEvent::Order => {
                if let Some(ending) = obey(orders.last(), relay, limits) {
                    return ending;
                }
            }
            SessionEvent::Change => {
                let grant = changes.borrow_and_update().clone();
                match limits.permit.renew(&grant, clock.now()) {
                    Ok(permit) if permit.until() != limits.permit.until() => {
                        limits.moved(permit, &rules.session.warnings);
                        relay.down.insert(limits.moved_notice(clock.now()));
                    }
                    Ok(_) => {}
                    Err(refusal) => return refusal.in_session(&grant),
                }
            }
            SessionEvent::Time => match due {
                // The change is handled in the next iteration.
                DueEvent::Deadline if is_moved(changes) => {}
                DueEvent::Deadline => return deadline(limits),
                DueEvent::Warning => relay.down.insert(limits.warning().unwrap_or_default()),
                // The timer was set at an earlier message of the client; another may have come since.
                DueEvent::Idle(limit) if clock.moment().instant < relay.idle_since + limit => {}
                DueEvent::Idle(limit) if relay.idle() => return Ending::Idle { limit },
                // A statement runs: its time does not count.
                DueEvent::Idle(_) => relay.idle_since = clock.moment().instant,
                DueEvent::Rest => rest(relay, limits, clock.moment().instant),
            },
        }
    }
}

/// Releases the buffers of an idle session, which its next statement fills again.
fn rest(relay: &mut Relay, limits: &mut SessionLimits, now: Instant) {
    if !limits.rests(relay.idle_since, now) || !relay.idle() {
        return;
    }
    for batch in [&mut relay.recorder.intents, &mut relay.recorder.outcomes] {
        if batch.is_empty() {
            batch.release();
        }
    }
    relay.recorder.sent.release();
}

/// Returns true if the grant has changed since the session last read it. The check takes the lock of the writer: an extension
/// made before the end has reached the session, and the ledger refuses a later one.
fn is_moved(changes: &watch::Receiver<Arc<Grant>>) -> bool {
    changes.borrow().has_changed()
}

/// Event for a session that comes from neither of its sides.
enum SessionEvent {
    /// The wall clock jumped.
    Step,
    /// An order arrived.
    Order,
    /// The grant changed.
    Change,
    /// The timer for the next limit fired.
    Time,
}

async fn wait(
    steps: &mut watch::Receiver<u64>,
    orders: &SessionOrders,
    changes: &mut watch::Receiver<Arc<Grant>>,
    at: Instant,
) -> SessionEvent {
    tokio::select! {
        biased;
        _ = steps.changed() => SessionEvent::Step,
        () = orders.changed() => SessionEvent::Order,
        _ = changes.changed() => SessionEvent::Change,
        () = sleep_until(at) => SessionEvent::Time,
    }
}

fn obey(order: SessionCommand, relay: &mut Relay, limits: &SessionLimits) -> Option<Ending> {
    match order {
        SessionCommand::None => None,
        SessionCommand::Kill { by, reason } => Some(Ending::Killed {
            grant: limits.permit.grant().clone(),
            by,
            reason,
        }),
        SessionCommand::Drain => {
            relay.stop_when_idle = true;
            None
        }
        SessionCommand::DrainNow => Some(Ending::Drained),
    }
}

fn deadline(limits: &SessionLimits) -> Ending {
    let permit = &limits.permit;
    Ending::Expired {
        grant: permit.grant().clone(),
        until: permit.until(),
        requested: permit.requested(),
    }
}

/// Returns the ending for the reason that the relay stopped.
fn reason(stop: RelayStop, relay: &Relay, limits: &SessionLimits) -> Ending {
    match stop {
        // Only the end of the target's connection shows that it received Terminate: a client that disconnects may have left a
        // statement running.
        RelayStop::TargetGone if relay.up.quit => Ending::Quit,
        RelayStop::ClientGone => Ending::Disconnected,
        RelayStop::Client(ending) => ending,
        RelayStop::TargetGone => target_gone(relay.recorder.last_word.as_deref(), limits),
        RelayStop::TargetBroken => Ending::TargetLost {
            target: limits.permit.target().clone(),
        },
        RelayStop::Audit(error) => {
            tracing::error!(error = %display_chain(&error), "refused a statement: cannot write its audit record");
            Ending::AuditFailed {
                disk_full: error.disk_full(),
            }
        }
        RelayStop::Late => deadline(limits),
        RelayStop::Idle => Ending::Drained,
    }
}

/// Returns the ending for a target that closed the connection: by its own FATAL, or without one.
fn target_gone(last: Option<&TargetLastWord>, limits: &SessionLimits) -> Ending {
    match last.filter(|last| last.fatal) {
        Some(last) => Ending::TargetClosed {
            sqlstate: last.sqlstate.clone(),
            message: last.message.clone(),
        },
        None => Ending::TargetLost {
            target: limits.permit.target().clone(),
        },
    }
}

/// Returns the text for the record: the one that the client got, from the gate or from the target.
fn detail(ending: &Ending, last: Option<&TargetLastWord>) -> Option<String> {
    let ours = match ending {
        Ending::TargetClosed { message, .. } => return Some(message.clone()),
        // An operator's reason is in the detail of the text.
        other => other.words().map(|words| match words.detail {
            Some(detail) => format!("{}. {detail}", words.message),
            None => words.message,
        }),
    };
    match (ending, last) {
        (Ending::TargetLost { .. }, Some(TargetLastWord { sqlstate, message, .. })) => {
            Some(format!("{} ({sqlstate}: {message})", ours.unwrap_or_default()))
        }
        _ => ours,
    }
}

/// Waits, for a bounded time, until the rows that the session changed are on record.
async fn changes_on_record(live: &SessionHandle) {
    if let Some(changes) = &live.target_state.changes {
        changes.leave(live.session_backend()).await;
    }
}

/// Records the end.
async fn put_on_record(
    live: &SessionHandle,
    ending: &Ending,
    ended: &SessionEnd,
    (since, ordered): (Instant, Instant),
    shared: &Arc<SharedState>,
) {
    let confirmed = ended.gone.as_ref().map(|gone| gone.confirmed);
    let overshoot = ended
        .gone
        .as_ref()
        .filter(|gone| gone.confirmed)
        .map(|gone| micros(ordered, gone.at));
    let record = SessionEnded {
        who: (*live.who).clone(),
        ending: ending.kind().into(),
        sqlstate: ending.sqlstate().to_owned(),
        detail: detail(ending, ended.last_word.as_ref()),
        fate: ended.fate.kind().into(),
        duration_us: micros(since, shared.clock.moment().instant),
        statements: ended.totals.statements,
        rows: ended.totals.rows,
        rows_sent: ended.totals.rows_sent,
        bytes_in: ended.totals.bytes_in,
        bytes_out: ended.totals.bytes_out,
        client_told: ended.told,
        backend_gone: confirmed,
        overshoot_us: overshoot,
    };
    shared
        .metrics
        .session_ended(&live.who.target, ending.name(), ended.totals.statements, overshoot);
    tracing::info!(session = %live.who.session, grant = %live.who.grant, identity = %live.who.identity, ending = ending.name(), "session ended");
    let kept = has_happened(&Recorded::SessionEnded(Cow::Owned(record)), live, shared).await;
    // Otherwise the session stays open in the store: the next start ends the backend, if it lives that long.
    if kept && confirmed != Some(false) {
        close(live, shared).await;
    }
}

/// Waits in the background for a backend that could not be confirmed at the end of its session. The use of the target goes on until
/// it is gone.
fn confirm_later(
    gone: Option<BackendGoneness>,
    using: Option<TargetUse>,
    (live, ordered): (&Arc<SessionHandle>, Instant),
    shared: &Arc<SharedState>,
) {
    if let Some(later) = gone.and_then(|gone| gone.later) {
        tokio::spawn(gone_late((later, using), Arc::clone(live), ordered, Arc::clone(shared)));
    }
}

/// Records the end of such a backend.
async fn gone_late(
    (later, _using): (GoneLater, Option<TargetUse>),
    live: Arc<SessionHandle>,
    ordered: Instant,
    shared: Arc<SharedState>,
) {
    let Some(at) = later.wait().await else { return };
    let record = BackendGone {
        who: (*live.who).clone(),
        backend_pid: live.backend.pid,
        overshoot_us: micros(ordered, at),
    };
    if has_happened(&Recorded::BackendGone(record), &live, &shared).await {
        close(&live, &shared).await;
    }
}

/// Records an event that must not be lost: if the log cannot be written, the event is kept until it can. Returns false if the log
/// is closed for this run: then the session must stay open in the store, so that the next start records an end.
async fn has_happened(event: &Recorded<'_>, live: &SessionHandle, shared: &SharedState) -> bool {
    let Err(error) = shared.journal.record(event).await else {
        live.note_recorded();
        return true;
    };
    tracing::error!(session = %live.who.session, error = %display_chain(&error), "cannot write the end of a session to the audit log yet");
    if matches!(error, AuditError::Closed) {
        return false;
    }
    let mut batch = RecordBatch::new();
    batch.push(shared.clock.now(), event);
    shared.journal.defer(&mut batch);
    true
}

/// Marks the session as closed in the store: the next start has nothing left to look for.
async fn close(live: &SessionHandle, shared: &SharedState) {
    if let Err(error) = shared.ledger.session_closed(&live.who.session).await {
        tracing::error!(session = %live.who.session, error = %display_chain(&error), "cannot store the end of a session");
    }
}
