//! Workloads of the lanes, and the cost of each for the processes involved.
//!
//! It compares nothing: a sample is one measurement on one lane in one round.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::lanes::{Kind, Lane, Stage};
use crate::process::{Cpu, cpu, cpu_of_family, cpu_of_machine, cpu_of_threads, cpu_when_idle};

/// One measurement.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// Case that was measured: "8 simple".
    pub(crate) case: String,
    pub(crate) lane: Kind,
    pub(crate) round: usize,
    /// Amount of work: queries, logins, or MB.
    pub(crate) amount: f64,
    /// Duration, in seconds.
    pub(crate) seconds: f64,
    pub(crate) costs: Costs,
    /// Latencies in milliseconds at a fixed rate, the median and the 99th percentile, if they were measured.
    pub(crate) latency: Option<(f64, f64)>,
}

/// Programs and duration of the measurements.
pub(crate) struct Tools {
    pub(crate) pgbench: PathBuf,
    pub(crate) psql: PathBuf,
    pub(crate) seconds: u32,
    /// File that COPY in reads.
    pub(crate) bulk_file: PathBuf,
    server: i32,
}

/// CPU time of all processes, at one moment or between two.
#[derive(Debug, Clone)]
pub(crate) struct Costs {
    /// CPU time of the process in the middle while the work ran.
    pub(crate) middle: Cpu,
    /// CPU seconds of the process in the middle until it was idle again: with what it does later for this work.
    pub(crate) settled: f64,
    /// CPU seconds of its threads until then, by name.
    pub(crate) threads: BTreeMap<String, f64>,
    /// CPU seconds of PostgreSQL.
    pub(crate) server: f64,
    client: f64,
    machine: f64,
    /// Seconds that the work took.
    wall: f64,
}

impl Tools {
    pub(crate) fn new(stage: &Stage, seconds: u32) -> Result<Self> {
        let binaries = stage.server.binaries();
        let pid = std::fs::read_to_string(stage.server.folder().join("data/postmaster.pid"))?;
        Ok(Self {
            pgbench: binaries
                .tool("pgbench")
                .context("no pgbench (Debian: package postgresql-contrib or postgresql-15)")?,
            psql: binaries.tool("psql").context("no psql")?,
            seconds,
            bulk_file: stage.folder.join("bulk.copy"),
            server: pid
                .lines()
                .next()
                .unwrap_or_default()
                .trim()
                .parse()
                .context("postmaster.pid")?,
        })
    }

    /// Measures `pgbench -S` in one of its protocols. The cost of logging in is measured separately and subtracted, so that a
    /// short run with many clients does not count it as cost of queries.
    pub(crate) fn queries(&self, lane: &Lane, protocol: &str, clients: usize, round: usize) -> Result<Sample> {
        let threads = clients.min(2).to_string();
        let clients_text = clients.to_string();
        let arguments = ["-S", "-n", "-M", protocol, "-c", &clients_text, "-j", &threads];
        let (_, login) = self.costing(lane, || self.pgbench(lane, &[&arguments[..], &["-t", "1"]].concat()))?;
        let (done, mut costs) = self.costing(lane, || {
            self.pgbench(lane, &[&arguments[..], &["-T", &self.seconds.to_string()]].concat())
        })?;
        costs.middle = costs.middle.since(login.middle);
        costs.settled = (costs.settled - login.settled).max(0.0);
        costs.server = (costs.server - login.server).max(0.0);
        Ok(done.sample(lane, format!("{clients} {protocol}"), round, costs))
    }

    /// Measures latencies of eight clients that send `rate` transactions per second in all, whatever the answers take.
    pub(crate) fn latencies(&self, lane: &Lane, protocol: &str, rate: f64, round: usize) -> Result<Sample> {
        let logs = self.bulk_file.with_file_name("latencies");
        std::fs::create_dir_all(&logs)?;
        let (seconds, rate) = (self.seconds.to_string(), format!("{rate:.0}"));
        let prefix = logs.join("log");
        let arguments = ["-S", "-n", "-M", protocol, "-c", "8", "-j", "2", "-T", &seconds, "-R", &rate];
        let (done, costs) = self.costing(lane, || {
            let prefix = prefix.to_string_lossy();
            self.pgbench(lane, &[&arguments[..], &["-l", "--log-prefix", &prefix]].concat())
        })?;
        let latency = percentiles(&logs);
        std::fs::remove_dir_all(&logs)?;
        Ok(Sample {
            latency: Some(latency?),
            ..done.sample(lane, format!("8 {protocol}"), round, costs)
        })
    }

