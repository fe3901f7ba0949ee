//! `outage node-image`

use std::process::ExitCode;

use clap::Subcommand;

use super::{Failure, print, program};
use crate::assets::{
    Cache, DEFAULT_KUBERNETES, Fetcher, KubernetesVersion, Progress, Sources, progress,
};
use crate::cluster::node_image::{self, Engine};

#[derive(Debug, Subcommand)]
pub(super) enum NodeImageCommand {
    /// Makes the image of a kind node in the container engine, and the load balancer's, without a
    /// registry; prints its name, for `kind create cluster --image`
    Build {
        /// Version of Kubernetes
        #[arg(long, value_name = "VERSION", default_value = DEFAULT_KUBERNETES)]
        kubernetes: KubernetesVersion,
    },
}

impl NodeImageCommand {
    pub(super) async fn run(self) -> Result<ExitCode, Failure> {
        let Self::Build { kubernetes } = self;
        let program = program()?;
        let (progress, events) = Progress::channel();
        let shown = tokio::spawn(progress::show(events));
        let built = async {
            let cache = Cache::from_env()?;
            let fetcher = Fetcher::new(cache.clone(), Sources::from_env(), progress.clone())?;
            let engine = Engine::from_env();
            Ok::<_, Failure>(
                node_image::build(&fetcher, &cache, &engine, kubernetes, &program, &progress)
                    .await?,
            )
        }
        .await;
        drop(progress);
        // It ends by itself, as nothing can report progress any more.
        let _ = shown.await;
        print(format_args!("{}\n", built?.node))?;
        Ok(ExitCode::SUCCESS)
    }
}
