//! One case of a run, put together from its events.

use std::collections::BTreeMap;
use std::time::Duration;

use super::account::{Account, Taker};
use super::words;
use crate::event::{
    ActionState, CaseInfo, Event, Measured, Outcome, Phase, Verdict, Wait, What, was_interrupted,
};

/// One case of a run: one scenario's variant, once. What has not happened yet is empty.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Case {
    /// What it is.
    pub info: Option<CaseInfo>,
    /// Its number in the run.
    pub index: usize,
    /// When it began, on the run's clock.
    pub began: Duration,
    /// When its last event was.
    pub last: Duration,
    /// The phase that it is in.
    pub phase: Option<Phase>,
    /// What goes on.
    pub progress: String,
    /// Time from the cluster's first process to its readiness.
    pub cluster_ready: Option<Duration>,
    /// Whether a case before it ran on the cluster, too.
    pub reused: bool,
    /// Where the logs of the cluster's components are, below the run's folder.
    pub logs: Option<String>,
    /// Where the objects concerned are, below the run's folder.
    pub objects: Option<String>,
    /// The nodes that the scenario's names stand for.
    pub nodes: Vec<(String, String)>,
    /// What runs: `name: value` pairs.
    pub provenance: Vec<(String, String)>,
    /// Departures from kubeadm's defaults.
    pub departures: Vec<String>,
    /// What each program was started with.
    pub flags: Vec<(String, Vec<String>)>,
    /// Where its time went.
    pub account: Account,
    /// Its expectations by number.
    pub expectations: BTreeMap<usize, ExpectationRecord>,
    /// Its faults and remedies in order: name, what it does, its states in order.
    pub actions: Vec<(String, String, Vec<ActionState>)>,
    /// Deaths that nothing in the scenario asked for.
    pub deaths: Vec<Death>,
    /// Its verdict; nothing while it goes on, and if it never ended.
    pub verdict: Option<Verdict>,
    /// Why, in words.
    pub reasons: Vec<String>,
    /// Time to detect.
    pub ttd: Option<Measured>,
    /// Time to recover.
    pub ttr: Option<Measured>,
}

/// An expectation and what became of it.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpectationRecord {
    /// Its phase.
    pub phase: Phase,
    /// Its name.
    pub name: String,
    /// Its timing in words.
    pub timing: String,
    /// What is wanted, in words.
    pub wanted: String,
    /// The time from the end of one observation to the start of the next.
    pub every: Duration,
    /// What its time is spent on.
    pub waits: Vec<Wait>,
    /// Whether it held when last observed, and what was seen.
    pub observed: Option<(bool, String)>,
    /// How it ended.
    pub outcome: Option<Outcome>,
}

/// The death of a process that nothing in the scenario asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Death {
    /// When, on the run's clock.
    pub at: Duration,
    /// Which process.
    pub process: String,
    /// Its exit status in words.
    pub status: String,
    /// Its last log lines.
    pub log: Vec<String>,
}

impl Case {
    /// `scenario/variant`, with `#n` from the second repetition on.
    pub fn label(&self) -> String {
        match &self.info {
            None => "?".to_owned(),
            Some(info) if info.repetition > 1 => {
                format!("{}/{} #{}", info.scenario, info.variant, info.repetition)
            }
            Some(info) => format!("{}/{}", info.scenario, info.variant),
        }
    }

    /// What tells it from other cases, apart from when it ran.
    fn key(&self) -> Option<(&str, &str, &str, &str, usize, &str)> {
        self.info.as_ref().map(|info| {
            let CaseInfo { scenario, variant, provider, kubernetes, .. } = info;
            let hash = info.scenario_sha256.as_str();
            (
                scenario.as_str(),
                variant.as_str(),
                provider.as_str(),
                kubernetes.as_str(),
                info.repetition,
                hash,
            )
        })
    }

    /// How long it took, or takes so far.
    pub fn took(&self) -> Duration {
        self.last.saturating_sub(self.began)
    }

