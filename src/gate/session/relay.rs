//! Forwards bytes in both directions between a client and its target, past the statement recorder ([`StatementRecorder`]), until one of them
//! stops.
//!
//! This module decides nothing and ends nothing: it stops and returns the reason. Its caller handles limits (deadlines, orders).
//!
//! INVARIANT: of every client message that executes something, at least the last byte is held back until the log has its intent,
//! so the target never has a complete statement that is not on record. Messages of any size pass in bounded memory.
//!
//! Each direction has one chunk: it is read, inspected and written before the next one is read. That is the back-pressure, and it
//! avoids copying or flushing per message.

mod down;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite as _;
use tokio::time::{Instant, Sleep, sleep_until};

use down::DownStep;
pub(super) use down::{TargetToClient, UnfinishedMessage};
use futures_util::FutureExt as _;

use super::buffer::{BufferChunk, BufferPool};
use super::pace::ForwardingPace;
use super::recorder::{MessageFlow, StatementRecorder};
use super::registry::SessionHandle;
use crate::access::quota::Quota;
use crate::audit::{AuditError, Journal, SubmissionFuture, SubmissionResult};
use crate::base::clock::{Clock, Moment};
use crate::base::tls::Transport;
use crate::model::ending::Ending;
use crate::protocol::wire::frame::{FrameError, Framer};
use crate::protocol::wire::frontend;

/// Reason for which the relay stopped.
#[derive(Debug)]
pub(super) enum RelayStop {
    /// The client is gone, with or without Terminate.
    ClientGone,
    /// The client sent a message that is not allowed, or more than the gate tracks.
    Client(Ending),
    /// The target closed the connection.
    TargetGone,
    /// The target violated the protocol.
    TargetBroken,
    /// A record could not be written.
    Audit(AuditError),
    /// A statement arrived at or after the deadline.
    Late,
    /// The session is idle, and the caller asked to stop then.
    Idle,
}

/// Number of bytes of records that are collected before they are written.
const MAX_UNWRITTEN_BYTES: usize = 256 * 1024;

/// Number of steps of one direction before the other has its turn.
const STEPS_PER_TURN: usize = 16;

/// Bytes of a Terminate.
const TERMINATE_BYTES: usize = 5;

/// Flush message, which makes the target send the answers it has (protocol: Flush). It has no answer itself.
const FLUSH_MESSAGE: &[u8] = b"H\0\0\0\x04";

