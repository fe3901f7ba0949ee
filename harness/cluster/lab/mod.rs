//! The lab: a multi-master cluster of real kubeadm nodes in private namespaces, without Docker,
//! without root, and without a trace on the host.
//!
//! # Guarantees
//! Everything a lab starts lives in one PID namespace whose first process leaves when the harness
//! is gone; its network and its mounts go with it. On the host a lab leaves one folder under the
//! cache, which [`Cluster::delete`] removes, or the next start if this harness was killed.

mod addon;
mod config;
mod enter;
mod folder;
mod init;
mod layout;
mod node;
mod oci;
mod permit;
mod room;
mod root;
mod start;
mod store;

use std::fs::{self, File};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::net::TcpStream;
use tokio::sync::broadcast;

use super::agent::wire::{self, NodeSpec};
use super::agent::{Link, Program};
use super::files::{aside, link_or_copy};
use super::logs::last_lines;
use super::running::name_of;
use super::{Cluster, ClusterError, ClusterOptions as Options, DiedUnasked, Node};
use crate::assets::{Assets, Binary, remove_tree};
use crate::scenario::NodeRef;
pub use enter::enter;
pub use folder::sweep;
use folder::{Swept, labs, make_folder};
use layout::{LabPaths, network};
pub use permit::{Forbidden, permit};
pub use room::available as memory_available;
pub(super) use room::{check as room, check_of_root as room_of_root};
pub(super) use store::of_version as image_store;

/// First argument that makes this program the first process of a lab.
pub const INIT_ARGUMENT: &str = "lab-init";

/// The name under which this program stands in for runc.
pub const RUNC_NAME: &str = "outage-runc";

/// Why the lab's first process could not go on.
const LOG: &str = "logs/lab.log";

/// This program, in the lab's folder.
const PROGRAM: &str = "outage";

/// How long the first process may take to be set up; it needs far less than a second.
const SET_UP: Duration = Duration::from_secs(30);

/// The administrator's kubeconfig, for [`enter`].
const KUBECONFIG: &str = "kubeconfig";

/// One machine of a lab.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    id: NodeRef,
    name: String,
    /// The last part of its address, and the third of its pods'.
    number: u8,
}

impl Machine {
    fn new(id: NodeRef) -> Self {
        let number = match id {
            NodeRef::Master(index) => 10 + index,
            NodeRef::Worker(index) => 20 + index,
        };
        Self { id, name: id.to_string(), number: u8::try_from(number).unwrap_or(u8::MAX) }
    }

    /// The machine that unpacks images.
    fn builder() -> Self {
        Self { id: NodeRef::Worker(0), name: "builder".into(), number: 10 }
    }

    fn is_master(&self) -> bool {
        matches!(self.id, NodeRef::Master(_))
    }

    fn address(&self) -> Ipv4Addr {
        network::address(self.number)
    }
}

/// The reference of the pause image among the assets.
pub(super) fn pause_image(assets: &Assets) -> Result<String, ClusterError> {
    assets
        .images()
        .iter()
        .map(|image| image.reference.clone())
        .find(|reference| reference.contains("/pause:"))
        .ok_or_else(|| ClusterError::new("the assets hold no pause image"))
}

/// A running lab.
#[derive(Debug)]
pub struct Lab {
    options: Options,
    folder: PathBuf,
    /// Held as long as the folder is in use.
    _lock: File,
    assets: Arc<Assets>,
    /// Closing it ends the lab.
    control: Mutex<Option<Arc<Link>>>,
    init: Mutex<Option<tokio::process::Child>>,
    nodes: Vec<Arc<dyn Node>>,
    kubeconfig: String,
    /// The phases of `kubeadm init` to skip once the cluster runs.
    phases: String,
    deaths: broadcast::Sender<DiedUnasked>,
    /// For the first who asks: deaths since the lab began.
    first_deaths: Mutex<Option<broadcast::Receiver<DiedUnasked>>>,
    /// Set when the lab is told to end: from then on every death is asked for.
    ending: Arc<AtomicBool>,
    balancer: Mutex<Option<Arc<Program>>>,
}

