//! Contents of a database's catalogue, as far as rights are about them.
//!
//! It does not read the catalogue; `provision` does. Names are as in the catalogue, unquoted.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::owned::{ForeignTrigger, GivenAway, OwnDefaults};
use super::role::{marks_schema, quoted, quoted_text};

/// Catalogue of a target's database, as one account sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CatalogSnapshot {
    /// `server_version_num`: 150004 is 15.4.
    pub version: u32,
    /// Account that read the catalogue, and would make the changes.
    pub account: ServerAccount,
    /// Existing roles among those of the profiles.
    pub roles: Vec<ExistingRole>,
    /// Names of all roles with a gate's comment: of profiles and of grants, of any target and any gate.
    pub gate_roles: BTreeSet<String>,
    /// Existing roles among those that are to own objects created under profiles.
    pub owners: Vec<String>,
    /// The database, its schemas, and the objects in them; of the system's own objects only those on which one of the roles has a
    /// right.
    pub objects: Vec<CatalogObject>,
    /// Default privileges for the roles and `PUBLIC`; for objects of the account itself, for all other roles too.
    pub defaults: Vec<DefaultRight>,
    /// Default privileges of objects that one of the roles creates.
    pub own_defaults: Vec<OwnDefaults>,
    /// Objects of the roles on which others have rights.
    pub given_away: Vec<GivenAway>,
    /// Triggers of others that run a function of one of the roles.
    pub foreign_triggers: Vec<ForeignTrigger>,
}

/// Account at the server.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct ServerAccount {
    /// Name of the account.
    pub name: String,
    /// True if it is a superuser.
    pub superuser: bool,
    /// True if it may create roles.
    pub create_role: bool,
    /// True if it may create schemas in the database.
    pub create_schema: bool,
    /// Owners whose role it may act as.
    pub acts_as: Vec<String>,
}

/// Existing role with the name of a profile's role.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct ExistingRole {
    /// Name of the role.
    pub name: String,
    /// Comment on the role.
    pub comment: Option<String>,
    /// Attributes beyond its grants, in the words of `CREATE ROLE`: `LOGIN`, `SUPERUSER`, `CREATEROLE`, ...
    pub powers: Vec<String>,
    /// Roles it is a member of.
    pub member_of: Vec<Membership>,
    /// Members that have its rights, without the roles of grants and the target's account.
    pub members: Vec<String>,
    /// Other objects in the database on which it has rights.
    pub elsewhere: Vec<OtherObject>,
    /// True if the target's account can grant it.
    pub handed_out: bool,
    /// True if the connected account may act as it.
    pub is_member: bool,
    /// True if the connected account can make itself a member of it.
    pub may_join: bool,
}

/// Membership of a role in another.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Membership {
    /// Role it is a member of.
    pub group: String,
    /// Grantor of the membership; `None` before PostgreSQL 16, where the grantor has no effect.
    pub grantor: Option<String>,
    /// True if the connected account can revoke it.
    pub may_leave: bool,
}

/// Object of a kind that no profile names, with rights on it: a type, a large object, a language.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct OtherObject {
    /// Name as written in SQL: `LARGE OBJECT 16401`.
    pub what: String,
    /// Grantor of the rights.
    pub grantor: String,
    /// True if the connected account can revoke them.
    pub may_take: bool,
}

/// Kind of an object that rights can be granted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum ObjectKind {
    /// The database itself.
    Database,
    /// A schema.
    Schema,
    /// Table, view, or any other relation with rows.
    Table,
    /// A sequence.
    Sequence,
    /// Function or procedure.
    Routine,
}

/// Object in the database.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct CatalogObject {
    /// Kind of the object.
    pub kind: ObjectKind,
    /// Schema it is in; for a schema or database its own name.
    pub schema: String,
    /// Name of the object.
    pub name: String,
    /// Types of a routine's arguments, as written in SQL.
    pub arguments: String,
    /// Role that owns it.
    pub owner: String,
    /// Privileges on it that the account may grant and revoke.
    pub may_grant: Vec<String>,
    /// Privileges on it of the profiles' roles and `PUBLIC`; in the schema of a profile's views, of all roles but its owner.
    pub held: Vec<HeldPrivilege>,
    /// Columns of a table, in order.
    pub columns: Vec<CatalogColumn>,
    /// Tables it is a part of (partitioning, inheritance), by schema and name.
    pub parents: Vec<(String, String)>,
    /// Relations that a view reads, by schema and name.
    pub reads: Vec<(String, String)>,
    /// Comment on the object.
    pub comment: Option<String>,
    /// Hash of the definition as the server has it, for a view in a profile's schema.
    pub definition: Option<String>,
    /// Property to consider before rights on it are granted.
    pub nature: ObjectNature,
    /// Policies of a table with row security.
    #[serde(default)]
    pub policies: Vec<RowPolicy>,
}

/// Property of an object to consider before rights on it are granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum ObjectNature {
    /// No special property.
    #[default]
    Plain,
    /// Table with row security, which does not apply to its owner.
    RowSecurity,
    /// Function that runs with its owner's rights.
    Definer,
    /// Materialized view.
    Materialized,
}

