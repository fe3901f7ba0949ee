//! The images of a cluster, packed from its binaries.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::process::Command;

use super::binaries::Binaries;
use super::cache::{Cache, Entry, hex, sha256_of};
use super::error::{AssetError, checked, io_error};
use super::oci::Image;
use super::packages::Packages;
use super::progress::Progress;
use super::provenance::{Origin, Provenance};
use super::release::{Binary, architecture};
use super::version::{KubernetesVersion, METRICS_SERVER};

/// The kind of cache entry.
const KIND: &str = "images";

/// Raised when the same binaries would be packed differently.
const FORMAT: &str = "1";

const LIST: &str = "images.json";

/// An image as an OCI archive, which `ctr -n k8s.io images import` takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageArchive {
    /// The full name that it gets, such as `registry.k8s.io/kube-apiserver:v1.34.4`.
    pub reference: String,
    /// The archive.
    pub path: PathBuf,
}

/// The packed images of one cluster.
#[derive(Debug)]
pub(super) struct Images {
    entry: Entry,
    archives: Vec<ImageArchive>,
}

impl Images {
    /// Packs whatever kubeadm of this version wants, unless the cache has it from these binaries.
    pub(super) async fn fetch(
        cache: &Cache,
        progress: &Progress,
        kubernetes: &KubernetesVersion,
        binaries: &Binaries,
        packages: &Packages,
    ) -> Result<Self, AssetError> {
        let key = key(kubernetes, binaries, packages);
        let make = |dir| pack(dir, kubernetes, binaries, packages, progress);
        let entry = cache.entry(KIND, &key, progress, make).await?;
        let list = entry.path().join(LIST);
        let text = std::fs::read(&list).map_err(io_error("read", &list))?;
        let mut archives: Vec<ImageArchive> = serde_json::from_slice(&text).map_err(|error| {
            AssetError::NotUnderstood { what: list.display().to_string(), why: error.to_string() }
        })?;
        for archive in &mut archives {
            archive.path = entry.path().join(&archive.path);
        }
        Ok(Self { entry, archives })
    }

    pub(super) fn archives(&self) -> &[ImageArchive] {
        &self.archives
    }

    pub(super) fn provenance(&self) -> &[Provenance] {
        self.entry.provenance()
    }
}

/// Everything that the archives are made from, and how.
fn key(kubernetes: &KubernetesVersion, binaries: &Binaries, packages: &Packages) -> String {
    let mut hasher = Sha256::new();
    hasher.update(FORMAT);
    hasher.update(packages.digest());
    // No image holds crictl.
    let packed = |provenance: &&Provenance| provenance.name != Binary::Crictl.name();
    for provenance in binaries.provenance().iter().filter(packed) {
        hasher.update(&provenance.name);
        hasher.update(&provenance.sha256);
    }
    format!("{kubernetes}-{}", &hex(&hasher.finalize())[..12])
}

async fn pack(
    dir: PathBuf,
    kubernetes: &KubernetesVersion,
    binaries: &Binaries,
    packages: &Packages,
    progress: &Progress,
) -> Result<Vec<Provenance>, AssetError> {
    let mut images = Vec::new();
    for reference in wanted(kubernetes, binaries.path(Binary::Kubeadm)?).await? {
        images.push(component(&reference, binaries, packages)?);
    }
    if binaries.path(Binary::MetricsServer).is_ok() {
        let reference = format!("registry.k8s.io/metrics-server/metrics-server:v{METRICS_SERVER}");
        images.push(component(&reference, binaries, packages)?);
    }
    images.push(busybox(packages).await?);

    let task = progress.task(format!("kubernetes {kubernetes}: packing {} images", images.len()));
    let packed = tokio::task::spawn_blocking(move || {
        let packed = images.par_iter().map(|image| write(image, &dir));
        let packed = packed.collect::<Result<Vec<_>, AssetError>>()?;
        let (archives, provenance): (Vec<_>, Vec<_>) = packed.into_iter().unzip();
        let list = dir.join(LIST);
        let text = serde_json::to_vec(&archives).map_err(std::io::Error::from);
        text.and_then(|text| std::fs::write(&list, text)).map_err(io_error("write", &list))?;
        Ok::<_, AssetError>(provenance)
    });
    let provenance = packed.await??;
    task.finish();
    Ok(provenance)
}

