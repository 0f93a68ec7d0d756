//! Signatures of Slack's calls (scheme `v0`), and the memory by which each counts once. Pure.
//!
//! INVARIANT: a call is accepted at most once in the life of the gate, whatever its clock does. A call from before the start is not
//! accepted at all, since the memory begins with it.

use std::collections::HashMap;

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::base::secret::Secret;

/// Header with the time of a call, in Unix seconds.
pub const TIMESTAMP_HEADER: &str = "x-slack-request-timestamp";
/// Header with the signature of a call.
pub const SIGNATURE_HEADER: &str = "x-slack-signature";

/// Scheme of the signatures.
const SCHEME: &str = "v0";
/// Greatest age of a call.
const MAX_AGE_SECONDS: i64 = 300;
/// Longest time that the chat's clock may be ahead of the gate's. A call that is ahead waits for its time.
const MAX_AHEAD_SECONDS: i64 = 2;
/// Maximum number of calls remembered. They are all signed, so only the chat can fill it: some sixteen clicks in a second.
const MAX_REMEMBERED: usize = 10_000;

/// Reason why a call of the chat is not accepted, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The headers are missing or cannot be read.
    #[error("it has no signature that can be read")]
    Unsigned,
    /// The signature is not that of this body.
    #[error("its signature does not fit chat.signing_secret")]
    Wrong,
    /// The time is too far from the gate's.
    #[error("it is older than five minutes, or the chat's clock is more than two seconds ahead of the gate's")]
    Skewed,
    /// The call was accepted already, or could have been before the gate started.
    #[error("it is the copy of a call that was accepted, or from before the gate started")]
    Replayed,
    /// Too many calls are remembered.
    #[error("{MAX_REMEMBERED} calls of the last minutes are remembered already")]
    Full,
}

/// Call whose signature fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SignedCall {
    signature: [u8; 32],
    at: i64,
}

/// Checks the signature of a call: HMAC-SHA256 with the secret over `v0:`, the time, a colon and the body.
pub(crate) fn verified(
    secret: &Secret<String>,
    time: &str,
    signature: &str,
    body: &[u8],
    now: i64,
) -> Result<SignedCall, SignatureError> {
    let digits = !time.is_empty() && time.bytes().all(|byte| byte.is_ascii_digit());
    let at: i64 = time.parse().ok().filter(|_| digits).ok_or(SignatureError::Unsigned)?;
    let hexadecimal = signature.strip_prefix(SCHEME).and_then(|rest| rest.strip_prefix('='));
    let given = hexadecimal.and_then(|text| HEXLOWER.decode(text.as_bytes()).ok());
    let given: [u8; 32] = given
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(SignatureError::Unsigned)?;
    if !(-MAX_AGE_SECONDS..=MAX_AHEAD_SECONDS).contains(&at.saturating_sub(now)) {
        return Err(SignatureError::Skewed);
    }
    let mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes());
    let mut mac = mac.map_err(|_| SignatureError::Wrong)?;
    mac.update(format!("{SCHEME}:{time}:").as_bytes());
    mac.update(body);
    // In constant time.
    mac.verify_slice(&given).map_err(|_| SignatureError::Wrong)?;
    Ok(SignedCall { signature: given, at })
}

impl SignedCall {
    /// Returns the seconds until its time.
    pub(super) fn early(&self, now: i64) -> u64 {
        self.at.saturating_sub(now).try_into().unwrap_or_default()
    }
}

/// Memory of the calls that were accepted, for as long as a copy could be.
#[derive(Debug)]
pub(super) struct ReplayMemory {
    /// Time up to which no call is accepted: that of the start, and of the newest that was forgotten.
    floor: i64,
    seen: HashMap<[u8; 32], i64>,
}

impl ReplayMemory {
    /// Creates the memory at the start of the gate. An earlier run may have accepted any call up to its last second, and none later
    /// than that.
    pub(super) fn new(started: i64) -> Self {
        Self {
            floor: started,
            seen: HashMap::new(),
        }
    }

