//! Redacts secrets in SQL text and values before they are recorded.
//!
//! This module does not choose the texts that are examined closely: callers pass only texts with one of [`TRIGGERS`]. It
//! protects secrets that people and programs write in the usual ways (passwords, keys, connection strings). It does not protect
//! against users who hide a secret of their own on purpose: they harm only themselves.
//!
//! INVARIANT: only literals are blanked, never the executed code: text outside of literals, and code in bodies (`DO`, `CREATE
//! FUNCTION`) outside of their literals, stays byte by byte. Numbers count as literals, and so do a word that gives a role or
//! setting its secret without quotes, and a value assigned to a secret's name in a comment.
//!
//! INVARIANT: if it is not clear which bytes are literals, those of every reading are blanked, and [`RedactedSql::unclear`] says
//! so.

mod foreign;
mod grammar;
mod literal;
mod nest;
mod scan;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::LazyLock;

use aho_corasick::AhoCorasick;

use crate::protocol::lexer::{Backslashes, LexerSettings, in_word, is_space};
use scan::{ScanDoubts, SecretScan};

/// Words, matched without regard to case; a text without any of them has no secret that this module would find.
pub const TRIGGERS: [&str; 15] = [
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "access_key",
    "api_key",
    "apikey",
    "private_key",
    "credential",
    "crypt",
    "hmac",
    PEM,
    AUTHORITY,
];

/// End of the first line of a private key in PEM, after the kind of key.
const PEM: &str = "private key-----";
/// Separator before the user and password of a URI.
const AUTHORITY: &str = "://";

/// Endings of the names of columns, options and settings that hold a secret.
const NAMES: [&str; 18] = [
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "secret_key",
    "secretkey",
    "access_key",
    "accesskey",
    "api_key",
    "apikey",
    "private_key",
    "privatekey",
    "credential",
    "credentials",
    "password_hash",
    "passwordhash",
];

/// Functions with arguments that are keys or passwords (contrib/pgcrypto), and the positions of these as bits.
const KEYED: [(&str, u64); 12] = [
    ("pgp_sym_encrypt", 0b10),
    ("pgp_sym_encrypt_bytea", 0b10),
    ("pgp_sym_decrypt", 0b10),
    ("pgp_sym_decrypt_bytea", 0b10),
    ("pgp_pub_decrypt", 0b110),
    ("pgp_pub_decrypt_bytea", 0b110),
    ("encrypt", 0b10),
    ("decrypt", 0b10),
    ("encrypt_iv", 0b10),
    ("decrypt_iv", 0b10),
    ("hmac", 0b10),
    ("crypt", 0b1),
];

#[expect(clippy::expect_used, reason = "a few short words always make an automaton")]
static FINDER: LazyLock<AhoCorasick> = LazyLock::new(|| {
    AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .build(TRIGGERS)
        .expect("an automaton")
});

/// Depth up to which SQL in SQL (bodies of code, dollar quotes) is examined.
const MAX_DEPTH: u8 = 8;

/// Replacement for what is blanked. It has quotes, so that it cannot form another token with its surroundings (`6/***` would
/// begin a comment).
const BLANK: &[u8] = b"'***'";

/// Text as it may be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedactedSql<'a> {
    /// Text, with `'***'` in place of each secret.
    pub text: Cow<'a, [u8]>,
    /// Number of places that were blanked.
    pub places: u32,
    /// True if the bytes of literals could not be determined: all that may be literals are blanked.
    pub unclear: bool,
    /// Parameters (`$1`) in the place of a secret.
    pub parameters: SecretParameters,
}

/// Set of parameters that are secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretParameters {
    /// Parameters with these numbers, in order.
    These(Vec<u16>),
    /// All parameters: some of the text was not examined, or it was not understood.
    All,
}

impl SecretParameters {
    /// Empty set.
    pub const NONE: Self = Self::These(Vec::new());

