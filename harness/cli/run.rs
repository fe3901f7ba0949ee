//! `outage run`

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::files::{ReportFile, narrow, read, tell};
use super::{Failure, print, program, step, supply, sweep, up};
use crate::assets::{Cache, DEFAULT_KUBERNETES, KubernetesVersion, Wanted};
use crate::cluster::client::words;
use crate::cluster::{Cluster, Provider};
use crate::event::{Event, What};
use crate::report::{self, Live};
use crate::run::{
    Chosen, Omit, Past, Session, SessionError, lock_folder, make_folder, mend_events, read_events,
    remove_logs,
};
use crate::scenario::{self, Addon};

/// Nothing was executed.
const NOTHING_RAN: u8 = 3;

/// Ended by a signal: 128 + SIGINT, as shells say it.
const INTERRUPTED: u8 = 130;

/// Makes a SKIP as bad as another verdict, for `cargo test`, which can't be given flags of ours.
const DENY_SKIPS: &str = "OUTAGE_DENY_SKIPS";

const AFTER_HELP: &str = "\
Ctrl-C takes back what is in place, ends the clusters and reports; a second one ends at once, and
the clusters with it.

A cluster is handed from one case to the next if both need the same kind and everything was taken
back and verified; kubelets that would back off from restarting a container are started anew; then
the steady state must hold again, or a fresh cluster is made.

Exit codes:
  0    every verdict is PASS (or SKIP, with another that is PASS)
  1    another verdict; with --deny-skips also SKIP
  2    bad usage, a filter that matches nothing, or a scenario that can't be read
  3    nothing was executed
  130  ended by a second Ctrl-C, or by one before the first case

Environment:
  OUTAGE_DENY_SKIPS  anything but empty or 0 is --deny-skips, for `cargo test`, too

Examples:
  outage run stopped-apiserver --variant 'lease-*' --jobs 2
  outage run stopped-apiserver --repeat 20 --resume ./long-run   again after an interruption
  outage run stopped-apiserver --provider lab,kind   what both make of it, side by side
  outage up --provider kind     and in another terminal, as often as you like, without its start:
  outage run ./my-incident.yaml --provider kind --reuse outage-1a2b3c4d
  outage run ./my-incident.yaml --step   stops before each change, with a shell in the cluster
  outage run ./my-incident.yaml --kubernetes 1.28.2 --report junit=report.xml";

/// Runs scenarios on clusters that are made for them, and says what came of them.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(super) struct Run {
    /// Built-in scenarios by name, others by path; none: all that are built in
    #[arg(value_name = "NAME|PATH", value_hint = clap::ValueHint::FilePath)]
    scenarios: Vec<String>,
    /// Only these variants; `*` stands for any characters
    #[arg(long, value_name = "PATTERN")]
    variant: Vec<String>,
    /// What makes the clusters: lab or kind, or one after the other: lab,kind
    #[arg(long, default_value = "lab", value_delimiter = ',', value_parser = up::provider)]
    provider: Vec<Provider>,
    /// Version of Kubernetes
    #[arg(long, value_name = "VERSION", default_value = DEFAULT_KUBERNETES)]
    kubernetes: KubernetesVersion,
    /// Control-plane nodes, where a scenario can do with more than it asks for
    #[arg(long, value_parser = up::masters)]
    masters: Option<usize>,
    /// How often each variant runs
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    repeat: Option<usize>,
    /// Repeats until something is neither PASS nor SKIP; with --repeat N at most N times
    #[arg(long)]
    until_fail: bool,
    /// Begins nothing more after a verdict that is neither PASS nor SKIP
    #[arg(long)]
    fail_fast: bool,
    /// How many cases run side by side, each in a cluster of its own
    #[arg(long, value_name = "N", default_value = "1", value_parser = at_least_one)]
    jobs: usize,
    /// Gives each case a cluster of its own, also where one could be reused
    #[arg(long)]
    fresh: bool,
    /// Decides which nodes are chosen for names such as `any: masters`; none: at random
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Counts a SKIP as a failure
    #[arg(long)]
    deny_skips: bool,
    /// Keeps the run in this folder, and goes on with the run that it holds: cases that ended there
    /// count and aren't repeated
    #[arg(long, value_name = "FOLDER")]
    resume: Option<PathBuf>,
    /// Leaves the last cluster standing until Ctrl-C, for `outage shell`
    #[arg(long, conflicts_with = "jobs")]
    keep: bool,
    /// Runs on this cluster, which `outage up` or `outage run --keep` holds in another terminal
    #[arg(long, value_name = "NAME", conflicts_with_all = ["jobs", "fresh", "keep"])]
    reuse: Option<String>,
    /// Asks before each change of the cluster: go on, a shell in it, skip, revert. What is expected of a
    /// change comes with it, as its times count from there
    #[arg(long, conflicts_with_all = ["jobs", "quiet", "repeat", "until_fail"])]
    step: bool,
    /// Only the final table
    #[arg(long)]
    quiet: bool,
    /// Writes a report: junit=FILE, json=FILE or markdown=FILE
    #[arg(long, value_name = "FORMAT=FILE")]
    report: Vec<ReportFile>,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err("a whole number of at least 1".into()),
    }
}

