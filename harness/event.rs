//! What happens in a run, as a stream of plain records. The driver writes them, one JSON object a
//! line, to `events.jsonl` in the run's folder; every report is made from them alone.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One record of a run's event log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Time since the run began, on the run's one monotonic clock.
    pub at: Duration,
    /// Which case of the run it belongs to: an index into the cases in the order they were planned.
    pub case: usize,
    /// What happened.
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "event")]
pub enum What {
    /// A case begins.
    CaseStarted(CaseInfo),
    /// The case enters a phase.
    Phase {
        /// Which.
        phase: Phase,
    },
    /// Something that takes time goes on, in words: `3 of 3 apiservers ready`.
    Progress {
        /// The words.
        text: String,
    },
    /// The cluster that the case runs on, once it stands.
    ClusterReady {
        /// Time from its first process to readiness.
        took: Duration,
        /// What runs: each binary with version, SHA-256 and origin, as `name: value` pairs.
        provenance: Vec<(String, String)>,
        /// Every departure from kubeadm's defaults, in words.
        departures: Vec<String>,
        /// What each of its programs was started with: `kubelet on master-2` and its arguments.
        #[serde(default)]
        flags: Vec<(String, Vec<String>)>,
        /// Whether a case before this one ran on it, too.
        reused: bool,
        /// Where the logs of its components are, below the run's folder.
        logs: Option<String>,
    },
    /// Which nodes the names in the scenario stand for in this case.
    NodesChosen {
        /// Each name with its node: `lost` and `master-2`.
        nodes: Vec<(String, String)>,
    },
    /// An expectation was set up.
    ExpectationAdded {
        /// Its number within the case.
        id: usize,
        /// The phase it belongs to.
        phase: Phase,
        /// Its name.
        name: String,
        /// Its timing in words: `within 30s`.
        timing: String,
        /// What is wanted, in words; of a share with the interval and the size of the sample.
        #[serde(default)]
        wanted: String,
        /// The time from the end of one observation to the start of the next.
        #[serde(default)]
        every: Duration,
        /// What its time is spent on, as far as that is known beforehand.
        #[serde(default)]
        waits: Vec<Wait>,
    },
    /// One observation of an expectation's probe. Written when what is seen changes, not each time.
    Observed {
        /// The expectation.
        id: usize,
        /// Whether the condition held.
        holds: bool,
        /// What was seen, in words.
        saw: String,
    },
    /// An expectation came to its end.
    ExpectationEnded {
        /// The expectation.
        id: usize,
        /// How it ended.
        outcome: Outcome,
    },
    /// A fault or remedy.
    Action {
        /// Its name in the scenario.
        name: String,
        /// What it does, in words: `stop kube-apiserver on master-3 by SIGKILL`.
        does: String,
        /// How far it is.
        state: ActionState,
    },
    /// A process of the cluster died although nothing in the scenario asked for it.
    DiedUnasked {
        /// Which: `kubelet on master-2`.
        process: String,
        /// Its exit status in words.
        status: String,
        /// Its last log lines.
        log: Vec<String>,
    },
    /// The objects concerned were written to a file, before anything was taken back.
    ObjectsKept {
        /// The file, below the run's folder.
        file: String,
    },
    /// The case is over.
    CaseEnded {
        /// The verdict.
        verdict: Verdict,
        /// Why, in words; empty for a plain PASS.
        reasons: Vec<String>,
        /// Time to detect, if something was detected.
        ttd: Option<Measured>,
        /// Time to recover, if it recovered.
        ttr: Option<Measured>,
    },
}

/// The reason of a case that the user ended before its time.
pub const INTERRUPTED: &str = "interrupted";

/// Whether a case came to nothing because the user ended it, and for no other reason: it may be run
/// once more.
pub fn was_interrupted(verdict: Option<Verdict>, reasons: &[String]) -> bool {
    verdict == Some(Verdict::Invalid) && reasons == [INTERRUPTED]
}

/// What an expectation's time is spent on, and nobody here can make faster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Wait {
    /// A window in which something must go on.
    Window,
    /// The start of a component.
    Start {
        /// Which.
        of: String,
    },
    /// A documented timer of Kubernetes.
    Timer {
        /// What it is.
        name: String,
        /// The longest that it lasts.
        lasts: Duration,
        /// Where upstream says so.
        source: String,
    },
}

/// What a case is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaseInfo {
    /// The scenario's name.
    pub scenario: String,
    /// The variant's name.
    pub variant: String,
    /// The provider's name: `lab` or `kind`.
    pub provider: String,
    /// The Kubernetes version, without `v`.
    pub kubernetes: String,
    /// Which repetition, counted from 1.
    pub repetition: usize,
    /// SHA-256 of the scenario's file, in hex.
    pub scenario_sha256: String,
    /// The kernel's release.
    pub kernel: String,
    /// What decides which nodes are chosen for names such as `any: masters`, together with the
    /// scenario, the variant and the repetition.
    pub seed: u64,
}

/// The phases of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// A cluster is made.
    Provision,
    /// The steady state must hold.
    SteadyState,
    /// A fault is injected and proven.
    Inject,
    /// The fault must be seen.
    Detect,
    /// Faults are taken back.
    Revert,
    /// The cluster is changed so that it recovers with the faults in place.
    Remedy,
    /// Recovery must be seen.
    Recover,
    /// What is left is reverted, and the cluster ends.
    Teardown,
}

/// How an expectation ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// It held as it must.
    Met {
        /// From the moment the injection (or revert) was issued to the first observation that held;
        /// nothing for a `throughout`.
        after: Option<Measured>,
        /// What was seen last.
        saw: String,
    },
    /// It did not.
    Failed {
        /// What was wanted, in words.
        wanted: String,
        /// What was seen last, in words.
        saw: String,
    },
    /// It was given up because the case ended for another reason.
    Dropped,
}

/// How far an action is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ActionState {
    /// Its injecting command was issued: the moment from which TTD counts.
    Issued,
    /// Its effect was proven.
    Proven {
        /// From issued to proven.
        took: Duration,
        /// What proves it, in words.
        evidence: Vec<String>,
    },
    /// Its effect could not be proven, or was lost before the window ended.
    Unproven {
        /// Why, in words.
        why: String,
    },
    /// Its revert was issued: the moment from which TTR counts.
    Reverting,
    /// Its revert was verified by reading back.
    Reverted {
        /// From issued to verified.
        took: Duration,
    },
    /// Its revert could not be verified.
    NotReverted {
        /// Why, in words.
        why: String,
    },
}

/// A measured time with what is known of its error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// The time, counted from the moment the injecting (or reverting) action was issued.
    pub time: Duration,
    /// How much of it passed before the effect was proven.
    pub uncertainty: Duration,
    /// The resolution of the observation: the time since the one before it.
    pub resolution: Duration,
}

/// What a case's run says. Only `Pass` is success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    /// Every expectation was met.
    Pass,
    /// An expectation was not met.
    Fail,
    /// The steady state never held, or an expectation already held before its cause.
    Invalid,
    /// The fault could not be proven to be in place.
    Inconclusive,
    /// A revert could not be verified.
    Dirty,
    /// The provider cannot run it; the reason is in the record.
    Skip,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Pass => "PASS",
            Self::Fail => "FAIL",
            Self::Invalid => "INVALID",
            Self::Inconclusive => "INCONCLUSIVE",
            Self::Dirty => "DIRTY",
            Self::Skip => "SKIP",
        })
    }
}
