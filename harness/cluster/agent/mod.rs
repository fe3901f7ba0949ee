//! The harness's hands inside a cluster: a process in a node's namespaces that starts programs there,
//! signals them and gives out sockets of its network, over a socket that carries descriptors. In
//! the lab the first process of each node is one; elsewhere one is started on each node.

mod link;
mod server;
pub(super) mod sys;
pub(super) mod wire;

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, socket};

pub(super) use link::{Link, Program};
pub(super) use server::{Boot, NoBoot, Server};

/// First argument that makes this program an agent; the second is its socket's path.
pub(super) const AGENT_ARGUMENT: &str = "node-agent";

/// `PATH` of every program that an agent starts.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A step of an agent's set-up that failed, in words.
#[derive(Debug)]
pub(super) struct SetupError(pub String);

/// Adds what was being done to an error.
pub(super) trait Doing<T> {
    /// An error, told as what was being done and its cause.
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, SetupError>;
}

impl<T, E: std::fmt::Display> Doing<T> for Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, SetupError> {
        self.map_err(|error| SetupError(format!("{}: {error}", what())))
    }
}

/// Tells the harness why an agent can't work; the exit code for the process.
pub(super) fn fail(control: &OwnedFd, error: SetupError) -> i32 {
    let reply = wire::Reply::Failed { id: 0, why: error.0 };
    // Nobody is left to be told if this fails, too.
    let _ = wire::send(control.as_raw_fd(), &reply, &[], MsgFlags::empty());
    1
}

/// Serves the harness that listens on this socket until it closes; the exit code. Called at the
/// start of `main`, before any thread exists.
pub(super) fn main(path: &str) -> i32 {
    let connected = || -> Result<OwnedFd, SetupError> {
        let made = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)
            .doing(|| "make a socket".into())?;
        let address = UnixAddr::new(Path::new(path)).doing(|| format!("address {path}"))?;
        connect(made.as_raw_fd(), &address).doing(|| format!("connect to {path}"))?;
        Ok(made)
    };
    let control = match connected() {
        Ok(control) => control,
        Err(error) => {
            eprintln!("{}", error.0);
            return 1;
        }
    };
    match control
        .try_clone()
        .doing(|| "copy the socket".into())
        .and_then(|own| Server::new(own, NoBoot))
    {
        Ok(server) => server.run(),
        Err(error) => fail(&control, error),
    }
}
