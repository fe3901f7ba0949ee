//! `outage run`

use std::io::stderr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use clap::Args;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Failure, USAGE, fetch, program, up};
use crate::assets::{Cache, DEFAULT_KUBERNETES, KubernetesVersion, Wanted};
use crate::cluster::lab;
use crate::event::Event;
use crate::report::{self, Live};
use crate::run::{Chosen, Omit, Session};
use crate::scenario::{self, Addon, Scenario};

/// Nothing was executed.
const NOTHING_RAN: u8 = 3;

const AFTER_HELP: &str = "\
Each variant runs on a cluster of its own. Ctrl-C takes back what is in place and ends the cluster;
a second one ends at once.

Exit codes:
  0  every verdict is PASS
  1  another verdict
  2  bad usage, or a scenario that can't be read
  3  nothing was executed

Examples:
  outage run stopped-apiserver --variant 'lease-*' --repeat 20
  outage run ./my-incident.yaml --kubernetes 1.28.2 --report junit=report.xml";

/// Runs scenarios, each variant on a cluster of its own, and says what came of them.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Run {
    /// Built-in scenarios by name, others by path; none: all that are built in
    #[arg(value_name = "NAME|PATH")]
    scenarios: Vec<String>,
    /// Only these variants; `*` stands for any characters
    #[arg(long, value_name = "PATTERN")]
    variant: Vec<String>,
    /// Version of Kubernetes
    #[arg(long, value_name = "VERSION", default_value = DEFAULT_KUBERNETES)]
    kubernetes: KubernetesVersion,
    /// Control-plane nodes, where a scenario can do with more than it asks for
    #[arg(long, value_parser = up::masters)]
    masters: Option<usize>,
    /// How often each variant runs
    #[arg(long, value_name = "N", default_value_t = 1)]
    repeat: usize,
    /// Leaves the last cluster standing until Ctrl-C, for `outage shell`
    #[arg(long)]
    keep: bool,
    /// Only the final table
    #[arg(long)]
    quiet: bool,
    /// Writes a report: junit=FILE or json=FILE
    #[arg(long, value_name = "FORMAT=FILE")]
    report: Vec<ReportFile>,
}

#[derive(Debug, Clone)]
struct ReportFile {
    junit: bool,
    path: PathBuf,
}

impl FromStr for ReportFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some(("junit", path)) => Ok(Self { junit: true, path: path.into() }),
            Some(("json", path)) => Ok(Self { junit: false, path: path.into() }),
            _ => Err("wanted: junit=FILE or json=FILE".into()),
        }
    }
}

impl Run {
    pub(super) async fn run(self) -> Result<ExitCode, Failure> {
        let chosen = self.choose()?;
        let wants = |addon| chosen.iter().any(|c| c.scenario.cluster.addons.contains(&addon));
        let metrics_server = wants(Addon::MetricsServer);
        let wanted = Wanted { kubernetes: self.kubernetes, metrics_server };
        let interrupt = on_interrupt();
        let assets = tokio::select! {
            assets = fetch(&wanted) => assets.map_err(|failure| Failure { code: NOTHING_RAN, ..failure })?,
            () = interrupt.cancelled() => return Ok(ExitCode::from(130)),
        };
        let runs = Cache::from_env()?.root().join("runs");
        std::fs::create_dir_all(&runs)?;
        let folder = tempfile::Builder::new().prefix("run-").tempdir_in(&runs)?;
        let session = Session {
            chosen,
            kubernetes: self.kubernetes,
            repeat: self.repeat,
            keep: self.keep,
            program: program()?,
            folder: folder.path().to_owned(),
            omit: Omit::Nothing,
        };
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let quiet = self.quiet;
        let shown = tokio::spawn(async move {
            let mut live = Live::new(quiet);
            let mut events: Vec<Event> = Vec::new();
            while let Some(event) = receiver.recv().await {
                live.event(&event);
                events.push(event);
            }
            events
        });
        let finished = session.run(&assets, &sender, &interrupt).await?;
        if interrupt.is_cancelled() {
            // It may have broken off a cluster's start.
            lab::sweep().await?;
        }
        drop(sender);
        let events = shown.await?;
        let code = self.tell(&events, folder)?;
        if let Some(cluster) = finished.kept {
            up::hold(&*cluster).await?;
        }
        Ok(code)
    }

    /// The table, the report files, and where to look further.
    fn tell(&self, events: &[Event], folder: tempfile::TempDir) -> Result<ExitCode, Failure> {
        print!("{}", report::text(events, report::colours(&std::io::stdout())));
        for file in &self.report {
            let bytes =
                if file.junit { report::junit(events)? } else { report::json(events)?.into() };
            std::fs::write(&file.path, bytes).map_err(|error| Failure {
                message: format!("can't write {}: {error}", file.path.display()),
                code: 1,
            })?;
        }
        let code = report::exit_code(events);
        if code != 0 || self.keep {
            println!("events and logs: {}", folder.keep().display());
        }
        Ok(code.into())
    }

    fn choose(&self) -> Result<Vec<Chosen>, Failure> {
        let named: Vec<String> = if self.scenarios.is_empty() {
            scenario::BUILTIN.iter().map(|builtin| builtin.name.to_owned()).collect()
        } else {
            self.scenarios.clone()
        };
        let mut chosen = named
            .iter()
            .map(|name| read(name).and_then(|(scenario, sha256)| self.narrow(scenario, sha256)))
            .collect::<Result<Vec<Chosen>, Failure>>()?;
        if chosen.iter().all(|chosen| chosen.variants.is_empty()) {
            let all = chosen.iter().flat_map(|chosen| chosen.scenario.variants.iter().cloned());
            return Err(Failure::usage(format!(
                "no variant matches {}; there are {}",
                self.variant.join(" or "),
                all.collect::<Vec<_>>().join(", ")
            )));
        }
        chosen.retain(|chosen| !chosen.variants.is_empty());
        Ok(chosen)
    }

    fn narrow(&self, mut scenario: Scenario, sha256: String) -> Result<Chosen, Failure> {
        if let Some(masters) = self.masters {
            if masters < scenario.cluster.masters {
                return Err(Failure::usage(format!(
                    "{} needs {} masters",
                    scenario.name, scenario.cluster.masters
                )));
            }
            scenario.cluster.masters = masters;
        }
        let fits = |variant: &String| {
            self.variant.is_empty()
                || self.variant.iter().any(|pattern| scenario::matches(pattern, variant))
        };
        let variants = scenario.variants.iter().enumerate().filter(|(_, variant)| fits(variant));
        let variants = variants.map(|(index, _)| index).collect();
        Ok(Chosen { scenario, sha256, variants })
    }
}

/// Reads a built-in scenario by its name, or a file by its path.
fn read(name: &str) -> Result<(Scenario, String), Failure> {
    let is_path = name.contains('/') || Path::new(name).extension().is_some();
    let (shown, text) = if is_path {
        let text = std::fs::read(name)
            .map_err(|error| Failure::usage(format!("can't read {name}: {error}")))?;
        (name, text)
    } else {
        let builtin = scenario::builtin(name).map_err(|error| Failure::usage(error.to_string()))?;
        (builtin.path, builtin.text.as_bytes().to_vec())
    };
    let scenario = scenario::load(shown, &text).map_err(|error| Failure {
        message: if std::io::IsTerminal::is_terminal(&stderr()) {
            error.graphical(report::colours(&stderr()))
        } else {
            error.plain()
        },
        code: USAGE,
    })?;
    let sha256 = base16(&Sha256::digest(&text));
    Ok((scenario, sha256))
}

fn base16(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
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
        std::process::exit(130);
    });
    token
}
