//! Identities: a name, groups and claims, and the verification that proves them.
//!
//! It does not decide what an identity may do (policies do), and does not store local users (the ledger does).

mod claims;
mod error;
mod fetch;
mod issuers;
mod jwks;
mod keys;
mod provider;
#[cfg(test)]
mod tests;

pub use error::TokenError;
pub(crate) use issuers::read_hostile;
pub use issuers::{EmailVerified, IssuerSettings, Issuers, KeysLocation, MAX_TOKEN_BYTES, ProvedPerson, looks_like_jwt};

pub use provider::{AuthorizationQuestion, DeviceAuthorization, DeviceProgress, ProviderClient, ProviderError, RedeemedCode};

use std::collections::{BTreeMap, BTreeSet};

use crate::model::names::{GroupName, IdentityName};

/// Person or workload with a proven identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Name; the log has it with every statement.
    pub name: IdentityName,
    /// Groups it is in.
    pub groups: BTreeSet<GroupName>,
    /// Proof of the identity.
    pub source: IdentitySource,
    /// Claims of a CI system's token about its run (`repository`, `ref`, `pipeline`, ...), for policies; empty for people.
    pub claims: BTreeMap<String, String>,
}

impl Identity {
    /// Creates the identity of a local user, which has no claims.
    #[must_use]
    pub fn local(name: IdentityName, groups: BTreeSet<GroupName>) -> Self {
        Self {
            name,
            groups,
            source: IdentitySource::Local,
            claims: BTreeMap::new(),
        }
    }

    /// Returns the issuer whose token proved the identity; `None` for a local user.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        match &self.source {
            IdentitySource::Local => None,
            IdentitySource::Issuer(issuer) => Some(issuer),
        }
    }
}

/// Proof of an identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentitySource {
    /// Token of a local user.
    Local,
    /// Token signed by this issuer.
    Issuer(String),
}
