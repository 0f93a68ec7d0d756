//! Future times as people write them: `18:30`, `tomorrow 9:00`, `in 2h`, `tuesday 14:00`.

use jiff::{Timestamp, ZonedDateTime};

use super::{Direction, TimeError, TimeForm, day_with_time, invalid, read};

/// Examples of valid future times, for error messages.
const EXAMPLES: &str = "in 2h, 30m, 14:00, tomorrow 9:00, tuesday 14:00, 2026-08-01, 2026-08-01T12:00Z";

/// Future time as it was written: a weekday is its next occurrence. A time of day alone is today's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coming(TimeForm);

impl Coming {
    /// Parses a time.
    pub fn parse(text: &str) -> Result<Self, TimeError> {
        form(text.trim()).map(Self).map_err(|reason| invalid(text, reason, EXAMPLES))
    }

    /// Returns the time relative to `now`, in the zone of `now`; the latest possible time if it would be after that.
    #[must_use]
    pub fn time(&self, now: &ZonedDateTime) -> Timestamp {
        self.0.time(now, Direction::Future).unwrap_or(Timestamp::MAX)
    }
}

/// Parses a time, or returns the reason why it is none. Forms common to both directions are parsed as past times first.
fn form(text: &str) -> Result<TimeForm, String> {
    let small = text.to_lowercase();
    let over = || Err("it is in the past".to_owned());
    if let Some(day) = small.strip_prefix("tomorrow")
        && (day.is_empty() || day.starts_with(' '))
    {
        return day_with_time(day).map(|time| TimeForm::Day(1, time));
    }
    if small.ends_with(" ago") {
        return over();
    }
    if small.starts_with(['-', '+']) {
        return Err("a duration has no sign: it counts from now".to_owned());
    }
    if let Some(day) = small.strip_prefix("next ") {
        return match read(day)? {
            TimeForm::Weekday(day, time) => Ok(TimeForm::OtherWeekday(day, time)),
            _ => Err(format!("`{day}` is not a weekday")),
        };
    }
    let length = small.strip_prefix("in ").map(str::trim_start);
    match (read(length.unwrap_or(text))?, length) {
        (span @ (TimeForm::Span(_) | TimeForm::CalendarSpan(_)), _) => Ok(span),
        (_, Some(length)) => Err(format!("`{length}` is not a duration")),
        (TimeForm::Day(..=-1, _) | TimeForm::OtherWeekday(..), None) => over(),
        (form, None) => Ok(form),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use jiff::tz::TimeZone;
    use proptest::prelude::*;

    /// A Monday.
    fn now(zone: TimeZone) -> ZonedDateTime {
        "2026-11-23T09:05:07Z".parse::<Timestamp>().unwrap().to_zoned_datetime(zone)
    }

    #[test]
    fn times_to_come_as_people_write_them() {
        for (text, meant) in [
            ("2h", "2026-11-23T11:05:07Z"),
            ("in 2h", "2026-11-23T11:05:07Z"),
            ("In 30 minutes", "2026-11-23T09:35:07Z"),
            ("2 weeks", "2026-12-07T09:05:07Z"),
            ("now", "2026-11-23T09:05:07Z"),
            ("18:30", "2026-11-23T18:30:00Z"),
            ("9:06", "2026-11-23T09:06:00Z"),
            // Today's, though it is over: the gate refuses it. Another day is named.
            ("09:04", "2026-11-23T09:04:00Z"),
            ("today 17:30", "2026-11-23T17:30:00Z"),
            ("tomorrow", "2026-11-24T00:00:00Z"),
            ("Tomorrow 9:00", "2026-11-24T09:00:00Z"),
            (" tomorrow at 09:00 ", "2026-11-24T09:00:00Z"),
            ("tuesday 14:00", "2026-11-24T14:00:00Z"),
            ("monday", "2026-11-30T00:00:00Z"),
            ("monday 09:06", "2026-11-23T09:06:00Z"),
            ("monday 09:05", "2026-11-30T09:05:00Z"),
            ("next monday 09:06", "2026-11-30T09:06:00Z"),
            ("2026-12-01", "2026-12-01T00:00:00Z"),
            ("2026-12-01 12:00", "2026-12-01T12:00:00Z"),
            ("2026-12-01T12:00:07Z", "2026-12-01T12:00:07Z"),
            ("2026-12-01T12:00+02:00", "2026-12-01T10:00:00Z"),
        ] {
            let coming = Coming::parse(text).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(coming.time(&now(TimeZone::UTC)), meant.parse().unwrap(), "{text}");
        }
        let there = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let coming = Coming::parse("tomorrow 9:00").unwrap();
        assert_eq!(coming.time(&now(there)), "2026-11-24T08:00:00Z".parse().unwrap());
    }

    #[test]
    fn what_is_over_or_no_time_is_refused_with_its_reason() {
        for (text, reason) in [
            ("yesterday", "it is in the past"),
            ("2h ago", "it is in the past"),
            ("last tuesday", "it is in the past"),
            ("10", "a number alone is ambiguous: hour, day or duration"),
            ("-2h", "a duration has no sign: it counts from now"),
            ("in tuesday", "`tuesday` is not a duration"),
            ("next year", "it is not a date, a time of day, a weekday or a duration"),
            ("next 14:00", "`14:00` is not a weekday"),
            ("tomorrow noon", "`noon` is not a time of day"),
            ("25:00", "it is not a time of day"),
        ] {
            let said = Coming::parse(text).unwrap_err().to_string();
            let wanted = format!("`{text}` is not a time: {reason}. Examples of times: {EXAMPLES}");
            assert_eq!(said, wanted);
        }
        assert_eq!(
            Coming(TimeForm::Span(Duration::MAX)).time(&now(TimeZone::UTC)),
            Timestamp::MAX
        );
    }

    #[test]
    fn examples_work() {
        for text in EXAMPLES.split(", ") {
            assert!(Coming::parse(text).is_ok(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = Coming::parse(&text).map(|coming| coming.time(&now(TimeZone::UTC)));
        }
    }
}
