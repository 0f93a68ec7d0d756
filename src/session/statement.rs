//! What is kept of a statement for the record: its text, its parameter types, its bound values.
//!
//! It bounds what is kept, takes out secrets, and says so; it does not know in which order things happen.

mod deallocate;
mod words;

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use sha2::{Digest as _, Sha256};

pub(super) use deallocate::deallocated;
use words::{LONGEST, Words};

use super::quota::Quota;
use crate::audit::event::{Parameter, Sql, Text};
use crate::audit::redact::{self, Secrets};
use crate::audit::values::Show;
use crate::lexer::LexerSettings;
use crate::wire::binary;
use crate::wire::frontend::Values;

/// How much of a statement's parameters is shown in one record.
const MOST_SHOWN: usize = 64 * 1024;
/// How many more are listed by their length and hash.
const MOST_HASHED: usize = 1024;
/// A value beyond that is not looked at closely: with one of the words it is taken for a secret.
const MOST_LOOKED_AT: usize = 64 * 1024;
/// What an entry takes beside its texts: its names (63 bytes at most), places in tables and queues, the allocator's own.
const ENTRY: usize = 512;
/// `pwd=x`: nothing shorter gives a password away.
const SHORTEST_SECRET: usize = 5;

/// How much of texts and values goes into a record.
#[derive(Debug, Clone)]
pub struct Keep {
    /// Bytes of an SQL text.
    pub sql: usize,
    /// Bytes of a parameter's value.
    pub parameter: usize,
    /// What is shown of values at all.
    pub show: Show,
}

/// Bytes a session's prepared statements and portals take together, confirmed and pending ones alike; they count for its identity.
#[derive(Debug, Clone, Default)]
pub(super) struct Held(Arc<Quota>);

impl Held {
    /// To be counted with those of the identity's other sessions.
    pub(super) fn sharing(quota: Arc<Quota>) -> Self {
        Self(quota)
    }

    /// The limit on what the identity's sessions hold, where it is exceeded.
    pub(super) fn exceeded(&self) -> Option<usize> {
        self.0.exceeded()
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.0.held()
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
        self.held.0.hold(bytes);
    }
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.held.0.release(*self.bytes.get_mut());
    }
}

/// An SQL text as it goes on record, with what was found in it.
#[derive(Debug)]
pub(super) struct Read<'a> {
    pub(super) sql: Sql<'a>,
    pub(super) words: Words,
    /// What it does is not in it.
    pub(super) opaque: bool,
    /// The parameters that are secrets.
    pub(super) secrets: Secrets,
}

/// Reads a text that is here whole, or its beginning with what [`Follow`] knows of the rest. `wary`: one with secret parameters
/// came before, so an SQL `EXECUTE` may have them. The target reads it under these settings.
pub(super) fn read<'a>(text: &'a [u8], follow: Option<Follow>, keep: &Keep, wary: bool, settings: LexerSettings) -> Read<'a> {
    let (words, length) = match &follow {
        Some(follow) => (follow.words, follow.length),
        None => (Words::of(text), text.len() as u64),
    };
    let (sql, secrets) = match follow {
        _ if words.secrets || (wary && words.renames) => Sql::redacted(text, keep.sql, length),
        Some(follow) => (follow.finish(text, keep), Secrets::NONE),
        None => (Sql::of(text, keep.sql), Secrets::NONE),
    };
    Read {
        opaque: words::is_opaque(text, words, settings),
        sql: sql.under(settings, text),
        words,
        secrets,
    }
}

impl Read<'_> {
    /// The same, but its own.
    pub(super) fn into_owned(self) -> Read<'static> {
        Read {
            sql: Sql {
                text: Text(Cow::Owned(self.sql.text.0.into_owned())),
                length: self.sql.length,
                sha256: self.sql.sha256.map(|hash| Cow::Owned(hash.into_owned())),
                redacted: self.sql.redacted,
                scs: self.sql.scs,
                encoding: self.sql.encoding,
            },
            words: self.words,
            opaque: self.opaque,
            secrets: self.secrets,
        }
    }
}

