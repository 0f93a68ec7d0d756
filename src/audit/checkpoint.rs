//! A checkpoint: the gate's signature under the log as it stood at a line.
//!
//! It signs and checks; when one is due is the journal's business, and what it says of a log is [`super::verify`]'s.
//!
//! The law: the signed message is the five lines that `message` writes, and nothing in it can be exchanged for anything in
//! another log, at another line, at another time.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::chain::{Link, Tip};
use super::encode::timestamp;
use super::key::{PublicKey, Signature, SigningKey};
use crate::ids::LogId;

/// What a write has to sign in front of its own lines: lines that have been waiting for a signature for longer than this, and, where
/// its own lines tell of what is longer ago, everything before them.
///
/// So lines that no checkpoint covers are, by their own times, at most twice as far apart, or older than the checkpoint before
/// them: however long a disk hangs, a machine sleeps or a thread is not run, for the clock is asked once for each write, and a write
/// that ends in the middle has its beginning. [`super::verify`] holds a log to that.
pub(super) const LATE: SignedDuration = SignedDuration::from_secs(2);

/// All lines of a log up to a number, under one signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The log.
    pub log: LogId,
    /// The number of the last line that it covers.
    pub covers: u64,
    /// The chain after that line.
    pub link: Link,
    /// Whose signature it is.
    pub key: PublicKey,
    /// Ed25519, of those five lines.
    pub signature: Signature,
}

impl Checkpoint {
    /// Signs the log as it stands.
    #[must_use]
    pub fn sign(log: &LogId, tip: Tip, time: Timestamp, key: &SigningKey) -> Self {
        let message = message(log, tip, time);
        Self {
            log: log.clone(),
            covers: tip.seq,
            link: tip.link,
            key: key.public(),
            signature: key.sign(&message),
        }
    }

    /// Whether it was signed at this time with the key it names. Whether that key is to be trusted is another question.
    #[must_use]
    pub fn is_genuine(&self, time: Timestamp) -> bool {
        self.key.proves(&message(&self.log, self.tip(), time), &self.signature)
    }

    /// The tip that it covers.
    #[must_use]
    pub fn tip(&self) -> Tip {
        Tip {
            seq: self.covers,
            link: self.link,
        }
    }
}

/// What is signed.
fn message(log: &LogId, tip: Tip, time: Timestamp) -> Vec<u8> {
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
        let tip = Tip {
            seq: 7,
            link: Link::START.after(b"x"),
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
                link: Link::START,
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
