//! Translation of a question into Cedar's terms: principal, action, resource, context, and the entities they refer to.
//!
//! It answers nothing. The translation is checked against the schema, so that policies see the attributes that the validator
//! relied on.

use std::collections::{BTreeSet, HashMap, HashSet};

use cedar_policy::{
    Context as CedarContext, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request as CedarRequest,
    RestrictedExpression, Schema,
};
use jiff::tz::TimeZone;

use super::{AccessQuestion, Action, Resource};
use crate::identity::{Identity, IdentitySource};
use crate::model::arrival::Arrival;
use crate::model::names::{GroupName, IdentityName, ProfileName, TargetName};
use crate::model::request::{Request, RequestSpec};

/// Parts common to all questions: the schema, the time zone, and the names of types.
#[derive(Debug)]
pub(super) struct CedarSchema {
    pub(super) schema: Schema,
    pub(super) zone: TimeZone,
    types: CedarTypes,
}

#[derive(Debug)]
struct CedarTypes {
    identity: EntityTypeName,
    group: EntityTypeName,
    target: EntityTypeName,
    access: EntityTypeName,
    request: EntityTypeName,
    gate: EntityTypeName,
    action: EntityTypeName,
}

/// Question in Cedar's terms.
pub(super) struct CedarQuestion {
    pub(super) request: CedarRequest,
    pub(super) entities: Entities,
    /// Entities with which a policy's scope matches this principal: itself and its groups.
    pub(super) principals: Vec<EntityUid>,
    /// Entities with which a policy's scope matches the resource: itself and its parents.
    pub(super) resources: Vec<EntityUid>,
}

type EntityAttributes = HashMap<String, RestrictedExpression>;

impl CedarSchema {
    /// Creates the translation. The names are well-formed, so this always returns `Some`.
    pub(super) fn new(schema: Schema, zone: TimeZone) -> Option<Self> {
        let name = |name: &str| format!("Tidegate::{name}").parse().ok();
        let types = CedarTypes {
            identity: name("Identity")?,
            group: name("Group")?,
            target: name("Target")?,
            access: name("Access")?,
            request: name("Request")?,
            gate: name("Gate")?,
            action: name("Action")?,
        };
        Some(Self { schema, zone, types })
    }

    pub(super) fn action(&self, action: Action) -> EntityUid {
        uid(&self.types.action, action.name())
    }

    pub(super) fn is_target(&self, entity: &EntityUid) -> bool {
        *entity.type_name() == self.types.target
    }

    pub(super) fn is_group(&self, entity: &EntityUid) -> bool {
        *entity.type_name() == self.types.group
    }

    pub(super) fn is_identity(&self, entity: &EntityUid) -> bool {
        *entity.type_name() == self.types.identity
    }

    pub(super) fn is_request(&self, entity: &EntityUid) -> bool {
        *entity.type_name() == self.types.request
    }

    pub(super) fn is_access(&self, entity: &EntityUid) -> bool {
        *entity.type_name() == self.types.access
    }

    /// Translates a question. The error says why it does not fit the schema.
    pub(super) fn put(&self, question: &AccessQuestion<'_>) -> Result<CedarQuestion, String> {
        let (principal, groups) = self.identity(&question.identity.name, &question.identity.groups);
        let mut entities = vec![self.principal(question.identity)?];
        let (resource, within) = match question.resource {
            Resource::Gate => {
                let gate = uid(&self.types.gate, "gate");
                entities.push(Entity::new_no_attrs(gate.clone(), HashSet::new()));
                (gate, Vec::new())
            }
            Resource::Access(wish) => self.access(wish, &principal, &mut entities)?,
            Resource::Request(request) => self.request(request, &principal, &mut entities)?,
        };
        let request = |attributes: EntityAttributes| {
            let context = CedarContext::from_pairs(attributes).map_err(|error| error.to_string())?;
            let (principal, action) = (principal.clone(), self.action(question.action));
            let request = CedarRequest::new(principal, action, resource.clone(), context, Some(&self.schema));
            request.map_err(|error| error.to_string())
        };
        let attributes = self.context(question);
        // No policy of a set from before an attribute can ask for it: the newest are left out first.
        let mut newer = newer(question.context.arrival);
        let request = loop {
            let mut known = attributes.clone();
            known.extend(newer.iter().cloned());
            match request(known) {
                Err(_) if newer.pop().is_some() => {}
                translated => break translated?,
            }
        };
        let entities = Entities::from_entities(entities, Some(&self.schema)).map_err(|error| error.to_string())?;
        Ok(CedarQuestion {
            request,
            entities,
            principals: [principal].into_iter().chain(groups).collect(),
            resources: [resource].into_iter().chain(within).collect(),
        })
    }

    fn identity(&self, name: &IdentityName, groups: &BTreeSet<GroupName>) -> (EntityUid, Vec<EntityUid>) {
        let groups = groups.iter().map(|group| uid(&self.types.group, group.as_str()));
        (uid(&self.types.identity, name.as_str()), groups.collect())
    }

    fn principal(&self, identity: &Identity) -> Result<Entity, String> {
        let (principal, groups) = self.identity(&identity.name, &identity.groups);
        let tags = identity.claims.iter().map(|(name, value)| (name.clone(), string(value)));
        let name = HashMap::from([("name".to_owned(), string(identity.name.as_str()))]);
        Entity::new_with_tags(principal, name, groups.into_iter().collect::<HashSet<_>>(), tags)
            .map_err(|error| error.to_string())
    }

