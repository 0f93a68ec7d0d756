//! Messages of an authentication: the gate's requests, and the client's responses (messages of type `p`: a password, or SASL).
//!
//! This module does not know what is proved by them.
//!
//! INVARIANT: a response is the only message that is read. Its type is checked with its first byte and its length before anything
//! is stored, the buffer grows only after bytes have arrived, and every copy made here is wiped. Not a byte more is read.

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use zeroize::Zeroizing;

use super::error::HandshakeError;
use crate::base::tls::Transport;
use crate::protocol::wire::encode;

/// Step of the handshake, for errors.
pub(super) const STEP: &str = "authentication";
/// Request codes of the Authentication message (protocol, "AuthenticationCleartextPassword", "AuthenticationSASL" and the
/// following).
pub(super) const CLEARTEXT_PASSWORD_CODE: u32 = 3;
const SASL_CODE: u32 = 10;
pub(super) const SASL_CONTINUE_CODE: u32 = 11;
pub(super) const SASL_FINAL_CODE: u32 = 12;

/// Bytes of type and length.
const HEADER_BYTES: usize = 5;
/// Number of bytes allocated at first; more only after these have arrived.
const INITIAL_BUFFER_BYTES: usize = 1024;

/// Response that is awaited.
pub(super) struct ResponseKind {
    /// Minimum length of its body, in bytes.
    pub(super) min_bytes: usize,
    /// Maximum length of its body, in bytes.
    pub(super) max_bytes: usize,
    /// Makes the error for a message of another type.
    pub(super) other: fn(u8) -> HandshakeError,
    /// Makes the error for a length (as sent, with the length word) outside the limits.
    pub(super) length: fn(u32) -> HandshakeError,
}

impl ResponseKind {
    /// Returns a SASL response of at most `max_bytes`.
    pub(super) const fn sasl(max_bytes: usize) -> Self {
        Self {
            min_bytes: 0,
            max_bytes,
            other: |got| HandshakeError::NotAResponse { got },
            length: |length| HandshakeError::ResponseLength { length },
        }
    }
}

/// Appends a request to the client.
pub(super) fn authentication(out: &mut BytesMut, request: u32, data: &[u8]) {
    encode::message(out, b'R', |body| {
        body.put_u32(request);
        body.put_slice(data);
    });
}

/// Sends what was appended.
pub(super) async fn send(transport: &mut Transport, out: &mut BytesMut) -> Result<(), HandshakeError> {
    transport.write_all(out).await?;
    transport.flush().await?;
    out.clear();
    Ok(())
}

/// Reads a response and returns its body.
pub(super) async fn response(
    stream: &mut (impl AsyncRead + Unpin),
    kind: &ResponseKind,
) -> Result<Zeroizing<Vec<u8>>, HandshakeError> {
    let mut header = [0; HEADER_BYTES];
    let mut have = 0;
    while let Some(room) = header.get_mut(have..).filter(|room| !room.is_empty()) {
        let came = stream.read(room).await?;
        if came == 0 {
            return Err(HandshakeError::Closed { step: STEP });
        }
        have += came;
        // A client of another protocol gets its error after the first byte.
        if let [got, ..] = header
            && got != b'p'
        {
            return Err((kind.other)(got));
        }
    }
    let [_, length @ ..] = header;
    let length = u32::from_be_bytes(length);
    // The length word counts itself (pq_getmessage).
    let body = usize::try_from(length).ok().and_then(|whole| whole.checked_sub(4));
    match body.filter(|body| (kind.min_bytes..=kind.max_bytes).contains(body)) {
        Some(body) => body_of(stream, body).await,
        None => Err((kind.length)(length)),
    }
}