/// Policy of a table with row security.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RowPolicy {
    /// Name of the policy.
    pub name: String,
    /// True if it applies to everybody.
    pub everybody: bool,
    /// Roles it applies to, if not to everybody.
    pub roles: Vec<String>,
    /// True if it depends on the user (`current_user`, `session_user`).
    pub by_user: bool,
}

/// Column of a table.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct CatalogColumn {
    /// Name of the column.
    pub name: String,
    /// Type, as written in SQL.
    pub kind: String,
}

/// Privilege that a role has.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct HeldPrivilege {
    /// Role that has it; `None`: everybody (`PUBLIC`).
    pub role: Option<String>,
    /// Name of the privilege: `SELECT`.
    pub privilege: String,
    /// Column it is limited to.
    pub column: Option<String>,
    /// Role that granted it.
    pub grantor: String,
    /// True if it has the grant option.
    pub grantable: bool,
}

/// Default privilege on objects created later.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct DefaultRight {
    /// Role whose objects it applies to.
    pub owner: String,
    /// Schema it is limited to; `None`: any.
    pub schema: Option<String>,
    /// Kind of objects, in the words of `ALTER DEFAULT PRIVILEGES`: `TABLES`.
    pub kind: String,
    /// Role that gets it; `None`: everybody (`PUBLIC`).
    pub role: Option<String>,
    /// Name of the privilege.
    pub privilege: String,
}

impl ObjectKind {
    /// Returns the word after `ON` in a `GRANT`.
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

impl CatalogObject {
    /// Returns the name as written in SQL, quoted.
    #[must_use]
    pub fn quoted(&self) -> String {
        self.named(quoted)
    }

    /// Returns the name for people: `shop.orders`.
    #[must_use]
    pub fn shown(&self) -> String {
        self.named(str::to_owned)
    }

    fn named(&self, part: impl Fn(&str) -> String) -> String {
        let (schema, name) = (part(&self.schema), part(&self.name));
        match self.kind {
            ObjectKind::Database | ObjectKind::Schema => name,
            ObjectKind::Table | ObjectKind::Sequence => format!("{schema}.{name}"),
            ObjectKind::Routine => format!("{schema}.{name}({})", self.arguments),
        }
    }

    /// Returns schema and name.
    #[must_use]
    pub fn key(&self) -> (&str, &str) {
        (&self.schema, &self.name)
    }
}

impl CatalogSnapshot {
    /// Returns true if the account may act as an owner.
    #[must_use]
    pub fn acts_as(&self, owner: &str) -> bool {
        self.account.acts_as.iter().any(|may| may == owner)
    }

    /// Returns true if a role is a profile's or a grant's, so that sessions created its objects.
    #[must_use]
    pub fn is_gate_role(&self, name: &str) -> bool {
        self.gate_roles.contains(name) || self.roles.iter().any(|role| role.name == name)
    }

    /// Returns true if patterns may name an object: its schema is open to them, and no session created it. INVARIANT: objects
    /// that sessions of a profile create are that profile's alone. Such an object may be a copy of data that others may not see,
    /// and its name may be chosen to match their patterns.
    pub fn nameable(&self) -> impl Fn(&CatalogObject) -> bool {
        let open = self.open_schemas();
        move |object| open(&object.schema) && !self.is_gate_role(&object.owner)
    }

    /// Returns true if patterns may name objects in a schema: it is neither the system's, nor a profile's own with its views, nor
    /// the store of captured changes.
    pub(super) fn open_schemas(&self) -> impl Fn(&str) -> bool {
        let schemas = self.objects.iter().filter(|object| object.kind == ObjectKind::Schema);
        let ours = |schema: &&CatalogObject| {
            let comment = schema.comment.as_deref();
            comment.is_some_and(marks_schema)
        };
        let ours: BTreeSet<&str> = schemas.filter(ours).map(|schema| schema.name.as_str()).collect();
        move |schema| !is_system(schema) && !ours.contains(schema)
    }

    /// Returns the schema with this name.
    #[must_use]
    pub fn schema(&self, name: &str) -> Option<&CatalogObject> {
        self.objects
            .iter()
            .find(|object| object.kind == ObjectKind::Schema && object.name == name)
    }
}

/// Returns true if the schema belongs to the server itself: no pattern names it.
#[must_use]
pub fn is_system(schema: &str) -> bool {
    schema.starts_with("pg_") || schema == "information_schema"
}

/// Returns true for the functions that create large objects.
#[must_use]
pub(super) fn makes_large_objects(object: &CatalogObject) -> bool {
    let names = ["lo_creat", "lo_create", "lo_from_bytea"];
    object.kind == ObjectKind::Routine && object.schema == "pg_catalog" && names.contains(&object.name.as_str())
}

/// Returns a `COMMENT ON ...` statement.
pub(super) fn comment_on(what: &str, text: &str) -> String {
    format!("COMMENT ON {what} IS {}", quoted_text(text))
}
