//! Reading with summaries is reading without; a summary that does not fit is not used.

use std::fs::OpenOptions;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::audit::event::{OutsideText, StatementKind, StatementOutcome};
use crate::audit::filter::{Filter, Neighbours, RecordJoiner};
use crate::audit::record::{EventName, LogRecord};
use crate::audit::sql_analysis::CommandClass;
use crate::audit::testing::{all, ended, outcome, record, statement, time, who};
use crate::audit::{SearchExtent, follow, read, read_whole, segment};

/// Puts records into a packed segment.
fn pack(dir: &Path, number: u32, records: &[LogRecord]) -> Segment {
    let path = dir.join(format!("audit-{number:06}.jsonl.zst"));
    let lines: String = records.iter().map(|record| record.json() + "\n").collect();
    std::fs::write(&path, zstd::bulk::compress(lines.as_bytes(), 1).unwrap()).unwrap();
    Segment::at(&path).unwrap()
}

/// Puts events into segments, packed and summarised, and an empty one behind them; the records are numbered through.
fn packed(dir: &Path, segments: &[Vec<Event<'static>>]) -> Vec<Segment> {
    let mut seq = 0;
    let mut packed = Vec::new();
    for (number, events) in (1..).zip(segments) {
        let records: Vec<_> = events
            .iter()
            .map(|event| {
                seq += 1;
                record(seq, event.clone())
            })
            .collect();
        let segment = pack(dir, number, &records);
        ensure(&segment).unwrap();
        packed.push(segment);
    }
    packed
}

/// Summarises a segment as the compactor does, with what the one before it left open.
fn summarise_behind(segment: &Segment, before: Handover) -> Handover {
    let mut builder = SummaryBuilder::behind(before);
    for line in segment.open().unwrap().split(b'\n') {
        builder.add(&[line.unwrap(), b"\n".to_vec()].concat());
    }
    let (summary, open) = builder.finish();
    summary.save(segment).unwrap();
    open
}

fn summary_of(events: &[Event<'static>]) -> SegmentSummary {
    let lines: String = (1..)
        .zip(events)
        .map(|(seq, event)| record(seq, event.clone()).json() + "\n")
        .collect();
    of_lines(lines.as_bytes()).unwrap()
}

fn numbers(dir: &Path, filter: &Filter) -> Vec<u64> {
    read(dir, filter).unwrap().map(|record| record.unwrap().seq).collect()
}

fn asking(filter: &str) -> Filter {
    serde_json::from_str(filter).unwrap()
}

/// Returns the numbers of the segments that are left for a filter.
fn left(segments: &[Segment], filter: &Filter) -> Vec<u32> {
    let summaries: Vec<_> = segments
        .iter()
        .map(|segment| SegmentSummary::load(segment).unwrap())
        .collect();
    let may_be_in = |at: usize| {
        filter.may_be_in(Neighbours {
            before: at.checked_sub(1).and_then(|at| summaries.get(at)),
            this: &summaries[at],
            behind: summaries.get(at + 1),
        })
    };
    (0..segments.len())
        .filter(|at| may_be_in(*at))
        .map(|at| segments[at].number)
        .collect()
}

/// What the joiner chooses from all records.
fn chosen(records: &[LogRecord], filter: &Filter) -> Vec<u64> {
    let mut joiner = RecordJoiner::new(filter.clone());
    for record in records {
        joiner.know(&record.event);
    }
    let mut chosen = Vec::new();
    for record in records {
        joiner.offer(record.clone(), |record| chosen.push(record.seq));
    }
    chosen
}

const TEXTS: [&str; 8] = [
    "SELECT * FROM customers",
    "SELECT * FROM shop.customers c",
    "DELETE FROM orders WHERE id = 7",
    "UPDATE Straße SET x = 'İÇ'",
    "DELETE FROM customers WHERE (",
    "DO $$ DELETE FROM orders $$",
    "BEGIN",
    "SELECT '\u{212a}ing\\\n\u{1b}' FROM \"Orders\"",
];
const CODES: [Option<&str>; 4] = [None, Some("42501"), Some("42P01"), Some("57014")];

/// A few sessions of a few people, with statements that run side by side.
#[derive(Debug, Clone)]
enum Act {
    Start(u8),
    Ask(u8, usize),
    Answer(u8, usize, usize),
    End(u8),
    Other(usize),
    Restart,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        1 => (0..4_u8).prop_map(Act::Start),
        6 => (0..4_u8, 0..TEXTS.len()).prop_map(|(who, text)| Act::Ask(who, text)),
        6 => (0..4_u8, 0..3_usize, 0..CODES.len()).prop_map(|(who, which, code)| Act::Answer(who, which, code)),
        1 => (0..4_u8).prop_map(Act::End),
        2 => (0..all().len()).prop_map(Act::Other),
        1 => Just(Act::Restart),
    ]
}

/// A log as a gate writes it: nothing of a session after its end, no outcome twice.
#[expect(clippy::too_many_lines, reason = "one arm for each act")]
fn history(acts: &[Act]) -> Vec<LogRecord> {
    let mut sessions: [Option<(u8, u64, Vec<u64>)>; 4] = Default::default();
    // Other events tell of session 1, as somebody's: a session has one identity.
    let mut used = 100;
    let mut events = Vec::new();
    for act in acts {
        let name = |at: u8| if at.is_multiple_of(2) { "ana" } else { "ben" };
        match act {
            Act::Start(at) if sessions[usize::from(*at)].is_none() => {
                used += 1;
                sessions[usize::from(*at)] = Some((used, 0, Vec::new()));
                let event = all().into_iter().find(|event| matches!(event, Event::SessionStarted(_)));
                let Some(Event::SessionStarted(mut started)) = event else {
                    unreachable!()
                };
                started.to_mut().who = who(used, name(*at));
                started.to_mut().groups = vec![["qa", "dev"][usize::from(*at % 2)].to_owned()];
                started.to_mut().run = Some(format!("{}", at / 2));
                events.push(Event::SessionStarted(started));
            }
            Act::Ask(at, text) => {
                if let Some((session, asked, open)) = &mut sessions[usize::from(*at)] {
                    *asked += 1;
                    open.push(*asked);
                    let parameters: &[&str] = if *asked % 3 == 0 { &["grüße", "4711"] } else { &[] };
                    let mut event = statement(&who(*session, name(*at)), *asked, TEXTS[*text], parameters);
                    if let Event::Statement(statement) = &mut event {
                        match *asked % 4 {
                            0 => statement.kind = StatementKind::Parse,
                            1 => (statement.kind, statement.with_parse) = (StatementKind::Execute, true),
                            _ => {}
                        }
                    }
                    events.push(event);
                }
            }
            Act::Answer(at, which, code) => {
                if let Some((session, _, open)) = &mut sessions[usize::from(*at)]
                    && *which < open.len()
                {
                    let asked = open.remove(*which);
                    let mut event = outcome(&who(*session, name(*at)), asked, CODES[*code]);
                    if let Event::Outcome(outcome) = &mut event {
                        outcome.rows = asked;
                        outcome.duration_us = asked * 1000;
                        outcome.parse_failed = asked % 4 == 1 && outcome.sqlstate.is_some();
                        // The server may have run what was not read.
                        let tags = [&["SELECT 1"][..], &["DELETE 1"], &["SELECT 1", "UPDATE 2"], &[]];
                        let tags = tags[usize::try_from(asked % 4).unwrap()].iter();
                        outcome.tags = tags.map(|tag| OutsideText((*tag).into())).collect();
                    }
                    events.push(event);
                }
            }
            Act::End(at) => {
                if let Some((session, ..)) = sessions[usize::from(*at)].take() {
                    events.push(ended(&who(session, name(*at))));
                }
            }
            Act::Other(which) => match all().swap_remove(*which) {
                Event::Statement(_)
                | Event::Outcome(_)
                | Event::SessionStarted(_)
                | Event::SessionEnded(_)
                | Event::GateStarted(_) => {}
                event => events.push(event),
            },
            Act::Restart => {
                sessions = Default::default();
                events.push(all().swap_remove(0));
            }
            Act::Start(_) => {}
        }
    }
    (1..).zip(events).map(|(seq, event)| record(seq, event)).collect()
}

#[expect(clippy::too_many_lines, reason = "one line for each condition")]
fn filter() -> impl Strategy<Value = Filter> {
    let some = |list: &'static [&'static str]| proptest::option::weighted(0.25, proptest::sample::select(list));
    let names = (
        some(&["ana", "ben", "eve"]),
        some(&["qa", "dev"]),
        some(&["0", "1", "2"]),
        proptest::option::weighted(0.2, 1..6_u8),
        some(&["read-only", "read-write"]),
        proptest::bool::weighted(0.1),
    );
    let times = (
        proptest::option::weighted(0.25, 0..200_i64),
        proptest::option::weighted(0.25, 0..200_i64),
        proptest::option::weighted(0.25, 0..80_u64),
    );
    let content = (
        some(&[
            "CUSTOMERS",
            "straße",
            "i̇ç",
            "4711",
            "grü",
            "o",
            "king",
            "g\\\n",
            "expired",
            "read-only",
        ]),
        some(&["customers", "shop.customers", "orders", "Straße", "\"Customers\""]),
        proptest::option::weighted(0.2, proptest::sample::select(CommandClass::ALL)),
        proptest::option::weighted(
            0.1,
            proptest::sample::select(&[StatementKind::Query, StatementKind::Execute, StatementKind::Parse][..]),
        ),
        proptest::bool::weighted(0.2),
    );
    let result = (
        some(&["42", "42501", "5", "57p01", ""]),
        proptest::option::weighted(0.2, 0..6000_u64),
        proptest::option::weighted(0.1, 0..6000_u64),
        proptest::option::weighted(0.2, 0..6_u64),
        proptest::option::weighted(0.1, 0..6_u64),
    );
    let event = proptest::option::weighted(0.2, proptest::sample::select(EventName::ALL));
    (names, times, content, result, event).prop_map(|(names, times, content, result, event)| Filter {
        changed: None,
        key: None,
        after: None,
        before: times.2,
        identity: names.0.map(|name| name.parse().unwrap()),
        group: names.1.map(|name| name.parse().unwrap()),
        run: names.2.map(str::to_owned),
        session: names.3.map(|number| who(100 + number, "ana").session),
        grant: None,
        target: None,
        profile: names.4.map(|name| name.parse().unwrap()),
        break_glass: names.5,
        since: times.0.map(time),
        until: times.1.map(time),
        text: content.0.map(str::to_owned),
        table: content.1.map(|name| name.parse().unwrap()),
        class: content.2,
        unread: content.4,
        kind: content.3,
        sqlstate: result.0.map(str::to_owned),
        min_duration_us: result.1,
        max_duration_us: result.2,
        min_rows: result.3,
        max_rows: result.4,
        event,
    })
}

