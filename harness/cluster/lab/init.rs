//! The first processes: one for the lab, one for each node. Single-threaded, without tokio, they
//! lay out their namespaces, then serve the harness until its socket closes. When one dies, the
//! kernel ends everything in its PID namespace, and the network goes with the last process.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::OwnedFd;

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, getgid, getuid, pipe, read, sethostname, setsid, write};

use super::layout::LabPaths;
use super::root;
use crate::cluster::agent::wire::NodeSpec;
use crate::cluster::agent::{Boot, Doing, NoBoot, Server, SetupError, fail, sys};

/// Runs the lab's first process; called at the start of `main`, before any thread exists. The
/// control socket is descriptor 0. Returns the exit code of the outer process, which only waits.
pub(crate) fn main(paths: &str) -> i32 {
    let control = sys::take_stdin();
    match outer() {
        Ok(Some(child)) => {
            drop(control);
            match waitpid(child, None) {
                Ok(WaitStatus::Exited(_, code)) => code,
                _ => 1,
            }
        }
        Ok(None) => inner(&control, paths),
        Err(error) => fail(&control, error),
    }
}

/// Leaves the terminal's session, makes the namespaces and forks the first process of the new PID
/// namespace: `None` in that process.
fn outer() -> Result<Option<Pid>, SetupError> {
    setsid().doing(|| "start a session".into())?;
    let (uid, gid) = (getuid(), getgid());
    unshare(
        CloneFlags::CLONE_NEWUSER
            | CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS,
    )
    .doing(|| "make user, mount, PID, network, IPC and UTS namespaces".into())?;
    let map = |file: &str, text: String| {
        fs::write(format!("/proc/self/{file}"), text).doing(|| format!("write {file}"))
    };
    map("setgroups", "deny".into())?;
    map("uid_map", format!("0 {uid} 1"))?;
    map("gid_map", format!("0 {gid} 1"))?;
    sys::fork().doing(|| "fork".into())
}

fn inner(control: &OwnedFd, paths: &str) -> i32 {
    let setup = || -> Result<Server<Machines>, SetupError> {
        sys::die_with_parent().doing(|| "ask to die with the parent".into())?;
        let paths: LabPaths = serde_json::from_str(paths).doing(|| "read the paths".into())?;
        root::enter_control_root(&paths)?;
        sethostname("outage").doing(|| "set the host name".into())?;
        root::control_network()?;
        let own = control.try_clone().doing(|| "copy the socket".into())?;
        Server::new(own, Machines::default())
    };
    match setup() {
        Ok(server) => server.run(),
        Err(error) => fail(control, error),
    }
}

/// Runs a node's first process in the forked child.
fn node_main(control: &OwnedFd, spec: &NodeSpec, unshared: &OwnedFd, connected: &OwnedFd) -> i32 {
    let setup = || -> Result<Server<NoBoot>, SetupError> {
        unshare(
            CloneFlags::CLONE_NEWNS
                | CloneFlags::CLONE_NEWNET
                | CloneFlags::CLONE_NEWIPC
                | CloneFlags::CLONE_NEWUTS,
        )
        .doing(|| "make the node's namespaces".into())?;
        write(unshared, b"1").doing(|| "report the namespaces".into())?;
        let mut answer = [0];
        let got = read(connected, &mut answer).doing(|| "wait for the network".into())?;
        if got != 1 {
            return Err(SetupError("the node's network was not connected".into()));
        }
        sethostname(&spec.name).doing(|| "set the host name".into())?;
        root::enter_node_root(spec)?;
        Server::new(control.try_clone().doing(|| "copy the socket".into())?, NoBoot)
    };
    match setup() {
        Ok(server) => server.run(),
        Err(error) => fail(control, error),
    }
}

/// The nodes that the lab's first process has booted.
#[derive(Debug, Default)]
struct Machines {
    /// Nodes whose disk is mounted.
    disks: BTreeSet<String>,
    /// The first processes of the nodes that run.
    machines: BTreeSet<i32>,
}

impl Boot for Machines {
    /// Forks a node: the child is the first process of a PID namespace of its own.
    fn power_on(
        &mut self,
        node: &NodeSpec,
        descriptors: Vec<OwnedFd>,
        own: &mut OwnedFd,
    ) -> Result<i32, SetupError> {
        let [control] = <[OwnedFd; 1]>::try_from(descriptors)
            .map_err(|_| SetupError("a node needs one control socket".into()))?;
        if !self.disks.contains(&node.name) {
            root::make_disk(node)?;
            self.disks.insert(node.name.clone());
        }
        let (unshared_rx, unshared_tx) = pipe().doing(|| "make a pipe".into())?;
        let (connected_rx, connected_tx) = pipe().doing(|| "make a pipe".into())?;
        // A process may choose the PID namespace of its children once; going back to its own
        // namespace in between lets it do so for every node.
        let here = fs::File::open("/proc/self/ns/pid").doing(|| "open the PID namespace".into())?;
        unshare(CloneFlags::CLONE_NEWPID).doing(|| "make a PID namespace".into())?;
        let child = sys::fork().doing(|| "fork a node".into());
        if let Ok(None) = child {
            drop((unshared_rx, connected_tx));
            // The child serves its own socket, and must not keep the lab's open.
            *own = control;
            // A group of its own, so that the power is cut by one signal.
            let _ = setsid();
            std::process::exit(node_main(own, node, &unshared_tx, &connected_rx));
        }
        setns(&here, CloneFlags::CLONE_NEWPID).doing(|| "go back to the PID namespace".into())?;
        let Some(child) = child? else {
            return Err(SetupError("the node's process went on as its parent".into()));
        };
        drop((unshared_tx, connected_rx));
        let mut answer = [0];
        if read(&unshared_rx, &mut answer).doing(|| "wait for the node".into())? == 1 {
            root::connect_node(node, child)?;
            self.machines.insert(child.as_raw());
            write(&connected_tx, b"1").doing(|| "tell the node".into())?;
        }
        Ok(child.as_raw())
    }

    fn ended(&mut self, process: i32) {
        if self.machines.remove(&process) {
            // The kernel may have done so already.
            let _ = root::disconnect_node(Pid::from_raw(process));
        }
    }
}
