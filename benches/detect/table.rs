//! The table that goes into the README.

use std::fmt;
use std::time::Duration;

use outage::run::Planned;
use outage::scenario::Probe;

use crate::statistics::summary;

/// How far the two times may lie apart.
const BOUND: Duration = Duration::from_millis(50);

/// The times to detect of one expectation in one run.
#[derive(Debug)]
pub struct Compared {
    /// The expectation.
    pub planned: Planned,
    /// As the run's report has it.
    pub product: Duration,
    /// What the report says of its resolution.
    pub resolution: Duration,
    /// As the observer saw it.
    pub observer: Duration,
    /// From the start of the observer's look before to that of the one that saw it.
    pub gap: Duration,
    /// How long that look took.
    pub look: Duration,
}

impl Compared {
    /// By how many milliseconds the product was later.
    fn difference(&self) -> f64 {
        milliseconds(self.product) - milliseconds(self.observer)
    }
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { planned, product, resolution, observer, gap, look } = self;
        let (name, difference) = (&planned.name, self.difference());
        write!(f, "{name}: {product:.1?} (resolution {resolution:.1?}); the observer ")?;
        write!(f, "{observer:.1?} (gap {gap:.1?}, look {look:.1?}): {difference:+.1} ms")
    }
}

/// All that was compared, a row for each fault and expectation.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<(String, Vec<Compared>)>,
}

impl Table {
    /// Adds what was compared once.
    pub fn add(&mut self, fault: &str, one: Compared) {
        let same = |(of, row): &&mut (String, Vec<Compared>)| {
            of == fault && row.first().is_some_and(|first| first.planned.name == one.planned.name)
        };
        match self.rows.iter_mut().find(same) {
            Some((_, row)) => row.push(one),
            None => self.rows.push((fault.to_owned(), vec![one])),
        }
    }

    /// Prints it as Markdown.
    pub fn print(&self, runs: u16) {
        println!("\nProduct minus observer, {runs} runs of each fault\n");
        println!(
            "| Fault | What is seen | Probe | TTD, median | Difference, median | Largest | Within {BOUND:?} |"
        );
        println!("| --- | --- | --- | --- | --- | --- | --- |");
        for (fault, row) in &self.rows {
            let Some(Compared { planned, .. }) = row.first() else { continue };
            let times: Vec<f64> = row.iter().map(|one| one.product.as_secs_f64()).collect();
            let differences: Vec<f64> = row.iter().map(Compared::difference).collect();
            let median = |values: &[f64]| summary(values).map_or(f64::NAN, |found| found.median);
            let largest = differences.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs()));
            let within = differences.iter().filter(|one| one.abs() <= milliseconds(BOUND)).count();
            println!(
                "| {fault} | {} | {} | {:.3} s | {:+.1} ms | {:+.1} ms | {within} of {} |",
                planned.name,
                probe(planned),
                median(&times),
                median(&differences),
                largest.unwrap_or(f64::NAN),
                row.len(),
            );
        }
    }
}

/// The probe, and how it looks.
fn probe(planned: &Planned) -> String {
    let every = planned.every;
    match &planned.probe {
        Probe::Health(_) => format!("`health`, every {every:?}"),
        Probe::Connect(_) => format!("`connect`, every {every:?}"),
        Probe::Request(_) => format!("`request`, every {every:?}"),
        Probe::Endpoints(_) => "`endpoints`, a watch".into(),
        Probe::Condition(_) => "`condition`, a watch".into(),
        Probe::Object(_) => "`object`, a watch".into(),
        other => format!("{other:?}"),
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// How many processes want to run, over the last minute.
pub fn load() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split_whitespace().next().unwrap_or("?").to_owned()
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
        load(),
    );
}
