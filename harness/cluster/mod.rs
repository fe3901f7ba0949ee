//! What a cluster and a node are. Everything above knows these two traits and nothing of who
//! provides them: `lab/` makes clusters of kubeadm nodes in private namespaces, `kind/` has the
//! `kind` CLI make them of containers.

mod addon;
mod agent;
mod awaited;
mod checked;
pub mod client;
mod files;
pub(crate) mod holder;
mod kind;
pub mod lab;
pub mod ledger;
mod logs;
pub mod node_image;
mod provider;
mod ready;
mod renew;
mod running;
pub mod sysctl;
mod watch;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::net::TcpStream;
use tokio::sync::broadcast;

pub use provider::{ClusterOptions, Provider, Supplies};

use crate::scenario::{NodeRef, Signal};

/// Does the work of a process that is part of a cluster, if that is what this program was started as.
/// To be called first in `main`: before any thread exists.
pub fn stand_in() -> Option<ExitCode> {
    let code = lab::stand_in().or_else(kind::stand_in)?;
    Some(u8::try_from(code).unwrap_or(u8::MAX).into())
}

/// A failure of the harness to work with a cluster: not a failure of Kubernetes, which is data.
#[derive(Debug, thiserror::Error)]
#[error("{context}")]
pub struct ClusterError {
    /// What was being done, on which node.
    pub context: String,
    /// Why it failed.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl ClusterError {
    /// An error without a cause of its own.
    pub fn new(context: impl Into<String>) -> Self {
        Self { context: context.into(), source: None }
    }

    /// An error with its cause.
    pub fn caused(
        context: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { context: context.into(), source: Some(source.into()) }
    }
}

/// A command to run on a node.
#[derive(Debug, Clone)]
pub struct Command {
    /// Program, found by the node's PATH, and arguments.
    pub argv: Vec<String>,
    /// What it reads on standard input; nothing: an empty input.
    pub stdin: Option<Vec<u8>>,
    /// After this long it is killed and the run fails.
    pub timeout: Duration,
}

impl Command {
    /// A command with an empty input and ten seconds.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            stdin: None,
            timeout: Duration::from_secs(10),
        }
    }

    /// A shell script: `sh -c SCRIPT`, with arguments from `$1` on.
    pub fn script<S: Into<String>>(script: &str, args: impl IntoIterator<Item = S>) -> Self {
        let mut argv = vec!["sh".into(), "-c".into(), script.into(), "sh".into()];
        argv.extend(args.into_iter().map(Into::into));
        Self::new(argv)
    }

    /// A shell script on one line, for messages.
    pub fn in_words(script: &str) -> String {
        let mut out = String::new();
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let goes_on = ["do", "then", "else", "|", "&&", "||", "{", "("];
            let open = out.split(' ').next_back().is_some_and(|word| goes_on.contains(&word));
            if let Some(before) = out.strip_suffix('\\') {
                out.truncate(before.trim_end().len());
                out.push(' ');
            } else if !out.is_empty() {
                out.push_str(if open { " " } else { "; " });
            }
            out.push_str(line);
        }
        out
    }

    /// The same with this standard input.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// The same with this time limit.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

/// What a command on a node did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its exit code; 128 + n if signal n ended it.
    pub code: i32,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Standard output as text, trimmed.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim().to_owned()
    }
}

/// A program that the node's init keeps running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Service {
    /// The kubelet.
    Kubelet,
    /// The container runtime.
    Containerd,
}

/// A machine of the cluster, laid out by kubeadm: `/etc/kubernetes` with manifests and pki, a real
/// kubelet and containerd, static pods. Files are read and written through [`Node::run`].
pub trait Node: Send + Sync + fmt::Debug {
    /// Its role and index.
    fn id(&self) -> NodeRef;

    /// Its name in Kubernetes.
    fn name(&self) -> &str;

    /// What `hostname` says on it; leaders of Leases call themselves so.
    fn host_name(&self) -> &str {
        self.name()
    }

    /// Its address on the network between nodes.
    fn address(&self) -> IpAddr;

    /// Where this very program is on it, to be started there.
    fn program(&self) -> &'static str;

    /// Runs a command to its end. Dropping the future kills the command.
    ///
    /// # Errors
    /// If it can't be started or exceeds its time limit; its exit code is no error.
    fn run(&self, command: Command) -> BoxFuture<'_, Result<Output, ClusterError>>;

