//! End of a session: the statement stops, the backend ends, the client gets its error at a message boundary, both sockets close.
//!
//! This module does not choose the reason. Every wait is bounded: stopping the backend never waits for the client, and a client
//! that does not read is disconnected.
//!
//! The order matters. A backend that is terminated while it is blocked in writing drops the rest of its message
//! (`ProcessClientWriteInterrupt`, tcop/postgres.c), so the current message is read to its end first, for a short time. Then the
//! backend is terminated, and the target's last messages are read for the transaction's fate, for a short time. Then the client
//! gets its error and is disconnected, and the record has the fate in any case. A client does not wait for a backend: libpq
//! treats a FATAL as the last message only if the connection ends after it.

use std::time::Duration;

use futures_util::future::OptionFuture;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::recorder::{SessionTotals, StatementRecorder, TargetLastWord};
use super::registry::SessionHandle;
use super::relay::{ClientToTarget, Relay, TargetToClient, UnfinishedMessage};
use crate::base::clock::{Clock, Moment};
use crate::base::tls::Transport;
use crate::database::provision::{BackendGoneness, Terminator};
use crate::database::upstream;
use crate::gate::frontend;
use crate::model::ending::{Ending, EndingText, Fate};
use crate::protocol::wire::error_response;

/// Time for the target to finish the message that it is writing.
const FRAME_TIMEOUT: Duration = Duration::from_millis(50);
/// The same for a target with further statements in its pipeline, which can run during that time.
const PIPELINED_FRAME_TIMEOUT: Duration = Duration::from_millis(5);
/// Time that a client waits for its transaction's fate. A single backend needs some milliseconds to report it. If hundreds end at
/// once, the last needs hundreds of milliseconds, and then no client waits for that.
const CLIENT_FATE_TIMEOUT: Duration = Duration::from_millis(15);
/// Time that the gate reads from the target for the statement's fate.
const FATE_TIMEOUT: Duration = Duration::from_millis(500);
/// Time after which the gate no longer relies on the provisioning connection alone.
const TERMINATE_TIMEOUT: Duration = Duration::from_millis(500);
/// Interval at which a backend is then cancelled by its own key. If its connection is closed, it ends at the first statement that
/// a cancel stops, because it cannot send the error.
const CANCEL_INTERVAL: Duration = Duration::from_millis(250);

/// Result of ending a session.
pub(super) struct SessionEnd {
    pub(super) fate: Fate,
    pub(super) totals: SessionTotals,
    /// Last error of the target, if the target ended the session with it.
    pub(super) last_word: Option<TargetLastWord>,
    /// True if the client's socket took the FATAL completely; `None` if there was none to send.
    pub(super) told: Option<bool>,
    /// Result for the backend; `None` if the gate did not have to end it.
    pub(super) gone: Option<BackendGoneness>,
    /// Close of the client's connection, which is in progress.
    pub(super) closing: Option<JoinHandle<()>>,
}

