//! What a profile's role owns is that profile's alone: what a session gave of it to others, and what it made it come with, is undone.
//!
//! It looks at nothing and runs nothing. The laws: PostgreSQL runs a SECURITY DEFINER function, a view and a rule with the rights of
//! their owner (`fmgr_security_definer` in utils/fmgr/fmgr.c, `setRuleCheckAsUser` in rewrite/rewriteDefine.c), so whoever may use
//! one that a session made has a part of the profile's rights, for as long as it is there; what another profile of the target was
//! given is for that profile's own definition to judge.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::catalogue::{Kind, Snapshot};
use super::plan::{Plan, Profile};
use super::role::quoted;

/// A thing that a profile's role owns and has given to others; a function is everybody's until that is taken.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct GivenAway {
    /// The profile's role.
    pub owner: String,
    /// The thing as it stands in SQL: `TABLE public.notes`.
    pub what: String,
    /// To whom; `None`: everybody (`PUBLIC`).
    pub to: Vec<Option<String>>,
    /// Whether it runs with its owner's rights: a SECURITY DEFINER function, a view.
    pub as_owner: bool,
}

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

/// Adds to a plan what is to be undone of a profile's own.
pub(super) fn compare(profile: &Profile<'_>, snapshot: &Snapshot, plan: &mut Plan) {
    let role = profile.role.as_str();
    let mut found: Vec<(String, String)> = Vec::new();
    let own: Vec<&OwnDefaults> = snapshot
        .own_defaults
        .iter()
        .filter(|defaults| defaults.owner == role)
        .collect();
    for defaults in own.iter().filter(|defaults| !defaults.is_ours) {
        let kind = defaults.kind.to_lowercase();
        let why = format!("a session has changed what {kind} come with that are made under the profile");
        found.push((defaults.undo(), why));
    }
    let functions = |defaults: &&&OwnDefaults| defaults.kind == "ROUTINES" && defaults.schema.is_none();
    // Where there is one that is not ours, undoing it makes it ours.
    if own.iter().find(functions).is_none() && makes_things(profile, snapshot) {
        let why = "functions that are made under the profile are the profile's alone".to_owned();
        found.push((keep_functions(role), why));
    }
    for given in snapshot.given_away.iter().filter(|given| given.owner == role) {
        let why = if given.as_owner {
            "made under the profile, it runs with the profile's rights for whoever may use it"
        } else {
            "made under the profile, it is the profile's alone"
        };
        found.push((given.undo(), why.to_owned()));
    }
    let there = snapshot.roles.iter().find(|there| there.name == role);
    // A role that is just made can be handed out by who makes it.
    let (member, joins) = there.map_or((false, true), |there| (there.is_member, there.may_join));
    for (sql, why) in found {
        if snapshot.account.superuser || member {
            plan.step(sql, why);
        } else if joins {
            plan.step(as_member(role, &sql), why);
        } else {
            plan.beyond
                .push(format!("{why}, and this account may not act as {role}; as who may: {sql}"));
        }
    }
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
