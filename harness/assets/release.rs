//! The upstream releases: which binaries each holds, and what they are built from.

use super::error::AssetError;
use super::version::{CRI_TOOLS, KIND, KubernetesVersion, METRICS_SERVER, differences};

/// A static binary that a cluster is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Binary {
    /// `kube-apiserver`
    KubeApiserver,
    /// `kube-controller-manager`
    KubeControllerManager,
    /// `kube-scheduler`
    KubeScheduler,
    /// `kube-proxy`
    KubeProxy,
    /// `kubelet`
    Kubelet,
    /// `kubeadm`
    Kubeadm,
    /// `kubectl`
    Kubectl,
    /// `etcd`
    Etcd,
    /// `etcdctl`
    Etcdctl,
    /// `coredns`
    Coredns,
    /// `metrics-server`
    MetricsServer,
    /// `crictl`
    Crictl,
    /// `kind`
    Kind,
}

impl Binary {
    /// The file's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::KubeApiserver => "kube-apiserver",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::KubeScheduler => "kube-scheduler",
            Self::KubeProxy => "kube-proxy",
            Self::Kubelet => "kubelet",
            Self::Kubeadm => "kubeadm",
            Self::Kubectl => "kubectl",
            Self::Etcd => "etcd",
            Self::Etcdctl => "etcdctl",
            Self::Coredns => "coredns",
            Self::MetricsServer => "metrics-server",
            Self::Crictl => "crictl",
            Self::Kind => "kind",
        }
    }

    /// The arguments with which it says its version and ends.
    pub(super) const fn version_arguments(self) -> &'static [&'static str] {
        match self {
            Self::Kubeadm => &["version", "-o", "short"],
            Self::Kubectl => &["version", "--client"],
            Self::Etcdctl | Self::Kind => &["version"],
            Self::Coredns => &["-version"],
            _ => &["--version"],
        }
    }
}

/// Something that is released as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Product {
    /// Kubernetes: all its commands.
    Kubernetes,
    /// etcd and etcdctl.
    Etcd,
    /// `CoreDNS`.
    Coredns,
    /// metrics-server, which is released only as an image.
    MetricsServer,
    /// crictl, which asks a container runtime what the kubelet asks it.
    CriTools,
    /// kind, which makes clusters of containers.
    Kind,
}

/// One release of a product for one architecture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Of what.
    pub product: Product,
    /// Its version, without a `v`.
    pub version: String,
    /// The architecture as Go names it: `amd64` or `arm64`.
    pub architecture: &'static str,
}

/// A Go package that is a command, in its module.
pub(super) struct Command {
    pub(super) binary: Binary,
    /// The module's path on the proxy; it may call itself otherwise.
    pub(super) module: &'static str,
    pub(super) package: &'static str,
}

macro_rules! kubernetes_command {
    ($binary:ident, $name:literal) => {
        Command {
            binary: Binary::$binary,
            module: "k8s.io/kubernetes",
            package: concat!("k8s.io/kubernetes/cmd/", $name),
        }
    };
}

static KUBERNETES: [Command; 7] = [
    kubernetes_command!(KubeApiserver, "kube-apiserver"),
    kubernetes_command!(KubeControllerManager, "kube-controller-manager"),
    kubernetes_command!(KubeScheduler, "kube-scheduler"),
    kubernetes_command!(KubeProxy, "kube-proxy"),
    kubernetes_command!(Kubelet, "kubelet"),
    kubernetes_command!(Kubeadm, "kubeadm"),
    kubernetes_command!(Kubectl, "kubectl"),
];

static ETCD: [Command; 2] = [
    Command {
        binary: Binary::Etcd,
        module: "go.etcd.io/etcd/server/v3",
        package: "go.etcd.io/etcd/server/v3",
    },
    Command {
        binary: Binary::Etcdctl,
        module: "go.etcd.io/etcd/etcdctl/v3",
        package: "go.etcd.io/etcd/etcdctl/v3",
    },
];

static COREDNS: [Command; 1] = [Command {
    binary: Binary::Coredns,
    module: "github.com/coredns/coredns",
    package: "github.com/coredns/coredns",
}];

static METRICS: [Command; 1] = [Command {
    binary: Binary::MetricsServer,
    module: "sigs.k8s.io/metrics-server",
    package: "sigs.k8s.io/metrics-server/cmd/metrics-server",
}];

static CRI_TOOLS_COMMANDS: [Command; 1] = [Command {
    binary: Binary::Crictl,
    module: "sigs.k8s.io/cri-tools",
    package: "github.com/kubernetes-sigs/cri-tools/cmd/crictl",
}];

static KIND_COMMANDS: [Command; 1] =
    [Command { binary: Binary::Kind, module: "sigs.k8s.io/kind", package: "sigs.k8s.io/kind" }];

impl Release {
    /// What a cluster of this version needs, beside metrics-server.
    ///
    /// # Errors
    /// [`AssetError::Version`] and [`AssetError::Architecture`].
    pub fn of_cluster(kubernetes: &KubernetesVersion) -> Result<[Self; 4], AssetError> {
        let differences = differences(kubernetes)?;
        Ok([
            Self::new(Product::Kubernetes, kubernetes.to_string())?,
            Self::new(Product::Etcd, differences.etcd)?,
            Self::new(Product::Coredns, differences.coredns)?,
            Self::new(Product::CriTools, CRI_TOOLS)?,
        ])
    }

    /// The metrics-server of every version.
    ///
    /// # Errors
    /// [`AssetError::Architecture`].
    pub fn metrics_server() -> Result<Self, AssetError> {
        Self::new(Product::MetricsServer, METRICS_SERVER)
    }

    /// The kind that makes clusters of every version.
    ///
    /// # Errors
    /// [`AssetError::Architecture`].
    pub fn of_kind() -> Result<Self, AssetError> {
        Self::new(Product::Kind, KIND)
    }

    /// A release for this machine's architecture.
    ///
    /// # Errors
    /// [`AssetError::Architecture`].
    pub fn new(product: Product, version: impl Into<String>) -> Result<Self, AssetError> {
        Ok(Self { product, version: version.into(), architecture: architecture()? })
    }

    /// Its name and version, for a person.
    pub fn title(&self) -> String {
        format!("{} {}", self.kind(), self.version)
    }

    /// Its kind of cache entry.
    pub fn kind(&self) -> &'static str {
        match self.product {
            Product::Kubernetes => "kubernetes",
            Product::Etcd => "etcd",
            Product::Coredns => "coredns",
            Product::MetricsServer => "metrics-server",
            Product::CriTools => "cri-tools",
            Product::Kind => "kind",
        }
    }

    /// The key of its cache entry.
    pub fn key(&self) -> String {
        format!("{}-{}", self.version, self.architecture)
    }

    /// Its binaries.
    pub fn binaries(&self) -> impl Iterator<Item = Binary> + use<> {
        self.commands().iter().map(|command| command.binary)
    }

    pub(super) fn commands(&self) -> &'static [Command] {
        match self.product {
            Product::Kubernetes => &KUBERNETES,
            Product::Etcd => &ETCD,
            Product::Coredns => &COREDNS,
            Product::MetricsServer => &METRICS,
            Product::CriTools => &CRI_TOOLS_COMMANDS,
            Product::Kind => &KIND_COMMANDS,
        }
    }
}

/// This machine's architecture as Go, Debian and OCI name it.
///
/// # Errors
/// [`AssetError::Architecture`] for one that Kubernetes is not released for.
pub(super) fn architecture() -> Result<&'static str, AssetError> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        architecture => Err(AssetError::Architecture { architecture }),
    }
}
