//! Token of a client, requested as a password in clear text after the startup packet.
//!
//! This module judges no token (`identify` does).
//!
//! INVARIANT: its length is checked before it is stored, and every copy made of it here is wiped.

use bytes::BytesMut;
use tokio::io::AsyncRead;
use zeroize::{Zeroize, Zeroizing};

use super::error::{HandshakeError, TokenRefusalError};
use super::exchange::{CLEARTEXT_PASSWORD_CODE, ResponseKind, authentication, response, send};
use crate::base::secret::Secret;
use crate::base::tls::Transport;

/// Maximum length of a token in bytes: a JWT of a CI system has two or three thousand, one with many groups ten thousand.
pub(super) const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// The text has a terminator.
const PASSWORD: ResponseKind = ResponseKind {
    min_bytes: 1,
    max_bytes: MAX_TOKEN_BYTES + 1,
    other: |got| HandshakeError::NotAPassword { got },
    length: |length| HandshakeError::PasswordLength { length },
};

/// Returns true if a user name means a grant, whose login is SCRAM. Any other name is an identity's.
///
/// All names with the prefix of grants count as grants: a client with a mistyped grant id must not be asked for its secret in
/// clear text.
#[must_use]
pub fn names_grant(user: &str) -> bool {
    user.starts_with("gr_")
}

/// Returns the client's token.
pub(super) async fn ask(transport: &mut Transport, mut out: BytesMut) -> Result<Secret<String>, HandshakeError> {
    authentication(&mut out, CLEARTEXT_PASSWORD_CODE, b"");
    send(transport, &mut out).await?;
    answer(transport).await
}

/// Reads a PasswordMessage and not a byte more.
async fn answer(stream: &mut (impl AsyncRead + Unpin)) -> Result<Secret<String>, HandshakeError> {
    token(response(stream, &PASSWORD).await?)
}

/// Returns the text without its terminator, in the buffer it was read into.
fn token(mut body: Zeroizing<Vec<u8>>) -> Result<Secret<String>, HandshakeError> {
    if body.pop() != Some(0) || body.contains(&0) {
        return Err(HandshakeError::PasswordLayout);
    }
    String::from_utf8(std::mem::take(&mut *body))
        .map(Secret::new)
        .map_err(|error| {
            error.into_bytes().zeroize();
            HandshakeError::Token(TokenRefusalError::NotAccepted {
                why: "it is not UTF-8".to_owned(),
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [b"p", &length.to_be_bytes()[..], body].concat()
    }

    async fn read(mut bytes: &[u8]) -> Result<(Secret<String>, usize), HandshakeError> {
        let token = answer(&mut bytes).await?;
        Ok((token, bytes.len()))
    }

    #[tokio::test]
    async fn a_token_is_read_and_not_a_byte_more() {
        for length in [0, 1, 47, 1022, 1023, 1024, 1025, 5000, MAX_TOKEN_BYTES] {
            let text = "t".repeat(length);
            let sent = [message(&[text.as_bytes(), b"\0"].concat()), b"more".to_vec()].concat();
            let (token, left) = read(&sent).await.unwrap();
            assert_eq!((token.expose(), left), (&text, 4), "{length}");
        }
    }

    #[tokio::test]
    async fn lengths_are_bounded_before_anything_is_held() {
        let longest = u32::try_from(MAX_TOKEN_BYTES + 5).unwrap();
        for length in [0, 3, 4, longest + 1, 0x8000_0000, u32::MAX] {
            let sent = [&b"p"[..], &length.to_be_bytes()].concat();
            let refused = read(&sent).await;
            assert!(
                matches!(refused, Err(HandshakeError::PasswordLength { length: got }) if got == length),
                "{length}"
            );
        }
        let endless = [&b"p"[..], &longest.to_be_bytes(), &vec![b'x'; MAX_TOKEN_BYTES + 1]].concat();
        assert!(matches!(read(&endless).await, Err(HandshakeError::PasswordLayout)));
    }

    #[tokio::test]
    async fn other_messages_and_torn_ones_are_refused() {
        assert!(matches!(
            read(b"Q\0\0\0\x04").await,
            Err(HandshakeError::NotAPassword { got: b'Q' })
        ));
        // A second startup packet, as of pgbouncer's CVE-2026-107350.
        assert!(matches!(read(b"\0").await, Err(HandshakeError::NotAPassword { got: 0 })));
        for torn in [&b""[..], b"p", b"p\0\0\0\x08", b"p\0\0\0\x08abc"] {
            assert!(matches!(read(torn).await, Err(HandshakeError::Closed { .. })), "{torn:?}");
        }
        for body in [&b"abc"[..], b"a\0b\0", b"\0\0"] {
            assert!(matches!(read(&message(body)).await, Err(HandshakeError::PasswordLayout)));
        }
        assert!(matches!(read(&message(b"\xff\0")).await, Err(HandshakeError::Token(_))));
    }

    #[test]
    fn what_names_a_grant() {
        for user in ["gr_0123456789", "gr_0123456789.k7ab", "gr_", "gr_mistyped"] {
            assert!(names_grant(user), "{user}");
        }
        for user in ["ana@example.com", "grace", "gr", "GR_0123456789", ""] {
            assert!(!names_grant(user), "{user}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let _ = runtime.block_on(read(&bytes));
            let _ = runtime.block_on(read(&message(&bytes)));
        }
    }
}
