//! Normalised statement: the text of a statement without its values, to count and compare what programs send, and to show it where
//! values must not be shown. Pure.
//!
//! Unlike [`crate::protocol::lexer::shape`] every text has one, and it need not tell how the text is analysed. So it leaves out more:
//! lists of values have any length, parameters are values, and generated numbers in the names of savepoints, cursors and prepared
//! statements are blanked.
//!
//! INVARIANT: no value of a literal, of a number or of a comment is in the result; a text whose tokens are not certain ends there.

use std::borrow::Cow;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use crate::audit::event::{SqlText, Statement};
use crate::protocol::lexer::{Lexer, Token, TokenKind};

/// Number of characters that are kept of a text to be shown; the id is that of the whole text.
const MAX_SHOWN_CHARS: usize = 500;
/// Number of bytes of an id, in two hexadecimal digits each.
const ID_BYTES: usize = 8;
/// Number of brackets within brackets in which repeated groups are looked for.
const MAX_DEPTH: usize = 32;

/// Place of a value.
const VALUE: &[u8] = b"?";
/// Place of what is repeated, or is not known.
const MORE: &[u8] = b"...";

/// First words of commands in which `NULL`, `TRUE` and `FALSE` are values, unless they belong to another word.
const DATA_COMMANDS: [&str; 7] = ["select", "insert", "update", "delete", "merge", "with", "values"];
/// First words of commands that name what a session makes up: savepoints, cursors, prepared statements.
const NAMING_COMMANDS: [&str; 10] = [
    "savepoint",
    "release",
    "rollback",
    "declare",
    "fetch",
    "move",
    "close",
    "prepare",
    "execute",
    "deallocate",
];

/// Normalised text of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NormalizedStatement {
    /// Text, or its beginning.
    pub(super) text: String,
    /// Id, which is the same in each run: the first digits of the whole text's SHA-256.
    pub(super) id: String,
}

impl NormalizedStatement {
    /// Normalises a statement as it is recorded.
    pub(super) fn of(statement: &Statement<'_>) -> Self {
        match (&statement.sql, statement.function) {
            (Some(sql), _) => Self::of_text(sql),
            (None, Some(function)) => Self::named(&format!("(call of function {function})")),
            (None, None) => Self::named("(its text is not on record)"),
        }
    }

    fn of_text(sql: &SqlText<'_>) -> Self {
        let text = sql.text.0.as_bytes();
        let Some((settings, masked)) = sql.settings().and_then(|settings| Some((settings, settings.mask(text)?))) else {
            return Self::named("(its characters are not certain)");
        };
        let mut pieces = Pieces::default();
        let mut lexer = Lexer::under(&masked, settings);
        while let Some(token) = lexer.next() {
            pieces.token(&token, text);
        }
        Self::named(&pieces.joined(sql.is_cut()))
    }

    fn named(whole: &str) -> Self {
        let hash = Sha256::digest(whole);
        let mut characters = whole.chars();
        let mut text: String = characters.by_ref().take(MAX_SHOWN_CHARS).collect();
        if characters.next().is_some() {
            text.push_str(" ...");
        }
        Self {
            text,
            id: HEXLOWER.encode(hash.get(..ID_BYTES).unwrap_or_default()),
        }
    }
}

/// Piece of a normalised text.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Piece<'t> {
    text: Cow<'t, [u8]>,
    /// True if a space is in front of it.
    spaced: bool,
}

impl Piece<'_> {
    fn is(&self, text: &[u8]) -> bool {
        *self.text == *text
    }

    fn is_word(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.text.eq_ignore_ascii_case(word.as_bytes()))
    }
}

/// Open bracket.
#[derive(Debug)]
struct OpenBracket {
    /// Place of the bracket among the pieces.
    at: usize,
    /// Last bracket that was closed directly within it.
    closed: Option<ClosedBracket>,
}

/// Closed bracket: its first piece and the place behind its last one.
#[derive(Debug, Clone, Copy)]
struct ClosedBracket {
    start: usize,
    end: usize,
    /// True if it stands for more than one.
    repeated: bool,
}

/// Pieces of a text, as its tokens come.
#[derive(Debug, Default)]
struct Pieces<'t> {
    pieces: Vec<Piece<'t>>,
    open: Vec<OpenBracket>,
    /// Last bracket that was closed outside of all others.
    closed: Option<ClosedBracket>,
    /// Number of open brackets beyond [`MAX_DEPTH`].
    deeper: usize,
    /// Position behind the last token.
    end: usize,
    /// First word of the command.
    command: Option<&'t [u8]>,
    /// Nothing more is certain.
    over: bool,
}

