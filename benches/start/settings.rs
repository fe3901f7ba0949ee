//! What a running cluster was told: the command lines of its programs and the files that they read.
//! Two clusters can be compared only if these are the same.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::processes::{HOLDER, Process};

/// Everything that a cluster was told: where it stands, and what.
pub type Settings = BTreeMap<String, String>;

/// The files of a component, in its own root; a folder stands for all in it.
const FILES: [(&str, &[&str]); 4] = [
    (
        "kubelet",
        &[
            "etc/kubernetes/manifests",
            "var/lib/kubelet/config.yaml",
            "var/lib/kubelet/kubeadm-flags.env",
            "etc/containerd/config.toml",
            "etc/cni/net.d",
            "etc/hosts",
            "etc/resolv.conf",
            "etc/machine-id",
        ],
    ),
    ("kube-proxy", &["var/lib/kube-proxy/config.conf"]),
    ("CoreDNS", &["etc/coredns/Corefile"]),
    ("haproxy", &["run/haproxy.cfg"]),
];

/// Reads what the programs of a tree were told.
pub fn read(tree: &[Process]) -> Settings {
    let mut settings = Settings::new();
    let mut lines: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for process in tree {
        let (pid, component) = (process.pid, process.component());
        // Neither holds a setting: the one is compared by its files, the others are a pod's.
        if [HOLDER, "containerd-shim", "runc"].contains(&component) {
            continue;
        }
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).trim_end_matches('\0').replace('\0', " ");
        lines.entry(component).or_default().push(line);
        let root = format!("/proc/{pid}/root");
        // Only these have their node's name; others have a pod's, which is made up.
        let node = match component {
            "kubelet" | "kube-proxy" => fs::read_to_string(format!("{root}/etc/hostname")),
            _ => Ok(String::new()),
        };
        let node = node.unwrap_or_default();
        let files = FILES.iter().filter(|(of, _)| *of == component);
        for file in files.flat_map(|(_, files)| *files) {
            read_file(
                Path::new(&root),
                file,
                &format!("{component} {}", node.trim()),
                &mut settings,
            );
        }
    }
    for (component, mut lines) in lines {
        lines.sort();
        settings.insert(format!("{component}: command lines"), lines.join("\n"));
    }
    settings
}

fn read_file(root: &Path, file: &str, whose: &str, settings: &mut Settings) {
    let path = root.join(file);
    if let Ok(entries) = fs::read_dir(&path) {
        for entry in entries.flatten() {
            let inner = format!("{file}/{}", entry.file_name().to_string_lossy());
            read_file(root, &inner, whose, settings);
        }
        return;
    }
    let text = fs::read_to_string(&path).unwrap_or_else(|error| error.to_string());
    // The same setting may be written in another form.
    let json = serde_json::from_str::<serde_json::Value>(&text).map(|value| value.to_string());
    settings.insert(format!("{whose}: /{file}"), json.unwrap_or(text));
}

/// Where two clusters were told different things, with the lines that only one has; empty if
/// nowhere.
pub fn difference(lab: &Settings, baseline: &Settings) -> String {
    let mut all = String::new();
    let mut places: Vec<&String> = lab.keys().chain(baseline.keys()).collect();
    places.sort();
    places.dedup();
    for place in places {
        let text = |of: &'_ Settings| of.get(place).cloned().unwrap_or_default();
        let (ours, theirs) = (text(lab), text(baseline));
        if ours == theirs {
            continue;
        }
        // Writing to a String can't fail.
        let _ = writeln!(all, "{place}");
        for (mark, text, other) in [("lab", &ours, &theirs), ("baseline", &theirs, &ours)] {
            let others: Vec<&str> = other.lines().collect();
            for line in text.lines().filter(|line| !others.contains(line)) {
                let _ = writeln!(all, "  {mark}: {line}");
            }
        }
    }
    all
}
