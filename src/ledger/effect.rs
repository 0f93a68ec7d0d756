//! Progress of a restriction, as its caller sees it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Progress of a restriction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Effect)]
pub struct ChangeEffect {
    /// True if the restriction is in effect: sessions have been told to end, and no client is let in with the lost rights.
    pub in_effect: bool,
    /// True if it is in the store, so it holds after a restart.
    pub stored: bool,
    /// True if it is in the audit log.
    pub recorded: bool,
}

impl ChangeEffect {
    /// Progress of a change with nothing left to do.
    pub const DONE: Self = Self {
        in_effect: true,
        stored: true,
        recorded: true,
    };

    /// Returns true if the change is in effect, stored and on record.
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
