//! What has to be done so that a profile's role has the rights of its definition, step by step, each with its reason.
//!
//! It does nothing of it. The laws: nothing to do is an empty plan; rights are taken before others are given; what the account
//! cannot change is told before anything is changed; a role or schema without the gate's comment is never touched.

use super::catalogue::{Kind, Object, Role, Snapshot, comment_on};
use super::diff::Difference;
use super::role::{RoleName, quoted};
use super::view::{self, View};
use super::wants::Wants;
use super::{Rights, around, future, warnings};

/// A profile as its target needs it.
#[derive(Debug, Clone, Copy)]
pub struct Profile<'a> {
    /// The role that is to have its rights.
    pub role: &'a RoleName,
    /// The comment by which the role is known to be the gate's.
    pub marker: &'a str,
    /// The rights.
    pub rights: &'a Rights,
    /// The target's account, which hands the role out.
    pub account: &'a str,
}

/// One statement.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Step {
    /// As it is run.
    pub sql: String,
    /// What for.
    pub why: String,
}

/// What differs between a profile and the database.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct Plan {
    /// What is to be done, in order.
    pub steps: Vec<Step>,
    /// What differs and the account that looked cannot change; while there is any, nothing is done.
    pub blocked: Vec<String>,
    /// What is no difference, but should be known.
    pub warnings: Vec<String>,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Something else has the name.
    #[error(
        "{what} {name} is there already and is not the gate's (its comment is not `{marker}`): rename or drop it, or give the profile another name"
    )]
    NotOurs {
        /// A role or a schema.
        what: &'static str,
        /// Its name.
        name: String,
        /// The comment it would have.
        marker: String,
    },
}

/// A role's attributes, each off. `NOINHERIT`: it is a member of nothing, and stays so in effect when somebody changes that.
const POWERLESS: &str = "NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT NOREPLICATION NOBYPASSRLS";
/// From this version on a role that may make roles can hand out only those it has the admin option of.
const ADMIN_OPTIONS: u32 = 160_000;

impl Step {
    pub(super) fn new(sql: String, why: String) -> Self {
        Self { sql, why }
    }
}

impl Plan {
    /// Whether the database is as the profile says.
    #[must_use]
    pub fn in_step(&self) -> bool {
        self.steps.is_empty() && self.blocked.is_empty()
    }

    pub(super) fn step(&mut self, sql: String, why: impl Into<String>) {
        self.steps.push(Step::new(sql, why.into()));
    }
}

/// What differs between the profile and what is there.
pub fn plan(profile: &Profile<'_>, snapshot: &Snapshot) -> Result<Plan, PlanError> {
    let mut plan = Plan::default();
    role(profile, snapshot, &mut plan)?;
    let wants = Wants::of(profile, snapshot);
    let views = Views::of(profile, &wants, snapshot)?;
    let mut difference = Difference::new(profile.role.as_str(), snapshot);
    for (object, want) in wants.objects.iter().filter(|(object, _)| !views.have(object)) {
        difference.object(object, want);
    }
    for (view, want) in &wants.views {
        match views.kept(view) {
            Some(there) => difference.object(there, want),
            None => difference.new_view(view, want),
        }
    }
    let later = future::compare(profile, &wants, snapshot);
    difference.revoke(&mut plan);
    plan.steps.extend(later.revoke);
    views.make(profile, &mut plan, snapshot);
    difference.grant(&mut plan);
    plan.steps.extend(later.grant);
    let mistaken = around::mistaken(profile.rights, snapshot);
    plan.blocked
        .extend(mistaken.iter().map(|mistaken| format!("{} {}", mistaken.line, mistaken.why)));
    plan.blocked.extend(around::parts(profile.rights, snapshot));
    plan.blocked.extend(wants.not_masked.iter().cloned());
    plan.blocked.extend(later.blocked);
    plan.warnings.extend(warnings::all(profile, &wants, snapshot, &mistaken));
    plan.warnings.extend(later.warnings);
    Ok(plan)
}

/// The role itself: there, ours, without powers, a member of nothing, and in the hands of the target's account.
fn role(profile: &Profile<'_>, snapshot: &Snapshot, plan: &mut Plan) -> Result<(), PlanError> {
    let (name, marker) = (profile.role.quoted(), profile.marker);
    let account = &snapshot.account;
    let may = account.superuser || account.create_role;
    let mut handed_out = account.name == profile.account || snapshot.version < ADMIN_OPTIONS;
    if let Some(there) = snapshot.roles.iter().find(|role| role.name == profile.role.as_str()) {
        if there.comment.as_deref() != Some(marker) {
            return Err(PlanError::NotOurs {
                what: "the role",
                name: profile.role.to_string(),
                marker: marker.to_owned(),
            });
        }
        powers(there, &name, plan);
        handed_out |= there.handed_out;
        for what in &there.elsewhere {
            let why = format!("{} also has rights on {what}, which no profile gives", profile.role);
            plan.blocked.push(format!("{why}: revoke them"));
        }
    } else {
        plan.step(
            format!("CREATE ROLE {name} {POWERLESS}"),
            "holds the profile's rights; nobody logs in as it",
        );
        plan.step(comment_on(&format!("ROLE {name}"), marker), "marks it as the gate's");
    }
    if !handed_out {
        let to = quoted(profile.account);
        let options = "WITH ADMIN TRUE, INHERIT FALSE, SET FALSE";
        plan.step(
            format!("GRANT {name} TO {to} {options}"),
            "the target's account gives it to the roles of grants",
        );
    }
    if !may && !plan.steps.is_empty() {
        let why = format!("{} may not make or change roles: it lacks CREATEROLE", account.name);
        plan.blocked.push(why);
    }
    Ok(())
}

