//! Where the provider of clusters is chosen.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::kind::{self, Kind};
use super::lab::{self, Lab};
use super::node_image::{self, Engine};
use super::{Cluster, ClusterError};
use crate::assets::{Assets, Cache, Fetcher, KubernetesVersion, Progress, Wanted};
use crate::scenario::{Addon, Component};

/// What makes clusters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Provider {
    /// Real kubeadm nodes in private namespaces of this machine.
    #[default]
    Lab,
    /// Containers of this machine's Docker, by the `kind` CLI.
    Kind,
}

/// What clusters of one version are made of.
#[derive(Debug)]
pub struct Supplies {
    /// Kubernetes' binaries and images.
    pub assets: Arc<Assets>,
    /// For kind alone.
    kind: Option<kind::Tools>,
}

/// What kind of cluster is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterOptions {
    /// The version of Kubernetes.
    pub kubernetes: KubernetesVersion,
    /// Control-plane nodes: 1, 3 or 5.
    pub masters: usize,
    /// Worker nodes: 0 to 3.
    pub workers: usize,
    /// Flags of components that differ from kubeadm's: component, flag without dashes, value.
    pub settings: Vec<(Component, String, String)>,
    /// What is installed beside kubeadm's own addons.
    pub addons: Vec<Addon>,
    /// This program, which is also a lab's first process; in tests not the running one.
    #[serde(skip)]
    pub program: PathBuf,
    /// Where the logs of the cluster's programs go; nothing: they go with the cluster.
    #[serde(skip)]
    pub logs: Option<PathBuf>,
}

impl fmt::Display for ClusterOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kubernetes, masters, workers, .. } = self;
        write!(f, "Kubernetes {kubernetes}, masters: {masters}, workers: {workers}")?;
        for addon in &self.addons {
            write!(f, ", {}", addon.name())?;
        }
        for (component, flag, value) in &self.settings {
            write!(f, ", {} --{flag}={value}", component.name())?;
        }
        Ok(())
    }
}

impl ClusterOptions {
    /// Whether a cluster that was made for these options is what others ask for: only the logs may
    /// lie elsewhere.
    pub fn fit(&self, others: &Self) -> bool {
        let others = Self { logs: self.logs.clone(), ..others.clone() };
        *self == others
    }
}

