//! Difference between the privileges that a role has on objects and those it is to have, as GRANT and REVOKE.
//!
//! INVARIANT: a right on a whole table and rights on its columns are not held together, because revoking the one revokes the
//! others (ExecGrant_Relation in catalog/aclchk.c). A right that only somebody else can revoke is reported but blocks nothing;
//! otherwise any owner of anything could block every apply.

use std::collections::{BTreeMap, BTreeSet};

use super::catalogue::{CatalogObject, CatalogSnapshot, HeldPrivilege, ObjectKind};
use super::column_set::{ColumnSet, DesiredPrivileges};
use super::plan::ProfilePlan;
use super::role::quoted;
use super::view::MaskView;

/// Maximum number of objects that a sentence names.
const MAX_NAMED_OBJECTS: usize = 3;
/// Maximum number of objects that one statement names, so that people can read it.
const MAX_STATEMENT_OBJECTS: usize = 50;

/// Privileges to grant and revoke, grouped by kind and privileges.
pub(super) struct PrivilegeDifference<'a> {
    role: &'a str,
    snapshot: &'a CatalogSnapshot,
    revoke: Vec<PrivilegeChange>,
    grant: Vec<PrivilegeChange>,
    blocked: Vec<BlockedPrivileges>,
    excess: Vec<String>,
}

/// Privileges on an object that only somebody else may grant.
struct BlockedPrivileges {
    owner: String,
    privileges: Vec<String>,
    /// Object for people: `table shop.orders`.
    object: String,
}

/// Privileges on objects of one kind.
struct PrivilegeChange {
    /// Privileges as written in SQL: `SELECT, INSERT (a, b)`.
    privileges: String,
    kind: &'static str,
    objects: Vec<String>,
}

/// Privileges held on a whole object, and on columns.
#[derive(Default)]
struct PrivilegesOn<'o> {
    whole: BTreeSet<&'o str>,
    columns: BTreeMap<&'o str, BTreeSet<&'o str>>,
}

impl<'a> PrivilegeDifference<'a> {
    pub(super) fn new(role: &'a str, snapshot: &'a CatalogSnapshot) -> Self {
        Self {
            role,
            snapshot,
            revoke: Vec::new(),
            grant: Vec::new(),
            blocked: Vec::new(),
            excess: Vec::new(),
        }
    }

    /// Compares an existing object.
    pub(super) fn object(&mut self, object: &CatalogObject, want: &DesiredPrivileges) {
        if object.owner == self.role {
            // A grant created it, and handed it to the profile at its end.
            return;
        }
        // A REVOKE takes only rights of its grantor: the owner if the account may act as that, otherwise the account itself
        // (`select_best_grantor` in utils/adt/acl.c).
        let revoker = if self.snapshot.acts_as(&object.owner) {
            &object.owner
        } else {
            &self.snapshot.account.name
        };
        let role = self.role;
        let held = object.held.iter().filter(|held| held.role.as_deref() == Some(role));
        let (ours, others): (Vec<&HeldPrivilege>, Vec<&HeldPrivilege>) = held.partition(|held| held.grantor == *revoker);
        let options = ours.iter().filter(|held| held.grantable && wanted(want, held));
        let options: Vec<String> = options.map(|held| text(held)).collect();
        let all = PrivilegesOn::of(ours.iter().chain(&others).copied());
        let ours = PrivilegesOn::of(ours);
        let mut privileges: BTreeSet<&str> = want.0.keys().copied().collect();
        privileges.extend(&ours.whole);
        privileges.extend(ours.columns.keys().copied());
        let (mut take, mut give, mut refused) = (Vec::new(), Vec::new(), Vec::<&str>::new());
        for privilege in ordered(privileges) {
            let (less, more) = change(privilege, want.get(privilege), &ours, &all);
            if more.is_some() && object.may_grant.iter().all(|may| may != privilege) {
                refused.push(privilege);
            }
            take.extend(less);
            give.extend(more);
        }
        self.excess(object, want, &others);
        if !refused.is_empty() {
            self.blocked.push(BlockedPrivileges::of(object, &refused));
        }
        note(&mut self.revoke, take.join(", "), object.kind.word(), object.quoted());
        if !options.is_empty() {
            let options = format!("GRANT OPTION FOR {}", options.join(", "));
            note(&mut self.revoke, options, object.kind.word(), object.quoted());
        }
        note(&mut self.grant, give.join(", "), object.kind.word(), object.quoted());
    }

