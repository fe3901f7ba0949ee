//! A node of a kind cluster: a container whose first process is systemd, and an agent beside it.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};
use tokio::net::{TcpStream, UnixListener};
use tokio::sync::{Mutex, RwLock, broadcast};

use super::engine::{self, engine};
use super::{MOUNT, ON_NODE};
use crate::cluster::agent::{AGENT_ARGUMENT, Link};
use crate::cluster::checked::{checked, status};
use crate::cluster::logs::{log_streams, read_since};
use crate::cluster::{ClusterError, Command, DiedUnasked, Node, Output, Service};
use crate::scenario::{NodeRef, Signal};

/// How long systemd may take to be up after the container's start, or a service to start or stop.
const SYSTEMD: Duration = Duration::from_secs(60);

/// How long an agent may take to answer.
const AGENT: Duration = Duration::from_secs(20);

/// How long the engine may take to see that a container ended.
const GONE: Duration = Duration::from_secs(5);

/// A node of a kind cluster.
#[derive(Debug)]
pub(super) struct KindNode {
    id: NodeRef,
    /// The node's name in Kubernetes.
    name: String,
    /// The container's.
    container: String,
    address: Ipv4Addr,
    /// The network between nodes.
    network: String,
    /// The folder that all nodes see as [`MOUNT`].
    shared: PathBuf,
    /// Where its programs' output goes.
    logs: PathBuf,
    /// The agent; nothing while the power is off.
    link: RwLock<Option<Arc<Link>>>,
    /// Whether the power is on, as far as anybody here changed it.
    on: Arc<AtomicBool>,
    frozen: AtomicBool,
    /// Held while the power changes.
    switching: Mutex<()>,
    deaths: broadcast::Sender<DiedUnasked>,
    ending: Arc<AtomicBool>,
}

/// What all nodes of a cluster share.
#[derive(Debug, Clone)]
pub(super) struct Common {
    pub network: String,
    pub shared: PathBuf,
    pub logs: PathBuf,
    pub deaths: broadcast::Sender<DiedUnasked>,
    pub ending: Arc<AtomicBool>,
}

impl KindNode {
    /// A node whose container runs.
    pub async fn start(
        id: NodeRef,
        container: String,
        common: &Common,
    ) -> Result<Self, ClusterError> {
        let address = engine::address(&container, &common.network).await?;
        let name = id.to_string();
        let node = Self {
            id,
            address,
            network: common.network.clone(),
            shared: common.shared.clone(),
            logs: common.logs.join(&name),
            link: RwLock::default(),
            on: Arc::default(),
            frozen: AtomicBool::new(false),
            switching: Mutex::default(),
            deaths: common.deaths.clone(),
            ending: Arc::clone(&common.ending),
            name,
            container,
        };
        std::fs::create_dir_all(&node.logs).map_err(|error| {
            ClusterError::caused(format!("make {}", node.logs.display()), error)
        })?;
        node.boot().await?;
        Ok(node)
    }

    /// Starts the agent in the running container, and follows the logs of the node's services.
    async fn boot(&self) -> Result<(), ClusterError> {
        self.frozen.store(false, Ordering::SeqCst);
        let socket = format!("{}.sock", self.name);
        let path = self.shared.join(&socket);
        let listener = listen_at(&path).map_err(|error| {
            ClusterError::caused(format!("listen at {}", path.display()), error)
        })?;
        let seen = format!("{MOUNT}/{socket}");
        engine(&["exec", "--detach", &self.container, ON_NODE, AGENT_ARGUMENT, &seen]).await?;
        let late = || ClusterError::new(format!("the agent on {} did not answer", self.name));
        let (stream, _) = tokio::time::timeout(AGENT, listener.accept())
            .await
            .map_err(|_| late())?
            .and_then(|(stream, peer)| Ok((stream.into_std()?, peer)))
            .map_err(|error| ClusterError::caused("accept an agent", error))?;
        let link = Arc::new(Link::open(&self.name, stream.into()).await?);
        self.on.store(true, Ordering::SeqCst);
        self.watch(&link);
        for service in [Service::Kubelet, Service::Containerd] {
            self.follow(&link, service).await?;
        }
        *self.link.write().await = Some(link);
        Ok(())
    }

