//! Comparison of a profile with the catalogue: the plan of the role and of all its rights, in the order in which it is to run.
//!
//! It makes no change. INVARIANT: a database in step has an empty plan; rights are revoked before others are granted; a
//! difference that the account cannot remove is reported before anything is changed; a role or schema without the gate's
//! comment is never touched; a right on a whole table and rights on its columns are not held together, because revoking the one
//! revokes the others (ExecGrant_Relation in catalog/aclchk.c). A right that only somebody else can revoke is reported but
//! blocks nothing; otherwise any owner of anything could block every apply.

use std::collections::{BTreeMap, BTreeSet};

use super::catalogue::{CatalogObject, CatalogSnapshot, ExistingRole, HeldPrivilege, Membership, ObjectKind, comment_on};
use super::column_set::{ColumnSet, DesiredPrivileges};
use super::desired::DesiredAcl;
use super::plan::{PlanError, PlannedProfile, ProfilePlan};
use super::role::quoted;
use super::view::{MaskView, ProfileViews};
use super::{default_privileges, exposure, isolation, warnings};

/// Attributes of a role, each switched off. `NOINHERIT`: it is a member of nothing, and a membership added by somebody else has
/// no effect.
const POWERLESS: &str = "NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT NOREPLICATION NOBYPASSRLS";
/// First version in which a role with CREATEROLE can grant only roles of which it has the admin option.
const ADMIN_OPTIONS: u32 = 160_000;

/// Maximum number of objects that a sentence names.
const MAX_NAMED_OBJECTS: usize = 3;
/// Maximum number of objects that one statement names, so that people can read it.
const MAX_STATEMENT_OBJECTS: usize = 50;

/// Compares a profile with the catalogue, and returns the plan.
pub fn plan(profile: &PlannedProfile<'_>, snapshot: &CatalogSnapshot) -> Result<ProfilePlan, PlanError> {
    let mut plan = ProfilePlan::default();
    role(profile, snapshot, &mut plan)?;
    let wants = DesiredAcl::of(profile, snapshot);
    let views = ProfileViews::of(profile, &wants.views, snapshot)?;
    let mut difference = PrivilegeDifference::new(profile.role.as_str(), snapshot);
    for (object, want) in wants.objects.iter().filter(|(object, _)| !views.have(object)) {
        difference.object(object, want);
    }
    for (view, want) in &wants.views {
        match views.kept(view) {
            Some(there) => difference.object(there, want),
            None => difference.new_view(view, want),
        }
    }
    let later = default_privileges::compare(profile, &wants, snapshot);
    isolation::compare(profile, snapshot, &mut plan);
    // Follows the statements run with a temporary membership: the connected account may be the owner, whose membership has to
    // stay.
    members(profile, snapshot, &mut plan);
    difference.revoke(&mut plan);
    plan.steps.extend(later.revoke);
    views.make(profile, &mut plan, snapshot);
    difference.grant(&mut plan);
    plan.steps.extend(later.grant);
    let mistaken = exposure::mistaken(profile.rights, snapshot);
    plan.blocked
        .extend(mistaken.iter().map(|mistaken| format!("{} {}", mistaken.line, mistaken.why)));
    plan.blocked.extend(exposure::parts(profile.rights, snapshot));
    plan.blocked.extend(wants.not_masked.iter().cloned());
    plan.blocked.extend(later.blocked);
    plan.excess.extend(later.excess);
    plan.warnings.extend(warnings::all(profile, &wants, snapshot, &mistaken));
    plan.warnings.extend(later.warnings);
    Ok(plan)
}

