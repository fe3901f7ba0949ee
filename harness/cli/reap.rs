//! `outage reap`

use std::process::ExitCode;

use super::{Failure, print};
use crate::cluster::Provider;

/// Removes the clusters whose run is gone, of every provider.
pub(super) async fn run() -> Result<ExitCode, Failure> {
    let mut any = false;
    for provider in Provider::ALL {
        for name in provider.sweep().await? {
            print(format_args!("removed: {} {name}\n", provider.name()))?;
            any = true;
        }
    }
    if !any {
        print("nothing was left behind\n")?;
    }
    Ok(ExitCode::SUCCESS)
}
