//! Encodes the two records of every statement without serde, in a third of the time (see `benches`).
//!
//! This module has no format of its own: it writes what serde would, byte by byte; a property test checks that.

use serde::Serialize as _;
use serde_json::{Error, Serializer};

use super::EscapingFormatter;
use crate::audit::event::{ParameterValue, SqlText, Statement, StatementOutcome, StatementResult, TransactionStatus, Who};
use crate::audit::text::decimal;
use crate::protocol::lexer::{Backslashes, Encoding};

/// Appends `,"event":"statement",…}`.
#[expect(clippy::too_many_lines, reason = "the fields of a record, one after the other")]
pub(super) fn statement(out: &mut Vec<u8>, statement: &Statement<'_>) -> Result<(), Error> {
    out.extend_from_slice(br#","event":"statement""#);
    who(out, &statement.who)?;
    number(out, br#","statement":"#, statement.statement);
    out.extend_from_slice(br#","kind":""#);
    out.extend_from_slice(statement.kind.as_str().as_bytes());
    out.push(b'"');
    if let Some(SqlText {
        text,
        length,
        sha256,
        hmac_sha256,
        cut,
        redacted,
        scs,
        encoding,
        converted,
        escaped,
        unclear,
    }) = &statement.sql
    {
        string(out, br#","sql":{"text":"#, &text.0)?;
        optional(out, br#","length":"#, *length);
        if let Some(sha256) = sha256 {
            string(out, br#","sha256":"#, sha256)?;
        }
        if let Some(hash) = hmac_sha256 {
            string(out, br#","hmac_sha256":"#, hash)?;
        }
        if *cut {
            out.extend_from_slice(br#","cut":true"#);
        }
        optional(out, br#","redacted":"#, (*redacted != 0).then_some(u64::from(*redacted)));
        settings_of_text(out, *scs, *encoding)?;
        if *converted {
            out.extend_from_slice(br#","converted":true"#);
        }
        optional(out, br#","escaped":"#, (*escaped != 0).then_some(u64::from(*escaped)));
        if *unclear {
            out.extend_from_slice(br#","unclear":true"#);
        }
        out.push(b'}');
    }
    if let Some(prepared) = &statement.prepared {
        string(out, br#","prepared":"#, &prepared.0)?;
    }
    if let Some(portal) = &statement.portal {
        string(out, br#","portal":"#, &portal.0)?;
    }
    if statement.text_uncertain {
        out.extend_from_slice(br#","text_uncertain":true"#);
    }
    if statement.continued {
        out.extend_from_slice(br#","continued":true"#);
    }
    if statement.opaque {
        out.extend_from_slice(br#","opaque":true"#);
    }
    for (index, parameter) in statement.parameters.iter().enumerate() {
        let before: &[u8] = if index == 0 { br#","parameters":["# } else { b"," };
        parameter_value(out, before, parameter)?;
    }
    if !statement.parameters.is_empty() {
        out.push(b']');
    }
    optional(out, br#","parameter_count":"#, statement.parameter_count.map(u64::from));
    optional(out, br#","function":"#, statement.function.map(u64::from));
    out.push(b'}');
    Ok(())
}

/// Appends `,"event":"outcome",…}`.
pub(super) fn outcome(out: &mut Vec<u8>, outcome: &StatementOutcome<'_>) -> Result<(), Error> {
    out.extend_from_slice(br#","event":"outcome""#);
    who(out, &outcome.who)?;
    number(out, br#","statement":"#, outcome.statement);
    out.extend_from_slice(match outcome.result {
        StatementResult::Completed => br#","result":"completed""#,
        StatementResult::Failed => br#","result":"failed""#,
        StatementResult::Suspended => br#","result":"suspended""#,
        StatementResult::Skipped => br#","result":"skipped""#,
        StatementResult::Unknown => br#","result":"unknown""#,
    });
    if let Some(sqlstate) = &outcome.sqlstate {
        string(out, br#","sqlstate":"#, &sqlstate.0)?;
    }
    if let Some(rule) = &outcome.rule {
        string(out, br#","rule":"#, &rule.0)?;
    }
    for (index, tag) in outcome.tags.iter().enumerate() {
        let before: &[u8] = if index == 0 { br#","tags":["# } else { b"," };
        string(out, before, &tag.0)?;
    }
    if !outcome.tags.is_empty() {
        out.push(b']');
    }
    number(out, br#","rows":"#, outcome.rows);
    optional(
        out,
        br#","rows_sent":"#,
        (outcome.rows_sent != 0).then_some(outcome.rows_sent),
    );
    optional(out, br#","portal_rows_sent":"#, outcome.portal_rows_sent);
    number(out, br#","bytes":"#, outcome.bytes);
    optional(out, br#","copy_in_bytes":"#, outcome.copy_in_bytes);
    optional(out, br#","copy_out_bytes":"#, outcome.copy_out_bytes);
    optional(out, br#","first_byte_us":"#, outcome.first_byte_us);
    number(out, br#","duration_us":"#, outcome.duration_us);
    out.extend_from_slice(match outcome.transaction {
        None => b"",
        Some(TransactionStatus::Idle) => br#","transaction":"idle""#,
        Some(TransactionStatus::Open) => br#","transaction":"open""#,
        Some(TransactionStatus::Failed) => br#","transaction":"failed""#,
    });
    out.push(b'}');
    Ok(())
}

/// Appends the session's settings for the text that differ from the defaults.
fn settings_of_text(out: &mut Vec<u8>, scs: Backslashes, encoding: Encoding) -> Result<(), Error> {
    out.extend_from_slice(match scs {
        Backslashes::Ordinary => b"",
        Backslashes::Escape => br#","scs":"off""#,
        Backslashes::Unsettled => br#","scs":"unsettled""#,
    });
    if encoding != Encoding::default() {
        string(out, br#","encoding":"#, encoding.name())?;
    }
    Ok(())
}

fn who(out: &mut Vec<u8>, who: &Who) -> Result<(), Error> {
    for (key, value) in [
        (&br#","session":"#[..], who.session.as_str()),
        (br#","grant":"#, who.grant.as_str()),
        (br#","identity":"#, who.identity.as_str()),
        (br#","target":"#, who.target.as_str()),
    ] {
        string(out, key, value)?;
    }
    if let Some(profile) = &who.profile {
        string(out, br#","profile":"#, profile.as_str())?;
    }
    Ok(())
}

fn number(out: &mut Vec<u8>, key: &[u8], value: u64) {
    out.extend_from_slice(key);
    decimal(out, value);
}

fn optional(out: &mut Vec<u8>, key: &[u8], value: Option<u64>) {
    if let Some(value) = value {
        number(out, key, value);
    }
}

#[expect(
    clippy::needless_bitwise_bool,
    reason = "without branches the compiler looks at many bytes at once"
)]
fn string(out: &mut Vec<u8>, key: &[u8], text: &str) -> Result<(), Error> {
    out.extend_from_slice(key);
    // Printable ASCII without quote and backslash is the common case.
    let plain = text.bytes().fold(true, |plain, byte| {
        plain & matches!(byte, b' '..=b'~') & (byte != b'"') & (byte != b'\\')
    });
    if plain {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
        return Ok(());
    }
    text.serialize(&mut Serializer::with_formatter(out, EscapingFormatter))
}

fn parameter_value(out: &mut Vec<u8>, before: &[u8], parameter: &ParameterValue<'_>) -> Result<(), Error> {
    out.extend_from_slice(before);
    match parameter {
        ParameterValue::Text(text) => {
            string(out, br#"{"text":"#, &text.0)?;
            out.push(b'}');
            Ok(())
        }
        other => other.serialize(&mut Serializer::with_formatter(out, EscapingFormatter)),
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use proptest::prelude::*;

    use super::*;
    use crate::audit::encode::tests::who as somebody;
    use crate::audit::event::{Event, OutsideText, StatementKind};

    fn text() -> impl Strategy<Value = OutsideText<'static>> {
        prop_oneof!["[ -~]{0,20}", any::<String>()].prop_map(|text| OutsideText(Cow::Owned(text)))
    }

    fn parameter() -> impl Strategy<Value = ParameterValue<'static>> {
        prop_oneof![
            Just(ParameterValue::Null),
            Just(ParameterValue::Redacted),
            any::<u64>().prop_map(|length| ParameterValue::Blanked {
                length,
                hmac_sha256: "0c".into()
            }),
            "[0-9a-f]{32}".prop_map(|hash| ParameterValue::Hashed(hash.into())),
            text().prop_map(ParameterValue::Text),
            any::<u32>().prop_map(|oid| ParameterValue::Binary { oid, hex: "00ff".into() }),
            (text(), any::<u64>()).prop_map(|(start, length)| ParameterValue::Long {
                start,
                length,
                sha256: "ab".into()
            }),
        ]
    }

    fn by_serde(event: &Event<'_>) -> String {
        let mut out = Vec::new();
        event
            .serialize(&mut Serializer::with_formatter(&mut out, EscapingFormatter))
            .unwrap();
        String::from_utf8(out).unwrap().replacen('{', ",", 1)
    }

    proptest! {
        #[test]
        fn statements_as_serde_writes_them(
            kind in proptest::sample::select(vec![StatementKind::Query, StatementKind::Parse, StatementKind::Bind, StatementKind::Describe, StatementKind::Execute, StatementKind::Close, StatementKind::FunctionCall]),
            sql in proptest::option::of((text(), any::<Option<u64>>(), any::<[bool; 5]>(), 0_u32..3)),
            scs in proptest::sample::select(vec![Backslashes::Ordinary, Backslashes::Escape, Backslashes::Unsettled]),
            encoding in proptest::sample::select(vec!["UTF8", "SJIS", "unsettled"]),
            names in (proptest::option::of(text()), proptest::option::of(text())),
            flags in any::<(bool, bool, bool)>(),
            parameters in proptest::collection::vec(parameter(), 0..4),
            counts in any::<(Option<u32>, Option<u32>, u64)>(),
        ) {
            let who = somebody();
            let record = Statement {
                who: Cow::Borrowed(&who),
                statement: counts.2,
                kind,
                sql: sql.map(|(text, length, [hash, keyed, cut, unclear, converted], redacted)| SqlText {
                    text,
                    length,
                    sha256: hash.then(|| "0a1b".into()),
                    hmac_sha256: keyed.then(|| "2c3d".into()),
                    cut,
                    redacted,
                    unclear,
                    scs,
                    encoding: Encoding::of_name(encoding.as_bytes()),
                    converted,
                    escaped: redacted,
                }),
                prepared: names.0,
                portal: names.1,
                text_uncertain: flags.0,
                continued: flags.1,
                opaque: flags.2,
                parameters,
                parameter_count: counts.0,
                function: counts.1,
            };
            let mut out = Vec::new();
            statement(&mut out, &record).unwrap();
            prop_assert_eq!(String::from_utf8(out).unwrap(), by_serde(&Event::Statement(record)));
        }

        #[test]
        fn outcomes_as_serde_writes_them(
            result in proptest::sample::select(vec![StatementResult::Completed, StatementResult::Failed, StatementResult::Suspended, StatementResult::Skipped, StatementResult::Unknown]),
            sqlstate in proptest::option::of(text()),
            rule in proptest::option::of(text()),
            tags in proptest::collection::vec(text(), 0..3),
            numbers in any::<(u64, u64, u64, u64)>(),
            sent in (prop_oneof![Just(0), any::<u64>()], any::<Option<u64>>()),
            copies in any::<(Option<u64>, Option<u64>, Option<u64>)>(),
            transaction in proptest::sample::select(vec![None, Some(TransactionStatus::Idle), Some(TransactionStatus::Open), Some(TransactionStatus::Failed)]),
        ) {
            let who = somebody();
            let (statement, rows, bytes, duration_us) = numbers;
            let (copy_in_bytes, copy_out_bytes, first_byte_us) = copies;
            let who = Cow::Borrowed(&who);
            let record = StatementOutcome { who, statement, result, sqlstate, rule, tags, rows, rows_sent: sent.0, portal_rows_sent: sent.1, bytes, copy_in_bytes, copy_out_bytes, first_byte_us, duration_us, transaction };
            let mut out = Vec::new();
            outcome(&mut out, &record).unwrap();
            prop_assert_eq!(String::from_utf8(out).unwrap(), by_serde(&Event::Outcome(record)));
        }
    }
}
