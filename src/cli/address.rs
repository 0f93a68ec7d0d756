//! Address of a gate's control API.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

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

/// Error of a text that is not an address of a control API.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the address of a control API; write unix:/path/to/control.sock or https://gate.example.org:7433")]
pub struct AddressError(String);

impl FromStr for ControlEndpoint {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Self::Unix(PathBuf::from(path.strip_prefix("//").unwrap_or(path))));
        }
        // In a web address `@`, `?`, `#` and a backslash would make the host another one than the first that is read.
        let is_of_host = |character: char| character.is_alphanumeric() || "-._:[]".contains(character);
        let host = |rest: &str| {
            let (name, port) = rest.trim_end_matches('/').rsplit_once(':')?;
            let port: u16 = port.parse().ok()?;
            let bare = name.contains(':') && !name.starts_with('[');
            let name = if bare { format!("[{name}]") } else { name.to_owned() };
            (!name.is_empty() && name.chars().all(is_of_host)).then(|| format!("{name}:{port}"))
        };
        let found = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => host(rest).map(Self::Tls),
            (_, Some(rest)) => host(rest).map(Self::Tcp),
            _ => None,
        };
        found.ok_or_else(|| AddressError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let (unix, tcp, tls) = (ControlEndpoint::Unix, ControlEndpoint::Tcp, ControlEndpoint::Tls);
        for (text, endpoint) in [
            ("unix:/run/c.sock", unix("/run/c.sock".into())),
            ("unix:///run/c.sock", unix("/run/c.sock".into())),
            ("http://127.0.0.1:7480/", tcp("127.0.0.1:7480".into())),
            ("https://gate.example.org:7433", tls("gate.example.org:7433".into())),
            ("https://::1:7433", tls("[::1]:7433".into())),
        ] {
            assert_eq!(text.parse().ok(), Some(endpoint), "{text}");
        }
        for bad in [
            "",
            "https://gate.example.org:7433@evil.example:443",
            "https://evil.example:443?x.gate.example.org:7433",
            "https://evil.example:443#x.gate.example.org:7433",
            "https://evil.example:443\\x.gate.example.org:7433",
            "http://localhost:7433@evil.example:80",
            "unix:",
            "https://h",
            "h:1",
            "http://h",
            "https://:1",
            "https://h:1/x",
            "https://h:x",
        ] {
            let error = bad.parse::<ControlEndpoint>().unwrap_err();
            assert_eq!(error, AddressError(bad.to_owned()));
        }
    }
}
