//! The bodies of sign-ins.
//!
//! Shapes only, as all of [`super`].

use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use utoipa::{IntoParams, ToSchema};

pub use crate::ledger::SignInView;
use crate::model::names::IdentityName;
pub use crate::model::sign_in::SignInVia;

/// Sign-in to be made: `POST /v1/signins`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSignInBody {
    /// Place of the sign-in: `cli` for a program, `console` for a browser.
    #[schema(value_type = String)]
    pub via: SignInVia,
}

/// New sign-in. It is the only place where the secret appears.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct IssuedSignIn {
    /// The sign-in.
    pub sign_in: SignInView,
    /// Secret, to be sent in place of a token. It is not stored and cannot be shown again.
    pub secret: String,
}

/// Sign-ins that have not ended: `GET /v1/signins`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SignInsBody {
    /// Sign-ins, the newest first.
    pub sign_ins: Vec<SignInView>,
}

/// Query of `GET /v1/signins`.
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SignInsQuery {
    /// Only sign-ins of this identity.
    pub identity: Option<IdentityName>,
}
