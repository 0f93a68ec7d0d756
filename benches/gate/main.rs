//! Benchmark of the gate's cost, side by side in one run: direct, a bare forwarder (the floor), the installed peers, the gate.
//!
//! Run `make bench`, or `cargo bench --bench gate -- --help`. Rates of one machine say nothing about another, so every figure is
//! a ratio within one round, or CPU time of the process in the middle. The results are written to benches/RESULTS.md.
#![allow(missing_docs, reason = "a program, not a library")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it talks to a person")]
#![allow(clippy::disallowed_methods, reason = "a bench must read the real clock")]
#![allow(clippy::indexing_slicing, reason = "whole ranges and array patterns only")]

mod forwarder;
mod idle;
mod lanes;
mod machine;
mod process;
mod report;
mod results;
mod work;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};

use crate::lanes::{Kind, Lane, Stage};
use crate::report::{BULK, LOGINS, QUERIES, Samples};
use crate::results::{Counted, Results};
use crate::work::{BULK_ROW, BULK_WORK, Tools, bulk_commands, fill_bulk};

/// Measures what the gate costs, and writes it down.
#[derive(Parser)]
struct Arguments {
    /// A short run of everything, to see that it works: about a minute, written to target/, not to be believed.
    #[arg(long)]
    smoke: bool,
    /// Seconds per point.
    #[arg(long, default_value_t = 5)]
    seconds: u32,
    /// Rounds; in each, every lane has its turn, in another order.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Suite::value_variants().to_vec())]
    suites: Vec<Suite>,
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Kind::value_variants().to_vec())]
    lanes: Vec<Kind>,
    /// pgbench's protocols.
    #[arg(long, value_delimiter = ',', default_values_t = ["simple", "extended", "prepared"].map(str::to_owned))]
    protocols: Vec<String>,
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 64, 256, 500])]
    clients: Vec<usize>,
    /// pgbench's scale.
    #[arg(long, default_value_t = 10)]
    scale: u32,
    /// Rows of the bulk table.
    #[arg(long, default_value_t = 500_000)]
    rows: u32,
    /// Idle sessions.
    #[arg(long, default_value_t = 500)]
    sessions: u32,
    /// The gate's program; else the one built with this bench.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_tidegate"))]
    gate: PathBuf,
    /// A gate built without a log (`--features unlogged`), to see what the log costs.
    #[arg(long)]
    unlogged: Option<PathBuf>,
    /// Where the results go.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/RESULTS.md"))]
    out: PathBuf,
    /// Given by `cargo bench`; means nothing here.
    #[arg(long, hide = true)]
    bench: bool,
    /// Be the bare forwarder instead: where to listen, where to forward to.
    #[arg(long, num_args = 2, hide = true)]
    forward: Option<Vec<String>>,
    #[arg(long, hide = true, requires = "key")]
    certificate: Option<PathBuf>,
    #[arg(long, hide = true)]
    key: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Suite {
    Memory,
    Queries,
    /// At half of direct's rate; needs the queries.
    Latency,
    Logins,
    Bulk,
    Syscalls,
}

fn main() -> Result<()> {
    let mut arguments = Arguments::parse();
    if let Some([listen, server]) = arguments.forward.as_deref() {
        let tls = match (&arguments.certificate, &arguments.key) {
            (Some(certificate), Some(key)) => Some(forwarder::acceptor(certificate, key)?),
            _ => None,
        };
        return tokio::runtime::Runtime::new()?.block_on(forwarder::forward(listen, server.clone(), tls));
    }
    if arguments.smoke {
        arguments.shorten();
    }
    let began = Instant::now();
    let results = arguments.measure()?;
    let text = results.page(&arguments.gate, &arguments.settings(began.elapsed()), &arguments.lanes);
    println!("\n{text}");
    std::fs::write(&arguments.out, text).with_context(|| arguments.out.display().to_string())?;
    println!("written to {}", arguments.out.display());
    Ok(())
}

impl Arguments {
    fn settings(&self, took: Duration) -> String {
        format!(
            "{} rounds, {} s per point, pgbench scale {}, {} bulk rows, {} idle sessions; the whole run took {} s.",
            self.rounds,
            self.seconds,
            self.scale,
            self.rows,
            self.sessions,
            took.as_secs()
        )
    }

    fn shorten(&mut self) {
        (self.seconds, self.rounds, self.scale, self.rows, self.sessions) = (1, 1, 1, 50_000, 50);
        self.clients = vec![8];
        self.protocols = vec!["simple".to_owned()];
        self.out = concat!(env!("CARGO_MANIFEST_DIR"), "/target/bench-smoke.md").into();
    }

    /// Returns the time that idle sessions are left alone before memory is read: a gate may return buffers on a timer.
    fn settle(&self) -> Duration {
        Duration::from_secs(self.seconds.min(3).into())
    }

    fn does(&self, suite: Suite) -> bool {
        self.suites.contains(&suite)
    }