impl Lab {
    /// Makes the lab's folder and its first process; no nodes yet.
    ///
    /// # Errors
    /// What could not be made, with the last words of the first process. Nothing stays.
    async fn prepare(
        assets: &Arc<Assets>,
        options: &Options,
        say: &(dyn Fn(String) + Send + Sync),
    ) -> Result<Self, ClusterError> {
        let labs = labs()?;
        let swept = Swept::of(labs.clone()).await;
        swept.tell(say);
        // The folder goes before its lock, and both after the first process, should this fail.
        let (lock, folder) = make_folder(&labs)
            .map_err(|error| ClusterError::caused(format!("make {}", labs.display()), error))?;
        // A file of the lab's own: nodes that are powered on again need it, whatever becomes of the
        // one that the user started.
        let program = folder.path().join(PROGRAM);
        link_or_copy(&options.program, &program).map_err(|error| {
            ClusterError::caused(format!("take {}", options.program.display()), error)
        })?;
        let paths = LabPaths {
            folder: folder.path().display().to_string(),
            node_root: assets.node_root().display().to_string(),
            exe: program.display().to_string(),
        };
        let (ours, theirs) = wire::pair()
            .map_err(|error| ClusterError::caused("make the lab's control socket", error))?;
        let argument = serde_json::to_string(&paths)
            .map_err(|error| ClusterError::caused("write the lab's paths", error))?;
        let log_file = folder.path().join(LOG);
        let log = File::create(&log_file)
            .map_err(|error| ClusterError::caused("make the lab's log", error))?;
        let init = tokio::process::Command::new(&program)
            .args([INIT_ARGUMENT, &argument])
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::from(log))
            .env_clear()
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| ClusterError::caused(format!("start {}", program.display()), error))?;
        if let Some(pid) = init.id() {
            writeln!(&lock, "{pid}")
                .map_err(|error| ClusterError::caused("write the lab's lock", error))?;
        }
        let late = |_| ClusterError::new(format!("the lab was not set up within {SET_UP:?}"));
        let opened = tokio::time::timeout(SET_UP, Link::open("the lab", ours)).await;
        let link = opened.map_err(late).flatten().map_err(|error| with_log(error, &log_file))?;
        let (deaths, first_deaths) = broadcast::channel(64);
        let ending = Arc::new(AtomicBool::new(false));
        watch(&link, &deaths, &ending, log_file);
        Ok(Self {
            options: options.clone(),
            folder: folder.keep(),
            _lock: lock,
            assets: Arc::clone(assets),
            control: Mutex::new(Some(Arc::new(link))),
            init: Mutex::new(Some(init)),
            nodes: Vec::new(),
            kubeconfig: String::new(),
            phases: String::new(),
            deaths,
            first_deaths: Mutex::new(Some(first_deaths)),
            ending,
            balancer: Mutex::new(None),
        })
    }

    fn control(&self) -> Result<Arc<Link>, ClusterError> {
        let control = self.control.lock().unwrap_or_else(PoisonError::into_inner).clone();
        control.ok_or_else(|| ClusterError::new("the lab has ended"))
    }

    /// The lab's folder on the host.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn all_logs(&self) -> PathBuf {
        self.options.logs.clone().unwrap_or_else(|| self.folder.join("logs"))
    }

    fn logs(&self, machine: &Machine) -> PathBuf {
        self.all_logs().join(&machine.name)
    }

    fn containerd_folder(&self, machine: &Machine) -> PathBuf {
        self.folder.join("nodes").join(&machine.name).join("containerd")
    }

    /// What is `/var/log/pods` on the node: the logs of its containers.
    fn pods_folder(&self, machine: &str) -> PathBuf {
        self.folder.join("nodes").join(machine).join("pods")
    }

    /// Moves the logs of all containers to where the run keeps its logs. The nodes have ended.
    async fn keep_pod_logs(&self) -> std::io::Result<()> {
        let Some(logs) = &self.options.logs else { return Ok(()) };
        let place = |node: &Arc<dyn Node>| {
            (self.pods_folder(node.name()), logs.join(node.name()).join("pods"))
        };
        let places: Vec<_> = self.nodes.iter().map(place).collect();
        aside(move || {
            let mut there = places.iter().filter(|(from, _)| from.exists());
            there.try_for_each(|(from, to)| move_tree(from, to))
        })
        .await
    }

    fn spec(machine: &Machine, machines: &[Machine]) -> NodeSpec {
        let peers = machines.iter().map(|peer| peer.number);
        NodeSpec {
            name: machine.name.clone(),
            number: machine.number,
            network: network::node_batch(
                machine.number,
                peers.filter(|peer| *peer != machine.number),
            ),
            disk: "4g".into(),
        }
    }

    async fn make_node_folders(
        &self,
        machine: &Machine,
        store: Option<&Path>,
    ) -> Result<(), ClusterError> {
        let containerd = self.containerd_folder(machine);
        let folders = [self.logs(machine), self.pods_folder(&machine.name), containerd.clone()];
        let store = store.map(Path::to_owned);
        let making = aside(move || {
            folders.iter().try_for_each(fs::create_dir_all)?;
            if let Some(store) = store {
                for entry in fs::read_dir(store)? {
                    let entry = entry?;
                    // The cache's own record of the entry is no part of the store.
                    if entry.file_type()?.is_dir() {
                        store::hand_out(&entry.path(), &containerd.join(entry.file_name()))?;
                    }
                }
            }
            Ok(())
        });
        making.await.map_err(|error| {
            ClusterError::caused(format!("make the folders of {}", machine.name), error)
        })
    }

    /// Links the binaries that nodes run beside their packages into one folder.
    pub(super) fn make_binaries(&self) -> Result<(), ClusterError> {
        let folder = self.folder.join("bin");
        for binary in
            [Binary::Kubelet, Binary::Kubeadm, Binary::Kubectl, Binary::Etcdctl, Binary::Crictl]
        {
            let from = self
                .assets
                .binary(binary)
                .map_err(|error| ClusterError::caused("find a binary", error))?;
            let to = folder.join(binary.name());
            link_or_copy(from, &to).map_err(|error| {
                ClusterError::caused(format!("give nodes {}", binary.name()), error)
            })?;
        }
        Ok(())
    }

    /// Ends the lab: every process in it, and its folder.
    async fn end(&self) -> Result<(), ClusterError> {
        self.ending.store(true, Ordering::SeqCst);
        let control = self.control.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(control) = control {
            control.close();
        }
        let init = self.init.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut init) = init {
            let ended = tokio::time::timeout(Duration::from_secs(20), init.wait()).await;
            if ended.is_err() {
                init.kill().await.map_err(|error| ClusterError::caused("kill the lab", error))?;
            }
        }
        if !self.folder.exists() {
            return Ok(());
        }
        // The folder goes, whatever becomes of the logs.
        let kept = self.keep_pod_logs().await;
        let folder = self.folder.clone();
        aside(move || remove_tree(&folder)).await.map_err(|error| {
            ClusterError::caused(format!("remove {}", self.folder.display()), error)
        })?;
        kept.map_err(|error| ClusterError::caused("keep the containers' logs", error))
    }
}

