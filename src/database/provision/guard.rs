//! Filter on a provisioning connection: the target's password is given away in no other way than by sessions, and the memory for
//! what the target sends is bounded.
//!
//! It does not log in: `tokio-postgres` does, which answers any authentication request of the server (also in clear), and buffers
//! each message and each answer until it is complete. This filter reads the bytes in between and passes no refused byte on.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::base::tls::Transport;
use crate::database::upstream::{AuthMethod, Target};

/// Maximum length of a message, in bytes. The longest legitimate one is the catalogue row of one table with all its columns and
/// rights.
const MAX_MESSAGE_BYTES: usize = 64 << 20;
/// Maximum length of the answer to one request, in bytes: the catalogue of a database with some hundred thousand tables.
const MAX_ANSWER_BYTES: usize = 1 << 30;
/// Maximum total length of the server's ParameterStatus messages on one connection, in bytes; `tokio-postgres` stores them by
/// name.
const MAX_SETTINGS_BYTES: usize = 1 << 20;

/// Length of a message header, in bytes: the tag, and a length that includes itself.
const HEADER_BYTES: usize = 5;
/// Length of an `Authentication` message up to its kind, in bytes.
const REQUEST_BYTES: usize = 9;

/// Transport with the filter.
pub(super) struct GuardedTransport {
    transport: Transport,
    frames: ServerFrames,
}

/// Parser of the server's message stream, fed with bytes as they arrive.
#[derive(Default)]
struct ServerFrames {
    /// Check of the login; `None` once the login is over.
    door: Option<LoginGuard>,
    /// First bytes of a message, until they are complete.
    header: [u8; REQUEST_BYTES],
    /// Number of bytes in `header`.
    filled: usize,
    /// Number of bytes of the present message that are still to come.
    skip: usize,
    /// Number of bytes received since the last write.
    answered: usize,
    /// Total length of the ParameterStatus messages.
    settings: usize,
}

/// State of the login.
struct LoginGuard {
    target: Arc<Target>,
    tls: bool,
    /// True once an allowed request was seen.
    asked: bool,
}