/// Plans the role itself: existing, marked as the gate's, without attributes, member of nothing, and grantable by the target's
/// account.
fn role(profile: &PlannedProfile<'_>, snapshot: &CatalogSnapshot, plan: &mut ProfilePlan) -> Result<(), PlanError> {
    let (name, marker) = (profile.role.quoted(), profile.marker);
    let account = &snapshot.account;
    let may = account.superuser || account.create_role;
    let mut handed_out = account.name == profile.account || snapshot.version < ADMIN_OPTIONS;
    let there = snapshot.roles.iter().find(|role| role.name == profile.role.as_str());
    if let Some(there) = there {
        if there.comment.as_deref() != Some(marker) {
            return Err(PlanError {
                what: "the role",
                name: profile.role.to_string(),
                marker: marker.to_owned(),
            });
        }
        powers(there, &name, &account.name, plan);
        handed_out |= there.handed_out;
    } else {
        plan.step(
            format!("CREATE ROLE {name} {POWERLESS}"),
            "holds the profile's rights and cannot log in",
        );
        plan.step(comment_on(&format!("ROLE {name}"), marker), "marks it as owned by the gate");
    }
    if !handed_out {
        let to = quoted(profile.account);
        let options = "WITH ADMIN TRUE, INHERIT FALSE, SET FALSE";
        plan.step(
            format!("GRANT {name} TO {to} {options}"),
            "lets the target's account grant it to the roles of grants",
        );
    }
    if !may && !plan.steps.is_empty() {
        let why = format!("{} may not create or change roles: it lacks CREATEROLE", account.name);
        plan.blocked.push(why);
    }
    if let Some(there) = there {
        elsewhere(there, &name, plan);
    }
    Ok(())
}

/// Plans the membership of the role that owns objects created under the profile, and warns of other members.
fn members(profile: &PlannedProfile<'_>, snapshot: &CatalogSnapshot, plan: &mut ProfilePlan) {
    let there = snapshot.roles.iter().find(|role| role.name == profile.role.as_str());
    let (owner, members) = (profile.rights.owner.as_deref(), there.map_or(&[][..], |there| &there.members));
    if let Some(owner) = owner
        && !members.iter().any(|member| member == owner)
    {
        let sql = format!("GRANT {} TO {}", profile.role.quoted(), quoted(owner));
        if !snapshot.owners.iter().any(|there| there == owner) {
            plan.blocked.push(format!(
                "the role {owner}, the owner of objects created under the profile, does not exist; create it, or change `owner`"
            ));
        } else if there.is_none_or(|there| there.may_join || snapshot.account.superuser) {
            plan.step(
                sql,
                "gives its members the owner's rights on objects created under the profile",
            );
        } else {
            plan.blocked.push(format!(
                "this account may not grant {}; with an account that may: {sql}",
                profile.role
            ));
        }
    }
    let others = members.iter().filter(|member| Some(member.as_str()) != owner);
    plan.warnings.extend(others.map(|member| {
        format!(
            "{member} is a member of {role} and has the profile's rights without a grant; to remove it: REVOKE {role} FROM {member}",
            member = quoted(member),
            role = profile.role.quoted()
        )
    }));
}

fn powers(there: &ExistingRole, name: &str, account: &str, plan: &mut ProfilePlan) {
    if !there.powers.is_empty() {
        // Only attributes that differ: before version 16 an account that is no superuser may not even mention others (AlterRole
        // in commands/user.c).
        let off: Vec<String> = there.powers.iter().map(|power| format!("NO{power}")).collect();
        plan.step(
            format!("ALTER ROLE {name} {}", off.join(" ")),
            "the role must only hold rights",
        );
    }
    for Membership {
        group,
        grantor,
        may_leave,
    } in &there.member_of
    {
        let by = grantor.as_deref().filter(|grantor| *grantor != account);
        let by = by
            .map(|grantor| format!(" GRANTED BY {}", quoted(grantor)))
            .unwrap_or_default();
        let sql = format!("REVOKE {} FROM {name}{by} CASCADE", quoted(group));
        if *may_leave {
            plan.step(sql, "the role must have no other rights");
        } else {
            let why = format!("it is a member of {group}, which this account cannot change");
            plan.excess
                .push(format!("{why}; with an account that may grant {group}: {sql}"));
        }
    }
}

