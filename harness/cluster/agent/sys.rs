//! The few kernel interfaces that have no safe wrapper. The only module that may use `unsafe`.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::mem;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::unistd::{ForkResult, Pid};

/// The longest message between the harness and a first process, in bytes.
pub(in crate::cluster) const MESSAGE_LIMIT: usize = 128 * 1024;

/// Forks. Only for a process with one thread: the child goes on with everything the parent has.
pub(in crate::cluster) fn fork() -> nix::Result<Option<Pid>> {
    // SAFETY: every caller is a first process of the lab, which never starts a thread, so no lock
    // can be held by somebody who does not exist in the child.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Some(child)),
        ForkResult::Child => Ok(None),
    }
}

/// Receives one message and the file descriptors that came with it. An empty message is the end:
/// the other side closed.
pub(in crate::cluster) fn receive(
    socket: RawFd,
    flags: MsgFlags,
) -> nix::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut buffer = vec![0; MESSAGE_LIMIT];
    let mut descriptors = Vec::new();
    let length = {
        let mut parts = [io::IoSliceMut::new(&mut buffer)];
        let mut space = cmsg_space!([RawFd; 4]);
        let flags = flags | MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<()>(socket, &mut parts, Some(&mut space), flags)?;
        for part in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(raw) = part {
                // SAFETY: the kernel has just made these descriptors for this process; nobody else
                // owns them.
                descriptors.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        message.bytes
    };
    buffer.truncate(length);
    Ok((buffer, descriptors))
}

/// Takes over descriptor 0, on which a first process is given its end of the control socket.
pub(in crate::cluster) fn take_stdin() -> OwnedFd {
    // SAFETY: called once, at the start of a process that was given its control socket there and
    // never uses std::io::stdin.
    unsafe { OwnedFd::from_raw_fd(0) }
}

/// Makes the mount at `path` and everything below it read-only.
pub(in crate::cluster) fn make_read_only(path: &str) -> nix::Result<()> {
    let path = CString::new(path).map_err(|_| nix::Error::EINVAL)?;
    // SAFETY: mount_attr is plain data for which all zeroes is valid.
    let mut attributes: libc::mount_attr = unsafe { mem::zeroed() };
    attributes.attr_set = libc::MOUNT_ATTR_RDONLY;
    // SAFETY: both pointers live through the call and the size is that of the structure.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            mem::size_of::<libc::mount_attr>(),
        )
    };
    nix::errno::Errno::result(result).map(drop)
}

/// Asks the kernel to kill this process when its parent dies.
pub(in crate::cluster) fn die_with_parent() -> nix::Result<()> {
    // SAFETY: this prctl takes plain integers and touches no memory.
    let result = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) };
    nix::errno::Errno::result(result).map(drop)
}
