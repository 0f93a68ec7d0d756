//! The records of statements are written without serde, as serde writes them.

use std::borrow::Cow;

use proptest::prelude::*;

use super::super::*;
use super::who as somebody;
use crate::audit::event::{OutsideText, StatementKind};

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
        flags in any::<[bool; 4]>(),
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
            with_parse: flags[0],
            text_uncertain: flags[1],
            continued: flags[2],
            opaque: flags[3],
            parameters: parameters.into(),
            parameter_count: counts.0,
            function: counts.1,
        };
        let mut out = Vec::new();
        encode_statement(&mut out, &mut FormattedNames::default(), &record).unwrap();
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
        parse_failed in any::<bool>(),
    ) {
        let who = somebody();
        let (statement, rows, bytes, duration_us) = numbers;
        let (copy_in_bytes, copy_out_bytes, first_byte_us) = copies;
        let who = Cow::Borrowed(&who);
        let record = StatementOutcome { who, statement, result, sqlstate, rule, tags, rows, rows_sent: sent.0, portal_rows_sent: sent.1, bytes, copy_in_bytes, copy_out_bytes, first_byte_us, duration_us, transaction, parse_failed };
        let mut out = Vec::new();
        encode_outcome(&mut out, &mut FormattedNames::default(), &record).unwrap();
        prop_assert_eq!(String::from_utf8(out).unwrap(), by_serde(&Event::Outcome(record)));
    }
}
