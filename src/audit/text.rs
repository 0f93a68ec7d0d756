//! Text of numbers, times and bytes, as lines of the log have it. Pure.
//!
//! This module knows no line and no event.

use jiff::Timestamp;
use jiff::tz::Offset;

/// Number of bytes of a time in a line, such as `2026-11-23T09:05:07.000042Z`.
pub(super) const TIME_BYTES: usize = 27;

/// Appends a time as RFC 3339 in UTC with microseconds: always [`TIME_BYTES`] bytes for years 0 to 9999.
pub(super) fn timestamp(out: &mut Vec<u8>, time: Timestamp) {
    let civil = Offset::UTC.to_datetime(time);
    let Ok(year) = u16::try_from(civil.year()) else {
        out.extend_from_slice(format!("{time:.6}").as_bytes());
        return;
    };
    let small = |value: i8| value.unsigned_abs();
    let (century, year) = (year / 100, year % 100);
    two(out, u8::try_from(century).unwrap_or(99));
    two(out, u8::try_from(year).unwrap_or(99));
    out.push(b'-');
    two(out, small(civil.month()));
    out.push(b'-');
    two(out, small(civil.day()));
    out.push(b'T');
    two(out, small(civil.hour()));
    out.push(b':');
    two(out, small(civil.minute()));
    out.push(b':');
    two(out, small(civil.second()));
    out.push(b'.');
    let micros = civil.subsec_nanosecond().unsigned_abs() / 1000;
    for pair in [micros / 10_000, micros / 100 % 100, micros % 100] {
        two(out, u8::try_from(pair).unwrap_or(99));
    }
    out.push(b'Z');
}

/// Returns a time as it stands in a line; `None` for one that no line can have.
pub(super) fn written(time: Timestamp) -> Option<String> {
    let mut text = Vec::new();
    timestamp(&mut text, time);
    String::from_utf8(text).ok().filter(|text| text.len() == TIME_BYTES)
}

/// Appends two decimal digits.
pub(super) fn two(out: &mut Vec<u8>, value: u8) {
    out.extend_from_slice(&[b'0' + value / 10 % 10, b'0' + value % 10]);
}

/// Appends a number in decimal.
pub(super) fn decimal(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0_u8; 20];
    let mut used = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(value % 10).unwrap_or(0);
        used += 1;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(digits.len() - used..).unwrap_or_default());
}
