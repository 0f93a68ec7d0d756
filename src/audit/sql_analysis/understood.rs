//! Analysis of a statement as it is recorded: whether its text can be relied on, and whether the server ran the commands that
//! were parsed.
//!
//! All readers of the log use this, so that they agree on the statements that could not be parsed.
//!
//! INVARIANT: a text that is cut, is blanked where it may have commands, may be another one, or is contradicted by the server's
//! command tags counts as not parsed, whatever it looks like.

use std::borrow::Cow;
use std::sync::Arc;

use super::{AnalysisCache, CommandClass, ParseFailure, SqlAnalysis};
use crate::audit::event::{Statement, StatementKind, StatementOutcome};
use crate::protocol::lexer::{self, Lexer};

/// Number of command tags of one statement up to which their count is compared; from there on, the record has only the first
/// tag of each command.
const MAX_TAGS: usize = 64;
/// Classes that change rows and may be nested in other commands.
const NESTABLE_CLASSES: [CommandClass; 4] = [
    CommandClass::Insert,
    CommandClass::Update,
    CommandClass::Delete,
    CommandClass::Merge,
];

impl AnalysisCache {
    /// Returns the analysis of a statement as it is recorded.
    pub fn of_statement(&mut self, statement: &Statement<'_>) -> Arc<SqlAnalysis> {
        let Some(sql) = &statement.sql else {
            let call = statement.kind == StatementKind::FunctionCall;
            return Arc::new(SqlAnalysis {
                classes: call.then_some(CommandClass::Call).into_iter().collect(),
                opaque: call,
                unparsed: (!call).then_some(ParseFailure::NoText),
                ..SqlAnalysis::default()
            });
        };
        let reading = self.of(sql);
        let why = if statement.text_uncertain {
            ParseFailure::Uncertain
        } else if sql.unclear {
            ParseFailure::Unclear
        } else if sql.redacted > 0 && reading.classes.contains(&CommandClass::Call) {
            // A literal in a body may be the very command that it runs.
            ParseFailure::Blanked
        } else {
            return reading;
        };
        if reading.unparsed.is_some() {
            return reading;
        }
        let mut reading = Arc::unwrap_or_clone(reading);
        reading.unparsed = Some(why);
        if why == ParseFailure::Unclear {
            for class in &mut reading.classes {
                *class = class.by_itself();
            }
        }
        Arc::new(reading)
    }
}

impl SqlAnalysis {
    /// Returns what is known of a text that could not be parsed.
    pub(in crate::audit) fn unparsed(sql: &str, why: ParseFailure) -> Self {
        if why == ParseFailure::Syntax && is_do(sql) {
            return Self {
                classes: vec![CommandClass::Call],
                opaque: true,
                commands: 1,
                ..Self::default()
            };
        }
        let mut classes = classes_by_words(sql);
        if why == ParseFailure::Cut {
            // The beginning does not determine the rest.
            for class in &mut classes {
                *class = class.by_itself();
            }
            classes.dedup();
        }
        Self {
            opaque: classes.iter().any(|class| class.is_opaque()),
            classes,
            unparsed: Some(why),
            ..Self::default()
        }
    }

    /// Returns true if the text could be parsed. [`SqlAnalysis::opaque`] may still say that it does not show everything.
    #[must_use]
    pub fn is_read(&self) -> bool {
        self.unparsed.is_none()
    }

    /// Returns the result corrected by the outcome: with the classes of the commands that the server ran, and as not parsed if
    /// the text does not have them.
    #[must_use]
    pub fn with_outcome<'r>(&'r self, outcome: &StatementOutcome<'_>) -> Cow<'r, Self> {
        let ran = || outcome.tags.iter().map(|tag| CommandClass::of_tag(&tag.0));
        let contradicted = self.is_contradicted_by(ran());
        if !contradicted && ran().all(|class| self.covers(class)) {
            return Cow::Borrowed(self);
        }
        let mut reading = self.clone();
        for class in ran() {
            if !reading.covers(class) {
                reading.classes.push(class);
            }
        }
        if contradicted {
            reading.unparsed = Some(ParseFailure::Contradicted);
        }
        Cow::Owned(reading)
    }

    /// Returns true if the text, though it could be parsed, does not have all commands that the server ran.
    pub(in crate::audit) fn is_contradicted_by(&self, ran: impl Iterator<Item = CommandClass>) -> bool {
        let (mut count, mut missing) = (0, false);
        for class in ran {
            count += 1;
            missing |= !self.covers(class);
        }
        let commands = usize::try_from(self.commands).unwrap_or(usize::MAX);
        // Of more tags than are recorded the number is not known.
        let more = count > commands && count < MAX_TAGS;
        // SQL's EXECUTE has the tag of what was prepared.
        self.is_read() && (more || (missing && !self.classes.contains(&CommandClass::Execute)))
    }

