//! Faults: one file a fault, that reads from top to bottom as inject, prove, revert.
//!
//! What a revert needs is read first (`before`) and lies in the undo journal, synced, before the
//! first mutation. A revert is idempotent, tolerates a partial or absent injection, and is verified
//! by reading back.

mod certificate;
mod clock;
mod command;
mod container;
mod file;
mod freeze;
mod full_disk;
mod helper;
mod isolate;
mod kill;
mod limit;
mod manifest;
mod nft;
mod object;
mod open_files;
mod overlap;
mod pause;
mod power_off;
mod process;
mod runtime;
mod serving;
mod settings;
mod stop;
mod traffic;

pub use overlap::hides;

use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use serde::{Deserialize, Serialize};

use crate::cluster::ClusterError;
use crate::cluster::client::Access;
use crate::scenario::{Fault, NodeRef, nodes_in_words as nodes};

/// All that takes a fault back: enough for a process that knows nothing else of the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Undo {
    /// The fault.
    pub fault: Fault,
    /// What it found before it changed anything; only the fault itself reads it.
    pub before: serde_json::Value,
}

/// Called just before the injecting command is issued: the moment from which TTD counts.
pub type Issued = Box<dyn FnOnce() + Send>;

/// What proves a fault, in words; or why it is not proven.
pub type Proof = Result<Vec<String>, String>;

/// What a fault can do.
trait Primitive: Sync {
    /// What it does, in words.
    fn does(&self) -> String;

    /// How long an injection or a revert may take at most.
    fn limit(&self) -> Duration;

    /// Whether the cluster is not as good as new once this was taken back, so that it must be renewed
    /// before another case uses it: a kubelet's restart back-off outlives a revert.
    fn spends(&self) -> bool {
        true
    }

    /// Reads what the revert needs. Changes nothing.
    fn before<'a>(
        &'a self,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<serde_json::Value, ClusterError>>;

    /// Injects, and calls `issued` just before the command that breaks things.
    fn inject<'a>(
        &'a self,
        before: &'a serde_json::Value,
        access: &'a Access,
        issued: Issued,
    ) -> BoxFuture<'a, Result<(), ClusterError>>;

    /// Looks for the effect; changes nothing.
    fn prove<'a>(
        &'a self,
        before: &'a serde_json::Value,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<Proof, ClusterError>>;

    /// Takes it back and reads back that it is.
    fn revert<'a>(
        &'a self,
        before: &'a serde_json::Value,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<(), ClusterError>>;
}

fn primitive(fault: &Fault) -> &dyn Primitive {
    match fault {
        Fault::Stop(stop) => stop,
        Fault::Settings(settings) => settings,
        Fault::ContainerNameTaken(taken) => taken,
        Fault::Apply(apply) => apply,
        Fault::Patch(patch) => patch,
        Fault::Delete(delete) => delete,
        Fault::Scale(scale) => scale,
        Fault::Kill(kill) => kill,
        Fault::Pause(pause) => pause,
        Fault::Clock(clock) => clock,
        Fault::TooManyOpenFiles(files) => files,
        Fault::Limit(limit) => limit,
        Fault::FullDisk(disk) => disk,
        Fault::PowerOff(power_off) => power_off,
        Fault::Freeze(freeze) => freeze,
        Fault::Isolate(isolate) => isolate,
        Fault::Traffic(traffic) => traffic,
        Fault::Degrade(degrade) => degrade,
        Fault::File(file) => file,
        Fault::Certificate(certificate) => certificate,
        Fault::Command(command) => command,
    }
}

/// Does the work of a fault on a node, until it is killed, if that is what this program was started
/// for. To be called before any thread exists.
pub fn stand_in() -> Option<std::process::ExitCode> {
    traffic::degrade::proxy::stand_in().or_else(limit::keeper::stand_in)
}

/// What the fault does, in words: `stop kube-apiserver on master-3 by SIGKILL`.
pub fn does(fault: &Fault) -> String {
    primitive(fault).does()
}

/// How long an injection or a revert of the fault may take at most.
pub fn limit(fault: &Fault) -> Duration {
    primitive(fault).limit()
}

