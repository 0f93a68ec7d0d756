//! Readers of what browsers send, for fuzzers. It is no part of the product.

use axum::http::{HeaderMap, HeaderValue, Method, header};

use super::{same_origin, sign_in_cookie};

/// Reads cookies, one header a line: a secret is the whole value of the only cookie of its name.
pub(crate) fn cookies_hostile(data: &[u8]) {
    let lines = data.split(|byte| *byte == b'\n');
    let mut headers: HeaderMap = lines
        .filter_map(|line| Some((header::COOKIE, HeaderValue::from_bytes(line).ok()?)))
        .collect();
    let found = [true, false].map(|tls| sign_in_cookie::read(&headers, tls));
    for secret in found.iter().flatten() {
        let secret = secret.expose();
        assert!(!secret.is_empty() && !secret.contains(';'), "a value ends with its cookie");
        let named = |name: &str| headers.values().any(|value| holds(value, &format!("{name}={secret}")));
        assert!(
            named(sign_in_cookie::SECURE_NAME) || named(sign_in_cookie::PLAIN_NAME),
            "it is of that name"
        );
    }
    let planted = [sign_in_cookie::SECURE_NAME, "=ts_planted"].concat();
    headers.extend(HeaderValue::try_from(planted).map(|value| (header::COOKIE, value)));
    for (tls, before) in [true, false].into_iter().zip(found) {
        let with = sign_in_cookie::read(&headers, tls);
        assert!(
            before.is_none() || with.is_none(),
            "one planted beside another makes both none"
        );
    }
}

fn holds(value: &HeaderValue, part: &str) -> bool {
    value.to_str().is_ok_and(|value| value.contains(part))
}

/// Reads what a browser says of a form, one header a line: the host, the origin, the site. Without a last line there is no such header.
pub(crate) fn same_origin_hostile(data: &[u8]) {
    let names = [header::HOST, header::ORIGIN, same_origin::FETCH_SITE];
    let lines = data.splitn(3, |byte| *byte == b'\n');
    let headers: HeaderMap = names
        .into_iter()
        .zip(lines)
        .filter_map(|(name, line)| Some((name, HeaderValue::from_bytes(line).ok()?)))
        .collect();
    let text = |name: &_| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let (host, origin, site) = (text(&header::HOST), text(&header::ORIGIN), text(&same_origin::FETCH_SITE));
    for tls in [true, false] {
        assert!(same_origin::may_act(&Method::GET, &headers, tls), "reading needs no proof");
        if same_origin::may_act(&Method::POST, &headers, tls) {
            assert!(site.is_none_or(|site| site == "same-origin"), "the page is of this site");
            assert!(site.is_some() || origin.is_some(), "something says so");
            let own = |origin: &str| {
                let of = |scheme: &str| origin.strip_prefix(scheme).map(str::to_ascii_lowercase);
                let authority = of("https://").or_else(|| of("http://").filter(|_| !tls));
                authority.is_some() && authority == host.map(str::to_ascii_lowercase)
            };
            assert!(origin.is_none_or(own), "the page is of this host");
        }
    }
}