/// Reads a body of `length` bytes; outgrown buffers are wiped.
async fn body_of(stream: &mut (impl AsyncRead + Unpin), length: usize) -> Result<Zeroizing<Vec<u8>>, HandshakeError> {
    let mut held = Zeroizing::new(Vec::with_capacity(length.min(INITIAL_BUFFER_BYTES)));
    while held.len() < length {
        if held.len() == held.capacity() {
            let mut wider = Zeroizing::new(Vec::with_capacity(length.min(held.capacity() * 4)));
            wider.extend_from_slice(&held);
            held = wider;
        }
        let room = held.capacity().min(length) - held.len();
        let mut exactly = (&mut *stream).take(u64::try_from(room).unwrap_or(0));
        if exactly.read_buf(&mut *held).await? == 0 {
            return Err(HandshakeError::Closed { step: STEP });
        }
    }
    Ok(held)
}

/// Offers mechanisms, the preferred one first; returns the one that the client chose, and its first message. `out` may hold what
/// is to be sent before.
pub(super) async fn sasl_start<'o>(
    transport: &mut Transport,
    out: &mut BytesMut,
    offered: &[&'o str],
    kind: &ResponseKind,
) -> Result<(&'o str, Zeroizing<Vec<u8>>), HandshakeError> {
    let names: Vec<u8> = offered.iter().flat_map(|name| name.bytes().chain([0])).collect();
    authentication(out, SASL_CODE, &[&names[..], &[0]].concat());
    send(transport, out).await?;
    let initial = response(transport, kind).await?;
    let (name, first) = initial_response(&initial)?;
    let chosen = offered.iter().find(|offered| offered.as_bytes() == name);
    let chosen = chosen.ok_or(HandshakeError::Mechanism)?;
    if let Some(first) = first {
        return Ok((chosen, Zeroizing::new(first.to_vec())));
    }
    // A client may wait for an empty challenge before it begins (RFC 4422, section 3.3).
    authentication(out, SASL_CONTINUE_CODE, b"");
    send(transport, out).await?;
    Ok((chosen, response(transport, kind).await?))
}

/// Reads a SASLInitialResponse: the mechanism, and the client's first message unless it waits for a challenge.
fn initial_response(body: &[u8]) -> Result<(&[u8], Option<&[u8]>), HandshakeError> {
    let read = || {
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

    const SHORT: ResponseKind = ResponseKind::sasl(1020);

    async fn refused(mut bytes: &[u8]) -> HandshakeError {
        response(&mut bytes, &SHORT).await.expect_err("refused")
    }

    #[test]
    fn reads_an_initial_response() {
        let message = b"SCRAM-SHA-256\0\0\0\0\x03n,,";
        assert_eq!(initial_response(message).unwrap(), (&b"SCRAM-SHA-256"[..], Some(&b"n,,"[..])));
        assert_eq!(initial_response(b"X\0\xff\xff\xff\xff").unwrap(), (&b"X"[..], None));
        for body in [
            &b""[..],
            b"X",
            b"X\0",
            b"X\0\0\0\0",
            b"X\0\0\0\0\x02a",
            b"X\0\0\0\0\x01ab",
            b"X\0\xff\xff\xff\xffa",
        ] {
            assert!(initial_response(body).is_err(), "{}", body.escape_ascii());
        }
    }

    #[tokio::test]
    async fn lengths_are_bounded() {
        for length in [0, 1, 1019, 1020] {
            let sent = [
                &b"p"[..],
                &u32::try_from(length + 4).unwrap().to_be_bytes(),
                &vec![7; length],
                b"more",
            ]
            .concat();
            let mut stream = &sent[..];
            assert_eq!(response(&mut stream, &SHORT).await.unwrap().len(), length);
            assert_eq!(stream, b"more", "not a byte more is read");
        }
        for length in [0_u32, 3, 1025, 0x8000_0000, u32::MAX] {
            let sent = [&b"p"[..], &length.to_be_bytes()].concat();
            assert!(matches!(refused(&sent).await, HandshakeError::ResponseLength { length: got } if got == length));
        }
        assert!(matches!(refused(b"\0").await, HandshakeError::NotAResponse { got: 0 }));
        assert!(matches!(
            refused(b"Q\0\0\0\x04").await,
            HandshakeError::NotAResponse { got: b'Q' }
        ));
    }

    proptest! {
        #[test]
        fn any_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let _ = runtime.block_on(response(&mut &bytes[..], &SHORT));
            let _ = initial_response(&bytes);
        }
    }
}
