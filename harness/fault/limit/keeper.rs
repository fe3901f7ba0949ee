//! The keeper of a limit on a node: it makes a program's processes wait, or kills them, as the kernel
//! does for a container with limits.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use regex::Regex;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, sleep_until};

use crate::fault::helper;
use crate::fault::process::pattern;
use crate::scenario::Resource;

/// The first argument by which this program is told to be a keeper.
pub(super) const ARGUMENT: &str = "outage-keeper";

/// The kernel's default period of a CPU limit, also the kubelet's: `cpu.cfs_period_us`.
/// <https://docs.kernel.org/scheduler/sched-bwc.html>
pub(super) const PERIOD: Duration = Duration::from_millis(100);

/// How often what a process has used is looked at within a period.
const LOOK: Duration = Duration::from_millis(5);

/// After so many periods the keeper looks for new processes and writes down what it did.
const ROUND: u32 = 5;

/// What a keeper is told.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Orders {
    /// By which it can be told from another.
    pub(super) name: String,
    /// The name of the program.
    pub(super) program: String,
    pub(super) to: Resource,
    /// Where it writes down what it did.
    pub(super) file: PathBuf,
}

/// What a keeper did since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Done {
    /// Periods of processes whose share of a CPU is limited.
    pub(super) periods: u64,
    /// Those in which one was made to wait.
    pub(super) waited: u64,
    /// How many were killed.
    pub(super) killed: u64,
    /// What the one that was killed last took, in bytes.
    pub(super) took: u64,
}

/// What is known of one process.
struct Kept {
    clock: ClockId,
    /// What it has used since its start, when it was looked at last.
    used: Duration,
    /// What it may still use, in nanoseconds; less than nothing if it used too much.
    left: i64,
    waits: bool,
}

/// Is a keeper until it is killed, if that is what this program was started as.
pub(in crate::fault) fn stand_in() -> Option<ExitCode> {
    helper::stand_in(ARGUMENT, keep)
}

async fn keep(orders: Orders) -> io::Result<Infallible> {
    let program = program(&orders.program)?;
    let mut kept = BTreeMap::new();
    let mut done = Done::default();
    loop {
        find(&program, &mut kept)?;
        for _ in 0..ROUND {
            let end = Instant::now() + PERIOD;
            match orders.to {
                Resource::Cpu(thousandths) => share(&mut kept, thousandths, end, &mut done).await,
                Resource::Memory(bytes) => confine(&kept, bytes, &mut done),
            }
            sleep_until(end).await;
        }
        write(&orders, done)?;
    }
}

/// Written whole, so that a reader never sees a half of it.
fn write(orders: &Orders, done: Done) -> io::Result<()> {
    let new = orders.file.with_extension("new");
    std::fs::write(&new, serde_json::to_vec(&done)?)?;
    std::fs::rename(new, &orders.file)
}

/// What the command line of a program looks like, as for `pgrep -f`.
fn program(name: &str) -> io::Result<Regex> {
    Regex::new(&pattern(name)).map_err(io::Error::other)
}

/// Brings the processes of a program up to date: those that have ended go, new ones come.
fn find(program: &Regex, kept: &mut BTreeMap<Pid, Kept>) -> io::Result<()> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if !program.is_match(&String::from_utf8_lossy(&line).replace('\0', " ")) {
            continue;
        }
        let pid = Pid::from_raw(pid);
        // A process that ends meanwhile is none.
        let Ok(clock) = clock_getcpuclockid(pid) else { continue };
        let Ok(used) = clock_gettime(clock) else { continue };
        let new = || Kept { clock, used: used.into(), left: 0, waits: false };
        found.insert(pid, kept.remove(&pid).unwrap_or_else(new));
    }
    *kept = found;
    Ok(())
}

