//! Tables and views by name, with their partitions and the relations that views read.
//!
//! It knows no rights. INVARIANT: transitive lookups end, even if the catalogue lists a relation as a part of itself.

use std::collections::{BTreeMap, BTreeSet};

use super::catalogue::{CatalogObject, CatalogSnapshot, ObjectKind};

/// Tables and views of a snapshot.
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
