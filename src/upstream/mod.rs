//! An authenticated connection to the target, ready for the client's first query; demands a [`Permit`].
//!
//! It does not relay, and does not know clients: what a client may set is decided before it comes here. The laws it keeps: no
//! connection without a permit for that target; user and database come from the target or the grant's own account only; the target's password is
//! answered only in ways the operator allowed, and over TLS as the mode says, with no falling back; all of it within one
//! `connect_timeout`; nothing a hostile target sends makes it panic, wait for ever or hold more than [`MOST_BYTES`].

mod account;
mod auth;
mod belts;
mod dial;
mod error;
mod login;
mod target;

#[cfg(test)]
mod tests;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::grant::Permit;
use crate::tls::Transport;

use dial::Deadline;
use login::{LoginError, Rejection};

pub use account::{Account, MadeKeys};
pub use error::ConnectError;
pub use target::{ApplicationName, AuthMethod, AuthMethods, Target, UnknownMethod};

/// The most bytes a target may send between the login and its first ReadyForQuery.
pub const MOST_BYTES: usize = 1 << 20;

/// Settings to send to the target with the startup packet, already allowed. What is here under the name of `user`,
/// `database` or a protocol extension (`_pq_.`) is not sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StartupParameters(pub Vec<(String, String)>);

/// A connection that has had its first ReadyForQuery.
#[derive(Debug)]
pub struct Connected {
    /// The connection.
    pub transport: Transport,
    /// What the target reported (ParameterStatus), in order.
    pub parameters: Vec<(String, String)>,
    /// The key to cancel with. Not for the client: it gets one of ours.
    pub backend: Option<BackendKey>,
    /// NoticeResponses that came with the login, whole messages, to be passed on as they are.
    pub notices: Vec<Bytes>,
    /// The transaction status of ReadyForQuery.
    pub status: u8,
    /// What came behind ReadyForQuery: read already, so to be passed on before anything else.
    pub leftover: BytesMut,
}

/// What a CancelRequest names a session by (BackendKeyData).
#[derive(Clone, PartialEq, Eq)]
pub struct BackendKey {
    /// Process id of the backend.
    pub pid: i32,
    /// Its secret.
    pub secret: Vec<u8>,
}

impl std::fmt::Debug for BackendKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BackendKey {{ pid: {}, secret: … }}", self.pid)
    }
}

/// Connects to `target` and logs in as `account`, within the target's `connect_timeout`.
///
/// The first connections to a target that does not know one of our own settings (see `belts`) are tried once more without.
pub async fn connect(
    permit: &Permit,
    target: &Target,
    account: &Account,
    parameters: &StartupParameters,
) -> Result<Connected, ConnectError> {
    if permit.target() != &target.name {
        return Err(ConnectError::NotPermitted {
            permitted: permit.target().clone(),
            target: target.name.clone(),
        });
    }
    if !account.serves(permit) {
        return Err(ConnectError::OtherGrant {
            user: account.user.clone(),
        });
    }
    let mut wanted = login::wanted(permit, target, parameters);
    for (name, value) in &mut wanted {
        if name.eq_ignore_ascii_case("search_path") {
            *value = account.path(value);
        }
    }
    let mut deadline = Deadline::new(target.connect_timeout);
    loop {
        let transport = dial::dial(target, &mut deadline).await?;
        let belts = target.belts.worn(target.check_interval);
        let settings = login::startup_settings(target, account, &wanted, &belts);
        let attempt = login::login(transport, login::By { target, account }, &settings);
        let rejection = match deadline.within("login", attempt).await {
            Ok(connected) => return Ok(connected),
            Err(LoginError::Failed(failed)) => return Err(failed),
            Err(LoginError::Rejected(rejection)) => rejection,
        };
        if !target.belts.take_off(&target.name, &belts, &wanted, &rejection) {
            return Err(explain(rejection, &parameters.0));
        }
    }
}

/// Opens the connection as far as TLS, within the target's `connect_timeout`; the startup packet is the caller's.
pub async fn dial(target: &Target) -> Result<Transport, ConnectError> {
    dial::dial(target, &mut Deadline::new(target.connect_timeout)).await
}

/// Asks the target to cancel what the backend is running; over TLS as its sessions are. Done when the target has closed the
/// connection, which is when it has passed the signal on; within the target's `connect_timeout`.
pub async fn cancel(target: &Target, key: &BackendKey) -> Result<(), ConnectError> {
    /// Protocol: "CancelRequest".
    const CANCEL_REQUEST: u32 = 80_877_102;
    let mut deadline = Deadline::new(target.connect_timeout);
    let mut transport = dial::dial(target, &mut deadline).await?;
    let mut request = BytesMut::with_capacity(12 + key.secret.len());
    request.put_u32(u32::try_from(12 + key.secret.len()).map_err(|_| ConnectError::Protocol { what: "a cancel key" })?);
    request.put_u32(CANCEL_REQUEST);
    request.put_i32(key.pid);
    request.put_slice(&key.secret);
    let send = async {
        let io = |source| ConnectError::Io { step: "cancel", source };
        transport.write_all(&request).await.map_err(io)?;
        transport.flush().await.map_err(io)?;
        // An end without TLS's goodbye, and a reset, are how it ends as well.
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

/// Whether the target's refusal is about something the client asked for, so that the client should read it as it is.
fn explain(rejection: Rejection, asked: &[(String, String)]) -> ConnectError {
    let message = rejection.message.to_ascii_lowercase();
    let named = asked
        .iter()
        .any(|(name, _)| !name.is_empty() && message.contains(&name.to_ascii_lowercase()));
    let about_settings = match rejection.code.as_str() {
        // invalid_parameter_value, undefined_object, cant_change_runtime_param, invalid_name: from settings only, at this point.
        "22023" | "42704" | "55P02" | "42602" => named || (rejection.authenticated && !asked.is_empty()),
        // insufficient_privilege, feature_not_supported; protocol_violation is what pgbouncer says.
        "42501" | "0A000" | "08P01" => named,
        // undefined_file: a library to be loaded, called by the setting's value.
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
