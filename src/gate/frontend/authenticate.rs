//! Authentication by the grant's secret, after the startup packet: SCRAM-SHA-256, bound to the TLS connection if the client
//! supports that.
//!
//! This module does not look up the verifier, and does not know whether it is a mock: both lead to the same refusal in the same
//! way.
//!
//! INVARIANT: after the startup packet only SASL responses are read, two of them (three if the first is empty), each with its
//! length checked before it is stored; any other message, also a second StartupMessage, ends the connection (CVE-2026-107350 of
//! pgbouncer).

use bytes::BytesMut;

use super::error::HandshakeError;
use super::exchange::{ResponseKind, SASL_CONTINUE_CODE, SASL_FINAL_CODE, STEP, authentication, response, sasl_start, send};
use super::{Authenticated, FailedHandshake, GreetedClient};
use crate::base::tls::Transport;
use crate::protocol::scram::{self, MAX_MESSAGE, Mechanism, Verifier};

/// Number of random bytes in the gate's nonce: SCRAM_RAW_NONCE_LEN of PostgreSQL.
const NONCE_BYTES: usize = 18;
/// PostgreSQL's limit counts the length word.
const RESPONSE: ResponseKind = ResponseKind::sasl(MAX_MESSAGE - 4);

/// Authenticates the client by SCRAM; `verifier` must be that of the user it named.
///
/// If this fails, the client has got its error and the connection is closed. A wrong secret counts against the client's address
/// and the name it gave. After many failures the answer is delayed, but never beyond the handshake's limit. The answer to a
/// correct secret is never delayed.
pub async fn authenticate(mut greeted: Box<GreetedClient>, verifier: &Verifier) -> Result<Authenticated, Box<FailedHandshake>> {
    let hello = greeted.hello();
    let GreetedClient {
        transport,
        certificate,
        budget,
        ..
    } = &mut *greeted;
    // A certificate whose signature has no hash to bind to (RFC 5929, section 4.1) has no binding either: PLUS is not offered
    // then.
    let binding = certificate.as_ref().and_then(|certificate| certificate.end_point());
    let proving = exchange(transport, hello, verifier, binding);
    match budget.spend(STEP, proving).await {
        Ok(()) => Ok(greeted.admit()),
        Err(error) => Err(greeted.reject(error).await),
    }
}

async fn exchange(
    transport: &mut Transport,
    mut out: BytesMut,
    verifier: &Verifier,
    binding: Option<&[u8]>,
) -> Result<(), HandshakeError> {
    let (plus, plain) = (Mechanism::ScramSha256Plus.name(), Mechanism::ScramSha256.name());
    let offered: &[&str] = if binding.is_some() { &[plus, plain] } else { &[plain] };
    let (mechanism, first) = sasl_start(transport, &mut out, offered, &RESPONSE).await?;
    let mechanism = Mechanism::from_name(mechanism.as_bytes()).ok_or(HandshakeError::Mechanism)?;
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce)?;
    let (exchange, challenge) = scram::server_start(mechanism, &first, verifier, binding, &nonce)?;
    authentication(&mut out, SASL_CONTINUE_CODE, &challenge);
    send(transport, &mut out).await?;

    let last = response(transport, &RESPONSE).await?;
    let proof = exchange.finish(&last)?;
    authentication(&mut out, SASL_FINAL_CODE, &proof);
    send(transport, &mut out).await
}
