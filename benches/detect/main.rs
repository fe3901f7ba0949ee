//! How well the times to detect agree with those of an independent observer: `cargo bench --bench detect`.
//!
//! Each variant of `faults.yaml` is run as `outage run` does, with one lab for as long as it stays
//! good. For each expectation there is an observer (`observer.rs`): a process of its own in the network
//! that the probe looks from, which shares no code with the probes and looks every 10 ms. Both times
//! count from the moment at which the fault was issued, to the end of the first observation that began
//! after it and saw what is expected. Both clocks are the machine's monotonic one.

mod observer;
#[path = "../start/statistics.rs"]
mod statistics;
mod table;
mod watcher;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use outage::assets::{
    Cache, DEFAULT_KUBERNETES, Fetcher, KubernetesVersion, Progress, Sources, Wanted,
};
use outage::cluster::client::words;
use outage::cluster::{ClusterError, ClusterOptions, Provider, Supplies};
use outage::event::{ActionState, CaseInfo, Event, Outcome, Verdict, What};
use outage::run::{Case, Held, Omit, Plan, numbers, run_case};
use outage::scenario::NodeRef::{Master, Worker};
use outage::scenario::{Scenario, load};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use observer::{Look, Seen, now};
use table::{Compared, Table};
use watcher::{Watcher, Way};

/// What can go wrong.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The scenario whose variants are the faults.
const FAULTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/detect/faults.yaml");

/// Compares the times to detect of each fault with those of an independent observer.
#[derive(Debug, Parser)]
#[command(name = "cargo bench --bench detect --", max_term_width = 100)]
struct Arguments {
    /// Runs of each fault
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// Faults: variants of `benches/detect/faults.yaml`; all if none is named
    fault: Vec<String>,
    /// Said by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
    /// Is an observer, as the standard input says
    #[arg(long, hide = true)]
    observe: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if !arguments.bench && !arguments.observe {
        eprintln!("this takes many minutes and a quiet machine: run it by `cargo bench`");
        return ExitCode::SUCCESS;
    }
    let mut runtime = if arguments.observe {
        tokio::runtime::Builder::new_current_thread()
    } else {
        // As `outage` does: its times are what is compared.
        tokio::runtime::Builder::new_multi_thread()
    };
    let result = runtime.enable_all().build().map_err(Failure::from).and_then(|runtime| {
        let result = runtime.block_on(async {
            if arguments.observe {
                observer::observe().await
            } else {
                Box::pin(compare(&arguments)).await
            }
        });
        // A read of the standard input may still be waiting.
        runtime.shutdown_background();
        result
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{}", words(&*failure));
            ExitCode::FAILURE
        }
    }
}

/// How an observer sees what an expectation of `faults.yaml` expects.
fn observed(expectation: &str) -> Option<(Way, Look)> {
    let beside = |to| Way { from: None, to: Master(to) };
    let from_worker = Way { from: Some(Worker(1)), to: Master(3) };
    let says = |path: &str, code, text: &str| Look::Says(path.into(), code, text.into());
    let object = |name: &str| format!("/api/v1/namespaces/kube-system/configmaps/{name}");
    Some(match expectation {
        "connects are refused" => (from_worker, Look::Refused),
        "the health endpoint refuses" => (beside(3), Look::Refused),
        "the health check of etcd fails" => (beside(3), says("/readyz", 500, "[-]etcd failed")),
        "requests are not answered" => (from_worker, Look::Failed("/readyz".into())),
        "the address is gone from the Service" => {
            let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes";
            let endpoints = "/api/v1/namespaces/default/endpoints/kubernetes";
            (beside(1), Look::Lacks(vec![endpoints.into(), slices.into()], "\"10.77.0.13\"".into()))
        }
        "the node is not Ready any more" => {
            (beside(1), says("/api/v1/nodes/master-3", 200, "\"NodeStatusUnknown\""))
        }
        "the metrics API has no backend" => {
            let path = "/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.metrics.k8s.io";
            (beside(1), says(path, 200, "\"MissingEndpoints\""))
        }
        "the object is there" => (beside(1), says(&object("detected"), 200, "")),
        "the object has changed" => {
            (beside(1), says(&object("coredns"), 200, "\"detected\":\"at-once\""))
        }
        "the object is gone" => (beside(1), says(&object("coredns"), 404, "")),
        _ => return None,
    })
}

async fn compare(arguments: &Arguments) -> Result<(), Failure> {
    let scenario = load("benches/detect/faults.yaml", &std::fs::read(FAULTS)?)
        .map_err(|error| Failure::from(error.plain()))?;
    let faults = match arguments.fault.as_slice() {
        [] => scenario.variants.clone(),
        named => named.to_vec(),
    };
    let bench = Bench::new(scenario).await?;
    table::conditions();
    let mut table = Table::default();
    let mut held = None;
    for run in 1..=arguments.runs {
        for (index, fault) in faults.iter().enumerate() {
            let load = table::load();
            let index = usize::from(run) * faults.len() + index;
            let (compared, left) = bench.run(fault, index, usize::from(run), held.take()).await?;
            held = left;
            for one in compared {
                eprintln!("{fault}, run {run} (load {load}): {one}");
                table.add(fault, one);
            }
        }
    }
    if let Some(held) = held {
        held.cluster().delete().await?;
    }
    table.print(arguments.runs);
    Ok(())
}

