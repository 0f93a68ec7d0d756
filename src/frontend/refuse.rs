//! The last words to a client that does not get a session, and a close that lets it read them.
//!
//! It does not choose the words. Both functions are bounded in time and bytes, whatever the client does.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::FutureExt as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::Rejected;
use super::budget::Budget;
use super::error::HandshakeError;
use crate::ending::Ending;
use crate::tls::Transport;
use crate::wire::error_response;
use crate::wire::startup::Startup;

/// For the words, and again for the close.
const FAREWELL: Duration = Duration::from_secs(1);
/// What is still read, and thrown away, after the words.
const UNREAD: u64 = 64 * 1024;

/// Tells the client why (FATAL), if there are words for it, and closes. Takes at most 2 s.
pub async fn refuse(mut transport: Transport, ending: &Ending) {
    if let Some(words) = ending.words() {
        let mut out = BytesMut::new();
        error_response::fatal(&mut out, &words);
        let telling = async {
            transport.write_all(&out).await?;
            transport.flush().await
        };
        if !matches!(timeout(FAREWELL, telling).await, Ok(Ok(()))) {
            return;
        }
    }
    close(transport).await;
}

/// Tells the client why if its socket takes the words at once, and drops the connection: nothing is waited for where a newer connection
/// has the place already.
fn mention(mut transport: Transport, ending: &Ending) {
    let Some(words) = ending.words() else { return };
    let mut out = BytesMut::new();
    error_response::fatal(&mut out, &words);
    let telling = async {
        transport.write_all(&out).await?;
        transport.shutdown().await
    };
    // Whether it took them or not, it is dropped next.
    let _ = telling.now_or_never();
}

/// Turns away a client that has not proved who it is: it has been told, and the connection closed, when this returns. It
/// counts against its address, and the answer is held back when there were many, but never beyond the handshake's limit.
pub(super) async fn unproved(
    transport: Transport,
    client: SocketAddr,
    startup: Startup,
    mut budget: Budget,
    error: HandshakeError,
) -> Box<Rejected> {
    let held = budget.failed(&error, Some(&startup.user)).await;
    let ending = error.ending(&startup.user, held);
    if error.told() {
        Box::pin(refuse(transport, &ending)).await;
    } else if matches!(error, HandshakeError::Displaced(_)) {
        mention(transport, &ending);
    }
    Box::new(Rejected {
        ending,
        client,
        startup: Some(startup),
        error,
    })
}

/// Closes in order: TLS close_notify, end of our side, then a bounded wait for the end of the client's. Takes at most 1 s.
///
/// A socket closed with bytes unread is reset, and a reset can take the words away before the client has read them.
pub async fn close(mut transport: Transport) {
    let closing = async {
        transport.shutdown().await?;
        tokio::io::copy(&mut transport.take(UNREAD), &mut tokio::io::sink()).await?;
        io::Result::Ok(())
    };
    // Whether or not the client plays its part, the connection is dropped here.
    let _ = timeout(FAREWELL, closing).await;
}
