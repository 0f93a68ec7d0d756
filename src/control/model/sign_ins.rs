//! The bodies of sign-ins.
//!
//! Shapes only, as all of [`super`].

use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use utoipa::{IntoParams, ToSchema};

use crate::base::secret::Secret;
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

impl From<(SignInView, Secret<String>)> for IssuedSignIn {
    fn from((sign_in, secret): (SignInView, Secret<String>)) -> Self {
        Self {
            sign_in,
            secret: secret.expose().clone(),
        }
    }
}

/// Issuers that people can sign in with: `GET /signin/providers`.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProvidersBody {
    /// Issuers, in the order of the configuration.
    pub providers: Vec<ProviderBody>,
    /// Address of the console, if it is known.
    #[schema(nullable = false)]
    pub console: Option<String>,
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

/// Program on the caller's machine that is let in: `POST /v1/signins/terminals`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TerminalBody {
    /// SHA-256 of the program's verifier, in base64url (RFC 7636).
    pub challenge: String,
}

impl TerminalBody {
    /// Number of letters of the challenge that the terminal and the page show.
    const SHOWN_LETTERS: usize = 8;

    /// Returns the code by which a person tells their own program.
    #[must_use]
    pub fn shown_code(&self) -> &str {
        self.challenge.get(..Self::SHOWN_LETTERS).unwrap_or(&self.challenge)
    }
}

/// Code for a program that was let in.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct TerminalCode {
    /// Code for `POST /signin/terminal`, good once and for a minute.
    pub code: String,
}

/// Program that comes with its code: `POST /signin/terminal`.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TerminalStepBody {
    /// Code that the browser brought.
    pub code: String,
    /// Verifier of the challenge.
    pub verifier: String,
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
