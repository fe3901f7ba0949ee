//! Every variant of every built-in scenario on each provider as a test case of its own, named
//! `lab::scenario::variant`; every fault and every probe in a minimal scenario (`tests/examples`); and
//! that a verdict can't be had for nothing.
//!
//! `cargo test --features e2e --test e2e -- lease` runs those whose name contains `lease`.
//! `OUTAGE_KUBERNETES` chooses another version than the default. What a version skips is shown as
//! ignored; with `OUTAGE_DENY_SKIPS` it fails. Variants that take minutes and show little that
//! others don't are ignored, too, and on kind all but the first of what the five reports tell:
//! `--include-ignored` runs them.

mod e2e_support;

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use outage::assets::KubernetesVersion;
use outage::cluster::{Provider, Supplies};
use outage::event::{Event, Outcome, Phase, Verdict, What};
use outage::report;
use outage::run::{Chosen, Omit, Past, Plan, Session, numbers, skipped};
use outage::scenario::{Addon, BUILTIN, Builtin, Scenario, Timing, load};
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // A suite has two clusters at a time, of three masters and a worker; most of its time it waits.
    let side_by_side = if Provider::default().room(16).is_ok() { 2 } else { 1 };
    arguments.test_threads.get_or_insert(side_by_side);
    let mut labs = suite(Provider::Lab, &arguments).into_iter();
    let kind = suite(Provider::Kind, &arguments).into_iter();
    // The first trial of a suite takes as long as the suite. In this order two threads end about at
    // the same time: one with the suites, one with what is left out.
    let mut trials: Vec<Trial> = labs.next().into_iter().collect();
    let long = runs_long(&arguments);
    let each_fails = move || each_fails(long);
    trials.push(Trial::test("lab::with_only_their_proofs_each_detection_fails", each_fails));
    trials.push(Trial::test("lab::without_injections_all_are_inconclusive", all_inconclusive));
    trials.extend(kind.chain(labs));
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Variants that are run only if they are asked for.
const LONG: [(&str, &str); 7] = [
    ("bad-front-proxy-certificate", "mismatched-key"),
    ("bad-front-proxy-certificate", "names-emptied"),
    ("bad-front-proxy-certificate", "none"),
    ("bad-front-proxy-certificate", "shared-ca"),
    ("encryption-keys-differ", "default"),
    ("metrics-server-unreachable", "all-rejected"),
    ("metrics-server-unreachable", "no-kube-proxy"),
];

/// What is shown on kind each time, in its first variant: what the five reports tell.
const ON_KIND: [&str; 6] = [
    "bad-front-proxy-certificate",
    "container-name-taken",
    "dead-metrics-server",
    "master-lost",
    "metrics-server-unreachable",
    "stopped-apiserver",
];

fn is_long(provider: Provider, scenario: &Scenario, variant: usize) -> bool {
    let listed = LONG.contains(&(&scenario.name, &scenario.variants[variant]));
    let shown = variant == 0 && ON_KIND.contains(&&*scenario.name);
    listed || (provider == Provider::Kind && !shown)
}

fn runs_long(arguments: &Arguments) -> bool {
    arguments.include_ignored || arguments.ignored
}

/// Variants of built-in scenarios that pass, run one after another: a cluster serves all that need
/// the same.
struct Suite {
    provider: Provider,
    chosen: Vec<Chosen>,
    events: OnceLock<Result<Vec<Event>, String>>,
}

/// A trial for each variant of every scenario; those that the arguments choose are a suite.
fn suite(provider: Provider, arguments: &Arguments) -> Vec<Trial> {
    let prefix = provider.name();
    if let Some(why) = e2e_support::lacks(provider) {
        return vec![e2e_support::skip(prefix.into(), why)];
    }
    let kubernetes = kubernetes().expect("OUTAGE_KUBERNETES is a version");
    let (mut skips, mut all) = (Vec::new(), Vec::new());
    for chosen in BUILTIN.iter().map(chosen).chain(examples()) {
        match skipped(&chosen.scenario, kubernetes) {
            Some(reason) => {
                let name = format!("{prefix}::{}", chosen.scenario.name);
                skips.push(e2e_support::skip(name, reason));
            }
            None => all.push(chosen),
        }
    }
    let name = |chosen: &Chosen, variant: usize| {
        format!("{prefix}::{}::{}", chosen.scenario.name, chosen.scenario.variants[variant])
    };
    for chosen in &mut all {
        let trial = |variant: usize| {
            let trial = Trial::test(name(chosen, variant), || Ok(()));
            trial.with_ignored_flag(is_long(provider, &chosen.scenario, variant))
        };
        let chosen_ones = (0..chosen.scenario.variants.len())
            .filter(|variant| !arguments.is_filtered_out(&trial(*variant)));
        chosen.variants = chosen_ones.collect();
    }
    let listed = all.clone();
    for chosen in all.iter_mut().filter(|_| !runs_long(arguments)) {
        chosen.variants.retain(|variant| !is_long(provider, &chosen.scenario, *variant));
    }
    let suite = Arc::new(Suite { provider, chosen: all, events: OnceLock::new() });
    let cases = listed.iter().flat_map(|chosen| {
        let suite = &suite;
        chosen.variants.iter().map(move |variant| {
            let (suite, scenario) = (Arc::clone(suite), chosen.scenario.name.clone());
            let variant_name = chosen.scenario.variants[*variant].clone();
            let passed = move || suite.passed(&scenario, &variant_name);
            let long = is_long(provider, &chosen.scenario, *variant);
            Trial::test(name(chosen, *variant), passed).with_ignored_flag(long)
        })
    });
    cases.chain(skips).collect()
}

