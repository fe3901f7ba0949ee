//! A kind cluster outlives no harness: however that dies, containers, network and folder go, by the
//! reaper, by `outage reap` or by the next start. What somebody else made stays. A run takes the
//! cluster of another process only as good as new.
//!
//! `cargo test --features e2e --test kind_lifetime -- --ignored` also kills a harness in the middle of
//! each fault, in half an hour.

mod e2e_support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use e2e_support::Failure;
use libtest_mimic::{Arguments, Failed, Trial};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use outage::assets::Cache;
use outage::cluster::Provider;

/// For a cluster of one master, its images included.
const UP: Duration = Duration::from_mins(5);
/// For everything to be gone: the engine gives each container ten seconds.
const GONE: Duration = Duration::from_mins(1);
/// The same once the harness was killed.
const REAPED: Duration = Duration::from_secs(30);
/// For a cluster of three masters and a worker, its steady state and the proof of a fault.
const PROVEN: Duration = Duration::from_mins(8);

/// kind has made the container by then, and kubeadm is about to start.
const STARTING: &str = "kind: Writing configuration";

type Case = fn() -> Result<(), Failure>;

const CASES: [(&str, Case); 5] = [
    ("an_interrupted_start_leaves_nothing", interrupted),
    ("a_harness_that_is_killed_while_kind_works_is_reaped", || {
        killed(Harness::up()?, STARTING, UP)
    }),
    ("a_harness_that_is_killed_later_is_reaped", || killed(Harness::up()?, "up: ", UP)),
    ("one_that_dies_with_its_reaper_is_reaped_by_hand", by_hand),
    ("runs_reuse_a_cluster_until_one_is_killed", reused),
];

fn main() -> ExitCode {
    let mut args = Arguments::from_args();
    // They look at all that the engine has.
    args.test_threads = Some(1);
    let cases = CASES.map(|(name, case)| Trial::test(name, move || beside_a_bystander(case)));
    let mut trials: Vec<_> =
        cases.into_iter().chain(e2e_support::examples().into_iter().map(in_the_middle)).collect();
    if let Some(why) = e2e_support::lacks(Provider::Kind) {
        trials = vec![e2e_support::skip("kind".into(), why)];
    }
    libtest_mimic::run(&args, trials).exit_code()
}

/// A harness is killed once this scenario's first fault is in place.
fn in_the_middle(example: PathBuf) -> Trial {
    let name = example.file_stem().unwrap_or_default().to_string_lossy();
    let name = format!("a_harness_that_is_killed_in_the_middle_is_reaped::{name}");
    let case = move || {
        let example = example.to_str().ok_or("not UTF-8")?;
        let harness = Harness::start(&["run", example, "--provider", "kind"])?;
        killed(harness, ": proven after", PROVEN)
    };
    Trial::test(name, || beside_a_bystander(case)).with_ignored_flag(true)
}