fn elsewhere(there: &ExistingRole, name: &str, plan: &mut ProfilePlan) {
    for elsewhere in &there.elsewhere {
        let what = &elsewhere.what;
        if elsewhere.may_take {
            // CASCADE also revokes rights passed on: a grantee may have had the grant option.
            let sql = format!("REVOKE ALL ON {what} FROM {name} CASCADE");
            plan.step(sql, "profiles grant no rights on such objects");
        } else {
            plan.excess.push(taken_by(&elsewhere.grantor, "ALL", what, &there.name));
        }
    }
}

/// Privileges to grant and revoke, grouped by kind and privileges.
struct PrivilegeDifference<'a> {
    role: &'a str,
    snapshot: &'a CatalogSnapshot,
    revoke: Vec<PrivilegeChange>,
    grant: Vec<PrivilegeChange>,
    /// By owner.
    blocked: BTreeMap<String, BlockedPrivileges>,
    excess: Vec<String>,
}

/// Privileges on objects of one owner that only somebody else than the account may grant.
#[derive(Default)]
struct BlockedPrivileges {
    privileges: BTreeSet<String>,
    /// Objects for people: `table shop.orders`.
    objects: Vec<String>,
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
    fn new(role: &'a str, snapshot: &'a CatalogSnapshot) -> Self {
        Self {
            role,
            snapshot,
            revoke: Vec::new(),
            grant: Vec::new(),
            blocked: BTreeMap::new(),
            excess: Vec::new(),
        }
    }

    /// Compares an existing object.
    fn object(&mut self, object: &CatalogObject, want: &DesiredPrivileges) {
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
            let blocked = self.blocked.entry(object.owner.clone()).or_default();
            blocked.privileges.extend(refused.into_iter().map(str::to_owned));
            blocked
                .objects
                .push(format!("{} {}", object.kind.word().to_lowercase(), object.shown()));
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
    fn new_view(&mut self, view: &MaskView, want: &DesiredPrivileges) {
        let give: Vec<String> = ordered(want.0.keys().copied().collect())
            .into_iter()
            .map(|privilege| match want.get(privilege) {
                ColumnSet::Columns(columns) => listed(privilege, columns.iter().map(String::as_str)),
                ColumnSet::Nothing | ColumnSet::Whole => privilege.to_owned(),
            })
            .collect();
        note(&mut self.grant, give.join(", "), ObjectKind::Table.word(), view.quoted());
    }

    fn revoke(&self, plan: &mut ProfilePlan) {
        let role = quoted(self.role);
        for (_, what) in statements(&self.revoke) {
            let sql = format!("REVOKE {what} FROM {role} CASCADE");
            plan.step(sql, "the profile does not define it");
        }
        let account = &self.snapshot.account.name;
        plan.blocked.extend(self.blocked.iter().map(|(owner, blocked)| {
            let privileges = ordered(blocked.privileges.iter().map(String::as_str).collect()).join(", ");
            let objects = warnings::first(&blocked.objects, MAX_NAMED_OBJECTS);
            format!(
                "{account} may not grant {privileges} on {objects}, owned by {owner}; apply as {owner} or a superuser (--user)"
            )
        }));
        plan.excess.extend(self.excess.iter().cloned());
    }

    fn grant(&self, plan: &mut ProfilePlan) {
        let role = quoted(self.role);
        for (change, what) in statements(&self.grant) {
            plan.step(format!("GRANT {what} TO {role}"), reason(change));
        }
    }
}

/// Returns the changes with what is between the verb and the role in their statements.
fn statements(changes: &[PrivilegeChange]) -> impl Iterator<Item = (&PrivilegeChange, String)> {
    changes.iter().flat_map(|change| {
        let statements = change.objects.chunks(MAX_STATEMENT_OBJECTS);
        statements.map(move |objects| {
            (
                change,
                format!("{} ON {} {}", change.privileges, change.kind, objects.join(", ")),
            )
        })
    })
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

/// Returns a sentence about rights that somebody else granted and has to revoke.
fn taken_by(grantor: &str, privileges: &str, what: &str, role: &str) -> String {
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
