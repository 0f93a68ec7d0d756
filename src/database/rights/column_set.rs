//! Extent of a table that the lists of a definition choose: all of it, some columns, nothing; and the privileges wanted to that
//! extent.
//!
//! INVARIANT, as in [`super::pattern`]: exclusions win. A table with a pattern that excludes columns is granted column by
//! column even if it has none of them yet, so that a column added later is not readable automatically. Every list that has
//! patterns for objects is in [`lists`], which all code that visits them uses. Transitive lookups of tables end, even if the
//! catalogue lists a relation as a part of itself.

use std::collections::{BTreeMap, BTreeSet};

use super::catalogue::{CatalogObject, CatalogSnapshot, ObjectKind};
use super::{Pattern, Rights};

/// List of a definition.
#[derive(Debug, Clone, Copy)]
pub(super) struct DefinitionList<'a> {
    /// Key in the definition.
    pub(super) key: &'static str,
    pub(super) kind: ObjectKind,
    pub(super) privilege: &'static str,
    pub(super) patterns: &'a [Pattern],
}

/// First server version with the privilege MAINTAIN.
const MAINTAIN_SINCE: u32 = 170_000;

impl DefinitionList<'_> {
    /// Returns true if a server of this version (`server_version_num`) has the privilege.
    pub(super) fn is_known_to(&self, version: u32) -> bool {
        self.privilege != "MAINTAIN" || version >= MAINTAIN_SINCE
    }
}

/// Returns all lists of a definition.
pub(super) fn lists(rights: &Rights) -> [DefinitionList<'_>; 12] {
    let lists = [
        ("select", ObjectKind::Table, "SELECT", &rights.select),
        ("insert", ObjectKind::Table, "INSERT", &rights.insert),
        ("update", ObjectKind::Table, "UPDATE", &rights.update),
        ("delete", ObjectKind::Table, "DELETE", &rights.delete),
        ("truncate", ObjectKind::Table, "TRUNCATE", &rights.truncate),
        ("references", ObjectKind::Table, "REFERENCES", &rights.references),
        ("trigger", ObjectKind::Table, "TRIGGER", &rights.trigger),
        ("maintain", ObjectKind::Table, "MAINTAIN", &rights.maintain),
        ("usage", ObjectKind::Sequence, "USAGE", &rights.usage),
        ("sequence_select", ObjectKind::Sequence, "SELECT", &rights.sequence_select),
        ("sequence_update", ObjectKind::Sequence, "UPDATE", &rights.sequence_update),
        ("execute", ObjectKind::Routine, "EXECUTE", &rights.execute),
    ];
    lists.map(|(key, kind, privilege, patterns)| DefinitionList {
        key,
        kind,
        privilege,
        patterns,
    })
}

/// Tables and views of a snapshot by name, with their partitions.
#[derive(Debug, Default)]
pub(super) struct TableIndex<'a> {
    by_name: BTreeMap<(&'a str, &'a str), &'a CatalogObject>,
    parts: BTreeMap<(&'a str, &'a str), Vec<&'a CatalogObject>>,
}

impl<'a> TableIndex<'a> {
    pub(super) fn of(snapshot: &'a CatalogSnapshot) -> Self {
        let mut tables = Self::default();
        for table in snapshot.objects.iter().filter(|object| object.kind == ObjectKind::Table) {
            tables.by_name.insert(table.key(), table);
            for (schema, name) in &table.parents {
                tables.parts.entry((schema, name)).or_default().push(table);
            }
        }
        tables
    }

    /// Returns all tables it is a part of, by partitioning or inheritance, transitively.
    pub(super) fn above(&self, table: &'a CatalogObject) -> Vec<&'a CatalogObject> {
        let parents = |table: &'a CatalogObject| table.parents.iter().filter_map(|(schema, name)| self.named(schema, name));
        let mut above: BTreeMap<(&str, &str), &CatalogObject> = BTreeMap::new();
        let mut next: Vec<&CatalogObject> = parents(table).collect();
        while let Some(parent) = next.pop() {
            if above.insert(parent.key(), parent).is_none() {
                next.extend(parents(parent));
            }
        }
        above.into_values().collect()
    }

    /// Returns all relations read through a view, transitively, with their partitions. Relations for which `ends` is true are
    /// left out, with everything read through them.
    pub(super) fn read_by(&self, view: &'a CatalogObject, ends: impl Fn(&CatalogObject) -> bool) -> Vec<&'a CatalogObject> {
        let reads = |view: &'a CatalogObject| view.reads.iter().filter_map(|(schema, name)| self.named(schema, name));
        let (mut read, mut seen) = (Vec::new(), BTreeSet::from([view.key()]));
        let mut next: Vec<&CatalogObject> = reads(view).collect();
        while let Some(object) = next.pop() {
            if !seen.insert(object.key()) || ends(object) {
                continue;
            }
            read.push(object);
            next.extend(reads(object));
            next.extend(self.parts.get(&object.key()).into_iter().flatten());
        }
        read
    }

    fn named(&self, schema: &str, name: &str) -> Option<&'a CatalogObject> {
        self.by_name.get(&(schema, name)).copied()
    }
}

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