    /// Takes in an event of this case.
    pub fn take(&mut self, event: &Event) {
        self.spend(event);
        self.last = event.at;
        self.index = event.case;
        match &event.what {
            What::CaseStarted(info) => {
                self.info = Some(info.clone());
                self.began = event.at;
                self.account.open(event.at);
            }
            What::Phase { phase } => self.phase = Some(*phase),
            What::Progress { text } => self.progress.clone_from(text),
            What::ClusterReady { took, provenance, departures, flags, reused, logs } => {
                self.cluster_ready = Some(*took);
                self.reused = *reused;
                self.logs.clone_from(logs);
                self.provenance.clone_from(provenance);
                self.departures.clone_from(departures);
                self.flags.clone_from(flags);
            }
            What::ExpectationAdded { id, phase, name, timing, wanted, every, waits } => {
                let (phase, name, timing) = (*phase, name.clone(), timing.clone());
                let (observed, outcome) = (None, None);
                let (wanted, every, waits) = (wanted.clone(), *every, waits.clone());
                let record = ExpectationRecord {
                    phase,
                    name,
                    timing,
                    wanted,
                    every,
                    waits,
                    observed,
                    outcome,
                };
                self.expectations.insert(*id, record);
            }
            What::Observed { id, holds, saw } => {
                if let Some(expectation) = self.expectations.get_mut(id) {
                    expectation.observed = Some((*holds, saw.clone()));
                }
            }
            What::ExpectationEnded { id, outcome } => {
                if let Some(expectation) = self.expectations.get_mut(id) {
                    expectation.outcome = Some(outcome.clone());
                }
            }
            What::Action { name, does, state } => self.act(name, does, state),
            What::DiedUnasked { process, status, log } => {
                let (process, status, log) = (process.clone(), status.clone(), log.clone());
                self.deaths.push(Death { at: event.at, process, status, log });
            }
            What::NodesChosen { nodes } => self.nodes.clone_from(nodes),
            What::ObjectsKept { file } => self.objects = Some(file.clone()),
            What::CaseEnded { verdict, reasons, ttd, ttr } => {
                self.verdict = Some(*verdict);
                self.reasons.clone_from(reasons);
                (self.ttd, self.ttr) = (*ttd, *ttr);
            }
        }
    }

    /// Whose the time since the event before was.
    fn spend(&mut self, event: &Event) {
        let at = event.at;
        match &event.what {
            What::ClusterReady { reused: false, .. } => {
                self.account.to(at, Taker::Start, "the cluster");
            }
            What::ExpectationEnded { id, outcome } => {
                let waits = self.expectations.get(id).map(|record| record.waits.as_slice());
                self.account.waited(at, waits.unwrap_or_default(), outcome);
            }
            What::CaseStarted(_) | What::Progress { .. } | What::Observed { .. } => {}
            _ => {
                let phase = self.phase.map_or("beginning", words::phase);
                self.account.to(at, Taker::Own, phase);
            }
        }
    }

    fn act(&mut self, name: &str, does: &str, state: &ActionState) {
        match self.actions.iter_mut().find(|(known, ..)| known == name) {
            Some((.., states)) => states.push(state.clone()),
            None => self.actions.push((name.to_owned(), does.to_owned(), vec![state.clone()])),
        }
    }
}

/// The cases of a run in their planned order. One that did not come to its end is left out if it was run once
/// more later, as a run does that goes on with an earlier one.
pub fn cases(events: &[Event]) -> Vec<Case> {
    let mut cases: BTreeMap<usize, Case> = BTreeMap::new();
    for event in events {
        cases.entry(event.case).or_default().take(event);
    }
    let all: Vec<Case> = cases.into_values().collect();
    let again = |at: usize, case: &Case| {
        let cut_short = case.verdict.is_none() || was_interrupted(case.verdict, &case.reasons);
        cut_short
            && case.info.is_some()
            && all[at + 1..].iter().any(|later| later.key() == case.key())
    };
    let left_out: Vec<bool> = all.iter().enumerate().map(|(at, case)| again(at, case)).collect();
    all.into_iter().zip(left_out).filter(|(_, out)| !out).map(|(case, _)| case).collect()
}
