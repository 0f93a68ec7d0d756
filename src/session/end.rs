//! Ends a session: the statement stops, the backend goes, the client is told at a message boundary, both sockets close.
//!
//! It does not choose the reason. It waits for nobody without a bound: stopping the backend never waits for the client, and
//! a client that does not read is cut off.
//!
//! The order matters. A backend that is told to die while it is blocked in writing drops the rest of its message
//! (`ProcessClientWriteInterrupt`, tcop/postgres.c), so the message at work is read to its end first, for a short while;
//! then the backend is terminated; what the target still says is read for the transaction's fate, for a short while; then the
//! client is told and let go, and the record has the fate in any case. A client waits for no backend: libpq takes a FATAL for the
//! last word only when the connection ends behind it.

use std::time::Duration;

use bytes::BytesMut;
use futures_util::future::OptionFuture;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::relay::{Down, Relay, Up};
use super::tail::Tail;
use super::tap::{LastWord, Tap, Totals};
use crate::clock::{Clock, Moment};
use crate::ending::{Ending, Fate, Words};
use crate::frontend;
use crate::provision::{Backend, Gone, Terminator};
use crate::tls::Transport;
use crate::upstream::{self, BackendKey, Target};
use crate::wire::error_response;

/// How long the target has to finish the message it is writing.
const FRAME_WAIT: Duration = Duration::from_millis(50);
/// The same for one that has more statements to go on with: it is the time that they are given.
const PIPELINED_FRAME_WAIT: Duration = Duration::from_millis(5);
/// How long a client is kept waiting for its transaction's fate. A backend alone needs some milliseconds to say it; of
/// hundreds that end at once the last needs hundreds, and no client of a crowd waits for that.
const PATIENCE: Duration = Duration::from_millis(15);
/// How long the target is heard for what became of the statement.
const FATE_WAIT: Duration = Duration::from_millis(500);
/// After this the provisioning connection is not relied on alone.
const TERMINATE_WAIT: Duration = Duration::from_millis(500);
/// How often a backend is asked to stop by its own key meanwhile. Where its connection is closed it ends at the first statement
/// that it stops, for it cannot say so to anybody.
const CANCEL_INTERVAL: Duration = Duration::from_millis(250);

/// How a session ended.
pub(super) struct Ended {
    pub(super) fate: Fate,
    pub(super) totals: Totals,
    /// What the target said last, if it ended the session by it.
    pub(super) last_word: Option<LastWord>,
    /// Whether the client's socket took the FATAL whole; `None` where there was none to send.
    pub(super) told: Option<bool>,
    /// What became of the backend; `None` where it was not ours to end.
    pub(super) gone: Option<Gone>,
    /// The close of the client's connection, which has begun and takes its time.
    pub(super) closing: Option<JoinHandle<()>>,
}

/// What an ending needs of the target.
pub(super) struct Backstage<'a> {
    pub(super) target: &'a Target,
    pub(super) terminator: &'a Terminator,
    pub(super) backend: Backend,
    pub(super) key: &'a BackendKey,
    /// How long a client has to take the last message.
    pub(super) grace: Duration,
}

/// Ends it. `ordered` is when the reason arose.
pub(super) async fn end(relay: Relay, ending: &Ending, backstage: Backstage<'_>) -> Ended {
    let Relay {
        client,
        mut target,
        mut tap,
        up,
        mut down,
        clock,
        journal,
        pool,
        ..
    } = relay;
    let kill = !matches!(ending, Ending::Quit | Ending::TargetClosed { .. });
    tap.stopping();
    let mut tail = down.tail();
    tap.not_sent(down.rows_left(&tap));
    if kill && !tail.whole {
        let wait = if tap.pipelined() { PIPELINED_FRAME_WAIT } else { FRAME_WAIT };
        let _ = timeout(wait, down.finish_message(&mut target, &mut tap, &mut tail)).await;
    }
    down.release(&pool);
    let (stopped, wait_for_stop) = oneshot::channel();
    // It goes on to the next statement, or its client waits for the rest of a message that comes only when it goes.
    let urgent = tap.pipelined() || !tail.whole;
    let gone = async {
        let gone = OptionFuture::from(kill.then(|| stop_backend(&backstage, urgent))).await;
        // Whoever waits for it may have stopped.
        let _ = stopped.send(());
        gone
    };
    let farewell = async {
        let known = if kill {
            let crowded = backstage.terminator.crowded();
            first_word((&mut down, &mut target, &mut tap), &mut tail, crowded).await
        } else {
            Some(false)
        };
        let said = known.map_or(Fate::Stopping, |cut| tap.fate(cut));
        let record = let_go(
            target,
            (&mut down, &mut tap),
            known.map(|_| said),
            wait_for_stop,
            backstage.terminator,
        );
        let ((told, closing), fate) = tokio::join!(tell(client, tail, ending, said, backstage.grace), record);
        (fate, told, closing)
    };
    let (gone, (fate, told, closing)) = tokio::join!(gone, farewell);
    last_outcomes(&mut tap, up, &clock);
    journal.defer(&mut tap.outcomes);
    Ended {
        fate,
        totals: tap.totals,
        last_word: tap.last_word,
        told,
        gone,
        closing,
    }
}

