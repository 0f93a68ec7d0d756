//! Identification of the bearer of a token: a local user's token, an issuer's JWT, or the secret of a sign-in.
//!
//! It proves nothing itself: the ledger knows the users' tokens, and the issuers verify signatures.
//!
//! INVARIANT: a refused caller learns only that it was refused; the reason is recorded. The name of a local user is proved by
//! that user's token alone; an issuer cannot name one.

use std::borrow::Cow;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;

use super::{AccessError, AccessRules, AccessService, Principal, PrincipalSignIn};
use crate::audit::event::{Event, IdentityRefused, RefusalKind};
use crate::base::secret::Secret;
use crate::identity::{Identity, MAX_TOKEN_BYTES, looks_like_jwt};
use crate::ledger::{SIGN_IN_PREFIX, SignedIn, UserTokenError};
use crate::model::sign_in::SignInRefusal;

/// Prefix of the tokens of local users.
const LOCAL_TOKEN_PREFIX: &str = "tg_";
/// Maximum number of characters recorded of an unproved name.
const MAX_CLAIMED_NAME_CHARS: usize = 200;

/// Reason for refusing a token, for the log.
#[derive(Debug, thiserror::Error)]
#[error("{detail}{}", .claimed.as_ref().map(|claimed| format!(" (it claims to be {claimed:?})")).unwrap_or_default())]
pub struct IdentifyError {
    pub(super) claimed: Option<String>,
    pub(super) detail: String,
}

impl IdentifyError {
    /// Creates the error of a token that names nobody.
    pub(super) fn of_token(detail: String) -> Self {
        Self { claimed: None, detail }
    }
}

impl AccessService {
    /// Identifies the bearer of a token (a local user's or an issuer's) that connects from `client`. A failure is recorded in
    /// detail; the caller gets no detail.
    pub async fn identify(&self, token: &Secret<String>, client: Option<IpAddr>) -> Result<Principal, AccessError> {
        let proved = self.prove(token, client).await;
        self.or_recorded(proved, client).await
    }

    /// Identifies the bearer of a sign-in's secret as [`AccessService::identify`] does, for a call that no person made: a page that
    /// renews itself. It does not count as a use of the sign-in.
    pub async fn identify_renewal(&self, secret: &Secret<String>, client: Option<IpAddr>) -> Result<Principal, AccessError> {
        let rules = self.rules();
        let signed_in = self.0.ledger.signed_in(secret, client, &rules.sign_ins);
        let proved = Self::principal_of(&rules, signed_in, client);
        self.or_recorded(proved, client).await
    }

    async fn or_recorded(
        &self,
        proved: Result<Principal, IdentifyError>,
        client: Option<IpAddr>,
    ) -> Result<Principal, AccessError> {
        match proved {
            Ok(principal) => Ok(principal),
            Err(error) => {
                self.record_refused(error, client).await;
                Err(AccessError::NotIdentified)
            }
        }
    }

    /// Records a failed authentication.
    pub(super) async fn record_refused(&self, refused: IdentifyError, client: Option<IpAddr>) {
        let IdentifyError { claimed, detail } = refused;
        let event = Event::IdentityRefused(Cow::Owned(IdentityRefused { client, claimed, detail }));
        self.0.refusals.record(client, RefusalKind::IdentityRefused, &event).await;
    }

    /// Identifies as [`AccessService::identify`] does, for callers that record a failure themselves.
    pub async fn prove(&self, token: &Secret<String>, client: Option<IpAddr>) -> Result<Principal, IdentifyError> {
        if is_sign_in(token) {
            let rules = self.rules();
            let used = self.0.ledger.use_sign_in(token, client, &rules.sign_ins).await;
            return Self::principal_of(&rules, used, client);
        }
        let (identity, proof_until) = self.identity(token).await?;
        Ok(Principal {
            proof_until,
            ..Principal::of_token(identity, client)
        })
    }

