//! First packets of a connection: SSLRequest, GSSENCRequest, CancelRequest, StartupMessage, and the gate's answer to the version.
//!
//! This module does not read sockets. It does not decide which settings are acceptable, nor which clients may use plaintext.
//!
//! INVARIANT: no byte is used before it is checked: lengths are compared unsigned and bounded before anything is stored, a packet
//! has exactly one meaning (no repeated names), and the parsed form is at most a few times as large as the packet.

mod options;

use std::collections::HashSet;

use bytes::{BufMut, BytesMut};

pub use options::OptionsError;

use super::encode;
use super::frontend::Fields;
use crate::protocol::lexer::Encoding;

/// Newest minor version of protocol 3 that the gate speaks.
pub const NEWEST_MINOR: u16 = 2;

/// Maximum number of bytes after the length word: MAX_STARTUP_PACKET_LENGTH of src/include/libpq/pqcomm.h.
const MAX_BODY_BYTES: usize = 10_000;
/// Bytes of length and code: no packet is shorter.
const HEADER_BYTES: usize = 8;
/// Maximum number of settings in one packet, including those inside `options`. Drivers send about ten. The number is limited
/// because a setting takes more memory than its bytes in the packet.
const MAX_SETTINGS: usize = 100;
/// Maximum length of a PostgreSQL name in bytes, NAMEDATALEN - 1: PostgreSQL cuts longer names.
const MAX_NAME_BYTES: usize = 63;
/// Maximum length of an identity's name in bytes; a user is an identity here.
const MAX_USER_BYTES: usize = 255;
/// Maximum length in bytes of a target's name, a profile's name, and the separator between them (`%2F`).
const MAX_DATABASE_BYTES: usize = MAX_NAME_BYTES + 3 + MAX_NAME_BYTES;
const CANCEL_REQUEST_CODE: u32 = 80_877_102;
const SSL_REQUEST_CODE: u32 = 80_877_103;
const GSSENC_REQUEST_CODE: u32 = 80_877_104;
/// Length of the secret key of a CancelRequest in bytes, shortest and longest (protocol 3.2, "CancelRequest").
const CANCEL_KEY_BYTES: std::ops::RangeInclusive<usize> = 4..=256;
/// Prefix of the names of protocol extensions; the gate knows none.
const EXTENSION_PREFIX: &[u8] = b"_pq_.";

/// First packet of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FirstPacket {
    /// The client asks for TLS.
    Ssl,
    /// The client asks for GSSAPI encryption.
    Gss,
    /// The client asks to cancel another connection's statement.
    Cancel(CancelRequest),
    /// The client wants a session.
    Startup(StartupMessage),
}

/// CancelRequest: authenticated only by its key.
#[derive(Clone, PartialEq, Eq)]
pub struct CancelRequest {
    /// Process id of the BackendKeyData that the client received.
    pub pid: i32,
    /// Secret key of 4 to 256 bytes.
    pub key: Vec<u8>,
}

impl std::fmt::Debug for CancelRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CancelRequest")
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}

/// StartupMessage of protocol 3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartupMessage {
    /// Minor version asked for; see [`StartupMessage::version`] for the one to speak.
    pub minor: u16,
    /// User name, cut at 255 bytes; never empty. Bytes that are not UTF-8 are written `\xNN`.
    pub user: String,
    /// Database name, cut at 129 bytes; `None` if absent or empty (PostgreSQL takes the user's name then).
    pub database: Option<String>,
    /// Settings with names as sent: those inside `options` first, then the packet's own, one per name (the last one counts, as in
    /// PostgreSQL's process_startup_options). They are not yet checked against any list. `application_name` is cut at 63 bytes,
    /// as the server would (GUC_IS_NAME).
    pub settings: Vec<(String, String)>,
    /// Kind of replication connection asked for, if any.
    pub replication: Replication,
    /// Names of protocol extensions (`_pq_.…`). The gate knows none: it names them in its answer and otherwise ignores them.
    pub extensions: Vec<String>,
}

/// Value of the startup parameter `replication`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replication {
    /// Absent or false: an ordinary session.
    No,
    /// True: physical replication.
    Physical,
    /// `database`: logical replication.
    Logical,
}