    /// Has journald's lines of a service, since this boot, go to a file as they are written.
    async fn follow(&self, link: &Link, service: Service) -> Result<(), ClusterError> {
        // The journal of an earlier boot stays on the node's disk, and a container shares the host's
        // boot number.
        let script = r#"exec journalctl --follow --lines=all --output=cat --no-pager --unit="$1" \
            --since="$(systemctl show --property=UserspaceTimestamp --value --timestamp=unix)""#;
        let argv = Command::script(script, [unit(service)]).argv;
        let streams = log_streams(&self.log_of(service))?;
        link.spawn(argv, streams).await.map(drop)
    }

    fn log_of(&self, service: Service) -> PathBuf {
        self.logs.join(format!("{}.log", unit(service)))
    }

    /// Reports the end of the agent, or of the machine with it, unless somebody asked for it.
    fn watch(&self, link: &Link) {
        let (closed, on, ending) = (link.closed(), Arc::clone(&self.on), Arc::clone(&self.ending));
        let deaths = self.deaths.clone();
        let (name, container) = (self.name.clone(), self.container.clone());
        tokio::spawn(async move {
            closed.cancelled().await;
            if on.swap(false, Ordering::SeqCst) && !ending.load(Ordering::SeqCst) {
                let (process, status) = match exit_code(&container).await {
                    Ok(Some(code)) => (format!("the first process of {name}"), status(code)),
                    Ok(None) => (format!("the agent on {name}"), "its socket closed".into()),
                    Err(error) => (format!("the machine {name}"), error.to_string()),
                };
                // Nobody may be listening.
                let _ = deaths.send(DiedUnasked { process, status, log: vec![], restarts: false });
            }
        });
    }

    async fn link(&self) -> Result<Arc<Link>, ClusterError> {
        match &*self.link.read().await {
            Some(link) if !link.closed().is_cancelled() => Ok(Arc::clone(link)),
            Some(_) => Err(ClusterError::new(format!("{} died", self.name))),
            None => Err(ClusterError::new(format!("{} is powered off", self.name))),
        }
    }

    async fn switch(&self, on: bool) -> Result<(), ClusterError> {
        let _switching = self.switching.lock().await;
        if !on {
            self.on.store(false, Ordering::SeqCst);
            let link = self.link.write().await.take();
            // Without an agent it may run, where it could not be powered on as a whole.
            if link.is_some() || engine::runs(&self.container).await? {
                engine(&["kill", "--signal", "KILL", &self.container]).await?;
            }
            if let Some(link) = link {
                link.closed().cancelled().await;
            }
            return Ok(());
        }
        if self.powered() {
            return Ok(());
        }
        // An earlier try may have come so far.
        if !engine::runs(&self.container).await? {
            engine::keep_address(&self.container, &self.network, self.address).await?;
            engine(&["start", &self.container]).await?;
        }
        let address = engine::address(&self.container, &self.network).await?;
        if address != self.address {
            let (name, was) = (&self.name, self.address);
            return Err(ClusterError::new(format!("{name} came back as {address}, not as {was}")));
        }
        self.boot().await?;
        let up = "until systemctl is-active --quiet containerd kubelet; do sleep 0.1; done";
        checked(self, Command::script(up, [""; 0]).timeout(SYSTEMD)).await.map(drop)
    }

    async fn set_service(&self, service: Service, run: bool) -> Result<(), ClusterError> {
        let verb = if run { "start" } else { "stop" };
        // A paused process ends only once it goes on.
        let script = r#"[ "$1" = start ] || systemctl kill --signal=CONT "$2" || true
                        systemctl "$1" "$2""#;
        let command = Command::script(script, [verb, unit(service)]).timeout(SYSTEMD);
        checked(self, command).await.map(drop)
    }

    async fn kill_service(&self, service: Service, signal: Signal) -> Result<(), ClusterError> {
        let script = r#"pid=$(systemctl show --property=MainPID --value "$2")
                        [ "${pid:-0}" != 0 ] && kill -s "$1" "$pid""#;
        let signal = match signal {
            Signal::Kill => "KILL",
            Signal::Term => "TERM",
        };
        let output = self.run(Command::script(script, [signal, unit(service)])).await?;
        if output.code == 0 {
            return Ok(());
        }
        Err(ClusterError::new(format!("{service:?} does not run on {}", self.name)))
    }