/// A prepared statement.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) read: Read<'static>,
    /// How often names might have been given away before its Parse ([`super::book::Book::renamed`]).
    pub(super) renamed: u64,
    /// The parameter types of its Parse, four bytes each; a zero leaves the type to the server.
    given: Box<[u8]>,
    /// Those the server told.
    described: OnceLock<Box<[u8]>>,
    weight: Weight,
}

impl Prepared {
    pub(super) fn new(read: Read<'static>, renamed: u64, types: &[u8], held: &Held) -> Self {
        Self {
            weight: held.weigh(read.sql.text.0.len() + types.len() + read.secrets.found() * 2),
            read,
            renamed,
            given: types.into(),
            described: OnceLock::new(),
        }
    }

    /// The name of the prepared statement that it gives up, as far as its text is known.
    pub(super) fn deallocated(&self) -> Option<Box<[u8]>> {
        let Sql {
            text, length, redacted, ..
        } = &self.read.sql;
        let whole = *redacted == 0 && length.is_none();
        deallocated(text.0.as_bytes()).filter(|_| whole)
    }

    /// The server said which types the parameters have.
    pub(super) fn described(&self, types: &[u8]) {
        if self.described.set(types.into()).is_ok() {
            self.weight.add(types.len());
        }
    }

    fn type_of(&self, index: usize) -> u32 {
        let types = self.described.get().unwrap_or(&self.given);
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

/// Lists bound values as they go on record; the count as well where not all are listed. Whatever stands before it, a value that
/// has no room any more is listed by its length and hash, as long as there are not too many of them.
pub(super) fn list(values: &Values<'_>, prepared: Option<&Prepared>, keep: &Keep) -> (Vec<Parameter<'static>>, Option<u32>) {
    if matches!(keep.show, Show::None) {
        return (Vec::new(), (values.count > 0).then(|| u32::from(values.count)));
    }
    let secrets = prepared.map(|prepared| &prepared.read.secrets);
    let mut listed = Vec::with_capacity(usize::from(values.count).min(64));
    let (mut room, mut hashed) = (MOST_SHOWN, 0);
    for (number, (binary, value)) in (1..).zip(values.iter()) {
        let left = room.checked_sub(value.map_or(8, |value| value.len().min(keep.parameter) + 16));
        hashed += usize::from(left.is_none());
        if hashed > MOST_HASHED {
            break;
        }
        room = left.unwrap_or(room);
        let oid = prepared.map_or(0, |prepared| prepared.type_of(listed.len()));
        listed.push(match value {
            None => Parameter::Null,
            Some(value) if secrets.is_some_and(|secrets| secrets.has(number)) || is_secret(value) => Parameter::Redacted,
            Some(value) if left.is_none() && !matches!(keep.show, Show::Hashed(_)) => Parameter::bytes(value),
            Some(value) => show(value, binary, oid, keep),
        });
    }
    let all = listed.len() == usize::from(values.count);
    (listed, (!all).then(|| u32::from(values.count)))
}

/// Whether a value gives a password away.
fn is_secret(value: &[u8]) -> bool {
    value.len() >= SHORTEST_SECRET && Words::of(value).secrets && (value.len() > MOST_LOOKED_AT || redact::gives_away(value))
}

/// Bytes that listed values take.
pub(super) fn size(parameters: &Vec<Parameter<'static>>) -> usize {
    let texts = parameters.iter().map(|parameter| match parameter {
        Parameter::Null | Parameter::Redacted => 0,
        Parameter::Text(text) => text.0.len(),
        Parameter::Hashed(hash) => hash.len(),
        Parameter::Long { start, sha256, .. } => start.0.len() + sha256.len(),
        Parameter::Binary { hex, .. } => hex.len(),
    });
    parameters.capacity() * size_of::<Parameter<'static>>() + texts.sum::<usize>()
}

fn show(value: &[u8], binary: bool, oid: u32, keep: &Keep) -> Parameter<'static> {
    if let Show::Hashed(key) = &keep.show {
        // Of the text, so that the same value has the same hash however it was sent.
        let text = binary.then(|| binary::show(oid, value)).flatten();
        let hash = key.hash(text.as_deref().map_or(value, str::as_bytes));
        return Parameter::Hashed(Cow::Owned(hash));
    }
    if oid == binary::BYTEA {
        // The same bytes have the same hash however they were sent.
        let written = (!binary).then(|| binary::bytea(value)).flatten();
        return Parameter::bytes(written.as_deref().unwrap_or(value));
    }
    if !binary || binary::is_text(oid) {
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
    words: Words,
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
            words: Words::default(),
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
        self.last.extend_from_slice(text.get(..LONGEST).unwrap_or(text));
        self.words.add(Words::of(&self.last));
        self.words.add(Words::of(text));
        self.last.extend_from_slice(
            text.get(LONGEST..)
                .map_or(&[], |rest| rest.last_chunk::<LONGEST>().map_or(rest, |last| last)),
        );
        let old = self.last.len().saturating_sub(LONGEST);
        self.last.drain(..old);
    }

    /// The text as it goes on record, of which `start` is the beginning.
    fn finish<'a>(self, start: &'a [u8], keep: &Keep) -> Sql<'a> {
        Sql::cut(start, keep.sql, self.length, || self.hash.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEEP: Keep = Keep {
        sql: 10,
        parameter: 4,
        show: Show::Full,
    };

    const WIDE: Keep = Keep {
        sql: 1000,
        parameter: 100,
        show: Show::Full,
    };

    fn sql(text: &[u8]) -> Sql<'_> {
        read(text, None, &KEEP, false, LexerSettings::default()).sql
    }

