//! `outage doctor`

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use clap::Args;

use super::up::provider;
use super::{Failure, program};
use crate::assets::Cache;
use crate::cluster::client::words;
use crate::cluster::{Provider, lab};

/// What a cluster of three masters and a worker takes, with room to spare.
const MEMORY_MB: u64 = 4096;
const DISK_MB: u64 = 6144;
const NODES: usize = 4;

/// Says whether this machine can run clusters, and what to do if not.
#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// What is to make the clusters: lab or kind
    #[arg(long, default_value = "lab", value_parser = provider)]
    provider: Provider,
}

/// Looks for everything; what is missing is said and is in the exit code.
pub(super) async fn run(doctor: Doctor) -> Result<ExitCode, Failure> {
    let own = match doctor.provider {
        Provider::Lab => namespaces()?,
        Provider::Kind => engine().await,
    };
    let mut checks = vec![own, packages(), Ok(go()), memory(), inotify(doctor.provider), disk()?];
    if doctor.provider == Provider::Kind {
        checks.push(forwarding());
    }
    let mut good = true;
    for check in checks {
        match check {
            Ok(text) => println!("ok       {text}"),
            Err(text) => {
                good = false;
                println!("MISSING  {text}");
            }
        }
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

type Check = Result<String, String>;

async fn engine() -> Check {
    match Provider::Kind.check().await {
        Ok(()) => Ok("a container engine that answers".into()),
        Err(error) => Err(words(&error).replace('\n', "\n         ")),
    }
}

fn inotify(provider: Provider) -> Check {
    match provider.room(NODES) {
        Ok(()) => Ok(format!("room for {NODES} nodes, inotify instances among it")),
        Err(error) => Err(words(&error)),
    }
}

/// Nodes reach each other's pods through this machine's bridge.
fn forwarding() -> Check {
    let file = "/proc/sys/net/ipv4/ip_forward";
    match std::fs::read_to_string(file).unwrap_or_default().trim() {
        "1" => Ok("packets between containers are forwarded".into()),
        _ => Err("forwarding of packets: mend it by: sysctl -w net.ipv4.ip_forward=1".into()),
    }
}

fn namespaces() -> Result<Check, Failure> {
    let Err(why) = lab::trial(&program()?) else {
        return Ok(Ok("private namespaces with mounts of their own".into()));
    };
    let mut mends = Vec::new();
    let is = |file: &str, value: &str| {
        std::fs::read_to_string(file).is_ok_and(|text| text.trim() == value)
    };
    if is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        mends.push("sysctl -w kernel.apparmor_restrict_unprivileged_userns=0");
    }
    if is("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        mends.push("sysctl -w kernel.unprivileged_userns_clone=1");
    }
    if is("/proc/sys/user/max_user_namespaces", "0") {
        mends.push("sysctl -w user.max_user_namespaces=15000");
    }
    if mends.is_empty() {
        mends.push(
            "in a container: docker run --security-opt seccomp=unconfined --security-opt \
             apparmor=unconfined --security-opt systempaths=unconfined; in a pod: securityContext: \
             {privileged: true}",
        );
    }
    Ok(Err(format!(
        "private namespaces: {why}\n         mend it by: {}",
        mends.join("\n                     ")
    )))
}

fn runs(program: &str, argument: &str) -> bool {
    let mut command = Command::new(program);
    command.arg(argument).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn packages() -> Check {
    if ["apt-get", "dpkg-deb", "tar"].iter().all(|program| runs(program, "--version")) {
        Ok("apt-get, dpkg-deb and tar, to unpack what nodes are made of (nothing is installed)"
            .into())
    } else {
        Err("apt-get, dpkg-deb or tar: nodes are made of Debian's or Ubuntu's packages; install with: \
             apt-get install apt dpkg tar"
            .into())
    }
}

fn go() -> String {
    if runs("go", "version") {
        "go, where release downloads can't be reached".into()
    } else {
        "no go: release downloads must be reachable".into()
    }
}

fn memory() -> Check {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kilobytes: Option<u64> =
        line.and_then(|line| line.split_whitespace().next()).and_then(|number| number.parse().ok());
    let megabytes = kilobytes.unwrap_or_default() / 1024;
    let text = format!("{megabytes} MB of memory available, {MEMORY_MB} wanted");
    if megabytes >= MEMORY_MB { Ok(text) } else { Err(text) }
}

fn disk() -> Result<Check, Failure> {
    let cache = Cache::from_env()?;
    let mut folder: &Path = cache.root();
    while !folder.exists() {
        let Some(parent) = folder.parent() else { break };
        folder = parent;
    }
    let free = nix::sys::statvfs::statvfs(folder)?;
    let megabytes = (free.blocks_available() * free.fragment_size()) >> 20;
    let text = format!("{megabytes} MB free in {}, {DISK_MB} wanted", folder.display());
    Ok(if megabytes >= DISK_MB { Ok(text) } else { Err(text) })
}
