//! What the `kind` CLI is told: the committed configuration, with the nodes, the flags and the mount
//! that this cluster needs.

use serde_json::{Value, json};

use super::MOUNT;
use crate::assets::KubernetesVersion;
use crate::cluster::ClusterOptions;
use crate::scenario::{Component, NodeRef};

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
    let nodes = super::refs(options).map(|id| {
        let role = match id {
            NodeRef::Master(_) => "control-plane",
            NodeRef::Worker(_) => "worker",
        };
        let mut node = json!({
            "role": role,
            "image": image,
            "extraMounts": [{"hostPath": shared, "containerPath": MOUNT}],
        });
        // As a lab names them, so that a scenario's names hold on both.
        let (field, patches) = named(id, options.kubernetes);
        node[field] = patches;
        node
    });
    config["nodes"] = nodes.collect();
    if options.kubernetes.minor >= WITHOUT_V1BETA3 {
        config["kubeadmConfigPatchesJSON6902"] = to_v1beta4(options);
    } else if !options.settings.is_empty() {
        let mut patches: Vec<Value> =
            config["kubeadmConfigPatches"].as_array().cloned().unwrap_or_default();
        patches.push(settings(options).to_string().into());
        config["kubeadmConfigPatches"] = patches.into();
    }
    Ok(config.to_string())
}

/// The first minor version whose kubeadm does not read what kind 0.31 writes.
const WITHOUT_V1BETA3: u64 = 37;

/// The field of a node, and its patches, that have kubeadm give the node its name.
fn named(id: NodeRef, kubernetes: KubernetesVersion) -> (&'static str, Value) {
    let name = id.to_string();
    let kinds = ["InitConfiguration", "JoinConfiguration"];
    if kubernetes.minor >= WITHOUT_V1BETA3 {
        let add = json!([{"op": "add", "path": "/nodeRegistration/name", "value": name}]);
        let patch = |kind| {
            json!({
                // After the cluster's patches.
                "group": "kubeadm.k8s.io", "version": "v1beta4", "kind": kind,
                "patch": add.to_string(),
            })
        };
        return ("kubeadmConfigPatchesJSON6902", kinds.map(patch).into());
    }
    let patch =
        |kind| Value::from(json!({"kind": kind, "nodeRegistration": {"name": name}}).to_string());
    ("kubeadmConfigPatches", kinds.map(patch).into())
}

/// The flags of a component that differ from kubeadm's.
fn flags(options: &ClusterOptions, component: Component) -> impl Iterator<Item = (&str, &str)> {
    let ours = options.settings.iter().filter(move |(of, _, _)| *of == component);
    ours.map(|(_, name, value)| (name.as_str(), value.as_str()))
}

/// These flags as a patch of kubeadm's configuration. kind merges it by kind.
fn settings(options: &ClusterOptions) -> Value {
    let flags = |component| -> Value {
        let ours = flags(options, component);
        Value::Object(ours.map(|(name, value)| (name.to_owned(), value.into())).collect())
    };
    json!({
        "kind": "ClusterConfiguration",
        "apiServer": {"extraArgs": flags(Component::KubeApiserver)},
        "controllerManager": {"extraArgs": flags(Component::KubeControllerManager)},
        "scheduler": {"extraArgs": flags(Component::KubeScheduler)},
        "etcd": {"local": {"extraArgs": flags(Component::Etcd)}},
    })
}

/// Patches that make v1beta4 of what kind writes, with the flags that differ: there, flags are a list.
/// kind's own, which only let old versions of Kubernetes do what new ones do anyway, are left out.
fn to_v1beta4(options: &ClusterOptions) -> Value {
    let flags = |component| -> Value {
        flags(options, component)
            .map(|(name, value)| json!({"name": name, "value": value}))
            .collect()
    };
    let add = |path: &str, value: Value| json!({"op": "add", "path": path, "value": value});
    let patch = |kind: &str, changes: Vec<Value>| {
        let api =
            json!({"op": "replace", "path": "/apiVersion", "value": "kubeadm.k8s.io/v1beta4"});
        let all: Value = std::iter::once(api).chain(changes).collect();
        json!({
            "group": "kubeadm.k8s.io", "version": "v1beta3", "kind": kind,
            "patch": all.to_string(),
        })
    };
    let etcd = json!({"local": {"extraArgs": flags(Component::Etcd)}});
    json!([
        patch(
            "ClusterConfiguration",
            vec![
                add("/apiServer/extraArgs", flags(Component::KubeApiserver)),
                add("/controllerManager/extraArgs", flags(Component::KubeControllerManager)),
                add("/scheduler", json!({"extraArgs": flags(Component::KubeScheduler)})),
                add("/etcd", etcd),
            ],
        ),
        patch("InitConfiguration", vec![add("/nodeRegistration/kubeletExtraArgs", json!([]))]),
        patch("JoinConfiguration", vec![add("/nodeRegistration/kubeletExtraArgs", json!([]))]),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(kubernetes: &str) -> ClusterOptions {
        ClusterOptions {
            kubernetes: kubernetes.parse().unwrap(),
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
        }
    }

    fn written(kubernetes: &str) -> Value {
        let text = config(&options(kubernetes), "kindest/node:v1", "/shared").unwrap();
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_cluster_has_its_nodes_flags_and_mount() {
        let config = written("1.34.4");
        let nodes = config["nodes"].as_array().unwrap();
        assert_eq!(nodes.len(), 5);
        assert!(nodes.iter().all(|node| node["role"] == "control-plane"));
        assert_eq!(nodes[4]["extraMounts"][0]["hostPath"], "/shared");
        let named = nodes[4]["kubeadmConfigPatches"][1].as_str().unwrap();
        let named: Value = serde_json::from_str(named).unwrap();
        assert_eq!(named["nodeRegistration"]["name"], "master-5");
        let patches = config["kubeadmConfigPatches"].as_array().unwrap();
        let last: Value = serde_json::from_str(patches.last().unwrap().as_str().unwrap()).unwrap();
        assert_eq!(last["apiServer"]["extraArgs"]["endpoint-reconciler-type"], "master-count");
        assert!(config["kubeadmConfigPatchesJSON6902"].is_null());
    }

    #[test]
    fn what_a_new_kubeadm_reads_is_made_of_what_kind_writes() {
        let config = written("1.37.1");
        let first = &config["kubeadmConfigPatchesJSON6902"][0];
        let changes: Value = serde_json::from_str(first["patch"].as_str().unwrap()).unwrap();
        assert_eq!(changes[0]["value"], "kubeadm.k8s.io/v1beta4");
        let flag = json!([{"name": "endpoint-reconciler-type", "value": "master-count"}]);
        assert_eq!(changes[1], json!({"op": "add", "path": "/apiServer/extraArgs", "value": flag}));
    }
}
