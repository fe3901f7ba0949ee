//! Where the binaries, packages and images of a wanted version come from.
//!
//! Binaries are looked for in a folder that the user names, in the cache, among the official
//! releases (verified by their checksums), and are else built from the Go module proxy with the
//! user's own `go`. What a node needs beside them is unpacked from the distribution's packages;
//! nothing is installed. The images are packed from all of these.
//!
//! # Guarantees
//! What is returned was verified. With everything in the cache nothing goes to the network.

mod binaries;
mod build;
mod cache;
mod download;
mod engine_archive;
mod error;
mod images;
mod kind;
mod layer;
mod module_files;
mod oci;
mod packages;
pub mod progress;
mod provenance;
mod release;
mod version;

#[cfg(test)]
mod offline_test;

use std::path::{Path, PathBuf};

use futures::future::try_join_all;

pub use binaries::{Binaries, Sources};
pub use cache::{Cache, CacheError, CachedEntry, Entry, EntryState, Prune, sha256_of};
pub(crate) use cache::{hex, remove_tree};
pub use download::Sites;
pub use engine_archive::{EngineImage, write_engine_archive};
pub use error::{AssetError, Unavailable};
pub use images::ImageArchive;
pub use kind::KindAssets;
pub use layer::Layer;
pub use progress::Progress;
pub use provenance::{Origin, Provenance};
pub use release::{Binary, Product, Release};
pub use version::{
    CRI_TOOLS, DEFAULT_KUBERNETES, Differences, KIND, KubeadmApi, KubernetesVersion,
    METRICS_SERVER, VersionError, differences,
};

use binaries::Finder;
use images::Images;
use module_files::{METRICS_SERVER_MANIFESTS, ModuleFiles};
use packages::Packages;

/// What a cluster needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The version of Kubernetes.
    pub kubernetes: KubernetesVersion,
    /// Whether metrics-server is needed: its binary, which takes minutes to build, its image and its
    /// manifests.
    pub metrics_server: bool,
}

/// Gets what clusters need. One serves a whole run: it remembers which sites can't be reached.
#[derive(Debug)]
pub struct Fetcher {
    cache: Cache,
    finder: Finder,
    progress: Progress,
}

impl Fetcher {
    /// With this cache and these sources.
    ///
    /// # Errors
    /// [`AssetError::Download`] if this machine's certificate authorities can't be read.
    pub fn new(cache: Cache, sources: Sources, progress: Progress) -> Result<Self, AssetError> {
        Ok(Self { finder: Finder::new(cache.clone(), sources, progress.clone())?, cache, progress })
    }

    /// Everything that a cluster needs, on disk and verified.
    ///
    /// # Errors
    /// [`AssetError::Unavailable`] says what was tried and how to mend it. What was finished
    /// before the failure is in the cache and found by the next try.
    pub async fn fetch(&self, wanted: &Wanted) -> Result<Assets, AssetError> {
        let mut releases = Vec::from(Release::of_cluster(&wanted.kubernetes)?);
        if wanted.metrics_server {
            releases.push(Release::metrics_server()?);
        }
        let found = try_join_all(releases.iter().map(|release| self.binaries(release)));
        let packages = Packages::fetch(&self.cache, &self.progress);
        let manifests = async {
            Ok(if wanted.metrics_server { Some(self.finder.manifests().await?) } else { None })
        };
        let (found, packages, manifests) = tokio::try_join!(found, packages, manifests)?;
        let mut binaries = Binaries::default();
        for found in found {
            binaries.extend(found);
        }
        let kubernetes = &wanted.kubernetes;
        let images = Images::fetch(&self.cache, &self.progress, kubernetes, &binaries, &packages);
        Ok(Assets::new(images.await?, binaries, packages, manifests))
    }

