//! Rights on objects that are made later: which default privileges a profile needs, and which it has beyond that.
//!
//! The law: PostgreSQL's default privileges know schemas, not names. So they are used only where a pattern means everything in a
//! schema and nothing in it is excluded or masked: a table that is dropped and made again must not come back readable.

use std::collections::BTreeSet;

use super::catalogue::{DefaultRight, Kind, Snapshot};
use super::plan::{Profile, Step};
use super::role::quoted;
use super::wants::{Wants, table_lists};
use super::{Glob, Pattern, Rights};

/// What differs.
#[derive(Debug, Default)]
pub(super) struct Later {
    pub(super) revoke: Vec<Step>,
    pub(super) grant: Vec<Step>,
    pub(super) blocked: Vec<String>,
    pub(super) warnings: Vec<String>,
}

/// One list of a definition.
struct List<'a> {
    key: &'static str,
    kind: Kind,
    privilege: &'static str,
    patterns: &'a [Pattern],
}

impl List<'_> {
    /// The word of `ALTER DEFAULT PRIVILEGES`.
    fn word(&self) -> &'static str {
        match self.kind {
            Kind::Sequence => "SEQUENCES",
            Kind::Routine => "ROUTINES",
            Kind::Database | Kind::Schema | Kind::Table => "TABLES",
        }
    }
}

fn lists(rights: &Rights) -> Vec<List<'_>> {
    let tables = table_lists(rights).into_iter().map(|(key, privilege, patterns)| List {
        key,
        kind: Kind::Table,
        privilege,
        patterns,
    });
    let others = [
        ("usage", Kind::Sequence, "USAGE", &rights.usage),
        ("execute", Kind::Routine, "EXECUTE", &rights.execute),
    ];
    let others = others.into_iter().map(|(key, kind, privilege, patterns)| List {
        key,
        kind,
        privilege,
        patterns,
    });
    tables.chain(others).collect()
}

pub(super) fn compare(profile: &Profile<'_>, wants: &Wants<'_>, snapshot: &Snapshot) -> Later {
    let mut later = Later::default();
    let mut wanted = BTreeSet::new();
    if profile.rights.future {
        for list in lists(profile.rights) {
            wanted.extend(of_list(profile, &list, wants, snapshot, &mut later.warnings));
        }
    }
    let own = |right: &&DefaultRight| right.role.as_deref() == Some(profile.role.as_str());
    let held: BTreeSet<DefaultRight> = snapshot.defaults.iter().filter(own).cloned().collect();
    for right in held.difference(&wanted) {
        later.revoke.push(step(right, profile, false));
    }
    for right in wanted.difference(&held) {
        later.grant.push(step(right, profile, true));
    }
    let changed = held.symmetric_difference(&wanted);
    let owners: BTreeSet<&str> = changed.map(|right| right.owner.as_str()).collect();
    for owner in owners {
        if !snapshot.account.acts_as.iter().any(|may| may == owner) {
            let why = format!("this account may not say what objects that {owner} makes later come with: {owner} may");
            later.blocked.push(why);
        }
    }
    later
}

/// What one list needs.
fn of_list(
    profile: &Profile<'_>,
    list: &List<'_>,
    wants: &Wants<'_>,
    snapshot: &Snapshot,
    warnings: &mut Vec<String>,
) -> Vec<DefaultRight> {
    let (mut rights, nameable) = (Vec::new(), snapshot.nameable());
    let schemas = snapshot.objects.iter().filter(|object| object.kind == Kind::Schema);
    for schema in schemas.filter(|schema| nameable(&schema.name)) {
        let all = |pattern: &&Pattern| !pattern.excludes && pattern.columns.is_empty() && pattern.name.is_all();
        if !list
            .patterns
            .iter()
            .filter(all)
            .any(|pattern| pattern.schema.matches(&schema.name))
        {
            continue;
        }
        if let Some(hole) = hole(profile.rights, list, &schema.name) {
            let (key, name) = (list.key, &schema.name);
            warnings.push(format!(
                "what is made in {name} later is not covered by `{key}` until the next apply: it could be what {hole} keeps back"
            ));
            continue;
        }
        let mut owners: BTreeSet<&str> = wants
            .objects
            .iter()
            .filter(|(object, want)| {
                object.kind == list.kind && object.schema == schema.name && want.0.contains_key(list.privilege)
            })
            .map(|(object, _)| object.owner.as_str())
            .filter(|owner| *owner != profile.role.as_str())
            .collect();
        if owners.is_empty() {
            owners.insert(&schema.owner);
        }
        rights.extend(owners.into_iter().map(|owner| DefaultRight {
            owner: owner.to_owned(),
            schema: Some(schema.name.clone()),
            kind: list.word().to_owned(),
            role: Some(profile.role.to_string()),
            privilege: list.privilege.to_owned(),
        }));
    }
    rights
}

/// What could be meant by something that is made in the schema later.
fn hole(rights: &Rights, list: &List<'_>, schema: &str) -> Option<String> {
    let excluded = list
        .patterns
        .iter()
        .find(|pattern| pattern.excludes && pattern.schema.matches(schema))
        .map(|pattern| format!("`{pattern}`"));
    let masked = || {
        let mask = rights.masks.iter().find(|mask| mask.schema == schema)?;
        Some(format!("the mask of {}.{}", mask.schema, mask.name))
    };
    match list.kind {
        Kind::Table => excluded.or_else(masked),
        _ => excluded,
    }
}

/// Patterns with wildcards that default privileges cannot say.
pub(super) fn not_covered(rights: &Rights) -> Vec<String> {
    let partial = |pattern: &&Pattern| {
        let wild = |glob: &Glob| glob.literal().is_none();
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

fn step(right: &DefaultRight, profile: &Profile<'_>, give: bool) -> Step {
    let DefaultRight {
        owner,
        schema,
        kind,
        privilege,
        ..
    } = right;
    let within = schema
        .as_ref()
        .map(|schema| format!(" IN SCHEMA {}", quoted(schema)))
        .unwrap_or_default();
    let (owner, role) = (quoted(owner), profile.role.quoted());
    let (verb, direction, why) = if give {
        ("GRANT", "TO", "what is made later is covered too")
    } else {
        ("REVOKE", "FROM", "the profile does not cover what is made later there")
    };
    Step::new(
        format!("ALTER DEFAULT PRIVILEGES FOR ROLE {owner}{within} {verb} {privilege} ON {kind} {direction} {role}"),
        why.to_owned(),
    )
}