    async fn set_frozen(&self, frozen: bool) -> Result<(), ClusterError> {
        let is = engine(&["inspect", "--format", "{{.State.Paused}}", &self.container]).await?;
        self.frozen.store(true, Ordering::SeqCst);
        if is != frozen.to_string() {
            engine(&[if frozen { "pause" } else { "unpause" }, &self.container]).await?;
        }
        self.frozen.store(frozen, Ordering::SeqCst);
        Ok(())
    }
}

/// The exit code of a container's first process; nothing: it runs.
async fn exit_code(container: &str) -> Result<Option<i32>, ClusterError> {
    // An agent ends with its machine, a moment before the engine has seen that.
    let waited = tokio::time::timeout(GONE, engine(&["wait", container])).await;
    let Ok(code) = waited else { return Ok(None) };
    let code = code?;
    code.parse()
        .map(Some)
        .map_err(|error| ClusterError::caused(format!("wait for {container}: {code}"), error))
}

/// The name of a service's unit.
fn unit(service: Service) -> &'static str {
    match service {
        Service::Kubelet => "kubelet",
        Service::Containerd => "containerd",
    }
}

/// A socket for an agent, in the folder that the nodes see.
fn listen_at(path: &Path) -> std::io::Result<UnixListener> {
    // One of an earlier boot may be left.
    let _ = std::fs::remove_file(path);
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    // It keeps message boundaries; the standard library knows it by the type that accepts alike.
    let made = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    // By way of the opened folder: an address has room for 107 bytes, and paths may be longer.
    let folder = File::open(path.parent().unwrap_or(path))?;
    let name = path.file_name().unwrap_or_default();
    let short = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
    bind(made.as_raw_fd(), &UnixAddr::new(&short)?)?;
    listen(&made, Backlog::new(1)?)?;
    UnixListener::from_std(made.into())
}

impl Node for KindNode {
    fn id(&self) -> NodeRef {
        self.id
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn host_name(&self) -> &str {
        &self.container
    }

    fn program(&self) -> &'static str {
        ON_NODE
    }

    fn address(&self) -> IpAddr {
        self.address.into()
    }

    fn run(&self, command: Command) -> BoxFuture<'_, Result<Output, ClusterError>> {
        async move { self.link().await?.run(command).await }.boxed()
    }

    fn connect(
        &self,
        to: SocketAddr,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<std::io::Result<TcpStream>, ClusterError>> {
        async move { self.link().await?.connect(to, timeout).await }.boxed()
    }

    fn service(&self, service: Service, run: bool) -> BoxFuture<'_, Result<(), ClusterError>> {
        self.set_service(service, run).boxed()
    }

    fn log(
        &self,
        service: Service,
        since: Option<u64>,
    ) -> BoxFuture<'_, Result<(Vec<u8>, u64), ClusterError>> {
        read_since(self.log_of(service), since).boxed()
    }

    fn kill(&self, service: Service, signal: Signal) -> BoxFuture<'_, Result<(), ClusterError>> {
        self.kill_service(service, signal).boxed()
    }

    fn freeze(&self, frozen: bool) -> BoxFuture<'_, Result<(), ClusterError>> {
        self.set_frozen(frozen).boxed()
    }

    fn frozen(&self) -> bool {
        self.frozen.load(Ordering::SeqCst)
    }

    fn powered(&self) -> bool {
        self.on.load(Ordering::SeqCst)
    }

    fn power(&self, on: bool) -> BoxFuture<'_, Result<(), ClusterError>> {
        self.switch(on).boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileTypeExt;

    use super::*;

    #[tokio::test]
    async fn an_agent_is_listened_for_below_a_long_path_again_and_again() {
        let folder = tempfile::tempdir().unwrap();
        let long = folder.path().join("x".repeat(200));
        std::fs::create_dir(&long).unwrap();
        let path = long.join("master-1.sock");
        for _ in 0..2 {
            let listener = listen_at(&path).unwrap();
            assert!(path.metadata().unwrap().file_type().is_socket());
            drop(listener);
        }
    }
}