    /// Notes rights that others granted beyond the wanted ones.
    fn excess(&mut self, object: &CatalogObject, want: &DesiredPrivileges, others: &[&HeldPrivilege]) {
        let mut found: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for held in others.iter().filter(|held| !wanted(want, held)) {
            found.entry(&held.grantor).or_default().push(text(held));
        }
        for (grantor, privileges) in found {
            let what = format!("{} {}", object.kind.word(), object.quoted());
            self.excess.push(taken_by(grantor, &privileges.join(", "), &what, self.role));
        }
    }

    /// Adds the privileges on a view that is still to be created.
    pub(super) fn new_view(&mut self, view: &MaskView, want: &DesiredPrivileges) {
        let give: Vec<String> = ordered(want.0.keys().copied().collect())
            .into_iter()
            .map(|privilege| match want.get(privilege) {
                ColumnSet::Columns(columns) => listed(privilege, columns.iter().map(String::as_str)),
                ColumnSet::Nothing | ColumnSet::Whole => privilege.to_owned(),
            })
            .collect();
        note(&mut self.grant, give.join(", "), ObjectKind::Table.word(), view.quoted());
    }

    pub(super) fn revoke(&self, plan: &mut ProfilePlan) {
        let role = quoted(self.role);
        for change in &self.revoke {
            for objects in change.objects.chunks(MAX_STATEMENT_OBJECTS) {
                let (privileges, kind, objects) = (&change.privileges, change.kind, objects.join(", "));
                plan.step(
                    format!("REVOKE {privileges} ON {kind} {objects} FROM {role} CASCADE"),
                    "the profile does not define it",
                );
            }
        }
        plan.blocked.extend(by_owner(&self.blocked, &self.snapshot.account.name));
        plan.excess.extend(self.excess.iter().cloned());
    }

    pub(super) fn grant(&self, plan: &mut ProfilePlan) {
        let role = quoted(self.role);
        for change in &self.grant {
            for objects in change.objects.chunks(MAX_STATEMENT_OBJECTS) {
                let (privileges, kind, objects) = (&change.privileges, change.kind, objects.join(", "));
                plan.step(format!("GRANT {privileges} ON {kind} {objects} TO {role}"), reason(change));
            }
        }
    }
}

/// Returns true if a held privilege is wanted, regardless of its grantor.
fn wanted(want: &DesiredPrivileges, held: &HeldPrivilege) -> bool {
    match (want.get(&held.privilege), &held.column) {
        (ColumnSet::Whole, _) => true,
        (ColumnSet::Columns(columns), Some(column)) => columns.contains(column),
        (ColumnSet::Columns(_), None) | (ColumnSet::Nothing, _) => false,
    }
}

/// Formats a privilege as written in a REVOKE.
fn text(held: &HeldPrivilege) -> String {
    let column = held.column.as_deref();
    column.map_or_else(|| held.privilege.clone(), |column| listed(&held.privilege, [column]))
}

/// Returns the privileges to revoke and to grant, for one privilege.
fn change(
    privilege: &str,
    want: &ColumnSet,
    ours: &PrivilegesOn<'_>,
    all: &PrivilegesOn<'_>,
) -> (Option<String>, Option<String>) {
    let none = BTreeSet::new();
    let (some, there) = (
        ours.columns.get(privilege).unwrap_or(&none),
        all.columns.get(privilege).unwrap_or(&none),
    );
    let whole = ours.whole.contains(privilege).then(|| privilege.to_owned());
    let columns = |columns: BTreeSet<&str>| (!columns.is_empty()).then(|| listed(privilege, columns));
    match want {
        // Revoking a privilege on the table revokes it on all columns.
        ColumnSet::Nothing => (whole.or_else(|| some.first().map(|_| privilege.to_owned())), None),
        ColumnSet::Whole => {
            let missing = !all.whole.contains(privilege);
            (columns(some.clone()), missing.then(|| privilege.to_owned()))
        }
        ColumnSet::Columns(wanted) => {
            let wanted: BTreeSet<&str> = wanted.iter().map(String::as_str).collect();
            match whole {
                Some(whole) => (Some(whole), columns(wanted)),
                None => (columns(some - &wanted), columns(&wanted - there)),
            }
        }
    }
}