/// Error that ends the connection.
#[derive(Debug, thiserror::Error)]
enum GuardError {
    /// The server asked for a method that the operator did not allow.
    #[error("the target asks for the authentication method {0}, which its `auth` does not allow")]
    NotAllowed(&'static str),
    /// The server sent more than the limit.
    #[error("closed a provisioning connection: the target sent {what} of more than {limit} bytes")]
    TooLong { what: &'static str, limit: usize },
    /// The length field is smaller than any message.
    #[error("closed a provisioning connection: the target sent an invalid PostgreSQL message")]
    NoMessage,
}

impl GuardedTransport {
    pub(super) fn new(transport: Transport, target: Arc<Target>) -> Self {
        let frames = ServerFrames::new(target, transport.is_tls());
        Self { transport, frames }
    }
}

impl ServerFrames {
    fn new(target: Arc<Target>, tls: bool) -> Self {
        Self {
            door: Some(LoginGuard {
                target,
                tls,
                asked: false,
            }),
            ..Self::default()
        }
    }

    /// Starts a new answer: the client has written something.
    fn ask(&mut self) {
        self.answered = 0;
    }

    /// Parses bytes, which may be cut anywhere.
    fn pass(&mut self, mut bytes: &[u8]) -> Result<(), GuardError> {
        self.answered = self.answered.saturating_add(bytes.len());
        within(self.answered, MAX_ANSWER_BYTES, "an answer")?;
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            let Some((first, rest)) = bytes.split_first() else { break };
            if let Some(place) = self.header.get_mut(self.filled) {
                *place = *first;
            }
            (self.filled, bytes) = (self.filled + 1, rest);
            let [tag, l0, l1, l2, l3, kind @ ..] = self.header;
            let request = tag == b'R' && self.door.is_some();
            let wanted = if request { REQUEST_BYTES } else { HEADER_BYTES };
            if self.filled < wanted {
                continue;
            }
            // At most 32 bits; the length does not include the tag.
            let length = usize::try_from(u32::from_be_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
            within(length, MAX_MESSAGE_BYTES, "a message")?;
            self.skip = length.checked_sub(wanted - 1).ok_or(GuardError::NoMessage)?;
            self.filled = 0;
            if tag == b'S' {
                self.settings = self.settings.saturating_add(length);
                within(self.settings, MAX_SETTINGS_BYTES, "settings")?;
            }
            if let Some(door) = self.door.as_mut().filter(|_| request)
                && door.judge(u32::from_be_bytes(kind))?
            {
                self.door = None;
            }
        }
        Ok(())
    }
}

fn within(bytes: usize, limit: usize, what: &'static str) -> Result<(), GuardError> {
    if bytes > limit {
        return Err(GuardError::TooLong { what, limit });
    }
    Ok(())
}

impl LoginGuard {
    /// Checks an `Authentication...` message by its kind. Returns true if the login is over.
    fn judge(&mut self, kind: u32) -> Result<bool, GuardError> {
        let method = match kind {
            0 if self.asked => return Ok(true),
            0 => AuthMethod::Trust,
            3 => AuthMethod::Password,
            5 => AuthMethod::Md5,
            10..=12 => AuthMethod::ScramSha256,
            _ => return Err(GuardError::NotAllowed("an unknown method")),
        };
        let in_clear = method == AuthMethod::Password && !self.tls;
        if in_clear || !self.target.auth.contains(&method) {
            return Err(GuardError::NotAllowed(method.name()));
        }
        self.asked = true;
        Ok(method == AuthMethod::Trust)
    }
}

impl AsyncRead for GuardedTransport {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.transport).poll_read(context, buffer))?;
        let new = buffer.filled().get(before..).unwrap_or_default();
        if let Err(refused) = this.frames.pass(new) {
            buffer.set_filled(before);
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::PermissionDenied, refused)));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for GuardedTransport {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.frames.ask();
        Pin::new(&mut this.transport).poll_write(context, bytes)
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
    use crate::base::tls::{ClientTls, TlsMode};

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[tag], length.to_be_bytes().as_slice(), body].concat()
    }

    fn request(kind: u32) -> Vec<u8> {
        message(b'R', &[kind.to_be_bytes().as_slice(), b"more"].concat())
    }

    fn frames(allowed: &[AuthMethod], tls: bool) -> ServerFrames {
        let mode = ClientTls::new(TlsMode::Disable, None).unwrap();
        let name = "orders".parse().unwrap();
        let mut target = Target::new(name, "localhost".to_owned(), "db".to_owned(), "app".to_owned(), mode);
        target.auth = allowed.to_vec();
        ServerFrames::new(Arc::new(target), tls)
    }

    /// What is said to these bytes, given whole and one by one; true: the login is over.
    fn verdict(allowed: &[AuthMethod], tls: bool, bytes: &[u8]) -> Option<bool> {
        let mut whole = frames(allowed, tls);
        let mut by_byte = frames(allowed, tls);
        let taken = whole.pass(bytes).ok().map(|()| whole.door.is_none());
        let one_by_one = bytes.iter().try_for_each(|byte| by_byte.pass(&[*byte]));
        assert_eq!(taken, one_by_one.ok().map(|()| by_byte.door.is_none()));
        taken
    }

    /// After the login: what is said to bytes that come in pieces of a megabyte.
    fn after_login(bytes: impl IntoIterator<Item = Vec<u8>>) -> String {
        let mut frames = frames(&[AuthMethod::Trust], false);
        frames.pass(&request(0)).unwrap();
        let taken = bytes.into_iter().try_for_each(|bytes| frames.pass(&bytes));
        taken.err().map_or_else(String::new, |refused| refused.to_string())
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
        // A length that no message has, with another message's beginning in the place of the kind.
        assert_eq!(verdict(&[Trust], false, b"R\0\0\0\x04\0\0\0\0"), None);
        assert_eq!(verdict(&[Trust], false, b"N\0\0\0\x03"), None);
    }

    #[test]
    fn a_target_fills_no_memory() {
        let mib = |count: usize| std::iter::repeat_n(vec![b'x'; 1 << 20], count);
        let row = |length: usize| [b"D".as_slice(), &u32::try_from(length).unwrap().to_be_bytes()].concat();
        // One message: it is refused when its length is read, not when it is here.
        assert_eq!(after_login([row(MAX_MESSAGE_BYTES)]), "");
        assert!(after_login([row(MAX_MESSAGE_BYTES + 1)]).contains("a message of more than 67108864 bytes"));
        assert!(after_login([b"D\x7f\xff\xff\xff".to_vec()]).contains("a message of more than"));
        assert!(after_login([b"E\xff\xff\xff\xff".to_vec()]).contains("a message of more than"));
        // Many of them.
        let rows = || (0..17).flat_map(|_| [row((63 << 20) + 4)].into_iter().chain(mib(63)));
        assert!(after_login(rows()).contains("an answer of more than"));
        // For as many requests there is room for as many answers.
        let mut asked = frames(&[AuthMethod::Trust], false);
        asked.pass(&request(0)).unwrap();
        for bytes in rows() {
            asked.ask();
            asked.pass(&bytes).unwrap();
        }
        // Settings are kept, so they are counted whatever is asked.
        let told = message(b'S', &vec![b'x'; 60_000]);
        for _ in 0..17 {
            asked.ask();
            asked.pass(&told).unwrap();
        }
        assert!(asked.pass(&told).unwrap_err().to_string().contains("settings of more than"));
    }
}
