//! `outage new`

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueHint};

use super::{Failure, print};
use crate::scenario;

/// Writes a scenario to start from: it can be run as it is, and its comments say what to change.
#[derive(Debug, Args)]
pub(super) struct New {
    /// The scenario's name: lower-case letters, digits and dashes
    #[arg(value_name = "NAME")]
    name: String,
    /// The file; one that is there is left alone [default: ./NAME.yaml]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: Option<PathBuf>,
}

impl New {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        if scenario::builtin(&self.name).is_ok() {
            let message =
                format!("a built-in scenario is called `{}`: choose another name", self.name);
            return Err(Failure::usage(message));
        }
        let text = scenario::template(&self.name).map_err(|problem| {
            let help = problem.help.map_or(String::new(), |help| format!(": {help}"));
            Failure::usage(problem.message + &help)
        })?;
        let path = self.output.unwrap_or_else(|| format!("./{}.yaml", self.name).into());
        let written = File::create_new(&path).and_then(|mut file| file.write_all(text.as_bytes()));
        let shown = path.display().to_string();
        match written {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let message =
                    format!("{shown} is there already and was not changed; choose another name");
                return Err(Failure::usage(message));
            }
            Err(error) => {
                return Err(Failure { message: format!("can't write {shown}: {error}"), code: 1 });
            }
        }
        // Without a folder it would be taken for a built-in scenario's name.
        let shown = if shown.contains('/') { shown } else { format!("./{shown}") };
        let file = quoted(&shown);
        print(format_args!(
            "wrote {shown}; what you can do with it:\n  outage validate {file}    shows every \
             mistake\n  outage explain {file}    tells it step by step\n  outage run {file}    runs \
             it on a new cluster\n"
        ))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// As a shell takes it.
fn quoted(path: &str) -> String {
    let plain = |char: char| char.is_ascii_alphanumeric() || "/._-+=@".contains(char);
    if path.chars().all(plain) {
        path.to_owned()
    } else {
        format!("'{}'", path.replace('\'', r"'\''"))
    }
}
