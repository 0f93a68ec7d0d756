//! Where a gate is, whose word is taken that it is that gate, and the connection to it.
//!
//! It knows no token and asks for nothing: it hands out a connection that HTTP can be spoken on.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::address::ControlEndpoint;
use super::client_error::ClientError;
use crate::base::tls::{self, Fingerprint, GateTrust};

/// Maximum time until HTTP can be spoken.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

impl ControlEndpoint {
    fn unreachable(&self, reason: io::Error) -> ClientError {
        ClientError::Connect {
            address: self.to_string(),
            reason,
        }
    }

    fn handshake(&self, trust: &GateTrust, reason: &io::Error) -> ClientError {
        if tls::is_distrust(reason) {
            return ClientError::Untrusted {
                address: self.clone(),
                why: distrusted(trust, reason),
                seen: None,
            };
        }
        ClientError::Handshake {
            address: self.to_string(),
            reason: reason.to_string(),
        }
    }
}

fn distrusted(trust: &GateTrust, reason: &io::Error) -> String {
    match trust {
        GateTrust::Machine => format!("no CA of this machine has signed it ({reason})"),
        GateTrust::Ca(path) => format!("{} does not verify it ({reason})", path.display()),
        GateTrust::Pin(pin) => format!("the trusted certificate has the SHA-256 {pin}"),
    }
}

/// Reads an address as people write it.
pub(super) fn address(text: &str) -> Result<ControlEndpoint, ClientError> {
    if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
        return Ok(ControlEndpoint::Unix(PathBuf::from(path.strip_prefix("//").unwrap_or(path))));
    }
    let host = |rest: &str| {
        let host = rest.trim_end_matches('/');
        let whole = host
            .rsplit_once(':')
            .is_some_and(|(name, port)| !name.is_empty() && port.parse::<u16>().is_ok());
        (whole && !host.contains('/')).then(|| host.to_owned())
    };
    let found = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(rest), _) => host(rest).map(ControlEndpoint::Tls),
        (_, Some(rest)) => host(rest).map(ControlEndpoint::Tcp),
        _ => None,
    };
    found.ok_or_else(|| ClientError::Address(text.to_owned()))
}

/// Connects; whoever is there is who `trust` says, or nobody is spoken to.
pub(super) async fn connect(address: &ControlEndpoint, trust: &GateTrust) -> Result<SendRequest<Full<Bytes>>, ClientError> {
    let late = |_| address.unreachable(io::ErrorKind::TimedOut.into());
    timeout(CONNECT_TIMEOUT, reach(address, trust)).await.map_err(late)?
}

async fn reach(address: &ControlEndpoint, trust: &GateTrust) -> Result<SendRequest<Full<Bytes>>, ClientError> {
    let unreachable = |reason| address.unreachable(reason);
    match address {
        ControlEndpoint::Unix(path) => shake(TokioIo::new(UnixStream::connect(path).await.map_err(unreachable)?)).await,
        ControlEndpoint::Tcp(host) => shake(TokioIo::new(TcpStream::connect(host).await.map_err(unreachable)?)).await,
        ControlEndpoint::Tls(host) => {
            let tcp = TcpStream::connect(host).await.map_err(unreachable)?;
            let tls = tls::connect(tcp, name(host), trust).await;
            shake(TokioIo::new(tls.map_err(|reason| address.handshake(trust, &reason))?)).await
        }
    }
}

/// The fingerprint of the certificate that is shown there; `None` where there is no TLS.
pub(super) async fn seen(address: &ControlEndpoint) -> Result<Option<Fingerprint>, ClientError> {
    let ControlEndpoint::Tls(host) = address else {
        return Ok(None);
    };
    let tcp = TcpStream::connect(host).await.map_err(|reason| address.unreachable(reason))?;
    let seen = timeout(CONNECT_TIMEOUT, tls::seen(tcp, name(host))).await;
    let seen = seen.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    seen.map(Some)
        .map_err(|reason| address.handshake(&GateTrust::Machine, &reason))
}

/// The host without its port.
fn name(host: &str) -> &str {
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

async fn shake<T>(io: T) -> Result<SendRequest<Full<Bytes>>, ClientError>
where
    T: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
{
    let (sender, connection) = hyper::client::conn::http1::handshake(io).await?;
    tokio::spawn(connection);
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(
            address("unix:/run/c.sock").ok(),
            Some(ControlEndpoint::Unix("/run/c.sock".into()))
        );
        assert_eq!(
            address("unix:///run/c.sock").ok(),
            Some(ControlEndpoint::Unix("/run/c.sock".into()))
        );
        assert_eq!(
            address("http://127.0.0.1:7480/").ok(),
            Some(ControlEndpoint::Tcp("127.0.0.1:7480".into()))
        );
        assert_eq!(
            address("https://gate.example.org:7433").ok(),
            Some(ControlEndpoint::Tls("gate.example.org:7433".into()))
        );
        for bad in [
            "",
            "unix:",
            "https://h",
            "h:1",
            "http://h",
            "https://:1",
            "https://h:1/x",
            "https://h:x",
        ] {
            assert_eq!(address(bad).map_err(|error| error.exit_code()), Err(2), "{bad}");
        }
    }
}
