//! View by which a profile sees a table through masks, as SQL.
//!
//! It does not compare the view with an existing one. INVARIANT: every masked column exists, or there is no view (a renamed
//! column would be shown); values are masked with functions of `pg_catalog` only; only the view's owner can read the salt.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use super::catalogue::{CatalogObject, ObjectNature, comment_on};
use super::column_set::{ColumnSet, DesiredPrivileges};
use super::plan::PlanStep;
use super::role::{RoleName, quoted, quoted_text};
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
    pub(super) schema: String,
    pub(super) name: String,
    /// Table it shows, for people.
    pub(super) table: String,
    /// `CREATE VIEW` statement.
    sql: String,
    /// Columns shown without a mask.
    plain: BTreeSet<String>,
    /// True if it needs the salt.
    pub(super) salted: bool,
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

    /// Returns the steps that create it.
    pub(super) fn steps(&self) -> Vec<PlanStep> {
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
        vec![
            PlanStep::new(self.sql.clone(), format!("shows {} with masks", self.table)),
            PlanStep::new(
                format!("DO {tag}{body}{tag}"),
                "comment that reveals a change of the view".to_owned(),
            ),
        ]
    }

    /// Returns the beginning of its comment.
    fn mark(&self) -> String {
        let digest = Sha256::digest(&self.sql);
        let hash = digest.iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte));
        format!("tidegate mask {hash:016x} ")
    }
}

/// Returns the steps that create the schema of a profile's views, with its salt if necessary.
pub(super) fn schema_steps(role: &RoleName, marker: &str, there: bool, salt: bool) -> Vec<PlanStep> {
    let schema = role.quoted();
    let mut steps = Vec::new();
    if !there {
        steps.push(PlanStep::new(
            format!("CREATE SCHEMA {schema}"),
            "schema for the views with masks".to_owned(),
        ));
        steps.push(PlanStep::new(
            comment_on(&format!("SCHEMA {schema}"), marker),
            "marks it as owned by the gate".to_owned(),
        ));
        steps.push(PlanStep::new(
            format!("GRANT USAGE ON SCHEMA {schema} TO {schema}"),
            "lets the profile use its views".to_owned(),
        ));
    }
    if salt {
        steps.push(PlanStep::new(
            format!("CREATE MATERIALIZED VIEW {} AS SELECT {RANDOM} AS salt", self::salt(role)),
            "without a salt, guessed values could be verified by their hash".to_owned(),
        ));
    }
    steps
}

/// Returns the name of the salt as written in SQL.
pub(super) fn salt(role: &RoleName) -> String {
    format!("{}.{}", role.quoted(), quoted(SALT))
}

/// Returns the step that drops the salt, before its schema is dropped.
pub(super) fn drop_salt(role: &RoleName, there: &CatalogObject) -> PlanStep {
    let kind = if there.nature == ObjectNature::Materialized {
        "MATERIALIZED VIEW"
    } else {
        "TABLE"
    };
    PlanStep::new(
        format!("DROP {kind} {}", salt(role)),
        "the profile has no masks any more".to_owned(),
    )
}

/// Returns the step that replaces a salt that others could read.
pub(super) fn new_salt(role: &RoleName, there: &CatalogObject) -> PlanStep {
    let sql = if there.nature == ObjectNature::Materialized {
        format!("REFRESH MATERIALIZED VIEW {}", salt(role))
    } else {
        format!("UPDATE {} SET salt = {RANDOM}", salt(role))
    };
    let why = "others could read the old salt; all hashes change";
    PlanStep::new(sql, why.to_owned())
}

/// Returns true if an object is the salt.
pub(super) fn is_salt(object: &CatalogObject) -> bool {
    object.name == SALT
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
