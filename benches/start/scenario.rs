//! The harness's own CPU time in a whole run of a scenario.

use std::process::Stdio;
use std::time::Duration;

use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use tokio::process::Command;

use crate::Failure;
use crate::processes;

/// What is run.
pub const RUN: [&str; 4] = ["run", "stopped-apiserver", "--variant", "lease-sigterm"];

/// From one look at the processes to the next. What ends together with the lab after the last look
/// is not seen, so the run's time comes out a little too small and the harness's share too large.
const PERIOD: Duration = Duration::from_millis(200);

/// CPU times of a run.
#[derive(Debug, Clone, Copy)]
pub struct Shares {
    /// Of the harness's process alone.
    pub harness: Duration,
    /// Of all processes of the run.
    pub all: Duration,
}

/// Runs a variant on a cluster of its own, which must pass.
pub async fn run() -> Result<Shares, Failure> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_outage"))
        .args(RUN)
        .arg("--quiet")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let pid = i32::try_from(child.id().ok_or("it has ended")?)?;
    let mut all = Duration::ZERO;
    let mut ticker = tokio::time::interval(PERIOD);
    // Looked at without being waited for, its own times can still be read when it has ended.
    let looking = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    while waitid(Id::Pid(Pid::from_raw(pid)), looking)? == WaitStatus::StillAlive {
        ticker.tick().await;
        all = all.max(processes::cpu(&processes::tree(pid)));
    }
    let harness = processes::own_cpu(pid).ok_or("its times can't be read")?;
    let status = child.wait().await?;
    if !status.success() {
        return Err(format!("outage {} ended with {status}", RUN.join(" ")).into());
    }
    Ok(Shares { harness, all })
}