proptest! {
    // A case reads the log two dozen times.
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 4, ..ProptestConfig::default() })]

    #[test]
    fn reading_with_summaries_is_reading_without(
        acts in proptest::collection::vec(act(), 0..200),
        filters in proptest::collection::vec(filter(), 12),
        cuts in proptest::collection::vec(0.0..1.0_f64, 6),
        summarised in proptest::collection::vec(proptest::sample::select(&["not", "alone", "in order", "in order"][..]), 6),
    ) {
        let records = history(&acts);
        let dir = tempfile::tempdir().unwrap();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a place in a list")]
        let mut cuts: Vec<_> = cuts.iter().map(|part| (part * records.len() as f64) as usize).collect();
        cuts.sort_unstable();
        let mut start = 0;
        let segments: Vec<_> = (1..)
            .zip(cuts)
            .map(|(number, cut)| pack(dir.path(), number, &records[std::mem::replace(&mut start, cut)..cut]))
            .collect();
        let rest: String = records[start..].iter().map(|record| record.json() + "\n").collect();
        std::fs::write(dir.path().join("audit-000007.jsonl"), rest).unwrap();
        for filter in &filters {
            prop_assert_eq!(chosen(&records, filter), numbers(dir.path(), filter), "{:?}", filter);
        }
        let mut before = Handover::default();
        for (segment, how) in segments.iter().zip(summarised) {
            let open = std::mem::take(&mut before);
            match how {
                "in order" => before = summarise_behind(segment, open),
                "alone" => ensure(segment).unwrap(),
                _ => {}
            }
            prop_assert_eq!(SegmentSummary::load(segment).is_some(), how != "not");
        }
        for filter in &filters {
            prop_assert_eq!(chosen(&records, filter), numbers(dir.path(), filter), "{:?}", filter);
        }
    }
}

