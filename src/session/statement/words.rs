//! Looks at an SQL text once for all words that matter to somebody: names given away, cursors, secrets, commands that hide what
//! they do.
//!
//! It decides nothing by them. It may find a word in a literal or comment: who asks has to live with that.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, MatchKind};

use crate::audit::redact::TRIGGERS;
use crate::lexer::{Kind, Lexer, LexerSettings, Token, in_word};

/// Words that can give prepared statements other names: then what a name stands for is uncertain.
/// `EXECUTE` is one: in a `DO` block it runs a text that may be put together from pieces, and alone a prepared `DEALLOCATE`.
/// A function that does so unseen, made before, is not found by this; its own text is on record where it was made.
const RENAMING: [&str; 4] = ["prepare", "deallocate", "discard", "execute"];
/// A cursor may be put in a portal's place (`CLOSE` and `DECLARE CURSOR` share the protocol's names).
const REOPENING: &str = "cursor";
/// Commands whose effects are not in their text; `PREPARE` does nothing yet, and what it names is executed unseen.
const OPAQUE: [&str; 4] = ["do", "call", "execute", "prepare"];

/// Settings that decide how texts are read; `SET NAMES` sets the encoding.
const SETTINGS: [&str; 3] = ["standard_conforming_strings", "client_encoding", "names"];
/// What can change one of them elsewhere in a text: the function for it, what calls that, what runs a text put together from pieces,
/// and a name without its letters.
const SETTING: [&str; 8] = [
    "set_config",
    "pg_settings",
    "_to_xml",
    "ts_stat",
    "ts_rewrite",
    "crosstab",
    "connectby",
    "u&\"",
];

/// The longest of all words, with the character behind it.
pub(super) const LONGEST: usize = 17;

/// So many bytes are looked at together.
const CHUNK: usize = 256;

/// In lower case, for only then does it look at many bytes at once: half of what looking at them one by one costs.
#[expect(clippy::expect_used, reason = "a few short words always make an automaton")]
static FINDER: LazyLock<AhoCorasick> = LazyLock::new(|| {
    AhoCorasick::builder()
        .match_kind(MatchKind::LeftmostFirst)
        .build(RENAMING.iter().chain([&REOPENING]).chain(&SETTING).chain(&TRIGGERS))
        .expect("an automaton")
});

/// What was found in a text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::session) struct Words {
    /// It has a word that can give prepared statements other names.
    pub(in crate::session) renames: bool,
    /// It may put another cursor in a portal's place.
    pub(in crate::session) reopens: bool,
    /// There may be a secret in it.
    pub(in crate::session) secrets: bool,
    /// It may change, in the middle of a command, a setting by which texts are read.
    pub(in crate::session) settings: bool,
}

impl Words {
    pub(in crate::session) fn of(text: &[u8]) -> Self {
        let mut words = Self::default();
        let mut start = 0;
        loop {
            let rest = text.get(start..).unwrap_or_default();
            let piece = rest.get(..CHUNK).unwrap_or(rest);
            let mut lower = [0; CHUNK];
            lower
                .iter_mut()
                .zip(piece)
                .for_each(|(to, from)| *to = from.to_ascii_lowercase());
            for found in FINDER.find_iter(lower.get(..piece.len()).unwrap_or_default()) {
                match found.pattern().as_usize() {
                    0..4 => words.renames |= stands_alone(text, start + found.start(), start + found.end()),
                    4 => words.reopens = true,
                    5..13 => words.settings = true,
                    _ => words.secrets = true,
                }
            }
            if piece.len() == rest.len() {
                return words;
            }
            // A word on the edge is whole in the next piece.
            start += CHUNK - LONGEST;
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.renames |= other.renames;
        self.reopens |= other.reopens;
        self.secrets |= other.secrets;
        self.settings |= other.settings;
    }
}

fn stands_alone(text: &[u8], start: usize, end: usize) -> bool {
    let before = start.checked_sub(1).and_then(|at| text.get(at));
    !before.copied().is_some_and(in_word) && !text.get(end).copied().is_some_and(in_word)
}

/// What the commands of a text do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Commands {
    /// One of them hides what it does.
    pub(super) are_opaque: bool,
    /// One of them changes a setting by which texts are read, in its own words.
    pub(super) set: bool,
}

impl Commands {
    /// Looks at the commands of a text in which `words` were found, and which the target reads under these settings.
    pub(super) fn of(text: &[u8], words: Words, settings: LexerSettings) -> Self {
        let mut commands = Self::default();
        let Some(masked) = settings.mask(text) else {
            commands.are_anything();
            return commands;
        };
        let mut lexer = Lexer::under(&masked, settings);
        let several = || {
            let end = memchr::memchr(b';', text).and_then(|at| text.get(at..));
            end.is_some_and(|end| end.iter().any(|byte| !matches!(byte, b';' | b' ' | b'\n' | b'\r' | b'\t')))
        };
        if let Some(first) = lexer.next_code() {
            commands.begin(&first, lexer);
            if words.renames || several() {
                commands.go_on(first, lexer);
            }
        }
        commands
    }

