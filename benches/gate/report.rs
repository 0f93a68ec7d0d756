//! Tables of the measurements, with ratios to direct and to the floor taken within one round.
//!
//! It measures nothing; figures it cannot compare are left blank, never guessed.

use std::fmt::Write as _;

use crate::lanes::Kind;
use crate::work::Sample;

/// Names and scale of the figures of one kind of work.
pub(crate) struct Units {
    pub(crate) case: &'static str,
    /// Unit of the amount per second.
    pub(crate) rate: &'static str,
    /// Unit of the CPU time per piece of work.
    pub(crate) cpu: &'static str,
    /// Factor from seconds per unit of amount to the unit of `cpu`.
    pub(crate) scale: f64,
}

pub(crate) const QUERIES: Units = Units {
    case: "clients, protocol",
    rate: "queries/s",
    cpu: "µs/query",
    scale: 1e6,
};
pub(crate) const LOGINS: Units = Units {
    case: "8 clients",
    rate: "logins/s",
    cpu: "ms/login",
    scale: 1e3,
};
pub(crate) const BULK: Units = Units {
    case: "work",
    rate: "MB/s",
    cpu: "s/100 MB",
    scale: 100.0,
};

/// Thread that packs closed segments of the log, as the kernel names it (15 bytes).
const BACKGROUND: &str = "audit-compactor";

/// All samples of one kind of work.
pub(crate) struct Samples<'a>(pub(crate) &'a [Sample]);

impl Sample {
    fn rate(&self) -> f64 {
        self.amount / self.seconds
    }

    fn cpu(&self) -> f64 {
        self.costs.middle.total() / self.amount
    }
}

impl Sample {
    /// Returns the settled CPU time of the process in the middle, in seconds per unit of amount.
    fn settled(&self) -> f64 {
        self.costs.settled / self.amount
    }
}

