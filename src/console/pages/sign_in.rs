//! Sign-in and sign-out.
//!
//! It proves nothing: the access service knows tokens and providers, and makes the sign-in that the cookie stands for.
//!
//! INVARIANT: a token is in no address, in no page and in no cookie; the way on after a sign-in is a path of this console.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, FromRequest as _, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};

use crate::access::{AccessError, local_path};
use crate::base::secret::Secret;
use crate::console::answer::{self, PageAnswer, see};
use crate::console::form::{self, FormFields, QueryFields};
use crate::console::templates::frame::{self, Frame};
use crate::console::templates::problem;
use crate::console::templates::text::shown;
use crate::control::model::Problem;
use crate::control::{Call, CallOrigin, ControlContext, sign_in_cookie, sign_in_with_token, visitor};

/// Shows the form; those who are signed in already are led on.
pub(in crate::console) async fn page(
    State(gate): State<Arc<ControlContext>>,
    query: QueryFields,
    request: Request,
) -> PageAnswer {
    let next = query.0.text("next").unwrap_or("/");
    let (request, _) = request.into_parts();
    if visitor(&gate, &request).await?.is_some() {
        return Ok(see(next));
    }
    let left = query.0.text("did") == Some("left");
    Ok(sign_in_page(&gate, StatusCode::OK, next, left, None))
}

/// Signs in with the token of the form.
pub(in crate::console) async fn enter(State(gate): State<Arc<ControlContext>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let fields = match FormFields::from_request(Request::from_parts(parts.clone(), body), &gate).await {
        Ok(fields) => fields,
        Err(refused) => return refused,
    };
    let next = fields.text("next").unwrap_or("/");
    let token = Secret::new(fields.owned("token").unwrap_or_default());
    match sign_in_with_token(&gate, &parts, token).await {
        Ok((view, secret)) => {
            let time = Duration::try_from(view.expires_at.duration_since(gate.clock.now())).unwrap_or_default();
            let origin = parts.extensions.get::<ConnectInfo<CallOrigin>>();
            let tls = origin.is_some_and(|ConnectInfo(origin)| origin.is_tls_to_browser(&gate, &parts.headers));
            let cookie = [(header::SET_COOKIE, sign_in_cookie::set(&secret, time, tls))];
            (cookie, see(next)).into_response()
        }
        Err(error) => {
            let problem = error.problem();
            let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            sign_in_page(&gate, status, next, false, Some(&problem))
        }
    }
}

/// Ends the sign-in, at the gate and in the browser.
pub(in crate::console) async fn leave(
    ConnectInfo(origin): ConnectInfo<CallOrigin>,
    headers: HeaderMap,
    call: Call,
    _: FormFields,
) -> PageAnswer {
    let sign_in = call.caller.person().ok().and_then(|person| person.sign_in.as_ref());
    if let Some(sign_in) = sign_in {
        match call.gate.service.end_sign_in(&call.caller, &sign_in.id).await {
            // It may have ended a moment before.
            Ok(_) | Err(AccessError::NoSuchSignIn(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let cookie = [(
        header::SET_COOKIE,
        sign_in_cookie::clear(origin.is_tls_to_browser(&call.gate, &headers)),
    )];
    Ok((cookie, see("/signin?did=left")).into_response())
}

fn sign_in_page(gate: &ControlContext, status: StatusCode, next: &str, left: bool, problem: Option<&Problem>) -> Response {
    let frame = Frame {
        notice: left.then_some("You are signed out."),
        ..Frame::bare("Sign in")
    };
    let rules = gate.service.rules();
    let address = rules.console_address.as_deref().unwrap_or_default();
    let providers = rules.issuers.providers().map(|issuer| ProviderButton {
        host: issuer.host().to_owned(),
        way: way_to(address, &issuer.issuer, next),
    });
    let providers: Vec<_> = providers.collect();
    answer::html(status, frame::page(&frame, &body(next, &providers, problem)))
}

/// Returns the content of the page.
pub(in crate::console) fn body(next: &str, providers: &[ProviderButton], problem: Option<&Problem>) -> Markup {
    html! {
        h1 { "Sign in" }
        p.lead { "Ask for access to a database, decide on what others ask for, and see what is open." }
        @if let Some(problem) = problem { (problem::notice(problem)) }
        @if !providers.is_empty() {
            div.acts {
                @for provider in providers { a.button href=(provider.way) { "Sign in at " (shown(&provider.host)) } }
            }
            h2 { "Or with a token" }
        }
        form.fields method="post" action="/signin" {
            input type="hidden" name="next" value=(local_path(next));
            label {
                "Your token"
                span.hint { "It begins with tg_. It is not kept here: the browser gets a sign-in that ends by itself." }
                input type="password" name="token" required autocomplete="current-password" spellcheck="false" autofocus;
            }
            div.acts { button { "Sign in" } }
        }
        p.note { "No token? The gate's operator makes one: " code { "tidegate user add NAME --group GROUP" } "." }
    }
}

/// Button that leads to a provider.
pub(in crate::console) struct ProviderButton {
    /// Name by which people know the provider.
    pub(in crate::console) host: String,
    /// Address of the gate that sends a browser there.
    pub(in crate::console) way: String,
}

/// Returns the address that sends a browser to a provider and from there on to `next`. It is at the console's own address, where the
/// browser comes back to, whichever address of the gate it is at now: a cookie is of one host.
pub(in crate::console) fn way_to(console: &str, provider: &str, next: &str) -> String {
    let issuer: String = form_urlencoded::byte_serialize(provider.as_bytes()).collect();
    form::path(&format!("{console}/signin/{issuer}"), &[("next", local_path(next))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_a_provider_comes_back_here() {
        let way = way_to(
            "https://gate.example.org",
            "https://id.example.org/realms/qa",
            "/requests/rq_1",
        );
        assert_eq!(
            way,
            "https://gate.example.org/signin/https%3A%2F%2Fid.example.org%2Frealms%2Fqa?next=%2Frequests%2Frq_1"
        );
        assert_eq!(way_to("", "x", "//evil.example"), "/signin/x?next=%2F");
    }
}