    fn measure(&self) -> Result<Results> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        println!(
            "starting PostgreSQL, filling pgbench's tables (scale {}) and {} bulk rows",
            self.scale, self.rows
        );
        let stage = runtime.block_on(machine::stage(&self.gate, self.unlogged.as_deref(), self.sessions))?;
        let tools = Tools::new(&stage, self.seconds)?;
        let direct = Lane::start(Kind::Direct, &stage)?;
        work::output_of(
            direct
                .command(&tools.pgbench)
                .args(["-i", "-q", "-s", &self.scale.to_string()]),
        )?;
        fill_bulk(&tools, &direct, self.rows, &tools.bulk_file)?;
        let mut results = Results {
            keeps_noisy: self.smoke,
            ..Results::default()
        };
        if cfg!(debug_assertions) {
            results.note("**A debug build: none of this is to be believed.**".to_owned());
        }
        let lanes = self.start(&stage, &mut results);
        if self.does(Suite::Memory) {
            self.memory(&runtime, &stage, &lanes, &mut results);
        }
        if self.does(Suite::Syscalls) {
            self.syscalls(&tools, &stage, &lanes, &mut results);
        }
        for round in 0..self.rounds {
            self.round(round, &tools, &lanes, &mut results);
        }
        results.notes.extend(lanes.iter().filter_map(machine::audit_note));
        Ok(results)
    }

    /// Starts the lanes that are available, and notes the others.
    fn start(&self, stage: &Stage, results: &mut Results) -> Vec<Lane> {
        let mut lanes = Vec::new();
        for &kind in &self.lanes {
            match Lane::start(kind, stage) {
                Ok(lane) => lanes.push(lane),
                Err(error) => results.note(format!("{} is left out: {error:#}", kind.name())),
            }
        }
        lanes
    }

    fn round(&self, round: usize, tools: &Tools, lanes: &[Lane], results: &mut Results) {
        let bulk_file = &tools.bulk_file;
        let mut order: Vec<&Lane> = lanes.iter().collect();
        order.rotate_left(round % lanes.len().max(1));
        for &clients in self.clients.iter().filter(|_| self.does(Suite::Queries)) {
            let at: Vec<&Lane> = order.iter().copied().filter(|lane| lane.kind.takes(clients)).collect();
            for protocol in &self.protocols {
                let case = format!("{clients} {protocol}");
                results.keep(&case, &QUERIES, &at, |lane| tools.queries(lane, protocol, clients, round));
            }
        }
        let usual: Vec<&Lane> = order.into_iter().filter(|lane| !lane.kind.is_variant()).collect();
        for protocol in self.protocols.iter().filter(|_| self.does(Suite::Latency)) {
            let case = format!("8 {protocol}");
            let Some(rate) = Samples(&results.queries).rate(&case, Kind::Direct) else {
                continue;
            };
            let measure = |lane: &Lane| tools.latencies(lane, protocol, rate / 2.0, round);
            results.keep(&format!("{case} at half the rate"), &QUERIES, &usual, measure);
        }
        if self.does(Suite::Logins) {
            results.keep("logins", &LOGINS, &usual, |lane| tools.logins(lane, round));
        }
        let megabytes = f64::from(self.rows) * f64::from(BULK_ROW) / 1e6;
        for work in BULK_WORK.iter().filter(|_| self.does(Suite::Bulk)) {
            let commands = bulk_commands(work, bulk_file);
            results.keep(work, &BULK, &usual, |lane| {
                tools.bulk(lane, (work, &commands), megabytes, round)
            });
        }
    }

    /// Measures memory; each lane is a new process that has done nothing else yet.
    fn memory(&self, runtime: &tokio::runtime::Runtime, stage: &Stage, lanes: &[Lane], results: &mut Results) {
        for kind in lanes.iter().map(|lane| lane.kind).filter(|kind| *kind != Kind::Direct) {
            let measured = Lane::start(kind, stage)
                .and_then(|lane| runtime.block_on(idle::measure(&lane, stage, self.sessions, self.settle())));
            match measured {
                Ok(idle) => {
                    println!(
                        "memory  {:<16} {:>8.1} KiB per idle session, {:>8.1} after 1 MB",
                        kind.name(),
                        idle.fresh,
                        idle.used
                    );
                    results.idle.push(idle);
                }
                Err(error) => results.note(format!("memory, {}: {error:#}", kind.name())),
            }
        }
    }

    fn syscalls(&self, tools: &Tools, stage: &Stage, lanes: &[Lane], results: &mut Results) {
        for lane in lanes {
            let Some(pid) = lane.pid() else { continue };
            for (clients, protocol) in [(1, "simple"), (8, "simple"), (8, "prepared")] {
                if !self.clients.contains(&clients) || !self.protocols.iter().any(|name| name == protocol) {
                    continue;
                }
                let file = stage.folder.join("strace");
                let seconds = self.seconds.min(3);
                let counted = process::system_calls(pid, &file, || tools.count_queries(lane, protocol, clients, seconds));
                match counted {
                    Ok((queries, calls)) => {
                        let most: Vec<String> = calls
                            .by_name
                            .iter()
                            .take(5)
                            .map(|(name, count)| format!("{name} {:.2}", count / queries))
                            .collect();
                        println!(
                            "syscalls {:<16} {clients} {protocol}: {:.2} per query",
                            lane.kind.name(),
                            calls.total / queries
                        );
                        results.syscalls.push(Counted {
                            lane: lane.kind,
                            case: format!("{clients} {protocol}"),
                            per_query: calls.total / queries,
                            most: most.join(", "),
                        });
                    }
                    Err(error) => results.note(format!("system calls, {}: {error:#}", lane.kind.name())),
                }
            }
        }
    }
}
