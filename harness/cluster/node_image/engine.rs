//! A container engine, by its command line.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;

use crate::assets::AssetError;
use crate::cluster::ClusterError;

/// What one call of the engine may take, unless it is said.
const LIMIT: Duration = Duration::from_secs(60);

/// What loading an image may take; measured: half a minute on two cores, for a gigabyte.
const LOADING: Duration = Duration::from_mins(10);

/// The command line of a container engine: `docker`, `podman` or `nerdctl`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    program: String,
}

impl Engine {
    /// The one that kind uses: what `KIND_EXPERIMENTAL_PROVIDER` names, else docker.
    pub fn from_env() -> Self {
        let named = std::env::var("KIND_EXPERIMENTAL_PROVIDER").ok().filter(|n| !n.is_empty());
        Self { program: named.unwrap_or_else(|| "docker".into()) }
    }

    /// Docker, in which this program's own kind clusters are.
    pub fn docker() -> Self {
        Self { program: "docker".into() }
    }

    /// Its program's name.
    pub fn name(&self) -> &str {
        &self.program
    }

    /// Whether it answers.
    ///
    /// # Errors
    /// What it says, and what to do.
    pub async fn check(&self) -> Result<(), ClusterError> {
        let output = self.run(&["version"]).await?;
        if output.status.success() {
            return Ok(());
        }
        let why = String::from_utf8_lossy(&output.stderr);
        Err(ClusterError::new(format!(
            "{} does not answer: {}\nstart it, or on a machine without one: \
             eval \"$(.ci/docker start)\"",
            self.program,
            why.trim()
        )))
    }

    /// Whether this host is on the bridge of its containers, by which the nodes of clusters are reached.
    ///
    /// # Errors
    /// What this engine is instead, and what to do.
    pub async fn check_bridge(&self) -> Result<(), ClusterError> {
        let said = |output: Output| String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let security = said(self.run(&["info", "--format", "{{.SecurityOptions}}"]).await?);
        let gateway = "{{range .IPAM.Config}}{{.Gateway}} {{end}}";
        let gateway = said(self.run(&["network", "inspect", "--format", gateway, "bridge"]).await?);
        match away(&security, &gateway) {
            None => Ok(()),
            Some(why) => Err(ClusterError::new(format!(
                "{} can't serve: {why}; use one that runs on this host as root, or labs (--provider lab)",
                self.program
            ))),
        }
    }

    /// The id of an image, and one of its labels (empty without it); nothing: there is no such
    /// image.
    pub(super) async fn image(
        &self,
        reference: &str,
        label: &str,
    ) -> Result<Option<(String, String)>, ClusterError> {
        let format = format!("{{{{.Id}}}} {{{{index .Config.Labels \"{label}\"}}}}");
        let output = self.run(&["image", "inspect", "--format", &format, reference]).await?;
        if !output.status.success() {
            return Ok(None);
        }
        let said = String::from_utf8_lossy(&output.stdout);
        let (id, label) = said.trim().split_once(' ').unwrap_or((said.trim(), ""));
        Ok(Some((id.to_owned(), label.to_owned())))
    }

    /// Loads an archive that `pack` writes. It is killed when this future is dropped.
    pub(super) async fn load(
        &self,
        pack: impl FnOnce(File) -> Result<(), AssetError> + Send + 'static,
    ) -> Result<(), ClusterError> {
        let loaded = tokio::time::timeout(LOADING, self.load_all(pack));
        loaded.await.map_err(|_| self.late("load", LOADING)).flatten()
    }

    async fn load_all(
        &self,
        pack: impl FnOnce(File) -> Result<(), AssetError> + Send + 'static,
    ) -> Result<(), ClusterError> {
        let failed =
            |error: io::Error| ClusterError::caused(format!("run {} load", self.program), error);
        let mut child = Command::new(&self.program)
            .arg("load")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let Some(stdin) = child.stdin.take() else {
            return Err(failed(io::ErrorKind::BrokenPipe.into()));
        };
        let stdin = File::from(stdin.into_owned_fd().map_err(failed)?);
        let packed = tokio::task::spawn_blocking(move || pack(stdin));
        let (packed, output) = tokio::join!(packed, child.wait_with_output());
        let output = output.map_err(failed)?;
        if !output.status.success() {
            // Why the engine ended is more telling than that its pipe broke.
            let why = String::from_utf8_lossy(&output.stderr);
            return Err(ClusterError::new(format!("{} load: {}", self.program, why.trim())));
        }
        packed
            .map_err(|error| ClusterError::caused("pack the image", error))?
            .map_err(|error| ClusterError::caused("pack the image", error))
    }