/// Packs one image; its path in the list is relative to the entry.
fn write(image: &Image, dir: &Path) -> Result<(ImageArchive, Provenance), AssetError> {
    let (name, tag) = image.reference.rsplit_once(':').unwrap_or((&image.reference, ""));
    let file = format!("{}.tar", name.rsplit('/').next().unwrap_or(name));
    image.write(&dir.join(&file))?;
    let provenance = Provenance {
        name: image.reference.clone(),
        version: tag.trim_start_matches('v').to_owned(),
        sha256: sha256_of(&dir.join(&file))?,
        origin: Origin::Packed,
    };
    let archive = ImageArchive { reference: image.reference.clone(), path: file.into() };
    Ok((archive, provenance))
}

/// The references that this version's kubeadm puts into its manifests.
async fn wanted(kubernetes: &KubernetesVersion, kubeadm: &Path) -> Result<Vec<String>, AssetError> {
    let mut command = Command::new(kubeadm);
    command
        .args(["config", "images", "list", "--kubernetes-version"])
        .arg(format!("v{kubernetes}"))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = command
        .output()
        .await
        .map_err(|source| AssetError::Spawn { command: kubeadm.display().to_string(), source })?;
    let output = checked("kubeadm config images list", output)?;
    let said = String::from_utf8_lossy(&output.stdout);
    Ok(said.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect())
}

/// The image of a component, laid out as its manifest expects.
fn component(
    reference: &str,
    binaries: &Binaries,
    packages: &Packages,
) -> Result<Image, AssetError> {
    let mut image = blank(reference.to_owned())?;
    let name = reference.rsplit('/').next().unwrap_or_default();
    let name = name.split(':').next().unwrap_or_default();
    let mut runs = |binary: Binary, dir: &str| {
        let path = format!("{dir}{}", binary.name());
        image.layer.file(&path, binaries.path(binary)?);
        Ok::<_, AssetError>(format!("/{path}"))
    };
    match name {
        "kube-apiserver" => drop(runs(Binary::KubeApiserver, "usr/local/bin/")?),
        "kube-controller-manager" => drop(runs(Binary::KubeControllerManager, "usr/local/bin/")?),
        "kube-scheduler" => drop(runs(Binary::KubeScheduler, "usr/local/bin/")?),
        "etcd" => {
            runs(Binary::Etcd, "usr/local/bin/")?;
            runs(Binary::Etcdctl, "usr/local/bin/")?;
        }
        "kube-proxy" => {
            runs(Binary::KubeProxy, "usr/local/bin/")?;
            image.layer.tree(&packages.proxy_root())?;
        }
        "coredns" => image.entrypoint = vec![runs(Binary::Coredns, "")?],
        "metrics-server" => image.entrypoint = vec![runs(Binary::MetricsServer, "")?],
        "pause" => {
            let catatonit = "usr/bin/catatonit";
            image.layer.file(catatonit, &packages.node_root().join(catatonit));
            // -P: run nothing, reap, and leave at SIGTERM.
            image.entrypoint = vec![format!("/{catatonit}"), "-P".into()];
        }
        _ => {
            return Err(AssetError::NotUnderstood {
                what: format!("the image {reference}, which kubeadm wants"),
                why: "nothing here is known to go into it".into(),
            });
        }
    }
    Ok(image)
}

/// A small image for workloads: a shell, an HTTP server and client, name lookups.
async fn busybox(packages: &Packages) -> Result<Image, AssetError> {
    let program = packages.node_root().join("bin/busybox");
    let version = packages.upstream_version("busybox-static").unwrap_or("latest");
    let mut image = blank(format!("docker.io/library/busybox:{version}"))?;
    let output = Command::new(&program).arg("--list").output().await;
    let output = output
        .map_err(|source| AssetError::Spawn { command: program.display().to_string(), source })?;
    let output = checked("busybox --list", output)?;
    let applets = String::from_utf8_lossy(&output.stdout).into_owned();
    let applets: BTreeSet<_> = applets.lines().filter(|name| *name != "busybox").collect();
    for applet in applets {
        image.layer.link(&format!("bin/{applet}"), Path::new("busybox"));
    }
    image.layer.file("bin/busybox", &program);
    image.command = vec!["sh".into()];
    Ok(image)
}

/// What every image has.
fn blank(reference: String) -> Result<Image, AssetError> {
    let mut image = Image::new(reference, architecture()?);
    image.layer.text(
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    );
    image.layer.text("etc/group", "root:x:0:\nnobody:x:65534:\n");
    image.layer.text("etc/nsswitch.conf", "hosts: files dns\n");
    image.layer.scratch("tmp");
    Ok(image)
}
