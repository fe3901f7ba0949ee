//! Commands that must succeed, and what they said if they did not.

use super::{ClusterError, Command, Node, Output};

/// Runs a command that must succeed.
pub(super) async fn checked(node: &dyn Node, command: Command) -> Result<Output, ClusterError> {
    let shown = command.argv.iter().take(4).cloned().collect::<Vec<_>>().join(" ");
    let output = node.run(command).await?;
    if output.code == 0 {
        return Ok(output);
    }
    Err(refused(&format!("{shown} on {}", node.name()), &output))
}

/// The kubeconfig of whom no authorizer is asked about: from 1.29 on the first master alone has it, and the
/// administrator of `admin.conf` is one by a binding in the API.
pub(super) async fn administrator(first: &dyn Node) -> Result<String, ClusterError> {
    let script =
        "cat /etc/kubernetes/super-admin.conf 2>/dev/null || cat /etc/kubernetes/admin.conf";
    let read = checked(first, Command::script(script, [""; 0])).await?;
    Ok(String::from_utf8_lossy(&read.stdout).into_owned())
}

pub(super) fn refused(what: &str, output: &Output) -> ClusterError {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let last = lines[lines.len().saturating_sub(8)..].join("\n");
    ClusterError::new(format!("{what}: {}: {last}", status(output.code)))
}

/// An exit code in words.
pub(super) fn status(code: i32) -> String {
    if code > 128 {
        format!("killed by signal {}", code - 128)
    } else {
        format!("exit code {code}")
    }
}
