//! Takes connections off a listener, each into a task of its own at once: no handshake holds up another.
//!
//! It reads nothing from them.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::causes::in_one_line;
use crate::session::{self, Accepted, Shared};
use crate::strangers::{Strangers, canonical};

/// When the system has no file descriptors left, accepting again at once would only spin.
const BREATH: Duration = Duration::from_millis(50);

/// What a listener needs to let somebody in.
pub(super) struct Door {
    pub(super) strangers: Strangers,
    pub(super) connections: Arc<Semaphore>,
    pub(super) limit: u32,
    /// File descriptors of connections that are no session (yet): each holds one until it is a session or closed. Without one
    /// the next connection waits in the system's queue.
    pub(super) unproved: Arc<Semaphore>,
    pub(super) shared: Arc<Shared>,
}

/// Accepts until its task is aborted.
pub(super) async fn run(listener: TcpListener, door: Door) {
    loop {
        let Ok(descriptor) = Arc::clone(&door.unproved).acquire_owned().await else {
            // Nobody closes it.
            return;
        };
        let (tcp, client) = match listener.accept().await {
            Ok((tcp, client)) => (tcp, canonical(client)),
            Err(error) => {
                tracing::warn!(error = %in_one_line(&error), "a connection could not be accepted");
                tokio::time::sleep(BREATH).await;
                continue;
            }
        };
        let accepted = Accepted {
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
