//! Proof that a page of the gate itself sent a request that a cookie authenticates.
//!
//! Browsers send cookies along with what pages of other sites ask for. They say where a request comes from in `Sec-Fetch-Site`
//! (W3C: "Fetch Metadata Request Headers") and in `Origin` (RFC 6454, section 7), which no script can set.
//!
//! INVARIANT: without one of these headers, or if any of them says something else, the request is not the gate's own.

use axum::http::{HeaderMap, HeaderName, Method, header};

/// Header by which browsers say how the site of a page and that of its request relate.
pub(super) const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// Value that fits nothing, for a header that is there twice or is no text.
const UNREADABLE: &str = "?";

/// Returns true if the request may act by a cookie: it changes nothing, or a page of the gate sent it.
pub(super) fn may_act(method: &Method, headers: &HeaderMap, tls: bool) -> bool {
    !changes(method)
        || is_same_origin(
            tls,
            one(headers, &header::HOST),
            one(headers, &header::ORIGIN),
            one(headers, &FETCH_SITE),
        )
}

/// Returns true if a request of this method may change something.
pub(super) fn changes(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD)
}

/// Returns a header that is there once; `None` if it is not there.
fn one<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    let single = values.next().is_none();
    Some(first.to_str().ok().filter(|_| single).unwrap_or(UNREADABLE))
}

/// Returns true if the headers say that a page of this host sent the request.
fn is_same_origin(tls: bool, host: Option<&str>, origin: Option<&str>, fetch_site: Option<&str>) -> bool {
    let own = |origin: &str| host.is_some_and(|host| is_of(origin, host, tls));
    match (fetch_site, origin) {
        (Some("same-origin"), None) => true,
        (Some("same-origin") | None, Some(origin)) => own(origin),
        _ => false,
    }
}

/// Returns true if an origin is that of this host. A proxy on this machine may end the TLS that the browser sees, but nothing adds
/// one.
fn is_of(origin: &str, host: &str, tls: bool) -> bool {
    let plain = origin.strip_prefix("http://").filter(|_| !tls);
    let authority = plain.or_else(|| origin.strip_prefix("https://"));
    !host.is_empty() && authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn only_the_gates_own_page_acts() {
        let (host, same, own) = (
            Some("gate.example:7433"),
            Some("same-origin"),
            Some("https://gate.example:7433"),
        );
        for (tls, host, origin, fetch_site, may) in [
            (true, host, own, same, true),
            (true, host, own, None, true),
            (true, host, None, same, true),
            (true, host, Some("https://GATE.example:7433"), same, true),
            (false, host, Some("http://gate.example:7433"), same, true),
            (false, host, own, same, true),
            // Nothing says where it comes from.
            (true, host, None, None, false),
            (true, None, own, same, false),
            (true, Some(""), Some("https://"), same, false),
            // One of them says something else.
            (true, host, own, Some("same-site"), false),
            (true, host, own, Some("cross-site"), false),
            (true, host, own, Some("none"), false),
            (true, host, own, Some("Same-Origin"), false),
            (true, host, own, Some(UNREADABLE), false),
            (true, host, Some("null"), same, false),
            (true, host, Some(""), same, false),
            (true, host, Some(UNREADABLE), same, false),
            (true, host, Some("https://gate.example"), same, false),
            (true, host, Some("https://gate.example:7433.evil.example"), same, false),
            (
                true,
                host,
                Some("https://evil.example/https://gate.example:7433"),
                same,
                false,
            ),
            (true, host, Some("https://gate.example:7433/"), same, false),
            (true, host, Some("http://gate.example:7433"), same, false),
            (true, host, Some("gate.example:7433"), same, false),
            (true, host, Some("https://user@gate.example:7433"), same, false),
            (false, host, Some("ftp://gate.example:7433"), None, false),
        ] {
            assert_eq!(
                is_same_origin(tls, host, origin, fetch_site),
                may,
                "{tls} {host:?} {origin:?} {fetch_site:?}"
            );
        }
    }

    #[test]
    fn reading_needs_no_proof_and_a_header_counts_once() {
        let mut headers = HeaderMap::new();
        assert!(may_act(&Method::GET, &headers, true) && may_act(&Method::HEAD, &headers, true));
        let changing = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];
        assert!(changing.iter().all(|method| !may_act(method, &headers, true)));
        headers.append(header::HOST, HeaderValue::from_static("gate"));
        headers.append(header::ORIGIN, HeaderValue::from_static("https://gate"));
        assert!(changing.iter().all(|method| may_act(method, &headers, true)));
        headers.append(header::ORIGIN, HeaderValue::from_static("https://gate"));
        assert!(changing.iter().all(|method| !may_act(method, &headers, true)));
        headers.insert(header::ORIGIN, HeaderValue::from_bytes(b"https://gate\xff").unwrap());
        assert!(changing.iter().all(|method| !may_act(method, &headers, true)));
    }
}