impl Run {
    pub(super) async fn run(self) -> Result<ExitCode, Failure> {
        if self.reuse.is_some() && self.provider != [Provider::Kind] {
            return Err(Failure::usage(
                "--reuse needs --provider kind: a lab can be reached by the program that made it alone",
            ));
        }
        let chosen = self.choose()?;
        let wants = |addon| chosen.iter().any(|c| c.scenario.cluster.addons.contains(&addon));
        let metrics_server = wants(Addon::MetricsServer);
        let interrupt = on_interrupt();
        let (folder, _lock) = self.folder()?;
        let mut events = read_events(&folder)?;
        let wanted = Wanted { kubernetes: self.kubernetes, metrics_server };
        let (mut left, mut kept) = (0, None);
        for provider in &self.provider {
            let session =
                self.session(*provider, chosen.clone(), &folder, Past::new(&events, &folder))?;
            let cases = session.cases();
            let new;
            (new, kept) = self.work(&session, &wanted, &interrupt).await?;
            left += cases.saturating_sub(begun(&new));
            events.extend(new);
        }
        if interrupt.is_cancelled() && begun(&events) == 0 {
            return Ok(INTERRUPTED.into());
        }
        tell(&events, &folder)?;
        self.report.iter().try_for_each(|file| file.write(std::slice::from_ref(&events)))?;
        if left > 0 {
            print(format!("not begun: {left}\n"))?;
        }
        let code = report::exit_code(&events, self.denies_skips());
        if code == 0 && kept.is_none() {
            remove_logs(&folder)?;
        }
        print(format!("run: {}\n", folder.display()))?;
        match kept {
            // Whoever interrupts a run keeps nothing: the next interrupt ends this program at once.
            Some(cluster) if interrupt.is_cancelled() => cluster.delete().await?,
            Some(cluster) => up::hold(&*cluster).await?,
            None => {}
        }
        Ok(code.into())
    }

    /// Works a session off and shows it; its events, and the cluster that is to be kept.
    async fn work(
        &self,
        session: &Session,
        wanted: &Wanted,
        interrupt: &CancellationToken,
    ) -> Result<(Vec<Event>, Option<Arc<dyn Cluster>>), Failure> {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        session.skip(&sender)?;
        let supplies = if session.has_cases() && !interrupt.is_cancelled() {
            tokio::select! {
                supplies = supply(session.provider, wanted) => {
                    Some(supplies.map_err(|failure| Failure { code: NOTHING_RAN, ..failure })?)
                }
                () = interrupt.cancelled() => None,
            }
        } else {
            None
        };
        let (quiet, lines) = (self.quiet, self.step);
        let shown = tokio::spawn(async move {
            // Questions stand between lines; a view that is redrawn in place would write over them.
            let mut live = if lines { Live::lines(std::io::stderr()) } else { Live::new(quiet) };
            let mut events: Vec<Event> = Vec::new();
            while let Some(event) = receiver.recv().await {
                live.event(&event);
                events.push(event);
            }
            events
        });
        let kept = match supplies {
            Some(supplies) => {
                session.run(&supplies, &sender, interrupt).await.map_err(|error| failure(&error))?
            }
            None => None,
        };
        if interrupt.is_cancelled() {
            // It may have broken off a cluster's start, or that of the lab in which images are unpacked.
            sweep().await?;
        }
        drop(sender);
        Ok((shown.await?, kept))
    }

