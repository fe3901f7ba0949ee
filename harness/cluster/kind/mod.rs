//! Clusters made by the `kind` CLI: kubeadm nodes in containers, behind kind's load balancer.
//!
//! # Guarantees
//! A cluster's name is drawn at random and stands in a folder of the cache, locked by its harness,
//! before anything is made under it; containers carry it as kind's label, and the network is named
//! so. Whatever becomes of the harness, its reaper (`reaper.rs`) or the next start removes exactly
//! that. A cluster that somebody else made is never touched.

mod config;
mod engine;
mod enter;
mod lock;
mod node;
mod reaper;
mod reuse;

use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, try_join, try_join_all};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::broadcast;
use tokio::time::Instant;

use super::agent::AGENT_ARGUMENT;
use super::awaited::Awaited;
use super::checked::{administrator, checked};
use super::client::{APISERVER_PORT, Access, words};
use super::files::link_or_copy;
use super::running::name_of;
use super::{Cluster, ClusterError, ClusterOptions, Command, DiedUnasked, Node, addon, agent};
use crate::assets::{Assets, Cache, KindAssets};
use crate::scenario::{Addon, NodeRef};
use engine::{ENGINE, engine};
pub(super) use enter::enter;
use lock::{Lock, abandoned};
use node::{Common, KindNode};
use reaper::REAPER_ARGUMENT;

/// Where every node sees the cluster's folder `shared`.
const MOUNT: &str = "/outage";

/// This program, in the shared folder.
const PROGRAM: &str = "outage";

/// Where the nodes see it.
const ON_NODE: &str = "/outage/outage";

/// The folder that all nodes see, in the cluster's own.
const SHARED: &str = "shared";

/// The administrator's kubeconfig in the shared folder: a worker has none of its own.
const ADMINISTRATOR: &str = "admin.conf";

/// An administrator's kubeconfig on every master.
const ADMIN: &str = "/etc/kubernetes/admin.conf";

/// A bound for a start, most of which is kind's and Kubernetes' own; measured: about 110 s on two
/// cores.
const PATIENCE: Duration = Duration::from_secs(600);

/// By what a cluster is held.
#[derive(Debug)]
enum Hold {
    /// The lock of a folder of its own.
    Own(Lock),
    /// The mark that it is in use, in the folder of another process.
    Others(reuse::Used),
}

/// What makes a kind cluster.
#[derive(Debug)]
pub(super) struct Tools {
    /// kind itself.
    pub kind: KindAssets,
    /// The node image, as the engine knows it.
    pub image: String,
}

/// A running kind cluster.
#[derive(Debug)]
pub(super) struct Kind {
    name: String,
    options: ClusterOptions,
    image: String,
    folder: PathBuf,
    /// As long as the folder is in use.
    hold: Mutex<Option<Hold>>,
    nodes: Vec<Arc<dyn Node>>,
    balancer: SocketAddr,
    /// The container of the load balancer, if there is one.
    balancer_name: Option<String>,
    kubeconfig: String,
    deaths: broadcast::Sender<DiedUnasked>,
    /// For the first who asks: deaths since the cluster began.
    first_deaths: Mutex<Option<broadcast::Receiver<DiedUnasked>>>,
    /// Set when the cluster is told to end: from then on every death is asked for.
    ending: Arc<AtomicBool>,
}

impl Kind {
    /// Has kind make a cluster and waits until Kubernetes is up on every node: apiservers ready,
    /// nodes Ready, kube-proxy and `CoreDNS` running, addons serving. `say` is told how far it is.
    ///
    /// # Errors
    /// What could not be made. Nothing stays.
    pub async fn start(
        assets: &Assets,
        tools: &Tools,
        options: ClusterOptions,
        say: &(dyn Fn(String) + Send + Sync),
    ) -> Result<Arc<Self>, ClusterError> {
        for name in sweep().await? {
            say(format!("removed the kind cluster {name}: its run was killed"));
        }
        let lock = make_folder()
            .map_err(|error| ClusterError::caused("make a folder for a kind cluster", error))?;
        let (awaited, deadline) = (Awaited::default(), Instant::now() + PATIENCE);
        let late = || format!("the cluster was not up within {PATIENCE:?}");
        let made = Self::bring_up(assets, tools, options, lock.folder(), &awaited, say);
        let made = awaited.until(deadline, late, Box::pin(made)).await;
        match &made {
            Ok(kind) => kind.hold(Hold::Own(lock)),
            // The failure that led here is the one to report.
            Err(_) => drop(remove(lock).await),
        }
        made
    }

