//! A terminal on a node of a running cluster.

use std::io::IsTerminal;

use super::engine::ENGINE;
use super::{ADMINISTRATOR, MOUNT, clusters, container};
use crate::cluster::ClusterError;
use crate::cluster::running::{name_of, running};
use crate::scenario::NodeRef;

/// Runs a command, or a shell, on a node of a running cluster, in the foreground; its exit code.
/// `cluster` is needed where several are running; `node` is its name, as in `master-1`.
///
/// # Errors
/// If there is no such cluster or node.
pub fn enter(cluster: Option<&str>, node: &str, command: &[String]) -> Result<i32, ClusterError> {
    let cluster = name_of(&running(&clusters()?, cluster)?);
    let container = match node.rsplit_once('-').map(|(role, index)| (role, index.parse())) {
        Some(("master", Ok(index))) => container(&cluster, NodeRef::Master(index)),
        Some(("worker", Ok(index))) => container(&cluster, NodeRef::Worker(index)),
        _ => {
            let what = "name it as in master-1 or worker-1";
            return Err(ClusterError::new(format!("{cluster} has no node {node}; {what}")));
        }
    };
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let mut exec = std::process::Command::new(ENGINE);
    exec.args(["exec", "--interactive"]);
    exec.args(terminal.then_some("--tty"));
    exec.arg(format!("--env=KUBECONFIG={MOUNT}/{ADMINISTRATOR}")).arg(container);
    match command {
        [] => exec.arg("/bin/bash"),
        _ => exec.args(command),
    };
    let status = exec.status();
    let status = status.map_err(|error| ClusterError::caused(format!("run {ENGINE}"), error))?;
    Ok(status.code().unwrap_or(1))
}
