//! The guard rails of a profile as its operator writes them, and what of them cannot be meant.
//!
//! It judges nothing.

use std::collections::HashSet;

use super::LONGEST;
use crate::audit::reading::{Class, Table, words};

/// What `DROP` is called; all other kinds are the names of [`Class`].
pub(super) const DROP: &str = "drop";
/// `COPY ... TO`, which only reads.
pub(super) const COPY_TO: &str = "copy_to";
/// `LISTEN` and `UNLISTEN`, which tell nobody anything.
pub(super) const LISTEN: &str = "listen";
/// `LOCK TABLE ... IN ACCESS SHARE MODE`, as a `SELECT` takes it.
pub(super) const LOCK_SHARED: &str = "lock_shared";
/// Kinds that are part of another: they are allowed, and refused, with it.
const PARTS: [(&str, &str); 3] = [(COPY_TO, "copy"), (LISTEN, "notify"), (LOCK_SHARED, "lock")];

/// Sets of kinds under one name, each for what a profile is there for; what drivers, pools and tools say by themselves is in both. (Pools
/// of asyncpg say `CLOSE ALL; UNLISTEN *; RESET ALL`, `pg_dump` locks what it reads and prepares its queries.)
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
/// The kinds that `@write` has beside those of `@read`.
const CHANGES: [&str; 7] = ["insert", "update", "delete", "merge", "copy", "notify", "lock"];
/// Nothing can be done with it alone, and without it no transaction that failed could be ended.
const ALWAYS: &str = "transaction";

/// The rules of one profile, as they are written (`rails = { … }`); without any, everything passes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// The kinds of statements that are allowed (`select`, `insert`, …, see [`kinds`]); `transaction` always is. One with `!` in
    /// front is refused; if all have it, every other kind is allowed. `None`: all kinds.
    pub statements: Option<Vec<String>>,
    /// `UPDATE` and `DELETE` need a `WHERE`.
    pub need_where: bool,
    /// Tables no statement may name: `schema.table`, `table` (in any schema), `schema.*`.
    pub deny_tables: Vec<String>,
    /// The longest text, in bytes.
    pub max_sql_bytes: Option<u64>,
    /// What cannot be read, or does what its text does not say, is refused.
    pub refuse_unknown: bool,
    /// What could not be recorded whole is refused.
    pub refuse_unloggable: bool,
}

/// Rules that cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRules {
    /// A kind of statement there is not.
    #[error("unknown kind of statement `{found}`; use @read, @write, {}, with `!` in front to refuse it", kinds().collect::<Vec<_>>().join(", "))]
    Kind {
        /// As it is written.
        found: String,
    },
    /// Not a table.
    #[error("`{found}` is not a table; write `schema.table`, `table` or `schema.*`, quoted as in SQL")]
    Table {
        /// As it is written.
        found: String,
    },
    /// A length that allows nothing, or more than is read.
    #[error("max_sql_bytes = {found} is out of range; use 1 to {LONGEST}")]
    Length {
        /// As it is written.
        found: u64,
    },
}

/// The kinds of statements there are.
pub fn kinds() -> impl Iterator<Item = &'static str> {
    let parts = PARTS.iter().map(|(part, _)| *part);
    Class::ALL.iter().map(|class| class.name()).chain([DROP]).chain(parts)
}

/// The kinds that are allowed.
#[derive(Debug, Default)]
pub(super) struct Allowed {
    only: Option<Vec<&'static str>>,
    not: Vec<&'static str>,
}

impl Allowed {
    pub(super) fn of(statements: Option<&[String]>) -> Result<Self, InvalidRules> {
        let mut allowed = Self::default();
        for written in statements.unwrap_or_default() {
            let name = written.strip_prefix('!').unwrap_or(written);
            let preset = PRESETS.iter().find(|(preset, _)| *preset == name);
            let meant: Vec<&'static str> = match preset {
                Some((_, kinds)) => kinds.concat(),
                None => kinds().filter(|kind| *kind == name).collect(),
            };
            if meant.is_empty() {
                return Err(InvalidRules::Kind { found: written.clone() });
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

    /// Whether it is everything.
    pub(super) fn is_all(&self) -> bool {
        self.only.is_none() && self.not.is_empty()
    }

    pub(super) fn has(&self, kind: &str) -> bool {
        let whole = PARTS.iter().find(|(part, _)| *part == kind).map(|(_, whole)| *whole);
        let is_in = |kinds: &[&str]| kinds.contains(&kind) || whole.is_some_and(|whole| kinds.contains(&whole));
        let listed = self.only.as_ref().is_none_or(|only| is_in(only) || kind == ALWAYS);
        listed && !is_in(&self.not)
    }

    /// Whether it is allowed by name, not only by not being refused.
    pub(super) fn names(&self, kind: &str) -> bool {
        self.only.as_ref().is_some_and(|only| only.contains(&kind)) && self.has(kind)
    }

    /// In words, for who was refused.
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
pub(super) struct Denied {
    /// As it is written.
    pub(super) written: String,
    schema: Option<String>,
    /// `None`: all of the schema.
    name: Option<String>,
}

impl Denied {
    pub(super) fn of(written: &str) -> Result<Self, InvalidRules> {
        let found = || InvalidRules::Table {
            found: written.to_owned(),
        };
        let (text, all) = match written.strip_suffix(".*") {
            Some(schema) => (schema, true),
            None => (written, false),
        };
        let table: Table = text.parse().map_err(|_| found())?;
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

    /// Whether the table may be one of them: a name without a schema may be in any; that it is in a schema that is denied whole
    /// nobody can tell from the text.
    pub(super) fn may_be(&self, table: &Table) -> bool {
        match (&self.name, &self.schema, &table.schema) {
            (None, schema, written) => schema == written,
            (Some(name), Some(schema), Some(written)) => *name == table.name && schema == written,
            (Some(name), ..) => *name == table.name,
        }
    }

    /// Whether a text of these words, in small letters, may be about them.
    pub(super) fn may_be_in(&self, found: &HashSet<String>) -> bool {
        let wanted = self.name.as_ref().or(self.schema.as_ref());
        wanted.is_some_and(|wanted| words(wanted).all(|word| found.contains(&word.to_lowercase())))
    }
}