/// Ten segments, each with a session and a table of its own.
fn ten(dir: &Path) -> Vec<Segment> {
    let events = |number: u8| {
        let ana = who(number, if number == 5 { "ben" } else { "ana" });
        let sql = format!("SELECT * FROM t{number} WHERE word = 'needle{number}'");
        let code = (number == 7).then_some("42501");
        vec![statement(&ana, 1, &sql, &[]), outcome(&ana, 1, code)]
    };
    packed(dir, &(1..=10).map(events).collect::<Vec<_>>())
}

#[test]
fn segments_that_have_nothing_are_excluded() {
    let dir = tempfile::tempdir().unwrap();
    let segments = ten(dir.path());
    let session = format!(r#"{{"session":"{}"}}"#, who(3, "ana").session);
    let grant = format!(r#"{{"grant":"{}"}}"#, who(4, "ana").grant);
    for (filter, expected) in [
        (r#"{"identity":"ben"}"#, vec![5]),
        (r#"{"identity":"eve"}"#, vec![]),
        (&session, vec![3]),
        (&grant, vec![4]),
        (r#"{"target":"billing"}"#, vec![]),
        (r#"{"event":"refused"}"#, vec![]),
        (r#"{"sqlstate":"425"}"#, vec![7]),
        (r#"{"table":"shop.T9"}"#, vec![9]),
        (r#"{"class":"delete"}"#, vec![]),
        (
            r#"{"since":"2026-11-23T09:00:03Z","until":"2026-11-23T09:00:06Z"}"#,
            vec![2, 3],
        ),
        (r#"{"after":17}"#, vec![9, 10]),
        (r#"{"before":6}"#, vec![1, 2, 3]),
        (r#"{"class":"select","text":"word"}"#, (1..=10).collect()),
    ] {
        assert_eq!(left(&segments, &asking(filter)), expected, "{filter}");
    }
}

/// A run is found by the segments in which its sessions begin, and by those that have their statements.
#[test]
fn segments_without_a_session_of_the_run_are_excluded() {
    let dir = tempfile::tempdir().unwrap();
    let begun = |number: u8, run: &str| {
        let started = all().into_iter().find_map(|event| match event {
            Event::SessionStarted(started) => Some(started.into_owned()),
            _ => None,
        });
        let mut started = started.unwrap();
        started.who = who(number, "ana");
        started.run = Some(run.to_owned());
        Event::SessionStarted(std::borrow::Cow::Owned(started))
    };
    let worked = |number: u8, at: u64| {
        let who = who(number, "ana");
        vec![statement(&who, at, "SELECT 1", &[]), outcome(&who, at, None)]
    };
    let segments = [
        [vec![begun(1, "green")], worked(1, 1)].concat(),
        [vec![begun(2, "red")], worked(2, 1)].concat(),
        worked(1, 2),
        worked(2, 2),
    ];
    let segments = packed(dir.path(), &segments);
    let of_sessions = asking(r#"{"run":"red"}"#).of_sessions();
    assert_eq!(left(&segments, &of_sessions), [2]);
    assert_eq!(numbers(dir.path(), &asking(r#"{"run":"red"}"#)), [4, 5, 6, 9, 10]);
    assert!(numbers(dir.path(), &asking(r#"{"run":"blue"}"#)).is_empty());
}

/// A statement, and its outcome in the next segment; other segments around them.
#[test]
fn a_statement_and_its_outcome_are_found_in_two_segments() {
    let dir = tempfile::tempdir().unwrap();
    let (ana, ben) = (who(1, "ana"), who(2, "ben"));
    let whole = |number: u64| vec![statement(&ben, number, "SELECT 1", &[]), outcome(&ben, number, None)];
    let segments = [
        whole(1),
        [vec![statement(&ana, 1, "DROP TABLE cards", &[])], whole(2)].concat(),
        [whole(3), vec![outcome(&ana, 1, Some("42P01"))]].concat(),
        whole(4),
    ];
    let segments = packed(dir.path(), &segments);
    let filters = [r#"{"sqlstate":"42P01"}"#, r#"{"table":"cards"}"#, r#"{"class":"ddl"}"#].map(asking);
    for filter in &filters {
        assert_eq!(left(&segments, filter), [2, 3], "{filter:?}");
        assert_eq!(numbers(dir.path(), filter), [3, 8], "{filter:?}");
    }
    // Without the summary of the second nothing proves where the outcome's statement is.
    std::fs::remove_file(path(&segments[1])).unwrap();
    for filter in &filters {
        assert_eq!(numbers(dir.path(), filter), [3, 8], "{filter:?}");
    }
}

/// A segment between the two says nothing of them.
#[test]
fn a_statement_that_outlasts_a_segment_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let (ana, ben) = (who(1, "ana"), who(2, "ben"));
    let segments = packed(
        dir.path(),
        &[
            vec![statement(&ana, 1, "SELECT 1", &[])],
            vec![statement(&ben, 1, "SELECT 1", &[]), outcome(&ben, 1, None)],
            vec![outcome(&ana, 1, Some("57014"))],
        ],
    );
    let filter = asking(r#"{"sqlstate":"57014"}"#);
    assert_eq!(left(&segments, &filter), [1, 3]);
    assert_eq!(numbers(dir.path(), &filter), [1, 4]);
}

/// A Parse that succeeds has no outcome: an outcome behind it says so. The last one may have failed, in the next segment.
#[test]
fn what_was_only_parsed_is_not_unanswered() {
    let ana = who(1, "ana");
    let mut parse = statement(&ana, 1, "SELECT 1", &[]);
    if let Event::Statement(statement) = &mut parse {
        statement.kind = StatementKind::Parse;
    }
    let summary = summary_of(&[parse.clone(), statement(&ana, 2, "SELECT 1", &[]), outcome(&ana, 2, None)]);
    assert!(!summary.may_have(Field::Unanswered, |_| true));
    assert!(!summary.may_have(Field::Late, |_| true));
    assert!(summary_of(&[parse]).may_have(Field::Unanswered, |_| true));
}

/// A Parse that failed, and its outcome in the next segment.
#[test]
fn a_parse_whose_failure_is_in_the_next_segment_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let ana = who(1, "ana");
    let mut parse = statement(&ana, 1, "SELEKT 1", &[]);
    if let Event::Statement(statement) = &mut parse {
        statement.kind = StatementKind::Parse;
    }
    packed(dir.path(), &[vec![parse], vec![outcome(&ana, 1, Some("42601"))]]);
    assert_eq!(numbers(dir.path(), &asking(r#"{"sqlstate":"42601"}"#)), [1, 2]);
    assert_eq!(numbers(dir.path(), &asking(r#"{"sqlstate":"42601","kind":"parse"}"#)), [1, 2]);
}

/// A statement whose outcome comes after that of a later one, in the next segment: a Bind that failed is numbered late.
#[test]
fn an_outcome_that_comes_after_a_later_ones_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let ana = who(1, "ana");
    let first = [
        statement(&ana, 1, "SELECT 1", &[]),
        statement(&ana, 2, "SELECT 2", &[]),
        outcome(&ana, 2, None),
    ];
    packed(dir.path(), &[first.to_vec(), vec![outcome(&ana, 1, Some("22012"))]]);
    assert_eq!(numbers(dir.path(), &asking(r#"{"sqlstate":"22012"}"#)), [1, 4]);
}

/// Summaries that exist were made with the analysis of texts of their time: when this changes, [`VERSION`] has to.
#[test]
fn the_meaning_of_a_summary_has_a_version() {
    let texts = [
        "SELECT a FROM shop.orders",
        "WITH x AS (DELETE FROM \"T\" RETURNING 1) SELECT * FROM x",
        "COPY t TO STDOUT",
        "DO 'x'",
    ];
    let ana = who(1, "ana");
    let records: Vec<_> = (1..)
        .zip(texts)
        .map(|(number, text)| statement(&ana, number, text, &[]))
        .collect();
    let said = serde_json::to_string(&summary_of(&records)).unwrap();
    insta::assert_snapshot!(format!("version {VERSION}: {said}"));
}

/// The fields of an event that do not depend on another record.
const OF_EVENTS: [Field; 7] = [
    Field::Session,
    Field::Grant,
    Field::Identity,
    Field::Target,
    Field::Event,
    Field::Sqlstate,
    Field::Run,
];

/// Both ways in which lines are taken apart say the same.
#[test]
fn a_line_that_is_parsed_has_the_same_values() {
    let dir = tempfile::tempdir().unwrap();
    let records: Vec<_> = (1..).zip(all()).map(|(seq, event)| record(seq, event)).collect();
    let segment = pack(dir.path(), 1, &records);
    ensure(&segment).unwrap();
    let summary = SegmentSummary::load(&segment).unwrap();
    for record in &records {
        for field in OF_EVENTS {
            let value = field.of(&record.event);
            assert!(
                value.is_none_or(|value| summary.may_have(field, |found| found == value)),
                "{field:?} {value:?}"
            );
            assert!(!summary.may_have(field, |found| found == "nobody"));
        }
    }
    let (first, last) = summary.times();
    assert!(first.starts_with("2026-11-23T09:00:01") && last > first);
}

#[test]
fn a_set_that_grows_too_large_stands_for_any_value() {
    let ana = who(1, "ana");
    let events: Vec<_> = (1..=4_000)
        .map(|number| statement(&ana, number, &format!("SELECT 1 FROM t{number}"), &[]))
        .collect();
    let summary = summary_of(&events);
    assert!(summary.may_have(Field::Word, |_| false) && summary.may_have(Field::Class, |_| false));
    assert!(summary.may_have(Field::Unanswered, |_| false), "{summary:?}");
    assert!(!summary.may_have(Field::Session, |found| found == "other"));
    let size = serde_json::to_vec(&summary).unwrap().len();
    assert!(size < MAX_SET_BYTES * Field::ALL.len() + 1_000, "{size}");
}

/// However many values come in texts of one shape: they are analysed once, and a value may still be a name.
#[test]
fn values_in_texts_give_nothing_up() {
    let ana = who(1, "ana");
    let text = |number: u32| match number % 4 {
        0 => format!("SELECT {number} FROM orders WHERE id = {number}"),
        3 => format!("SELECT note FROM orders WHERE id = {}", 1_760_000_000_000 + u64::from(number)),
        1 => format!("UPDATE orders SET note = 'first\n{number}' WHERE id = {number}"),
        _ => format!("SELECT {number} -- last\n FROM orders"),
    };
    let events: Vec<_> = (1..=3_000)
        .map(|number| statement(&ana, u64::from(number), &text(number), &[]))
        .collect();
    let mut builder = SummaryBuilder::default();
    for (seq, event) in (1..).zip(&events) {
        builder.add((record(seq, event.clone()).json() + "\n").as_bytes());
    }
    assert!(builder.analysed() < 10, "{}", builder.analysed());
    let (summary, _) = builder.finish();
    for word in ["orders", "note", "first", "last", "2024"] {
        assert!(summary.may_have_word(word), "{word}");
    }
    assert!(!summary.may_have_word("customers"));
    assert!(!summary.may_have(Field::Class, |class| class == "delete"));
}

/// What the server says it ran is more than was read, so any word of the text may be a table's name.
#[test]
fn a_statement_that_the_server_contradicts_is_found_by_its_words() {
    let dir = tempfile::tempdir().unwrap();
    let ana = who(1, "ana");
    let mut told = outcome(&ana, 1, None);
    if let Event::Outcome(outcome) = &mut told {
        outcome.tags = vec![OutsideText("SELECT 1".into()), OutsideText("UPDATE 2".into())];
    }
    packed(dir.path(), &[vec![statement(&ana, 1, "SELECT 1 FROM \"Orders\"", &[]), told]]);
    for unread in [true, false] {
        let filter = Filter {
            unread,
            ..asking(r#"{"table":"orders"}"#)
        };
        assert_eq!(numbers(dir.path(), &filter), [1, 2]);
    }
    assert_eq!(numbers(dir.path(), &asking(r#"{"class":"update"}"#)), [1, 2]);
}

/// What could not be parsed is looked for only where there is some of it, and there in few lines.
#[test]
fn segments_whose_statements_could_all_be_parsed_are_excluded() {
    let dir = tempfile::tempdir().unwrap();
    let ana = who(1, "ana");
    let told = |number: u64, tag: &'static str| match outcome(&ana, number, None) {
        Event::Outcome(outcome) => Event::Outcome(StatementOutcome {
            tags: vec![OutsideText(tag.into())],
            ..outcome
        }),
        _ => unreachable!(),
    };
    let asked = |number: u64, text: &str| statement(&ana, number, text, &[]);
    let segments = packed(
        dir.path(),
        &[
            vec![asked(1, "SELECT 1"), told(1, "SELECT 1"), asked(2, "SELECT 2")],
            // Its outcome stands in the next one.
            vec![told(2, "SELECT 1"), asked(3, "DELETE FROM a"), asked(4, "SELECT 4")],
            vec![
                told(3, "DELETE 1"),
                told(4, "DELETE 1"),
                asked(5, "SELECT 5"),
                told(5, "SELECT 1"),
            ],
            vec![asked(6, "SELECT 6"), told(6, "SELECT 1")],
            vec![asked(7, "SELEC 7"), outcome(&ana, 7, Some("42601"))],
        ],
    );
    let unread = asking(r#"{"unread":true}"#);
    // By itself a summary cannot tell of an outcome whether it is what the statement's text says.
    assert_eq!(left(&segments, &unread), [1, 2, 3, 5]);
    let mut before = Handover::default();
    for segment in &segments {
        before = summarise_behind(segment, before);
    }
    assert_eq!(left(&segments, &unread), [2, 3, 5]);
    assert_eq!(numbers(dir.path(), &unread), [6, 8, 13, 14]);
    let named = |segment: &Segment| SegmentSummary::load(segment).unwrap().unread().unwrap().len();
    assert_eq!(segments.iter().map(named).collect::<Vec<_>>(), [1, 3, 2, 0, 1]);
}

/// A line that is no record is reported, whatever is looked for.
#[test]
fn a_segment_with_a_line_that_cannot_be_read_is_not_excluded() {
    let dir = tempfile::tempdir().unwrap();
    let segments = ten(dir.path());
    let mut packed = std::fs::read(&segments[4].path).unwrap();
    packed.extend(zstd::bulk::compress(b"scribble\n", 1).unwrap());
    std::fs::write(&segments[4].path, packed).unwrap();
    ensure(&segments[4]).unwrap();
    let nobody = asking(r#"{"identity":"eve"}"#);
    let told: Vec<_> = read(dir.path(), &nobody)
        .unwrap()
        .map(|item| item.unwrap_err().to_string())
        .collect();
    assert!(told.len() == 1 && told[0].contains("000005.jsonl.zst, line 3"), "{told:?}");
    assert_eq!(left(&segments, &nobody), [5]);
}

#[test]
fn a_summary_that_does_not_fit_is_not_used_and_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let segment = &ten(dir.path())[0];
    let good = std::fs::read(path(segment)).unwrap();
    let fits = || SegmentSummary::load(segment).is_some();
    assert!(fits());
    for at in (0..good.len()).step_by(37).chain([good.len() - 1]) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(path(segment), bad).unwrap();
        assert!(!fits(), "byte {at}");
    }
    std::fs::write(path(segment), &good[..good.len() / 2]).unwrap();
    assert!(!fits());
    assert_eq!(numbers(dir.path(), &Filter::default()).len(), 20);
    // Of another version.
    let later = String::from_utf8(good[HASH_DIGITS..].to_vec())
        .unwrap()
        .replace(&format!(r#"{{"version":{VERSION}"#), r#"{"version":1"#);
    std::fs::write(path(segment), HEXLOWER.encode(&Sha256::digest(&later)) + &later).unwrap();
    assert!(!fits());
    // Of another segment with the same name.
    std::fs::write(path(segment), &good).unwrap();
    assert!(fits());
    pack(dir.path(), 1, &[record(1, ended(&who(1, "ana")))]);
    assert!(!fits());
    ensure(segment).unwrap();
    assert!(fits());
    // Without end; sparse, so that it takes no disk.
    let file = OpenOptions::new().write(true).open(path(segment)).unwrap();
    file.set_len(1 << 40).unwrap();
    assert!(!fits());
    remove(segment).unwrap();
    assert!(!fits() && !path(segment).exists());
}

/// A summary is signed by nobody: what it says may cost a search a record, and never a report.
#[test]
fn a_summary_that_hides_a_segment_does_so_for_nobody_who_wants_all() {
    let dir = tempfile::tempdir().unwrap();
    let segments = ten(dir.path());
    let mut forged = SegmentSummary::load(&segments[4]).unwrap();
    forged.values.insert(Field::Identity, BTreeSet::new());
    forged.save(&segments[4]).unwrap();
    let ben = asking(r#"{"identity":"ben"}"#);
    assert_eq!(numbers(dir.path(), &ben).len(), 0);
    assert_eq!(read_whole(dir.path(), &ben).unwrap().count(), 2);
}

#[tokio::test]
async fn following_skips_segments_too_and_goes_on_behind_them() {
    let dir = tempfile::tempdir().unwrap();
    ten(dir.path());
    let filter = asking(r#"{"identity":"ben"}"#);
    let following = SearchExtent {
        follow: true,
        last: Some(10),
        ..SearchExtent::default()
    };
    let mut found = follow(dir.path(), &filter, following).unwrap();
    assert_eq!(found.next().await.unwrap().unwrap().seq, 9);
    assert_eq!(found.next().await.unwrap().unwrap().seq, 10);
    // All segments behind are excluded; what comes is found all the same.
    let come = record(21, ended(&who(9, "ben"))).json() + "\n";
    std::fs::write(dir.path().join(segment::name(11)), come).unwrap();
    assert_eq!(found.next().await.unwrap().unwrap().seq, 21);
}
