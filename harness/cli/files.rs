//! What several subcommands share: scenarios by name or path, and files with reports.

use std::io::{IsTerminal, stderr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use sha2::{Digest, Sha256};

use super::{Failure, USAGE, print};
use crate::event::Event;
use crate::report;
use crate::run::Chosen;
use crate::scenario;

/// Reads a built-in scenario by its name, or a file by its path; with all its variants.
pub(super) fn read(name: &str) -> Result<Chosen, Failure> {
    let is_path = name.contains('/') || Path::new(name).extension().is_some();
    let (shown, text) = if is_path {
        let text = std::fs::read(name)
            .map_err(|error| Failure::usage(format!("can't read {name}: {error}")))?;
        (name, text)
    } else {
        let builtin = scenario::builtin(name).map_err(|error| {
            let is_file = Path::new(name).is_file();
            let path = if is_file { format!("; the file is ./{name}") } else { String::new() };
            Failure::usage(format!("{error}{path}"))
        })?;
        (builtin.path, builtin.text.as_bytes().to_vec())
    };
    let scenario = scenario::load(shown, &text).map_err(|error| Failure {
        message: if stderr().is_terminal() {
            error.graphical(report::colours(&stderr()))
        } else {
            error.plain()
        },
        code: USAGE,
    })?;
    let sha256 =
        Sha256::digest(&text).iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    let variants = (0..scenario.variants.len()).collect();
    Ok(Chosen { scenario, file: shown.to_owned(), text: text.into(), sha256, variants })
}

/// Keeps the variants that one of the patterns fits. No pattern: all of them.
pub(super) fn narrow(chosen: &mut Vec<Chosen>, patterns: &[String]) -> Result<(), Failure> {
    let all: Vec<String> =
        chosen.iter().flat_map(|chosen| chosen.scenario.variants.iter().cloned()).collect();
    let fits = |pattern: &String, variant: &str| scenario::matches(pattern, variant);
    if let Some(none) = patterns.iter().find(|p| !all.iter().any(|variant| fits(p, variant))) {
        let there_are = all.join(", ");
        return Err(Failure::usage(format!("no variant matches {none}; there are {there_are}")));
    }
    for chosen in &mut *chosen {
        let variants = &chosen.scenario.variants;
        let wanted = |at: &usize| {
            patterns.is_empty() || patterns.iter().any(|pattern| fits(pattern, &variants[*at]))
        };
        chosen.variants.retain(wanted);
    }
    chosen.retain(|chosen| !chosen.variants.is_empty());
    Ok(())
}

/// A file to write a report to.
#[derive(Debug, Clone)]
pub(super) struct ReportFile {
    format: Format,
    path: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Format {
    Junit,
    Json,
    Markdown,
}

impl FromStr for ReportFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = text.split_once('=').filter(|(_, path)| !path.is_empty());
        let (format, path) = match named {
            Some(("junit", path)) => (Format::Junit, path),
            Some(("json", path)) => (Format::Json, path),
            Some(("markdown", path)) => (Format::Markdown, path),
            _ => return Err("wanted: junit=FILE, json=FILE or markdown=FILE".into()),
        };
        Ok(Self { format, path: path.into() })
    }
}

impl ReportFile {
    /// Writes a report of these runs.
    pub(super) fn write(&self, runs: &[Vec<Event>]) -> Result<(), Failure> {
        let bytes = match (self.format, runs) {
            (Format::Markdown, runs) => {
                let cases: Vec<_> = runs.iter().flat_map(|run| report::cases(run)).collect();
                report::markdown(&cases).into()
            }
            (Format::Junit, [events]) => report::junit(events)?,
            (Format::Json, [events]) => report::json(events)?.into(),
            _ => return Err(Failure::usage("of several runs only markdown=FILE can be made")),
        };
        std::fs::write(&self.path, bytes).map_err(|error| Failure {
            message: format!("can't write {}: {error}", self.path.display()),
            code: 1,
        })
    }
}

/// The table, and the timelines of what is not PASS.
pub(super) fn tell(events: &[Event], folder: &Path) -> Result<(), Failure> {
    for index in report::not_passed(events) {
        let path = folder.join(report::timeline_name(index));
        std::fs::write(path, report::timeline(events, index))?;
    }
    print(report::text(events, Some(folder), report::colours(&std::io::stdout())))
}
