//! Sign-ins at a provider: begun in a browser or on a device, and finished with the provider's ID token.
//!
//! It verifies no token: the issuers do. INVARIANT: a browser that comes back signs in the person that the provider names for the
//! sign-in that this browser has begun, or nobody.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::awaited::AwaitedLimits;
use super::local_path::next_path;
use super::one_time_secrets::{challenge_of, random_secret};
use super::strangers::Network;
use super::{AccessError, AccessRules, AccessService, Caller, IdentifyError, Principal};
use crate::base::secret::Secret;
use crate::identity::{
    AuthorizationQuestion, DeviceAuthorization, DeviceProgress, IssuerSettings, ProvedPerson, ProviderError, RedeemedCode,
};
use crate::ledger::{LedgerError, SignInView};
use crate::model::sign_in::{MAX_DEVICE_CODE_LIFE, SignInVia};
use jiff::{SignedDuration, Timestamp};

/// Path that browsers come back to; the name of the issuer is put behind it ([`crate::identity::Issuers::callback_name`]). An
/// address of its own for each issuer keeps a code from being brought to another one (RFC 9700, section 4.4.2.2), also of those that
/// do not name themselves in their answers.
pub const CALLBACK_PATH: &str = "/signin/callback";
/// Number of sign-ins with a code that one network may begin within a minute: each asks the provider.
const DEVICES_PER_MINUTE: u32 = 60;

/// Time that a person has at the provider.
const BROWSER_LIFE: SignedDuration = SignedDuration::from_mins(10);
/// Part of the interval between two questions about a device that its clock may be ahead.
const INTERVAL_SLACK: Duration = Duration::from_secs(1);
/// Numbers of browsers, and of devices, that have begun and not come back, in all and of one network.
pub(super) const BEGUN_LIMITS: AwaitedLimits = AwaitedLimits {
    all: 1_000,
    of_group: 50,
};

/// Sign-in that a browser has begun.
pub(super) struct PendingSignIn {
    /// Issuer that the browser was sent to.
    issuer: String,
    /// Value that the ID token has to have.
    nonce: String,
    /// PKCE verifier of the code.
    verifier: Secret<String>,
    /// Path to go on to.
    next: String,
}

/// Device whose user has not decided.
pub(super) struct PendingDevice {
    interval: Duration,
    asked: Option<Timestamp>,
}

