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
use std::os::unix::fs::PermissionsExt;
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
use super::files::link_or_copy;
use super::logs::last_lines;
use super::running::{LOCK, name_of};
use super::{Cluster, ClusterError, ClusterOptions as Options, DiedUnasked, Node};
use crate::assets::{Assets, Binary, Cache, Progress};
use crate::scenario::NodeRef;
pub use enter::enter;
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
    async fn prepare(
        assets: &Arc<Assets>,
        options: &Options,
        progress: &Progress,
    ) -> Result<Self, ClusterError> {
        let labs = labs()?;
        remove_abandoned(&labs, progress, &mut Vec::new());
        let (folder, lock) = make_folder(&labs)
            .map_err(|error| ClusterError::caused(format!("make {}", labs.display()), error))?;
        // A file of the lab's own: nodes that are powered on again need it, whatever becomes of the
        // one that the user started.
        let program = folder.join(PROGRAM);
        link_or_copy(&options.program, &program).map_err(|error| {
            ClusterError::caused(format!("take {}", options.program.display()), error)
        })?;
        let paths = LabPaths {
            folder: folder.display().to_string(),
            node_root: assets.node_root().display().to_string(),
            exe: program.display().to_string(),
        };
        let (ours, theirs) = wire::pair()
            .map_err(|error| ClusterError::caused("make the lab's control socket", error))?;
        let argument = serde_json::to_string(&paths)
            .map_err(|error| ClusterError::caused("write the lab's paths", error))?;
        let log = File::create(folder.join(LOG))
            .map_err(|error| ClusterError::caused("make the lab's log", error))?;
        let init = tokio::process::Command::new(&program)
            .args([INIT_ARGUMENT, &argument])
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::from(log))
            .env_clear()
            .spawn()
            .map_err(|error| ClusterError::caused(format!("start {}", program.display()), error))?;
        if let Some(pid) = init.id() {
            writeln!(&lock, "{pid}")
                .map_err(|error| ClusterError::caused("write the lab's lock", error))?;
        }
        let link = Link::open("the lab", ours).await?;
        let (deaths, first_deaths) = broadcast::channel(64);
        let ending = Arc::new(AtomicBool::new(false));
        watch(&link, &deaths, &ending, folder.join(LOG));
        Ok(Self {
            options: options.clone(),
            folder,
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
    fn keep_pod_logs(&self) -> std::io::Result<()> {
        let Some(logs) = &self.options.logs else { return Ok(()) };
        for node in &self.nodes {
            let from = self.pods_folder(node.name());
            if from.exists() {
                move_tree(&from, &logs.join(node.name()).join("pods"))?;
            }
        }
        Ok(())
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

    fn make_node_folders(
        &self,
        machine: &Machine,
        store: Option<&Path>,
    ) -> Result<(), ClusterError> {
        let make = || -> std::io::Result<()> {
            fs::create_dir_all(self.logs(machine))?;
            fs::create_dir_all(self.pods_folder(&machine.name))?;
            let containerd = self.containerd_folder(machine);
            fs::create_dir_all(&containerd)?;
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
        };
        make().map_err(|error| {
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
        if self.folder.exists() {
            self.keep_pod_logs()
                .map_err(|error| ClusterError::caused("keep the containers' logs", error))?;
            remove_tree(&self.folder).map_err(|error| {
                ClusterError::caused(format!("remove {}", self.folder.display()), error)
            })?;
        }
        Ok(())
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

/// Makes a folder of its own, locked for as long as the lab lives.
fn make_folder(labs: &Path) -> std::io::Result<(PathBuf, File)> {
    fs::create_dir_all(labs)?;
    let folder = tempfile::Builder::new().prefix("lab-").tempdir_in(labs)?.keep();
    let lock = File::create(folder.join(LOCK))?;
    lock.lock()?;
    for dir in ["logs", "nodes", "bin", "control"] {
        fs::create_dir(folder.join(dir))?;
    }
    File::create(folder.join("bin").join(RUNC_NAME))?;
    Ok((folder, lock))
}

/// Where the folders of all labs are.
fn labs() -> Result<PathBuf, ClusterError> {
    let cache =
        Cache::from_env().map_err(|error| ClusterError::caused("find the cache folder", error))?;
    Ok(cache.root().join("labs"))
}

/// Removes the folders of labs whose start was broken off, or whose run was killed, once their
/// processes are gone; their names.
///
/// # Errors
/// If one can't be removed within 20 s.
pub async fn sweep() -> Result<Vec<String>, ClusterError> {
    const LIMIT: Duration = Duration::from_secs(20);
    const PERIOD: Duration = Duration::from_millis(50);
    let labs = labs()?;
    let mut removed = Vec::new();
    let swept = async {
        // What is just ending may still write.
        while !remove_abandoned(&labs, &Progress::silent(), &mut removed) {
            tokio::time::sleep(PERIOD).await;
        }
    };
    tokio::time::timeout(LIMIT, swept).await.map_err(|_| {
        ClusterError::new(format!("a lab that ended can't be removed from {}", labs.display()))
    })?;
    Ok(removed)
}

/// Removes the folders of labs whose harness is gone, and adds their names; whether none is left.
fn remove_abandoned(labs: &Path, progress: &Progress, removed: &mut Vec<String>) -> bool {
    let Ok(entries) = fs::read_dir(labs) else { return true };
    let mut all = true;
    for folder in entries.flatten().map(|entry| entry.path()) {
        // A folder without a lock is just being made, or was given up in that moment long ago.
        let Ok(lock) = File::open(folder.join(LOCK)) else { continue };
        if lock.try_lock().is_ok() {
            match remove_tree(&folder) {
                Ok(()) => {
                    progress.notice(format!("removed {}: its run was killed", folder.display()));
                    removed.extend(folder.file_name().map(|name| name.display().to_string()));
                }
                Err(error) => {
                    all = false;
                    progress.warning(format!("can't remove {}: {error}", folder.display()));
                }
            }
        }
    }
    all
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

/// Removes a folder, also where it holds folders without permissions, as overlay mounts leave.
fn remove_tree(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            let mode = path.symlink_metadata()?.permissions().mode();
            if mode & 0o700 != 0o700 {
                fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
            }
            remove_tree(&path)?;
        } else {
            fs::remove_file(&path)?;
        }
    }
    fs::remove_dir(folder)
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
