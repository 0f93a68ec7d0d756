//! Workloads of the lanes, and the cost of each for the processes involved.
//!
//! It compares nothing: a sample is one measurement on one lane in one round.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::lanes::{Kind, Lane, Stage};
use crate::process::{Cpu, cpu, cpu_of_family, cpu_of_machine};

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
    /// CPU time of the process in the middle.
    pub(crate) middle: Cpu,
    /// CPU seconds of PostgreSQL.
    pub(crate) server: f64,
    /// Number of cores kept busy by anything but client, middle and server: a measure of the sample's reliability.
    pub(crate) others: f64,
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
struct Costs {
    middle: Cpu,
    server: f64,
    client: f64,
    machine: f64,
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
        let before = Instant::now();
        let (done, costs) = self.costing(lane, || {
            self.pgbench(lane, &[&arguments[..], &["-T", &self.seconds.to_string()]].concat())
        })?;
        let wall = before.elapsed().as_secs_f64();
        Ok(Sample {
            case: format!("{clients} {protocol}"),
            lane: lane.kind,
            round,
            amount: done.transactions,
            seconds: done.transactions / done.rate,
            middle: costs.middle.since(login.middle),
            server: (costs.server - login.server).max(0.0),
            others: costs.others(wall),
        })
    }

    /// Measures `pgbench -S -C`: a new connection for every query, eight at a time.
    pub(crate) fn logins(&self, lane: &Lane, round: usize) -> Result<Sample> {
        let seconds = self.seconds.to_string();
        let before = Instant::now();
        let (done, costs) = self.costing(lane, || {
            self.pgbench(lane, &["-S", "-n", "-C", "-c", "8", "-j", "2", "-T", &seconds])
        })?;
        let wall = before.elapsed().as_secs_f64();
        Ok(Sample {
            case: "login".to_owned(),
            lane: lane.kind,
            round,
            amount: done.transactions,
            seconds: done.transactions / done.rate,
            middle: costs.middle,
            server: costs.server,
            others: costs.others(wall),
        })
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
        let wall = before.elapsed().as_secs_f64();
        Ok(Sample {
            case: case.to_owned(),
            lane: lane.kind,
            round,
            amount: megabytes * times,
            seconds: wall,
            middle: costs.middle,
            server: costs.server,
            others: costs.others(wall),
        })
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
        let done = work()?;
        // The backends end just after the client; their time is counted once they are gone.
        std::thread::sleep(std::time::Duration::from_millis(100));
        let after = self.costs(lane.pid())?;
        let costs = Costs {
            middle: after.middle.since(before.middle),
            server: (after.server - before.server).max(0.0),
            client: after.client - before.client,
            machine: after.machine - before.machine,
        };
        Ok((done, costs))
    }

    fn costs(&self, middle: Option<i32>) -> Result<Costs> {
        let ourselves = rustix::process::getpid().as_raw_nonzero().get();
        Ok(Costs {
            middle: middle.map_or(Ok(Cpu::default()), |pid| cpu(pid, false))?,
            server: cpu_of_family(self.server)?,
            client: cpu(ourselves, true)?.total(),
            machine: cpu_of_machine()?,
        })
    }
}

impl Costs {
    fn others(&self, seconds: f64) -> f64 {
        ((self.machine - self.middle.total() - self.server - self.client) / seconds).max(0.0)
    }
}

/// Result that pgbench reports at its end.
struct Done {
    transactions: f64,
    /// Transactions per second.
    rate: f64,
}

impl Done {
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
