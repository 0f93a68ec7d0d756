//! Checkpoints: signatures of the gate under the log up to a line.
//!
//! This module signs and checks signatures. The journal decides when a checkpoint is due; [`super::verify`] judges a log by its
//! checkpoints.
//!
//! INVARIANT: the signed message is the five lines that `message` writes, and no part of it can be exchanged for one from
//! another log, another line or another time.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::chain::{ChainLink, ChainTip};
use super::key::{PublicKey, Signature, SigningKey};
use super::text::timestamp;
use crate::model::ids::LogId;

/// Age from which unsigned lines are signed at the beginning of the next write, before its own lines. If the write's own lines
/// are older than this, everything before them is signed, too.
///
/// So lines that no checkpoint covers are, by their own times, at most twice as far apart, or older than the checkpoint before
/// them. This holds however long a disk hangs, a machine sleeps or a thread does not run, because the clock is read once for
/// each write, and a write that ends in the middle has its beginning. [`super::verify`] checks a log for it.
pub(super) const SIGN_LAG: SignedDuration = SignedDuration::from_secs(2);

/// Signature under all lines of a log up to a number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Id of the log.
    pub log: LogId,
    /// Number of the last line that it covers.
    pub covers: u64,
    /// Link after that line.
    pub link: ChainLink,
    /// Key of the signature.
    pub key: PublicKey,
    /// Ed25519 signature of the message.
    pub signature: Signature,
}

impl Checkpoint {
    /// Signs the log up to `tip`.
    #[must_use]
    pub fn sign(log: &LogId, tip: ChainTip, time: Timestamp, key: &SigningKey) -> Self {
        let message = message(log, tip, time);
        Self {
            log: log.clone(),
            covers: tip.seq,
            link: tip.link,
            key: key.public(),
            signature: key.sign(&message),
        }
    }

    /// Reports whether it was signed at this time with the key it names. It does not say that this key is to be trusted.
    #[must_use]
    pub fn is_genuine(&self, time: Timestamp) -> bool {
        self.key.proves(&message(&self.log, self.tip(), time), &self.signature)
    }

    /// Returns the tip that it covers.
    #[must_use]
    pub fn tip(&self) -> ChainTip {
        ChainTip {
            seq: self.covers,
            link: self.link,
        }
    }
}

/// Returns the signed message.
fn message(log: &LogId, tip: ChainTip, time: Timestamp) -> Vec<u8> {
    let mut message = format!("tidegate audit checkpoint 1\n{log}\n{}\n{}\n", tip.seq, tip.link).into_bytes();
    timestamp(&mut message, time);
    message.push(b'\n');
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::testing::time;

    #[test]
    fn a_signature_holds_for_its_log_line_chain_and_time_only() {
        let dir = tempfile::tempdir().unwrap();
        let key = SigningKey::load_or_make(&dir.path().join("key.pem")).unwrap();
        let log = LogId::from_random([1; 10]);
        let tip = ChainTip {
            seq: 7,
            link: ChainLink::START.after(b"x"),
        };
        let signed = Checkpoint::sign(&log, tip, time(1), &key);
        assert!(signed.is_genuine(time(1)));
        let other_key = SigningKey::load_or_make(&dir.path().join("other.pem")).unwrap().public();
        let forged = [
            Checkpoint {
                log: LogId::from_random([2; 10]),
                ..signed.clone()
            },
            Checkpoint {
                covers: 8,
                ..signed.clone()
            },
            Checkpoint {
                link: ChainLink::START,
                ..signed.clone()
            },
            Checkpoint {
                key: other_key,
                ..signed.clone()
            },
        ];
        assert!(forged.iter().all(|forged| !forged.is_genuine(time(1))));
        assert!(!signed.is_genuine(time(2)));
    }
}
