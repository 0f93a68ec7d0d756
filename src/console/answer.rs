//! Answers of the console: pages, redirects, and the headers that all of them have.
//!
//! INVARIANT: no answer leaves without the policy of [`POLICY`]; a redirect leads to a path of this console, or to a provider.

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use maud::Markup;

use super::form::{self, SIGN_IN_PATH};
use super::page_status::PageStatus;
use super::templates::frame::Viewer;
use super::templates::problem;
use crate::access::local_path;
use crate::control::ApiError;
use crate::control::model::Problem;

/// Result of a handler. An error becomes a page.
pub(super) type PageAnswer = Result<Response, ApiError>;

/// Content-Security-Policy of every answer: nothing but the console's own files and calls; no frame around it.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Answers with a page and a status.
pub(super) fn html(PageStatus { status, retry_after }: PageStatus, page: Markup) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/html; charset=utf-8")];
    let mut answer = (status, kind, page.into_string()).into_response();
    let retry = retry_after.map(|seconds| (header::RETRY_AFTER, seconds.into()));
    answer.headers_mut().extend(retry);
    answer
}

/// Leads on to a path of this console, which is then asked for by GET.
pub(super) fn see(path: &str) -> Response {
    let location = HeaderValue::from_str(local_path(path)).unwrap_or(HeaderValue::from_static("/"));
    (StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response()
}

/// Makes a page of a problem, leads those who have not proved who they are to the sign-in, and sets the headers of every answer.
pub(super) async fn as_page(request: Request, next: Next) -> Response {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let mut answer = next.run(request).await;
    // An unknown path of the API is a program's mistake, and answered as such.
    if let Some(problem) = answer
        .extensions()
        .get::<Problem>()
        .filter(|_| !uri.path().starts_with("/v1/"))
    {
        answer = if problem.status == StatusCode::UNAUTHORIZED.as_u16() && !is_sign_in(uri.path()) {
            see(&sign_in_then(&method, &uri))
        } else {
            let path = wanted(&method, &uri).unwrap_or("/");
            let page = problem::page(problem, path, answer.extensions().get::<Viewer>());
            html(PageStatus::of_answer(&answer), page)
        };
    }
    let headers = answer.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // Other sites are told nothing. With `no-referrer` browsers would send `Origin: null` with forms, which proves nothing.
        (header::REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    answer
}

/// Returns true for the sign-in, and for the ways to a provider and back: from there nobody is led to it.
fn is_sign_in(path: &str) -> bool {
    path.strip_prefix(SIGN_IN_PATH)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Returns the path of the sign-in, from where a page that was asked for is come back to.
fn sign_in_then(method: &Method, uri: &Uri) -> String {
    match wanted(method, uri).filter(|wanted| *wanted != "/") {
        Some(wanted) => form::path(SIGN_IN_PATH, &[("next", wanted)]),
        None => SIGN_IN_PATH.to_owned(),
    }
}

/// Returns the path of a page that can be come back to.
fn wanted<'u>(method: &Method, uri: &'u Uri) -> Option<&'u str> {
    let path = uri.path_and_query().map(|path| path.as_str());
    path.filter(|_| *method == Method::GET)
}