    /// Accepts a call whose time has come, if it comes for the first time.
    pub(super) fn accept(&mut self, call: &SignedCall, now: i64) -> Result<(), SignatureError> {
        if call.at > now {
            return Err(SignatureError::Skewed);
        }
        let oldest = now.saturating_sub(MAX_AGE_SECONDS);
        // It never falls: what was forgotten stays too old, even if the clock is set back.
        let forgotten = self.seen.values().copied().filter(|at| *at < oldest).max();
        self.floor = self.floor.max(forgotten.unwrap_or(i64::MIN));
        self.seen.retain(|_, at| *at >= oldest);
        if call.at <= self.floor || self.seen.contains_key(&call.signature) {
            return Err(SignatureError::Replayed);
        }
        if self.seen.len() >= MAX_REMEMBERED {
            return Err(SignatureError::Full);
        }
        self.seen.insert(call.signature, call.at);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The example of Slack's own documentation ("Verifying requests from Slack").
    const SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";
    const TIME: &str = "1531420618";
    const NOW: i64 = 1_531_420_618;
    const BODY: &str = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V\
        &channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=\
        &response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN\
        &trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    const SIGNATURE: &str = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503";

    fn secret() -> Secret<String> {
        Secret::new(SECRET.to_owned())
    }

    fn check(time: &str, signature: &str, body: &str, now: i64) -> Result<SignedCall, SignatureError> {
        verified(&secret(), time, signature, body.as_bytes(), now)
    }

    fn call(number: u8, at: i64) -> SignedCall {
        SignedCall {
            signature: [number; 32],
            at,
        }
    }

    #[test]
    fn slacks_own_example_fits_and_nothing_like_it_does() {
        assert_eq!(check(TIME, SIGNATURE, BODY, NOW).map(|call| call.at), Ok(NOW));
        let upper = SIGNATURE.to_uppercase().replace("V0", "v0");
        let (cut, bare) = (SIGNATURE.trim_end_matches("03"), SIGNATURE.trim_start_matches("v0="));
        let other = SIGNATURE.replace("a2114", "a2115");
        for (time, signature, body, error) in [
            (TIME, other.as_str(), BODY, SignatureError::Wrong),
            (TIME, SIGNATURE, "token=x", SignatureError::Wrong),
            ("1531420619", SIGNATURE, BODY, SignatureError::Wrong),
            (TIME, cut, BODY, SignatureError::Unsigned),
            (TIME, &upper, BODY, SignatureError::Unsigned),
            (TIME, bare, BODY, SignatureError::Unsigned),
            (TIME, &SIGNATURE.replace("v0", "v1"), BODY, SignatureError::Unsigned),
            (TIME, "", BODY, SignatureError::Unsigned),
            ("", SIGNATURE, BODY, SignatureError::Unsigned),
            ("+1531420618", SIGNATURE, BODY, SignatureError::Unsigned),
            ("99999999999999999999", SIGNATURE, BODY, SignatureError::Unsigned),
        ] {
            assert_eq!(check(time, signature, body, NOW), Err(error), "{time} {signature}");
        }
        let empty = verified(&Secret::new(String::new()), TIME, SIGNATURE, BODY.as_bytes(), NOW);
        assert_eq!(empty, Err(SignatureError::Wrong));
    }

    #[test]
    fn it_is_five_minutes_old_at_most_and_hardly_ahead() {
        for (ahead, good) in [(300, true), (-2, true), (301, false), (-3, false)] {
            assert_eq!(check(TIME, SIGNATURE, BODY, NOW + ahead).is_ok(), good, "{ahead}");
        }
    }

    #[test]
    fn a_call_counts_once_and_only_after_the_start() {
        let mut memory = ReplayMemory::new(NOW);
        for at in [NOW - 200, NOW] {
            assert_eq!(memory.accept(&call(1, at), NOW), Err(SignatureError::Replayed));
        }
        assert_eq!(
            memory.accept(&call(1, NOW + 1), NOW),
            Err(SignatureError::Skewed),
            "its time has to come"
        );
        assert_eq!(memory.accept(&call(1, NOW + 1), NOW + 1), Ok(()));
        assert_eq!(memory.accept(&call(2, NOW + 1), NOW + 1), Ok(()));
        for later in [1, 100, 301] {
            assert_eq!(memory.accept(&call(1, NOW + 1), NOW + later), Err(SignatureError::Replayed));
        }
        // It is forgotten when its time alone refuses it, and stays refused if the clock is set back.
        assert_eq!(memory.accept(&call(3, NOW + 400), NOW + 400), Ok(()));
        assert_eq!(memory.seen.len(), 1);
        assert_eq!(memory.accept(&call(1, NOW + 1), NOW + 2), Err(SignatureError::Replayed));
        // A clock that was ahead for a while shuts nobody else out.
        assert_eq!(memory.accept(&call(4, NOW + 2), NOW + 2), Ok(()));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut memory = ReplayMemory::new(0);
        for number in 0..MAX_REMEMBERED {
            let mut signature = [0; 32];
            signature[..8].copy_from_slice(&number.to_be_bytes());
            assert_eq!(memory.accept(&SignedCall { signature, at: NOW }, NOW), Ok(()));
        }
        assert_eq!(memory.accept(&call(9, NOW), NOW), Err(SignatureError::Full));
        assert_eq!(memory.accept(&call(9, NOW + 302), NOW + 302), Ok(()));
    }

    proptest! {
        #[test]
        fn no_guess_is_accepted(time in 1_531_420_318..=1_531_420_620_i64, signature in any::<[u8; 32]>(), body in ".{0,64}") {
            let signature = format!("v0={}", HEXLOWER.encode(&signature));
            prop_assert_eq!(check(&time.to_string(), &signature, &body, NOW), Err(SignatureError::Wrong));
        }

        #[test]
        fn no_text_is_accepted(time in ".{0,12}", signature in "(v0=)?.{0,70}", body in ".{0,64}") {
            prop_assert!(check(&time, &signature, &body, NOW).is_err());
        }
    }
}
