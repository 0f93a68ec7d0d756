//! Takes secrets out of SQL text and values before they are recorded.
//!
//! It does not choose which texts are looked at closely: whoever records a text asks only where one of [`TRIGGERS`] is in it.
//! It guards against what people and programs write (passwords, keys, connection strings), not against somebody who hides a
//! secret of their own: they hurt nobody else.
//!
//! INVARIANT: only literals are blanked, never what is executed: text outside of them, and bodies of code (`DO`, `CREATE FUNCTION`)
//! outside of theirs, stays byte by byte. As literals count numbers, a word where a role or setting is given its secret without quotes,
//! and what is assigned to a secret's name in a comment.
//! INVARIANT: where it is not clear which bytes are literals, those of every reading are blanked, and [`Redaction::unclear`] says so.

mod body;
mod code;
mod foreign;
mod found;
mod grammar;
mod nest;
mod scan;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::LazyLock;

use aho_corasick::AhoCorasick;

use crate::lexer::{Backslashes, LexerSettings, in_word, is_space};
use found::Found;

/// A text without one of these, in capitals or not, has no secret that this module would find.
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

/// What private keys in PEM begin with, after their kind.
const PEM: &str = "private key-----";
/// What stands before the user and password of a URI.
const AUTHORITY: &str = "://";

/// A column, option or setting whose name ends like this holds a secret.
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

/// Functions some of whose arguments are keys or passwords (contrib/pgcrypto), and which: a bit for each.
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

/// What stands in the place of what is blanked. In quotes, so that no other token can come of it (`6/***` would begin a comment).
const BLANK: &[u8] = b"'***'";

/// A text as it may be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redaction<'a> {
    /// The text, with `'***'` for each secret.
    pub text: Cow<'a, [u8]>,
    /// How many places were blanked.
    pub places: u32,
    /// Which bytes are literals could not be told: all that may be are blanked.
    pub unclear: bool,
    /// The parameters (`$1`) that stand where a secret belongs.
    pub parameters: Secrets,
}

/// Which parameters of a text are secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Secrets {
    /// Those of these numbers, in order.
    These(Vec<u16>),
    /// Any may be one: not all of the text was looked at, or it was not understood.
    All,
}

impl Secrets {
    /// None.
    pub const NONE: Self = Self::These(Vec::new());

    /// Whether the parameter of this number is one.
    #[must_use]
    pub fn has(&self, number: u16) -> bool {
        match self {
            Self::These(numbers) => numbers.binary_search(&number).is_ok(),
            Self::All => true,
        }
    }

    /// How many were found.
    #[must_use]
    pub fn found(&self) -> usize {
        match self {
            Self::These(numbers) => numbers.len(),
            Self::All => 0,
        }
    }
}

/// A text is nested deeper than PostgreSQL goes.
#[derive(Debug, Clone, Copy)]
struct Deep;

/// A place to be blanked.
#[derive(Debug, Clone, Copy)]
struct Cut {
    start: usize,
    end: usize,
    with: &'static [u8],
}

impl Cut {
    fn place(&self) -> (usize, usize) {
        (self.start, self.end)
    }
}

/// Blanks the secrets in SQL text, which PostgreSQL reads under these settings. `whole` says that the text is not itself the
/// beginning of a longer one.
#[must_use]
pub fn sql(text: &[u8], whole: bool, settings: LexerSettings) -> Redaction<'_> {
    let masked = settings.mask(text);
    let mut found = match (&masked, settings.strings) {
        (Some(masked), Backslashes::Unsettled) => Found::of_both(masked, whole, settings),
        (Some(masked), _) => Found::of(masked, whole, settings),
        // A beginning may end within a character.
        (None, _) => Found::of_any(text, whole, settings),
    };
    let bodies = foreign::bodies(masked.as_deref().unwrap_or(text), settings);
    if !bodies.is_empty() {
        bodies.replace(&mut found.cuts);
        found.unclear = true;
    }
    let Found {
        mut cuts,
        parameters,
        unclear,
        ..
    } = found;
    if cuts.is_empty() {
        return Redaction {
            text: Cow::Borrowed(text),
            places: 0,
            unclear,
            parameters,
        };
    }
    // A name is found behind its value; of places that meet one comes of both.
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
    Redaction {
        text: Cow::Owned(out),
        places,
        unclear,
        parameters,
    }
}

