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

/// Issuers that people can sign in with: `GET /signin/providers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProvidersBody {
    /// Issuers, in the order of the configuration.
    pub providers: Vec<ProviderBody>,
}

/// Issuer that people can sign in with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProviderBody {
    /// Issuer, as in its tokens.
    pub issuer: String,
}

/// Device that is to sign in: `POST /signin/device`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceBody {
    /// Issuer to sign in with.
    pub issuer: String,
}

/// Codes for a device (RFC 8628).
#[skip_serializing_none]
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct DeviceSignInBody {
    /// Code for `POST /signin/device/finish`.
    pub device_code: String,
    /// Code that the person types.
    pub user_code: String,
    /// Address where the person types it.
    pub verification_uri: String,
    /// The same with the code in it.
    #[schema(nullable = false)]
    pub verification_uri_complete: Option<String>,
    /// Life of the codes in seconds.
    pub expires_in: u64,
    /// Shortest time between two questions in seconds.
    pub interval: u64,
}

/// Device that asks again: `POST /signin/device/finish`.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceStepBody {
    /// Issuer to sign in with.
    pub issuer: String,
    /// Code of the device.
    pub device_code: String,
}

/// Answer to a device that asks again.
#[skip_serializing_none]
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct DeviceFinish {
    /// The sign-in and its secret, once the person has let the device in.
    #[schema(nullable = false)]
    pub issued: Option<IssuedSignIn>,
    /// True if the device asks too often: its interval grows by 5 seconds.
    pub slow_down: bool,
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
