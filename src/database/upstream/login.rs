//! Login at the target, from the startup packet to the first ReadyForQuery, with the answers to authentication requests.
//!
//! This module does not open connections and does not judge refusals.
//!
//! INVARIANT: user and database are the target's, or the grant's own; only allowed methods are answered; once a SCRAM exchange has begun, a login
//! succeeds only after the target's signature was verified; messages are read completely but only up to limits, and an
//! unexpected message ends the login.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, Bytes, BytesMut};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zeroize::Zeroizing;

use super::error::{ConnectError, ServerRejection};
use super::target::{ApplicationName, AuthMethod, Target, TargetAccount};
use super::{BackendKey, Connected, MOST_BYTES, StartupParameters};
use crate::base::tls::{Transport, end_point_hash};
use crate::base::visible;
use crate::database::rights::MAX_NAME_BYTES;
use crate::model::grant::Permit;
use crate::protocol::scram::{self, Answered, Challenged, ClientExchange, ClientKeys, Mechanism};

/// Maximum length of a message before authentication, in bytes: libpq accepts errors of up to 30000 bytes and less of others
/// (fe-connect.c).
const MAX_LOGIN_MESSAGE_BYTES: usize = 30_000;
/// Maximum length of a routine's name in bytes: no name in PostgreSQL's C code is longer.
const MAX_ROUTINE_BYTES: usize = 63;
const STEP: &str = "login";

/// Failure of a login.
pub(super) enum LoginError {
    /// The server refused with an ErrorResponse.
    Rejected(ServerRejection),
    /// Any other failure.
    Failed(ConnectError),
}

impl From<ConnectError> for LoginError {
    fn from(failed: ConnectError) -> Self {
        Self::Failed(failed)
    }
}

/// Returns the settings to ask for, with `application_name` as the target is configured.
pub(super) fn wanted(permit: &Permit, target: &Target, parameters: &StartupParameters) -> Vec<(String, String)> {
    let is_name = |name: &str| name.eq_ignore_ascii_case("application_name");
    let mut wanted: Vec<(String, String)> = parameters
        .0
        .iter()
        // An empty name would end the packet early.
        .filter(|(name, _)| !(name.is_empty() || name == "user" || name == "database" || name.starts_with("_pq_.")))
        .cloned()
        .collect();
    if target.application_name == ApplicationName::Prefix {
        let given = wanted.iter().find(|(name, _)| is_name(name)).map(|(_, value)| value.as_str());
        let mut value = given.map_or_else(|| permit.grant().to_string(), |given| format!("{}/{given}", permit.grant()));
        // The server would cut it at the same place, and notify the client of it (42622).
        value.truncate(value.floor_char_boundary(MAX_NAME_BYTES));
        wanted.retain(|(name, _)| !is_name(name));
        wanted.push(("application_name".to_owned(), value));
    }
    wanted
}

/// Returns the contents of the startup packet. The gate's own settings replace requested ones of the same name.
///
/// If the profile allows creating objects, the session starts in the profile's role. Then the role owns the objects, and `RESET
/// ROLE` and `DISCARD ALL` return to it (measured on 13 to 18: a reset restores the settings of the startup packet).
pub(super) fn startup_settings<'a>(
    target: &'a Target,
    account: &'a TargetAccount,
    wanted: &'a [(String, String)],
    liveness: &'a [(&'static str, String)],
) -> Vec<(&'a str, &'a str)> {
    let database = account.own_database().map_or(target.database.as_str(), AsRef::as_ref);
    let mut settings = vec![("user", account.user.as_str()), ("database", database)];
    let role = account.grant.as_ref().and_then(|of| of.role.as_deref());
    let ours = |name: &str| {
        (role.is_some() && name.eq_ignore_ascii_case("role")) || liveness.iter().any(|(belt, _)| belt.eq_ignore_ascii_case(name))
    };
    settings.extend(
        wanted
            .iter()
            .filter(|(name, _)| !ours(name))
            .map(|(name, value)| (name.as_str(), value.as_str())),
    );
    settings.extend(liveness.iter().map(|(name, value)| (*name, value.as_str())));
    settings.extend(role.map(|role| ("role", role)));
    settings
}

