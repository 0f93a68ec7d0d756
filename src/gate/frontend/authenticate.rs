//! Authentication by the grant's secret, after the startup packet: SCRAM-SHA-256, bound to the TLS connection if the client
//! supports that.
//!
//! This module does not look up the verifier, and does not know whether it is a mock: both lead to the same refusal in the same
//! way.
//!
//! INVARIANT: after the startup packet only SASL responses are read, two of them (three if the first is empty), each with its
//! length checked before it is stored; any other message, also a second StartupMessage, ends the connection (CVE-2026-107350 of
//! pgbouncer).

use bytes::{BufMut, BytesMut};
use tokio::io::AsyncWriteExt;

use super::error::HandshakeError;
use super::greet::read;
use super::refuse::reject;
use super::{Authenticated, FailedHandshake, GreetedClient};
use crate::base::tls::Transport;
use crate::protocol::scram::{self, MAX_MESSAGE, Mechanism, Verifier};
use crate::protocol::wire::encode;

const STEP: &str = "authentication";
/// Number of random bytes in the gate's nonce: SCRAM_RAW_NONCE_LEN of PostgreSQL.
const NONCE_BYTES: usize = 18;
/// Request codes of the Authentication message (protocol, "AuthenticationSASL" and the following).
const SASL_CODE: u32 = 10;
const SASL_CONTINUE_CODE: u32 = 11;
const SASL_FINAL_CODE: u32 = 12;

/// Authenticates the client by SCRAM; `verifier` must be that of the user it named.
///
/// If this fails, the client has got its error and the connection is closed. A wrong secret counts against the client's address
/// and the name it gave. After many failures the answer is delayed, but never beyond the handshake's limit. The answer to a
/// correct secret is never delayed.
pub async fn authenticate(greeted: Box<GreetedClient>, verifier: &Verifier) -> Result<Authenticated, Box<FailedHandshake>> {
    let GreetedClient {
        mut transport,
        client,
        startup,
        certificate,
        mut budget,
    } = *greeted;
    let mut hello = BytesMut::new();
    startup.negotiate(&mut hello);
    // A certificate whose signature has no hash to bind to (RFC 5929, section 4.1) has no binding either: PLUS is not offered
    // then.
    let binding = certificate.as_ref().and_then(|certificate| certificate.end_point());
    let proving = exchange(&mut transport, hello, verifier, binding);
    let Err(error) = budget.spend(STEP, proving).await else {
        let failed_before = budget.permit.proof().failures_before(&startup.user);
        return Ok(Authenticated {
            transport,
            client,
            startup,
            deadline: budget.deadline,
            failed_before,
        });
    };
    Err(Box::pin(reject(Some(transport), client, Some(startup), budget, error)).await)
}

async fn exchange(
    transport: &mut Transport,
    mut out: BytesMut,
    verifier: &Verifier,
    binding: Option<&[u8]>,
) -> Result<(), HandshakeError> {
    let mut offered = Vec::new();
    if binding.is_some() {
        offered.extend_from_slice(Mechanism::ScramSha256Plus.name().as_bytes());
        offered.push(0);
    }
    offered.extend_from_slice(Mechanism::ScramSha256.name().as_bytes());
    offered.extend_from_slice(&[0, 0]);
    authentication(&mut out, SASL_CODE, &offered);
    send(transport, &mut out).await?;

    let response = response(transport).await?;
    let (mechanism, first) = initial_response(&response)?;
    let mechanism = Mechanism::from_name(mechanism)
        .filter(|mechanism| binding.is_some() || *mechanism == Mechanism::ScramSha256)
        .ok_or(HandshakeError::Mechanism)?;
    let later;
    let first = if let Some(first) = first {
        first
    } else {
        // A client may wait for an empty challenge before it begins (RFC 4422, section 3.3).
        authentication(&mut out, SASL_CONTINUE_CODE, b"");
        send(transport, &mut out).await?;
        later = self::response(transport).await?;
        body(&later)
    };

    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce)?;
    let (exchange, challenge) = scram::server_start(mechanism, first, verifier, binding, &nonce)?;
    authentication(&mut out, SASL_CONTINUE_CODE, &challenge);
    send(transport, &mut out).await?;

    let last = self::response(transport).await?;
    let proof = exchange.finish(body(&last))?;
    authentication(&mut out, SASL_FINAL_CODE, &proof);
    send(transport, &mut out).await
}

