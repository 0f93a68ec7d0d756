//! Points in time as people write them: `2h ago`, `last tuesday`, `tuesday 14:00`; `2026-11-28 19:35:24+01`.
//!
//! It reads neither a clock nor the machine's time zone: both are arguments. Durations are parsed by [`crate::base::duration`]; spans,
//! dates, zones and the names of weekdays by jiff.

mod coming;

use std::time::Duration;

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::fmt::friendly::SpanParser;
use jiff::fmt::strtime::BrokenDownTime;
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Span, SpanFieldwise, Timestamp, ZonedDateTime};

use crate::base::duration;
pub use coming::Coming;

/// Examples of valid times, for error messages.
const EXAMPLES: &str = "2h ago, 7d, today, yesterday 17:30, 14:00, last tuesday, tuesday 14:00, 2026-08-01, 2026-08-01T12:00Z";

/// Error of a text that is not a time, with the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a time: {reason}. Examples of times: {examples}")]
pub struct TimeError {
    text: String,
    reason: String,
    examples: &'static str,
}

fn invalid(text: &str, reason: String, examples: &'static str) -> TimeError {
    TimeError {
        text: text.trim().chars().take(60).collect(),
        reason,
        examples,
    }
}

/// Time as it was written, in the past or in the future.
///
/// A time without a zone is in the zone of its writer.
#[derive(Debug, Clone, PartialEq, Eq)]
enum TimeForm {
    /// Point in time.
    At(Timestamp),
    /// Date and time of day.
    Civil(DateTime),
    /// Duration from now.
    Span(Duration),
    /// Calendar span from now, in weeks, months or years.
    CalendarSpan(SpanFieldwise),
    /// Time of day, this number of days after today.
    Day(i8, Time),
    /// Nearest occurrence of the weekday and time of day in the direction of time.
    Weekday(Weekday, Time),
    /// The same, but not today.
    OtherWeekday(Weekday, Time),
}

/// Direction from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Past,
    Future,
}

impl TimeForm {
    /// Returns the time in this direction from `now`, in the zone of `now`; `None` if there is none.
    fn time(&self, now: &ZonedDateTime, direction: Direction) -> Option<Timestamp> {
        let zone = now.time_zone();
        let past = direction == Direction::Past;
        let at = |day: Date, time: Time| zone.to_timestamp(day.to_datetime(time)).ok();
        let weekday = |day: Weekday| now.date().nth_weekday(if past { -1 } else { 1 }, day).ok();
        match self {
            Self::At(time) => Some(*time),
            Self::Civil(time) => zone.to_timestamp(*time).ok(),
            Self::Span(length) => {
                let length = SignedDuration::try_from(*length).ok()?;
                now.timestamp().checked_add(if past { -length } else { length }).ok()
            }
            Self::CalendarSpan(span) => {
                let then = if past {
                    now.checked_sub(span.0)
                } else {
                    now.checked_add(span.0)
                };
                then.ok().map(|then| then.timestamp())
            }
            Self::Day(days, time) => at(now.date().checked_add(Span::new().days(*days)).ok()?, *time),
            Self::Weekday(day, time) if now.date().weekday() == *day && (now.time() >= *time) == past => at(now.date(), *time),
            Self::Weekday(day, time) | Self::OtherWeekday(day, time) => at(weekday(*day)?, *time),
        }
    }
}

/// Past time as it was written: a weekday is its latest occurrence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct When(TimeForm);

impl When {
    /// Parses a time.
    pub fn parse(text: &str) -> Result<Self, TimeError> {
        read(text.trim()).map(Self).map_err(|reason| invalid(text, reason, EXAMPLES))
    }

    /// Returns the time relative to `now`, in the zone of `now`; the earliest possible time if it would be before that.
    #[must_use]
    pub fn time(&self, now: &ZonedDateTime) -> Timestamp {
        self.0.time(now, Direction::Past).unwrap_or(Timestamp::MIN)
    }
}

/// Parses a time, or returns the reason why it is none.
fn read(text: &str) -> Result<TimeForm, String> {
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("a number alone is ambiguous: hour, day or duration".to_owned());
    }
    if text.starts_with(|first: char| first.is_ascii_digit()) && text.get(4..5) == Some("-") {
        return dated(text);
    }
    let small = text.to_lowercase();
    if let Some(found) = named(&small) {
        return found;
    }
    if small.contains(':') && small.starts_with(|first: char| first.is_ascii_digit()) {
        return Err("it is not a time of day".to_owned());
    }
    let ago = small.strip_suffix(" ago").unwrap_or(&small).trim_end();
    if let Ok(length) = duration::parse(ago) {
        return Ok(TimeForm::Span(length));
    }
    if ago.starts_with(['-', '+']) {
        return Err("a duration has no sign: it is an age".to_owned());
    }
    if let Some(span) = SpanParser::new().parse_span(ago).ok().filter(|span| !span.is_negative()) {
        return Ok(TimeForm::CalendarSpan(span.fieldwise()));
    }
    Err("it is not a date, a time of day, a weekday or a duration".to_owned())
}

