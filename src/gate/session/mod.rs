//! Life of one connection from accept to ending, as a sequence of owned stages; each consumes the previous one.
//!
//! This module composes others: the frontend authenticates the client, the access service gives a permit (if an identity has no
//! grant yet, it makes a request, and the login may wait for it), upstream connects to the target, the relay forwards, and `end`
//! ends. It makes no access decisions of its own.
//!
//! INVARIANT: no message of a client reaches its target before the session's start is on record. However a session ends, its
//! ending is on record, and its backend is gone or recorded as not confirmed gone.

mod admit;
mod arrive;
mod buffer;
mod cancel;
mod copying;
mod destination;
mod end;
mod extended_query;
mod filter;
mod lexer_settings;
mod limits;
mod line;
mod masked;
mod pace;
mod recorder;
mod refusal;
pub mod registry;
mod relay;
mod start;
mod startup_options;
mod statement;
mod target_state;
#[cfg(test)]
mod tests;
mod waiting;
mod watch;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

pub use buffer::BufferPool;
pub use masked::MaskedTables;
pub use registry::{SessionRegistry, SessionView};
pub use statement::RecordLimits;
pub use target_state::{TargetLeftovers, TargetState};
pub use waiting::{ApprovalWaiters, WaitSettings};
#[cfg(test)]
pub(crate) use waiting::{narrowed, waits};

use registry::SessionHandle;
use start::StartedSession;

use crate::access::AccessService;
use crate::access::quota::Quotas;
use crate::access::strangers::{ConnectionPermit, RefusalLog};
use crate::audit::Journal;
use crate::audit::event::Event;
use crate::base::clock::Clock;
use crate::base::error_chain::display_chain;
use crate::gate::frontend::{self, Hello};
use crate::gate::metrics::Metrics;
use crate::ledger::Ledger;
use crate::model::ending::Ending;
use crate::model::names::{IdentityName, TargetName};

/// Settings of sessions: their notices, limits and records.
#[derive(Debug, Clone)]
pub struct SessionSettings {
    /// Times before the deadline at which a client is warned by a NOTICE.
    pub warnings: Vec<Duration>,
    /// True if clients get a notice of their grant and its end at login; a client's own setting has precedence.
    pub welcome: bool,
    /// Time after which a client that sends nothing, while nothing runs for it, is disconnected.
    pub idle_timeout: Option<Duration>,
    /// Time for a client to take the last message.
    pub end_grace: Duration,
    /// Text on how to continue, used in notices; `None`: the command that extends the grant.
    pub renew_hint: Option<String>,
    /// Settings for logins that wait for approval.
    pub waiting: WaitSettings,
    /// Extent to which texts and values are recorded.
    pub keep: RecordLimits,
}

/// Settings that a reload replaces, for sessions that begin after it.
pub struct SessionRules {
    /// Settings of handshakes.
    pub frontend: frontend::HandshakeSettings,
    /// Settings of sessions.
    pub session: SessionSettings,
    /// Targets by name.
    pub targets: HashMap<TargetName, Arc<TargetState>>,
}

/// State that all sessions of a gate share.
pub struct SharedState {
    /// Clock of gate time.
    pub clock: Clock,
    /// Journal of the audit log.
    pub journal: Journal,
    /// Store of the open sessions, which the next start looks for; logins ask the access service.
    pub ledger: Ledger,
    /// Records of clients that are refused before they are authenticated.
    pub refusals: RefusalLog,
    /// Use cases of requests and grants.
    pub service: AccessService,
    /// Logins that wait, for an approval or in line.
    pub waiters: Arc<ApprovalWaiters>,
    /// Running sessions.
    pub registry: Arc<SessionRegistry>,
    /// Pool of read buffers.
    pub pool: BufferPool,
    /// Resources that the sessions of each identity use in total.
    pub quotas: Quotas,
    /// Counters.
    pub metrics: Metrics,
    /// True while the gate shuts down: no new session begins.
    pub draining: AtomicBool,
    /// Settings that a reload replaces.
    pub rules: tokio::sync::watch::Sender<Arc<SessionRules>>,
}

/// TCP connection just accepted.
pub struct AcceptedConnection {
    /// Accepted connection.
    pub tcp: TcpStream,
    /// Address of the client.
    pub client: SocketAddr,
    /// Permit as a stranger, until the client has proved a secret.
    pub permit: ConnectionPermit,
    /// Slots for connections. A connection takes one once it has proved a secret and has a grant. Strangers take none, so that a
    /// large number of them cannot keep others out; logins that wait for approval take none either.
    pub connections: Arc<Semaphore>,
    /// Number of slots.
    pub limit: u32,
    /// Permit for its file descriptor, out of those for connections that are not sessions yet; held until it is one or is closed.
    pub descriptor: OwnedSemaphorePermit,
}

