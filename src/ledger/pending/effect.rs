//! How far a change that takes rights away has come, as whoever made it is told.

use serde::{Deserialize, Serialize};

/// How far a change that takes rights away has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// Sessions have been told to end, and nobody is let in by what was taken away.
    pub in_effect: bool,
    /// It is in the store, so it holds after a restart.
    pub stored: bool,
    /// It is in the audit log.
    pub recorded: bool,
}

impl Effect {
    /// What a change has come to that needs nothing more.
    pub const DONE: Self = Self {
        in_effect: true,
        stored: true,
        recorded: true,
    };

    /// Whether it is in effect, stored and on record.
    #[must_use]
    pub fn is_done(self) -> bool {
        self == Self::DONE
    }

    pub(in crate::ledger) fn and(self, other: Self) -> Self {
        Self {
            in_effect: self.in_effect && other.in_effect,
            stored: self.stored && other.stored,
            recorded: self.recorded && other.recorded,
        }
    }
}
