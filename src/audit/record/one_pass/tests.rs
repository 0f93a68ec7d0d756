use proptest::prelude::*;

use super::*;
use crate::audit::testing::{all, outcome, record, rolled_back, skipped, statement, tagged, who};

/// Statements and outcomes with every field, as a gate writes them, and as it never does.
const LINES: [&str; 5] = [
    concat!(
        r#"{"v":2,"seq":9,"time":"2026-11-23T09:05:07.000042Z","event":"statement","session":"se_1111111111","grant":"gr_2222222222","#,
        r#""identity":"auth0|Zoë O'B\\\"<&","target":"orders","profile":"read-only","statement":7,"kind":"execute","#,
        r#""sql":{"text":"SELECT \u202e\n'é'","length":9,"sha256":"0a","hmac_sha256":"0b","cut":true,"redacted":1,"scs":"off","#,
        r#""encoding":"SJIS","converted":true,"escaped":2,"unclear":true},"prepared":"","portal":"x\u0000","with_parse":true,"#,
        r#""text_uncertain":true,"continued":true,"opaque":true,"parameters":[{"text":"x"},"null","redacted",{"blanked":{"length":1,"hmac_sha256":"0c"}},"#,
        r#"{"hashed":"0d"},{"binary":{"oid":1,"hex":"0e"}},{"long":{"start":"a","length":2,"sha256":"0f"}}],"parameter_count":9,"#,
        r#""function":3,"chain":"0123456789abcdef"}"#
    ),
    concat!(
        r#"{"v":2,"seq":10,"time":"2026-11-23T09:05:07.000042Z","event":"outcome","session":"se_1111111111","grant":"gr_2222222222","#,
        r#""identity":"ana","target":"orders","profile":"read-only","statement":7,"result":"failed","sqlstate":"42P01","rule":"x","#,
        r#""tags":["SELECT 1","\t"],"rows":1,"rows_sent":2,"portal_rows_sent":3,"bytes":80,"copy_in_bytes":4,"copy_out_bytes":5,"#,
        r#""first_byte_us":220,"duration_us":230,"transaction":"idle","parse_failed":true,"chain":"0123456789abcdef"}"#
    ),
    concat!(
        r#"{"v":2,"seq":1,"time":"2026-11-23T09:05:07.0+01:00","event":"statement", "kind":"query","statement":1,"new":[{"a":null}],"#,
        r#""target":"orders","identity":"ana","grant":"gr_2222222222","session":"se_1111111111","chain":"0123456789abcdef","sql":null}"#
    ),
    concat!(
        r#"{"v":2,"seq":01,"time":"2026-11-23T09:05:07.000042Z","event":"outcome","session":"se_1111111111","grant":"gr_2222222222","#,
        r#""identity":"ana","target":"orders","statement":7,"result":"completed","rows":1,"bytes":80,"duration_us":230,"chain":""}"#
    ),
    r#"{"v":2,"seq":3,"time":"2026-11-23T09:05:07.000042Z","event":"statement","chain":"0123456789abcdef"}"#,
];

fn written() -> Vec<String> {
    let ana = who(1, "ana");
    let mut events = all();
    events.extend([
        statement(&ana, 1, "SELECT \"a\"\n\u{9b}", &[]),
        skipped(&ana, 2),
        tagged(&ana, 3, &["SELECT 1", "INSERT 0 1"]),
        outcome(&ana, 4, Some("23505")),
        rolled_back(&ana, 1, 4),
    ]);
    (1..).zip(events).map(|(seq, event)| record(seq, event).json()).collect()
}

#[test]
fn statements_and_outcomes_of_a_gate_are_parsed_here() {
    let lines = written();
    for line in lines.iter().map(String::as_str).chain(LINES.into_iter().take(2)) {
        let record = LogRecord::parse_tagged(line.as_bytes()).unwrap();
        let is_of_statement = matches!(record.event, Event::Statement(_) | Event::Outcome(_));
        assert_eq!(parse(line.as_bytes()), is_of_statement.then_some(record), "{line}");
    }
    assert!(parse(LINES[2].as_bytes()).is_none() && LogRecord::parse(LINES[2].as_bytes()).is_ok());
    for line in &LINES[3..] {
        assert!(
            parse(line.as_bytes()).is_none() && LogRecord::parse(line.as_bytes()).is_err(),
            "{line}"
        );
    }
}

