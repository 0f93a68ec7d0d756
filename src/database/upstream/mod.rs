//! Authenticated connection to the target, ready for the client's first query; it requires a [`Permit`].
//!
//! This module does not relay, and does not depend on clients: the settings that a client may send are checked before.
//!
//! INVARIANT: there is no connection without a permit for that target; user and database come only from the target or the grant's
//! own account; the target's password is sent only by methods that the operator allowed, and over TLS as the mode requires,
//! without fallback; all steps together take at most one `connect_timeout`; no message of a hostile target causes a panic, an
//! endless wait or more than [`MOST_BYTES`] of memory.

mod dial;
mod error;
mod liveness;
mod login;
mod target;

#[cfg(test)]
mod tests;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::base::tls::{ClientTls, Transport};
use crate::model::grant::Permit;

use dial::ConnectDeadline;
use error::ServerRejection;
use login::LoginError;

pub use error::ConnectError;
pub use target::{ApplicationName, AuthMethod, GrantAccount, KeyCache, Target, TargetAccount};

/// Maximum number of bytes that a target may send between the login and its first ReadyForQuery.
pub const MOST_BYTES: usize = 1 << 20;

/// Settings to send to the target with the startup packet, already checked. Entries named `user`, `database` or like a protocol
/// extension (`_pq_.`) are not sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StartupParameters(pub Vec<(String, String)>);

/// Connection that has had its first ReadyForQuery.
#[derive(Debug)]
pub struct Connected {
    /// Open connection.
    pub transport: Transport,
    /// Settings that the target reported (ParameterStatus), in order.
    pub parameters: Vec<(String, String)>,
    /// Key for cancel requests. It is not for the client, which gets one of the gate's own.
    pub backend: Option<BackendKey>,
    /// NoticeResponses that came with the login, complete messages, to be forwarded unchanged.
    pub notices: Vec<Bytes>,
    /// Transaction status of ReadyForQuery.
    pub status: u8,
    /// Bytes after ReadyForQuery that were already read, to be forwarded before any others.
    pub leftover: BytesMut,
}

/// Key by which a CancelRequest identifies a session (BackendKeyData).
#[derive(Clone, PartialEq, Eq)]
pub struct BackendKey {
    /// Process id of the backend.
    pub pid: i32,
    /// Secret of the backend.
    pub secret: Vec<u8>,
}

impl std::fmt::Debug for BackendKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BackendKey {{ pid: {}, secret: … }}", self.pid)
    }
}

/// Connects to `target` and logs in as `account`, within the target's `connect_timeout`.
///
/// The first connections to a target that does not know one of the gate's own settings (see the module `liveness`) are tried again
/// without it.
pub async fn connect(
    permit: &Permit,
    target: &Target,
    account: &TargetAccount,
    parameters: &StartupParameters,
) -> Result<Connected, ConnectError> {
    if permit.target() != &target.name {
        return Err(ConnectError::NotPermitted {
            permitted: permit.target().clone(),
            target: target.name.clone(),
        });
    }
    if !account.serves(permit) {
        return Err(ConnectError::OtherGrant(account.user.clone()));
    }
    let mut wanted = login::wanted(permit, target, parameters);
    for (name, value) in &mut wanted {
        if name.eq_ignore_ascii_case("search_path") {
            *value = account.path(value);
        }
    }
    let mut deadline = ConnectDeadline::new(target.connect_timeout);
    loop {
        let transport = dial::dial(target, &mut deadline).await?;
        let liveness = target.liveness.worn(target.check_interval);
        let settings = login::startup_settings(target, account, &wanted, &liveness);
        let attempt = login::login(transport, target, account, &settings);
        let rejection = match deadline.within("login", attempt).await {
            Ok(connected) => return Ok(connected),
            Err(LoginError::Failed(failed)) => return Err(failed),
            Err(LoginError::Rejected(rejection)) => rejection,
        };
        if !target.liveness.take_off(&target.name, &liveness, &wanted, &rejection) {
            return Err(explain(rejection, &parameters.0));
        }
    }
}

/// Opens the connection up to and including TLS, within the target's `connect_timeout`; the caller sends the startup packet.
pub async fn dial(target: &Target) -> Result<Transport, ConnectError> {
    dial::dial(target, &mut ConnectDeadline::new(target.connect_timeout)).await
}

/// Begins TLS on a connection to a server that nothing was sent to yet.
pub async fn start_tls(settings: &ClientTls, host: &str, tcp: TcpStream) -> Result<Transport, ConnectError> {
    dial::start_tls(settings, host, tcp).await
}

/// Asks the target to cancel the backend's statement; over TLS if its sessions use TLS. Returns when the target has closed the
/// connection, which it does after forwarding the signal; within the target's `connect_timeout`.
pub async fn cancel(target: &Target, key: &BackendKey) -> Result<(), ConnectError> {
    /// Request code (protocol: "CancelRequest").
    const CANCEL_REQUEST: u32 = 80_877_102;
    let mut deadline = ConnectDeadline::new(target.connect_timeout);
    let mut transport = dial::dial(target, &mut deadline).await?;
    let mut request = BytesMut::with_capacity(12 + key.secret.len());
    request.put_u32(u32::try_from(12 + key.secret.len()).map_err(|_| ConnectError::Protocol("a cancel key"))?);
    request.put_u32(CANCEL_REQUEST);
    request.put_i32(key.pid);
    request.put_slice(&key.secret);
    let send = async {
        let io = |source| ConnectError::Io { step: "cancel", source };
        transport.write_all(&request).await.map_err(io)?;
        transport.flush().await.map_err(io)?;
        // An end without TLS's close_notify, and a reset, are regular ends as well.
        let mut nothing = [0; 64];
        while matches!(transport.read(&mut nothing).await, Ok(read) if read > 0) {}
        Ok::<(), ConnectError>(())
    };
    deadline.within("cancel", send).await
}

fn is_preload(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    matches!(name.as_str(), "local_preload_libraries" | "session_preload_libraries")
}

/// Classifies the target's refusal. If it is about a setting that the client asked for, the client gets it unchanged.
fn explain(rejection: ServerRejection, asked: &[(String, String)]) -> ConnectError {
    let message = rejection.message.to_ascii_lowercase();
    let named = asked
        .iter()
        .any(|(name, _)| !name.is_empty() && message.contains(&name.to_ascii_lowercase()));
    let about_settings = match rejection.code.as_str() {
        // invalid_parameter_value, undefined_object, cant_change_runtime_param, invalid_name: at this point only about settings.
        "22023" | "42704" | "55P02" | "42602" => named || (rejection.authenticated && !asked.is_empty()),
        // insufficient_privilege, feature_not_supported; protocol_violation is pgbouncer's code.
        "42501" | "0A000" | "08P01" => named,
        // undefined_file: a library to be loaded, named by the setting's value.
        "58P01" => rejection.authenticated && asked.iter().any(|(name, _)| is_preload(name)),
        _ => false,
    };
    if about_settings {
        ConnectError::Startup {
            frame: rejection.frame,
            code: rejection.code,
            message: rejection.message,
        }
    } else {
        ConnectError::Refused {
            code: rejection.code,
            message: rejection.message,
            routine: rejection.routine,
        }
    }
}
