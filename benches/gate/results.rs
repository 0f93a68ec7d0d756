//! Results of one run, and the page written from them.
//!
//! It measures nothing.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;

use crate::idle::Idle;
use crate::lanes::{Kind, Lane};
use crate::machine;
use crate::report::{self, Aim, BULK, LOGINS, QUERIES, Samples, Units, number};
use crate::work::{BULK_WORK, Sample};

/// Protocols of pgbench.
const PROTOCOLS: [&str; 3] = ["simple", "extended", "prepared"];

/// Maximum foreign load of a round, in cores.
const FOREIGN_LOAD: f64 = 0.2;

/// Maximum number of attempts at a round without foreign load.
const ATTEMPTS: usize = 3;

/// All measurements of one run.
#[derive(Default)]
pub(crate) struct Results {
    pub(crate) queries: Vec<Sample>,
    pub(crate) logins: Vec<Sample>,
    pub(crate) bulk: Vec<Sample>,
    /// Queries at a fixed rate.
    pub(crate) latencies: Vec<Sample>,
    pub(crate) idle: Vec<Idle>,
    pub(crate) syscalls: Vec<Counted>,
    pub(crate) notes: Vec<String>,
    /// Keeps rounds with foreign load: a smoke run measures nothing.
    pub(crate) keeps_noisy: bool,
}

/// System calls of one lane.
pub(crate) struct Counted {
    pub(crate) lane: Kind,
    pub(crate) case: String,
    pub(crate) per_query: f64,
    /// Names and numbers of the most frequent ones.
    pub(crate) most: String,
}

impl Results {
    pub(crate) fn note(&mut self, note: String) {
        println!("note: {note}");
        self.notes.push(note);
    }

    /// Keeps the samples of one case from all lanes, measured one after another so that they can be compared, or notes which there are
    /// not. With foreign load above [`FOREIGN_LOAD`] they are discarded and measured again.
    pub(crate) fn keep(&mut self, case: &str, units: &Units, lanes: &[&Lane], measure: impl Fn(&Lane) -> Result<Sample>) {
        let mut foreign = 0.0;
        for _ in 0..ATTEMPTS {
            let measured: Vec<_> = lanes.iter().map(|lane| (lane.kind, measure(lane))).collect();
            let samples = measured.iter().filter_map(|(_, sample)| sample.as_ref().ok());
            foreign = samples.map(|sample| sample.costs.others()).fold(0.0, f64::max);
            if foreign <= FOREIGN_LOAD || self.keeps_noisy {
                for (lane, sample) in measured {
                    match sample {
                        Ok(sample) => self.keep_sample(sample, units),
                        Err(error) => self.note(format!("{}: {error:#}", lane.name())),
                    }
                }
                return;
            }
            println!("{case}: something else kept {foreign:.2} cores busy; this attempt is discarded");
        }
        self.note(format!(
            "{case}: something else kept {foreign:.2} cores busy in the last of {ATTEMPTS} attempts: the round is discarded."
        ));
    }

    fn keep_sample(&mut self, sample: Sample, units: &Units) {
        println!(
            "round {} {:<16} {:<20} {:>10.0} {}  {:>8.2} {}, settled",
            sample.round + 1,
            sample.lane.name(),
            sample.case,
            sample.amount / sample.seconds,
            units.rate,
            sample.costs.settled / sample.amount * units.scale,
            units.cpu
        );
        match units.rate {
            _ if sample.latency.is_some() => self.latencies.push(sample),
            rate if rate == QUERIES.rate => self.queries.push(sample),
            rate if rate == LOGINS.rate => self.logins.push(sample),
            _ => self.bulk.push(sample),
        }
    }

    /// Returns the page; `settings` describes the duration and extent of the run.
    pub(crate) fn page(&self, gate: &Path, settings: &str, lanes: &[Kind]) -> String {
        let mut text = machine::heading(gate);
        let _ = writeln!(text, "{settings}\n");
        let _ = writeln!(text, "## Aims\n\n{}", report::aims(&self.aims()));
        text.push_str(include_str!("method.md"));
        for note in &self.notes {
            let _ = writeln!(text, "- {note}");
        }
        for (title, samples, units) in [
            ("Queries: pgbench -S", &self.queries, QUERIES),
            ("Logins: pgbench -S -C, 8 clients", &self.logins, LOGINS),
            ("Bulk, through psql", &self.bulk, BULK),
        ] {
            if !samples.is_empty() {
                let _ = write!(text, "\n## {title}\n\n{}", Samples(samples).table(&units, lanes));
            }
        }
        if !self.queries.is_empty() {
            let threads = Samples(&self.queries).threads(&QUERIES, lanes);
            let _ = write!(text, "\n## Threads of the gate, settled, last round\n\n{threads}");
        }
        if !self.latencies.is_empty() {
            let table = Samples(&self.latencies).latencies(lanes);
            let _ = write!(text, "\n## Latency at half of direct's rate\n\n{table}");
        }
        self.memory(&mut text);
        self.system_calls(&mut text);
        text
    }

