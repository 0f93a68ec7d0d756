//! Answers to the target's authentication requests.
//!
//! This module does not read messages from the connection.
//!
//! INVARIANT: only allowed methods are answered; once a SCRAM exchange has begun, a login succeeds only after the target's
//! signature was verified.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::message::frontend;
use zeroize::Zeroizing;

use super::account::TargetAccount;
use super::auth_method::AuthMethod;
use super::error::ConnectError;
use super::target::Target;
use crate::base::tls::{Transport, end_point_hash};
use crate::protocol::scram::{self, Answered, Challenged, ClientExchange, ClientKeys, Mechanism};

/// Authentication request of the server (protocol: "Authentication*").
#[derive(Clone, Copy)]
pub(super) enum AuthenticationRequest<'a> {
    Ok,
    Password,
    Md5([u8; 4]),
    Sasl(&'a [u8]),
    SaslContinue(&'a [u8]),
    SaslFinal(&'a [u8]),
    Other(u32),
}

/// Target and account of a login.
#[derive(Clone, Copy)]
pub(super) struct LoginIdentity<'a> {
    pub(super) target: &'a Target,
    pub(super) account: &'a TargetAccount,
}

/// State of the authentication.
pub(super) enum AuthenticationState {
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
    pub(super) async fn advance(
        self,
        request: AuthenticationRequest<'_>,
        by: LoginIdentity<'_>,
        transport: &Transport,
        out: &mut BytesMut,
    ) -> Result<Self, ConnectError> {
        match (self, request) {
            (Self::Begun, AuthenticationRequest::Ok) => {
                allowed(by, AuthMethod::Trust)?;
                Ok(Self::Done)
            }
            (Self::Given | Self::Verified, AuthenticationRequest::Ok) => Ok(Self::Done),
            (Self::Begun, AuthenticationRequest::Password) => {
                allowed(by, AuthMethod::Password)?;
                if !transport.is_tls() {
                    return Err(ConnectError::CleartextWithoutTls);
                }
                give(password(by)?.as_bytes(), out)
            }
            (Self::Begun, AuthenticationRequest::Md5(salt)) => {
                allowed(by, AuthMethod::Md5)?;
                let hash = md5_hash(by.account.user.as_bytes(), password(by)?.as_bytes(), salt);
                give(hash.as_bytes(), out)
            }
            (Self::Begun, AuthenticationRequest::Sasl(mechanisms)) => {
                allowed(by, AuthMethod::ScramSha256)?;
                password(by)?;
                start_scram(mechanisms, transport, out)
            }
            (Self::Started(exchange), AuthenticationRequest::SaslContinue(data)) => {
                let answered = answer(exchange.challenge(data)?, by).await?;
                frontend::sasl_response(&answered.message, out).map_err(unencodable)?;
                Ok(Self::Answered(answered))
            }
            (Self::Answered(answered), AuthenticationRequest::SaslFinal(data)) => {
                answered.verify(data)?;
                Ok(Self::Verified)
            }
            (Self::Started(_) | Self::Answered(_), AuthenticationRequest::Ok) => Err(ConnectError::Protocol {
                what: "the login ended before the server proved that it knows the password",
            }),
            (_, AuthenticationRequest::Other(code)) => Err(ConnectError::Unsupported { what: name_of(code) }),
            _ => Err(ConnectError::Protocol {
                what: "an authentication message out of turn",
            }),
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

fn allowed(by: LoginIdentity<'_>, method: AuthMethod) -> Result<(), ConnectError> {
    if by.target.auth.allow(method) {
        Ok(())
    } else {
        Err(ConnectError::NotAllowed { method })
    }
}

fn password(by: LoginIdentity<'_>) -> Result<&str, ConnectError> {
    by.account
        .password
        .as_ref()
        .map(|password| password.expose().as_str())
        .ok_or(ConnectError::NoPassword)
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
            return Err(ConnectError::Unsupported {
                what: "a SASL mechanism other than SCRAM-SHA-256",
            });
        }
    };
    frontend::sasl_initial_response(mechanism.name(), &exchange.first(), out).map_err(unencodable)?;
    Ok(AuthenticationState::Started(exchange))
}

/// Answers with the keys of the last login if salt and rounds are the same. Otherwise it derives new ones, which takes a
/// millisecond or more, on a thread for blocking work.
async fn answer(challenged: Challenged, by: LoginIdentity<'_>) -> Result<Answered, ConnectError> {
    let place = by.account.keys.place(&challenged.salt, challenged.iterations);
    let derive = async || {
        let password = Zeroizing::new(password(by)?.as_bytes().to_vec());
        let (salt, iterations) = (challenged.salt.clone(), challenged.iterations);
        tokio::task::spawn_blocking(move || ClientKeys::derive(&password, &salt, iterations))
            .await
            .map_err(|_| ConnectError::Internal { what: "deriving keys" })
    };
    let keys = place.get_or_try_init(derive).await?;
    Ok(challenged.answer(keys))
}

fn nonce() -> Result<String, ConnectError> {
    // Same length as PostgreSQL's SCRAM_RAW_NONCE_LEN.
    let mut bytes = [0; 18];
    getrandom::fill(&mut bytes).map_err(|_| ConnectError::Internal { what: "random bytes" })?;
    Ok(STANDARD.encode(bytes))
}

fn unencodable(_: std::io::Error) -> ConnectError {
    ConnectError::Internal {
        what: "a login message with a NUL in it, or too long",
    }
}
