//! What a profile's definition comes to at the objects there are: which privileges its role is to have on each.
//!
//! It compares nothing with what is held. The law: objects of the system, the views of other profiles, and what sessions made, are never
//! wanted.

use std::collections::{BTreeMap, BTreeSet};

use super::Profile;
use super::around;
use super::catalogue::{Kind, Object, Snapshot};
use super::choice::{Choice, by_name, given};
use super::lists::{List, lists};
use super::tables::Tables;
use super::view::View;

/// The privileges wanted on one object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Want(pub(super) BTreeMap<&'static str, Choice>);

impl Want {
    pub(super) fn whole(&mut self, privilege: &'static str) {
        self.0.insert(privilege, Choice::Whole);
    }

    pub(super) fn get(&self, privilege: &str) -> &Choice {
        self.0.get(privilege).unwrap_or(&Choice::Nothing)
    }
}

/// What a definition comes to.
#[derive(Debug, Default)]
pub(super) struct Wants<'a> {
    /// Objects there are, with what is wanted on them: all of them, in the catalogue's order.
    pub(super) objects: Vec<(&'a Object, Want)>,
    /// Views to be there, with what is wanted on them.
    pub(super) views: Vec<(View, Want)>,
    /// Tables whose masks cannot be made, and why.
    pub(super) not_masked: Vec<String>,
    /// Views that patterns name and that read what is kept back, with the first of that and whether they are given.
    pub(super) around: Vec<(&'a Object, &'a Object, bool)>,
    /// What patterns would name, had sessions of others not made it.
    pub(super) foreign: Vec<&'a Object>,
}

impl<'a> Wants<'a> {
    pub(super) fn of(profile: &Profile<'_>, snapshot: &'a Snapshot) -> Self {
        let mut wants = Self::default();
        for object in &snapshot.objects {
            wants.objects.push((object, Want::default()));
        }
        let tables = Tables::of(snapshot);
        wants.in_schemas(profile, snapshot, &tables);
        wants.withhold(profile, &tables);
        wants.masks(profile, snapshot);
        wants.schemas(profile, snapshot);
        wants.database(profile);
        wants
    }

    fn in_schemas(&mut self, profile: &Profile<'_>, snapshot: &'a Snapshot, tables: &Tables<'a>) {
        let (rights, nameable, open) = (profile.rights, snapshot.nameable(), snapshot.open_schemas());
        for (object, want) in &mut self.objects {
            let known = |list: &&List<'_>| list.kind == object.kind && list.is_known_to(snapshot.version);
            if !nameable(object) {
                let mut known = lists(rights).into_iter().filter(|list| known(&list));
                let named = known.any(|list| by_name(list.patterns, object) != Choice::Nothing);
                if named && open(&object.schema) && object.owner != profile.role.as_str() {
                    self.foreign.push(object);
                }
                continue;
            }
            for list in lists(rights).iter().filter(known) {
                want.0.insert(list.privilege, given(rights, list.patterns, object, tables));
            }
            want.0.retain(|_, choice| *choice != Choice::Nothing);
        }
    }

    /// A view shows what its owner may read: one that reads what is kept back is given to who names it, not by a wildcard. (Who masks
    /// it names it, and is shown it with its masks.)
    fn withhold(&mut self, profile: &Profile<'_>, tables: &Tables<'a>) {
        let rights = profile.rights;
        let named = |view: &Object| {
            let mut patterns = rights.select.iter();
            patterns.any(|pattern| !pattern.excludes && pattern.is_literal() && pattern.matches(&view.schema, &view.name))
        };
        for (view, want) in &mut self.objects {
            if *want.get("SELECT") == Choice::Nothing || rights.mask(view).is_some() {
                continue;
            }
            if let Some(kept) = around::kept_read(profile, view, tables) {
                let given = named(view);
                if !given {
                    want.0.remove("SELECT");
                }
                self.around.push((view, kept, given));
            }
        }
    }

    /// What is wanted on a masked table is wanted on its view instead.
    fn masks(&mut self, profile: &Profile<'_>, snapshot: &Snapshot) {
        let nameable = snapshot.nameable();
        for mask in &profile.rights.masks {
            let key = (&*mask.schema, &*mask.name);
            let found = self
                .objects
                .iter_mut()
                .find(|(object, _)| object.kind == Kind::Table && object.key() == key && nameable(object));
            let Some((table, want)) = found else { continue };
            let of_table = std::mem::take(want);
            match View::of(profile.role, mask, table, of_table.get("SELECT")) {
                Ok(view) => {
                    let want = view.wanted(&of_table);
                    self.views.push((view, want));
                }
                Err(why) => self.not_masked.push(why),
            }
        }
    }

    /// Schemas in which something is wanted; or those the definition names.
    fn schemas(&mut self, profile: &Profile<'_>, snapshot: &Snapshot) {
        let (rights, nameable) = (profile.rights, snapshot.nameable());
        let used: BTreeSet<String> = self
            .objects
            .iter()
            .filter(|(_, want)| !want.0.is_empty())
            .map(|(object, _)| object.schema.clone())
            .collect();
        let own = profile.role.as_str();
        for (object, want) in &mut self.objects {
            if object.kind != Kind::Schema {
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

    /// To be let in; where everybody is and the account cannot do it, that is for the warnings.
    fn database(&mut self, profile: &Profile<'_>) {
        for (object, want) in &mut self.objects {
            let held = |role: Option<&str>| {
                object
                    .held
                    .iter()
                    .any(|held| held.role.as_deref() == role && held.privilege == "CONNECT")
            };
            let may = object.may_grant.iter().any(|privilege| privilege == "CONNECT");
            if object.kind == Kind::Database && (may || !held(None) || held(Some(profile.role.as_str()))) {
                want.whole("CONNECT");
            }
        }
    }
}
