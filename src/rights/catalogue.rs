//! What is at the database, as values: so much of its catalogue as rights are about.
//!
//! It does not read the catalogue; `provision` does. Names are as the catalogue has them, unquoted.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::owned::{ForeignTrigger, GivenAway, OwnDefaults};
use super::role::{quoted, quoted_text};

/// What is at a target's database, seen by one account.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// `server_version_num`: 150004 is 15.4.
    pub version: u32,
    /// The account that looked, and would make the changes.
    pub account: Account,
    /// Of the profiles' roles, those that are there.
    pub roles: Vec<Role>,
    /// The names of all roles with a gate's comment: of profiles and of grants, whatever the target and the gate.
    pub gate_roles: BTreeSet<String>,
    /// Of the roles that are to own what is made under profiles, those that are there.
    pub owners: Vec<String>,
    /// The database, its schemas, and what is in them; of the system's own only what one of the roles has a right on.
    pub objects: Vec<Object>,
    /// What objects that are made later come with, for the roles and everybody; of the account's own, for anybody else.
    pub defaults: Vec<DefaultRight>,
    /// What objects come with that one of the roles makes.
    pub own_defaults: Vec<OwnDefaults>,
    /// What one of the roles owns and has given to others.
    pub given_away: Vec<GivenAway>,
    /// Where others run what one of the roles owns, by a trigger of theirs.
    pub foreign_triggers: Vec<ForeignTrigger>,
}

/// An account at the server.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Whether it is a superuser.
    pub superuser: bool,
    /// Whether it may make roles.
    pub create_role: bool,
    /// Whether it may make schemas in the database.
    pub create_schema: bool,
    /// The owners in whose name it may act.
    pub acts_as: Vec<String>,
}

/// A role that is there under the name of a profile's.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// The comment on it.
    pub comment: Option<String>,
    /// What it can do beside what it was granted, in the words of `CREATE ROLE`: `LOGIN`, `SUPERUSER`, `CREATEROLE`, ...
    pub powers: Vec<String>,
    /// What it is a member of.
    pub member_of: Vec<Membership>,
    /// Its members that have its rights, the roles of grants and the target's account aside.
    pub members: Vec<String>,
    /// What else in the database it was given rights on.
    pub elsewhere: Vec<Elsewhere>,
    /// Whether the target's account can hand it out.
    pub handed_out: bool,
    /// Whether the account that looked may act in its name.
    pub is_member: bool,
    /// Whether the account that looked can make itself a member of it.
    pub may_join: bool,
}

/// That a role is a member of another.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Membership {
    /// The other.
    pub group: String,
    /// Who gave it; `None` before PostgreSQL 16, where that means nothing.
    pub grantor: Option<String>,
    /// Whether the account can take it back.
    pub may_leave: bool,
}

/// Something of a kind that no profile names, with rights on it: a type, a large object, a language.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Elsewhere {
    /// As it stands in SQL: `LARGE OBJECT 16401`.
    pub what: String,
    /// Who gave the rights.
    pub grantor: String,
    /// Whether the account can take them.
    pub may_take: bool,
}

/// What can be granted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum Kind {
    /// The database itself.
    Database,
    /// A schema.
    Schema,
    /// A table, a view, anything with rows.
    Table,
    /// A sequence.
    Sequence,
    /// A function or procedure.
    Routine,
}

/// One thing at the database.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Object {
    /// What it is.
    pub kind: Kind,
    /// Its schema; for a schema or database its own name.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// The types of a routine's arguments, as SQL has them.
    pub arguments: String,
    /// Who owns it.
    pub owner: String,
    /// Which privileges on it the account may give and take.
    pub may_grant: Vec<String>,
    /// The privileges that one of the roles, or everybody, has on it; in the schema of a profile's views, those of all but its owner.
    pub held: Vec<Held>,
    /// A table's columns, in order.
    pub columns: Vec<Column>,
    /// The tables it is a part of (partitions, inheritance), by schema and name.
    pub parents: Vec<(String, String)>,
    /// The tables and views a view reads, by schema and name.
    pub reads: Vec<(String, String)>,
    /// The comment on it.
    pub comment: Option<String>,
    /// For a view in a schema of a profile's: a hash of its definition as the server has it.
    pub definition: Option<String>,
    /// What has to be known of it before it is given away.
    pub nature: Nature,
    /// The policies of a table with row security.
    #[serde(default)]
    pub policies: Vec<Policy>,
}

/// What has to be known of an object before it is given away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum Nature {
    /// Nothing.
    #[default]
    Plain,
    /// A table with row security, which its owner passes by.
    RowSecurity,
    /// A function that runs with its owner's rights.
    Definer,
    /// A materialized view.
    Materialized,
}

