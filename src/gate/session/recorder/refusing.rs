//! Messages of the client that do not reach the target unchanged, because the guard rails or a limit refuse them.
//!
//! This module decides nothing.

use std::sync::Arc;

use super::StatementRecorder;
use crate::gate::session::filter::{Replacement, SessionFilter};
use crate::gate::sql_filter::StatementRefusal;
use crate::protocol::wire::frame::BodyPiece;

impl StatementRecorder {
    /// Inspects a piece before [`StatementRecorder::client`] takes it. Returns its replacement if the guard rails or a limit refuse the
    /// message.
    pub(in crate::gate::session) fn refuses(&mut self, piece: &BodyPiece<'_>) -> Option<Replacement> {
        if piece.first {
            self.over_limit = self.extended.over_limit(piece.tag);
        }
        let settings = &self.settings;
        let by_rails = self.guard.as_mut().and_then(|guard| guard.refuses(piece, settings));
        if self.over_limit.is_some() {
            // From the first byte on, because a message refused by a limit must have no effect: it may not even drop the unnamed
            // statement.
            return Some(Replacement::Unreadable);
        }
        by_rails
    }

    /// Returns the refusal of the current message, if it is refused.
    pub(super) fn refusal(&mut self) -> Option<Arc<StatementRefusal>> {
        self.guard.as_mut().and_then(SessionFilter::refusal)
    }

    pub(super) fn refuse(&mut self, number: u64, refused: Option<Arc<StatementRefusal>>) {
        if let Some(refused) = refused {
            self.extended.refuse(number, refused);
        }
    }
}