#[test]
fn a_second_value_of_a_field_is_an_error() {
    for line in &LINES[..2] {
        for field in [
            r#""event":"statement""#,
            r#""event":"outcome""#,
            r#""session":"se_3333333333""#,
            r#""statement":8"#,
            r#""\u0065vent":1"#,
        ] {
            let twice = line.replace(r#","chain""#, &format!(r#",{field},"chain""#));
            assert!(parse(twice.as_bytes()).is_none(), "{twice}");
            assert!(LogRecord::parse(twice.as_bytes()).is_err(), "{twice}");
        }
    }
}

/// The time is a short one, behind which another field of the same length in all hides the name that counts.
#[test]
fn the_event_is_the_one_that_serde_reads() {
    let line = LINES[1].replace(r#""kind":"execute","#, "");
    for hidden in [r#"2026-11-23T09Z","k":{"a":"B"#, r#"20261123T09Z","sql":{"a":"B"#] {
        assert_eq!(hidden.len(), "2026-11-23T09:05:07.000042Z".len());
        for name in [r#""outcome""#, "null", r#""nonsense""#] {
            let forged = line.replace("2026-11-23T09:05:07.000042Z", hidden).replace(
                r#""event":"outcome""#,
                &format!(r#""event":"statement"}},"event":{name},"kind":"query""#),
            );
            assert!(parse(forged.as_bytes()).is_none(), "{forged}");
        }
    }
}

/// Pieces of lines that are put where other lines, or other places of a line, have others.
const PIECES: [&str; 27] = [
    "\"x\":\"\\ud800\"",
    "\"x\":1e999",
    "\"new\":[[1]]",
    "null",
    "0",
    "-0",
    "-1",
    "1.0",
    "1e3",
    "18446744073709551616",
    "true",
    "[]",
    "{}",
    "\"\"",
    "\"x\"",
    "\"query\"",
    "\"completed\"",
    "\"event\":\"outcome\"",
    "\"event\":\"statement\"",
    "\"v\":3",
    "\"parameters\":[{\"text\":\"x\"}]",
    "\"sql\":[\"SELECT 1\"]",
    "\"profile\":\"x\"",
    "\"who\":{}",
    "\"tags\":null",
    "\"kind\":{\"query\":null}",
    "\"cut\":false",
];

proptest! {
    #[test]
    fn no_line_is_another_record_than_serde_makes_of_it(
        line in proptest::sample::select(LINES.iter().map(ToString::to_string).chain(written()).collect::<Vec<_>>()),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), proptest::sample::select(&PIECES[..]), 0..4), 0..3),
        byte in proptest::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>())),
    ) {
        let mut line = line;
        for (place, piece, how) in changes {
            let fields: Vec<_> = line.split(',').map(str::to_owned).collect();
            let at = place.index(fields.len());
            let changed = fields.iter().enumerate().map(|(index, field)| match (index == at, how) {
                (false, _) => field.clone(),
                (true, 0) => format!("{field},{piece}"),
                (true, 1) => field.split_once(':').map_or_else(|| piece.to_owned(), |(name, _)| format!("{name}:{piece}")),
                (true, 2) => format!("{field},{field}"),
                (true, _) => piece.to_owned(),
            });
            line = changed.collect::<Vec<_>>().join(",");
        }
        let mut line = line.into_bytes();
        if let Some((place, byte)) = byte {
            let at = place.index(line.len());
            line[at] = byte;
        }
        if let Some(record) = parse(&line) {
            prop_assert_eq!(LogRecord::parse_tagged(&line).unwrap(), record);
        }
    }
}
