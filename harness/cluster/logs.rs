//! Log files of the programs that make up a cluster.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::ClusterError;

/// The last lines of a log file.
pub(super) fn last_lines(log: &Path) -> Vec<String> {
    const LINES: usize = 8;
    const LONGEST: usize = 300;
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(LINES)..];
    last.iter().map(|line| line.chars().take(LONGEST).collect()).collect()
}

/// What stands in a file after this many bytes, and how many they are in all. A file that is not
/// there yet is empty; one that has become shorter is read from its start.
fn read(file: &Path, since: Option<u64>) -> std::io::Result<(Vec<u8>, u64)> {
    let mut open = match File::open(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        opened => opened?,
    };
    let size = open.metadata()?.len();
    let from = match since {
        None => size,
        Some(since) if since > size => 0,
        Some(since) => since,
    };
    open.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    open.take(size - from).read_to_end(&mut bytes)?;
    let position = from + bytes.len() as u64;
    Ok((bytes, position))
}

/// The same, beside the other tasks.
pub(super) async fn read_since(
    log: PathBuf,
    since: Option<u64>,
) -> Result<(Vec<u8>, u64), ClusterError> {
    let reading = tokio::task::spawn_blocking(move || {
        let failed = |error| ClusterError::caused(format!("read {}", log.display()), error);
        read(&log, since).map_err(failed)
    });
    reading.await.map_err(|error| ClusterError::caused("read a log", error)).flatten()
}

/// An empty input, and a file to append both outputs to.
pub(super) fn log_streams(log: &Path) -> Result<[OwnedFd; 3], ClusterError> {
    let failed = |error| ClusterError::caused(format!("open {}", log.display()), error);
    let output = File::options().create(true).append(true).open(log).map_err(failed)?;
    let errors = output.try_clone().map_err(failed)?;
    let input = File::open("/dev/null").map_err(failed)?;
    Ok([input.into(), output.into(), errors.into()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_read_from_where_it_was_left() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        assert_eq!(read(&log, None).unwrap(), (vec![], 0));
        std::fs::write(&log, "one\n").unwrap();
        assert_eq!(read(&log, None).unwrap(), (vec![], 4));
        assert_eq!(read(&log, Some(0)).unwrap(), (b"one\n".to_vec(), 4));
        std::fs::write(&log, "one\ntwo\n").unwrap();
        assert_eq!(read(&log, Some(4)).unwrap(), (b"two\n".to_vec(), 8));
        std::fs::write(&log, "new\n").unwrap();
        assert_eq!(read(&log, Some(8)).unwrap(), (b"new\n".to_vec(), 4));
    }
}
