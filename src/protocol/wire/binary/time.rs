//! Formats dates, times and intervals as PostgreSQL prints them (`DateStyle` ISO, `IntervalStyle` postgres, `TimeZone` UTC).
//!
//! It takes numbers, not bytes, and returns text. The calendar is the proleptic Gregorian one, from 4713 BC to 294276
//! (datetime.c), a wider range than calendar libraries have.

use std::fmt::Write as _;

const MICROS_PER_DAY: i64 = 86_400_000_000;
/// Number of days from 0000-03-01 to 2000-01-01, PostgreSQL's own epoch.
const EPOCH_DAYS: i64 = 730_425;

pub(super) fn date(days: i32) -> String {
    match days {
        i32::MAX => "infinity".to_owned(),
        i32::MIN => "-infinity".to_owned(),
        days => {
            let (date, era) = calendar(i64::from(days));
            date + era
        }
    }
}

pub(super) fn timestamp(micros: i64, zone: &str) -> String {
    match micros {
        i64::MAX => "infinity".to_owned(),
        i64::MIN => "-infinity".to_owned(),
        micros => {
            let (date, era) = calendar(micros.div_euclid(MICROS_PER_DAY));
            format!("{date} {}{zone}{era}", time(micros.rem_euclid(MICROS_PER_DAY)))
        }
    }
}

/// Formats microseconds since midnight; `24:00:00` is a valid time.
pub(super) fn time(micros: i64) -> String {
    clock(micros.unsigned_abs())
}

/// Formats a time of day with its zone, which is given in seconds west of Greenwich (`EncodeTimezone`).
pub(super) fn time_with_zone(micros: i64, west: i32) -> String {
    let mut text = time(micros);
    let (sign, east) = (if west <= 0 { '+' } else { '-' }, west.unsigned_abs());
    let (hours, minutes, seconds) = (east / 3600, east / 60 % 60, east % 60);
    let _ = write!(text, "{sign}{hours:02}");
    if minutes != 0 || seconds != 0 {
        let _ = write!(text, ":{minutes:02}");
    }
    if seconds != 0 {
        let _ = write!(text, ":{seconds:02}");
    }
    text
}

/// Formats an interval as `EncodeInterval` (datetime.c) does.
pub(super) fn interval(micros: i64, days: i32, months: i32) -> String {
    match (micros, days, months) {
        (i64::MAX, i32::MAX, i32::MAX) => return "infinity".to_owned(),
        (i64::MIN, i32::MIN, i32::MIN) => return "-infinity".to_owned(),
        _ => {}
    }
    let mut text = String::new();
    let mut negative = false;
    for (value, unit) in [(months / 12, "year"), (months % 12, "mon"), (days, "day")] {
        if value != 0 {
            let space = if text.is_empty() { "" } else { " " };
            let plus = if negative && value > 0 { "+" } else { "" };
            let plural = if value == 1 { "" } else { "s" };
            let _ = write!(text, "{space}{plus}{value} {unit}{plural}");
            negative = value < 0;
        }
    }
    if text.is_empty() || micros != 0 {
        let space = if text.is_empty() { "" } else { " " };
        let sign = match (micros < 0, negative) {
            (true, _) => "-",
            (false, true) => "+",
            (false, false) => "",
        };
        let _ = write!(text, "{space}{sign}{}", clock(micros.unsigned_abs()));
    }
    text
}

/// Formats hours, minutes, seconds and the significant digits of the fraction.
fn clock(micros: u64) -> String {
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let text = format!("{hours:02}:{minutes:02}:{seconds:02}");
    if fraction == 0 {
        return text;
    }
    format!("{text}.{fraction:06}").trim_end_matches('0').to_owned()
}

/// Returns year, month and day of a number of days since 2000-01-01, and the suffix for years before Christ.
fn calendar(days: i64) -> (String, &'static str) {
    // The leap day of a year that begins in March is its last day; 400 such years are always 146 097 days.
    let days = days + EPOCH_DAYS;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + next;
    let (shown, era) = if year > 0 { (year, "") } else { (1 - year, " BC") };
    (format!("{shown:04}-{month:02}-{day:02}"), era)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn edges() {
        assert_eq!(date(-730_119 - 1), "0001-12-31 BC");
        assert_eq!(date(0), "2000-01-01");
        assert_eq!(date(2_921_940), "10000-01-01");
        assert_eq!(timestamp(-1, "+00"), "1999-12-31 23:59:59.999999+00");
        assert_eq!(time(MICROS_PER_DAY), "24:00:00");
        assert_eq!(time_with_zone(0, -19_800), "00:00:00+05:30");
        assert_eq!(time_with_zone(1, 3_600), "00:00:00.000001-01");
        assert_eq!(interval(-1_000_000, 3, -14), "-1 years -2 mons +3 days -00:00:01");
        assert_eq!(interval(0, 0, 0), "00:00:00");
        assert_eq!(interval(0, 1, 12), "1 year 1 day");
        assert_eq!(interval(360_000_000_000, -1, 0), "-1 days +100:00:00");
    }

    proptest! {
        #[test]
        fn as_the_calendar_has_it(days in -700_000_i32..2_900_000) {
            let known = jiff::civil::date(2000, 1, 1).saturating_add(jiff::Span::new().days(days));
            prop_assert_eq!(date(days), known.to_string());
        }

        #[test]
        fn any_numbers_are_shown(micros in any::<i64>(), days in any::<i32>(), months in any::<i32>()) {
            let _ = (date(days), timestamp(micros, ""), time_with_zone(micros, days), interval(micros, days, months));
        }
    }
}