    /// Returns true if a command of this class, as a server's tag names it, is among the parsed ones.
    fn covers(&self, class: CommandClass) -> bool {
        let has = |class| self.classes.contains(&class);
        match class {
            // `CREATE TABLE … AS`, `SELECT … INTO`: "SELECT 5".
            CommandClass::Select => has(CommandClass::Select) || has(CommandClass::Ddl),
            // `CREATE ROLE` has the class of privileges.
            CommandClass::Ddl => has(CommandClass::Ddl) || has(CommandClass::Privilege),
            CommandClass::Other => true,
            class => has(class),
        }
    }
}

impl ParseFailure {
    /// Returns the reason in words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Cut => "only its beginning is on record",
            Self::Long => "its text is too long",
            Self::Deep => "its expressions are nested too deep",
            Self::Syntax => "its syntax is not known, or wrong",
            Self::Ambiguous => "how PostgreSQL read it is not certain",
            Self::Unclear => "where its literals end cannot be told",
            Self::Blanked => "a literal is blanked that may be a command",
            Self::Uncertain => "what was executed may have had another text",
            Self::NoText => "its text is not on record",
            Self::Contradicted => "the server ran commands that were not read in it",
        }
    }
}

impl CommandClass {
    /// Returns the class by the first word of a command, for texts that could not be parsed.
    pub(crate) fn of_word(word: &str) -> Self {
        let word = word.to_ascii_lowercase();
        let of_word = |class: &&Self| class.words().contains(&word.as_str());
        Self::ALL.iter().find(of_word).copied().unwrap_or(Self::Other)
    }

    /// Returns the first words of its commands, in small letters.
    pub(crate) fn words(self) -> &'static [&'static str] {
        match self {
            Self::Select => &["select", "values", "table", "with"],
            Self::Insert => &["insert"],
            Self::Update => &["update"],
            Self::Delete => &["delete"],
            Self::Merge => &["merge"],
            Self::Truncate => &["truncate"],
            Self::Copy => &["copy"],
            Self::Ddl => &["create", "alter", "drop", "comment", "security", "import"],
            Self::Privilege => &["grant", "revoke", "reassign"],
            Self::Transaction => &["begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release"],
            Self::Set => &["set", "reset", "discard"],
            Self::Show => &["show"],
            Self::Explain => &["explain"],
            Self::Prepare => &["prepare", "deallocate"],
            Self::Execute => &["execute"],
            Self::Call => &["call", "do"],
            Self::Cursor => &["declare", "fetch", "move", "close"],
            Self::Lock => &["lock"],
            Self::Notify => &["listen", "notify", "unlisten"],
            Self::Maintenance => &["vacuum", "analyze", "reindex", "cluster", "checkpoint", "refresh"],
            Self::Other => &[],
        }
    }

    /// Returns the class of what a server's command tag tells ("INSERT 0 1").
    pub(crate) fn of_tag(tag: &str) -> Self {
        Self::of_word(tag.split(' ').next().unwrap_or_default())
    }

    /// Returns the class of a text that may have more commands than this one: harmless classes then say nothing.
    fn by_itself(self) -> Self {
        match self {
            Self::Select
            | Self::Transaction
            | Self::Set
            | Self::Show
            | Self::Explain
            | Self::Prepare
            | Self::Cursor
            | Self::Notify => Self::Other,
            class => class,
        }
    }
}

/// Returns true if a text is exactly one `DO`: the parser does not know it, but all of it is known.
fn is_do(sql: &str) -> bool {
    let mut lexer = Lexer::new(sql.as_bytes());
    let begins = lexer.next_code().is_some_and(|token| token.is("do"));
    let (mut bodies, mut only) = (0, true);
    let mut before = None::<lexer::Token<'_>>;
    while let Some(token) = lexer.next_code() {
        let named = before.is_some_and(|before| before.is("language"));
        match token.kind {
            lexer::TokenKind::Literal | lexer::TokenKind::Escaped | lexer::TokenKind::Dollar | lexer::TokenKind::Word
                if named => {}
            lexer::TokenKind::Literal | lexer::TokenKind::Escaped | lexer::TokenKind::Dollar => bodies += 1,
            _ => only &= token.is("language") || token.is_sign(b';'),
        }
        before = Some(token);
    }
    begins && only && bodies == 1
}

