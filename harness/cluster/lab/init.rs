//! The first processes: one for the lab, one for each node. Single-threaded, without tokio, they
//! lay out their namespaces, then serve the harness until its socket closes. When one dies, the
//! kernel ends everything in its PID namespace, and the network goes with the last process.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, killpg, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, socket};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getgid, getuid, pipe, read, sethostname, setsid, write};

use super::layout::{CONTROL, LabPaths};
use super::root;
use super::sys;
use super::wire::{NodeSpec, Reply, Request, send};

/// A step of a first process's set-up that failed, in words.
#[derive(Debug)]
pub(super) struct SetupError(pub String);

/// Adds what was being done to an error.
pub(super) trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, SetupError>;
}

impl<T, E: std::fmt::Display> Doing<T> for Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, SetupError> {
        self.map_err(|error| SetupError(format!("{}: {error}", what())))
    }
}

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

fn fail(control: &OwnedFd, error: SetupError) -> i32 {
    let reply = Reply::Failed { id: 0, why: error.0 };
    // Nobody is left to be told if this fails, too.
    let _ = send(control.as_raw_fd(), &reply, &[], MsgFlags::empty());
    1
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
    let setup = || -> Result<Server, SetupError> {
        sys::die_with_parent().doing(|| "ask to die with the parent".into())?;
        let paths: LabPaths = serde_json::from_str(paths).doing(|| "read the paths".into())?;
        root::enter_control_root(&paths)?;
        sethostname("outage").doing(|| "set the host name".into())?;
        root::control_network()?;
        Server::new(control.try_clone().doing(|| "copy the socket".into())?)
    };
    match setup() {
        Ok(server) => server.run(),
        Err(error) => fail(control, error),
    }
}

/// Runs a node's first process in the forked child.
fn node_main(control: &OwnedFd, spec: &NodeSpec, unshared: &OwnedFd, connected: &OwnedFd) -> i32 {
    let setup = || -> Result<Server, SetupError> {
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
        Server::new(control.try_clone().doing(|| "copy the socket".into())?)
    };
    match setup() {
        Ok(server) => server.run(),
        Err(error) => fail(control, error),
    }
}

/// The serving loop that the lab's and the nodes' first processes share.
struct Server {
    control: OwnedFd,
    signals: SignalFd,
    /// Process to the request that started it.
    children: BTreeMap<i32, u64>,
    /// Requests whose process runs, to the process.
    running: BTreeMap<u64, i32>,
    /// Nodes whose disk is mounted.
    disks: BTreeSet<String>,
    /// The first processes of the nodes that run.
    machines: BTreeSet<i32>,
}

