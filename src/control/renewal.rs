//! Renewals: calls that a page in a browser makes by itself, so that it shows what is there now.
//!
//! It proves nothing. INVARIANT: whoever claims a renewal gets no more than by a call of their own: it does not count as a use of the
//! sign-in, and a reading of the log that is not on record yet is recorded all the same.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, Uri};

/// Header of the console's script.
const RENEWAL_HEADER: &str = "tidegate-renewal";
/// Field in the address of a page that asks for itself again without a script.
pub const RENEWAL_FIELD: &str = "renewal";
/// Path of the stream of changes, which browsers open again by themselves.
const EVENTS_PATH: &str = "/v1/events";

/// Property of a call: true if a page makes it by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewal(pub bool);

impl Renewal {
    pub(super) fn of(method: &Method, uri: &Uri, headers: &HeaderMap) -> Self {
        let mut fields = uri.query().unwrap_or_default().split('&');
        let mut is_marked = || {
            headers.contains_key(RENEWAL_HEADER)
                || uri.path() == EVENTS_PATH
                || fields.any(|field| field.split('=').next() == Some(RENEWAL_FIELD))
        };
        Self(*method == Method::GET && is_marked())
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Renewal {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.method, &parts.uri, &parts.headers))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn what_a_page_asks_by_itself() {
        let marked: HeaderMap = [(RENEWAL_HEADER.parse().unwrap(), HeaderValue::from_static("yes"))]
            .into_iter()
            .collect();
        let none = HeaderMap::new();
        for (method, path, headers, renewal) in [
            (Method::GET, "/live", &none, false),
            (Method::GET, "/live", &marked, true),
            (Method::GET, "/live?renewal=yes", &none, true),
            (Method::GET, "/live?target=a&renewal", &none, true),
            (Method::GET, "/live?target=renewal&renewals=1", &none, false),
            (Method::GET, "/v1/events", &none, true),
            (Method::GET, "/v1/events/x", &none, false),
            // People press buttons.
            (Method::POST, "/live?renewal=yes", &marked, false),
        ] {
            let uri: Uri = path.parse().unwrap();
            assert_eq!(Renewal::of(&method, &uri, headers), Renewal(renewal), "{method} {path}");
        }
    }
}
