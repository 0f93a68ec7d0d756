//! Logins: user names and passwords with which clients connect under a grant. Several are valid at once, so that a login of one
//! client does not end another's.
//!
//! This module does not decide about rights to a login, and keeps no secret: only verifiers.
//!
//! INVARIANT: a grant has at most [`MAX_LOGINS`] logins; a further one replaces the oldest. A grant that has ended gets none.

use std::collections::VecDeque;

use super::{GrantEntry, LedgerError};
use crate::protocol::scram::Verifier;

/// Number of logins of one grant that are valid at once.
pub(super) const MAX_LOGINS: usize = 32;

/// Logins of one grant, the oldest first.
#[derive(Default)]
pub(super) struct GrantLogins(VecDeque<(String, Verifier)>);

impl GrantLogins {
    pub(super) fn add(&mut self, name: String, verifier: Verifier) {
        while self.0.len() >= MAX_LOGINS {
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
    pub(super) fn next_out(&self) -> Option<&str> {
        self.0
            .front()
            .filter(|_| self.0.len() >= MAX_LOGINS)
            .map(|(name, _)| name.as_str())
    }
}

impl GrantEntry {
    /// Returns the verifier for a login by `user`, if that is a login of this grant.
    pub(super) fn verifier(&self, user: &str) -> Option<Verifier> {
        if user == self.current().id().as_str() {
            return self.verifier.clone();
        }
        self.logins.lock().get(user).cloned()
    }

    pub(super) fn fresh_name(&self) -> Result<String, LedgerError> {
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
