//! Secrets that are good once, for a sign-in that has begun: random texts, the challenges of verifiers, and hashes to compare.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use super::AccessError;
use crate::base::secret::Secret;
use crate::ledger::LedgerError;

/// Number of random bytes: 256 bits (RFC 7636, section 7.1).
const RANDOM_BYTES: usize = 32;

/// Returns a random secret in base64url.
pub(super) fn random() -> Result<Secret<String>, AccessError> {
    let mut random = [0; RANDOM_BYTES];
    getrandom::fill(&mut random).map_err(LedgerError::from)?;
    Ok(Secret::new(URL_SAFE_NO_PAD.encode(random)))
}

/// Returns the challenge of a verifier (RFC 7636, section 4.2: `S256`).
#[must_use]
pub fn challenge_of(verifier: &Secret<String>) -> String {
    URL_SAFE_NO_PAD.encode(digest(verifier.expose()))
}

/// Returns true if a text has the form of a challenge.
pub(super) fn is_challenge(text: &str) -> bool {
    URL_SAFE_NO_PAD
        .decode(text)
        .is_ok_and(|bytes| bytes.len() == digest("").len())
}

/// Returns a hash, so that a comparison of it tells nothing about the value.
pub(super) fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}
