//! Calls of an issuer's web addresses: its keys, its metadata, its token endpoint.
//!
//! It reads no answer. INVARIANT: a call has a time limit, and its answer a size limit.

use std::time::Duration;

use reqwest::{RequestBuilder, StatusCode, Url, header};

use crate::base::secret::Secret;
use crate::base::tls::{web_address, web_call};

/// Time limit of a call, from the connect to the last byte.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum size of an answer, in bytes; issuers have a few kilobytes.
pub(super) const MAX_ANSWER_BYTES: usize = 1 << 20;

/// Fetches a document.
pub(super) async fn get(url: &str) -> Result<Vec<u8>, String> {
    let (status, body) = call(url, reqwest::Client::get).await?;
    if !status.is_success() {
        return Err(format!("{url} answers {status}"));
    }
    Ok(body)
}

/// Sends a form, with the name and the secret of a client if there are any; returns the status and the answer.
pub(super) async fn post(
    url: &str,
    form: &[(&str, &str)],
    client: Option<(&str, &Secret<String>)>,
) -> Result<(StatusCode, Vec<u8>), String> {
    call(url, |http, address| {
        let request = http
            .post(address)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT, "application/json")
            .body(encoded(form));
        match client {
            // RFC 6749, section 2.3.1: each half is form-encoded first.
            Some((id, secret)) => request.basic_auth(one(id), Some(one(secret.expose()))),
            None => request,
        }
    })
    .await
}

async fn call(url: &str, request: impl FnOnce(&reqwest::Client, Url) -> RequestBuilder) -> Result<(StatusCode, Vec<u8>), String> {
    let told = |error: String| format!("{url}: {error}");
    let address = web_address(url).map_err(told)?;
    web_call(address, CALL_TIMEOUT, MAX_ANSWER_BYTES, request).await.map_err(told)
}

/// Returns an address with these parameters added to its query.
pub(super) fn with_query(url: &str, query: &[(&str, &str)]) -> Result<String, String> {
    let mut url = web_address(url)?;
    url.query_pairs_mut().extend_pairs(query);
    Ok(url.into())
}

/// Encodes a form (WHATWG: `application/x-www-form-urlencoded`).
fn encoded(form: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish()
}

fn one(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_and_queries_are_encoded() {
        let form = encoded(&[("code", "a+b/c= d"), ("x", "ü&y")]);
        assert_eq!(form, "code=a%2Bb%2Fc%3D+d&x=%C3%BC%26y");
        assert_eq!((one("a:b").as_str(), one("").as_str()), ("a%3Ab", ""));
        let url = with_query("https://id.example.org/authorize?tenant=1", &[("state", "x&y")]).unwrap();
        assert_eq!(url, "https://id.example.org/authorize?tenant=1&state=x%26y");
        assert!(with_query("http://id.example.org/", &[]).is_err());
    }
}
