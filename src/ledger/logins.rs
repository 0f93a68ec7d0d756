//! Logins: user names and passwords with which clients connect under a grant. Several are valid at once, so that a login of one
//! client does not end another's.
//!
//! This module does not decide about rights to a login, and keeps no secret: only verifiers.
//!
//! INVARIANT: a grant has at most [`MOST`] logins; a further one replaces the oldest. A grant that has ended gets none.

use std::collections::VecDeque;
use std::sync::Arc;

use super::commit::{fresh_secret, to_the_end};
use super::record::Deed;
use super::{Entry, GrantLogin, Ledger, LedgerError, row};
use crate::grant::IllegalChange;
use crate::ids::GrantId;
use crate::scram::Verifier;

/// Number of logins of one grant that are valid at once.
pub(super) const MOST: usize = 32;

/// Logins of one grant, the oldest first.
#[derive(Default)]
pub(super) struct Logins(VecDeque<(String, Verifier)>);

impl Logins {
    pub(super) fn add(&mut self, name: String, verifier: Verifier) {
        while self.0.len() >= MOST {
            self.0.pop_front();
        }
        self.0.push_back((name, verifier));
    }

    fn get(&self, name: &str) -> Option<&Verifier> {
        self.0
            .iter()
            .find_map(|(known, verifier)| (known == name).then_some(verifier))
    }

    /// Returns the login that a further one would replace.
    fn next_out(&self) -> Option<&str> {
        self.0.front().filter(|_| self.0.len() >= MOST).map(|(name, _)| name.as_str())
    }
}

impl Ledger {
    /// Returns the grant that a client logs in to with this user name: a grant's id, or one of its logins.
    #[must_use]
    pub fn grant_of_login(&self, user: &str) -> Option<GrantId> {
        GrantId::of_login(user)
    }

    /// Issues a new login of a grant; its other logins stay valid (up to 32, then the oldest is dropped).
    pub async fn issue_login(&self, grant: &GrantId, by: &str) -> Result<GrantLogin, LedgerError> {
        let Some(entry) = self.0.entry(grant) else {
            let view = self.grant(grant).await?;
            let now = self.0.clock.now();
            return Err(IllegalChange::Ended(view.grant.status(now)).into());
        };
        let ledger = self.clone();
        let by = by.to_owned();
        to_the_end(async move { ledger.issue(&entry, by).await }).await
    }

    async fn issue(&self, entry: &Arc<Entry>, by: String) -> Result<GrantLogin, LedgerError> {
        let (secret, verifier) = fresh_secret().await?;
        self.0.is_settled(entry).await?;
        let _turn = entry.committing.lock().await;
        let grant = entry.current();
        let status = grant.status(self.0.clock.now());
        if status.ended() {
            return Err(IllegalChange::Ended(status).into());
        }
        let user = entry.fresh_name()?;
        let dropped = entry.logins.lock().next_out().map(str::to_owned);
        let deed = Deed {
            change: "login_issued",
            by,
            reason: None,
        };
        self.0.recorder.record(&deed.event(&grant)).await?;
        let (id, name, text) = (grant.id().clone(), user.clone(), verifier.to_string());
        let stored = self
            .0
            .store
            .call(move |connection| row::logins::insert(connection, &id, (&name, &text), dropped.as_deref()))
            .await;
        self.0.settle(stored, &grant, &deed).await?;
        entry.logins.lock().add(user.clone(), verifier);
        Ok(GrantLogin { user, secret })
    }
}

impl Entry {
    /// Returns the verifier for a login by `user`, if that is a login of this grant.
    pub(super) fn verifier(&self, user: &str) -> Option<Verifier> {
        if user == self.current().id().as_str() {
            return self.verifier.clone();
        }
        self.logins.lock().get(user).cloned()
    }

    fn fresh_name(&self) -> Result<String, LedgerError> {
        loop {
            let mut random = [0; 4];
            getrandom::fill(&mut random)?;
            let name = self.current().id().login(random);
            if self.logins.lock().get(&name).is_none() {
                return Ok(name);
            }
        }
    }
}