impl Suite {
    /// The first who asks runs all of it.
    fn passed(&self, scenario: &str, variant: &str) -> Result<(), Failed> {
        let carry_out = || -> Result<Vec<Event>, Failed> {
            let run = run(self.provider, self.chosen.clone(), Omit::Nothing);
            tokio::runtime::Runtime::new()?.block_on(run)
        };
        let events = self.events.get_or_init(|| {
            carry_out().map_err(|failed| failed.message().unwrap_or("it failed").to_owned())
        });
        let events = events.as_ref().map_err(Clone::clone)?;
        let cases = report::cases(events);
        let of_it = cases.iter().find(|case| {
            let info = case.info.as_ref();
            info.is_some_and(|info| info.scenario == scenario && info.variant == variant)
        });
        let case = of_it.ok_or("it was not begun")?;
        if case.verdict == Some(Verdict::Pass) {
            return Ok(());
        }
        let own: Vec<Event> =
            events.iter().filter(|event| event.case == case.index).cloned().collect();
        Err(report::text(&own, None, false).into())
    }
}

/// Nothing is injected, and still each fault is looked for: one variant of a scenario shows that its
/// proof can't be had for nothing.
fn all_inconclusive() -> Result<(), Failed> {
    let last = |chosen: &Chosen| vec![chosen.scenario.variants.len() - 1];
    let chosen = run_here()?.into_iter().map(|c| Chosen { variants: last(&c), ..c }).collect();
    all(chosen, Omit::Injection, Verdict::Inconclusive).map(drop)
}

/// An expectation that needs no fault holds from the start. Whether one comes to hold by itself in
/// all the time that its scenario allows is shown if the long variants are asked for.
const PATIENCE: Duration = Duration::from_secs(20);

/// Nothing is injected, and the proof is said to be there: each detection expectation must fail by
/// itself.
fn each_fails(long: bool) -> Result<(), Failed> {
    let kubernetes = kubernetes()?;
    let mut expected = BTreeMap::new();
    let mut all_chosen = Vec::new();
    for chosen in run_here()? {
        let mut variants = Vec::new();
        for (at, names) in enough(&chosen, kubernetes, long) {
            for name in &detection(&chosen, at, kubernetes)[1] {
                println!("excepted, as it must hold throughout: {}: {name}", chosen.scenario.name);
            }
            let case = (chosen.scenario.name.clone(), chosen.scenario.variants[at].clone());
            expected.insert(case, names);
            variants.push(at);
        }
        all_chosen.push(Chosen { variants, ..chosen });
    }
    let omit = Omit::InjectionAndProof { at_most: (!long).then_some(PATIENCE) };
    let events = all(all_chosen, omit, Verdict::Fail)?;
    let mut holding = Vec::new();
    for case in report::cases(&events) {
        let info = case.info.as_ref().ok_or("a case without its name")?;
        let failed: BTreeSet<String> = case
            .expectations
            .values()
            .filter(|record| matches!(record.outcome, Some(Outcome::Failed { .. })))
            .map(|record| record.name.clone())
            .collect();
        let wanted = &expected[&(info.scenario.clone(), info.variant.clone())];
        let held = wanted.difference(&failed);
        holding.extend(held.map(|name| format!("{}/{}: {name}", info.scenario, info.variant)));
    }
    if holding.is_empty() {
        return Ok(());
    }
    let report = report::text(&events, None, false);
    Err(format!("these hold without their fault: {holding:#?}\n{report}").into())
}

/// The built-in scenarios that this version does not skip.
fn run_here() -> Result<Vec<Chosen>, Failed> {
    let kubernetes = kubernetes()?;
    let all = BUILTIN.iter().map(chosen);
    Ok(all.filter(|chosen| skipped(&chosen.scenario, kubernetes).is_none()).collect())
}

fn chosen(builtin: &Builtin) -> Chosen {
    let scenario = load(builtin.path, builtin.text.as_bytes()).expect("a built-in scenario");
    let (file, text) = (builtin.path.to_owned(), builtin.text.as_bytes().into());
    Chosen { scenario, file, text, sha256: String::new(), variants: vec![] }
}

