//! Parts of a statement that are kept for the record: its text, its parameter types, its bound values.
//!
//! This module limits the kept parts, redacts secrets, and marks both in the record; it does not know the order of events.

mod follow;
mod words;

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use follow::BoundValue;
pub(super) use follow::{TextFollower, ValuesFollower};
pub(super) use words::{FoundWords, deallocated};

use crate::access::quota::Quota;
use crate::audit::event::{OutsideText, ParameterValue, SqlText};
use crate::audit::redact::{self, SecretParameters};
use crate::audit::truncate::{OriginalHashes, TruncatedBytes};
use crate::audit::values::{ParameterDisplay, ValueKey};
use crate::gate::sql_filter::UnloggableText;
use crate::protocol::lexer::{Encoding, LexerSettings};
use crate::protocol::wire::binary;
use crate::protocol::wire::frontend::WireValues;

/// Maximum number of bytes of a statement's parameters that are shown in one record.
const MAX_SHOWN_BYTES: usize = 64 * 1024;
/// Maximum number of further parameters that are listed by their length and hash.
const MAX_HASHED_PARAMETERS: usize = 1024;
/// Maximum length in bytes of a value that is examined closely; a longer one with one of the words counts as a secret.
const MAX_INSPECTED_BYTES: usize = 64 * 1024;
/// Bytes that an entry takes in addition to its texts: its names (63 bytes at most), slots in tables and queues, the allocator's
/// overhead.
const ENTRY_BYTES: usize = 512;
/// Minimum length of a value with a password in it, in bytes, as in `pwd=x`.
const MIN_SECRET_BYTES: usize = 5;

/// Extent to which texts and values are recorded.
#[derive(Debug, Clone)]
pub struct RecordLimits {
    /// Maximum number of bytes of an SQL text.
    pub sql: usize,
    /// Maximum number of bytes of a parameter's value.
    pub parameter: usize,
    /// Form in which values are shown.
    pub show: ParameterDisplay,
    /// Key for hashes of originals that were blanked or cut.
    pub key: ValueKey,
}

/// Share of one prepared statement or portal in the bytes that its identity holds, confirmed and pending ones together, for as long
/// as it lives.
#[derive(Debug)]
pub(super) struct EntryWeight {
    quota: Arc<Quota>,
    bytes: AtomicUsize,
}

impl EntryWeight {
    /// Counts an entry with `bytes` of texts.
    pub(super) fn new(quota: &Arc<Quota>, bytes: usize) -> Self {
        let weight = Self {
            quota: Arc::clone(quota),
            bytes: AtomicUsize::new(0),
        };
        weight.add(bytes + ENTRY_BYTES);
        weight
    }

    fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.quota.hold(bytes);
    }
}

impl Drop for EntryWeight {
    fn drop(&mut self) {
        self.quota.release(*self.bytes.get_mut());
    }
}

/// SQL text as it is recorded, with the results of its analysis.
#[derive(Debug)]
pub(super) struct ReadText<'a> {
    pub(super) sql: SqlText<'a>,
    pub(super) words: FoundWords,
    /// True if the text does not show its effects.
    pub(super) opaque: bool,
    /// Parameters that are secrets.
    pub(super) secrets: SecretParameters,
    manner: ReadingManner,
}

/// Conditions under which a session's texts are analysed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ReadingManner {
    pub(super) settings: LexerSettings,
    /// True if no statement is on its way that may have changed the settings.
    pub(super) settled: bool,
    /// True if an earlier text had secret parameters, so that an SQL `EXECUTE` may have them.
    pub(super) wary: bool,
}

/// Analyses a complete text, or its beginning with the facts that [`TextFollower`] has on the rest.
pub(super) fn read<'a>(text: &'a [u8], follow: Option<TextFollower>, keep: &RecordLimits, manner: ReadingManner) -> ReadText<'a> {
    let (words, length, hashes) = match follow {
        Some(follow) => follow.finish(),
        None => (FoundWords::of(text), text.len() as u64, None),
    };
    let beginning = TruncatedBytes::of(text, keep.sql, length);
    let hashes = || hashes.unwrap_or_else(|| OriginalHashes::of(text, &keep.key));
    let (sql, secrets) = if words.secrets || (manner.wary && words.renames) {
        SqlText::redacted(&beginning, manner.settings, hashes)
    } else {
        (
            SqlText::of(&beginning, manner.settings.encoding, hashes),
            SecretParameters::NONE,
        )
    };
    ReadText {
        opaque: words::is_opaque(text, words, manner.settings),
        sql: sql.under(manner.settings, manner.settled, text),
        words,
        secrets,
        manner,
    }
}

