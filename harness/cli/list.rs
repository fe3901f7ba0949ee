//! `outage list`

use std::process::ExitCode;

use crate::scenario::{BUILTIN, load};

pub(super) fn run() -> ExitCode {
    for builtin in BUILTIN {
        match load(builtin.path, builtin.text.as_bytes()) {
            Ok(scenario) => {
                println!("{}\n    {}", scenario.name, scenario.title);
                for variant in &scenario.variants {
                    println!("    - {variant}");
                }
            }
            Err(error) => eprint!("{}", error.plain()),
        }
    }
    ExitCode::SUCCESS
}