/// Gives each process its part of a period, and makes it wait once that is used up. What it used too
/// much is taken from the next; what it left is lost.
async fn share(kept: &mut BTreeMap<Pid, Kept>, thousandths: u32, end: Instant, done: &mut Done) {
    let part = nanoseconds(PERIOD * thousandths / 1000);
    let mut waited = BTreeSet::new();
    for (pid, process) in &mut *kept {
        process.left = (process.left + part).min(part);
        if process.waits && process.left > 0 {
            process.waits = false;
            let _ = kill(*pid, Signal::SIGCONT); // One that has ended needs none.
        }
    }
    while Instant::now() + LOOK < end {
        sleep(LOOK).await;
        for (pid, process) in &mut *kept {
            let used = clock_gettime(process.clock).map_or(process.used, Into::into);
            process.left -= nanoseconds(used.saturating_sub(process.used));
            process.used = used;
            if process.left <= 0 && !process.waits {
                process.waits = kill(*pid, Signal::SIGSTOP).is_ok();
            }
            if process.waits {
                waited.insert(*pid);
            }
        }
    }
    done.periods += kept.len() as u64;
    done.waited += waited.len() as u64;
}

fn nanoseconds(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

/// Kills those that take more.
fn confine(kept: &BTreeMap<Pid, Kept>, bytes: u64, done: &mut Done) {
    for pid in kept.keys() {
        let Some(took) = resident(*pid) else { continue };
        if took > bytes && kill(*pid, Signal::SIGKILL).is_ok() {
            (done.killed, done.took) = (done.killed + 1, took);
        }
    }
}

/// The resident memory of a process in bytes; none if it has ended.
fn resident(pid: Pid) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    /// A process that never rests, under a name that no other process has. It ends with the test.
    struct Busy(Child, String);

    impl Busy {
        fn new(name: &str) -> Self {
            let name = format!("outage-{name}-{}", std::process::id());
            let start = format!("exec -a /a/{name} bash -c 'while :; do :; done'");
            Self(Command::new("bash").args(["-c", &start]).spawn().unwrap(), name)
        }

        /// Until the shell has become what it is to be.
        fn found(&self) -> BTreeMap<Pid, Kept> {
            let mut kept = BTreeMap::new();
            while kept.is_empty() {
                find(&program(&self.1).unwrap(), &mut kept).unwrap();
            }
            kept
        }

        fn pid(&self) -> Pid {
            Pid::from_raw(i32::try_from(self.0.id()).unwrap())
        }
    }

    impl Drop for Busy {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[tokio::test]
    async fn who_has_used_its_part_of_a_cpu_waits_and_whoever_has_some_left_does_not() {
        let busy = Busy::new("share");
        let (mut kept, mut done) = (busy.found(), Done::default());
        assert_eq!(kept.keys().copied().collect::<Vec<_>>(), [busy.pid()]);
        let owes = |kept: &Kept| kept.waits && kept.left < -2 * nanoseconds(PERIOD / 1000);
        while !owes(&kept[&busy.pid()]) {
            share(&mut kept, 1, Instant::now() + PERIOD, &mut done).await;
        }
        assert!(done.waited > 0 && done.waited <= done.periods, "{done:?}");
        // It owes more than a thousandth of a period, and less than ten CPUs give.
        share(&mut kept, 1, Instant::now(), &mut done).await;
        assert!(kept[&busy.pid()].waits);
        share(&mut kept, 10_000, Instant::now(), &mut done).await;
        assert!(!kept[&busy.pid()].waits);
        // Looked for again, it is the same; another name is nobody's.
        find(&program(&busy.1).unwrap(), &mut kept).unwrap();
        assert!(kept[&busy.pid()].left > 0);
        find(&program("outage-nobody").unwrap(), &mut kept).unwrap();
        assert!(kept.is_empty());
    }

    #[test]
    fn who_takes_more_memory_than_the_limit_is_killed() {
        let mut busy = Busy::new("confine");
        let (kept, mut done) = (busy.found(), Done::default());
        confine(&kept, u64::MAX, &mut done);
        assert_eq!(done, Done::default());
        confine(&kept, 1 << 10, &mut done);
        assert!(done.killed == 1 && done.took > 1 << 10, "{done:?}");
        let status = busy.0.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
        assert_eq!(resident(busy.pid()), None);
    }
}
