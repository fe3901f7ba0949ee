//! The agent's side of the socket: starts programs, signals them, collects their exits, gives out
//! sockets of its network. Single-threaded, without tokio.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, killpg, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, socket};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::sys;
use super::wire::{NodeSpec, Reply, Request, send};
use super::{Doing, PATH, SetupError};

/// Boots nodes, where an agent can: the lab's first process does.
pub(in crate::cluster) trait Boot {
    /// Starts a node's first process, which serves the descriptor that came along; its number. In
    /// the started process it does not return. `own` is the caller's own end of its socket.
    fn power_on(
        &mut self,
        node: &NodeSpec,
        descriptors: Vec<OwnedFd>,
        own: &mut OwnedFd,
    ) -> Result<i32, SetupError>;

    /// A process has ended.
    fn ended(&mut self, process: i32);
}

/// Boots nothing.
#[derive(Debug)]
pub(in crate::cluster) struct NoBoot;

impl Boot for NoBoot {
    fn power_on(
        &mut self,
        node: &NodeSpec,
        _: Vec<OwnedFd>,
        _: &mut OwnedFd,
    ) -> Result<i32, SetupError> {
        Err(SetupError(format!("{} can't be booted from here", node.name)))
    }

    fn ended(&mut self, _: i32) {}
}

/// The serving loop that all agents share.
#[derive(Debug)]
pub(in crate::cluster) struct Server<B> {
    control: OwnedFd,
    signals: SignalFd,
    /// Process to the request that started it.
    children: BTreeMap<i32, u64>,
    /// Requests whose process runs, to the process.
    running: BTreeMap<u64, i32>,
    boot: B,
}

impl<B: Boot> Server<B> {
    /// Reports readiness over the socket.
    pub fn new(control: OwnedFd, boot: B) -> Result<Self, SetupError> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&mask), None).doing(|| "block SIGCHLD".into())?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .doing(|| "watch SIGCHLD".into())?;
        let server =
            Self { control, signals, children: BTreeMap::new(), running: BTreeMap::new(), boot };
        server.reply(&Reply::Ready, &[]).doing(|| "report readiness".into())?;
        Ok(server)
    }

    fn reply(&self, reply: &Reply, descriptors: &[&OwnedFd]) -> nix::Result<()> {
        send(self.control.as_raw_fd(), reply, descriptors, MsgFlags::empty())
    }

    /// Serves until the harness's end of the socket closes; the exit code for the process. What it
    /// started and still runs is ended then.
    pub fn run(mut self) -> i32 {
        let code = self.work();
        for process in self.children.keys() {
            // It may be ending by itself.
            let _ = killpg(Pid::from_raw(*process), Signal::SIGKILL);
        }
        code
    }

    fn work(&mut self) -> i32 {
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
            self.boot.ended(pid.as_raw());
            if let Some(id) = self.children.remove(&pid.as_raw()) {
                self.running.remove(&id);
                self.reply(&Reply::Exited { id, code }, &[])?;
            }
        }
    }

    fn serve(&mut self, request: Request, descriptors: Vec<OwnedFd>) -> nix::Result<()> {
        let (id, result) = match request {
            Request::Spawn { id, argv } => (id, spawn(&argv, descriptors)),
            Request::PowerOn { id, node } => {
                (id, self.boot.power_on(&node, descriptors, &mut self.control))
            }
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
}

/// Starts a program in a process group of its own; the exit is collected by the serving loop.
#[allow(clippy::zombie_processes)]
fn spawn(argv: &[String], descriptors: Vec<OwnedFd>) -> Result<i32, SetupError> {
    let [stdin, stdout, stderr] = <[OwnedFd; 3]>::try_from(descriptors)
        .map_err(|_| SetupError("a program needs three standard streams".into()))?;
    let (program, args) =
        argv.split_first().ok_or_else(|| SetupError("an empty command".into()))?;
    let child = Command::new(program)
        .args(args)
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", "/root")
        .current_dir(Path::new("/"))
        .stdin(Stdio::from(stdin))
        .stdout(Stdio::from(stdout))
        .stderr(Stdio::from(stderr))
        .process_group(0)
        .spawn()
        .doing(|| format!("start {program}"))?;
    i32::try_from(child.id()).doing(|| "read a process number".into())
}
