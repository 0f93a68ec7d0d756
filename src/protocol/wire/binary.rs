//! Formats a parameter that was sent in binary format as PostgreSQL would print it, for the common built-in types.
//!
//! The text is for reading, not for computing. A value of an unknown type is left to be shown as hexadecimal, and a malformed
//! value is never an error (the server reports it itself). Layouts: the `*send` functions under `src/backend/utils/adt`.

mod time;

use std::fmt::Write as _;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use postgres_protocol::types;

use super::frontend::Fields;

/// OID of `bytea`.
pub const BYTEA_OID: u32 = 17;
/// Number of array elements that are shown.
const MAX_ELEMENTS: usize = 100;
/// Maximum number of dimensions of an array (`MAXDIM`, utils/array.h).
const MAX_DIMENSIONS: u32 = 6;

/// Decodes the text form of a `bytea`. Returns `None` unless it is written in hexadecimal (`\x…`).
#[must_use]
pub fn bytea(text: &[u8]) -> Option<Vec<u8>> {
    let digits = text.strip_prefix(b"\\x")?;
    HEXLOWER_PERMISSIVE.decode(digits).ok()
}

/// Returns true if the binary form of a type is its text: name, text, json, xml, unknown, char(n), varchar.
#[must_use]
pub fn is_text(oid: u32) -> bool {
    matches!(oid, 19 | 25 | 114 | 142 | 705 | 1042 | 1043)
}

/// Formats the value as text. Returns `None` if the type (by its OID in `pg_type.dat`) is unknown or the bytes are not a value of
/// it.
#[must_use]
pub fn show(oid: u32, bytes: &[u8]) -> Option<String> {
    if let Some(element) = element_of(oid) {
        return show_array(element, bytes);
    }
    if is_text(oid) {
        return std::str::from_utf8(bytes).ok().map(str::to_owned);
    }
    let text = match oid {
        16 => types::bool_from_sql(bytes).ok()?.to_string(),
        BYTEA_OID => format!("\\x{}", HEXLOWER.encode(bytes)),
        18 => show_char(bytes)?,
        20 => types::int8_from_sql(bytes).ok()?.to_string(),
        21 => types::int2_from_sql(bytes).ok()?.to_string(),
        23 => types::int4_from_sql(bytes).ok()?.to_string(),
        26 => types::oid_from_sql(bytes).ok()?.to_string(),
        650 => show_inet(bytes, true)?,
        700 => {
            let value = types::float4_from_sql(bytes).ok()?;
            show_float(&format!("{value:e}"), &value.to_string(), 6)
        }
        701 => {
            let value = types::float8_from_sql(bytes).ok()?;
            show_float(&format!("{value:e}"), &value.to_string(), 15)
        }
        869 => show_inet(bytes, false)?,
        1082 => time::date(types::date_from_sql(bytes).ok()?),
        1083 => time::time(types::time_from_sql(bytes).ok()?),
        1114 => time::timestamp(types::timestamp_from_sql(bytes).ok()?, ""),
        1184 => time::timestamp(types::timestamp_from_sql(bytes).ok()?, "+00"),
        1186 => {
            let mut fields = Fields::of(bytes);
            let micros = int64(&mut fields)?;
            let days = fields.int32()?.cast_signed();
            let months = fields.int32()?.cast_signed();
            fields.rest().is_empty().then(|| time::interval(micros, days, months))?
        }
        1266 => {
            let mut fields = Fields::of(bytes);
            let micros = int64(&mut fields)?;
            let west = fields.int32()?.cast_signed();
            fields.rest().is_empty().then(|| time::time_with_zone(micros, west))?
        }
        1700 => show_numeric(bytes)?,
        2950 => show_uuid(bytes)?,
        // jsonb: a version byte, then text.
        3802 => match bytes.split_first()? {
            (1, text) => std::str::from_utf8(text).ok()?.to_owned(),
            _ => return None,
        },
        _ => return None,
    };
    Some(text)
}

/// Returns the element type of an array type.
fn element_of(oid: u32) -> Option<u32> {
    let element = match oid {
        143 => 142,
        199 => 114,
        651 => 650,
        1000 => 16,
        1001 => BYTEA_OID,
        1002 => 18,
        1003 => 19,
        1005 => 21,
        1007 => 23,
        1009 => 25,
        1014 => 1042,
        1015 => 1043,
        1016 => 20,
        1021 => 700,
        1022 => 701,
        1028 => 26,
        1041 => 869,
        1115 => 1114,
        1182 => 1082,
        1183 => 1083,
        1185 => 1184,
        1187 => 1186,
        1231 => 1700,
        1270 => 1266,
        2951 => 2950,
        3807 => 3802,
        _ => return None,
    };
    Some(element)
}

