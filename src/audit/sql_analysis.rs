//! Analyses an SQL text: the tables that it names, and the class of each statement.
//!
//! The result is no protection and no proof: it does not know the search path, definitions of views or bodies of functions. It
//! is derived when the log is read (and indexed), never while a statement waits, and it is not stored in the chain: a better
//! analysis in a later version applies to existing records.
//!
//! [`crate::protocol::lexer`] alone determines the ends of tokens; the parser gets them whole, names and literals as PostgreSQL has them.
//!
//! INVARIANT: a text that could not be parsed is marked as such (`unparsed`); a search by table then goes by the words of the
//! text, so that it finds too much rather than too little.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::Serialize;
use serde_with::{DeserializeFromStr, SerializeDisplay};
use sqlparser::ast::{Ident, ObjectName};

use super::event::SqlText;
use crate::model::names::vocabulary;
use crate::protocol::lexer::{LexerSettings, shape};

mod budget;
pub(crate) mod parse;
mod tokens;
mod understood;

/// Number of bytes from which a text is not parsed: statements of people and programs are far shorter.
const MAX_SQL_BYTES: usize = 1 << 20;
/// Number of bytes up to which a text's result is cached; longer ones seldom come twice.
const MAX_CACHED_TEXT_BYTES: usize = 16 << 10;
/// Number of bytes of text in the cache.
const CACHE_BYTES: usize = 8 << 20;

/// Result of the analysis of an SQL text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SqlAnalysis {
    /// Tables and views that it names, each once, in order of appearance; also those that an `EXPLAIN` or a `PREPARE` names.
    pub tables: Vec<TableName>,
    /// Tables whose rows, or which themselves, a command of it changes, each once. Not those of an `EXPLAIN` or a `PREPARE`, which
    /// change nothing.
    #[serde(skip)]
    pub written: Vec<TableName>,
    /// Classes of its commands, each once, in order of appearance.
    pub classes: Vec<CommandClass>,
    /// True if it runs code that the text does not show (`EXECUTE`, `DO`, `CALL`): it may touch other tables, too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub opaque: bool,
    /// Number of commands, if it could be parsed.
    #[serde(skip)]
    pub(crate) commands: u32,
    /// Reason why it could not be parsed; its classes are then those of its commands' first words, and tables may be missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unparsed: Option<ParseFailure>,
}

/// Reason why a text could not be parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ParseFailure {
    /// Only its beginning is in the log.
    Cut,
    /// It is too long.
    Long,
    /// Its expressions are nested too deep.
    Deep,
    /// Its syntax is unknown to the parser, or wrong (which the outcome shows).
    Syntax,
    /// PostgreSQL's reading of it is not certain: it depends on an encoding, or on a setting that was not settled when it came.
    Ambiguous,
    /// The ends of its literals could not be determined, so everything that may be a literal is blanked.
    Unclear,
    /// A blanked literal may be a command.
    Blanked,
    /// The executed statement may have had another text.
    Uncertain,
    /// There is no text.
    NoText,
    /// The server ran commands that it does not have.
    Contradicted,
}

vocabulary! {
    /// Class of a command.
    #[expect(missing_docs, reason = "they say what they are")]
    pub enum CommandClass {
        Select = "select",
        Insert = "insert",
        Update = "update",
        Delete = "delete",
        Merge = "merge",
        Truncate = "truncate",
        Copy = "copy",
        /// `CREATE`, `ALTER`, `DROP`, `COMMENT`, …
        Ddl = "ddl",
        /// `GRANT`, `REVOKE`, roles.
        Privilege = "privilege",
        /// `BEGIN`, `COMMIT`, `ROLLBACK`, `SAVEPOINT`, …
        Transaction = "transaction",
        /// `SET`, `RESET`, `DISCARD`.
        Set = "set",
        Show = "show",
        Explain = "explain",
        /// `PREPARE`, `DEALLOCATE`.
        Prepare = "prepare",
        Execute = "execute",
        /// `CALL`, `DO`.
        Call = "call",
        /// `DECLARE`, `FETCH`, `MOVE`, `CLOSE`.
        Cursor = "cursor",
        Lock = "lock",
        /// `LISTEN`, `NOTIFY`, `UNLISTEN`.
        Notify = "notify",
        /// `VACUUM`, `ANALYZE`, `REINDEX`, `CLUSTER`, `CHECKPOINT`, `REFRESH`.
        Maintenance = "maintenance",
        Other = "other",
    }
}

impl CommandClass {
    pub(crate) fn is_opaque(self) -> bool {
        matches!(self, Self::Execute | Self::Call)
    }
}

/// Name of a table as PostgreSQL has it: unquoted parts are in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash, SerializeDisplay, DeserializeFromStr)]
pub struct TableName {
    /// Name of the schema, if it is written.
    pub schema: Option<String>,
    /// Name of the table.
    pub name: String,
}

/// Error for a text that is not a table's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a table; expected `name` or `schema.name`, quoted as in SQL")]
pub struct TableNameError;

impl TableName {
    /// Returns true if the two may be the same table: their names are equal, and so are their schemas if both are written.
    #[must_use]
    pub fn may_be(&self, other: &Self) -> bool {
        self.name == other.name && (self.schema.is_none() || other.schema.is_none() || self.schema == other.schema)
    }

    pub(crate) fn of(name: &ObjectName) -> Option<Self> {
        let mut parts = name.0.iter().rev().map(|part| part.as_ident().map(folded));
        Some(Self {
            name: parts.next()??,
            schema: parts.next().flatten(),
        })
    }
}

