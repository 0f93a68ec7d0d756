//! Rights on objects created later: the default privileges that a profile needs, and those it has beyond that.
//!
//! It grants nothing on existing objects. PostgreSQL's default privileges know schemas but no names, so they are used only if a
//! pattern covers everything in a schema. They know no exceptions either: an object created later, in any schema, can be a
//! partition of a table or a view that reads it, and a table can come back under another name. INVARIANT: a list that withholds
//! anything of any table grants nothing on later tables, in no schema; `apply` does, which sees these objects.

use std::collections::{BTreeMap, BTreeSet};

use super::catalogue::{CatalogObject, CatalogSnapshot, DefaultRight, ObjectKind};
use super::column_set::{DefinitionList, lists};
use super::desired::DesiredAcl;
use super::plan::{PlanStep, PlannedProfile};
use super::role::alter_defaults;
use super::{NameGlob, Pattern, Rights};

/// Differences in default privileges.
#[derive(Debug, Default)]
pub(super) struct DefaultPrivilegesDifference {
    pub(super) revoke: Vec<PlanStep>,
    pub(super) grant: Vec<PlanStep>,
    pub(super) blocked: Vec<String>,
    pub(super) excess: Vec<String>,
    pub(super) warnings: Vec<String>,
}

pub(super) fn compare(
    profile: &PlannedProfile<'_>,
    wants: &DesiredAcl<'_>,
    snapshot: &CatalogSnapshot,
) -> DefaultPrivilegesDifference {
    let mut later = DefaultPrivilegesDifference::default();
    let mut wanted = BTreeSet::new();
    let mut not_given: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let known = |list: &&DefinitionList<'_>| profile.rights.future && list.is_known_to(snapshot.version);
    for list in lists(profile.rights).iter().filter(known) {
        for schema in whole_schemas(list, snapshot) {
            match hole(profile.rights, list, &schema.name) {
                None => wanted.extend(in_schema(profile, list, wants, schema)),
                Some(hole) => {
                    let keys = not_given.entry(hole).or_default();
                    let key = format!("`{}`", list.key);
                    if !keys.contains(&key) {
                        keys.push(key);
                    }
                }
            }
        }
    }
    for (hole, keys) in not_given {
        later.warnings.push(format!(
            "{} does not cover objects created later, since they could show what {hole} excludes; run `tidegate target apply` after migrations",
            keys.join(", ")
        ));
    }
    // Default privileges of the role's own objects were not granted by others.
    let role = profile.role.as_str();
    let own = |right: &&DefaultRight| right.role.as_deref() == Some(role) && right.owner != role;
    let held: BTreeSet<DefaultRight> = snapshot.defaults.iter().filter(own).cloned().collect();
    for right in held.difference(&wanted) {
        let step = step(right, profile, false);
        let owner = &right.owner;
        if snapshot.acts_as(owner) {
            later.revoke.push(step);
        } else {
            let sql = step.sql;
            later.excess.push(format!(
                "{owner} grants it rights on future objects, and this account cannot change that; as {owner}: {sql}"
            ));
        }
    }
    let mut owners = BTreeSet::new();
    for right in wanted.difference(&held) {
        later.grant.push(step(right, profile, true));
        if !snapshot.acts_as(&right.owner) && owners.insert(&right.owner) {
            let owner = &right.owner;
            let why = format!("this account may not set default privileges of {owner}; apply as {owner} or a superuser (--user)");
            later.blocked.push(why);
        }
    }
    later
}

/// Returns the schemas that a list covers completely.
fn whole_schemas<'a>(list: &DefinitionList<'_>, snapshot: &'a CatalogSnapshot) -> Vec<&'a CatalogObject> {
    let nameable = snapshot.nameable();
    let schemas = snapshot.objects.iter().filter(|object| object.kind == ObjectKind::Schema);
    let all = |pattern: &&Pattern| !pattern.excludes && pattern.columns.is_empty() && pattern.name.is_all();
    let whole = |schema: &&CatalogObject| {
        list.patterns
            .iter()
            .filter(all)
            .any(|pattern| pattern.schema.matches(&schema.name))
    };
    schemas.filter(|schema| nameable(schema)).filter(whole).collect()
}

/// Returns the default privileges that a list needs in a schema, for the owners of the objects it grants there. (Objects of
/// sessions are not granted, so no role of a profile or grant is among the owners: their later objects are theirs alone, too.)
fn in_schema(
    profile: &PlannedProfile<'_>,
    list: &DefinitionList<'_>,
    wants: &DesiredAcl<'_>,
    schema: &CatalogObject,
) -> Vec<DefaultRight> {
    let mut owners: BTreeSet<&str> = wants
        .objects
        .iter()
        .filter(|(object, want)| object.kind == list.kind && object.schema == schema.name && want.0.contains_key(list.privilege))
        .map(|(object, _)| object.owner.as_str())
        .collect();
    if owners.is_empty() {
        owners.insert(&schema.owner);
    }
    let right = |owner: &str| DefaultRight {
        owner: owner.to_owned(),
        schema: Some(schema.name.clone()),
        kind: word(list.kind).to_owned(),
        role: Some(profile.role.to_string()),
        privilege: list.privilege.to_owned(),
    };
    owners.into_iter().map(right).collect()
}

/// Returns the kind in the words of `ALTER DEFAULT PRIVILEGES`.
fn word(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Sequence => "SEQUENCES",
        ObjectKind::Routine => "ROUTINES",
        ObjectKind::Database | ObjectKind::Schema | ObjectKind::Table => "TABLES",
    }
}

/// Returns a withheld part that an object created later in the schema could be, contain or show. For tables the schema does not
/// matter, because partitions and views may be in another one. (A mask counts for all lists: no list grants anything on
/// partitions of a masked table.)
fn hole(rights: &Rights, list: &DefinitionList<'_>, schema: &str) -> Option<String> {
    let table = list.kind == ObjectKind::Table;
    let keeps_back = |pattern: &&Pattern| {
        let there = || pattern.excludes && pattern.schema.matches(schema);
        table && (pattern.excludes || !pattern.columns.is_empty()) || there()
    };
    let kept = list.patterns.iter().find(keeps_back).map(|pattern| format!("`{pattern}`"));
    let mask = || {
        rights
            .masks
            .first()
            .map(|mask| format!("the mask of {}.{}", mask.schema, mask.name))
    };
    kept.or_else(|| mask().filter(|_| table))
}

/// Returns the patterns with wildcards that default privileges cannot express.
pub(super) fn not_covered(rights: &Rights) -> Vec<String> {
    let partial = |pattern: &&Pattern| {
        let wild = |glob: &NameGlob| glob.literal().is_none();
        !pattern.excludes
            && (!pattern.name.is_all() && wild(&pattern.name) || pattern.name.is_all() && !pattern.columns.is_empty())
    };
    let mut patterns: Vec<String> = Vec::new();
    for list in lists(rights) {
        patterns.extend(list.patterns.iter().filter(partial).map(|pattern| format!("`{pattern}`")));
    }
    patterns.sort();
    patterns.dedup();
    patterns
}

fn step(right: &DefaultRight, profile: &PlannedProfile<'_>, give: bool) -> PlanStep {
    let (verb, direction, why) = if give {
        ("GRANT", "TO", "covers objects created later")
    } else {
        ("REVOKE", "FROM", "the profile does not cover objects created later there")
    };
    let alter = alter_defaults(&right.owner, right.schema.as_deref());
    let (privilege, kind, role) = (&right.privilege, &right.kind, profile.role.quoted());
    PlanStep::new(format!("{alter} {verb} {privilege} ON {kind} {direction} {role}"), why)
}
