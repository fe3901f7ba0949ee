//! What is in the images, layer by layer, as `images/base/Dockerfile` and `pkg/build/nodeimage` of
//! kind's repository put it together.

use std::path::{Path, PathBuf};

use crate::assets::{AssetError, Assets, Binary, KindAssets, KubernetesVersion, Layer};
use crate::cluster::ClusterError;
use crate::cluster::lab;

/// Where kind writes the load balancer's configuration.
pub(super) const HAPROXY: &str = "/usr/local/etc/haproxy/haproxy.cfg";

const POD_NETWORK: &str = include_str!("files/pod-network");
const POD_NETWORK_SERVICE: &str = include_str!("files/pod-network.service");
const UPDATE_ALTERNATIVES: &str = include_str!("files/update-alternatives");
const CNI: &str = include_str!("files/default-cni.yaml");
const STORAGE: &str = include_str!("files/default-storage.yaml");

/// What comes from here.
pub(super) const OWN_FILES: [&str; 5] =
    [POD_NETWORK, POD_NETWORK_SERVICE, UPDATE_ALTERNATIVES, CNI, STORAGE];

const UNITS: &str = "usr/lib/systemd/system/";

/// What of the packages does not start in a container. The Dockerfile removes the same.
fn unwanted(path: &str) -> bool {
    let Some(unit) = path.strip_prefix(UNITS) else {
        return false;
    };
    let Some((target, name)) = unit.split_once(".wants/") else {
        return false;
    };
    match target {
        "multi-user.target" | "local-fs.target" | "basic.target" => true,
        "sysinit.target" => name == "systemd-tmpfiles-setup.service",
        "sockets.target" => name.contains("udev") || name.contains("initctl"),
        _ => false,
    }
}

/// What kind has in its base image that is of no use here.
fn left_out(path: &str) -> bool {
    matches!(
        path,
        // Installs packages.
        "usr/local/bin/clean-install"
        // Made for each version.
        | "etc/containerd/config.toml"
        // The snapshotter is not there.
        | "etc/systemd/system/containerd-fuse-overlayfs.service"
        // Run by a hook that only hides the host's product UUID from pods.
        | "kind/bin/mount-product-files.sh"
    )
}

/// What all versions share, and the load balancer: packages, and what kind lays over them.
pub(super) fn base(kind: &KindAssets) -> Result<Layer, ClusterError> {
    let failed = |error: AssetError| ClusterError::caused("lay out the node image", error);
    let mut layer = Layer::default();
    layer.tree(kind.root()).map_err(failed)?;
    layer.remove(unwanted);
    let from = kind.files().join("base");
    for file in files(&from)? {
        let path = file.strip_prefix(&from).unwrap_or(&file).to_string_lossy();
        if left_out(&path) {
            continue;
        }
        let program = path.starts_with("usr/local/bin/") || path.starts_with("kind/bin/");
        layer.file_with_mode(&path, &file, if program { 0o755 } else { 0o644 });
    }
    layer.script("kind/bin/pod-network", POD_NETWORK);
    layer.text("etc/systemd/system/pod-network.service", POD_NETWORK_SERVICE);
    layer.script("usr/bin/update-alternatives", UPDATE_ALTERNATIVES);
    for unit in ["containerd", "kubelet", "pod-network", "undo-mount-hacks"] {
        let wanted = format!("etc/systemd/system/multi-user.target.wants/{unit}.service");
        layer.link(&wanted, Path::new(&format!("/etc/systemd/system/{unit}.service")));
    }
    // It would change a table of the whole kernel.
    layer.link("etc/systemd/system/systemd-binfmt.service", Path::new("/dev/null"));
    layer.text("etc/systemd/journald.conf.d/kind.conf", "[Journal]\nReadKMsg=no\n");
    layer.link("usr/sbin/init", Path::new("/usr/lib/systemd/systemd"));
    // As the maintainer's script links it.
    layer.link("usr/bin/which", Path::new("which.debianutils"));
    // Where kind's files expect what the packages have elsewhere.
    for program in ["containerd", "containerd-shim-runc-v2", "ctr"] {
        layer.link(&format!("usr/local/bin/{program}"), Path::new(&format!("/usr/bin/{program}")));
    }
    layer.link("opt/cni/bin", Path::new("/usr/lib/cni"));
    layer.directory("etc/kubernetes/manifests");
    Ok(layer)
}

/// What the load balancer has over the base.
pub(super) fn load_balancer(kind: &KindAssets) -> Result<Layer, ClusterError> {
    let from = kind.files().join("haproxy/haproxy.cfg");
    let mut layer = Layer::default();
    let text = read(&from)?;
    layer.text(HAPROXY.trim_start_matches('/'), text);
    Ok(layer)
}

