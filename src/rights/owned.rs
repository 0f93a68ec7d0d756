//! What a profile's role owns is that profile's alone: what a session gave of it to others, what it made it come with, and where it had
//! others run it, is undone.
//!
//! It looks at nothing and runs nothing. The laws: PostgreSQL runs a SECURITY DEFINER function, a view and a rule with the rights of
//! their owner (`fmgr_security_definer` in utils/fmgr/fmgr.c, `setRuleCheckAsUser` in rewrite/rewriteDefine.c), so whoever may use
//! one that a session made has a part of the profile's rights, for as long as it is there; a trigger runs with the rights of whoever
//! writes to its table, whoever made it (`ExecCallTriggerFunc` in commands/trigger.c); and no write to that table may begin to fail
//! by what is undone.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::catalogue::{Kind, Snapshot};
use super::plan::{Plan, Profile};
use super::role::{quoted, quoted_text};

/// A thing that a profile's role owns and has given to others; a function is everybody's until that is taken.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct GivenAway {
    /// The profile's role.
    pub owner: String,
    /// Who owns it: the same, or the role of a live grant of the profile.
    pub maker: String,
    /// Whether the account that looked may act in the maker's name.
    pub as_maker: bool,
    /// The thing as it stands in SQL: `TABLE public.notes`.
    pub what: String,
    /// To whom; `None`: everybody (`PUBLIC`).
    pub to: Vec<Option<String>>,
    /// Whether it runs with its owner's rights: a SECURITY DEFINER function, a view.
    pub as_owner: bool,
}

/// A trigger on somebody else's table that runs a function of a profile's.
#[expect(clippy::struct_excessive_bools, reason = "a row of the catalogue, not a state")]
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ForeignTrigger {
    /// The profile's role.
    pub owner: String,
    /// Who owns the function: the same, or the role of a live grant of the profile.
    pub maker: String,
    /// Whether the account that looked may act in the maker's name.
    pub as_maker: bool,
    /// Its name.
    pub name: String,
    /// Its table as it stands in SQL.
    pub table: String,
    /// Who owns that.
    pub table_owner: String,
    /// Whether the account that looked may act in the name of the table's owner.
    pub as_table_owner: bool,
    /// The function as it stands in SQL.
    pub function: String,
    /// Whether the function, and the trigger with it, goes with its session.
    pub temporary: bool,
    /// Whether the function does nothing any more ([`QUIET`]).
    pub is_quiet: bool,
}

/// The body of a trigger's function that lets every write through as it is.
pub const QUIET: &str = "BEGIN IF TG_OP = 'DELETE' THEN RETURN OLD; END IF; RETURN NEW; END";

/// What things of one kind come with that a profile's role makes: one `ALTER DEFAULT PRIVILEGES`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct OwnDefaults {
    /// The profile's role.
    pub owner: String,
    /// In this schema; `None`: in any.
    pub schema: Option<String>,
    /// Of this kind, as `ALTER DEFAULT PRIVILEGES` has it: `TABLES`.
    pub kind: String,
    /// Who has something of it; `None`: everybody (`PUBLIC`).
    pub to: Vec<Option<String>>,
    /// It only keeps functions from everybody, as `apply` has it.
    pub is_ours: bool,
}

impl GivenAway {
    /// The statement that takes it back.
    #[must_use]
    pub fn undo(&self) -> String {
        format!("REVOKE ALL ON {} FROM {} CASCADE", self.what, listed(&self.to))
    }
}

impl ForeignTrigger {
    /// The statement that takes it away. A trigger is its table owner's to drop; for who may not act as that, it goes with its function,
    /// which is the maker's. (Left there without one, or with one that fails, it would be in the way of every write.)
    #[must_use]
    pub fn undo(&self) -> String {
        if self.as_table_owner || self.temporary {
            format!("DROP TRIGGER IF EXISTS {} ON {}", quoted(&self.name), self.table)
        } else {
            format!("DROP FUNCTION IF EXISTS {} CASCADE", self.function)
        }
    }

    /// The statement that has it do nothing, for as long as its table is in use and it cannot be taken away: this waits for nobody.
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

    /// Whether only the table's owner can take it away: no other session's temporary schema can be named.
    #[must_use]
    pub fn is_the_table_owners(&self) -> bool {
        self.temporary && !self.as_table_owner
    }
}

impl OwnDefaults {
    /// The statements that put back what the server has by default; of functions, what `apply` has.
    #[must_use]
    pub fn undo(&self) -> String {
        let Self {
            owner, kind, schema, to, ..
        } = self;
        let owner = quoted(owner);
        let within = schema
            .as_ref()
            .map(|schema| format!(" IN SCHEMA {}", quoted(schema)))
            .unwrap_or_default();
        let alter = format!("ALTER DEFAULT PRIVILEGES FOR ROLE {owner}{within}");
        let mut steps = Vec::new();
        if !to.is_empty() {
            steps.push(format!("{alter} REVOKE ALL ON {kind} FROM {} CASCADE", listed(to)));
        }
        // In a schema there is nothing by default: what is empty is no more.
        if schema.is_none() {
            steps.push(format!("{alter} GRANT ALL ON {kind} TO {owner}"));
            if kind == "TYPES" {
                steps.push(format!("{alter} GRANT USAGE ON {kind} TO PUBLIC"));
            }
        }
        steps.join("; ")
    }
}