impl Drop for Lab {
    /// The last resort: the processes end because their socket closes.
    fn drop(&mut self) {
        if let Some(control) = self.control.lock().unwrap_or_else(PoisonError::into_inner).take() {
            control.close();
        }
    }
}

impl Cluster for Lab {
    fn provider(&self) -> &'static str {
        "lab"
    }

    fn name(&self) -> String {
        name_of(&self.folder)
    }

    fn nodes(&self) -> &[Arc<dyn Node>] {
        &self.nodes
    }

    fn load_balancer(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(network::LOAD_BALANCER), 6443)
    }

    fn admin_kubeconfig(&self) -> &str {
        &self.kubeconfig
    }

    fn connect(
        &self,
        to: SocketAddr,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<std::io::Result<TcpStream>, ClusterError>> {
        async move { self.control()?.connect(to, timeout).await }.boxed()
    }

    fn provenance(&self) -> Vec<(String, String)> {
        self.assets
            .provenance()
            .iter()
            .map(|file| {
                let value = format!("{} sha256:{} ({})", file.version, file.sha256, file.origin);
                (file.name.clone(), value)
            })
            .collect()
    }

    fn departures(&self) -> Vec<String> {
        let settings = self.options.settings.iter();
        let settings = settings.map(|(of, name, value)| format!("{}: --{name}={value}", of.name()));
        // kubeadm's own advice for clusters without workers.
        let untainted = "masters have no taint, since there are no workers";
        let untainted = (self.options.workers == 0).then_some(untainted);
        let addons = self.options.addons.iter().flat_map(|addon| addon::departures(*addon));
        let fixed = config::DEPARTURES.iter().copied().chain(untainted).chain(addons);
        fixed.map(str::to_owned).chain(settings).collect()
    }

    fn deaths(&self) -> broadcast::Receiver<DiedUnasked> {
        let first = self.first_deaths.lock().unwrap_or_else(PoisonError::into_inner).take();
        first.unwrap_or_else(|| self.deaths.subscribe())
    }

    fn delete(&self) -> BoxFuture<'_, Result<(), ClusterError>> {
        self.end().boxed()
    }
}

