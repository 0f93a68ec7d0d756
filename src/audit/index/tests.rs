//! Reading with an index is reading without it; an index that does not fit is not used.

mod figures;
mod hostile;

use std::fmt::Write as _;
use std::path::Path;

use proptest::prelude::*;

use super::build;
use super::*;
use crate::audit::event::{Event, Kind, Text};
use crate::audit::filter::{Filter, Selector};
use crate::audit::reading::Class;
use crate::audit::record::{EventName, Record};
use crate::audit::testing::{all, ended, outcome, record, statement, time, who};
use crate::audit::{Extent, follow, read, read_whole};

/// Puts records into a packed segment, so many to a block.
fn pack(dir: &Path, number: u32, records: &[Record], block: usize) -> Segment {
    let path = dir.join(format!("audit-{number:06}.jsonl.zst"));
    // Of an empty segment the keeper makes no packed copy; a frame of nothing is as near as it gets.
    let mut packed = if records.is_empty() {
        zstd::bulk::compress(b"", 3).unwrap()
    } else {
        Vec::new()
    };
    for records in records.chunks(block) {
        let lines: String = records.iter().map(|record| record.json() + "\n").collect();
        packed.extend(zstd::bulk::compress(lines.as_bytes(), 3).unwrap());
    }
    std::fs::write(&path, packed).unwrap();
    Segment::at(&path).unwrap()
}

fn numbers(dir: &Path, filter: &Filter) -> Vec<u64> {
    read(dir, filter).unwrap().map(|record| record.unwrap().seq).collect()
}

/// What the selector chooses from all records.
fn chosen(records: &[Record], filter: &Filter) -> Vec<u64> {
    let mut selector = Selector::new(filter.clone());
    for record in records {
        selector.know(&record.event);
    }
    let mut chosen = Vec::new();
    for record in records {
        selector.offer(record.clone(), |record| chosen.push(record.seq));
    }
    chosen
}

/// How many blocks are left for a filter.
fn left(segment: &Segment, filter: &Filter) -> usize {
    let mut blocks = open(segment, &Demand::of(filter, None, None)).unwrap().expect("an index");
    let mut left = 0;
    while blocks.next().unwrap().is_some() {
        left += 1;
    }
    left
}

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
fn history(acts: &[Act]) -> Vec<Record> {
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
                    events.push(statement(&who(*session, name(*at)), *asked, TEXTS[*text], parameters));
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
                        // The server may have run what was not read.
                        let tags = [&["SELECT 1"][..], &["DELETE 1"], &["SELECT 1", "UPDATE 2"], &[]];
                        let tags = tags[usize::try_from(asked % 4).unwrap()].iter();
                        outcome.tags = tags.map(|tag| Text((*tag).into())).collect();
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
        proptest::option::weighted(0.2, proptest::sample::select(Class::ALL)),
        proptest::option::weighted(0.1, proptest::sample::select(&[Kind::Query, Kind::Execute][..])),
        proptest::bool::weighted(0.1),
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
        after: None,
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
    #[test]
    fn reading_with_an_index_is_reading_without(
        acts in proptest::collection::vec(act(), 0..200),
        filters in proptest::collection::vec(filter(), 12),
        block in 1..12_usize,
        cuts in (0.0..1.0_f64, 0.0..1.0_f64),
    ) {
        let records = history(&acts);
        let dir = tempfile::tempdir().unwrap();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a place in a list")]
        let place = |part: f64| (part * records.len() as f64) as usize;
        let (first, second) = (place(cuts.0.min(cuts.1)), place(cuts.0.max(cuts.1)));
        let segments = [
            pack(dir.path(), 1, &records[..first], block),
            pack(dir.path(), 2, &records[first..second], block),
        ];
        let rest: String = records[second..].iter().map(|record| record.json() + "\n").collect();
        std::fs::write(dir.path().join("audit-000003.jsonl"), rest).unwrap();
        let without: Vec<_> = filters.iter().map(|filter| numbers(dir.path(), filter)).collect();
        for (filter, without) in filters.iter().zip(&without) {
            prop_assert_eq!(&chosen(&records, filter), without, "{:?}", filter);
        }
        for segment in &segments {
            make(segment).unwrap();
            let fits = Index::load(segment, &mut File::open(&segment.path).unwrap()).is_some();
            prop_assert!(fits);
        }
        for (filter, without) in filters.iter().zip(without) {
            prop_assert_eq!(numbers(dir.path(), filter), without, "{:?}", filter);
        }
    }
}

