//! Detection of ways around what a profile withholds: a line that names a missing object, a table whose partitions are withheld,
//! a view that reads withheld data.
//!
//! It grants and revokes nothing. PostgreSQL checks the rights on the relations that a statement names, never on those reached
//! through them (`expand_inherited_rtentry` in optimizer/util/inherit.c, `ApplyRetrieveRule` in rewrite/rewriteHandler.c).
//! INVARIANT: if the patterns themselves would grant what they withhold, nothing is granted until the definition is corrected.

use std::collections::BTreeMap;

use super::catalogue::{CatalogObject, CatalogSnapshot, ObjectKind};
use super::column_set::{ColumnSet, DefinitionList, TableIndex, by_name, given, is_excluded, lists};
use super::plan::PlannedProfile;
use super::{Pattern, Rights};

/// Line of a definition that blocks the plan, with the reason.
#[derive(Debug)]
pub(super) struct ExposedLine {
    /// Quotation of the line: `` `!shop.cards` in `select` ``.
    pub(super) line: String,
    /// Reason and remedy.
    pub(super) why: String,
}

/// Returns lines that name one object exactly, to withhold a part of it, but have no effect.
///
/// An object that does not exist was most likely renamed, and a pattern with wildcards would grant it under its new name. (A line
/// for objects that may come some day is written with a wildcard; that is only a warning.)
pub(super) fn mistaken(rights: &Rights, snapshot: &CatalogSnapshot) -> Vec<ExposedLine> {
    let nameable = snapshot.nameable();
    let objects: Vec<&CatalogObject> = snapshot.objects.iter().filter(|object| nameable(object)).collect();
    let there = |kind, key: (&str, &str)| objects.iter().find(|object| object.kind == kind && object.key() == key);
    let mut found = Vec::new();
    for mask in &rights.masks {
        if let (None, Some(wide)) = (there(ObjectKind::Table, (&mask.schema, &mask.name)), wide(&rights.select)) {
            found.push(ExposedLine {
                line: format!("the mask of {}.{}", mask.schema, mask.name),
                why: format!("matches no object; {}", renamed(wide)),
            });
        }
    }
    for list in lists(rights) {
        for pattern in list.patterns.iter().filter(|pattern| pattern.is_literal()) {
            let object = || there(list.kind, (&pattern.schema.literal()?, &pattern.name.literal()?));
            let why = match (pattern.excludes, object()) {
                (false, _) => idle(pattern, list.patterns),
                (true, Some(object)) => no_column(pattern, list.patterns, object),
                (true, None) => wide(list.patterns).map(|wide| format!("matches no object; {}", renamed(wide))),
            };
            found.extend(why.map(|why| ExposedLine {
                line: format!("`{pattern}` in `{}`", list.key),
                why,
            }));
        }
    }
    found
}

/// Returns a pattern that grants an object regardless of its name.
fn wide(patterns: &[Pattern]) -> Option<&Pattern> {
    patterns.iter().find(|pattern| !pattern.excludes && !pattern.is_literal())
}

fn renamed(wide: &Pattern) -> String {
    format!("if it was renamed, `{wide}` now grants it; write its current name, or remove the line")
}

/// Returns the reason if the columns of a pattern have no effect, because the whole table is granted as well.
fn idle(pattern: &Pattern, patterns: &[Pattern]) -> Option<String> {
    let meant = |other: &&Pattern| {
        let (schema, name) = (pattern.schema.literal(), pattern.name.literal());
        other.columns.is_empty() && schema.zip(name).is_some_and(|(schema, name)| other.matches(&schema, &name))
    };
    let (excluded, whole): (Vec<&Pattern>, Vec<&Pattern>) = patterns.iter().filter(meant).partition(|other| other.excludes);
    let whole = whole.first().filter(|_| !pattern.columns.is_empty() && excluded.is_empty())?;
    let (schema, name) = (&pattern.schema, &pattern.name);
    Some(format!(
        "does not exclude the other columns, since `{whole}` grants them; add `!{schema}.{name}`, or remove the line"
    ))
}

/// Returns the reason if a column to be withheld from a granted table does not exist.
fn no_column(pattern: &Pattern, patterns: &[Pattern], object: &CatalogObject) -> Option<String> {
    let missing = |column: &String| object.columns.iter().all(|there| there.name != *column);
    let missing = pattern.columns.iter().filter_map(super::NameGlob::literal).find(missing)?;
    let given = by_name(patterns, object) != ColumnSet::Nothing;
    let why = format!("excludes a column {missing} that does not exist; if it was renamed, it is now granted");
    given.then(|| format!("{why}; write its current name, or remove it"))
}

