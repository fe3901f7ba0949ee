//! `outage completion`

use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{Args, Command};
use clap_complete::{Shell, generate};

use super::{Failure, print};
use crate::scenario::BUILTIN;

/// Prints what makes a shell complete commands, options and files.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  source <(outage completion bash)                                   in this shell\n  outage completion fish > ~/.config/fish/completions/outage.fish    in every one"
)]
pub(super) struct Completion {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Where scenarios are named.
const NAMED: [(&str, &str); 3] =
    [("run", "scenarios"), ("validate", "scenarios"), ("explain", "what")];

impl Completion {
    pub(super) fn run(self, mut command: Command) -> Result<ExitCode, Failure> {
        // Bash goes on to files where none of the words fits; zsh would offer the words alone.
        if self.shell == Shell::Bash {
            for (subcommand, argument) in NAMED {
                let names = PossibleValuesParser::new(BUILTIN.iter().map(|builtin| builtin.name));
                command = command.mut_subcommand(subcommand, |subcommand| {
                    subcommand.mut_arg(argument, |argument| argument.value_parser(names))
                });
            }
        }
        let mut script = vec![];
        generate(self.shell, &mut command, "outage", &mut script);
        print(String::from_utf8_lossy(&script))?;
        Ok(ExitCode::SUCCESS)
    }
}
