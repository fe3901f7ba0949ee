//! One start of a cluster, by the lab or by the baseline's script. Both are a process that writes a
//! line to its standard output for each milestone, the last of them `up`, and ends what it started
//! when its standard input is closed.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use outage::assets::{Binary, Cache, DEFAULT_KUBERNETES};
use outage::assets::{Fetcher, KubernetesVersion, Progress, Sources, Wanted};
use outage::cluster::{ClusterOptions, Provider, Supplies};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::Failure;
use crate::processes;
use crate::settings::{self, Settings};

/// Workers of every cluster.
pub const WORKERS: usize = 1;

/// The last milestone.
pub const UP: &str = "up";

/// Said by the lab's process when it has found its assets and begins.
const BEGAN: &str = "began";

/// No start takes as long.
const PATIENCE: Duration = Duration::from_secs(600);

/// Who starts the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// `Provider::create`, in a process of its own.
    Lab,
    /// `benches/baseline.sh`.
    Baseline,
}

/// What was measured of one start.
#[derive(Debug)]
pub struct Started {
    /// Time from the first process to each milestone, in their order.
    pub milestones: Vec<(String, Duration)>,
    /// Memory of each component when the cluster was up, in bytes.
    pub memory: BTreeMap<&'static str, u64>,
    /// CPU time of everything until then.
    pub cpu: Duration,
    /// What the cluster was told.
    pub settings: Settings,
}

/// What both start clusters from.
#[derive(Debug)]
pub struct Place {
    cache: Cache,
    kubernetes: KubernetesVersion,
    supplies: Supplies,
}

impl Place {
    /// Fetches what clusters need.
    pub async fn find() -> Result<Self, Failure> {
        let cache = Cache::from_env()?;
        let kubernetes: KubernetesVersion = DEFAULT_KUBERNETES.parse()?;
        let progress = Progress::silent();
        let fetcher = Fetcher::new(cache.clone(), Sources::from_env(), progress.clone())?;
        let wanted = Wanted { kubernetes, metrics_server: false };
        let program = Path::new(env!("CARGO_BIN_EXE_outage"));
        let supplies = Provider::Lab.supply(&fetcher, &wanted, program, &progress).await?;
        Ok(Self { cache, kubernetes, supplies })
    }

    /// The lab's side of a measurement: starts a lab, saying its milestones, and ends it when
    /// standard input is closed.
    pub async fn serve_lab(self, masters: usize) -> Result<(), Failure> {
        let options = ClusterOptions {
            kubernetes: self.kubernetes,
            masters,
            workers: WORKERS,
            settings: vec![],
            addons: vec![],
            program: env!("CARGO_BIN_EXE_outage").into(),
            logs: None,
        };
        let began = Instant::now();
        println!("0.000 {BEGAN}");
        let say = move |text: String| println!("{:.3} {text}", began.elapsed().as_secs_f64());
        let mut closed = tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0]));
        let lab = tokio::select! {
            lab = Provider::Lab.create(&self.supplies, options, &say) => lab?,
            _ = &mut closed => return Ok(()),
        };
        say(UP.into());
        let _ = closed.await;
        lab.delete().await?;
        Ok(())
    }

    /// containerd's folder with all images; there once a lab has run.
    fn store(&self) -> Result<PathBuf, Failure> {
        let images = self.supplies.assets.images().first().and_then(|image| image.path.parent());
        let images = images.and_then(Path::file_name).ok_or("the assets hold no images")?;
        let prefix = format!("{}-{}-", self.kubernetes, images.to_string_lossy());
        let entries = std::fs::read_dir(self.cache.root().join("image-store"))?;
        let mut stores = entries.flatten().map(|entry| entry.path());
        let found = stores.find(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix))
        });
        Ok(found.ok_or("there is no image store: no lab has run yet")?)
    }

    fn baseline(&self, masters: usize, work: &Path) -> Result<Command, Failure> {
        let pause =
            self.supplies.assets.images().iter().find(|image| image.reference.contains("/pause:"));
        let pause = pause.ok_or("the assets hold no pause image")?;
        // It must not outlive this process, not even a killed one.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "bash"])
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/baseline.sh"))
            .env("MASTERS", masters.to_string())
            .env("WORKERS", WORKERS.to_string())
            .env("KUBERNETES", self.kubernetes.to_string())
            .env("NODE_ROOT", self.supplies.assets.node_root())
            .env("STORE", self.store()?)
            .env("PAUSE", &pause.reference)
            .env("OUTAGE", env!("CARGO_BIN_EXE_outage"))
            .env("WORK", work);
        for binary in [Binary::Kubelet, Binary::Kubeadm, Binary::Kubectl, Binary::Etcdctl] {
            command.env(binary.name().to_uppercase(), self.supplies.assets.binary(binary)?);
        }
        Ok(command)
    }

    /// Starts a cluster, measures it, and ends it.
    pub async fn measure(&self, subject: Subject, masters: usize) -> Result<Started, Failure> {
        match subject {
            Subject::Lab => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["--serve-lab", &masters.to_string()]);
                watch(command).await
            }
            Subject::Baseline => {
                let work = Work::new(&self.cache)?;
                let started = watch(self.baseline(masters, &work.folder)?).await;
                started.map_err(|failure| format!("{failure}\n{}", work.logs()).into())
            }
        }
    }
}

