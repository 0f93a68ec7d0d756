//! Who somebody is: a name, groups, and what a token says beside that; and how it is proved.
//!
//! It does not decide what an identity may do (policies do), and does not store local users (the ledger does).

mod claims;
mod error;
mod issuers;
mod jwks;
mod keys;
#[cfg(test)]
mod tests;

pub use error::TokenError;
pub(crate) use issuers::read_hostile;
pub use issuers::{EmailVerified, IssuerSettings, Issuers, Keys, looks_like_jwt};

use std::collections::{BTreeMap, BTreeSet};

use crate::names::{GroupName, IdentityName};

/// A person or a workload that has proved who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its name; the log has it with every statement.
    pub name: IdentityName,
    /// Its groups.
    pub groups: BTreeSet<GroupName>,
    /// How it was proved.
    pub source: Source,
    /// What a CI system's token says of the run (`repository`, `ref`, `pipeline`, ...), for policies; empty for people.
    pub claims: BTreeMap<String, String>,
}

/// How an identity was proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// By the token of a local user.
    Local,
    /// By a signed token of this issuer.
    Issuer(String),
}
