//! `/signin`: sign-ins at a provider, in a browser and on a device. Nobody has proved anything before.
//!
//! It shows no page: an answer is a redirect, or a problem, which the console makes a page of for browsers.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;

use super::{body, query};
use crate::access::{AccessError, ProviderAnswer, ProviderError};
use crate::base::secret::Secret;
use crate::control::authenticate::{CallOrigin, held_back};
use crate::control::model::{DeviceBody, DeviceFinish, DeviceSignInBody, DeviceStepBody, ProviderBody, ProvidersBody};
use crate::control::problem::ApiError;
use crate::control::{ControlContext, sign_in_cookie};

/// Query of the way to a provider.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BeginQuery {
    next: Option<String>,
    fresh: Option<bool>,
}

/// Query of the way back. Providers add parameters of their own.
#[derive(Debug, Deserialize)]
struct CallbackQuery {
    #[serde(default)]
    state: String,
    code: Option<String>,
    iss: Option<String>,
    error: Option<String>,
}

#[utoipa::path(get, path = "/signin/providers", tag = "signins", summary = "The issuers that people can sign in with", responses((status = 200, description = "Those with a `client_id`", body = ProvidersBody)))]
pub(in crate::control) async fn providers(State(gate): State<Arc<ControlContext>>) -> Json<ProvidersBody> {
    let rules = gate.service.rules();
    let providers = rules.issuers.providers().map(|issuer| ProviderBody {
        issuer: issuer.issuer.clone(),
    });
    Json(ProvidersBody {
        providers: providers.collect(),
        console: rules.console_address.clone(),
    })
}

#[utoipa::path(get, path = "/signin/{issuer}", tag = "signins", summary = "Sends a browser to an issuer", params(("issuer" = String, Path, description = "The issuer, percent-encoded"), ("next" = Option<String>, Query, description = "The path of this host to go on to"), ("fresh" = Option<bool>, Query, description = "True: the person is to prove who they are now, also if the issuer knows them already")), responses((status = 303, description = "To the issuer")))]
pub(in crate::control) async fn begin(
    State(gate): State<Arc<ControlContext>>,
    ConnectInfo(client): ConnectInfo<CallOrigin>,
    Path(issuer): Path<String>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, ApiError> {
    let BeginQuery { next, fresh } = query(&uri)?;
    let fresh = fresh.unwrap_or_default();
    let begun = gate.service.begin_sign_in(&issuer, next.as_deref(), fresh, client.address);
    let begun = begun.await?;
    let cookie = sign_in_cookie::begun(&begun.browser, client.is_tls_to_browser(&gate, &headers));
    Ok(to(&begun.location, [cookie]))
}

#[utoipa::path(get, path = "/signin/callback/{name}", tag = "signins", summary = "Takes a browser back from an issuer", params(("name" = String, Path, description = "The host of the issuer, with its port; beside another issuer of that host its host and path, with `~` between")), responses((status = 303, description = "Signed in: to the path that was asked for")))]
pub(in crate::control) async fn callback(
    State(gate): State<Arc<ControlContext>>,
    ConnectInfo(client): ConnectInfo<CallOrigin>,
    Path(name): Path<String>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, ApiError> {
    let CallbackQuery { state, code, iss, error } = query(&uri)?;
    let answer = ProviderAnswer {
        name,
        state,
        code,
        iss,
        error,
    };
    let tls = client.is_tls_to_browser(&gate, &headers);
    let browser = sign_in_cookie::read_begun(&headers, tls);
    let finished = gate.service.finish_sign_in(&answer, browser.as_ref(), client.address).await;
    let (view, secret, next) = proved(&client, finished).await?;
    let left = view
        .expires_at
        .duration_since(gate.clock.now())
        .try_into()
        .unwrap_or_default();
    let cookies = [sign_in_cookie::set(&secret, left, tls), sign_in_cookie::clear_begun(tls)];
    Ok(to(&next, cookies))
}

#[utoipa::path(post, path = "/signin/device", tag = "signins", summary = "Asks an issuer for codes for a device (RFC 8628)", request_body = DeviceBody, responses((status = 201, description = "The code to type, and where", body = DeviceSignInBody)))]
pub(in crate::control) async fn device(
    State(gate): State<Arc<ControlContext>>,
    ConnectInfo(client): ConnectInfo<CallOrigin>,
    bytes: Bytes,
) -> Result<(StatusCode, Json<DeviceSignInBody>), ApiError> {
    let DeviceBody { issuer } = body(&bytes)?;
    let device = gate.service.begin_device_sign_in(&issuer, client.address).await?;
    Ok((
        StatusCode::CREATED,
        Json(DeviceSignInBody {
            device_code: device.device_code.expose().clone(),
            user_code: device.user_code,
            verification_uri: device.verification_uri,
            verification_uri_complete: device.verification_uri_complete,
            expires_in: device.expires_in,
            interval: device.interval,
        }),
    ))
}

#[utoipa::path(post, path = "/signin/device/finish", tag = "signins", summary = "Signs in with the code of a device", request_body = DeviceStepBody, responses((status = 201, description = "The sign-in and its secret", body = DeviceFinish), (status = 202, description = "The person has not decided yet", body = DeviceFinish)))]
pub(in crate::control) async fn finish(
    State(gate): State<Arc<ControlContext>>,
    ConnectInfo(client): ConnectInfo<CallOrigin>,
    bytes: Bytes,
) -> Result<(StatusCode, Json<DeviceFinish>), ApiError> {
    let DeviceStepBody { issuer, device_code } = body(&bytes)?;
    let device_code = Secret::new(device_code);
    let finished = gate
        .service
        .finish_device_sign_in(&issuer, &device_code, client.address)
        .await;
    Ok(match proved(&client, finished).await? {
        Ok(made) => {
            let issued = Some(made.into());
            (
                StatusCode::CREATED,
                Json(DeviceFinish {
                    issued,
                    slow_down: false,
                }),
            )
        }
        Err(slow_down) => (StatusCode::ACCEPTED, Json(DeviceFinish { issued: None, slow_down })),
    })
}

/// Counts what proves nothing like a failed login, and holds its answer back. A failure of the provider or of the gate is not counted.
pub(super) async fn proved<T>(client: &CallOrigin, result: Result<T, AccessError>) -> Result<T, ApiError> {
    match result {
        Ok(proved) => Ok(proved),
        Err(
            error @ (AccessError::NotIdentified
            | AccessError::NotSignedIn(_)
            | AccessError::NoSuchState
            | AccessError::NoSuchDevice
            | AccessError::NoSuchCode
            | AccessError::Provider(ProviderError::Refused { .. })),
        ) => Err(held_back(client, error.into()).await),
        Err(error) => Err(error.into()),
    }
}

/// Returns a redirect that no cache keeps, and that tells no other site where it comes from.
fn to(location: &str, cookies: impl IntoIterator<Item = HeaderValue>) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    let headers = response.headers_mut();
    // A location that is no header value is one of no browser.
    if let Ok(location) = HeaderValue::from_str(location) {
        headers.insert(header::LOCATION, location);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    for cookie in cookies {
        headers.append(header::SET_COOKIE, cookie);
    }
    response
}
