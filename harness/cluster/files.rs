//! Files of a cluster's folder.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;

use tokio::task::AbortHandle;

/// Does work that waits for the disk where nobody else waits for it: another case's observers run on the
/// same few threads.
///
/// # Guarantees
/// The work is over when this future is, also when it is dropped before: it would go on writing where
/// whoever gave up is about to remove.
pub(super) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (working, over) = mpsc::channel();
    let task = tokio::task::spawn_blocking(move || {
        let _working: mpsc::Sender<()> = working;
        work()
    });
    let _end = End { task: task.abort_handle(), over };
    task.await.map_err(io::Error::other).flatten()
}

/// Waits for the end of work when it is dropped; work that has not begun never does.
struct End {
    task: AbortHandle,
    over: mpsc::Receiver<()>,
}

impl Drop for End {
    fn drop(&mut self) {
        self.task.abort();
        // Nothing is ever sent: the other end goes when the work has ended, or was taken back.
        let _ = self.over.recv();
    }
}

/// Gives a program's file a second name, or a copy: it may be on another file system, and nobody may
/// link what somebody else owns (`fs.protected_hardlinks`).
///
/// Another process copies: whatever this one opens for writing, a child that another thread starts
/// at that moment has open, too, until it executes its own program, and a file that somebody may
/// write to can't be executed (`ETXTBSY`, execve(2)).
pub(super) fn link_or_copy(from: &Path, to: &Path) -> io::Result<()> {
    if fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    let mut copy = Command::new("cp");
    copy.arg("--").args([from, to]).stdin(Stdio::null());
    let output = copy.output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::*;

    #[tokio::test]
    async fn who_gives_up_waits_for_the_end_of_the_work() {
        const FOLDERS: usize = 500;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        let (begins, begun) = tokio::sync::oneshot::channel();
        let mut working = Box::pin(aside(move || {
            begins.send(()).unwrap();
            (0..FOLDERS).try_for_each(|number| fs::create_dir(path.join(number.to_string())))
        }));
        assert!(futures::poll!(&mut working).is_pending());
        begun.await.unwrap();
        drop(working);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), FOLDERS);
    }

    /// The copy is made on another file system, where there is one.
    #[test]
    fn a_copy_can_be_executed_whatever_else_is_started() {
        let (here, there) = (Path::new("/dev/shm"), Path::new("/tmp"));
        let folder = |at: &Path| tempfile::tempdir_in(at).or_else(|_| tempfile::tempdir());
        let (from, to) = (folder(here).unwrap(), folder(there).unwrap());
        let program = from.path().join("true");
        fs::copy("/bin/true", &program).unwrap();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    assert!(Command::new("/bin/true").status().unwrap().success());
                }
            });
            for number in 0..100 {
                let copy = to.path().join(number.to_string());
                link_or_copy(&program, &copy).unwrap();
                assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o111, 0o111);
                let ran = Command::new(&copy).status();
                if number == 99 || ran.is_err() {
                    done.store(true, Ordering::Relaxed);
                }
                assert!(ran.unwrap().success(), "{number}");
            }
        });
        let absent = link_or_copy(&from.path().join("absent"), &to.path().join("absent"));
        assert!(absent.unwrap_err().to_string().contains("No such file"));
    }
}