    /// Measures `pgbench -S -C`: a new connection for every query, eight at a time.
    pub(crate) fn logins(&self, lane: &Lane, round: usize) -> Result<Sample> {
        let seconds = self.seconds.to_string();
        let arguments = ["-S", "-n", "-C", "-c", "8", "-j", "2", "-T", &seconds];
        let (done, costs) = self.costing(lane, || self.pgbench(lane, &arguments))?;
        Ok(done.sample(lane, "login".to_owned(), round, costs))
    }

    /// Measures a run of psql, repeated for about half the set time. `megabytes` is the volume of one run.
    pub(crate) fn bulk(&self, lane: &Lane, (case, commands): (&str, &[String]), megabytes: f64, round: usize) -> Result<Sample> {
        let before = Instant::now();
        let mut times = 0.0;
        let ((), costs) = self.costing(lane, || {
            while times == 0.0 || before.elapsed().as_secs_f64() < f64::from(self.seconds) / 2.0 {
                self.psql(lane, commands)?;
                times += 1.0;
            }
            Ok(())
        })?;
        let done = Done {
            transactions: megabytes * times,
            rate: megabytes * times / costs.wall,
        };
        Ok(done.sample(lane, case.to_owned(), round, costs))
    }

    /// Runs queries for `seconds` and returns their number.
    pub(crate) fn count_queries(&self, lane: &Lane, protocol: &str, clients: usize, seconds: u32) -> Result<f64> {
        let (clients, seconds) = (clients.to_string(), seconds.to_string());
        Ok(self
            .pgbench(lane, &["-S", "-n", "-M", protocol, "-c", &clients, "-T", &seconds])?
            .transactions)
    }

    /// Runs psql commands in one session and discards their results.
    pub(crate) fn psql(&self, lane: &Lane, commands: &[String]) -> Result<()> {
        let mut command = lane.command(&self.psql);
        command.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null"]);
        command.args(commands.iter().flat_map(|sql| ["-c", sql]));
        output_of(&mut command).map(drop)
    }

    fn pgbench(&self, lane: &Lane, arguments: &[&str]) -> Result<Done> {
        let text = output_of(lane.command(&self.pgbench).args(arguments))?;
        let done = Done::read(&text).with_context(|| format!("unexpected output of pgbench:\n{text}"))?;
        lane.queries.set(lane.queries.get() + done.transactions);
        Ok(done)
    }

    fn costing<T>(&self, lane: &Lane, work: impl FnOnce() -> Result<T>) -> Result<(T, Costs)> {
        let before = self.costs(lane.pid())?;
        let began = Instant::now();
        let done = work()?;
        // The backends end just after the client; their time is counted once they are gone.
        std::thread::sleep(std::time::Duration::from_millis(100));
        let mut costs = self.costs(lane.pid())?;
        costs.wall = began.elapsed().as_secs_f64();
        costs.middle = costs.middle.since(before.middle);
        costs.settled = costs.middle.total();
        costs.server = (costs.server - before.server).max(0.0);
        costs.client -= before.client;
        costs.machine -= before.machine;
        if let Some(gate) = lane.pid().filter(|_| lane.audit_folder().is_some()) {
            costs.settled = cpu_when_idle(gate)?.since(before.middle).total();
            costs.threads = cpu_of_threads(gate)?;
        }
        for (name, seconds) in &mut costs.threads {
            *seconds -= before.threads.get(name).copied().unwrap_or_default();
        }
        Ok((done, costs))
    }

