//! How long people wait: from a wish to its first row, from an approval to the prompt, from a change of a grant to two hundred
//! sessions under it; and that a long past makes none of it longer.
//!
//! As a part of all tests the bounds are generous, for others use the same cores. The promised figures are in the tests that
//! `make figures` runs, alone and in a release build.
#![expect(clippy::print_stdout, reason = "figures are to be seen")]

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tidegate::demo::testkit::{TestGate, TestLogin};
use tokio::sync::mpsc;

use crate::access::{Person, TOM, shipped_with};
use crate::deadline::without_gate;
use crate::support::{ANA, Raw, TARGET, Told, database, eventually, gate, psql_command, records_of, within};
use crate::waiting::call;

/// The promises.
const FIRST_ROW: Duration = Duration::from_millis(300);
const PROMPT: Duration = Duration::from_millis(200);
const REACHED: Duration = Duration::from_millis(100);
/// What is asked for beside other tests, without optimisation.
const GENEROUS: Duration = Duration::from_secs(5);

/// How long something took, each time.
struct Times(Vec<Duration>);

impl Times {
    fn median(&self) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort();
        sorted[sorted.len() / 2]
    }

    fn worst(&self) -> Duration {
        *self.0.iter().max().expect("some")
    }

    fn print(self, what: &str) -> Self {
        println!(
            "{what}: median {:.1} ms, worst {:.1} ms of {}",
            millis(self.median()),
            millis(self.worst()),
            self.0.len()
        );
        self
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// A gate, a tester, and a lead who approves.
struct Team {
    gate: TestGate,
    ana: Person,
    tom: Person,
}

impl Team {
    fn new() -> Self {
        let gate = shipped_with("[access]\nrequests_per_minute = 10000\n");
        let (ana, tom) = (Person::new(&gate, ANA, "qa"), Person::new(&gate, TOM, "leads"));
        Self { gate, ana, tom }
    }

    /// From the command to psql's first row, by a new grant each time.
    fn first_rows(&self, runs: usize) -> Times {
        let psql = [
            &["psql", TARGET, "--for", "10m", "--reason", "a figure", "--release", "--"][..],
            &["-XAtc", "select 1"],
        ]
        .concat();
        let times = (0..runs).map(|_| {
            let begun = Instant::now();
            let mut running = self.ana.start(&psql, Stdio::null());
            let mut line = String::new();
            let output = running.stdout.take().expect("its output");
            BufReader::new(output).read_line(&mut line).expect("text");
            let took = begun.elapsed();
            let ended = running.wait_with_output().expect("psql ends");
            assert!(ended.status.success() && line == "1\n", "{line:?}, {ended:?}");
            took
        });
        Times(times.collect())
    }

    /// From the approver's yes to the first row of the psql that waits for it, which comes after its prompt would.
    async fn prompts(&self, runs: usize, wait: impl Fn(&Self) -> Command) -> Times {
        let mut times = Vec::new();
        for _ in 0..runs {
            let mut command = wait(self);
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut psql = command.spawn().expect("psql starts");
            let mut errors = BufReader::new(psql.stderr.take().expect("its errors")).lines();
            // It says what it waits for; both say the request's id.
            let request = errors
                .find_map(|line| {
                    let line = line.expect("text");
                    let place = line.find("rq_")?;
                    Some(line[place..place + 13].to_owned())
                })
                .expect("it waits");
            let begun = Instant::now();
            let approve = format!("/v1/requests/{request}/approve");
            let answer = call(&self.gate, &self.tom.token(), "POST", &approve, &json!({})).await;
            let mut line = String::new();
            let mut output = BufReader::new(psql.stdout.take().expect("its output"));
            output.read_line(&mut line).expect("text");
            times.push(begun.elapsed());
            assert_eq!(line, "in\n", "{:?}", errors.collect::<Vec<_>>());
            assert!(psql.wait().expect("psql ends").success());
            let grant = answer["outcome"]["grant"].as_str().expect("a grant");
            let release = format!("/v1/grants/{grant}/release");
            call(&self.gate, &self.ana.token(), "POST", &release, &json!({})).await;
        }
        Times(times)
    }

    /// Plain psql, with nothing installed.
    fn plain(&self) -> Command {
        let (token, dbname) = (self.ana.token(), format!("{TARGET}/read-write"));
        psql_command(&self.gate, ANA, &token, &dbname, "-c tidegate.reason=figure", "SELECT 'in'")
    }

    /// `tidegate psql`, which waits by asking the gate for news.
    fn ours(&self) -> Command {
        let wish = [
            "psql",
            TARGET,
            "--profile",
            "read-write",
            "--for",
            "10m",
            "--reason",
            "a figure",
        ];
        self.ana.command(&[&wish[..], &["--", "-XAtc", "SELECT 'in'"]].concat())
    }

    /// All that a long past could slow down.
    async fn figures(&self, runs: usize, when: &str) -> [Times; 3] {
        let rows = self
            .first_rows(runs)
            .print(&format!("{when}: wish to first row, tidegate psql"));
        let plain = self.prompts(runs, Self::plain).await;
        let plain = plain.print(&format!("{when}: approval to the first row of the psql that waits"));
        let ours = self.prompts(runs, Self::ours).await;
        let ours = ours.print(&format!("{when}: approval to the first row of the tidegate psql that waits"));
        [rows, plain, ours]
    }

    /// Stops the gate, does something to its store, and starts it again; how long the start takes.
    async fn started_again(&mut self, meanwhile: impl FnOnce(&rusqlite::Connection)) -> Duration {
        self.gate.terminate().expect("SIGTERM");
        eventually("it stops", async || self.gate.ended().then_some(())).await;
        let store = rusqlite::Connection::open(self.gate.folder().join("state/ledger.sqlite")).expect("the store");
        meanwhile(&store);
        drop(store);
        let begun = Instant::now();
        self.gate.start_again().expect("it starts");
        begun.elapsed()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn people_do_not_wait_for_the_gate() {
    let team = Team::new();
    for times in team.figures(2, "beside other tests").await {
        assert!(times.worst() < GENEROUS);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a figure of a quiet machine and a release build: make figures"]
async fn the_promised_waiting() {
    let [rows, plain, ours] = Team::new().figures(20, "20 runs").await;
    assert!(rows.worst() < FIRST_ROW);
    assert!(plain.worst() < PROMPT);
    assert!(ours.worst() < PROMPT);
}

/// A hundred thousand requests and grants of the last six days, with a login each, all of one busy identity: whoever comes with
/// one of the last seven days is told that it is over.
fn a_long_past(store: &rusqlite::Connection) {
    let begun = Instant::now();
    store
        .execute_batch(
            "BEGIN;
            CREATE TEMP TABLE one AS SELECT r.body, r.id AS request, g.id AS grant_id, g.identity, g.target, l.name, l.verifier
                FROM requests r JOIN grants g ON g.id = r.grant_id JOIN logins l ON l.grant_id = g.id LIMIT 1;
            CREATE TEMP TABLE past AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
                SELECT i, printf('rq_%010d', i) AS request, printf('gr_%010d', i) AS grant_id,
                (SELECT max(until) FROM grants) - 1000000 * (7200 + i * 5) AS until FROM n;
            INSERT INTO grants (id, identity, target, created_at, created_by, activate_by, window_us, max_sessions, activated_at,
                until, profile, request, verifier)
            SELECT p.grant_id, identity, target, until - 600000000, identity, until, 600000000, 10, until - 600000000, until,
                'read-only', p.request, '' FROM past p, one;
            INSERT INTO requests (id, identity, target, expires_at, activate_within_us, outcome, grant_id, unreviewed, key, body)
            SELECT p.request, identity, target, until, 1000000, 'approved', p.grant_id, 0, 'past-' || i,
                replace(replace(body, one.request, p.request), one.grant_id, p.grant_id) FROM past p, one;
            INSERT INTO logins (name, grant_id, verifier)
            SELECT replace(name, one.grant_id, p.grant_id), p.grant_id, verifier FROM past p, one;
            COMMIT;",
        )
        .expect("a past");
    println!(
        "a past of 100,000 requests, grants and logins is made in {:?}",
        begun.elapsed()
    );
}

/// The figures without a past and with a long one.
async fn with_a_long_past(runs: usize) -> ([Times; 3], [Times; 3], (Duration, Duration)) {
    let mut team = Team::new();
    let before = team.figures(runs, "no past").await;
    let first = team.started_again(|_| ()).await;
    let then = team.started_again(a_long_past).await;
    println!(
        "start of the gate: {:.1} ms without a past, {:.1} ms with 100,000 requests and grants",
        millis(first),
        millis(then)
    );
    let after = team.figures(runs, "100,000 past requests and grants").await;
    (before, after, (first, then))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_past_slows_nobody() {
    let (_, after, (_, start)) = with_a_long_past(1).await;
    assert!(start < GENEROUS * 2, "{start:?}");
    for times in after {
        assert!(times.worst() < GENEROUS);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a figure of a quiet machine and a release build: make figures"]
async fn a_long_past_slows_nothing() {
    let (before, after, starts) = with_a_long_past(20).await;
    for (times, most) in after.iter().zip([FIRST_ROW, PROMPT, PROMPT]) {
        assert!(times.worst() < most);
    }
    // As before, but for what one run differs from the next.
    for (before, after) in before.iter().zip(&after) {
        let most = before.median().mul_f64(1.25) + Duration::from_millis(5);
        assert!(after.median() < most, "{:?} and then {:?}", before.median(), after.median());
    }
    // A start reads nothing of what has ended.
    assert!(starts.1 < starts.0.mul_f64(1.5) + Duration::from_millis(20), "{starts:?}");
}

/// What a session's client heard, and when.
struct Heard {
    kind: u8,
    told: Told,
    at: Instant,
}

/// Sessions of one grant: half of them in `pg_sleep`, a quarter idle, a quarter in the middle of a result.
struct Crowd {
    gate: TestGate,
    login: TestLogin,
    heard: mpsc::UnboundedReceiver<Heard>,
    size: usize,
}

impl Crowd {
    async fn new(size: usize) -> Self {
        let gate = gate();
        let login = gate.grant(ANA, TARGET, "2h", &["--max-sessions", &size.to_string()]);
        let login = login.expect("a grant");
        let (ears, heard) = mpsc::unbounded_channel();
        for n in 0..size {
            let mut raw = Raw::session(&gate, &login).await;
            raw.occupy(n).await;
            tokio::spawn(listen(raw, ears.clone()));
        }
        Self {
            gate,
            login,
            heard,
            size,
        }
    }

    /// An operator's order about the grant; how long until it is answered, and until each client has heard of it.
    async fn order(&mut self, verb: &str, body: Value, kind: u8) -> (Duration, Times) {
        let admin = std::fs::read_to_string(self.gate.folder().join("state/admin.token")).expect("the admin token");
        let path = format!("/v1/grants/{}/{verb}", self.login.grant);
        let begun = Instant::now();
        let (gate, heard, size) = (&self.gate, &mut self.heard, self.size);
        let answered = async {
            call(gate, admin.trim(), "POST", &path, &body).await;
            begun.elapsed()
        };
        let all = async {
            let mut times = Vec::new();
            while times.len() < size {
                let heard = heard.recv().await.expect("somebody listens");
                assert_eq!(heard.kind, kind, "{:?}", heard.told);
                times.push(heard.at - begun);
            }
            Times(times)
        };
        within("all have heard of it", async { tokio::join!(answered, all) }).await
    }

    /// Several extensions, then the revocation; the time each client heard of them.
    async fn measure(mut self, extensions: usize) -> (Vec<Times>, Times) {
        let size = self.size;
        let mut extended = Vec::new();
        for _ in 0..extensions {
            let (answered, times) = self.order("extend", json!({"by_seconds": 60}), b'N').await;
            println!("extension: the operator has the answer after {:.1} ms", millis(answered));
            extended.push(times.print(&format!("extension: {size} clients have their NOTICE")));
        }
        let ordered = Timestamp::now();
        let (answered, revoked) = self.order("revoke", json!({"reason": "a figure"}), b'E').await;
        println!("revocation: the operator has the answer after {:.1} ms", millis(answered));
        let revoked = revoked.print(&format!("revocation: {size} clients have their FATAL"));
        let (gate, grant) = (&self.gate, &self.login.grant);
        let ends = eventually("all ends are on record", async || {
            let ends = records_of(gate, grant, "session_ended");
            (ends.len() == size).then_some(ends)
        })
        .await;
        let gone = |end: &Value| Duration::from_micros(end["overshoot_us"].as_u64().expect("measured"));
        Times(ends.iter().map(gone).collect()).print("revocation: a session that has noticed it has its backend gone");
        // Written once the backend is gone, so this is at most too much.
        let noticed = ends.iter().map(|end| {
            let written: Timestamp = end["time"].as_str().expect("a time").parse().expect("a time");
            let noticed = written.duration_since(ordered) - SignedDuration::try_from(gone(end)).expect("short");
            Duration::try_from(noticed).unwrap_or_default()
        });
        Times(noticed.collect()).print("revocation: the sessions have noticed it, at the latest");
        (extended, revoked)
    }
}

async fn listen(mut raw: Raw, ears: mpsc::UnboundedSender<Heard>) {
    while let Some(frame) = raw.frame().await {
        let at = Instant::now();
        if matches!(frame.kind, b'N' | b'E') {
            let (kind, told) = (frame.kind, Told::read(&frame.body));
            // Whoever listens has heard enough.
            let _ = ears.send(Heard { kind, told, at });
            if kind == b'E' {
                return;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn extensions_and_revocations_reach_everybody() {
    let (extended, revoked) = Crowd::new(60).await.measure(2).await;
    for times in extended.iter().chain([&revoked]) {
        assert!(times.worst() < GENEROUS);
    }
}

/// An extension reaches all of two hundred sessions in time. Of a revocation half of the clients know in that time; the rest is
/// what the database needs to end so many backends: as long as it takes alone, and half of that.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a figure of a quiet machine and a release build: make figures"]
async fn the_promised_reach() {
    let alone = without_gate(database(), 200).await;
    println!(
        "200 sessions: without a gate, pg_terminate_backend alone takes {:.1} ms",
        millis(alone)
    );
    let (extended, revoked) = Crowd::new(200).await.measure(5).await;
    for times in &extended {
        assert!(times.worst() < REACHED, "{:?}", times.worst());
    }
    assert!(revoked.median() < REACHED, "{:?}", revoked.median());
    assert!(revoked.worst() < REACHED.max(alone.mul_f64(1.5)), "{:?}", revoked.worst());
}
