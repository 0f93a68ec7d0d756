//! Trust in the keys that signed the log. Pure.

use std::collections::BTreeSet;

use crate::audit::key::PublicKey;
use crate::audit::verify::LogFlaw;
use crate::audit::verify::scan::{FrameKind, SegmentScan};

/// Keys that are trusted, and the line up to which they prove the log.
pub(super) struct KeyTrust {
    pub(super) given: Option<PublicKey>,
    pub(super) trusted: BTreeSet<String>,
    pub(super) signed_by: Vec<PublicKey>,
    pub(super) proven: u64,
    /// Old and new key of a change; the new key is trusted as soon as the old one signs.
    pub(super) pending: Option<(PublicKey, PublicKey)>,
    /// Key without trust that has signed after all proven lines.
    pub(super) stranger: Option<PublicKey>,
}

impl KeyTrust {
    pub(super) fn new(given: Option<PublicKey>) -> Self {
        Self {
            trusted: given.iter().map(PublicKey::to_string).collect(),
            given,
            signed_by: Vec::new(),
            proven: 0,
            pending: None,
            stranger: None,
        }
    }

    /// Takes the decisive lines of a segment, up to its flaw; the signatures of its checkpoints were checked.
    pub(super) fn scan(&mut self, segment: &SegmentScan) {
        for frame in &segment.frames {
            match &frame.what {
                FrameKind::Checkpoint(checkpoint, _) => self.take(checkpoint.key, frame.seq),
                FrameKind::KeyChanged(changed) if changed.vouched => self.pending = Some((changed.previous, changed.key)),
                FrameKind::KeyChanged(changed) if self.given.is_none() => drop(self.trusted.insert(changed.key.to_string())),
                _ => {}
            }
        }
    }

    pub(super) fn take(&mut self, key: PublicKey, seq: u64) {
        if !self.signed_by.contains(&key) {
            self.signed_by.push(key);
        }
        if self.given.is_none() && self.trusted.is_empty() {
            self.trusted.insert(key.to_string());
        }
        if !self.trusted.contains(&key.to_string()) {
            self.stranger = Some(key);
            return;
        }
        (self.proven, self.stranger) = (seq, None);
        if let Some((_, new)) = self.pending.take_if(|(previous, _)| *previous == key) {
            self.trusted.insert(new.to_string());
        }
    }

    pub(super) fn flaw(&self) -> Option<LogFlaw> {
        match (&self.given, &self.stranger) {
            // An unsigned log is proven as little as one with a foreign signature.
            (Some(given), _) if self.proven == 0 => Some(LogFlaw::WrongKey {
                expected: given.id(),
                found: self.signed_by.iter().map(PublicKey::id).collect(),
            }),
            (_, Some(stranger)) => Some(LogFlaw::Unvouched {
                after: self.proven,
                key: stranger.id(),
            }),
            _ => None,
        }
    }
}