impl BlockedPrivileges {
    fn of(object: &CatalogObject, privileges: &[&str]) -> Self {
        let (kind, shown) = (object.kind.word().to_lowercase(), object.shown());
        Self {
            owner: object.owner.clone(),
            privileges: privileges.iter().map(|privilege| (*privilege).to_owned()).collect(),
            object: format!("{kind} {shown}"),
        }
    }
}

/// Returns a sentence for each owner about the privileges that cannot be granted.
fn by_owner(blocked: &[BlockedPrivileges], account: &str) -> Vec<String> {
    let mut owners: BTreeMap<&str, Vec<&BlockedPrivileges>> = BTreeMap::new();
    for one in blocked {
        owners.entry(&one.owner).or_default().push(one);
    }
    let sentence = |(owner, blocked): (&str, Vec<&BlockedPrivileges>)| {
        let privileges: BTreeSet<&str> = blocked
            .iter()
            .flat_map(|one| one.privileges.iter().map(String::as_str))
            .collect();
        let objects: Vec<&str> = blocked
            .iter()
            .take(MAX_NAMED_OBJECTS)
            .map(|one| one.object.as_str())
            .collect();
        let more = match blocked.len().saturating_sub(MAX_NAMED_OBJECTS) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!(
            "{account} may not grant {} on {}{more}, owned by {owner}; apply as {owner} or a superuser (--user)",
            ordered(privileges).join(", "),
            objects.join(", "),
        )
    };
    owners.into_iter().map(sentence).collect()
}

/// Returns a sentence about rights that somebody else granted and has to revoke.
pub(super) fn taken_by(grantor: &str, privileges: &str, what: &str, role: &str) -> String {
    format!(
        "{grantor} granted it rights that this account cannot revoke; as {grantor}: REVOKE {privileges} ON {what} FROM {}",
        quoted(role)
    )
}

fn reason(change: &PrivilegeChange) -> &'static str {
    match change.kind {
        "DATABASE" => "keeps the connection allowed if PUBLIC loses the right",
        "SCHEMA" => "the profile has rights in this schema",
        _ => "the profile defines it",
    }
}

/// Adds an object to the change with the same kind and privileges, or a new change.
fn note(changes: &mut Vec<PrivilegeChange>, privileges: String, kind: &'static str, object: String) {
    if privileges.is_empty() {
        return;
    }
    match changes
        .iter_mut()
        .find(|change| change.kind == kind && change.privileges == privileges)
    {
        Some(change) => change.objects.push(object),
        None => changes.push(PrivilegeChange {
            privileges,
            kind,
            objects: vec![object],
        }),
    }
}

impl<'o> PrivilegesOn<'o> {
    fn of(held: impl IntoIterator<Item = &'o HeldPrivilege>) -> Self {
        let mut on = Self::default();
        for held in held {
            match &held.column {
                None => {
                    on.whole.insert(&held.privilege);
                }
                Some(column) => {
                    on.columns.entry(&held.privilege).or_default().insert(column);
                }
            }
        }
        on
    }
}

fn listed<'c>(privilege: &str, columns: impl IntoIterator<Item = &'c str>) -> String {
    let columns: Vec<String> = columns.into_iter().map(quoted).collect();
    format!("{privilege} ({})", columns.join(", "))
}

/// Returns the privileges in the usual order.
fn ordered(privileges: BTreeSet<&str>) -> Vec<&str> {
    const USUAL: [&str; 5] = ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"];
    let mut privileges: Vec<&str> = privileges.into_iter().collect();
    privileges.sort_by_key(|privilege| USUAL.iter().position(|usual| usual == privilege).unwrap_or(USUAL.len()));
    privileges
}
