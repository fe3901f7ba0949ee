//! What of the host a lab could change, as text, so that a difference is a line.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

/// Facts about the host, one a line.
#[derive(Debug, PartialEq, Eq)]
pub struct Snapshot(BTreeSet<String>);

/// Values of the kernel that change by themselves.
const RESTLESS: [&str; 13] = [
    "fs/aio-nr",
    "fs/dentry-state",
    "fs/file-nr",
    "fs/inode-nr",
    "fs/inode-state",
    "fs/quota/",
    "kernel/ns_last_pid",
    "kernel/pty/nr",
    "kernel/random/",
    "kernel/perf_event_max_sample_rate",
    "net/netfilter/nf_conntrack_count",
    "net/ipv4/route/flush",
    "vm/stat_refresh",
];

/// Folders of the system, and how deep they are listed. Where other programs work all the time
/// (logs, /tmp, homes) the harness is watched by giving it homes of its own instead.
const FOLDERS: [(&str, usize); 8] = [
    ("/", 1),
    ("/etc", 4),
    ("/usr", 2),
    ("/opt", 2),
    ("/run", 3),
    ("/var", 2),
    ("/var/lib", 2),
    ("/dev", 2),
];

impl Snapshot {
    /// The host as it is now.
    pub fn take() -> Self {
        let mut facts = BTreeSet::new();
        for args in [
            &["-o", "link"][..],
            &["-o", "addr"],
            &["rule"],
            &["-6", "rule"],
            &["route", "show", "table", "all"],
            &["-6", "route", "show", "table", "all"],
            &["netns"],
        ] {
            command(&mut facts, "ip", args);
        }
        command(&mut facts, "nft", &["list", "ruleset"]);
        for file in ["/proc/self/mounts", "/proc/modules", "/proc/sys/kernel/hostname"] {
            let text = fs::read_to_string(file).unwrap_or_default();
            // Of modules the names: their use counts are everybody's.
            let words = if file == "/proc/modules" { 1 } else { usize::MAX };
            facts.extend(text.lines().map(|line| {
                let words: Vec<&str> = line.split(' ').take(words).collect();
                format!("{file}: {}", words.join(" "))
            }));
        }
        listening(&mut facts);
        settings(&mut facts, Path::new("/proc/sys"));
        folders(&mut facts, Path::new("/sys/fs/cgroup"), usize::MAX, &|path, metadata| {
            metadata.is_dir().then(|| format!("cgroup {}", path.display()))
        });
        for (folder, depth) in FOLDERS {
            folders(&mut facts, Path::new(folder), depth, &|path, metadata| {
                let time = (metadata.mtime(), metadata.mtime_nsec());
                // A folder's time says what its entries say, and /tmp is everybody's. Terminals
                // and pipes change with every use.
                let fact = if metadata.is_file() { format!(" {time:?}") } else { String::new() };
                Some(format!("file {}{fact}", path.display()))
            });
        }
        Self(facts)
    }

    /// What is only in the other one, and what only here.
    pub fn difference(&self, later: &Self) -> Vec<String> {
        let gone = self.0.difference(&later.0).map(|fact| format!("- {fact}"));
        let new = later.0.difference(&self.0).map(|fact| format!("+ {fact}"));
        gone.chain(new).collect()
    }
}

fn command(facts: &mut BTreeSet<String>, program: &str, args: &[&str]) {
    // What is not installed can't have been changed through it, but the kernel's own files tell.
    let Ok(output) = Command::new(program).args(args).output() else { return };
    let text = String::from_utf8_lossy(&output.stdout);
    let shown = format!("{program} {}", args.join(" "));
    for line in text.lines() {
        // A lease's rest runs down by itself; counters of rules, too.
        let line = line.split(" valid_lft").next().unwrap_or(line);
        let line = line.split("counter packets").next().unwrap_or(line);
        facts.insert(format!("{shown}: {}", line.trim()));
    }
}

/// Local addresses of listening TCP sockets and unconnected UDP ones.
fn listening(facts: &mut BTreeSet<String>) {
    for (file, state) in [("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")] {
        let text = fs::read_to_string(format!("/proc/net/{file}")).unwrap_or_default();
        for line in text.lines().skip(1) {
            let words: Vec<&str> = line.split_whitespace().collect();
            if words.get(3) == Some(&state) {
                facts.insert(format!("{file} listens {}", words[1]));
            }
        }
    }
}

fn settings(facts: &mut BTreeSet<String>, folder: &Path) {
    folders(facts, folder, usize::MAX, &|path, metadata| {
        let name = path.strip_prefix(folder).unwrap_or(path).to_string_lossy().into_owned();
        if !metadata.is_file() || RESTLESS.iter().any(|restless| name.starts_with(restless)) {
            return None;
        }
        // Some can only be written.
        let value = fs::read_to_string(path).unwrap_or_default();
        Some(format!("sysctl {name} = {}", value.trim()))
    });
}

/// What `fact` says of everything in a folder, to a depth, without following links.
fn folders(
    facts: &mut BTreeSet<String>,
    folder: &Path,
    depth: usize,
    fact: &dyn Fn(&Path, &fs::Metadata) -> Option<String>,
) {
    let Some(below) = depth.checked_sub(1) else { return };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        // It may be gone by now.
        let Ok(metadata) = entry.metadata() else { continue };
        facts.extend(fact(&path, &metadata));
        if metadata.is_dir() {
            folders(facts, &path, below, fact);
        }
    }
}