    async fn bring_up(
        assets: &Assets,
        tools: &Tools,
        options: ClusterOptions,
        folder: &Path,
        awaited: &Awaited,
        say: &(dyn Fn(String) + Send + Sync),
    ) -> Result<Arc<Self>, ClusterError> {
        reaper::start(&options.program, folder)?;
        let name = name_of(folder);
        let shared = folder.join(SHARED);
        link_or_copy(&options.program, &shared.join(PROGRAM)).map_err(|error| {
            ClusterError::caused(format!("take {}", options.program.display()), error)
        })?;
        for addon in &options.addons {
            addon::lay_out(*addon, assets, &shared.join(addon.name()), "")?;
        }
        engine::make_network(&name).await?;
        match create(tools, &options, folder, awaited, say).await {
            Err(error) if is_promotion(&error) => {
                say("kind: kubeadm took a promoted etcd member for a learner; once more".into());
                create(tools, &options, folder, awaited, say).await?;
            }
            made => made?,
        }
        let kind = Self::enter(options, tools.image.clone(), folder).await?;
        say(format!("{} nodes entered", kind.nodes.len()));
        kind.await_kubernetes(awaited, say).await?;
        reuse::describe(&kind)?;
        Ok(kind)
    }

    /// The cluster of containers that run, with an agent in each node. Nothing holds it yet.
    async fn enter(
        options: ClusterOptions,
        image: String,
        folder: &Path,
    ) -> Result<Arc<Self>, ClusterError> {
        let (name, shared) = (name_of(folder), folder.join(SHARED));
        let (deaths, first_deaths) = broadcast::channel(64);
        let ending = Arc::new(AtomicBool::new(false));
        let common = Common {
            network: name.clone(),
            shared,
            logs: options.logs.clone().unwrap_or_else(|| folder.join("logs")),
            deaths: deaths.clone(),
            ending: Arc::clone(&ending),
        };
        let nodes = refs(&options).map(|id| {
            let common = &common;
            let container = container(&name, id);
            async move {
                let node = KindNode::start(id, container, common).await?;
                Ok::<_, ClusterError>(Arc::new(node) as Arc<dyn Node>)
            }
        });
        let nodes = try_join_all(nodes).await?;
        let first = nodes.first().ok_or_else(|| ClusterError::new("a cluster needs a master"))?;
        // kind has a load balancer only where there are several masters.
        let balancer_name = (options.masters > 1).then(|| format!("{name}-external-load-balancer"));
        let balancer = match &balancer_name {
            Some(container) => engine::address(container, &name).await?.into(),
            None => first.address(),
        };
        let kubeconfig = administrator(&**first).await?;
        let administrator = folder.join(SHARED).join(ADMINISTRATOR);
        fs::write(&administrator, &kubeconfig).map_err(|error| {
            ClusterError::caused(format!("write {}", administrator.display()), error)
        })?;
        Ok(Arc::new(Self {
            image,
            folder: folder.to_owned(),
            hold: Mutex::new(None),
            balancer: SocketAddr::new(balancer, APISERVER_PORT),
            balancer_name,
            kubeconfig,
            first_deaths: Mutex::new(Some(first_deaths)),
            nodes,
            name,
            options,
            deaths,
            ending,
        }))
    }

    async fn await_kubernetes(
        self: &Arc<Self>,
        awaited: &Awaited,
        say: &(dyn Fn(String) + Send + Sync),
    ) -> Result<(), ClusterError> {
        let access = Access::new(Arc::clone(self) as Arc<dyn Cluster>).await?.awaiting(awaited);
        let masters = access.masters().map(|master| access.await_apiserver(master.id(), "/readyz"));
        try_join_all(masters).await?;
        say(format!("{0} of {0} apiservers ready", self.options.masters));
        access.await_nodes().await?;
        say(format!("{0} of {0} nodes Ready", self.nodes.len()));
        access.await_kube_proxy().await?;
        access.await_services().await?;
        say("kube-proxy running".into());
        let coredns = async {
            access.await_coredns().await?;
            say("CoreDNS running".into());
            Ok(())
        };
        let addons = try_join_all(self.options.addons.iter().map(|addon| async {
            self.add(*addon).await?;
            access.await_addon(*addon).await?;
            say(format!("{} serving", addon.name()));
            Ok(())
        }));
        try_join(coredns, addons).await.map(drop)
    }