/// Error of a first packet that cannot be parsed. All are the client's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartupError {
    /// The length word is out of bounds, or does not fit the kind of packet: probably not a PostgreSQL client.
    #[error("invalid length {length} of the first packet")]
    Length {
        /// Length as sent, including the length word itself.
        length: u32,
    },
    /// A CancelRequest with a key of an impossible length.
    #[error("a cancel request with a key of {length} bytes")]
    CancelKey {
        /// Length of the key in bytes.
        length: usize,
    },
    /// A protocol version other than 3.x.
    #[error("unsupported protocol version {major}.{minor}")]
    Version {
        /// Major version asked for.
        major: u16,
        /// Minor version asked for.
        minor: u16,
    },
    /// The last byte is not the terminator, or a name has no value.
    #[error("a startup packet without a terminator as its last byte")]
    Layout,
    /// A name occurs twice.
    #[error("a startup packet that names \"{name}\" twice")]
    Twice {
        /// Name that occurs twice, cut at 63 bytes.
        name: String,
    },
    /// More settings than any client needs.
    #[error("a startup packet with more than {limit} settings")]
    TooMany {
        /// Number of settings allowed.
        limit: usize,
    },
    /// A setting is not UTF-8.
    #[error("a startup packet with a setting that is not UTF-8")]
    NotUtf8,
    /// No user name, or an empty one.
    #[error("a startup packet without a user name")]
    NoUser,
    /// `replication` is neither a boolean nor `database`.
    #[error("a startup packet with an invalid value of replication")]
    Replication,
    /// The parameter `options` cannot be parsed.
    #[error(transparent)]
    Options(#[from] OptionsError),
}

/// Returns the number of bytes still missing of the packet that begins in `buffer`; 0 if it is complete. Never asks for a byte
/// after the packet.
///
/// Fails with [`StartupError::Length`] as soon as the length word is there and out of bounds.
pub fn missing(buffer: &[u8]) -> Result<usize, StartupError> {
    let Some(word) = buffer.first_chunk::<4>() else {
        return Ok(HEADER_BYTES - buffer.len());
    };
    let length = u32::from_be_bytes(*word);
    match usize::try_from(length) {
        Ok(whole) if (HEADER_BYTES..=MAX_BODY_BYTES + 4).contains(&whole) => Ok(whole.saturating_sub(buffer.len())),
        _ => Err(StartupError::Length { length }),
    }
}

impl FirstPacket {
    /// Parses a packet from its bytes, including the length word: exactly those that [`missing`] asked for.
    pub fn parse(packet: &[u8]) -> Result<Self, StartupError> {
        let length = u32::try_from(packet.len()).unwrap_or(u32::MAX);
        let Some((header, body)) = packet.split_first_chunk::<HEADER_BYTES>() else {
            return Err(StartupError::Length { length });
        };
        let [l0, l1, l2, l3, c0, c1, c2, c3] = *header;
        if u32::from_be_bytes([l0, l1, l2, l3]) != length || body.len() + 4 > MAX_BODY_BYTES {
            return Err(StartupError::Length { length });
        }
        match u32::from_be_bytes([c0, c1, c2, c3]) {
            SSL_REQUEST_CODE if body.is_empty() => Ok(Self::Ssl),
            GSSENC_REQUEST_CODE if body.is_empty() => Ok(Self::Gss),
            SSL_REQUEST_CODE | GSSENC_REQUEST_CODE => Err(StartupError::Length { length }),
            CANCEL_REQUEST_CODE => cancel(body).map(Self::Cancel),
            _ => {
                let (major, minor) = (u16::from_be_bytes([c0, c1]), u16::from_be_bytes([c2, c3]));
                if major == 3 {
                    StartupMessage::parse(minor, body).map(Self::Startup)
                } else {
                    Err(StartupError::Version { major, minor })
                }
            }
        }
    }
}

fn cancel(body: &[u8]) -> Result<CancelRequest, StartupError> {
    let Some((pid, key)) = body.split_first_chunk::<4>() else {
        return Err(StartupError::CancelKey { length: 0 });
    };
    if !CANCEL_KEY_BYTES.contains(&key.len()) {
        return Err(StartupError::CancelKey { length: key.len() });
    }
    Ok(CancelRequest {
        pid: i32::from_be_bytes(*pid),
        key: key.to_vec(),
    })
}

impl StartupMessage {
    fn parse(minor: u16, body: &[u8]) -> Result<Self, StartupError> {
        let mut startup = Self {
            minor,
            user: String::new(),
            database: None,
            settings: Vec::new(),
            replication: Replication::No,
            extensions: Vec::new(),
        };
        let mut own = Vec::new();
        for (name, value) in pairs(body)? {
            match name {
                b"user" => startup.user = name_of(value, MAX_USER_BYTES),
                b"database" => startup.database = Some(name_of(value, MAX_DATABASE_BYTES)).filter(|name| !name.is_empty()),
                b"options" => options::parse(text(value)?, |name, value| set(&mut startup.settings, name, value))?,
                b"replication" => startup.replication = Replication::parse(value)?,
                b"application_name" => own.push(("application_name".to_owned(), name_of(value, MAX_NAME_BYTES))),
                _ if name.starts_with(EXTENSION_PREFIX) => startup.extensions.push(text(name)?.to_owned()),
                _ => own.push((text(name)?.to_owned(), text(value)?.to_owned())),
            }
        }
        // A setting of the packet overrides one inside `options`, wherever `options` stands in the packet
        // (src/backend/utils/init/postinit.c).
        for (name, value) in own {
            set(&mut startup.settings, name, value)?;
        }
        if startup.user.is_empty() {
            return Err(StartupError::NoUser);
        }
        Ok(startup)
    }

