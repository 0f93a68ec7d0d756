//! What a profile may do at the database, in PostgreSQL's own terms, and what has to change there so that it is so.
//!
//! It connects to nothing: what is there comes as values, what is to be done leaves as SQL.
//!
//! INVARIANT: what no pattern names is not granted, and what was granted beyond the patterns is taken away.

mod around;
pub mod catalogue;
mod choice;
mod diff;
mod future;
mod lists;
mod mask;
mod owned;
mod pattern;
mod plan;
mod role;
mod tables;
mod view;
mod views;
mod wants;
mod warnings;

pub use mask::{Mask, MaskedTable};
pub use owned::{ForeignTrigger, GivenAway, OwnDefaults, QUIET, as_member};
pub use pattern::{Glob, InvalidPattern, Pattern, literal};
pub use plan::{Plan, PlanError, Profile, Step, plan};
pub use role::{InvalidMarker, LONGEST_NAME, Marker, RoleName, grant_role, profile_role, quoted, quoted_text};
pub use warnings::everybody;

/// The rights of one profile as meant. The default has none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rights {
    /// Tables, views and their columns that may be read.
    pub select: Vec<Pattern>,
    /// ... written new rows to.
    pub insert: Vec<Pattern>,
    /// ... changed.
    pub update: Vec<Pattern>,
    /// ... deleted from.
    pub delete: Vec<Pattern>,
    /// ... emptied.
    pub truncate: Vec<Pattern>,
    /// ... referred to by a foreign key.
    pub references: Vec<Pattern>,
    /// ... given triggers, which see every row that is changed.
    pub trigger: Vec<Pattern>,
    /// ... vacuumed, analyzed, reindexed (PostgreSQL 17 and later).
    pub maintain: Vec<Pattern>,
    /// Sequences that may be used.
    pub usage: Vec<Pattern>,
    /// ... read as tables are.
    pub sequence_select: Vec<Pattern>,
    /// ... set.
    pub sequence_update: Vec<Pattern>,
    /// Functions and procedures that may be called.
    pub execute: Vec<Pattern>,
    /// The schemas that may be used; absent: those in which something was matched.
    pub schemas: Option<Vec<Glob>>,
    /// The schemas in which objects may be made.
    pub create: Vec<Glob>,
    /// The role that may do with what is made as its owner does.
    pub owner: Option<String>,
    /// Whether what is made later, by the owners of what there is, is covered too.
    pub future: bool,
    /// The tables shown through masks.
    pub masks: Vec<MaskedTable>,
}

impl Rights {
    /// How a table is masked, if it is.
    fn mask(&self, table: &catalogue::Object) -> Option<&MaskedTable> {
        self.masks.iter().find(|mask| (&*mask.schema, &*mask.name) == table.key())
    }
}

#[cfg(test)]
mod tests;
