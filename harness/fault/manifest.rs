//! A component's static pod manifest on a node.

use std::collections::BTreeMap;

use serde_json::Value;

use super::process::checked;
use crate::cluster::{ClusterError, Command, Node};
use crate::scenario::Component;

/// Where the kubelet reads it: kubeadm's `staticPodPath`.
pub(super) fn path(component: Component) -> String {
    component.manifest()
}

/// Its bytes, as text.
pub(super) async fn read(node: &dyn Node, component: Component) -> Result<String, ClusterError> {
    let path = path(component);
    let output = checked(node, Command::new(["cat", &path]), &format!("read {path}")).await?;
    String::from_utf8(output.stdout).map_err(|e| ClusterError::caused(path, e))
}

/// Written beside the folder, which the kubelet reads whole (but for names that begin with a dot:
/// <https://github.com/kubernetes/kubernetes/blob/v1.34.4/pkg/kubelet/config/file.go>), on the same
/// file system, then renamed: the kubelet sees the old bytes or the new ones.
const REPLACE: &str = r#"
set -eu
umask 077
cat >"/etc/kubernetes/$2.outage-new"
sync "/etc/kubernetes/$2.outage-new"
mv "/etc/kubernetes/$2.outage-new" "$1"
"#;

/// Replaces it in one step.
pub(super) async fn replace(
    node: &dyn Node,
    component: Component,
    text: &str,
) -> Result<(), ClusterError> {
    let path = path(component);
    let what = format!("replace {path}");
    let command = Command::script(REPLACE, [path, component.name().to_owned()]).stdin(text);
    checked(node, command, &what).await.map(drop)
}

/// The component's command with its arguments, as the manifest wants it.
pub(super) fn command(manifest: &str, component: Component) -> Result<Vec<String>, ClusterError> {
    let mut pod = parse(manifest, component)?;
    let words = command_of(&mut pod, component)?;
    Ok(words.iter().filter_map(|word| word.as_str().map(Into::into)).collect())
}

/// The manifest with changed flags: those with values are set where they stand or added at the
/// end, once for each value, those without are taken away. The result is JSON, which is YAML.
pub(super) fn edit(
    manifest: &str,
    component: Component,
    flags: &BTreeMap<String, Vec<String>>,
) -> Result<String, ClusterError> {
    let mut pod = parse(manifest, component)?;
    let words = command_of(&mut pod, component)?;
    for (flag, values) in flags {
        let is_set = |word: &Value| word.as_str().is_some_and(|word| sets(word, flag));
        let place = words.iter().position(is_set).unwrap_or(words.len());
        words.retain(|word| !is_set(word));
        words.splice(place..place, arguments(flag, values).map(Value::from));
    }
    serde_json::to_string_pretty(&pod)
        .map_err(|e| ClusterError::caused(format!("the manifest of {}", component.name()), e))
}

/// The arguments that give a flag these values.
pub(super) fn arguments(flag: &str, values: &[String]) -> impl Iterator<Item = String> {
    values.iter().map(move |value| format!("--{flag}={value}"))
}

/// Whether an argument sets the flag.
pub(super) fn sets(argument: &str, flag: &str) -> bool {
    let rest = argument.strip_prefix("--").and_then(|text| text.strip_prefix(flag));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
}

fn parse(manifest: &str, component: Component) -> Result<Value, ClusterError> {
    serde_saphyr::from_str(manifest)
        .map_err(|e| ClusterError::caused(format!("the manifest of {}", component.name()), e))
}

fn command_of(pod: &mut Value, component: Component) -> Result<&mut Vec<Value>, ClusterError> {
    let name = component.name();
    pod.pointer_mut("/spec/containers")
        .and_then(Value::as_array_mut)
        .and_then(|all| all.iter_mut().find(|container| container["name"] == name))
        .and_then(|container| container.get_mut("command"))
        .and_then(Value::as_array_mut)
        .ok_or_else(|| ClusterError::new(format!("the manifest of {name} has no command of it")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "\
apiVersion: v1
kind: Pod
metadata:
  annotations:
    kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint: 10.0.0.1:6443
  name: kube-apiserver
spec:
  containers:
  - command:
    - kube-apiserver
    - --advertise-address=10.0.0.1
    - --apiserver-count=3
    - --endpoint-reconciler-type=master-count
    - --tls-cipher-suites=A,B
    name: kube-apiserver
    livenessProbe: {failureThreshold: 8, httpGet: {port: 6443}}
  hostNetwork: true
status: {}
";

    fn edited(flags: &[(&str, &[&str])]) -> String {
        let owned = |(flag, values): &(&str, &[&str])| {
            (flag.to_string(), values.iter().map(ToString::to_string).collect())
        };
        let flags = flags.iter().map(owned).collect();
        edit(MANIFEST, Component::KubeApiserver, &flags).unwrap()
    }

    #[test]
    fn flags_are_set_added_and_taken_away_and_nothing_else_changes() {
        let text = edited(&[
            ("endpoint-reconciler-type", &["lease"]),
            ("apiserver-count", &[]),
            ("v", &["4"]),
            ("advertise-address", &["10.0.0.2", "10.0.0.3"]),
            ("absent", &[]),
        ]);
        assert_eq!(
            command(&text, Component::KubeApiserver).unwrap(),
            [
                "kube-apiserver",
                "--advertise-address=10.0.0.2",
                "--advertise-address=10.0.0.3",
                "--endpoint-reconciler-type=lease",
                "--tls-cipher-suites=A,B",
                "--v=4",
            ]
        );
        let mut before: Value = serde_saphyr::from_str(MANIFEST).unwrap();
        let mut after: Value = serde_saphyr::from_str(&text).unwrap();
        for pod in [&mut before, &mut after] {
            command_of(pod, Component::KubeApiserver).unwrap().clear();
        }
        assert_eq!(before, after);
        let again =
            command(&edited(&[("advertise-address", &["10.0.0.1"])]), Component::KubeApiserver);
        assert_eq!(again.unwrap(), command(MANIFEST, Component::KubeApiserver).unwrap());
    }

    #[test]
    fn a_flag_is_not_taken_for_one_that_begins_like_it() {
        assert!(sets("--tls=x", "tls") && sets("--tls", "tls"));
        assert!(!sets("--tls-cipher-suites=x", "tls") && !sets("tls=x", "tls"));
    }

    #[test]
    fn a_manifest_without_the_components_command_is_an_error() {
        assert!(command(MANIFEST, Component::Etcd).is_err());
        assert!(command("spec: [", Component::KubeApiserver).is_err());
    }
}
