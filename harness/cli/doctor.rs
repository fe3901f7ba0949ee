//! `outage doctor`

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use clap::Args;

use super::up::provider;
use super::{Failure, print, program};
use crate::assets::{Cache, Fetcher, Progress, Sources};
use crate::cluster::client::words;
use crate::cluster::sysctl::{Sysctl, mend};
use crate::cluster::{Provider, lab};

/// What a cluster of three masters and a worker takes, with room to spare.
const MEMORY_MB: usize = 4096;
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
            print(format_args!("{}\n", set(setting)?))?;
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
        Provider::Lab => namespaces().await?,
        Provider::Kind => engine().await?,
    };
    let mut checks = vec![own, packages(), go(provider)?, memory(), inotify(provider), disk()?];
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
        Self { text: format!("{what}\n{}", mend(&settings)), settings }
    }
}

/// Changes a setting; what was done.
fn set(setting: Sysctl) -> Result<String, Failure> {
    let was = setting.now().unwrap_or_default();
    let Sysctl { name, value } = setting;
    setting.set().map_err(|error| Failure {
        message: format!("{name} can't be set ({error}); as root: {setting}"),
        code: 1,
    })?;
    Ok(format!("changed  {name} from {was} to {value}, until the next boot"))
}

async fn engine() -> Result<Check, Failure> {
    Ok(match Provider::Kind.check(&program()?).await {
        Ok(()) => Ok("a container engine that answers, on this host's own network".into()),
        Err(error) => Err(words(&error).into()),
    })
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

async fn namespaces() -> Result<Check, Failure> {
    let permitted = lab::permit(&program()?).await;
    let ok = |()| "private namespaces with mounts of their own".into();
    Ok(permitted.map(ok).map_err(|forbidden| {
        let text = forbidden.to_string();
        Lack { text, settings: forbidden.settings }
    }))
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

fn go(provider: Provider) -> Result<Check, Failure> {
    if runs("go", "version") {
        return Ok(Ok("go, where release downloads can't be reached".into()));
    }
    let fetcher = Fetcher::new(Cache::from_env()?, Sources::from_env(), Progress::silent())?;
    let only_by_go = fetcher.only_by_go()?;
    if provider == Provider::Lab || only_by_go.is_empty() {
        return Ok(Ok(
            "no go: release downloads must be reachable, and scenarios with metrics-server \
                      need it once"
                .into(),
        ));
    }
    Ok(Err(format!(
        "go: it gets what is released in no other form: {}\nmend it by: apt-get install golang, or from \
         https://go.dev/dl; or name a folder that has them: OUTAGE_ASSETS_DIR",
        only_by_go.join(", ")
    )
    .into()))
}

fn memory() -> Check {
    let megabytes = lab::memory_available().unwrap_or_default() >> 10;
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
