//! apt with folders of its own.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::assets::cache::sha256_of;
use crate::assets::error::{AssetError, checked, io_error};
use crate::assets::progress::Progress;
use crate::assets::provenance::{Origin, Provenance};

/// apt-get, set up so that it changes nothing outside its own folder.
#[derive(Debug)]
pub(super) struct Apt {
    folder: PathBuf,
}

/// A downloaded package.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Archive {
    pub(super) package: String,
    version: String,
    pub(super) path: PathBuf,
}

impl Apt {
    /// Sets apt up in `dir/apt`, with the host's sources, keys and proxies.
    pub(super) async fn new(dir: &Path) -> Result<Self, AssetError> {
        let folder = dir.join("apt");
        for part in ["state/lists/partial", "cache/archives/partial"] {
            let part = folder.join(part);
            std::fs::create_dir_all(&part).map_err(io_error("create", &part))?;
        }
        let status = folder.join("status");
        std::fs::write(&status, "").map_err(io_error("write", &status))?;
        let host = output(Command::new("apt-config").arg("dump"), "apt-config dump").await?;
        let path = folder.join("apt.conf");
        std::fs::write(&path, configuration(&folder, &host)).map_err(io_error("write", &path))?;
        Ok(Self { folder })
    }

    /// Gets the lists of packages.
    ///
    /// A source of the host that fails (a third party's) is no reason to give up: whether the
    /// packages can be had without it is seen when they are asked for.
    pub(super) async fn update(&self, progress: &Progress) -> Result<(), AssetError> {
        match output(self.get().arg("update"), "apt-get update").await {
            Err(error @ AssetError::Command { .. }) => {
                progress.notice(format!("packages: going on although {error}"));
                Ok(())
            }
            result => result.map(drop),
        }
    }

    /// Whether this distribution has a package. The lists must be there.
    pub(super) async fn has(&self, package: &str) -> Result<bool, AssetError> {
        let mut command = self.command("apt-cache");
        let said = output(command.args(["policy", package]), "apt-cache policy").await?;
        Ok(has_candidate(&said))
    }

    /// Downloads packages and all that they depend on.
    pub(super) async fn download(&self, packages: &[&str]) -> Result<Vec<Archive>, AssetError> {
        let mut command = self.get();
        command.args(["install", "--download-only", "--no-install-recommends", "-y"]);
        output(command.args(packages), "apt-get install --download-only").await?;
        let folder = self.folder.join("cache/archives");
        let mut archives = Vec::new();
        for item in folder.read_dir().map_err(io_error("read", &folder))? {
            let path = item.map_err(io_error("read", &folder))?.path();
            archives.extend(Archive::from_path(path));
        }
        archives.sort_by(|a, b| a.package.cmp(&b.package));
        Ok(archives)
    }

    /// The names of packages and all that they depend on.
    pub(super) async fn closure(&self, packages: &[&str]) -> Result<BTreeSet<String>, AssetError> {
        let mut command = self.get();
        command.args(["install", "--simulate", "--no-install-recommends", "-y"]);
        let said = output(command.args(packages), "apt-get install --simulate").await?;
        let names = said.lines().filter_map(|line| line.strip_prefix("Inst "));
        Ok(names.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
    }

    /// Takes its folder away.
    pub(super) fn remove(self) -> Result<(), AssetError> {
        std::fs::remove_dir_all(&self.folder).map_err(io_error("remove", &self.folder))
    }

    fn get(&self) -> Command {
        self.command("apt-get")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", self.folder.join("apt.conf"));
        command
    }
}

/// Whether `apt-cache policy` of one package names a version that could be installed. It says nothing
/// of a package that no list names, and `(none)` of one that others only mention.
fn has_candidate(policy: &str) -> bool {
    let mut lines = policy.lines().filter_map(|line| line.trim().strip_prefix("Candidate: "));
    lines.any(|version| version != "(none)")
}

/// What apt reads instead of the host's apt.conf.d: of that only how to reach the archives.
///
/// The rest may do something to the host: container images clear its package cache after every
/// update.
fn configuration(folder: &Path, host: &str) -> String {
    let mut text = String::new();
    for line in host.lines().filter(|line| line.starts_with("Acquire::")) {
        text.push_str(line);
        text.push('\n');
    }
    let folder = folder.display();
    // Writing to a string can't fail.
    let _ = write!(
        text,
        r#"Acquire::Retries "1";
Acquire::http::Timeout "15";
Acquire::https::Timeout "15";
APT::Sandbox::User "";
Debug::NoLocking "true";
Dir::Cache "{folder}/cache";
Dir::Etc::Main "/dev/null";
Dir::Etc::Parts "/dev/null";
Dir::Log "{folder}";
Dir::State "{folder}/state";
Dir::State::status "{folder}/status";
"#
    );
    text
}

impl Archive {
    /// Of a file that apt named `name_version_architecture.deb`.
    fn from_path(path: PathBuf) -> Option<Self> {
        let name = path.file_name()?.to_str()?.strip_suffix(".deb")?;
        let mut parts = name.split('_');
        let (package, version) = (parts.next()?.to_owned(), parts.next()?);
        Some(Self {
            package,
            // The only character that apt escapes in a version.
            version: version.replace("%3a", ":"),
            path,
        })
    }

    pub(super) fn provenance(&self, codename: &str) -> Result<Provenance, AssetError> {
        Ok(Provenance {
            name: self.package.clone(),
            version: self.version.clone(),
            sha256: sha256_of(&self.path)?,
            origin: Origin::Package { distribution: codename.to_owned() },
        })
    }
}

/// What a command writes to standard output, if it goes well.
async fn output(command: &mut Command, name: &str) -> Result<String, AssetError> {
    command.stdin(Stdio::null()).kill_on_drop(true).env("LC_ALL", "C");
    let output = command.output().await.map_err(|source| AssetError::Spawn {
        command: format!("{name} (a Debian or Ubuntu is wanted)"),
        source,
    })?;
    let output = checked(name, output)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_read_from_its_files_name() {
        let archive = Archive::from_path("/a/busybox-static_1%3a1.35.0-4+b3_amd64.deb".into());
        let archive = archive.expect("an archive");
        assert_eq!(archive.package, "busybox-static");
        assert_eq!(archive.version, "1:1.35.0-4+b3");
        assert_eq!(Archive::from_path("/a/partial".into()), None);
    }

    #[test]
    fn a_package_that_is_unknown_or_only_mentioned_is_not_there() {
        let policy = |candidate| {
            format!(
                "usr-is-merged:\n  Installed: (none)\n  Candidate: {candidate}\n  Version table:\n"
            )
        };
        assert!(has_candidate(&policy("37~deb12u1")));
        assert!(!has_candidate(&policy("(none)")));
        assert!(!has_candidate(""));
    }

    #[test]
    fn only_ways_to_the_archives_are_taken_from_the_host() {
        let host = "Acquire::http::Proxy \"http://proxy:3128\";\n\
                    APT::Update::Post-Invoke:: \"rm -f /var/cache/apt/archives/*.deb\";\n";
        let text = configuration(Path::new("/c"), host);
        assert!(text.contains("proxy:3128"), "{text}");
        assert!(!text.contains("Post-Invoke"), "{text}");
        assert!(text.contains("Dir::State::status \"/c/status\";"), "{text}");
    }
}