    /// Returns the owner of a resource, and adds its entity unless it is the principal, whose entity with the present groups
    /// exists already.
    fn owner(&self, wish: &RequestSpec, principal: &EntityUid, entities: &mut Vec<Entity>) -> Result<EntityUid, String> {
        let (owner, groups) = self.identity(&wish.identity, &wish.groups);
        if owner != *principal {
            let name = HashMap::from([("name".to_owned(), string(wish.identity.as_str()))]);
            entities.push(entity(owner.clone(), name, groups)?);
        }
        Ok(owner)
    }

    fn access_uid(&self, target: &TargetName, profile: &ProfileName) -> EntityUid {
        uid(&self.types.access, &format!("{target}/{profile}"))
    }

    fn access(
        &self,
        wish: &RequestSpec,
        principal: &EntityUid,
        entities: &mut Vec<Entity>,
    ) -> Result<(EntityUid, Vec<EntityUid>), String> {
        let owner = self.owner(wish, principal, entities)?;
        let (access, target) = (self.access_uid(&wish.target, &wish.profile), self.target(&wish.target));
        let mut attributes = place(wish);
        attributes.insert("owner".to_owned(), RestrictedExpression::new_entity_uid(owner));
        entities.push(entity(access.clone(), attributes, vec![target.clone()])?);
        Ok((access, vec![target]))
    }

    fn request(
        &self,
        request: &Request,
        principal: &EntityUid,
        entities: &mut Vec<Entity>,
    ) -> Result<(EntityUid, Vec<EntityUid>), String> {
        let wish = &request.wish;
        // Only a parent of the request: no policy asks for the owner of this entity, but every entity needs all its attributes.
        let (access, mut within) = self.access(wish, principal, entities)?;
        let requester = uid(&self.types.identity, wish.identity.as_str());
        let mut attributes = place(wish);
        attributes.extend(words(wish));
        attributes.insert("requester".to_owned(), RestrictedExpression::new_entity_uid(requester));
        attributes.insert("window_seconds".to_owned(), seconds(wish));
        attributes.insert("break_glass".to_owned(), RestrictedExpression::new_bool(wish.break_glass));
        within.push(access);
        let request = uid(&self.types.request, &request.id.to_string());
        entities.push(entity(request.clone(), attributes, within.clone())?);
        Ok((request, within))
    }

    fn target(&self, target: &TargetName) -> EntityUid {
        uid(&self.types.target, target.as_str())
    }

    fn context(&self, question: &AccessQuestion<'_>) -> EntityAttributes {
        let context = question.context;
        let here = self.zone.to_datetime(context.now);
        let source = match &question.identity.source {
            IdentitySource::Local => "local",
            IdentitySource::Issuer(issuer) => issuer,
        };
        let long = |number: i64| RestrictedExpression::new_long(number);
        let mut attributes = HashMap::from([
            ("hour".to_owned(), long(here.hour().into())),
            ("weekday".to_owned(), long(here.weekday().to_monday_one_offset().into())),
            ("source".to_owned(), string(source)),
            ("active_grants".to_owned(), long(context.active_grants.into())),
        ]);
        if let Some(client) = context.client {
            // Policies write 10.0.0.1, not ::ffff:10.0.0.1.
            let client = RestrictedExpression::new_ip(client.to_canonical().to_string());
            attributes.insert("client".to_owned(), client);
        }
        if let Resource::Access(wish) = question.resource {
            attributes.insert("window_seconds".to_owned(), seconds(wish));
            attributes.insert("max_sessions".to_owned(), long(wish.max_sessions.into()));
            attributes.insert("break_glass".to_owned(), RestrictedExpression::new_bool(wish.break_glass));
            attributes.extend(words(wish));
        }
        attributes
    }
}

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

fn entity(entity: EntityUid, attributes: EntityAttributes, parents: Vec<EntityUid>) -> Result<Entity, String> {
    Entity::new(entity, attributes, parents.into_iter().collect()).map_err(|error| error.to_string())
}

fn string(text: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(text.to_owned())
}

/// Returns the attributes of an arrival, the newest last.
fn newer(arrival: Arrival) -> Vec<(String, RestrictedExpression)> {
    let age = arrival.signed_in_ago.map(|age| {
        let seconds = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
        ("signed_in_ago".to_owned(), RestrictedExpression::new_long(seconds))
    });
    age.into_iter()
        .chain([("via".to_owned(), string(arrival.via.as_str()))])
        .collect()
}

fn place(wish: &RequestSpec) -> EntityAttributes {
    HashMap::from([
        ("target".to_owned(), string(wish.target.as_str())),
        ("profile".to_owned(), string(wish.profile.as_str())),
    ])
}

/// Returns the window in seconds, rounded up so that a fraction of a second does not become 0.
fn seconds(wish: &RequestSpec) -> RestrictedExpression {
    let seconds = wish
        .window
        .as_secs()
        .saturating_add(u64::from(wish.window.subsec_nanos() > 0));
    RestrictedExpression::new_long(i64::try_from(seconds).unwrap_or(i64::MAX))
}

/// Returns reason and ticket, without those that are blank.
fn words(wish: &RequestSpec) -> impl Iterator<Item = (String, RestrictedExpression)> {
    [("reason", &wish.reason), ("ticket", &wish.ticket)]
        .into_iter()
        .filter_map(|(name, text)| {
            let text = text.as_deref()?.trim();
            (!text.is_empty()).then(|| (name.to_owned(), string(text)))
        })
}