    /// Removes an image that has no name any more, if nothing uses it.
    pub(super) async fn forget(&self, id: &str) {
        // If it can't be removed, it is only in the way.
        let _ = self.run(&["image", "rm", id]).await;
    }

    async fn run(&self, arguments: &[&str]) -> Result<Output, ClusterError> {
        let mut command = Command::new(&self.program);
        command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        tokio::time::timeout(LIMIT, command.output())
            .await
            .map_err(|_| self.late(&arguments.join(" "), LIMIT))?
            .map_err(|error| ClusterError::caused(format!("run {}", self.program), error))
    }

    fn late(&self, command: &str, limit: Duration) -> ClusterError {
        ClusterError::new(format!("{} {command} did not end within {limit:?}", self.program))
    }
}

/// Why an engine's containers can't be reached from this host, if that can be told: by its security
/// options, and the gateways of its bridge. An address can be bound where it is one's own.
fn away(security: &str, gateways: &str) -> Option<String> {
    if security.contains("name=rootless") {
        return Some("it runs without root, in a network of its own".into());
    }
    let mut gateways = gateways.split_whitespace().filter_map(|text| text.parse::<Ipv4Addr>().ok());
    let elsewhere = |gateway: &Ipv4Addr| {
        let bound = UdpSocket::bind((*gateway, 0));
        bound.is_err_and(|error| error.kind() == io::ErrorKind::AddrNotAvailable)
    };
    let gateway = gateways.find(elsewhere)?;
    Some(format!(
        "its bridge ({gateway}) is not on this host but in a virtual machine or container"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// An engine that has one image and no space. Written by another process: a program that this one
    /// has open for writing can't be run.
    fn engine(dir: &std::path::Path) -> Engine {
        let program = dir.join("docker");
        let script = r#"cat > "$0" <<'END' && chmod 755 "$0"
#!/bin/sh
case "$*" in
"image inspect"*" known:v1") echo "sha256:1234 abcd" ;;
"image inspect"*" foreign:v1") echo "sha256:5678 " ;;
load) head -c 10 >/dev/null; echo "no space left" >&2; exit 1 ;;
hang) exec sleep 600 ;;
version) echo "is the daemon running?" >&2; exit 1 ;;
*) exit 1 ;;
esac
END"#;
        let mut written = std::process::Command::new("sh");
        written.arg("-c").arg(script).arg(&program);
        assert!(written.status().expect("a shell").success());
        Engine { program: program.display().to_string() }
    }

    #[tokio::test]
    async fn an_image_is_known_by_its_id_and_label() {
        let dir = tempfile::tempdir().expect("a folder");
        let engine = engine(dir.path());
        let image = async |name| engine.image(name, "x").await.expect("asked");
        assert_eq!(image("known:v1").await, Some(("sha256:1234".into(), "abcd".into())));
        assert_eq!(image("foreign:v1").await, Some(("sha256:5678".into(), String::new())));
        assert_eq!(image("other:v1").await, None);
    }

    #[test]
    fn an_engine_whose_bridge_is_elsewhere_is_told() {
        assert_eq!(away("[name=seccomp,profile=builtin name=cgroupns]", "127.0.0.1 "), None);
        assert_eq!(away("[]", ""), None);
        let rootless = away("[name=seccomp,profile=builtin name=rootless]", "127.0.0.1");
        assert!(rootless.expect("refused").contains("without root"));
        // Of a range that is for documentation.
        let elsewhere = away("[name=cgroupns]", "192.0.2.1");
        assert!(elsewhere.expect("refused").contains("192.0.2.1"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_engine_that_hangs_is_given_up() {
        let dir = tempfile::tempdir().expect("a folder");
        let error = engine(dir.path()).run(&["hang"]).await.expect_err("no answer");
        assert!(error.to_string().ends_with("docker hang did not end within 60s"), "{error}");
    }

    #[tokio::test]
    async fn why_an_engine_took_no_archive_is_said_in_its_words() {
        let dir = tempfile::tempdir().expect("a folder");
        let pack = |mut out: File| {
            let written = out.write_all(&vec![0; 1 << 20]);
            written.map_err(|source| AssetError::Io { action: "write", path: "x".into(), source })
        };
        let error = engine(dir.path()).load(pack).await.expect_err("no space");
        assert!(error.to_string().contains("no space left"), "{error}");
        let error = engine(dir.path()).check().await.expect_err("no daemon");
        assert!(error.to_string().contains(".ci/docker start"), "{error}");
    }
}
