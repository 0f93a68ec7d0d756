//! Listeners of the control API, and its routing.
//!
//! Everything under `/v1` needs a token, on the Unix socket too (a chat's signature is one); health and metrics do not.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::authenticate;
use super::listen::{self, ServedListener, TcpFront};
use super::long_poll::LongPollLimiter;
use super::openapi::{self, ApiDocument, RenderedDocument};
use super::problem::ApiError;
use super::routes::{
    audit, chat, clock, events, grants, policy, providers, reload, requests, sessions, sign_ins, status, targets, terminals,
    users,
};
use super::{ControlContext, evidence, files, log, routes, runs, verification};
use crate::base::tls::ServerTlsCell;

/// Maximum size of a body in bytes; bodies are a few fields.
const MAX_BODY_BYTES: usize = 64 << 10;
/// Time that a stop waits for answers in progress.
const STOP_GRACE: Duration = Duration::from_millis(500);

/// Error of a control API that cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another gate listens there.
    #[error("another gate listens on {socket}; stop it, or set control.socket (or state_dir) to another path", socket = socket.display())]
    InUse {
        /// Path of the Unix socket.
        socket: PathBuf,
    },
    /// The Unix socket cannot be created.
    #[error("cannot create the control socket {socket}", socket = socket.display())]
    Unix {
        /// Path of the Unix socket.
        socket: PathBuf,
        /// Reason from the operating system.
        source: io::Error,
    },
    /// The TCP address cannot be bound.
    #[error("cannot listen on {address} for the control API")]
    Tcp {
        /// TCP address from the configuration.
        address: SocketAddr,
        /// Reason from the operating system.
        source: io::Error,
    },
}

/// Bound sockets of the control API, not yet served. Dropping them removes the Unix socket's file.
#[derive(Debug)]
pub struct Listeners {
    unix: UnixListener,
    tcp: Option<TcpFront>,
    /// Address for browsers on this machine, without TLS.
    local: Option<TcpFront>,
    _file: SocketFile,
}

#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listeners {
    /// Binds the Unix socket (mode 0600) and, if configured, a TCP address, with TLS if a certificate is given. The socket of a
    /// crashed gate is replaced.
    pub async fn bind(socket: &Path, listen: Option<SocketAddr>, tls: Option<ServerTlsCell>) -> Result<Self, ListenError> {
        if tokio::net::UnixStream::connect(socket).await.is_ok() {
            return Err(ListenError::InUse {
                socket: socket.to_owned(),
            });
        }
        let unix = bind_unix(socket).map_err(|source| ListenError::Unix {
            socket: socket.to_owned(),
            source,
        })?;
        let file = SocketFile(socket.to_owned());
        let tcp = match listen {
            None => None,
            Some(address) => Some(bind_tcp(address, tls).await?),
        };
        Ok(Self {
            unix,
            tcp,
            local: None,
            _file: file,
        })
    }

    /// Binds a second TCP address, without TLS: a loopback address for the browsers of this machine.
    pub async fn bind_local(self, address: SocketAddr) -> Result<Self, ListenError> {
        let local = Some(bind_tcp(address, None).await?);
        Ok(Self { local, ..self })
    }

    /// Returns the bound TCP address, if any.
    #[must_use]
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().and_then(|front| front.tcp.local_addr().ok())
    }

    /// Returns the bound address for the browsers of this machine, if any.
    #[must_use]
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.local.as_ref().and_then(|front| front.tcp.local_addr().ok())
    }
}

async fn bind_tcp(address: SocketAddr, tls: Option<ServerTlsCell>) -> Result<TcpFront, ListenError> {
    let tcp = TcpListener::bind(address).await;
    let tcp = tcp.map_err(|source| ListenError::Tcp { address, source })?;
    Ok(TcpFront { tcp, tls })
}

/// Binds the Unix socket under a temporary name and renames it: once it has its final name, only its owner can connect.
fn bind_unix(socket: &Path) -> io::Result<UnixListener> {
    let mut beside = socket.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&beside)?;
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&beside, socket)?;
    Ok(listener)
}

/// Serves the API, and beside it `pages` (for every other path), until `stop` completes.
pub async fn serve(
    listeners: Listeners,
    gate: Arc<ControlContext>,
    pages: Option<Router>,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let Listeners { unix, tcp, local, _file } = listeners;
    let most = gate.places;
    let (stopping, stopped) = watch::channel(false);
    let (strangers, clock) = (gate.strangers.clone(), gate.clock.clone());
    let router = router(gate, pages, stopped.clone());
    let served = ServedListener {
        service: TowerToHyperService::new(router),
        stopped,
        clock,
    };
    let unix = listen::answer_unix(unix, most, served.clone());
    let on_tcp = |front: Option<TcpFront>| {
        let (strangers, served) = (strangers.clone(), served.clone());
        async move {
            if let Some(front) = front {
                listen::answer_tcp(front, strangers, served).await;
            }
        }
    };
    let (tcp, local) = (on_tcp(tcp), on_tcp(local));
    let end = async {
        stop.await;
        stopping.send_replace(true);
        tokio::time::sleep(STOP_GRACE).await;
    };
    tokio::select! {
        _ = async { tokio::join!(unix, tcp, local) } => {}
        () = end => {}
    }
    Ok(())
}

/// Returns the document that describes the API, as `GET /v1/openapi.json` serves it.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    let mut document = authenticated().merge(open()).merge(of_browsers()).split_for_parts().1;
    openapi::complete(&mut document);
    document
}