/// Parses a date, with or without a time of day and a zone (RFC 3339, RFC 9557).
fn dated(text: &str) -> Result<TimeForm, String> {
    if text.contains('[') {
        return match text.parse::<ZonedDateTime>() {
            Ok(time) => Ok(TimeForm::At(time.timestamp())),
            Err(error) => Err(error.to_string()),
        };
    }
    if let Ok(time) = text.parse() {
        return Ok(TimeForm::At(time));
    }
    text.parse()
        .map(TimeForm::Civil)
        .map_err(|error: jiff::Error| error.to_string())
}

/// Parses a time of day, or a named day with or without one; `None` if the text begins with neither.
fn named(text: &str) -> Option<Result<TimeForm, String>> {
    if let Some(time) = time_of_day(text) {
        return Some(Ok(TimeForm::Day(0, time)));
    }
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let (last, word, rest) = match word {
        "last" => {
            let (word, rest) = rest.trim_start().split_once(' ').unwrap_or((rest.trim_start(), ""));
            (true, word, rest)
        }
        word => (false, word, rest),
    };
    let time = day_with_time(rest);
    let rest = rest.trim_start();
    let when = |meant: fn(Weekday, Time) -> TimeForm, day: Weekday| time.clone().map(|time| meant(day, time));
    match (word, weekday(word)) {
        ("now", _) if !last && rest.is_empty() => Some(Ok(TimeForm::Span(Duration::ZERO))),
        ("today", _) if !last => Some(time.map(|time| TimeForm::Day(0, time))),
        ("yesterday", _) if !last => Some(time.map(|time| TimeForm::Day(-1, time))),
        ("tomorrow" | "next", _) => Some(Err("it is in the future".to_owned())),
        (_, Some(day)) if last => Some(when(TimeForm::OtherWeekday, day)),
        (_, Some(day)) => Some(when(TimeForm::Weekday, day)),
        (_, None) if last => Some(Err(format!("`{word}` is not a weekday"))),
        _ => None,
    }
}

/// Parses the time of day after a day: midnight if there is none.
fn day_with_time(rest: &str) -> Result<Time, String> {
    let rest = rest.trim_start();
    match rest.strip_prefix("at ").unwrap_or(rest).trim_start() {
        "" => Ok(Time::midnight()),
        rest => time_of_day(rest).ok_or_else(|| format!("`{rest}` is not a time of day")),
    }
}

/// Parses a weekday, by its name or the first three letters.
fn weekday(word: &str) -> Option<Weekday> {
    if !word.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return None;
    }
    let read = |format: &str| BrokenDownTime::parse(format, word).ok()?.weekday();
    read("%A").or_else(|| read("%a"))
}

/// Parses a time of day with minutes. A single number would be taken for an hour, and a text with a date and a zone would lose
/// these.
fn time_of_day(text: &str) -> Option<Time> {
    let plain = text.contains(':') && text.bytes().all(|byte| byte.is_ascii_digit() || b":.".contains(&byte));
    let whole = if text.find(':') == Some(1) {
        format!("0{text}")
    } else {
        text.to_owned()
    };
    whole.parse().ok().filter(|_| plain)
}

/// Formats a time to the second, with the offset of the zone: `2026-11-28 19:35:24+01`, or `Z` for UTC.
#[must_use]
pub fn seconds(time: Timestamp, zone: &TimeZone) -> String {
    written(time, zone, "%Y-%m-%d %H:%M:%S")
}

/// Formats a time as [`seconds`] does, to the millisecond.
#[must_use]
pub fn millis(time: Timestamp, zone: &TimeZone) -> String {
    written(time, zone, "%Y-%m-%d %H:%M:%S%.3f")
}