/// Returns the reason if a text outside of its secrets could not be recorded completely, given that the log keeps `max` bytes.
pub(super) fn unloggable(text: &[u8], max: usize, settings: LexerSettings) -> Option<UnloggableText> {
    if text.len() > max {
        return Some(UnloggableText::Long { max });
    }
    let unclear = FoundWords::of(text).secrets && redact::sql(text, true, settings).unclear;
    unclear.then_some(UnloggableText::Unclear)
}

impl ReadText<'_> {
    /// Returns true if the analysis of a complete text under these conditions has this result, because both are the same.
    pub(super) fn is_of(&self, text: &[u8], manner: ReadingManner) -> bool {
        self.sql.text.0.as_bytes() == text && self.manner == manner && self.sql.is_verbatim()
    }

    /// Returns the same with owned data.
    pub(super) fn into_owned(self) -> ReadText<'static> {
        ReadText {
            sql: self.sql.into_owned(),
            words: self.words,
            opaque: self.opaque,
            secrets: self.secrets,
            manner: self.manner,
        }
    }
}

/// Prepared statement.
#[derive(Debug)]
pub(super) struct PreparedStatement {
    pub(super) read: Arc<ReadText<'static>>,
    /// Number of times that names might have changed before its Parse ([`super::extended_query::ExtendedQueryState`]).
    pub(super) renamed: u64,
    /// Parameter types of its Parse, four bytes each; a zero leaves the type to the server.
    given: Box<[u8]>,
    /// Parameter types that the server reported.
    described: OnceLock<Box<[u8]>>,
    weight: EntryWeight,
}

impl PreparedStatement {
    pub(super) fn new(read: Arc<ReadText<'static>>, renamed: u64, types: &[u8], quota: &Arc<Quota>) -> Self {
        Self {
            weight: EntryWeight::new(quota, read.sql.text.0.len() + types.len() + read.secrets.found() * 2),
            read,
            renamed,
            given: types.into(),
            described: OnceLock::new(),
        }
    }

    /// Returns the name of the prepared statement that it deallocates, if its complete text is known.
    pub(super) fn deallocated(&self) -> Option<Box<[u8]>> {
        let SqlText {
            text, length, redacted, ..
        } = &self.read.sql;
        let whole = *redacted == 0 && length.is_none();
        deallocated(text.0.as_bytes()).filter(|_| whole)
    }

    /// Takes the parameter types that the server reports.
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

/// Portal: a statement with its parameters.
#[derive(Debug)]
pub(super) struct Portal {
    /// Name of the statement, cut as the server does.
    pub(super) name: Box<[u8]>,
    pub(super) prepared: Option<Arc<PreparedStatement>>,
    pub(super) uncertain: AtomicBool,
    pub(super) parameters: Vec<ParameterValue<'static>>,
    /// Number of parameters, if not all are listed.
    pub(super) parameter_count: Option<u32>,
    /// True if it was executed in part, and more rows are available.
    pub(super) executed: AtomicBool,
    /// Number of rows that were sent from it.
    pub(super) rows_sent: AtomicU64,
    /// Share of the counted memory, returned on drop.
    pub(super) _weight: EntryWeight,
}

impl Portal {
    /// Counts rows that one of its Executes sent. Returns the total over all of them, if there is more than one or will be.
    pub(super) fn sent(&self, rows: u64, suspended: bool) -> Option<u64> {
        let before = self.rows_sent.fetch_add(rows, Ordering::Relaxed);
        (before > 0 || suspended).then(|| before.saturating_add(rows))
    }
}

/// Value as it was sent: all of it, or the kept facts of one in a long message.
#[derive(Debug, Clone, Copy)]
enum SentValue<'a> {
    Whole(&'a [u8]),
    Part(&'a BoundValue, &'a OriginalHashes),
}

impl<'a> SentValue<'a> {
    fn of(part: &'a BoundValue) -> Self {
        match &part.hashes {
            Some(hashes) => Self::Part(part, hashes),
            None => Self::Whole(&part.start),
        }
    }

    fn length(self) -> u64 {
        match self {
            Self::Whole(value) => value.len() as u64,
            Self::Part(part, _) => part.length,
        }
    }