impl Server {
    fn new(control: OwnedFd) -> Result<Self, SetupError> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&mask), None).doing(|| "block SIGCHLD".into())?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .doing(|| "watch SIGCHLD".into())?;
        let server = Self {
            control,
            signals,
            children: BTreeMap::new(),
            running: BTreeMap::new(),
            disks: BTreeSet::new(),
            machines: BTreeSet::new(),
        };
        server.reply(&Reply::Ready, &[]).doing(|| "report readiness".into())?;
        Ok(server)
    }

    fn reply(&self, reply: &Reply, descriptors: &[&OwnedFd]) -> nix::Result<()> {
        send(self.control.as_raw_fd(), reply, descriptors, MsgFlags::empty())
    }

    /// Serves until the harness's end of the socket closes; then the process may end, and the
    /// kernel ends the rest.
    fn run(mut self) -> i32 {
        loop {
            let mut ready = [
                PollFd::new(self.control.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut ready, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => return 1,
            }
            let asked = ready[0].any().unwrap_or(false);
            let died = ready[1].any().unwrap_or(false);
            if died && self.reap().is_err() {
                return 1;
            }
            if asked {
                match sys::receive(self.control.as_raw_fd(), MsgFlags::empty()) {
                    Ok((bytes, _)) if bytes.is_empty() => return 0,
                    Ok((bytes, descriptors)) => match serde_json::from_slice(&bytes) {
                        Ok(request) => {
                            if self.serve(request, descriptors).is_err() {
                                return 1;
                            }
                        }
                        Err(_) => return 1,
                    },
                    Err(Errno::EINTR) => {}
                    Err(_) => return 1,
                }
            }
        }
    }

    fn reap(&mut self) -> nix::Result<()> {
        while let Ok(Some(_)) = self.signals.read_signal() {}
        loop {
            let (pid, code) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, code),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, 128 + signal as i32),
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(()),
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(error) => return Err(error),
            };
            if self.machines.remove(&pid.as_raw()) {
                // The kernel may have done so already.
                let _ = root::disconnect_node(pid);
            }
            if let Some(id) = self.children.remove(&pid.as_raw()) {
                self.running.remove(&id);
                self.reply(&Reply::Exited { id, code }, &[])?;
            }
        }
    }

    fn serve(&mut self, request: Request, descriptors: Vec<OwnedFd>) -> nix::Result<()> {
        let (id, result) = match request {
            Request::Spawn { id, argv, env } => (id, spawn(&argv, &env, descriptors)),
            Request::PowerOn { id, node } => (id, self.power_on(&node, descriptors)),
            Request::Signal { id, signal } => {
                if let (Some(pid), Ok(signal)) = (self.running.get(&id), Signal::try_from(signal)) {
                    // It may have gone a moment ago: then there is nothing left to signal.
                    let _ = killpg(Pid::from_raw(*pid), signal);
                }
                return Ok(());
            }
            Request::Socket { id } => {
                let made = socket(
                    AddressFamily::Inet,
                    SockType::Stream,
                    SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
                    SockProtocol::Tcp,
                );
                return match made {
                    Ok(made) => self.reply(&Reply::Socket { id }, &[&made]),
                    Err(error) => self.reply(&Reply::Failed { id, why: error.to_string() }, &[]),
                };
            }
        };
        match result {
            Ok(pid) => {
                self.children.insert(pid, id);
                self.running.insert(id, pid);
                self.reply(&Reply::Started { id, pid }, &[])
            }
            Err(error) => self.reply(&Reply::Failed { id, why: error.0 }, &[]),
        }
    }

    /// Forks a node: the child is the first process of a PID namespace of its own.
    fn power_on(&mut self, node: &NodeSpec, descriptors: Vec<OwnedFd>) -> Result<i32, SetupError> {
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
        let own = fs::File::open("/proc/self/ns/pid").doing(|| "open the PID namespace".into())?;
        unshare(CloneFlags::CLONE_NEWPID).doing(|| "make a PID namespace".into())?;
        let child = sys::fork().doing(|| "fork a node".into());
        if let Ok(None) = child {
            drop((unshared_rx, connected_tx));
            // The child serves its own socket, and must not keep the lab's open.
            self.control = control;
            // A group of its own, so that the power is cut by one signal.
            let _ = setsid();
            std::process::exit(node_main(&self.control, node, &unshared_tx, &connected_rx));
        }
        setns(&own, CloneFlags::CLONE_NEWPID).doing(|| "go back to the PID namespace".into())?;
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
}

/// Starts a program in a process group of its own; the exit is collected by the serving loop.
#[allow(clippy::zombie_processes)]
fn spawn(
    argv: &[String],
    env: &[(String, String)],
    descriptors: Vec<OwnedFd>,
) -> Result<i32, SetupError> {
    let [stdin, stdout, stderr] = <[OwnedFd; 3]>::try_from(descriptors)
        .map_err(|_| SetupError("a program needs three standard streams".into()))?;
    let (program, args) =
        argv.split_first().ok_or_else(|| SetupError("an empty command".into()))?;
    let child = Command::new(program)
        .args(args)
        .env_clear()
        .env("PATH", CONTROL.path)
        .env("HOME", "/root")
        .envs(env.iter().map(|(name, value)| (name, value)))
        .current_dir(Path::new("/"))
        .stdin(Stdio::from(stdin))
        .stdout(Stdio::from(stdout))
        .stderr(Stdio::from(stderr))
        .process_group(0)
        .spawn()
        .doing(|| format!("start {program}"))?;
    i32::try_from(child.id()).doing(|| "read a process number".into())
}