impl PendingDevice {
    /// Notes a question about it; returns true if it comes too early (RFC 8628, section 3.5).
    fn is_too_early(&mut self, now: Timestamp) -> bool {
        let passed = self.asked.map(|asked| now.duration_since(asked).unsigned_abs());
        let too_early = passed.is_some_and(|passed| passed + INTERVAL_SLACK < self.interval);
        if !too_early {
            self.asked = Some(now);
        }
        too_early
    }
}

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
    /// Name of the issuer, in the address that the browser came back to.
    pub name: String,
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
    /// Begins a sign-in at a provider; `next` is the path to go on to afterwards. `fresh`: the person is to prove who they are now, also
    /// if the provider knows them already.
    pub async fn begin_sign_in(
        &self,
        issuer: &str,
        next: Option<&str>,
        fresh: bool,
        client: Option<IpAddr>,
    ) -> Result<BegunSignIn, AccessError> {
        let rules = self.rules();
        let redirect_uri = callback(&rules, rules.issuers.provider_settings(issuer)?)?;
        let random = || random_secret().map_err(LedgerError::from);
        let [state, nonce, verifier, browser] = [random()?, random()?, random()?, random()?];
        let challenge = challenge_of(&verifier);
        let question = AuthorizationQuestion {
            state: state.expose(),
            nonce: nonce.expose(),
            challenge: &challenge,
            redirect_uri: &redirect_uri,
            // An older proof would leave the sign-in little of its life.
            max_age: if fresh { Duration::ZERO } else { rules.sign_ins.longest / 2 },
        };
        let now = self.0.clock.now();
        let location = rules.issuers.authorization_url(issuer, question, now).await?;
        let pending = PendingSignIn {
            issuer: issuer.to_owned(),
            nonce: nonce.expose().clone(),
            verifier,
            next: next_path(next).to_owned(),
        };
        let secrets = [state.expose().as_str(), browser.expose()];
        let life = (now, now + BROWSER_LIFE);
        self.0.browsers.add(&secrets, network_of(client), life, pending);
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
        let pending = browser.and_then(|browser| self.0.browsers.take(&[&answer.state, browser.expose()], now));
        let pending = pending.ok_or(AccessError::NoSuchState)?;
        let issuer = pending.issuer.as_str();
        let settings = rules.issuers.provider_settings(issuer)?;
        let refused = |reason: String| ProviderError::Refused {
            issuer: issuer.to_owned(),
            reason,
        };
        if answer.name != rules.issuers.callback_name(settings) {
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
        let person = self.person_of(issuer, token, Some(&pending.nonce), client).await?;
        let (view, secret) = self.sign_in_of_provider(issuer, person, SignInVia::Console, client).await?;
        Ok((view, secret, pending.next))
    }

    /// Asks a provider for codes for a device.
    pub async fn begin_device_sign_in(&self, issuer: &str, client: Option<IpAddr>) -> Result<DeviceAuthorization, AccessError> {
        let (rules, now) = (self.rules(), self.0.clock.now());
        rules.issuers.provider_settings(issuer)?;
        let network = network_of(client);
        if let Some(Err(wait)) = network.map(|network| self.0.begun_devices.admit(&network, DEVICES_PER_MINUTE, now)) {
            return Err(AccessError::TooManyDevices { wait });
        }
        let device = rules.issuers.device(issuer, now).await?;
        let life = Duration::from_secs(device.expires_in).min(MAX_DEVICE_CODE_LIFE);
        let pending = PendingDevice {
            interval: Duration::from_secs(device.interval),
            asked: None,
        };
        let secrets = [issuer, device.device_code.expose()];
        self.0.devices.add(&secrets, network, (now, now + life), pending);
        Ok(device)
    }

    /// Asks a provider about a device. `None`: its user has not decided yet (true: it is asked too often).
    pub async fn finish_device_sign_in(
        &self,
        issuer: &str,
        device_code: &Secret<String>,
        client: Option<IpAddr>,
    ) -> Result<Result<(SignInView, Secret<String>), bool>, AccessError> {
        let (rules, now) = (self.rules(), self.0.clock.now());
        // Strangers make the gate ask about devices that have begun here, and not too often.
        let asked = self
            .0
            .devices
            .change(&[issuer, device_code.expose()], now, |device| device.is_too_early(now));
        match asked {
            None => return Err(AccessError::NoSuchDevice),
            Some(true) => return Ok(Err(true)),
            Some(false) => {}
        }
        let token = match rules.issuers.ask_device(issuer, device_code, now).await {
            Ok(DeviceProgress::Pending(too_often)) => return Ok(Err(too_often)),
            Ok(DeviceProgress::Token(token)) => Ok(token),
            Err(error) => Err(error),
        };
        let person = self.person_of(issuer, token, None, client).await?;
        Ok(Ok(self.sign_in_of_provider(issuer, person, SignInVia::Cli, client).await?))
    }

    /// Returns the person that an ID token names, if they may sign in. Otherwise the reason is recorded in detail, and the caller
    /// gets none.
    async fn person_of(
        &self,
        issuer: &str,
        token: Result<Secret<String>, ProviderError>,
        nonce: Option<&str>,
        client: Option<IpAddr>,
    ) -> Result<ProvedPerson, AccessError> {
        let person = match token {
            // By the time of now: the token may be newer than the call that fetched it.
            Ok(token) => self.rules().issuers.person(issuer, &token, nonce, self.0.clock.now()).await,
            Err(error) => Err(error),
        };
        let refused = match person {
            Ok(person) => match self.of_issuer(person.identity) {
                Ok(identity) => return Ok(ProvedPerson { identity, ..person }),
                Err(refused) => refused,
            },
            Err(ProviderError::Token(detail)) => IdentifyError::of_token(detail),
            // What a provider says of itself, or of the person, is told.
            Err(error) => return Err(error.into()),
        };
        self.record_refused(refused, client).await;
        Err(AccessError::NotSignedIn(issuer.to_owned()))
    }

    /// Signs a person in. The sign-in is as old as their proof at the provider, if it tells, and lasts as long from then on as the gate
    /// says, and not as the ID token.
    async fn sign_in_of_provider(
        &self,
        issuer: &str,
        person: ProvedPerson,
        via: SignInVia,
        client: Option<IpAddr>,
    ) -> Result<(SignInView, Secret<String>), AccessError> {
        let now = self.0.clock.now();
        let proved_at = person.authenticated_at.unwrap_or(now);
        let age = Duration::try_from(now.duration_since(proved_at)).unwrap_or_default();
        if age >= self.rules().sign_ins.longest {
            return Err(AccessError::Provider(ProviderError::Refused {
                issuer: issuer.to_owned(),
                reason: "it has not asked who you are for longer than a sign-in lasts here; sign out there first".to_owned(),
            }));
        }
        let caller = Caller::Person(
            Principal::of_token(person.identity, client),
            Arc::new(Secret::new(String::new())),
        );
        self.new_sign_in(&caller, proved_at, (via, client)).await
    }
}

/// Returns the network whose places a stranger takes; none for a proxy on this machine, which everybody may be behind.
fn network_of(client: Option<IpAddr>) -> Option<Network> {
    client.filter(|client| !client.is_loopback()).map(Network::of)
}

/// Returns the address that browsers come back to from an issuer.
fn callback(rules: &AccessRules, issuer: &IssuerSettings) -> Result<String, AccessError> {
    let missing = || AccessError::Invalid("this gate has no address for browsers; its operator sets console.address".to_owned());
    let address = rules.console_address.as_deref().ok_or_else(missing)?;
    Ok(format!("{address}{CALLBACK_PATH}/{}", rules.issuers.callback_name(issuer)))
}
