//! Extent of a table that patterns choose: all of it, some columns, nothing; and the privileges wanted to that extent.
//!
//! INVARIANT, as in [`super::pattern`]: exclusions win. A table with a pattern that excludes columns is granted column by column
//! even if it has none of them yet, so that a column added later is not readable automatically.

use std::collections::{BTreeMap, BTreeSet};

use super::catalogue::CatalogObject;
use super::tables::TableIndex;
use super::{Pattern, Rights};

/// Extent of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ColumnSet {
    Nothing,
    Whole,
    /// Listed columns, at least one.
    Columns(BTreeSet<String>),
}

impl ColumnSet {
    fn of(columns: BTreeSet<String>) -> Self {
        if columns.is_empty() {
            Self::Nothing
        } else {
            Self::Columns(columns)
        }
    }

    /// Limits the extent to these columns.
    pub(super) fn within(self, limit: &BTreeSet<String>) -> Self {
        match self {
            Self::Nothing => Self::Nothing,
            Self::Whole => Self::of(limit.clone()),
            Self::Columns(columns) => Self::of(columns.intersection(limit).cloned().collect()),
        }
    }
}

/// Privileges wanted on one object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct DesiredPrivileges(pub(super) BTreeMap<&'static str, ColumnSet>);

impl DesiredPrivileges {
    pub(super) fn whole(&mut self, privilege: &'static str) {
        self.0.insert(privilege, ColumnSet::Whole);
    }

    pub(super) fn get(&self, privilege: &str) -> &ColumnSet {
        self.0.get(privilege).unwrap_or(&ColumnSet::Nothing)
    }
}

/// Returns the extent that the patterns choose of the object by itself.
pub(super) fn by_name(patterns: &[Pattern], object: &CatalogObject) -> ColumnSet {
    let (schema, name) = object.key();
    let of = |excludes, whole| {
        patterns.iter().filter(move |pattern| {
            pattern.excludes == excludes && pattern.columns.is_empty() == whole && pattern.matches(schema, name)
        })
    };
    let excluded = of(true, true).next().is_some();
    let whole = of(false, true).next().is_some() && !excluded;
    let mut taken = of(true, false).peekable();
    if whole && taken.peek().is_none() {
        return ColumnSet::Whole;
    }
    let taken: Vec<_> = taken.collect();
    let lists = |pattern: &Pattern, column: &str| pattern.columns.iter().any(|glob| glob.matches(column));
    let named =
        |column: &str| whole || of(false, false).any(|pattern| lists(pattern, column) && (!excluded || pattern.is_literal()));
    let columns = object.columns.iter().map(|column| column.name.as_str());
    let left = columns.filter(|column| named(column) && !taken.iter().any(|pattern| lists(pattern, column)));
    ColumnSet::of(left.map(str::to_owned).collect())
}

/// Returns the extent that the patterns finally grant: of a partition no more than of its table. (Readers of a table read its
/// partitions with it, without a right on them; `around` handles that direction.)
pub(super) fn given<'a>(rights: &Rights, patterns: &[Pattern], object: &'a CatalogObject, tables: &TableIndex<'a>) -> ColumnSet {
    let limits = tables.above(object).into_iter();
    limits
        .filter_map(|parent| limit(rights, patterns, parent))
        .fold(by_name(patterns, object), |choice, limit| choice.within(&limit))
}

/// Returns the limit for the partitions of a table: nothing of a masked or excluded one, the granted columns of one that is
/// granted by columns.
fn limit(rights: &Rights, patterns: &[Pattern], parent: &CatalogObject) -> Option<BTreeSet<String>> {
    if rights.mask(parent).is_some() {
        return Some(BTreeSet::new());
    }
    match by_name(patterns, parent) {
        ColumnSet::Whole => None,
        ColumnSet::Columns(columns) => Some(columns),
        ColumnSet::Nothing => is_excluded(patterns, parent).then(BTreeSet::new),
    }
}

/// Returns true if patterns exclude a part of the object, whatever others grant.
pub(super) fn is_excluded(patterns: &[Pattern], object: &CatalogObject) -> bool {
    let (schema, name) = object.key();
    patterns
        .iter()
        .any(|pattern| pattern.excludes && pattern.matches(schema, name))
}

/// Returns true if a pattern matches the object and its columns.
pub(super) fn names_something(pattern: &Pattern, object: &CatalogObject) -> bool {
    let (schema, name) = object.key();
    let column = |glob: &super::NameGlob| object.columns.iter().any(|column| glob.matches(&column.name));
    pattern.matches(schema, name) && pattern.columns.iter().all(column)
}
