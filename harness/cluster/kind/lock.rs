//! The lock of a kind cluster's folder, by which its reaper and other starts know that its harness
//! is there.

use std::fs::{self, File};
use std::io;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::cluster::running::{LOCK, is_young};

/// Locks of this process that were dropped before their clusters were removed.
static ABANDONED: Mutex<Vec<Lock>> = Mutex::new(Vec::new());

/// A locked folder.
///
/// Dropped before its cluster is removed, as a start that is broken off drops it, it goes to
/// [`abandoned`] and stays locked: the harness clears up before it ends, and its reaper does not
/// race with it.
#[derive(Debug)]
pub(super) struct Lock {
    /// Nothing once it is released.
    file: Option<File>,
    folder: PathBuf,
}

impl Lock {
    /// Locks a folder that was just made.
    pub fn make(folder: &Path) -> io::Result<Self> {
        let file = File::create(folder.join(LOCK))?;
        file.lock()?;
        Ok(Self { file: Some(file), folder: folder.to_owned() })
    }

    /// Locks the folder of a harness that is gone. One without a lock is what a removal left that was
    /// broken off.
    fn of_the_dead(folder: &Path) -> Option<Self> {
        if is_young(folder) {
            return None;
        }
        let file = File::options().create(true).append(true).open(folder.join(LOCK)).ok()?;
        file.try_lock().ok()?;
        Some(Self { file: Some(file), folder: folder.to_owned() })
    }

    /// The cluster's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Unlocks, when the cluster is removed. Closing is not enough: a child of this process may have
    /// the file, too, until it is another program.
    pub fn release(mut self) {
        if let Some(file) = self.file.take() {
            // The file is gone.
            let _ = file.unlock();
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            let lock = Self { file: Some(file), folder: mem::take(&mut self.folder) };
            ABANDONED.lock().unwrap_or_else(PoisonError::into_inner).push(lock);
        }
    }
}

/// The locks of clusters to remove: those that this process abandoned, and those of harnesses that
/// are gone, in the folder of all clusters.
pub(super) fn abandoned(all: &Path) -> Vec<Lock> {
    let mut locks = mem::take(&mut *ABANDONED.lock().unwrap_or_else(PoisonError::into_inner));
    let folders = fs::read_dir(all).into_iter().flatten().flatten();
    locks.extend(folders.filter_map(|entry| Lock::of_the_dead(&entry.path())));
    locks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_holds_is_removed_also_if_a_part_of_it_is_left() {
        let all = tempfile::tempdir().unwrap();
        let folder = |name: &str| {
            let folder = all.path().join(name);
            fs::create_dir_all(folder.join("shared")).unwrap();
            folder
        };
        let (alive, dead, half_removed) = (folder("alive"), folder("dead"), folder("half-removed"));
        let held = Lock::make(&alive).unwrap();
        File::create(dead.join(LOCK)).unwrap();
        let young = all.path().join("young");
        fs::create_dir(&young).unwrap();
        let locks: Vec<_> = fs::read_dir(all.path()).unwrap().flatten().collect();
        let locks = locks.iter().filter_map(|entry| Lock::of_the_dead(&entry.path()));
        let mut found: Vec<_> = locks
            .map(|lock| {
                let folder = lock.folder.clone();
                lock.release();
                folder
            })
            .collect();
        found.sort();
        assert_eq!(found, [dead, half_removed]);
        held.release();
    }
}
