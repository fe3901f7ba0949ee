//! `outage validate`

use std::process::ExitCode;

use clap::{Args, ValueHint};

use super::files::read;
use super::{Failure, USAGE, print};

/// Checks scenarios; nothing is run.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes:\n  0  each can be run\n  2  one can't; all problems of all files are shown"
)]
pub(super) struct Validate {
    /// Files, or built-in scenarios by name
    #[arg(value_name = "PATH|NAME", required = true, value_hint = ValueHint::FilePath)]
    scenarios: Vec<String>,
}

impl Validate {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let mut code = ExitCode::SUCCESS;
        for name in &self.scenarios {
            match read(name) {
                Ok(chosen) => {
                    let variants = chosen.scenario.variants.join(", ");
                    print(format_args!("{name}: ok, {variants}\n"))?;
                }
                Err(Failure { message, .. }) => {
                    eprintln!("{}", message.trim_end());
                    code = USAGE.into();
                }
            }
        }
        Ok(code)
    }
}
