//! Releases built from the Go module proxy with the user's own `go`.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::sync::Semaphore;

use super::error::{AssetError, checked, io_error, last_lines};
use super::progress::Progress;
use super::release::{Product, Release};

/// Two builds at once: each compiles on all cores, but links on one.
const CONCURRENT: usize = 2;

/// The user's Go.
#[derive(Debug)]
pub(super) struct Go {
    program: PathBuf,
    slots: Semaphore,
}

/// What `go mod download -json` says of a module.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Downloaded {
    go_mod: PathBuf,
    dir: PathBuf,
}

/// A module on disk. Nothing in it may be changed.
pub(super) struct Module {
    /// Its name with its version.
    pub(super) name: String,
    pub(super) dir: PathBuf,
}

impl Go {
    pub(super) fn new(program: PathBuf) -> Self {
        Self { program, slots: Semaphore::new(CONCURRENT) }
    }

    /// Builds a release's binaries into `dir`; returns the Go version that did.
    pub(super) async fn build(
        &self,
        release: &Release,
        dir: &Path,
        progress: &Progress,
    ) -> Result<String, AssetError> {
        let _slot = self.slots.acquire().await;
        let toolchain = self.version(dir).await?;
        let title = release.title();
        let task = progress.task(format!("{title}: building with {toolchain}"));
        task.step("downloading the module");
        let work = tempfile::tempdir_in(dir).map_err(io_error("create a folder in", dir))?;
        let go_mod = self.go_mod(release, work.path()).await?;
        let path = work.path().join("go.mod");
        std::fs::write(&path, go_mod).map_err(io_error("write", &path))?;
        // The `go` line of the module may have called for a newer toolchain.
        let toolchain = self.version(work.path()).await?;
        self.compile(release, work.path(), dir, &|line| task.step(line)).await?;
        for command in release.commands() {
            // `go build -o DIR/` names a command after its package's last element.
            let built = work.path().join("bin").join(built_name(command.package));
            let to = dir.join(command.binary.name());
            std::fs::rename(&built, &to).map_err(io_error("take", &built))?;
        }
        task.finish();
        Ok(toolchain)
    }

    /// The first module of a release, with everything in it. `dir` is any folder outside a module.
    pub(super) async fn module(&self, release: &Release, dir: &Path) -> Result<Module, AssetError> {
        let module = release.commands().first().map_or("", |command| command.module);
        let name = format!("{module}@v{}", release.version);
        let dir = self.download(&name, dir).await?.dir;
        Ok(Module { name, dir })
    }

    async fn download(&self, module: &str, dir: &Path) -> Result<Downloaded, AssetError> {
        let said = self.run(&["mod", "download", "-json", module], dir).await?;
        serde_json::from_str(&said).map_err(|error| AssetError::NotUnderstood {
            what: format!("`go mod download -json {module}`"),
            why: error.to_string(),
        })
    }

    /// The version that runs in this folder, such as `go1.26.8`.
    async fn version(&self, dir: &Path) -> Result<String, AssetError> {
        let text = self.run(&["version"], dir).await?;
        let version = text.split_whitespace().nth(2).map(str::to_owned);
        version.ok_or_else(|| AssetError::NotUnderstood {
            what: format!("`go version` ({})", text.trim()),
            why: "the third word should be the version".into(),
        })
    }

    /// A go.mod that requires the release.
    ///
    /// Kubernetes's own replaces its staging modules by folders of its repository, which the
    /// proxy does not serve; each is also released by itself, as v0. Who builds upon Kubernetes
    /// itself, as cri-tools does under Kubernetes's version numbers, replaces them likewise.
    async fn go_mod(&self, release: &Release, dir: &Path) -> Result<String, AssetError> {
        let mut text = String::from("module assets\n");
        for (i, command) in release.commands().iter().enumerate() {
            if release.commands()[..i].iter().any(|before| before.module == command.module) {
                continue;
            }
            let module = format!("{}@v{}", command.module, release.version);
            let said = self.download(&module, dir).await?;
            let own = std::fs::read_to_string(&said.go_mod);
            let own = own.map_err(io_error("read", &said.go_mod))?;
            if i == 0 {
                text.extend(own.lines().filter(|l| l.starts_with("go ")).map(|l| format!("{l}\n")));
            }
            text.push_str(&require(command.module, &own, &release.version));
            replace_staging(&mut text, &own, &release.version);
        }
        Ok(text)
    }

