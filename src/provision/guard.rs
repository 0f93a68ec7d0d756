//! Sees to it that the provisioning connection gives the target's password away in no other way than sessions do.
//!
//! It does not log in: `tokio-postgres` does, which answers whatever the server asks for (also in clear). This stands between
//! the two and reads along until the login is over; a request that the operator did not allow never reaches the client side.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::tls::Transport;
use crate::upstream::{AuthMethod, Target};

/// A transport whose authentication requests are looked at.
pub(super) struct Guarded {
    transport: Transport,
    /// `None` once the login is over.
    door: Option<Door>,
}

/// What the server has asked for so far.
struct Door {
    target: Arc<Target>,
    tls: bool,
    /// A request that was allowed has been seen.
    asked: bool,
    /// Bytes of a message whose beginning is not complete.
    held: BytesMut,
    /// Bytes of the present message still to come.
    skip: usize,
}

/// The server asked for what the operator did not allow.
#[derive(Debug, thiserror::Error)]
#[error("the target asks for authentication by {0}, which is not allowed for it")]
struct NotAllowed(&'static str);

impl Guarded {
    pub(super) fn new(transport: Transport, target: Arc<Target>) -> Self {
        let door = Door::new(target, transport.is_tls());
        Self {
            transport,
            door: Some(door),
        }
    }
}

impl Door {
    fn new(target: Arc<Target>, tls: bool) -> Self {
        Self {
            target,
            tls,
            asked: false,
            held: BytesMut::new(),
            skip: 0,
        }
    }

    /// Takes bytes as they come, cut anywhere. `Ok(true)`: the login is over.
    fn pass(&mut self, bytes: &[u8]) -> Result<bool, NotAllowed> {
        self.held.extend_from_slice(bytes);
        loop {
            let skipped = self.skip.min(self.held.len());
            self.held.advance(skipped);
            self.skip -= skipped;
            // Protocol: a tag, a length that counts itself, for `R` (Authentication*) the kind of request.
            let length = match *self.held.as_ref() {
                [b'R', l0, l1, l2, l3, k0, k1, k2, k3, ..] => {
                    if self.judge(u32::from_be_bytes([k0, k1, k2, k3]))? {
                        return Ok(true);
                    }
                    [l0, l1, l2, l3]
                }
                [tag, l0, l1, l2, l3, ..] if tag != b'R' => [l0, l1, l2, l3],
                _ => return Ok(false),
            };
            self.skip = usize::try_from(u32::from_be_bytes(length))
                .unwrap_or(usize::MAX)
                .max(4)
                .saturating_add(1);
        }
    }

    fn judge(&mut self, kind: u32) -> Result<bool, NotAllowed> {
        let method = match kind {
            0 if self.asked => return Ok(true),
            0 => AuthMethod::Trust,
            3 => AuthMethod::Password,
            5 => AuthMethod::Md5,
            10..=12 => AuthMethod::ScramSha256,
            _ => return Err(NotAllowed("an unknown method")),
        };
        let in_clear = method == AuthMethod::Password && !self.tls;
        if in_clear || !self.target.auth.allow(method) {
            return Err(NotAllowed(method.name()));
        }
        self.asked = true;
        Ok(method == AuthMethod::Trust)
    }
}

impl AsyncRead for Guarded {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.transport).poll_read(context, buffer))?;
        if let Some(door) = &mut this.door {
            let new = buffer.filled().get(before..).unwrap_or_default();
            match door.pass(new) {
                Ok(true) => this.door = None,
                Ok(false) => {}
                Err(refused) => {
                    buffer.set_filled(before);
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::PermissionDenied, refused)));
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().transport).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::{ClientTls, TlsMode};

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[tag], length.to_be_bytes().as_slice(), body].concat()
    }

    fn request(kind: u32) -> Vec<u8> {
        message(b'R', &[kind.to_be_bytes().as_slice(), b"more"].concat())
    }

    /// What the door says to these bytes, given whole and one by one.
    fn verdict(allowed: &[AuthMethod], tls: bool, bytes: &[u8]) -> Option<bool> {
        let mode = ClientTls::new(TlsMode::Disable, None).unwrap();
        let name = "orders".parse().unwrap();
        let mut target = Target::new(name, "localhost".to_owned(), "db".to_owned(), "app".to_owned(), mode);
        target.auth = allowed.iter().copied().collect();
        let target = Arc::new(target);
        let whole = Door::new(target.clone(), tls).pass(bytes).ok();
        let mut door = Door::new(target, tls);
        let mut by_byte = Some(false);
        for byte in bytes {
            by_byte = door.pass(&[*byte]).ok();
            if by_byte != Some(false) {
                break;
            }
        }
        assert_eq!(whole, by_byte);
        whole
    }

    #[test]
    fn only_what_is_allowed_passes() {
        use AuthMethod::{Md5, Password, ScramSha256, Trust};
        let scram = [request(10), request(11), request(12), request(0)].concat();
        assert_eq!(verdict(&[ScramSha256], false, &scram), Some(true));
        assert_eq!(verdict(&[Trust], false, &scram), None);
        assert_eq!(verdict(&[Trust], false, &request(0)), Some(true));
        assert_eq!(verdict(&[ScramSha256], false, &request(0)), None);
        assert_eq!(verdict(&[ScramSha256, Trust], true, &request(3)), None);
        assert_eq!(verdict(&[Password], true, &request(3)), Some(false));
        assert_eq!(verdict(&[Password], false, &request(3)), None);
        assert_eq!(verdict(&[ScramSha256, Trust], true, &request(5)), None);
        assert_eq!(verdict(&[Md5], false, &[request(5), request(0)].concat()), Some(true));
        assert_eq!(verdict(&[ScramSha256, Md5], false, &[request(10), request(7)].concat()), None);
        // What comes before does not hide it.
        let hidden = [message(b'N', b"R\0\0\0\x08\0\0\0\0"), request(3)].concat();
        assert_eq!(verdict(&[ScramSha256, Trust], false, &hidden), None);
    }
}
