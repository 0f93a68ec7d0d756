//! Views of one profile, with their schema and salt: the existing ones, those to drop, those to create, and rights of others on
//! them.
//!
//! It does not know the contents of a view. INVARIANT: a schema without the gate's comment is never touched; in the gate's
//! schemas nobody has a right but the owner and the profile, and the profile has none on the salt. (Default privileges of the
//! account give others rights on objects it creates.)

use std::collections::BTreeSet;

use super::catalogue::{CatalogObject, CatalogSnapshot, ObjectKind};
use super::column_set::DesiredPrivileges;
use super::desired::DesiredAcl;
use super::plan::{PlanError, PlanStep, PlannedProfile, ProfilePlan};
use super::role::quoted;
use super::view::{self, MaskView};

/// Existing views of a profile.
pub(super) struct ProfileViews<'a> {
    own: &'a str,
    schema: Option<&'a CatalogObject>,
    salt: Option<&'a CatalogObject>,
    there: Vec<&'a CatalogObject>,
    wanted: &'a [(MaskView, DesiredPrivileges)],
}

impl<'a> ProfileViews<'a> {
    pub(super) fn of(
        profile: &PlannedProfile<'a>,
        wants: &'a DesiredAcl<'a>,
        snapshot: &'a CatalogSnapshot,
    ) -> Result<Self, PlanError> {
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
        let inside = |object: &&CatalogObject| object.kind == ObjectKind::Table && object.schema == own;
        let (salt, there): (Vec<_>, Vec<_>) = snapshot
            .objects
            .iter()
            .filter(inside)
            .partition(|object| view::is_salt(object));
        Ok(Self {
            own,
            schema,
            salt: salt.first().copied(),
            there,
            wanted: &wants.views,
        })
    }

    /// Returns the existing view if it is as it should be.
    pub(super) fn kept(&self, view: &MaskView) -> Option<&'a CatalogObject> {
        let same = |there: &&&CatalogObject| there.name == view.name && view.is(there);
        self.there.iter().find(same).copied()
    }

    /// Returns true if the object is one of the views, or their schema when it is to be dropped.
    pub(super) fn have(&self, object: &CatalogObject) -> bool {
        let inside = || self.there.iter().any(|there| std::ptr::eq(*there, object));
        match object.kind {
            ObjectKind::Table => object.schema == self.own && inside(),
            ObjectKind::Schema => object.name == self.own && self.wanted.is_empty(),
            _ => false,
        }
    }

    pub(super) fn make(&self, profile: &PlannedProfile<'_>, plan: &mut ProfilePlan, snapshot: &CatalogSnapshot) {
        let before = plan.steps.len();
        for there in self.there.iter().filter(|there| !self.stays(there)) {
            plan.step(format!("DROP VIEW {}", there.quoted()), "it does not match the profile");
        }
        if !self.wanted.is_empty() {
            let salted = self.wanted.iter().any(|(view, _)| view.salted) && self.salt.is_none();
            plan.steps.extend(view::schema_steps(
                profile.role,
                profile.marker,
                self.schema.is_some(),
                salted,
            ));
            self.shut(profile, plan, salted, &DefaultGrantee::of(snapshot, self.own));
        } else if self.schema.is_some() {
            // The salt is dropped with the schema; an object of somebody else in the schema makes the drop fail.
            let salt = self.salt.map(|there| view::drop_salt(profile.role, there));
            plan.steps.extend(salt);
            plan.step(
                format!("DROP SCHEMA {}", profile.role.quoted()),
                "the profile has no masks any more",
            );
        }
        if plan.steps.len() > before {
            plan.blocked.extend(self.may_not(profile, snapshot));
        }
    }

    /// Creates the missing views, and revokes the rights that others have or would get on schema, salt and views.
    fn shut(&self, profile: &PlannedProfile<'_>, plan: &mut ProfilePlan, salted: bool, to: &DefaultGrantee) {
        match self.schema {
            Some(schema) => plan
                .steps
                .extend(shut("SCHEMA", &schema.quoted(), others(schema, Some(self.own)))),
            None => plan.steps.extend(shut("SCHEMA", &quoted(self.own), to.schemas.clone())),
        }
        let salt = view::salt(profile.role);
        if salted {
            let everybody = BTreeSet::from(["PUBLIC".to_owned()]);
            plan.steps.extend(shut("TABLE", &salt, &everybody | &to.tables));
        }
        if let Some(there) = self.salt
            && let Some(step) = shut("TABLE", &salt, others(there, None))
        {
            plan.steps.extend([step, view::new_salt(profile.role, there)]);
        }
        for (view, _) in self.wanted {
            if let Some(there) = self.kept(view) {
                plan.steps
                    .extend(shut("TABLE", &view.quoted(), others(there, Some(self.own))));
            } else {
                plan.steps.extend(view.steps());
                plan.steps.extend(shut("TABLE", &view.quoted(), to.tables.clone()));
            }
        }
    }

    fn stays(&self, there: &CatalogObject) -> bool {
        self.wanted.iter().any(|(view, _)| view.name == there.name && view.is(there))
    }

    /// Returns the reason why the account cannot make these changes.
    fn may_not(&self, profile: &PlannedProfile<'_>, snapshot: &CatalogSnapshot) -> Option<String> {
        match self.schema {
            Some(schema) => (!snapshot.acts_as(&schema.owner)).then(|| {
                format!(
                    "the schema {} of its masks belongs to {}; apply as that role",
                    profile.role, schema.owner
                )
            }),
            None => (!snapshot.account.create_schema).then(|| {
                format!(
                    "{} may not create a schema for its masks: it lacks CREATE on the database",
                    snapshot.account.name
                )
            }),
        }
    }
}

/// Other roles that get rights on the account's new objects by its default privileges, as written in SQL.
struct DefaultGrantee {
    schemas: BTreeSet<String>,
    tables: BTreeSet<String>,
}

impl DefaultGrantee {
    fn of(snapshot: &CatalogSnapshot, own: &str) -> Self {
        let account = snapshot.account.name.as_str();
        let of = |kind: &str| {
            let made = snapshot
                .defaults
                .iter()
                .filter(|right| right.owner == account && right.kind == kind);
            let there = made.filter(|right| right.schema.as_deref().is_none_or(|schema| schema == own));
            let roles = there.map(|right| right.role.as_deref());
            // Rights of the profile's role were revoked by an earlier step.
            roles
                .filter(|role| *role != Some(account) && *role != Some(own))
                .map(grantee)
                .collect()
        };
        Self {
            schemas: of("SCHEMAS"),
            tables: of("TABLES"),
        }
    }
}

/// Returns the roles with rights on an object, without its owner and the intended role.
fn others(object: &CatalogObject, meant: Option<&str>) -> BTreeSet<String> {
    let roles = object.held.iter().map(|held| held.role.as_deref());
    let others = roles.filter(|role| *role != Some(&object.owner) && (role.is_none() || *role != meant));
    others.map(grantee).collect()
}

fn grantee(role: Option<&str>) -> String {
    role.map_or_else(|| "PUBLIC".to_owned(), quoted)
}

/// Returns the step that revokes all rights of others on an object of the gate, including those passed on.
fn shut(kind: &str, what: &str, from: BTreeSet<String>) -> Option<PlanStep> {
    let from: Vec<String> = from.into_iter().collect();
    let sql = format!("REVOKE ALL ON {kind} {what} FROM {} CASCADE", from.join(", "));
    (!from.is_empty()).then(|| PlanStep::new(sql, "only the profile may use it".to_owned()))
}
