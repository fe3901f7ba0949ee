//! A run of several cases: side by side on clusters of their own, or one after another on one.
//!
//! A worker has at most one cluster. It hands it from one case to the next if both need the same
//! kind, everything was taken back and verified, what a fault leaves behind could be mended, and then
//! the next one's steady state holds on it.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::driver::Held;
use super::folder::LOGS;
use super::log::Log;
use super::queue::{Job, Queue};
use super::resume::Past;
use super::{Ask, Case, Chooser, Omit, Plan, PlanError, draw, run_case};
use crate::assets::KubernetesVersion;
use crate::cluster::{Cluster, ClusterError, ClusterOptions, Provider, Supplies};
use crate::event::{CaseInfo, Event, Verdict, What};
use crate::fault;
use crate::scenario::{Component, Scenario, Version, named_in};

/// A scenario with the file that it was read from.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// The scenario.
    pub scenario: Scenario,
    /// Its file's name in messages.
    pub file: String,
    /// Its file's bytes.
    pub text: Arc<[u8]>,
    /// Their SHA-256, in lower-case hexadecimal.
    pub sha256: String,
    /// Which of its variants to run, by their index.
    pub variants: Vec<usize>,
}

/// What to run, and on what.
#[derive(Debug, Clone)]
pub struct Session {
    /// The scenarios, in order.
    pub chosen: Vec<Chosen>,
    /// What makes the clusters.
    pub provider: Provider,
    /// The version of Kubernetes.
    pub kubernetes: KubernetesVersion,
    /// How often each variant runs, those of an earlier run in the folder included; nothing: again
    /// and again, until something is not PASS.
    pub repeat: Option<usize>,
    /// How many cases run side by side; at least one.
    pub jobs: usize,
    /// Whether each case gets a cluster of its own.
    pub fresh: bool,
    /// Whether nothing more is begun after a verdict that is neither PASS nor SKIP.
    pub fail_fast: bool,
    /// Whether the last cluster is left standing.
    pub keep: bool,
    /// The name of a cluster that another process holds and on which all cases run, one after
    /// another.
    pub reuse: Option<String>,
    /// Decides which nodes are chosen for a scenario's names.
    pub seed: u64,
    /// The `outage` program, which is also a lab's first process.
    pub program: PathBuf,
    /// The run's folder: event log, undo journals, logs of the components.
    pub folder: PathBuf,
    /// What the folder holds of an earlier run, which this one goes on with.
    pub past: Past,
    /// Who is asked before each change of a cluster.
    pub ask: Option<Ask>,
    /// For tests alone: what is left out of each case. Cases that change nothing share a cluster at
    /// the same time, one kind of cluster after another.
    pub omit: Omit,
}

/// Where a case leaves the one that goes on with its cluster.
type Slot = Arc<Mutex<Option<Job>>>;

/// What all workers of a run share.
struct Shared<'a> {
    queue: Arc<Queue>,
    began: Instant,
    supplies: &'a Arc<Supplies>,
    events: &'a mpsc::UnboundedSender<Event>,
    interrupt: &'a CancellationToken,
    kept: &'a Mutex<Option<Arc<dyn Cluster>>>,
    /// What cases share that change nothing.
    unchanged: Arc<tokio::sync::Mutex<Option<Arc<dyn Cluster>>>>,
}

/// Why a scenario is not run on a version of Kubernetes, if it is not.
pub fn skipped(scenario: &Scenario, kubernetes: KubernetesVersion) -> Option<String> {
    let versions = &scenario.cluster.versions;
    let outside = !versions.covers(numbers(kubernetes));
    outside.then(|| format!("the scenario is for Kubernetes {versions}, not for {kubernetes}"))
}

/// The numbers of a version.
pub fn numbers(version: KubernetesVersion) -> Version {
    [version.major, version.minor, version.patch]
}

