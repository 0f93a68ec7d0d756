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
mod records;
mod up;

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use down::DownStep;
pub(super) use down::TargetToClient;
pub(super) use up::ClientToTarget;
use up::{FLUSH_MESSAGE, IntentsState};

use super::buffer::BufferPool;
use super::pace::ForwardingPace;
use super::recorder::{MessageFlow, StatementRecorder};
use super::registry::SessionHandle;
use crate::access::quota::Quota;
use crate::audit::{AuditError, Journal};
use crate::base::clock::{Clock, Moment};
use crate::base::tls::Transport;
use crate::model::ending::Ending;

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

/// One step of one direction: `Ready` if it made progress.
type RelayPoll = fn(&mut Relay, &mut Context<'_>) -> Poll<Result<(), RelayStop>>;

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
    pub(super) heard: Instant,
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

    /// Inserts a message of the gate's own into the client's stream, at the next message boundary.
    pub(super) fn insert(&mut self, bytes: Vec<u8>) {
        self.down.insert(bytes);
    }

    /// Takes bytes that the target sent after its login.
    pub(super) fn came_with_login(&mut self, bytes: &[u8]) {
        self.down.preset(&self.pool, bytes);
        // A protocol violation is found again with the next chunk.
        let _ = self.look_down();
    }

    /// Returns true if nothing is running: no statement, no transaction, no byte on its way.
    pub(super) fn idle(&self) -> bool {
        !self.recorder.executing()
            && !self.recorder.in_transaction()
            && self.down.is_done()
            && self.down.at_boundary()
            && self.up.chunk.is_done()
            && self.up.framer.at_boundary()
    }

    /// Returns true if the client has sent Terminate.
    pub(super) fn client_quit(&self) -> bool {
        self.up.quit
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
        self.down.look(&mut self.recorder)?;
        self.defer_outcomes();
        self.live.note(self.recorder.totals.statements, self.recorder.executing());
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
        if self.recorder.holds() {
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
        if self.up.dry {
            let _ = ready!(self.client.tcp().poll_read_ready(cx));
            self.up.dry = false;
        }
        let buffer = self.up.chunk.empty(&self.pool);
        match read(&mut self.client, cx, buffer) {
            Poll::Pending => {
                self.up.dry = true;
                self.up.chunk.release(&self.pool);
                self.up.seen = 0;
                self.up.cleared = 0;
                Poll::Pending
            }
            Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(Err(RelayStop::ClientGone)),
            Poll::Ready(Ok(n)) => {
                self.up.chunk.fill(n);
                self.up.seen = 0;
                self.up.cleared = 0;
                self.recorder.totals.bytes_in += n as u64;
                self.look_up()?;
                Poll::Ready(Ok(()))
            }
        }
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
        self.recorder.pace = ForwardingPace::at(now.instant, self.deadline);
        match self.recorder.held(now).map_err(RelayStop::Client)? {
            MessageFlow::Hold => Poll::Pending,
            MessageFlow::Go => {
                self.flush_if_needed();
                self.submit()?;
                Poll::Ready(Ok(()))
            }
            MessageFlow::Quit => {
                self.up.quit = true;
                self.submit()?;
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Passes the client's bytes to the statement recorder, up to a message that must wait, and submits the intents. Returns
    /// false if the first message must wait: an answer of the target, or another deadline, releases it.
    fn look_up(&mut self) -> Result<bool, RelayStop> {
        let now = self.in_time()?;
        self.recorder.pace = ForwardingPace::at(now.instant, self.deadline);
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
            if piece.first && before.at_boundary() && self.recorder.waits(piece.tag) {
                up.framer = before;
                whole = false;
                if self.recorder.pace != ForwardingPace::Still && self.recorder.unflushed() {
                    self.recorder.flush();
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
                MessageFlow::Go if self.recorder.records_size() < MAX_UNWRITTEN_BYTES && !self.recorder.needs_flush() => {
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
            self.heard = now.instant;
        }
        self.submit()?;
        Ok(got_on)
    }

    /// Asks the target for its answers, after the messages inspected so far, if the next message must wait for them.
    fn flush_if_needed(&mut self) {
        if self.recorder.needs_flush() && !self.recorder.holds() {
            self.recorder.flush();
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

fn read(from: &mut Transport, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
    let mut buffer = ReadBuf::new(buffer);
    ready!(Pin::new(from).poll_read(cx, &mut buffer))?;
    Poll::Ready(Ok(buffer.filled().len()))
}

fn malformed(error: crate::protocol::wire::frame::FrameError) -> Ending {
    use crate::protocol::wire::frame::FrameError;
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
