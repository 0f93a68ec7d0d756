//! Sign-ins: the gate's own sessions of people, in place of a token sent with each call.
//!
//! It proves no identity: [`super::identify`] has done that. The ledger keeps the sign-ins.
//!
//! INVARIANT: a sign-in lasts no longer than the token that it was made with (one at a provider is made with the person); one that
//! lets a terminal in gives it its own age and end; others' sign-ins are visible to callers that may administer, and to nobody else.

use std::net::IpAddr;

use jiff::Timestamp;

use super::{AccessError, AccessService, Caller};
use crate::access::policy::Action;
use crate::base::secret::Secret;
use crate::ledger::{LedgerError, NewSignIn, SignInView, StoreError};
use crate::model::ids::SignInId;
use crate::model::names::IdentityName;
use crate::model::sign_in::SignInVia;

impl AccessService {
    /// Signs a person in that has sent a token, and returns the secret of the sign-in, which nothing else has.
    pub async fn sign_in(&self, caller: &Caller, via: SignInVia) -> Result<(SignInView, Secret<String>), AccessError> {
        let who = caller.person()?;
        if who.sign_in.is_some() {
            return Err(AccessError::SignedInAlready);
        }
        self.new_sign_in(caller, self.0.clock.now(), (via, who.client)).await
    }

    /// Makes a sign-in for a person who has proved who they are at `proved_at`. It lasts no longer than their proof.
    pub(super) async fn new_sign_in(
        &self,
        caller: &Caller,
        proved_at: Timestamp,
        (via, client): (SignInVia, Option<IpAddr>),
    ) -> Result<(SignInView, Secret<String>), AccessError> {
        let who = caller.person()?;
        let latest = proved_at.checked_add(self.rules().sign_ins.longest).unwrap_or(Timestamp::MAX);
        let new = NewSignIn {
            identity: who.identity.clone(),
            via,
            client,
            proved_at,
            expires_at: who.proof_until.map_or(latest, |until| until.min(latest)),
        };
        let (service, caller) = (self.clone(), caller.clone());
        let made = self.0.ledger.sign_in(new, move || service.is_as_before(&caller)).await;
        made.map_err(|error| match error {
            // The token was replaced, or its user disabled, after it was proved.
            LedgerError::Store(StoreError::Overtaken) | LedgerError::NoSuchUser(_) => AccessError::NotIdentified,
            error => error.into(),
        })
    }

    /// Returns sign-ins that have not ended, the newest first: the caller's own; for callers that may administer those of
    /// `identity`, or all.
    #[must_use]
    pub fn sign_ins(&self, caller: &Caller, identity: Option<&IdentityName>) -> Vec<SignInView> {
        let limits = self.rules().sign_ins;
        let all = self.would(caller, Action::Administer);
        match caller.person().map(super::Principal::name) {
            Ok(own) if !all && identity.is_some_and(|identity| identity != own) => Vec::new(),
            Ok(own) if !all => self.0.ledger.sign_ins(Some(own), &limits),
            _ => self.0.ledger.sign_ins(identity, &limits),
        }
    }

    /// Ends a sign-in at once: one of the caller's own, or for callers that may administer, anybody's.
    pub async fn end_sign_in(&self, caller: &Caller, id: &SignInId) -> Result<SignInView, AccessError> {
        let unknown = || AccessError::NoSuchSignIn(id.clone());
        let whose = self.0.ledger.identity_of_sign_in(id).ok_or_else(unknown)?;
        let own = caller.is(&whose);
        if !own {
            if !self.would(caller, Action::Administer) {
                return Err(unknown());
            }
            self.may_take_away(caller, Action::Administer).await?;
        }
        let ended = self.0.ledger.end_sign_in(id, caller.name(), own).await;
        ended.ok_or_else(unknown)
    }

    /// Ends the sign-ins that were not used for too long, and forgets those that are over.
    pub async fn forget_sign_ins(&self) -> Result<(), LedgerError> {
        self.0.ledger.forget_sign_ins(&self.rules().sign_ins).await
    }
}
