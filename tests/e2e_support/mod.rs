//! What the tests on real clusters share: the providers, and waiting for conditions.

// Each test binary uses a part of it.
#![allow(dead_code)]

pub mod stage;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Trial;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use outage::assets::{Cache, DEFAULT_KUBERNETES, Fetcher, Progress, Sources, Wanted};
use outage::cluster::{Cluster, ClusterOptions, Command, Node, Supplies};
use outage::scenario::{Addon, NodeRef};
use tokio::time::Instant;

/// What a test fails with.
pub type Failure = Box<dyn Error + Send + Sync>;

/// From one look at what is awaited to the next.
pub const PERIOD: Duration = Duration::from_millis(200);

/// A cluster and what of its assets a test needs.
pub struct Made {
    /// The cluster.
    pub cluster: Arc<dyn Cluster>,
    /// The reference of an image with busybox, which every node has.
    pub busybox: String,
}

/// Something that makes clusters.
#[derive(Clone, Copy)]
pub struct Provider {
    of: outage::cluster::Provider,
    /// Ends the machine with this host name behind the harness's back.
    pub kill_machine: fn(&str) -> Result<(), Failure>,
}

/// Every provider.
const PROVIDERS: [Provider; 2] = [
    Provider { of: outage::cluster::Provider::Lab, kill_machine: kill_lab_machine },
    Provider { of: outage::cluster::Provider::Kind, kill_machine: kill_container },
];

/// The providers that this machine has; for each other one the trial that says so: ignored, or
/// failed where skips are denied.
pub fn providers() -> (Vec<Provider>, Vec<Trial>) {
    let mut found = (Vec::new(), Vec::new());
    for provider in PROVIDERS {
        match lacks(provider.of) {
            None => found.0.push(provider),
            Some(why) => found.1.push(skip(provider.name().to_owned(), why)),
        }
    }
    found
}

/// Why no cluster of this provider can be made here.
pub fn lacks(provider: outage::cluster::Provider) -> Option<String> {
    let runtime = tokio::runtime::Runtime::new().expect("the runtime starts");
    let checked = runtime.block_on(provider.check(Path::new(OWN)));
    checked.err().map(|error| outage::cluster::client::words(&error))
}

/// A trial that is not carried out, for everyone to see.
pub fn skip(name: String, why: String) -> Trial {
    let denied =
        std::env::var("OUTAGE_DENY_SKIPS").is_ok_and(|value| !["", "0"].contains(&&*value));
    if !denied {
        eprintln!("SKIP {name}: {why}");
    }
    Trial::test(name, || Err(why.into())).with_kind("SKIP").with_ignored_flag(!denied)
}

impl Provider {
    /// The first part of its cases' names.
    pub fn name(self) -> &'static str {
        self.of.name()
    }

    /// Makes a cluster with so many masters and workers, and these addons.
    pub async fn make(
        self,
        (masters, workers): (usize, usize),
        addons: &[Addon],
    ) -> Result<Made, Failure> {
        let supplies = supply(self.of, true).await?;
        let images = supplies.assets.images().iter().map(|image| image.reference.clone());
        let busybox = images.into_iter().find(|name| name.contains("/busybox:"));
        // It is gone once the lab is up, as one is that was built anew: whatever a case has nodes do,
        // they must do without it.
        let folder = tempfile::tempdir()?;
        let program = folder.path().join("outage");
        std::fs::copy(OWN, &program)?;
        let options = ClusterOptions {
            kubernetes: kubernetes().parse()?,
            masters,
            workers,
            settings: vec![],
            addons: addons.to_vec(),
            program,
            logs: None,
        };
        let began = Instant::now();
        let say = move |text: String| eprintln!("{:6.2} s  {text}", began.elapsed().as_secs_f64());
        let cluster = self.of.create(&supplies, options, &say).await?;
        Ok(Made { cluster, busybox: busybox.ok_or("the assets hold no busybox")? })
    }
}

/// This package's program.
const OWN: &str = env!("CARGO_BIN_EXE_outage");

