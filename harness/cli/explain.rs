//! `outage explain`

use std::process::ExitCode;

use clap::Args;

use super::Failure;
use super::files::{narrow, read};
use crate::assets::{DEFAULT_KUBERNETES, KubernetesVersion};
use crate::run::{explain, numbers};

/// Tells a scenario step by step, in words; nothing is run.
#[derive(Debug, Args)]
pub(super) struct Explain {
    /// A built-in scenario by name, another by path
    #[arg(value_name = "NAME|PATH")]
    scenario: String,
    /// Only these variants; `*` stands for any characters
    #[arg(long, value_name = "PATTERN")]
    variant: Vec<String>,
    /// What it does on this version of Kubernetes
    #[arg(long, value_name = "VERSION", default_value = DEFAULT_KUBERNETES)]
    kubernetes: KubernetesVersion,
}

impl Explain {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let mut all = vec![read(&self.scenario)?];
        narrow(&mut all, &self.variant)?;
        for chosen in &all {
            let version = numbers(self.kubernetes);
            print!("{}", explain(&chosen.scenario, &chosen.variants, version)?);
        }
        Ok(ExitCode::SUCCESS)
    }
}
