//! A run of several cases, one after another, each on a cluster of its own.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Case, Ended, Omit, Plan, PlanError, run_case};
use crate::assets::{Assets, KubernetesVersion, Progress};
use crate::cluster::lab::{self, Lab};
use crate::cluster::{Cluster, ClusterError};
use crate::event::{CaseInfo, Event, Verdict};
use crate::scenario::{Component, Scenario};

/// A scenario with the hash of the file that it was read from.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// The scenario.
    pub scenario: Scenario,
    /// SHA-256 of its file, in lower-case hexadecimal.
    pub sha256: String,
    /// Which of its variants to run, by their index.
    pub variants: Vec<usize>,
}

/// What to run, and on what.
#[derive(Debug, Clone)]
pub struct Session {
    /// The scenarios, in order.
    pub chosen: Vec<Chosen>,
    /// The version of Kubernetes.
    pub kubernetes: KubernetesVersion,
    /// How often each variant runs.
    pub repeat: usize,
    /// Whether the last cluster is left standing.
    pub keep: bool,
    /// The `outage` program, which is also a lab's first process.
    pub program: PathBuf,
    /// The run's folder: event log, undo journals, logs of the components.
    pub folder: PathBuf,
    /// For tests alone: what is left out of each case.
    pub omit: Omit,
}

/// What a run came to.
#[derive(Debug)]
pub struct Finished {
    /// The verdict of each case that was begun, in order.
    pub verdicts: Vec<Verdict>,
    /// The cluster of the last case, if it was to be kept.
    pub kept: Option<Arc<dyn Cluster>>,
}

impl Session {
    /// Runs every case, in order, until all are done or `interrupt` is cancelled.
    ///
    /// # Errors
    /// [`SessionError`] if a variant can't be planned, or the run's folder can't be written.
    pub async fn run(
        &self,
        assets: &Arc<Assets>,
        events: &mpsc::UnboundedSender<Event>,
        interrupt: &CancellationToken,
    ) -> Result<Finished, SessionError> {
        let cases = self.cases()?;
        let last = cases.len().saturating_sub(1);
        let mut finished = Finished { verdicts: Vec::new(), kept: None };
        for (index, (case, options)) in cases.into_iter().enumerate() {
            if interrupt.is_cancelled() {
                break;
            }
            let case = Case { keep: self.keep && index == last, ..case };
            let assets = Arc::clone(assets);
            let provision = move |said: mpsc::UnboundedSender<String>| async move {
                // Whoever listened may be gone.
                let say = move |text: String| drop(said.send(text));
                let lab = Lab::start(assets, options, &Progress::silent(), &say).await?;
                Ok::<Arc<dyn Cluster>, ClusterError>(lab)
            };
            let ended: Ended =
                run_case(case, provision, events.clone(), interrupt.clone(), &self.folder)
                    .await
                    .map_err(SessionError::Folder)?;
            finished.verdicts.push(ended.verdict);
            finished.kept = ended.cluster;
        }
        Ok(finished)
    }

    fn cases(&self) -> Result<Vec<(Case, lab::Options)>, SessionError> {
        let began = Instant::now();
        let mut cases = Vec::new();
        for chosen in &self.chosen {
            let named = |at: &usize| chosen.scenario.variants.get(*at);
            for variant in chosen.variants.iter().filter_map(named) {
                for repetition in 1..=self.repeat {
                    let index = cases.len();
                    let info = self.info(chosen, variant, repetition);
                    let plan = Plan::new(&chosen.scenario, variant)?;
                    let omit = self.omit;
                    let case = Case { index, info, plan, began, keep: false, omit };
                    cases.push((case, self.options(&chosen.scenario, variant, index)));
                }
            }
        }
        Ok(cases)
    }

    fn info(&self, chosen: &Chosen, variant: &str, repetition: usize) -> CaseInfo {
        let kernel = nix::sys::utsname::uname()
            .map(|names| names.release().to_string_lossy().into_owned())
            .unwrap_or_default();
        CaseInfo {
            scenario: chosen.scenario.name.clone(),
            variant: variant.to_owned(),
            provider: "lab".into(),
            kubernetes: self.kubernetes.to_string(),
            repetition,
            scenario_sha256: chosen.sha256.clone(),
            kernel,
        }
    }

    fn options(&self, scenario: &Scenario, variant: &str, index: usize) -> lab::Options {
        let settings = scenario.cluster.settings.iter().filter(|set| set.only.covers(variant));
        let settings: Vec<(Component, String, String)> = settings
            .flat_map(|set| {
                let flags = set.flags.iter();
                flags.map(|(name, value)| (set.component, name.clone(), value.clone()))
            })
            .collect();
        lab::Options {
            kubernetes: self.kubernetes,
            masters: scenario.cluster.masters,
            workers: scenario.cluster.workers,
            settings,
            addons: scenario.cluster.addons.clone(),
            program: self.program.clone(),
            logs: Some(self.folder.join(format!("logs-{index}"))),
        }
    }
}

/// Why a run could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// A variant can't be planned.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The run's folder can't be written.
    #[error("can't write the run's folder")]
    Folder(#[source] io::Error),
}
