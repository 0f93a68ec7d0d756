//! Forwarder between the gate and its database that can break off: the database then disappears without a message.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinHandle};

/// Forwarder of connections, until it is pulled.
pub(crate) struct Plug {
    address: SocketAddr,
    accepting: JoinHandle<()>,
    /// Signal for every connection to break off.
    pulled: tokio::sync::watch::Sender<bool>,
}

impl Plug {
    /// Listens on a free port and forwards to `target`.
    pub(crate) async fn put(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (pulled, watch) = tokio::sync::watch::channel(false);
        let accepting = tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut watch = watch.clone();
                tokio::spawn(async move {
                    let Ok(mut far) = TcpStream::connect(target).await else {
                        return;
                    };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = watch.wait_for(|pulled| *pulled) => {}
                    }
                });
            }
        });
        Self {
            address,
            accepting,
            pulled,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Breaks all connections off and accepts no new ones.
    pub(crate) async fn pull(self) {
        let accepting: AbortHandle = self.accepting.abort_handle();
        accepting.abort();
        let _ = self.accepting.await;
        self.pulled.send_replace(true);
    }
}