/// What a node of one version has over the base.
pub(super) fn node(
    assets: &Assets,
    kind: &KindAssets,
    kubernetes: KubernetesVersion,
    store: &Path,
) -> Result<Layer, ClusterError> {
    let failed = |error: AssetError| ClusterError::caused("lay out the node image", error);
    let mut layer = Layer::default();
    for (folder, binary) in [
        ("usr/bin", Binary::Kubeadm),
        ("usr/bin", Binary::Kubectl),
        ("usr/bin", Binary::Kubelet),
        ("usr/local/bin", Binary::Crictl),
        ("usr/local/bin", Binary::Etcdctl),
    ] {
        let from = assets.binary(binary).map_err(failed)?;
        layer.file(&format!("{folder}/{}", binary.name()), from);
    }
    layer.text("kind/version", format!("v{kubernetes}"));
    layer.text("kind/manifests/default-cni.yaml", CNI);
    layer.text("kind/manifests/default-storage.yaml", STORAGE);
    let upstream = read(&kind.files().join("base/etc/containerd/config.toml"))?;
    let config = containerd(&upstream, &lab::pause_image(assets)?)?;
    layer.text("etc/containerd/config.toml", config);
    layer.tree_under("var/lib/containerd/", store).map_err(failed)?;
    // The cache's own record of the entry is no part of the store.
    layer.remove(|path| {
        let name = path.strip_prefix("var/lib/containerd/");
        name.is_some_and(|name| matches!(name, "entry.json" | "stamps.json"))
    });
    Ok(layer)
}

/// kind's configuration of containerd, fitted to what is there.
fn containerd(upstream: &str, pause: &str) -> Result<String, ClusterError> {
    let mut config = String::new();
    // Whether a line of each kind was met.
    let mut met = [false; 3];
    let mut skipped = false;
    for line in upstream.lines() {
        if line.starts_with('[') {
            // A snapshotter that is not there.
            skipped = line.starts_with("[proxy_plugins");
        }
        // It only adds the hook that is left out; it also takes rlimits out, which containerd does by
        // itself without it.
        if skipped || line.trim_start().starts_with("base_runtime_spec") {
            met[0] |= !skipped;
            continue;
        }
        let indent = &line[..line.len() - line.trim_start().len()];
        let line = match line.trim_start().split_once(" = ") {
            Some(("sandbox_image", _)) => {
                met[1] = true;
                format!("{indent}sandbox_image = \"{pause}\"")
            }
            // Without CAP_SYS_RESOURCE no score may be lowered below containerd's own; where
            // containerd's own is as low as its unit asks, this changes nothing.
            Some(("restrict_oom_score_adj", _)) => {
                met[2] = true;
                format!("{indent}restrict_oom_score_adj = true")
            }
            _ => line.to_owned(),
        };
        config.push_str(&line);
        config.push('\n');
    }
    if met == [true; 3] {
        return Ok(config);
    }
    Err(ClusterError::new("kind's configuration of containerd is not as it was"))
}

fn read(path: &Path) -> Result<String, ClusterError> {
    std::fs::read_to_string(path)
        .map_err(|error| ClusterError::caused(format!("read {}", path.display()), error))
}

/// Every file below a folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>, ClusterError> {
    let failed = |error| ClusterError::caused(format!("read {}", folder.display()), error);
    let mut files = Vec::new();
    for item in folder.read_dir().map_err(failed)? {
        let path = item.map_err(failed)?.path();
        if path.is_dir() {
            files.extend(self::files(&path)?);
        } else {
            files.push(path);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_not_start_in_a_container_is_left_out() {
        for (path, out) in [
            ("usr/lib/systemd/system/multi-user.target.wants/getty.target", true),
            ("usr/lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service", true),
            ("usr/lib/systemd/system/sysinit.target.wants/systemd-journald.service", false),
            ("usr/lib/systemd/system/sockets.target.wants/systemd-udevd-kernel.socket", true),
            ("usr/lib/systemd/system/sockets.target.wants/systemd-journald.socket", false),
            ("usr/lib/systemd/system/multi-user.target", false),
            ("etc/multi-user.target.wants/x", false),
        ] {
            assert_eq!(unwanted(path), out, "{path}");
        }
    }

    #[test]
    fn kinds_configuration_of_containerd_is_fitted() {
        let upstream = "version = 2\n\n[proxy_plugins]\n[proxy_plugins.\"fuse\"]\n  type = \"x\"\n\n\
                        [plugins.\"a\".runc]\n  # spec\n  base_runtime_spec = \"/x.json\"\n  \
                        [plugins.\"a\".options]\n    SystemdCgroup = true\n[plugins.\"a\"]\n  \
                        sandbox_image = \"registry.k8s.io/pause:3.10\"\n  \
                        restrict_oom_score_adj = false\n";
        let config = containerd(upstream, "registry.k8s.io/pause:3.9").expect("fitted");
        assert_eq!(
            config,
            "version = 2\n\n[plugins.\"a\".runc]\n  # spec\n  [plugins.\"a\".options]\n    \
             SystemdCgroup = true\n[plugins.\"a\"]\n  sandbox_image = \
             \"registry.k8s.io/pause:3.9\"\n  restrict_oom_score_adj = true\n"
        );
        assert!(containerd("version = 2\n", "x").is_err());
    }
}
