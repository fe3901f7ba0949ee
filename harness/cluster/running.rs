//! Which of the running clusters is meant.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::ClusterError;

/// A file of a cluster's folder that its harness keeps locked; in a lab it holds the number of the
/// outer process.
pub(super) const LOCK: &str = "lock";

/// The cluster that a folder stands for.
pub(super) fn name_of(folder: &Path) -> String {
    folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Whether a cluster's folder may be one that is just being made: it is not locked yet, but has nothing
/// beside its lock. Nobody takes a minute from there to the lock.
pub(super) fn is_young(folder: &Path) -> bool {
    const MAKING: Duration = Duration::from_mins(1);
    let mut held = fs::read_dir(folder).into_iter().flatten().flatten();
    let age = || folder.metadata()?.modified()?.elapsed().map_err(io::Error::other);
    held.all(|entry| entry.file_name() == LOCK) && age().is_ok_and(|age| age < MAKING)
}

/// The folder of the running cluster, or of the one among several that is asked for, where `all`
/// holds those of one provider.
///
/// # Errors
/// If there is none, or several and none is named.
pub(super) fn running(all: &Path, wanted: Option<&str>) -> Result<PathBuf, ClusterError> {
    let held = |folder: &Path| {
        let lock = File::open(folder.join(LOCK)).map(|lock| lock.try_lock());
        matches!(lock, Ok(Err(TryLockError::WouldBlock)))
    };
    let folders = fs::read_dir(all).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut folders: Vec<PathBuf> = folders.filter(|folder| held(folder)).collect();
    folders.sort();
    let names = folders.iter().map(|folder| name_of(folder)).collect::<Vec<_>>().join(", ");
    match (wanted, folders.len()) {
        (_, 0) => Err(ClusterError::new(
            "no such cluster is running: start one with `outage up` (kind: with `--provider kind`)",
        )),
        (Some(wanted), _) => {
            let none = || ClusterError::new(format!("{wanted} is not running; there are: {names}"));
            folders.into_iter().find(|folder| name_of(folder) == wanted).ok_or_else(none)
        }
        (None, 1) => Ok(folders.remove(0)),
        (None, _) => Err(ClusterError::new(format!(
            "several clusters are running: {names}; choose one with `--cluster`"
        ))),
    }
}