    fn session(
        &self,
        provider: Provider,
        chosen: Vec<Chosen>,
        folder: &Path,
        past: Past,
    ) -> Result<Session, Failure> {
        let seed = self.seed.or(past.seed());
        Ok(Session {
            chosen,
            provider,
            kubernetes: self.kubernetes,
            repeat: self.repeat.or((!self.until_fail).then_some(1)),
            jobs: self.jobs,
            fresh: self.fresh,
            fail_fast: self.fail_fast || self.until_fail,
            reuse: self.reuse.clone(),
            keep: self.keep && self.provider.last() == Some(&provider),
            // Short enough to be typed again.
            seed: seed.unwrap_or_else(|| RandomState::new().hash_one(()) % 1_000_000),
            program: program()?,
            folder: folder.to_owned(),
            past,
            ask: self.step.then(step::ask),
            omit: Omit::Nothing,
        })
    }

    /// The run's folder: a new one, or the one to go on with; this process alone works in it.
    fn folder(&self) -> Result<(PathBuf, File), Failure> {
        let Some(folder) = &self.resume else {
            let folder = make_folder(&Cache::from_env()?.root().join("runs"))?;
            let lock = lock_folder(&folder)?;
            return Ok((folder, lock));
        };
        std::fs::create_dir_all(folder)?;
        let lock = lock_folder(folder).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => {
                Failure::usage(format!("another run is under way in {}", folder.display()))
            }
            _ => error.into(),
        })?;
        mend_events(folder)?;
        Ok((folder.canonicalize()?, lock))
    }

    fn denies_skips(&self) -> bool {
        self.deny_skips
            || std::env::var_os(DENY_SKIPS).is_some_and(|value| !value.is_empty() && value != "0")
    }

    fn choose(&self) -> Result<Vec<Chosen>, Failure> {
        let named: Vec<String> = if self.scenarios.is_empty() {
            scenario::BUILTIN.iter().map(|builtin| builtin.name.to_owned()).collect()
        } else {
            self.scenarios.clone()
        };
        let mut all = named.iter().map(|name| read(name)).collect::<Result<Vec<_>, _>>()?;
        narrow(&mut all, &self.variant)?;
        for Chosen { scenario, .. } in &mut all {
            let needed = scenario.cluster.masters;
            match self.masters {
                Some(masters) if masters < needed => {
                    let name = &scenario.name;
                    return Err(Failure::usage(format!("{name} needs {needed} masters")));
                }
                Some(masters) => scenario.cluster.masters = masters,
                None => {}
            }
        }
        Ok(all)
    }
}

fn failure(error: &SessionError) -> Failure {
    let code = match error {
        SessionError::Reuse(_) | SessionError::Different(_) => NOTHING_RAN,
        _ => 1,
    };
    Failure { message: words(error), code }
}

/// How many cases were begun.
fn begun(events: &[Event]) -> usize {
    events.iter().filter(|event| matches!(event.what, What::CaseStarted(_))).count()
}

/// The first Ctrl-C (or SIGTERM) ends the run in order; the second one at once, and the kernel ends
/// the lab with this process.
fn on_interrupt() -> CancellationToken {
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        let Ok(mut terminate) =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        else {
            return;
        };
        for first in [true, false] {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            if first {
                eprintln!("interrupted: taking back what is in place; once more to end at once");
                cancelled.cancel();
            }
        }
        std::process::exit(INTERRUPTED.into());
    });
    token
}