fn authentication(out: &mut BytesMut, request: u32, data: &[u8]) {
    encode::message(out, b'R', |body| {
        body.put_u32(request);
        body.put_slice(data);
    });
}

async fn send(transport: &mut Transport, out: &mut BytesMut) -> Result<(), HandshakeError> {
    transport.write_all(out).await?;
    transport.flush().await?;
    out.clear();
    Ok(())
}

/// Bytes of type and length.
const HEADER_BYTES: usize = 5;

async fn response(transport: &mut Transport) -> Result<Vec<u8>, HandshakeError> {
    read(transport, STEP, missing).await
}

/// Returns the number of bytes of a SASL response still missing. Fails as soon as the type or the length is received and wrong.
fn missing(held: &[u8]) -> Result<usize, HandshakeError> {
    if let Some(got) = held.first().copied().filter(|kind| *kind != b'p') {
        return Err(HandshakeError::NotAResponse { got });
    }
    let Some([_, length @ ..]) = held.first_chunk::<HEADER_BYTES>() else {
        return Ok(HEADER_BYTES - held.len());
    };
    let length = u32::from_be_bytes(*length);
    match usize::try_from(length) {
        // pq_getmessage counts in the same way, including the length word.
        Ok(whole) if (4..=MAX_MESSAGE).contains(&whole) => Ok((whole + 1).saturating_sub(held.len())),
        _ => Err(HandshakeError::ResponseLength { length }),
    }
}

fn body(message: &[u8]) -> &[u8] {
    message.get(HEADER_BYTES..).unwrap_or_default()
}

/// Returns the mechanism, and the client's first message unless it waits for a challenge.
fn initial_response(message: &[u8]) -> Result<(&[u8], Option<&[u8]>), HandshakeError> {
    let read = || {
        let body = body(message);
        let (mechanism, rest) = body.split_at_checked(body.iter().position(|byte| *byte == 0)?)?;
        let (length, data) = rest.get(1..)?.split_first_chunk::<4>()?;
        match i32::from_be_bytes(*length) {
            -1 if data.is_empty() => Some((mechanism, None)),
            length => (usize::try_from(length).ok()? == data.len()).then_some((mechanism, Some(data))),
        }
    };
    read().ok_or(HandshakeError::InitialResponse)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn initial(body: &[u8]) -> Vec<u8> {
        [b"p\0\0\0\0", body].concat()
    }

    #[test]
    fn reads_an_initial_response() {
        let message = initial(b"SCRAM-SHA-256\0\0\0\0\x03n,,");
        assert_eq!(
            initial_response(&message).unwrap(),
            (&b"SCRAM-SHA-256"[..], Some(&b"n,,"[..]))
        );
        let message = initial(b"X\0\xff\xff\xff\xff");
        assert_eq!(initial_response(&message).unwrap(), (&b"X"[..], None));
        for body in [
            &b""[..],
            b"X",
            b"X\0",
            b"X\0\0\0\0",
            b"X\0\0\0\0\x02a",
            b"X\0\0\0\0\x01ab",
            b"X\0\xff\xff\xff\xffa",
        ] {
            assert!(initial_response(&initial(body)).is_err(), "{}", body.escape_ascii());
        }
    }

    #[test]
    fn lengths_are_bounded() {
        assert_eq!(missing(b"").unwrap(), 5);
        assert_eq!(missing(b"p\0\0\0\x04").unwrap(), 0);
        assert_eq!(missing(b"p\0\0\x04\0").unwrap(), 1020);
        for length in [0_u32, 3, 1025, 0x8000_0000, u32::MAX] {
            let message = [&b"p"[..], &length.to_be_bytes()].concat();
            assert!(matches!(missing(&message), Err(HandshakeError::ResponseLength { length: got }) if got == length));
        }
        assert!(matches!(missing(b"\0"), Err(HandshakeError::NotAResponse { got: 0 })));
    }

    proptest! {
        #[test]
        fn any_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = missing(&bytes);
            let _ = initial_response(&bytes);
        }
    }
}
