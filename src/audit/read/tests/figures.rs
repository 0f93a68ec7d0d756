//! Figures of packing and searching ten million records, cold: processor time, sizes and times.
//!
//! `cargo test --release --lib audit::read::tests::figures -- --ignored --nocapture`; as root, or the files may be in memory.
//! `TIDEGATE_FIGURES` is a folder to keep the log in for the next time, `TIDEGATE_STATEMENTS` another number of statements.
#![expect(clippy::disallowed_methods, reason = "it measures, and says what it found")]

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use crate::audit::compactor::SegmentPacker;
use crate::audit::encode::LineBuffer;
use crate::audit::event::{Event, SessionStarted, Statement, StatementOutcome, Who};
use crate::audit::filter::Filter;
use crate::audit::record::EventName;
use crate::audit::sql_analysis::CommandClass;
use crate::audit::testing::{all, ended, outcome, statement, time, who};
use crate::audit::writer::SegmentWriter;
use crate::audit::{JournalSettings, read, segment, summary};
use crate::model::ids::{GrantId, SessionId};

/// Statements; each has an outcome.
fn statements() -> u64 {
    std::env::var("TIDEGATE_STATEMENTS").map_or(5_000_000, |number| number.parse().unwrap())
}

/// Sessions at once, and statements in each.
const ABREAST: u64 = 64;
const EACH: u64 = 100;

/// Numbers that look like chance and are the same each time (splitmix64).
fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn session(number: u64) -> Who {
    let bytes = mixed(number).to_le_bytes();
    let mut id = [0; 10];
    id[..8].copy_from_slice(&bytes);
    // Few people do most of the work.
    let person = (mixed(number ^ 7) % 200) * (mixed(number ^ 9) % 200) / 200;
    Who {
        session: SessionId::from_random(id),
        grant: GrantId::from_random(id),
        identity: format!("person{person}@example.com").parse().unwrap(),
        target: ["orders", "billing", "stock", "crm"][usize::try_from(number % 4).unwrap()]
            .parse()
            .unwrap(),
        profile: None,
    }
}

fn sql(number: u64) -> String {
    let chance = mixed(number ^ 0x4d);
    let (table, id) = (chance % 300 * (chance >> 20) % 300 % 300, chance >> 32);
    match chance >> 8 & 7 {
        _ if number % 340_000 == 99 => format!("SELECT * FROM table{table} WHERE note = 'Wolpertinger {id}'"),
        0..4 => format!(
            "SELECT t.id, t.name, t.created_at FROM shop.table{table} t JOIN customers c ON c.id = t.customer WHERE t.id = {id}"
        ),
        4 => format!("UPDATE table{table} SET state = 'done', changed_at = now() WHERE id = {id}"),
        5 => format!(
            "INSERT INTO table{table} (id, name, amount) VALUES ({id}, 'name {}', {})",
            id % 977,
            id % 10_007
        ),
        6 => format!(
            "SELECT count(*) FROM table{table} WHERE created_at > '2026-01-{:02}' AND state IN ('new', 'open')",
            id % 28 + 1
        ),
        _ => format!("DELETE FROM table{table} WHERE id = {id} RETURNING id"),
    }
}

/// Returns the processor time of this thread, in ticks of ten milliseconds (proc_pid_stat(5)).
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    let fields = stat.rsplit(')').next().unwrap().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

struct Generator {
    writer: SegmentWriter,
    lines: LineBuffer,
    dir: PathBuf,
    packer: SegmentPacker,
    began: Timestamp,
    records: u64,
    packed: u32,
    /// Processor time of packing.
    packing: Duration,
}

impl Generator {
    fn now(&self) -> Timestamp {
        // Ten million in ninety days.
        self.began + SignedDuration::from_millis(i64::try_from(self.records * 777).unwrap())
    }

    fn push(&mut self, event: &Event<'_>) {
        self.records += 1;
        let now = self.now();
        self.lines.push(now, event).unwrap();
        if self.lines.count() >= 2000 {
            self.writer.write(&[&self.lines], true, now).unwrap();
            self.lines.clear();
        }
    }

    fn pack_closed(&mut self, all: bool) {
        let segments = segment::list(&self.dir).unwrap();
        let closed = segments.len() - usize::from(!all);
        let before = processor_time();
        for segment in segments.iter().take(closed).filter(|segment| !segment.packed) {
            self.packer.pack(segment).unwrap();
            self.packed += 1;
        }
        self.packing += processor_time().saturating_sub(before);
    }
}

fn start(who: Who) -> Event<'static> {
    let event = all().into_iter().find(|event| matches!(event, Event::SessionStarted(_)));
    let Some(Event::SessionStarted(started)) = event else {
        unreachable!()
    };
    Event::SessionStarted(Cow::Owned(SessionStarted {
        who,
        ..started.into_owned()
    }))
}

fn answer(who: &Who, number: u64, total: u64) -> Event<'static> {
    let chance = mixed(total ^ 0x4d2);
    let code = match chance % 5000 {
        0 => Some("42501"),
        1..5 => Some("57014"),
        5..60 => Some("23505"),
        _ => None,
    };
    let Event::Outcome(outcome) = outcome(who, number, code) else {
        unreachable!()
    };
    Event::Outcome(StatementOutcome {
        rows: chance >> 20 & 63,
        duration_us: 200 + (chance >> 30 & 0xffff),
        ..outcome
    })
}

