//! Ways into a lab that another process runs, and the process that tries whether this machine allows
//! labs.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::wait::{WaitStatus, waitpid};

use super::{KUBECONFIG, labs};
use crate::cluster::ClusterError;
use crate::cluster::agent::{PATH, sys};
use crate::cluster::running::{LOCK, running};

/// First argument that makes this program try what a lab needs.
pub(super) const TRIAL_ARGUMENT: &str = "lab-trial";

/// Opens a shell on a node of a running lab, or runs a command there: `KUBECONFIG` is set, and
/// `kubectl`, `crictl`, `ctr`, `kubeadm` and `etcdctl` are on the `PATH`. `lab` names one of several
/// running labs by its folder's name. To be called before any thread exists. Returns the exit code.
///
/// # Errors
/// If no lab runs, several do and none is named, the lab has no such node, or its namespaces can't
/// be entered.
pub fn enter(lab: Option<&str>, node: &str, command: &[String]) -> Result<i32, ClusterError> {
    let folder = running(&labs()?, lab)?;
    let pid = node_process(&folder, node)?;
    let administrator = fs::read(folder.join(KUBECONFIG))
        .map_err(|error| ClusterError::caused("read the lab's kubeconfig", error))?;
    let failed = |what: &str| {
        let what = format!("{what} of {node}");
        move |error: nix::Error| ClusterError::caused(what, error)
    };
    let namespace = |name: &str| {
        File::open(format!("/proc/{pid}/ns/{name}"))
            .map_err(|error| ClusterError::caused(format!("open the namespaces of {node}"), error))
    };
    // All are opened first: behind the mount namespace, /proc is another.
    let spaces = [
        (namespace("user")?, CloneFlags::CLONE_NEWUSER),
        (namespace("pid")?, CloneFlags::CLONE_NEWPID),
        (namespace("net")?, CloneFlags::CLONE_NEWNET),
        (namespace("ipc")?, CloneFlags::CLONE_NEWIPC),
        (namespace("uts")?, CloneFlags::CLONE_NEWUTS),
        (namespace("mnt")?, CloneFlags::CLONE_NEWNS),
    ];
    for (space, kind) in &spaces {
        setns(space, *kind).map_err(failed("enter a namespace"))?;
    }
    // Only a child is in the PID namespace.
    if let Some(child) = sys::fork().map_err(failed("fork into the PID namespace"))? {
        return Ok(match waitpid(child, None) {
            Ok(WaitStatus::Exited(_, code)) => code,
            Ok(WaitStatus::Signaled(_, signal, _)) => 128 + signal as i32,
            _ => 1,
        });
    }
    // A worker has no administrator's kubeconfig of its own.
    let kubeconfig = "/run/admin.conf";
    fs::write(kubeconfig, administrator)
        .map_err(|error| ClusterError::caused(format!("write {kubeconfig} on {node}"), error))?;
    let term = std::env::var("TERM").unwrap_or_else(|_| "dumb".into());
    let (program, arguments) = match command.split_first() {
        Some((program, arguments)) => (program.as_str(), arguments),
        None => ("/bin/bash", &[][..]),
    };
    let error = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", "/root")
        .env("TERM", term)
        .env("PS1", format!("[{node} \\w]# "))
        .env("KUBECONFIG", kubeconfig)
        .current_dir("/root")
        .exec();
    Err(ClusterError::caused(format!("start {program} on {node}"), error))
}

/// The first process of a node of a lab, as the host numbers it.
fn node_process(folder: &Path, node: &str) -> Result<i32, ClusterError> {
    let none = || ClusterError::new("the lab is only just starting");
    let outer = fs::read_to_string(folder.join(LOCK)).ok();
    let outer = outer.and_then(|pid| pid.trim().parse().ok()).ok_or_else(none)?;
    let inits = children(outer)?;
    let mut names = Vec::new();
    for init in inits {
        for process in children(init)? {
            // Only a node's first process has a root with its host name; programs of the control
            // room share the lab's.
            let name = fs::read_to_string(format!("/proc/{process}/root/etc/hostname"));
            let Ok(name) = name else { continue };
            if name.trim() == node {
                return Ok(process);
            }
            names.push(name.trim().to_owned());
        }
    }
    names.sort();
    names.dedup();
    let names = names.join(", ");
    Err(ClusterError::new(format!("the lab has no running node {node}; it has {names}")))
}

fn children(pid: i32) -> Result<Vec<i32>, ClusterError> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = fs::read_to_string(&path)
        .map_err(|error| ClusterError::caused(format!("read {path}"), error))?;
    Ok(text.split_whitespace().filter_map(|number| number.parse().ok()).collect())
}

/// The trial's own process. A return code of unshare alone proves nothing: some systems allow the
/// namespace and then deny the mounts.
pub(super) fn trial_main() -> i32 {
    match try_all() {
        Ok(code) => code,
        Err(why) => {
            eprintln!("{why}");
            1
        }
    }
}

fn try_all() -> Result<i32, String> {
    let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
    unshare(
        CloneFlags::CLONE_NEWUSER
            | CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS,
    )
    .map_err(|error| format!("make namespaces: {error}"))?;
    for (file, text) in [
        ("setgroups", "deny".into()),
        ("uid_map", format!("0 {uid} 1")),
        ("gid_map", format!("0 {gid} 1")),
    ] {
        fs::write(format!("/proc/self/{file}"), text)
            .map_err(|error| format!("write {file}: {error}"))?;
    }
    if let Some(child) = sys::fork().map_err(|error| format!("fork: {error}"))? {
        return match waitpid(child, None) {
            Ok(WaitStatus::Exited(_, code)) => Ok(code),
            other => Err(format!("the trial ended strangely: {other:?}")),
        };
    }
    let tried = |what: &str| {
        let what = what.to_owned();
        move |error: nix::Error| format!("{what}: {error}")
    };
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(tried("make mounts private"))?;
    mount(Some("tmpfs"), "/tmp", Some("tmpfs"), MsFlags::empty(), none)
        .map_err(tried("mount a tmpfs"))?;
    for dir in ["lower", "upper", "work", "merged", "proc", "sys"] {
        fs::create_dir(format!("/tmp/{dir}")).map_err(|error| format!("make a folder: {error}"))?;
    }
    let layers = "lowerdir=/tmp/lower,upperdir=/tmp/upper,workdir=/tmp/work,userxattr";
    mount(Some("overlay"), "/tmp/merged", Some("overlay"), MsFlags::empty(), Some(layers))
        .map_err(tried("mount an overlay"))?;
    mount(Some("proc"), "/tmp/proc", Some("proc"), MsFlags::empty(), none)
        .map_err(tried("mount proc"))?;
    mount(Some("sysfs"), "/tmp/sys", Some("sysfs"), MsFlags::empty(), none)
        .map_err(tried("mount sysfs"))?;
    sys::make_read_only("/tmp/sys").map_err(tried("make a mount read-only"))?;
    Ok(0)
}
