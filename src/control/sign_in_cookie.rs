//! Cookie of a sign-in: its name, its attributes, and its value in a request.
//!
//! It proves nothing. RFC 6265bis: sections 4.1.2 (attributes), 4.1.3 (the prefix `__Host-`) and 5.6.7.1 (`SameSite`).
//!
//! INVARIANT: over TLS only a cookie counts that this host has set over TLS, so no other host of the domain, and nobody on the path
//! of an unencrypted connection, can plant one.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, header};

use crate::base::secret::Secret;

/// Name over TLS: browsers accept it with `Secure`, for `/` and for this host alone.
pub(super) const SECURE_NAME: &str = "__Host-tidegate";
/// Names of the secret that ties the way back from a provider to the browser that was sent there.
const SECURE_BEGUN_NAME: &str = "__Host-tidegate-signin";
const PLAIN_BEGUN_NAME: &str = "tidegate-signin";
/// Time that a person has at the provider, in seconds.
const BEGUN_SECONDS: u64 = 600;

/// Name over plain HTTP, which is served on a loopback address only.
pub(super) const PLAIN_NAME: &str = "tidegate";

/// Returns the header `Set-Cookie` that makes a browser send the secret for this time. `Lax`: a link in a message, and the way back
/// from a provider, arrive with the cookie; a change needs more than that (`same_origin`).
#[must_use]
pub fn set(secret: &Secret<String>, time: Duration, tls: bool) -> HeaderValue {
    cookie(names(tls), secret.expose(), time.as_secs(), tls)
}

/// Returns the header `Set-Cookie` that makes a browser forget the secret.
#[must_use]
pub fn clear(tls: bool) -> HeaderValue {
    cookie(names(tls), "", 0, tls)
}

/// Returns the header `Set-Cookie` for a browser that is sent to a provider.
pub(super) fn begun(secret: &Secret<String>, tls: bool) -> HeaderValue {
    cookie(begun_names(tls), secret.expose(), BEGUN_SECONDS, tls)
}

/// Returns the header `Set-Cookie` for a browser that has come back.
pub(super) fn clear_begun(tls: bool) -> HeaderValue {
    cookie(begun_names(tls), "", 0, tls)
}

/// Returns the secret of a browser that comes back from a provider.
pub(super) fn read_begun(headers: &HeaderMap, tls: bool) -> Option<Secret<String>> {
    one(headers, [SECURE_BEGUN_NAME, PLAIN_BEGUN_NAME], tls)
}

fn names(tls: bool) -> &'static str {
    if tls { SECURE_NAME } else { PLAIN_NAME }
}

fn begun_names(tls: bool) -> &'static str {
    if tls { SECURE_BEGUN_NAME } else { PLAIN_BEGUN_NAME }
}

fn cookie(name: &str, value: &str, seconds: u64, tls: bool) -> HeaderValue {
    let secure = if tls { "; Secure" } else { "" };
    let text = format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}");
    // A secret has letters and digits only; any other value would be no cookie.
    let mut header = HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("tidegate=; Max-Age=0"));
    header.set_sensitive(true);
    header
}

/// Returns the secret in a request's cookies. Two cookies of the name are none: one of them was planted.
pub(super) fn read(headers: &HeaderMap, tls: bool) -> Option<Secret<String>> {
    one(headers, [SECURE_NAME, PLAIN_NAME], tls)
}

fn one(headers: &HeaderMap, [secure, plain]: [&str; 2], tls: bool) -> Option<Secret<String>> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = cookies
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    // A proxy on this machine may end the TLS that the browser sees.
    let ours = |name: &str| name == secure || (!tls && name == plain);
    let mut found = pairs
        .filter(|(name, value)| ours(name) && !value.is_empty())
        .map(|(_, value)| value);
    match (found.next(), found.next()) {
        (Some(one), None) => Some(Secret::new(one.to_owned())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(cookies: &[&str]) -> HeaderMap {
        let cookie = |text: &&str| (header::COOKIE, HeaderValue::from_str(text).unwrap());
        cookies.iter().map(cookie).collect()
    }

    #[test]
    fn it_is_for_this_host_and_for_no_script() {
        let secret = Secret::new("ts_0123".to_owned());
        let day = Duration::from_hours(12);
        assert_eq!(
            set(&secret, day, true),
            "__Host-tidegate=ts_0123; Path=/; Max-Age=43200; HttpOnly; SameSite=Lax; Secure"
        );
        assert_eq!(
            set(&secret, day, false),
            "tidegate=ts_0123; Path=/; Max-Age=43200; HttpOnly; SameSite=Lax"
        );
        assert_eq!(
            clear(true),
            "__Host-tidegate=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax; Secure"
        );
        assert!(set(&secret, day, true).is_sensitive());
        let broken = Secret::new("ts_\n".to_owned());
        assert_eq!(set(&broken, day, true), "tidegate=; Max-Age=0");
    }

    #[test]
    fn a_planted_cookie_is_none() {
        for (cookies, tls, found) in [
            (&["__Host-tidegate=ts_a"][..], true, Some("ts_a")),
            (&["theme=dark; __Host-tidegate=ts_a; x=y"], true, Some("ts_a")),
            (&["theme=dark", "__Host-tidegate=ts_a"], true, Some("ts_a")),
            (&["tidegate=ts_a"], false, Some("ts_a")),
            (&["__Host-tidegate=ts_a"], false, Some("ts_a")),
            // Over TLS the plain name may come from anywhere.
            (&["tidegate=ts_a"], true, None),
            (&["__Host-tidegate=ts_a; __Host-tidegate=ts_b"], true, None),
            (&["tidegate=ts_a", "tidegate=ts_a"], false, None),
            (&["tidegate=ts_a; __Host-tidegate=ts_b"], false, None),
            (&["__host-tidegate=ts_a"], true, None),
            (&["tidegate="], false, None),
            (&["tidegate"], false, None),
            (&[""], false, None),
            (&[], false, None),
        ] {
            let read = read(&headers(cookies), tls);
            assert_eq!(
                read.as_ref().map(|secret| secret.expose().as_str()),
                found,
                "{cookies:?} {tls}"
            );
        }
    }
}
