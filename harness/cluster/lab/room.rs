//! Whether the host has room for labs. Kubernetes' programs watch many files, each with an inotify
//! instance, and the kernel counts those per user over all namespaces; a program that finds none
//! left ends with "too many open files" long after the lab seemed to start. Memory that runs out
//! ends programs, too, and theirs are not the only ones that the kernel may choose.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::cluster::ClusterError;

const LIMIT: &str = "/proc/sys/fs/inotify/max_user_instances";
/// Inotify instances of a node, rounded up. Measured on 1.34.4: 65 for three masters and a worker.
const PER_NODE: usize = 18;
/// With a limit like this nothing is counted: no machine runs so many labs.
const PLENTY: usize = 4096;

/// Memory of a node in kilobytes, rounded up. Measured on 1.34.4: 2.1 GB for three masters and a
/// worker.
const MEMORY_PER_NODE: usize = 640 << 10;

/// Fails if labs with so many nodes in all can't be expected to have the memory and the inotify
/// instances that they need.
pub(in crate::cluster) fn check(nodes: usize) -> Result<(), ClusterError> {
    memory(nodes, available())?;
    limit().map_or(Ok(()), |limit| instances(nodes, used(), limit))
}

/// The same for nodes whose programs run as root. What root's other programs use only root can see,
/// so it is not counted.
pub(in crate::cluster) fn check_of_root(nodes: usize) -> Result<(), ClusterError> {
    memory(nodes, available())?;
    limit().map_or(Ok(()), |limit| instances(nodes, 0, limit))
}

/// The memory that programs can still have, in kilobytes; nothing: the kernel does not say.
pub fn available() -> Option<usize> {
    read(&fs::read_to_string("/proc/meminfo").ok()?)
}

/// `MemAvailable` of `/proc/meminfo`, in kilobytes.
fn read(meminfo: &str) -> Option<usize> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn memory(nodes: usize, available: Option<usize>) -> Result<(), ClusterError> {
    let needed = nodes * MEMORY_PER_NODE;
    match available {
        Some(available) if needed > available => Err(ClusterError::new(format!(
            "{nodes} nodes need about {} MB of memory; {} MB are available. Run fewer clusters at once",
            needed >> 10,
            available >> 10
        ))),
        _ => Ok(()),
    }
}

/// The limit of inotify instances a user; nothing: there are plenty.
fn limit() -> Option<usize> {
    let limit = fs::read_to_string(LIMIT).ok()?.trim().parse().ok()?;
    (limit < PLENTY).then_some(limit)
}

fn instances(nodes: usize, used: usize, limit: usize) -> Result<(), ClusterError> {
    let needed = nodes * PER_NODE;
    if used + needed <= limit {
        return Ok(());
    }
    let in_use = if used > 0 { format!(", {used} are in use") } else { String::new() };
    Err(ClusterError::new(format!(
        "{nodes} nodes need about {needed} inotify instances; a user may have {limit}{in_use}. Raise \
         the limit: sysctl -w fs.inotify.max_user_instances=8192"
    )))
}

/// The inotify instances of this user's processes.
fn used() -> usize {
    let own = nix::unistd::getuid().as_raw();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter(|process| process.metadata().is_ok_and(|metadata| metadata.uid() == own))
        .map(|process| held(&process.path().join("fd")))
        .sum()
}

fn held(descriptors: &Path) -> usize {
    let descriptors = fs::read_dir(descriptors).into_iter().flatten().flatten();
    descriptors
        .filter_map(|descriptor| fs::read_link(descriptor.path()).ok())
        .filter(|target| target.as_os_str() == "anon_inode:inotify")
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_and_compared_per_node() {
        let text = "MemTotal:       100 kB\nMemAvailable:    5242880 kB\n";
        let available = read(text);
        assert!(memory(8, available).is_ok());
        let error = memory(9, available).unwrap_err().to_string();
        assert!(error.contains("9 nodes need about 5760 MB of memory; 5120 MB"), "{error}");
        assert!(memory(9, None).is_ok());
    }

    #[test]
    fn instances_are_what_is_left_of_the_limit() {
        assert!(instances(4, 0, 128).is_ok());
        assert!(instances(8, 0, 128).is_err());
        let error = instances(4, 100, 128).unwrap_err().to_string();
        assert!(error.contains("4 nodes need about 72 inotify instances"), "{error}");
        assert!(error.contains("128, 100 are in use"), "{error}");
    }
}
