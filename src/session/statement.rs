//! What is kept of a statement for the record: its text, its parameter types, its bound values.
//!
//! It bounds what is kept, and says so where something was cut; it does not know in which order things happen.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use sha2::{Digest as _, Sha256};

use crate::audit::event::{Parameter, Sql, Text};
use crate::wire::binary;
use crate::wire::frontend::Values;

/// How much of a statement's parameters is listed in one record.
const MOST_LISTED: usize = 64 * 1024;
/// What an entry takes beside its texts: its names (63 bytes at most), places in tables and queues, the allocator's own.
const ENTRY: usize = 512;

/// How much of texts and values goes into a record, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Of an SQL text.
    pub sql: usize,
    /// Of a parameter's value.
    pub parameter: usize,
}

/// Bytes a session's prepared statements and portals take together, confirmed and pending ones alike.
#[derive(Debug, Clone, Default)]
pub(super) struct Held(Arc<AtomicUsize>);

impl Held {
    pub(super) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts an entry of `bytes` for as long as the result lives: who drops the entry, and why, need not be known.
    pub(super) fn weigh(&self, bytes: usize) -> Weight {
        let weight = Weight {
            held: self.clone(),
            bytes: AtomicUsize::new(0),
        };
        weight.add(bytes + ENTRY);
        weight
    }
}

/// What one entry adds to [`Held`].
#[derive(Debug)]
pub(super) struct Weight {
    held: Held,
    bytes: AtomicUsize,
}

impl Weight {
    fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.held.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.held.0.fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
    }
}

/// A prepared statement.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) sql: Sql<'static>,
    /// How often names might have been given away before its Parse ([`super::book::Book::renamed`]).
    pub(super) renamed: u64,
    /// Executing it may give names to other texts ([`may_rename`]).
    pub(super) renames: bool,
    types: OnceLock<Box<[u8]>>,
    weight: Weight,
}

impl Prepared {
    pub(super) fn new(sql: Sql<'static>, renamed: u64, types: &[u8], held: &Held) -> Self {
        let prepared = Self {
            weight: held.weigh(sql.text.0.len()),
            sql,
            renamed,
            renames: false,
            types: OnceLock::new(),
        };
        // A zero leaves the type to the server; what it chose comes with a ParameterDescription.
        let (whole, _) = types.as_chunks::<4>();
        if !whole.is_empty() && whole.iter().all(|oid| *oid != [0; 4]) {
            prepared.described(types);
        }
        prepared
    }

    /// Notes whether executing it may give names to other texts.
    pub(super) fn renaming(mut self, renames: bool) -> Self {
        self.renames = renames;
        self
    }

    /// The server said which types the parameters have.
    pub(super) fn described(&self, types: &[u8]) {
        if self.types.set(types.into()).is_ok() {
            self.weight.add(types.len());
        }
    }

    fn type_of(&self, index: usize) -> u32 {
        let types: &[u8] = self.types.get().map_or(&[], |types| types);
        let (whole, _) = types.as_chunks::<4>();
        whole.get(index).map_or(0, |oid| u32::from_be_bytes(*oid))
    }
}

/// A portal: a statement with its parameters.
#[derive(Debug)]
pub(super) struct Portal {
    /// The name of the statement, as far as the server tells names apart; its text where the gate has seen it.
    pub(super) name: Box<[u8]>,
    pub(super) prepared: Option<Arc<Prepared>>,
    pub(super) uncertain: AtomicBool,
    pub(super) parameters: Vec<Parameter<'static>>,
    /// Set when not all parameters are listed.
    pub(super) parameter_count: Option<u32>,
    /// Executed in part: more rows are to be had.
    pub(super) executed: AtomicBool,
    /// Held for its count alone.
    pub(super) _weight: Weight,
}

