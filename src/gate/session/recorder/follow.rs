//! Data that the recorder follows besides statements: text and values of a message that is too long to be held, and the lexer
//! settings.
//!
//! This module records nothing.

use super::{MAX_ANSWER_BYTES, StatementRecorder};
use crate::gate::session::statement::{ReadingManner, TextFollower, ValuesFollower};
use crate::protocol::wire::frame::BodyPiece;
use crate::protocol::wire::frontend::Fields;

impl StatementRecorder {
    pub(super) fn follow_text(&mut self, piece: &BodyPiece<'_>) {
        if piece.first {
            let long = piece.whole().is_none() || piece.length as usize > self.keep.sql;
            self.follow = match piece.tag {
                b'Q' if long => Some(TextFollower::new(0, &self.keep.key)),
                b'P' if long => Some(TextFollower::new(1, &self.keep.key)),
                _ => None,
            };
        }
        if let Some(follow) = &mut self.follow {
            follow.feed(piece.bytes);
        }
    }

    pub(super) fn follow_values(&mut self, piece: &BodyPiece<'_>, bound: usize) {
        if piece.first {
            let long = piece.length as usize > bound;
            self.follow_values = match piece.tag {
                b'B' if long => Some(ValuesFollower::of_bind(self.keep.parameter, &self.keep.key)),
                b'F' if long => Some(ValuesFollower::of_call(self.keep.parameter, &self.keep.key)),
                _ => None,
            };
        }
        if let Some(follow) = &mut self.follow_values {
            follow.feed(piece.bytes);
        }
    }

    /// Returns the conditions under which a text sent now is analysed.
    pub(super) fn manner(&self, text: &[u8]) -> ReadingManner {
        ReadingManner {
            settings: self.settings.of(text),
            settled: self.settings.are_settled(),
            wary: self.wary,
        }
    }

    /// Takes a setting that the target reports: some determine how it reads texts.
    pub(super) fn told(&mut self, piece: &BodyPiece<'_>) {
        if let Some(body) = self.from_target.add(piece, MAX_ANSWER_BYTES) {
            let mut fields = Fields::of(body);
            self.settings.told(fields.text_or_rest(), fields.text_or_rest());
        }
    }
}
