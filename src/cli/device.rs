//! Sign-in at a provider from the command line: the device flow (RFC 8628), through the gate, which is the provider's client.
//!
//! INVARIANT: the secret of the sign-in is never printed, and the address that is printed is the provider's, as text.

use std::time::Duration;

use anyhow::{Context as _, bail};
use reqwest::StatusCode;
use tokio::time::sleep;

use super::client::ControlClient;
use super::client_error::ClientError;
use super::render::visible;
use super::speech::complain;
use crate::base::clock::Clock;
use crate::base::secret::Secret;
use crate::control::model::{DeviceBody, DeviceFinish, DeviceSignInBody, DeviceStepBody, ProvidersBody};
use crate::model::sign_in::MAX_DEVICE_CODE_LIFE;

/// Addition to the interval when the provider is asked too often (RFC 8628, section 3.5).
const SLOWER: Duration = Duration::from_secs(5);

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
    let interval = Duration::from_secs(device.interval.clamp(1, 60));
    let life = Duration::from_secs(device.expires_in).min(MAX_DEVICE_CODE_LIFE);
    let step = DeviceStepBody {
        issuer,
        device_code: device.device_code,
    };
    finish(client, &step, interval, life).await
}

/// Asks until the person has let the device in, or the code has expired. A failure that may pass does not end the wait.
async fn finish(
    client: &ControlClient,
    step: &DeviceStepBody,
    mut interval: Duration,
    life: Duration,
) -> anyhow::Result<Secret<String>> {
    let clock = Clock::system(None);
    let until = clock.now().checked_add(life).context("the code has no end")?;
    let (mut passing, mut answer_lost) = (None, false);
    while clock.now() < until {
        sleep(interval).await;
        match client.post("/signin/device/finish", step).await {
            Ok(DeviceFinish { issued: Some(made), .. }) => return Ok(Secret::new(made.secret)),
            Ok(DeviceFinish { slow_down, .. }) => {
                (passing, answer_lost) = (None, false);
                interval += if slow_down { SLOWER } else { Duration::ZERO };
            }
            Err(error) => {
                let Some(slower_by) = slower_by(&error) else {
                    return refused(error, &step.issuer, answer_lost);
                };
                if passing.is_none() {
                    complain(&format!("{error}; waiting on"));
                }
                interval += slower_by;
                answer_lost |= error.may_pass();
                passing = Some(error);
            }
        }
    }
    match passing {
        Some(error) => {
            Err(error).context("the code has expired while the gate gave no answer; start again: tidegate login --sign-in")
        }
        None => bail!("the code has expired; start again: tidegate login --sign-in"),
    }
}

/// Returns the addition to the interval after a failure that may pass; `None` for any other error.
fn slower_by(error: &ClientError) -> Option<Duration> {
    match error {
        // RFC 8628, section 3.5: a timeout is a reason to slow down, too.
        ClientError::Timeout { .. } => Some(SLOWER),
        ClientError::Refused(problem) if problem.status == StatusCode::TOO_MANY_REQUESTS.as_u16() => Some(SLOWER),
        error => error.may_pass().then_some(Duration::ZERO),
    }
}