/// Ends the session for the reason `ending`. The client has the time `grace` to take the last message.
pub(super) async fn end(relay: Relay, ending: &Ending, grace: Duration) -> SessionEnd {
    let Relay {
        client,
        mut target,
        mut recorder,
        up,
        mut down,
        clock,
        journal,
        pool,
        live,
        ..
    } = relay;
    let terminator = &live.target_state.terminator;
    let kill = !matches!(ending, Ending::Quit | Ending::TargetClosed { .. });
    recorder.stopping();
    let mut tail = down.tail();
    recorder.extended.not_sent(down.rows_left(&recorder));
    if kill && !tail.whole {
        let pipelined = recorder.extended.pipelined();
        let wait = if pipelined { PIPELINED_FRAME_TIMEOUT } else { FRAME_TIMEOUT };
        let _ = timeout(wait, down.finish_message(&mut target, &mut recorder, &mut tail)).await;
    }
    down.chunk.release(&pool);
    let (stopped, wait_for_stop) = oneshot::channel();
    // The backend would run its next statement, or the client waits for the rest of a message that the backend sends only when it
    // ends.
    let urgent = recorder.extended.pipelined() || !tail.whole;
    let gone = async {
        let gone = OptionFuture::from(kill.then(|| stop_backend(&live, urgent))).await;
        // The receiver may have stopped waiting.
        let _ = stopped.send(());
        gone
    };
    let farewell = async {
        let known = if kill {
            let crowded = terminator.crowded();
            first_word((&mut down, &mut target, &mut recorder), &mut tail, crowded).await
        } else {
            Some(false)
        };
        let said = known.map_or(Fate::Stopping, |cut| recorder.fate(cut));
        let (sides, known) = ((&mut down, &mut recorder), known.map(|_| said));
        let record = let_go(target, sides, known, wait_for_stop, terminator);
        let ((told, closing), fate) = tokio::join!(tell(client, tail, ending, said, grace), record);
        (fate, told, closing)
    };
    let (gone, (fate, told, closing)) = tokio::join!(gone, farewell);
    last_outcomes(&mut recorder, up, &clock);
    journal.defer(&mut recorder.outcomes);
    SessionEnd {
        fate,
        totals: recorder.totals,
        last_word: recorder.last_word.map(|last| *last),
        told,
        gone,
        closing,
    }
}

/// Reads the fate for the record, if the client did not wait for it, and closes the target's connection. A backend ends because
/// it is terminated and not because its connection closes, unless the provisioning connection is cut off.
async fn let_go(
    mut target: Transport,
    (down, recorder): (&mut TargetToClient, &mut StatementRecorder),
    known: Option<Fate>,
    stopped: oneshot::Receiver<()>,
    terminator: &Terminator,
) -> Fate {
    let fate = if let Some(fate) = known {
        fate
    } else {
        tokio::select! {
            fate = late_word(down, &mut target, recorder) => fate,
            // The backend must not continue while its messages are read.
            () = terminator.cut_off() => recorder.fate(false),
        }
    };
    tokio::select! {
        _ = timeout(TERMINATE_TIMEOUT, stopped) => {}
        () = terminator.cut_off() => reset_on_close(&target),
    }
    fate
}

/// Records the statements without an outcome: those never forwarded did not run, and the outcome of the others is unknown.
fn last_outcomes(recorder: &mut StatementRecorder, up: ClientToTarget, clock: &Clock) {
    if up.written_in_vain() {
        recorder.not_forwarded(clock.moment());
    }
    recorder.abandon();
}

/// Returns the time at which the reason for an ending arose: the deadline itself, or else the time at which it was noticed.
pub(super) fn due(ending: &Ending, clock: &Clock, noticed: Moment) -> Instant {
    match ending {
        Ending::Expired { until, .. } => clock.instant_at(*until).min(noticed.instant),
        _ => noticed.instant,
    }
}

/// Cancels the backend's statement by the session's own key, repeatedly, if the provisioning connection is slow or down. The
/// gate's side of its connection is closed by then, so the backend ends after that.
async fn cancel_alone(live: &SessionHandle) {
    tokio::select! {
        () = sleep(TERMINATE_TIMEOUT) => {}
        () = live.target_state.terminator.cut_off() => {}
    }
    loop {
        let _ = upstream::cancel(&live.target_state.target, &live.backend_key).await;
        sleep(CANCEL_INTERVAL).await;
    }
}

async fn stop_backend(live: &SessionHandle, urgent: bool) -> BackendGoneness {
    let mut order = live.target_state.terminator.end_watched(live.backend.clone(), urgent);
    // Once the backend is signalled, a cancel has no further effect and costs the target a process. If many end at once, none is
    // cancelled.
    tokio::select! {
        biased;
        () = order.signalled() => {}
        () = cancel_alone(live) => {}
    }
    let gone = order.gone().await;
    if !gone.confirmed {
        tracing::error!(
            target_name = %live.who.target, backend = live.backend.pid,
            "cannot confirm that a backend is gone; closed its connection and cancelled its statement; check pg_stat_activity"
        );
    }
    gone
}

