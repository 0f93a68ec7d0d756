//! Views by which a profile sees tables through masks, with their schema and salt: the existing ones, those to drop, those to
//! create, and rights of others on them.
//!
//! INVARIANT: every masked column exists, or there is no view (a renamed column would be shown); values are masked with
//! functions of `pg_catalog` only; a schema without the gate's comment is never touched; in the gate's schemas nobody has a
//! right but the owner and the profile, and the profile has none on the salt. (Default privileges of the account give others
//! rights on objects it creates.)

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use super::catalogue::{CatalogObject, CatalogSnapshot, ObjectKind, ObjectNature, comment_on};
use super::column_set::{ColumnSet, DesiredPrivileges};
use super::plan::{PlanError, PlannedProfile, ProfilePlan};
use super::role::{RoleName, grantee, quoted, quoted_text};
use super::{ColumnMask, MaskedTable};

/// Name of the relation that holds the salt, in the schema of the views: a materialized view, which lists of tables do not show
/// and `pg_dump` neither locks nor copies. Its definition does not contain the salt. (Former versions created tables, which are
/// kept.)
const SALT: &str = "tidegate salt";
/// SQL of the salt: two values of 122 random bits each, from the server's strong random source (`pg_strong_random`).
const RANDOM: &str = "gen_random_uuid()::text || gen_random_uuid()::text";

/// View that a profile needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MaskView {
    schema: String,
    pub(super) name: String,
    /// Table it shows, for people.
    pub(super) table: String,
    /// `CREATE VIEW` statement.
    sql: String,
    /// Columns shown without a mask.
    plain: BTreeSet<String>,
    /// True if it needs the salt.
    salted: bool,
}

impl MaskView {
    /// Creates the view of a table, with the columns that may be read. The error says why there can be none.
    pub(super) fn of(role: &RoleName, mask: &MaskedTable, table: &CatalogObject, readable: &ColumnSet) -> Result<Self, String> {
        let shown = table.shown();
        let missing = |(column, _): &&(String, ColumnMask)| table.columns.iter().all(|there| there.name != *column);
        if let Some((column, _)) = mask.columns.iter().find(missing) {
            return Err(format!(
                "{shown} has a mask for a column {column} that does not exist; use its current name"
            ));
        }
        if *readable == ColumnSet::Nothing {
            return Err(format!(
                "{shown} has masks, but `select` does not grant it (it grants nothing of partitions or children of a masked or excluded table); add it there, or remove its masks"
            ));
        }
        let (mut plain, mut items, mut salted) = (BTreeSet::new(), Vec::new(), false);
        for column in &table.columns {
            if matches!(readable, ColumnSet::Columns(columns) if !columns.contains(&column.name)) {
                continue;
            }
            let masked = mask.columns.iter().find(|(name, _)| *name == column.name);
            let (name, source) = (quoted(&column.name), format!("t.{}", quoted(&column.name)));
            if let Some((_, mask)) = masked {
                salted |= *mask == ColumnMask::Hash;
                items.push(format!("{} AS {name}", masking(mask, role, &source, &column.kind)));
            } else {
                plain.insert(column.name.clone());
                items.push(source);
            }
        }
        let sql = format!(
            "CREATE VIEW {}.{} WITH (security_barrier = true) AS SELECT {} FROM {} AS t",
            role.quoted(),
            quoted(&table.name),
            items.join(", "),
            table.quoted()
        );
        Ok(Self {
            schema: role.as_str().to_owned(),
            name: table.name.clone(),
            table: shown,
            sql,
            plain,
            salted,
        })
    }

    pub(super) fn quoted(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }

    /// Returns the privileges on the view that replace those on the table: masked columns cannot be written.
    pub(super) fn wanted(&self, of_table: &DesiredPrivileges) -> DesiredPrivileges {
        let mut want = DesiredPrivileges::default();
        want.whole("SELECT");
        for privilege in ["INSERT", "UPDATE"] {
            let columns: BTreeSet<String> = match of_table.get(privilege) {
                ColumnSet::Nothing => continue,
                ColumnSet::Whole => self.plain.clone(),
                ColumnSet::Columns(columns) => columns.intersection(&self.plain).cloned().collect(),
            };
            if !columns.is_empty() {
                want.0.insert(privilege, ColumnSet::Columns(columns));
            }
        }
        if *of_table.get("DELETE") == ColumnSet::Whole {
            want.whole("DELETE");
        }
        want
    }

    /// Returns true if an existing view is this one: created from the same text, and unchanged since.
    pub(super) fn is(&self, there: &CatalogObject) -> bool {
        let made = there
            .definition
            .as_ref()
            .map(|definition| format!("{}{definition}", self.mark()));
        made.is_some() && made == there.comment
    }

