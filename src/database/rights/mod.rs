//! Rights of a profile in PostgreSQL's terms, and the changes that give a database these rights.
//!
//! It connects to nothing: the catalogue comes as values, and the changes leave as SQL.
//!
//! INVARIANT: nothing is granted that no pattern names, and grants beyond the patterns are revoked.

pub mod capture;
pub mod catalogue;
mod column_set;
mod compare;
mod default_privileges;
mod desired;
mod exposure;
mod isolation;
mod owned;
mod pattern;
mod plan;
mod role;
mod view;
mod warnings;

pub use compare::plan;
pub use owned::{ForeignTrigger, GivenAway, OwnDefaults, QUIET, as_member};
pub use pattern::{NameGlob, Pattern, PatternError, literal};
pub use plan::{PlanError, PlanStep, PlannedProfile, ProfilePlan};
pub use role::{
    MAX_NAME_BYTES, MarkerError, RoleMarker, RoleName, capture_marker, capture_schema, grant_role, profile_role, quoted,
    quoted_text,
};
pub use warnings::everybody;

/// Rights of one profile by its definition. The default has none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rights {
    /// Tables, views and columns with SELECT.
    pub select: Vec<Pattern>,
    /// Tables, views and columns with INSERT.
    pub insert: Vec<Pattern>,
    /// Tables, views and columns with UPDATE.
    pub update: Vec<Pattern>,
    /// Tables and views with DELETE.
    pub delete: Vec<Pattern>,
    /// Tables with TRUNCATE.
    pub truncate: Vec<Pattern>,
    /// Tables and columns with REFERENCES, for foreign keys.
    pub references: Vec<Pattern>,
    /// Tables with TRIGGER; a trigger sees every row that is changed.
    pub trigger: Vec<Pattern>,
    /// Tables with MAINTAIN: vacuum, analyze, reindex (PostgreSQL 17 and later).
    pub maintain: Vec<Pattern>,
    /// Sequences with USAGE.
    pub usage: Vec<Pattern>,
    /// Sequences with SELECT.
    pub sequence_select: Vec<Pattern>,
    /// Sequences with UPDATE.
    pub sequence_update: Vec<Pattern>,
    /// Functions and procedures with EXECUTE.
    pub execute: Vec<Pattern>,
    /// Schemas with USAGE; absent: those in which something was matched.
    pub schemas: Option<Vec<NameGlob>>,
    /// Schemas with CREATE.
    pub create: Vec<NameGlob>,
    /// Role whose members may act as the owner of objects created under the profile.
    pub owner: Option<String>,
    /// True if the rights cover objects created later by the owners of the existing ones.
    pub future: bool,
    /// Tables shown through masks.
    pub masks: Vec<MaskedTable>,
}

/// Masked columns of one table: the values that a profile sees in place of those of a column. INVARIANT: the replacement is
/// computed in the database, before the value can leave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaskedTable {
    /// Schema of the table.
    pub schema: String,
    /// Name of the table.
    pub name: String,
    /// Columns with their masks, in the order of the file.
    pub columns: Vec<(String, ColumnMask)>,
}

/// Replacement of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnMask {
    /// Stars in place of the characters; of more than eight characters the last four are kept.
    Partial,
    /// Salted SHA-256: equal values stay equal, so that tables can still be joined.
    Hash,
    /// NULL.
    Null,
    /// Always this text, as a value of the column's type.
    Constant(String),
}

impl Rights {
    /// Returns the mask of a table, if it has one.
    fn mask(&self, table: &catalogue::CatalogObject) -> Option<&MaskedTable> {
        self.masks.iter().find(|mask| (&*mask.schema, &*mask.name) == table.key())
    }
}

#[cfg(test)]
mod tests;
