//! The process that removes a kind cluster when its harness is gone: it waits for the lock that the
//! harness holds, in a session of its own.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;

use nix::unistd::setsid;

use crate::cluster::ClusterError;
use crate::cluster::running::LOCK;

/// First argument that makes this program a reaper; the second is the cluster's folder.
pub(super) const REAPER_ARGUMENT: &str = "kind-reaper";

/// Starts the reaper of the cluster that a folder stands for. It ends by itself.
pub(super) fn start(program: &Path, folder: &Path) -> Result<(), ClusterError> {
    let mut reaper = tokio::process::Command::new(program);
    reaper.arg(REAPER_ARGUMENT).arg(folder);
    reaper.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // tokio collects it, should it end before the harness.
    let started = reaper.spawn().map(drop);
    started.map_err(|error| ClusterError::caused("start the cluster's reaper", error))
}

/// Waits until the harness is gone, and removes what it left; the exit code.
pub(super) fn main(folder: &Path) -> i32 {
    // Ctrl-C is for the harness alone.
    let _ = setsid();
    let Ok(lock) = File::open(folder.join(LOCK)) else { return 0 };
    if lock.lock().is_err() {
        return 1;
    }
    if !folder.exists() {
        // The harness removed its cluster itself.
        return 0;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let removed = runtime.map(|runtime| runtime.block_on(super::remove_locked(folder)));
    i32::from(!matches!(removed, Ok(Ok(()))))
}
