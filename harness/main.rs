//! The `outage` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    // A cluster's first processes fork: nothing may have started a thread before.
    outage::cluster::stand_in().or_else(outage::fault::stand_in).unwrap_or_else(outage::cli::main)
}
