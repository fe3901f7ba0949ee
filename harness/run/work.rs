//! The work that an action of the state machine stands for, each piece to its end under its own
//! deadline, and its answer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::timeout;

use super::journal::Journal;
use super::plan::{Plan, PlannedAction, Role};
use super::step::Input;
use crate::cluster::client::{Access, words};
use crate::cluster::{Cluster, ClusterError};
use crate::fault::{self, Issued, Proof, Undo};

/// How long one proof may take.
const PROOF: Duration = Duration::from_secs(30);

/// How long the end of a cluster may take.
const END: Duration = Duration::from_mins(2);

/// What a test leaves out, to show that nothing passes without it. Not for users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Omit {
    /// Nothing.
    #[default]
    Nothing,
    /// Injections; they are proven honestly, so the case must be INCONCLUSIVE.
    Injection,
    /// Injections, and their proof is said to be there: each detection that is not `throughout`
    /// must FAIL.
    InjectionAndProof {
        /// No detection is waited for longer; nothing: as long as its scenario says.
        at_most: Option<Duration>,
    },
}

impl Omit {
    /// What of a plan is carried out: without the faults there is nothing to recover from.
    pub(super) fn left_of(self, plan: Plan) -> Plan {
        match self {
            Self::InjectionAndProof { at_most } => plan.detection_alone(at_most),
            Self::Nothing | Self::Injection => plan,
        }
    }
}

/// What works on the cluster: shared by the tasks of one case.
#[derive(Debug, Clone)]
pub(super) struct Work {
    pub(super) plan: Arc<Plan>,
    pub(super) access: Access,
    pub(super) journal: Arc<Mutex<Journal>>,
    /// The inverse of each action that was begun.
    pub(super) undos: Arc<Mutex<BTreeMap<usize, Undo>>>,
    pub(super) omit: Omit,
}

impl Work {
    /// Writes the inverse down, injects and proves.
    pub(super) async fn inject(self, id: usize, issued: Issued) -> Input {
        let action = &self.plan.actions[id];
        let proof = async {
            // Later injections may need what earlier ones leave, so nothing is even looked at.
            if self.forces(action) {
                issued();
                return self.proof(action, None).await;
            }
            let looking = fault::undo(&action.fault, &self.access);
            let undo =
                bounded(fault::limit(&action.fault), "the look at what is there", looking).await?;
            if self.omits(action) {
                issued();
            } else {
                self.record(id, undo.clone()).await?;
                let injecting = fault::inject(&undo, &self.access, issued);
                bounded(fault::limit(&action.fault), "the injection", injecting).await?;
            }
            self.proof(action, Some(&undo)).await
        };
        answer(id, proof.await)
    }

    /// Proves again.
    pub(super) async fn prove(self, id: usize) -> Input {
        let undo = lock(&self.undos).get(&id).cloned();
        let proof = self.proof(&self.plan.actions[id], undo.as_ref()).await;
        answer(id, proof)
    }

    async fn proof(
        &self,
        action: &PlannedAction,
        undo: Option<&Undo>,
    ) -> Result<Proof, ClusterError> {
        if self.forces(action) {
            return Ok(Ok(vec!["said so by a test that left the injection out".to_owned()]));
        }
        let Some(undo) = undo else { return Ok(Err("it was never begun".to_owned())) };
        bounded(PROOF, "the proof", fault::prove(undo, &self.access)).await
    }

    fn omits(&self, action: &PlannedAction) -> bool {
        self.omit != Omit::Nothing && action.role == Role::Fault
    }

    /// Whether its proof is said to be there.
    fn forces(&self, action: &PlannedAction) -> bool {
        matches!(self.omit, Omit::InjectionAndProof { .. }) && self.omits(action)
    }

    /// Takes back and verifies. What was never begun needs nothing.
    pub(super) async fn revert(self, id: usize) -> Input {
        let undo = lock(&self.undos).get(&id).cloned();
        let Some(undo) = undo else { return Input::Reverted(id) };
        let limit = fault::limit(&undo.fault);
        let reverting = async {
            bounded(limit, "the revert", fault::revert(&undo, &self.access)).await?;
            self.write(move |journal| journal.done(id)).await
        };
        match reverting.await {
            Ok(()) => Input::Reverted(id),
            Err(error) => Input::NotReverted(id, words(&error)),
        }
    }

    /// The inverse is on disk when this returns.
    async fn record(&self, id: usize, undo: Undo) -> Result<(), ClusterError> {
        let written = undo.clone();
        self.write(move |journal| journal.record(id, &written)).await?;
        lock(&self.undos).insert(id, undo);
        Ok(())
    }

    /// Writes to the journal, on a thread that may wait for the disk.
    async fn write(
        &self,
        write: impl FnOnce(&mut Journal) -> std::io::Result<()> + Send + 'static,
    ) -> Result<(), ClusterError> {
        let journal = Arc::clone(&self.journal);
        tokio::task::spawn_blocking(move || write(&mut lock(&journal)))
            .await
            .map_err(std::io::Error::other)
            .flatten()
            .map_err(|error| ClusterError::caused("the undo journal", error))
    }
}

/// Ends the cluster, as an answer to the machine.
pub(super) async fn tear_down(cluster: Arc<dyn Cluster>) -> Input {
    Input::TornDown(end(cluster).await.map_err(|error| words(&error)))
}

/// Ends the cluster.
pub(super) async fn end(cluster: Arc<dyn Cluster>) -> Result<(), ClusterError> {
    bounded(END, "the cluster's end", cluster.delete()).await
}

fn answer(id: usize, proof: Result<Proof, ClusterError>) -> Input {
    match proof {
        Ok(Ok(evidence)) => Input::Proven(id, evidence),
        Ok(Err(why)) => Input::Unproven(id, why),
        Err(error) => Input::Unproven(id, words(&error)),
    }
}

async fn bounded<T>(
    limit: Duration,
    what: &str,
    work: impl Future<Output = Result<T, ClusterError>>,
) -> Result<T, ClusterError> {
    let late = |_| ClusterError::new(format!("{what} took longer than {limit:?}"));
    timeout(limit, work).await.map_err(late).flatten()
}

/// A lock that outlives the panic of another task: what it guards is changed in one step.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
