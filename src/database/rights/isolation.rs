//! Isolation of objects that a profile's role owns: rights that a session gave to others, default privileges it set, and triggers
//! of others that run its functions are undone.
//!
//! It reads and runs nothing; [`mod@super::owned`] has the statements. PostgreSQL runs a SECURITY DEFINER function, a view and a
//! rule with the rights of their owner (`fmgr_security_definer` in utils/fmgr/fmgr.c, `setRuleCheckAsUser` in
//! rewrite/rewriteDefine.c), so users of one that a session created have a part of the profile's rights for as long as it exists.
//! A trigger runs with the rights of the role that writes to its table, regardless of its creator (`ExecCallTriggerFunc` in
//! commands/trigger.c).

use super::catalogue::{CatalogSnapshot, ObjectKind};
use super::owned::as_member;
use super::plan::{PlannedProfile, ProfilePlan};
use super::role::alter_defaults;

/// Change to be undone, and the role that may undo it.
struct UndoStatement {
    sql: String,
    why: String,
    /// Role that may undo it.
    by: String,
    /// True if the connected account may act as that role.
    acts: bool,
}

/// Adds to a plan the changes to be undone for a profile's own objects.
pub(super) fn compare(profile: &PlannedProfile<'_>, snapshot: &CatalogSnapshot, plan: &mut ProfilePlan) {
    let role = profile.role.as_str();
    let there = snapshot.roles.iter().find(|there| there.name == role);
    // A role created by this plan can be granted by its creator.
    let (member, joins) = there.map_or((false, true), |there| (there.is_member, there.may_join));
    let mut found = defaults(profile, snapshot, member);
    found.extend(snapshot.given_away.iter().filter(|given| given.owner == role).map(|given| {
        let why = if given.as_owner {
            "a session created it, and it runs with the profile's rights for every user"
        } else {
            "a session created it, so only the profile may use it"
        };
        UndoStatement {
            sql: given.undo(),
            why: why.to_owned(),
            by: given.maker.clone(),
            acts: given.as_maker,
        }
    }));
    let triggers = snapshot.foreign_triggers.iter().filter(|trigger| trigger.owner == role);
    found.extend(triggers.map(|trigger| UndoStatement {
        sql: trigger.undo(),
        why: format!(
            "a session created the trigger {} on {}, which runs with the rights of every writer",
            trigger.name, trigger.table
        ),
        by: if trigger.is_the_table_owners() {
            trigger.table_owner.clone()
        } else {
            trigger.maker.clone()
        },
        acts: trigger.as_table_owner || !trigger.temporary && trigger.as_maker,
    }));
    for UndoStatement { sql, why, by, acts } in found {
        if snapshot.account.superuser || acts {
            plan.step(sql, why);
        } else if joins && by == role {
            plan.step(as_member(role, &sql), why);
        } else {
            plan.excess.push(format!(
                "{why}, and this account may not act as {by}; with an account that may: {sql}"
            ));
        }
    }
}

/// Returns the changes to default privileges: those that sessions made, and those that are missing.
fn defaults(profile: &PlannedProfile<'_>, snapshot: &CatalogSnapshot, member: bool) -> Vec<UndoStatement> {
    let role = profile.role.as_str();
    let undo = |sql, why| UndoStatement {
        sql,
        why,
        by: role.to_owned(),
        acts: member,
    };
    let own = || snapshot.own_defaults.iter().filter(|defaults| defaults.owner == role);
    let changed = own().filter(|defaults| !defaults.is_ours);
    let mut found: Vec<UndoStatement> = changed
        .map(|defaults| {
            let kind = defaults.kind.to_lowercase();
            let why = format!("a session changed the default privileges of {kind} created under the profile");
            undo(defaults.undo(), why)
        })
        .collect();
    // Undoing one that differs from the gate's restores the gate's.
    let functions = own().any(|defaults| defaults.kind == "ROUTINES" && defaults.schema.is_none());
    if !functions && makes_things(profile, snapshot) {
        let why = "keeps functions created under the profile private to it".to_owned();
        let keep = format!("{} REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC", alter_defaults(role, None));
        found.push(undo(keep, why));
    }
    found
}

/// Returns true if the role can create an object that outlives a session.
fn makes_things(profile: &PlannedProfile<'_>, snapshot: &CatalogSnapshot) -> bool {
    let nameable = snapshot.nameable();
    let everybodys = || {
        let schemas = snapshot
            .objects
            .iter()
            .filter(|object| object.kind == ObjectKind::Schema && nameable(object));
        schemas
            .flat_map(|schema| &schema.held)
            .any(|held| held.role.is_none() && held.privilege == "CREATE")
    };
    !profile.rights.create.is_empty() || everybodys()
}
