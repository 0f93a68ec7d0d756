//! What patterns choose of a table: all of it, some columns, nothing.
//!
//! The law is that of [`super::pattern`]: exclusions win. A table with a pattern that takes columns away is given column by
//! column even where it has none of them yet, so that a column added later is not readable by itself.

use std::collections::BTreeSet;

use super::catalogue::Object;
use super::tables::Tables;
use super::{Pattern, Rights};

/// How much of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Choice {
    Nothing,
    Whole,
    /// At least one column.
    Columns(BTreeSet<String>),
}

impl Choice {
    fn of(columns: BTreeSet<String>) -> Self {
        if columns.is_empty() {
            Self::Nothing
        } else {
            Self::Columns(columns)
        }
    }

    /// What is left of it within a limit.
    pub(super) fn within(self, limit: &BTreeSet<String>) -> Self {
        match self {
            Self::Nothing => Self::Nothing,
            Self::Whole => Self::of(limit.clone()),
            Self::Columns(columns) => Self::of(columns.intersection(limit).cloned().collect()),
        }
    }
}

/// What the patterns say of the object by itself.
pub(super) fn by_name(patterns: &[Pattern], object: &Object) -> Choice {
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
        return Choice::Whole;
    }
    let taken: Vec<_> = taken.collect();
    let lists = |pattern: &Pattern, column: &str| pattern.columns.iter().any(|glob| glob.matches(column));
    let named =
        |column: &str| whole || of(false, false).any(|pattern| lists(pattern, column) && (!excluded || pattern.is_literal()));
    let columns = object.columns.iter().map(|column| column.name.as_str());
    let left = columns.filter(|column| named(column) && !taken.iter().any(|pattern| lists(pattern, column)));
    Choice::of(left.map(str::to_owned).collect())
}

/// What the patterns give of the object in the end: of a part of a table no more than of the table. (Whoever reads a table reads its
/// partitions with it, without a right on them; `around` looks at it from there.)
pub(super) fn given<'a>(rights: &Rights, patterns: &[Pattern], object: &'a Object, tables: &Tables<'a>) -> Choice {
    let limits = tables.above(object).into_iter();
    limits
        .filter_map(|parent| limit(rights, patterns, parent))
        .fold(by_name(patterns, object), |choice, limit| choice.within(&limit))
}

/// What parts of a table are held to: nothing of a masked or excluded one, the columns of one that is given by columns.
fn limit(rights: &Rights, patterns: &[Pattern], parent: &Object) -> Option<BTreeSet<String>> {
    if rights.mask(parent).is_some() {
        return Some(BTreeSet::new());
    }
    match by_name(patterns, parent) {
        Choice::Whole => None,
        Choice::Columns(columns) => Some(columns),
        Choice::Nothing => is_excluded(patterns, parent).then(BTreeSet::new),
    }
}

/// Whether patterns take something of it away, whatever others give.
pub(super) fn is_excluded(patterns: &[Pattern], object: &Object) -> bool {
    let (schema, name) = object.key();
    patterns
        .iter()
        .any(|pattern| pattern.excludes && pattern.matches(schema, name))
}

/// Whether a pattern names anything at all.
pub(super) fn names_something(pattern: &Pattern, object: &Object) -> bool {
    let (schema, name) = object.key();
    let column = |glob: &super::Glob| object.columns.iter().any(|column| glob.matches(&column.name));
    pattern.matches(schema, name) && pattern.columns.iter().all(column)
}