    #[test]
    fn short_text_is_whole() {
        assert_eq!(
            sql(b"select 1"),
            Sql {
                text: Text::of(b"select 1"),
                length: None,
                sha256: None,
                redacted: 0,
                scs: crate::lexer::Backslashes::default(),
                encoding: crate::lexer::Encoding::default(),
            }
        );
    }

    #[test]
    fn long_text_is_cut_visibly() {
        let cut = sql("select 'äöü'".as_bytes());
        assert_eq!(cut.text, Text::of("select 'ä".get(..10).unwrap().as_bytes()));
        assert_eq!(cut.length, Some(15));
        assert_eq!(
            cut.sha256.as_deref(),
            Some(&*crate::audit::hex(&Sha256::digest("select 'äöü'")))
        );
    }

    /// Values as a Bind has them, all binary.
    fn bound(values: &[&[u8]]) -> Vec<u8> {
        let count = u16::try_from(values.len()).unwrap().to_be_bytes();
        let mut body = [&[0, 1, 0, 1][..], &count].concat();
        for value in values {
            body.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
            body.extend_from_slice(value);
        }
        body
    }

    fn listed(text: &str, types: &[u32], values: &[&[u8]], show: Show) -> (Vec<Parameter<'static>>, Option<u32>) {
        listed_with(text, types, values, &Keep { show, ..WIDE })
    }

    /// Values as text, of which so much is shown.
    fn listed_to(text: &str, values: &[&[u8]], parameter: usize) -> (Vec<Parameter<'static>>, Option<u32>) {
        listed_with(text, &vec![25; values.len()], values, &Keep { parameter, ..WIDE })
    }

    fn listed_with(text: &str, types: &[u32], values: &[&[u8]], keep: &Keep) -> (Vec<Parameter<'static>>, Option<u32>) {
        let types: Vec<u8> = types.iter().flat_map(|oid| oid.to_be_bytes()).collect();
        let prepared = Prepared::new(
            read(text.as_bytes(), None, keep, false, LexerSettings::default()).into_owned(),
            0,
            &types,
            &Held::default(),
        );
        let body = bound(values);
        let values = Values::of(crate::wire::frontend::Fields::of(&body)).unwrap();
        list(&values, Some(&prepared), keep)
    }

