//! A week of mixed traffic in a short time: memory, descriptors, threads and disk stay flat.
//!
//! Testers, people who ask and approve, strangers, operators and a failing database work at once, as fast as they can. Their
//! number is the load; the time is `TIDEGATE_MINUTES` (`make soak`), a few seconds as a part of all tests. In the end the gate has
//! to stand as it stood before: no session, no descriptor and no thread more than at rest. The log may grow with the statements
//! in it, and no faster in the end than in the beginning.
#![expect(clippy::print_stdout, reason = "figures are to be seen")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate::demo::testkit::{DriverConnection, TestGate, TestLogin};
use tokio::io::AsyncWriteExt as _;
use tokio_postgres::CancelToken;

use crate::support::{House, Random, TARGET, api, audit, database, eventually, psql_as, seed, suite, suite_in_clear, within};

const PEOPLE: [(&str, &str); 4] = [("ana", "qa"), ("bob", "qa"), ("lea", "leads"), ("leo", "leads")];
const TESTERS: usize = 6;
const REQUESTERS: usize = 2;
const STRANGERS: usize = 2;
/// Between two reloads, two searches, two backends that a database's operator ends.
const OPERATOR_PAUSE: Duration = Duration::from_millis(1_500);
/// Between two looks at what the gate uses.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(500);
/// Segments are small, so that closing and packing them is part of the traffic.
const SETTINGS: &str = "[audit]\nsegment_bytes = 1048576\n[access]\nrequests_per_minute = 10000\n";

/// Resources of the gate's process, and its log on disk.
#[derive(Debug, Clone, Copy, Default)]
struct Usage {
    resident_kib: u64,
    descriptors: u64,
    threads: u64,
    log_bytes: u64,
    /// Statements so far, to compare the log with.
    statements: u64,
}

impl Usage {
    fn now(gate: &TestGate, done: &Done) -> Self {
        let process = format!("/proc/{}", gate.pid().expect("a process"));
        let status = std::fs::read_to_string(format!("{process}/status")).expect("its status");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a field");
            let digits: String = line.chars().filter(char::is_ascii_digit).collect();
            digits.parse().expect("a number")
        };
        Self {
            resident_kib: field("VmRSS:"),
            descriptors: std::fs::read_dir(format!("{process}/fd")).expect("its descriptors").count() as u64,
            threads: field("Threads:"),
            log_bytes: size_of(&gate.audit_folder()),
            statements: done.statements.load(Ordering::Relaxed),
        }
    }

    /// The median of each resource.
    fn median(samples: &[Self]) -> Self {
        let of = |field: fn(&Self) -> u64| {
            let mut values: Vec<u64> = samples.iter().map(field).collect();
            values.sort_unstable();
            values.get(values.len() / 2).copied().unwrap_or_default()
        };
        Self {
            resident_kib: of(|sample| sample.resident_kib),
            descriptors: of(|sample| sample.descriptors),
            threads: of(|sample| sample.threads),
            log_bytes: of(|sample| sample.log_bytes),
            statements: of(|sample| sample.statements),
        }
    }
}

fn size_of(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).expect("a folder");
    // One that is removed meanwhile takes no space.
    files
        .filter_map(|file| file.ok()?.metadata().ok())
        .map(|file| file.len())
        .sum()
}

/// Counts of what was done.
#[derive(Debug, Default)]
struct Done {
    sessions: AtomicU64,
    statements: AtomicU64,
    requests: AtomicU64,
    refused: AtomicU64,
    reloads: AtomicU64,
    cancels: AtomicU64,
    ended_backends: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// A site under load.
struct Site {
    house: House,
    done: Done,
    until: Instant,
}

impl Site {
    fn open(&self) -> bool {
        Instant::now() < self.until
    }

    fn gate(&self) -> &TestGate {
        &self.house.gate
    }

    /// A grant by hand; nothing where the gate could not give one just now.
    async fn grant(&self, seconds: u64) -> Option<TestLogin> {
        let body = json!({"identity": "suite@example.com", "target": TARGET, "window_seconds": seconds, "reason": "soak"});
        let answer = api(self.gate(), self.house.token("operator"), "POST", "/v1/grants", &body).await;
        (answer.status == 201 || answer.status == 200)
            .then(|| TestLogin::read(&answer.body))
            .flatten()
    }

