//! `outage up`

use std::process::ExitCode;

use clap::Args;
use tokio::time::Instant;

use super::{Failure, program, supply, sweep};
use crate::assets::{DEFAULT_KUBERNETES, KubernetesVersion, Wanted};
use crate::cluster::{Cluster, ClusterOptions, Provider};
use crate::scenario::Addon;

/// Starts a cluster and keeps it until Ctrl-C.
#[derive(Debug, Args)]
pub(super) struct Up {
    /// What makes the cluster: lab or kind
    #[arg(long, default_value = "lab", value_parser = provider)]
    provider: Provider,
    /// Control-plane nodes: 1, 3 or 5
    #[arg(long, default_value_t = 3, value_parser = masters)]
    masters: usize,
    /// Worker nodes: 0 to 3
    #[arg(long, default_value_t = 1, value_parser = workers)]
    workers: usize,
    /// Installs this, too: metrics-server
    #[arg(long, value_name = "ADDON", value_parser = addon)]
    addon: Vec<Addon>,
    /// Version of Kubernetes
    #[arg(long, value_name = "VERSION", default_value = DEFAULT_KUBERNETES)]
    kubernetes: KubernetesVersion,
}

pub(super) fn masters(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ (1 | 3 | 5)) => Ok(count),
        _ => Err("1, 3 or 5: etcd needs a majority".into()),
    }
}

fn workers(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 0..=3) => Ok(count),
        _ => Err("0 to 3".into()),
    }
}

pub(super) fn provider(text: &str) -> Result<Provider, String> {
    let found = Provider::ALL.into_iter().find(|provider| provider.name() == text);
    found.ok_or_else(|| format!("there are: {}", Provider::ALL.map(Provider::name).join(", ")))
}

fn addon(text: &str) -> Result<Addon, String> {
    let names = || Addon::ALL.map(|(name, _)| name).join(", ");
    let found = Addon::ALL.into_iter().find(|(name, _)| *name == text);
    found.map(|(_, addon)| addon).ok_or_else(|| format!("there is: {}", names()))
}

impl Up {
    pub(super) async fn run(self) -> Result<ExitCode, Failure> {
        let metrics_server = self.addon.contains(&Addon::MetricsServer);
        let wanted = Wanted { kubernetes: self.kubernetes, metrics_server };
        let supplies = supply(self.provider, &wanted).await?;
        let options = ClusterOptions {
            kubernetes: self.kubernetes,
            masters: self.masters,
            workers: self.workers,
            settings: Vec::new(),
            addons: self.addon,
            program: program()?,
            logs: None,
        };
        let began = Instant::now();
        let say = move |text: String| {
            eprintln!("[{:5.1}s] {text}", began.elapsed().as_secs_f64());
        };
        let cluster = tokio::select! {
            made = self.provider.create(&supplies, options, &say) => made?,
            _ = tokio::signal::ctrl_c() => {
                eprintln!("interrupted");
                // Images may just have been unpacked in a lab.
                sweep().await?;
                return Ok(ExitCode::from(130));
            }
        };
        hold(&*cluster).await?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Keeps a cluster until Ctrl-C, then ends it.
pub(super) async fn hold(cluster: &dyn Cluster) -> Result<(), Failure> {
    let nodes: Vec<&str> = cluster.nodes().iter().map(|node| node.name()).collect();
    eprintln!("{} is up: {}", cluster.name(), nodes.join(", "));
    let of = match cluster.provider() {
        default if default == Provider::default().name() => String::new(),
        other => format!(" --provider {other}"),
    };
    eprintln!("`outage shell{of} [NODE]` in another terminal opens a shell; Ctrl-C here ends it");
    if cluster.provider() == Provider::Kind.name() {
        eprintln!("`outage run{of} --reuse {} …` there runs scenarios on it", cluster.name());
    }
    let mut deaths = cluster.deaths();
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => break,
            Ok(death) = deaths.recv() => {
                eprintln!("{} died: {}", death.process, death.status);
                for line in death.log {
                    eprintln!("    {line}");
                }
            }
        }
    }
    eprintln!("ending the cluster");
    cluster.delete().await?;
    Ok(())
}
