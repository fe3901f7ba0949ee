//! `outage list`

use std::process::ExitCode;

use super::{Failure, print};
use crate::scenario::{BUILTIN, load};

pub(super) fn run() -> Result<ExitCode, Failure> {
    for builtin in BUILTIN {
        match load(builtin.path, builtin.text.as_bytes()) {
            Ok(scenario) => {
                print(format_args!("{}\n    {}\n", scenario.name, scenario.title))?;
                for variant in &scenario.variants {
                    print(format_args!("    - {variant}\n"))?;
                }
            }
            Err(error) => eprint!("{}", error.plain()),
        }
    }
    Ok(ExitCode::SUCCESS)
}
