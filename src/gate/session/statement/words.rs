//! Searches an SQL text once for all words that matter to the gate: reassigned names, cursors, secrets, commands that hide their
//! effects; and for the name that a `DEALLOCATE` frees.
//!
//! This module decides nothing. It may find a word in a literal or comment, which its callers must tolerate.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, MatchKind};

use crate::audit::redact::TRIGGERS;
use crate::protocol::lexer::{Lexer, LexerSettings, Token, TokenKind, in_word};

/// Words that can reassign the names of prepared statements, which makes the meaning of a name uncertain. `EXECUTE` is one of
/// them: in a `DO` block it runs a text that may be assembled from pieces, and alone it may run a prepared `DEALLOCATE`. A
/// function that does so unseen and was created earlier is not found; its own text was recorded at its creation.
const RENAMING_WORDS: [&str; 4] = ["prepare", "deallocate", "discard", "execute"];
/// Word of commands that may replace a portal by a cursor (`CLOSE` and `DECLARE CURSOR` share the protocol's names).
const REOPENING_WORD: &str = "cursor";
/// Commands whose text does not show their effects; `PREPARE` itself does nothing, but its statement is executed unseen.
const OPAQUE_COMMANDS: [&str; 4] = ["do", "call", "execute", "prepare"];

/// Length of the longest of all words plus the character after it, in bytes.
pub(super) const MAX_WORD_BYTES: usize = 17;

/// Maximum length of a name that the server does not cut, in bytes (`NAMEDATALEN`).
const MAX_NAME_BYTES: usize = 63;

/// Number of bytes that are searched together.
const CHUNK_BYTES: usize = 256;

/// Automaton for words in lower case: only then does it examine many bytes at once, at half the cost of one by one.
#[expect(clippy::expect_used, reason = "a few short words always make an automaton")]
static FINDER: LazyLock<AhoCorasick> = LazyLock::new(|| {
    AhoCorasick::builder()
        .match_kind(MatchKind::LeftmostFirst)
        .build(RENAMING_WORDS.iter().chain([&REOPENING_WORD]).chain(&TRIGGERS))
        .expect("an automaton")
});

/// Words found in a text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::gate::session) struct FoundWords {
    /// True if there is a word that can reassign the names of prepared statements.
    pub(in crate::gate::session) renames: bool,
    /// True if the text may replace a portal by another cursor.
    pub(in crate::gate::session) reopens: bool,
    /// True if there may be a secret in the text.
    pub(in crate::gate::session) secrets: bool,
}

impl FoundWords {
    pub(in crate::gate::session) fn of(text: &[u8]) -> Self {
        let mut words = Self::default();
        let mut start = 0;
        loop {
            let rest = text.get(start..).unwrap_or_default();
            let piece = rest.get(..CHUNK_BYTES).unwrap_or(rest);
            let mut lower = [0; CHUNK_BYTES];
            lower
                .iter_mut()
                .zip(piece)
                .for_each(|(to, from)| *to = from.to_ascii_lowercase());
            for found in FINDER.find_iter(lower.get(..piece.len()).unwrap_or_default()) {
                match found.pattern().as_usize() {
                    0..4 => words.renames |= stands_alone(text, start + found.start(), start + found.end()),
                    4 => words.reopens = true,
                    _ => words.secrets = true,
                }
            }
            if piece.len() == rest.len() {
                return words;
            }
            // A word across the boundary is complete in the next piece.
            start += CHUNK_BYTES - MAX_WORD_BYTES;
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.renames |= other.renames;
        self.reopens |= other.reopens;
        self.secrets |= other.secrets;
    }
}

fn stands_alone(text: &[u8], start: usize, end: usize) -> bool {
    let before = start.checked_sub(1).and_then(|at| text.get(at));
    !before.copied().is_some_and(in_word) && !text.get(end).copied().is_some_and(in_word)
}

/// Returns true if a text does not show its effects. `words` were found in it, and the target reads it under these settings.
pub(in crate::gate::session) fn is_opaque(text: &[u8], words: FoundWords, settings: LexerSettings) -> bool {
    let Some(masked) = settings.mask(text) else { return true };
    let mut lexer = Lexer::under(&masked, settings);
    let first = lexer.next_code();
    if first.is_some_and(|first| hides(&first)) {
        return true;
    }
    let several = || {
        let end = memchr::memchr(b';', text).and_then(|at| text.get(at..));
        end.is_some_and(|end| end.iter().any(|byte| !matches!(byte, b';' | b' ' | b'\n' | b'\r' | b'\t')))
    };
    first.is_some_and(|first| (words.renames || several()) && hides_later(first, lexer))
}

fn hides(token: &Token<'_>) -> bool {
    token.kind == TokenKind::Word && matches!(token.text.len(), 2 | 4 | 7) && OPAQUE_COMMANDS.iter().any(|word| token.is(word))
}

/// Returns true if a later command hides its effects, or executes a prepared statement within it (`EXPLAIN ANALYZE EXECUTE p`,
/// `CREATE TABLE t AS EXECUTE p`).
fn hides_later<'a>(first: Token<'a>, mut lexer: Lexer<'a>) -> bool {
    let (mut command, mut before) = (Some(first), first);
    while let Some(token) = lexer.next_code() {
        let begins = command.is_none();
        if token.kind == TokenKind::Ambiguous || (begins && hides(&token)) {
            return true;
        }
        if token.is("execute") && (before.is("as") || command.is_some_and(|command| command.is("explain"))) {
            return true;
        }
        command = if token.is_sign(b';') { None } else { command.or(Some(token)) };
        before = token;
    }
    false
}