    /// Plans its creation.
    fn create(&self, plan: &mut ProfilePlan) {
        let (view, mark) = (self.quoted(), self.mark());
        let definition = format!(
            "encode(sha256(convert_to(pg_get_viewdef({}::regclass), 'UTF8')), 'hex')",
            quoted_text(&view)
        );
        let body = format!(
            "BEGIN EXECUTE format({}, {} || {definition}); END",
            quoted_text(&format!("COMMENT ON VIEW {} IS %L", view.replace('%', "%%"))),
            quoted_text(&mark)
        );
        let mut tag = String::from("$seal$");
        while body.contains(&tag) {
            tag.insert(1, '_');
        }
        plan.step(self.sql.clone(), format!("shows {} with masks", self.table));
        plan.step(format!("DO {tag}{body}{tag}"), "comment that reveals a change of the view");
    }

    /// Returns the beginning of its comment.
    fn mark(&self) -> String {
        let digest = Sha256::digest(&self.sql);
        let hash = digest.iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte));
        format!("tidegate mask {hash:016x} ")
    }
}

/// Returns the name of the salt as written in SQL.
fn salt(role: &RoleName) -> String {
    format!("{}.{}", role.quoted(), quoted(SALT))
}

/// Returns the expression that replaces a column's value.
fn masking(mask: &ColumnMask, role: &RoleName, source: &str, kind: &str) -> String {
    let text = format!("{source}::text");
    match mask {
        ColumnMask::Partial => format!(
            "CASE WHEN length({text}) > 8 THEN repeat('*', length({text}) - 4) || right({text}, 4) ELSE repeat('*', length({text})) END"
        ),
        ColumnMask::Hash => {
            let salt = format!("(SELECT s.salt FROM {} AS s)", salt(role));
            format!("encode(sha256(convert_to({salt} || {text}, 'UTF8')), 'hex')")
        }
        ColumnMask::Null => format!("NULL::{kind}"),
        ColumnMask::Constant(text) => format!("{}::{kind}", quoted_text(text)),
    }
}

/// Existing views of a profile.
pub(super) struct ProfileViews<'a> {
    own: &'a str,
    schema: Option<&'a CatalogObject>,
    salt: Option<&'a CatalogObject>,
    there: Vec<&'a CatalogObject>,
    wanted: &'a [(MaskView, DesiredPrivileges)],
}

impl<'a> ProfileViews<'a> {
    pub(super) fn of(
        profile: &PlannedProfile<'a>,
        wanted: &'a [(MaskView, DesiredPrivileges)],
        snapshot: &'a CatalogSnapshot,
    ) -> Result<Self, PlanError> {
        let own = profile.role.as_str();
        let schema = snapshot.schema(own);
        if let Some(schema) = schema
            && schema.comment.as_deref() != Some(profile.marker)
        {
            return Err(PlanError {
                what: "the schema",
                name: own.to_owned(),
                marker: profile.marker.to_owned(),
            });
        }
        let inside = |object: &&CatalogObject| object.kind == ObjectKind::Table && object.schema == own;
        let (salt, there): (Vec<_>, Vec<_>) = snapshot.objects.iter().filter(inside).partition(|object| object.name == SALT);
        Ok(Self {
            own,
            schema,
            salt: salt.first().copied(),
            there,
            wanted,
        })
    }

