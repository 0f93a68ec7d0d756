//! Shape of a statement: its text without the values of its literals. What depends on the structure alone is found once per shape,
//! however many values come.
//!
//! INVARIANT: two texts of one shape have the same tokens, but for the values of plain literals and of short whole numbers, and
//! none of these is a name, a setting or code that the text runs.

#[cfg(test)]
use proptest::prelude::*;

use super::{Lexer, LexerSettings, Token, TokenKind, in_word};

/// First words of commands in whose structure no literal has a meaning. (`SET`, `DO`, `EXECUTE`, `CREATE FUNCTION` are others.)
const SHAPED: [&str; 6] = ["select", "insert", "update", "delete", "with", "values"];

/// Maximum number of digits of a blanked number: parsers hold it in 32 bits.
const MAX_DIGITS: usize = 9;

/// Returns the shape of a text that PostgreSQL reads under its default settings. Comments and white space become one space, plain
/// literals are empty, and whole numbers are 0. A NUL at the end, which no text has, keeps shapes apart from texts.
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

fn is_short(number: &Token<'_>) -> bool {
    number.text.len() <= MAX_DIGITS && number.text.iter().all(u8::is_ascii_digit)
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
        TokenKind::Number if is_short(token) && !touches_word(token, text) => Some(b"0"),
        // The mask keeps positions, so the token stands at the same place of the text.
        _ => text.get(token.start..token.end()),
    }
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
                  varchar(#)|exists|#x1F|0x1F|#b0from from|0b0from from|#a";
    let pieces: Vec<_> = pieces.split('|').collect();
    let pieces = proptest::collection::vec(proptest::sample::select(pieces), 0..24);
    let literals = |texts: &'static str| proptest::collection::vec((texts, 0_u32..1_000_000_000), 24);
    let one = literals("'[a-z ;]{0,6}'|'cards'|'client_encoding'|''");
    let other = literals("'[a-z ;]{0,6}'|'shop\\.cards'|'utf8'|'search_path'");
    (proptest::sample::select(starts.to_vec()), pieces, one, other).prop_map(|(start, pieces, one, other)| {
        let filled = |with: &[(String, u32)]| {
            let pieces = pieces.iter().zip(with);
            let words = pieces.map(|(piece, (literal, number))| piece.replace('?', literal).replace('#', &number.to_string()));
            format!("{start} {}", words.collect::<Vec<_>>().join(" "))
        };
        (filled(&one), filled(&other))
    })
}