/// What the server says it ran is more than was read, so any word of the text may be a table's name.
#[test]
fn a_statement_that_the_server_contradicts_is_found_by_its_words() {
    let dir = tempfile::tempdir().unwrap();
    let ana = who(1, "ana");
    let mut told = outcome(&ana, 1, None);
    if let Event::Outcome(outcome) = &mut told {
        outcome.tags = vec![Text("SELECT 1".into()), Text("UPDATE 2".into())];
    }
    let events = [statement(&ana, 1, "SELECT 1 FROM \"Orders\"", &[]), told];
    let records: Vec<_> = (1..).zip(events).map(|(seq, event)| record(seq, event)).collect();
    let segment = pack(dir.path(), 1, &records, 1);
    let filters = [true, false].map(|unread| Filter {
        table: Some("orders".parse().unwrap()),
        unread,
        ..Filter::default()
    });
    assert!(filters.iter().all(|filter| numbers(dir.path(), filter) == [1, 2]));
    make(&segment).unwrap();
    assert!(filters.iter().all(|filter| numbers(dir.path(), filter) == [1, 2]));
}

/// A hundred blocks, each with a text of its own.
fn hundred(dir: &Path) -> Segment {
    let ana = who(1, "ana");
    let pair = |number: u64| {
        let sql = format!("SELECT * FROM t{number} WHERE word = 'needle{number}'");
        let code = (number == 50).then_some("42501");
        [statement(&ana, number, &sql, &[]), outcome(&ana, number, code)]
    };
    let records: Vec<_> = (1..)
        .zip((1..=100).flat_map(pair))
        .map(|(seq, event)| record(seq, event))
        .collect();
    let segment = pack(dir, 1, &records, 2);
    make(&segment).unwrap();
    segment
}

#[test]
fn blocks_that_have_nothing_are_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let segment = hundred(dir.path());
    let few = [
        Filter {
            text: Some("NEEDLE77".to_owned()),
            ..Filter::default()
        },
        Filter {
            table: Some("t50".parse().unwrap()),
            ..Filter::default()
        },
        Filter {
            sqlstate: Some("425".to_owned()),
            ..Filter::default()
        },
        Filter {
            since: Some(time(100)),
            until: Some(time(103)),
            ..Filter::default()
        },
        Filter {
            identity: Some("ben".parse().unwrap()),
            ..Filter::default()
        },
        Filter {
            min_duration_us: Some(1_000_000),
            ..Filter::default()
        },
    ];
    for filter in few {
        let left = left(&segment, &filter);
        assert!(left <= 6, "{left} blocks for {filter:?}");
    }
    assert_eq!(left(&segment, &Filter::default()), 100);
}

#[test]
fn a_place_in_a_file_is_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let segment = hundred(dir.path());
    // A line that is none, in the last block.
    let mut packed = std::fs::read(&segment.path).unwrap();
    packed.extend(zstd::bulk::compress(b"scribble\n", 3).unwrap());
    std::fs::write(&segment.path, packed).unwrap();
    let none = Filter {
        identity: Some("ben".parse().unwrap()),
        ..Filter::default()
    };
    let told = || {
        read(dir.path(), &none)
            .unwrap()
            .map(|item| item.unwrap_err().to_string())
            .collect::<Vec<_>>()
    };
    let without = told();
    assert_eq!(without.len(), 1);
    make(&segment).unwrap();
    assert_eq!(told(), without);
    assert!(without[0].contains("line 201"), "{without:?}");
}

#[test]
fn an_index_that_does_not_fit_is_not_used_and_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let segment = hundred(dir.path());
    let good = std::fs::read(path(&segment)).unwrap();
    let fits = || Index::load(&segment, &mut File::open(&segment.path).unwrap()).is_some();
    for at in (0..good.len()).step_by(97).chain([good.len() - 1]) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(path(&segment), bad).unwrap();
        assert!(!fits(), "byte {at}");
    }
    std::fs::write(path(&segment), &good[..good.len() / 2]).unwrap();
    assert!(!fits());
    assert_eq!(numbers(dir.path(), &Filter::default()).len(), 200);
    // Of another segment with the same name.
    std::fs::write(path(&segment), &good).unwrap();
    let packed = std::fs::read(&segment.path).unwrap();
    pack(dir.path(), 1, &[record(1, ended(&who(1, "ana")))], 1);
    assert!(!fits());
    assert!(Indexer::default().pass(dir.path()).unwrap());
    assert!(fits());
    std::fs::write(&segment.path, packed).unwrap();
    assert!(!fits());
    assert!(Indexer::default().pass(dir.path()).unwrap());
    assert!(fits());
    std::fs::remove_file(path(&segment)).unwrap();
    assert!(Indexer::default().pass(dir.path()).unwrap());
    assert!(fits());
}

