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

/// All measurements of one run.
#[derive(Default)]
pub(crate) struct Results {
    pub(crate) queries: Vec<Sample>,
    pub(crate) logins: Vec<Sample>,
    pub(crate) bulk: Vec<Sample>,
    pub(crate) idle: Vec<Idle>,
    pub(crate) syscalls: Vec<Counted>,
    pub(crate) notes: Vec<String>,
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

    /// Keeps a sample of the work with these units, or notes why there is none.
    pub(crate) fn keep(&mut self, sample: Result<Sample>, lane: &Lane, units: &Units) {
        let name = lane.kind.name();
        let sample = match sample {
            Ok(sample) => sample,
            Err(error) => return self.note(format!("{name}: {error:#}")),
        };
        println!(
            "round {} {name:<16} {:<20} {:>10.0} {}  {:>8.2} {}",
            sample.round + 1,
            sample.case,
            sample.amount / sample.seconds,
            units.rate,
            sample.middle.total() / sample.amount * units.scale,
            units.cpu
        );
        match units.rate {
            rate if rate == QUERIES.rate => self.queries.push(sample),
            rate if rate == LOGINS.rate => self.logins.push(sample),
            _ => self.bulk.push(sample),
        }
    }

    /// Returns the page; `settings` describes the duration and extent of the run.
    pub(crate) fn page(&self, gate: &Path, settings: &str, lanes: &[Kind]) -> String {
        let mut text = machine::heading(gate);
        let _ = writeln!(text, "{settings}\n");
        text.push_str(include_str!("method.md"));
        for note in &self.notes {
            let _ = writeln!(text, "- {note}");
        }
        let _ = write!(text, "\n## Aims\n\n{}", report::aims(&self.aims()));
        for (title, samples, units) in [
            ("Queries: pgbench -S", &self.queries, QUERIES),
            ("Logins: pgbench -S -C, 8 clients", &self.logins, LOGINS),
            ("Bulk, through psql", &self.bulk, BULK),
        ] {
            if !samples.is_empty() {
                let _ = write!(text, "\n## {title}\n\n{}", Samples(samples).table(&units, lanes));
            }
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
        for (lane, memory) in [(Kind::Gate, 16.0), (Kind::GateTls, 32.0)] {
            let mut aim = |what: String, wanted: f64, got: Option<f64>, more: bool| {
                let what = format!("{}: {what}", lane.name());
                aims.push(Aim { what, wanted, got, more });
            };
            for protocol in ["simple", "extended", "prepared"] {
                let case = format!("8 {protocol}");
                let (cpu, rate) = (queries.cpu_to_floor(&case, lane), queries.rate_to_floor(&case, lane));
                aim(
                    format!("CPU per query to the floor's, 8 clients, {protocol}"),
                    1.25,
                    cpu,
                    false,
                );
                aim(format!("throughput to the floor's, 8 clients, {protocol}"), 0.95, rate, true);
            }
            for case in BULK_WORK {
                aim(
                    format!("CPU of {case} to the floor's"),
                    1.2,
                    bulk.cpu_to_floor(case, lane),
                    false,
                );
            }
            let idle = self.idle.iter().find(|idle| idle.lane == lane);
            aim("KiB per idle session".to_owned(), memory, idle.map(|idle| idle.fresh), false);
            let used = idle.map(|idle| idle.used);
            aim("KiB per idle session that fetched 1 MB".to_owned(), memory, used, false);
            if lane.tls() {
                let login = logins.cpu("login", lane).map(|seconds| seconds * 1e3);
                aim("CPU per login (SCRAM) and query, ms".to_owned(), 2.0, login, false);
            }
        }
        aims
    }
}