impl<'t> Pieces<'t> {
    fn token(&mut self, token: &Token<'_>, text: &'t [u8]) {
        if self.over || token.kind == TokenKind::Comment {
            return;
        }
        let spaced = token.start > self.end && !self.pieces.is_empty();
        self.end = token.end();
        let written = token.within(text).text;
        match token.kind {
            TokenKind::Unfinished | TokenKind::Ambiguous => {
                self.over = true;
                self.push(MORE, true);
            }
            TokenKind::Literal | TokenKind::Escaped | TokenKind::Dollar | TokenKind::Parameter => self.push(VALUE, spaced),
            TokenKind::Number => self.number(spaced),
            TokenKind::Word if self.is_value_word(token) => self.push(VALUE, spaced),
            TokenKind::Word | TokenKind::Quoted => self.name(written, spaced),
            TokenKind::Sign => self.sign(written, spaced),
            TokenKind::Comment => {}
        }
    }

    fn push(&mut self, text: impl Into<Cow<'t, [u8]>>, spaced: bool) {
        self.pieces.push(Piece {
            text: text.into(),
            spaced,
        });
    }

    fn begins_with(&self, words: &[&str]) -> bool {
        let is = |command: &[u8]| words.iter().any(|word| command.eq_ignore_ascii_case(word.as_bytes()));
        self.command.is_some_and(is)
    }

    /// Returns true for `NULL`, `TRUE` and `FALSE` in the place of a value.
    fn is_value_word(&self, token: &Token<'_>) -> bool {
        let is_constant = token.is("null") || token.is("true") || token.is("false");
        let belongs = |before: &Piece<'_>| before.is_word(&["is", "not", "set", "default"]);
        is_constant && self.begins_with(&DATA_COMMANDS) && !self.pieces.last().is_some_and(belongs)
    }

    /// Adds a number, with its sign.
    fn number(&mut self, spaced: bool) {
        let is_sign = |piece: &Piece<'_>| piece.is(b"-") || piece.is(b"+");
        let opens = |piece: &Piece<'_>| {
            [&b"("[..], b",", b"=", b"<", b">", b"[", b"<=", b">=", b"<>"]
                .iter()
                .any(|sign| piece.is(sign))
        };
        if let [.., before, sign] = self.pieces.as_slice()
            && is_sign(sign)
            && opens(before)
        {
            let spaced = sign.spaced;
            self.pieces.pop();
            return self.push(VALUE, spaced);
        }
        self.push(VALUE, spaced);
    }

    fn name(&mut self, written: &'t [u8], spaced: bool) {
        let is_made_up = self.begins_with(&NAMING_COMMANDS) && written.iter().any(u8::is_ascii_digit);
        // What a cursor or a prepared statement is for names what is in the database.
        let ends = [&b"for"[..], b"as", b"cursor"]
            .iter()
            .any(|word| written.eq_ignore_ascii_case(word));
        match self.command {
            None => self.command = Some(written),
            Some(_) if ends && self.begins_with(&NAMING_COMMANDS) => self.command = Some(&b"select"[..]),
            Some(_) => {}
        }
        if is_made_up {
            self.push(without_digits(written), spaced);
        } else {
            self.push(written, spaced);
        }
    }

    fn sign(&mut self, written: &'t [u8], spaced: bool) {
        match written {
            b";" => {
                self.command = None;
                self.push(written, spaced);
            }
            b"(" | b"[" => {
                let at = self.pieces.len();
                self.push(written, spaced);
                if self.open.len() < MAX_DEPTH {
                    self.open.push(OpenBracket { at, closed: None });
                } else {
                    self.deeper += 1;
                }
            }
            b")" | b"]" => {
                self.push(written, spaced);
                self.close();
            }
            _ => self.push(written, spaced),
        }
    }

    /// Shortens a bracket that was closed, and those that repeat it.
    fn close(&mut self) {
        if self.deeper > 0 {
            self.deeper -= 1;
            return;
        }
        let Some(OpenBracket { at, .. }) = self.open.pop() else {
            return;
        };
        if self.is_list(at) {
            self.shorten(at);
        }
        let before = self.open.last().map_or(self.closed, |around| around.closed);
        let repeats = before.filter(|before| self.repeats(*before, at));
        let closed = if let Some(before) = repeats {
            self.pieces.truncate(before.end);
            self.push(&b","[..], false);
            self.push(MORE, true);
            ClosedBracket {
                repeated: true,
                ..before
            }
        } else {
            ClosedBracket {
                start: at,
                end: self.pieces.len(),
                repeated: false,
            }
        };
        match self.open.last_mut() {
            Some(around) => around.closed = Some(closed),
            None => self.closed = Some(closed),
        }
    }

    /// Returns true if the bracket at this place has a list of values of any length: `IN (...)`, `ARRAY[...]`.
    fn is_list(&self, at: usize) -> bool {
        let before = at.checked_sub(1).and_then(|before| self.pieces.get(before));
        let is_array = self.pieces.get(at).is_some_and(|open| open.is(b"["));
        before.is_some_and(|before| before.is_word(if is_array { &["array"] } else { &["in"] }))
    }

    /// Leaves the first of a list's items if all are alike.
    fn shorten(&mut self, at: usize) {
        let Some(inside) = self.pieces.get(at + 1..self.pieces.len().saturating_sub(1)) else {
            return;
        };
        let texts = |item: &[Piece<'_>]| item.iter().map(|piece| piece.text.clone().into_owned()).collect::<Vec<_>>();
        let mut items = items(inside).into_iter();
        let Some(first) = items.next() else { return };
        let of_first = texts(first);
        let rest: Vec<_> = items.collect();
        if rest.is_empty() || !first.iter().any(|piece| piece.is(VALUE)) || rest.iter().any(|item| texts(item) != of_first) {
            return;
        }
        let end = at + 1 + first.len();
        let close = self.pieces.pop();
        self.pieces.truncate(end);
        self.push(&b","[..], false);
        self.push(MORE, true);
        self.pieces.extend(close);
    }

    /// Returns true if the bracket that begins at this place, and is closed, follows an equal one behind a comma.
    fn repeats(&self, before: ClosedBracket, at: usize) -> bool {
        // Behind one that stands for more there are a comma and the dots.
        let comma = before.end + if before.repeated { 2 } else { 0 };
        let is_next = comma + 1 == at && self.pieces.get(comma).is_some_and(|piece| piece.is(b","));
        let of =
            |pieces: Option<&[Piece<'t>]>| pieces.map(|pieces| pieces.iter().map(|piece| piece.text.clone()).collect::<Vec<_>>());
        is_next && of(self.pieces.get(before.start..before.end)) == of(self.pieces.get(at..))
    }

    fn joined(mut self, cut: bool) -> String {
        while self.pieces.last().is_some_and(|piece| piece.is(b";")) {
            self.pieces.pop();
        }
        if cut && !self.over {
            self.push(MORE, true);
        }
        let mut joined = Vec::new();
        for piece in &self.pieces {
            if piece.spaced && !joined.is_empty() {
                joined.push(b' ');
            }
            joined.extend_from_slice(&piece.text);
        }
        String::from_utf8_lossy(&joined).into_owned()
    }
}

/// Returns the items between the commas outside of brackets.
fn items<'p, 't>(pieces: &'p [Piece<'t>]) -> Vec<&'p [Piece<'t>]> {
    let mut depth = 0_i32;
    let is_comma = |piece: &Piece<'_>| {
        depth += i32::from(piece.is(b"(") || piece.is(b"[")) - i32::from(piece.is(b")") || piece.is(b"]"));
        depth == 0 && piece.is(b",")
    };
    pieces.split(is_comma).collect()
}