/// The minimal scenarios in `tests/examples`: one a fault, and each probe in one of them.
fn examples() -> Vec<Chosen> {
    let read = |path: std::path::PathBuf| {
        let (file, text) = (path.display().to_string(), std::fs::read(&path).expect("a file"));
        let scenario = load(&file, &text).expect("an example is a scenario");
        Chosen { scenario, file, text: text.into(), sha256: String::new(), variants: vec![] }
    };
    e2e_support::examples().into_iter().map(read).collect()
}

/// The names of a variant's detection expectations: those that must fail without their fault, and
/// those that hold `throughout` and may hold without it, too.
fn detection(
    chosen: &Chosen,
    variant: usize,
    kubernetes: KubernetesVersion,
) -> [BTreeSet<String>; 2] {
    let name = &chosen.scenario.variants[variant];
    let plan = Plan::new(&chosen.scenario, name, numbers(kubernetes), 0).expect("a plan");
    let mut names = [BTreeSet::new(), BTreeSet::new()];
    for planned in plan.expectations.into_iter().filter(|planned| planned.phase == Phase::Detect) {
        let throughout = matches!(planned.timing, Timing::Throughout { .. });
        names[usize::from(throughout)].insert(planned.name);
    }
    names
}

/// Variants that have every detection expectation of the scenario's variants among them, each with
/// those that no variant before it has; the long ones only if they are wanted.
fn enough(
    chosen: &Chosen,
    kubernetes: KubernetesVersion,
    long: bool,
) -> Vec<(usize, BTreeSet<String>)> {
    let mut shown = BTreeSet::new();
    let mut variants = Vec::new();
    let is_wanted = |variant: &usize| long || !is_long(Provider::Lab, &chosen.scenario, *variant);
    for variant in (0..chosen.scenario.variants.len()).filter(is_wanted) {
        let [within, _] = detection(chosen, variant, kubernetes);
        if within.iter().any(|name| !shown.contains(name)) {
            shown.extend(within.iter().cloned());
            variants.push((variant, within));
        }
    }
    variants
}

/// Runs the variants on labs, with something left out; each must have this verdict.
fn all(chosen: Vec<Chosen>, omit: Omit, wanted: Verdict) -> Result<Vec<Event>, Failed> {
    let runtime = tokio::runtime::Runtime::new()?;
    let variants: usize = chosen.iter().map(|chosen| chosen.variants.len()).sum();
    let events = runtime.block_on(run(Provider::Lab, chosen, omit))?;
    let cases = report::cases(&events);
    if cases.len() == variants && cases.iter().all(|case| case.verdict == Some(wanted)) {
        return Ok(events);
    }
    Err(format!("wanted {wanted}\n{}", report::text(&events, None, false)).into())
}

async fn run(provider: Provider, chosen: Vec<Chosen>, omit: Omit) -> Result<Vec<Event>, Failed> {
    let supplies = supplies(provider).await?;
    // It stays where a case fails, with the components' logs.
    let folder = tempfile::Builder::new().prefix("outage-e2e-").tempdir()?;
    let session = Session {
        // Two suites at once, or a suite and what is left out: never more than four clusters.
        jobs: if provider == Provider::Kind { 1 } else { 2 },
        chosen,
        provider,
        kubernetes: kubernetes()?,
        repeat: Some(1),
        fresh: false,
        fail_fast: false,
        keep: false,
        reuse: None,
        seed: 1,
        program: env!("CARGO_BIN_EXE_outage").into(),
        folder: folder.path().to_owned(),
        past: Past::default(),
        ask: None,
        omit,
    };
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel::<Event>();
    let collected = tokio::spawn(async move {
        let mut events: Vec<Event> = Vec::new();
        let mut begun = BTreeMap::new();
        while let Some(event) = receiver.recv().await {
            match &event.what {
                What::CaseStarted(info) => {
                    let name = format!("{}: {}/{}", info.provider, info.scenario, info.variant);
                    eprintln!("{name} begins");
                    begun.insert(event.case, (name, event.at));
                }
                What::CaseEnded { verdict, .. } => {
                    let (name, from) = &begun[&event.case];
                    let seconds = event.at.saturating_sub(*from).as_secs();
                    eprintln!("{name}: {verdict} after {seconds} s");
                }
                _ => {}
            }
            events.push(event);
        }
        events
    });
    session.run(&supplies, &sender, &CancellationToken::new()).await?;
    drop(sender);
    let events = collected.await?;
    if report::exit_code(&events, true) != 0 && omit == Omit::Nothing {
        println!("events and logs: {}", folder.keep().display());
    }
    Ok(events)
}

fn kubernetes() -> Result<KubernetesVersion, Failed> {
    Ok(e2e_support::kubernetes().parse()?)
}

async fn supplies(provider: Provider) -> Result<Arc<Supplies>, Failed> {
    let metrics_server = BUILTIN.iter().any(|builtin| {
        let scenario = load(builtin.path, builtin.text.as_bytes());
        scenario.is_ok_and(|read| read.cluster.addons.contains(&Addon::MetricsServer))
    });
    Ok(Arc::new(e2e_support::supply(provider, metrics_server).await?))
}
