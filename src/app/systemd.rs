//! Messages to the service manager: ready, reloading, stopping and, if a watchdog is configured, alive (`sd_notify(3)`).
//!
//! The protocol is one datagram per message. It is implemented here rather than by a crate, because a service manager that
//! takes no messages must not hold up the gate: the socket does not block, and a message that is not taken is not repeated.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use super::pulse::Vitals;
use crate::base::error_chain::display_chain;

/// Socket of the service manager, if there is one. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct ServiceManager {
    socket: Option<Arc<UnixDatagram>>,
    /// Interval within which the watchdog expects a message; `None` means that there is no watchdog.
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// Reads `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`, as specified by `sd_notify(3)` and `sd_watchdog_enabled(3)`.
    pub(super) fn from_environment() -> Self {
        let Some(path) = env::var_os("NOTIFY_SOCKET") else {
            return Self::default();
        };
        let socket = connect(&path)
            .inspect_err(
                |error| tracing::warn!(error = %display_chain(error), "cannot connect to NOTIFY_SOCKET; the service manager gets no status"),
            )
            .ok();
        let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let for_us = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        Self {
            watchdog: number("WATCHDOG_USEC")
                .filter(|micros| *micros > 0 && for_us && socket.is_some())
                .map(Duration::from_micros),
            socket: socket.map(Arc::new),
        }
    }

    /// Reports that the gate listens, also after a reload.
    pub(super) fn ready(&self) {
        self.tell("READY=1");
    }

    /// Reports that the gate reads its configuration again.
    pub(super) fn reloading(&self) {
        self.tell("RELOADING=1");
    }

    /// Reports that the gate stops.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// Sends watchdog messages for as long as all parts show progress. A gate that hangs sends none, and the service manager
    /// ends it.
    pub(super) async fn watch(self, vitals: Vitals) {
        let Some(within) = self.watchdog else {
            return std::future::pending().await;
        };
        let mut sign = tokio::time::interval(within / 4);
        sign.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut well = true;
        loop {
            sign.tick().await;
            let checked = vitals.check(within / 2);
            if let Err(reason) = &checked
                && well
            {
                tracing::error!(
                    reason,
                    "the gate makes no progress; sending no watchdog message, so the service manager will restart it"
                );
            }
            well = checked.is_ok();
            if well {
                self.tell("WATCHDOG=1");
            }
        }
    }

    fn tell(&self, state: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(state.as_bytes())
        {
            tracing::warn!(state, error = %display_chain(&error), "cannot send a status message to the service manager");
        }
    }
}

/// Connects to a path or, with a leading `@`, to an abstract name.
fn connect(path: &OsStr) -> io::Result<UnixDatagram> {
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(path)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect_addr(&address)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(receiver: &UnixDatagram) -> String {
        let mut buffer = [0; 64];
        let length = receiver.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn messages_arrive_by_path_and_by_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("tidegate-test-{}", std::process::id());
        let by_name = SocketAddr::from_abstract_name(&name).unwrap();
        for (receiver, address) in [
            (UnixDatagram::bind(&path).unwrap(), path.into_os_string()),
            (UnixDatagram::bind_addr(&by_name).unwrap(), format!("@{name}").into()),
        ] {
            let manager = ServiceManager {
                socket: Some(Arc::new(connect(&address).unwrap())),
                watchdog: None,
            };
            manager.ready();
            manager.stopping();
            assert_eq!([received(&receiver), received(&receiver)], ["READY=1", "STOPPING=1"]);
        }
    }

    #[test]
    fn a_service_manager_that_reads_nothing_holds_nothing_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let _receiver = UnixDatagram::bind(&path).unwrap();
        let manager = ServiceManager {
            socket: Some(Arc::new(connect(path.as_os_str()).unwrap())),
            watchdog: None,
        };
        // More than any queue of datagrams has places for.
        for _ in 0..10_000 {
            manager.ready();
        }
    }
}
