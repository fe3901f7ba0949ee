//! `outage doctor`

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use clap::Args;

use super::up::provider;
use super::{Failure, print, program};
use crate::assets::Cache;
use crate::cluster::client::words;
use crate::cluster::{Provider, lab};

/// What a cluster of three masters and a worker takes, with room to spare.
const MEMORY_MB: u64 = 4096;
const DISK_MB: u64 = 6144;
const NODES: usize = 4;

/// What follows a line that is not the last, below the text of the first.
const NEXT: &str = "\n         ";

/// Says whether this machine can run clusters, and what to do if not.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Doctor {
    /// What is to make the clusters: lab or kind
    #[arg(long, default_value = "lab", value_parser = provider)]
    provider: Provider,
    /// Changes the kernel settings that are in the way; the next boot has the old ones
    #[arg(long)]
    mend: bool,
}

const AFTER_HELP: &str = "\
Examples:
  outage doctor                          what labs lack here
  sudo outage doctor --provider kind --mend   changes kernel settings, until the next boot";

/// Looks for everything; what is missing is said and is in the exit code.
pub(super) async fn run(doctor: Doctor) -> Result<ExitCode, Failure> {
    let mut lacks = look(doctor.provider).await?;
    let settings: Vec<Sysctl> = lacks.iter().flat_map(|lack| &lack.settings).copied().collect();
    if doctor.mend && !settings.is_empty() {
        for setting in settings {
            print(format_args!("{}\n", setting.set()?))?;
        }
        lacks = look(doctor.provider).await?;
    } else if !settings.is_empty() {
        print("`outage doctor --mend`, as root, changes these settings until the next boot\n")?;
    }
    Ok(if lacks.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Says of everything whether it is there; what is not.
async fn look(provider: Provider) -> Result<Vec<Lack>, Failure> {
    let own = match provider {
        Provider::Lab => namespaces()?,
        Provider::Kind => engine().await,
    };
    let mut checks = vec![own, packages(), Ok(go()), memory(), inotify(provider), disk()?];
    if provider == Provider::Kind {
        checks.push(forwarding());
    }
    let mut lacks = Vec::new();
    for check in checks {
        match check {
            Ok(text) => print(format_args!("ok       {text}\n"))?,
            Err(lack) => {
                print(format_args!("MISSING  {}\n", lack.text.replace('\n', NEXT)))?;
                lacks.push(lack);
            }
        }
    }
    Ok(lacks)
}

type Check = Result<String, Lack>;

/// What is not there.
struct Lack {
    /// What, and what to do.
    text: String,
    /// What would mend it.
    settings: Vec<Sysctl>,
}

impl From<String> for Lack {
    fn from(text: String) -> Self {
        Self { text, settings: vec![] }
    }
}

impl Lack {
    /// Of settings that are in the way.
    fn of(what: &str, settings: Vec<Sysctl>) -> Self {
        let commands = settings.iter().map(ToString::to_string).collect::<Vec<_>>();
        Self { text: format!("{what}\nmend it by: {}", commands.join("; ")), settings }
    }
}

/// A setting of the kernel, as it should be.
#[derive(Debug, Clone, Copy)]
struct Sysctl {
    name: &'static str,
    value: &'static str,
}

impl std::fmt::Display for Sysctl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "sysctl -w {}={}", self.name, self.value)
    }
}

impl Sysctl {
    fn file(self) -> String {
        format!("/proc/sys/{}", self.name.replace('.', "/"))
    }

    /// What it is now; nothing: this kernel does not know it.
    fn now(self) -> Option<String> {
        std::fs::read_to_string(self.file()).ok().map(|text| text.trim().to_owned())
    }

    /// Changes it; what was done.
    fn set(self) -> Result<String, Failure> {
        let was = self.now().unwrap_or_default();
        let Self { name, value } = self;
        std::fs::write(self.file(), value).map_err(|error| Failure {
            message: format!("{name} can't be set ({error}); as root: {self}"),
            code: 1,
        })?;
        Ok(format!("changed  {name} from {was} to {value}, until the next boot"))
    }
}

async fn engine() -> Check {
    match Provider::Kind.check().await {
        Ok(()) => Ok("a container engine that answers".into()),
        Err(error) => Err(words(&error).into()),
    }
}

fn inotify(provider: Provider) -> Check {
    let Err(error) = provider.room(NODES) else {
        return Ok(format!("room for {NODES} nodes, inotify instances among it"));
    };
    let wanted = Sysctl { name: "fs.inotify.max_user_instances", value: "8192" };
    let number = |text: &str| text.parse::<u64>().unwrap_or_default();
    let low = wanted.now().is_some_and(|now| number(&now) < number(wanted.value));
    Err(Lack { text: words(&error), settings: if low { vec![wanted] } else { vec![] } })
}

/// Nodes reach each other's pods through this machine's bridge.
fn forwarding() -> Check {
    let wanted = Sysctl { name: "net.ipv4.ip_forward", value: "1" };
    if wanted.now().is_some_and(|now| now == wanted.value) {
        return Ok("packets between containers are forwarded".into());
    }
    Err(Lack::of("forwarding of packets between containers", vec![wanted]))
}

fn namespaces() -> Result<Check, Failure> {
    let Err(why) = lab::trial(&program()?) else {
        return Ok(Ok("private namespaces with mounts of their own".into()));
    };
    // What forbids them, and what allows them.
    let known = [
        ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
        ("kernel.unprivileged_userns_clone", "0", "1"),
        ("user.max_user_namespaces", "0", "15000"),
    ];
    let mends = known.into_iter().filter_map(|(name, bad, value)| {
        let setting = Sysctl { name, value };
        (setting.now()? == bad).then_some(setting)
    });
    let mends: Vec<Sysctl> = mends.collect();
    let what = format!("private namespaces: {why}");
    if !mends.is_empty() {
        return Ok(Err(Lack::of(&what, mends)));
    }
    Ok(Err(format!(
        "{what}\nmend it by: in a container: docker run --security-opt seccomp=unconfined \
         --security-opt apparmor=unconfined --security-opt systempaths=unconfined; in a pod: \
         securityContext: {{privileged: true}}"
    )
    .into()))
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
        let text = "apt-get, dpkg-deb or tar: nodes are made of Debian's or Ubuntu's packages; install \
                    with: apt-get install apt dpkg tar";
        Err(text.to_owned().into())
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
    if megabytes >= MEMORY_MB { Ok(text) } else { Err(text.into()) }
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
    Ok(if megabytes >= DISK_MB { Ok(text) } else { Err(text.into()) })
}
