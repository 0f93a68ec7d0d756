//! HTTP client for issuers, webhooks and chats. Connections are encrypted and verified, or to this machine only.
//!
//! This module does not define requests or responses.
//!
//! INVARIANT: redirects are not followed (only the addresses that a caller has checked are called), and the machine's root
//! certificates decide (`SSL_CERT_FILE` names others).

use std::net::IpAddr;
use std::time::Duration;

use reqwest::{Client, RequestBuilder, StatusCode, Url, redirect};
use rustls::{ClientConfig, RootCertStore};

use super::verify::machine_roots;
use super::{TlsError, provider};
use crate::base::error_chain::display_chain;

/// Parses a web address that may be called: `https`, or `http` to a loopback address.
///
/// The error describes the fault and does not contain the address, which may include a secret.
pub fn web_address(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("it is not a URL: {error}"))?;
    if url.host_str().is_none_or(str::is_empty) {
        return Err("the URL has no host".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("the URL contains a user or a password, which would appear in logs".to_owned());
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => Err("it is not encrypted; use https (http only for loopback addresses)".to_owned()),
        other => Err(format!("`{other}` is not https")),
    }
}

/// Creates a client for one address. It loads the machine's root certificates, so it must not run on a thread that others wait
/// for.
pub fn web_client(address: &Url, timeout: Duration) -> Result<Client, TlsError> {
    let encrypted = address.scheme() == "https";
    let roots = if encrypted { machine_roots()? } else { RootCertStore::empty() };
    let tls = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut builder = Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(redirect::Policy::none())
        .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")))
        .timeout(timeout);
    if is_loopback(address) {
        builder = builder.no_proxy();
    }
    builder.build().map_err(TlsError::Web)
}

/// Calls an address once, and returns the status and the body, which has at most `most` bytes. The error does not contain the
/// address, which may include a secret.
pub async fn web_call(
    address: Url,
    timeout: Duration,
    most: usize,
    request: impl FnOnce(&Client, Url) -> RequestBuilder,
) -> Result<(StatusCode, Vec<u8>), String> {
    // A new client per call: calls are rare, and a client belongs to the runtime it was first used on.
    let client = {
        let address = address.clone();
        tokio::task::spawn_blocking(move || web_client(&address, timeout)).await
    };
    let client = client
        .map_err(|error| display_chain(&error))?
        .map_err(|error| display_chain(&error))?;
    let told = |error: reqwest::Error| display_chain(&error.without_url());
    let mut response = request(&client, address).send().await.map_err(told)?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(told)? {
        if body.len() + chunk.len() > most {
            return Err(format!("it answers with more than {most} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((response.status(), body))
}

fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_encrypted_or_to_this_machine() {
        for good in [
            "https://issuer.example.org/keys",
            "http://127.0.0.1:8080/keys",
            "http://[::1]/keys",
            "http://localhost/keys",
        ] {
            assert!(web_address(good).is_ok(), "{good}");
        }
        for bad in [
            "http://issuer.example.org/keys",
            "http://127.0.0.1.example.org/keys",
            "https://user:secret@issuer.example.org/keys",
            "ftp://issuer.example.org/keys",
            "file:///etc/passwd",
            "issuer.example.org",
            "",
        ] {
            assert!(web_address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_client_can_be_made() {
        let address = web_address("http://127.0.0.1:1/").unwrap();
        assert!(web_client(&address, Duration::from_secs(1)).is_ok());
    }

    #[tokio::test]
    async fn https_speaks_tls_and_verifies() {
        use tokio::io::AsyncReadExt as _;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = web_address(&format!("https://{}/", listener.local_addr().unwrap())).unwrap();
        // A machine without root certificates verifies nobody.
        let Ok(client) = web_client(&address, Duration::from_secs(20)) else {
            return;
        };
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read_u8().await.unwrap()
        });
        assert!(client.get(address).send().await.is_err());
        let handshake = 22;
        assert_eq!(server.await.unwrap(), handshake);
    }
}