fn generate(dir: &Path) {
    let began = Instant::now();
    let settings = JournalSettings {
        dir: dir.to_owned(),
        ..JournalSettings::in_folder(dir)
    };
    let mut generator = Generator {
        writer: SegmentWriter::open(
            &settings,
            &crate::audit::RememberedTip::NotAsked,
            time(0),
            &mut LineBuffer::default(),
        )
        .unwrap(),
        lines: LineBuffer::default(),
        dir: dir.to_owned(),
        packer: SegmentPacker::default(),
        began: time(0),
        records: 0,
        packed: 0,
        packing: Duration::ZERO,
    };
    let mut total = 0;
    for round in 0..=statements() / ABREAST / EACH {
        let sessions: Vec<_> = (0..ABREAST).map(|at| session(round * ABREAST + at)).collect();
        for who in &sessions {
            generator.push(&start(who.clone()));
        }
        for number in 1..=EACH {
            // All ask, then all are answered: as deep as it can be.
            for who in &sessions {
                total += 1;
                let Event::Statement(asked) = statement(who, number, &sql(total), &[]) else {
                    unreachable!()
                };
                generator.push(&Event::Statement(Statement { ..asked }));
            }
            for (at, who) in (1..).zip(&sessions) {
                generator.push(&answer(who, number, total - ABREAST + at));
            }
        }
        for who in &sessions {
            generator.push(&ended(who));
        }
        if round % 16 == 0 {
            generator.pack_closed(false);
        }
    }
    let now = generator.now();
    generator.writer.write(&[&generator.lines], true, now).unwrap();
    generator.pack_closed(true);
    println!(
        "{} records in {} segments, written and packed in {:?}; packing took {} ns of processor time a record",
        generator.records,
        generator.packed,
        began.elapsed(),
        generator.packing.as_nanos() / u128::from(generator.records)
    );
}

fn sizes(dir: &Path) -> (u64, u64) {
    let size = |path: &Path| std::fs::metadata(path).unwrap().len();
    let segments = segment::list(dir).unwrap();
    segments.iter().fold((0, 0), |(log, summaries), segment| {
        (log + size(&segment.path), summaries + size(&summary::path(segment)))
    })
}

fn cold() -> bool {
    rustix::fs::sync();
    std::fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}

#[test]
#[ignore = "ten million records: minutes, and some hundred megabytes"]
#[expect(clippy::too_many_lines, reason = "one measurement after the other")]
fn ten_million_records() {
    let kept = std::env::var_os("TIDEGATE_FIGURES");
    let temporary = tempfile::tempdir().unwrap();
    let dir = kept.map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    if !dir.join("audit-000001.jsonl.zst").exists() {
        generate(&dir);
    }
    let (log, summaries) = sizes(&dir);
    println!("packed log {} MB, summaries {} kB", log / 1_000_000, summaries / 1_000);
    let one = session(statements() * 3 / 500);
    let filter = Filter::default;
    let day = |day: i64| Some(time(day * 86_400));
    let searches = [
        (
            "identity and SQLSTATE",
            Filter {
                identity: Some("person150@example.com".parse().unwrap()),
                sqlstate: Some("42501".to_owned()),
                ..filter()
            },
        ),
        (
            "busy identity and SQLSTATE",
            Filter {
                identity: Some("person3@example.com".parse().unwrap()),
                sqlstate: Some("42501".to_owned()),
                ..filter()
            },
        ),
        (
            "table in three days",
            Filter {
                table: Some("shop.table17".parse().unwrap()),
                since: day(40),
                until: day(43),
                ..filter()
            },
        ),
        (
            "rare text",
            Filter {
                text: Some("wolpertinger".to_owned()),
                ..filter()
            },
        ),
        (
            "session",
            Filter {
                session: Some(one.session.clone()),
                ..filter()
            },
        ),
        (
            "grant",
            Filter {
                grant: Some(one.grant),
                ..filter()
            },
        ),
        (
            "everything of an identity in a day",
            Filter {
                identity: Some(one.identity),
                since: day(50),
                until: day(51),
                ..filter()
            },
        ),
        (
            "nobody",
            Filter {
                identity: Some(who(1, "eve").identity),
                ..filter()
            },
        ),
        (
            "SQLSTATE alone",
            Filter {
                sqlstate: Some("42501".to_owned()),
                ..filter()
            },
        ),
        (
            "SQLSTATE alone",
            Filter {
                sqlstate: Some("57014".to_owned()),
                ..filter()
            },
        ),
        (
            "common SQLSTATE",
            Filter {
                sqlstate: Some("23505".to_owned()),
                ..filter()
            },
        ),
        (
            "slow statements",
            Filter {
                min_duration_us: Some(65_700),
                ..filter()
            },
        ),
        (
            "text",
            Filter {
                text: Some("'Name 97'".to_owned()),
                ..filter()
            },
        ),
        (
            "table",
            Filter {
                table: Some("table299".parse().unwrap()),
                ..filter()
            },
        ),
        (
            "what could not be parsed",
            Filter {
                unread: true,
                ..filter()
            },
        ),
        (
            "deletes of an hour",
            Filter {
                class: Some(CommandClass::Delete),
                since: day(30),
                until: Some(time(30 * 86_400 + 3_600)),
                ..filter()
            },
        ),
        (
            "commands that change tables",
            Filter {
                class: Some(CommandClass::Ddl),
                ..filter()
            },
        ),
        (
            "endings",
            Filter {
                event: Some(EventName::SessionEnded),
                ..filter()
            },
        ),
    ];
    for (name, filter) in searches {
        let mut times = [Duration::ZERO; 3];
        let mut found = 0;
        let mut dropped = true;
        for time in &mut times {
            dropped &= cold();
            let began = Instant::now();
            found = read(&dir, &filter).unwrap().map(Result::unwrap).count();
            *time = began.elapsed();
        }
        println!("{name}: {found} records in {times:?}{}", if dropped { ", cold" } else { "" });
    }
}
