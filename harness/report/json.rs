//! The report that programs read.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::case::{Case, Death, ExpectationRecord, cases};
use super::repeated::{Repeated, Spread, repeated};
use super::words;
use crate::event::{ActionState, Event, Measured, Outcome};

/// The version of the JSON report's shape: fields may be added under it, but not change.
pub const SCHEMA: &str = "outage/report/v1alpha1";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReportJson {
    schema: &'static str,
    /// How many cases had each verdict.
    totals: BTreeMap<String, usize>,
    cases: Vec<CaseJson>,
    /// What repeated cases came to together.
    repeated: Vec<RepeatedJson>,
}

/// The repetitions of one variant.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RepeatedJson {
    scenario: String,
    variant: String,
    provider: String,
    kubernetes: String,
    cases: usize,
    passed: usize,
    ttd: Option<SpreadJson>,
    ttr: Option<SpreadJson>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "a unit belongs to each name of the report")]
struct SpreadJson {
    median_seconds: f64,
    least_seconds: f64,
    most_seconds: f64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CaseJson {
    scenario: String,
    variant: String,
    provider: String,
    kubernetes: String,
    /// Counted from 1.
    repetition: usize,
    scenario_sha256: String,
    kernel: String,
    seed: u64,
    /// The nodes that the scenario's names stand for: name to node.
    nodes: BTreeMap<String, String>,
    /// Whether a case before it ran on the same cluster.
    cluster_reused: bool,
    /// Below the run's folder.
    component_logs: Option<String>,
    /// The objects concerned, of what is not PASS; below the run's folder.
    objects: Option<String>,
    /// `PASS`, `FAIL`, `INVALID`, `INCONCLUSIVE`, `DIRTY`, `SKIP`, or `UNFINISHED`.
    verdict: String,
    /// Why; empty for a plain PASS.
    reasons: Vec<String>,
    seconds: f64,
    /// From the cluster's first process to its readiness.
    cluster_ready_seconds: Option<f64>,
    ttd: Option<MeasuredJson>,
    ttr: Option<MeasuredJson>,
    expectations: Vec<ExpectationJson>,
    actions: Vec<ActionJson>,
    deaths: Vec<DeathJson>,
    /// What ran: name to version, SHA-256 and origin.
    provenance: BTreeMap<String, String>,
    /// Departures from kubeadm's defaults.
    departures: Vec<String>,
    /// `kubelet on master-2` to its arguments.
    flags: BTreeMap<String, Vec<String>>,
    /// Every second of the case, none twice.
    account: Vec<SpentJson>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SpentJson {
    /// `start`, `timer`, `window` or `own work`.
    by: &'static str,
    #[serde(rename = "for")]
    what: String,
    seconds: f64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MeasuredJson {
    /// From the moment that the action was issued.
    seconds: f64,
    /// From issued to proven.
    uncertainty_seconds: f64,
    /// Time since the observation before.
    resolution_seconds: f64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExpectationJson {
    /// `steady state`, `detect` or `recover`.
    phase: &'static str,
    name: String,
    /// In words: `within 30s`.
    timing: String,
    /// `met`, `failed`, `dropped` (the case ended for another reason) or `unfinished`.
    outcome: &'static str,
    /// When it began to hold; null for a `throughout`.
    after: Option<MeasuredJson>,
    /// In words; of a share with the interval and the size of the sample.
    wanted: String,
    /// From the end of one observation to the start of the next.
    period_seconds: f64,
    last_seen: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ActionJson {
    name: String,
    /// In words.
    does: String,
    proven_after_seconds: Option<f64>,
    evidence: Vec<String>,
    reverted_after_seconds: Option<f64>,
    /// Why it could not be proven, or not be reverted.
    problems: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DeathJson {
    at_seconds: f64,
    process: String,
    status: String,
    log: Vec<String>,
}

/// A JSON object with the `schema`, the `totals` by verdict and the `cases`. Durations are numbers
/// of seconds; what did not happen is null.
///
/// # Errors
/// Never for events that were read or made here; it is the serializer's signature.
pub fn json(events: &[Event]) -> serde_json::Result<String> {
    let cases = cases(events);
    let mut totals = BTreeMap::new();
    for case in &cases {
        *totals.entry(words::verdict(case.verdict)).or_insert(0) += 1;
    }
    let repeated = repeated(&cases).into_iter().map(RepeatedJson::from).collect();
    let cases = cases.into_iter().map(CaseJson::from).collect();
    let report = ReportJson { schema: SCHEMA, totals, cases, repeated };
    Ok(serde_json::to_string_pretty(&report)? + "\n")
}

impl From<Case> for CaseJson {
    fn from(case: Case) -> Self {
        let seconds = case.took().as_secs_f64();
        let spent = case.account.parts().map(|(taker, what, took)| {
            let (what, seconds) = (what.to_owned(), took.as_secs_f64());
            SpentJson { by: taker.words(), what, seconds }
        });
        let spent = spent.collect();
        let origin = case.info.unwrap_or_else(|| crate::event::CaseInfo {
            scenario: String::new(),
            variant: String::new(),
            provider: String::new(),
            kubernetes: String::new(),
            repetition: 1,
            scenario_sha256: String::new(),
            kernel: String::new(),
            seed: 0,
        });
        Self {
            scenario: origin.scenario,
            variant: origin.variant,
            provider: origin.provider,
            kubernetes: origin.kubernetes,
            repetition: origin.repetition,
            scenario_sha256: origin.scenario_sha256,
            kernel: origin.kernel,
            seed: origin.seed,
            nodes: case.nodes.into_iter().collect(),
            cluster_reused: case.reused,
            component_logs: case.logs,
            objects: case.objects,
            verdict: words::verdict(case.verdict),
            reasons: case.reasons,
            seconds,
            cluster_ready_seconds: case.cluster_ready.map(|took| took.as_secs_f64()),
            ttd: case.ttd.map(MeasuredJson::from),
            ttr: case.ttr.map(MeasuredJson::from),
            expectations: case.expectations.into_values().map(ExpectationJson::from).collect(),
            actions: case.actions.into_iter().map(ActionJson::from).collect(),
            deaths: case.deaths.into_iter().map(DeathJson::from).collect(),
            provenance: case.provenance.into_iter().collect(),
            departures: case.departures,
            flags: case.flags.into_iter().collect(),
            account: spent,
        }
    }
}

impl From<Repeated> for RepeatedJson {
    fn from(group: Repeated) -> Self {
        let Repeated { scenario, variant, provider, kubernetes, cases, passed, ttd, ttr } = group;
        let (ttd, ttr) = (ttd.map(SpreadJson::from), ttr.map(SpreadJson::from));
        Self { scenario, variant, provider, kubernetes, cases, passed, ttd, ttr }
    }
}

impl From<Spread> for SpreadJson {
    fn from(Spread { median, least, most }: Spread) -> Self {
        Self {
            median_seconds: median.as_secs_f64(),
            least_seconds: least.as_secs_f64(),
            most_seconds: most.as_secs_f64(),
        }
    }
}

impl From<Measured> for MeasuredJson {
    fn from(measured: Measured) -> Self {
        Self {
            seconds: measured.time.as_secs_f64(),
            uncertainty_seconds: measured.uncertainty.as_secs_f64(),
            resolution_seconds: measured.resolution.as_secs_f64(),
        }
    }
}

impl From<ExpectationRecord> for ExpectationJson {
    fn from(record: ExpectationRecord) -> Self {
        let observed = record.observed.map(|(_, saw)| saw);
        let (outcome, after, last_seen) = match record.outcome {
            Some(Outcome::Met { after, saw }) => ("met", after, Some(saw)),
            Some(Outcome::Failed { saw, .. }) => ("failed", None, Some(saw)),
            Some(Outcome::Dropped) => ("dropped", None, observed),
            None => ("unfinished", None, observed),
        };
        Self {
            phase: words::phase(record.phase),
            name: record.name,
            timing: record.timing,
            outcome,
            after: after.map(MeasuredJson::from),
            wanted: record.wanted,
            period_seconds: record.every.as_secs_f64(),
            last_seen,
        }
    }
}

impl From<(String, String, Vec<ActionState>)> for ActionJson {
    fn from((name, does, states): (String, String, Vec<ActionState>)) -> Self {
        let mut action = Self {
            name,
            does,
            proven_after_seconds: None,
            evidence: vec![],
            reverted_after_seconds: None,
            problems: vec![],
        };
        for state in states {
            match state {
                ActionState::Issued | ActionState::Reverting => {}
                ActionState::Proven { took, evidence } => {
                    // It is proven again at the end of detection: the first time counts.
                    action.proven_after_seconds.get_or_insert(took.as_secs_f64());
                    action.evidence = evidence;
                }
                ActionState::Reverted { took } => {
                    action.reverted_after_seconds = Some(took.as_secs_f64());
                }
                ActionState::Unproven { why } | ActionState::NotReverted { why } => {
                    action.problems.push(why);
                }
            }
        }
        action
    }
}

impl From<Death> for DeathJson {
    fn from(Death { at, process, status, log }: Death) -> Self {
        Self { at_seconds: Duration::as_secs_f64(&at), process, status, log }
    }
}