/// Returns the tables that are granted with more of their partitions than is granted on the partitions themselves.
pub(super) fn parts(rights: &Rights, snapshot: &CatalogSnapshot) -> Vec<String> {
    let (tables, nameable) = (TableIndex::of(snapshot), snapshot.nameable());
    let mut found: BTreeMap<(&str, String), Vec<String>> = BTreeMap::new();
    for list in lists(rights).iter().filter(|list| list.kind == ObjectKind::Table) {
        let parts = snapshot.objects.iter().filter(|object| object.kind == ObjectKind::Table);
        for part in parts.filter(|part| !part.parents.is_empty() && nameable(part)) {
            let Some(left) = left_of(rights, list, part) else { continue };
            for table in tables.above(part) {
                if rights.mask(part).and(rights.mask(table)).is_some() {
                    // Nothing is granted on partitions of a masked table, so there can be no view of this one.
                    continue;
                }
                if let Some(what) = excess(&left, &given(rights, list.patterns, table, &tables), part) {
                    let parts = found.entry((list.key, table.shown())).or_default();
                    parts.push(format!("{what} of {}", part.shown()));
                }
            }
        }
    }
    let told = |((key, table), parts): ((&str, String), Vec<String>)| {
        let (first, others) = (parts.first().map_or("", String::as_str), parts.len().saturating_sub(1));
        let more = if others > 0 {
            format!(" (and {others} more)")
        } else {
            String::new()
        };
        format!(
            "`{key}` grants {table}, and with it what is excluded in its partitions or children: {first}{more}. Exclude that in {table}, which covers them too, or remove the exclusions"
        )
    };
    found.into_iter().map(told).collect()
}

/// Returns the readable rest of a table of which something is withheld; masks count only for reading.
fn left_of(rights: &Rights, list: &DefinitionList<'_>, table: &CatalogObject) -> Option<ColumnSet> {
    let mask = rights.mask(table).filter(|_| list.privilege == "SELECT");
    let choice = by_name(list.patterns, table);
    if mask.is_none() && (choice == ColumnSet::Whole || choice == ColumnSet::Nothing && !is_excluded(list.patterns, table)) {
        return None;
    }
    let masked = |column: &str| mask.is_some_and(|mask| mask.columns.iter().any(|(masked, _)| masked == column));
    let columns = table.columns.iter().map(|column| column.name.as_str());
    let left = columns.filter(|column| !masked(column)).map(str::to_owned).collect();
    Some(choice.within(&left))
}

/// Returns the withheld columns of a partition that become readable through its table, as text.
fn excess(left: &ColumnSet, given: &ColumnSet, part: &CatalogObject) -> Option<String> {
    let has = |choice: &ColumnSet, column: &str| match choice {
        ColumnSet::Nothing => false,
        ColumnSet::Whole => true,
        ColumnSet::Columns(columns) => columns.contains(column),
    };
    match (left, given) {
        (_, ColumnSet::Nothing) => None,
        (ColumnSet::Nothing, _) => Some("all".to_owned()),
        _ => {
            let columns = part.columns.iter().map(|column| column.name.as_str());
            let columns: Vec<&str> = columns.filter(|column| has(given, column) && !has(left, column)).collect();
            (!columns.is_empty()).then(|| columns.join(", "))
        }
    }
}

/// Returns the first relation that a view reads and the profile withholds from its readers.
pub(super) fn kept_read<'a>(
    profile: &PlannedProfile<'_>,
    view: &'a CatalogObject,
    tables: &TableIndex<'a>,
) -> Option<&'a CatalogObject> {
    let rights = profile.rights;
    let [select, ..] = lists(rights);
    let kept = |object: &CatalogObject| {
        let left = left_of(rights, &select, object);
        left.is_some_and(|left| excess(&left, &ColumnSet::Whole, object).is_some())
    };
    // The profile's own views show masked values already.
    let own = |object: &CatalogObject| object.schema == profile.role.as_str();
    let mut read = tables.read_by(view, own).into_iter();
    read.find(|read| kept(read) || tables.above(read).into_iter().any(kept))
}

/// Returns a warning for each view that reads withheld data: those that are granted, and those that a wildcard would grant.
pub(super) fn views(around: &[(&CatalogObject, &CatalogObject, bool)]) -> Vec<String> {
    let told = |(view, kept, given): &(&CatalogObject, &CatalogObject, bool)| {
        let (view, kept) = (view.shown(), kept.shown());
        let end = if *given {
            "granted, since `select` names it"
        } else {
            "not granted; to grant it, name it in `select`"
        };
        format!("the view {view} reads {kept} with its owner's rights and may show excluded or masked data: {end}")
    };
    around.iter().map(told).collect()
}