/// Formats an array as `array_out` (utils/adt/arrayfuncs.c) does.
fn show_array(element: u32, bytes: &[u8]) -> Option<String> {
    let mut fields = Fields::of(bytes);
    let dimensions = fields.int32().filter(|count| *count <= MAX_DIMENSIONS)?;
    let _has_nulls = fields.int32()?;
    let _element_oid = fields.int32()?;
    if dimensions == 0 {
        return Some("{}".to_owned());
    }
    let mut lengths = Vec::new();
    let mut bounds = String::new();
    for _ in 0..dimensions {
        let (length, lower) = (fields.int32()?, fields.int32()?.cast_signed());
        let upper = i64::from(lower) + i64::from(length) - 1;
        let _ = write!(bounds, "[{lower}:{upper}]");
        lengths.push((length, lower));
    }
    // One dimension of length 0 makes the array empty, however long the others are (`ArrayGetNItems`, utils/adt/arrayutils.c).
    // The message does not bound those.
    if lengths.iter().any(|(length, _)| *length == 0) {
        return Some("{}".to_owned());
    }
    let mut text = String::new();
    if lengths.iter().any(|(_, lower)| *lower != 1) {
        text = bounds + "=";
    }
    let lengths: Vec<u32> = lengths.into_iter().map(|(length, _)| length).collect();
    let mut left = MAX_ELEMENTS;
    show_dimension(&mut text, element, &lengths, &mut fields, &mut left)?;
    Some(text)
}

fn show_dimension(text: &mut String, element: u32, lengths: &[u32], fields: &mut Fields<'_>, left: &mut usize) -> Option<()> {
    let (length, inner) = lengths.split_first()?;
    text.push('{');
    for index in 0..*length {
        if index > 0 {
            text.push(',');
        }
        if *left == 0 {
            let _ = write!(text, "… {length} elements");
            break;
        }
        if inner.is_empty() {
            *left -= 1;
            show_element(text, element, fields)?;
        } else {
            show_dimension(text, element, inner, fields, left)?;
        }
    }
    text.push('}');
    Some(())
}

fn show_element(text: &mut String, element: u32, fields: &mut Fields<'_>) -> Option<()> {
    let length = fields.int32()?;
    if length == u32::MAX {
        text.push_str("NULL");
        return Some(());
    }
    let bytes = fields.bytes(length as usize)?;
    let item = match element {
        // An array element is printed by `boolout`; a boolean outside an array is shown as its cast to text.
        16 => (if types::bool_from_sql(bytes).ok()? { "t" } else { "f" }).to_owned(),
        element => show(element, bytes)?,
    };
    let special = |c: char| matches!(c, '{' | '}' | ',' | '"' | '\\' | ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c');
    if item.is_empty() || item.eq_ignore_ascii_case("null") || item.contains(special) {
        let _ = write!(text, "\"{}\"", item.replace('\\', "\\\\").replace('"', "\\\""));
    } else {
        text.push_str(&item);
    }
    Some(())
}

fn int64(fields: &mut Fields<'_>) -> Option<i64> {
    let bytes = fields.bytes(8)?;
    bytes.try_into().ok().map(i64::from_be_bytes)
}

/// Formats a `"char"` as `charout` (utils/adt/char.c) does.
fn show_char(bytes: &[u8]) -> Option<String> {
    match bytes {
        [0] => Some(String::new()),
        [byte @ 1..=127] => Some(char::from(*byte).to_string()),
        [byte] => Some(format!("\\{byte:03o}")),
        _ => None,
    }
}

/// Chooses between the shortest exact digits with an exponent and those without: PostgreSQL writes an exponent below -4 and from
/// `most` digits on (`to_chars`, common/d2s.c and f2s.c).
fn show_float(with_exponent: &str, without: &str, most: i32) -> String {
    match without {
        "inf" => return "Infinity".to_owned(),
        "-inf" => return "-Infinity".to_owned(),
        _ => {}
    }
    let Some((digits, exponent)) = with_exponent.split_once('e') else {
        return without.to_owned();
    };
    match exponent.parse::<i32>() {
        Ok(exponent) if exponent < -4 || exponent >= most => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
        }
        _ => without.to_owned(),
    }
}

/// Formats an `inet` or `cidr`. A `cidr` always shows its mask.
fn show_inet(bytes: &[u8], network: bool) -> Option<String> {
    let inet = types::inet_from_sql(bytes).ok()?;
    let whole = if inet.addr().is_ipv4() { 32 } else { 128 };
    Some(if inet.netmask() == whole && !network {
        inet.addr().to_string()
    } else {
        format!("{}/{}", inet.addr(), inet.netmask())
    })
}

fn show_uuid(bytes: &[u8]) -> Option<String> {
    let bytes: &[u8; 16] = bytes.try_into().ok()?;
    let mut text = HEXLOWER.encode(bytes);
    for at in [20, 16, 12, 8] {
        text.insert(at, '-');
    }
    Some(text)
}

