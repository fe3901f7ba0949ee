//! Whether this machine allows what a lab does, and what to do if it does not.

use std::fmt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::enter::TRIAL_ARGUMENT;
use crate::cluster::sysctl::{Sysctl, mend};

/// How long the trial may take; measured: a hundredth of a second.
const LIMIT: Duration = Duration::from_secs(10);

/// What forbids private namespaces, and what allows them: a setting, its value that forbids, the one
/// that allows.
const KNOWN: [(&str, &str, &str); 3] = [
    ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
    ("kernel.unprivileged_userns_clone", "0", "1"),
    ("user.max_user_namespaces", "0", "15000"),
];

/// This machine does not allow labs.
#[derive(Debug, thiserror::Error)]
pub struct Forbidden {
    /// The step that is not allowed, in words.
    why: String,
    /// The settings that would allow it, as far as they are known.
    pub settings: Vec<Sysctl>,
}

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "private namespaces: {}", self.why)?;
        if !self.settings.is_empty() {
            return f.write_str(&mend(&self.settings));
        }
        f.write_str(
            "mend it by: in a container: docker run --security-opt seccomp=unconfined \
             --security-opt apparmor=unconfined --security-opt systempaths=unconfined; in a pod: \
             securityContext: {privileged: true}",
        )
    }
}

/// Tries, in namespaces of their own that end with the trial, whether this machine allows what a
/// lab does. `program` is this program.
///
/// # Errors
/// What is not allowed, and what to do.
pub async fn permit(program: &Path) -> Result<(), Forbidden> {
    tried(program).await.map_err(|why| forbidden(why, Sysctl::now))
}

fn forbidden(why: String, now: impl Fn(Sysctl) -> Option<String>) -> Forbidden {
    let settings = KNOWN.into_iter().filter_map(|(name, bad, value)| {
        let setting = Sysctl { name, value };
        (now(setting)? == bad).then_some(setting)
    });
    Forbidden { why, settings: settings.collect() }
}

async fn tried(program: &Path) -> Result<(), String> {
    let mut trial = Command::new(program);
    trial.arg(TRIAL_ARGUMENT).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, trial.output())
        .await
        .map_err(|_| format!("the trial did not end within {LIMIT:?}"))?
        .map_err(|error| format!("start {}: {error}", program.display()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_forbidden_names_the_setting_that_allows_it() {
        let ubuntu = |setting: Sysctl| match setting.name {
            "kernel.apparmor_restrict_unprivileged_userns" => Some("1".into()),
            "user.max_user_namespaces" => Some("63432".into()),
            _ => None,
        };
        let told = forbidden("write setgroups: permission denied".into(), ubuntu).to_string();
        assert_eq!(
            told,
            "private namespaces: write setgroups: permission denied\n\
             mend it by: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
        );
        let told = forbidden("mount proc".into(), |_| None).to_string();
        assert!(told.contains("--security-opt systempaths=unconfined"), "{told}");
    }
}
