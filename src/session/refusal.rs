//! A connection that does not become a session: the refusal is put on record, and the client is told.
//!
//! It does not decide to refuse. What a client is told is in [`Ending::words`], or the target's own words.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use super::Shared;
use super::arrive::Arrival;
use super::registry::Arriving;
use crate::audit::event::{Event, Refused};
use crate::ending::{Ending, Scope};
use crate::frontend::{self, Greeted, Rejected};
use crate::tls::Transport;
use crate::wire::startup::Startup;

/// How long a client has to take the target's own refusal.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Why a client is refused that proved its secret.
pub(super) struct Denied {
    pub(super) ending: Ending,
    /// The target's own ErrorResponse, to be passed on instead of our words.
    pub(super) words: Option<Bytes>,
    /// More for the operator.
    pub(super) detail: Option<String>,
}

impl From<Ending> for Denied {
    fn from(ending: Ending) -> Self {
        Self {
            ending,
            words: None,
            detail: None,
        }
    }
}

/// A client that does not come in.
pub(super) enum Turned {
    /// It proved nothing, and has been told.
    Rejected(Box<Rejected>),
    /// It proved its secret.
    Refused(Box<Refusal>),
}

impl From<Box<Rejected>> for Turned {
    fn from(rejected: Box<Rejected>) -> Self {
        Self::Rejected(rejected)
    }
}

impl Turned {
    /// Puts it on record; whoever has not been told is told.
    pub(super) async fn settle(self, shared: &Shared) {
        match self {
            Self::Rejected(rejected) => self::rejected(*rejected, shared).await,
            Self::Refused(refusal) => refusal.settle(shared).await,
        }
    }
}

/// A client that proved its secret and is refused all the same.
pub(super) struct Refusal {
    /// A shutdown waits until it has been told.
    pub(super) arriving: Arriving,
    pub(super) transport: Transport,
    pub(super) record: Refused,
    pub(super) denied: Denied,
}

/// The gate is full.
pub(super) fn no_place(arrival: Arrival, limit: u32) -> Refusal {
    let ending = Ending::TooMany {
        scope: Scope::Gate,
        limit,
    };
    Refusal {
        arriving: arrival.arriving,
        record: arrival.record,
        transport: arrival.client.transport,
        denied: ending.into(),
    }
}

impl Refusal {
    /// Puts the refusal on record and tells the client.
    pub(super) async fn settle(self, shared: &Shared) {
        let Self {
            arriving: _arriving,
            mut transport,
            mut record,
            denied,
        } = self;
        record.detail = denied.detail;
        put_on_record(record, &denied.ending, shared).await;
        let Some(words) = denied.words else {
            return frontend::refuse(transport, &denied.ending).await;
        };
        let written = timeout(LAST_WORDS, async {
            transport.write_all(&words).await?;
            transport.flush().await
        });
        // Whether it took them or not, it is closed next.
        let _ = written.await;
        frontend::close(transport).await;
    }
}

/// Refuses a client before it proved anything.
pub(super) async fn refuse(greeted: Greeted, ending: &Ending, shared: &Shared) {
    stranger(blank(greeted.client(), Some(greeted.startup())), ending, shared).await;
    greeted.refuse(ending).await;
}

/// Puts on record that a client was refused before it proved anything; it has been told.
pub(super) async fn rejected(rejected: Rejected, shared: &Shared) {
    let mut record = blank(rejected.client, rejected.startup.as_ref());
    record.detail = Some(match rejected.ending.held_back() {
        Some(held) => format!(
            "{}; the answer was delayed after failed logins from the same {}",
            rejected.error,
            held.name()
        ),
        None => rejected.error.to_string(),
    });
    stranger(record, &rejected.ending, shared).await;
}

/// Puts on record that a connection came to nothing by a fault of the gate; it is closed by then.
pub(super) async fn broke_off(client: SocketAddr, shared: &Shared) {
    stranger(blank(client, None), &Ending::GateFault, shared).await;
}

/// The record of a refusal, before its reason is known.
pub(super) fn blank(client: SocketAddr, startup: Option<&Startup>) -> Refused {
    Refused {
        client: client.ip(),
        port: client.port(),
        user: startup.map(|startup| startup.user.clone()),
        database: startup.and_then(|startup| startup.database.clone()),
        grant: None,
        identity: None,
        ending: String::new(),
        sqlstate: String::new(),
        detail: None,
    }
}

/// Puts the refusal of a client on record that proved its secret. Where its identity fills the log too fast, one of many may only be
/// counted.
async fn put_on_record(refused: Refused, ending: &Ending, shared: &Shared) {
    if !refused
        .identity
        .as_ref()
        .is_some_and(|identity| shared.affords_record(identity))
    {
        return stranger(refused, ending, shared).await;
    }
    shared.record(&event(refused, ending, shared)).await;
}

/// Puts the refusal of a client on record whom nobody answers for: one of many may only be counted.
async fn stranger(refused: Refused, ending: &Ending, shared: &Shared) {
    let client = refused.client;
    let event = event(refused, ending, shared);
    shared.refusals.record(Some(client), ending.name(), &event).await;
}

fn event(mut refused: Refused, ending: &Ending, shared: &Shared) -> Event<'static> {
    ending.name().clone_into(&mut refused.ending);
    ending.sqlstate().clone_into(&mut refused.sqlstate);
    if refused.detail.is_none() {
        refused.detail = ending.words().map(|words| words.message);
    }
    shared.metrics.refused(ending.name());
    Event::Refused(Cow::Owned(refused))
}