    /// Returns true if the parameter of this number is a secret.
    #[must_use]
    pub fn has(&self, number: u16) -> bool {
        match self {
            Self::These(numbers) => numbers.binary_search(&number).is_ok(),
            Self::All => true,
        }
    }

    /// Returns the number of secrets that were found by number.
    #[must_use]
    pub fn found(&self) -> usize {
        match self {
            Self::These(numbers) => numbers.len(),
            Self::All => 0,
        }
    }
}

/// Error for a text that is nested deeper than PostgreSQL allows.
#[derive(Debug, Clone, Copy)]
struct TooDeepError;

/// Place that has to be blanked.
#[derive(Debug, Clone, Copy)]
struct RedactedRange {
    start: usize,
    end: usize,
    with: &'static [u8],
}

impl RedactedRange {
    fn blank(start: usize, end: usize) -> Self {
        Self { start, end, with: BLANK }
    }

    fn place(&self) -> (usize, usize) {
        (self.start, self.end)
    }
}

/// Blanks the secrets in SQL text, which PostgreSQL reads under these settings. `whole`: the text is not the
/// beginning of a longer one.
#[must_use]
pub fn sql(text: &[u8], whole: bool, settings: LexerSettings) -> RedactedSql<'_> {
    let masked = settings.mask(text);
    let mut found = match (&masked, settings.strings) {
        (Some(masked), Backslashes::Unsettled) => RedactionScan::of_both(masked, whole, settings),
        (Some(masked), _) => RedactionScan::of(masked, whole, settings),
        // A beginning may end within a character.
        (None, _) => RedactionScan::of_any(text, whole, settings),
    };
    let bodies = foreign::bodies(masked.as_deref().unwrap_or(text), settings);
    if !bodies.is_empty() {
        bodies.replace(&mut found.cuts);
        found.doubts.unclear = true;
    }
    let RedactionScan {
        mut cuts,
        parameters,
        doubts: ScanDoubts { unclear, .. },
    } = found;
    if cuts.is_empty() {
        return RedactedSql {
            text: Cow::Borrowed(text),
            places: 0,
            unclear,
            parameters,
        };
    }
    // A name is found after its value, so the places are sorted; places that meet become one.
    cuts.sort_unstable_by_key(|cut| (cut.start, std::cmp::Reverse(cut.end)));
    let (mut out, mut at, mut places) = (Vec::with_capacity(text.len()), 0, 0);
    for cut in cuts {
        if cut.start < at || (cut.start == at && places > 0 && cut.end == at) {
            at = at.max(cut.end);
            continue;
        }
        out.extend_from_slice(text.get(at..cut.start).unwrap_or_default());
        out.extend_from_slice(cut.with);
        at = cut.end;
        places += 1;
    }
    out.extend_from_slice(text.get(at..).unwrap_or_default());
    RedactedSql {
        text: Cow::Owned(out),
        places,
        unclear,
        parameters,
    }
}

/// Places to blank in a text under one reading of it.
#[derive(Debug)]
struct RedactionScan {
    cuts: Vec<RedactedRange>,
    parameters: SecretParameters,
    doubts: ScanDoubts,
}

impl RedactionScan {
    /// Scans a masked text under known settings. If it is not `whole`, its last token may lack its end.
    fn of(text: &[u8], whole: bool, settings: LexerSettings) -> Self {
        let mut scan = SecretScan::new(text, 0, settings);
        let deep = scan.run().is_err();
        let mut doubts = scan.doubts;
        let ends = !deep && !doubts.open;
        let mut nest = scan.nest;
        let parameters = if ends && whole {
            nest.parameters.sort_unstable();
            nest.parameters.dedup();
            SecretParameters::These(nest.parameters)
        } else {
            nest.give_up();
            SecretParameters::All
        };
        let mut cuts = nest.cuts;
        if deep || (whole && !ends) {
            // PostgreSQL refuses it as a whole, and its author may have meant another text.
            cuts.extend(literal::literals(text, settings, 0));
            cuts.extend(literal::assigned(text, literal::ends_word));
            doubts.unclear = true;
        }
        doubts.open = !ends;
        Self {
            cuts,
            parameters,
            doubts,
        }
    }

