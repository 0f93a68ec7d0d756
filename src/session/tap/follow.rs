//! Data that the recorder follows besides statements: text and values of a message that is too long to be held, and the lexer
//! settings.
//!
//! This module records nothing.

use super::{MOST_ANSWER, Tap};
use crate::session::statement::{Follow, FollowValues, Manner};
use crate::wire::frame::Piece;
use crate::wire::frontend::Fields;

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

    /// Returns the conditions under which a text sent now is analysed.
    pub(super) fn manner(&self, text: &[u8]) -> Manner {
        Manner {
            settings: self.settings.of(text),
            settled: self.settings.are_settled(),
            wary: self.wary,
        }
    }

    /// Takes a setting that the target reports: some determine how it reads texts.
    pub(super) fn told(&mut self, piece: &Piece<'_>) {
        if let Some(body) = self.from_target.add(piece, MOST_ANSWER) {
            let mut fields = Fields::of(body);
            self.settings.told(fields.text_or_rest(), fields.text_or_rest());
        }
    }
}
