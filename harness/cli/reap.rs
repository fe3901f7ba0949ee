//! `outage reap`

use std::process::ExitCode;

use super::{Failure, print};
use crate::cluster::Provider;
use crate::cluster::client::words;

/// Removes the clusters whose run is gone, of every provider, whatever becomes of another's.
pub(super) async fn run() -> Result<ExitCode, Failure> {
    let mut any = false;
    let mut failed = Vec::new();
    for provider in Provider::ALL {
        match provider.sweep().await {
            Ok(names) => {
                for name in names {
                    print(format_args!("removed: {} {name}\n", provider.name()))?;
                    any = true;
                }
            }
            Err(error) => failed.push(format!("{}: {}", provider.name(), words(&error))),
        }
    }
    if !failed.is_empty() {
        return Err(Failure { message: failed.join("\n"), code: 1 });
    }
    if !any {
        print("nothing was left behind\n")?;
    }
    Ok(ExitCode::SUCCESS)
}
