//! Effects of sessions on objects that a profile's role owns: rights given to others, default privileges, triggers on tables of
//! others; and the statements that undo them.
//!
//! It does not decide which to undo: [`mod@super::isolation`] does. INVARIANT: undoing never makes a write to a trigger's table
//! fail.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::role::{alter_defaults, grantee, quoted, quoted_text};

/// Object of a profile's role on which others have rights; a function is open to everybody until that is revoked.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct GivenAway {
    /// Role of the profile.
    pub owner: String,
    /// Owner: the same role, or that of a live grant of the profile.
    pub maker: String,
    /// True if the connected account may act as the owner.
    pub as_maker: bool,
    /// Object as written in SQL: `TABLE public.notes`.
    pub what: String,
    /// Grantees; `None`: everybody (`PUBLIC`).
    pub to: Vec<Option<String>>,
    /// True if it runs with its owner's rights: a SECURITY DEFINER function, a view.
    pub as_owner: bool,
}

/// Trigger on somebody else's table that runs a function of a profile's role.
#[expect(clippy::struct_excessive_bools, reason = "a row of the catalogue, not a state")]
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ForeignTrigger {
    /// Role of the profile.
    pub owner: String,
    /// Owner of the function: the same role, or that of a live grant of the profile.
    pub maker: String,
    /// True if the connected account may act as that owner.
    pub as_maker: bool,
    /// Name of the trigger.
    pub name: String,
    /// Table as written in SQL.
    pub table: String,
    /// Owner of the table.
    pub table_owner: String,
    /// True if the connected account may act as the table's owner.
    pub as_table_owner: bool,
    /// Function as written in SQL.
    pub function: String,
    /// True if the function is temporary; it and the trigger end with the session.
    pub temporary: bool,
    /// True if the function does nothing any more ([`QUIET`]).
    pub is_quiet: bool,
}

/// Body of a trigger function that lets every write through unchanged.
pub const QUIET: &str = "BEGIN IF TG_OP = 'DELETE' THEN RETURN OLD; END IF; RETURN NEW; END";

/// Default privileges of objects of one kind that a profile's role creates: one `ALTER DEFAULT PRIVILEGES`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct OwnDefaults {
    /// Role of the profile.
    pub owner: String,
    /// Schema it is limited to; `None`: any.
    pub schema: Option<String>,
    /// Kind of objects, in the words of `ALTER DEFAULT PRIVILEGES`: `TABLES`.
    pub kind: String,
    /// Grantees; `None`: everybody (`PUBLIC`).
    pub to: Vec<Option<String>>,
    /// True if it only revokes functions from everybody, as `apply` sets it.
    pub is_ours: bool,
}

impl GivenAway {
    /// Returns the statement that revokes the rights.
    #[must_use]
    pub fn undo(&self) -> String {
        format!("REVOKE ALL ON {} FROM {} CASCADE", self.what, listed(&self.to))
    }
}

impl ForeignTrigger {
    /// Returns the statement that removes the trigger. Only the table's owner may drop a trigger. An account that may not act as
    /// the owner drops the function, which belongs to the maker, and the trigger with it. (A trigger without a function, or with
    /// a failing one, would block every write.)
    #[must_use]
    pub fn undo(&self) -> String {
        if self.as_table_owner || self.temporary {
            format!("DROP TRIGGER IF EXISTS {} ON {}", quoted(&self.name), self.table)
        } else {
            format!("DROP FUNCTION IF EXISTS {} CASCADE", self.function)
        }
    }

    /// Returns the statement that makes the trigger do nothing, until its table is free and the trigger can be removed; it waits
    /// for no lock.
    #[must_use]
    pub fn quiet(&self) -> Option<String> {
        let body = quoted_text(QUIET);
        let replace = || {
            format!(
                "CREATE OR REPLACE FUNCTION {} RETURNS trigger LANGUAGE plpgsql AS {body}",
                self.function
            )
        };
        (!self.temporary && !self.is_quiet).then(replace)
    }

    /// Returns true if only the table's owner can remove it, because another session's temporary schema cannot be named.
    #[must_use]
    pub fn is_the_table_owners(&self) -> bool {
        self.temporary && !self.as_table_owner
    }
}

impl OwnDefaults {
    /// Returns the statements that restore the server's defaults; for functions, the defaults that `apply` sets.
    #[must_use]
    pub fn undo(&self) -> String {
        let Self {
            owner, kind, schema, to, ..
        } = self;
        let alter = alter_defaults(owner, schema.as_deref());
        let mut steps = Vec::new();
        if !to.is_empty() {
            steps.push(format!("{alter} REVOKE ALL ON {kind} FROM {} CASCADE", listed(to)));
        }
        // In a schema the default is empty, and an empty entry disappears.
        if schema.is_none() {
            steps.push(format!("{alter} GRANT ALL ON {kind} TO {}", quoted(owner)));
            if kind == "TYPES" {
                steps.push(format!("{alter} GRANT USAGE ON {kind} TO PUBLIC"));
            }
        }
        steps.join("; ")
    }
}

/// Wraps statements that only a member of the role may run; an account that may grant the role becomes a member for their
/// duration.
#[must_use]
pub fn as_member(role: &str, statements: &str) -> String {
    let role = quoted(role);
    format!("GRANT {role} TO CURRENT_USER; {statements}; REVOKE {role} FROM CURRENT_USER GRANTED BY CURRENT_USER")
}

fn listed(to: &[Option<String>]) -> String {
    let to: BTreeSet<String> = to.iter().map(|role| grantee(role.as_deref())).collect();
    to.into_iter().collect::<Vec<_>>().join(", ")
}