    /// Scans a text under both readings of backslashes. A text that is malformed under one of them runs under the other or not
    /// at all.
    fn of_both(text: &[u8], whole: bool, settings: LexerSettings) -> Self {
        let [as_plain, as_escaped] = readings(settings);
        let plain = Self::of(text, whole, as_plain);
        if !plain.doubts.ambiguous {
            return plain;
        }
        let escaped = Self::of(text, whole, as_escaped);
        match (plain.is_in_order(), escaped.is_in_order()) {
            (true, false) if whole => return plain,
            (false, true) if whole => return escaped,
            _ => {}
        }
        let [ours, theirs] = [as_plain, as_escaped].map(|settings| literal::literals(text, settings, 0));
        let alike = ours
            .iter()
            .map(RedactedRange::place)
            .eq(theirs.iter().map(RedactedRange::place));
        if alike && plain.is_in_order() && escaped.is_in_order() {
            return plain;
        }
        Self::of_any(text, whole, settings)
    }

    /// Scans a text of which it is unknown what is right: its character boundaries, or one of both readings of backslashes.
    fn of_any(text: &[u8], whole: bool, settings: LexerSettings) -> Self {
        let readings = readings(settings);
        let found = readings.map(|settings| Self::of(text, whole, settings).cuts);
        let literals = readings.map(|settings| literal::literals(text, settings, 0));
        Self {
            cuts: [found, literals].concat().concat(),
            parameters: SecretParameters::All,
            doubts: ScanDoubts {
                open: true,
                ambiguous: true,
                unclear: true,
            },
        }
    }

    fn is_in_order(&self) -> bool {
        !self.doubts.open && !self.doubts.unclear
    }
}

/// Returns the settings with both readings of backslashes.
fn readings(settings: LexerSettings) -> [LexerSettings; 2] {
    [Backslashes::Ordinary, Backslashes::Escape].map(|strings| LexerSettings { strings, ..settings })
}

/// Reports whether a value contains a connection string or other text that reveals a secret. It takes one pass: of a URI in a
/// URI only the outer one is examined, of names in a name only the longest, because the inner ones reveal nothing more.
#[must_use]
pub fn gives_away(value: &[u8]) -> bool {
    let (mut address_end, mut name_end) = (0, 0);
    FINDER
        .find_iter(value)
        .any(|found| match TRIGGERS.get(found.pattern().as_usize()) {
            Some(&AUTHORITY) if found.start() >= address_end => {
                let address = address_at(value, found.end());
                address_end = found.end() + address.len();
                login_of(address).is_some()
            }
            Some(&PEM) => true,
            Some(&AUTHORITY) | None => false,
            Some(_) if found.start() >= name_end => {
                let name = word_at(value, found.start());
                name_end = found.start() + name.len();
                is_secret(name) && value_behind(value.get(name_end..).unwrap_or_default()).is_some()
            }
            Some(_) => false,
        })
}

/// Returns the `user:password` at the start of the text after `://`.
fn login_of(address: &[u8]) -> Option<&[u8]> {
    let at = address.iter().rposition(|byte| *byte == b'@')?;
    let login = address.get(..at)?;
    let colon = login.iter().position(|byte| *byte == b':')?;
    (colon + 1 < login.len()).then_some(login)
}

/// Returns the address that begins at `start`, after `://`.
fn address_at(text: &[u8], start: usize) -> &[u8] {
    until(text, start, |byte| is_space(byte) || matches!(byte, b'\'' | b'"'))
}

/// Returns the word that begins at `start`.
fn word_at(text: &[u8], start: usize) -> &[u8] {
    until(text, start, |byte| !in_word(byte))
}

