//! The `outage` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    // A lab's first processes fork: nothing may have started a thread before.
    outage::cluster::lab::stand_in().unwrap_or_else(outage::cli::main)
}
