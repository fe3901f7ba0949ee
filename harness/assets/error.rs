//! Why an asset can't be had.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Output;

use super::cache::CacheError;
use super::version::VersionError;

/// Why an asset can't be had.
#[derive(Debug, thiserror::Error)]
pub enum AssetError {
    /// The cache failed.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The wanted Kubernetes version can't be used.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// Every source was tried.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// It was not among what was wanted.
    #[error("{name} was not fetched: it was not wanted")]
    NotWanted {
        /// Its name.
        name: &'static str,
    },
    /// This machine's processor is one that no binaries are released for.
    #[error("no Kubernetes for the processor architecture `{architecture}`: amd64 and arm64 only")]
    Architecture {
        /// As Rust names it.
        architecture: &'static str,
    },
    /// A transfer failed.
    #[error("can't download {url}: {why}")]
    Download {
        /// From where.
        url: String,
        /// Why not, with its causes.
        why: String,
    },
    /// What was downloaded is not what was published.
    #[error("{url} has SHA-256 {is}, but {published} is published: not used")]
    Checksum {
        /// From where.
        url: String,
        /// What was downloaded.
        is: String,
        /// What was published.
        published: String,
    },
    /// The published checksums don't name the file.
    #[error("{url} holds no SHA-256 of {file}")]
    NoChecksum {
        /// The checksum file.
        url: String,
        /// Which file was looked for.
        file: String,
    },
    /// A command could not be started.
    #[error("can't run {command}")]
    Spawn {
        /// The program.
        command: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A command failed.
    #[error("{command} failed ({status}): {stderr}")]
    Command {
        /// The program and its first argument.
        command: String,
        /// How it ended.
        status: String,
        /// The last lines that it wrote to standard error.
        stderr: String,
    },
    /// What a command or file said is not what was expected.
    #[error("{what} is not understood: {why}")]
    NotUnderstood {
        /// What was read.
        what: String,
        /// What was missing.
        why: String,
    },
    /// The file system refused.
    #[error("can't {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A task of the runtime ended early.
    #[error("the work on an asset was broken off")]
    BrokenOff(#[from] tokio::task::JoinError),
}

/// What was tried for something that can't be had, and how to mend it.
#[derive(Debug)]
pub struct Unavailable {
    /// What, such as `kubernetes 1.34.4`.
    pub what: String,
    /// Each source that was tried, and why it failed.
    pub tried: Vec<(&'static str, String)>,
    /// Ways out, any of which helps.
    pub mend: Vec<String>,
}

impl Error for Unavailable {}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} can't be had", self.what)?;
        for (source, why) in &self.tried {
            write!(f, "\n  {source}: {why}")?;
        }
        f.write_str("\nany of these mends it:")?;
        for way in &self.mend {
            write!(f, "\n  {way}")?;
        }
        Ok(())
    }
}

/// An error and its causes on one line.
pub(super) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // Some libraries repeat the cause in their own text.
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

/// Gives an I/O error what was tried and where.
pub(super) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> AssetError {
    let path = path.to_owned();
    move |source| AssetError::Io { action, path, source }
}

/// The output of a command that went well, or an error with its last words.
pub(super) fn checked(command: &str, output: Output) -> Result<Output, AssetError> {
    if output.status.success() {
        return Ok(output);
    }
    Err(AssetError::Command {
        command: command.to_owned(),
        status: output.status.to_string(),
        stderr: last_lines(&String::from_utf8_lossy(&output.stderr)),
    })
}

/// The end of a log: enough to see the cause.
pub(super) fn last_lines(text: &str) -> String {
    const LINES: usize = 12;
    let lines: Vec<_> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n    ")
}
