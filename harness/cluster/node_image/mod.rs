//! Images for kind where no registry has them: nodes of any version, and the load balancer.
//!
//! A node's image is made as kind makes its own (`images/base` and `pkg/build/nodeimage` of its
//! repository), of what is in the cache: the distribution's packages, the files that kind lays over
//! them, Kubernetes' binaries, and the lab's image store as containerd's folder. It is streamed into
//! the engine and not kept elsewhere: to pack it again is cheaper than to keep a second gigabyte.
//!
//! # Guarantees
//! An image is labelled with a digest of all that it is made of and made again when that changes. The
//! load balancer's image is only made where the engine has none of its name.

mod engine;
mod layers;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::ClusterError;
use super::lab;
use crate::assets::{
    Assets, Cache, EngineImage, Fetcher, KindAssets, KubernetesVersion, Layer, Progress, Wanted,
    hex, write_engine_archive,
};
pub use engine::Engine;

/// Raised when the same parts would be put together differently.
const FORMAT: &str = "1";

/// The label that says what an image is made of.
const MADE_OF: &str = "outage.made-of";

/// Where everything on a node is looked for.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What kind needs to make clusters of one version.
#[derive(Debug)]
pub struct Images {
    /// For `kind create cluster --image`, or `image:` in its configuration.
    pub node: String,
    /// The load balancer's, by the only name that this kind takes.
    pub load_balancer: String,
    /// What is in them of Kubernetes, metrics-server among it.
    pub assets: Arc<Assets>,
    /// kind itself.
    pub kind: KindAssets,
}

/// Makes the images of a version in the engine, unless it has them.
///
/// `program` is this program, which is also a lab's first process.
///
/// # Errors
/// What can't be had or made; what the engine says.
pub async fn build(
    fetcher: &Fetcher,
    cache: &Cache,
    engine: &Engine,
    kubernetes: KubernetesVersion,
    program: &Path,
    progress: &Progress,
) -> Result<Images, ClusterError> {
    engine.check().await?;
    let wanted = Wanted { kubernetes, metrics_server: true };
    let (assets, kind) = tokio::try_join!(fetcher.fetch(&wanted), fetcher.kind())
        .map_err(|error| ClusterError::caused("get the parts of the node image", error))?;
    let images = Images {
        node: format!("outage/kind-node:v{kubernetes}"),
        load_balancer: kind.load_balancer().to_owned(),
        assets: Arc::new(assets),
        kind,
    };
    let (assets, kind) = (&images.assets, &images.kind);
    let key = key(assets, kind);
    let old = engine.image(&images.node, MADE_OF).await?;
    let has_node = old.as_ref().is_some_and(|(_, made_of)| *made_of == key);
    let has_load_balancer = engine.image(&images.load_balancer, MADE_OF).await?.is_some();
    if has_node && has_load_balancer {
        return Ok(images);
    }
    let base = layers::base(kind)?;
    let mut all = vec![base];
    let mut made = Vec::new();
    if !has_load_balancer {
        made.push(load_balancer(&images.load_balancer, all.len()));
        all.push(layers::load_balancer(kind)?);
    }
    // Held while its files are packed.
    let mut _store = None;
    if !has_node {
        let store = lab::image_store(cache, assets, kubernetes, program, progress).await?;
        made.push(node(&images.node, all.len(), key));
        all.push(layers::node(assets, kind, kubernetes, store.path())?);
        _store = Some(store);
    }
    load(engine, all, made, progress).await?;
    if let Some((id, _)) = old.filter(|_| !has_node) {
        // A gigabyte without a name; a container that still runs on it keeps it.
        engine.forget(&id).await;
    }
    Ok(images)
}

/// A digest of everything that goes into the node's image.
fn key(assets: &Assets, kind: &KindAssets) -> String {
    let mut hasher = Sha256::new();
    hasher.update(FORMAT);
    for own in layers::OWN_FILES {
        hasher.update(own);
    }
    hasher.update(assets.packages_digest());
    hasher.update(kind.packages_digest());
    for part in assets.provenance().iter().chain(kind.provenance()) {
        hasher.update(&part.name);
        hasher.update(&part.sha256);
    }
    hex(&hasher.finalize())
}

fn node(reference: &str, layer: usize, key: String) -> EngineImage {
    EngineImage {
        reference: reference.to_owned(),
        layers: vec![0, layer],
        entrypoint: vec!["/usr/local/bin/entrypoint".into(), "/sbin/init".into()],
        // systemd looks for it: https://systemd.io/CONTAINER_INTERFACE/
        environment: vec![PATH.into(), "container=docker".into()],
        labels: BTreeMap::from([(MADE_OF.to_owned(), key)]),
        // SIGTERM makes systemd execute itself again.
        stop_signal: "SIGRTMIN+3".into(),
    }
}

/// haproxy as kind's own image starts it, but for `-n`: kind's configuration has 100000 connections,
/// for which haproxy raises its limit of descriptors, and ends where it may not.
fn load_balancer(reference: &str, layer: usize) -> EngineImage {
    let command = ["haproxy", "-W", "-db", "-n", "4000", "-f", layers::HAPROXY];
    EngineImage {
        reference: reference.to_owned(),
        layers: vec![0, layer],
        entrypoint: command.map(str::to_owned).into(),
        environment: vec![PATH.into()],
        labels: BTreeMap::from([(MADE_OF.to_owned(), FORMAT.to_owned())]),
        stop_signal: "SIGUSR1".into(),
    }
}

async fn load(
    engine: &Engine,
    layers: Vec<Layer>,
    images: Vec<EngineImage>,
    progress: &Progress,
) -> Result<(), ClusterError> {
    let names: Vec<_> = images.iter().map(|image| image.reference.as_str()).collect();
    let task = progress.task(format!("{}: packing into {}", names.join(", "), engine.name()));
    let mut total = 0;
    for layer in &layers {
        total += layer.size().map_err(|error| ClusterError::caused("measure a layer", error))?;
    }
    let pack = move |out: std::fs::File| {
        let out = Told {
            out: std::io::BufWriter::with_capacity(1 << 20, out),
            done: 0,
            last: 0,
            say: |done| task.bytes(done, total),
        };
        let written = write_engine_archive(&layers, &images, out);
        if written.is_ok() {
            task.finish();
        }
        written
    };
    engine.load(pack).await
}

/// Says now and then how much it has handed on.
struct Told<W, F> {
    out: W,
    done: u64,
    last: u64,
    say: F,
}

impl<W: std::io::Write, F: Fn(u64)> std::io::Write for Told<W, F> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.done += n as u64;
        if self.done - self.last > 1 << 22 {
            self.last = self.done;
            (self.say)(self.done);
        }
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}
