//! What a scenario has installed beside kubeadm's own addons, by upstream's manifests. What the lab
//! must change in these is one kustomize patch an addon, and listed in [`departures`].

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use futures::future::try_join_all;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::Api;

use super::layout::CONTROL;
use super::start::{FIRST, refused};
use super::watch::await_objects;
use super::{KUBECONFIG, Lab};
use crate::cluster::client::Access;
use crate::cluster::{ClusterError, Command};
use crate::scenario::Addon;

/// The folder of overlays in the lab's folder.
const FOLDER: &str = "addons";

/// Upstream's release, with its image, under what a lab must change.
///
/// A kubelet of kubeadm signs its serving certificate itself, which metrics-server refuses; the flag
/// is the usual answer (metrics-server's own README). The lab maps no user but 0, so the container
/// can't have upstream's 1000.
const METRICS_SERVER: &str = r"apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [upstream/overlays/release]
patches:
- target: {group: apps, version: v1, kind: Deployment, name: metrics-server}
  patch: |
    - op: add
      path: /spec/template/spec/containers/0/args/-
      value: --kubelet-insecure-tls
    - op: replace
      path: /spec/template/spec/containers/0/securityContext/runAsUser
      value: 0
    - op: replace
      path: /spec/template/spec/containers/0/securityContext/runAsNonRoot
      value: false
";

/// How an addon differs from upstream's, in words.
pub(super) fn departures(addon: Addon) -> &'static [&'static str] {
    match addon {
        Addon::MetricsServer => &[
            "metrics-server: --kubelet-insecure-tls, since kubeadm's kubelets sign their serving \
             certificates themselves; it runs as user 0, the only one that a lab has",
            "metrics.k8s.io: the figures of every node are the whole machine's, and those of every \
             pod are of the one cgroup that the lab runs in, since pods have no cgroups",
        ],
    }
}

impl Lab {
    /// Installs an addon. Services must be reachable: metrics-server ends when it can't reach an
    /// apiserver, and is started again only after a growing pause.
    pub(super) async fn add(&self, addon: Addon) -> Result<(), ClusterError> {
        let (manifests, overlay) = match addon {
            Addon::MetricsServer => (self.assets.metrics_server_manifests(), METRICS_SERVER),
        };
        let name = addon.name();
        let manifests = manifests.map_err(|error| {
            ClusterError::caused(format!("find the manifests of {name}"), error)
        })?;
        let folder = self.folder.join(FOLDER).join(name);
        let laid_out = copy_tree(manifests, &folder.join("upstream"))
            .and_then(|()| fs::write(folder.join("kustomization.yaml"), overlay));
        laid_out
            .map_err(|error| ClusterError::caused(format!("lay out the addon {name}"), error))?;
        let apply = Command::new([
            format!("{}/bin/kubectl", CONTROL.lab),
            format!("--kubeconfig={}/{KUBECONFIG}", CONTROL.lab),
            "apply".into(),
            format!("--kustomize={}/{FOLDER}/{name}", CONTROL.lab),
        ]);
        let output = self.control()?.run(apply.timeout(Duration::from_secs(60))).await?;
        if output.code == 0 { Ok(()) } else { Err(refused(&format!("install {name}"), &output)) }
    }

    /// Waits until an addon serves through every apiserver.
    pub(super) async fn await_addon(
        &self,
        access: &Access,
        addon: Addon,
    ) -> Result<(), ClusterError> {
        match addon {
            Addon::MetricsServer => self.await_metrics(access).await,
        }
    }

    /// The `APIService` is Available, and there are figures of every node: metrics-server has scraped
    /// each twice, since CPU is a difference.
    async fn await_metrics(&self, access: &Access) -> Result<(), ClusterError> {
        let nodes = self.nodes.len();
        let services = Api::<APIService>::all(access.kube(FIRST)?);
        await_objects(services, Some("v1beta1.metrics.k8s.io"), |found| {
            let status = found.first().and_then(|service| service.status.as_ref());
            let conditions = status.iter().flat_map(|status| status.conditions.iter().flatten());
            conditions.into_iter().any(|c| c.type_ == "Available" && c.status == "True")
        })
        .await?;
        // These can't be watched.
        let path = "/apis/metrics.k8s.io/v1beta1/nodes";
        let serves = access.masters().map(|master| {
            self.await_json(access, master.id(), path, |metrics| {
                metrics["items"].as_array().is_some_and(|items| items.len() == nodes)
            })
        });
        try_join_all(serves).await.map(drop)
    }
}

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy_tree(&source, &target)?;
        } else {
            fs::copy(&source, &target)?;
        }
    }
    Ok(())
}
