//! Times: machine-readable, in UTC without a script, in the reader's zone with it.
//!
//! It reads no clock; `now` is an argument.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use maud::{Markup, html};

use crate::base::{duration, times};

/// Shows a point in time.
pub(in crate::console) fn at(time: Timestamp) -> Markup {
    let utc = times::seconds(time, &TimeZone::UTC);
    let short = time
        .to_zoned_datetime(TimeZone::UTC)
        .strftime("%Y-%m-%d %H:%M UTC")
        .to_string();
    html! { time datetime=(iso(time)) title=(utc) { (short) } }
}

/// Shows a point in time to the second, for the log.
pub(in crate::console) fn precise(time: Timestamp) -> Markup {
    let utc = times::millis(time, &TimeZone::UTC);
    html! { time datetime=(iso(time)) data-form="precise" title=(utc) { (times::seconds(time, &TimeZone::UTC)) } }
}

/// Shows how long it is until a time; the script counts down.
pub(in crate::console) fn left(until: Timestamp, now: Timestamp) -> Markup {
    let left = Duration::try_from(until.duration_since(now)).unwrap_or_default();
    let words = if left.is_zero() {
        "the time is over".to_owned()
    } else {
        format!("{} left", coarse(left))
    };
    html! { time.left datetime=(iso(until)) title=(times::seconds(until, &TimeZone::UTC)) { (words) } }
}

/// Shows the length of a window: `30m`.
pub(in crate::console) fn length(length: Duration) -> String {
    duration::show(length)
}

/// Returns a time as machines read it.
pub(in crate::console) fn iso(time: Timestamp) -> String {
    format!("{time:.3}")
}

/// Rounds down to two units, which is what a person wants to know.
fn coarse(length: Duration) -> String {
    let seconds = length.as_secs();
    let rounded = match seconds {
        0..120 => seconds,
        120..86_400 => seconds - seconds % 60,
        _ => seconds - seconds % 3_600,
    };
    duration::show(Duration::from_secs(rounded.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_for_machines_and_for_people() {
        let time: Timestamp = "2026-08-01T12:04:31.5Z".parse().unwrap();
        assert_eq!(
            at(time).into_string(),
            "<time datetime=\"2026-08-01T12:04:31.500Z\" title=\"2026-08-01 12:04:31Z\">2026-08-01 12:04 UTC</time>"
        );
        let before = |seconds: i64| time - jiff::SignedDuration::from_secs(seconds);
        for (seconds, words) in [
            (-1, "the time is over"),
            (61, "1m1s left"),
            (3_725, "1h2m left"),
            (200_000, "2d7h left"),
        ] {
            let shown = left(time, before(seconds)).into_string();
            assert!(shown.ends_with(&format!(">{words}</time>")), "{shown}");
        }
    }
}