/// Whether the cluster is not as good as new once the fault was taken back.
pub fn spends(fault: &Fault) -> bool {
    primitive(fault).spends()
}

/// The inverse of the fault, to be written down before [`inject`]. Changes nothing.
///
/// # Errors
/// If what the revert needs can't be read, or the cluster is not in a state to be broken so.
pub async fn undo(fault: &Fault, access: &Access) -> Result<Undo, ClusterError> {
    Ok(Undo { fault: fault.clone(), before: primitive(fault).before(access).await? })
}

/// Injects the fault of a record, and calls `issued` just before the command that breaks things.
///
/// # Errors
/// If it could not be injected; it may then be in place in part.
pub async fn inject(undo: &Undo, access: &Access, issued: Issued) -> Result<(), ClusterError> {
    primitive(&undo.fault).inject(&undo.before, access, issued).await
}

/// Whether the fault's effect is there: evidence in words, or why not. Changes nothing.
///
/// # Errors
/// If the harness could not look.
pub async fn prove(undo: &Undo, access: &Access) -> Result<Proof, ClusterError> {
    primitive(&undo.fault).prove(&undo.before, access).await
}

/// Takes the fault back and verifies that by reading back. Idempotent; a fault that is in place in
/// part or not at all is no error.
///
/// # Errors
/// If it could not be taken back, or not be verified.
pub async fn revert(undo: &Undo, access: &Access) -> Result<(), ClusterError> {
    primitive(&undo.fault).revert(&undo.before, access).await
}

/// How long the nodes take together if one comes after another.
fn in_turn(each: Duration, on: &[NodeRef]) -> Duration {
    each * u32::try_from(on.len()).unwrap_or(u32::MAX)
}

/// Does all of it at once, and each to its end. Gives the first error.
async fn each<T, Fut>(work: impl IntoIterator<Item = Fut>) -> Result<Vec<T>, ClusterError>
where
    Fut: Future<Output = Result<T, ClusterError>>,
{
    join_all(work).await.into_iter().collect()
}

/// The proof of parts that must all be proven.
fn all(parts: impl IntoIterator<Item = Proof>) -> Proof {
    parts.into_iter().collect::<Result<Vec<_>, _>>().map(|evidence| evidence.concat())
}

/// A number that tells a fault from others.
fn short_hash(fault: &impl Serialize) -> Result<u32, ClusterError> {
    use sha2::Digest;
    let text =
        serde_json::to_vec(fault).map_err(|error| ClusterError::caused("name a fault", error))?;
    let hash = sha2::Sha256::digest(&text);
    Ok(hash.iter().take(4).fold(0, |number, byte| number << 8 | u32::from(*byte)))
}

/// A record of what was before, for the journal.
fn record(before: &impl Serialize) -> Result<serde_json::Value, ClusterError> {
    serde_json::to_value(before).map_err(|e| ClusterError::caused("the undo record", e))
}

/// The record of what was before, from the journal.
fn recorded<T: for<'a> Deserialize<'a>>(before: &serde_json::Value) -> Result<T, ClusterError> {
    T::deserialize(before).map_err(|e| ClusterError::caused("the undo record", e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_of_many_needs_all_of_them() {
        let seen = |text: &str| Ok(vec![text.to_owned()]);
        assert_eq!(all([seen("a"), seen("b")]), Ok(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(all([seen("a"), Err("not b".to_owned())]), Err("not b".to_owned()));
    }

    #[tokio::test]
    async fn work_on_one_does_not_end_that_on_another() {
        let done = std::sync::Mutex::new(vec![]);
        let work = |number: u32| {
            let done = &done;
            async move {
                tokio::task::yield_now().await;
                done.lock().unwrap().push(number);
                if number == 1 { Err(ClusterError::new("one")) } else { Ok(number) }
            }
        };
        assert_eq!(each([1, 2, 3].map(work)).await.unwrap_err().to_string(), "one");
        assert_eq!(*done.lock().unwrap(), [1, 2, 3]);
    }
}
