//! Keys of SCRAM-SHA-256 (RFC 5802 section 3) and the computations on them.
//!
//! This module does not depend on messages.
//!
//! INVARIANT: keys that can be used to log in are wiped on drop, never printed, and compared in constant time.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

/// Length of a SHA-256 hash and so of every key here, in bytes.
pub(super) const KEY_BYTES: usize = 32;

/// Key, signature or proof.
pub(super) type KeyBytes = [u8; KEY_BYTES];

/// Keys that a client computes from a password, a salt and a number of rounds.
///
/// The PBKDF2 rounds are nearly all the work of a login, so a client that logs in repeatedly with one password caches these keys.
/// They are equivalent to the password for the one server they were derived for: treat them as a secret.
#[derive(Clone)]
pub struct ClientKeys {
    client_key: KeyBytes,
    pub(super) server_key: KeyBytes,
}

impl ClientKeys {
    /// Derives the keys by PBKDF2. This takes about a millisecond for 4096 rounds, so many derivations must not run on a thread
    /// that others wait for.
    #[must_use]
    pub fn derive(password: &[u8], salt: &[u8], iterations: u32) -> Self {
        let prepared = prepare(password);
        let mut salted = Zeroizing::new([0; KEY_BYTES]);
        pbkdf2::pbkdf2_hmac::<Sha256>(&prepared, salt, iterations, salted.as_mut());
        Self {
            client_key: hmac(salted.as_ref(), &[b"Client Key"]),
            server_key: hmac(salted.as_ref(), &[b"Server Key"]),
        }
    }

    pub(super) fn stored_key(&self) -> KeyBytes {
        hash(&self.client_key)
    }

    /// Computes `ClientKey XOR HMAC(StoredKey, AuthMessage)`.
    pub(super) fn proof(&self, auth_message: &[&[u8]]) -> KeyBytes {
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

/// Prepares a password by SASLprep (RFC 4013). A password that is not UTF-8 or that SASLprep forbids is used unchanged, as in
/// libpq and PostgreSQL.
fn prepare(password: &[u8]) -> Zeroizing<Vec<u8>> {
    let prepared = std::str::from_utf8(password)
        .ok()
        .and_then(|text| stringprep::saslprep(text).ok());
    Zeroizing::new(prepared.map_or_else(|| password.to_vec(), |text| text.as_bytes().to_vec()))
}

/// Returns the text that proof and signature are computed over, in parts (RFC 5802 section 3: `AuthMessage`).
pub(super) fn auth_message<'m>(client_first_bare: &'m str, server_first: &'m str, without_proof: &'m str) -> [&'m [u8]; 5] {
    [client_first_bare, ",", server_first, ",", without_proof].map(str::as_bytes)
}

/// Computes HMAC-SHA-256 over the concatenated parts.
pub(super) fn hmac(key: &[u8], parts: &[&[u8]]) -> KeyBytes {
    // HMAC takes keys of any length (RFC 2104), so this cannot fail; the zero key would match nothing.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return [0; KEY_BYTES];
    };
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

pub(super) fn hash(bytes: &[u8]) -> KeyBytes {
    Sha256::digest(bytes).into()
}

pub(super) fn xor(left: &KeyBytes, right: &KeyBytes) -> KeyBytes {
    let mut out = *left;
    for (byte, other) in out.iter_mut().zip(right) {
        *byte ^= other;
    }
    out
}

/// Compares in a time that does not depend on the position of the first difference.
pub(super) fn same(left: &[u8], right: &[u8]) -> bool {
    left.ct_eq(right).into()
}