/// Returns the text from `start` up to the first byte that `ends` it.
fn until(text: &[u8], start: usize, ends: impl Fn(u8) -> bool) -> &[u8] {
    let rest = text.get(start..).unwrap_or_default();
    let length = rest.iter().position(|byte| ends(*byte)).unwrap_or(rest.len());
    rest.get(..length).unwrap_or_default()
}

/// Returns the value that a name gets from the text after it: `=x`, `": "x"`, ` 'x'`.
fn value_behind(behind: &[u8]) -> Option<&[u8]> {
    let mut value = after(behind, |byte| is_space(byte) || matches!(byte, b'"' | b'\\'));
    let apart = behind.first().copied().is_some_and(is_space);
    value = match value.first() {
        Some(b'=' | b':') => after(value, |byte| {
            is_space(byte) || matches!(byte, b'=' | b':' | b'>' | b'\'' | b'"' | b'\\')
        }),
        Some(b'\'') if apart => after(value, |byte| byte == b'\''),
        Some(b'$') if apart => value,
        _ => return None,
    };
    (!matches!(value, [] | [b'%', ..] | [b'$', b'0'..=b'9', ..])).then_some(value)
}

/// Reports whether a text has a placeholder after a secret's name that `format` fills in (`PASSWORD %L`).
fn has_place(text: &[u8]) -> bool {
    let mut name_end = 0;
    FINDER.find_iter(text).any(|found| {
        if found.start() < name_end {
            return false;
        }
        let name = word_at(text, found.start());
        name_end = found.start() + name.len();
        let rest = text.get(name_end..).unwrap_or_default();
        let value = after(rest, |byte| {
            is_space(byte) || matches!(byte, b'=' | b':' | b'\'' | b'"' | b'\\')
        });
        // `LIKE '%password%'` has no placeholder.
        value.first() == Some(&b'%') && value.len() < rest.len() && is_secret(name)
    })
}

/// Reports whether a text ends with a secret's name, so that a secret may follow: `password`, `password=`, `… PASSWORD ''`,
/// `{password}`.
fn ends_in_name(text: &[u8]) -> bool {
    let open = |byte: &u8| is_space(*byte) || matches!(byte, b'=' | b':' | b'\'' | b'"' | b'\\' | b'}');
    let left = text.iter().rposition(|byte| !open(byte)).map_or(0, |at| at + 1);
    is_secret(text.get(..left).unwrap_or_default())
}

/// Reports whether a name is that of a secret.
fn is_secret(name: &[u8]) -> bool {
    let digits = name.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let name = name.get(..name.len() - digits).unwrap_or_default();
    NAMES.iter().any(|secret| {
        let end = name.len().checked_sub(secret.len()).and_then(|at| name.get(at..));
        end.is_some_and(|end| end.eq_ignore_ascii_case(secret.as_bytes()))
    })
}

/// Returns the text after its first bytes that are `like` this.
fn after(text: &[u8], like: impl Fn(u8) -> bool) -> &[u8] {
    let start = text.iter().position(|byte| !like(*byte)).unwrap_or(text.len());
    text.get(start..).unwrap_or_default()
}

/// Reports whether a text is data and not SQL: JSON, a URI, or only `name=value` pairs.
fn is_data(text: &[u8]) -> bool {
    let text = text.trim_ascii();
    if matches!(text, [b'{' | b'[', ..]) || (!text.iter().copied().any(is_space) && FINDER.is_match(text)) {
        return true;
    }
    let mut rest = text;
    while !rest.is_empty() {
        let behind = after(after(rest, in_word), is_space);
        let Some((b'=', value)) = behind.split_first() else {
            return false;
        };
        let value = after(value, is_space);
        rest = match value.split_first() {
            Some((b'\'', quoted)) => {
                let end = quoted.iter().position(|byte| *byte == b'\'');
                end.and_then(|end| quoted.get(end + 1..)).unwrap_or_default()
            }
            _ => after(value, |byte| !is_space(byte)),
        };
        rest = after(rest, is_space);
    }
    !text.is_empty()
}
