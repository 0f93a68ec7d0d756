//! Time zone for times in output, and for input without a zone: that of this machine, or UTC.
//!
//! It is set once, before a command runs. If it is not set, as in tests, it is UTC.

use std::sync::OnceLock;

use jiff::ZonedDateTime;
use jiff::tz::TimeZone;

use crate::base::clock::Clock;

static TIME_ZONE: OnceLock<TimeZone> = OnceLock::new();

/// Sets the time zone.
pub(super) fn settle(utc: bool) {
    TIME_ZONE.get_or_init(|| if utc { TimeZone::UTC } else { TimeZone::system() });
}

/// Returns the time zone.
pub(super) fn zone() -> TimeZone {
    TIME_ZONE.get().cloned().unwrap_or(TimeZone::UTC)
}

/// Returns the current time in this zone.
pub(super) fn now() -> ZonedDateTime {
    Clock::system(None).now().to_zoned_datetime(zone())
}
