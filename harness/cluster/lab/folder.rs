//! The folders of labs: made, and removed once nobody holds them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::RUNC_NAME;
use crate::assets::{Cache, remove_tree};
use crate::cluster::ClusterError;
use crate::cluster::files::aside;
use crate::cluster::running::{LOCK, is_young, name_of};

/// Makes a folder of its own, which goes unless it is kept, and locks it for as long as the lab
/// lives.
pub(super) fn make_folder(labs: &Path) -> std::io::Result<(File, TempDir)> {
    fs::create_dir_all(labs)?;
    let folder = tempfile::Builder::new().prefix("lab-").tempdir_in(labs)?;
    let lock = File::create(folder.path().join(LOCK))?;
    lock.lock()?;
    for dir in ["logs", "nodes", "bin", "control"] {
        fs::create_dir(folder.path().join(dir))?;
    }
    File::create(folder.path().join("bin").join(RUNC_NAME))?;
    Ok((lock, folder))
}

/// Where the folders of all labs are.
pub(super) fn labs() -> Result<PathBuf, ClusterError> {
    let cache =
        Cache::from_env().map_err(|error| ClusterError::caused("find the cache folder", error))?;
    Ok(cache.root().join("labs"))
}

/// Removes the folders of labs whose start was broken off, or whose run was killed, once their
/// processes are gone; their names.
///
/// # Errors
/// Which can't be removed within 20 s, and which were.
pub async fn sweep() -> Result<Vec<String>, ClusterError> {
    const LIMIT: Duration = Duration::from_secs(20);
    const PERIOD: Duration = Duration::from_millis(50);
    let labs = labs()?;
    let began = tokio::time::Instant::now();
    let mut removed = Vec::new();
    loop {
        let swept = Swept::of(labs.clone()).await;
        removed.extend(swept.removed.iter().map(|folder| name_of(folder)));
        // What is just ending may still write.
        if swept.failed.is_empty() {
            return Ok(removed);
        }
        if began.elapsed() > LIMIT {
            let mut text = swept.failed.join("\n");
            if !removed.is_empty() {
                text = format!("{text}\nremoved: {}", removed.join(", "));
            }
            return Err(ClusterError::new(text));
        }
        tokio::time::sleep(PERIOD).await;
    }
}

/// What became of the folders of labs whose harness is gone.
#[derive(Debug, Default)]
pub(super) struct Swept {
    removed: Vec<PathBuf>,
    /// Which could not be removed, and why.
    failed: Vec<String>,
}

impl Swept {
    /// Removes them.
    pub async fn of(labs: PathBuf) -> Self {
        let removing = aside(move || Ok(Self::remove(&labs))).await;
        let failed =
            |error: std::io::Error| Self { failed: vec![error.to_string()], ..Self::default() };
        removing.unwrap_or_else(failed)
    }

    fn remove(labs: &Path) -> Self {
        let mut swept = Self::default();
        for folder in fs::read_dir(labs).into_iter().flatten().flatten().map(|entry| entry.path()) {
            if is_young(&folder) {
                continue;
            }
            // Without a lock it is what a removal left that was broken off.
            let lock = File::open(folder.join(LOCK));
            if lock.is_ok_and(|lock| lock.try_lock().is_err()) {
                continue;
            }
            match remove_tree(&folder) {
                Ok(()) => swept.removed.push(folder),
                Err(error) => {
                    swept.failed.push(format!("can't remove {}: {error}", folder.display()));
                }
            }
        }
        swept
    }

    /// Says it.
    pub fn tell(self, say: &(dyn Fn(String) + Send + Sync)) {
        for folder in self.removed {
            say(format!("removed {}: its run was killed", folder.display()));
        }
        self.failed.into_iter().for_each(say);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_that_nobody_holds_or_is_just_making_are_swept() {
        let labs = tempfile::tempdir().unwrap();
        let (held, alive) = make_folder(labs.path()).unwrap();
        let (lock, dead) = make_folder(labs.path()).unwrap();
        // Closing is not enough: a child of another test may have the file, too, until it is another
        // program.
        lock.unlock().unwrap();
        // Made, and not locked yet.
        let young = labs.path().join("lab-young");
        fs::create_dir(&young).unwrap();
        assert_eq!(Swept::remove(labs.path()).removed, [dead.path()]);
        File::create(young.join(LOCK)).unwrap();
        let swept = Swept::remove(labs.path());
        assert!(swept.removed.is_empty() && swept.failed.is_empty(), "{swept:?}");
        assert!(young.join(LOCK).exists() && alive.path().exists());
        drop(held);
    }

    #[test]
    fn what_a_removal_or_a_start_left_that_was_broken_off_is_swept() {
        let labs = tempfile::tempdir().unwrap();
        let half_removed = labs.path().join("lab-half-removed");
        fs::create_dir_all(half_removed.join("nodes")).unwrap();
        let hardly_made = labs.path().join("lab-hardly-made");
        fs::create_dir(&hardly_made).unwrap();
        let dir = File::open(&hardly_made).unwrap();
        dir.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        let mut removed = Swept::remove(labs.path()).removed;
        removed.sort();
        assert_eq!(removed, [half_removed, hardly_made]);
    }

    #[test]
    fn a_folder_that_is_not_kept_goes() {
        let labs = tempfile::tempdir().unwrap();
        let path = make_folder(labs.path()).unwrap().1.path().to_owned();
        assert!(!path.exists());
    }
}