fn written(time: Timestamp, zone: &TimeZone, format: &str) -> String {
    let time = time.to_zoned_datetime(zone.clone());
    let offset = if time.offset() == Offset::UTC { "Z" } else { "%:::z" };
    time.strftime(&format!("{format}{offset}")).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Central Europe, whatever zones the machine knows.
    fn zone() -> TimeZone {
        TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
    }

    /// A Monday.
    fn now(zone: TimeZone) -> ZonedDateTime {
        "2026-11-23T09:05:07Z".parse::<Timestamp>().unwrap().to_zoned_datetime(zone)
    }

    #[test]
    fn times_as_people_write_them() {
        for (text, meant) in [
            ("2h", "2026-11-23T07:05:07Z"),
            ("2h ago", "2026-11-23T07:05:07Z"),
            ("7d", "2026-11-16T09:05:07Z"),
            ("30 minutes ago", "2026-11-23T08:35:07Z"),
            ("2 weeks ago", "2026-11-09T09:05:07Z"),
            ("1 month ago", "2026-10-23T09:05:07Z"),
            ("now", "2026-11-23T09:05:07Z"),
            ("today", "2026-11-23T00:00:00Z"),
            (" yesterday ", "2026-11-22T00:00:00Z"),
            ("Yesterday 17:30", "2026-11-22T17:30:00Z"),
            ("yesterday at 17:30", "2026-11-22T17:30:00Z"),
            ("09:04", "2026-11-23T09:04:00Z"),
            ("9:04", "2026-11-23T09:04:00Z"),
            ("tuesday", "2026-11-17T00:00:00Z"),
            ("last tuesday", "2026-11-17T00:00:00Z"),
            ("Tue 14:00", "2026-11-17T14:00:00Z"),
            ("tuesday 14:00", "2026-11-17T14:00:00Z"),
            // It is one: the time has come, or has not.
            ("monday", "2026-11-23T00:00:00Z"),
            ("monday 09:05", "2026-11-23T09:05:00Z"),
            ("monday 09:06", "2026-11-16T09:06:00Z"),
            ("last monday", "2026-11-16T00:00:00Z"),
            ("last monday 09:05", "2026-11-16T09:05:00Z"),
            ("2026-08-01", "2026-08-01T00:00:00Z"),
            ("2026-08-01 12:00", "2026-08-01T12:00:00Z"),
            ("2026-08-01T12:00:07Z", "2026-08-01T12:00:07Z"),
            ("2026-08-01T12:00+02:00", "2026-08-01T10:00:00Z"),
            ("2026-08-01T12:00+02:00[+02:00]", "2026-08-01T10:00:00Z"),
        ] {
            let when = When::parse(text).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(when.time(&now(TimeZone::UTC)), meant.parse().unwrap(), "{text}");
        }
    }

    #[test]
    fn what_has_no_zone_is_meant_in_the_readers() {
        for (text, meant) in [
            ("today", "2026-11-22T23:00:00Z"),
            ("10:04", "2026-11-23T09:04:00Z"),
            ("monday 10:06", "2026-11-16T09:06:00Z"),
            ("2026-08-01", "2026-07-31T22:00:00Z"),
            ("2026-08-01T12:00:07Z", "2026-08-01T12:00:07Z"),
            // By the calendar: the clock was set back in between.
            ("1 month ago", "2026-10-23T08:05:07Z"),
        ] {
            let when = When::parse(text).unwrap();
            assert_eq!(when.time(&now(zone())), meant.parse().unwrap(), "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_is_said_with_its_reason() {
        for (text, reason) in [
            ("", "it is empty"),
            ("10", "a number alone is ambiguous: hour, day or duration"),
            ("tomorrow", "it is in the future"),
            ("next tuesday", "it is in the future"),
            ("25:00", "it is not a time of day"),
            ("25:00:00", "it is not a time of day"),
            ("last teusday", "`teusday` is not a weekday"),
            ("yesterday at noon", "`noon` is not a time of day"),
            ("tuesday 25:00", "`25:00` is not a time of day"),
            ("-2h", "a duration has no sign: it is an age"),
            ("yesterday-ish", "it is not a date, a time of day, a weekday or a duration"),
            ("5 apples", "it is not a date, a time of day, a weekday or a duration"),
        ] {
            let error = When::parse(text).unwrap_err();
            assert_eq!(error.reason, reason, "{text:?}");
            let said = error.to_string();
            assert!(
                said.starts_with(&format!("`{text}` is not a time")) && said.contains("last tuesday"),
                "{said}"
            );
        }
        for text in ["2026-13-01", "2026-08-01T12:00[Nowhere/Here]", "2026-08-01T12:00:61Z"] {
            assert!(When::parse(text).is_err(), "{text:?} is {:?}", When::parse(text));
        }
        assert_eq!(When(TimeForm::Span(Duration::MAX)).time(&now(TimeZone::UTC)), Timestamp::MIN);
    }

    #[test]
    fn examples_work() {
        for text in EXAMPLES.split(", ") {
            assert!(When::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_time_has_its_offset_and_is_read_again() {
        let time: Timestamp = "2026-11-28T18:35:24.123456Z".parse().unwrap();
        let summer: Timestamp = "2026-07-28T18:35:24Z".parse().unwrap();
        assert_eq!(seconds(time, &TimeZone::UTC), "2026-11-28 18:35:24Z");
        assert_eq!(seconds(time, &zone()), "2026-11-28 19:35:24+01");
        assert_eq!(millis(time, &zone()), "2026-11-28 19:35:24.123+01");
        assert_eq!(millis(summer, &zone()), "2026-07-28 20:35:24.000+02");
        let half = TimeZone::fixed(Offset::from_seconds(19_800).unwrap());
        assert_eq!(seconds(time, &half), "2026-11-29 00:05:24+05:30");
        for zone in [zone(), half, TimeZone::UTC] {
            let read = When::parse(&millis(time, &zone)).unwrap();
            assert_eq!(read, When(TimeForm::At("2026-11-28T18:35:24.123Z".parse().unwrap())));
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = When::parse(&text).map(|when| when.time(&now(TimeZone::UTC)));
        }
    }
}