impl Provider {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Lab, Self::Kind];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lab => "lab",
            Self::Kind => "kind",
        }
    }

    /// Gets what clusters are made of. `program` is this program.
    ///
    /// # Errors
    /// What can't be had.
    pub async fn supply(
        self,
        fetcher: &Fetcher,
        wanted: &Wanted,
        program: &Path,
        progress: &Progress,
    ) -> Result<Supplies, ClusterError> {
        // Before minutes go into what nothing can be made of.
        self.check(program).await?;
        if self == Self::Lab {
            let assets = fetcher.fetch(wanted).await;
            let unavailable = |error| ClusterError::caused("get what clusters are made of", error);
            return Ok(Supplies { assets: Arc::new(assets.map_err(unavailable)?), kind: None });
        }
        let (cache, engine) = (cache()?, Engine::docker());
        let built =
            node_image::build(fetcher, &cache, &engine, wanted.kubernetes, program, progress)
                .await?;
        let kind = kind::Tools { kind: built.kind, image: built.node };
        Ok(Supplies { assets: built.assets, kind: Some(kind) })
    }

    /// Makes a cluster and waits until Kubernetes is up on every node. `say` is told how far it is.
    ///
    /// # Errors
    /// What could not be set up. Nothing stays then.
    pub async fn create(
        self,
        supplies: &Supplies,
        options: ClusterOptions,
        say: &(dyn Fn(String) + Send + Sync),
    ) -> Result<Arc<dyn Cluster>, ClusterError> {
        match self {
            Self::Lab => {
                Ok(Box::pin(Lab::start(Arc::clone(&supplies.assets), options, say)).await?)
            }
            Self::Kind => {
                let none = || ClusterError::new("these supplies are not for kind");
                let tools = supplies.kind.as_ref().ok_or_else(none)?;
                Ok(Box::pin(Kind::start(&supplies.assets, tools, options, say)).await?)
            }
        }
    }

    /// Takes a cluster that `outage up` or `outage run --keep` holds in another process.
    ///
    /// # Errors
    /// If there is none of this name, it was not made for these options, another run uses it, or an
    /// earlier one did not leave it as it was. It is not touched then.
    pub async fn reuse(
        self,
        name: &str,
        options: ClusterOptions,
    ) -> Result<Arc<dyn Cluster>, ClusterError> {
        match self {
            Self::Lab => Err(ClusterError::new(
                "a lab can be reached by the program that made it alone; kind clusters can be reused",
            )),
            Self::Kind => Ok(Kind::reuse(name, options).await?),
        }
    }

    /// Removes what clusters left whose start was broken off or whose harness is gone; their names.
    /// What a running harness holds is not touched, nor a cluster that somebody else made.
    ///
    /// # Errors
    /// What can't be removed.
    pub async fn sweep(self) -> Result<Vec<String>, ClusterError> {
        match self {
            Self::Lab => lab::sweep().await,
            Self::Kind => kind::sweep().await,
        }
    }

    /// Runs a command, or a shell, on a node of a running cluster, in the foreground; its exit
    /// code. `cluster` is needed where several are running. To be called while no other thread
    /// exists.
    ///
    /// # Errors
    /// If there is no such cluster or node.
    pub fn enter(
        self,
        cluster: Option<&str>,
        node: &str,
        command: &[String],
    ) -> Result<i32, ClusterError> {
        match self {
            Self::Lab => lab::enter(cluster, node, command),
            Self::Kind => kind::enter(cluster, node, command),
        }
    }

    /// Whether what makes these clusters is there. `program` is this program.
    ///
    /// # Errors
    /// What is missing, and what to do.
    pub async fn check(self, program: &Path) -> Result<(), ClusterError> {
        mountable(cache()?.root())?;
        match self {
            Self::Lab => {
                let permitted = lab::permit(program).await;
                permitted.map_err(|forbidden| ClusterError::new(forbidden.to_string()))
            }
            Self::Kind => {
                let engine = Engine::docker();
                engine.check().await?;
                engine.check_bridge().await
            }
        }
    }

    /// Whether this machine has room for so many nodes at once, over all clusters.
    ///
    /// # Errors
    /// What it lacks, in words.
    pub fn room(self, nodes: usize) -> Result<(), ClusterError> {
        match self {
            Self::Lab => lab::room(nodes),
            // The same programs, but as root.
            Self::Kind => lab::room_of_root(nodes),
        }
    }
}

fn cache() -> Result<Cache, ClusterError> {
    Cache::from_env().map_err(|error| ClusterError::caused("find the cache folder", error))
}

/// Whether what lies in a folder can be mounted: these characters part the options of a mount.
fn mountable(cache: &Path) -> Result<(), ClusterError> {
    let parts = |c: char| [':', ',', '\\', '"'].contains(&c);
    match cache.to_str() {
        Some(path) if !path.contains(parts) => Ok(()),
        _ => Err(ClusterError::new(format!(
            "clusters can't be made in {}: its path has a colon, a comma, a backslash, a quotation \
             mark or what is no text, and mounts can't name it; set OUTAGE_CACHE or XDG_CACHE_HOME to \
             another folder",
            cache.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_whose_path_no_mount_can_name_is_refused() {
        assert!(mountable(Path::new("/srv/my cache/outage")).is_ok());
        for path in ["/srv/a:b", "/srv/a,b", "/srv/a\\b"] {
            let error = mountable(Path::new(path)).unwrap_err().to_string();
            assert!(error.contains(path) && error.contains("XDG_CACHE_HOME"), "{error}");
        }
    }

    #[test]
    fn clusters_fit_whatever_their_logs_but_not_with_other_flags() {
        let options = ClusterOptions {
            kubernetes: KubernetesVersion { major: 1, minor: 34, patch: 4 },
            masters: 3,
            workers: 1,
            settings: vec![],
            addons: vec![],
            program: "outage".into(),
            logs: None,
        };
        assert!(options.fit(&ClusterOptions { logs: Some("logs".into()), ..options.clone() }));
        assert!(!options.fit(&ClusterOptions { workers: 2, ..options.clone() }));
        let settings = vec![(Component::Etcd, "v".to_owned(), "4".to_owned())];
        assert!(!options.fit(&ClusterOptions { settings, ..options.clone() }));
    }
}
