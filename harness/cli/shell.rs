//! `outage shell`

use std::process::ExitCode;

use clap::Args;

use super::Failure;
use crate::cluster::lab;

/// Opens a shell on a node of the cluster that `outage up` or `outage run --keep` keeps. `KUBECONFIG`
/// is set, and kubectl, crictl, ctr, kubeadm and etcdctl are on the PATH.
#[derive(Debug, Args)]
pub(super) struct Shell {
    /// The node
    #[arg(default_value = "master-1")]
    node: String,
}

impl Shell {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let code = lab::enter(&self.node)?;
        Ok(u8::try_from(code).unwrap_or(1).into())
    }
}