/// Returns the classes of the commands of a text that could not be parsed, by their first words, with those of nested commands
/// that change rows. It finds too many rather than too few.
fn classes_by_words(sql: &str) -> Vec<CommandClass> {
    let (mut lexer, mut classes) = (Lexer::new(sql.as_bytes()), Vec::new());
    let (mut begun, mut before) = (false, None::<lexer::Token<'_>>);
    while let Some(token) = lexer.next_code() {
        let word = token.kind == lexer::TokenKind::Word;
        let class = CommandClass::of_word(&String::from_utf8_lossy(token.text));
        // `FOR UPDATE`, `ON DELETE`
        let about = ["for", "key", "on"]
            .iter()
            .any(|word| before.is_some_and(|before| before.is(word)));
        let counts = if begun {
            NESTABLE_CLASSES.contains(&class) && !about
        } else {
            !token.is_sign(b'(')
        };
        if token.is_sign(b';') {
            begun = false;
        } else if word && counts {
            if !classes.contains(&class) {
                classes.push(class);
            }
            begun = true;
        }
        before = Some(token);
    }
    if classes.is_empty() {
        classes.push(CommandClass::Other);
    }
    classes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::event::{Event, OutsideText, SqlText};
    use crate::audit::testing::{statement, tagged, who};

    fn told(sql: &str, tags: &[&str]) -> SqlAnalysis {
        let who = who(1, "ana");
        let (statement, outcome) = (statement(&who, 1, sql, &[]), tagged(&who, 1, tags));
        let (Event::Statement(statement), Event::Outcome(outcome)) = (statement, outcome) else {
            unreachable!()
        };
        AnalysisCache::default()
            .of_statement(&statement)
            .with_outcome(&outcome)
            .into_owned()
    }

    #[test]
    fn what_the_server_ran_is_among_what_was_read() {
        for (sql, tags) in [
            ("SELECT 1", &["SELECT 1"][..]),
            ("CREATE TABLE t AS SELECT 1", &["SELECT 1"]),
            ("SELECT 1 AS a INTO t", &["SELECT 1"]),
            ("WITH d AS (DELETE FROM t RETURNING *) SELECT * FROM d", &["SELECT 3"]),
            ("WITH s AS (SELECT 1) DELETE FROM t USING s", &["DELETE 3"]),
            (
                "INSERT INTO t VALUES (1); UPDATE t SET a = 1; DELETE FROM t",
                &["INSERT 0 1", "UPDATE 1", "DELETE 1"],
            ),
            ("MERGE INTO t USING s ON t.a = s.a WHEN MATCHED THEN DELETE", &["MERGE 2"]),
            ("EXECUTE p(1)", &["DELETE 2"]),
            ("CALL p()", &["CALL"]),
            ("DO $$BEGIN END$$", &["DO"]),
            ("COPY t TO STDOUT", &["COPY 5"]),
            ("FETCH 5 FROM c", &["FETCH 5"]),
            ("END", &["COMMIT"]),
            ("ABORT", &["ROLLBACK"]),
            ("CREATE ROLE r", &["CREATE ROLE"]),
            ("EXPLAIN DELETE FROM t", &["EXPLAIN"]),
            ("VALUES (1)", &["SELECT 1"]),
            // It failed half-way.
            ("INSERT INTO t VALUES (1); SELECT 1/0", &["INSERT 0 1"]),
            ("TRUNCATE t", &["TRUNCATE TABLE"]),
            ("VACUUM t", &["VACUUM"]),
            ("SET a.b = 1; SHOW a.b; RESET a.b", &["SET", "SHOW", "RESET"]),
            ("GRANT SELECT ON t TO r", &["GRANT"]),
        ] {
            let reading = told(sql, tags);
            assert_ne!(reading.unparsed, Some(ParseFailure::Contradicted), "{sql}");
        }
    }

    #[test]
    fn a_command_that_was_not_read_contradicts() {
        for (sql, tags, class) in [
            (
                "SELECT 'a; DELETE FROM t'",
                &["SELECT 1", "DELETE 5000"][..],
                CommandClass::Delete,
            ),
            ("SELECT 1", &["DELETE 1"], CommandClass::Delete),
            ("SHOW a", &["UPDATE 1"], CommandClass::Update),
            ("SELECT 1", &["DROP TABLE"], CommandClass::Ddl),
            ("SELECT 1", &["DO"], CommandClass::Call),
            (
                "DELETE FROM t WHERE a = 'x; DELETE FROM t'",
                &["DELETE 1", "DELETE 5000"],
                CommandClass::Delete,
            ),
            ("SELECT 1", &["COPY 5"], CommandClass::Copy),
            (
                "SELECT 'a; DELETE FROM t'; CALL p()",
                &["SELECT 1", "DELETE 1", "CALL"],
                CommandClass::Delete,
            ),
            (
                "EXECUTE p('; DELETE FROM t')",
                &["SELECT 1", "DELETE 1"],
                CommandClass::Delete,
            ),
        ] {
            let reading = told(sql, tags);
            assert_eq!(reading.unparsed, Some(ParseFailure::Contradicted), "{sql}");
            assert!(reading.classes.contains(&class), "{sql}");
        }
        // What an EXECUTE runs is told by its tag.
        let reading = told("EXECUTE p", &["DELETE 1"]);
        assert_eq!(
            (reading.classes, reading.unparsed),
            (vec![CommandClass::Execute, CommandClass::Delete], None)
        );
    }

    #[test]
    fn what_is_not_there_whole_was_not_read() {
        let mut readings = AnalysisCache::default();
        let who = who(1, "ana");
        let mut of = |change: &dyn Fn(&mut Statement<'_>)| {
            let Event::Statement(mut statement) = statement(&who, 1, "SELECT 1", &[]) else {
                unreachable!()
            };
            change(&mut statement);
            let reading = readings.of_statement(&statement);
            (reading.unparsed, reading.classes.clone())
        };
        let sql = |sql: SqlText<'static>| move |statement: &mut Statement<'_>| statement.sql = Some(sql.clone());
        let text = |text: &'static str| SqlText::whole(OutsideText::of(text.as_bytes()));
        assert_eq!(of(&|_| ()), (None, vec![CommandClass::Select]));
        let cut = |sql| SqlText {
            cut: true,
            length: Some(99),
            ..sql
        };
        assert_eq!(
            of(&sql(cut(text("SELECT 1")))),
            (Some(ParseFailure::Cut), vec![CommandClass::Other])
        );
        assert_eq!(
            of(&sql(cut(text("/* select */ DELETE F")))),
            (Some(ParseFailure::Cut), vec![CommandClass::Delete])
        );
        let unclear = SqlText {
            unclear: true,
            ..text("SELECT 1")
        };
        assert_eq!(of(&sql(unclear)), (Some(ParseFailure::Unclear), vec![CommandClass::Other]));
        let blanked = SqlText {
            redacted: 1,
            ..text("DO $$BEGIN EXECUTE '***'; END$$")
        };
        assert_eq!(of(&sql(blanked)).0, Some(ParseFailure::Blanked));
        let harmless = SqlText {
            redacted: 1,
            ..text("SELECT '***'")
        };
        assert_eq!(of(&sql(harmless)), (None, vec![CommandClass::Select]));
        assert_eq!(
            of(&|statement| statement.text_uncertain = true).0,
            Some(ParseFailure::Uncertain)
        );
        assert_eq!(of(&|statement| statement.sql = None).0, Some(ParseFailure::NoText));
        let call = |statement: &mut Statement<'_>| (statement.sql, statement.kind) = (None, StatementKind::FunctionCall);
        assert_eq!(of(&call), (None, vec![CommandClass::Call]));
        // A record from before there was a keyed hash.
        let old = SqlText {
            length: Some(99),
            ..text("SELECT 1")
        };
        assert_eq!(of(&sql(old)).0, Some(ParseFailure::Cut));
    }

    #[test]
    fn a_do_is_known_and_shows_nothing() {
        for sql in [
            "DO $$BEGIN END$$",
            "do language 'plpgsql' 'begin end';",
            "DO E'x' LANGUAGE plperl",
        ] {
            let reading = told(sql, &["DO"]);
            assert_eq!(
                (reading.unparsed, reading.opaque, &reading.classes[..]),
                (None, true, &[CommandClass::Call][..]),
                "{sql}"
            );
        }
        for sql in ["DO $$a$$ $$b$$", "DO x", "DO $$a$$; DELETE FROM t", "DO"] {
            assert_eq!(told(sql, &[]).unparsed, Some(ParseFailure::Syntax), "{sql}");
        }
    }

    #[test]
    fn classes_of_what_cannot_be_parsed_are_those_of_all_its_commands() {
        for (sql, classes) in [
            ("SELECT 1 END; DROP TABLE a", &[CommandClass::Select, CommandClass::Ddl][..]),
            (
                "WITH x AS (DELETE FROM t) SELECT (",
                &[CommandClass::Select, CommandClass::Delete],
            ),
            ("SELECT 1 FOR UPDATE (", &[CommandClass::Select]),
            ("/* delete */ (SELECT 'delete'", &[CommandClass::Select]),
            ("", &[CommandClass::Other]),
        ] {
            assert_eq!(classes_by_words(sql), classes, "{sql}");
        }
    }
}
