//! Verifiers, which a server stores instead of passwords, in the form of PostgreSQL's `pg_authid.rolpassword`.
//!
//! This module does not store anything.
//!
//! INVARIANT: a verifier is not sufficient to log in, and a client cannot tell a mock verifier from a genuine one.

use std::fmt;
use std::str::FromStr;

use super::keys::{ClientKeys, KEY_BYTES, KeyBytes, hmac};
use super::message::{decode, encode};
use super::{ITERATIONS, SALT_BYTES};

/// Name of the scheme at the beginning of a verifier.
const SCHEME: &str = "SCRAM-SHA-256";

/// Maximum number of rounds in a stored verifier; PostgreSQL's `scram_iterations` has no lower limit of its own than `i32::MAX`.
const MAX_ITERATIONS: u32 = i32::MAX.unsigned_abs();

/// SCRAM-SHA-256 verifier. Text form: `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`, base 64.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    iterations: u32,
    salt: Vec<u8>,
    pub(super) stored_key: KeyBytes,
    pub(super) server_key: KeyBytes,
    /// True for the verifier of a user that does not exist: no proof is right.
    pub(super) mock: bool,
}

/// Error of a text that is not a verifier. It does not contain the text, which is a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a SCRAM verifier: expected SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>")]
pub struct VerifierError;

impl Verifier {
    /// Derives the verifier of a password. It runs PBKDF2: about a millisecond for 4096 rounds.
    #[must_use]
    pub fn derive(password: &[u8], salt: &[u8], iterations: u32) -> Self {
        Self::of(&ClientKeys::derive(password, salt, iterations), salt, iterations)
    }

    /// Returns the verifier for a client with these keys. Salt and rounds must be those that the keys were derived with.
    #[must_use]
    pub fn of(keys: &ClientKeys, salt: &[u8], iterations: u32) -> Self {
        Self {
            iterations,
            salt: salt.to_vec(),
            stored_key: keys.stored_key(),
            server_key: keys.server_key,
            mock: false,
        }
    }

    /// Returns a verifier for a user that does not exist. The exchange looks like a genuine one and always ends in
    /// [`BadProof`](super::ScramError::BadProof). The same user and key give the same salt, so repeated attempts reveal nothing.
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

    /// Returns the number of PBKDF2 rounds.
    #[must_use]
    pub fn iterations(&self) -> u32 {
        self.iterations
    }

    /// Returns the salt.
    #[must_use]
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }
}

impl FromStr for Verifier {
    type Err = VerifierError;

    fn from_str(text: &str) -> Result<Self, VerifierError> {
        let mut parts = text.split('$');
        let (Some(SCHEME), Some(cost), Some(keys), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err(VerifierError);
        };
        let (iterations, salt) = cost.split_once(':').ok_or(VerifierError)?;
        let (stored, server) = keys.split_once(':').ok_or(VerifierError)?;
        let iterations = iterations.parse().map_err(|_| VerifierError)?;
        if !(1..=MAX_ITERATIONS).contains(&iterations) {
            return Err(VerifierError);
        }
        let bytes = |text| decode(text, "").map_err(|_| VerifierError);
        let key = |text| KeyBytes::try_from(bytes(text)?).map_err(|_| VerifierError);
        Ok(Self {
            iterations,
            salt: bytes(salt)?,
            stored_key: key(stored)?,
            server_key: key(server)?,
            mock: false,
        })
    }
}

/// Writes the text form, which is stored. It does not allow a login, but allows posing as the server and guessing passwords
/// offline.
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
        write!(
            f,
            "Verifier({SCHEME}, {} iterations, {KEY_BYTES}-byte keys …)",
            self.iterations
        )
    }
}
