//! Header `Retry-After`: the wait that an overloaded receiver asks for (RFC 9110 section 10.2.3).
//!
//! This module only parses; it does not wait.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reqwest::StatusCode;
use reqwest::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};

/// Longest wait that a receiver can ask for. A longer one would hold up its other messages for too long.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

/// Returns the wait that a receiver asks for, if the status is one that may carry it (429, 503).
///
/// An HTTP date is compared with the `Date` header of the same response, if there is one, else with the local clock.
pub(super) fn retry_after(status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    if !matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        return None;
    }
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
        // A number that is too large to parse counts as the longest wait.
        text.parse().map_or(MAX_RETRY_AFTER, Duration::from_secs)
    } else {
        let at = date(text)?;
        let wait = at.duration_since(date_of(headers, &DATE).unwrap_or(now));
        Duration::try_from(wait.max(SignedDuration::ZERO)).ok()?
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

fn date_of(headers: &HeaderMap, name: &HeaderName) -> Option<Timestamp> {
    date(headers.get(name)?.to_str().ok()?)
}

fn date(text: &str) -> Option<Timestamp> {
    Timestamp::try_from(httpdate::parse_http_date(text).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(status: u16, headers: &[(HeaderName, &str)]) -> Option<u64> {
        let now = "2026-11-28T12:00:00Z".parse().unwrap();
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap()));
        let wait = retry_after(StatusCode::from_u16(status).unwrap(), &headers.collect(), now);
        wait.map(|wait| wait.as_secs())
    }

    #[test]
    fn seconds_and_dates_within_bounds() {
        for (value, expected) in [
            ("20", Some(20)),
            (" 0 ", Some(0)),
            ("86400", Some(3_600)),
            ("99999999999999999999999", Some(3_600)),
            ("Sat, 28 Nov 2026 12:00:45 GMT", Some(45)),
            // The two older forms of a date.
            ("Saturday, 28-Nov-26 12:00:45 GMT", Some(45)),
            ("Sat Nov 28 12:00:45 2026", Some(45)),
            ("Sat, 28 Nov 2026 11:00:00 GMT", Some(0)),
            ("Sat, 28 Nov 2099 11:00:00 GMT", Some(3_600)),
            ("soon", None),
            ("-1", None),
            ("1.5", None),
            ("", None),
        ] {
            assert_eq!(asked(429, &[(RETRY_AFTER, value)]), expected, "{value:?}");
            assert_eq!(asked(503, &[(RETRY_AFTER, value)]), expected, "{value:?}");
        }
        assert_eq!(asked(500, &[(RETRY_AFTER, "20")]), None);
        assert_eq!(asked(429, &[]), None);
    }

    #[test]
    fn a_date_is_one_of_the_receivers_clock() {
        let headers = [
            (RETRY_AFTER, "Sat, 28 Nov 2026 15:00:30 GMT"),
            (DATE, "Sat, 28 Nov 2026 15:00:00 GMT"),
        ];
        assert_eq!(asked(503, &headers), Some(30));
    }
}
