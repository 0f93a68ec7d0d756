//! What is no difference between a profile and the database, and should be known all the same.
//!
//! It forbids nothing. INVARIANT: nothing that a profile's role can do by being one of everybody goes unsaid.

use std::collections::{BTreeMap, BTreeSet};

use super::around::{self, Mistaken};
use super::catalogue::{DefaultRight, Kind, Nature, Object, Snapshot, is_system, makes_large_objects};
use super::choice::names_something;
use super::lists::lists;
use super::plan::Profile;
use super::wants::Wants;
use super::{Rights, future};

/// How many names one warning has.
const SHOWN: usize = 5;

pub(super) fn all(profile: &Profile<'_>, wants: &Wants<'_>, snapshot: &Snapshot, mistaken: &[Mistaken]) -> Vec<String> {
    let mut warnings = nothing_matched(profile.rights, snapshot);
    warnings.retain(|(line, _)| mistaken.iter().all(|mistaken| mistaken.line != *line));
    let mut warnings: Vec<String> = warnings.into_iter().map(|(line, what)| format!("{line} {what}")).collect();
    if profile.rights.future {
        let patterns = future::not_covered(profile.rights);
        if !patterns.is_empty() {
            let patterns = patterns.join(", ");
            warnings.push(format!(
                "what {patterns} could name later is not covered until the next apply: default privileges know schemas, not names"
            ));
        }
    }
    warnings.extend(around::views(wants));
    warnings.extend(wants.foreign.iter().map(|function| {
        let (shown, owner) = (function.shown(), &function.owner);
        format!("{shown} was made under {owner} and runs with its rights: it is not given; if it may be, name it in `execute`")
    }));
    let masked = snapshot.objects.iter().filter(|object| object.kind == Kind::Table);
    for table in masked.filter(|table| table.nature == Nature::RowSecurity && profile.rights.mask(table).is_some()) {
        warnings.push(format!(
            "{} has row security, which its view with masks does not keep to: the view reads with its owner's rights",
            table.shown()
        ));
    }
    warnings
}

/// Lines of the definition that mean nothing that is there.
fn nothing_matched(rights: &Rights, snapshot: &Snapshot) -> Vec<(String, &'static str)> {
    let nameable = snapshot.nameable();
    let of = |kind: Kind| {
        let nameable = &nameable;
        snapshot
            .objects
            .iter()
            .filter(move |object| object.kind == kind && nameable(&object.schema))
    };
    let mut found = Vec::new();
    for list in lists(rights) {
        for pattern in list.patterns {
            if !of(list.kind).any(|object| names_something(pattern, object)) {
                found.push((format!("`{pattern}` in `{}`", list.key), "matches nothing that is there"));
            }
        }
    }
    for (key, globs) in [
        ("schemas", rights.schemas.as_deref().unwrap_or_default()),
        ("create", &rights.create),
    ] {
        for glob in globs {
            if !of(Kind::Schema).any(|schema| glob.matches(&schema.name)) {
                found.push((format!("`{glob}` in `{key}`"), "matches no schema that is there"));
            }
        }
    }
    for mask in &rights.masks {
        if !of(Kind::Table).any(|table| table.key() == (&mask.schema, &mask.name)) {
            found.push((
                format!("the mask of {}.{}", mask.schema, mask.name),
                "matches nothing that is there",
            ));
        }
    }
    found
}

/// What everybody (`PUBLIC`) may do there: no profile takes it away.
#[must_use]
pub fn everybody(snapshot: &Snapshot) -> Vec<String> {
    let mut found: BTreeMap<(Kind, String, String), Vec<String>> = BTreeMap::new();
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
            Kind::Database | Kind::Schema => {
                let kind = object.kind.word().to_lowercase();
                warnings.push(format!("everybody (PUBLIC) has {privileges} on the {kind} {shown}"));
            }
            Kind::Routine if object.nature == Nature::Definer => warnings.push(format!(
                "everybody (PUBLIC) may call {shown}, which runs with the rights of {}",
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
            Kind::Sequence => "sequences",
            Kind::Routine => "functions",
            _ => "tables",
        };
        let more = names.len().saturating_sub(SHOWN);
        let mut names = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
        if more > 0 {
            names.extend([" and ", &more.to_string(), " more"]);
        }
        warnings.push(format!("everybody (PUBLIC) has {privileges} on {what} in {schema}: {names}"));
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
            "everybody (PUBLIC) will have {privilege} on {kind} that {owner} makes later{within}"
        ));
    }
    warnings
}

/// What makes large objects: they belong to whoever makes them, stay when a session ends, and no profile is about them.
fn large_objects(snapshot: &Snapshot) -> Option<String> {
    let everybodys = |object: &&Object| object.held.iter().any(|held| held.role.is_none());
    let makers = snapshot.objects.iter().filter(|object| makes_large_objects(object));
    let makers: Vec<String> = makers.filter(everybodys).map(Object::quoted).collect();
    if makers.is_empty() {
        return None;
    }
    let makers = makers.join(", ");
    Some(format!(
        "everybody (PUBLIC) may make large objects, in which a session can leave things behind; if nobody needs them: REVOKE EXECUTE ON FUNCTION {makers} FROM PUBLIC"
    ))
}