/// Formats a `numeric`: digits of base 10 000 with a weight and a scale (`numeric_send`).
fn show_numeric(bytes: &[u8]) -> Option<String> {
    let mut fields = Fields::of(bytes);
    let count = fields.int16()?;
    let weight = i32::from(fields.int16()?.cast_signed());
    let sign = fields.int16()?;
    let scale = usize::from(fields.int16()?);
    let mut text = match sign {
        0 => String::new(),
        0x4000 => String::from("-"),
        0xc000 => return Some("NaN".to_owned()),
        0xd000 => return Some("Infinity".to_owned()),
        0xf000 => return Some("-Infinity".to_owned()),
        _ => return None,
    };
    let digits: Vec<u16> = (0..count)
        .map(|_| fields.int16().filter(|d| *d < 10_000))
        .collect::<Option<_>>()?;
    let digit = |position: i32| {
        usize::try_from(position)
            .ok()
            .and_then(|p| digits.get(p))
            .copied()
            .unwrap_or(0)
    };
    // A value of 4 kB of zeros is of no use to a reader.
    if weight > 500 || scale > 2_000 {
        return None;
    }
    if weight < 0 {
        text.push('0');
    }
    for position in 0..=weight {
        let _ = if position == 0 {
            write!(text, "{}", digit(0))
        } else {
            write!(text, "{:04}", digit(position))
        };
    }
    if scale > 0 {
        let groups = i32::try_from(scale.div_ceil(4)).ok()?;
        let mut fraction = String::new();
        for group in 0..groups {
            let _ = write!(fraction, "{:04}", digit(weight + 1 + group));
        }
        text.push('.');
        text.push_str(fraction.get(..scale)?);
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn common_types() {
        let shown = |oid, bytes: &[u8]| show(oid, bytes).unwrap();
        assert_eq!(shown(16, &[1]), "true");
        assert_eq!(shown(23, &(-7_i32).to_be_bytes()), "-7");
        assert_eq!(shown(701, &1.5_f64.to_be_bytes()), "1.5");
        assert_eq!(shown(701, &1e15_f64.to_be_bytes()), "1e+15");
        assert_eq!(shown(701, &1e14_f64.to_be_bytes()), "100000000000000");
        assert_eq!(shown(700, &(-1.25e-5_f32).to_be_bytes()), "-1.25e-05");
        assert_eq!(shown(701, &f64::NEG_INFINITY.to_be_bytes()), "-Infinity");
        assert_eq!(shown(18, b"\xff"), "\\377");
        assert_eq!(shown(25, "Ä".as_bytes()), "Ä");
        assert_eq!(shown(3802, b"\x01{}"), "{}");
        assert_eq!(shown(17, &[0, 255]), "\\x00ff");
        assert_eq!(shown(1082, &0_i32.to_be_bytes()), "2000-01-01");
        assert_eq!(shown(1184, &1_500_000_i64.to_be_bytes()), "2000-01-01 00:00:01.5+00");
        assert_eq!(shown(2950, &[0xab; 16]), "abababab-abab-abab-abab-abababababab");
    }

    #[test]
    fn numerics() {
        let numeric = |weight: i16, sign: u16, scale: u16, digits: &[u16]| {
            let mut bytes = Vec::new();
            for word in [u16::try_from(digits.len()).unwrap(), weight.cast_unsigned(), sign, scale] {
                bytes.extend_from_slice(&word.to_be_bytes());
            }
            for digit in digits {
                bytes.extend_from_slice(&digit.to_be_bytes());
            }
            show(1700, &bytes).unwrap()
        };
        assert_eq!(numeric(0, 0, 2, &[12, 3400]), "12.34");
        assert_eq!(numeric(1, 0x4000, 0, &[1, 5]), "-10005");
        assert_eq!(numeric(-1, 0, 4, &[25]), "0.0025");
        assert_eq!(numeric(-2, 0, 6, &[2500]), "0.000025");
        assert_eq!(numeric(0, 0, 0, &[]), "0");
        assert_eq!(numeric(1, 0, 0, &[3]), "30000");
    }

    #[test]
    fn arrays() {
        let mut bytes = Vec::new();
        for word in [1_i32, 1, 25, 3, 1] {
            bytes.extend_from_slice(&word.to_be_bytes());
        }
        bytes.extend_from_slice(b"\0\0\0\x01a\xff\xff\xff\xff\0\0\0\x03b c");
        assert_eq!(show(1009, &bytes).unwrap(), "{a,NULL,\"b c\"}");
    }

    /// Four bytes of length cost the sender nothing; each "{}" would cost the gate three.
    #[test]
    fn an_array_without_elements_is_empty_however_long_it_says_it_is() {
        let mut bytes = Vec::new();
        for word in [2_i32, 0, 23, i32::MAX, 1, 0, 1] {
            bytes.extend_from_slice(&word.to_be_bytes());
        }
        assert_eq!(show(1007, &bytes).unwrap(), "{}");
    }

    proptest! {
        #[test]
        fn arbitrary_values_never_panic(oid in prop_oneof![0_u32..4000, Just(1700), Just(1007), Just(869)], bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = show(oid, &bytes);
        }
    }
}
