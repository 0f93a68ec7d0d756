//! A thousand sessions of ten grants at one deadline, in every state a session can be in: none ends before it, none is left after
//! it, nothing begins after it. `make deadline`.

#![expect(
    clippy::print_stdout,
    clippy::cast_possible_wrap,
    reason = "figures are to be seen, and are small"
)]

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use postgres_protocol::message::frontend;
use tidegate::demo::testkit::{ServerOptions, TestGate, TestLogin};
use tokio::task::JoinHandle;

use crate::support::{Database, Frame, Frozen, Pipeline, Raw, TARGET, Witness, gate_before, records_of, start, trials};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Asleep,
    Computing,
    WaitingForLock,
    PipeliningQueries,
    PipeliningGroups,
    Reading,
    NotReading,
    CopyingIn,
    CopyingOut,
    InTransaction,
    Listening,
    HoldingLocks,
    Frozen,
}

use State::{
    Asleep, Computing, CopyingIn, CopyingOut, HoldingLocks, Idle, InTransaction, Listening, NotReading, PipeliningGroups,
    PipeliningQueries, Reading, WaitingForLock,
};

const STATES: [State; 14] = [
    Idle,
    Asleep,
    Computing,
    WaitingForLock,
    PipeliningQueries,
    PipeliningGroups,
    Reading,
    NotReading,
    CopyingIn,
    CopyingOut,
    InTransaction,
    Listening,
    HoldingLocks,
    State::Frozen,
];

/// When a client was told and let go; nothing where it was told nothing.
type Ended = Option<Timestamp>;

/// One that is told what it is at when all are in.
struct Session {
    raw: Raw,
    state: State,
    number: usize,
    pid: i32,
}

impl Session {
    /// Brings it into its state, and reads to its end.
    fn work(self, witness: &Witness) -> JoinHandle<Ended> {
        let insert = witness.insert(self.number, &format!("{:?}", self.state));
        let table = witness.table.clone();
        tokio::spawn(async move {
            let Self {
                mut raw, state, number, ..
            } = self;
            match state {
                Idle => {}
                Asleep | State::Frozen => raw.query("SELECT pg_sleep(6000)").await,
                Computing => raw.query("DO $$BEGIN LOOP PERFORM 1; END LOOP; END$$").await,
                WaitingForLock => raw.query("SELECT pg_advisory_lock(4711)").await,
                PipeliningQueries => return Some(Pipeline::Queries.keep_full(raw, insert).await.1),
                PipeliningGroups if number % 2 == 0 => return Some(Pipeline::Groups.keep_full(raw, insert).await.1),
                PipeliningGroups => return Some(Pipeline::OneGroup.keep_full(raw, insert).await.1),
                Reading => {
                    raw.query("SELECT repeat('x', 10000), pg_sleep(0.05) FROM generate_series(1, 1000000)")
                        .await;
                }
                NotReading => {
                    raw.query("SELECT repeat('x', 10000) FROM generate_series(1, 1000000)").await;
                    // It reads nothing until long after the end.
                    tokio::time::sleep(Duration::from_hours(1)).await;
                }
                CopyingIn => return copy_in(raw, &table, number).await,
                CopyingOut => {
                    raw.query("COPY (SELECT repeat('x', 1000), pg_sleep(0.05) FROM generate_series(1, 1000000)) TO STDOUT")
                        .await;
                }
                InTransaction => raw.query(&format!("BEGIN; {insert}")).await,
                Listening => raw.query("LISTEN news").await,
                HoldingLocks => {
                    raw.query(&format!("BEGIN; {insert}; SELECT pg_advisory_xact_lock(4711 + {number})"))
                        .await;
                }
            }
            to_its_end(raw).await
        })
    }
}

async fn copy_in(mut raw: Raw, table: &str, number: usize) -> Ended {
    raw.query(&format!("COPY {table} (session, kind) FROM STDIN")).await;
    // On a busy machine it may not have begun when it ends.
    if raw.until_any(b"GE").await.kind == b'E' {
        return Some(Timestamp::now());
    }
    let row = format!("{number}\tCopyingIn\n");
    loop {
        raw.write(|out| frontend::CopyData::new(row.as_bytes()).expect("data").write(out))
            .await;
        if let Ok(end) = tokio::time::timeout(Duration::from_millis(100), raw.until(b'E')).await {
            drop(end);
            return Some(Timestamp::now());
        }
    }
}

async fn to_its_end(mut raw: Raw) -> Ended {
    let mut told = None;
    while let Some(Frame { kind, .. }) = raw.torn_frame().await {
        told = (kind == b'E').then(Timestamp::now);
    }
    told
}

/// Lets them in, twenty at a time.
async fn let_in(gate: &TestGate, logins: &[TestLogin], sessions: usize) -> Vec<Session> {
    let mut all = Vec::new();
    while all.len() < sessions {
        let here = all.len()..(all.len() + 20).min(sessions);
        let coming = here.map(|number| async move {
            // All states before the second grant, so that few sessions have all of them, too.
            let state = STATES[number % STATES.len()];
            let login = &logins[number / STATES.len() % logins.len()];
            let raw = if state == NotReading {
                Raw::connect_narrow(gate).await
            } else {
                Raw::connect(gate).await
            };
            let raw = raw.login_with(login, &[("database", TARGET)]).await.expect("a session");
            let mut raw = raw.patiently(Duration::from_mins(5));
            let pid = raw.backend().await;
            Session { raw, state, number, pid }
        });
        all.extend(futures_util::future::join_all(coming).await);
    }
    all
}

