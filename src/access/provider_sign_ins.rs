//! Sign-ins at a provider: begun in a browser or on a device, and finished with the provider's ID token.
//!
//! It verifies no token: the issuers do. INVARIANT: a browser that comes back signs in the person that the provider names for the
//! sign-in that this browser has begun, or nobody.

use std::net::IpAddr;
use std::sync::Arc;

use super::one_time_secrets::{challenge_of, random};
use super::pending_sign_ins::{PendingSignIn, next_path};
use super::strangers::Network;
use super::{AccessError, AccessRules, AccessService, Caller, IdentifyError, Principal};
use crate::base::secret::Secret;
use crate::identity::{
    AuthorizationQuestion, DeviceAuthorization, DeviceProgress, Identity, IssuerSettings, ProviderError, RedeemedCode,
};
use crate::ledger::SignInView;
use crate::model::sign_in::SignInVia;

/// Path that browsers come back to; the host of the issuer is put behind it. An address of its own for each issuer keeps a code from
/// being brought to another one (RFC 9700, section 4.4.2.2), also of those that do not name themselves in their answers.
pub const CALLBACK_PATH: &str = "/signin/callback";
/// Number of sign-ins with a code that one network may begin within a minute: each asks the provider.
const DEVICES_PER_MINUTE: u32 = 60;

/// Sign-in at a provider that has begun.
#[derive(Debug)]
pub struct BegunSignIn {
    /// Address to send the browser to.
    pub location: String,
    /// Secret that the browser has to come back with.
    pub browser: Secret<String>,
}

/// Answer of a provider, as a browser brings it.
#[derive(Debug, Clone, Default)]
pub struct ProviderAnswer {
    /// Host of the issuer, in the address that the browser came back to.
    pub host: String,
    /// State of the sign-in.
    pub state: String,
    /// Code, if the provider has let the person in.
    pub code: Option<String>,
    /// Issuer, if the provider names it.
    pub iss: Option<String>,
    /// Error, if it has not.
    pub error: Option<String>,
}

impl AccessService {
    /// Begins a sign-in at a provider; `next` is the path to go on to afterwards.
    pub async fn begin_sign_in(
        &self,
        issuer: &str,
        next: Option<&str>,
        client: Option<IpAddr>,
    ) -> Result<BegunSignIn, AccessError> {
        let rules = self.rules();
        let redirect_uri = callback(&rules, rules.issuers.provider_settings(issuer)?)?;
        let [state, nonce, verifier, browser] = [random()?, random()?, random()?, random()?];
        let challenge = challenge_of(&verifier);
        let question = AuthorizationQuestion {
            state: state.expose(),
            nonce: nonce.expose(),
            challenge: &challenge,
            redirect_uri: &redirect_uri,
        };
        let now = self.0.clock.now();
        let location = rules.issuers.authorization_url(issuer, question, now).await?;
        let pending = PendingSignIn {
            issuer: issuer.to_owned(),
            nonce: nonce.expose().clone(),
            verifier,
            next: next_path(next).to_owned(),
        };
        self.0.pending_sign_ins.begin(state.expose(), &browser, client, pending, now);
        Ok(BegunSignIn { location, browser })
    }

    /// Finishes a sign-in with what the browser came back with. Returns the sign-in, its secret, and the path to go on to.
    pub async fn finish_sign_in(
        &self,
        answer: &ProviderAnswer,
        browser: Option<&Secret<String>>,
        client: Option<IpAddr>,
    ) -> Result<(SignInView, Secret<String>, String), AccessError> {
        let rules = self.rules();
        let now = self.0.clock.now();
        let pending = browser.and_then(|browser| self.0.pending_sign_ins.take(&answer.state, browser, now));
        let pending = pending.ok_or(AccessError::NoSuchState)?;
        let issuer = pending.issuer.as_str();
        let settings = rules.issuers.provider_settings(issuer)?;
        let refused = |reason: String| ProviderError::Refused {
            issuer: issuer.to_owned(),
            reason,
        };
        if answer.host != settings.host() {
            return Err(refused("the browser came back to the address of another issuer".to_owned()).into());
        }
        rules.issuers.check_issuer(issuer, answer.iss.as_deref(), now).await?;
        let Some(code) = &answer.code else {
            let reason = answer.error.clone().unwrap_or_else(|| "it sent no code".to_owned());
            return Err(refused(reason).into());
        };
        let code = RedeemedCode {
            code,
            verifier: &pending.verifier,
            redirect_uri: &callback(&rules, settings)?,
        };
        let token = rules.issuers.redeem(issuer, code, now).await;
        let identity = self.identity_of(issuer, token, Some(&pending.nonce), client).await?;
        let (view, secret) = self.sign_in_of_provider(identity, SignInVia::Console, client).await?;
        Ok((view, secret, pending.next))
    }

