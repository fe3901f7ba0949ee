//! `outage schema`

use std::process::ExitCode;

use crate::scenario::reference;

pub(super) fn run() -> ExitCode {
    print!("{}", reference::schema());
    ExitCode::SUCCESS
}