/// Whether a value has a connection string or other text in it that gives a password away. One pass: of a URI in a URI only the
/// outer one is looked at, of names in a name only the longest, for the inner ones give away nothing that it does not.
#[must_use]
pub fn gives_away(value: &[u8]) -> bool {
    let (mut address_end, mut name_end) = (0, 0);
    FINDER
        .find_iter(value)
        .any(|found| match TRIGGERS.get(found.pattern().as_usize()) {
            Some(&AUTHORITY) if found.start() >= address_end => {
                let address = until(value, found.end(), |byte| is_space(byte) || matches!(byte, b'\'' | b'"'));
                address_end = found.end() + address.len();
                login_of(address).is_some()
            }
            Some(&PEM) => true,
            Some(&AUTHORITY) | None => false,
            Some(_) if found.start() >= name_end => {
                let name = until(value, found.start(), |byte| !in_word(byte));
                name_end = found.start() + name.len();
                is_secret(name) && value_behind(value.get(name_end..).unwrap_or_default()).is_some()
            }
            Some(_) => false,
        })
}

/// The `user:password` that what follows `://` begins with.
fn login_of(address: &[u8]) -> Option<&[u8]> {
    let at = address.iter().rposition(|byte| *byte == b'@')?;
    let login = address.get(..at)?;
    let colon = login.iter().position(|byte| *byte == b':')?;
    (colon + 1 < login.len()).then_some(login)
}

/// What begins at `start`, up to where it ends.
fn until(text: &[u8], start: usize, ends: impl Fn(u8) -> bool) -> &[u8] {
    let rest = text.get(start..).unwrap_or_default();
    let length = rest.iter().position(|byte| ends(*byte)).unwrap_or(rest.len());
    rest.get(..length).unwrap_or_default()
}

/// The value that a name is given by what is behind it: `=x`, `": "x"`, ` 'x'`.
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

/// Whether a text has a place for a value behind a secret name, as `format` fills in (`PASSWORD %L`).
fn has_place(text: &[u8]) -> bool {
    let mut name_end = 0;
    FINDER.find_iter(text).any(|found| {
        if found.start() < name_end {
            return false;
        }
        let name = until(text, found.start(), |byte| !in_word(byte));
        name_end = found.start() + name.len();
        let rest = text.get(name_end..).unwrap_or_default();
        let value = after(rest, |byte| {
            is_space(byte) || matches!(byte, b'=' | b':' | b'\'' | b'"' | b'\\')
        });
        // `LIKE '%password%'` has none.
        value.first() == Some(&b'%') && value.len() < rest.len() && is_secret(name)
    })
}

/// Whether a text ends with a secret name, so that a secret may follow: `password`, `password=`, `… PASSWORD ''`, `{password}`.
fn ends_in_name(text: &[u8]) -> bool {
    let open = |byte: &u8| is_space(*byte) || matches!(byte, b'=' | b':' | b'\'' | b'"' | b'\\' | b'}');
    let left = text.iter().rposition(|byte| !open(byte)).map_or(0, |at| at + 1);
    is_secret(text.get(..left).unwrap_or_default())
}

/// Whether a name is that of a secret.
fn is_secret(name: &[u8]) -> bool {
    let digits = name.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let name = name.get(..name.len() - digits).unwrap_or_default();
    NAMES.iter().any(|secret| {
        let end = name.len().checked_sub(secret.len()).and_then(|at| name.get(at..));
        end.is_some_and(|end| end.eq_ignore_ascii_case(secret.as_bytes()))
    })
}

/// What is left behind the first bytes that are `like` this.
fn after(text: &[u8], like: impl Fn(u8) -> bool) -> &[u8] {
    let start = text.iter().position(|byte| !like(*byte)).unwrap_or(text.len());
    text.get(start..).unwrap_or_default()
}

/// Whether a text is data and not SQL: JSON, a URI, or nothing but `name=value`.
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
