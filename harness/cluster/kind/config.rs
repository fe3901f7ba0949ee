//! What the `kind` CLI is told: the committed configuration, with the nodes, the flags and the mount
//! that this cluster needs.

use serde_json::{Value, json};

use super::MOUNT;
use crate::cluster::ClusterOptions;
use crate::scenario::Component;

/// What every cluster has in common: usable by hand, too.
const COMMON: &str = include_str!("../../../kind-configs/three-masters.yaml");

/// The configuration of a cluster whose nodes run `image` and see the folder `shared`. JSON is YAML.
///
/// # Errors
/// If the committed configuration can't be read, in words.
pub(super) fn config(
    options: &ClusterOptions,
    image: &str,
    shared: &str,
) -> Result<String, String> {
    let mut config: Value = serde_saphyr::from_str(COMMON).map_err(|error| error.to_string())?;
    let roles = std::iter::repeat_n("control-plane", options.masters)
        .chain(std::iter::repeat_n("worker", options.workers));
    let nodes = roles.map(|role| {
        json!({
            "role": role,
            "image": image,
            "extraMounts": [{"hostPath": shared, "containerPath": MOUNT}],
        })
    });
    config["nodes"] = nodes.collect();
    let mut patches: Vec<Value> =
        config["kubeadmConfigPatches"].as_array().cloned().unwrap_or_default();
    if !options.settings.is_empty() {
        patches.push(settings(options).to_string().into());
    }
    config["kubeadmConfigPatches"] = patches.into();
    Ok(config.to_string())
}

/// The flags that differ from kubeadm's, as a patch of its configuration. kind merges it by kind.
fn settings(options: &ClusterOptions) -> Value {
    let flags = |component: Component| -> Value {
        let ours = options.settings.iter().filter(|(of, _, _)| *of == component);
        Value::Object(ours.map(|(_, name, value)| (name.clone(), value.clone().into())).collect())
    };
    json!({
        "kind": "ClusterConfiguration",
        "apiServer": {"extraArgs": flags(Component::KubeApiserver)},
        "controllerManager": {"extraArgs": flags(Component::KubeControllerManager)},
        "scheduler": {"extraArgs": flags(Component::KubeScheduler)},
        "etcd": {"local": {"extraArgs": flags(Component::Etcd)}},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_has_its_nodes_flags_and_mount() {
        let options = ClusterOptions {
            kubernetes: crate::assets::KubernetesVersion { major: 1, minor: 34, patch: 4 },
            masters: 5,
            workers: 0,
            settings: vec![(
                Component::KubeApiserver,
                "endpoint-reconciler-type".into(),
                "master-count".into(),
            )],
            addons: vec![],
            program: "outage".into(),
            logs: None,
        };
        let text = config(&options, "kindest/node:v1.34.4", "/shared").unwrap();
        let config: Value = serde_json::from_str(&text).unwrap();
        let nodes = config["nodes"].as_array().unwrap();
        assert_eq!(nodes.len(), 5);
        assert!(nodes.iter().all(|node| node["role"] == "control-plane"));
        assert_eq!(nodes[4]["extraMounts"][0]["hostPath"], "/shared");
        let patches = config["kubeadmConfigPatches"].as_array().unwrap();
        let last: Value = serde_json::from_str(patches.last().unwrap().as_str().unwrap()).unwrap();
        assert_eq!(last["apiServer"]["extraArgs"]["endpoint-reconciler-type"], "master-count");
    }
}