/// What every run needs.
struct Bench {
    scenario: Scenario,
    kubernetes: KubernetesVersion,
    supplies: Supplies,
    folder: tempfile::TempDir,
}

impl Bench {
    async fn new(scenario: Scenario) -> Result<Self, Failure> {
        let kubernetes = DEFAULT_KUBERNETES.parse()?;
        let progress = Progress::silent();
        let fetcher = Fetcher::new(Cache::from_env()?, Sources::from_env(), progress.clone())?;
        let wanted = Wanted { kubernetes, metrics_server: true };
        let program = Path::new(env!("CARGO_BIN_EXE_outage"));
        let supplies = Provider::Lab.supply(&fetcher, &wanted, program, &progress).await?;
        let folder = tempfile::tempdir()?;
        Ok(Self { scenario, kubernetes, supplies, folder })
    }

    async fn cluster(&self) -> Result<Held, Failure> {
        let wanted = &self.scenario.cluster;
        Provider::Lab.room(wanted.masters + wanted.workers)?;
        let options = ClusterOptions {
            kubernetes: self.kubernetes,
            masters: wanted.masters,
            workers: wanted.workers,
            settings: vec![],
            addons: wanted.addons.clone(),
            program: env!("CARGO_BIN_EXE_outage").into(),
            logs: None,
        };
        eprintln!("starting a lab");
        let cluster = Provider::Lab.create(&self.supplies, options, &|_| {}).await?;
        Ok(Held::new(cluster, None))
    }

    /// Runs a fault once; what was compared, and the lab if it is still good.
    async fn run(
        &self,
        fault: &str,
        index: usize,
        repetition: usize,
        held: Option<Held>,
    ) -> Result<(Vec<Compared>, Option<Held>), Failure> {
        let held = match held {
            Some(held) => held,
            None => self.cluster().await?,
        };
        let plan = Plan::new(&self.scenario, fault, numbers(self.kubernetes), 0)?;
        let mut watchers = Vec::new();
        for (id, planned) in plan.expectations.iter().enumerate() {
            if let Some((way, look)) = observed(&planned.name) {
                watchers.push((id, Watcher::start(&**held.cluster(), way, look).await?));
            }
        }
        let began = (Instant::now(), now()?);
        let case = Case {
            index,
            info: self.info(fault, repetition),
            plan: plan.clone(),
            chooser: None,
            began: began.0,
            keep: Box::new(|so_far| so_far == Verdict::Pass),
            ask: None,
            omit: Omit::Nothing,
        };
        // The observers are in this lab and no other.
        let provision = |_| async { Err(ClusterError::new("the lab is not good any more")) };
        let (sender, mut events) = mpsc::unbounded_channel();
        let (folder, interrupt) = (self.folder.path(), CancellationToken::new());
        let ended = run_case(case, Some(held), provision, sender, interrupt, folder).await?;
        let mut told = Vec::new();
        while let Ok(event) = events.try_recv() {
            told.push(event);
        }
        if ended.verdict != Verdict::Pass {
            eprintln!("{fault}, run {repetition}: {}", reasons(&told));
        }
        let mut compared = Vec::new();
        for (id, watcher) in watchers {
            let saw = watcher.end().await?;
            let Some(told) = found(&told, id) else { continue };
            let at = |time: Duration| Ok::<u64, Failure>(began.1 + u64::try_from(time.as_nanos())?);
            let issued = at(told.issued)?;
            let first = saw.iter().filter(|seen| seen.began >= issued).min_by_key(|s| s.ended);
            let Some(Seen { previous, began, ended }) = first.copied() else {
                eprintln!("{fault}, run {repetition}: the observer did not see it");
                continue;
            };
            compared.push(Compared {
                planned: plan.expectations[id].clone(),
                product: told.took,
                resolution: told.resolution,
                observer: Duration::from_nanos(ended - issued),
                gap: Duration::from_nanos(began - previous),
                look: Duration::from_nanos(ended - began),
            });
        }
        Ok((compared, ended.cluster))
    }

    fn info(&self, fault: &str, repetition: usize) -> CaseInfo {
        CaseInfo {
            scenario: self.scenario.name.clone(),
            variant: fault.into(),
            provider: Provider::Lab.name().into(),
            kubernetes: self.kubernetes.to_string(),
            repetition,
            scenario_sha256: String::new(),
            kernel: String::new(),
            seed: 0,
        }
    }
}

/// What a run's events tell of an expectation.
struct Told {
    /// When the change before it was issued, since the run began.
    issued: Duration,
    /// The time to detect.
    took: Duration,
    resolution: Duration,
}

fn found(events: &[Event], expectation: usize) -> Option<Told> {
    let mut issued = None;
    for Event { at, what, .. } in events {
        match what {
            What::Action { state: ActionState::Issued, .. } => issued = Some(*at),
            What::ExpectationEnded { id, outcome: Outcome::Met { after: Some(after), .. } }
                if *id == expectation =>
            {
                let (took, resolution) = (after.time, after.resolution);
                return Some(Told { issued: issued?, took, resolution });
            }
            _ => {}
        }
    }
    None
}

fn reasons(events: &[Event]) -> String {
    let ended = events.iter().find_map(|event| match &event.what {
        What::CaseEnded { verdict, reasons, .. } => {
            Some(format!("{verdict}: {}", reasons.join("; ")))
        }
        _ => None,
    });
    ended.unwrap_or_default()
}