/// A hundred kilobytes that would be gigabytes.
#[test]
fn what_unpacks_to_more_than_a_block_can_have_is_not_held() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit-000001.jsonl.zst");
    let mut packer = zstd::Encoder::new(File::create(&path).unwrap(), 1).unwrap();
    io::copy(&mut Read::take(io::repeat(0), 200 << 20), &mut packer).unwrap();
    packer.finish().unwrap();
    let index = build::build(&mut File::open(&path).unwrap()).unwrap();
    assert!(index.blocks.is_empty());
}

/// A segment packed by somebody else, in one frame that has nothing to do with lines.
#[test]
fn a_segment_in_other_frames_is_read_as_before() {
    let dir = tempfile::tempdir().unwrap();
    let records: Vec<_> = (1..).zip(all()).map(|(seq, event)| record(seq, event)).collect();
    let mut lines = String::new();
    for record in &records {
        writeln!(lines, "{}", record.json()).unwrap();
    }
    let (one, two) = lines.as_bytes().split_at(lines.len() / 3);
    let path = dir.path().join("audit-000001.jsonl.zst");
    std::fs::write(&path, [one, two].map(|part| zstd::bulk::compress(part, 3).unwrap()).concat()).unwrap();
    assert!(Indexer::default().pass(dir.path()).unwrap());
    assert!(exists(dir.path(), 1));
    assert_eq!(numbers(dir.path(), &Filter::default()).len(), records.len());
}

#[tokio::test]
async fn following_uses_it_too() {
    let dir = tempfile::tempdir().unwrap();
    hundred(dir.path());
    let filter = Filter {
        text: Some("needle77".to_owned()),
        ..Filter::default()
    };
    let mut found = follow(dir.path(), &filter, Extent::default()).unwrap();
    assert_eq!(found.next().await.unwrap().unwrap().seq, 153);
    assert_eq!(found.next().await.unwrap().unwrap().seq, 154);
}

/// An index is signed by nobody: what it says may cost a search a record, and never a report.
#[test]
fn an_index_that_leaves_a_block_out_does_so_for_nobody_who_wants_all() {
    let dir = tempfile::tempdir().unwrap();
    let segment = hundred(dir.path());
    make(&segment).unwrap();
    let mut packed = File::open(&segment.path).unwrap();
    let mut index = Index::load(&segment, &mut packed).unwrap();
    index.blocks.remove(50);
    index.save(&segment, Identity::of(&mut packed).unwrap()).unwrap();
    assert_eq!(left(&segment, &Filter::default()), 99);
    let until = Filter {
        until: Some(time(1_000_000)),
        ..Filter::default()
    };
    let whole = |filter| read_whole(dir.path(), filter).unwrap().count();
    assert_eq!((whole(&until), whole(&Filter::default())), (200, 200));
    assert_eq!(numbers(dir.path(), &Filter::default()).len(), 200);
}

/// A Parse that succeeds has no outcome; its block is passed over all the same.
#[test]
fn what_was_only_parsed_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let ana = who(1, "ana");
    let mut records = Vec::new();
    for number in 1..=100_u64 {
        let sql = format!("SELECT {number} FROM t");
        let mut parse = statement(&ana, number * 2 - 1, &sql, &[]);
        if let Event::Statement(statement) = &mut parse {
            statement.kind = Kind::Parse;
        }
        let code = (number == 50).then_some("42501");
        for event in [parse, statement(&ana, number * 2, &sql, &[]), outcome(&ana, number * 2, code)] {
            records.push(record(records.len() as u64 + 1, event));
        }
    }
    let segment = pack(dir.path(), 1, &records, 3);
    make(&segment).unwrap();
    let denied = Filter {
        sqlstate: Some("42501".to_owned()),
        ..Filter::default()
    };
    assert!(left(&segment, &denied) < 10, "of a hundred blocks");
}

/// A start finds all the segments there are; each pass takes some of them, and says whether it was all.
#[test]
fn many_segments_take_many_passes() {
    let dir = tempfile::tempdir().unwrap();
    for number in 1..=40 {
        pack(dir.path(), number, &[record(1, ended(&who(1, "ana")))], 1);
    }
    let mut indexer = Indexer::default();
    let passes: Vec<bool> = (0..4).map(|_| indexer.pass(dir.path()).unwrap()).collect();
    assert_eq!(passes, [false, false, true, true]);
    assert!((1..=40).all(|number| exists(dir.path(), number)));
}
