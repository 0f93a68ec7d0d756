//! Secrets that are good once, for a sign-in that has begun: random texts, and the challenges of verifiers (RFC 7636).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use crate::base::secret::Secret;

/// Number of random bytes: 256 bits (RFC 7636, section 7.1).
const RANDOM_BYTES: usize = 32;
/// Number of bytes of a challenge.
const CHALLENGE_BYTES: usize = 32;

/// Returns a random secret in base64url.
pub fn random_secret() -> Result<Secret<String>, getrandom::Error> {
    let mut random = [0; RANDOM_BYTES];
    getrandom::fill(&mut random)?;
    Ok(Secret::new(URL_SAFE_NO_PAD.encode(random)))
}

/// Returns the challenge of a verifier (RFC 7636, section 4.2: `S256`).
#[must_use]
pub fn challenge_of(verifier: &Secret<String>) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.expose().as_bytes()))
}

/// Returns true if a text has the form of a challenge.
#[must_use]
pub fn is_challenge(text: &str) -> bool {
    URL_SAFE_NO_PAD.decode(text).is_ok_and(|bytes| bytes.len() == CHALLENGE_BYTES)
}
