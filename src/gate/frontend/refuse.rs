//! Refusal of a client that does not get a session: the last message, and a close that lets the client read it.
//!
//! This module does not choose the text. Both functions are bounded in time and bytes, whatever the client does.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::FailedHandshake;
use super::budget::HandshakeBudget;
use super::error::HandshakeError;
use crate::base::tls::Transport;
use crate::model::ending::{Ending, HeldBack};
use crate::protocol::wire::error_response;
use crate::protocol::wire::startup::StartupMessage;

/// Time limit for the last message, and again for the close.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum number of bytes that are still read and discarded after the last message.
const MAX_DISCARDED_BYTES: u64 = 64 * 1024;

/// Sends the client the reason as FATAL, if the ending has a text, and closes. Takes at most 2 s.
pub async fn refuse(mut transport: Transport, ending: &Ending) {
    if let Some(words) = ending.words() {
        let telling = async {
            transport.write_all(&error_response::fatal(&words)).await?;
            transport.flush().await
        };
        if !matches!(timeout(FAREWELL_TIMEOUT, telling).await, Ok(Ok(()))) {
            return;
        }
    }
    close(transport).await;
}

/// Sends the client the reason if its socket takes the bytes at once, and drops the connection. It does not wait, because a newer
/// connection already has the permit.
fn mention(mut transport: Transport, ending: &Ending) {
    let Some(words) = ending.words() else { return };
    let telling = async {
        transport.write_all(&error_response::fatal(&words)).await?;
        transport.shutdown().await
    };
    // The connection is dropped next, with or without success.
    let _ = telling.now_or_never();
}

/// Refuses a client that is not authenticated: when this returns, the client has got the error it may have, and the connection (if it
/// was not lost with the TLS handshake) is closed. The failure counts against its address. After many failures the answer is delayed,
/// but never beyond the handshake's limit.
pub(super) async fn reject(
    transport: Option<Transport>,
    client: SocketAddr,
    startup: Option<StartupMessage>,
    mut budget: HandshakeBudget,
    error: HandshakeError,
) -> Box<FailedHandshake> {
    let user = startup.as_ref().map(|startup| startup.user.as_str());
    let held = budget.failed(&error, user).await;
    dismiss(transport, client, startup, held, error).await
}

/// Refuses a client whose failure is counted: the last message as far as it may have it, `held` if its answer was delayed, and the
/// close.
pub(super) async fn dismiss(
    transport: Option<Transport>,
    client: SocketAddr,
    startup: Option<StartupMessage>,
    held: Option<HeldBack>,
    error: HandshakeError,
) -> Box<FailedHandshake> {
    let user = startup.as_ref().map(|startup| startup.user.as_str());
    let ending = error.ending(user.unwrap_or_default(), held);
    if let Some(transport) = transport {
        if error.told() {
            Box::pin(refuse(transport, &ending)).await;
        } else if matches!(error, HandshakeError::Displaced(_)) && startup.is_some() {
            mention(transport, &ending);
        }
    }
    Box::new(FailedHandshake {
        ending,
        client,
        startup,
        error,
    })
}

/// Closes in order: TLS close_notify, end of the gate's side, then a bounded wait for the end of the client's. Takes at most 1 s.
///
/// A socket closed with unread bytes is reset, and a reset can discard the last message before the client has read it.
pub async fn close(mut transport: Transport) {
    let closing = async {
        transport.shutdown().await?;
        tokio::io::copy(&mut transport.take(MAX_DISCARDED_BYTES), &mut tokio::io::sink()).await?;
        io::Result::Ok(())
    };
    // The connection is dropped here, even if the client does not close its side.
    let _ = timeout(FAREWELL_TIMEOUT, closing).await;
}