/// Returns the calls that need a proof of the caller.
fn authenticated() -> OpenApiRouter<Arc<ControlContext>> {
    OpenApiRouter::with_openapi(ApiDocument::openapi())
        .routes(routes!(routes::me))
        .routes(routes!(targets::list))
        .routes(routes!(targets::status))
        .routes(routes!(requests::list, requests::submit))
        .routes(routes!(requests::enter))
        .routes(routes!(requests::briefing))
        .routes(routes!(policy::explain))
        .routes(routes!(requests::show))
        .routes(routes!(requests::approve))
        .routes(routes!(requests::reject))
        .routes(routes!(requests::withdraw))
        .routes(routes!(requests::review))
        .routes(routes!(grants::list, grants::create))
        .routes(routes!(grants::show))
        .routes(routes!(grants::login))
        .routes(routes!(grants::line))
        .routes(routes!(grants::extend))
        .routes(routes!(grants::shorten))
        .routes(routes!(grants::release))
        .routes(routes!(grants::revoke))
        .routes(routes!(sessions::list))
        .routes(routes!(sessions::kill))
        .routes(routes!(sign_ins::list, sign_ins::create))
        .routes(routes!(sign_ins::end))
        .routes(routes!(terminals::let_in))
        .routes(routes!(users::list, users::create))
        .routes(routes!(users::rotate))
        .routes(routes!(users::disable))
        .routes(routes!(users::enable))
        .routes(routes!(users::groups))
        .routes(routes!(events::stream))
        .routes(routes!(log::records))
        .routes(routes!(status::gate))
        .routes(routes!(status::log))
        .routes(routes!(audit::checkpoint))
        .routes(routes!(verification::verification))
        .routes(routes!(audit::rotate_key))
        .routes(routes!(evidence::report))
        .routes(routes!(runs::report))
        .routes(routes!(runs::diff))
        .routes(routes!(files::files))
        .routes(routes!(clock::show))
        .routes(routes!(clock::set_right))
        .routes(routes!(reload::reload))
        .routes(routes!(openapi::openapi))
}

/// Returns the calls that everybody may make, or that prove themselves.
fn open() -> OpenApiRouter<Arc<ControlContext>> {
    OpenApiRouter::new()
        .routes(routes!(health))
        .routes(routes!(alive))
        .routes(routes!(ready))
        .routes(routes!(metrics))
        .routes(routes!(providers::providers))
        .routes(routes!(providers::device))
        .routes(routes!(providers::finish))
        .routes(routes!(terminals::finish))
        .routes(routes!(chat::slack))
}

/// Returns the calls of browsers that sign in with a provider, for whoever makes pages of their problems.
fn of_browsers() -> OpenApiRouter<Arc<ControlContext>> {
    OpenApiRouter::new()
        .routes(routes!(providers::begin))
        .routes(routes!(providers::callback))
}

/// Returns the ways to a provider and back.
pub fn sign_in_ways() -> Router<Arc<ControlContext>> {
    of_browsers().split_for_parts().0
}

/// Returns the whole API, with `pages` for every path that is not its own.
pub(super) fn router(gate: Arc<ControlContext>, pages: Option<Router>, stopped: watch::Receiver<bool>) -> Router {
    let written = RenderedDocument(document().to_json().unwrap_or_default().into());
    let places = gate.places;
    let api = authenticated()
        .route_layer(middleware::from_fn_with_state(Arc::clone(&gate), authenticate::settle))
        .merge(open())
        .split_for_parts()
        .0;
    let whole = match pages {
        Some(pages) => api.fallback_service(pages),
        None => api
            .merge(sign_in_ways())
            .fallback(|uri: Uri| async move { ApiError::NoSuchPath(uri.path().to_owned()) }),
    };
    whole
        .method_not_allowed_fallback(|method: Method| async move { ApiError::Method(method.to_string()) })
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(Extension(LongPollLimiter::new(stopped, places)))
        .layer(Extension(written))
        .with_state(gate)
}

#[utoipa::path(get, path = "/healthz", tag = "health", summary = "Liveness of the control API", responses((status = 200, description = "It does", content_type = "text/plain", body = String)))]
async fn health() -> &'static str {
    "ok\n"
}

#[utoipa::path(get, path = "/livez", tag = "health", summary = "Liveness of the threads that carry sessions", responses((status = 200, description = "It does", content_type = "text/plain", body = String), (status = 503, description = "The part that makes no progress", content_type = "text/plain", body = String)))]
async fn alive(State(gate): State<Arc<ControlContext>>) -> Response {
    probe("alive", (gate.alive)())
}

#[utoipa::path(get, path = "/readyz", tag = "health", summary = "Readiness for sessions", responses((status = 200, description = "It does", content_type = "text/plain", body = String), (status = 503, description = "The reason", content_type = "text/plain", body = String)))]
async fn ready(State(gate): State<Arc<ControlContext>>) -> Response {
    probe("ready", (gate.ready)())
}

fn probe(state: &str, checked: Result<(), String>) -> Response {
    match checked {
        Ok(()) => format!("{state}\n").into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not {state}: {reason}\n")).into_response(),
    }
}

#[utoipa::path(get, path = "/metrics", tag = "health", summary = "Metrics", responses((status = 200, description = "OpenMetrics text", content_type = "application/openmetrics-text", body = String)))]
async fn metrics(State(gate): State<Arc<ControlContext>>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], (gate.metrics)()).into_response()
}
