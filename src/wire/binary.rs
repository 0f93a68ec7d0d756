//! Shows a parameter that was sent in binary format as PostgreSQL would print it, for the common built-in types.
//!
//! It is for reading, not for computing: what it does not know it leaves to be shown as hexadecimal, and a malformed value
//! is never an error (the server will say so itself). Layouts: the `*send` functions under `src/backend/utils/adt`.

use std::fmt::Write as _;

use postgres_protocol::types;

/// Days from 1970-01-01 to 2000-01-01, PostgreSQL's own epoch.
const EPOCH_DAYS: i32 = 10_957;
/// The same in microseconds.
const EPOCH_MICROS: i64 = 10_957 * 86_400 * 1_000_000;
/// Elements of an array that are shown.
const MOST_ELEMENTS: usize = 100;

/// The value as text, or `None` where the type (by its OID in `pg_type.dat`) is not known or the bytes are not of it.
#[must_use]
pub fn show(oid: u32, bytes: &[u8]) -> Option<String> {
    if let Some(element) = element_of(oid) {
        return show_array(element, bytes);
    }
    let text = match oid {
        16 => types::bool_from_sql(bytes).ok()?.to_string(),
        20 => types::int8_from_sql(bytes).ok()?.to_string(),
        21 => types::int2_from_sql(bytes).ok()?.to_string(),
        23 => types::int4_from_sql(bytes).ok()?.to_string(),
        26 => types::oid_from_sql(bytes).ok()?.to_string(),
        700 => types::float4_from_sql(bytes).ok()?.to_string(),
        701 => types::float8_from_sql(bytes).ok()?.to_string(),
        // name, text, json, xml, unknown, char(n), varchar
        19 | 25 | 114 | 142 | 705 | 1042 | 1043 => std::str::from_utf8(bytes).ok()?.to_owned(),
        // jsonb: a version byte, then text
        3802 => match bytes.split_first()? {
            (1, text) => std::str::from_utf8(text).ok()?.to_owned(),
            _ => return None,
        },
        17 => bytes.iter().fold(String::from("\\x"), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        }),
        869 | 650 => show_inet(bytes)?,
        1082 => show_date(types::date_from_sql(bytes).ok()?)?,
        1083 => show_time(types::time_from_sql(bytes).ok()?)?,
        1114 => show_timestamp(types::timestamp_from_sql(bytes).ok()?, "")?,
        1184 => show_timestamp(types::timestamp_from_sql(bytes).ok()?, "+00")?,
        1700 => show_numeric(bytes)?,
        2950 => show_uuid(bytes)?,
        _ => return None,
    };
    Some(text)
}

/// The element type of an array type.
fn element_of(oid: u32) -> Option<u32> {
    let element = match oid {
        1000 => 16,
        1001 => 17,
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
        199 => 114,
        3807 => 3802,
        1041 => 869,
        1115 => 1114,
        1182 => 1082,
        1183 => 1083,
        1185 => 1184,
        1231 => 1700,
        2951 => 2950,
        _ => return None,
    };
    Some(element)
}

fn show_array(element: u32, bytes: &[u8]) -> Option<String> {
    let mut fields = super::frontend::Fields::of(bytes);
    let dimensions = fields.int32()?;
    let _has_nulls = fields.int32()?;
    let _element_oid = fields.int32()?;
    match dimensions {
        0 => return Some("{}".to_owned()),
        1 => {}
        _ => return None,
    }
    let count = fields.int32()? as usize;
    let _lower_bound = fields.int32()?;
    let mut text = String::from("{");
    for index in 0..count.min(MOST_ELEMENTS) {
        if index > 0 {
            text.push(',');
        }
        let length = fields.int32()?;
        if length == u32::MAX {
            text.push_str("NULL");
            continue;
        }
        let item = show(element, fields.bytes(length as usize)?)?;
        if item.is_empty() || item.contains(|c: char| c.is_whitespace() || "{},\"\\".contains(c)) {
            let _ = write!(text, "\"{}\"", item.replace('\\', "\\\\").replace('"', "\\\""));
        } else {
            text.push_str(&item);
        }
    }
    if count > MOST_ELEMENTS {
        let _ = write!(text, ",… {count} elements");
    }
    text.push('}');
    Some(text)
}

fn show_inet(bytes: &[u8]) -> Option<String> {
    let inet = types::inet_from_sql(bytes).ok()?;
    let whole = if inet.addr().is_ipv4() { 32 } else { 128 };
    Some(if inet.netmask() == whole {
        inet.addr().to_string()
    } else {
        format!("{}/{}", inet.addr(), inet.netmask())
    })
}

fn show_date(days: i32) -> Option<String> {
    match days {
        i32::MAX => Some("infinity".to_owned()),
        i32::MIN => Some("-infinity".to_owned()),
        days => {
            let micros = i64::from(days.checked_add(EPOCH_DAYS)?).checked_mul(86_400_000_000)?;
            Some(civil(micros)?.date().to_string())
        }
    }
}

fn show_time(micros: i64) -> Option<String> {
    // 24:00:00 is a time to PostgreSQL, but not to the calendar.
    (0..86_400_000_000)
        .contains(&micros)
        .then(|| civil(micros).map(|datetime| datetime.time().to_string()))?
}

fn show_timestamp(micros: i64, zone: &str) -> Option<String> {
    match micros {
        i64::MAX => Some("infinity".to_owned()),
        i64::MIN => Some("-infinity".to_owned()),
        micros => {
            let datetime = civil(micros.checked_add(EPOCH_MICROS)?)?;
            Some(format!("{} {}{zone}", datetime.date(), datetime.time()))
        }
    }
}

fn civil(micros: i64) -> Option<jiff::civil::DateTime> {
    let timestamp = jiff::Timestamp::from_microsecond(micros).ok()?;
    Some(jiff::tz::TimeZone::UTC.to_datetime(timestamp))
}

fn show_uuid(bytes: &[u8]) -> Option<String> {
    let bytes: &[u8; 16] = bytes.try_into().ok()?;
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let _ = write!(text, "{byte:02x}");
    }
    Some(text)
}

/// Base 10 000 digits with a weight and a scale (`numeric_send`).
fn show_numeric(bytes: &[u8]) -> Option<String> {
    let mut fields = super::frontend::Fields::of(bytes);
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
    // A value of 4 kB of zeros says nothing to a reader.
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

    proptest! {
        #[test]
        fn arbitrary_values_never_panic(oid in prop_oneof![0_u32..4000, Just(1700), Just(1007), Just(869)], bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = show(oid, &bytes);
        }
    }
}