/// Returns the name in `DEALLOCATE [PREPARE] name`; `None` if there is more, or anything ambiguous. It only serves to free memory: a
/// wrong name would hide another statement's text.
pub(in crate::gate::session) fn deallocated(text: &[u8]) -> Option<Box<[u8]>> {
    let text = str::from_utf8(text).ok().filter(|text| text.is_ascii())?;
    let text = text.trim_matches([' ', '\n', '\r', '\t']);
    let text = text.strip_suffix(';').unwrap_or(text).trim_end();
    let mut rest = behind(text, "deallocate")?;
    if let Some(name) = behind(rest, "prepare") {
        rest = name;
    }
    let name = if let Some(quoted) = rest.strip_prefix('"') {
        quoted
            .strip_suffix('"')
            .filter(|name| !name.contains(['"', '\\']))?
            .to_owned()
    } else {
        let first = rest.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_');
        let plain = first && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        Some(rest.to_ascii_lowercase()).filter(|name| plain && name != "all" && name != "prepare")?
    };
    (1..=MAX_NAME_BYTES).contains(&name.len()).then(|| name.into_bytes().into())
}

/// Returns the text after a word and the space that follows it.
fn behind<'t>(text: &'t str, word: &str) -> Option<&'t str> {
    let (start, rest) = text.split_at_checked(word.len())?;
    let spaced = rest.starts_with([' ', '\n', '\r', '\t']);
    (start.eq_ignore_ascii_case(word) && spaced).then(|| rest.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> FoundWords {
        FoundWords::of(text.as_bytes())
    }

    #[test]
    fn words_that_rename() {
        for text in ["DEALLOCATE x", "select 1; prepare a as select 2", "dIsCaRd all", "execute"] {
            assert!(of(text).renames, "{text}");
        }
        assert!(!of("select deal, prep from disc, exec").renames);
        assert!(!of("select executed_at, my_execute from prepared").renames);
    }

    #[test]
    fn cursors_and_secrets() {
        assert!(of("declare c CURSOR for").reopens);
        assert!(of("alter role x Password 'y'").secrets && of("a://b").secrets && of("PGP_SYM_ENCRYPT").secrets);
        assert_eq!(
            of("SELECT abalance FROM pgbench_accounts WHERE aid = 1;"),
            FoundWords::default()
        );
        assert!(TRIGGERS.iter().chain(&RENAMING_WORDS).all(|word| word.len() < MAX_WORD_BYTES));
    }

    #[test]
    fn words_are_found_anywhere() {
        for before in 0..600 {
            let text = format!("{} eXecute -----BEGIN PRIVATE KEY-----", "x".repeat(before));
            assert!(of(&text).renames && of(&text).secrets, "{before}");
        }
    }

    #[test]
    fn commands_that_hide_what_they_do() {
        let opaque = |text: &str| is_opaque(text.as_bytes(), of(text), LexerSettings::default());
        for text in [
            "do $$begin end$$",
            " /* a */ -- b\n CALL p(1)",
            "EXECUTE p",
            "prepare p as select 1",
            "select 1; call p()",
            "select ';';;do ''",
            "explain (analyze) execute p",
            "create table t as execute p",
            "select E'a'\n'b\\''; do $$x$$; --'",
        ] {
            assert!(opaque(text), "{text}");
        }
        let text = r"select '\', '; do $$x$$; --'";
        assert!(!opaque(text));
        assert!(is_opaque(text.as_bytes(), of(text), LexerSettings::UNSETTLED), "nobody knows");
        for text in [
            "",
            ";",
            "select 1;",
            "select 'a; do b'",
            "select 1; select 2 /* ; call */",
            "grant execute on function f to x",
            "create trigger t after insert on x execute function f()",
            "select call, do_it from execute_it",
        ] {
            assert!(!opaque(text), "{text}");
        }
    }

    #[test]
    fn only_a_name_that_leaves_no_doubt() {
        for (text, name) in [
            ("DEALLOCATE a", Some("a")),
            (" deallocate  Prepare A_1 ;\n", Some("a_1")),
            ("DEALLOCATE \"_pg3_1\"", Some("_pg3_1")),
            ("deallocate \"Mixed Case\"", Some("Mixed Case")),
            ("DEALLOCATE ALL", None),
            ("DEALLOCATE PREPARE ALL", None),
            ("DEALLOCATE", None),
            ("DEALLOCATE a; SELECT 1", None),
            ("DEALLOCATE a -- b", None),
            ("DEALLOCATE/**/a", None),
            ("DEALLOCATE U&\"a\"", None),
            ("DEALLOCATE \"a\"\"b\"", None),
            ("DEALLOCATE \"a\"; SELECT \"b\"", None),
            ("SELECT 'DEALLOCATE a'", None),
            ("DEALLOCATE é", None),
            ("DEALLOCATE \"\"", None),
        ] {
            assert_eq!(deallocated(text.as_bytes()).as_deref(), name.map(str::as_bytes), "{text}");
        }
    }

    /// Prints what looking at an ordinary statement costs; run in release.
    #[test]
    #[ignore = "a measurement, not a test"]
    #[expect(clippy::disallowed_methods, reason = "measures real time")]
    fn measure() {
        let text = b"SELECT abalance FROM pgbench_accounts WHERE aid = 4711 AND note = 'a quoted \"text\"';";
        let count = 1_000_000;
        let start = std::time::Instant::now();
        for _ in 0..count {
            let text = std::hint::black_box(&text[..]);
            let words = std::hint::black_box(FoundWords::of(text));
            std::hint::black_box(is_opaque(text, words, LexerSettings::default()));
        }
        println!("{} bytes looked at: {} ns", text.len(), start.elapsed().as_nanos() / count);
    }
}