pub(super) async fn login(
    transport: Transport,
    target: &Target,
    account: &TargetAccount,
    settings: &[(&str, &str)],
) -> Result<Connected, LoginError> {
    let mut out = BytesMut::new();
    frontend::startup_message(settings.iter().copied(), &mut out)
        .map_err(|_| ConnectError::Protocol("a startup parameter with a NUL in it (by us)"))?;
    let mut line = LoginConnection {
        target,
        account,
        transport,
        buffer: BytesMut::with_capacity(4096),
        read: 0,
    };
    line.send(&mut out).await?;

    let mut authentication = AuthenticationState::Begun;
    while !matches!(authentication, AuthenticationState::Done) {
        let frame = line.frame(MAX_LOGIN_MESSAGE_BYTES).await?;
        match frame.first() {
            Some(b'R') => {
                let request = read_request(&frame)?;
                authentication = authentication.advance(request, &line, &mut out).await?;
                line.send(&mut out).await?;
            }
            Some(b'E') => return Err(LoginError::Rejected(rejection(frame, false))),
            // The sender is not authenticated yet, so the notice is ignored.
            Some(b'N') => {}
            _ => return Err(ConnectError::Protocol("an unexpected message during the authentication").into()),
        }
    }
    settle(line).await
}

/// Reads the messages between AuthenticationOk and ReadyForQuery.
async fn settle(mut line: LoginConnection<'_>) -> Result<Connected, LoginError> {
    let (mut parameters, mut notices, mut backend) = (Vec::new(), Vec::new(), None);
    loop {
        let frame = line.frame(MOST_BYTES).await?;
        let mut body = frame.get(5..).unwrap_or_default();
        match frame.first() {
            Some(b'S') => parameters.push((string(&mut body)?, string(&mut body)?)),
            Some(b'K') => {
                let pid = body
                    .try_get_i32()
                    .map_err(|_| ConnectError::Protocol("a key without a process id"))?;
                backend = Some(BackendKey {
                    pid,
                    secret: body.to_vec(),
                });
            }
            Some(b'N') => notices.push(frame),
            Some(b'E') => return Err(LoginError::Rejected(rejection(frame, true))),
            Some(b'Z') => {
                let &[status] = body else {
                    return Err(ConnectError::Protocol("a ReadyForQuery of a wrong length").into());
                };
                return Ok(Connected {
                    transport: line.transport,
                    parameters,
                    backend,
                    notices,
                    status,
                    leftover: line.buffer,
                });
            }
            _ => return Err(ConnectError::Protocol("an unexpected message before ReadyForQuery").into()),
        }
    }
}

/// Connection with the bytes that have been read from it but not processed.
struct LoginConnection<'a> {
    target: &'a Target,
    account: &'a TargetAccount,
    transport: Transport,
    buffer: BytesMut,
    /// Number of bytes processed as messages so far.
    read: usize,
}

impl<'a> LoginConnection<'a> {
    fn allows(&self, method: AuthMethod) -> Result<(), ConnectError> {
        if self.target.auth.contains(&method) {
            Ok(())
        } else {
            Err(ConnectError::NotAllowed(method.name()))
        }
    }

    fn password(&self) -> Result<&'a str, ConnectError> {
        let password = self.account.password.as_ref().ok_or(ConnectError::NoPassword)?;
        Ok(password.expose())
    }

    async fn send(&mut self, out: &mut BytesMut) -> Result<(), ConnectError> {
        if out.is_empty() {
            return Ok(());
        }
        self.transport.write_all(out).await.map_err(broken)?;
        self.transport.flush().await.map_err(broken)?;
        out.clear();
        Ok(())
    }

    /// Reads the next message completely: type, length, body.
    async fn frame(&mut self, longest: usize) -> Result<Bytes, ConnectError> {
        loop {
            if let Some(length) = self.length(longest)?
                && self.buffer.len() >= length
            {
                self.read = self.read.saturating_add(length);
                if self.read > MOST_BYTES {
                    return Err(ConnectError::Protocol("more than 1 MiB before ReadyForQuery"));
                }
                return Ok(self.buffer.split_to(length).freeze());
            }
            self.buffer.reserve(1024);
            let read = self.transport.read_buf(&mut self.buffer).await;
            match read {
                Ok(0) => return Err(ConnectError::Closed(STEP)),
                Ok(_) => {}
                // TLS that ended without close_notify.
                Err(failed) if failed.kind() == io::ErrorKind::UnexpectedEof => return Err(ConnectError::Closed(STEP)),
                Err(failed) => return Err(broken(failed)),
            }
        }
    }

    /// Returns the length of the first message, including its header, once the header is complete.
    fn length(&self, longest: usize) -> Result<Option<usize>, ConnectError> {
        let Some((kind, mut length)) = self.buffer.split_first().map(|(kind, rest)| (*kind, rest)) else {
            return Ok(None);
        };
        if !kind.is_ascii_alphabetic() {
            return Err(ConnectError::Protocol("not PostgreSQL's protocol"));
        }
        let Ok(length) = length.try_get_u32() else { return Ok(None) };
        usize::try_from(length)
            .ok()
            .filter(|length| (4..=longest).contains(length))
            .map(|length| Some(length + 1))
            .ok_or(ConnectError::Protocol("a message length out of bounds"))
    }
}