    /// Sessions under one grant, and an end of each kind.
    async fn test(&self, random: &mut Random) {
        let seconds = [1, 2, 600][random.below(3)];
        let Some(login) = self.grant(seconds).await else { return };
        for _ in 0..=random.below(4) {
            let session = if random.below(2) == 0 {
                suite(self.gate(), &login).await
            } else {
                suite_in_clear(self.gate(), &login).await
            };
            // Its window may have closed.
            let Ok(session) = session else {
                count(&self.done.refused);
                continue;
            };
            count(&self.done.sessions);
            self.work(session, random).await;
        }
        let token = self.house.token("operator");
        match random.below(3) {
            0 => {}
            1 => drop(
                api(
                    self.gate(),
                    token,
                    "POST",
                    &format!("/v1/grants/{}/revoke", login.grant),
                    &json!({"reason": "soak"}),
                )
                .await,
            ),
            _ => {
                let extend = json!({"by_seconds": 1, "reason": "soak"});
                drop(
                    api(
                        self.gate(),
                        token,
                        "POST",
                        &format!("/v1/grants/{}/extend", login.grant),
                        &extend,
                    )
                    .await,
                );
            }
        }
    }

    /// Statements of all kinds until one fails for good: the backend, the window or the grant has ended.
    async fn work(&self, session: DriverConnection, random: &mut Random) {
        let client = &session.client;
        for n in 0..=random.below(40) {
            let done = match random.below(9) {
                0 => client.simple_query("SELECT count(*) FROM orders; SELECT 1").await.map(drop),
                1 => client
                    .query("SELECT id, total FROM orders WHERE id < $1", &[&200_i32])
                    .await
                    .map(drop),
                2 => client
                    .simple_query(&format!("SELECT {n} /* {} */", random.next()))
                    .await
                    .map(drop),
                3 => {
                    client
                        .batch_execute("BEGIN; UPDATE orders SET total = total WHERE id = 1; ROLLBACK")
                        .await
                }
                4 => client.query("SELECT 1/0", &[]).await.map(drop),
                5 => client.simple_query("COPY orders TO STDOUT").await.map(drop),
                6 => self.cancelled(client, client.cancel_token()).await,
                7 => client.query("SELECT repeat('x', $1)", &[&200_000_i32]).await.map(drop),
                _ => match client.prepare("SELECT $1::int + $2::int").await {
                    Ok(statement) => client.query(&statement, &[&1_i32, &2_i32]).await.map(drop),
                    Err(error) => Err(error),
                },
            };
            count(&self.done.statements);
            if done.is_err() && client.is_closed() {
                return;
            }
        }
    }

    async fn cancelled(&self, client: &tokio_postgres::Client, token: CancelToken) -> Result<(), tokio_postgres::Error> {
        let gate = self.gate().address();
        let cancel = async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            let stream = tokio::net::TcpStream::connect(gate).await.expect("a connection");
            // An end without an answer is what a cancel gets.
            let _ = token.cancel_query_raw(stream, tokio_postgres::NoTls).await;
            count(&self.done.cancels);
        };
        let (done, ()) = tokio::join!(client.simple_query("SELECT pg_sleep(0.2)"), cancel);
        done.map(drop)
    }

    /// Requests through the API and by plain psql; approved, rejected, withdrawn, given back.
    async fn ask(&self, random: &mut Random) {
        let who = ["ana", "bob"][random.below(2)];
        count(&self.done.requests);
        if random.below(4) == 0 {
            let psql = psql_as(
                self.gate(),
                who,
                self.house.token(who),
                &format!("{TARGET}/read-only"),
                r"-c tidegate.reason=soak",
                "SELECT 1",
            );
            within("psql ends", psql.wait_with_output()).await.expect("psql");
            return;
        }
        let answer = self.house.ask(who, "read-write", None).await;
        let Some(request) = answer.body["id"].as_str().map(str::to_owned) else {
            return;
        };
        match random.below(3) {
            0 => drop(self.house.step(who, &request, "withdraw").await),
            1 => drop(self.house.step("lea", &request, "reject").await),
            _ => {
                let approved = self.house.step("leo", &request, "approve").await;
                if let Some(grant) = approved.body["outcome"]["grant"].as_str() {
                    let login = format!("/v1/grants/{grant}/login");
                    drop(self.house.call(who, "POST", &login, &json!({})).await);
                    let release = format!("/v1/grants/{grant}/release");
                    drop(self.house.call(who, "POST", &release, &json!({})).await);
                }
            }
        }
    }