impl Samples<'_> {
    fn of<'s>(&'s self, case: &'s str, lane: Kind) -> impl Iterator<Item = &'s Sample> {
        self.0.iter().filter(move |sample| sample.case == case && sample.lane == lane)
    }

    /// Returns the median over the rounds of the ratio of `figure` between two lanes, each pair from one round.
    fn ratio(&self, case: &str, lane: Kind, to: Kind, figure: fn(&Sample) -> f64) -> Option<f64> {
        let ratios = self.of(case, lane).filter_map(|sample| {
            let other = figure(self.of(case, to).find(|other| other.round == sample.round)?);
            (other > 0.0).then(|| figure(sample) / other)
        });
        median(ratios)
    }

    /// Returns the CPU time of the process in the middle relative to the floor's.
    pub(crate) fn cpu_to_floor(&self, case: &str, lane: Kind) -> Option<f64> {
        self.ratio(case, lane, lane.floor(), Sample::cpu)
    }

    /// Returns the CPU time until the process in the middle is idle again, relative to the floor's.
    pub(crate) fn settled_to_floor(&self, case: &str, lane: Kind) -> Option<f64> {
        self.ratio(case, lane, lane.floor(), Sample::settled)
    }

    /// Returns the CPU time that the process in the middle needs after the work, in seconds per unit of amount.
    pub(crate) fn background(&self, case: &str, lane: Kind) -> Option<f64> {
        let by_thread = |sample: &Sample| sample.costs.threads.get(BACKGROUND).map(|seconds| seconds / sample.amount);
        median(self.of(case, lane).filter_map(by_thread))
    }

    /// Returns the settled CPU time relative to another lane's, in seconds per unit of amount: the cost of a setting.
    pub(crate) fn settled_beyond(&self, case: &str, lane: Kind, other: Kind) -> Option<f64> {
        let settled = |lane| median(self.of(case, lane).map(Sample::settled));
        Some(settled(lane)? - settled(other)?)
    }

    /// Returns the median rate of a lane.
    pub(crate) fn rate(&self, case: &str, lane: Kind) -> Option<f64> {
        median(self.of(case, lane).map(Sample::rate))
    }

    /// Returns a table of the gate's threads: settled CPU time of each per unit of amount.
    pub(crate) fn threads(&self, units: &Units, lanes: &[Kind]) -> String {
        let mut text = format!(
            "| {} | lane | {} in all | by thread |\n|---|---|---|---|\n",
            units.case, units.cpu
        );
        for case in self.cases() {
            for &lane in lanes {
                let last = self.of(case, lane).filter(|sample| sample.costs.threads.len() > 1).last();
                let Some(sample) = last else { continue };
                let mut threads: Vec<_> = sample.costs.threads.iter().collect();
                threads.sort_by(|left, right| right.1.total_cmp(left.1));
                let most: Vec<String> = threads
                    .iter()
                    .map(|(name, seconds)| (name, *seconds / sample.amount * units.scale))
                    .filter(|(_, cost)| *cost >= 0.01)
                    .map(|(name, cost)| format!("{name} {cost:.2}"))
                    .collect();
                let settled = sample.settled() * units.scale;
                let _ = writeln!(text, "| {case} | {} | {settled:.2} | {} |", lane.name(), most.join(", "));
            }
        }
        text
    }

    /// Returns a table of latencies at a fixed rate.
    pub(crate) fn latencies(&self, lanes: &[Kind]) -> String {
        let mut text = String::from(
            "| clients, protocol | lane | queries/s | median, ms | 99th percentile, ms | other load, cores |\n|---|---|---|---|---|---|\n",
        );
        for case in self.cases() {
            for &lane in lanes {
                let Some(rate) = self.rate(case, lane) else { continue };
                let figure = |of: fn((f64, f64)) -> f64| median(self.of(case, lane).filter_map(|sample| sample.latency).map(of));
                let _ = writeln!(
                    text,
                    "| {case} | {} | {} | {} | {} | {} |",
                    lane.name(),
                    thousands(rate),
                    number(figure(|(median, _)| median), 3),
                    number(figure(|(_, late)| late), 3),
                    number(median(self.of(case, lane).map(|sample| sample.costs.others())), 2),
                );
            }
        }
        text
    }

    /// Returns the cases in the order of the first measurement.
    fn cases(&self) -> Vec<&str> {
        let mut cases: Vec<&str> = Vec::new();
        for sample in self.0 {
            if !cases.contains(&sample.case.as_str()) {
                cases.push(&sample.case);
            }
        }
        cases
    }

    pub(crate) fn rate_to_floor(&self, case: &str, lane: Kind) -> Option<f64> {
        self.ratio(case, lane, lane.floor(), Sample::rate)
    }

    /// Returns the CPU time of the process in the middle, in seconds per unit of amount.
    pub(crate) fn cpu(&self, case: &str, lane: Kind) -> Option<f64> {
        median(self.of(case, lane).map(Sample::cpu))
    }

    /// Returns a table with one row per case and lane, in the order of the first measurement.
    pub(crate) fn table(&self, units: &Units, lanes: &[Kind]) -> String {
        let Units { case, rate, cpu, .. } = units;
        let mut text = format!(
            "| {case} | lane | {rate}, median (min–max) | to direct | to floor | CPU in the middle, {cpu} | of it user | CPU to floor | \
             settled, {cpu} | settled to floor | server CPU, {cpu} | other load, cores |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n"
        );
        for case in self.cases() {
            for &lane in lanes {
                self.row(&mut text, units, case, lane);
            }
        }
        text
    }

    fn row(&self, text: &mut String, units: &Units, case: &str, lane: Kind) {
        let rates: Vec<f64> = self.of(case, lane).map(Sample::rate).collect();
        let Some(rate) = median(rates.iter().copied()) else { return };
        let (low, high) = (
            rates.iter().copied().fold(f64::MAX, f64::min),
            rates.iter().copied().fold(0.0, f64::max),
        );
        let figure = |of: fn(&Sample) -> f64| median(self.of(case, lane).map(of)).map(|value| value * units.scale);
        let direct = lane == Kind::Direct;
        let _ = writeln!(
            text,
            "| {case} | {} | {} ({}–{}) | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            lane.name(),
            thousands(rate),
            thousands(low),
            thousands(high),
            number(self.ratio(case, lane, Kind::Direct, Sample::rate), 2),
            number(self.rate_to_floor(case, lane).filter(|_| !direct), 2),
            number(figure(Sample::cpu).filter(|_| !direct), 2),
            number(
                figure(|sample| sample.costs.middle.user / sample.amount).filter(|_| !direct),
                2
            ),
            number(self.cpu_to_floor(case, lane).filter(|_| !direct), 2),
            number(figure(Sample::settled).filter(|_| !direct), 2),
            number(self.settled_to_floor(case, lane).filter(|_| !direct), 2),
            number(figure(|sample| sample.costs.server / sample.amount), 2),
            number(median(self.of(case, lane).map(|sample| sample.costs.others())), 2),
        );
    }
}

/// Aim and the measured value.
pub(crate) struct Aim {
    pub(crate) what: String,
    pub(crate) wanted: f64,
    pub(crate) got: Option<f64>,
    /// True if more is better.
    pub(crate) more: bool,
}

pub(crate) fn aims(aims: &[Aim]) -> String {
    let mut text = String::from("| aim | wanted | measured | |\n|---|---|---|---|\n");
    for Aim { what, wanted, got, more } in aims {
        let sign = if *more { "≥" } else { "≤" };
        let verdict = match got {
            None => "not measured",
            Some(got) if (*more && got >= wanted) || (!*more && got <= wanted) => "met",
            Some(_) => "**missed**",
        };
        let _ = writeln!(text, "| {what} | {sign} {wanted} | {} | {verdict} |", number(*got, 2));
    }
    text
}

pub(crate) fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(String::new, |value| format!("{value:.digits$}"))
}

fn thousands(value: f64) -> String {
    let plain = format!("{value:.0}");
    let mut text = String::new();
    for (place, digit) in plain.chars().enumerate() {
        if place > 0 && (plain.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub(crate) fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let upper = sorted.get(sorted.len() / 2)?;
    let lower = sorted.get((sorted.len().saturating_sub(1)) / 2)?;
    Some(f64::midpoint(*lower, *upper))
}
