//! The keys of SCRAM-SHA-256 (RFC 5802 section 3) and the few computations on them.
//!
//! It does not know messages. The law it keeps: what can be used to log in is wiped on drop, never printed, and compared in
//! constant time.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

/// The length of SHA-256 and so of every key here, in bytes.
pub(super) const KEY: usize = 32;

/// A key, a signature or a proof.
pub(super) type Key = [u8; KEY];

/// What a client computes from a password, a salt and a number of rounds.
///
/// The rounds of PBKDF2 are nearly all the work of a login, so whoever logs in again and again with one password keeps this.
/// It is as good as the password for the one server it was made for: treat it as a secret.
#[derive(Clone)]
pub struct ClientKeys {
    client_key: Key,
    server_key: Key,
}

impl ClientKeys {
    /// Runs PBKDF2: about a millisecond for 4096 rounds, so not on a thread that others wait for when there are many.
    #[must_use]
    pub fn derive(password: &[u8], salt: &[u8], iterations: u32) -> Self {
        let prepared = prepare(password);
        let mut salted = Zeroizing::new([0; KEY]);
        pbkdf2::pbkdf2_hmac::<Sha256>(&prepared, salt, iterations, salted.as_mut());
        Self {
            client_key: hmac(salted.as_ref(), &[b"Client Key"]),
            server_key: hmac(salted.as_ref(), &[b"Server Key"]),
        }
    }

    pub(super) fn stored_key(&self) -> Key {
        hash(&self.client_key)
    }

    pub(super) fn server_key(&self) -> &Key {
        &self.server_key
    }

    /// `ClientKey XOR HMAC(StoredKey, AuthMessage)`.
    pub(super) fn proof(&self, auth_message: &[&[u8]]) -> Key {
        xor(&self.client_key, &hmac(&self.stored_key(), auth_message))
    }
}

impl Drop for ClientKeys {
    fn drop(&mut self) {
        self.client_key.zeroize();
        self.server_key.zeroize();
    }
}

impl fmt::Debug for ClientKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientKeys(…)")
    }
}

/// SASLprep (RFC 4013); a password that is not UTF-8 or that SASLprep forbids is used as it is, as libpq and PostgreSQL do.
fn prepare(password: &[u8]) -> Zeroizing<Vec<u8>> {
    let prepared = std::str::from_utf8(password)
        .ok()
        .and_then(|text| stringprep::saslprep(text).ok());
    Zeroizing::new(prepared.map_or_else(|| password.to_vec(), |text| text.as_bytes().to_vec()))
}

/// HMAC-SHA-256 over the parts one after the other.
pub(super) fn hmac(key: &[u8], parts: &[&[u8]]) -> Key {
    // HMAC takes keys of any length (RFC 2104); a failure cannot happen, and the answer to one would match nothing.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return [0; KEY];
    };
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

pub(super) fn hash(bytes: &[u8]) -> Key {
    Sha256::digest(bytes).into()
}

pub(super) fn xor(left: &Key, right: &Key) -> Key {
    let mut out = *left;
    for (byte, other) in out.iter_mut().zip(right) {
        *byte ^= other;
    }
    out
}

/// Equality in a time that does not depend on where the difference is.
pub(super) fn same(left: &[u8], right: &[u8]) -> bool {
    left.ct_eq(right).into()
}