    async fn compile(
        &self,
        release: &Release,
        work: &Path,
        dir: &Path,
        said: &(dyn Fn(String) + Sync),
    ) -> Result<(), AssetError> {
        let bin = work.join("bin");
        std::fs::create_dir(&bin).map_err(io_error("create", &bin))?;
        let mut command = self.command(work);
        command
            .args(["build", "-v", "-ldflags", &linker_flags(release), "-o", "bin/"])
            .args(release.commands().iter().map(|c| c.package))
            .env("GOTMPDIR", dir)
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|source| self.not_started(source))?;
        let mut log = String::new();
        if let Some(stderr) = child.stderr.take() {
            let mut lines = BufReader::new(stderr).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let _ = writeln!(log, "{line}");
                said(line);
            }
        }
        let status = child.wait().await.map_err(|source| self.not_started(source))?;
        if status.success() {
            return Ok(());
        }
        Err(AssetError::Command {
            command: "go build".into(),
            status: status.to_string(),
            stderr: last_lines(&log),
        })
    }

    async fn run(&self, arguments: &[&str], dir: &Path) -> Result<String, AssetError> {
        let mut command = self.command(dir);
        command.args(arguments);
        let output = command.output().await.map_err(|source| self.not_started(source))?;
        let name = format!("go {}", arguments.join(" "));
        // With -json the reason is on standard output.
        let reason = String::from_utf8_lossy(&output.stdout).into_owned();
        checked(&name, output).map(|_| reason.clone()).map_err(|error| match error {
            AssetError::Command { command, status, stderr } if stderr.is_empty() => {
                AssetError::Command { command, status, stderr: last_lines(&reason) }
            }
            error => error,
        })
    }

    fn command(&self, dir: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command
            .current_dir(dir)
            .env("CGO_ENABLED", "0")
            .env("GOFLAGS", "-mod=mod -trimpath -buildvcs=false")
            .env("GOOS", "linux")
            .env("GOWORK", "off")
            .env("GO111MODULE", "on")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    fn not_started(&self, source: std::io::Error) -> AssetError {
        AssetError::Spawn { command: format!("`{}`", self.program.display()), source }
    }
}

/// Requires a module, also one that calls itself otherwise than the proxy does.
fn require(module: &str, own: &str, version: &str) -> String {
    let declared = own.lines().find_map(|line| line.strip_prefix("module ")).unwrap_or(module);
    let mut text = format!("require {declared} v{version}\n");
    if declared != module {
        // Writing to a string can't fail.
        let _ = writeln!(text, "replace {declared} => {module} v{version}");
    }
    text
}

/// Adds a `replace` for each module that `own` takes from Kubernetes's staging folder, and for
/// Kubernetes itself.
fn replace_staging(go_mod: &mut String, own: &str, version: &str) {
    let Some((_, rest)) = version.split_once('.') else {
        return;
    };
    for line in own.lines() {
        let words: Vec<_> = line.trim_start_matches("replace ").split_whitespace().collect();
        let (module, major) = match words[..] {
            [module, "=>", from, ..]
                if from.starts_with("./staging/")
                    || from.starts_with("k8s.io/kubernetes/staging/") =>
            {
                (module, "0")
            }
            [module @ "k8s.io/kubernetes", "=>", ..] => (module, "1"),
            _ => continue,
        };
        let _ = writeln!(go_mod, "replace {module} => {module} v{major}.{rest}");
    }
}

