//! Every variant of every built-in scenario on every provider as a test case of its own, named
//! `provider::scenario::variant`; and that a verdict can't be had for nothing.
//!
//! `cargo test --features e2e --test e2e -- lease` runs those whose name contains `lease`.
//! `OUTAGE_KUBERNETES` chooses another version than the default.

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use outage::assets::{Assets, Cache, DEFAULT_KUBERNETES, Fetcher, Progress, Sources, Wanted};
use outage::event::{Event, Verdict};
use outage::report;
use outage::run::{Chosen, Omit, Session};
use outage::scenario::{Addon, BUILTIN, Scenario, load};
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Each case has a cluster of its own, and most machines have room for one.
    arguments.test_threads = Some(1);
    let mut trials = Vec::new();
    for builtin in BUILTIN {
        let scenario = load(builtin.path, builtin.text.as_bytes()).expect("a built-in scenario");
        for (at, variant) in scenario.variants.iter().enumerate() {
            let case = (scenario.clone(), at);
            let name = format!("lab::{}::{variant}", scenario.name);
            trials.push(Trial::test(name, move || wants(&case, Omit::Nothing, Verdict::Pass)));
        }
        // One variant shows it for the engine.
        let last = scenario.variants.len() - 1;
        for (what, omit, verdict) in [
            ("without_the_injection_is_inconclusive", Omit::Injection, Verdict::Inconclusive),
            ("with_only_the_proof_fails", Omit::InjectionAndProof, Verdict::Fail),
        ] {
            let case = (scenario.clone(), last);
            let name = format!("lab::{}::{what}", scenario.name);
            trials.push(Trial::test(name, move || wants(&case, omit, verdict)));
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn wants(
    (scenario, variant): &(Scenario, usize),
    omit: Omit,
    wanted: Verdict,
) -> Result<(), Failed> {
    let runtime = tokio::runtime::Runtime::new()?;
    let events = runtime.block_on(run(scenario.clone(), *variant, omit))?;
    let cases = report::cases(&events);
    let verdict = cases.first().and_then(|case| case.verdict);
    if verdict == Some(wanted) {
        return Ok(());
    }
    Err(format!("wanted {wanted}\n{}", report::text(&events, false)).into())
}

async fn run(scenario: Scenario, variant: usize, omit: Omit) -> Result<Vec<Event>, Failed> {
    let assets = assets().await?;
    // It stays where a case fails, with the components' logs.
    let folder = tempfile::Builder::new().prefix("outage-e2e-").tempdir()?;
    let version = std::env::var("OUTAGE_KUBERNETES");
    let session = Session {
        chosen: vec![Chosen { scenario, sha256: String::new(), variants: vec![variant] }],
        kubernetes: version.as_deref().unwrap_or(DEFAULT_KUBERNETES).parse()?,
        repeat: 1,
        keep: false,
        program: env!("CARGO_BIN_EXE_outage").into(),
        folder: folder.path().to_owned(),
        omit,
    };
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    session.run(&assets, &sender, &CancellationToken::new()).await?;
    drop(sender);
    let mut events = Vec::new();
    while let Some(event) = receiver.recv().await {
        events.push(event);
    }
    if report::exit_code(&events) != 0 && omit == Omit::Nothing {
        println!("events and logs: {}", folder.keep().display());
    }
    Ok(events)
}

async fn assets() -> Result<Arc<Assets>, Failed> {
    let version = std::env::var("OUTAGE_KUBERNETES");
    let kubernetes = version.as_deref().unwrap_or(DEFAULT_KUBERNETES).parse()?;
    let (progress, events) = Progress::channel();
    let shown = tokio::spawn(outage::assets::progress::show(events));
    let fetcher = Fetcher::new(Cache::from_env()?, Sources::from_env(), progress)?;
    let metrics_server = BUILTIN.iter().any(|builtin| {
        let scenario = load(builtin.path, builtin.text.as_bytes());
        scenario.is_ok_and(|read| read.cluster.addons.contains(&Addon::MetricsServer))
    });
    let assets = fetcher.fetch(&Wanted { kubernetes, metrics_server }).await?;
    drop(fetcher);
    shown.await?;
    Ok(Arc::new(assets))
}
