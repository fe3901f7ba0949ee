//! The command line: one file a subcommand, no logic of its own.

mod assets;
mod completion;
mod doctor;
mod explain;
mod files;
mod list;
mod new;
mod node_image;
mod reap;
mod report;
mod run;
mod schema;
mod shell;
mod step;
mod up;
mod validate;

use std::fmt::Display;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{CommandFactory, Parser, Subcommand};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::assets::{
    AssetError, Assets, Cache, Fetcher, KindAssets, Progress, Sources, Wanted, progress,
};
use crate::cluster::client::words;
use crate::cluster::{Provider, Supplies};

/// Bad usage, or a scenario that can't be read.
const USAGE: u8 = 2;

/// Replays documented Kubernetes control-plane outages on a real multi-master cluster, and measures
/// how fast each is detected and recovered from.
#[derive(Debug, Parser)]
#[command(name = "outage", version, max_term_width = 100, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Subcommands,
}

const EXAMPLES: &str = "\
Examples:
  outage run stopped-apiserver                     every variant of a built-in scenario
  outage run stopped-apiserver --variant 'lease-*' only some
  outage explain stopped-apiserver                 what it does, step by step
  outage explain spec.steps.inject.fault           what a field of scenarios is for
  outage new my-incident                           a file to start from
  outage validate ./my-incident.yaml               all mistakes in a file of your own
  outage run ./my-incident.yaml --kubernetes 1.28.2 --report junit=report.xml
  outage up --masters 3                            a cluster to play with, until Ctrl-C
  outage shell master-2                            a shell on one of its nodes
  outage doctor                                    what this machine lacks";

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Runs scenarios and says what came of them
    Run(run::Run),
    /// Checks scenarios and shows all their mistakes
    Validate(validate::Validate),
    /// Tells a scenario step by step, or what a field of scenarios is for; nothing is run
    Explain(explain::Explain),
    /// Writes a scenario to start from
    New(new::New),
    /// Prints the JSON Schema of scenarios, for editors
    Schema,
    /// Makes the report of a run once more
    Report(report::Report),
    /// Lists the built-in scenarios with their variants
    List,
    /// Starts a cluster and keeps it until Ctrl-C
    Up(up::Up),
    /// Opens a shell on a node of the running cluster
    Shell(shell::Shell),
    /// Shows and fetches what clusters are made of
    #[command(subcommand)]
    Assets(assets::AssetsCommand),
    /// Removes clusters that a killed run left behind
    Reap,
    /// Makes images for kind clusters, where no registry has them
    #[command(subcommand)]
    NodeImage(node_image::NodeImageCommand),
    /// Says whether this machine can run clusters, and what to do if not
    Doctor(doctor::Doctor),
    /// Prints what makes a shell complete the command line
    Completion(completion::Completion),
}

/// Shows this program's own warnings on standard error, and no library's: what they warn of is what an
/// outage looks like.
fn show_warnings() {
    let own = Targets::new().with_target(env!("CARGO_PKG_NAME"), tracing::Level::WARN);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = lines.without_time().with_target(false);
    tracing_subscriber::registry().with(lines.with_filter(own)).init();
}

/// Runs the command that the arguments name. No thread may exist yet.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    show_warnings();
    let result = match arguments.command {
        // Entering namespaces needs a process with one thread.
        Subcommands::Shell(shell) => shell.run(),
        Subcommands::Validate(validate) => validate.run(),
        Subcommands::Explain(explain) => explain.run(),
        Subcommands::Report(report) => report.run(),
        Subcommands::New(new) => new.run(),
        Subcommands::Schema => schema::run(),
        Subcommands::Completion(completion) => completion.run(Arguments::command()),
        Subcommands::List => list::run(),
        Subcommands::Run(run) => block_on(run.run()),
        Subcommands::Doctor(doctor) => block_on(doctor::run(doctor)),
        Subcommands::Reap => block_on(reap::run()),
        Subcommands::Up(up) => block_on(up.run()),
        Subcommands::Assets(command) => block_on(command.run()),
        Subcommands::NodeImage(command) => block_on(command.run()),
    };
    result.unwrap_or_else(|failure| {
        eprintln!("outage: {}", failure.message.trim_end());
        failure.code.into()
    })
}

/// A command that could not do its work.
#[derive(Debug)]
struct Failure {
    /// Why, in words; may have several lines.
    message: String,
    code: u8,
}

impl Failure {
    /// The user asked for something that can't be.
    fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: USAGE }
    }
}

impl<E: std::error::Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { message: words(&error), code: 1 }
    }
}

/// Writes to standard output. Who closed it has seen enough: that is no failure.
fn print(text: impl Display) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn block_on(future: impl Future<Output = Result<ExitCode, Failure>>) -> Result<ExitCode, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(future)
}

/// This program, as it must be started again for a lab's first process.
fn program() -> Result<PathBuf, Failure> {
    std::env::current_exe()
        .map_err(|error| Failure { message: format!("can't find this program: {error}"), code: 1 })
}

/// Removes what was broken off of any provider's clusters.
async fn sweep() -> Result<(), Failure> {
    for provider in Provider::ALL {
        provider.sweep().await?;
    }
    Ok(())
}

/// Gets what a cluster needs, showing how far it is.
async fn supply(provider: Provider, wanted: &Wanted) -> Result<Arc<Supplies>, Failure> {
    let (progress, events) = Progress::channel();
    let shown = tokio::spawn(progress::show(events));
    let supplied = async {
        let fetcher = Fetcher::new(Cache::from_env()?, Sources::from_env(), progress.clone())?;
        let supplies = provider.supply(&fetcher, wanted, &program()?, &progress).await?;
        Ok::<_, Failure>(Arc::new(supplies))
    }
    .await;
    drop(progress);
    // It ends by itself, as nothing can report progress any more.
    let _ = shown.await;
    supplied
}

/// The same for the assets alone.
async fn fetch(wanted: &Wanted) -> Result<Arc<Assets>, Failure> {
    shown(async |fetcher: Fetcher| fetcher.fetch(wanted).await.map(Arc::new)).await
}

/// Gets kind, and what its images are made of, showing how far it is.
async fn fetch_kind() -> Result<KindAssets, Failure> {
    shown(async |fetcher: Fetcher| fetcher.kind().await).await
}

async fn shown<T>(get: impl AsyncFnOnce(Fetcher) -> Result<T, AssetError>) -> Result<T, Failure> {
    let (progress, events) = Progress::channel();
    let shown = tokio::spawn(progress::show(events));
    let fetched = async {
        let fetcher = Fetcher::new(Cache::from_env()?, Sources::from_env(), progress)?;
        Ok::<_, Failure>(get(fetcher).await?)
    }
    .await;
    // It ends by itself, as nothing can report progress any more.
    let _ = shown.await;
    fetched
}
