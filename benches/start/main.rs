//! What a lab costs beside a shell script that starts the same cluster: `cargo bench --bench start`.
//!
//! The lab (`Provider::create`, in a process of its own) and the baseline (`benches/baseline.sh`) take
//! turns: lab, baseline, baseline, lab, and so on. Both are timed from their first process to the
//! same condition (apiservers ready, nodes Ready, kube-proxy and `CoreDNS` running); then the memory
//! and the CPU time of their processes are read, and what the programs of both clusters were told
//! is compared: a difference ends the benchmark.

mod processes;
mod scenario;
mod settings;
mod start;
mod statistics;
mod table;

use std::process::ExitCode;

use clap::Parser;
use outage::cluster::client::words;

use start::{Place, Started, Subject};
use table::Table;

/// What can go wrong.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Compares the start of a lab with that of the same cluster by a shell script, and measures what
/// share of a scenario's CPU time is the harness's.
#[derive(Debug, Parser)]
#[command(name = "cargo bench --bench start --", max_term_width = 100)]
struct Arguments {
    /// Starts of each, one after the other in turns; an interval needs six
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    pairs: u16,
    /// Control-plane nodes of the clusters to compare
    #[arg(long, value_name = "COUNTS", default_value = "1,3,5", value_delimiter = ',', value_parser = masters)]
    masters: Vec<usize>,
    /// Runs of a scenario for the harness's share
    #[arg(long, value_name = "N", default_value_t = 3)]
    runs: u16,
    /// Said by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
    /// The lab's side: starts one with so many masters, and ends it with the standard input
    #[arg(long, hide = true)]
    serve_lab: Option<usize>,
}

fn masters(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ (1 | 3 | 5)) => Ok(count),
        _ => Err("1, 3 or 5: etcd needs a majority".into()),
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if !arguments.bench && arguments.serve_lab.is_none() {
        eprintln!("this takes many minutes and a quiet machine: run it by `cargo bench`");
        return ExitCode::SUCCESS;
    }
    let work = async {
        let place = Place::find().await?;
        match arguments.serve_lab {
            Some(masters) => place.serve_lab(masters).await,
            None => compare(&place, &arguments).await,
        }
    };
    // As `outage` does: the lab's side is measured.
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let result = runtime.enable_all().build().map_err(Failure::from);
    match result.and_then(|runtime| {
        let result = runtime.block_on(work);
        // A read of the standard input may still be waiting.
        runtime.shutdown_background();
        result
    }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{}", words(&*failure));
            ExitCode::FAILURE
        }
    }
}

async fn compare(place: &Place, arguments: &Arguments) -> Result<(), Failure> {
    // Makes the image store if need be, and reads every program once. A start that was killed has
    // left a folder, which goes now.
    eprintln!("warming up");
    place.measure(Subject::Lab, 1).await?;
    table::conditions();
    for masters in &arguments.masters {
        let mut table = Table::default();
        for pair in 0..arguments.pairs {
            let order = [Subject::Lab, Subject::Baseline];
            let order = if pair % 2 == 0 { order } else { [order[1], order[0]] };
            let mut both = Vec::new();
            for subject in order {
                let started = place.measure(subject, *masters).await;
                let started = started.map_err(|failure| format!("{subject:?}: {failure}"))?;
                say(subject, *masters, pair, &started);
                both.push((subject, started));
            }
            both.sort_by_key(|(subject, _)| *subject == Subject::Baseline);
            let [(_, lab), (_, baseline)] = <[_; 2]>::try_from(both).map_err(|_| "not a pair")?;
            let difference = settings::difference(&lab.settings, &baseline.settings);
            if !difference.is_empty() {
                return Err(format!("the settings differ:\n{difference}").into());
            }
            table.add(lab, baseline);
        }
        table.print(*masters);
    }
    let mut shares = Vec::new();
    for run in 0..arguments.runs {
        let share = scenario::run().await?;
        eprintln!("run {}: harness {:.2?} of {:.2?}", run + 1, share.harness, share.all);
        shares.push(share);
    }
    table::shares(&shares);
    Ok(())
}

fn say(subject: Subject, masters: usize, pair: u16, started: &Started) {
    let (_, took) = started.milestones.last().cloned().unwrap_or_default();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().unwrap_or("?");
    let pair = pair + 1;
    eprintln!("{masters} masters, pair {pair}: {subject:?} up after {took:.2?} (load {load})");
}
