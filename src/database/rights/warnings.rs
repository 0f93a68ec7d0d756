//! Warnings about facts that are no difference between a profile and the database.
//!
//! It forbids nothing. INVARIANT: every right that a profile's role has through `PUBLIC` is reported.

use std::collections::{BTreeMap, BTreeSet};

use super::catalogue::{
    CatalogObject, CatalogSnapshot, DefaultRight, ObjectKind, ObjectNature, RowPolicy, is_system, makes_large_objects,
};
use super::column_set::{ColumnSet, DesiredPrivileges, lists, names_something};
use super::desired::DesiredAcl;
use super::exposure::{self, ExposedLine};
use super::plan::PlannedProfile;
use super::view::MaskView;
use super::{Rights, default_privileges};

/// Maximum number of names in one warning.
const MAX_SHOWN_NAMES: usize = 5;

pub(super) fn all(
    profile: &PlannedProfile<'_>,
    wants: &DesiredAcl<'_>,
    snapshot: &CatalogSnapshot,
    mistaken: &[ExposedLine],
) -> Vec<String> {
    let mut warnings = nothing_matched(profile.rights, snapshot);
    warnings.retain(|(line, _)| mistaken.iter().all(|mistaken| mistaken.line != *line));
    let mut warnings: Vec<String> = warnings.into_iter().map(|(line, what)| format!("{line} {what}")).collect();
    if profile.rights.future {
        let patterns = default_privileges::not_covered(profile.rights);
        if !patterns.is_empty() {
            let patterns = patterns.join(", ");
            warnings.push(format!(
                "objects created later that match {patterns} are covered only by the next apply: default privileges have no names"
            ));
        }
    }
    for list in lists(profile.rights) {
        if !list.patterns.is_empty() && !list.is_known_to(snapshot.version) {
            warnings.push(format!(
                "`{}` has no effect here: PostgreSQL has {} since version 17",
                list.key, list.privilege
            ));
        }
    }
    warnings.extend(exposure::views(&wants.around));
    warnings.extend(made_by_sessions(wants));
    warnings.extend(triggers(wants));
    warnings.extend(row_security(profile, wants));
    warnings.extend(inserts(profile.rights, wants));
    let masked = snapshot.objects.iter().filter(|object| object.kind == ObjectKind::Table);
    for table in masked.filter(|table| table.nature == ObjectNature::RowSecurity && profile.rights.mask(table).is_some()) {
        warnings.push(format!(
            "{} has row security, but its view with masks bypasses it: the view reads with its owner's rights",
            table.shown()
        ));
    }
    warnings
}

