//! What the programs of a cluster were started with, as their processes say.

use futures::future::try_join_all;

use crate::cluster::client::Access;
use crate::cluster::{ClusterError, Command};

/// Each program of Kubernetes on the node: its arguments in one line, separated by tabs.
const ARGUMENTS: &str = r#"
for process in /proc/[0-9]*; do
    read -r name 2>/dev/null <"$process/comm" || continue
    case $name in
    kube-apiserver | kube-controller | kube-scheduler | kube-proxy | kubelet | etcd | containerd)
        tr '\n\0' ' \t' 2>/dev/null <"$process/cmdline" && echo ;;
    esac
done
true
"#;

/// The flags of each program on each node: `kubelet on master-2` and its arguments, in order.
///
/// # Errors
/// If a node can't be asked.
pub(super) async fn flags(access: &Access) -> Result<Vec<(String, Vec<String>)>, ClusterError> {
    let of_nodes = access.cluster().nodes().iter().map(|node| async move {
        let output = node.run(Command::script(ARGUMENTS, [""; 0])).await?;
        Ok::<_, ClusterError>(read(&output.text(), &node.id().to_string()))
    });
    let mut all = try_join_all(of_nodes).await?.concat();
    all.sort();
    Ok(all)
}

fn read(text: &str, node: &str) -> Vec<(String, Vec<String>)> {
    let of_line = |line: &str| {
        let mut words = line.trim_end_matches('\t').split('\t');
        let program = words.next()?.rsplit('/').next()?;
        Some((format!("{program} on {node}"), words.map(str::to_owned).collect()))
    };
    text.lines().filter_map(of_line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_named_by_its_program_and_node() {
        let text = "/usr/bin/kubelet\t--config=/a b\t--v=2\t\nkube-proxy\t\n";
        let flags = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            read(text, "worker-1"),
            [
                ("kubelet on worker-1".to_owned(), flags(&["--config=/a b", "--v=2"])),
                ("kube-proxy on worker-1".to_owned(), flags(&[])),
            ]
        );
    }
}