/// Reads the target's messages until the client must get its error. Returns whether the target broke off within a message, or
/// `None` if that is not known yet. If the client has part of a message, its rest is awaited in any case.
async fn first_word(
    (down, target, recorder): (&mut TargetToClient, &mut Transport, &mut StatementRecorder),
    tail: &mut UnfinishedMessage,
    crowded: bool,
) -> Option<bool> {
    let patience = if crowded { Duration::ZERO } else { CLIENT_FATE_TIMEOUT };
    match timeout(patience, read_out(down, target, recorder, tail)).await {
        Ok(cut) => Some(cut),
        Err(_) if tail.whole => None,
        Err(_) => Some(read_out(down, target, recorder, tail).await),
    }
}

/// Returns the transaction's fate for the record, of a target that did not report it in time for the client.
async fn late_word(down: &mut TargetToClient, target: &mut Transport, recorder: &mut StatementRecorder) -> Fate {
    let mut nothing = UnfinishedMessage {
        whole: true,
        ..UnfinishedMessage::default()
    };
    let cut = read_out(down, target, recorder, &mut nothing).await;
    recorder.fate(cut)
}

/// Reads until the target has answered or closed: for the record, and for the rest of the current message (a backend that runs on
/// with part of a result in its buffer sends that only when it is stopped). Returns true if it broke off within a message.
async fn read_out(
    down: &mut TargetToClient,
    target: &mut Transport,
    recorder: &mut StatementRecorder,
    tail: &mut UnfinishedMessage,
) -> bool {
    if !recorder.extended.executing() && tail.whole {
        return false;
    }
    let answered = timeout(FATE_TIMEOUT, async {
        while recorder.extended.executing() || tail.wanted() {
            let wanted = tail.wanted();
            if !down.read_unsent(target, recorder, wanted.then_some(&mut *tail)).await && (!wanted || tail.wanted()) {
                break;
            }
        }
    });
    answered.await.is_ok() && !down.at_boundary()
}

/// Sends the client the last message, and begins to close its connection if that is possible in order.
async fn tell(
    mut client: Transport,
    tail: UnfinishedMessage,
    ending: &Ending,
    fate: Fate,
    grace: Duration,
) -> (Option<bool>, Option<JoinHandle<()>>) {
    if matches!(ending, Ending::Disconnected | Ending::Quit) {
        return (None, None);
    }
    let mut last = tail.bytes;
    let words = ending.words().map(|words| with_fate(words, ending, fate));
    let mut due = None;
    if let Some(words) = words {
        due = Some(tail.whole);
        if tail.whole {
            last.extend(error_response::fatal(&words));
        } else {
            // The client could not parse a FATAL inside a message.
            last.clear();
        }
    }
    let written = timeout(grace, async {
        client.write_all(&last).await?;
        client.flush().await
    });
    if matches!(written.await, Ok(Ok(()))) {
        // It runs concurrently with the rest of the end, which may have to wait for the backend.
        return (due, Some(tokio::spawn(frontend::close(client))));
    }
    // The client does not read: messages queued for it must not be delivered later either.
    reset_on_close(&client);
    (due.map(|_| false), None)
}

/// Sets the connection to be reset when it is closed, so that queued bytes are not delivered any more.
fn reset_on_close(transport: &Transport) {
    let _ = socket2::SockRef::from(transport.tcp()).set_linger(Some(Duration::ZERO));
}

fn with_fate(mut words: EndingText, ending: &Ending, fate: Fate) -> EndingText {
    let limit = matches!(
        ending,
        Ending::Expired { .. }
            | Ending::Revoked { .. }
            | Ending::Released { .. }
            | Ending::Killed { .. }
            | Ending::Idle { .. }
            | Ending::Drained
            | Ending::AuditFailed { .. }
            | Ending::TargetLost { .. }
    );
    if limit {
        words.detail = Some(match words.detail {
            Some(detail) => format!("{detail} {}", fate.sentence()),
            None => fate.sentence().to_owned(),
        });
    }
    words
}
