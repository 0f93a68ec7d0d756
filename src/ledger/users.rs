//! Local users: their groups, their tokens (as hashes only), and which identities are shut out.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Ledger, LedgerError};
use crate::identity::Identity;
use crate::names::{GroupName, IdentityName};
use crate::secret::Secret;

/// A local user, or an identity of an issuer that was disabled here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserView {
    /// Its name.
    pub name: IdentityName,
    /// Its groups.
    pub groups: BTreeSet<GroupName>,
    /// Whether it may come in.
    pub disabled: bool,
    /// Whether it has a token here.
    pub local: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Ledger {
    /// Makes a local user; the token is returned here and nowhere else.
    pub async fn add_user(
        &self,
        _name: &IdentityName,
        _groups: BTreeSet<GroupName>,
        _by: &str,
    ) -> Result<Secret<String>, LedgerError> {
        unimplemented!()
    }

    /// A fresh token; the old one is good no more.
    pub async fn rotate_user(&self, _name: &IdentityName, _by: &str) -> Result<Secret<String>, LedgerError> {
        unimplemented!()
    }

    /// Other groups.
    pub async fn regroup_user(
        &self,
        _name: &IdentityName,
        _groups: BTreeSet<GroupName>,
        _by: &str,
    ) -> Result<UserView, LedgerError> {
        unimplemented!()
    }

    /// Shuts an identity out (a local one or an issuer's): its grants are revoked, so its sessions end at once; what it has pending
    /// is rejected.
    pub async fn disable_user(&self, _name: &IdentityName, _by: &str) -> Result<UserView, LedgerError> {
        unimplemented!()
    }

    /// Lets it in again; what it had does not come back.
    pub async fn enable_user(&self, _name: &IdentityName, _by: &str) -> Result<UserView, LedgerError> {
        unimplemented!()
    }

    /// All that are known, by name.
    #[must_use]
    pub fn users(&self) -> Vec<UserView> {
        unimplemented!()
    }

    /// Whose token it is; `None` for a token nobody has, and for a disabled user's.
    #[must_use]
    pub fn user_by_token(&self, _token: &Secret<String>) -> Option<Identity> {
        unimplemented!()
    }

    /// Whether an identity is shut out.
    #[must_use]
    pub fn is_disabled(&self, _name: &IdentityName) -> bool {
        unimplemented!()
    }
}