/// Handles one connection from accept to its ending.
pub async fn run(accepted: AcceptedConnection, shared: Arc<SharedState>) {
    let client = accepted.client;
    // Boxed, so that the memory of the handshake is not held for the life of the session.
    let Some(started) = arrived(Box::pin(begin(accepted, &shared)), client, &shared).await else {
        return;
    };
    let live = Arc::clone(started.entry.live());
    // A separate box: the task of a stranger does not hold the memory of a session.
    carry(&live, Box::pin(watch::run(started, &shared)), &shared).await;
}

/// Waits for the result of the handshake. A panic in it ends this connection only, and is recorded.
async fn arrived(
    begun: Pin<Box<dyn Future<Output = Option<Box<StartedSession>>> + Send + '_>>,
    client: SocketAddr,
    shared: &SharedState,
) -> Option<Box<StartedSession>> {
    let Ok(started) = AssertUnwindSafe(begun).catch_unwind().await else {
        Box::pin(refusal::broke_off(client, shared)).await;
        return None;
    };
    started
}

/// Runs a session to its end. A panic in it ends this session only.
async fn carry(live: &Arc<SessionHandle>, session: Pin<Box<dyn Future<Output = ()> + Send + '_>>, shared: &Arc<SharedState>) {
    // A shutdown waits until the session's end is on record, however it ends.
    let _unfinished = shared.registry.arriving();
    if AssertUnwindSafe(session).catch_unwind().await.is_err() {
        Box::pin(watch::broke_off(live, shared)).await;
    }
}

/// Turns a connection into a session; `None` if it did not become one (which is recorded, and the client got its error).
async fn begin(accepted: AcceptedConnection, shared: &SharedState) -> Option<Box<StartedSession>> {
    let rules = shared.rules.borrow().clone();
    shared.metrics.connection();
    let AcceptedConnection {
        tcp,
        client,
        permit,
        connections,
        limit,
        descriptor: _until_then,
    } = accepted;
    let greeted = match frontend::greet(tcp, client, permit, &rules.frontend).await {
        Ok(Hello::Session(greeted)) => greeted,
        Ok(Hello::Cancel(request)) => {
            Box::pin(cancel::run(request, shared)).await;
            return None;
        }
        Ok(Hello::Gone) => return None,
        Err(rejected) => {
            refusal::rejected(*rejected, shared).await;
            return None;
        }
    };
    if shared.draining() {
        refusal::refuse(*greeted, &Ending::Draining, shared).await;
        return None;
    }
    let arrival = match arrive::arrive(greeted, &rules, shared).await {
        Ok(arrival) => arrival,
        Err(turned) => {
            turned.settle(shared).await;
            return None;
        }
    };
    let (arrival, using) = match line::wait(arrival, &rules, shared).await {
        Ok(arrival) => arrival,
        Err(refusal) => {
            refusal.settle(shared).await;
            return None;
        }
    };
    // Taken only here, because a login that waits takes no slot.
    let Ok(connection) = connections.try_acquire_owned() else {
        arrive::no_place(arrival, limit).settle(shared).await;
        return None;
    };
    // The current rules are read again, because the login may have waited through a reload.
    let rules = shared.rules.borrow().clone();
    // Boxed, so that a login does not hold the memory for its admission while it waits.
    match Box::pin(admit::admit(arrival, &rules, shared)).await {
        Ok(admitted) => Some(start::start(admitted, (connection, using), rules, shared)),
        Err(refusal) => {
            refusal.settle(shared).await;
            None
        }
    }
}

impl SharedState {
    /// Returns true if the gate is shutting down.
    fn draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// Returns true if one more record caused by this identity may be written; it counts as written.
    fn affords_record(&self, identity: &IdentityName) -> bool {
        let now = self.clock.moment().instant;
        self.quotas.of(identity, now).affords_record(now)
    }

    /// Records an event whose loss has no effect on access: a refusal, a cancel.
    async fn record(&self, event: &Event<'_>) {
        if let Err(error) = self.journal.record(event).await {
            tracing::error!(error = %display_chain(&error), "cannot write an event to the audit log");
        }
    }
}

/// Returns a length of time in microseconds.
fn micros(from: Instant, to: Instant) -> u64 {
    u64::try_from(to.saturating_duration_since(from).as_micros()).unwrap_or(u64::MAX)
}

/// Returns bytes from the operating system's random generator.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    #[expect(
        clippy::expect_used,
        reason = "a machine without random numbers can keep no secret: there is no going on"
    )]
    getrandom::fill(&mut bytes).expect("the operating system has random numbers");
    bytes
}
