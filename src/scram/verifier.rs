//! What a server keeps instead of a password, in the form PostgreSQL keeps it in `pg_authid.rolpassword`.
//!
//! It does not store anything. The law it keeps: nobody can log in with a verifier, and a fake one cannot be told from a genuine
//! one by a client.

use std::fmt;
use std::str::FromStr;

use super::keys::{ClientKeys, KEY, Key, hmac};
use super::message::{decode, encode};
use super::{ITERATIONS, SALT_BYTES};

/// The scheme's name in front of a verifier.
const SCHEME: &str = "SCRAM-SHA-256";

/// The most rounds a stored verifier may name; PostgreSQL's `scram_iterations` has no lower limit of its own than `i32::MAX`.
const MOST_ITERATIONS: u32 = i32::MAX.unsigned_abs();

/// A SCRAM-SHA-256 verifier. Text form: `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`, base 64.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    iterations: u32,
    salt: Vec<u8>,
    stored_key: Key,
    server_key: Key,
    /// Made for a user that does not exist: no proof is right.
    mock: bool,
}

/// Why a text is not a verifier. The text itself is a secret and so not in here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a SCRAM verifier: expected SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>")]
pub struct InvalidVerifier;

impl Verifier {
    /// Makes the verifier of a password. Runs PBKDF2: about a millisecond for 4096 rounds.
    #[must_use]
    pub fn derive(password: &[u8], salt: &[u8], iterations: u32) -> Self {
        Self::of(&ClientKeys::derive(password, salt, iterations), salt, iterations)
    }

    /// The verifier that a client with these keys logs in to; salt and rounds are those they were derived with.
    #[must_use]
    pub fn of(keys: &ClientKeys, salt: &[u8], iterations: u32) -> Self {
        Self {
            iterations,
            salt: salt.to_vec(),
            stored_key: keys.stored_key(),
            server_key: *keys.server_key(),
            mock: false,
        }
    }

    /// A verifier for a user that does not exist: the exchange looks as with a genuine one and always ends in
    /// [`BadProof`](super::ScramError::BadProof). The same user and key give the same salt, so asking twice tells nothing.
    #[must_use]
    pub fn mock(user: &str, key: &[u8; 32]) -> Self {
        let part = |label: &[u8]| hmac(key, &[label, user.as_bytes()]);
        Self {
            iterations: ITERATIONS,
            salt: part(b"salt:").into_iter().take(SALT_BYTES).collect(),
            stored_key: part(b"stored:"),
            server_key: part(b"server:"),
            mock: true,
        }
    }

    /// Rounds of PBKDF2.
    #[must_use]
    pub fn iterations(&self) -> u32 {
        self.iterations
    }

    /// The salt.
    #[must_use]
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    pub(super) fn stored_key(&self) -> &Key {
        &self.stored_key
    }

    pub(super) fn server_key(&self) -> &Key {
        &self.server_key
    }

    pub(super) fn is_mock(&self) -> bool {
        self.mock
    }
}

impl FromStr for Verifier {
    type Err = InvalidVerifier;

    fn from_str(text: &str) -> Result<Self, InvalidVerifier> {
        let mut parts = text.split('$');
        let (Some(SCHEME), Some(cost), Some(keys), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err(InvalidVerifier);
        };
        let (iterations, salt) = cost.split_once(':').ok_or(InvalidVerifier)?;
        let (stored, server) = keys.split_once(':').ok_or(InvalidVerifier)?;
        let iterations = iterations.parse().map_err(|_| InvalidVerifier)?;
        if !(1..=MOST_ITERATIONS).contains(&iterations) {
            return Err(InvalidVerifier);
        }
        let bytes = |text| decode(text, "").map_err(|_| InvalidVerifier);
        let key = |text| Key::try_from(bytes(text)?).map_err(|_| InvalidVerifier);
        Ok(Self {
            iterations,
            salt: bytes(salt)?,
            stored_key: key(stored)?,
            server_key: key(server)?,
            mock: false,
        })
    }
}

/// The text form: what is stored. It lets nobody log in, but lets one pose as the server and guess passwords offline.
impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{SCHEME}${}:{}${}:{}",
            self.iterations,
            encode(&self.salt),
            encode(&self.stored_key),
            encode(&self.server_key)
        )
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verifier({SCHEME}, {} iterations, {KEY}-byte keys …)", self.iterations)
    }
}