/// A policy of a table with row security.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// Whether it is for everybody.
    pub everybody: bool,
    /// The roles it is for, if not.
    pub roles: Vec<String>,
    /// Whether it asks who the user is (`current_user`, `session_user`).
    pub by_user: bool,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type, as SQL has it.
    pub kind: String,
}

/// A privilege somebody has.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Held {
    /// The role; `None`: everybody (`PUBLIC`).
    pub role: Option<String>,
    /// The privilege: `SELECT`.
    pub privilege: String,
    /// Only on this column.
    pub column: Option<String>,
    /// Who gave it.
    pub grantor: String,
    /// Whether it may be handed on.
    pub grantable: bool,
}

/// A privilege on objects that are made later.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct DefaultRight {
    /// Whose objects.
    pub owner: String,
    /// In this schema; `None`: in any.
    pub schema: Option<String>,
    /// Of this kind, as `ALTER DEFAULT PRIVILEGES` has it: `TABLES`.
    pub kind: String,
    /// The role; `None`: everybody.
    pub role: Option<String>,
    /// The privilege.
    pub privilege: String,
}

impl Kind {
    /// The word behind `ON` in a `GRANT`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Database => "DATABASE",
            Self::Schema => "SCHEMA",
            Self::Table => "TABLE",
            Self::Sequence => "SEQUENCE",
            Self::Routine => "ROUTINE",
        }
    }
}

impl Object {
    /// As it stands in SQL, quoted.
    #[must_use]
    pub fn quoted(&self) -> String {
        let (schema, name) = (quoted(&self.schema), quoted(&self.name));
        match self.kind {
            Kind::Database | Kind::Schema => name,
            Kind::Table | Kind::Sequence => format!("{schema}.{name}"),
            Kind::Routine => format!("{schema}.{name}({})", self.arguments),
        }
    }

    /// For people: `shop.orders`.
    #[must_use]
    pub fn shown(&self) -> String {
        match self.kind {
            Kind::Database | Kind::Schema => self.name.clone(),
            Kind::Table | Kind::Sequence => format!("{}.{}", self.schema, self.name),
            Kind::Routine => format!("{}.{}({})", self.schema, self.name, self.arguments),
        }
    }

    /// Its schema and name.
    #[must_use]
    pub fn key(&self) -> (&str, &str) {
        (&self.schema, &self.name)
    }
}

impl Snapshot {
    /// Whether the account may act in the name of an owner.
    #[must_use]
    pub fn acts_as(&self, owner: &str) -> bool {
        self.account.acts_as.iter().any(|may| may == owner)
    }

    /// Returns true where a role is a profile's or a grant's: what it owns was made by sessions.
    #[must_use]
    pub fn is_gate_role(&self, name: &str) -> bool {
        self.gate_roles.contains(name) || self.roles.iter().any(|role| role.name == name)
    }

    /// Whether patterns may name an object: its schema is open to them, and no session made it. INVARIANT: what sessions of a profile
    /// make is that profile's alone. It may be a copy of what others are not shown, and its name may be chosen to be matched.
    pub fn nameable(&self) -> impl Fn(&Object) -> bool {
        let open = self.open_schemas();
        move |object| open(&object.schema) && !self.is_gate_role(&object.owner)
    }

    /// Whether patterns may name what is in a schema: it is neither the system's nor a profile's own, with masks in it.
    pub(super) fn open_schemas(&self) -> impl Fn(&str) -> bool {
        let schemas = self.objects.iter().filter(|object| object.kind == Kind::Schema);
        let ours = |schema: &&Object| {
            let comment = schema.comment.as_deref();
            comment.is_some_and(|comment| comment.starts_with("tidegate profile "))
        };
        let ours: BTreeSet<&str> = schemas.filter(ours).map(|schema| schema.name.as_str()).collect();
        move |schema| !is_system(schema) && !ours.contains(schema)
    }

    /// A schema.
    #[must_use]
    pub fn schema(&self, name: &str) -> Option<&Object> {
        self.objects
            .iter()
            .find(|object| object.kind == Kind::Schema && object.name == name)
    }
}

/// Whether the schema belongs to the server itself: no pattern names it.
#[must_use]
pub fn is_system(schema: &str) -> bool {
    schema.starts_with("pg_") || schema == "information_schema"
}

/// Whether it is one of the functions by which whoever may call them makes large objects.
#[must_use]
pub(super) fn makes_large_objects(object: &Object) -> bool {
    let names = ["lo_creat", "lo_create", "lo_from_bytea"];
    object.kind == Kind::Routine && object.schema == "pg_catalog" && names.contains(&object.name.as_str())
}

/// `COMMENT ON ...`.
pub(super) fn comment_on(what: &str, text: &str) -> String {
    format!("COMMENT ON {what} IS {}", quoted_text(text))
}