/// Looks at the target directly: how many of the sessions' backends are there.
async fn left(watcher: &tokio_postgres::Client, except: &[i32]) -> i64 {
    let left = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'shop' AND usename = 'shop_app'
        AND application_name NOT LIKE 'tidegate (%' AND pid <> ALL ($1)";
    watcher.query_one(left, &[&except]).await.expect("the activity").get(0)
}

async fn round(database: &Database, number: u64, sessions: usize) {
    let gate = gate_before(database, "", "[limits]\nconnections = 2500\n");
    let watcher = database.server.client("postgres").await.expect("a connection");
    let witness = Witness::table(database, &format!("states_{number}")).await;
    let lead = Duration::from_secs(20 + sessions as u64 / 40);
    let deadline = Timestamp::now() + SignedDuration::try_from(lead).expect("short");
    let deadline = Timestamp::from_millisecond(deadline.as_millisecond()).expect("a time");
    let logins: Vec<_> = (0..10)
        .map(|n| {
            let most = sessions.to_string();
            let until = deadline.to_string();
            let more = ["--max-sessions", &most, "--deadline", &until];
            gate.grant(&format!("ci-{n}@example.com"), TARGET, "1h", &more)
                .expect("a grant")
        })
        .collect();
    let all = let_in(&gate, &logins, sessions).await;
    let frozen: Vec<i32> = all
        .iter()
        .filter(|one| one.state == State::Frozen)
        .map(|one| one.pid)
        .collect();
    let before = Duration::try_from(Timestamp::now().duration_until(deadline)).expect("in time");
    println!("{sessions} sessions are in, {before:.1?} before their deadline");
    // Those that take the processor do not do so for longer than they have to.
    tokio::time::sleep(before.saturating_sub(Duration::from_secs(13))).await;
    let working: Vec<_> = all.into_iter().map(|one| (one.state, one.work(&witness))).collect();
    let until = |before: u64| {
        let left = Duration::try_from(Timestamp::now().duration_until(deadline)).expect("in time");
        tokio::time::sleep(left.saturating_sub(Duration::from_secs(before)))
    };
    // The server is busy with a thousand: an answer takes seconds. Whoever ends after it, and early, is told so too soon.
    until(9).await;
    let there = left(&watcher, &[]).await;
    let early = sessions as i64 - there;
    assert!(Timestamp::now() < deadline, "the look before the deadline came too late");
    until(1).await;
    let ice = Frozen::now(frozen.clone());
    // Looked at all the time, not from the deadline on: nobody is to be gone before it.
    let mut none_left = None;
    while none_left.is_none() && Timestamp::now() < deadline + SignedDuration::from_mins(1) {
        let left = left(&watcher, &frozen).await;
        none_left = (left == 0).then(|| Timestamp::now().duration_since(deadline));
    }
    let none_left = none_left.expect("some are left a minute after the deadline");
    let thawed = Instant::now();
    drop(ice);
    while left(&watcher, &[]).await > 0 {
        assert!(
            thawed.elapsed() < Duration::from_mins(1),
            "some are left after they were thawed"
        );
    }
    let mut fatals = Vec::new();
    for (state, client) in working {
        if state == NotReading {
            client.abort();
            continue;
        }
        let told = client.await.expect("a client");
        fatals.push(
            told.unwrap_or_else(|| panic!("{state:?} was told nothing"))
                .duration_since(deadline),
        );
    }
    fatals.sort();
    assert!(fatals[0] >= SignedDuration::ZERO, "told before the deadline: {:?}", fatals[0]);
    let (executed, late, by) = witness.later_than(deadline, "%").await;
    let (uncommitted, ..) = witness.later_than(deadline, "InTransaction").await;
    let ends: usize = logins
        .iter()
        .map(|login| records_of(&gate, &login.grant, "session_ended").len())
        .sum();
    let millis = |from: SignedDuration| from.as_secs_f64() * 1000.0;
    println!(
        "{sessions} sessions of ten grants in {} states, {} of them frozen: early {early}, started after the deadline {late} of {executed} (last {by:.1} ms); FATAL {:.1} ms (p50), {:.1} ms (all); none left {:.1} ms after it; {ends} ends on record",
        STATES.len(),
        frozen.len(),
        millis(fatals[fatals.len() / 2]),
        millis(fatals[fatals.len() - 1]),
        millis(none_left),
    );
    assert_eq!(
        (early, late, uncommitted),
        (0, 0, 0),
        "early, started after the deadline, committed without a COMMIT"
    );
}

async fn rounds(sessions: usize) {
    let setting = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let database = start(&ServerOptions {
        settings: vec![
            setting("max_connections", "2000"),
            setting("max_locks_per_transaction", "128"),
        ],
        ..ServerOptions::default()
    });
    let begun = Instant::now();
    let long = Duration::from_mins(trials("TIDEGATE_MINUTES", 0));
    for number in 0.. {
        round(&database, number, sessions).await;
        if begun.elapsed() >= long {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_in_every_state_at_one_deadline() {
    rounds(56).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a thousand sessions want a release build and a machine of their own: make deadline"]
async fn a_thousand_sessions_in_every_state_at_one_deadline() {
    rounds(1000).await;
}