/// What clusters of the version to test are made of, with or without metrics-server. It may take
/// minutes to make, so it is shown what is done.
pub async fn supply(
    of: outage::cluster::Provider,
    metrics_server: bool,
) -> Result<Supplies, Failure> {
    let (progress, events) = Progress::channel();
    let shown = tokio::spawn(outage::assets::progress::show(events));
    let fetcher = Fetcher::new(Cache::from_env()?, Sources::from_env(), progress.clone())?;
    let wanted = Wanted { kubernetes: kubernetes().parse()?, metrics_server };
    let supplies = of.supply(&fetcher, &wanted, Path::new(OWN), &progress).await;
    drop((fetcher, progress));
    shown.await?;
    Ok(supplies?)
}

/// The version to test: `OUTAGE_KUBERNETES`, else the default.
pub fn kubernetes() -> String {
    std::env::var("OUTAGE_KUBERNETES").unwrap_or_else(|_| DEFAULT_KUBERNETES.to_string())
}

/// The first process of a node is a child of the lab's, which is one of the outer process, which is
/// this process's.
fn kill_lab_machine(name: &str) -> Result<(), Failure> {
    let labs = children("self").into_iter().flat_map(|outer| children(&outer));
    let mut machines = labs.flat_map(|lab| children(&lab));
    let machine = machines.find(|pid| {
        let own = std::fs::read_to_string(format!("/proc/{pid}/root/etc/hostname"));
        own.is_ok_and(|own| own.trim() == name)
    });
    let pid = machine.ok_or_else(|| format!("{name} has no first process"))?.parse()?;
    Ok(kill(Pid::from_raw(pid), Signal::SIGKILL)?)
}

/// A container has the host name of its node.
fn kill_container(name: &str) -> Result<(), Failure> {
    let output = std::process::Command::new("docker").args(["kill", name]).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).into())
}

/// The children of all threads of a process.
fn children(pid: &str) -> Vec<String> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.map(|thread| std::fs::read_to_string(thread.path().join("children")));
    lists
        .flatten()
        .flat_map(|l| l.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

/// A failure and its causes.
pub fn words(failure: &Failure) -> String {
    outage::cluster::client::words(&**failure)
}

/// Waits until `look` finds what it looks for, and returns that.
///
/// # Errors
/// After `limit`, with what it found last instead.
pub async fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let deadline = Instant::now() + limit;
    let mut last = "nothing: the first look did not end".to_owned();
    loop {
        match tokio::time::timeout_at(deadline, look()).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(failure)) => last = words(&failure),
            Err(_) => {}
        }
        if Instant::now() + PERIOD >= deadline {
            return Err(format!("{what}: not within {limit:?}; last seen: {last}").into());
        }
        tokio::time::sleep(PERIOD).await;
    }
}

/// Runs a command on a node that must succeed; its standard output, trimmed.
pub async fn run_on(node: &dyn Node, command: Command) -> Result<String, Failure> {
    let shown = command.argv.join(" ");
    let shown: String = shown.chars().take(200).collect();
    let output = node.run(command).await?;
    if output.code == 0 {
        return Ok(output.text());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let (name, code) = (node.name(), output.code);
    Err(format!("{shown} on {name}: exit code {code}: {} {}", output.text(), errors.trim()).into())
}

/// Runs kubectl as the administrator on this node, a master.
pub async fn kubectl_on(
    node: &dyn Node,
    args: &[&str],
    stdin: Option<&str>,
) -> Result<String, Failure> {
    let script = r#"KUBECONFIG=/etc/kubernetes/admin.conf exec kubectl "$@""#;
    let mut command = Command::script(script, args.iter().copied());
    command = command.timeout(Duration::from_secs(20));
    if let Some(text) = stdin {
        command = command.stdin(text);
    }
    run_on(node, command).await
}

/// The files of the minimal scenarios, one for each fault, in order.
pub fn examples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/examples");
    let entries = std::fs::read_dir(folder).expect("the folder of examples");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an example").path()).collect();
    paths.sort();
    paths
}

/// The masters of a cluster, in order.
pub fn masters(cluster: &dyn Cluster) -> Vec<Arc<dyn Node>> {
    let nodes = cluster.nodes().iter();
    nodes.filter(|node| matches!(node.id(), NodeRef::Master(_))).map(Arc::clone).collect()
}