/// Lists bound values as they go on record; the count as well where not all are listed.
pub(super) fn list(values: &Values<'_>, prepared: Option<&Prepared>, keep: Keep) -> (Vec<Parameter<'static>>, Option<u32>) {
    let mut listed = Vec::with_capacity(usize::from(values.count).min(64));
    let mut size = 0;
    for (index, (binary, value)) in values.iter().enumerate() {
        size += value.map_or(8, |value| value.len().min(keep.parameter) + 16);
        if size > MOST_LISTED {
            break;
        }
        let oid = prepared.map_or(0, |prepared| prepared.type_of(index));
        listed.push(value.map_or(Parameter::Null, |value| show(value, binary, oid, keep)));
    }
    let all = listed.len() == usize::from(values.count);
    (listed, (!all).then(|| u32::from(values.count)))
}

/// Bytes that listed values take.
pub(super) fn size(parameters: &Vec<Parameter<'static>>) -> usize {
    let texts = parameters.iter().map(|parameter| match parameter {
        Parameter::Null => 0,
        Parameter::Text(text) => text.0.len(),
        Parameter::Long { start, sha256, .. } => start.0.len() + sha256.len(),
        Parameter::Binary { hex, .. } => hex.len(),
    });
    parameters.capacity() * size_of::<Parameter<'static>>() + texts.sum::<usize>()
}

fn show(value: &[u8], binary: bool, oid: u32, keep: Keep) -> Parameter<'static> {
    if !binary {
        return Parameter::text(value, keep.parameter).into_owned();
    }
    // What is too long is not decoded.
    let decoded = (value.len() <= keep.parameter).then(|| binary::show(oid, value)).flatten();
    match decoded {
        Some(text) => Parameter::Text(Text(Cow::Owned(text))),
        None => Parameter::binary(oid, value, keep.parameter),
    }
}

/// Follows an SQL text through its message as it comes, so that a text of any size has its whole length and hash on record
/// while only its beginning is held.
#[derive(Debug)]
pub(super) struct Follow {
    /// NULs still to pass before the text begins: the name of a Parse.
    before: u8,
    ended: bool,
    length: u64,
    hash: Sha256,
    renames: bool,
    /// The last bytes, for a word may be cut by the end of a piece.
    last: Vec<u8>,
}

impl Follow {
    /// For a message whose text comes after `before` other strings.
    pub(super) fn new(before: u8) -> Self {
        Self {
            before,
            ended: false,
            length: 0,
            hash: Sha256::new(),
            renames: false,
            last: Vec::new(),
        }
    }

    /// Takes the next bytes of the body.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while !self.ended {
            let nul = bytes.iter().position(|byte| *byte == 0);
            let (text, rest) = bytes.split_at_checked(nul.unwrap_or(bytes.len())).unwrap_or_default();
            if self.before == 0 {
                self.length += text.len() as u64;
                self.hash.update(text);
                self.look(text);
            }
            if nul.is_none() {
                return;
            }
            bytes = rest.get(1..).unwrap_or_default();
            self.ended = self.before == 0;
            self.before = self.before.saturating_sub(1);
        }
    }

    fn look(&mut self, text: &[u8]) {
        if self.renames {
            return;
        }
        self.last.extend_from_slice(text.get(..LONGEST_WORD).unwrap_or(text));
        self.renames = may_rename(&self.last) || may_rename(text);
        self.last.extend_from_slice(
            text.get(LONGEST_WORD..)
                .map_or(&[], |rest| rest.last_chunk::<LONGEST_WORD>().map_or(rest, |last| last)),
        );
        let old = self.last.len().saturating_sub(LONGEST_WORD);
        self.last.drain(..old);
    }

    /// Whether the text has a word that can give prepared statements other names, anywhere.
    pub(super) fn may_rename(&self) -> bool {
        self.renames
    }

    /// The text as it goes on record, of which `start` is the beginning.
    pub(super) fn finish(self, start: &[u8], keep: Keep) -> Sql<'_> {
        Sql::cut(start, keep.sql, self.length, || self.hash.finalize().into())
    }
}

/// The text of a message that is here whole.
pub(super) fn sql(text: &[u8], keep: Keep) -> Sql<'_> {
    Sql::of(text, keep.sql)
}