/// The baseline's folder. It stands where labs have theirs, with the same lock, so that the next
/// start of a lab removes what a killed benchmark leaves.
struct Work {
    folder: PathBuf,
    /// Held as long as the folder is in use.
    _lock: std::fs::File,
}

impl Work {
    fn new(cache: &Cache) -> Result<Self, Failure> {
        let labs = cache.root().join("labs");
        std::fs::create_dir_all(&labs)?;
        let folder = tempfile::Builder::new().prefix("baseline-").tempdir_in(labs)?.keep();
        let lock = std::fs::File::create(folder.join("lock"))?;
        lock.lock()?;
        Ok(Self { folder, _lock: lock })
    }

    /// The last lines of everything that was written there.
    fn logs(&self) -> String {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let logs = entries.map(|entry| entry.path());
        let logs = logs.filter(|path| path.extension().is_some_and(|end| end == "log"));
        let last = logs.filter_map(|path| {
            let text = std::fs::read_to_string(&path).ok()?;
            let lines: Vec<&str> = text.lines().collect();
            let lines = lines[lines.len().saturating_sub(8)..].join("\n");
            Some(format!("{}:\n{lines}", path.file_name()?.to_string_lossy()))
        });
        last.collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Work {
    /// Overlay mounts leave folders without permissions.
    fn drop(&mut self) {
        let shell = ["-c", "chmod -R u+rwX \"$1\" && rm -rf \"$1\"", "sh"];
        let _ = std::process::Command::new("sh").args(shell).arg(&self.folder).status();
    }
}

/// Runs one side of a measurement from its first process to its end.
async fn watch(mut command: Command) -> Result<Started, Failure> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let began = Instant::now();
    let mut child = command.spawn()?;
    let measured = tokio::time::timeout(PATIENCE, follow(&mut child, began)).await;
    // It ends when its input does, and everything that it started with it.
    drop(child.stdin.take());
    let status = tokio::time::timeout(PATIENCE, child.wait()).await??;
    let started = measured??;
    if status.success() { Ok(started) } else { Err(format!("it ended with {status}").into()) }
}

async fn follow(child: &mut Child, mut began: Instant) -> Result<Started, Failure> {
    let pid = i32::try_from(child.id().ok_or("it has ended")?)?;
    let output = child.stdout.take().ok_or("no output")?;
    let mut lines = BufReader::new(output).lines();
    let mut milestones = Vec::new();
    let mut before = Duration::ZERO;
    while let Some(line) = lines.next_line().await? {
        let at = Instant::now();
        // Its own clock is for people who run it by hand.
        let text = line.split_once(' ').map_or(line.as_str(), |(_, text)| text);
        if text == BEGAN {
            began = at;
            before = processes::cpu(&processes::tree(pid));
            continue;
        }
        milestones.push((text.to_owned(), at - began));
        if text == UP {
            let tree = processes::tree(pid);
            let cpu = processes::cpu(&tree).saturating_sub(before);
            let memory = processes::memory(&tree);
            return Ok(Started { milestones, memory, cpu, settings: settings::read(&tree) });
        }
    }
    Err("it ended before the cluster was up".into())
}
