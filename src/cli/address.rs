//! Address of a gate's control API.

use std::fmt;
use std::path::PathBuf;

/// Address of a control API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlEndpoint {
    /// On a Unix socket.
    Unix(PathBuf),
    /// On a host and port, without TLS.
    Tcp(String),
    /// On a host and port, on TLS.
    Tls(String),
}

impl ControlEndpoint {
    /// Returns true if others on the network could read along.
    pub(super) fn is_exposed(&self) -> bool {
        match self {
            Self::Unix(_) | Self::Tls(_) => false,
            Self::Tcp(host) => !["127.0.0.1:", "localhost:", "[::1]:"]
                .iter()
                .any(|local| host.starts_with(local)),
        }
    }
}

impl fmt::Display for ControlEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(host) => write!(f, "http://{host}"),
            Self::Tls(host) => write!(f, "https://{host}"),
        }
    }
}
