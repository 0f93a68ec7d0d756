//! What is no difference between a profile and the database, and should be known all the same.
//!
//! It forbids nothing. INVARIANT: nothing that a profile's role can do by being one of everybody goes unsaid.

use std::collections::{BTreeMap, BTreeSet};

use super::catalogue::{Kind, Nature, Snapshot, is_system};
use super::choice::{Choice, names_something};
use super::future;
use super::plan::Profile;
use super::wants::{Wants, table_lists};

/// How many names one warning has.
const SHOWN: usize = 5;

pub(super) fn all(profile: &Profile<'_>, wants: &Wants<'_>, snapshot: &Snapshot) -> Vec<String> {
    let mut warnings = nothing_matched(profile, snapshot);
    if profile.rights.future {
        let patterns = future::not_covered(profile.rights);
        if !patterns.is_empty() {
            let patterns = patterns.join(", ");
            warnings.push(format!(
                "what {patterns} could name later is not covered until the next apply: default privileges know schemas, not names"
            ));
        }
    }
    warnings.extend(shows_what_is_kept_back(profile, wants));
    warnings
}

fn nothing_matched(profile: &Profile<'_>, snapshot: &Snapshot) -> Vec<String> {
    let (rights, nameable) = (profile.rights, snapshot.nameable());
    let of = |kind: Kind| {
        let nameable = &nameable;
        snapshot
            .objects
            .iter()
            .filter(move |object| object.kind == kind && nameable(&object.schema))
    };
    let mut warnings = Vec::new();
    let tables = table_lists(rights).map(|(key, _, patterns)| (key, Kind::Table, patterns));
    let others = [
        ("usage", Kind::Sequence, rights.usage.as_slice()),
        ("execute", Kind::Routine, rights.execute.as_slice()),
    ];
    for (key, kind, patterns) in tables.into_iter().chain(others) {
        for pattern in patterns {
            if !of(kind).any(|object| names_something(pattern, object)) {
                warnings.push(format!("`{pattern}` in `{key}` matches nothing that is there"));
            }
        }
    }
    for (key, globs) in [
        ("schemas", rights.schemas.as_deref().unwrap_or_default()),
        ("create", &rights.create),
    ] {
        for glob in globs {
            if !of(Kind::Schema).any(|schema| glob.matches(&schema.name)) {
                warnings.push(format!("`{glob}` in `{key}` matches no schema that is there"));
            }
        }
    }
    for mask in &rights.masks {
        if !of(Kind::Table).any(|table| table.key() == (&mask.schema, &mask.name)) {
            warnings.push(format!("{}.{}, which is to be masked, is not there", mask.schema, mask.name));
        }
    }
    warnings
}

/// Ways around masks and columns that the profile is given itself.
fn shows_what_is_kept_back(profile: &Profile<'_>, wants: &Wants<'_>) -> Vec<String> {
    let masked: BTreeSet<(&str, &str)> = profile.rights.masks.iter().map(|mask| (&*mask.schema, &*mask.name)).collect();
    let mut kept_back = masked.clone();
    for (object, want) in &wants.objects {
        let excluded = profile
            .rights
            .select
            .iter()
            .any(|pattern| pattern.excludes && pattern.matches(&object.schema, &object.name));
        if object.kind == Kind::Table && (excluded || matches!(want.get("SELECT"), Choice::Columns(_))) {
            kept_back.insert(object.key());
        }
    }
    let mut warnings = Vec::new();
    for (object, want) in &wants.objects {
        let read = object
            .reads
            .iter()
            .find(|(schema, name)| kept_back.contains(&(&**schema, &**name)));
        if let (Some((schema, name)), Choice::Whole | Choice::Columns(_)) = (read, want.get("SELECT")) {
            warnings.push(format!(
                "the view {} reads {schema}.{name} with its owner's rights, and may show what is kept back of it: exclude the view, or mask it",
                object.shown()
            ));
        }
        if object.nature == Nature::RowSecurity && masked.contains(&object.key()) {
            warnings.push(format!(
                "{} has row security, which its view with masks does not keep to: the view reads with its owner's rights",
                object.shown()
            ));
        }
    }
    warnings
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
    for right in snapshot.defaults.iter().filter(|right| right.role.is_none()) {
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