    fn costs(&self, middle: Option<i32>) -> Result<Costs> {
        let ourselves = rustix::process::getpid().as_raw_nonzero().get();
        Ok(Costs {
            middle: middle.map_or(Ok(Cpu::default()), |pid| cpu(pid, false))?,
            settled: 0.0,
            threads: middle.map_or(Ok(BTreeMap::new()), cpu_of_threads)?,
            server: cpu_of_family(self.server)?,
            client: cpu(ourselves, true)?.total(),
            machine: cpu_of_machine()?,
            wall: 0.0,
        })
    }
}

impl Costs {
    /// Returns the number of cores kept busy by anything but client, middle and server: a measure of the sample's reliability.
    pub(crate) fn others(&self) -> f64 {
        ((self.machine - self.middle.total() - self.server - self.client) / self.wall).max(0.0)
    }
}

/// Result that pgbench reports at its end.
struct Done {
    transactions: f64,
    /// Transactions per second.
    rate: f64,
}

impl Done {
    fn sample(self, lane: &Lane, case: String, round: usize, costs: Costs) -> Sample {
        Sample {
            case,
            lane: lane.kind,
            round,
            amount: self.transactions,
            seconds: self.transactions / self.rate,
            costs,
            latency: None,
        }
    }

    fn read(text: &str) -> Option<Self> {
        let after = |label: &str| {
            let rest = text.lines().find_map(|line| line.strip_prefix(label))?;
            rest.split([' ', '/']).find(|word| !word.is_empty())?.parse().ok()
        };
        Some(Self {
            transactions: after("number of transactions actually processed:")?,
            rate: after("tps =")?,
        })
    }
}

/// Returns the median and the 99th percentile of the latencies in pgbench's logs, in milliseconds. Both count from the moment a
/// transaction was due (pgbench, option --rate).
fn percentiles(logs: &Path) -> Result<(f64, f64)> {
    let mut micros = Vec::new();
    for file in std::fs::read_dir(logs)? {
        let text = std::fs::read_to_string(file?.path())?;
        // client_id transaction_no time script_no time_epoch time_us schedule_lag
        micros.extend(text.lines().filter_map(|line| line.split(' ').nth(2)?.parse::<f64>().ok()));
    }
    micros.sort_by(f64::total_cmp);
    let at = |hundredth: usize| micros.get(micros.len() * hundredth / 100).map(|micros| micros / 1e3);
    at(50).zip(at(99)).context("pgbench logged no transaction")
}

/// Runs a command to its end and returns its standard output.
pub(crate) fn output_of(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{}", program(command).display()))?;
    if !output.status.success() {
        bail!(
            "{} failed: {}",
            program(command).display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn program(command: &Command) -> &Path {
    Path::new(command.get_program())
}

/// Length of a bulk row as COPY text, in bytes; rates per MB use it.
pub(crate) const BULK_ROW: u32 = 100;
pub(crate) const BULK_WORK: [&str; 3] = ["SELECT", "COPY out", "COPY in"];

/// Returns the psql commands of a bulk workload; COPY in reads `file`.
pub(crate) fn bulk_commands(work: &str, file: &Path) -> Vec<String> {
    match work {
        "SELECT" => vec!["SELECT * FROM bulk".to_owned()],
        "COPY out" => vec!["COPY bulk TO STDOUT".to_owned()],
        _ => vec![
            "TRUNCATE bulk_in".to_owned(),
            format!("\\copy bulk_in FROM '{}'", file.display()),
        ],
    }
}

/// Creates the table that is read, an empty one like it, and the file that is copied into that.
pub(crate) fn fill_bulk(tools: &Tools, direct: &Lane, rows: u32, file: &Path) -> Result<()> {
    let make = format!(
        "CREATE TABLE bulk AS SELECT lpad(n::text, 9, '0') AS id, repeat('x', 79) AS filler, lpad((n % 1000)::text, 9, '0') AS price \
         FROM generate_series(1, {rows}) AS n"
    );
    let save = format!("\\copy bulk TO '{}'", file.display());
    let commands = [
        &make,
        "CREATE UNLOGGED TABLE bulk_in (LIKE bulk)",
        "VACUUM ANALYZE bulk",
        &save,
    ];
    tools.psql(direct, &commands.map(str::to_owned))
}