    /// Returns the minor version to speak: 2 or 0. A 3.1 has never existed; a client that asks for it gets 3.0.
    #[must_use]
    pub fn version(&self) -> u16 {
        if self.minor >= NEWEST_MINOR { NEWEST_MINOR } else { 0 }
    }

    /// Returns the application name that the client gave, if any.
    #[must_use]
    pub fn application_name(&self) -> Option<&str> {
        let named = |(name, _): &&(String, String)| name.eq_ignore_ascii_case("application_name");
        self.settings.iter().find(named).map(|(_, value)| value.as_str())
    }

    /// Appends a NegotiateProtocolVersion if the client does not get the version or the extensions it asked for.
    ///
    /// The version is written whole (major and minor), as src/backend/tcop/backend_startup.c does and libpq expects, and never
    /// higher than the one asked for: libpq ends the connection on that.
    pub fn negotiate(&self, out: &mut BytesMut) {
        if self.version() == self.minor && self.extensions.is_empty() {
            return;
        }
        encode::message(out, b'v', |body| {
            body.put_u16(3);
            body.put_u16(self.version());
            body.put_u32(u32::try_from(self.extensions.len()).unwrap_or(u32::MAX));
            self.extensions.iter().for_each(|name| encode::text(body, name));
        });
    }
}

impl Replication {
    /// Parses the value as ProcessStartupPacket does: `database`, or any boolean that parse_bool takes (unique prefixes, any
    /// case).
    fn parse(value: &[u8]) -> Result<Self, StartupError> {
        if value == b"database" {
            return Ok(Self::Logical);
        }
        let value = value.to_ascii_lowercase();
        let begins = |word: &[u8], least: usize| value.len() >= least && word.starts_with(&value);
        if begins(b"true", 1) || begins(b"yes", 1) || begins(b"on", 2) || value == b"1" {
            Ok(Self::Physical)
        } else if begins(b"false", 1) || begins(b"no", 1) || begins(b"off", 2) || value == b"0" {
            Ok(Self::No)
        } else {
            Err(StartupError::Replication)
        }
    }
}

/// Sets a setting, which has one value per name, in the order of first appearance.
fn set(settings: &mut Vec<(String, String)>, name: String, value: String) -> Result<(), StartupError> {
    // PostgreSQL compares names of settings without regard to case (guc_name_compare).
    if let Some(held) = settings.iter_mut().find(|(held, _)| held.eq_ignore_ascii_case(&name)) {
        *held = (name, value);
        return Ok(());
    }
    if settings.len() == MAX_SETTINGS {
        return Err(StartupError::TooMany { limit: MAX_SETTINGS });
    }
    settings.push((name, value));
    Ok(())
}

type SettingPair<'a> = (&'a [u8], &'a [u8]);

/// Splits a body into names and values up to the terminator, which must be the last byte.
fn pairs(body: &[u8]) -> Result<Vec<SettingPair<'_>>, StartupError> {
    let mut pairs = Vec::new();
    let mut seen = HashSet::new();
    let mut fields = Fields::of(body);
    loop {
        let name = fields.text().ok_or(StartupError::Layout)?;
        if name.is_empty() {
            return if fields.rest().is_empty() {
                Ok(pairs)
            } else {
                Err(StartupError::Layout)
            };
        }
        let value = fields.text().ok_or(StartupError::Layout)?;
        if pairs.len() == MAX_SETTINGS {
            return Err(StartupError::TooMany { limit: MAX_SETTINGS });
        }
        if !seen.insert(name.to_ascii_lowercase()) {
            return Err(StartupError::Twice {
                name: name_of(name, MAX_NAME_BYTES),
            });
        }
        pairs.push((name, value));
    }
}

fn text(bytes: &[u8]) -> Result<&str, StartupError> {
    std::str::from_utf8(bytes).map_err(|_| StartupError::NotUtf8)
}

/// Returns a name cut between characters, as PostgreSQL cuts it, with `\xNN` for bytes that are not UTF-8.
fn name_of(bytes: &[u8], max_bytes: usize) -> String {
    // A character that begins within the limit ends at most three bytes after it.
    let bytes = bytes.get(..max_bytes + 3).unwrap_or(bytes);
    let mut name = Encoding::UTF8.decode(bytes, true).text.into_owned();
    name.truncate(name.floor_char_boundary(max_bytes));
    name
}

#[cfg(test)]
mod tests;