    async fn add(&self, addon: Addon) -> Result<(), ClusterError> {
        let Some(first) = self.nodes.first() else { return Ok(()) };
        let apply = Command::new([
            "kubectl".to_owned(),
            format!("--kubeconfig={ADMIN}"),
            "apply".into(),
            format!("--kustomize={MOUNT}/{}", addon.name()),
        ]);
        checked(&**first, apply.timeout(Duration::from_secs(60))).await.map(drop)
    }

    /// Copies the logs of all containers to where the run keeps its logs.
    async fn keep_pod_logs(&self) {
        let Some(logs) = &self.options.logs else { return };
        let copies = self.nodes.iter().map(|node| async {
            let from = format!("{}:/var/log/pods", container(&self.name, node.id()));
            let to = logs.join(node.name()).join("pods");
            // No flag: an old engine may not know it.
            match engine(&["cp", &from, &to.display().to_string()]).await {
                Err(error) if !is_gone(&error) => {
                    tracing::warn!("the containers' logs of {} are lost: {error}", node.name());
                }
                _ => {}
            }
        });
        futures::future::join_all(copies).await;
    }

    fn hold(&self, hold: Hold) {
        *self.hold.lock().unwrap_or_else(PoisonError::into_inner) = Some(hold);
    }

    async fn end(&self, as_new: bool) -> Result<(), ClusterError> {
        self.ending.store(true, Ordering::SeqCst);
        if self.folder.exists() {
            self.keep_pod_logs().await;
        }
        let hold = self.hold.lock().unwrap_or_else(PoisonError::into_inner).take();
        match hold {
            Some(Hold::Own(lock)) => remove(lock).await,
            Some(Hold::Others(used)) if as_new => used.clear(),
            Some(Hold::Others(_)) | None => Ok(()),
        }
    }
}

/// Whether the engine does not know a container: a node that is gone has no logs.
fn is_gone(error: &ClusterError) -> bool {
    error.to_string().to_lowercase().contains("no such container")
}

/// Whether kubeadm did not hear that etcd had promoted its new member, which happens where a disk is
/// slow, and asked for it again and again until it gave up. Later versions look before they ask again.
/// <https://github.com/kubernetes/kubeadm/issues/3317>
fn is_promotion(error: &ClusterError) -> bool {
    error.to_string().lines().any(|line| line.ends_with("can only promote a learner member"))
}

/// Runs `kind create cluster`; its lines are told as they come.
async fn create(
    tools: &Tools,
    options: &ClusterOptions,
    folder: &Path,
    awaited: &Awaited,
    say: &(dyn Fn(String) + Send + Sync),
) -> Result<(), ClusterError> {
    let name = name_of(folder);
    let shared = folder.join(SHARED).display().to_string();
    let text = config::config(options, &tools.image, &shared)
        .map_err(|why| ClusterError::new(format!("the committed kind configuration: {why}")))?;
    let file = folder.join("kind.yaml");
    fs::write(&file, text)
        .map_err(|error| ClusterError::caused(format!("write {}", file.display()), error))?;
    let command = tools
        .kind
        .command()
        .map_err(|error| ClusterError::caused("find the command kind", error))?;
    let failed = |error| ClusterError::caused(format!("run {}", command.display()), error);
    let mut kind = tokio::process::Command::new(command)
        .args(["create", "cluster", "--name", &name, "--config"])
        .arg(&file)
        .arg("--kubeconfig")
        .arg(folder.join("kubeconfig"))
        .env("KIND_EXPERIMENTAL_PROVIDER", ENGINE)
        .env("KIND_EXPERIMENTAL_DOCKER_NETWORK", &name)
        // The host's proxies can't reach the nodes, nor the nodes the proxies.
        .env_remove("HTTP_PROXY")
        .env_remove("HTTPS_PROXY")
        .env_remove("NO_PROXY")
        .env_remove("http_proxy")
        .env_remove("https_proxy")
        .env_remove("no_proxy")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let mut last = Vec::new();
    if let Some(lines) = kind.stderr.take() {
        let mut lines = BufReader::new(lines).lines();
        while let Some(line) = lines.next_line().await.map_err(failed)? {
            let line = line.trim().to_owned();
            // Each step is told again when it has ended, and kind greets.
            if let Some(done) = line.strip_prefix('✓') {
                let step: String = done.chars().filter(char::is_ascii).collect();
                say(format!("kind: {}", step.trim()));
            }
            awaited.saw("kind create cluster", &*line);
            last.push(line);
        }
    }
    let status = kind.wait().await.map_err(failed)?;
    awaited.came("kind create cluster");
    if status.success() {
        return Ok(());
    }
    Err(ClusterError::new(format!("kind create cluster: {status}:\n{}", reasons(&last).join("\n"))))
}

