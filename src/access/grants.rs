//! What people do with grants: extend, give back, revoke, log in.
//!
//! It makes no grant (requests do) and ends no session (sessions watch their grant).

use std::time::Duration;

use super::{AccessError, Desk, Rules, Visitor, decide};
use crate::grant::{GIVEN_BACK, Grant, IllegalChange};
use crate::ids::GrantId;
use crate::ledger::{GrantLogin, GrantView, LedgerError};
use crate::policy::{Action, Resource};
use crate::request::Wish;

impl Desk {
    /// Moves the end of a grant further off; the policies decide again, as for a request of the whole window.
    pub async fn extend(
        &self,
        who: &Visitor,
        grant: &GrantId,
        by: Duration,
        reason: Option<&str>,
    ) -> Result<GrantView, AccessError> {
        if by.is_zero() {
            return Err(AccessError::Invalid(
                "the extension is empty; set its length, like 30m".to_owned(),
            ));
        }
        let reason = decide::reason(&self.rules().caps, reason)?;
        // Two extensions at once are each judged on what the other has made of the window.
        let _turn = self.0.turns.take(grant.as_str()).await;
        let grant = self.0.ledger.grant(grant).await?.grant;
        let own = grant.identity() == who.name();
        if own {
            self.lasting(&grant)?;
        }
        let window = grant.window().saturating_add(by);
        if let Err(error) = decide::window_within(&self.rules().caps, window) {
            return Err(self.hidden(who, &grant, error).await);
        }
        if let Err(error) = self.may_extend(who, &grant, window, reason.as_deref()).await {
            return Err(self.hidden(who, &grant, error).await);
        }
        let extended = self.0.ledger.extend(grant.id(), by, who.name().as_str(), reason.as_deref());
        Ok(extended.await?)
    }

    async fn may_extend(&self, who: &Visitor, grant: &Grant, window: Duration, reason: Option<&str>) -> Result<(), AccessError> {
        let rules = self.rules();
        let mut wish = self.wish_of(&rules, grant, window).await?;
        let own = grant.identity() == who.name();
        if own {
            wish.groups.clone_from(&who.identity.groups);
        }
        if let Some(reason) = reason {
            wish.reason = Some(reason.to_owned());
        }
        let ruling = self.ask(&rules, who, Action::Extend, Resource::Access(&wish));
        self.settled(&ruling, grant.id().as_str()).await?;
        // What nobody approved does not grow beyond what is allowed without approval by extending it oneself.
        if wish.break_glass && own {
            let ruling = self.ask(&rules, who, Action::BreakGlass, Resource::Access(&wish));
            self.settled(&ruling, grant.id().as_str()).await?;
        }
        Ok(())
    }

    /// Ends one's own grant early. To give back what has ended already is no mistake.
    pub async fn release(&self, who: &Visitor, grant: &GrantId) -> Result<GrantView, AccessError> {
        let view = self.own(who, grant).await?;
        if view.grant.status(self.0.clock.now()).ended() {
            return Ok(view);
        }
        let released = self.0.ledger.revoke(grant, who.name().as_str(), Some(GIVEN_BACK));
        match released.await {
            // It ended while this was on its way.
            Err(LedgerError::Illegal(IllegalChange::Ended(_))) => Ok(self.0.ledger.grant(grant).await?),
            answer => Ok(answer?),
        }
    }

    /// Ends somebody's grant: one's own without being asked, another's by policy.
    pub async fn revoke(&self, who: &Visitor, grant: &GrantId, reason: Option<&str>) -> Result<GrantView, AccessError> {
        let reason = decide::reason(&self.rules().caps, reason)?;
        let grant = self.0.ledger.grant(grant).await?.grant;
        if grant.identity() != who.name()
            && let Err(error) = self.may_revoke(who, &grant).await
        {
            return Err(self.hidden(who, &grant, error).await);
        }
        Ok(self
            .0
            .ledger
            .revoke(grant.id(), who.name().as_str(), reason.as_deref())
            .await?)
    }

    async fn may_revoke(&self, who: &Visitor, grant: &Grant) -> Result<(), AccessError> {
        let rules = self.rules();
        let wish = self.wish_of(&rules, grant, grant.window()).await?;
        let ruling = self.ask(&rules, who, Action::Revoke, Resource::Access(&wish));
        self.settled_at_once(&ruling, grant.id().as_str()).await
    }

    /// A login of one's own grant.
    pub async fn login(&self, who: &Visitor, grant: &GrantId) -> Result<GrantLogin, AccessError> {
        let view = self.own(who, grant).await?;
        self.lasting(&view.grant)?;
        Ok(self.0.ledger.issue_login(grant, who.name().as_str()).await?)
    }

    /// A grant, if it is one's own.
    async fn own(&self, who: &Visitor, grant: &GrantId) -> Result<GrantView, AccessError> {
        let view = self.0.ledger.grant(grant).await?;
        if view.grant.identity() == who.name() {
            Ok(view)
        } else {
            Err(self.hidden(who, &view.grant, AccessError::NotYours(grant.clone())).await)
        }
    }

    /// The answer about a grant that cannot be had: for those who may not see it, that there is none. That the gate failed is
    /// told to everybody.
    async fn hidden(&self, who: &Visitor, grant: &Grant, error: AccessError) -> AccessError {
        let failed = matches!(error, AccessError::Ledger(_));
        if failed || self.sees_grant(who, grant).await {
            error
        } else {
            LedgerError::NoSuchGrant(grant.id().clone()).into()
        }
    }

    fn lasting(&self, grant: &Grant) -> Result<(), AccessError> {
        let status = grant.status(self.0.clock.now());
        if status.ended() {
            return Err(LedgerError::Illegal(IllegalChange::Ended(status)).into());
        }
        Ok(())
    }

    /// What would have to be asked for to get this grant with this window.
    pub(super) async fn wish_of(&self, rules: &Rules, grant: &Grant, window: Duration) -> Result<Wish, AccessError> {
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
                known: rules.targets.keys().cloned().collect(),
            });
        };
        let mut wish = decide::as_wish(grant, request.as_ref(), profile.clone(), window);
        // Whose grant it is, in the groups they are in now.
        wish.groups = self.present(&wish).groups;
        Ok(wish)
    }
}
