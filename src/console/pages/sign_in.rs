//! Sign-in and sign-out.
//!
//! It proves nothing: the access service knows tokens and providers, and makes the sign-in that the cookie stands for.
//!
//! INVARIANT: a token is in no address, in no page and in no cookie; the way on after a sign-in is a path of this console.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, FromRequest as _, Request, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};

use crate::access::{AccessError, local_path};
use crate::base::secret::Secret;
use crate::console::answer::{self, PageAnswer, see};
use crate::console::form::{self, AGAIN_FIELD, FormFields, QueryFields};
use crate::console::page_status::PageStatus;
use crate::console::templates::frame::{self, Frame};
use crate::console::templates::problem;
use crate::console::templates::text::shown;
use crate::control::model::Problem;
use crate::control::{Call, CallOrigin, ControlContext, sign_in_cookie, sign_in_with_token, visitor};

/// Content of the page.
pub(in crate::console) struct SignInView<'a> {
    /// Path to go on to.
    pub(in crate::console) next: &'a str,
    /// True if what the person wants to do takes a proof of this moment.
    pub(in crate::console) again: bool,
    pub(in crate::console) providers: &'a [ProviderButton],
    pub(in crate::console) problem: Option<&'a Problem>,
}

/// Shows the form; those who are signed in already are led on, unless they are to sign in again.
pub(in crate::console) async fn page(
    State(gate): State<Arc<ControlContext>>,
    query: QueryFields,
    request: Request,
) -> PageAnswer {
    let (request, _) = request.into_parts();
    if visitor(&gate, &request).await?.is_some() && !query.0.checked(AGAIN_FIELD) {
        return Ok(see(query.0.text("next").unwrap_or("/")));
    }
    Ok(sign_in_page(&gate, PageStatus::OK, &query.0, None))
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
        Err(error) => sign_in_page(&gate, PageStatus::of(&error), &fields, Some(&error.problem())),
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

/// Answers with the page for these fields, of a query or of the form.
fn sign_in_page(gate: &ControlContext, status: PageStatus, fields: &FormFields, problem: Option<&Problem>) -> Response {
    let left = fields.text("did") == Some("left");
    let frame = Frame {
        notice: left.then_some("You are signed out."),
        ..Frame::bare("Sign in")
    };
    let (next, again) = (fields.text("next").unwrap_or("/"), fields.checked(AGAIN_FIELD));
    let rules = gate.service.rules();
    let address = rules.console_address.as_deref().unwrap_or_default();
    let providers = rules.issuers.providers().map(|issuer| ProviderButton {
        name: rules.issuers.callback_name(issuer).replace('~', "/"),
        way: way_to(address, &issuer.issuer, next, again),
    });
    let view = SignInView {
        next,
        again,
        providers: &providers.collect::<Vec<_>>(),
        problem,
    };
    answer::html(status, frame::page(&frame, &body(&view)))
}

/// Returns the content of the page.
pub(in crate::console) fn body(view: &SignInView<'_>) -> Markup {
    let SignInView {
        next,
        again,
        providers,
        problem,
    } = *view;
    html! {
        @if again {
            h1 { "Sign in again" }
            p.lead { "What you want to do takes a proof of this moment that it is you. After that you come back to it." }
        } @else {
            h1 { "Sign in" }
            p.lead { "Ask for access to a database, decide on what others ask for, and see what is open." }
        }
        @if let Some(problem) = problem { (problem::notice(problem, next)) }
        @if !providers.is_empty() {
            div.acts {
                @for provider in providers { a.button href=(provider.way) { "Sign in at " (shown(&provider.name)) } }
            }
            h2 { "Or with a token" }
        }
        form.fields method="post" action="/signin" {
            input type="hidden" name="next" value=(local_path(next));
            @if again { input type="hidden" name=(AGAIN_FIELD) value="yes"; }
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
    /// Name by which people know the provider: its host, with its path beside another one of that host.
    pub(in crate::console) name: String,
    /// Address of the gate that sends a browser there.
    pub(in crate::console) way: String,
}

/// Returns the address that sends a browser to a provider and from there on to `next`. It is at the console's own address, where the
/// browser comes back to, whichever address of the gate it is at now: a cookie is of one host. `fresh`: the person is to prove who they
/// are there now.
pub(in crate::console) fn way_to(console: &str, provider: &str, next: &str, fresh: bool) -> String {
    let issuer: String = form_urlencoded::byte_serialize(provider.as_bytes()).collect();
    let mut fields = vec![("next", local_path(next))];
    fields.extend(fresh.then_some(("fresh", "true")));
    form::path(&format!("{console}/signin/{issuer}"), &fields)
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
            false,
        );
        assert_eq!(
            way,
            "https://gate.example.org/signin/https%3A%2F%2Fid.example.org%2Frealms%2Fqa?next=%2Frequests%2Frq_1"
        );
        assert_eq!(way_to("", "x", "//evil.example", true), "/signin/x?next=%2F&fresh=true");
    }
}
