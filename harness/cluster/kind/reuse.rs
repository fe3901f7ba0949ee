//! A kind cluster that another process holds, taken for a run.
//!
//! Who takes it marks it before the first change, with the mark on disk, and clears it only when all was
//! taken back: whatever becomes of the run, the next one sees what it would get.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Hold, Kind, PROGRAM, SHARED, clusters};
use crate::cluster::files::link_or_copy;
use crate::cluster::running::running;
use crate::cluster::{ClusterError, ClusterOptions};

/// What a cluster is, for who takes it; in its folder once it is up.
const DESCRIPTION: &str = "cluster.json";

/// Locked by who uses the cluster; holds the mark.
const USED: &str = "used";

#[derive(Serialize, Deserialize)]
struct Description {
    options: ClusterOptions,
    image: String,
}

/// The mark that a cluster is in use.
#[derive(Debug)]
pub(super) struct Used(File);

impl Used {
    /// Takes the cluster that a folder stands for, and marks nothing yet.
    fn take(folder: &Path, name: &str) -> Result<Self, ClusterError> {
        let failed = |error| ClusterError::caused(format!("read the mark of {name}"), error);
        let open = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(folder.join(USED));
        let mut file = open.map_err(failed)?;
        if file.try_lock().is_err() {
            return Err(ClusterError::new(format!("another run uses {name}")));
        }
        let mut mark = String::new();
        file.read_to_string(&mut mark).map_err(failed)?;
        if !mark.is_empty() {
            return Err(ClusterError::new(format!(
                "{name} is not as it was: a run used it, and was killed or could not take back \
                 everything; end it and make another"
            )));
        }
        Ok(Self(file))
    }

    /// Marks it: from now on it may not be as it was.
    fn mark(mut self) -> Result<Self, ClusterError> {
        let marked = self.0.write_all(b"used\n").and_then(|()| self.0.sync_all());
        marked.map_err(|error| ClusterError::caused("mark a cluster as used", error))?;
        Ok(self)
    }

    /// The cluster is as it was.
    pub fn clear(&self) -> Result<(), ClusterError> {
        let cleared = self.0.set_len(0).and_then(|()| self.0.sync_all());
        cleared.map_err(|error| ClusterError::caused("clear the mark of a used cluster", error))
    }
}

impl Drop for Used {
    /// Closing is not enough: a child of this process may have the file, too, until it is another
    /// program.
    fn drop(&mut self) {
        // Nobody is left whom it would help to know.
        let _ = self.0.unlock();
    }
}

/// Writes down what a cluster is.
pub(super) fn describe(kind: &Kind) -> Result<(), ClusterError> {
    let (options, image) = (kind.options.clone(), kind.image.clone());
    let file = kind.folder.join(DESCRIPTION);
    let failed = |error| ClusterError::caused(format!("write {}", file.display()), error);
    let text = serde_json::to_vec(&Description { options, image });
    fs::write(&file, text.map_err(|error| failed(error.into()))?).map_err(failed)
}

impl Kind {
    /// Takes the cluster of this name, which another process holds.
    ///
    /// # Errors
    /// If there is none, it is another than is asked for, another run uses it, or one did not leave
    /// it as it was.
    pub async fn reuse(name: &str, options: ClusterOptions) -> Result<Arc<Self>, ClusterError> {
        let folder = running(&clusters()?, Some(name))?;
        let read = fs::read(folder.join(DESCRIPTION)).and_then(|text| {
            serde_json::from_slice::<Description>(&text).map_err(io::Error::other)
        });
        let made = read.map_err(|error| {
            ClusterError::caused(format!("read what {name} is: it may not be up yet"), error)
        })?;
        let is = ClusterOptions { program: options.program.clone(), ..made.options };
        if !is.fit(&options) {
            return Err(ClusterError::new(format!(
                "{name} is another cluster ({is}) than the one that is needed ({options})"
            )));
        }
        let used = Used::take(&folder, name)?;
        // Agents must be of this program; those of the other process keep the file that they were
        // started from.
        let (program, new) = (folder.join(SHARED).join(PROGRAM), folder.join(SHARED).join("new"));
        // A rename to another name of the same file leaves both.
        let _ = fs::remove_file(&new);
        let taken = link_or_copy(&options.program, &new).and_then(|()| fs::rename(&new, &program));
        taken.map_err(|error| {
            ClusterError::caused(format!("take {}", options.program.display()), error)
        })?;
        let kind = Self::enter(options, made.image, &folder).await?;
        kind.hold(Hold::Others(used.mark()?));
        Ok(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_taken_by_one_run_and_again_only_if_it_was_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let take = || Used::take(folder.path(), "outage-1").map_err(|error| error.to_string());
        // One that can't be entered is left as it was.
        drop(take().unwrap());
        let first = take().unwrap().mark().unwrap();
        assert_eq!(take().unwrap_err(), "another run uses outage-1");
        first.clear().unwrap();
        drop(first);
        drop(take().unwrap().mark().unwrap());
        assert!(take().unwrap_err().starts_with("outage-1 is not as it was: "));
    }
}
