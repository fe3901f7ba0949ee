//! What the container runtime of a node says of a component's containers.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::process::checked;
use crate::cluster::{ClusterError, Command, Node};
use crate::scenario::Component;

/// How long the runtime may take for one command.
pub(super) const RUNTIME: Duration = Duration::from_secs(30);

/// Runs crictl against containerd.
const CRICTL: &str = r#"
exec crictl --runtime-endpoint unix:///run/containerd/containerd.sock --timeout 10s "$@"
"#;

/// A container as the runtime tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Container {
    pub(super) id: String,
    pub(super) sandbox: String,
    pub(super) image: String,
    pub(super) attempt: u64,
    pub(super) runs: bool,
    /// Its process has ended.
    pub(super) ended: bool,
    /// In nanoseconds since 1970.
    pub(super) created: i64,
    pub(super) labels: BTreeMap<String, String>,
}

/// What crictl says.
pub(super) async fn crictl(node: &dyn Node, arguments: &[&str]) -> Result<String, ClusterError> {
    let command = Command::script(CRICTL, arguments.iter().copied()).timeout(RUNTIME);
    let what = format!("crictl {}", arguments.first().unwrap_or(&""));
    Ok(checked(node, command, &what).await?.text())
}

/// A component's containers, the running and the ended ones.
pub(super) async fn containers(
    node: &dyn Node,
    component: Component,
) -> Result<Vec<Container>, ClusterError> {
    let name = format!("^{}$", component.name());
    parse(&crictl(node, &["ps", "--all", "--name", &name, "--output", "json"]).await?)
}

/// The containers in what `crictl ps --output json` says.
fn parse(said: &str) -> Result<Vec<Container>, ClusterError> {
    let unknown = |error| ClusterError::caused("what crictl says of containers", error);
    let said: Value = serde_json::from_str(said).map_err(unknown)?;
    let all = said["containers"].as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let read = |container: &Value| {
        let labels = container["labels"].as_object().into_iter().flatten();
        Some(Container {
            id: text(&container["id"])?,
            sandbox: text(&container["podSandboxId"])?,
            image: text(&container["imageRef"])?,
            attempt: container["metadata"]["attempt"].as_u64()?,
            runs: container["state"] == "CONTAINER_RUNNING",
            ended: container["state"] == "CONTAINER_EXITED",
            created: container["createdAt"].as_str()?.parse().ok()?,
            labels: labels.filter_map(|(name, value)| Some((name.clone(), text(value)?))).collect(),
        })
    };
    let listed = all.map(|container| {
        let missing = || ClusterError::new(format!("what crictl says of a container: {container}"));
        read(container).ok_or_else(missing)
    });
    listed.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn containers_are_read_as_crictl_tells_them() {
        let listed = |id: &str, state: &str, created: i64, labels: Value| {
            json!({
                "id": id, "podSandboxId": "s", "imageRef": "i", "metadata": {"attempt": 1},
                "state": state, "createdAt": created.to_string(), "labels": labels,
            })
        };
        let said = json!({"containers": [
            listed("a", "CONTAINER_RUNNING", 5, json!({})),
            listed("b", "CONTAINER_CREATED", 7, json!({"l": "v"})),
            listed("c", "CONTAINER_EXITED", 3, json!({})),
        ]});
        let all = parse(&said.to_string()).unwrap();
        let seen: Vec<_> = all.iter().map(|c| (&*c.id, c.runs, c.ended, c.created)).collect();
        assert_eq!(seen, [("a", true, false, 5), ("b", false, false, 7), ("c", false, true, 3)]);
        assert_eq!(all[1].labels, BTreeMap::from([("l".to_owned(), "v".to_owned())]));
        assert_eq!(parse(r#"{"containers": []}"#).unwrap(), []);
        assert!(parse(r#"{"containers": [{}]}"#).is_err());
        assert!(parse("no").is_err());
    }
}
