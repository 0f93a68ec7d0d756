//! Sign-ins that have begun at a provider and have not come back: each for some minutes, and no more than so many.
//!
//! It asks no provider. INVARIANT: what comes back counts once, for the browser that it was begun with, and for ten minutes.

use std::collections::VecDeque;
use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

use super::one_time_secrets::digest;
use super::strangers::Network;
use crate::base::secret::Secret;

/// Time that a person has at the provider.
const MAX_AGE: SignedDuration = SignedDuration::from_mins(10);
/// Number of sign-ins that have begun; one more displaces the oldest.
const MAX_PENDING: usize = 1_000;
/// Number of them from one address (IPv6: one /64); one more displaces the oldest of these. A proxy on this machine has no such limit:
/// everybody may be behind it.
const MAX_PENDING_PER_NETWORK: usize = 50;

/// Maximum length of the path to go on to, in bytes.
const MAX_NEXT_BYTES: usize = 2_000;

/// Sign-in that has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PendingSignIn {
    /// Issuer that the browser was sent to.
    pub(super) issuer: String,
    /// Value that the ID token has to have.
    pub(super) nonce: String,
    /// PKCE verifier of the code.
    pub(super) verifier: Secret<String>,
    /// Path to go on to.
    pub(super) next: String,
}

#[derive(Debug)]
struct AwaitedSignIn {
    state: [u8; 32],
    browser: [u8; 32],
    network: Option<Network>,
    since: Timestamp,
    sign_in: PendingSignIn,
}

/// Sign-ins that have begun, the oldest first.
#[derive(Debug, Default)]
pub(super) struct PendingSignIns(Mutex<VecDeque<AwaitedSignIn>>);

impl PendingSignIns {
    /// Notes a sign-in that begins: `state` comes back with the code, `browser` with the browser.
    pub(super) fn begin(
        &self,
        state: &str,
        browser: &Secret<String>,
        client: Option<IpAddr>,
        sign_in: PendingSignIn,
        now: Timestamp,
    ) {
        let network = client.filter(|client| !client.is_loopback()).map(Network::of);
        let mut pending = self.0.lock();
        while pending.front().is_some_and(|oldest| is_over(oldest, now)) || pending.len() >= MAX_PENDING {
            pending.pop_front();
        }
        let same = |begun: &AwaitedSignIn| begun.network == network;
        if network.is_some()
            && pending.iter().filter(|begun| same(begun)).count() >= MAX_PENDING_PER_NETWORK
            && let Some(oldest) = pending.iter().position(same)
        {
            pending.remove(oldest);
        }
        pending.push_back(AwaitedSignIn {
            state: digest(state),
            browser: digest(browser.expose()),
            network,
            since: now,
            sign_in,
        });
    }

    /// Returns a sign-in that comes back, once; `None` if none has this state and this browser, or it took too long.
    pub(super) fn take(&self, state: &str, browser: &Secret<String>, now: Timestamp) -> Option<PendingSignIn> {
        let (state, browser) = (digest(state), digest(browser.expose()));
        let mut pending = self.0.lock();
        // Another browser does not use it up: its owner may still come.
        let found = pending
            .iter()
            .position(|begun| begun.state == state && begun.browser == browser)?;
        let begun = pending.remove(found)?;
        (!is_over(&begun, now)).then_some(begun.sign_in)
    }
}

fn is_over(begun: &AwaitedSignIn, now: Timestamp) -> bool {
    now.duration_since(begun.since) >= MAX_AGE
}

/// Returns the path to go on to after a sign-in, which is kept until then: of this host, and not too long.
pub(super) fn next_path(next: Option<&str>) -> &str {
    local_path(next.filter(|next| next.len() <= MAX_NEXT_BYTES).unwrap_or_default())
}

/// Returns a path if it is one of this host, and the root for everything else. Browsers take `//host` and `/\host` for another host,
/// and leave out tabs and line breaks (WHATWG URL: "basic URL parser").
#[must_use]
pub fn local_path(path: &str) -> &str {
    let visible = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    let local = path.starts_with('/') && !path.starts_with("//");
    if visible && local { path } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    fn sign_in(next: &str) -> PendingSignIn {
        PendingSignIn {
            issuer: "https://id.example.org".to_owned(),
            nonce: "n".to_owned(),
            verifier: secret("v"),
            next: next.to_owned(),
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn it_comes_back_once_to_its_browser_and_in_time() {
        let pending = PendingSignIns::default();
        let (ana, eve) = (secret("ana"), secret("eve"));
        pending.begin("s1", &ana, None, sign_in("/a"), at(0));
        pending.begin("s2", &ana, None, sign_in("/b"), at(0));
        assert_eq!(pending.take("s1", &eve, at(1)), None);
        assert_eq!(pending.take("s3", &ana, at(1)), None);
        assert_eq!(pending.take("s1", &ana, at(1)), Some(sign_in("/a")));
        assert_eq!(pending.take("s1", &ana, at(1)), None);
        assert_eq!(pending.take("s2", &ana, at(600)), None);
        pending.begin("s4", &ana, None, sign_in("/c"), at(0));
        assert_eq!(pending.take("s4", &ana, at(599)), Some(sign_in("/c")));
    }

    #[test]
    fn a_crowd_displaces_its_own() {
        let pending = PendingSignIns::default();
        let ana = secret("ana");
        let address = |number: u32| Some(IpAddr::from((number + (10 << 24)).to_be_bytes()));
        pending.begin("hers", &ana, address(1), sign_in("/"), at(0));
        for number in 0..200 {
            pending.begin(&format!("{number}"), &ana, address(2), sign_in("/"), at(1));
        }
        assert_eq!(pending.0.lock().len(), 1 + MAX_PENDING_PER_NETWORK);
        assert!(pending.take("hers", &ana, at(2)).is_some() && pending.take("199", &ana, at(2)).is_some());
        for number in 0..60 {
            pending.begin(
                &format!("p{number}"),
                &ana,
                Some(IpAddr::from([127, 0, 0, 1])),
                sign_in("/"),
                at(2),
            );
        }
        assert!(
            pending.take("p0", &ana, at(2)).is_some(),
            "a proxy on this machine has everybody behind it"
        );
        for number in 0..2_000 {
            pending.begin(&format!("{number}"), &ana, address(number), sign_in("/"), at(3));
        }
        assert_eq!(pending.0.lock().len(), MAX_PENDING);
        pending.begin("last", &ana, address(1), sign_in("/"), at(1_000));
        assert_eq!(pending.0.lock().len(), 1, "the others are over");
    }

    #[test]
    fn one_goes_on_to_this_host_only() {
        for good in ["/", "/requests/rq_4k2m9x0a7b", "/log?sql=a%20b&x=//y", "/a/../b#c"] {
            assert_eq!(next_path(Some(good)), good);
        }
        for bad in [
            "",
            "requests",
            "//evil.example",
            "/\\evil.example",
            "\\/evil.example",
            "https://evil.example",
            "javascript:alert(1)",
            "/\t/evil.example",
            "/\n/evil.example",
            " /",
            "/ü",
            "/a b",
        ] {
            assert_eq!(next_path(Some(bad)), "/", "{bad:?}");
        }
        assert_eq!(next_path(None), "/");
        assert_eq!(next_path(Some(&format!("/{}", "x".repeat(2_000)))), "/");
    }
}