/// The last lines that say something to a user: kind ends with the stack of its own program, and what
/// it tells of kubeadm with kubeadm's, a function or a place in a line, and none of them has a blank.
fn reasons(lines: &[String]) -> Vec<&str> {
    let before = lines.iter().map(String::as_str).take_while(|line| *line != "Stack Trace:");
    let said: Vec<&str> = before.filter(|line| line.contains(' ')).collect();
    said[said.len().saturating_sub(20)..].to_vec()
}

/// The nodes of such a cluster: masters, then workers.
fn refs(options: &ClusterOptions) -> impl Iterator<Item = NodeRef> {
    let masters = (1..=options.masters).map(NodeRef::Master);
    masters.chain((1..=options.workers).map(NodeRef::Worker))
}

/// How kind names a node's container.
/// <https://github.com/kubernetes-sigs/kind/blob/v0.30.0/pkg/cluster/internal/providers/common/namer.go>
fn container(cluster: &str, id: NodeRef) -> String {
    let (role, index) = match id {
        NodeRef::Master(index) => ("control-plane", index),
        NodeRef::Worker(index) => ("worker", index),
    };
    let suffix = if index > 1 { index.to_string() } else { String::new() };
    format!("{cluster}-{role}{suffix}")
}

/// Where the folders of all kind clusters are.
fn clusters() -> Result<PathBuf, ClusterError> {
    let cache =
        Cache::from_env().map_err(|error| ClusterError::caused("find the cache folder", error))?;
    Ok(cache.root().join("kind-clusters"))
}

/// A folder whose name is the cluster's, locked.
fn make_folder() -> io::Result<Lock> {
    let all = clusters().map_err(io::Error::other)?;
    fs::create_dir_all(&all)?;
    // The name is part of host names later on, so it is short.
    let number = RandomState::new().hash_one(()) >> 32;
    let folder = all.join(format!("outage-{number:08x}"));
    fs::create_dir(&folder)?;
    let lock = Lock::make(&folder)?;
    fs::create_dir(folder.join(SHARED))?;
    // What is made under the name is found again after a power cut, too.
    File::open(&folder)?.sync_all()?;
    File::open(&all)?.sync_all()?;
    Ok(lock)
}

/// Removes a cluster, and then its folder.
async fn remove(lock: Lock) -> Result<(), ClusterError> {
    remove_locked(lock.folder()).await?;
    lock.release();
    Ok(())
}

async fn remove_locked(folder: &Path) -> Result<(), ClusterError> {
    let name = &name_of(folder);
    engine::end_makers(name);
    engine::remove_cluster(name).await?;
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(ClusterError::caused(format!("remove {}", folder.display()), error))
        }
        _ => Ok(()),
    }
}

/// Removes the clusters whose harness is gone, and those whose start this process broke off; their
/// names.
///
/// # Errors
/// Which can't be removed, and which were.
pub(super) async fn sweep() -> Result<Vec<String>, ClusterError> {
    let (mut removed, mut failed) = (Vec::new(), Vec::new());
    for lock in abandoned(&clusters()?) {
        let name = name_of(lock.folder());
        match remove(lock).await {
            Ok(()) => removed.push(name),
            Err(error) => failed.push(format!("can't remove {name}: {}", words(&error))),
        }
    }
    if failed.is_empty() {
        return Ok(removed);
    }
    failed.extend(removed.iter().map(|name| format!("removed: {name}")));
    Err(ClusterError::new(failed.join("\n")))
}