    /// Returns the principal of a sign-in, unless its identity is no longer vouched for.
    fn principal_of(
        rules: &AccessRules,
        signed_in: Result<SignedIn, SignInRefusal>,
        client: Option<IpAddr>,
    ) -> Result<Principal, IdentifyError> {
        let signed_in = signed_in
            .and_then(|signed_in| {
                let vouched = rules.vouches_for(&signed_in.identity);
                vouched.then_some(signed_in).ok_or(SignInRefusal::Identity)
            })
            .map_err(|refusal| IdentifyError {
                claimed: None,
                detail: refusal.to_string(),
            })?;
        Ok(Principal {
            identity: signed_in.identity,
            client,
            via: signed_in.via.into(),
            proof_until: Some(signed_in.until),
            sign_in: Some(PrincipalSignIn {
                id: signed_in.id,
                at: signed_in.created_at,
            }),
        })
    }

    /// Returns the identity of a token, and the time until which the token is good, if it says so.
    async fn identity(&self, token: &Secret<String>) -> Result<(Identity, Option<Timestamp>), IdentifyError> {
        let refused = |claimed, detail: &str| IdentifyError {
            claimed,
            detail: detail.to_owned(),
        };
        let text = token.expose().as_str();
        if text.len() > MAX_TOKEN_BYTES {
            return Err(refused(None, "the token is too long"));
        }
        let (identity, until) = if text.starts_with(LOCAL_TOKEN_PREFIX) {
            let owner = self.0.ledger.owner_of_token(token);
            owner.map_err(|error| match &error {
                UserTokenError::NotAccepted => refused(None, &error.to_string()),
                UserTokenError::Expired { user, .. } => refused(Some(user.to_string()), &error.to_string()),
            })?
        } else if looks_like_jwt(text) {
            let issuers = self.rules().issuers.clone();
            let verified = issuers.verify_until(token, self.0.clock.now()).await;
            let (identity, until) = verified.map_err(|error| refused(claimed(text), &error.to_string()))?;
            return Ok((self.of_issuer(identity)?, Some(until)));
        } else {
            return Err(refused(
                None,
                "it is neither a user's token, nor a JWT, nor the secret of a sign-in",
            ));
        };
        Ok((identity, until))
    }

    /// Returns an identity that an issuer has proved, if the gate accepts it.
    pub(super) fn of_issuer(&self, identity: Identity) -> Result<Identity, IdentifyError> {
        let refused = |detail: &str| IdentifyError {
            claimed: Some(identity.name.to_string()),
            detail: detail.to_owned(),
        };
        // Otherwise the issuer's bearer would own the grants, requests and approvals of the local user with the same name.
        if self.0.ledger.user(&identity.name).is_some_and(|user| user.local) {
            return Err(refused("a local user has the same name; set identity_prefix for the issuer"));
        }
        if self.0.ledger.is_disabled(&identity.name) {
            return Err(refused("disabled"));
        }
        Ok(identity)
    }
}

/// Returns true if a token has the form of a sign-in's secret.
pub(super) fn is_sign_in(token: &Secret<String>) -> bool {
    token.expose().starts_with(SIGN_IN_PREFIX)
}

/// Returns the subject that a JWT claims, without proof.
fn claimed(jwt: &str) -> Option<String> {
    let payload = URL_SAFE_NO_PAD.decode(jwt.split('.').nth(1)?).ok()?;
    let payload: serde_json::Value = serde_json::from_slice(&payload).ok()?;
    let subject = payload.get("sub")?.as_str()?;
    Some(subject.chars().take(MAX_CLAIMED_NAME_CHARS).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claimed_name_is_for_the_record_only() {
        let jwt = |payload: &str| format!("eyJ9.{}.x", URL_SAFE_NO_PAD.encode(payload));
        assert_eq!(claimed(&jwt(r#"{"sub":"ana"}"#)), Some("ana".to_owned()));
        assert_eq!(claimed(&jwt(r#"{"sub":7}"#)), None);
        assert_eq!(claimed("ey.!.x"), None);
        assert_eq!(
            claimed(&jwt(&format!(r#"{{"sub":"{}"}}"#, "x".repeat(500)))).map(|name| name.len()),
            Some(MAX_CLAIMED_NAME_CHARS)
        );
    }
}
