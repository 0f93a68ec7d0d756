//! Console: the use cases of people as pages for a browser, served beside the API.
//!
//! It decides nothing and keeps nothing: each page is one call that the API has too ([`crate::control::Call`]), as HTML, and
//! each form is one `POST` that ends in a redirect. Pages work without a script; the script only moves what is there.
//!
//! INVARIANT: every text of people and clients reaches a page through [`maud`]'s escaping; every page forbids what it does not
//! need (`Content-Security-Policy`), and no page is kept by a browser.

mod answer;
mod assets;
mod form;
mod page_status;
mod pages;
mod templates;
#[cfg(test)]
mod tests;
mod viewer;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, middleware};

use crate::control::model::Problem;
use crate::control::{ApiError, ControlContext, authenticate, sign_in_ways, visitor};
use pages::{ask, card, decide, gate, live, log, mine, policies, request, sign_in, story, terminal, touched, users, window};

/// Returns the pages, for every path that the API does not have.
pub fn router(gate: Arc<ControlContext>) -> Router {
    of_people()
        .route_layer(middleware::from_fn_with_state(Arc::clone(&gate), authenticate))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&gate), signed_in))
        .merge(of_everybody())
        .merge(sign_in_ways())
        .fallback(no_page)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn(answer::as_page))
        .with_state(gate)
}

/// Returns the pages for those who have proved who they are.
fn of_people() -> Router<Arc<ControlContext>> {
    Router::new()
        .route("/", get(mine::home))
        .route("/mine", get(mine::page))
        .route("/ask", get(ask::page).post(ask::submit))
        .route("/requests", get(mine::requests))
        .route("/requests/{id}", get(request::page))
        .route("/requests/{id}/withdraw", post(request::withdraw))
        .route("/requests/{id}/approve", post(request::approve))
        .route("/requests/{id}/reject", post(request::reject))
        .route("/requests/{id}/review", post(request::review))
        .route("/grants", get(window::list))
        .route("/grants/{id}", get(window::page))
        .route("/grants/{id}/login", get(card::none).post(card::page))
        .route("/grants/{id}/extend", post(window::extend))
        .route("/grants/{id}/release", post(window::release))
        .route("/grants/{id}/revoke", post(window::revoke))
        .route("/certificate.pem", get(card::certificate))
        .route("/decide", get(decide::page))
        .route("/decide/reviews", get(decide::reviews))
        .route("/live", get(live::page))
        .route("/live/{id}/end", post(live::end))
        .route("/log", get(log::page))
        .route("/log/tables", get(touched::page))
        .route("/log/report", get(log::report))
        .route("/log/verify", get(log::verify))
        .route("/log/sessions/{id}", get(story::page))
        .route("/gate", get(gate::page))
        .route("/gate/targets/{name}", get(gate::target))
        .route("/gate/users", get(users::page).post(users::change))
        .route("/gate/policies", get(policies::page))
        .route("/terminal", get(terminal::page).post(terminal::let_in))
        .route("/signout", post(sign_in::leave))
}

/// Returns the pages and files for everybody.
fn of_everybody() -> Router<Arc<ControlContext>> {
    Router::new()
        .route("/signin", get(sign_in::page).post(sign_in::enter))
        .route("/assets/{file}", get(assets::file))
}

/// Lets those through whose sign-in is good, or who send a token. A sign-in that has ended is no failed login: people leave pages
/// open.
async fn signed_in(State(gate): State<Arc<ControlContext>>, request: Request, next: Next) -> Response {
    if request.headers().contains_key(header::AUTHORIZATION) {
        return next.run(request).await;
    }
    let (mut parts, body) = request.into_parts();
    match visitor(&gate, &parts).await {
        Ok(Some(caller)) => {
            parts.extensions.insert(caller.clone());
            let mut answer = next.run(Request::from_parts(parts, body)).await;
            // A problem becomes a page with the way to the others.
            if answer.extensions().get::<Problem>().is_some() {
                answer.extensions_mut().insert(viewer::viewer(&gate, &caller));
            }
            answer
        }
        Ok(None) => ApiError::Unauthorized.into_response(),
        Err(error) => error.into_response(),
    }
}

/// Answers a path that neither the API nor the console has: a program reads a problem, a person a page.
async fn no_page(request: Request) -> Response {
    ApiError::NoSuchPath(request.uri().path().to_owned()).into_response()
}

async fn wrong_method(request: Request) -> Response {
    ApiError::Method(request.method().to_string()).into_response()
}
