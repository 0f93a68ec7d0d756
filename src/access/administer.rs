//! Operations of operators, and of identities that the policies let administer: grants made by hand, users, the clock.
//!
//! It does not store: the ledger does. INVARIANT: none of these operations can be called without an [`Administration`], which
//! only a permission gives.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use super::{AccessError, AccessService, Caller, decide};
use crate::access::policy::Action;
use crate::base::duration;
use crate::base::secret::Secret;
use crate::ledger::{ChangeEffect, ClockView, GrantView, LedgerError, RequestFilter, RotatedToken, UserFilter, UserView};
use crate::model::grant::{GrantChange, Terms};
use crate::model::ids::GrantId;
use crate::model::names::{GroupName, IdentityName};

/// Shortest life of a local user's token.
pub const MIN_TOKEN_LIFE: Duration = Duration::from_secs(1);
/// Longest life of a local user's token: ten years.
pub const MAX_TOKEN_LIFE: Duration = Duration::from_hours(3_650 * 24);

/// Permission of a caller to administer, with the operations that it allows.
pub struct Administration<'a> {
    service: &'a AccessService,
    caller: &'a Caller,
}

impl AccessService {
    /// Returns the operations of an administrator if the caller may administer. The decision on a person is on record.
    pub async fn administer<'a>(&'a self, caller: &'a Caller) -> Result<Administration<'a>, AccessError> {
        self.may(caller, Action::Administer).await?;
        Ok(Administration { service: self, caller })
    }

    /// Does the same for operations that take rights away: a permission does not wait for its record.
    pub async fn administer_at_once<'a>(&'a self, caller: &'a Caller) -> Result<Administration<'a>, AccessError> {
        self.may_take_away(caller, Action::Administer).await?;
        Ok(Administration { service: self, caller })
    }

    /// Returns a sentence for each of these groups of `name` that no policy in force names.
    #[must_use]
    pub fn unnamed_groups(&self, name: &IdentityName, groups: &BTreeSet<GroupName>) -> Vec<String> {
        let rules = self.rules();
        let unnamed = |group| rules.policies.as_ref()?.unnamed(group, name.as_str());
        groups.iter().filter_map(unnamed).collect()
    }
}

