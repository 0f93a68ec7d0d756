//! Event of a sign-in at the gate itself.
//!
//! It is data, like all of [`super`].

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use super::SignInChangeKind;
use crate::model::ids::SignInId;
use crate::model::names::{EnumOrUnknown, IdentityName};
use crate::model::sign_in::SignInVia;

/// Beginning or end of a sign-in at the console or the command line. One that ends by its time has no record of that.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignInChanged {
    /// Id of the sign-in.
    pub sign_in: SignInId,
    /// Identity that signed in.
    pub identity: IdentityName,
    /// Kind of change.
    pub change: EnumOrUnknown<SignInChangeKind>,
    /// Author: the identity itself, an operator, or `tidegate`.
    pub by: String,
    /// Place of the sign-in.
    pub via: EnumOrUnknown<SignInVia>,
    /// Address of the client at the sign-in, if over a network.
    pub client: Option<IpAddr>,
    /// Issuer of the token that proved the identity, if it was not authenticated locally.
    pub issuer: Option<String>,
    /// Groups as they were proved; only in the record of the sign-in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Latest end.
    pub until: Timestamp,
    /// Reason of the end.
    pub reason: Option<String>,
}
