//! A cluster a provider, which many cases share.

use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::LocalBoxFuture;
use libtest_mimic::{Arguments, Failed, Trial};
use outage::cluster::Cluster;
use serde_json::Value;
use tokio::runtime::Runtime;

use super::{Failure, Provider, kubectl_on, kubernetes, masters, providers, words};

/// What the cases share: a cluster, and what they look at it with.
pub trait Shared: Send + Sync + Sized + 'static {
    /// Makes the cluster.
    async fn new(provider: Provider) -> Result<Self, Failure>;

    /// The cluster.
    fn cluster(&self) -> &dyn Cluster;

    /// Runs kubectl on the first master; its standard output.
    async fn kubectl(&self, args: &[&str]) -> Result<String, Failure> {
        kubectl_on(&*masters(self.cluster())[0], args, None).await
    }

    /// The same with a standard input.
    async fn kubectl_in(&self, args: &[&str], stdin: &str) -> Result<String, Failure> {
        kubectl_on(&*masters(self.cluster())[0], args, Some(stdin)).await
    }

    /// What `kubectl get` with these arguments shows.
    async fn get(&self, args: &[&str]) -> Result<Value, Failure> {
        let args = [&["get", "-o", "json"], args].concat();
        Ok(serde_json::from_str(&self.kubectl(&args).await?)?)
    }
}

/// A case on the shared cluster.
pub type Case<C> = Box<dyn for<'a> FnOnce(&'a C) -> LocalBoxFuture<'a, Result<(), Failure>> + Send>;

/// A case that needs nothing but the cluster.
pub type CaseOf<C> = for<'a> fn(&'a C) -> LocalBoxFuture<'a, Result<(), Failure>>;

/// A case before the shared cluster is made.
pub type Before = Box<dyn FnOnce() -> LocalBoxFuture<'static, Result<(), Failure>> + Send>;

/// The most nodes that all providers have at a time: eight in the largest lab, four on kind.
const NODES: usize = 12;

/// Runs these cases on every provider, each that is not `long` there, or all if they are asked for: in their
/// order on a provider, the providers side by side, as most of a case's time is waiting.
pub fn run<C: Shared>(
    before: impl Fn(Provider) -> Vec<(String, Before)>,
    cases: impl Fn() -> Vec<(&'static str, Case<C>)>,
    long: impl Fn(Provider, &str) -> bool,
) -> ExitCode {
    let mut args = Arguments::from_args();
    let (providers, mut trials) = providers();
    let room = outage::cluster::Provider::default().room(NODES).is_ok();
    args.test_threads = Some(if room { providers.len().max(1) } else { 1 });
    let stages: Vec<Arc<Stage<C>>> = providers.into_iter().map(Stage::new).collect();
    let of_stage = |stage: &Arc<Stage<C>>| {
        stage.trials(before(stage.provider), cases(), |name| long(stage.provider, name))
    };
    let of_stages: Vec<Vec<Trial>> = stages.iter().map(of_stage).collect();
    trials.extend(if room {
        in_turn(of_stages)
    } else {
        of_stages.into_iter().flatten().collect()
    });
    let conclusion = libtest_mimic::run(&args, trials);
    let deleted: Vec<_> = stages.iter().map(|stage| stage.delete()).collect();
    for failure in deleted.iter().filter_map(|result| result.as_ref().err()) {
        eprintln!("the cluster could not be deleted: {failure}");
    }
    let clean = deleted.iter().all(Result::is_ok);
    if clean { conclusion.exit_code() } else { ExitCode::FAILURE }
}

/// One of each list, then the next of each.
fn in_turn(lists: Vec<Vec<Trial>>) -> Vec<Trial> {
    let mut lists: Vec<_> = lists.into_iter().map(Vec::into_iter).collect();
    let mut all = Vec::new();
    loop {
        let had = all.len();
        all.extend(lists.iter_mut().filter_map(Iterator::next));
        if all.len() == had {
            return all;
        }
    }
}

/// A provider and its one cluster, made by the first case that needs it.
struct Stage<C> {
    provider: Provider,
    runtime: Runtime,
    /// Held while a case runs.
    made: Mutex<Made<C>>,
}

/// Nothing while nobody needs it; else the cluster, or why there is none.
type Made<C> = Option<Result<C, String>>;

impl<C: Shared> Stage<C> {
    fn new(provider: Provider) -> Arc<Self> {
        let runtime = Runtime::new().expect("the runtime starts");
        Arc::new(Self { provider, runtime, made: Mutex::new(None) })
    }

    fn trials(
        self: &Arc<Self>,
        before: Vec<(String, Before)>,
        cases: Vec<(&'static str, Case<C>)>,
        long: impl Fn(&str) -> bool,
    ) -> Vec<Trial> {
        let prefix = format!("{}::{}", self.provider.name(), kubernetes());
        let mut trials = Vec::new();
        for (name, case) in before {
            let stage = Arc::clone(self);
            trials.push(Trial::test(format!("{prefix}::{name}"), move || {
                let _turn = stage.lock();
                stage.runtime.block_on(case()).map_err(|failure| words(&failure).into())
            }));
        }
        for (name, case) in cases {
            let stage = Arc::clone(self);
            let trial = Trial::test(format!("{prefix}::{name}"), move || stage.case(case));
            trials.push(trial.with_ignored_flag(long(name)));
        }
        let stage = Arc::clone(self);
        trials.push(Trial::test(format!("{prefix}::the_cluster_ends"), move || {
            stage.delete().map_err(Failed::from)
        }));
        trials
    }

    fn case(&self, case: Case<C>) -> Result<(), Failed> {
        let mut made = self.lock();
        let make = || self.runtime.block_on(C::new(self.provider));
        let shared = made.get_or_insert_with(|| make().map_err(|failure| words(&failure)));
        let shared = shared.as_ref().map_err(Clone::clone)?;
        self.runtime.block_on(case(shared)).map_err(|failure| words(&failure).into())
    }

    fn delete(&self) -> Result<(), String> {
        let Some(Ok(shared)) = self.lock().take() else { return Ok(()) };
        let deleted = self.runtime.block_on(shared.cluster().delete());
        deleted.map_err(|error| error.to_string())
    }

    /// A case that panicked, as one whose assertion fails, leaves the cluster to the next.
    fn lock(&self) -> MutexGuard<'_, Made<C>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
