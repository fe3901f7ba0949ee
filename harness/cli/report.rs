//! `outage report`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::Failure;
use super::files::{ReportFile, tell};
use crate::assets::Cache;
use crate::report;
use crate::run::{latest_folder, read_events};

/// Makes the report of a run once more, from the events in its folder. Exits as the run did.
#[derive(Debug, Args)]
pub(super) struct Report {
    /// The run's folder; none: that of the last run
    folder: Option<PathBuf>,
    /// Writes a report: junit=FILE or json=FILE
    #[arg(long, value_name = "FORMAT=FILE")]
    report: Vec<ReportFile>,
}

impl Report {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let folder = match self.folder {
            Some(folder) => folder,
            None => latest_folder(&Cache::from_env()?.root().join("runs"))
                .ok_or_else(|| Failure::usage("there is no run yet"))?,
        };
        let events = read_events(&folder).map_err(|error| {
            Failure::usage(format!("can't read the events in {}: {error}", folder.display()))
        })?;
        if events.is_empty() {
            return Err(Failure::usage(format!("there are no events in {}", folder.display())));
        }
        tell(&events, &folder, &self.report)?;
        Ok(report::exit_code(&events, false).into())
    }
}