/// Reports the death of the whole lab, unless somebody asked for it. What dies with it is not
/// reported by itself.
fn watch(
    link: &Link,
    deaths: &broadcast::Sender<DiedUnasked>,
    ending: &Arc<AtomicBool>,
    log: PathBuf,
) {
    let (closed, deaths, ending) = (link.closed(), deaths.clone(), Arc::clone(ending));
    tokio::spawn(async move {
        closed.cancelled().await;
        if !ending.load(Ordering::SeqCst) {
            // Nobody may be listening.
            let _ = deaths.send(DiedUnasked {
                process: "the lab's first process".into(),
                status: "its control socket closed".into(),
                log: last_lines(&log),
                restarts: false,
            });
        }
    });
}

/// An error of a first process that could not tell its reason, and what it wrote before.
fn with_log(error: ClusterError, log: &Path) -> ClusterError {
    let lines = last_lines(log).join("\n");
    if lines.is_empty() {
        return error;
    }
    ClusterError { context: format!("{}; its last words:\n{lines}", error.context), ..error }
}

/// Moves a folder of plain files, also to another file system.
fn move_tree(from: &Path, to: &Path) -> std::io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == std::io::ErrorKind::CrossesDevices => {
            fs::create_dir_all(to)?;
            for entry in fs::read_dir(from)? {
                let entry = entry?;
                let to = to.join(entry.file_name());
                if entry.file_type()?.is_dir() {
                    move_tree(&entry.path(), &to)?;
                } else {
                    fs::copy(entry.path(), to)?;
                }
            }
            Ok(())
        }
        moved => moved,
    }
}

/// Does the work of a lab's first process or of runc, if that is what this program was started as;
/// the exit code.
pub(super) fn stand_in() -> Option<i32> {
    let mut args = std::env::args();
    let program = args.next()?;
    if Path::new(&program).file_name().is_some_and(|name| name == RUNC_NAME) {
        return Some(oci::main(args.collect()));
    }
    match args.next()?.as_str() {
        INIT_ARGUMENT => Some(init::main(&args.next()?)),
        enter::TRIAL_ARGUMENT => Some(enter::trial_main()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_first_process_wrote_last_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let ended = || ClusterError::new("the lab ended during its set-up");
        assert_eq!(with_log(ended(), &log).to_string(), "the lab ended during its set-up");
        fs::write(&log, "one\nlibc: not found\n").unwrap();
        let told = with_log(ended(), &log).to_string();
        assert!(told.ends_with("its last words:\none\nlibc: not found"), "{told}");
    }
}