/// What cri-tools calls itself.
const CRI_TOOLS: &str = "github.com/kubernetes-sigs/cri-tools";

/// What the official build also sets: without it a binary calls itself v0.0.0-master.
fn linker_flags(release: &Release) -> String {
    let mut flags = String::from("-s -w");
    let version = &release.version;
    let packages: &[&str] = match release.product {
        Product::Kubernetes => &["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"],
        Product::MetricsServer => &["k8s.io/component-base/version"],
        Product::Etcd | Product::Coredns | Product::Kind => &[],
        Product::CriTools => {
            let _ = write!(flags, " -X {CRI_TOOLS}/pkg/version.Version=v{version}");
            &[]
        }
    };
    let (major, rest) = version.split_once('.').unwrap_or((version, ""));
    let minor = rest.split('.').next().unwrap_or_default();
    for package in packages {
        for (name, value) in [
            ("gitVersion", &*format!("v{version}")),
            ("gitMajor", major),
            ("gitMinor", minor),
            ("gitTreeState", "clean"),
            ("gitCommit", "0000000000000000000000000000000000000000"),
            ("buildDate", "2026-01-01T00:00:00Z"),
        ] {
            let _ = write!(flags, " -X {package}.{name}={value}");
        }
    }
    flags
}

/// The file that `go build` writes for a command: a major version suffix does not count.
fn built_name(package: &str) -> &str {
    let mut elements = package.rsplit('/');
    let last = elements.next().unwrap_or(package);
    let major = last.strip_prefix('v').is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()));
    if major { elements.next().unwrap_or(last) } else { last }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_staging_module_gets_its_released_twin() {
        let own = "go 1.24.0\nreplace (\n\tk8s.io/api => ./staging/src/k8s.io/api\n\
                   \tgithub.com/a/b => github.com/a/b v1.0.0\n)\n\
                   replace k8s.io/kms => ./staging/src/k8s.io/kms\n";
        let mut text = String::new();
        replace_staging(&mut text, own, "1.34.4");
        assert_eq!(
            text,
            "replace k8s.io/api => k8s.io/api v0.34.4\nreplace k8s.io/kms => k8s.io/kms v0.34.4\n"
        );
    }

    #[test]
    fn a_module_that_builds_upon_kubernetes_gets_its_released_parts() {
        let own = "module github.com/x/y\n\nreplace (\n\tk8s.io/api => \
                   k8s.io/kubernetes/staging/src/k8s.io/api v0.0.0-20240417172702-7c48c2bd72b9\n\
                   \tk8s.io/kubernetes => k8s.io/kubernetes v1.30.0\n)\n";
        let mut text = require("k8s.io/y", own, "1.30.0");
        replace_staging(&mut text, own, "1.30.0");
        assert_eq!(
            text,
            "require github.com/x/y v1.30.0\nreplace github.com/x/y => k8s.io/y v1.30.0\n\
             replace k8s.io/api => k8s.io/api v0.30.0\n\
             replace k8s.io/kubernetes => k8s.io/kubernetes v1.30.0\n"
        );
        assert_eq!(require("a/b", "module a/b\n", "1.2.3"), "require a/b v1.2.3\n");
    }

    #[test]
    fn a_command_is_named_as_go_names_it() {
        assert_eq!(built_name("go.etcd.io/etcd/server/v3"), "server");
        assert_eq!(built_name("k8s.io/kubernetes/cmd/kubelet"), "kubelet");
        assert_eq!(built_name("github.com/coredns/coredns"), "coredns");
    }

    #[test]
    fn the_version_is_linked_in() {
        let release = Release {
            product: Product::Kubernetes,
            version: "1.34.4".into(),
            architecture: "amd64",
        };
        let flags = linker_flags(&release);
        assert!(flags.contains("-X k8s.io/component-base/version.gitVersion=v1.34.4 "), "{flags}");
        assert!(flags.contains("-X k8s.io/client-go/pkg/version.gitMinor=34 "), "{flags}");
    }
}