    /// Opens a TCP connection from this node. The outer result is the harness's, the inner one
    /// what the network answered (refused, timed out after `timeout`, unreachable).
    fn connect(
        &self,
        to: SocketAddr,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<std::io::Result<TcpStream>, ClusterError>>;

    /// Starts or stops one of the programs that the node's init keeps running. Idempotent.
    fn service(&self, service: Service, run: bool) -> BoxFuture<'_, Result<(), ClusterError>>;

    /// What one of these programs has written to its log since a position that an earlier call
    /// gave, and the position after it; 0: from its beginning; nothing: from the log's present end.
    /// Works while the machine is off, too.
    fn log(
        &self,
        service: Service,
        since: Option<u64>,
    ) -> BoxFuture<'_, Result<(Vec<u8>, u64), ClusterError>>;

    /// Sends a signal to one of the programs that the node's init keeps running. When it has ended,
    /// the init starts it again as systemd does with kubeadm's packages: the kubelet after 10 s,
    /// containerd after 5 s; so it does whenever one ends by itself.
    ///
    /// # Errors
    /// If it does not run.
    fn kill(&self, service: Service, signal: Signal) -> BoxFuture<'_, Result<(), ClusterError>>;

    /// Stops every process of the machine where it is, or lets all of them go on. Idempotent.
    /// While they stand still, [`Node::run`] and [`Node::connect`] may fail, at their limits.
    fn freeze(&self, frozen: bool) -> BoxFuture<'_, Result<(), ClusterError>>;

    /// Whether its processes stand still since [`Node::freeze`].
    fn frozen(&self) -> bool;

    /// Whether the machine is on: not when its power was cut, nor when it died by itself.
    fn powered(&self) -> bool;

    /// Cuts the power (every process ends at once, nothing is synced) or gives it back (the node
    /// boots with its disk as it was). Idempotent; returns when the processes are gone, or when
    /// the kubelet was started.
    fn power(&self, on: bool) -> BoxFuture<'_, Result<(), ClusterError>>;
}

/// Whether the holder of a Lease is a leader's process on this host: leaders call themselves by the host's
/// name, `_` and a random id
/// (<https://github.com/kubernetes/kubernetes/blob/v1.34.4/cmd/kube-controller-manager/app/controllermanager.go>).
pub fn leads_from(host: &str, holder: &str) -> bool {
    holder.strip_prefix(host).is_some_and(|rest| rest.starts_with('_'))
}

/// A process of the cluster that died although nobody asked for it.
#[derive(Debug, Clone)]
pub struct DiedUnasked {
    /// Which: `kubelet on master-2`.
    pub process: String,
    /// Its exit status in words.
    pub status: String,
    /// Its last log lines.
    pub log: Vec<String>,
    /// Whether the node's init starts it again, as systemd does the kubelet and containerd.
    pub restarts: bool,
}

/// A running multi-master cluster.
pub trait Cluster: Send + Sync + fmt::Debug {
    /// The provider's name: `lab` or `kind`.
    fn provider(&self) -> &'static str;

    /// Its own name, which no other cluster on this machine has.
    fn name(&self) -> String;

    /// Its nodes: masters in order, then workers in order.
    fn nodes(&self) -> &[Arc<dyn Node>];

    /// The address of the load balancer before the apiservers.
    fn load_balancer(&self) -> SocketAddr;

    /// The name of the host at an address, where certificates are issued for a name and not for
    /// the address.
    fn host_name(&self, _of: IpAddr) -> Option<&str> {
        None
    }

    /// The kubeconfig of an administrator, as kubeadm wrote it; its `server` may be any of the
    /// apiservers' addresses.
    fn admin_kubeconfig(&self) -> &str;

    /// Opens a TCP connection from beside the cluster: on the network between nodes, but on no
    /// node. Results as in [`Node::connect`].
    fn connect(
        &self,
        to: SocketAddr,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<std::io::Result<TcpStream>, ClusterError>>;

    /// What runs: each binary with its version, SHA-256 and origin.
    fn provenance(&self) -> Vec<(String, String)>;

    /// Every departure from kubeadm's defaults, in words.
    fn departures(&self) -> Vec<String>;

    /// Deaths of processes that nobody asked for, as they happen. The first who asks hears of all
    /// since the cluster began.
    fn deaths(&self) -> broadcast::Receiver<DiedUnasked>;

    /// Ends the cluster and removes what it left. Idempotent. A cluster that another process holds
    /// is left alone, and no run takes it again: it may not be as it was.
    fn delete(&self) -> BoxFuture<'_, Result<(), ClusterError>>;

    /// Nobody here needs the cluster any more, and it is as good as new: one that another process
    /// holds may be taken by the next run, any other is deleted.
    fn leave(&self) -> BoxFuture<'_, Result<(), ClusterError>> {
        self.delete()
    }
}

impl dyn Cluster {
    /// The node with this role and index, if the cluster has it.
    pub fn node(&self, id: NodeRef) -> Option<&Arc<dyn Node>> {
        self.nodes().iter().find(|node| node.id() == id)
    }
}
