//! Sign-in at a provider from the command line: the device flow (RFC 8628), through the gate, which is the provider's client.
//!
//! INVARIANT: the secret of the sign-in is never printed, and the address that is printed is the provider's, as text.

use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::time::sleep;

use super::client::ControlClient;
use super::render::visible;
use super::speech::complain;
use crate::base::clock::Clock;
use crate::base::secret::Secret;
use crate::control::model::{DeviceBody, DeviceFinish, DeviceSignInBody, DeviceStepBody, ProvidersBody};

/// Addition to the interval when the provider is asked too often (RFC 8628, section 3.5).
const SLOWER: Duration = Duration::from_secs(5);
/// Longest life of a code, whatever the provider says.
const MAX_CODE_LIFE: Duration = Duration::from_hours(1);

/// Signs in at `issuer`, or at the only one that the gate has; returns the secret of the sign-in.
pub(super) async fn sign_in(client: &ControlClient, issuer: Option<String>) -> anyhow::Result<Secret<String>> {
    let known: ProvidersBody = client.get("/signin/providers", &()).await?;
    let known: Vec<String> = known.providers.into_iter().map(|provider| provider.issuer).collect();
    let issuer = match (issuer, known.as_slice()) {
        (Some(issuer), _) if known.contains(&issuer) => issuer,
        (None, [one]) => one.clone(),
        (_, []) => bail!("nobody signs in with a provider at this gate; log in with your token: tidegate login"),
        (_, several) => bail!(
            "name the issuer to sign in with: --sign-in ISSUER, one of {}",
            visible(&several.join(", "))
        ),
    };
    let body = DeviceBody { issuer: issuer.clone() };
    let device: DeviceSignInBody = client.post("/signin/device", &body).await?;
    let address = device.verification_uri_complete.as_ref().unwrap_or(&device.verification_uri);
    complain(&format!(
        "Open {} and check that it shows the code {}",
        visible(address),
        visible(&device.user_code)
    ));
    let step = DeviceStepBody {
        issuer,
        device_code: device.device_code,
    };
    let clock = Clock::system(None);
    let life = Duration::from_secs(device.expires_in).min(MAX_CODE_LIFE);
    let until = clock.now().checked_add(life).context("the code has no end")?;
    let mut interval = Duration::from_secs(device.interval.clamp(1, 60));
    while clock.now() < until {
        sleep(interval).await;
        match client.post("/signin/device/finish", &step).await? {
            DeviceFinish { issued: Some(made), .. } => return Ok(Secret::new(made.secret)),
            DeviceFinish { slow_down: true, .. } => interval += SLOWER,
            DeviceFinish { .. } => {}
        }
    }
    bail!("the code has expired; start again: tidegate login --sign-in")
}