impl Session {
    /// Runs every case that is not skipped until all are done or `interrupt` is cancelled. The cluster of the last case
    /// is returned if it was to be kept.
    ///
    /// # Errors
    /// [`SessionError`] if a variant can't be planned, the machine has no room for the clusters, or
    /// the run's folder can't be written.
    pub async fn run(
        &self,
        supplies: &Arc<Supplies>,
        events: &mpsc::UnboundedSender<Event>,
        interrupt: &CancellationToken,
    ) -> Result<Option<Arc<dyn Cluster>>, SessionError> {
        let began = Instant::now();
        let jobs = self.due();
        for job in &jobs {
            self.plan(job, 0)?;
        }
        let sizes = jobs.iter().map(|job| job.options.masters + job.options.workers);
        // A cluster that stands has its room.
        if let Some(nodes) = sizes.max().filter(|_| self.reuse.is_none()) {
            let clusters = if self.shares() { 1 } else { self.jobs.min(jobs.len()) };
            self.provider.room(nodes * clusters).map_err(SessionError::Room)?;
        }
        let mut reused = match (&self.reuse, jobs.first()) {
            (Some(name), Some(first)) => Some(self.take(name, first, &jobs).await?),
            _ => None,
        };
        let kept = Mutex::default();
        for jobs in self.at_once(jobs) {
            let workers = self.jobs.min(jobs.len());
            let shared = Shared {
                queue: Arc::new(Queue::new(jobs, self.repeat.is_none())),
                began,
                supplies,
                events,
                interrupt,
                kept: &kept,
                unchanged: Arc::default(),
            };
            // Each is waited for: a case that is dropped leaves its reverts undone. Whoever reuses a
            // cluster has one worker.
            let ended = join_all((0..workers).map(|_| self.work(&shared, reused.take()))).await;
            if let Some(cluster) = shared.unchanged.lock().await.take() {
                cluster.delete().await.map_err(SessionError::End)?;
            }
            ended.into_iter().collect::<Result<Vec<()>, _>>()?;
        }
        Ok(kept.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Cases that are worked off before others: those that share a cluster, if any do.
    fn at_once(&self, jobs: Vec<Job>) -> Vec<Vec<Job>> {
        if !self.shares() {
            return vec![jobs];
        }
        let mut groups: Vec<Vec<Job>> = Vec::new();
        for job in jobs {
            match groups.iter_mut().find(|group| group[0].options.fit(&job.options)) {
                Some(group) => group.push(job),
                None => groups.push(vec![job]),
            }
        }
        groups
    }

    /// Whether any case is to be carried out, so that a cluster is needed.
    pub fn has_cases(&self) -> bool {
        !self.due().is_empty()
    }

    /// How many cases there are, those that are skipped included.
    pub fn cases(&self) -> usize {
        self.jobs().len()
    }

    /// Says of each case that is skipped why.
    ///
    /// # Errors
    /// If the run's folder can't be written.
    pub fn skip(&self, events: &mpsc::UnboundedSender<Event>) -> Result<(), SessionError> {
        for job in self.jobs() {
            if let Some(reason) = self.skips(&job) {
                self.skip_one(&job, reason, events).map_err(SessionError::Folder)?;
            }
        }
        Ok(())
    }

    /// Every case that is to be carried out, in order.
    fn due(&self) -> Vec<Job> {
        self.jobs().into_iter().filter(|job| self.skips(job).is_none()).collect()
    }

    /// Every case that was not carried out in an earlier run, in order.
    fn jobs(&self) -> Vec<Job> {
        let mut jobs = Vec::new();
        for (at, chosen) in self.chosen.iter().enumerate() {
            for variant in &chosen.variants {
                let info = self.info(at, *variant, 0);
                let next = self.past.next_repetition(&info);
                let repetitions = self.repeat.map_or(next..=next, |repeat| 1..=repeat);
                for repetition in repetitions {
                    let info = CaseInfo { repetition, ..info.clone() };
                    if self.past.has(&info) {
                        continue;
                    }
                    let index = self.past.next_index() + jobs.len();
                    let variant = *variant;
                    let options = self.options(&chosen.scenario, variant);
                    jobs.push(Job { index, chosen: at, variant, repetition, options });
                }
            }
        }
        jobs
    }

    fn skips(&self, job: &Job) -> Option<String> {
        skipped(&self.chosen[job.chosen].scenario, self.kubernetes)
    }

    fn skip_one(
        &self,
        job: &Job,
        reason: String,
        events: &mpsc::UnboundedSender<Event>,
    ) -> io::Result<()> {
        let mut log = Log::open(&self.folder, job.index, events.clone())?;
        let info = self.info(job.chosen, job.variant, job.repetition);
        log.write(Duration::ZERO, What::CaseStarted(info));
        let (verdict, reasons) = (Verdict::Skip, vec![reason]);
        log.write(Duration::ZERO, What::CaseEnded { verdict, reasons, ttd: None, ttr: None });
        Ok(())
    }

    /// Runs one case after another, the first on `held` if it is given, until none is left.
    async fn work(&self, shared: &Shared<'_>, mut held: Option<Held>) -> Result<(), SessionError> {
        let mut next = shared.queue.take();
        while let Some(job) = next {
            if shared.interrupt.is_cancelled() {
                break;
            }
            let outcome = self.one(job, held.take(), shared).await;
            if outcome.is_err() {
                shared.queue.stop();
            }
            let ended = outcome?;
            held = ended.held;
            next = ended.next.or_else(|| shared.queue.take());
        }
        match held {
            Some(held) if self.keep => {
                let mut kept = shared.kept.lock().unwrap_or_else(PoisonError::into_inner);
                *kept = Some(Arc::clone(held.cluster()));
                Ok(())
            }
            Some(mut held) => {
                let renewed =
                    if self.reuse.is_some() { Box::pin(held.renew()).await } else { Ok(()) };
                let left = match renewed {
                    Ok(()) => held.cluster().leave().await,
                    Err(_) => held.cluster().delete().await,
                };
                left.map_err(SessionError::End)
            }
            None => Ok(()),
        }
    }

    /// Takes the cluster of this name, for all cases.
    async fn take(&self, name: &str, first: &Job, jobs: &[Job]) -> Result<Held, SessionError> {
        if let Some(other) = jobs.iter().find(|job| !job.options.fit(&first.options)) {
            let (one, other) = (first.options.clone(), other.options.clone());
            return Err(SessionError::Different(Box::new([one, other])));
        }
        let (logs, options) = self.logged(first);
        let cluster = self.provider.reuse(name, options).await.map_err(SessionError::Reuse)?;
        Ok(Held::taken(cluster, Some(logs)))
    }

    /// Where the logs of a case's cluster go, below the run's folder, and the options that say so.
    fn logged(&self, job: &Job) -> (String, ClusterOptions) {
        let logs = format!("{LOGS}{}", job.index);
        let options = ClusterOptions { logs: Some(self.folder.join(&logs)), ..job.options.clone() };
        (logs, options)
    }

    /// Runs a case; whether its cluster is handed on is decided when it is over.
    async fn one(
        &self,
        job: Job,
        held: Option<Held>,
        shared: &Shared<'_>,
    ) -> Result<After, SessionError> {
        let (case, next) = self.case(&job, shared)?;
        let spends = case.plan.actions.iter().any(|action| fault::spends(&action.fault));
        let (logs, options) = self.logged(&job);
        let provision = move |said: mpsc::UnboundedSender<String>| {
            let (supplies, options) = (Arc::clone(shared.supplies), options.clone());
            let (provider, logs) = (self.provider, logs.clone());
            let unchanged = self.shares().then(|| Arc::clone(&shared.unchanged));
            let taken = self.reuse.is_some();
            async move {
                if taken {
                    return Err(ClusterError::new("no other takes the place of a reused cluster"));
                }
                // Whoever listened may be gone.
                let say = move |text: String| drop(said.send(text));
                let Some(unchanged) = unchanged else {
                    let cluster = provider.create(&supplies, options, &say).await?;
                    return Ok(Held::new(cluster, Some(logs)));
                };
                let mut unchanged = unchanged.lock().await;
                if let Some(found) = &*unchanged {
                    return Ok(Held::new(Arc::clone(found), None));
                }
                let cluster = provider.create(&supplies, options, &say).await?;
                *unchanged = Some(Arc::clone(&cluster));
                Ok(Held::new(cluster, Some(logs)))
            }
        };
        let (events, interrupt) = (shared.events.clone(), shared.interrupt.clone());
        let ended = run_case(case, held, provision, events, interrupt, &self.folder)
            .await
            .map_err(SessionError::Folder)?;
        let bad = !matches!(ended.verdict, Verdict::Pass | Verdict::Skip);
        if bad && self.fails_fast() {
            shared.queue.stop();
        }
        let next = next.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut held = ended.cluster.filter(|_| !self.shares());
        if let Some(held) = held.as_mut().filter(|_| spends) {
            held.spend();
        }
        Ok(After { held, next })
    }

    /// The case, and where the one will be that goes on with its cluster.
    fn case(&self, job: &Job, shared: &Shared<'_>) -> Result<(Case, Slot), SessionError> {
        let info = self.info(job.chosen, job.variant, job.repetition);
        let plan = self.plan(job, draw(&info))?;
        let chosen = &self.chosen[job.chosen];
        let named = named_in(&chosen.scenario.nodes, &info.variant);
        let chooser = (!named.is_empty()).then(|| Chooser {
            file: chosen.file.clone(),
            text: Arc::clone(&chosen.text),
            variant: info.variant.clone(),
            version: numbers(self.kubernetes),
            named,
            draw: draw(&info),
        });
        let (queue, options, last) = (Arc::clone(&shared.queue), job.options.clone(), self.keep);
        let (fails_fast, shares) = (self.fails_fast(), self.shares());
        let (reuses, fresh) = (self.reuse.is_some(), self.fresh);
        let next = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&next);
        let keep = Box::new(move |so_far: Verdict| {
            if shares {
                return true;
            }
            let goes_on = match so_far {
                Verdict::Pass => true,
                // Everything was taken back; only what was expected did not happen.
                Verdict::Fail => !fails_fast,
                _ => false,
            };
            if goes_on && reuses {
                return true;
            }
            if goes_on && !fresh {
                let fitting = queue.take_fitting(&options);
                let found = fitting.is_some();
                *slot.lock().unwrap_or_else(PoisonError::into_inner) = fitting;
                if found {
                    return true;
                }
            }
            let is_last = queue.is_empty() || (fails_fast && so_far != Verdict::Pass);
            last && is_last
        });
        let (index, began, omit) = (job.index, shared.began, self.omit);
        let ask = self.ask.clone();
        Ok((Case { index, info, plan, chooser, began, keep, ask, omit }, next))
    }

    /// Whether its cases change nothing.
    fn shares(&self) -> bool {
        self.omit != Omit::Nothing
    }

    fn fails_fast(&self) -> bool {
        self.fail_fast || self.repeat.is_none()
    }

    fn plan(&self, job: &Job, seed: u64) -> Result<Plan, PlanError> {
        let scenario = &self.chosen[job.chosen].scenario;
        let variant = scenario.variants.get(job.variant).map_or("", String::as_str);
        Plan::new(scenario, variant, numbers(self.kubernetes), seed)
    }

    fn info(&self, chosen: usize, variant: usize, repetition: usize) -> CaseInfo {
        let kernel = nix::sys::utsname::uname()
            .map(|names| names.release().to_string_lossy().into_owned())
            .unwrap_or_default();
        let chosen = &self.chosen[chosen];
        CaseInfo {
            scenario: chosen.scenario.name.clone(),
            variant: chosen.scenario.variants.get(variant).cloned().unwrap_or_default(),
            provider: self.provider.name().into(),
            kubernetes: self.kubernetes.to_string(),
            repetition,
            scenario_sha256: chosen.sha256.clone(),
            kernel,
            seed: self.seed,
        }
    }

    fn options(&self, scenario: &Scenario, variant: usize) -> ClusterOptions {
        let variant = scenario.variants.get(variant).map_or("", String::as_str);
        let settings = scenario.cluster.settings.iter().filter(|set| set.only.covers(variant));
        let settings: Vec<(Component, String, String)> = settings
            .flat_map(|set| {
                let flags = set.flags.iter();
                flags.map(|(name, value)| (set.component, name.clone(), value.clone()))
            })
            .collect();
        ClusterOptions {
            kubernetes: self.kubernetes,
            masters: scenario.cluster.masters,
            workers: scenario.cluster.workers,
            settings,
            addons: scenario.cluster.addons.clone(),
            program: self.program.clone(),
            logs: None,
        }
    }
}

/// What a case leaves to its worker: its cluster, and the case that goes on with it.
struct After {
    held: Option<Held>,
    next: Option<Job>,
}

/// Why a run could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// A variant can't be planned.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The machine has no room for the clusters.
    #[error("there is no room for the clusters of this run")]
    Room(#[source] ClusterError),
    /// A cluster that another process holds can't be used.
    #[error("the cluster can't be reused")]
    Reuse(#[source] ClusterError),
    /// One cluster was given, and more than one would be needed.
    #[error("one cluster can't serve all these cases: some need {}, others {}", .0[0], .0[1])]
    Different(Box<[ClusterOptions; 2]>),
    /// A cluster between two cases could not be ended.
    #[error("a cluster could not be ended")]
    End(#[source] ClusterError),
    /// The run's folder can't be written.
    #[error("can't write the run's folder")]
    Folder(#[source] io::Error),
}