    /// Returns the existing view if it is as it should be.
    pub(super) fn kept(&self, view: &MaskView) -> Option<&'a CatalogObject> {
        let same = |there: &&&CatalogObject| there.name == view.name && view.is(there);
        self.there.iter().find(same).copied()
    }

    /// Returns true if the object is one of the views, or their schema when it is to be dropped.
    pub(super) fn have(&self, object: &CatalogObject) -> bool {
        let inside = || self.there.iter().any(|there| std::ptr::eq(*there, object));
        match object.kind {
            ObjectKind::Table => object.schema == self.own && inside(),
            ObjectKind::Schema => object.name == self.own && self.wanted.is_empty(),
            _ => false,
        }
    }

    pub(super) fn make(&self, profile: &PlannedProfile<'_>, plan: &mut ProfilePlan, snapshot: &CatalogSnapshot) {
        let before = plan.steps.len();
        let stays = |there: &CatalogObject| self.wanted.iter().any(|(view, _)| view.name == there.name && view.is(there));
        for there in self.there.iter().filter(|there| !stays(there)) {
            plan.step(format!("DROP VIEW {}", there.quoted()), "it does not match the profile");
        }
        if !self.wanted.is_empty() {
            self.create(profile, plan, snapshot);
        } else if self.schema.is_some() {
            // The salt is dropped with the schema; an object of somebody else in the schema makes the drop fail.
            let why = "the profile has no masks any more";
            if let Some(there) = self.salt {
                let kind = if there.nature == ObjectNature::Materialized {
                    "MATERIALIZED VIEW"
                } else {
                    "TABLE"
                };
                plan.step(format!("DROP {kind} {}", salt(profile.role)), why);
            }
            plan.step(format!("DROP SCHEMA {}", profile.role.quoted()), why);
        }
        if plan.steps.len() > before {
            plan.blocked.extend(self.may_not(profile, snapshot));
        }
    }

    /// Plans the missing schema, salt and views, and revokes the rights that others have or would get on them.
    fn create(&self, profile: &PlannedProfile<'_>, plan: &mut ProfilePlan, snapshot: &CatalogSnapshot) {
        let (schema, salt) = (profile.role.quoted(), salt(profile.role));
        if self.schema.is_none() {
            plan.step(format!("CREATE SCHEMA {schema}"), "schema for the views with masks");
            let comment = comment_on(&format!("SCHEMA {schema}"), profile.marker);
            plan.step(comment, "marks it as owned by the gate");
            let grant = format!("GRANT USAGE ON SCHEMA {schema} TO {schema}");
            plan.step(grant, "lets the profile use its views");
        }
        let salted = self.wanted.iter().any(|(view, _)| view.salted) && self.salt.is_none();
        if salted {
            plan.step(
                format!("CREATE MATERIALIZED VIEW {salt} AS SELECT {RANDOM} AS salt"),
                "without a salt, guessed values could be verified by their hash",
            );
        }
        let from = match self.schema {
            Some(there) => others(there, Some(self.own)),
            None => default_grantees(snapshot, self.own, "SCHEMAS"),
        };
        shut(plan, "SCHEMA", &schema, from);
        let by_default = default_grantees(snapshot, self.own, "TABLES");
        if salted {
            let everybody = BTreeSet::from([grantee(None)]);
            shut(plan, "TABLE", &salt, &everybody | &by_default);
        }
        if let Some(there) = self.salt
            && shut(plan, "TABLE", &salt, others(there, None))
        {
            let sql = if there.nature == ObjectNature::Materialized {
                format!("REFRESH MATERIALIZED VIEW {salt}")
            } else {
                format!("UPDATE {salt} SET salt = {RANDOM}")
            };
            plan.step(sql, "others could read the old salt; all hashes change");
        }
        for (view, _) in self.wanted {
            let from = if let Some(there) = self.kept(view) {
                others(there, Some(self.own))
            } else {
                view.create(plan);
                by_default.clone()
            };
            shut(plan, "TABLE", &view.quoted(), from);
        }
    }

    /// Returns the reason why the account cannot make these changes.
    fn may_not(&self, profile: &PlannedProfile<'_>, snapshot: &CatalogSnapshot) -> Option<String> {
        match self.schema {
            Some(schema) => (!snapshot.acts_as(&schema.owner)).then(|| {
                format!(
                    "the schema {} of its masks belongs to {}; apply as that role",
                    profile.role, schema.owner
                )
            }),
            None => (!snapshot.account.create_schema).then(|| {
                format!(
                    "{} may not create a schema for its masks: it lacks CREATE on the database",
                    snapshot.account.name
                )
            }),
        }
    }
}

/// Returns the other roles that get rights on the account's new objects of a kind by its default privileges, as written in SQL.
pub(super) fn default_grantees(snapshot: &CatalogSnapshot, own: &str, kind: &str) -> BTreeSet<String> {
    let account = snapshot.account.name.as_str();
    let rights = snapshot.defaults.iter().filter(|right| {
        right.owner == account && right.kind == kind && right.schema.as_deref().is_none_or(|schema| schema == own)
    });
    // Rights of the profile's role were revoked by an earlier step.
    let roles = rights.map(|right| right.role.as_deref());
    let others = roles.filter(|role| *role != Some(account) && *role != Some(own));
    others.map(grantee).collect()
}

/// Returns the roles with rights on an object, without its owner and the intended role.
fn others(object: &CatalogObject, meant: Option<&str>) -> BTreeSet<String> {
    let roles = object.held.iter().map(|held| held.role.as_deref());
    let others = roles.filter(|role| *role != Some(&object.owner) && (role.is_none() || *role != meant));
    others.map(grantee).collect()
}

/// Plans to revoke all rights of others on an object of the gate, including those passed on. Returns true if there are any.
fn shut(plan: &mut ProfilePlan, kind: &str, what: &str, from: BTreeSet<String>) -> bool {
    let from: Vec<String> = from.into_iter().collect();
    if from.is_empty() {
        return false;
    }
    let sql = format!("REVOKE ALL ON {kind} {what} FROM {} CASCADE", from.join(", "));
    plan.step(sql, "only the profile may use it");
    true
}
