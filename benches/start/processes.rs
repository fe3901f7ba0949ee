//! What the kernel says of a tree of processes: who belongs to it, its memory, its CPU time.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};

/// A process as it was when it was looked at.
#[derive(Debug, Clone)]
pub struct Process {
    /// Its number, as the host counts.
    pub pid: i32,
    parent: i32,
    /// The name of its program, cut off after 15 bytes by the kernel.
    name: String,
    /// Its own CPU time, in ticks.
    own: u64,
    /// That of the children that it has waited for, in ticks.
    reaped: u64,
}

/// The parts of a cluster that are looked at apart. What is none of upstream's programs is what
/// starts and holds them: the harness with its first processes, or the baseline's shells.
const COMPONENTS: [(&str, &str); 13] = [
    ("etcd", "etcd"),
    ("kube-apiserver", "kube-apiserver"),
    ("kube-controller", "kube-controller-manager"),
    ("kube-scheduler", "kube-scheduler"),
    ("kubelet", "kubelet"),
    ("containerd", "containerd"),
    ("containerd-shim", "containerd-shim"),
    ("kube-proxy", "kube-proxy"),
    ("coredns", "CoreDNS"),
    ("pause", "pause"),
    ("catatonit", "pause"),
    ("haproxy", "haproxy"),
    ("runc", "runc"),
];

/// The component that holds the cluster together but is no part of it.
pub const HOLDER: &str = "what starts and holds them";

impl Process {
    fn read(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name stands in parentheses and may hold anything.
        let (head, rest) = stat.rsplit_once(')')?;
        let name = head.split_once('(')?.1.to_owned();
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        Some(Self {
            pid,
            parent: fields.get(1)?.parse().ok()?,
            name,
            own: number(11)? + number(12)?,
            reaped: number(13)? + number(14)?,
        })
    }

    /// Which component it is.
    pub fn component(&self) -> &'static str {
        let known = COMPONENTS.iter().find(|(name, _)| match *name {
            "containerd-shim" => self.name.starts_with(name),
            name => self.name == name,
        });
        known.map_or(HOLDER, |(_, component)| component)
    }

    /// Its share of memory, in bytes; nothing if it has just ended.
    fn pss(&self) -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid)).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
        Some(kilobytes << 10)
    }
}

/// A process and all that descend from it, ended ones that nobody has waited for among them.
pub fn tree(root: i32) -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let all: Vec<Process> = numbers.filter_map(Process::read).collect();
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for process in &all {
        children.entry(process.parent).or_default().push(process.pid);
    }
    let mut members = BTreeSet::new();
    let mut next = vec![root];
    while let Some(pid) = next.pop() {
        if members.insert(pid) {
            next.extend(children.get(&pid).into_iter().flatten());
        }
    }
    all.into_iter().filter(|process| members.contains(&process.pid)).collect()
}

/// The memory of each component, in bytes. What processes share is counted once, in parts.
pub fn memory(tree: &[Process]) -> BTreeMap<&'static str, u64> {
    let mut sums = BTreeMap::new();
    for process in tree {
        *sums.entry(process.component()).or_default() += process.pss().unwrap_or_default();
    }
    sums
}

/// The CPU time of a tree and of all that ended in it and was waited for.
pub fn cpu(tree: &[Process]) -> Duration {
    ticks(tree.iter().map(|process| process.own + process.reaped).sum())
}

/// The CPU time of one process alone, its children not counted; also when it has just ended and
/// nobody has waited for it yet.
pub fn own_cpu(pid: i32) -> Option<Duration> {
    Process::read(pid).map(|process| ticks(process.own))
}

fn ticks(count: u64) -> Duration {
    let rate = sysconf(SysconfVar::CLK_TCK).ok().flatten();
    let rate = rate.and_then(|rate| u64::try_from(rate).ok()).unwrap_or(100);
    Duration::from_millis(count * 1000 / rate)
}
