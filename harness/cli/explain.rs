//! `outage explain`

use std::path::Path;
use std::process::ExitCode;

use clap::{Args, ValueHint};

use super::files::{narrow, read};
use super::{Failure, print};
use crate::assets::{DEFAULT_KUBERNETES, KubernetesVersion};
use crate::run::{explain, numbers};
use crate::scenario::{builtin, reference};

/// Tells a scenario step by step, in words; nothing is run. Or tells what a field of scenarios is for,
/// its type, its own fields and an example.
#[derive(Debug, Args)]
#[command(after_help = FIELDS)]
pub(super) struct Explain {
    /// A built-in scenario by name, another by path; or a field by its path or name
    #[arg(value_name = "NAME|PATH|FIELD", value_hint = ValueHint::FilePath)]
    what: String,
    /// Of a scenario, only these variants; `*` stands for any characters
    #[arg(long, value_name = "PATTERN")]
    variant: Vec<String>,
    /// What a scenario does on this version of Kubernetes
    #[arg(long, value_name = "VERSION", default_value = DEFAULT_KUBERNETES)]
    kubernetes: KubernetesVersion,
}

const FIELDS: &str = "\
A scenario's name or file goes before a field. Examples:
  outage explain stopped-apiserver                  a scenario, step by step
  outage explain spec                               a field, with those under it
  outage explain spec.steps.inject.fault.traffic    items of lists have no part in the path
  outage explain traffic                            the last name is enough, if it is the only one";

impl Explain {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let file = Path::new(&self.what);
        let is_yaml = file.extension().is_some_and(|end| end == "yaml" || end == "yml");
        let is_scenario = self.what.contains('/') || is_yaml || file.is_file();
        if is_scenario || builtin(&self.what).is_ok() { self.scenario() } else { self.field() }
    }

    fn scenario(self) -> Result<ExitCode, Failure> {
        let mut all = vec![read(&self.what)?];
        narrow(&mut all, &self.variant)?;
        for chosen in &all {
            let version = numbers(self.kubernetes);
            print(explain(&chosen.scenario, &chosen.variants, version)?)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn field(self) -> Result<ExitCode, Failure> {
        let found = reference::find(&self.what).map_err(|unknown| {
            Failure::usage(match builtin(&self.what) {
                Err(scenario) if scenario.near.is_some() => scenario.to_string(),
                _ if unknown.near.is_some() => unknown.to_string(),
                _ => format!(
                    "no built-in scenario and no field is called `{}`; see `outage list` and \
                     `outage explain spec`",
                    self.what
                ),
            })
        })?;
        if !self.variant.is_empty() {
            return Err(Failure::usage(format!("`{}` is a field: it has no variants", self.what)));
        }
        match found.as_slice() {
            [one] => print(one)?,
            several => {
                print(format_args!("{} is the name of several fields:\n", self.what))?;
                for found in several {
                    print(format_args!("  {}\n      {}\n", found.paths[0], found.field.about))?;
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
