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

/// All samples of one kind of work.
pub(crate) struct Samples<'a>(pub(crate) &'a [Sample]);

impl Sample {
    fn rate(&self) -> f64 {
        self.amount / self.seconds
    }

    fn cpu(&self) -> f64 {
        self.middle.total() / self.amount
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

    pub(crate) fn rate_to_floor(&self, case: &str, lane: Kind) -> Option<f64> {
        self.ratio(case, lane, lane.floor(), Sample::rate)
    }

    /// Returns the CPU time of the process in the middle, in seconds per unit of amount.
    pub(crate) fn cpu(&self, case: &str, lane: Kind) -> Option<f64> {
        median(self.of(case, lane).map(Sample::cpu))
    }

    /// Returns a table with one row per case and lane, in the order of the first measurement.
    pub(crate) fn table(&self, units: &Units, lanes: &[Kind]) -> String {
        let mut cases: Vec<&str> = Vec::new();
        for sample in self.0 {
            if !cases.contains(&sample.case.as_str()) {
                cases.push(&sample.case);
            }
        }
        let Units { case, rate, cpu, .. } = units;
        let mut text = format!(
            "| {case} | lane | {rate}, median (min–max) | to direct | to floor | CPU in the middle, {cpu} | of it user | CPU to floor | \
             server CPU, {cpu} | other load, cores |\n|---|---|---|---|---|---|---|---|---|---|\n"
        );
        for case in cases {
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
            "| {case} | {} | {} ({}–{}) | {} | {} | {} | {} | {} | {} | {} |",
            lane.name(),
            thousands(rate),
            thousands(low),
            thousands(high),
            number(self.ratio(case, lane, Kind::Direct, Sample::rate), 2),
            number(self.rate_to_floor(case, lane).filter(|_| !direct), 2),
            number(figure(Sample::cpu).filter(|_| !direct), 2),
            number(figure(|sample| sample.middle.user / sample.amount).filter(|_| !direct), 2),
            number(self.cpu_to_floor(case, lane).filter(|_| !direct), 2),
            number(figure(|sample| sample.server / sample.amount), 2),
            number(median(self.of(case, lane).map(|sample| sample.others)), 2),
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
