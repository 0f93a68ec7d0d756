//! One connection from accept to ending, as a sequence of owned stages; each consumes the one before.
//!
//! It composes: the frontend brings a client, the ledger a permit (where an identity has no grant yet, the desk a request, for
//! which its login may wait), upstream a target; the relay carries, `end` ends. It makes no decision of its own about who may
//! do what.
//!
//! The law: nothing of a client reaches its target before the session's start is on record; and however a session ends, its
//! ending is on record and its backend is gone, or is said not to be.

mod admit;
mod arrive;
mod book;
mod buffer;
mod cancel;
mod destination;
mod end;
mod guard;
mod leftovers;
mod lexer_settings;
mod limits;
mod masked;
mod pace;
mod refusal;
pub mod registry;
mod relay;
mod start;
mod statement;
mod tail;
mod tap;
#[cfg(test)]
mod tests;
mod waiting;
mod watch;
mod wishes;

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use admit::{Rules, TargetRoom};
pub use buffer::Pool;
pub use leftovers::Leftovers;
pub use masked::MaskedTables;
pub use registry::{Registry, SessionView};
pub use statement::Keep;
pub use waiting::{Lobby, WaitSettings};

use registry::Live;
use start::Started;

use crate::access::Desk;
use crate::audit::Journal;
use crate::audit::event::Event;
use crate::causes::in_one_line;
use crate::clock::Clock;
use crate::ending::Ending;
use crate::frontend::{self, Hello};
use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::names::IdentityName;
use crate::quota::Quotas;
use crate::strangers::{ConnectionPermit, RefusalLog};

/// What sessions are told, and how long they may take to end.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long before the deadline a client is warned by a NOTICE.
    pub warnings: Vec<Duration>,
    /// Whether a client that does not say it itself is told at login under which grant it is, and until when.
    pub welcome: bool,
    /// A client that sends nothing for this long, while nothing runs for it, is ended.
    pub idle_timeout: Option<Duration>,
    /// How long a client has to take the last message.
    pub end_grace: Duration,
    /// What a client can do to go on, said in notices; `None`: the command that extends the grant.
    pub renew_hint: Option<String>,
    /// How logins wait for approval.
    pub waiting: WaitSettings,
    /// How much of texts and values goes on record.
    pub keep: Keep,
}

/// What all sessions of a gate share.
pub struct Shared {
    /// Gate time.
    pub clock: Clock,
    /// The log.
    pub journal: Journal,
    /// The grants.
    pub ledger: Ledger,
    /// The records of those who are refused before they prove anything.
    pub refusals: RefusalLog,
    /// What people and pipelines ask for.
    pub desk: Desk,
    /// Where logins wait for approval.
    pub lobby: Arc<Lobby>,
    /// The sessions.
    pub registry: Arc<Registry>,
    /// Read buffers.
    pub pool: Pool,
    /// What the sessions of each identity use up together.
    pub quotas: Quotas,
    /// Counters.
    pub metrics: Metrics,
    /// Set while the gate shuts down: nobody new is let in.
    pub draining: AtomicBool,
    /// What a reload replaces.
    pub rules: tokio::sync::watch::Sender<Arc<Rules>>,
}

/// A TCP connection just accepted.
pub struct Accepted {
    /// The connection.
    pub tcp: TcpStream,
    /// Where it comes from.
    pub client: SocketAddr,
    /// Its permit as a stranger, until it has proved a secret.
    pub permit: ConnectionPermit,
    /// The places for connections, one of which it takes once it has proved a secret and has a grant: strangers take none, so
    /// that no crowd of them keeps others out, and neither do logins that wait for approval.
    pub connections: Arc<Semaphore>,
    /// How many places there are.
    pub limit: u32,
    /// Its file descriptor among those for connections that are no session yet, held until it is one or is closed.
    pub descriptor: OwnedSemaphorePermit,
}

/// Leads one connection from accept to its ending.
pub async fn run(accepted: Accepted, shared: Arc<Shared>) {
    let client = accepted.client;
    // Boxed, so that what a handshake needs is not held for the life of the session.
    let Some(started) = arrived(Box::pin(begin(accepted, &shared)), client, &shared).await else {
        return;
    };
    let live = Arc::clone(started.entry.live());
    // In a box of its own: a task that is still a stranger's does not hold the room for it.
    carry(&live, Box::pin(watch::run(started, &shared)), &shared).await;
}

/// Waits for what a connection comes to. A panic in it is the end of it, of nothing else, and on record.
async fn arrived(
    begun: Pin<Box<dyn Future<Output = Option<Started>> + Send + '_>>,
    client: SocketAddr,
    shared: &Shared,
) -> Option<Started> {
    let Ok(started) = AssertUnwindSafe(begun).catch_unwind().await else {
        Box::pin(refusal::broke_off(client, shared)).await;
        return None;
    };
    started
}

/// Runs a session to its end. A panic in it is the end of it, and of nothing else.
async fn carry(live: &Arc<Live>, session: Pin<Box<dyn Future<Output = ()> + Send + '_>>, shared: &Arc<Shared>) {
    // A shutdown waits until its end is on record, however it ends.
    let _unfinished = shared.registry.arriving();
    if AssertUnwindSafe(session).catch_unwind().await.is_err() {
        Box::pin(watch::broke_off(live, shared)).await;
    }
}

/// From a stranger to a session; `None` where it did not come to one (which is on record, and the client knows).
async fn begin(accepted: Accepted, shared: &Shared) -> Option<Started> {
    let rules = shared.rules.borrow().clone();
    shared.metrics.connection();
    let Accepted {
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
            cancel::run(request, shared).await;
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
    // Only now: a login that waits for approval takes no place.
    let Ok(connection) = connections.try_acquire_owned() else {
        refusal::no_place(arrival, limit).settle(shared).await;
        return None;
    };
    // And under the rules that are in force now: it may have waited through a reload.
    let rules = shared.rules.borrow().clone();
    match admit::admit(arrival, &rules, shared).await {
        Ok(admitted) => Some(start::start(admitted, connection, rules, shared)),
        Err(refusal) => {
            refusal.settle(shared).await;
            None
        }
    }
}

impl Shared {
    /// Whether the gate shuts down.
    fn draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// Whether one more record may be made that this identity causes; it counts as made.
    fn affords_record(&self, identity: &IdentityName) -> bool {
        let now = self.clock.moment().instant;
        self.quotas.of(identity, now).affords_record(now)
    }

    /// Records what may fail to be recorded without letting anything through: a refusal, a cancel.
    async fn record(&self, event: &Event<'_>) {
        if let Err(error) = self.journal.record(event).await {
            tracing::error!(error = %in_one_line(&error), "cannot write an event to the audit log");
        }
    }
}

/// Bytes from the operating system's generator.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    #[expect(
        clippy::expect_used,
        reason = "a machine without random numbers can keep no secret: there is no going on"
    )]
    getrandom::fill(&mut bytes).expect("the operating system has random numbers");
    bytes
}
