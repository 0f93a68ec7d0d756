//! Sign-in from the command line with a browser on the same machine: the person lets this program in at the console, and the browser
//! comes here with a code (RFC 8252, section 7.3).
//!
//! INVARIANT: the code is good for this program only, which alone has its verifier; the secret of the sign-in is never printed.

use std::net::Ipv4Addr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use axum::Router;
use axum::extract::Query;
use axum::http::StatusCode;
use axum::response::Html;
use axum::routing::get;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::address::ControlEndpoint;
use super::client::ControlClient;
use super::client_error::ClientError;
use super::render::visible;
use super::speech::complain;
use crate::access::{challenge_of, random_secret};
use crate::base::secret::Secret;
use crate::base::tls::web_address;
use crate::control::model::{IssuedSignIn, ProvidersBody, TerminalBody, TerminalStepBody};

/// Time that a person has.
const MAX_WAIT: Duration = Duration::from_mins(10);
/// Time that the browser has to read its answer.
const FAREWELL: Duration = Duration::from_secs(1);
const PAGE: &str = "<!doctype html><html lang=en><meta charset=utf-8><title>Tidegate</title><p>Go back to the terminal. This \
                    window can be closed.";

#[derive(Deserialize)]
struct Brought {
    code: String,
    state: String,
}

/// Signs in with the person's browser; returns the secret of the sign-in.
pub(super) async fn sign_in(client: &ControlClient) -> anyhow::Result<Secret<String>> {
    let known: ProvidersBody = client.get("/signin/providers", &()).await?;
    let own = match client.address() {
        ControlEndpoint::Unix(_) => None,
        address => Some(address.to_string()),
    };
    let console = known.console.or(own);
    let console = console.context("this gate has no address for browsers; its operator sets console.address")?;
    let [verifier, state] = [random_secret()?, random_secret()?];
    let terminal = TerminalBody {
        challenge: challenge_of(&verifier),
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let listener = listener.context("cannot listen on 127.0.0.1 for the browser")?;
    let port = listener.local_addr()?.port();
    let address = page_address(&console, port, &terminal.challenge, state.expose())?;
    complain(&format!(
        "Open {} in a browser on this machine, and check that it shows the code {}",
        visible(&address),
        terminal.shown_code()
    ));
    open(&address);
    let code = timeout(MAX_WAIT, brought(listener, state)).await;
    let code = code.context("nobody came back from the browser within ten minutes; begin again: tidegate login --browser")??;
    let step = TerminalStepBody {
        code,
        verifier: verifier.expose().clone(),
    };
    match client.post::<IssuedSignIn>("/signin/terminal", &step).await {
        Ok(made) => Ok(Secret::new(made.secret)),
        Err(ClientError::Unaccepted { .. }) => {
            bail!("your sign-in in the browser has ended, or you were disabled; begin again: tidegate login --browser")
        }
        Err(error) => Err(error.into()),
    }
}

/// Returns the address of the page that lets this program in. What the gate says of its console goes to no other program than a browser.
fn page_address(console: &str, port: u16, challenge: &str, state: &str) -> anyhow::Result<String> {
    let wrong = || format!("the gate names {} as its console", visible(console));
    let mut address = web_address(console).map_err(anyhow::Error::msg).with_context(wrong)?;
    address.set_path("/terminal");
    let port = port.to_string();
    let query = [("port", port.as_str()), ("state", state), ("challenge", challenge)];
    address.query_pairs_mut().clear().extend_pairs(query);
    Ok(address.into())
}

/// Waits for the browser that brings the code, and tells it that it has done so.
async fn brought(listener: TcpListener, expected: Secret<String>) -> anyhow::Result<String> {
    let (bring, mut brought) = mpsc::channel(1);
    let take = async move |Query(Brought { code, state }): Query<Brought>| {
        // Any page can ask any port of this machine; only the console knows the state.
        if state != *expected.expose() {
            return Err(StatusCode::BAD_REQUEST);
        }
        let _ = bring.try_send(code);
        Ok(Html(PAGE))
    };
    let (leave, left) = tokio::sync::oneshot::channel::<()>();
    let served = axum::serve(listener, Router::new().route("/", get(take)));
    let served = served.with_graceful_shutdown(async move { left.await.unwrap_or_default() });
    let mut served = std::pin::pin!(served.into_future());
    let code = tokio::select! {
        code = brought.recv() => code,
        ended = &mut served => bail!("the port for the browser was closed: {ended:?}"),
    };
    drop(leave);
    // A browser that keeps its connection open is not waited for.
    let _ = timeout(FAREWELL, served).await;
    code.context("the browser came without a code")
}

/// Opens the address in the person's browser, where there is one. Without one the person does.
fn open(address: &str) {
    let (opener, has_screen) = if cfg!(target_os = "macos") {
        ("open", true)
    } else {
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        ("xdg-open", is_set("DISPLAY") || is_set("WAYLAND_DISPLAY"))
    };
    if has_screen {
        let mut command = std::process::Command::new(opener);
        let quiet = command
            .arg(address)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let _ = quiet.spawn();
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn a_browser_brings_the_code_and_idle_connections_hold_up_nothing() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let ask = async |path: &str| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let browser = async {
            let idle = TcpStream::connect(address).await.unwrap();
            assert!(ask("/favicon.ico").await.starts_with("HTTP/1.1 404"));
            for path in ["/", "/?code=x", "/?code=x&state=y", "/?code=x&state="] {
                assert!(ask(path).await.starts_with("HTTP/1.1 400"), "{path}");
            }
            let answer = ask("/?code=abc&state=own").await;
            assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(PAGE), "{answer}");
            idle
        };
        let (code, _idle) = tokio::join!(brought(listener, Secret::new("own".to_owned())), browser);
        assert_eq!(code.unwrap(), "abc");
    }
    #[test]
    fn a_gate_opens_nothing_but_a_page() {
        let address = page_address("https://gate.example.org:7433", 17, "ch", "st").unwrap();
        assert_eq!(
            address,
            "https://gate.example.org:7433/terminal?port=17&state=st&challenge=ch"
        );
        for console in [
            "file:///etc/passwd",
            "vscode://x",
            "http://gate.example.org",
            "gate",
            "https://user:x@gate.example.org",
        ] {
            assert!(page_address(console, 17, "ch", "st").is_err(), "{console}");
        }
    }
}