    fn memory(&self, text: &mut String) {
        if !self.idle.is_empty() {
            text.push_str("\n## Memory\n\n| lane | KiB per idle session | after each fetched 1 MB |\n|---|---|---|\n");
        }
        for idle in &self.idle {
            let _ = writeln!(text, "| {} | {:.1} | {:.1} |", idle.lane.name(), idle.fresh, idle.used);
        }
    }

    fn system_calls(&self, text: &mut String) {
        if !self.syscalls.is_empty() {
            text.push_str("\n## System calls (strace -c -f)\n\n");
            text.push_str("| clients, protocol | lane | per query | most frequent |\n|---|---|---|---|\n");
        }
        for Counted {
            lane,
            case,
            per_query,
            most,
        } in &self.syscalls
        {
            let _ = writeln!(
                text,
                "| {case} | {} | {} | {most} |",
                lane.name(),
                number(Some(*per_query), 2)
            );
        }
    }

    /// Returns the aims for the gate with their measured values.
    fn aims(&self) -> Vec<Aim> {
        let (queries, logins, bulk) = (Samples(&self.queries), Samples(&self.logins), Samples(&self.bulk));
        let mut aims = Vec::new();
        for (lane, memory, login) in [(Kind::Gate, 6.0, 0.7), (Kind::GateTls, 16.0, 1.2)] {
            let mut aim = |what: String, wanted: f64, got: Option<f64>, more: bool| {
                let what = format!("{}: {what}", lane.name());
                aims.push(Aim { what, wanted, got, more });
            };
            for protocol in PROTOCOLS {
                for (clients, path, settled) in [(1, 1.25, 1.25), (8, 1.12, 1.2), (64, 1.25, 1.25)] {
                    let case = format!("{clients} {protocol}");
                    let of = format!("to the floor's, {clients} clients, {protocol}");
                    aim(format!("CPU per query {of}"), path, queries.cpu_to_floor(&case, lane), false);
                    aim(
                        format!("settled CPU per query {of}"),
                        settled,
                        queries.settled_to_floor(&case, lane),
                        false,
                    );
                }
                let case = format!("8 {protocol}");
                let background = queries.background(&case, lane).map(|seconds| seconds * 1e6);
                aim(
                    format!("background, µs per query, 8 clients, {protocol}"),
                    3.0,
                    background,
                    false,
                );
                let rate = queries.rate_to_floor(&case, lane);
                aim(format!("throughput to the floor's, 8 clients, {protocol}"), 0.95, rate, true);
            }
            for case in BULK_WORK {
                let cpu = bulk.cpu_to_floor(case, lane);
                aim(format!("CPU of {case} to the floor's"), 1.2, cpu, false);
            }
            let idle = self.idle.iter().find(|idle| idle.lane == lane);
            aim("KiB per idle session".to_owned(), memory, idle.map(|idle| idle.fresh), false);
            let used = idle.map(|idle| idle.used);
            aim("KiB per idle session that fetched 1 MB".to_owned(), memory, used, false);
            let cpu = logins.cpu("login", lane).map(|seconds| seconds * 1e3);
            aim("CPU per login (SCRAM) and query, ms".to_owned(), login, cpu, false);
        }
        aims.extend(self.setting_aims());
        aims
    }

    /// Returns the aims for what a setting may cost.
    fn setting_aims(&self) -> impl Iterator<Item = Aim> {
        let settings = [
            (
                Kind::GateRails,
                Kind::GateRoles,
                "8 simple",
                "texts never seen, of a known shape",
                3.0,
            ),
            (Kind::GateRails, Kind::GateRoles, "8 prepared", "texts seen before", 3.0),
            (Kind::GateForward, Kind::Gate, "8 simple", "forwarding", 1.0),
            (Kind::GateForward, Kind::Gate, "8 prepared", "forwarding", 1.0),
        ];
        settings.into_iter().map(|(lane, other, case, what, wanted)| Aim {
            what: format!("{}: {what}, µs per query more, {case}", lane.name()),
            wanted,
            got: Samples(&self.queries)
                .settled_beyond(case, lane, other)
                .map(|seconds| seconds * 1e6),
            more: false,
        })
    }
}