impl Cluster for Kind {
    fn provider(&self) -> &'static str {
        "kind"
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    fn nodes(&self) -> &[Arc<dyn Node>] {
        &self.nodes
    }

    fn load_balancer(&self) -> SocketAddr {
        self.balancer
    }

    fn host_name(&self, of: IpAddr) -> Option<&str> {
        // kubeadm knows the load balancer by its name, as kind wrote into its configuration.
        (of == self.balancer.ip()).then_some(self.balancer_name.as_deref()).flatten()
    }

    fn admin_kubeconfig(&self) -> &str {
        &self.kubeconfig
    }

    fn connect(
        &self,
        to: SocketAddr,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<io::Result<TcpStream>, ClusterError>> {
        // The engine's bridge gives the host an address on the network between nodes.
        async move {
            Ok(match tokio::time::timeout(timeout, TcpStream::connect(to)).await {
                Ok(connected) => connected,
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            })
        }
        .boxed()
    }

    fn provenance(&self) -> Vec<(String, String)> {
        vec![("node image".into(), self.image.clone())]
    }

    fn departures(&self) -> Vec<String> {
        let settings = self.options.settings.iter();
        let settings = settings.map(|(of, name, value)| format!("{}: --{name}={value}", of.name()));
        let addons = self.options.addons.iter().map(|addon| addon::departures(*addon).to_owned());
        addons.chain(settings).collect()
    }

    fn deaths(&self) -> broadcast::Receiver<DiedUnasked> {
        let first = self.first_deaths.lock().unwrap_or_else(PoisonError::into_inner).take();
        first.unwrap_or_else(|| self.deaths.subscribe())
    }

    fn delete(&self) -> BoxFuture<'_, Result<(), ClusterError>> {
        self.end(false).boxed()
    }

    fn leave(&self) -> BoxFuture<'_, Result<(), ClusterError>> {
        self.end(true).boxed()
    }
}

/// Does the work of an agent or of a reaper, if that is what this program was started as; the exit
/// code.
pub(super) fn stand_in() -> Option<i32> {
    let mut args = std::env::args().skip(1);
    match args.next()?.as_str() {
        AGENT_ARGUMENT => Some(agent::main(&args.next()?)),
        REAPER_ARGUMENT => Some(reaper::main(Path::new(&args.next()?))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_told_and_not_the_stacks() {
        let lines = [
            "error execution phase etcd-join: it can't",
            "k8s.io/kubernetes/cmd/kubeadm/app/cmd/phases/workflow.(*Runner).Run",
            "k8s.io/kubernetes/cmd/kubeadm/app/cmd/phases/workflow/runner.go:234",
            "Stack Trace:",
            "sigs.k8s.io/kind/pkg/errors.WithStack it was",
        ];
        assert_eq!(reasons(&lines.map(str::to_owned)), [lines[0]]);
    }

    #[test]
    fn a_promotion_that_nobody_heard_of_is_told_from_one_that_is_too_early() {
        let failed = |why: &str| {
            is_promotion(&ClusterError::new(format!("kind: exit status: 1:\nerror: {why}\nmore")))
        };
        assert!(failed("etcdserver: can only promote a learner member"));
        assert!(!failed("can only promote a learner member which is in sync with leader"));
    }

    #[test]
    fn only_logs_of_a_container_that_is_gone_are_not_missed() {
        let failed = |why: &str| is_gone(&ClusterError::new(format!("docker cp: exit 1: {why}")));
        assert!(failed("Error: No such container: outage-1-worker"));
        assert!(failed("Error response from daemon: No such container: outage-1-worker"));
        assert!(!failed("unknown flag: --quiet"));
        assert!(!failed("no space left on device"));
    }

    #[test]
    fn containers_are_named_as_kind_names_them() {
        assert_eq!(container("outage-1", NodeRef::Master(1)), "outage-1-control-plane");
        assert_eq!(container("outage-1", NodeRef::Master(3)), "outage-1-control-plane3");
        assert_eq!(container("outage-1", NodeRef::Worker(1)), "outage-1-worker");
        assert_eq!(container("outage-1", NodeRef::Worker(2)), "outage-1-worker2");
    }
}
