//! Durations as people write them: `30m`, `2h30m`, `90s`, `500ms`, `1d`.
//!
//! It knows nothing of points in time.

use std::time::Duration;

/// Error of a text that is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a duration; write a number and a unit, like 30m, 2h30m, 90s or 500ms")]
pub struct DurationError {
    text: String,
}

/// Parses a duration. A number needs a unit; days are always 24 hours.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let invalid = || DurationError {
        text: text.chars().take(60).collect(),
    };
    let trimmed = text.trim();
    // The parser takes days only for calendar spans; here a day is 24 hours, which is what a person means by "1d".
    let (days, rest) = match trimmed.split_once('d') {
        Some((days, rest)) if !days.is_empty() && days.trim_end().bytes().all(|b| b.is_ascii_digit()) => {
            let rest = rest.strip_prefix("ays").or_else(|| rest.strip_prefix("ay")).unwrap_or(rest);
            (days.trim_end().parse::<u64>().map_err(|_| invalid())?, rest.trim())
        }
        _ => (0, trimmed),
    };
    let days = Duration::from_secs(days.checked_mul(86_400).ok_or_else(invalid)?);
    if rest.is_empty() && !trimmed.is_empty() {
        return Ok(days);
    }
    let rest = jiff::fmt::friendly::SpanParser::new()
        .parse_unsigned_duration(rest)
        .map_err(|_| invalid())?;
    days.checked_add(rest).ok_or_else(invalid)
}

/// Formats a duration so that [`parse`] accepts it: `2h30m`. Fractions of a millisecond are cut off.
#[must_use]
pub fn show(duration: Duration) -> String {
    let millis = duration.subsec_millis();
    let secs = duration.as_secs();
    let mut text = String::new();
    for (amount, unit) in [
        (secs / 86_400, "d"),
        (secs / 3_600 % 24, "h"),
        (secs / 60 % 60, "m"),
        (secs % 60, "s"),
        (u64::from(millis), "ms"),
    ] {
        if amount > 0 {
            text.push_str(&amount.to_string());
            text.push_str(unit);
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn as_people_write_them() {
        for (text, secs) in [
            ("30m", 1_800),
            ("2h30m", 9_000),
            ("2h 30m", 9_000),
            ("90s", 90),
            ("90 seconds", 90),
            ("1 hour", 3_600),
            ("1d", 86_400),
            ("2 days", 172_800),
            ("1d12h", 129_600),
            ("0s", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_secs(secs)), "{text}");
        }
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
    }

    #[test]
    fn what_they_are_not() {
        for text in [
            "",
            "30",
            "-5m",
            "5 apples",
            "m",
            "d",
            "1d-1h",
            "99999999999999999999d",
            "99999999999999999999s",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
        let error = parse("30").unwrap_err().to_string();
        assert_eq!(
            error,
            "`30` is not a duration; write a number and a unit, like 30m, 2h30m, 90s or 500ms"
        );
    }

    proptest! {
        #[test]
        fn shown_is_read_again(millis in 0_u64..100_000_000_000) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse(&show(duration)), Ok(duration));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = parse(&text);
        }
    }
}