/// Runs a case beside a cluster that somebody else made.
fn beside_a_bystander(case: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failed> {
    let failed = |failure: Failure| Failed::from(failure.to_string());
    let bystander = Bystander::make().map_err(failed)?;
    case().map_err(failed)?;
    bystander.stays().map_err(failed)
}

/// A network as kind makes one.
struct Bystander {
    name: String,
}

impl Bystander {
    fn make() -> Result<Self, Failure> {
        let name = format!("bystander-{}", std::process::id());
        docker(&["network", "create", &name])?;
        Ok(Self { name })
    }

    fn stays(&self) -> Result<(), Failure> {
        docker(&["network", "inspect", &self.name]).map(drop)
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        if let Err(error) = docker(&["network", "rm", &self.name]) {
            eprintln!("{error}");
        }
    }
}

fn interrupted() -> Result<(), Failure> {
    let mut up = Harness::up()?;
    up.says(STARTING, UP)?;
    up.is_there()?;
    up.signal(Signal::SIGINT)?;
    let status = up.ended()?;
    if status.code() != Some(130) {
        return Err(format!("it ended with {status}").into());
    }
    // In order means: before it ends. Its reaper learns of it from its end.
    up.left().map_or(Ok(()), Err)?;
    up.is_gone(GONE)
}

fn killed(mut harness: Harness, at: &str, limit: Duration) -> Result<(), Failure> {
    harness.says(at, limit)?;
    harness.is_there()?;
    harness.signal(Signal::SIGKILL)?;
    let status = harness.ended()?;
    if status.signal() != Some(Signal::SIGKILL as i32) {
        return Err(format!("it ended with {status}").into());
    }
    harness.is_gone(REAPED)
}

fn by_hand() -> Result<(), Failure> {
    let mut up = Harness::up()?;
    up.says(STARTING, UP)?;
    for pid in reapers(&up.name) {
        kill(Pid::from_raw(pid), Signal::SIGKILL)?;
    }
    up.signal(Signal::SIGKILL)?;
    up.ended()?;
    up.is_there()?;
    let output = Command::new(env!("CARGO_BIN_EXE_outage")).arg("reap").output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || !said.contains(&format!("removed: kind {}", up.name)) {
        return Err(format!("{}: {said}", output.status).into());
    }
    up.left().map_or(Ok(()), |left| Err(left.into()))
}

/// What is run on a cluster of another process, four times: short, and a kubelet that remembers the
/// first three would start the apiserver only after 40 s.
const SCENARIO: &str = "
apiVersion: outage/v1alpha1
kind: Scenario
metadata: {name: killed-apiserver, title: An apiserver is killed}
spec:
  cluster: {masters: 1, workers: 0}
  steadyState:
  - name: it is ready
    probe: &ready
      health: {apiserver: {master: 1}, path: /readyz, is: ok}
    within: 60s
  steps:
  - inject: {name: killed, fault: {kill: {component: kube-apiserver, on: {master: 1}, signal: SIGKILL}}}
  - detect:
    - name: it refuses connections
      probe:
        health: {apiserver: {master: 1}, path: /readyz, is: refused}
      within: 30s
  - revert: {actions: [killed]}
  - recover:
    - name: it is ready again
      probe: *ready
      within: 30s
";

fn reused() -> Result<(), Failure> {
    let mut up = Harness::up()?;
    up.says("up: ", UP)?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("killed-apiserver.yaml");
    fs::write(&file, SCENARIO)?;
    let run = |more: &[&str]| {
        let mut run = Command::new(env!("CARGO_BIN_EXE_outage"));
        run.arg("run").arg(&file).args(["--provider", "kind", "--reuse", &up.name]).args(more);
        run.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        run
    };
    let said = |mut run: Command| {
        let output = run.output()?;
        let said = [output.stdout, output.stderr].concat();
        Ok::<_, Failure>((output.status, String::from_utf8_lossy(&said).into_owned()))
    };
    for more in [&["--repeat", "3"][..], &[]] {
        let (status, said) = said(run(more))?;
        if !status.success() || said.contains("provision     kind: ") {
            return Err(format!("{more:?}: {status}\n{said}").into());
        }
    }
    let (status, other) = said(run(&["--masters", "3"]))?;
    if status.success() || !other.contains("is another cluster (Kubernetes ") {
        return Err(format!("{status}\n{other}").into());
    }
    // Killed while the apiserver is gone.
    let mut killed = run(&[]).spawn()?;
    let lines = BufReader::new(killed.stderr.take().ok_or("no output")?).lines();
    let mut lines = lines.map_while(Result::ok);
    let issued = lines.any(|line| line.contains("killed (kill kube-apiserver on master-1"));
    kill(Pid::from_raw(i32::try_from(killed.id())?), Signal::SIGKILL)?;
    killed.wait()?;
    if !issued {
        return Err("nothing was injected".into());
    }
    let (status, dirty) = said(run(&[]))?;
    if status.success() || !dirty.contains("is not as it was") {
        return Err(format!("{status}\n{dirty}").into());
    }
    up.is_there()?;
    up.signal(Signal::SIGINT)?;
    let status = up.ended()?;
    if !status.success() {
        return Err(format!("it ended with {status}").into());
    }
    up.left().map_or(Ok(()), |left| Err(left.into()))
}

/// The processes that wait for the harness of this cluster to be gone.
fn reapers(name: &str) -> Vec<i32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        words.iter().any(|word| word == "kind-reaper") && words.iter().any(|w| w.ends_with(name))
    })
    .collect()
}

