//! What people do with grants: extend, give back, revoke, log in.
//!
//! It makes no grant (requests do) and ends no session (sessions watch their grant).

use std::time::Duration;

use super::{AccessError, Desk, Rules, decide};
use crate::grant::{Grant, IllegalChange};
use crate::identity::Identity;
use crate::ids::GrantId;
use crate::ledger::{GrantLogin, GrantView, LedgerError};
use crate::policy::{Action, Resource};
use crate::request::Wish;

impl Desk {
    /// Moves the end of a grant further off; the policies decide again, as for a request of the whole window.
    pub async fn extend(
        &self,
        who: &Identity,
        grant: &GrantId,
        by: Duration,
        reason: Option<&str>,
    ) -> Result<GrantView, AccessError> {
        if by.is_zero() {
            return Err(AccessError::Invalid("an extension by nothing: name how long".to_owned()));
        }
        let reason = decide::reason(reason)?;
        // Two extensions at once are each judged on what the other has made of the window.
        let _turn = self.0.turns.take(grant.as_str()).await;
        let rules = self.rules();
        let GrantView { grant, .. } = self.lasting(grant).await?;
        let mut wish = self.wish_of(&rules, &grant, grant.window().saturating_add(by)).await?;
        if grant.identity() == &who.name {
            wish.groups.clone_from(&who.groups);
        }
        if reason.is_some() {
            wish.reason.clone_from(&reason);
        }
        let ruling = self.ask(&rules, who, Action::Extend, Resource::Access(&wish), None);
        self.settled(&ruling, grant.id().as_str()).await?;
        // What nobody approved does not grow beyond what is allowed without approval by extending it oneself.
        if wish.break_glass && wish.identity == who.name {
            let ruling = self.ask(&rules, who, Action::BreakGlass, Resource::Access(&wish), None);
            self.settled(&ruling, grant.id().as_str()).await?;
        }
        let extended = self.0.ledger.extend(grant.id(), by, who.name.as_str(), reason.as_deref());
        Ok(extended.await?)
    }

    /// Ends one's own grant early. To give back what has ended already is no mistake.
    pub async fn release(&self, who: &Identity, grant: &GrantId) -> Result<GrantView, AccessError> {
        let view = self.own(who, grant).await?;
        let now = self.0.clock.now();
        if view.grant.status(now).ended() {
            return Ok(view);
        }
        let released = self.0.ledger.shorten_to(grant, now, who.name.as_str(), Some("given back"));
        match released.await {
            // It ended while this was on its way.
            Err(LedgerError::Illegal(IllegalChange::Ended(_) | IllegalChange::NotShorter)) => {
                Ok(self.0.ledger.grant(grant).await?)
            }
            answer => Ok(answer?),
        }
    }

    /// Ends somebody's grant: one's own without being asked, another's by policy.
    pub async fn revoke(&self, who: &Identity, grant: &GrantId, reason: Option<&str>) -> Result<GrantView, AccessError> {
        let reason = decide::reason(reason)?;
        let view = self.lasting(grant).await?;
        if view.grant.identity() != &who.name {
            let rules = self.rules();
            let wish = self.wish_of(&rules, &view.grant, view.grant.window()).await?;
            let ruling = self.ask(&rules, who, Action::Revoke, Resource::Access(&wish), None);
            self.settled(&ruling, grant.as_str()).await?;
        }
        Ok(self.0.ledger.revoke(grant, who.name.as_str(), reason.as_deref()).await?)
    }

    /// A login of one's own grant.
    pub async fn login(&self, who: &Identity, grant: &GrantId) -> Result<GrantLogin, AccessError> {
        self.own(who, grant).await?;
        self.lasting(grant).await?;
        Ok(self.0.ledger.issue_login(grant, who.name.as_str()).await?)
    }

    /// A grant, if it is one's own.
    async fn own(&self, who: &Identity, grant: &GrantId) -> Result<GrantView, AccessError> {
        let view = self.0.ledger.grant(grant).await?;
        if view.grant.identity() == &who.name {
            Ok(view)
        } else {
            Err(AccessError::NotYours(grant.clone()))
        }
    }

    /// A grant, if it has not ended.
    async fn lasting(&self, grant: &GrantId) -> Result<GrantView, AccessError> {
        let view = self.0.ledger.grant(grant).await?;
        let status = view.grant.status(self.0.clock.now());
        if status.ended() {
            return Err(LedgerError::Illegal(IllegalChange::Ended(status)).into());
        }
        Ok(view)
    }

    /// What would have to be asked for to get this grant with this window.
    async fn wish_of(&self, rules: &Rules, grant: &Grant, window: Duration) -> Result<Wish, AccessError> {
        let request = match grant.request() {
            Some(id) => Some(self.find(id).await?.request),
            None => None,
        };
        // A grant made by hand may name no profile; it counts as the widest there is.
        let widest = || rules.targets.get(grant.target()).and_then(|profiles| profiles.last());
        let Some(profile) = grant.profile().or_else(widest) else {
            return Err(AccessError::NoSuchTarget {
                asked: grant.target().to_string(),
                nearest: None,
            });
        };
        let mut wish = decide::as_wish(grant, request.as_ref(), profile.clone(), window);
        // Whose grant it is, in the groups they are in now.
        wish.groups = self.present(&wish).groups;
        Ok(wish)
    }
}
