//! Whether the host has room for one more lab. Kubernetes' programs watch many files, each with an
//! inotify instance, and the kernel counts those per user over all namespaces; a program that finds
//! none left ends with "too many open files" long after the lab seemed to start.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::cluster::ClusterError;

const LIMIT: &str = "/proc/sys/fs/inotify/max_user_instances";
/// Inotify instances of a node, rounded up. Measured on 1.34.4: 65 for three masters and a worker.
const PER_NODE: usize = 18;
/// With a limit like this nothing is counted: no machine runs so many labs.
const PLENTY: usize = 4096;

/// Fails if a lab with this many nodes can't be expected to get its inotify instances.
pub(super) fn check(nodes: usize) -> Result<(), ClusterError> {
    let limit = fs::read_to_string(LIMIT).ok().and_then(|text| text.trim().parse().ok());
    let limit: usize = limit.unwrap_or(PLENTY);
    if limit >= PLENTY {
        return Ok(());
    }
    let (needed, used) = (nodes * PER_NODE, used());
    if used + needed <= limit {
        return Ok(());
    }
    Err(ClusterError::new(format!(
        "{nodes} nodes need about {needed} inotify instances; {used} of this user's {limit} are in \
         use. Raise the limit: sysctl -w fs.inotify.max_user_instances=8192"
    )))
}

/// The inotify instances of this user's processes.
fn used() -> usize {
    let own = nix::unistd::getuid().as_raw();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter(|process| process.metadata().is_ok_and(|metadata| metadata.uid() == own))
        .map(|process| instances(&process.path().join("fd")))
        .sum()
}

fn instances(descriptors: &Path) -> usize {
    let descriptors = fs::read_dir(descriptors).into_iter().flatten().flatten();
    descriptors
        .filter_map(|descriptor| fs::read_link(descriptor.path()).ok())
        .filter(|target| target.as_os_str() == "anon_inode:inotify")
        .count()
}
