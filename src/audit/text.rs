//! Text of numbers, times and bytes, as lines of the log have it. Pure.
//!
//! This module knows no line and no event.

use std::io::Write as _;

use jiff::Timestamp;

/// Number of bytes of a time in a line, such as `2026-11-23T09:05:07.000042Z`.
pub(super) const TIME_BYTES: usize = 27;

/// Appends a time as RFC 3339 in UTC with microseconds: always [`TIME_BYTES`] bytes for years 0 to 9999.
pub(super) fn timestamp(out: &mut Vec<u8>, time: Timestamp) {
    // Writing to memory cannot fail.
    let _ = write!(out, "{time:.6}");
}

/// Returns a time as it stands in a line; `None` for one that no line can have.
pub(super) fn written(time: Timestamp) -> Option<String> {
    Some(format!("{time:.6}")).filter(|text| text.len() == TIME_BYTES)
}

/// Appends two decimal digits.
pub(super) fn two(out: &mut Vec<u8>, value: u8) {
    out.extend_from_slice(&[b'0' + value / 10 % 10, b'0' + value % 10]);
}

/// Appends a number in decimal.
pub(crate) fn decimal(out: &mut Vec<u8>, mut value: u64) {
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
