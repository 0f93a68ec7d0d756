//! Shape of a statement: its text without the values of its literals. What depends on the structure alone is found once per shape,
//! however many values come.
//!
//! INVARIANT: two texts of one shape have the same tokens, but for the values of plain literals and of whole numbers of one width,
//! and none of these is a name, a setting or code that the text runs.

#[cfg(test)]
use proptest::prelude::*;

use super::{Lexer, LexerSettings, Token, TokenKind, in_word};

/// First words of commands in whose structure no literal has a meaning. (`SET`, `DO`, `EXECUTE`, `CREATE FUNCTION` are others.)
const SHAPED: [&str; 6] = ["select", "insert", "update", "delete", "with", "values"];

/// Returns the shape of a text that PostgreSQL reads under its default settings. Comments and white space become one space, plain
/// literals are empty, and whole numbers are the least of their width. A NUL at the end, which no text has, keeps shapes apart from texts.
///
/// `None` if it has no shape: a command is of another kind, a literal may name a setting (`set_config`), a name or a literal has
/// escapes by code points, or the ends of its tokens are not certain.
#[must_use]
pub fn shape(text: &[u8]) -> Option<Vec<u8>> {
    let masked = LexerSettings::default().mask(text)?;
    let mut lexer = Lexer::new(&masked);
    let mut shape = Vec::with_capacity(text.len());
    let (mut begins, mut end) = (true, 0);
    while let Some(token) = lexer.next() {
        if token.kind == TokenKind::Comment {
            continue;
        }
        if token.start > end && !shape.is_empty() {
            shape.push(b' ');
        }
        end = token.end();
        if begins && !token.is_sign(b'(') && !token.is_sign(b';') {
            SHAPED.into_iter().find(|word| token.is(word))?;
            begins = false;
        }
        begins |= token.is_sign(b';');
        shape.extend_from_slice(written(&token, text)?);
    }
    shape.push(0);
    Some(shape)
}

/// Returns the least whole number of the width that parsers need for this one: 31, 32 or 63 bits. `None` for a longer number, or
/// another one.
fn least_of_width(number: &[u8]) -> Option<&'static [u8]> {
    let number = number.iter().all(u8::is_ascii_digit).then_some(number)?;
    match str::from_utf8(number).ok()?.parse().ok()? {
        0..=0x7fff_ffff_i64 => Some(b"0"),
        ..=0xffff_ffff => Some(b"2147483648"),
        _ => Some(b"4294967296"),
    }
}

/// Returns true if a word follows without a space: `1x1F` is a number and a name, and with a 0 in front it would be one number.
fn touches_word(number: &Token<'_>, text: &[u8]) -> bool {
    text.get(number.end()).is_some_and(|byte| in_word(*byte))
}

/// Returns a token as the shape has it.
fn written<'t>(token: &Token<'t>, text: &'t [u8]) -> Option<&'t [u8]> {
    match token.kind {
        TokenKind::Unfinished | TokenKind::Ambiguous => None,
        _ if token.is_by_code_points() => None,
        TokenKind::Word | TokenKind::Quoted if token.inner.eq_ignore_ascii_case(b"set_config") => None,
        TokenKind::Literal if token.prefix().is_none() => Some(b"''"),
        TokenKind::Number if !touches_word(token, text) => least_of_width(token.text).or_else(|| as_it_stands(token, text)),
        _ => as_it_stands(token, text),
    }
}

fn as_it_stands<'t>(token: &Token<'_>, text: &'t [u8]) -> Option<&'t [u8]> {
    // The mask keeps positions, so the token stands at the same place of the text.
    text.get(token.start..token.end())
}

/// Two texts that differ in their literals alone, as far as there are any.
#[cfg(test)]
pub(crate) fn texts_of_one_shape() -> impl Strategy<Value = (String, String)> {
    let starts = [
        "select",
        "update cards set",
        "insert into a",
        "delete from a",
        "with a as (",
        "values",
        "",
    ];
    let pieces = "select|from|where|insert into|values|update|set|delete from|with|as|(|)|,|;|a|cards|shop.cards|=|and|into|limit|order by|\
                  ?|?|?|#|#|set_config|/* cards */|-- cards\n|\n|::text|date|interval|in|like|join|on|E'cards'|$$cards$$|returning|\
                  for update|union|set_config(?, ?, false)|select into a|case when|then|end|\"cards\"|client_encoding|1.5|-|cast|\
                  varchar(#)|exists|#x1F|0x1F|#b0from from|0b0from from|#a|00#|fetch #|interval(#)";
    let pieces: Vec<_> = pieces.split('|').collect();
    let pieces = proptest::collection::vec(proptest::sample::select(pieces), 0..24);
    let literals = |texts: &'static str| proptest::collection::vec(texts, 24);
    let one = literals("'[a-z ;]{0,6}'|'cards'|'client_encoding'|''");
    let other = literals("'[a-z ;]{0,6}'|'shop\\.cards'|'utf8'|'search_path'");
    let width = |least: i64, most: i64| (least..=most, least..=most);
    let numbers = prop_oneof![
        3 => width(0, i32::MAX.into()),
        1 => width(1 << 31, u32::MAX.into()),
        1 => width(1 << 32, i64::MAX),
    ];
    let numbers = proptest::collection::vec(numbers, 24);
    let literals = (one, other, numbers).prop_map(|(one, other, numbers)| {
        let (smaller, larger): (Vec<_>, Vec<_>) = numbers.into_iter().unzip();
        [(one, smaller), (other, larger)]
    });
    (proptest::sample::select(starts.to_vec()), pieces, literals).prop_map(|(start, pieces, texts)| {
        let [one, other] = texts.map(|(literals, numbers)| {
            let literals = literals.iter().zip(numbers);
            let words = pieces.iter().zip(literals);
            let words = words.map(|(piece, (literal, number))| piece.replace('?', literal).replace('#', &number.to_string()));
            format!("{start} {}", words.collect::<Vec<_>>().join(" "))
        });
        (one, other)
    })
}