    /// What kind's images are made of beside a cluster's assets, and kind itself.
    ///
    /// # Errors
    /// As [`Fetcher::fetch`].
    pub async fn kind(&self) -> Result<KindAssets, AssetError> {
        let release = Release::of_kind()?;
        let packages = Packages::kind(&self.cache, &self.progress);
        let (binaries, files, packages) =
            tokio::try_join!(self.binaries(&release), self.finder.kind_files(), packages)?;
        KindAssets::new(binaries, packages, files)
    }

    /// The names of what a kind cluster is made of, can only be had by `go`, and is neither in the
    /// folder that the user named nor in the cache.
    ///
    /// # Errors
    /// If nothing is released for this machine.
    pub fn only_by_go(&self) -> Result<Vec<&'static str>, AssetError> {
        self.finder.only_by_go()
    }

    /// The binaries of one release alone.
    ///
    /// # Errors
    /// As [`Fetcher::fetch`].
    pub async fn binaries(&self, release: &Release) -> Result<Binaries, AssetError> {
        self.finder.find(release).await
    }
}

/// Everything that a cluster needs, on disk and verified. It is not pruned while this is held.
#[derive(Debug)]
pub struct Assets {
    binaries: Binaries,
    packages: Packages,
    node_root: PathBuf,
    images: Images,
    manifests: Option<ModuleFiles>,
    provenance: Vec<Provenance>,
}

impl Assets {
    fn new(
        images: Images,
        binaries: Binaries,
        packages: Packages,
        manifests: Option<ModuleFiles>,
    ) -> Self {
        let of_manifests = manifests.as_ref().map_or(&[][..], ModuleFiles::provenance);
        let parts =
            [binaries.provenance(), packages.provenance(), images.provenance(), of_manifests];
        Self {
            provenance: parts.concat(),
            node_root: packages.node_root(),
            binaries,
            packages,
            images,
            manifests,
        }
    }

    /// A static binary.
    ///
    /// # Errors
    /// [`AssetError::NotWanted`] for metrics-server when it was not wanted.
    pub fn binary(&self, binary: Binary) -> Result<&Path, AssetError> {
        self.binaries.path(binary)
    }

    /// The root directory of a node: containerd, runc, the CNI plugins (in `usr/lib/cni`),
    /// haproxy, iptables, nft and a shell, with all their libraries. Not to be written to.
    pub fn node_root(&self) -> &Path {
        &self.node_root
    }

    /// Every image that kubeadm of this version wants, and `docker.io/library/busybox`.
    pub fn images(&self) -> &[ImageArchive] {
        self.images.archives()
    }

    /// The folder of metrics-server's own manifests, as its repository has it: `base`, `overlays`.
    ///
    /// # Errors
    /// [`AssetError::NotWanted`] when metrics-server was not wanted.
    pub fn metrics_server_manifests(&self) -> Result<&Path, AssetError> {
        let path = self.manifests.as_ref().map(ModuleFiles::path);
        path.ok_or(AssetError::NotWanted { name: METRICS_SERVER_MANIFESTS })
    }

    /// A digest of the distribution's packages, for what is made from them.
    pub fn packages_digest(&self) -> &str {
        self.packages.digest()
    }

    /// What there is and where it came from: each binary, each package, each image.
    pub fn provenance(&self) -> &[Provenance] {
        &self.provenance
    }

    /// Where something is, by the name that a person gives it: a binary's, `node-root`,
    /// `metrics-server-manifests`, or an image's reference.
    pub fn path(&self, name: &str) -> Option<&Path> {
        if name == "node-root" {
            return Some(self.node_root());
        }
        if name == METRICS_SERVER_MANIFESTS {
            return self.manifests.as_ref().map(ModuleFiles::path);
        }
        let mut binaries = self.binaries.iter();
        let binary = binaries.find(|(binary, _)| binary.name() == name);
        binary.map(|(_, path)| path).or_else(|| {
            let mut images = self.images().iter();
            let image = images.find(|image| image.reference == name)?;
            Some(&image.path)
        })
    }
}