/// Returns a name with each of its numbers blanked.
fn without_digits(name: &[u8]) -> Vec<u8> {
    let mut blanked = Vec::with_capacity(name.len());
    let mut within = false;
    for byte in name {
        let digit = byte.is_ascii_digit();
        if !digit {
            blanked.push(*byte);
        } else if !within {
            blanked.extend_from_slice(VALUE);
        }
        within = digit;
    }
    blanked
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::audit::event::OutsideText;
    use crate::protocol::lexer::{Backslashes, shape, texts_of_one_shape};

    fn sql(text: &str) -> SqlText<'_> {
        SqlText::whole(OutsideText(Cow::Borrowed(text)))
    }

    fn normalized(text: &str) -> String {
        NormalizedStatement::of_text(&sql(text)).text
    }

    #[test]
    fn values_are_left_out_and_structure_stays() {
        for (text, expected) in [
            (
                "SELECT * FROM t WHERE a = 'x' AND b=12;",
                "SELECT * FROM t WHERE a = ? AND b=?",
            ),
            ("SELECT $1, $$body$$, E'a\\'b', 1.5e3, 12345678901", "SELECT ?, ?, ?, ?, ?"),
            (
                "SELECT  a\n\tFROM t -- why\n WHERE x /* 1 */ = 1",
                "SELECT a FROM t WHERE x = ?",
            ),
            ("/* test='a' */ SELECT 1 /* x='y' */", "SELECT ?"),
            (
                "SELECT a FROM t WHERE b IS NULL AND c = NULL",
                "SELECT a FROM t WHERE b IS NULL AND c = ?",
            ),
            ("INSERT INTO t VALUES (-1, NULL, true)", "INSERT INTO t VALUES (?, ?, ?)"),
            ("SELECT a - 1 FROM t", "SELECT a - ? FROM t"),
            (
                "CREATE TABLE t (a int NULL, b text DEFAULT 'x')",
                "CREATE TABLE t (a int NULL, b text DEFAULT ?)",
            ),
            ("SELECT \"A 1\" FROM t1", "SELECT \"A 1\" FROM t1"),
            ("SET application_name = 'x'", "SET application_name = ?"),
            ("", ""),
            (";", ""),
            ("BEGIN; SELECT 1; COMMIT;", "BEGIN; SELECT ?; COMMIT"),
        ] {
            assert_eq!(normalized(text), expected, "{text}");
        }
    }

    #[test]
    fn lists_and_rows_have_any_length() {
        for (text, expected) in [
            ("SELECT * FROM t WHERE a IN (1, 2, 3)", "SELECT * FROM t WHERE a IN (?, ...)"),
            ("SELECT * FROM t WHERE a IN (1)", "SELECT * FROM t WHERE a IN (?)"),
            (
                "SELECT * FROM t WHERE a IN ($1::INTEGER, $2::INTEGER)",
                "SELECT * FROM t WHERE a IN (?::INTEGER, ...)",
            ),
            (
                "SELECT * FROM t WHERE (a, b) IN ((1, 2), (3, 4))",
                "SELECT * FROM t WHERE (a, b) IN ((?, ?), ...)",
            ),
            ("SELECT * FROM t WHERE a IN (1, b)", "SELECT * FROM t WHERE a IN (?, b)"),
            ("SELECT ARRAY[1, 2], f(1, 2)", "SELECT ARRAY[?, ...], f(?, ?)"),
            (
                "INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')",
                "INSERT INTO t VALUES (?, ?), ...",
            ),
            (
                "INSERT INTO t VALUES (1, now()), (2, now()) ON CONFLICT DO NOTHING",
                "INSERT INTO t VALUES (?, now()), ... ON CONFLICT DO NOTHING",
            ),
            ("INSERT INTO t VALUES (1, 2), (3)", "INSERT INTO t VALUES (?, ?), (?)"),
        ] {
            assert_eq!(normalized(text), expected, "{text}");
        }
    }

    #[test]
    fn names_that_a_session_makes_up_have_no_numbers() {
        for (text, expected) in [
            ("SAVEPOINT \"s139_x12\"", "SAVEPOINT \"s?_x?\""),
            ("ROLLBACK TO SAVEPOINT sa_savepoint_2", "ROLLBACK TO SAVEPOINT sa_savepoint_?"),
            (
                "DECLARE \"_django_curs_1_2\" CURSOR FOR SELECT * FROM t2",
                "DECLARE \"_django_curs_?_?\" CURSOR FOR SELECT * FROM t2",
            ),
            ("FETCH FORWARD 100 FROM c1", "FETCH FORWARD ? FROM c?"),
            ("SELECT * FROM t2; CLOSE c1", "SELECT * FROM t2; CLOSE c?"),
            ("PREPARE p1 AS SELECT * FROM t2", "PREPARE p? AS SELECT * FROM t2"),
        ] {
            assert_eq!(normalized(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_certain_ends_the_text() {
        assert_eq!(normalized("SELECT 'secret"), "SELECT ...");
        let cut = SqlText {
            cut: true,
            ..sql("SELECT a, 'x', b FR")
        };
        assert_eq!(NormalizedStatement::of_text(&cut).text, "SELECT a, ?, b FR ...");
        let escapes = SqlText {
            scs: Backslashes::Escape,
            ..sql(r"SELECT 'a\'b', 1")
        };
        assert_eq!(NormalizedStatement::of_text(&escapes).text, "SELECT ?, ?");
    }

    #[test]
    fn a_long_text_is_shown_in_part_and_told_apart() {
        let long = |end: &str| NormalizedStatement::of_text(&sql(&format!("SELECT {}{end}", "a, ".repeat(1_000))));
        let (one, other) = (long("x"), long("y"));
        assert_eq!(one.text, other.text);
        assert_ne!(one.id, other.id);
        assert!(one.text.ends_with(" ...") && one.id.len() == 2 * ID_BYTES);
    }

    proptest! {
        /// Texts that differ in their literals alone are one.
        #[test]
        fn literals_do_not_count((one, other) in texts_of_one_shape()) {
            let shapes = [&one, &other].map(|text| shape(text.as_bytes()));
            prop_assume!(shapes[0].is_some() && shapes[0] == shapes[1]);
            prop_assert_eq!(normalized(&one), normalized(&other));
        }

        /// No literal's value is in the result, wherever it stands.
        #[test]
        fn no_value_is_left(words in proptest::collection::vec("select|from|in|\\(|\\)|,|\\[|\\]|array|values|'secret'|E'secret'|\\$\\$secret\\$\\$|/\\*secret\\*/|--secret\n|4711|;|-|savepoint|a1", 0..40)) {
            let text = normalized(&words.join(" "));
            prop_assert!(!text.contains("secret") && !text.contains("4711"), "{}", text);
        }

        #[test]
        fn any_text_has_one(text in "\\PC{0,100}") {
            let _ = normalized(&text);
        }
    }
}