/// Returns the error of a refusal. If the answer before it was lost, the code may have been good then, and spent by now.
fn refused(error: ClientError, issuer: &str, answer_lost: bool) -> anyhow::Result<Secret<String>> {
    let error = match error {
        ClientError::Unaccepted { address, .. } => ClientError::SignInUnaccepted {
            address,
            issuer: visible(issuer),
        },
        error => error,
    };
    if answer_lost {
        let lost = format!(
            "{error}; an answer of the gate was lost before, so a sign-in may have been made all the same: once you are signed in, \
             `tidegate signins` lists yours"
        );
        return Err(error).context(lost);
    }
    Err(error.into())
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Arc;

    use axum::Json;
    use axum::extract::State;
    use axum::http::StatusCode;
    use parking_lot::Mutex;
    use serde_json::{Value, json};

    use super::*;
    use crate::base::tls::GateTrust;
    use crate::cli::address::ControlEndpoint;
    use crate::cli::exit_code;

    const SOON: Duration = Duration::from_millis(10);

    fn let_in() -> (u16, Value) {
        let at = "2026-08-01T12:00:00Z";
        let sign_in = json!({
            "id": "si_4k2m9x0a7b", "identity": "ana", "source": "https://id", "via": "cli", "created_at": at, "last_used_at": at,
            "expires_at": at,
        });
        (
            201,
            json!({ "issued": { "sign_in": sign_in, "secret": "ts_secret" }, "slow_down": false }),
        )
    }

    /// Finishes at a gate that answers so; the last answer stays.
    async fn finished(answers: Vec<(u16, Value)>, life: Duration) -> anyhow::Result<Secret<String>> {
        type Answers = Arc<Mutex<VecDeque<(u16, Value)>>>;
        let answer = async |State(answers): State<Answers>| {
            let mut answers = answers.lock();
            let (status, body) = if answers.len() > 1 {
                answers.pop_front().unwrap()
            } else {
                answers[0].clone()
            };
            (StatusCode::from_u16(status).unwrap(), Json(body))
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = ControlEndpoint::Tcp(listener.local_addr().unwrap().to_string());
        let answers: Answers = Arc::new(Mutex::new(answers.into()));
        let router = axum::Router::new().fallback(answer).with_state(answers);
        let gate = tokio::spawn(async { axum::serve(listener, router).await });
        let client = ControlClient::with(address, GateTrust::Machine, Secret::new(String::new())).unwrap();
        let step = DeviceStepBody {
            issuer: "https://id".to_owned(),
            device_code: "d".to_owned(),
        };
        let finished = finish(&client, &step, SOON, life).await;
        gate.abort();
        finished
    }

    #[tokio::test]
    async fn what_may_pass_does_not_end_the_wait() {
        let pending = (202, json!({ "slow_down": false }));
        let away = |status| (status, json!({}));
        let answers = vec![away(503), pending.clone(), away(502), away(504), pending, let_in()];
        let secret = finished(answers, MAX_DEVICE_CODE_LIFE).await.unwrap();
        assert_eq!(secret.expose(), "ts_secret");
        let error = finished(vec![away(503)], 20 * SOON).await.unwrap_err();
        assert!(
            error.to_string().contains("has expired while the gate gave no answer"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_refusal_after_a_lost_answer_says_that_there_may_be_a_sign_in() {
        let (away, pending, refused) = ((502, json!({})), (202, json!({ "slow_down": false })), (401, json!({})));
        let error = finished(vec![away.clone(), refused.clone()], MAX_DEVICE_CODE_LIFE)
            .await
            .unwrap_err();
        assert!(error.to_string().contains("`tidegate signins` lists yours"), "{error}");
        assert_eq!(exit_code(&error), 5);
        // What came after it shows that the code was not spent.
        let error = finished(vec![away, pending, refused], MAX_DEVICE_CODE_LIFE)
            .await
            .unwrap_err();
        assert!(!error.to_string().contains("tidegate signins"), "{error}");
    }

    #[test]
    fn a_timeout_and_too_many_requests_slow_the_wait_down() {
        let refused = |status| {
            let problem = json!({ "type": "", "title": "", "status": status, "detail": "" });
            ClientError::Refused(Box::new(serde_json::from_value(problem).unwrap()))
        };
        let address = "gate:1".to_owned();
        assert_eq!(slower_by(&ClientError::Timeout { address, limit: SLOWER }), Some(SLOWER));
        for (status, expected) in [(429, Some(SLOWER)), (503, Some(Duration::ZERO)), (403, None)] {
            assert_eq!(slower_by(&refused(status)), expected, "{status}");
        }
    }

    #[tokio::test]
    async fn a_refusal_says_who_refuses_and_speaks_of_no_token() {
        let error = finished(vec![(401, json!({}))], MAX_DEVICE_CODE_LIFE).await.unwrap_err();
        let said = error.to_string();
        assert!(
            said.starts_with("you signed in at https://id, but the gate at http://127.0.0.1:"),
            "{said}"
        );
        assert!(said.contains("tidegate login --sign-in") && !said.contains("token"), "{said}");
        assert_eq!(exit_code(&error), 5);
        let problem = json!({
            "type": "urn:tidegate:problem:provider-refused", "title": "Forbidden by the provider", "status": 403,
            "detail": "https://id refuses: access_denied", "remedy": "sign in again, or ask whoever runs the provider",
        });
        let error = finished(vec![(403, problem)], MAX_DEVICE_CODE_LIFE).await.unwrap_err();
        assert_eq!(
            (error.to_string().as_str(), exit_code(&error)),
            (
                "https://id refuses: access_denied; sign in again, or ask whoever runs the provider",
                5
            )
        );
    }
}