/// Returns the first names, and the number of further ones.
pub(super) fn first(names: &[String], most: usize) -> String {
    let shown = names.iter().take(most).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(most) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Warns about `trigger`: sessions can put code on tables that runs with the rights of others.
fn triggers(wants: &DesiredAcl<'_>) -> Option<String> {
    let given = wants
        .objects
        .iter()
        .filter(|(_, want)| *want.get("TRIGGER") != ColumnSet::Nothing);
    let tables: Vec<String> = given.map(|(table, _)| table.shown()).collect();
    (!tables.is_empty()).then(|| {
        format!(
            "`trigger` lets sessions put code on {}; it sees whole rows and runs with the rights of every writer (the owner, a superuser, another profile) during the grant; use it only if testers are as trusted as the writers",
            first(&tables, MAX_SHOWN_NAMES)
        )
    })
}

/// Warns about objects that sessions of others created under names that patterns match, in one sentence for each owner.
fn made_by_sessions(wants: &DesiredAcl<'_>) -> Vec<String> {
    let mut owners: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for object in &wants.foreign {
        owners.entry(&object.owner).or_default().push(object.shown());
    }
    let told = |(owner, objects): (&str, Vec<String>)| {
        let was = if objects.len() == 1 { "was" } else { "were" };
        let shown = first(&objects, MAX_SHOWN_NAMES);
        format!(
            "{shown} {was} made under {owner} and {was} not granted: only the profile may use what its sessions create; to grant it, change its owner (ALTER ... OWNER TO)"
        )
    };
    owners.into_iter().map(told).collect()
}

/// Warns about INSERT into a table with masks: masked columns get their default.
fn inserts(rights: &Rights, wants: &DesiredAcl<'_>) -> Vec<String> {
    let inserted = wants
        .views
        .iter()
        .filter(|(_, want)| *want.get("INSERT") != ColumnSet::Nothing);
    let told = |(view, _): &(MaskView, DesiredPrivileges)| {
        let mask = rights.masks.iter().find(|mask| mask.name == view.name)?;
        let columns: Vec<&str> = mask.columns.iter().map(|(column, _)| column.as_str()).collect();
        Some(format!(
            "INSERT into {} leaves masked columns out ({}); it fails if one of them is NOT NULL without a default",
            view.table,
            columns.join(", ")
        ))
    };
    inserted.filter_map(told).collect()
}

/// Warns about row security that does not work as intended on tables that the profile reads: all sessions have the profile's
/// role, regardless of their identity.
fn row_security(profile: &PlannedProfile<'_>, wants: &DesiredAcl<'_>) -> Vec<String> {
    let role = profile.role.as_str();
    let mut found = Vec::new();
    for (table, want) in &wants.objects {
        if table.nature != ObjectNature::RowSecurity || want.0.is_empty() {
            continue;
        }
        let shown = table.shown();
        let for_it = |policy: &&RowPolicy| policy.everybody || policy.roles.iter().any(|named| named == role);
        let policies: Vec<&RowPolicy> = table.policies.iter().filter(for_it).collect();
        if policies.is_empty() {
            found.push(format!(
                "{shown} has row security without a policy for {role}, so its sessions see no rows; as {}: CREATE POLICY ... ON {} TO {}",
                table.owner,
                table.quoted(),
                profile.role.quoted()
            ));
        }
        let by_user: Vec<&str> = policies
            .iter()
            .filter(|policy| policy.by_user)
            .map(|policy| policy.name.as_str())
            .collect();
        if !by_user.is_empty() {
            found.push(format!(
                "{shown} has row security by user ({}), which does not distinguish sessions of the profile: current_user is {role} for all of them, session_user is the role of a grant",
                by_user.join(", ")
            ));
        }
    }
    found
}

/// Returns the lines of the definition that match no existing object.
fn nothing_matched(rights: &Rights, snapshot: &CatalogSnapshot) -> Vec<(String, &'static str)> {
    let nameable = snapshot.nameable();
    let of = |kind: ObjectKind| {
        let nameable = &nameable;
        snapshot
            .objects
            .iter()
            .filter(move |object| object.kind == kind && nameable(object))
    };
    let mut found = Vec::new();
    for list in lists(rights) {
        for pattern in list.patterns {
            if !of(list.kind).any(|object| names_something(pattern, object)) {
                found.push((format!("`{pattern}` in `{}`", list.key), "matches no object"));
            }
        }
    }
    for (key, globs) in [
        ("schemas", rights.schemas.as_deref().unwrap_or_default()),
        ("create", &rights.create),
    ] {
        for glob in globs {
            if !of(ObjectKind::Schema).any(|schema| glob.matches(&schema.name)) {
                found.push((format!("`{glob}` in `{key}`"), "matches no schema"));
            }
        }
    }
    for mask in &rights.masks {
        if !of(ObjectKind::Table).any(|table| table.key() == (&mask.schema, &mask.name)) {
            found.push((format!("the mask of {}.{}", mask.schema, mask.name), "matches no object"));
        }
    }
    found
}

/// Returns the rights of everybody (`PUBLIC`) in the database, which no profile revokes.
#[must_use]
pub fn everybody(snapshot: &CatalogSnapshot) -> Vec<String> {
    let mut found: BTreeMap<(ObjectKind, String, String), Vec<String>> = BTreeMap::new();
    let mut warnings = Vec::new();
    for object in snapshot.objects.iter().filter(|object| !is_system(&object.schema)) {
        let held = object.held.iter().filter(|held| held.role.is_none());
        let privileges: BTreeSet<&str> = held.map(|held| held.privilege.as_str()).collect();
        let privileges = privileges.into_iter().collect::<Vec<_>>().join(", ");
        if privileges.is_empty() {
            continue;
        }
        let shown = object.shown();
        match object.kind {
            ObjectKind::Database | ObjectKind::Schema => {
                let kind = object.kind.word().to_lowercase();
                warnings.push(format!("PUBLIC has {privileges} on the {kind} {shown}"));
            }
            ObjectKind::Routine if object.nature == ObjectNature::Definer => warnings.push(format!(
                "PUBLIC may call {shown}, which runs with the rights of {}",
                object.owner
            )),
            kind => found
                .entry((kind, object.schema.clone(), privileges))
                .or_default()
                .push(object.name.clone()),
        }
    }
    for ((kind, schema, privileges), names) in found {
        let what = match kind {
            ObjectKind::Sequence => "sequences",
            ObjectKind::Routine => "functions",
            _ => "tables",
        };
        let names = first(&names, MAX_SHOWN_NAMES);
        warnings.push(format!("PUBLIC has {privileges} on {what} in {schema}: {names}"));
    }
    warnings.extend(large_objects(snapshot));
    let undone = |right: &DefaultRight| snapshot.own_defaults.iter().any(|own| own.owner == right.owner);
    let everybodys = snapshot.defaults.iter().filter(|right| right.role.is_none());
    for right in everybodys.filter(|right| !undone(right)) {
        let within = right
            .schema
            .as_ref()
            .map(|schema| format!(" in {schema}"))
            .unwrap_or_default();
        let (kind, owner, privilege) = (right.kind.to_lowercase(), &right.owner, &right.privilege);
        warnings.push(format!(
            "PUBLIC will have {privilege} on {kind} that {owner} creates later{within}"
        ));
    }
    warnings
}

/// Warns about functions that create large objects: these belong to the role that created them, stay when a session ends, and are
/// covered by no profile.
fn large_objects(snapshot: &CatalogSnapshot) -> Option<String> {
    let everybodys = |object: &&CatalogObject| object.held.iter().any(|held| held.role.is_none());
    let makers = snapshot.objects.iter().filter(|object| makes_large_objects(object));
    let makers: Vec<String> = makers.filter(everybodys).map(CatalogObject::quoted).collect();
    if makers.is_empty() {
        return None;
    }
    let makers = makers.join(", ");
    Some(format!(
        "PUBLIC may create large objects, which outlive a session; if they are not needed: REVOKE EXECUTE ON FUNCTION {makers} FROM PUBLIC"
    ))
}