/// One step of one direction: `Ready` if it made progress.
type RelayPoll = fn(&mut Relay, &mut Context<'_>) -> Poll<Result<(), RelayStop>>;

/// State of the direction from the client to the target.
pub(super) struct ClientToTarget {
    chunk: BufferChunk,
    framer: Framer,
    /// Number of bytes inspected so far.
    seen: usize,
    /// Number of bytes that may be written so far.
    cleared: usize,
    intents: IntentsState,
    /// Rest to be written of a [`FLUSH_MESSAGE`] of the gate's own, which follows the cleared bytes.
    flush: &'static [u8],
    unflushed: bool,
    /// True if the client sent Terminate: it is forwarded, and no more is read.
    pub(super) quit: bool,
}

/// State of the intents of bytes that were inspected and are not cleared.
enum IntentsState {
    /// There are none: all are in the log, and the bytes that they announce are cleared.
    None,
    /// They are on their way to the log.
    Underway(SubmissionFuture),
    /// They are in the log, but it has become too late to begin anything.
    Withheld,
}

impl ClientToTarget {
    pub(super) fn new() -> Self {
        Self {
            chunk: BufferChunk::default(),
            framer: Framer::new(frontend::limit),
            seen: 0,
            cleared: 0,
            intents: IntentsState::None,
            flush: &[],
            unflushed: false,
            quit: false,
        }
    }

    /// Returns true if the log has intents of which nothing was forwarded: the session ended while they were on their way.
    pub(super) fn written_in_vain(self) -> bool {
        match self.intents {
            IntentsState::None => false,
            IntentsState::Underway(waiting) => waiting.now_or_never().is_some_and(|written| written.is_ok()),
            IntentsState::Withheld => true,
        }
    }
}

/// Both directions of a session.
pub(super) struct Relay {
    pub(super) client: Transport,
    pub(super) target: Transport,
    pub(super) recorder: StatementRecorder,
    pub(super) up: ClientToTarget,
    pub(super) down: TargetToClient,
    pub(super) pool: BufferPool,
    pub(super) clock: Clock,
    pub(super) journal: Journal,
    /// Time from which the client counts as idle: its last message, or a later check that found a statement running.
    pub(super) idle_since: Instant,
    /// Instant from which no statement is forwarded any more.
    pub(super) deadline: Instant,
    /// True to stop as soon as nothing is running: the gate drains.
    pub(super) stop_when_idle: bool,
    /// Data of the session that others may read while it runs.
    pub(super) live: Arc<SessionHandle>,
    pub(super) quota: Arc<Quota>,
    /// Time until which the gate does not read from the client, because its identity has filled the log too fast.
    pub(super) pause: Option<Pin<Box<Sleep>>>,
}

impl Relay {
    /// Forwards until one side stops. Cancel-safe: it may be dropped at any await and called again.
    pub(super) async fn run(&mut self) -> RelayStop {
        match std::future::poll_fn(|cx| self.poll(cx)).await {
            Err(stop) => stop,
        }
    }

    /// Takes bytes that the target sent after its login.
    pub(super) fn came_with_login(&mut self, bytes: &[u8]) {
        self.down.chunk.preset(&self.pool, bytes);
        // A protocol violation is found again with the next chunk.
        let _ = self.look_down();
    }

    /// Returns true if nothing is running: no statement, no transaction, no byte on its way.
    pub(super) fn idle(&self) -> bool {
        !self.recorder.extended.executing()
            && !self.recorder.in_transaction()
            && self.down.chunk.is_done()
            && self.down.at_boundary()
            && self.up.chunk.is_done()
            && self.up.framer.at_boundary()
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Infallible, RelayStop>> {
        loop {
            // The target comes first: its answers release messages of the client that wait for them.
            let target_waits = self.steps(cx, Self::poll_down)?;
            let client_waits = self.steps(cx, Self::poll_up)?;
            if self.stop_when_idle && self.idle() {
                return Poll::Ready(Err(RelayStop::Idle));
            }
            if target_waits && client_waits {
                return Poll::Pending;
            }
        }
    }

    /// Continues in one direction until it has to wait (true) or its turn is over.
    fn steps(&mut self, cx: &mut Context<'_>, step: RelayPoll) -> Result<bool, RelayStop> {
        for _ in 0..STEPS_PER_TURN {
            match step(self, cx) {
                Poll::Ready(gone_on) => gone_on?,
                Poll::Pending => return Ok(true),
            }
        }
        Ok(false)
    }

    /// Runs one step from the target to the client: `Ready` if it made progress.
    fn poll_down(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), RelayStop>> {
        let Self {
            client, target, pool, ..
        } = self;
        if ready!(self.down.poll(client, target, pool, cx))? == DownStep::Read {
            self.look_down()?;
        }
        Poll::Ready(Ok(()))
    }

    /// Passes a chunk of the target to the statement recorder.
    fn look_down(&mut self) -> Result<(), RelayStop> {
        let now = self.down.look(&mut self.recorder)?;
        self.defer_outcomes(now);
        self.live
            .note(self.recorder.totals.statements, self.recorder.extended.executing());
        Ok(())
    }

    /// Runs one step from the client to the target: `Ready` if it made progress.
    fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), RelayStop>> {
        ready!(self.poll_intents(cx))?;
        if self.up.chunk.sent < self.up.cleared || !self.up.flush.is_empty() {
            return self.poll_forward(cx);
        }
        if self.up.unflushed
            && Pin::new(&mut self.target)
                .poll_flush(cx)
                .map_err(|_| RelayStop::TargetGone)?
                .is_ready()
        {
            self.up.unflushed = false;
        }
        if self.recorder.held.is_some() {
            return self.poll_held();
        }
        if self.up.quit {
            // All bytes up to Terminate are written, and nothing counts after it; the target's EOF ends the session.
            return Poll::Pending;
        }
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        if self.up.seen < self.up.chunk.bytes().len() {
            return self
                .look_up()
                .map(|got_on| if got_on { Poll::Ready(Ok(())) } else { Poll::Pending })?;
        }
        self.poll_read_client(cx)
    }

    /// Waits until the log has the intents of the inspected messages.
    fn poll_intents(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), RelayStop>> {
        match &mut self.up.intents {
            IntentsState::None => return Poll::Ready(Ok(())),
            IntentsState::Underway(waiting) => {
                let written = ready!(Pin::new(waiting).poll(cx));
                self.up.intents = IntentsState::None;
                written.map_err(RelayStop::Audit)?;
                self.up.intents = IntentsState::Withheld;
            }
            IntentsState::Withheld => {}
        }
        if let Err(late) = self.in_time() {
            self.up.intents = IntentsState::None;
            self.recorder.not_forwarded(self.clock.moment());
            return Poll::Ready(Err(late));
        }
        if self.still() {
            // It waits for the deadline, or until the deadline is moved.
            return Poll::Pending;
        }
        self.up.intents = IntentsState::None;
        self.written();
        Poll::Ready(Ok(()))
    }

    /// Returns true if the deadline is so near that no statement may begin any more.
    fn still(&self) -> bool {
        ForwardingPace::at(self.clock.moment().instant, self.deadline) == ForwardingPace::Still
    }

    fn poll_read_client(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), RelayStop>> {
        self.up.seen = 0;
        self.up.cleared = 0;
        let read = self.up.chunk.poll_fill(&mut self.client, &mut Vec::new(), &self.pool, cx);
        let Some(n) = ready!(read) else {
            return Poll::Ready(Err(RelayStop::ClientGone));
        };
        self.recorder.totals.bytes_in += n as u64;
        self.look_up()?;
        Poll::Ready(Ok(()))
    }

    fn poll_forward(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), RelayStop>> {
        let goodbye = self.up.quit && self.up.chunk.unsent(self.up.cleared).len() <= TERMINATE_BYTES;
        if !goodbye && self.still() {
            // The bytes were cleared in time, but the target has not taken them since.
            return Poll::Pending;
        }
        let up = &mut self.up;
        let rest = up.chunk.unsent(up.cleared);
        let ours = rest.is_empty();
        let written = ready!(Pin::new(&mut self.target).poll_write(cx, if ours { up.flush } else { rest }));
        match written {
            Ok(n) if n > 0 => {
                up.unflushed = true;
                if ours {
                    up.flush = up.flush.get(n..).unwrap_or_default();
                } else {
                    up.chunk.sent += n;
                }
                Poll::Ready(Ok(()))
            }
            _ => Poll::Ready(Err(RelayStop::TargetGone)),
        }
    }

    /// Tries a held message again; only an answer of the target can have changed the result.
    fn poll_held(&mut self) -> Poll<Result<(), RelayStop>> {
        let now = self.in_time()?;
        self.recorder.extended.pace = ForwardingPace::at(now.instant, self.deadline);
        match self.recorder.retry_held(now).map_err(RelayStop::Client)? {
            MessageFlow::Hold => Poll::Pending,
            MessageFlow::Go => {
                self.flush_if_needed();
                self.submit(now)?;
                Poll::Ready(Ok(()))
            }
            MessageFlow::Quit => {
                self.up.quit = true;
                self.submit(now)?;
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Passes the client's bytes to the statement recorder, up to a message that must wait, and submits the intents. Returns
    /// false if the first message must wait: an answer of the target, or another deadline, releases it.
    fn look_up(&mut self) -> Result<bool, RelayStop> {
        let now = self.in_time()?;
        self.recorder.extended.pace = ForwardingPace::at(now.instant, self.deadline);
        let up = &mut self.up;
        let (all, seen) = (up.chunk.bytes().len(), up.seen);
        let mut whole = true;
        let mut rest = up.chunk.bytes().get(up.seen..).unwrap_or_default();
        let mut refused = None;
        let mut before = up.framer;
        while let Some(piece) = up
            .framer
            .next(&mut rest)
            .map_err(|error| RelayStop::Client(malformed(error)))?
        {
            if piece.first && before.at_boundary() && self.recorder.extended.waits(piece.tag) {
                up.framer = before;
                whole = false;
                if self.recorder.extended.pace != ForwardingPace::Still && self.recorder.extended.unflushed {
                    self.recorder.extended.flush();
                    up.flush = FLUSH_MESSAGE;
                }
                break;
            }
            let instead = self.recorder.refuses(&piece);
            let flow = self.recorder.client(&piece, now).map_err(RelayStop::Client)?;
            up.seen = all - rest.len();
            match flow {
                _ if instead.is_some() => refused = instead.map(|instead| (instead, up.seen - piece.bytes.len()..up.seen)),
                // A record can be thousands of times as long as its message, so records are written in bounded batches.
                MessageFlow::Go
                    if self.recorder.records_size() < MAX_UNWRITTEN_BYTES && !self.recorder.extended.needs_flush() =>
                {
                    before = up.framer;
                    continue;
                }
                MessageFlow::Go | MessageFlow::Hold => {}
                MessageFlow::Quit => up.quit = true,
            }
            whole = false;
            break;
        }
        if let Some((instead, bytes)) = refused {
            up.chunk.overwrite(bytes, |bytes| instead.overwrite(bytes));
        }
        if whole {
            // The remaining bytes are part of a header.
            up.seen = all;
        }
        self.flush_if_needed();
        let got_on = self.up.seen > seen || !self.up.flush.is_empty();
        if got_on {
            self.idle_since = now.instant;
        }
        self.submit(now)?;
        Ok(got_on)
    }

    /// Asks the target for its answers, after the messages inspected so far, if the next message must wait for them.
    fn flush_if_needed(&mut self) {
        if self.recorder.extended.needs_flush() && self.recorder.held.is_none() {
            self.recorder.extended.flush();
            self.up.flush = FLUSH_MESSAGE;
        }
    }

    /// Returns the current time if it is before the deadline: nothing is forwarded after it.
    fn in_time(&self) -> Result<Moment, RelayStop> {
        let now = self.clock.moment();
        if now.instant < self.deadline {
            Ok(now)
        } else {
            Err(RelayStop::Late)
        }
    }
}

// Records on their way to the log: intents before their bytes are forwarded, outcomes deferred.
impl Relay {
    /// Submits the intents, and clears the bytes that they cover.
    fn submit(&mut self, now: Moment) -> Result<(), RelayStop> {
        self.defer_outcomes(Some(now));
        self.recorder.complete_intents();
        if self.recorder.intents.is_empty() {
            self.up.cleared = self.clear_to();
            return Ok(());
        }
        self.live.note(self.recorder.totals.statements, true);
        self.charge(self.recorder.intents.size(), now.instant);
        match self.journal.submit(&mut self.recorder.intents) {
            SubmissionResult::Done(Ok(())) => self.written(),
            SubmissionResult::Done(Err(error)) => return Err(RelayStop::Audit(error)),
            SubmissionResult::Waiting(waiting) => self.up.intents = IntentsState::Underway(waiting),
        }
        Ok(())
    }

    /// Passes the current outcomes to the journal, which writes them soon. Reads the clock only without `now`.
    fn defer_outcomes(&mut self, now: Option<Moment>) {
        if !self.recorder.outcomes.is_empty() {
            let now = now.unwrap_or_else(|| self.clock.moment());
            self.charge(self.recorder.outcomes.size(), now.instant);
            self.journal.defer(&mut self.recorder.outcomes);
        }
    }

    /// Counts bytes of the log for the identity. If there are too many, the client has to wait: no record is omitted.
    pub(super) fn charge(&mut self, bytes: usize, now: Instant) {
        if let Some(until) = self.quota.log(bytes, now) {
            self.pause = Some(Box::pin(sleep_until(until)));
        }
    }

    /// Notes that the log has the intents: the statements that they announce may be forwarded.
    fn written(&mut self) {
        self.recorder.written();
        self.defer_outcomes(None);
        self.up.cleared = self.clear_to();
    }

    /// Returns the position up to which the client's bytes may be written: all that were inspected, except the last byte of a
    /// held message.
    fn clear_to(&self) -> usize {
        self.up.seen - usize::from(self.recorder.held.is_some() && self.up.seen > 0)
    }
}

fn malformed(error: FrameError) -> Ending {
    // PostgreSQL's own texts.
    Ending::Malformed {
        what: match error {
            FrameError::Type { .. } => "invalid frontend message type",
            FrameError::Length { .. } => "invalid message length",
        },
    }
}

#[cfg(test)]
pub(super) mod tests;
