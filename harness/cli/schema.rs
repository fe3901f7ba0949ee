//! `outage schema`

use std::process::ExitCode;

use super::{Failure, print};
use crate::scenario::reference;

pub(super) fn run() -> Result<ExitCode, Failure> {
    print(reference::schema())?;
    Ok(ExitCode::SUCCESS)
}
