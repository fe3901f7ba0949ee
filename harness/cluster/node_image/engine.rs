//! A container engine, by its command line.

use std::fs::File;
use std::io;
use std::process::{Output, Stdio};

use tokio::process::Command;

use crate::assets::AssetError;
use crate::cluster::ClusterError;

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
        command
            .output()
            .await
            .map_err(|error| ClusterError::caused(format!("run {}", self.program), error))
    }
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
