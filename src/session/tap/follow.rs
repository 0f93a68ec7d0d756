//! What a tap follows of a message that is too long to be held: its text, its values.
//!
//! It puts nothing on record.

use super::Tap;
use crate::session::statement::{Follow, FollowValues};
use crate::wire::frame::Piece;

impl Tap {
    pub(super) fn follow_text(&mut self, piece: &Piece<'_>) {
        if piece.first {
            let long = piece.whole().is_none() || piece.length as usize > self.keep.sql;
            self.follow = match piece.tag {
                b'Q' if long => Some(Follow::new(0, &self.keep.key)),
                b'P' if long => Some(Follow::new(1, &self.keep.key)),
                _ => None,
            };
        }
        if let Some(follow) = &mut self.follow {
            follow.feed(piece.bytes);
        }
    }

    pub(super) fn follow_values(&mut self, piece: &Piece<'_>, bound: usize) {
        if piece.first {
            let long = piece.length as usize > bound;
            self.follow_values = match piece.tag {
                b'B' if long => Some(FollowValues::of_bind(self.keep.parameter, &self.keep.key)),
                b'F' if long => Some(FollowValues::of_call(self.keep.parameter, &self.keep.key)),
                _ => None,
            };
        }
        if let Some(follow) = &mut self.follow_values {
            follow.feed(piece.bytes);
        }
    }
}