fn powers(there: &Role, name: &str, plan: &mut Plan) {
    if !there.powers.is_empty() {
        // Only what differs: who is no superuser may not even mention others (AlterRole in commands/user.c, before 16).
        let off: Vec<String> = there.powers.iter().map(|power| format!("NO{power}")).collect();
        plan.step(format!("ALTER ROLE {name} {}", off.join(" ")), "it only holds rights");
    }
    for (group, may_leave) in &there.member_of {
        if *may_leave {
            plan.step(
                format!("REVOKE {} FROM {name}", quoted(group)),
                "it has no rights but its own",
            );
        } else {
            let why = format!("{} is a member of {group}, which this account cannot change", there.name);
            plan.blocked.push(why);
        }
    }
}

/// The views of a profile that are there.
struct Views<'a> {
    own: &'a str,
    /// Whether their schema is.
    schema: bool,
    salt: bool,
    there: Vec<&'a Object>,
    wanted: &'a [(View, super::wants::Want)],
}

impl<'a> Views<'a> {
    fn of(profile: &Profile<'a>, wants: &'a Wants<'a>, snapshot: &'a Snapshot) -> Result<Self, PlanError> {
        let own = profile.role.as_str();
        let schema = snapshot.schema(own);
        if let Some(schema) = schema
            && schema.comment.as_deref() != Some(profile.marker)
        {
            return Err(PlanError::NotOurs {
                what: "the schema",
                name: own.to_owned(),
                marker: profile.marker.to_owned(),
            });
        }
        let inside = |object: &&Object| object.kind == Kind::Table && object.schema == own;
        let (salt, there): (Vec<_>, Vec<_>) = snapshot
            .objects
            .iter()
            .filter(inside)
            .partition(|object| view::is_salt(object));
        Ok(Self {
            own,
            schema: schema.is_some(),
            salt: !salt.is_empty(),
            there,
            wanted: &wants.views,
        })
    }

    /// The view as it is there, if it is as it should be.
    fn kept(&self, view: &View) -> Option<&'a Object> {
        let same = |there: &&&Object| there.name == view.name && view.is(there);
        self.there.iter().find(same).copied()
    }

    /// Whether the object is one of them, or their schema that is to go.
    fn have(&self, object: &Object) -> bool {
        let inside = || self.there.iter().any(|there| std::ptr::eq(*there, object));
        match object.kind {
            Kind::Table => object.schema == self.own && inside(),
            Kind::Schema => object.name == self.own && self.wanted.is_empty(),
            _ => false,
        }
    }

    fn make(&self, profile: &Profile<'_>, plan: &mut Plan, snapshot: &Snapshot) {
        let before = plan.steps.len();
        for there in &self.there {
            if !self.wanted.iter().any(|(view, _)| view.name == there.name && view.is(there)) {
                plan.step(
                    format!("DROP VIEW {}", there.quoted()),
                    "it is not, or not any more, what the profile says",
                );
            }
        }
        let salted = self.wanted.iter().any(|(view, _)| view.salted);
        if !self.wanted.is_empty() {
            let steps = view::schema_steps(profile.role, profile.marker, self.schema, salted && !self.salt);
            plan.steps.extend(steps);
        } else if self.schema {
            // The salt goes with it; what somebody else put there keeps it from going.
            let salt = self.salt.then(|| view::drop_salt(profile.role));
            plan.steps.extend(salt);
            plan.step(format!("DROP SCHEMA {}", profile.role.quoted()), "nothing is masked any more");
        }
        for (view, _) in self.wanted.iter().filter(|(view, _)| self.kept(view).is_none()) {
            plan.steps.extend(view.steps());
        }
        if plan.steps.len() == before {
            return;
        }
        let account = &snapshot.account;
        let owned = snapshot.schema(profile.role.as_str());
        let why = match owned {
            Some(schema) if !account.acts_as.contains(&schema.owner) => {
                format!(
                    "the schema {} of its masks is {}'s: apply as that",
                    profile.role, schema.owner
                )
            }
            None if !account.create_schema => {
                format!(
                    "{} may not make a schema for its masks: it lacks CREATE on the database",
                    account.name
                )
            }
            _ => return,
        };
        plan.blocked.push(why);
    }
}
