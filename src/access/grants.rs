//! Operations of users on grants: extend, give back, revoke, log in.
//!
//! It makes no grant (requests do) and ends no session (sessions watch their grant).

use std::time::Duration;

use super::{AccessError, AccessRules, AccessService, Caller, Principal, decide};
use crate::access::policy::{Action, Resource};
use crate::ledger::{GrantLogin, GrantView, LedgerError};
use crate::model::grant::{ChangeError, GIVEN_BACK, Grant};
use crate::model::ids::GrantId;
use crate::model::names::TargetName;
use crate::model::request::{Request, RequestSpec};

impl AccessService {
    /// Extends the window of a grant. For a person the policies decide again, as for a request of the whole window.
    pub async fn extend(
        &self,
        caller: &Caller,
        grant: &GrantId,
        by: Duration,
        reason: Option<&str>,
    ) -> Result<GrantView, AccessError> {
        let Caller::Person(who, _) = caller else {
            return Ok(self.0.ledger.extend(grant, by, caller.name(), reason).await?);
        };
        if by.is_zero() {
            return Err(AccessError::Invalid(
                "the extension is empty; set its length, like 30m".to_owned(),
            ));
        }
        let reason = decide::reason(&self.rules().caps, reason)?;
        // Concurrent extensions are serialized, so that each is judged on the window that the other one left.
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

    async fn may_extend(
        &self,
        who: &Principal,
        grant: &Grant,
        window: Duration,
        reason: Option<&str>,
    ) -> Result<(), AccessError> {
        let rules = self.rules();
        let mut wish = self.wish_of(&rules, grant, window).await?;
        let own = grant.identity() == who.name();
        if own {
            wish.groups.clone_from(&who.identity.groups);
        }
        if let Some(reason) = reason {
            wish.reason = Some(reason.to_owned());
        }
        let decided = self.ask(&rules, who, Action::Extend, Resource::Access(&wish));
        self.settled(&decided, grant.id().as_str()).await?;
        // A break-glass grant had no approver, so its owner may extend it only as far as the policies allow break-glass.
        if wish.break_glass && own {
            let decided = self.ask(&rules, who, Action::BreakGlass, Resource::Access(&wish));
            self.settled(&decided, grant.id().as_str()).await?;
        }
        Ok(())
    }

    /// Ends the caller's own grant early. A grant that has ended already is returned unchanged.
    pub async fn release(&self, who: &Principal, grant: &GrantId) -> Result<GrantView, AccessError> {
        let view = self.own(who, grant).await?;
        if view.grant.status(self.0.clock.now()).ended() {
            return Ok(view);
        }
        let released = self.0.ledger.revoke(grant, who.name().as_str(), Some(GIVEN_BACK));
        match released.await {
            // The grant ended before this change reached the ledger.
            Err(LedgerError::Illegal(ChangeError::Ended(_))) => Ok(self.0.ledger.grant(grant).await?),
            answer => Ok(answer?),
        }
    }

    /// Revokes a grant. A person's own needs no permission; for another's the policies decide.
    pub async fn revoke(&self, caller: &Caller, grant: &GrantId, reason: Option<&str>) -> Result<GrantView, AccessError> {
        let Caller::Person(who, _) = caller else {
            return Ok(self.0.ledger.revoke(grant, caller.name(), reason).await?);
        };
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

    async fn may_revoke(&self, who: &Principal, grant: &Grant) -> Result<(), AccessError> {
        let rules = self.rules();
        let wish = self.wish_of(&rules, grant, grant.window()).await?;
        let decided = self.ask(&rules, who, Action::Revoke, Resource::Access(&wish));
        self.settled_at_once(&decided, grant.id().as_str()).await
    }

    /// Issues a login of the caller's own grant, and returns it with the grant's target.
    pub async fn login(&self, who: &Principal, grant: &GrantId) -> Result<(TargetName, GrantLogin), AccessError> {
        let view = self.own(who, grant).await?;
        self.lasting(&view.grant)?;
        let login = self.0.ledger.issue_login(grant, who.name().as_str()).await?;
        Ok((view.grant.target().clone(), login))
    }

    /// Returns a grant if it belongs to the caller.
    pub(super) async fn own(&self, who: &Principal, grant: &GrantId) -> Result<GrantView, AccessError> {
        let view = self.0.ledger.grant(grant).await?;
        if view.grant.identity() == who.name() {
            Ok(view)
        } else {
            Err(self.hidden(who, &view.grant, AccessError::NotYours(grant.clone())).await)
        }
    }

    /// Returns the error to report about a grant: "no such grant" to callers that may not see it. Failures of the ledger are
    /// reported to everybody.
    async fn hidden(&self, who: &Principal, grant: &Grant, error: AccessError) -> AccessError {
        let failed = matches!(error, AccessError::Ledger(_));
        if failed || self.sees_grant(who, grant).await {
            error
        } else {
            LedgerError::NoSuchGrant(grant.id().clone()).into()
        }
    }

    fn lasting(&self, grant: &Grant) -> Result<(), AccessError> {
        let now = self.0.clock.now();
        if grant.status(now).ended() {
            return Err(LedgerError::Illegal(ChangeError::Ended(grant.standing(now))).into());
        }
        Ok(())
    }

    /// Returns the wish that would lead to this grant with this window.
    pub(super) async fn wish_of(&self, rules: &AccessRules, grant: &Grant, window: Duration) -> Result<RequestSpec, AccessError> {
        let request = self.request_of_grant(grant).await?;
        self.wish_with(rules, grant, request.as_ref(), window)
    }

    /// Returns the request of a grant; `None` for a grant that an operator made.
    pub(super) async fn request_of_grant(&self, grant: &Grant) -> Result<Option<Request>, AccessError> {
        Ok(match grant.request() {
            Some(id) => Some(self.find(id).await?.request),
            None => None,
        })
    }

    /// Returns the same wish for a grant whose request is known.
    pub(super) fn wish_with(
        &self,
        rules: &AccessRules,
        grant: &Grant,
        request: Option<&Request>,
        window: Duration,
    ) -> Result<RequestSpec, AccessError> {
        // A grant made by hand may name no profile; the policies then judge it as the target's widest profile.
        let widest = || rules.targets.get(grant.target()).and_then(|profiles| profiles.last());
        let Some(profile) = grant.profile().or_else(widest) else {
            return Err(AccessError::NoSuchTarget {
                asked: grant.target().to_string(),
                nearest: None,
                known: rules.targets.keys().cloned().collect(),
            });
        };
        let mut wish = decide::as_wish(grant, request, profile.clone(), window);
        // The owner's present groups.
        wish.groups = self.present(&wish).groups;
        Ok(wish)
    }
}