/// Authentication request of the server (protocol: "Authentication*").
#[derive(Clone, Copy)]
enum AuthenticationRequest<'a> {
    Ok,
    Password,
    Md5([u8; 4]),
    Sasl(&'a [u8]),
    SaslContinue(&'a [u8]),
    SaslFinal(&'a [u8]),
    Other(u32),
}

/// State of the authentication.
enum AuthenticationState {
    /// No request has arrived yet.
    Begun,
    /// A password was sent, in clear text or as MD5.
    Given,
    /// SCRAM: the client's first message was sent.
    Started(ClientExchange),
    /// SCRAM: the client's last message was sent.
    Answered(Answered),
    /// SCRAM: the server has proved that it knows the verifier.
    Verified,
    /// The login was accepted.
    Done,
}

impl AuthenticationState {
    /// Processes the next request and appends the answer to `out`.
    async fn advance(
        self,
        request: AuthenticationRequest<'_>,
        line: &LoginConnection<'_>,
        out: &mut BytesMut,
    ) -> Result<Self, ConnectError> {
        match (self, request) {
            (Self::Begun, AuthenticationRequest::Ok) => {
                line.allows(AuthMethod::Trust)?;
                Ok(Self::Done)
            }
            (Self::Given | Self::Verified, AuthenticationRequest::Ok) => Ok(Self::Done),
            (Self::Begun, AuthenticationRequest::Password) => {
                line.allows(AuthMethod::Password)?;
                if !line.transport.is_tls() {
                    return Err(ConnectError::CleartextWithoutTls);
                }
                give(line.password()?.as_bytes(), out)
            }
            (Self::Begun, AuthenticationRequest::Md5(salt)) => {
                line.allows(AuthMethod::Md5)?;
                let hash = md5_hash(line.account.user.as_bytes(), line.password()?.as_bytes(), salt);
                give(hash.as_bytes(), out)
            }
            (Self::Begun, AuthenticationRequest::Sasl(mechanisms)) => {
                line.allows(AuthMethod::ScramSha256)?;
                line.password()?;
                start_scram(mechanisms, &line.transport, out)
            }
            (Self::Started(exchange), AuthenticationRequest::SaslContinue(data)) => {
                let answered = answer(exchange.challenge(data)?, line).await?;
                frontend::sasl_response(&answered.message, out).map_err(unencodable)?;
                Ok(Self::Answered(answered))
            }
            (Self::Answered(answered), AuthenticationRequest::SaslFinal(data)) => {
                answered.verify(data)?;
                Ok(Self::Verified)
            }
            (Self::Started(_) | Self::Answered(_), AuthenticationRequest::Ok) => Err(ConnectError::Protocol(
                "the login ended before the server proved that it knows the password",
            )),
            (_, AuthenticationRequest::Other(code)) => Err(ConnectError::Unsupported(name_of(code))),
            _ => Err(ConnectError::Protocol("an authentication message out of turn")),
        }
    }
}

/// Returns the name that operators know for a method that is not supported (protocol: "Authentication*").
fn name_of(code: u32) -> &'static str {
    match code {
        2 => "Kerberos V5",
        6 => "SCM credential",
        7 | 8 => "GSSAPI",
        9 => "SSPI",
        _ => "an unknown kind of",
    }
}

fn give(password: &[u8], out: &mut BytesMut) -> Result<AuthenticationState, ConnectError> {
    frontend::password_message(password, out).map_err(unencodable)?;
    Ok(AuthenticationState::Given)
}

fn start_scram(mechanisms: &[u8], transport: &Transport, out: &mut BytesMut) -> Result<AuthenticationState, ConnectError> {
    // The list has names, each followed by NUL, and one more NUL after the last.
    let offered = |wanted: Mechanism| {
        mechanisms
            .split(|byte| *byte == 0)
            .any(|name| Mechanism::from_name(name) == Some(wanted))
    };
    let (plain, plus) = (offered(Mechanism::ScramSha256), offered(Mechanism::ScramSha256Plus));
    let end_point = transport.peer_certificate().and_then(end_point_hash);
    let nonce = nonce()?;
    let (mechanism, exchange) = match (&end_point, plus, plain) {
        (Some(end_point), true, _) => (Mechanism::ScramSha256Plus, scram::client_start(Some(end_point), &nonce)),
        // The client supports binding; the server can check whether it really made no offer.
        (Some(_), false, true) => (
            Mechanism::ScramSha256,
            scram::client_start(None, &nonce).binding_not_offered(),
        ),
        (None, _, true) => (Mechanism::ScramSha256, scram::client_start(None, &nonce)),
        (_, _, false) => {
            return Err(ConnectError::Unsupported("a SASL mechanism other than SCRAM-SHA-256"));
        }
    };
    frontend::sasl_initial_response(mechanism.name(), &exchange.first(), out).map_err(unencodable)?;
    Ok(AuthenticationState::Started(exchange))
}

/// Answers with the keys of the last login if salt and rounds are the same. Otherwise it derives new ones, which takes a
/// millisecond or more, on a thread for blocking work.
async fn answer(challenged: Challenged, line: &LoginConnection<'_>) -> Result<Answered, ConnectError> {
    let place = line.account.keys.place(&challenged.salt, challenged.iterations);
    let derive = async || {
        let password = Zeroizing::new(line.password()?.as_bytes().to_vec());
        let (salt, iterations) = (challenged.salt.clone(), challenged.iterations);
        tokio::task::spawn_blocking(move || ClientKeys::derive(&password, &salt, iterations))
            .await
            .map_err(|_| ConnectError::Internal("deriving keys"))
    };
    let keys = place.get_or_try_init(derive).await?;
    Ok(challenged.answer(keys))
}

fn nonce() -> Result<String, ConnectError> {
    // Same length as PostgreSQL's SCRAM_RAW_NONCE_LEN.
    let mut bytes = [0; 18];
    getrandom::fill(&mut bytes).map_err(|_| ConnectError::Internal("random bytes"))?;
    Ok(STANDARD.encode(bytes))
}

fn unencodable(_: io::Error) -> ConnectError {
    ConnectError::Internal("a login message with a NUL in it, or too long")
}

fn read_request(frame: &Bytes) -> Result<AuthenticationRequest<'_>, ConnectError> {
    let mut body = frame.get(5..).unwrap_or_default();
    let code = body
        .try_get_u32()
        .map_err(|_| ConnectError::Protocol("an authentication request without a code"))?;
    Ok(match code {
        0 => AuthenticationRequest::Ok,
        3 => AuthenticationRequest::Password,
        5 => AuthenticationRequest::Md5(
            body.try_into()
                .map_err(|_| ConnectError::Protocol("an MD5 salt of a wrong length"))?,
        ),
        10 => AuthenticationRequest::Sasl(body),
        11 => AuthenticationRequest::SaslContinue(body),
        12 => AuthenticationRequest::SaslFinal(body),
        other => AuthenticationRequest::Other(other),
    })
}

