//! The time zone in which people read times, and mean them where they write none: that of this machine, or UTC.
//!
//! It is settled once, before a command runs. Where it was not, as in tests, it is UTC.

use std::sync::OnceLock;

use jiff::ZonedDateTime;
use jiff::tz::TimeZone;

use crate::clock::Clock;

static ZONE: OnceLock<TimeZone> = OnceLock::new();

/// Settles it.
pub(super) fn settle(utc: bool) {
    ZONE.get_or_init(|| if utc { TimeZone::UTC } else { TimeZone::system() });
}

/// Returns the zone.
pub(super) fn zone() -> TimeZone {
    ZONE.get().cloned().unwrap_or(TimeZone::UTC)
}

/// Returns the time it is, in the zone.
pub(super) fn now() -> ZonedDateTime {
    Clock::system(None).now().to_zoned_datetime(zone())
}