impl Administration<'_> {
    /// Creates a grant without a request, for another identity, and returns it with its secret.
    pub async fn create_grant(&self, terms: Terms) -> Result<(GrantView, Secret<String>), AccessError> {
        self.for_another(&terms.identity)?;
        let rules = self.service.rules();
        let (target, profiles) = decide::find_target(&rules, terms.target.as_str())?;
        if let Some(unknown) = terms.profile.as_ref().filter(|profile| !profiles.contains(profile)) {
            return Err(AccessError::NoSuchProfile {
                target: target.clone(),
                asked: unknown.to_string(),
                known: profiles.to_vec(),
            });
        }
        let ledger = &self.service.0.ledger;
        let (grant, secret) = ledger.create(terms, self.caller.name()).await?;
        Ok((ledger.grant(grant.id()).await?, secret))
    }

    /// Returns a grant.
    pub async fn grant(&self, id: &GrantId) -> Result<GrantView, AccessError> {
        Ok(self.service.0.ledger.grant(id).await?)
    }

    /// Changes a grant.
    pub async fn change(&self, id: &GrantId, change: GrantChange, reason: Option<&str>) -> Result<GrantView, AccessError> {
        let changed = self.service.0.ledger.change(id, change, self.caller.name(), reason);
        Ok(changed.await?)
    }

    /// Returns a page of the known users, by name.
    #[must_use]
    pub fn users(&self, filter: &UserFilter) -> Vec<UserView> {
        self.service.0.ledger.users_page(filter)
    }

    /// Creates a local user, whose name may belong to no issuer, and returns it with its token. The token is good for `life`, or as
    /// long as the rules say.
    pub async fn add_user(
        &self,
        name: &IdentityName,
        groups: BTreeSet<GroupName>,
        life: Option<Duration>,
    ) -> Result<(UserView, Secret<String>), AccessError> {
        let until = self.token_until(life)?;
        self.of_no_issuer(name).await?;
        let ledger = &self.service.0.ledger;
        let token = ledger.add_user_until(name, groups, Some(until), self.caller.name()).await?;
        Ok((self.user(name)?, token))
    }

    /// Replaces a user's token. The old one is invalid even if there is no new one: the effect says so, and an error would claim
    /// that nothing was done.
    pub async fn rotate_user(
        &self,
        name: &IdentityName,
        life: Option<Duration>,
    ) -> Result<(UserView, RotatedToken), AccessError> {
        let until = self.token_until(life)?;
        let ledger = &self.service.0.ledger;
        let rotated = ledger.rotate_user_until(name, Some(until), self.caller.name()).await;
        let rotated = rotated.map_err(|error| self.with_nearest(error))?;
        let effect = ChangeEffect {
            recorded: rotated.effect.recorded && rotated.token.is_some(),
            ..rotated.effect
        };
        let user = UserView {
            effect: Some(effect),
            ..self.user(name)?
        };
        Ok((user, rotated))
    }

    /// Disables an identity. One that the gate has never seen is an error unless `unseen`, because a typing error in the name must
    /// not look like a success.
    pub async fn disable_user(&self, name: &IdentityName, unseen: bool) -> Result<UserView, AccessError> {
        let ledger = &self.service.0.ledger;
        if !unseen && !ledger.knows(name).await {
            return Err(AccessError::NeverSeen {
                name: name.clone(),
                nearest: ledger.nearest_user(name),
            });
        }
        Ok(ledger.disable_user(name, self.caller.name()).await?)
    }

    /// Enables an identity again.
    pub async fn enable_user(&self, name: &IdentityName) -> Result<UserView, AccessError> {
        let enabled = self.service.0.ledger.enable_user(name, self.caller.name()).await;
        enabled.map_err(|error| self.with_nearest(error))
    }

    /// Replaces the groups of another user.
    pub async fn regroup_user(&self, name: &IdentityName, groups: BTreeSet<GroupName>) -> Result<UserView, AccessError> {
        self.for_another(name)?;
        let regrouped = self.service.0.ledger.regroup_user(name, groups, self.caller.name()).await;
        regrouped.map_err(|error| self.with_nearest(error))
    }

    /// Returns gate time and machine time.
    #[must_use]
    pub fn clock(&self) -> ClockView {
        self.service.0.ledger.clock()
    }

    /// Sets gate time to the machine's clock.
    pub async fn set_clock_right(&self, reason: Option<&str>) -> Result<ClockView, AccessError> {
        let set = self.service.0.ledger.set_clock_right(self.caller.name(), reason);
        Ok(set.await?)
    }

    /// Returns the end of a token that is made now.
    fn token_until(&self, life: Option<Duration>) -> Result<Timestamp, AccessError> {
        let life = life.unwrap_or_else(|| self.service.rules().token_life);
        if !(MIN_TOKEN_LIFE..=MAX_TOKEN_LIFE).contains(&life) {
            let (least, most) = (duration::show(MIN_TOKEN_LIFE), duration::show(MAX_TOKEN_LIFE));
            return Err(AccessError::Invalid(format!(
                "a token lives {least} to {most}; set its life, like 30d"
            )));
        }
        Ok(self.service.0.clock.now().checked_add(life).unwrap_or(Timestamp::MAX))
    }

    fn for_another(&self, name: &IdentityName) -> Result<(), AccessError> {
        if self.caller.is(name) {
            return Err(AccessError::ForOneself);
        }
        Ok(())
    }

    /// Checks that the name belongs to no issuer, now or when it was used in a request. A new user takes over all that belongs to
    /// the name: grants, requests, approvals.
    async fn of_no_issuer(&self, name: &IdentityName) -> Result<(), AccessError> {
        let rules = self.service.rules();
        let mut issuer = rules.issuers.who_names(name).map(|issuer| issuer.issuer.clone());
        if issuer.is_none() {
            let last = RequestFilter {
                identity: Some(name.clone()),
                limit: 1,
                ..RequestFilter::default()
            };
            let last = self.service.0.ledger.requests(last).await?.pop();
            issuer = last.and_then(|view| view.request.wish.issuer);
        }
        issuer.map_or(Ok(()), |issuer| {
            Err(AccessError::IssuersName {
                name: name.clone(),
                issuer,
            })
        })
    }

    fn user(&self, name: &IdentityName) -> Result<UserView, AccessError> {
        let user = self.service.0.ledger.user(name);
        user.ok_or_else(|| self.with_nearest(LedgerError::NoSuchUser(name.clone())))
    }

    /// Converts the error, and adds the nearest existing name for an unknown user.
    fn with_nearest(&self, error: LedgerError) -> AccessError {
        match error {
            LedgerError::NoSuchUser(name) => AccessError::NoSuchUser {
                nearest: self.service.0.ledger.nearest_user(&name),
                name,
            },
            error => error.into(),
        }
    }
}
