//! What `outage` costs beside `kind create cluster` on the same configuration: `cargo bench --bench
//! kind`. The two take turns; each is timed twice, until `kind create cluster` ends and until nodes
//! are Ready and kube-proxy and `CoreDNS` run on all of them.

#[path = "../start/statistics.rs"]
mod statistics;

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use outage::assets::Cache;
use outage::cluster::client::words;

/// What can go wrong.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// This project's program.
const OUTAGE: &str = env!("CARGO_BIN_EXE_outage");

/// For what `kubectl` waits for.
const PATIENCE: &str = "--timeout=5m";

/// Compares the start of a kind cluster by `outage` with that by kind's own command.
#[derive(Debug, Parser)]
#[command(name = "cargo bench --bench kind --", max_term_width = 100)]
struct Arguments {
    /// Starts of each, one after the other in turns; an interval needs six
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..))]
    pairs: u16,
    /// Said by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if !arguments.bench {
        eprintln!("this takes many minutes and a quiet machine: run it by `cargo bench`");
        return ExitCode::SUCCESS;
    }
    match compare(arguments.pairs) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{}", words(&*failure));
            ExitCode::FAILURE
        }
    }
}

/// How long a start took.
#[derive(Debug, Clone, Copy)]
struct Took {
    /// Until kind's command had ended.
    created: Duration,
    /// Until the cluster was ready.
    ready: Duration,
}

fn compare(pairs: u16) -> Result<(), Failure> {
    // Gets all that both need, and leaves the configuration.
    eprintln!("warming up");
    let (_, configuration) = ours()?;
    let mut ratios = [Vec::new(), Vec::new()];
    for pair in 0..pairs {
        let (own, other) = if pair % 2 == 0 {
            let own = ours()?.0;
            (own, kinds(&configuration)?)
        } else {
            let other = kinds(&configuration)?;
            (ours()?.0, other)
        };
        let seconds = |took: Took| (took.created.as_secs_f64(), took.ready.as_secs_f64());
        let ((created, ready), (kind_created, kind_ready)) = (seconds(own), seconds(other));
        println!(
            "pair {}: outage {created:.2} s, ready {ready:.2} s; kind {kind_created:.2} s, ready \
             {kind_ready:.2} s",
            pair + 1
        );
        ratios[0].push(created / kind_created);
        ratios[1].push(ready / kind_ready);
    }
    for (what, ratios) in ["kind create cluster ended", "the cluster was ready"].iter().zip(&ratios)
    {
        let Some(summary) = statistics::summary(ratios) else { continue };
        let interval =
            summary.interval.map(|(low, high)| format!(" (95 %: {low:.3} to {high:.3})"));
        println!("until {what}: × {:.3}{}", summary.median, interval.unwrap_or_default());
    }
    Ok(())
}

/// A start by `outage`, and the configuration that it gave kind.
fn ours() -> Result<(Took, Configuration), Failure> {
    let began = Instant::now();
    let mut up = Command::new(OUTAGE)
        .args(["up", "--provider", "kind"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let lines = BufReader::new(up.stderr.take().ok_or("no standard error")?).lines();
    let (mut created, mut said) = (None, Vec::new());
    let mut is_up = None;
    for line in lines.map_while(Result::ok) {
        if line.contains(" nodes entered") {
            created = Some(began.elapsed());
        }
        if let Some((name, _)) = line.split_once(" is up: ") {
            is_up = Some((began.elapsed(), name.to_owned()));
            break;
        }
        said.push(line);
    }
    let (Some(created), Some((ready, name))) = (created, is_up) else {
        return Err(format!("it did not come up:\n{}", said.join("\n")).into());
    };
    let folder = clusters()?.join(name);
    let text = fs::read_to_string(folder.join("kind.yaml"))?;
    let configuration = Configuration { text, folder };
    kill(Pid::from_raw(i32::try_from(up.id())?), Signal::SIGINT)?;
    let status = up.wait()?;
    if !status.success() {
        return Err(format!("the end of its cluster: {status}").into());
    }
    Ok((Took { created, ready }, configuration))
}

/// What kind was told, for a cluster of this folder.
struct Configuration {
    text: String,
    folder: PathBuf,
}

/// A start by kind's own command, and by `kubectl` waiting for the same.
fn kinds(configuration: &Configuration) -> Result<Took, Failure> {
    let (kind, kubectl) = (asset("kind")?, asset("kubectl")?);
    let cluster = Bare::make()?;
    let was = configuration.folder.display().to_string();
    let text = configuration.text.replace(&was, &cluster.folder.display().to_string());
    let file = cluster.folder.join("kind.yaml");
    fs::write(&file, text)?;
    let kubeconfig = cluster.folder.join("kubeconfig");
    let began = Instant::now();
    let mut create = Command::new(&kind);
    create.args(["create", "cluster", "--quiet", "--name", &cluster.name, "--config"]).arg(&file);
    create.arg("--kubeconfig").arg(&kubeconfig);
    create.env("KIND_EXPERIMENTAL_DOCKER_NETWORK", &cluster.name);
    carry_out(&mut create)?;
    let created = began.elapsed();
    for wait in [
        &["wait", "--for=condition=Ready", "nodes", "--all", PATIENCE][..],
        &["rollout", "status", "--namespace=kube-system", "daemonset/kube-proxy", PATIENCE],
        &["rollout", "status", "--namespace=kube-system", "deployment/coredns", PATIENCE],
    ] {
        carry_out(Command::new(&kubectl).arg("--kubeconfig").arg(&kubeconfig).args(wait))?;
    }
    Ok(Took { created, ready: began.elapsed() })
}

fn asset(name: &str) -> Result<PathBuf, Failure> {
    Ok(carry_out(Command::new(OUTAGE).args(["assets", "path", name]))?.trim().into())
}

/// A cluster of kind's, which `outage reap` removes, too, should this be killed.
struct Bare {
    name: String,
    folder: PathBuf,
    _lock: File,
}

impl Bare {
    fn make() -> Result<Self, Failure> {
        let name = format!("outage-bench-{}", std::process::id());
        let folder = clusters()?.join(&name);
        fs::create_dir_all(folder.join("shared"))?;
        let lock = File::create(folder.join("lock"))?;
        lock.lock()?;
        Ok(Self { name, folder, _lock: lock })
    }

    fn end(&self) -> Result<(), Failure> {
        let mut delete = Command::new(asset("kind")?);
        carry_out(delete.args(["delete", "cluster", "--quiet", "--name", &self.name]))?;
        carry_out(Command::new("docker").args(["network", "rm", &self.name]))?;
        Ok(fs::remove_dir_all(&self.folder)?)
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        if let Err(failure) = self.end() {
            eprintln!("{failure}\n`outage reap` removes what is left");
        }
    }
}

/// Where the folders of all kind clusters are.
fn clusters() -> Result<PathBuf, Failure> {
    Ok(Cache::from_env()?.root().join("kind-clusters"))
}

/// Runs a command that must succeed; its output.
fn carry_out(command: &mut Command) -> Result<String, Failure> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(String::from_utf8(output.stdout)?);
    }
    let name = Path::new(command.get_program()).display();
    Err(format!("{name}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr)).into())
}
