//! The container engine, by its command line.

use std::net::Ipv4Addr;
use std::process::Stdio;
use std::time::Duration;

use nix::unistd::getpid;

use crate::cluster::ClusterError;

/// The engine's program.
pub(super) const ENGINE: &str = "docker";

/// The label that kind gives every container of a cluster; its value is the cluster's name.
/// <https://github.com/kubernetes-sigs/kind/blob/v0.30.0/pkg/cluster/internal/providers/docker/constants.go>
pub(super) const CLUSTER_LABEL: &str = "io.x-k8s.kind.cluster";

/// What one call of the engine may take, unless it is said.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs the engine; its output, trimmed.
///
/// # Errors
/// If it can't be started, does not end in time, or fails: with what it said.
pub(super) async fn engine(args: &[&str]) -> Result<String, ClusterError> {
    let shown = || format!("{ENGINE} {}", args.join(" "));
    let mut command = tokio::process::Command::new(ENGINE);
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, command.output())
        .await
        .map_err(|_| ClusterError::new(format!("{} did not end within {LIMIT:?}", shown())))?
        .map_err(|error| ClusterError::caused(shown(), error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim();
    Err(ClusterError::new(format!("{}: {}: {said}", shown(), output.status)))
}

/// The address of a container on a network.
pub(super) async fn address(container: &str, network: &str) -> Result<Ipv4Addr, ClusterError> {
    let template = format!(
        "{{{{with index .NetworkSettings.Networks \"{network}\"}}}}{{{{.IPAddress}}}}{{{{end}}}}"
    );
    let text = engine(&["inspect", "--format", &template, container]).await?;
    text.parse().map_err(|error| {
        ClusterError::caused(format!("the address of {container}: `{text}`"), error)
    })
}

/// How often a range of addresses may be lost to somebody else before the network is given up.
const TRIES: usize = 5;

/// Makes a network of its own for a cluster.
///
/// # Errors
/// If the engine has no range of addresses left.
pub(super) async fn make_network(name: &str) -> Result<(), ClusterError> {
    // A container can only be given its address back where the range was chosen by whoever made the
    // network: the engine finds a free one, which is then asked for.
    let make = ["network", "create", "--driver", "bridge"];
    let mut tries = 1;
    loop {
        engine(&[&make[..], &[name]].concat()).await?;
        let range = "{{(index .IPAM.Config 0).Subnet}}";
        let range = engine(&["network", "inspect", "--format", range, name]).await?;
        engine(&["network", "rm", name]).await?;
        match engine(&[&make[..], &["--subnet", &range, name]].concat()).await {
            Err(_) if tries < TRIES => tries += 1,
            made => return made.map(drop),
        }
    }
}

/// Has a stopped container get this address when it starts. Its own would be free for any other that
/// starts before it. Idempotent.
pub(super) async fn keep_address(
    container: &str,
    network: &str,
    address: Ipv4Addr,
) -> Result<(), ClusterError> {
    match engine(&["network", "disconnect", network, container]).await {
        Err(error) if !is_disconnected(&error) => return Err(error),
        _ => {}
    }
    engine(&["network", "connect", "--ip", &address.to_string(), network, container])
        .await
        .map(drop)
}

/// Whether a container was on no network already, as an earlier try may have left it.
fn is_disconnected(error: &ClusterError) -> bool {
    error.to_string().contains("is not connected to")
}

/// Whether a container's processes run.
pub(super) async fn runs(container: &str) -> Result<bool, ClusterError> {
    Ok(engine(&["inspect", "--format", "{{.State.Running}}", container]).await? == "true")
}

/// Removes every container of a cluster with its volumes, and its network. Idempotent: what another
/// process removes at the same time is no error.
pub(super) async fn remove_cluster(name: &str) -> Result<(), ClusterError> {
    let filter = format!("label={CLUSTER_LABEL}={name}");
    loop {
        let listed = engine(&["ps", "--all", "--quiet", "--filter", &filter]).await?;
        let containers: Vec<&str> = listed.split_whitespace().collect();
        if containers.is_empty() {
            break;
        }
        let removed = engine(&[&["rm", "--force", "--volumes"], &containers[..]].concat()).await;
        let still = engine(&["ps", "--all", "--quiet", "--filter", &filter]).await?;
        if still == listed {
            removed?;
        }
    }
    let filter = format!("name=^{name}$");
    let networks = engine(&["network", "ls", "--quiet", "--filter", &filter]).await?;
    if networks.is_empty() { Ok(()) } else { engine(&["network", "rm", name]).await.map(drop) }
}

/// Ends every other process that makes a cluster with this name: kind goes on when its caller dies.
/// The name is a cluster's of ours alone.
pub(super) fn end_makers(name: &str) {
    for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0);
        let first = words.next().unwrap_or_default();
        let makes = first.ends_with(b"kind") || first.ends_with(ENGINE.as_bytes());
        if makes && pid != getpid().as_raw() && words.any(|word| word == name.as_bytes()) {
            // It may have ended a moment ago.
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(pid),
                nix::sys::signal::Signal::SIGKILL,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_that_is_on_no_network_need_not_be_taken_off() {
        let failed = |why: &str| {
            let shown = "docker network disconnect outage-1 outage-1-worker: exit status: 1";
            is_disconnected(&ClusterError::new(format!("{shown}: {why}")))
        };
        let daemon = "Error response from daemon:";
        assert!(failed(&format!("{daemon} container 1f2e is not connected to network outage-1")));
        assert!(failed(&format!(
            "{daemon} container 1f2e is not connected to the network outage-1"
        )));
        assert!(!failed("Cannot connect to the Docker daemon"));
    }
}