    /// Nobody knows what they are.
    fn are_anything(&mut self) {
        (self.are_opaque, self.set) = (true, true);
    }

    /// A command begins with this token, and goes on with what the lexer reads.
    fn begin(&mut self, token: &Token<'_>, lexer: Lexer<'_>) {
        self.are_opaque |= hides(token);
        self.set |= sets(token, lexer);
    }

    /// Looks at further commands, and for something prepared that is executed within one (`EXPLAIN ANALYZE EXECUTE p`,
    /// `CREATE TABLE t AS EXECUTE p`).
    fn go_on<'a>(&mut self, first: Token<'a>, mut lexer: Lexer<'a>) {
        let (mut command, mut before) = (Some(first), first);
        while let Some(token) = lexer.next_code() {
            match command {
                _ if token.kind == Kind::Ambiguous => self.are_anything(),
                None if !token.is_sign(b';') => self.begin(&token, lexer),
                Some(command) if token.is("execute") => self.are_opaque |= before.is("as") || command.is("explain"),
                _ => {}
            }
            command = if token.is_sign(b';') { None } else { command.or(Some(token)) };
            before = token;
        }
    }
}

fn hides(token: &Token<'_>) -> bool {
    token.kind == Kind::Word && matches!(token.text.len(), 2 | 4 | 7) && OPAQUE.iter().any(|word| token.is(word))
}

/// Whether the command that begins with this token sets or resets one of [`SETTINGS`].
fn sets(token: &Token<'_>, mut lexer: Lexer<'_>) -> bool {
    if token.kind != Kind::Word || !matches!(token.text.len(), 3 | 5 | 7) {
        return false;
    }
    let resets = token.is("reset") || token.is("discard");
    if !resets && !token.is("set") {
        return false;
    }
    let mut name = lexer.next_code();
    if name.is_some_and(|scope| scope.is("session") || scope.is("local")) {
        name = lexer.next_code();
    }
    let Some(name) = name else { return false };
    let is_setting = |name: &str| SETTINGS.iter().any(|setting| name.eq_ignore_ascii_case(setting));
    (resets && name.is("all")) || name.identifier().is_none_or(|name| is_setting(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Words {
        Words::of(text.as_bytes())
    }

    fn commands(text: &str) -> Commands {
        Commands::of(text.as_bytes(), of(text), LexerSettings::default())
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
        assert_eq!(of("SELECT abalance FROM pgbench_accounts WHERE aid = 1;"), Words::default());
        assert!(
            TRIGGERS
                .iter()
                .chain(&RENAMING)
                .chain(&SETTING)
                .all(|word| word.len() < LONGEST)
        );
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
        let opaque = |text: &str| commands(text).are_opaque;
        for text in [
            "do $$begin end$$",
            " /* a */ -- b\n CALL p(1)",
            "EXECUTE p",
            "prepare p as select 1",
            "select 1; call p()",
            "select ';';;do ''",
            "explain (analyze) execute p",
            "create table t as execute p",
        ] {
            assert!(opaque(text), "{text}");
        }
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
    fn what_may_change_how_texts_are_read() {
        let changes = |text: &str| commands(text).set || of(text).settings;
        for text in [
            "set standard_conforming_strings = off",
            "SET LOCAL Client_Encoding TO 'SJIS'",
            "set session \"client_encoding\" to 'SJIS'",
            "set names 'SJIS'",
            "select 1; set standard_conforming_strings to off",
            "reset all",
            "/* a */ RESET client_encoding",
            "discard all",
            "select pg_catalog.set_config($1, $2, false)",
            "select query_to_xml('select set_' || 'config()', true, true, '')",
            "update pg_settings set setting = 'off'",
            "select U&\"set\\005fconfig\"('client_encoding', 'SJIS', false)",
        ] {
            assert!(changes(text), "{text}");
        }
        for text in [
            "select 1",
            "set search_path = a",
            "set local transaction read only",
            "reset role",
            "discard plans",
            "update names set a = 1",
            "select 1; update t set client_encoding = 1",
        ] {
            assert!(!changes(text), "{text}");
        }
        let unsettled = |text: &str| Commands::of(text.as_bytes(), of(text), LexerSettings::UNSETTLED);
        assert!(unsettled(r"select '\'; do $$x$$; --'").are_opaque);
        assert!(unsettled("select '日\\'; select 1").set, "nobody knows");
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
            let words = std::hint::black_box(Words::of(text));
            std::hint::black_box(Commands::of(text, words, LexerSettings::default()));
        }
        println!("{} bytes looked at: {} ns", text.len(), start.elapsed().as_nanos() / count);
    }
}
