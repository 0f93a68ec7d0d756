//! Comparison of a profile with the catalogue: the plan of the role and of all its rights, in the order in which it is to run.
//!
//! It makes no change. INVARIANT: a database in step has an empty plan; rights are revoked before others are granted; a
//! difference that the account cannot remove is reported before anything is changed; a role or schema without the gate's comment
//! is never touched.

use super::catalogue::{CatalogSnapshot, ExistingRole, Membership, comment_on};
use super::desired::DesiredAcl;
use super::diff::{PrivilegeDifference, taken_by};
use super::plan::{PlanError, PlannedProfile, ProfilePlan};
use super::role::quoted;
use super::views::ProfileViews;
use super::{default_privileges, exposure, isolation, warnings};

/// Attributes of a role, each switched off. `NOINHERIT`: it is a member of nothing, and a membership added by somebody else has
/// no effect.
const POWERLESS: &str = "NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT NOREPLICATION NOBYPASSRLS";
/// First version in which a role with CREATEROLE can grant only roles of which it has the admin option.
const ADMIN_OPTIONS: u32 = 160_000;

/// Compares a profile with the catalogue, and returns the plan.
pub fn plan(profile: &PlannedProfile<'_>, snapshot: &CatalogSnapshot) -> Result<ProfilePlan, PlanError> {
    let mut plan = ProfilePlan::default();
    role(profile, snapshot, &mut plan)?;
    let wants = DesiredAcl::of(profile, snapshot);
    let views = ProfileViews::of(profile, &wants, snapshot)?;
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
            return Err(PlanError::NotOurs {
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
