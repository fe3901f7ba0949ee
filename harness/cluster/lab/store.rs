//! The image store: containerd's folder with every component image unpacked, made once a version
//! and given to each node by hard link.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;

use super::node::LabNode;
use super::{Lab, Machine, Options, pause_image};
use crate::assets::{Assets, Cache, CacheError, Entry, ImageArchive, KubernetesVersion, Progress};
use crate::cluster::{ClusterError, Command, Node, Service};

/// Raised when the same archives would be unpacked differently.
const FORMAT: &str = "2";

/// A bound for unpacking all images; measured: about 10 s on two cores.
const LIMIT: Duration = Duration::from_mins(10);

/// What can fail while the store is made.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

/// The store for these images, from the cache or made now by a containerd of its own.
pub(super) async fn image_store(
    cache: &Cache,
    assets: &Arc<Assets>,
    options: &Options,
    progress: &Progress,
) -> Result<Entry, ClusterError> {
    let failed = |error: StoreError| ClusterError::caused("make the image store".to_owned(), error);
    let key = key(assets, options).map_err(failed)?;
    let make = async |dir: PathBuf| -> Result<_, StoreError> {
        let task = progress.task(format!("image store of Kubernetes {}", options.kubernetes));
        let say = |text: String| progress.notice(text);
        fill(&dir, assets, options, &say).await?;
        task.finish();
        Ok(Vec::new())
    };
    cache.entry("image-store", &key, progress, make).await.map_err(failed)
}

/// The store of a version, for who has no lab.
pub(in crate::cluster) async fn of_version(
    cache: &Cache,
    assets: &Arc<Assets>,
    kubernetes: KubernetesVersion,
    program: &Path,
    progress: &Progress,
) -> Result<Entry, ClusterError> {
    let options = Options {
        kubernetes,
        masters: 1,
        workers: 0,
        settings: Vec::new(),
        addons: Vec::new(),
        program: program.to_owned(),
        logs: None,
    };
    image_store(cache, assets, &options, progress).await
}

fn key(assets: &Assets, options: &Options) -> Result<String, StoreError> {
    // All archives are in one cache entry, which is named after their contents.
    let first =
        assets.images().first().and_then(|image| image.path.parent()?.file_name()?.to_str());
    let images = first.ok_or_else(|| ClusterError::new("the assets hold no images"))?;
    let packages: String = assets.packages_digest().chars().take(12).collect();
    Ok(format!("{}-{images}-{packages}-{FORMAT}", options.kubernetes))
}

/// Has a lab unpack the images into a folder. Nothing else stays.
async fn fill(
    dir: &Path,
    assets: &Arc<Assets>,
    options: &Options,
    say: &(dyn Fn(String) + Send + Sync),
) -> Result<(), ClusterError> {
    let lab = Lab::prepare(assets, options, say).await?;
    let late = |_| ClusterError::new(format!("the images were not unpacked within {LIMIT:?}"));
    let unpacked = tokio::time::timeout(LIMIT, unpack(&lab, dir, assets)).await;
    let ended = lab.end().await;
    // The first failure is the one to report.
    unpacked.map_err(late).flatten().and(ended)
}

/// Boots a node without a network, has its containerd import the archives, and keeps its folder.
async fn unpack(lab: &Lab, dir: &Path, assets: &Assets) -> Result<(), ClusterError> {
    lab.make_binaries()?;
    let machine = Machine::builder();
    lab.make_node_folders(&machine, None).await?;
    let (deaths, _) = broadcast::channel(1);
    let node = LabNode::new(
        machine.clone(),
        Lab::spec(&machine, &[]),
        lab.logs(&machine),
        lab.control()?,
        deaths,
        Arc::default(),
    );
    node.boot().await?;
    lab.write_containerd_config(&node, &pause_image(assets)?).await?;
    node.service(Service::Containerd, true).await?;
    for image in assets.images() {
        import(&node, image).await?;
    }
    forget_layers(&node).await?;
    node.service(Service::Containerd, false).await?;
    node.power(false).await?;
    let from = lab.containerd_folder(&machine);
    for name in ["io.containerd.content.v1.content", "io.containerd.metadata.v1.bolt"] {
        move_into(&from.join(name), &dir.join(name))?;
    }
    let snapshots = "io.containerd.snapshotter.v1.overlayfs";
    move_into(&from.join(snapshots), &dir.join(snapshots))?;
    make_readable(dir)
        .map_err(|error| ClusterError::caused(format!("read {}", dir.display()), error))
}

fn move_into(from: &Path, to: &Path) -> Result<(), ClusterError> {
    fs::rename(from, to).map_err(|error| {
        ClusterError::caused(format!("move {} to {}", from.display(), to.display()), error)
    })
}

/// Imports one archive through the node's `ctr`.
async fn import(node: &LabNode, image: &ImageArchive) -> Result<(), ClusterError> {
    let archive = File::open(&image.path)
        .map_err(|error| ClusterError::caused(format!("open {}", image.path.display()), error))?;
    let argv = ["ctr", "-n", "k8s.io", "images", "import", "--snapshotter", "overlayfs", "-"];
    let command = Command::new(argv).timeout(Duration::from_secs(300));
    let output = node.run_reading(command, OwnedFd::from(archive)).await?;
    if output.code == 0 {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&output.stderr);
    Err(ClusterError::new(format!("import {}: {}", image.reference, why.trim())))
}

/// Takes the layers out: they are unpacked, and kept they would double the store.
///
/// containerd looks for no layer whose snapshot is there (its own `discard_unpacked_layers`, which
/// is for pulls, does the same). A layer is known by the label that unpacking leaves. Deleting a
/// lease is what makes containerd collect what nobody refers to, and wait for that.
async fn forget_layers(node: &LabNode) -> Result<(), ClusterError> {
    let script = r"set -e
ctr -n k8s.io content ls | while read -r digest rest; do
  case $rest in *containerd.io/uncompressed=*) ctr -n k8s.io content rm $digest ;; esac
done
ctr -n k8s.io leases create --id unpacked
ctr -n k8s.io leases delete --sync unpacked";
    let command = Command::script(script, [""; 0]).timeout(Duration::from_secs(60));
    let output = node.run(command).await?;
    if output.code == 0 {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&output.stderr);
    Err(ClusterError::new(format!("forget unpacked layers: {}", why.trim())))
}

/// Work folders of overlay mounts have no permissions at all; nothing may be in them.
fn make_readable(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let metadata = path.symlink_metadata()?;
        if metadata.is_dir() {
            let mode = metadata.permissions().mode();
            if mode & 0o700 != 0o700 {
                fs::set_permissions(&path, fs::Permissions::from_mode(mode | 0o700))?;
            }
            make_readable(&path)?;
        }
    }
    Ok(())
}

/// Gives a node the store: files and symbolic links by hard link (a new link would need an inode of
/// its own, and busybox alone has hundreds), databases by copy.
pub(super) fn hand_out(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            hand_out(&source, &target)?;
            fs::set_permissions(&target, source.metadata()?.permissions())?;
        } else if source.extension().is_some_and(|extension| extension == "db") {
            fs::copy(&source, &target)?;
        } else {
            fs::hard_link(&source, &target)?;
        }
    }
    Ok(())
}