/// Hears for the record what the client did not wait for, and closes the target's connection. A backend goes because it is told to,
/// and not because its connection closes, unless nobody can tell it.
async fn let_go(
    mut target: Transport,
    (down, tap): (&mut Down, &mut Tap),
    known: Option<Fate>,
    stopped: oneshot::Receiver<()>,
    terminator: &Terminator,
) -> Fate {
    let fate = if let Some(fate) = known {
        fate
    } else {
        tokio::select! {
            fate = late_word(down, &mut target, tap) => fate,
            // While it is heard it is let go on.
            () = terminator.cut_off() => tap.fate(false),
        }
    };
    tokio::select! {
        _ = timeout(TERMINATE_WAIT, stopped) => {}
        () = terminator.cut_off() => reset_on_close(&target),
    }
    fate
}

/// Puts on record what has no outcome: what was never forwarded did not run, and of the rest nobody knows.
fn last_outcomes(tap: &mut Tap, up: Up, clock: &Clock) {
    if up.written_in_vain() {
        tap.not_forwarded(clock.moment());
    }
    tap.abandon();
}

/// When the reason for an ending arose: a deadline at its own time, anything else when it was noticed.
pub(super) fn due(ending: &Ending, clock: &Clock, noticed: Moment) -> Instant {
    match ending {
        Ending::Expired { until, .. } => clock.instant_at(*until).min(noticed.instant),
        _ => noticed.instant,
    }
}

/// Asks the backend to stop by the session's own key, again and again, where the provisioning connection is slow or down. Our side of
/// its connection is closed by then, so the backend ends after that.
async fn cancel_alone(backstage: &Backstage<'_>) {
    tokio::select! {
        () = sleep(TERMINATE_WAIT) => {}
        () = backstage.terminator.cut_off() => {}
    }
    loop {
        let _ = upstream::cancel(backstage.target, backstage.key).await;
        sleep(CANCEL_INTERVAL).await;
    }
}

async fn stop_backend(backstage: &Backstage<'_>, urgent: bool) -> Gone {
    let mut order = backstage.terminator.end_watched(backstage.backend.clone(), urgent);
    // Once it is signalled a cancel adds nothing, and costs the target a process: of a crowd that is going, no backend gets one.
    tokio::select! {
        biased;
        () = order.signalled() => {}
        () = cancel_alone(backstage) => {}
    }
    let gone = order.gone().await;
    if !gone.confirmed {
        tracing::error!(
            target_name = %backstage.target.name, backend = backstage.backend.pid,
            "cannot confirm that a backend is gone; closed its connection and cancelled its statement; check pg_stat_activity"
        );
    }
    gone
}

/// What is heard in time for the client: whether the target broke off within a message, or nothing yet. A message that the
/// client has in part is waited for all the same.
async fn first_word((down, target, tap): (&mut Down, &mut Transport, &mut Tap), tail: &mut Tail, crowded: bool) -> Option<bool> {
    let patience = if crowded { Duration::ZERO } else { PATIENCE };
    match timeout(patience, hear_out(down, target, tap, tail)).await {
        Ok(cut) => Some(cut),
        Err(_) if tail.whole => None,
        Err(_) => Some(hear_out(down, target, tap, tail).await),
    }
}

/// The transaction's fate for the record, of a target that did not say it in time for the client.
async fn late_word(down: &mut Down, target: &mut Transport, tap: &mut Tap) -> Fate {
    let mut nothing = Tail {
        whole: true,
        ..Tail::default()
    };
    let cut = hear_out(down, target, tap, &mut nothing).await;
    tap.fate(cut)
}

/// Reads on until the target has answered or closed: for the record, and for the rest of the message at work (a backend that
/// runs on with a result half in its buffer sends that rest only when it is stopped). True when it broke off within a message.
async fn hear_out(down: &mut Down, target: &mut Transport, tap: &mut Tap, tail: &mut Tail) -> bool {
    if !tap.executing() && tail.whole {
        return false;
    }
    let heard = timeout(FATE_WAIT, async {
        while tap.executing() || tail.wanted() {
            let wanted = tail.wanted();
            if !down.hear(target, tap, wanted.then_some(&mut *tail)).await && (!wanted || tail.wanted()) {
                break;
            }
        }
    });
    heard.await.is_ok() && !down.at_boundary()
}

/// Says the last word to the client, and begins to close its connection where that can be done in peace.
async fn tell(
    mut client: Transport,
    tail: Tail,
    ending: &Ending,
    fate: Fate,
    grace: Duration,
) -> (Option<bool>, Option<JoinHandle<()>>) {
    if matches!(ending, Ending::Disconnected | Ending::Quit) {
        return (None, None);
    }
    let mut last = BytesMut::from(tail.bytes.as_slice());
    let words = ending.words().map(|words| with_fate(words, ending, fate));
    let mut due = None;
    if let Some(words) = words {
        due = Some(tail.whole);
        if tail.whole {
            error_response::fatal(&mut last, &words);
        } else {
            // A FATAL inside a message would only look like garbage.
            last.clear();
        }
    }
    let written = timeout(grace, async {
        client.write_all(&last).await?;
        client.flush().await
    });
    if matches!(written.await, Ok(Ok(()))) {
        // Beside the rest of the end, which may have to wait for the backend.
        return (due, Some(tokio::spawn(frontend::close(client))));
    }
    // It does not read: what is queued for it must not be delivered later either.
    reset_on_close(&client);
    (due.map(|_| false), None)
}

/// Has the connection reset when it is closed: nothing that is queued for its other side is delivered any more.
fn reset_on_close(transport: &Transport) {
    let _ = socket2::SockRef::from(transport.tcp()).set_linger(Some(Duration::ZERO));
}

fn with_fate(mut words: Words, ending: &Ending, fate: Fate) -> Words {
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
