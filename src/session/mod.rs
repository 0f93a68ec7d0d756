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
mod end;
mod guard;
mod leftovers;
mod lexer_settings;
mod limits;
mod pace;
mod refusal;
pub mod registry;
mod relay;
mod start;
mod statement;
mod tail;
mod tap;
mod waiting;
mod watch;
mod wishes;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Semaphore;

pub use admit::{Rules, TargetRoom};
pub use buffer::Pool;
pub use leftovers::Leftovers;
pub use registry::{Registry, SessionView};
pub use statement::Keep;
pub use waiting::{Lobby, WaitSettings};

use start::Started;

use crate::access::Desk;
use crate::audit::Journal;
use crate::audit::event::Event;
use crate::clock::Clock;
use crate::ending::Ending;
use crate::frontend::{self, Hello};
use crate::ledger::Ledger;
use crate::metrics::Metrics;

/// What sessions are told, and how long they may take to end.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long before the deadline a client is warned by a NOTICE.
    pub warnings: Vec<Duration>,
    /// Whether a client is told at login under which grant it is, and until when.
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
    /// What people and pipelines ask for.
    pub desk: Desk,
    /// Where logins wait for approval.
    pub lobby: Arc<Lobby>,
    /// The sessions.
    pub registry: Arc<Registry>,
    /// Read buffers.
    pub pool: Pool,
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
    /// Its place among the strangers, until it has proved a secret.
    pub place: frontend::Place,
    /// The places for connections, one of which it takes once it has proved a secret and has a grant: strangers take none, so
    /// that no crowd of them keeps others out, and neither do logins that wait for approval.
    pub connections: Arc<Semaphore>,
    /// How many places there are.
    pub limit: u32,
}

/// Leads one connection from accept to its ending.
pub async fn run(accepted: Accepted, shared: Arc<Shared>) {
    // Boxed, so that what a handshake needs is not held for the life of the session.
    let Some(started) = Box::pin(begin(accepted, &shared)).await else {
        return;
    };
    watch::run(started, &shared).await;
}

/// From a stranger to a session; `None` where it did not come to one (which is on record, and the client knows).
async fn begin(accepted: Accepted, shared: &Shared) -> Option<Started> {
    let rules = shared.rules.borrow().clone();
    shared.metrics.connection();
    let Accepted {
        tcp,
        client,
        place,
        connections,
        limit,
    } = accepted;
    let greeted = match frontend::greet(tcp, client, place, &rules.frontend).await {
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

    /// Records what may fail to be recorded without letting anything through: a refusal, a cancel.
    async fn record(&self, event: &Event<'_>) {
        if let Err(error) = self.journal.record(event).await {
            tracing::error!(%error, "an event could not be put on record");
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
