//! `outage reap`

use std::process::ExitCode;

use super::Failure;
use crate::cluster::Provider;

/// Removes the clusters whose run is gone, of every provider.
pub(super) async fn run() -> Result<ExitCode, Failure> {
    let mut any = false;
    for provider in Provider::ALL {
        for name in provider.sweep().await? {
            println!("removed: {} {name}", provider.name());
            any = true;
        }
    }
    if !any {
        println!("nothing was left behind");
    }
    Ok(ExitCode::SUCCESS)
}