/// A running `outage` that makes a kind cluster.
struct Harness {
    child: Child,
    lines: mpsc::Receiver<String>,
    /// The cluster's.
    name: String,
}

impl Harness {
    /// One that keeps a cluster with one master.
    fn up() -> Result<Self, Failure> {
        Self::start(&["up", "--provider", "kind", "--masters", "1", "--workers", "0"])
    }

    fn start(arguments: &[&str]) -> Result<Self, Failure> {
        let before = clusters()?;
        let mut child = Command::new(env!("CARGO_BIN_EXE_outage"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let (sender, lines) = mpsc::channel();
        let output = child.stderr.take().ok_or("no standard error")?;
        // It ends with the output.
        std::thread::spawn(move || {
            BufReader::new(output).lines().map_while(Result::ok).all(|line| {
                eprintln!("{line}");
                sender.send(line).is_ok()
            })
        });
        let mut harness = Self { child, lines, name: String::new() };
        harness.name = wait(UP, || {
            clusters()?.difference(&before).next().cloned().ok_or_else(|| "no new cluster".into())
        })?;
        Ok(harness)
    }

    /// Waits until it has said this.
    fn says(&mut self, text: &str, limit: Duration) -> Result<(), Failure> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left);
            if line.map_err(|error| format!("waiting for `{text}`: {error}"))?.contains(text) {
                return Ok(());
            }
        }
    }

    fn signal(&self, signal: Signal) -> Result<(), Failure> {
        Ok(kill(Pid::from_raw(i32::try_from(self.child.id())?), signal)?)
    }

    fn ended(&mut self) -> Result<ExitStatus, Failure> {
        wait(GONE, || self.child.try_wait()?.ok_or_else(|| "it still runs".into()))
    }

    /// Fails if there is no container yet.
    fn is_there(&self) -> Result<(), Failure> {
        if containers(&self.name)?.is_empty() { Err("no container".into()) } else { Ok(()) }
    }

    /// What is left of it.
    fn left(&self) -> Option<String> {
        let look = || -> Result<Vec<String>, Failure> {
            let mut left = containers(&self.name)?;
            let filter = format!("name=^{}$", self.name);
            left.extend(words(&docker(&["network", "ls", "--quiet", "--filter", &filter])?));
            left.extend(clusters()?.into_iter().filter(|name| *name == self.name));
            Ok(left)
        };
        match look() {
            Ok(left) if left.is_empty() => None,
            Ok(left) => Some(format!("left behind: {left:?}")),
            Err(error) => Some(error.to_string()),
        }
    }

    fn is_gone(&self, limit: Duration) -> Result<(), Failure> {
        wait(limit, || {
            if let Some(left) = self.left() {
                return Err(left.into());
            }
            match reapers(&self.name).as_slice() {
                [] => Ok(()),
                reapers => Err(format!("its reaper still runs: {reapers:?}").into()),
            }
        })
    }
}

impl Drop for Harness {
    /// A failed test leaves nothing running either: the reaper sees to the rest.
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The names of all kind clusters that have a folder.
fn clusters() -> Result<BTreeSet<String>, Failure> {
    let folder: PathBuf = Cache::from_env()?.root().join("kind-clusters");
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    Ok(entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}

/// Every container of a cluster, as kind labels them.
fn containers(cluster: &str) -> Result<Vec<String>, Failure> {
    let filter = format!("label=io.x-k8s.kind.cluster={cluster}");
    Ok(words(&docker(&["ps", "--all", "--quiet", "--filter", &filter])?))
}

fn docker(args: &[&str]) -> Result<String, Failure> {
    let output = Command::new("docker").args(args).output()?;
    if output.status.success() {
        return Ok(String::from_utf8(output.stdout)?);
    }
    Err(format!("docker {args:?}: {}", String::from_utf8_lossy(&output.stderr)).into())
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// Waits until `look` finds what it looks for.
fn wait<T>(limit: Duration, mut look: impl FnMut() -> Result<T, Failure>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    runtime.block_on(e2e_support::wait_for("it", limit, async || look()))
}
