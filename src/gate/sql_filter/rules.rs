//! Guard rails of a profile as its operator writes them, and the errors in them.
//!
//! This module does not judge statements.

use std::collections::HashSet;

use super::MAX_SQL_BYTES;
use crate::audit::sql_analysis::{CommandClass, TableName, words};

/// Kind of `DROP`. The other kinds are the names of [`CommandClass`], and the parts of those in [`PARTS`].
pub(super) const DROP: &str = "drop";
/// Kind of `COPY ... TO`, which only reads.
pub(super) const COPY_TO: &str = "copy_to";
/// Kind of `LISTEN` and `UNLISTEN`, which send nothing to other sessions.
pub(super) const LISTEN: &str = "listen";
/// Kind of `LOCK TABLE ... IN ACCESS SHARE MODE`, the lock that a `SELECT` takes.
pub(super) const LOCK_SHARED: &str = "lock_shared";
/// Kinds that are part of another: they are allowed and refused with it.
const PARTS: [(&str, &str); 3] = [(COPY_TO, "copy"), (LISTEN, "notify"), (LOCK_SHARED, "lock")];

/// Named sets of kinds, one for each common purpose of a profile. Both include the statements that drivers, pools and tools send
/// on their own. (Pools of asyncpg send `CLOSE ALL; UNLISTEN *; RESET ALL`, `pg_dump` locks what it reads and prepares its
/// queries.)
const PRESETS: [(&str, &[&[&str]]); 2] = [("@read", &[&READ]), ("@write", &[&READ, &CHANGES])];
const READ: [&str; 10] = [
    "select",
    "show",
    "explain",
    "set",
    "prepare",
    "execute",
    "cursor",
    COPY_TO,
    LISTEN,
    LOCK_SHARED,
];
/// Kinds that `@write` has in addition to those of `@read`.
const CHANGES: [&str; 7] = ["insert", "update", "delete", "merge", "copy", "notify", "lock"];
/// Kind that is always allowed: it is harmless alone, and without it a failed transaction could not be ended.
const ALWAYS: &str = "transaction";

/// Rules of one profile as written in the configuration (`rails = { … }`); without any rule, all statements are allowed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FilterRules {
    /// Kinds of statements that are allowed (`select`, `insert`, …, see [`kinds`]); `transaction` always is. A kind preceded by
    /// `!` is refused; if all have it, every other kind is allowed. `None`: all kinds.
    pub statements: Option<Vec<String>>,
    /// True if `UPDATE` and `DELETE` need a `WHERE`.
    pub need_where: bool,
    /// Tables that no statement may name: `schema.table`, `table` (in any schema), `schema.*`.
    pub deny_tables: Vec<String>,
    /// Maximum length of a text, in bytes.
    pub max_sql_bytes: Option<u64>,
    /// True if statements are refused that cannot be parsed, or that run code which their text does not show.
    pub refuse_unknown: bool,
    /// True if statements are refused that could not be recorded completely.
    pub refuse_unloggable: bool,
}

/// Error in the rules of a profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterRulesError {
    /// A kind of statement that does not exist.
    #[error("unknown kind of statement `{found}`; use @read, @write, {}, with `!` in front to refuse it", kinds().collect::<Vec<_>>().join(", "))]
    Kind {
        /// Kind as written.
        found: String,
    },
    /// A text that is not a table.
    #[error("`{found}` is not a table; write `schema.table`, `table` or `schema.*`, quoted as in SQL")]
    Table {
        /// Text as written.
        found: String,
    },
    /// A length that allows nothing, or more than is parsed.
    #[error("max_sql_bytes = {found} is out of range; use 1 to {MAX_SQL_BYTES}")]
    Length {
        /// Length as written.
        found: u64,
    },
}

/// Returns the names of all kinds of statements.
pub fn kinds() -> impl Iterator<Item = &'static str> {
    let parts = PARTS.iter().map(|(part, _)| *part);
    CommandClass::ALL
        .iter()
        .map(|class| class.as_str())
        .chain([DROP])
        .chain(parts)
}

/// Kinds that are allowed.
#[derive(Debug, Default)]
pub(super) struct AllowedKinds {
    only: Option<Vec<&'static str>>,
    not: Vec<&'static str>,
}

