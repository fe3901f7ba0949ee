//! `outage shell`

use std::process::ExitCode;

use clap::Args;

use super::Failure;
use super::up::provider;
use crate::cluster::Provider;

const AFTER_HELP: &str = "\
Examples:
  outage shell
  outage shell worker-1
  outage shell master-3 -- kubectl get nodes
  outage shell --provider kind";

/// Opens a shell on a node of a running cluster, or runs a command there. `KUBECONFIG` is set, and
/// kubectl, crictl, ctr, kubeadm and etcdctl are on the PATH.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Shell {
    /// The node
    #[arg(default_value = "master-1")]
    node: String,
    /// What made the cluster: lab or kind
    #[arg(long, default_value = "lab", value_parser = provider)]
    provider: Provider,
    /// The cluster, where several are running
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// What to run instead of a shell
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Shell {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let code = self.provider.enter(self.cluster.as_deref(), &self.node, &self.command)?;
        Ok(u8::try_from(code).unwrap_or(1).into())
    }
}
