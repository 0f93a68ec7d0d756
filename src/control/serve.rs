//! Where the control API listens, and who may call it.
//!
//! It knows no use-case. Everything under `/v1` needs the admin token, on the Unix socket too; health and metrics do not.

use std::future::{Future, IntoFuture};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;

use super::problem::ApiError;
use super::{Gate, log, routes};

/// Bodies are a few fields; nothing here is ever larger. Bytes.
const LARGEST_BODY: usize = 64 << 10;
/// How long answers under way are waited for when the gate stops.
const GRACE: Duration = Duration::from_millis(500);

/// Why the control API does not listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another gate listens there.
    #[error("another gate listens on {socket}: stop it, or set control.socket (or state_dir) to another path", socket = socket.display())]
    InUse {
        /// The Unix socket.
        socket: PathBuf,
    },
    /// The Unix socket cannot be made.
    #[error("the control socket {socket} cannot be made", socket = socket.display())]
    Unix {
        /// The Unix socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The TCP address cannot be listened on.
    #[error("the control API cannot listen on {address}")]
    Tcp {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// The sockets of the control API, bound and not yet served. Dropping them removes the Unix socket's file.
#[derive(Debug)]
pub struct Listeners {
    unix: UnixListener,
    tcp: Option<TcpListener>,
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
    /// Binds the Unix socket (mode 0600) and, if wished, a TCP address. A socket left behind by a gate that died is replaced.
    pub async fn bind(socket: &Path, listen: Option<SocketAddr>) -> Result<Self, ListenError> {
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
            Some(address) => Some(
                TcpListener::bind(address)
                    .await
                    .map_err(|source| ListenError::Tcp { address, source })?,
            ),
        };
        Ok(Self { unix, tcp, _file: file })
    }

    /// The TCP address bound, if any.
    #[must_use]
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().and_then(|tcp| tcp.local_addr().ok())
    }
}

/// Under another name first: from the moment the socket has its own name, nobody but its owner can connect to it.
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

/// Serves the API until `stop` is done.
pub async fn serve(listeners: Listeners, gate: Arc<Gate>, stop: impl Future<Output = ()>) -> io::Result<()> {
    let Listeners { unix, tcp, _file } = listeners;
    let (stopping, stopped) = watch::channel(false);
    let router = router(gate, stopped.clone());
    let unix = axum::serve(unix, router.clone()).with_graceful_shutdown(told(stopped.clone()));
    let tcp = async move {
        match tcp {
            Some(tcp) => axum::serve(tcp, router).with_graceful_shutdown(told(stopped)).await,
            None => Ok(()),
        }
    };
    let served = async { tokio::try_join!(unix.into_future(), tcp).map(drop) };
    let end = async {
        stop.await;
        stopping.send_replace(true);
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        result = served => result,
        () = end => Ok(()),
    }
}

async fn told(mut stopped: watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// The whole API.
pub(super) fn router(gate: Arc<Gate>, stopped: watch::Receiver<bool>) -> Router {
    let following = log::Stopped(stopped);
    let v1 = Router::new()
        .route("/v1/grants", get(routes::list).post(routes::create))
        .route("/v1/grants/{id}", get(routes::show))
        .route("/v1/grants/{id}/extend", post(routes::extend))
        .route("/v1/grants/{id}/shorten", post(routes::shorten))
        .route("/v1/grants/{id}/revoke", post(routes::revoke))
        .route("/v1/sessions", get(routes::sessions))
        .route("/v1/sessions/{id}/kill", post(routes::kill))
        .route("/v1/log", get(log::records))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&gate), proved));
    Router::new()
        .merge(v1)
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .fallback(|uri: Uri| async move { ApiError::NoSuchPath(uri.path().to_owned()) })
        .method_not_allowed_fallback(|method: Method| async move { ApiError::Method(method.to_string()) })
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(axum::Extension(following))
        .with_state(gate)
}

async fn proved(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let authorization = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    if gate.token.proved_by(authorization) {
        next.run(request).await
    } else {
        ApiError::Unauthorized.into_response()
    }
}

async fn ready(State(gate): State<Arc<Gate>>) -> Response {
    match (gate.ready)() {
        Ok(()) => "ready\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")).into_response(),
    }
}

async fn metrics(State(gate): State<Arc<Gate>>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], (gate.metrics)()).into_response()
}