    fn text(text: &str) -> Parameter<'_> {
        Parameter::Text(Text::of(text.as_bytes()))
    }

    #[test]
    fn secret_parameters_are_not_shown() {
        let (all, count) = listed(
            "update u set password = $2 where name = $1 and note = $3",
            &[25, 25, 25],
            &[b"ana", b"hunter2", b"host=h password=x"],
            Show::Full,
        );
        assert_eq!(all, [text("ana"), Parameter::Redacted, Parameter::Redacted]);
        assert_eq!(count, None);
    }

    #[test]
    fn parameters_whose_names_are_beyond_the_cut_are_secret() {
        let text = format!("update u set {}, password = $1", "a = a, ".repeat(200));
        let (all, _) = listed(&text, &[25], &[b"hunter2"], Show::Full);
        assert_eq!(all, [Parameter::Redacted]);
    }

    #[test]
    fn an_sql_execute_after_a_secret_parameter_is_read_warily() {
        let prepare = read(
            b"prepare p as update u set password = $1",
            None,
            &WIDE,
            false,
            LexerSettings::default(),
        );
        assert!(prepare.secrets.found() == 1);
        let execute = |wary| {
            read(b"execute p('hunter2')", None, &WIDE, wary, LexerSettings::default())
                .sql
                .text
                .0
                .into_owned()
        };
        assert_eq!(execute(false), "execute p('hunter2')");
        assert_eq!(execute(true), "execute p('***')");
    }

    #[test]
    fn no_parameter_hides_behind_others() {
        // Sixteen as long as they are shown leave room for a short one, but not for all of them.
        let long = vec![b'x'; 4096];
        let mut values: Vec<&[u8]> = vec![&long; 16];
        values.push(b"delete me");
        let (all, count) = listed_to("select $17", &values, 4096);
        assert_eq!((all.len(), count), (17, None));
        assert_eq!(all[16], text("delete me"));
        assert!(matches!(&all[15], Parameter::Long { start, length: 4096, .. } if start.0.is_empty()));
        // One that has no room itself is told, too.
        let huge = vec![b'x'; 70_000];
        let (all, _) = listed_to("select $1, $2", &[&huge, b"2"], 1 << 20);
        assert!(matches!(&all[0], Parameter::Long { length: 70_000, sha256, .. } if sha256.len() == 64));
        assert_eq!(all[1], text("2"));
        // What is not listed is counted.
        let many = vec![&long[..100]; 2000];
        let (all, count) = listed_to("select $2000", &many, 4096);
        assert!(all.len() > MOST_HASHED && all.len() < 2000);
        assert_eq!(count, Some(2000));
    }

    #[test]
    fn a_long_value_with_a_trigger_is_not_looked_at_closely() {
        let mut value = vec![b'x'; MOST_LOOKED_AT];
        value.extend_from_slice(b" the secret of tea");
        assert_eq!(listed("select $1", &[25], &[&value], Show::Full).0, [Parameter::Redacted]);
        let short = listed("select $1", &[25], &[b"the secret of tea"], Show::Full).0;
        assert_eq!(short, [text("the secret of tea")]);
    }

    #[test]
    fn a_policy_shows_hashes_or_counts() {
        let (all, count) = listed("select $1, $2", &[23, 25], &[&[0, 0, 0, 7], b"7"], Show::None);
        assert_eq!((all, count), (Vec::new(), Some(2)));
        let folder = tempfile::tempdir().unwrap();
        let key = crate::audit::values::ValueKey::load_or_make(&folder.path().join("key")).unwrap();
        let seven = Parameter::Hashed(Cow::Owned(key.hash(b"7")));
        let (all, count) = listed("select $1, $2", &[23, 25], &[&[0, 0, 0, 7], b"7"], Show::Hashed(key));
        assert_eq!((all, count), (vec![seven.clone(), seven], None), "as a number and as text");
    }

    #[test]
    fn types_come_from_parse_until_the_server_tells_them() {
        let (all, _) = listed("select $1, $2", &[23, 0], &[&[0, 0, 0, 7], &[1]], Show::Full);
        assert_eq!(all[0], text("7"));
        assert!(matches!(&all[1], Parameter::Binary { oid: 0, hex } if hex == "01"));
        let (all, _) = listed("select $1", &[17], &[b"abc"], Show::Full);
        assert!(matches!(&all[0], Parameter::Long { length: 3, .. }));
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
            prop_assert!(follow.words.renames);
        }

        #[test]
        fn following_in_pieces_gives_the_whole(name in "[a-z]{0,6}", text in "[ -~]{0,40}", cut in 0_usize..60) {
            let body = format!("{name}\0{text}\0\0\0");
            let cut = cut.min(body.len());
            let mut follow = Follow::new(1);
            follow.feed(&body.as_bytes()[..cut]);
            follow.feed(&body.as_bytes()[cut..]);
            prop_assert_eq!(read(text.as_bytes(), Some(follow), &KEEP, false, LexerSettings::default()).sql, sql(text.as_bytes()));
        }
    }
}
