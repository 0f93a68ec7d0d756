//! Followers of texts that pass in pieces, of which only the beginning is held.
//!
//! This module shows nothing: [`super`] does.

use super::words::{FoundWords, MAX_WORD_BYTES};
use crate::audit::truncate::OriginalHashes;
use crate::audit::values::ValueKey;

/// Searcher for words in a text that comes in pieces.
#[derive(Debug, Default)]
pub(super) struct WordWatch {
    pub(super) words: FoundWords,
    /// Last bytes, because the end of a piece may cut a word.
    last: Vec<u8>,
}

impl WordWatch {
    pub(super) fn look(&mut self, text: &[u8]) {
        self.last.extend_from_slice(text.get(..MAX_WORD_BYTES).unwrap_or(text));
        self.words.add(FoundWords::of(&self.last));
        self.words.add(FoundWords::of(text));
        self.last.extend_from_slice(
            text.get(MAX_WORD_BYTES..)
                .map_or(&[], |rest| rest.last_chunk::<MAX_WORD_BYTES>().map_or(rest, |last| last)),
        );
        let old = self.last.len().saturating_sub(MAX_WORD_BYTES);
        self.last.drain(..old);
    }
}

/// Follower of an SQL text through the pieces of its message, so that a text of any size has its full length and hashes on record
/// while only its beginning is held.
#[derive(Debug)]
pub(in crate::gate::session) struct TextFollower {
    /// Number of NULs to pass before the text begins: the name of a Parse.
    before: u8,
    ended: bool,
    length: u64,
    hashes: OriginalHashes,
    watch: WordWatch,
}

impl TextFollower {
    /// Creates a follower for a message whose text comes after `before` other strings.
    pub(in crate::gate::session) fn new(before: u8, key: &ValueKey) -> Self {
        Self {
            before,
            ended: false,
            length: 0,
            hashes: OriginalHashes::begin(key),
            watch: WordWatch::default(),
        }
    }

    /// Processes the next bytes of the body.
    pub(in crate::gate::session) fn feed(&mut self, mut bytes: &[u8]) {
        while !self.ended {
            let nul = memchr::memchr(0, bytes);
            let (text, rest) = bytes.split_at_checked(nul.unwrap_or(bytes.len())).unwrap_or_default();
            if self.before == 0 {
                self.length += text.len() as u64;
                self.hashes.update(text);
                self.watch.look(text);
            }
            if nul.is_none() {
                return;
            }
            bytes = rest.get(1..).unwrap_or_default();
            self.ended = self.before == 0;
            self.before = self.before.saturating_sub(1);
        }
    }

    /// Returns the words found in the text, its length and its hashes.
    pub(super) fn finish(self) -> (FoundWords, u64, Option<OriginalHashes>) {
        (self.watch.words, self.length, Some(self.hashes))
    }
}
