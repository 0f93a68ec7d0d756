//! Refusal of a connection that does not become a session: it is recorded, and the client gets an error.
//!
//! This module does not decide to refuse. The text for the client is [`Ending::words`], or the target's own message.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use super::SharedState;
use super::registry::ArrivingLogin;
use crate::audit::event::{ConnectionRefused, Event, RefusalKind};
use crate::base::tls::Transport;
use crate::gate::frontend::{self, FailedHandshake, GreetedClient, HandshakeError};
use crate::model::ending::{Ending, EndingKind};
use crate::protocol::wire::startup::StartupMessage;

/// Time for a client to take the target's own refusal.
const LAST_MESSAGE_TIMEOUT: Duration = Duration::from_secs(2);

/// Reason for refusing a client that proved its secret.
pub(super) struct RefusalReason {
    pub(super) ending: Ending,
    /// Target's own ErrorResponse, to be forwarded instead of the gate's text.
    pub(super) words: Option<Bytes>,
    /// Details for the operator.
    pub(super) detail: Option<String>,
}

impl From<Ending> for RefusalReason {
    fn from(ending: Ending) -> Self {
        Self {
            ending,
            words: None,
            detail: None,
        }
    }
}

/// Client that does not get a session.
pub(super) enum LoginFailure {
    /// It is not authenticated, and has got its error.
    Rejected(Box<FailedHandshake>),
    /// It is authenticated.
    Refused(Box<RefusedLogin>),
}

impl From<Box<FailedHandshake>> for LoginFailure {
    fn from(rejected: Box<FailedHandshake>) -> Self {
        Self::Rejected(rejected)
    }
}

impl LoginFailure {
    /// Records the refusal, and sends the client its error unless it has got it.
    pub(super) async fn settle(self, shared: &SharedState) {
        match self {
            Self::Rejected(rejected) => self::rejected(*rejected, shared).await,
            Self::Refused(refusal) => refusal.settle(shared).await,
        }
    }
}

/// Refusal of a client that proved its secret.
pub(super) struct RefusedLogin {
    /// Registration as an arriving client: a shutdown waits until it has got its error.
    pub(super) arriving: ArrivingLogin,
    pub(super) transport: Transport,
    pub(super) record: ConnectionRefused,
    pub(super) denied: RefusalReason,
}

impl RefusedLogin {
    /// Records the refusal and sends the client its error.
    pub(super) async fn settle(self, shared: &SharedState) {
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
        let written = timeout(LAST_MESSAGE_TIMEOUT, async {
            transport.write_all(&words).await?;
            transport.flush().await
        });
        // The connection is closed next, with or without success.
        let _ = written.await;
        frontend::close(transport).await;
    }
}

/// Refuses a client before it is authenticated.
pub(super) async fn refuse(greeted: GreetedClient, ending: &Ending, shared: &SharedState) {
    stranger(blank(greeted.client(), Some(greeted.startup())), ending, shared).await;
    greeted.refuse(ending).await;
}

/// Records the refusal of a client that was not authenticated; it has already got its error.
pub(super) async fn rejected(rejected: FailedHandshake, shared: &SharedState) {
    // Every OAuth login of libpq begins so, and nothing was tried or refused.
    if matches!(rejected.error, HandshakeError::Discovery) {
        tracing::debug!(client = %rejected.client, "a client asked where to sign in");
        return;
    }
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

/// Records that a connection failed by a fault of the gate; it is closed by then.
pub(super) async fn broke_off(client: SocketAddr, shared: &SharedState) {
    stranger(blank(client, None), &Ending::GateFault, shared).await;
}

/// Returns the record of a refusal before its reason is known; [`event`] sets the reason.
pub(super) fn blank(client: SocketAddr, startup: Option<&StartupMessage>) -> ConnectionRefused {
    ConnectionRefused {
        client: client.ip(),
        port: client.port(),
        user: startup.map(|startup| startup.user.clone()),
        database: startup.and_then(|startup| startup.database.clone()),
        grant: None,
        identity: None,
        ending: EndingKind::GateFault.into(),
        sqlstate: String::new(),
        detail: None,
    }
}

/// Records the refusal of a client that proved its secret. If its identity fills the log too fast, the refusal may only be
/// counted.
async fn put_on_record(refused: ConnectionRefused, ending: &Ending, shared: &SharedState) {
    if !refused
        .identity
        .as_ref()
        .is_some_and(|identity| shared.affords_record(identity))
    {
        return stranger(refused, ending, shared).await;
    }
    shared.record(&event(refused, ending, shared)).await;
}

/// Records the refusal of a client without a known identity; one of many may only be counted.
async fn stranger(refused: ConnectionRefused, ending: &Ending, shared: &SharedState) {
    let client = refused.client;
    let event = event(refused, ending, shared);
    shared
        .refusals
        .record(Some(client), RefusalKind::Ending(ending.kind()), &event)
        .await;
}

fn event(mut refused: ConnectionRefused, ending: &Ending, shared: &SharedState) -> Event<'static> {
    refused.ending = ending.kind().into();
    ending.sqlstate().clone_into(&mut refused.sqlstate);
    if refused.detail.is_none() {
        refused.detail = ending.words().map(|words| words.message);
    }
    shared.metrics.refused(ending.name());
    Event::Refused(Cow::Owned(refused))
}
