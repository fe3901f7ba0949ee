//! What a scenario has installed beside kubeadm's own addons: upstream's manifests under one
//! kustomize overlay with what a provider must change.

use std::fs;
use std::io;
use std::path::Path;

use super::ClusterError;
use crate::assets::Assets;
use crate::scenario::Addon;

/// Upstream's release, with its image.
///
/// A kubelet of kubeadm signs its serving certificate itself, which metrics-server refuses; the flag
/// is the usual answer (metrics-server's own README).
const METRICS_SERVER: &str = r"apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [upstream/overlays/release]
patches:
- target: {group: apps, version: v1, kind: Deployment, name: metrics-server}
  patch: |
    - op: add
      path: /spec/template/spec/containers/0/args/-
      value: --kubelet-insecure-tls
";

/// How an addon differs from upstream's on every provider, in words.
pub(super) fn departures(addon: Addon) -> &'static str {
    match addon {
        Addon::MetricsServer => {
            "metrics-server: --kubelet-insecure-tls, since kubeadm's kubelets sign their serving \
             certificates themselves"
        }
    }
}

/// Lays out an addon in a folder, for `kubectl apply --kustomize`. `patches` are further operations
/// of JSON Patch on its Deployment, as lines of the overlay's last list.
pub(super) fn lay_out(
    addon: Addon,
    assets: &Assets,
    folder: &Path,
    patches: &str,
) -> Result<(), ClusterError> {
    let (manifests, overlay) = match addon {
        Addon::MetricsServer => (assets.metrics_server_manifests(), METRICS_SERVER),
    };
    let name = addon.name();
    let manifests = manifests
        .map_err(|error| ClusterError::caused(format!("find the manifests of {name}"), error))?;
    copy_tree(manifests, &folder.join("upstream"))
        .and_then(|()| fs::write(folder.join("kustomization.yaml"), format!("{overlay}{patches}")))
        .map_err(|error| ClusterError::caused(format!("lay out the addon {name}"), error))
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