    /// Asks a provider for codes for a device.
    pub async fn begin_device_sign_in(&self, issuer: &str, client: Option<IpAddr>) -> Result<DeviceAuthorization, AccessError> {
        let now = self.0.clock.now();
        let admitted = client.map(|client| self.0.device_sign_ins.admit(&Network::of(client), DEVICES_PER_MINUTE, now));
        if let Some(Err(wait)) = admitted {
            return Err(AccessError::TooManyDevices { wait });
        }
        Ok(self.rules().issuers.device(issuer, now).await?)
    }

    /// Asks a provider about a device. `None`: its user has not decided yet (true: it is asked too often).
    pub async fn finish_device_sign_in(
        &self,
        issuer: &str,
        device_code: &Secret<String>,
        client: Option<IpAddr>,
    ) -> Result<Result<(SignInView, Secret<String>), bool>, AccessError> {
        let rules = self.rules();
        let token = match rules.issuers.ask_device(issuer, device_code, self.0.clock.now()).await {
            Ok(DeviceProgress::Pending(too_often)) => return Ok(Err(too_often)),
            Ok(DeviceProgress::Token(token)) => Ok(token),
            Err(error) => Err(error),
        };
        let identity = self.identity_of(issuer, token, None, client).await?;
        Ok(Ok(self.sign_in_of_provider(identity, SignInVia::Cli, client).await?))
    }

    /// Returns the identity that an ID token proves, if it may sign in. Otherwise the reason is recorded in detail, and the caller
    /// gets none.
    async fn identity_of(
        &self,
        issuer: &str,
        token: Result<Secret<String>, ProviderError>,
        nonce: Option<&str>,
        client: Option<IpAddr>,
    ) -> Result<Identity, AccessError> {
        let identity = match token {
            // By the time of now: the token may be newer than the call that fetched it.
            Ok(token) => self.rules().issuers.identity(issuer, &token, nonce, self.0.clock.now()).await,
            Err(error) => Err(error),
        };
        let refused = match identity {
            Ok(identity) => match self.of_issuer(identity) {
                Ok(identity) => return Ok(identity),
                Err(refused) => refused,
            },
            Err(ProviderError::Token(detail)) => IdentifyError::of_token(detail),
            // What a provider says of itself, or of the person, is told.
            Err(error) => return Err(error.into()),
        };
        self.record_refused(refused, client).await;
        Err(AccessError::NotSignedIn(issuer.to_owned()))
    }

    async fn sign_in_of_provider(
        &self,
        identity: Identity,
        via: SignInVia,
        client: Option<IpAddr>,
    ) -> Result<(SignInView, Secret<String>), AccessError> {
        // The person was there a moment ago, so the sign-in lasts as long as the gate says, and not as the ID token.
        let caller = Caller::Person(Principal::of_token(identity, client), Arc::new(Secret::new(String::new())));
        self.sign_in(&caller, via).await
    }
}

/// Returns the address that browsers come back to from an issuer.
fn callback(rules: &AccessRules, issuer: &IssuerSettings) -> Result<String, AccessError> {
    let missing = || AccessError::Invalid("this gate has no address for browsers; its operator sets console.address".to_owned());
    let address = rules.console_address.as_deref().ok_or_else(missing)?;
    Ok(format!("{address}{CALLBACK_PATH}/{}", issuer.host()))
}