impl AllowedKinds {
    pub(super) fn of(statements: Option<&[String]>) -> Result<Self, FilterRulesError> {
        let mut allowed = Self::default();
        for written in statements.unwrap_or_default() {
            let name = written.strip_prefix('!').unwrap_or(written);
            let preset = PRESETS.iter().find(|(preset, _)| *preset == name);
            let meant: Vec<&'static str> = match preset {
                Some((_, kinds)) => kinds.concat(),
                None => kinds().filter(|kind| *kind == name).collect(),
            };
            if meant.is_empty() {
                return Err(FilterRulesError::Kind { found: written.clone() });
            }
            if name == written {
                allowed.only.get_or_insert_default().extend(meant);
            } else {
                allowed.not.extend(meant);
            }
        }
        if statements.is_some_and(<[_]>::is_empty) {
            allowed.only = Some(Vec::new());
        }
        Ok(allowed)
    }

    /// Returns true if all kinds are allowed.
    pub(super) fn is_all(&self) -> bool {
        self.only.is_none() && self.not.is_empty()
    }

    pub(super) fn has(&self, kind: &str) -> bool {
        let whole = PARTS.iter().find(|(part, _)| *part == kind).map(|(_, whole)| *whole);
        let is_in = |kinds: &[&str]| kinds.contains(&kind) || whole.is_some_and(|whole| kinds.contains(&whole));
        let listed = self.only.as_ref().is_none_or(|only| is_in(only) || kind == ALWAYS);
        listed && !is_in(&self.not)
    }

    /// Returns true if the kind is allowed by name, not only by not being refused.
    pub(super) fn names(&self, kind: &str) -> bool {
        self.only.as_ref().is_some_and(|only| only.contains(&kind)) && self.has(kind)
    }

    /// Returns the allowed kinds as a sentence for the refused client.
    pub(super) fn listed(&self) -> String {
        match &self.only {
            Some(only) => {
                let allowed = only.iter().filter(|kind| self.has(kind));
                format!(
                    "Allowed are {}.",
                    [ALWAYS].iter().chain(allowed).copied().collect::<Vec<_>>().join(", ")
                )
            }
            None => format!("All are allowed but {}.", self.not.join(", ")),
        }
    }
}

/// Tables that may not be named.
#[derive(Debug)]
pub(super) struct DeniedTable {
    /// Rule as written.
    pub(super) written: String,
    schema: Option<String>,
    /// Name of the table; `None` for all tables of the schema.
    name: Option<String>,
}

impl DeniedTable {
    pub(super) fn of(written: &str) -> Result<Self, FilterRulesError> {
        let found = || FilterRulesError::Table {
            found: written.to_owned(),
        };
        let (text, all) = match written.strip_suffix(".*") {
            Some(schema) => (schema, true),
            None => (written, false),
        };
        let table: TableName = text.parse().map_err(|_| found())?;
        let (schema, name) = match (all, table.schema, table.name) {
            (true, Some(_), _) => return Err(found()),
            (true, None, schema) => (Some(schema), None),
            (false, schema, name) => (schema, Some(name)),
        };
        if name.as_deref().is_some_and(|name| name.contains('*')) {
            return Err(found());
        }
        Ok(Self {
            written: written.to_owned(),
            schema,
            name,
        })
    }

    /// Returns true if the table may be one of them. A name without a schema may be in any schema, except that it is not taken
    /// for a table of a schema that is denied as a whole: the text does not show that.
    pub(super) fn may_be(&self, table: &TableName) -> bool {
        match (&self.name, &self.schema, &table.schema) {
            (None, schema, written) => schema == written,
            (Some(name), Some(schema), Some(written)) => *name == table.name && schema == written,
            (Some(name), ..) => *name == table.name,
        }
    }

    /// Returns true if a text with these words, in lower case, may name one of them.
    pub(super) fn may_be_in(&self, found: &HashSet<String>) -> bool {
        let wanted = self.name.as_ref().or(self.schema.as_ref());
        wanted.is_some_and(|wanted| words(wanted).all(|word| found.contains(&word.to_lowercase())))
    }
}