/// Returns an identifier as PostgreSQL stores it. PostgreSQL folds ASCII only, if characters have more than one byte
/// (scansup.c, downcase_identifier).
pub(crate) fn folded(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_ascii_lowercase(),
    }
}

impl FromStr for TableName {
    type Err = TableNameError;

    fn from_str(text: &str) -> Result<Self, TableNameError> {
        let mut parts = Vec::new();
        let mut rest = text.trim();
        loop {
            let (part, after) = if let Some(quoted) = rest.strip_prefix('"') {
                unquote(quoted).ok_or(TableNameError)?
            } else {
                let end = rest.find('.').unwrap_or(rest.len());
                let (part, after) = rest.split_at_checked(end).ok_or(TableNameError)?;
                (part.to_ascii_lowercase(), after)
            };
            if part.is_empty() {
                return Err(TableNameError);
            }
            parts.push(part);
            match after.strip_prefix('.') {
                Some(more) => rest = more,
                None if after.is_empty() => break,
                None => return Err(TableNameError),
            }
        }
        let name = parts.pop().ok_or(TableNameError)?;
        let schema = parts.pop();
        if parts.is_empty() {
            Ok(Self { schema, name })
        } else {
            Err(TableNameError)
        }
    }
}

/// Returns the text up to the closing quote, and the rest after it.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut part = String::new();
    let mut rest = text;
    loop {
        let (before, after) = rest.split_once('"')?;
        part.push_str(before);
        match after.strip_prefix('"') {
            Some(more) => {
                part.push('"');
                rest = more;
            }
            None => return Some((part, after)),
        }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(schema) = &self.schema {
            write_name(f, schema)?;
            f.write_str(".")?;
        }
        write_name(f, &self.name)
    }
}

fn write_name(f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'$' || byte >= 0x80;
    if !name.is_empty() && name.bytes().all(plain) {
        f.write_str(name)
    } else {
        write!(f, "\"{}\"", name.replace('"', "\"\""))
    }
}

impl SqlAnalysis {
    /// Analyses a text as PostgreSQL reads it under these settings.
    #[must_use]
    pub fn under(settings: LexerSettings, sql: &str) -> Self {
        if sql.len() > MAX_SQL_BYTES {
            return Self::unparsed(sql, ParseFailure::Long);
        }
        parse::parse(sql.as_bytes(), settings).unwrap_or_else(|why| Self::unparsed(sql, why))
    }

    /// Returns true if its tables are all that the text can name.
    pub(super) fn is_complete(&self) -> bool {
        self.unparsed.is_none() && !self.opaque
    }

    /// Returns true if the text, which this is the result of, names the table, or could not be parsed well enough to rule that
    /// out.
    #[must_use]
    pub fn may_name(&self, wanted: &TableName, sql: &str) -> bool {
        self.tables.iter().any(|table| table.may_be(wanted))
            || (!self.is_complete() && (hides_names(sql) || words(sql).any(|word| word.eq_ignore_ascii_case(&wanted.name))))
    }
}

/// Returns true if a name may be written with escapes that hide its letters (`U&"c\0061rds"`).
pub(crate) fn hides_names(sql: &str) -> bool {
    memchr::memchr_iter(b'&', sql.as_bytes()).any(|at| {
        let around = at.checked_sub(1).and_then(|before| sql.as_bytes().get(before..at + 2));
        around.is_some_and(|around| around.eq_ignore_ascii_case(b"u&\""))
    })
}

/// Returns the words of a text: each may be a name or a part of one. Words in comments and literals count as well.
pub(crate) fn words(sql: &str) -> impl Iterator<Item = &str> {
    let inside = |character: char| character.is_alphanumeric() || character == '_' || character == '$';
    sql.split(move |character| !inside(character)).filter(|word| !word.is_empty())
}

/// Cache of results by [`shape`]: most statements of a session have the shape of others, whatever the values in them.
#[derive(Debug, Default)]
pub struct AnalysisCache {
    /// By shapes, and by texts without one.
    known: HashMap<Box<[u8]>, Arc<SqlAnalysis>>,
    bytes: usize,
}

impl AnalysisCache {
    /// Returns the result for a text as it is recorded.
    pub fn of(&mut self, sql: &SqlText<'_>) -> Arc<SqlAnalysis> {
        let text = sql.text.0.as_ref();
        if sql.is_cut() {
            return Arc::new(SqlAnalysis::unparsed(text, ParseFailure::Cut));
        }
        let Some(settings) = sql.settings() else {
            return Arc::new(SqlAnalysis::unparsed(text, ParseFailure::Ambiguous));
        };
        let usual = settings == LexerSettings::default();
        if !usual || text.len() > MAX_CACHED_TEXT_BYTES {
            return Arc::new(SqlAnalysis::under(settings, text));
        }
        if let Some(known) = self.known.get(text.as_bytes()) {
            return Arc::clone(known);
        }
        let key = shape(text.as_bytes()).unwrap_or_else(|| text.into());
        if let Some(known) = self.known.get(&*key) {
            return Arc::clone(known);
        }
        let reading = Arc::new(SqlAnalysis::under(settings, text));
        if self.bytes + key.len() > CACHE_BYTES {
            self.known.clear();
            self.bytes = 0;
        }
        self.bytes += key.len();
        self.known.insert(key.into(), Arc::clone(&reading));
        reading
    }
}

#[cfg(test)]
mod tests;
