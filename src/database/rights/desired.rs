//! Privileges that a profile's role is to have on each existing object, by its definition.
//!
//! It does not compare them with the held ones. INVARIANT: nothing is wanted on objects of the system, on views of other
//! profiles, or on objects that sessions created.

use std::collections::BTreeSet;

use super::catalogue::{CatalogObject, CatalogSnapshot, ObjectKind};
use super::column_set::{ColumnSet, DefinitionList, DesiredPrivileges, TableIndex, by_name, given, lists};
use super::exposure;
use super::plan::PlannedProfile;
use super::view::MaskView;

/// Wanted privileges of a definition.
#[derive(Debug, Default)]
pub(super) struct DesiredAcl<'a> {
    /// All existing objects with the privileges wanted on them, in the catalogue's order.
    pub(super) objects: Vec<(&'a CatalogObject, DesiredPrivileges)>,
    /// Needed views, with the privileges wanted on them.
    pub(super) views: Vec<(MaskView, DesiredPrivileges)>,
    /// Reasons for tables whose masks cannot be created.
    pub(super) not_masked: Vec<String>,
    /// Views that patterns name and that read withheld data: the view, the first withheld relation, and true if the view is
    /// granted.
    pub(super) around: Vec<(&'a CatalogObject, &'a CatalogObject, bool)>,
    /// Objects that patterns would name if sessions of others had not created them.
    pub(super) foreign: Vec<&'a CatalogObject>,
}

impl<'a> DesiredAcl<'a> {
    pub(super) fn of(profile: &PlannedProfile<'_>, snapshot: &'a CatalogSnapshot) -> Self {
        let nothing = |object| (object, DesiredPrivileges::default());
        let mut wants = Self {
            objects: snapshot.objects.iter().map(nothing).collect(),
            ..Self::default()
        };
        let tables = TableIndex::of(snapshot);
        wants.in_schemas(profile, snapshot, &tables);
        wants.withhold(profile, &tables);
        wants.masks(profile, snapshot);
        wants.schemas(profile, snapshot);
        wants.database(profile);
        wants
    }

    fn in_schemas(&mut self, profile: &PlannedProfile<'_>, snapshot: &'a CatalogSnapshot, tables: &TableIndex<'a>) {
        let (rights, nameable, open) = (profile.rights, snapshot.nameable(), snapshot.open_schemas());
        for (object, want) in &mut self.objects {
            let known = |list: &&DefinitionList<'_>| list.kind == object.kind && list.is_known_to(snapshot.version);
            if !nameable(object) {
                let mut known = lists(rights).into_iter().filter(|list| known(&list));
                let named = known.any(|list| by_name(list.patterns, object) != ColumnSet::Nothing);
                if named && open(&object.schema) && object.owner != profile.role.as_str() {
                    self.foreign.push(object);
                }
                continue;
            }
            for list in lists(rights).iter().filter(known) {
                want.0.insert(list.privilege, given(rights, list.patterns, object, tables));
            }
            want.0.retain(|_, choice| *choice != ColumnSet::Nothing);
        }
    }

    /// Withholds views that read withheld data, because a view shows what its owner may read: such a view is granted only if
    /// `select` names it, not by a wildcard. (A masked view is named by its mask, and is shown with it.)
    fn withhold(&mut self, profile: &PlannedProfile<'_>, tables: &TableIndex<'a>) {
        let rights = profile.rights;
        let named = |view: &CatalogObject| {
            let mut patterns = rights.select.iter();
            patterns.any(|pattern| !pattern.excludes && pattern.is_literal() && pattern.matches(&view.schema, &view.name))
        };
        for (view, want) in &mut self.objects {
            if *want.get("SELECT") == ColumnSet::Nothing || rights.mask(view).is_some() {
                continue;
            }
            if let Some(kept) = exposure::kept_read(profile, view, tables) {
                let given = named(view);
                if !given {
                    want.0.remove("SELECT");
                }
                self.around.push((view, kept, given));
            }
        }
    }

    /// Moves the privileges wanted on a masked table to its view.
    fn masks(&mut self, profile: &PlannedProfile<'_>, snapshot: &CatalogSnapshot) {
        let nameable = snapshot.nameable();
        for mask in &profile.rights.masks {
            let key = (&*mask.schema, &*mask.name);
            let found = self
                .objects
                .iter_mut()
                .find(|(object, _)| object.kind == ObjectKind::Table && object.key() == key && nameable(object));
            let Some((table, want)) = found else { continue };
            let of_table = std::mem::take(want);
            match MaskView::of(profile.role, mask, table, of_table.get("SELECT")) {
                Ok(view) => {
                    let want = view.wanted(&of_table);
                    self.views.push((view, want));
                }
                Err(why) => self.not_masked.push(why),
            }
        }
    }

    /// Adds the schemas in which something is wanted, or those that the definition names.
    fn schemas(&mut self, profile: &PlannedProfile<'_>, snapshot: &CatalogSnapshot) {
        let (rights, nameable) = (profile.rights, snapshot.nameable());
        let used: BTreeSet<String> = self
            .objects
            .iter()
            .filter(|(_, want)| !want.0.is_empty())
            .map(|(object, _)| object.schema.clone())
            .collect();
        let own = profile.role.as_str();
        for (object, want) in &mut self.objects {
            if object.kind != ObjectKind::Schema {
                continue;
            }
            if object.name == own && !self.views.is_empty() {
                want.whole("USAGE");
            }
            if !nameable(object) {
                continue;
            }
            let create = rights.create.iter().any(|glob| glob.matches(&object.name));
            let usage = match &rights.schemas {
                Some(named) => named.iter().any(|glob| glob.matches(&object.name)),
                None => used.contains(&object.name),
            };
            if create {
                want.whole("CREATE");
            }
            if create || usage {
                want.whole("USAGE");
            }
        }
    }

    /// Adds CONNECT on the database. If everybody has it and the account cannot grant it, that is reported as a warning.
    fn database(&mut self, profile: &PlannedProfile<'_>) {
        for (object, want) in &mut self.objects {
            let held = |role: Option<&str>| {
                object
                    .held
                    .iter()
                    .any(|held| held.role.as_deref() == role && held.privilege == "CONNECT")
            };
            let may = object.may_grant.iter().any(|privilege| privilege == "CONNECT");
            if object.kind == ObjectKind::Database && (may || !held(None) || held(Some(profile.role.as_str()))) {
                want.whole("CONNECT");
            }
        }
    }
}
