//! The folder of a run: its event log, from which every report is made, and what lies beside it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::event::Event;

/// The event log.
pub(super) const EVENTS: &str = "events.jsonl";

/// The beginning of the names of folders with components' logs.
pub(super) const LOGS: &str = "logs-";

/// Folders of runs are removed when they are as old as this.
const OLD: Duration = Duration::from_hours(24 * 30);

/// Makes a folder for a run among others, and removes those whose runs are a month old.
///
/// # Errors
/// If it can't be made.
pub fn make_folder(runs: &Path) -> io::Result<PathBuf> {
    fs::create_dir_all(runs)?;
    for (folder, written) in all(runs) {
        if written.elapsed().is_ok_and(|age| age > OLD)
            && let Err(error) = fs::remove_dir_all(&folder)
        {
            tracing::warn!(%error, "can't remove {}", folder.display());
        }
    }
    Ok(tempfile::Builder::new().prefix("run-").tempdir_in(runs)?.keep())
}

/// Takes a run's folder for this process alone, until the file is dropped.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] if another run is under way in it, or why it can't be written.
pub fn lock_folder(folder: &Path) -> io::Result<fs::File> {
    let file = fs::File::create(folder.join("lock"))?;
    file.try_lock()?;
    Ok(file)
}

/// The folder of the run that was last written to.
pub fn latest_folder(runs: &Path) -> Option<PathBuf> {
    all(runs).into_iter().max_by_key(|(_, written)| *written).map(|(folder, _)| folder)
}

/// Every folder with an event log, and when that was last written to.
fn all(runs: &Path) -> Vec<(PathBuf, SystemTime)> {
    let folders = fs::read_dir(runs).into_iter().flatten().flatten().map(|entry| entry.path());
    let written = |folder: PathBuf| {
        let written = fs::metadata(folder.join(EVENTS)).and_then(|file| file.modified()).ok()?;
        Some((folder, written))
    };
    folders.filter_map(written).collect()
}

/// Removes the logs of components, which are large, and of use only where something went wrong.
///
/// # Errors
/// If a folder can't be removed.
pub fn remove_logs(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(LOGS) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Reads the event log of a run's folder; nothing if there is none. A torn last line is what a
/// killed run leaves: it is cut off, so that another run can go on behind it.
///
/// # Errors
/// If it can't be read, or another line than the last is broken.
pub fn read_events(folder: &Path) -> io::Result<Vec<Event>> {
    let text = match fs::read(folder.join(EVENTS)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(error),
    };
    whole_lines(&text).map(|line| serde_json::from_slice(line).map_err(io::Error::from)).collect()
}

/// Cuts a torn last line off the event log, so that a run can go on behind it.
///
/// # Errors
/// The disk's.
pub fn mend_events(folder: &Path) -> io::Result<()> {
    let path = folder.join(EVENTS);
    let Ok(text) = fs::read(&path) else { return Ok(()) };
    let whole: usize = whole_lines(&text).map(<[u8]>::len).sum();
    if whole < text.len() {
        let length = u64::try_from(whole).map_err(io::Error::other)?;
        fs::OpenOptions::new().write(true).open(&path)?.set_len(length)?;
    }
    Ok(())
}

fn whole_lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Phase, What};

    #[test]
    fn a_torn_log_is_read_and_mended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        assert_eq!(read_events(path).unwrap(), []);
        mend_events(path).unwrap();
        let what = What::Phase { phase: Phase::Detect };
        let event = Event { at: Duration::from_secs(1), case: 2, what };
        let line = serde_json::to_string(&event).unwrap();
        fs::write(path.join(EVENTS), format!("{line}\n{line}\n{{\"at\"")).unwrap();
        assert_eq!(read_events(path).unwrap(), [event.clone(), event]);
        mend_events(path).unwrap();
        assert_eq!(fs::read_to_string(path.join(EVENTS)).unwrap(), format!("{line}\n{line}\n"));
        fs::write(path.join(EVENTS), format!("rubbish\n{line}\n")).unwrap();
        assert!(read_events(path).is_err());
    }

    #[test]
    fn a_folder_is_for_one_run_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let lock = lock_folder(folder.path()).unwrap();
        let taken = lock_folder(folder.path()).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::WouldBlock);
        drop(lock);
    }

    #[test]
    fn the_latest_run_is_found_and_its_logs_can_go() {
        let runs = tempfile::tempdir().unwrap();
        let [old, new] = [0, 1].map(|_| make_folder(runs.path()).unwrap());
        fs::write(new.join(EVENTS), "").unwrap();
        fs::create_dir(new.join("logs-0")).unwrap();
        assert_eq!(latest_folder(runs.path()), Some(new.clone()));
        remove_logs(&new).unwrap();
        assert!(!new.join("logs-0").exists() && new.join(EVENTS).exists() && old.exists());
    }
}