    /// Returns true if it reveals a password.
    fn is_secret(self) -> bool {
        match self {
            Self::Whole(value) => {
                value.len() >= MIN_SECRET_BYTES
                    && FoundWords::of(value).secrets
                    && (value.len() > MAX_INSPECTED_BYTES || redact::gives_away(value))
            }
            Self::Part(part, _) => part.words().secrets,
        }
    }
}

/// Lists bound values for the record, and their number if not all are listed. A value that has no room left for its text is
/// listed by its length and hash, wherever it stands, up to a limit on their number. `followed` has the values of a message that
/// is not available completely.
pub(super) fn list(
    values: &WireValues<'_>,
    followed: Option<&ValuesFollower>,
    prepared: Option<&PreparedStatement>,
    (keep, encoding): (&RecordLimits, Encoding),
) -> (Vec<ParameterValue<'static>>, Option<u32>) {
    let count = u32::from(values.count);
    if matches!(keep.show, ParameterDisplay::None) {
        return (Vec::new(), (count > 0).then_some(count));
    }
    let mut whole = values.iter();
    let each = (0..).map_while(|index| match followed {
        Some(followed) => {
            let part = followed.values.get(index)?;
            Some((values.is_binary(index), part.as_ref().map(SentValue::of)))
        }
        None => whole.next().map(|(binary, value)| (binary, value.map(SentValue::Whole))),
    });
    let secrets = prepared.map(|prepared| &prepared.read.secrets);
    let mut listed = Vec::new();
    let (mut room, mut hashed) = (MAX_SHOWN_BYTES, 0);
    for (number, (binary, value)) in (1..).zip(each) {
        let shown = |value: SentValue<'_>| usize::try_from(value.length()).unwrap_or(usize::MAX).min(keep.parameter) + 16;
        let left = room.checked_sub(value.map_or(8, shown));
        hashed += usize::from(left.is_none());
        if hashed > MAX_HASHED_PARAMETERS {
            break;
        }
        room = left.unwrap_or(room);
        let oid = prepared.map_or(0, |prepared| prepared.type_of(listed.len()));
        listed.push(match value {
            None => ParameterValue::Null,
            Some(_) if secrets.is_some_and(|secrets| secrets.has(number)) => ParameterValue::Redacted,
            Some(value) if value.is_secret() => blank(value, keep),
            Some(SentValue::Part(part, whole)) => {
                let has_room = left.is_some() && oid != binary::BYTEA_OID;
                let encoding = (!binary || binary::is_text(oid)).then_some(encoding);
                show_part((part, whole), encoding, has_room, keep)
            }
            Some(SentValue::Whole(value)) if left.is_none() && !matches!(keep.show, ParameterDisplay::Hashed(_)) => {
                ParameterValue::bytes(value)
            }
            Some(SentValue::Whole(value)) => show(value, binary, oid, (keep, encoding)),
        });
    }
    let all = listed.len() == usize::from(values.count);
    (listed, (!all).then_some(count))
}

fn blank(value: SentValue<'_>, keep: &RecordLimits) -> ParameterValue<'static> {
    match value {
        SentValue::Whole(whole) => ParameterValue::blanked(value.length(), keep.key.hash_text(whole).into()),
        SentValue::Part(_, hashes) => ParameterValue::blanked(value.length(), hashes.keyed()),
    }
}

/// Shows a value that was too long to be held. If it is to be hashed, the bytes as sent are hashed.
fn show_part(
    (part, hashes): (&BoundValue, &OriginalHashes),
    encoding: Option<Encoding>,
    has_room: bool,
    keep: &RecordLimits,
) -> ParameterValue<'static> {
    if matches!(keep.show, ParameterDisplay::Hashed(_)) {
        return ParameterValue::Hashed(hashes.value());
    }
    let start = if has_room { &*part.start } else { &[] };
    ParameterValue::long(start, encoding, part.length, hashes.plain())
}

/// Returns the number of bytes that listed values take.
pub(super) fn size(parameters: &Vec<ParameterValue<'static>>) -> usize {
    let texts = parameters.iter().map(|parameter| match parameter {
        ParameterValue::Null | ParameterValue::Redacted => 0,
        ParameterValue::Blanked { hmac_sha256, .. } => hmac_sha256.len(),
        ParameterValue::Text(text) => text.0.len(),
        ParameterValue::Hashed(hash) => hash.len(),
        ParameterValue::Long { start, sha256, .. } => start.0.len() + sha256.len(),
        ParameterValue::Binary { hex, .. } => hex.len(),
    });
    parameters.capacity() * size_of::<ParameterValue<'static>>() + texts.sum::<usize>()
}

fn show(value: &[u8], binary: bool, oid: u32, (keep, encoding): (&RecordLimits, Encoding)) -> ParameterValue<'static> {
    if let ParameterDisplay::Hashed(key) = &keep.show {
        // The text is hashed, so that the same value has the same hash in either format.
        let text = match encoding.decode(value, true) {
            _ if binary && !binary::is_text(oid) => binary::show(oid, value).map(Cow::Owned),
            decoded => (decoded.escaped == 0).then_some(decoded.text),
        };
        let hash = key.hash(text.as_deref().map_or(value, str::as_bytes));
        return ParameterValue::Hashed(Cow::Owned(hash));
    }
    if oid == binary::BYTEA_OID {
        // The decoded bytes are hashed, so that they have the same hash in either format.
        let written = (!binary).then(|| binary::bytea(value)).flatten();
        return ParameterValue::bytes(written.as_deref().unwrap_or(value));
    }
    if !binary || binary::is_text(oid) {
        return ParameterValue::text(oid, value, keep.parameter, encoding).into_owned();
    }
    // A value that is too long is not decoded.
    let decoded = (value.len() <= keep.parameter).then(|| binary::show(oid, value)).flatten();
    match decoded {
        Some(text) => ParameterValue::Text(OutsideText(Cow::Owned(text))),
        None => ParameterValue::binary(oid, value, keep.parameter),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;
    use sha2::Digest as _;

    fn keep(sql: usize, parameter: usize) -> RecordLimits {
        RecordLimits {
            sql,
            parameter,
            show: ParameterDisplay::Full,
            key: ValueKey::for_test(),
        }
    }

    fn narrow() -> RecordLimits {
        keep(10, 4)
    }

    fn wide() -> RecordLimits {
        keep(1000, 100)
    }

    fn sql(text: &[u8]) -> SqlText<'_> {
        read(text, None, &narrow(), ReadingManner::default()).sql
    }

