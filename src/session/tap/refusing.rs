//! Messages of the client that do not reach the target unchanged, because the guard rails or a limit refuse them.
//!
//! This module decides nothing.

use std::sync::Arc;

use super::Tap;
use crate::rails::Refused;
use crate::session::guard::{Guard, Instead};
use crate::wire::frame::Piece;

impl Tap {
    /// Inspects a piece before [`Tap::client`] takes it. Returns its replacement if the guard rails or a limit refuse the
    /// message.
    pub(in crate::session) fn refuses(&mut self, piece: &Piece<'_>) -> Option<Instead> {
        if piece.first {
            self.over_limit = self.book.over_limit(piece.tag);
        }
        let settings = &self.settings;
        let by_rails = self.guard.as_mut().and_then(|guard| guard.refuses(piece, settings));
        if self.over_limit.is_some() {
            // From the first byte on, because a message refused by a limit must have no effect: it may not even drop the unnamed
            // statement.
            return Some(Instead::Unreadable);
        }
        by_rails
    }

    /// Returns the refusal of the current message, if it is refused.
    pub(super) fn refusal(&mut self) -> Option<Arc<Refused>> {
        self.guard.as_mut().and_then(Guard::refusal)
    }

    pub(super) fn refuse(&mut self, number: u64, refused: Option<Arc<Refused>>) {
        if let Some(refused) = refused {
            self.book.refuse(number, refused);
        }
    }
}