/// The same, but its own.
pub(super) fn into_owned(sql: Sql<'_>) -> Sql<'static> {
    Sql {
        text: Text(Cow::Owned(sql.text.0.into_owned())),
        length: sql.length,
        sha256: sql.sha256.map(|hash| Cow::Owned(hash.into_owned())),
    }
}

/// The longest of the words that [`may_rename`] looks for, with the character behind it.
const LONGEST_WORD: usize = 11;

/// Whether an SQL text has a word that can give prepared statements other names: then what a name stands for is uncertain.
/// `EXECUTE` is one: in a `DO` block it runs a text that may be put together from pieces, and alone a prepared `DEALLOCATE`.
/// A function that does so unseen, made before, is not found by this; its own text is on record where it was made.
pub(super) fn may_rename(text: &[u8]) -> bool {
    const WORDS: [&[u8]; 4] = [b"prepare", b"deallocate", b"discard", b"execute"];
    // The words are rare, their first letters are not: look for the letter with its successor.
    text.windows(2).enumerate().any(|(at, pair)| match pair {
        [b'p' | b'P', b'r' | b'R'] | [b'd' | b'D', b'e' | b'E' | b'i' | b'I'] | [b'e' | b'E', b'x' | b'X'] => {
            WORDS.iter().any(|word| {
                let found = text.get(at..at + word.len());
                found.is_some_and(|here| here.eq_ignore_ascii_case(word))
                    && !text.get(at + word.len()).copied().is_some_and(in_word)
                    && !at
                        .checked_sub(1)
                        .and_then(|before| text.get(before))
                        .copied()
                        .is_some_and(in_word)
            })
        }
        _ => false,
    })
}

/// Whether a byte goes on with a word before it or after it (scan.l: `ident_cont`).
fn in_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..)
}

/// Whether an SQL text may put another cursor in a portal's place (`CLOSE` and `DECLARE CURSOR` share the protocol's names).
pub(super) fn may_reopen(text: &[u8]) -> bool {
    text.windows(6).any(|word| word.eq_ignore_ascii_case(b"cursor"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEEP: Keep = Keep { sql: 10, parameter: 4 };

    #[test]
    fn short_text_is_whole() {
        assert_eq!(
            sql(b"select 1", KEEP),
            Sql {
                text: Text::of(b"select 1"),
                length: None,
                sha256: None
            }
        );
    }

    #[test]
    fn long_text_is_cut_visibly() {
        let cut = sql("select 'äöü'".as_bytes(), KEEP);
        assert_eq!(cut.text, Text::of("select 'ä".get(..10).unwrap().as_bytes()));
        assert_eq!(cut.length, Some(15));
        assert_eq!(
            cut.sha256.as_deref(),
            Some(&*crate::audit::hex(&Sha256::digest("select 'äöü'")))
        );
    }

    #[test]
    fn words_that_rename() {
        for text in ["DEALLOCATE x", "select 1; prepare a as select 2", "dIsCaRd all"] {
            assert!(may_rename(text.as_bytes()), "{text}");
        }
        assert!(!may_rename(b"select deal, prep from disc, exec"));
        assert!(!may_rename(b"select executed_at, my_execute from prepared"));
    }

    proptest! {
        #[test]
        fn a_word_is_found_in_pieces(before in "[ -~]{0,30}", cuts in proptest::collection::vec(0_usize..70, 0..8)) {
            let text = format!("{before} deallocate;{before}");
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let mut follow = Follow::new(0);
            cuts.windows(2).for_each(|cut| follow.feed(&text.as_bytes()[cut[0]..cut[1]]));
            prop_assert!(follow.may_rename());
        }

        #[test]
        fn following_in_pieces_gives_the_whole(name in "[a-z]{0,6}", text in "[ -~]{0,40}", cut in 0_usize..60) {
            let body = format!("{name}\0{text}\0\0\0");
            let cut = cut.min(body.len());
            let mut follow = Follow::new(1);
            follow.feed(&body.as_bytes()[..cut]);
            follow.feed(&body.as_bytes()[cut..]);
            prop_assert_eq!(follow.finish(text.as_bytes(), KEEP), sql(text.as_bytes(), KEEP));
        }
    }
}