    #[test]
    fn short_text_is_whole() {
        assert_eq!(sql(b"select 1"), SqlText::whole(OutsideText::of(b"select 1")));
    }

    #[test]
    fn long_text_is_cut_visibly() {
        let cut = sql("select 'äöü'".as_bytes());
        assert_eq!(cut.text, OutsideText::of("select 'ä".get(..10).unwrap().as_bytes()));
        assert_eq!(cut.length, Some(15));
        assert_eq!(
            cut.sha256.as_deref(),
            Some(&*HEXLOWER.encode(&sha2::Sha256::digest("select 'äöü'")))
        );
        assert_eq!(
            cut.hmac_sha256.as_deref(),
            Some(&*ValueKey::for_test().hash_text("select 'äöü'".as_bytes()))
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

    fn listed(
        text: &str,
        types: &[u32],
        values: &[&[u8]],
        show: ParameterDisplay,
    ) -> (Vec<ParameterValue<'static>>, Option<u32>) {
        listed_with(text, types, values, &RecordLimits { show, ..wide() })
    }

    /// Values as text, of which so much is shown.
    fn listed_to(text: &str, values: &[&[u8]], parameter: usize) -> (Vec<ParameterValue<'static>>, Option<u32>) {
        listed_with(text, &vec![25; values.len()], values, &keep(1000, parameter))
    }

    fn listed_with(
        text: &str,
        types: &[u32],
        values: &[&[u8]],
        keep: &RecordLimits,
    ) -> (Vec<ParameterValue<'static>>, Option<u32>) {
        let types: Vec<u8> = types.iter().flat_map(|oid| oid.to_be_bytes()).collect();
        let prepared = PreparedStatement::new(
            Arc::new(read(text.as_bytes(), None, keep, ReadingManner::default()).into_owned()),
            0,
            &types,
            &Arc::default(),
        );
        let body = bound(values);
        let values = WireValues::of(crate::protocol::wire::frontend::Fields::of(&body)).unwrap();
        list(&values, None, Some(&prepared), (keep, Encoding::UTF8))
    }

    fn text(text: &str) -> ParameterValue<'_> {
        ParameterValue::Text(OutsideText::of(text.as_bytes()))
    }

    #[test]
    fn secret_parameters_are_not_shown() {
        let (all, count) = listed(
            "update u set password = $2 where name = $1 and note = $3",
            &[25, 25, 25],
            &[b"ana", b"hunter2", b"host=h password=x"],
            ParameterDisplay::Full,
        );
        let blanked = ParameterValue::blanked(17, ValueKey::for_test().hash_text(b"host=h password=x").into());
        assert_eq!(all, [text("ana"), ParameterValue::Redacted, blanked]);
        assert_eq!(count, None);
    }

    #[test]
    fn parameters_whose_names_are_beyond_the_cut_are_secret() {
        let text = format!("update u set {}, password = $1", "a = a, ".repeat(200));
        let (all, _) = listed(&text, &[25], &[b"hunter2"], ParameterDisplay::Full);
        assert_eq!(all, [ParameterValue::Redacted]);
    }

    #[test]
    fn an_sql_execute_after_a_secret_parameter_is_read_warily() {
        let keep = wide();
        let manner = |wary| ReadingManner {
            wary,
            ..ReadingManner::default()
        };
        let prepare = read(b"prepare p as update u set password = $1", None, &keep, manner(false));
        assert!(prepare.secrets.found() == 1);
        let execute = |wary| {
            read(b"execute p('hunter2')", None, &keep, manner(wary))
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
        assert!(matches!(&all[15], ParameterValue::Long { start, length: 4096, .. } if start.0.is_empty()));
        // One that has no room itself is told, too.
        let huge = vec![b'x'; 70_000];
        let (all, _) = listed_to("select $1, $2", &[&huge, b"2"], 1 << 20);
        assert!(matches!(&all[0], ParameterValue::Long { length: 70_000, sha256, .. } if sha256.len() == 64));
        assert_eq!(all[1], text("2"));
        // What is not listed is counted.
        let many = vec![&long[..100]; 2000];
        let (all, count) = listed_to("select $2000", &many, 4096);
        assert!(all.len() > MAX_HASHED_PARAMETERS && all.len() < 2000);
        assert_eq!(count, Some(2000));
    }

    #[test]
    fn a_long_value_with_a_trigger_is_not_looked_at_closely() {
        let mut value = vec![b'x'; MAX_INSPECTED_BYTES];
        value.extend_from_slice(b" the secret of tea");
        let blanked = ParameterValue::blanked(value.len() as u64, ValueKey::for_test().hash_text(&value).into());
        assert_eq!(listed("select $1", &[25], &[&value], ParameterDisplay::Full).0, [blanked]);
        let short = listed("select $1", &[25], &[b"the secret of tea"], ParameterDisplay::Full).0;
        assert_eq!(short, [text("the secret of tea")]);
    }

    #[test]
    fn a_policy_shows_hashes_or_counts() {
        let (all, count) = listed("select $1, $2", &[23, 25], &[&[0, 0, 0, 7], b"7"], ParameterDisplay::None);
        assert_eq!((all, count), (Vec::new(), Some(2)));
        let folder = tempfile::tempdir().unwrap();
        let key = ValueKey::load_or_make(&folder.path().join("key")).unwrap();
        let seven = ParameterValue::Hashed(Cow::Owned(key.hash(b"7")));
        let (all, count) = listed(
            "select $1, $2",
            &[23, 25],
            &[&[0, 0, 0, 7], b"7"],
            ParameterDisplay::Hashed(key),
        );
        assert_eq!((all, count), (vec![seven.clone(), seven], None), "as a number and as text");
    }

    #[test]
    fn types_come_from_parse_until_the_server_tells_them() {
        let (all, _) = listed("select $1, $2", &[23, 0], &[&[0, 0, 0, 7], &[1]], ParameterDisplay::Full);
        assert_eq!(all[0], text("7"));
        assert!(matches!(&all[1], ParameterValue::Binary { oid: 0, hex } if hex == "01"));
        let (all, _) = listed("select $1", &[17], &[b"abc"], ParameterDisplay::Full);
        assert!(matches!(&all[0], ParameterValue::Long { length: 3, .. }));
    }

    proptest! {
        #[test]
        fn a_word_is_found_in_pieces(before in "[ -~]{0,30}", cuts in proptest::collection::vec(0_usize..70, 0..8)) {
            let text = format!("{before} deallocate;{before}");
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let mut follow = TextFollower::new(0, &ValueKey::for_test());
            cuts.windows(2).for_each(|cut| follow.feed(&text.as_bytes()[cut[0]..cut[1]]));
            prop_assert!(follow.finish().0.renames);
        }

        #[test]
        fn following_in_pieces_gives_the_whole(name in "[a-z]{0,6}", text in "[ -~]{0,40}", cut in 0_usize..60) {
            let body = format!("{name}\0{text}\0\0\0");
            let cut = cut.min(body.len());
            let mut follow = TextFollower::new(1, &ValueKey::for_test());
            follow.feed(&body.as_bytes()[..cut]);
            follow.feed(&body.as_bytes()[cut..]);
            prop_assert_eq!(read(text.as_bytes(), Some(follow), &narrow(), ReadingManner::default()).sql, sql(text.as_bytes()));
        }
    }
}