/// Reads the fields that matter here; a message that cannot be parsed is still a refusal.
fn rejection(frame: Bytes, authenticated: bool) -> ServerRejection {
    let (mut code, mut message, mut routine) = ("XX000".to_owned(), String::new(), None);
    let mut body = frame.get(5..).unwrap_or_default();
    while let Some((kind, rest)) = body.split_first() {
        body = rest;
        let Ok(value) = string(&mut body) else { break };
        match kind {
            b'C' if value.len() == 5 && value.bytes().all(|byte| byte.is_ascii_alphanumeric()) => code = value,
            // The text goes to a log: one line of limited length.
            b'M' => message = visible::start(&value, 500),
            b'R' if value.len() <= MAX_ROUTINE_BYTES => routine = Some(value),
            _ => {}
        }
    }
    ServerRejection {
        frame,
        code,
        message,
        routine,
        authenticated,
    }
}

/// Takes a NUL-terminated text off the front. Some servers report names in another encoding than UTF-8 before `client_encoding`
/// is agreed on.
fn string(body: &mut &[u8]) -> Result<String, ConnectError> {
    let end = body
        .iter()
        .position(|byte| *byte == 0)
        .ok_or(ConnectError::Protocol("a string without a terminator"))?;
    let (text, rest) = body.split_at(end);
    *body = rest.get(1..).unwrap_or_default();
    Ok(String::from_utf8_lossy(text).into_owned())
}

fn broken(source: io::Error) -> ConnectError {
    ConnectError::Io { step: STEP, source }
}
