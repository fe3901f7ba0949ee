//! `outage report`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::files::{ReportFile, tell};
use super::{Failure, print};
use crate::assets::Cache;
use crate::report;
use crate::run::{latest_folder, read_events};

/// Makes the report of a run once more, from the events in its folder. Exits as the run did; of
/// several, as the first that did not end well.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  outage report
  outage report ~/.cache/outage/runs/run-* --report markdown=figures.md")]
pub(super) struct Report {
    /// The run's folder, or several; none: that of the last run
    folder: Vec<PathBuf>,
    /// Writes a report: junit=FILE, json=FILE, or markdown=FILE with a table of what was measured,
    /// also in several runs
    #[arg(long, value_name = "FORMAT=FILE")]
    report: Vec<ReportFile>,
}

impl Report {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let folders = if self.folder.is_empty() {
            let latest = latest_folder(&Cache::from_env()?.root().join("runs"));
            vec![latest.ok_or_else(|| Failure::usage("there is no run yet"))?]
        } else {
            self.folder
        };
        let mut runs = vec![];
        for folder in &folders {
            let events = read_events(folder).map_err(|error| {
                Failure::usage(format!("can't read the events in {}: {error}", folder.display()))
            })?;
            if events.is_empty() {
                return Err(Failure::usage(format!("there are no events in {}", folder.display())));
            }
            runs.push(events);
        }
        for (number, (events, folder)) in runs.iter().zip(&folders).enumerate() {
            if number > 0 {
                print("\n")?;
            }
            tell(events, folder)?;
        }
        self.report.iter().try_for_each(|file| file.write(&runs))?;
        let code =
            runs.iter().map(|events| report::exit_code(events, false)).find(|code| *code != 0);
        Ok(code.unwrap_or(0).into())
    }
}
