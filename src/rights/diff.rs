//! Compares what a role has on objects with what it is to have, and says it as GRANT and REVOKE.
//!
//! The law: a right on a whole table and rights on its columns do not stand side by side, for taking the one takes the others
//! (ExecGrant_Relation in catalog/aclchk.c).

use std::collections::{BTreeMap, BTreeSet};

use super::catalogue::{Kind, Object, Snapshot};
use super::choice::Choice;
use super::plan::Plan;
use super::role::quoted;
use super::view::View;
use super::wants::Want;

/// How many objects one statement names: it is to be read by people.
const TOGETHER: usize = 50;

/// What is to be given and taken, alike things together.
pub(super) struct Difference<'a> {
    role: &'a str,
    revoke: Vec<Change>,
    grant: Vec<Change>,
    blocked: Vec<String>,
    warnings: Vec<String>,
    /// The roles of profiles.
    profiles: Vec<&'a str>,
}

/// Privileges of one kind of object.
struct Change {
    /// `SELECT, INSERT (a, b)`.
    privileges: String,
    kind: &'static str,
    objects: Vec<String>,
}

impl<'a> Difference<'a> {
    pub(super) fn new(role: &'a str, snapshot: &'a Snapshot) -> Self {
        Self {
            role,
            revoke: Vec::new(),
            grant: Vec::new(),
            blocked: Vec::new(),
            warnings: Vec::new(),
            profiles: snapshot.roles.iter().map(|role| role.name.as_str()).collect(),
        }
    }

    /// An object that is there.
    pub(super) fn object(&mut self, object: &Object, want: &Want) {
        if object.owner == self.role {
            // Made by a grant, and given to the profile when that ended.
            return;
        }
        let (whole, columns) = held(object, self.role);
        let mut privileges: BTreeSet<&str> = want.0.keys().copied().collect();
        privileges.extend(&whole);
        privileges.extend(columns.keys().copied());
        let (mut take, mut give, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        for privilege in ordered(privileges) {
            let none = BTreeSet::new();
            let some = columns.get(privilege).unwrap_or(&none);
            let (before_take, before_give) = (take.len(), give.len());
            match want.get(privilege) {
                Choice::Nothing => take.push(privilege.to_owned()),
                Choice::Whole => {
                    if !some.is_empty() {
                        take.push(listed(privilege, some.iter().copied()));
                    }
                    if !whole.contains(privilege) {
                        give.push(privilege.to_owned());
                    }
                }
                Choice::Columns(wanted) => {
                    let wanted: BTreeSet<&str> = wanted.iter().map(String::as_str).collect();
                    let (extra, missing) = if whole.contains(privilege) {
                        take.push(privilege.to_owned());
                        (BTreeSet::new(), wanted)
                    } else {
                        (some - &wanted, &wanted - some)
                    };
                    if !extra.is_empty() {
                        take.push(listed(privilege, extra));
                    }
                    if !missing.is_empty() {
                        give.push(listed(privilege, missing));
                    }
                }
            }
            let changes = take.len() > before_take || give.len() > before_give;
            if changes && object.may_grant.iter().all(|may| may != privilege) {
                let verb = if give.len() > before_give { "give" } else { "take" };
                refused.push(may_not(object, privilege, verb));
            }
        }
        if !refused.is_empty() && self.profiles.contains(&object.owner.as_str()) {
            let shown = object.shown();
            self.warnings.push(format!(
                "{shown} was made under {}, and is that profile's alone",
                object.owner
            ));
            return;
        }
        self.blocked.append(&mut refused);
        note(&mut self.revoke, take.join(", "), object.kind.word(), object.quoted());
        note(&mut self.grant, give.join(", "), object.kind.word(), object.quoted());
    }

    /// A view that is still to be made.
    pub(super) fn new_view(&mut self, view: &View, want: &Want) {
        let give: Vec<String> = ordered(want.0.keys().copied().collect())
            .into_iter()
            .map(|privilege| match want.get(privilege) {
                Choice::Columns(columns) => listed(privilege, columns.iter().map(String::as_str)),
                Choice::Nothing | Choice::Whole => privilege.to_owned(),
            })
            .collect();
        note(&mut self.grant, give.join(", "), Kind::Table.word(), view.quoted());
    }

    pub(super) fn revoke(&self, plan: &mut Plan) {
        let role = quoted(self.role);
        for change in &self.revoke {
            for objects in change.objects.chunks(TOGETHER) {
                let (privileges, kind, objects) = (&change.privileges, change.kind, objects.join(", "));
                plan.step(
                    format!("REVOKE {privileges} ON {kind} {objects} FROM {role}"),
                    "it is beyond the profile's definition",
                );
            }
        }
        plan.blocked.extend(self.blocked.iter().cloned());
        plan.warnings.extend(self.warnings.iter().cloned());
    }

    pub(super) fn grant(&self, plan: &mut Plan) {
        let role = quoted(self.role);
        for change in &self.grant {
            for objects in change.objects.chunks(TOGETHER) {
                let (privileges, kind, objects) = (&change.privileges, change.kind, objects.join(", "));
                plan.step(format!("GRANT {privileges} ON {kind} {objects} TO {role}"), reason(change));
            }
        }
    }
}

fn may_not(object: &Object, privilege: &str, verb: &str) -> String {
    let (kind, shown) = (object.kind.word().to_lowercase(), object.shown());
    format!(
        "this account may not {verb} {privilege} on {kind} {shown}: its owner {} may",
        object.owner
    )
}

fn reason(change: &Change) -> &'static str {
    match change.kind {
        "DATABASE" => "to be let in, whatever becomes of everybody's right",
        "SCHEMA" => "the profile has rights in it",
        _ => "the profile's definition says so",
    }
}

/// With those of the same kind and privileges, if there are any.
fn note(changes: &mut Vec<Change>, privileges: String, kind: &'static str, object: String) {
    if privileges.is_empty() {
        return;
    }
    match changes
        .iter_mut()
        .find(|change| change.kind == kind && change.privileges == privileges)
    {
        Some(change) => change.objects.push(object),
        None => changes.push(Change {
            privileges,
            kind,
            objects: vec![object],
        }),
    }
}

/// What the role has: on the whole object, and on columns.
fn held<'o>(object: &'o Object, role: &str) -> (BTreeSet<&'o str>, BTreeMap<&'o str, BTreeSet<&'o str>>) {
    let (mut whole, mut columns) = (BTreeSet::new(), BTreeMap::<_, BTreeSet<_>>::new());
    for held in object.held.iter().filter(|held| held.role.as_deref() == Some(role)) {
        match &held.column {
            None => {
                whole.insert(held.privilege.as_str());
            }
            Some(column) => {
                columns.entry(held.privilege.as_str()).or_default().insert(column.as_str());
            }
        }
    }
    (whole, columns)
}

fn listed<'c>(privilege: &str, columns: impl IntoIterator<Item = &'c str>) -> String {
    let columns: Vec<String> = columns.into_iter().map(quoted).collect();
    format!("{privilege} ({})", columns.join(", "))
}

/// In the order people say them.
fn ordered(privileges: BTreeSet<&str>) -> Vec<&str> {
    const USUAL: [&str; 4] = ["SELECT", "INSERT", "UPDATE", "DELETE"];
    let mut privileges: Vec<&str> = privileges.into_iter().collect();
    privileges.sort_by_key(|privilege| USUAL.iter().position(|usual| usual == privilege).unwrap_or(USUAL.len()));
    privileges
}
