//! `outage assets`

use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;

use super::{Failure, fetch, fetch_kind, print};
use crate::assets::{Cache, DEFAULT_KUBERNETES, EntryState, KubernetesVersion, Prune, Wanted};

#[derive(Debug, Subcommand)]
pub(super) enum AssetsCommand {
    /// Lists what is in the cache
    List,
    /// Gets everything that a cluster of a version needs, so that later runs need no network
    Fetch {
        /// Version of Kubernetes
        #[arg(long, value_name = "VERSION", default_value = DEFAULT_KUBERNETES)]
        kubernetes: KubernetesVersion,
        /// metrics-server, too
        #[arg(long)]
        metrics_server: bool,
        /// kind, and what its node images are made of, too
        #[arg(long)]
        kind: bool,
    },
    /// Prints where a binary, `node-root` or an image is; it is fetched or built if it is not cached
    Path {
        /// Its name: `kubelet`, `kind`, `node-root`, `registry.k8s.io/pause:3.10.1`
        name: String,
        /// Version of Kubernetes
        #[arg(long, value_name = "VERSION", default_value = DEFAULT_KUBERNETES)]
        kubernetes: KubernetesVersion,
    },
    /// Removes what was not used for a month
    Prune {
        /// Everything that nobody uses just now
        #[arg(long)]
        all: bool,
    },
}

const MONTH: Duration = Duration::from_secs(30 * 24 * 60 * 60);

impl AssetsCommand {
    pub(super) async fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::List => {
                for entry in Cache::from_env()?.list()? {
                    let state = match &entry.state {
                        EntryState::Complete => "complete".into(),
                        EntryState::Damaged(why) => format!("damaged: {why}"),
                        EntryState::Unfinished => "unfinished".into(),
                    };
                    let megabytes = entry.size >> 20;
                    let (kind, key) = (&entry.kind, &entry.key);
                    print(format_args!("{kind:<14} {key:<48} {megabytes:>6} MB  {state}\n"))?;
                    for file in &entry.provenance {
                        let (name, version) = (&file.name, &file.version);
                        print(format_args!("    {name:<44} {version:<22} {}\n", file.origin))?;
                    }
                }
            }
            Self::Fetch { kubernetes, metrics_server, kind } => {
                fetch(&Wanted { kubernetes, metrics_server }).await?;
                if kind {
                    fetch_kind().await?;
                }
            }
            Self::Path { name, .. } if name == "kind" => {
                let command = fetch_kind().await?.command()?.display().to_string();
                print(command + "\n")?;
            }
            Self::Path { name, kubernetes } => {
                let metrics_server = name.contains("metrics-server");
                let assets = fetch(&Wanted { kubernetes, metrics_server }).await?;
                match assets.path(&name) {
                    Some(path) => print(format_args!("{}\n", path.display()))?,
                    None => return Err(Failure::usage(format!("there is no asset `{name}`"))),
                }
            }
            Self::Prune { all } => {
                let which = if all { Prune::All } else { Prune::UnusedFor(MONTH) };
                for entry in Cache::from_env()?.prune(which)? {
                    print(format_args!("removed {} {}\n", entry.kind, entry.key))?;
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
