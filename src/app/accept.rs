//! Accept loop of one listener. Each connection gets its own task at once, so that no handshake delays another.
//!
//! It reads no byte from a connection.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::access::strangers::{Strangers, canonical};
use crate::base::error_chain::display_chain;
use crate::gate::session::{self, AcceptedConnection, SharedState};

/// Pause after a failed accept. Without file descriptors the next accept would fail at once, and the loop would spin.
const ACCEPT_RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// Resources that the accept loop needs to admit a connection.
pub(super) struct AcceptContext {
    pub(super) strangers: Strangers,
    pub(super) connections: Arc<Semaphore>,
    pub(super) limit: u32,
    /// File descriptors for connections that are not yet a session: each connection holds one until it becomes a session or
    /// closes. If none is free, the next connection waits in the system's queue.
    pub(super) unproved: Arc<Semaphore>,
    pub(super) shared: Arc<SharedState>,
}

/// Accepts connections until its task is aborted.
pub(super) async fn run(listener: TcpListener, door: AcceptContext) {
    loop {
        let Ok(descriptor) = Arc::clone(&door.unproved).acquire_owned().await else {
            // The semaphore is never closed; this is unreachable.
            return;
        };
        let (tcp, client) = match listener.accept().await {
            Ok((tcp, client)) => (tcp, canonical(client)),
            Err(error) => {
                tracing::warn!(error = %display_chain(&error), "cannot accept a client connection");
                tokio::time::sleep(ACCEPT_RETRY_INTERVAL).await;
                continue;
            }
        };
        let accepted = AcceptedConnection {
            tcp,
            client,
            permit: door.strangers.enter(client.ip()),
            connections: Arc::clone(&door.connections),
            limit: door.limit,
            descriptor,
        };
        tokio::spawn(session::run(accepted, Arc::clone(&door.shared)));
    }
}
