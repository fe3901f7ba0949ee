//! Addons in a lab, and what it must change in them.

use std::time::Duration;

use super::layout::CONTROL;
use super::{KUBECONFIG, Lab};
use crate::cluster::checked::refused;
use crate::cluster::{ClusterError, Command, addon};
use crate::scenario::Addon;

/// The folder of overlays in the lab's folder.
const FOLDER: &str = "addons";

/// The lab maps no user but 0, so the container can't have upstream's 1000.
const METRICS_SERVER: &str = "    \
    - op: replace
      path: /spec/template/spec/containers/0/securityContext/runAsUser
      value: 0
    - op: replace
      path: /spec/template/spec/containers/0/securityContext/runAsNonRoot
      value: false
";

/// How an addon differs from upstream's, in words.
pub(super) fn departures(addon: Addon) -> Vec<&'static str> {
    let own: &[_] = match addon {
        Addon::MetricsServer => &[
            "metrics-server runs as user 0, the only one that a lab has",
            "metrics.k8s.io: the figures of every node are the whole machine's, and those of every \
             pod are of the one cgroup that the lab runs in, since pods have no cgroups",
        ],
    };
    [&[addon::departures(addon)], own].concat()
}

impl Lab {
    /// Installs an addon. Services must be reachable: metrics-server ends when it can't reach an
    /// apiserver, and is started again only after a growing pause.
    pub(super) async fn add(&self, addon: Addon) -> Result<(), ClusterError> {
        let patches = match addon {
            Addon::MetricsServer => METRICS_SERVER,
        };
        let name = addon.name();
        addon::lay_out(addon, &self.assets, &self.folder.join(FOLDER).join(name), patches)?;
        let apply = Command::new([
            format!("{}/bin/kubectl", CONTROL.lab),
            format!("--kubeconfig={}/{KUBECONFIG}", CONTROL.lab),
            "apply".into(),
            format!("--kustomize={}/{FOLDER}/{name}", CONTROL.lab),
        ]);
        let output = self.control()?.run(apply.timeout(Duration::from_secs(60))).await?;
        if output.code == 0 { Ok(()) } else { Err(refused(&format!("install {name}"), &output)) }
    }
}