/// Keeps the functions that a role will make from everybody.
fn keep_functions(role: &str) -> String {
    format!(
        "ALTER DEFAULT PRIVILEGES FOR ROLE {} REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC",
        quoted(role)
    )
}

/// Statements that only a member of the role may run; whoever may hand it out is made one for as long as they take.
#[must_use]
pub fn as_member(role: &str, statements: &str) -> String {
    let role = quoted(role);
    format!("GRANT {role} TO CURRENT_USER; {statements}; REVOKE {role} FROM CURRENT_USER GRANTED BY CURRENT_USER")
}

fn listed(to: &[Option<String>]) -> String {
    let to: BTreeSet<String> = to
        .iter()
        .map(|role| role.as_ref().map_or_else(|| "PUBLIC".to_owned(), |role| quoted(role)))
        .collect();
    to.into_iter().collect::<Vec<_>>().join(", ")
}

/// Something to be undone, and in whose name.
struct Undo {
    sql: String,
    why: String,
    /// The role that may.
    by: String,
    /// Whether the account that looked may act as that.
    acts: bool,
}

/// Adds to a plan what is to be undone of a profile's own.
pub(super) fn compare(profile: &Profile<'_>, snapshot: &Snapshot, plan: &mut Plan) {
    let role = profile.role.as_str();
    let there = snapshot.roles.iter().find(|there| there.name == role);
    // A role that is just made can be handed out by who makes it.
    let (member, joins) = there.map_or((false, true), |there| (there.is_member, there.may_join));
    let mut found = defaults(profile, snapshot, member);
    found.extend(snapshot.given_away.iter().filter(|given| given.owner == role).map(|given| {
        let why = if given.as_owner {
            "a session created it, and it runs with the profile's rights for every user"
        } else {
            "a session created it, so only the profile may use it"
        };
        Undo {
            sql: given.undo(),
            why: why.to_owned(),
            by: given.maker.clone(),
            acts: given.as_maker,
        }
    }));
    let triggers = snapshot.foreign_triggers.iter().filter(|trigger| trigger.owner == role);
    found.extend(triggers.map(|trigger| Undo {
        sql: trigger.undo(),
        why: format!(
            "a session created the trigger {} on {}, which runs with the rights of every writer",
            trigger.name, trigger.table
        ),
        by: if trigger.is_the_table_owners() {
            trigger.table_owner.clone()
        } else {
            trigger.maker.clone()
        },
        acts: trigger.as_table_owner || !trigger.temporary && trigger.as_maker,
    }));
    for Undo { sql, why, by, acts } in found {
        if snapshot.account.superuser || acts {
            plan.step(sql, why);
        } else if joins && by == role {
            plan.step(as_member(role, &sql), why);
        } else {
            plan.beyond.push(format!(
                "{why}, and this account may not act as {by}; with an account that may: {sql}"
            ));
        }
    }
}

/// What sessions made things of the profile come with, and what they are to come with.
fn defaults(profile: &Profile<'_>, snapshot: &Snapshot, member: bool) -> Vec<Undo> {
    let role = profile.role.as_str();
    let undo = |sql, why| Undo {
        sql,
        why,
        by: role.to_owned(),
        acts: member,
    };
    let own = || snapshot.own_defaults.iter().filter(|defaults| defaults.owner == role);
    let changed = own().filter(|defaults| !defaults.is_ours);
    let mut found: Vec<Undo> = changed
        .map(|defaults| {
            let kind = defaults.kind.to_lowercase();
            let why = format!("a session changed the default privileges of {kind} created under the profile");
            undo(defaults.undo(), why)
        })
        .collect();
    // Where there is one that is not ours, undoing it makes it ours.
    let functions = own().any(|defaults| defaults.kind == "ROUTINES" && defaults.schema.is_none());
    if !functions && makes_things(profile, snapshot) {
        let why = "keeps functions created under the profile private to it".to_owned();
        found.push(undo(keep_functions(role), why));
    }
    found
}

/// Whether the role can make something that outlives a session.
fn makes_things(profile: &Profile<'_>, snapshot: &Snapshot) -> bool {
    let nameable = snapshot.nameable();
    let everybodys = || {
        let schemas = snapshot
            .objects
            .iter()
            .filter(|object| object.kind == Kind::Schema && nameable(object));
        schemas
            .flat_map(|schema| &schema.held)
            .any(|held| held.role.is_none() && held.privilege == "CREATE")
    };
    !profile.rights.create.is_empty() || everybodys()
}