    /// Garbage, silence and wrong secrets.
    async fn disturb(&self, random: &mut Random) {
        let Ok(mut stream) = tokio::net::TcpStream::connect(self.gate().address()).await else {
            return;
        };
        match random.below(4) {
            0 => drop(stream.write_all(&random.bytes(200)).await),
            1 => drop(stream.write_all(b"\0\0\0\x08\x04\xd2\x16\x2f").await),
            2 => drop(stream.write_all(b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x01\0\0\0\x02").await),
            _ => {
                let login = TestLogin {
                    grant: "gr_0000000000".to_owned(),
                    secret: tidegate::base::secret::Secret::new("wrong".to_owned()),
                };
                assert!(suite(self.gate(), &login).await.is_err(), "a stranger is in");
                count(&self.done.refused);
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    /// Reloads, searches, metrics, a proof of the log, and a database whose operator ends backends.
    async fn operate(&self) {
        self.gate().reload().expect("SIGHUP");
        count(&self.done.reloads);
        let operator = self.house.token("operator");
        for path in ["/v1/grants", "/v1/sessions", "/v1/requests", "/v1/targets"] {
            api(self.gate(), operator, "GET", path, &Value::Null).await.good();
        }
        let server = database().server.client("postgres").await.expect("a connection");
        let one = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = 'shop' AND usename = 'shop_app' AND state = 'active' AND query LIKE '%pg_sleep(0.2)%' LIMIT 1";
        let ended = server.query(one, &[]).await.expect("the activity");
        self.done.ended_backends.fetch_add(ended.len() as u64, Ordering::Relaxed);
        tokio::time::sleep(OPERATOR_PAUSE).await;
    }
}

/// Runs one kind of traffic until the time is over.
fn traffic<F>(site: &Arc<Site>, seed: u64, one: impl Fn(Arc<Site>, Random) -> F + Send + 'static) -> tokio::task::JoinHandle<()>
where
    F: Future<Output = Random> + Send,
{
    let site = Arc::clone(site);
    tokio::spawn(async move {
        let mut random = Random::new(seed);
        while site.open() {
            random = one(Arc::clone(&site), random).await;
        }
    })
}

async fn soak(time: Duration) -> (Arc<Site>, Usage, Vec<Usage>) {
    let seed = seed();
    println!("TIDEGATE_SEED={seed}");
    let house = House::open(&PEOPLE, SETTINGS, &[]).await;
    let site = Arc::new(Site {
        house,
        done: Done::default(),
        until: Instant::now() + time,
    });
    let rest = Usage::now(site.gate(), &site.done);
    let mut tasks = Vec::new();
    for n in 0..TESTERS as u64 {
        tasks.push(traffic(&site, seed ^ (n + 1), async |site: Arc<Site>, mut random| {
            site.test(&mut random).await;
            random
        }));
    }
    for n in 0..REQUESTERS as u64 {
        tasks.push(traffic(&site, seed ^ (n + 101), async |site: Arc<Site>, mut random| {
            site.ask(&mut random).await;
            random
        }));
    }
    for n in 0..STRANGERS as u64 {
        tasks.push(traffic(&site, seed ^ (n + 201), async |site: Arc<Site>, mut random| {
            site.disturb(&mut random).await;
            random
        }));
    }
    tasks.push(traffic(&site, seed, async |site: Arc<Site>, random| {
        site.operate().await;
        random
    }));
    let mut samples = Vec::new();
    while site.open() {
        samples.push(Usage::now(site.gate(), &site.done));
        tokio::time::sleep(SAMPLE_INTERVAL).await;
    }
    for task in tasks {
        task.await.expect("no traffic fails");
    }
    (site, rest, samples)
}

/// Waits until the gate uses no more than at rest, but for a few descriptors and threads that come and go.
async fn at_rest_again(site: &Site, rest: Usage) -> Usage {
    eventually("the gate is at rest again", async || {
        let now = Usage::now(site.gate(), &site.done);
        (now.descriptors <= rest.descriptors + 4 && now.threads <= rest.threads + 4).then_some(now)
    })
    .await
}

async fn soaked(time: Duration) -> (Usage, Usage) {
    let (site, rest, samples) = soak(time).await;
    let after = at_rest_again(&site, rest).await;
    let quarter = samples.len() / 4;
    let early = Usage::median(&samples[quarter..2 * quarter]);
    let late = Usage::median(&samples[3 * quarter..]);
    println!("{time:?}: {:?}", site.done);
    println!("at rest {rest:?}\nsecond quarter {early:?}\nlast quarter {late:?}\nat rest again {after:?}");
    let (code, report) = audit(site.gate(), &["verify"]);
    assert_eq!(code, Some(0), "{report:#}");
    (early, late)
}

#[tokio::test(flavor = "multi_thread")]
async fn mixed_traffic_leaves_the_gate_as_it_was() {
    soaked(Duration::from_secs(8)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a long run: make soak"]
async fn a_long_soak_is_flat() {
    let minutes = std::env::var("TIDEGATE_MINUTES").map_or(10, |minutes| minutes.parse().expect("minutes"));
    let (early, late) = soaked(Duration::from_mins(minutes)).await;
    assert!(
        late.resident_kib < early.resident_kib + early.resident_kib / 5 + 16 * 1024,
        "memory grows: {early:?}, {late:?}"
    );
    assert!(
        late.descriptors <= early.descriptors + 16,
        "descriptors grow: {early:?}, {late:?}"
    );
    assert!(late.threads <= early.threads + 8, "threads grow: {early:?}, {late:?}");
    let per_statement = |usage: &Usage| usage.log_bytes / usage.statements.max(1);
    assert!(
        per_statement(&late) <= per_statement(&early) + per_statement(&early) / 4,
        "the log grows faster than the traffic: {early:?}, {late:?}"
    );
}
