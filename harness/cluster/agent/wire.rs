//! The messages between the harness and the first processes of a lab, over sockets that keep
//! message boundaries and carry file descriptors.

use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};

/// What the harness asks of a first process. `id` is the harness's own number for the request.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::cluster) enum Request {
    /// Starts a program with the three descriptors sent along as its standard streams, in a
    /// process group of its own. Answered by `Started` or `Failed`, and later by `Exited`.
    Spawn { id: u64, argv: Vec<String> },
    /// Sends a signal to the process group of an earlier `Spawn`. Not answered.
    Signal { id: u64, signal: i32 },
    /// Makes a TCP socket that belongs to this network namespace. Answered by `Socket`.
    Socket { id: u64 },
    /// To the lab's first process only: boots a node, giving it the descriptor sent along as its
    /// control socket. Answered by `Started`, and by `Exited` when the node's first process is gone.
    PowerOn { id: u64, node: NodeSpec },
}

/// What a first process answers or reports.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::cluster) enum Reply {
    /// The first process has finished its own set-up.
    Ready,
    /// Done; the process number as the first process sees it.
    Started { id: u64, pid: i32 },
    /// The socket comes along.
    Socket { id: u64 },
    /// Not done, and why. Id 0: its own set-up failed.
    Failed { id: u64, why: String },
    /// The process of a `Spawn` or `PowerOn` ended: exit code, or 128 + the signal.
    Exited { id: u64, code: i32 },
}

/// What a node's first process needs to know to lay out its machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::cluster) struct NodeSpec {
    /// Its host name.
    pub name: String,
    /// Its number on the network between nodes.
    pub number: u8,
    /// `ip -batch` lines run in the node's network namespace.
    pub network: String,
    /// Size limit of the node's disk (a tmpfs), as mount(8) takes it.
    pub disk: String,
}

/// A connected pair of sockets of the kind used here, both closed on exec.
pub(in crate::cluster) fn pair() -> nix::Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
}

/// Sends one message with descriptors.
pub(in crate::cluster) fn send<M: Serialize>(
    socket: RawFd,
    message: &M,
    descriptors: &[&OwnedFd],
    flags: MsgFlags,
) -> nix::Result<()> {
    let bytes = serde_json::to_vec(message).map_err(|_| nix::Error::EINVAL)?;
    let raw: Vec<RawFd> = descriptors.iter().map(|fd| fd.as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    let flags = flags | MsgFlags::MSG_NOSIGNAL;
    sendmsg::<()>(socket, &[IoSlice::new(&bytes)], control, flags, None).map(drop)
}
