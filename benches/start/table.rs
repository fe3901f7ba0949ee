//! The tables that go into the README.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::scenario::{RUN, Shares};
use crate::start::{Started, UP};
use crate::statistics::summary;

/// The lab's value of each pair, and the baseline's; one of the two may lack.
type Row = Vec<(Option<f64>, Option<f64>)>;

/// What was measured of clusters with one number of masters.
#[derive(Debug, Default)]
pub struct Table {
    pairs: Vec<(Started, Started)>,
}

impl Table {
    /// Adds a pair.
    pub fn add(&mut self, lab: Started, baseline: Started) {
        self.pairs.push((lab, baseline));
    }

    fn row(&self, value: impl Fn(&Started) -> Option<f64>) -> Row {
        self.pairs.iter().map(|(lab, baseline)| (value(lab), value(baseline))).collect()
    }

    /// Every milestone, in the order of the median time of whoever has it.
    fn milestones(&self) -> Vec<(String, Row)> {
        let mut times: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for (name, at) in
            self.pairs.iter().flat_map(|(a, b)| a.milestones.iter().chain(&b.milestones))
        {
            times.entry(name).or_default().push(at.as_secs_f64());
        }
        let median = |times: &[f64]| summary(times).map_or(0.0, |summary| summary.median);
        let mut names: Vec<(&str, f64)> =
            times.iter().map(|(name, times)| (*name, median(times))).collect();
        names.retain(|(name, _)| *name != UP);
        names.sort_by(|a, b| a.1.total_cmp(&b.1));
        let names = names.into_iter().map(|(name, _)| name).chain([UP]);
        names.map(|name| (name.to_owned(), self.row(|started| at(started, name)))).collect()
    }

    /// Prints it as Markdown.
    pub fn print(&self, masters: usize) {
        let pairs = self.pairs.len();
        println!("\n{masters} masters and a worker, {pairs} pairs: median (95 % interval)\n");
        println!("| | Lab | Baseline | Lab / baseline |\n| --- | --- | --- | --- |");
        for (name, row) in self.milestones() {
            line(&name, "s", 2, &row);
        }
        line("CPU time until then", "s", 1, &self.row(|started| Some(started.cpu.as_secs_f64())));
        let sum = |started: &Started| started.memory.values().sum::<u64>();
        line("Memory (PSS)", "MB", 0, &self.row(|started| Some(megabytes(sum(started)))));
        let mut components: Vec<&str> = self
            .pairs
            .iter()
            .flat_map(|(a, b)| a.memory.keys().chain(b.memory.keys()))
            .copied()
            .collect();
        components.sort_unstable();
        components.dedup();
        for component in components {
            let row = self.row(|started| started.memory.get(component).map(|of| megabytes(*of)));
            line(&format!("… {component}"), "MB", 1, &row);
        }
    }
}

fn at(started: &Started, name: &str) -> Option<f64> {
    let found = started.milestones.iter().find(|(of, _)| of == name);
    found.map(|(_, at)| at.as_secs_f64())
}

#[allow(clippy::cast_precision_loss)]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn line(name: &str, unit: &str, digits: usize, row: &Row) {
    let lab: Vec<f64> = row.iter().filter_map(|(lab, _)| *lab).collect();
    let baseline: Vec<f64> = row.iter().filter_map(|(_, baseline)| *baseline).collect();
    let ratios: Vec<f64> = row.iter().filter_map(|(a, b)| Some((*a)? / (*b)?)).collect();
    let cells = [words(&lab, unit, digits), words(&baseline, unit, digits), words(&ratios, "", 3)];
    println!("| {name} | {} |", cells.join(" | "));
}

fn words(values: &[f64], unit: &str, digits: usize) -> String {
    let Some(summary) = summary(values) else { return String::new() };
    let number = |value: f64| format!("{value:.digits$}");
    let interval =
        summary.interval.map(|(low, high)| format!(" ({} to {})", number(low), number(high)));
    let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
    format!("{}{unit}{}", number(summary.median), interval.unwrap_or_default())
}

/// Prints the harness's share of the CPU time of runs.
pub fn shares(shares: &[Shares]) {
    if shares.is_empty() {
        return;
    }
    let seconds = |time: Duration| time.as_secs_f64();
    let values = |value: &dyn Fn(&Shares) -> f64| shares.iter().map(value).collect::<Vec<f64>>();
    let harness = values(&|share| seconds(share.harness));
    let all = values(&|share| seconds(share.all));
    let percent = values(&|share| 100.0 * seconds(share.harness) / seconds(share.all));
    println!("\n`outage {}`, {} runs: median\n", RUN.join(" "), shares.len());
    println!("| CPU time of the harness | of all processes | Share |\n| --- | --- | --- |");
    let cells = [words(&harness, "s", 2), words(&all, "s", 1), words(&percent, "%", 2)];
    println!("| {} |", cells.join(" | "));
}

/// Prints what the figures depend on.
pub fn conditions() {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    println!(
        "Kubernetes {}, {cores} cores, Linux {}, {build} build; load before: {}",
        outage::assets::DEFAULT_KUBERNETES,
        read("/proc/sys/kernel/osrelease"),
        read("/proc/loadavg"),
    );
}
