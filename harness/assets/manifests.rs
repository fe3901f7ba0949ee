//! Upstream's own manifests of what is installed in a cluster.
//!
//! They come with the Go module of their release, whose contents Go verifies against the checksum
//! database. metrics-server also publishes one rendered file, but no checksum of it.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::build::Go;
use super::cache::{Cache, Entry, hex};
use super::error::{AssetError, Unavailable, io_error, with_causes};
use super::progress::Progress;
use super::provenance::{Origin, Provenance};
use super::release::Release;
use super::version::METRICS_SERVER;

/// The kind of cache entry.
const KIND: &str = "manifests";

/// What they are called in a folder that the user names, and in reports.
pub(super) const NAME: &str = "metrics-server-manifests";

/// A folder of manifests, and where they came from.
#[derive(Debug)]
pub(super) struct Manifests {
    path: PathBuf,
    provenance: Vec<Provenance>,
    /// Held so that it is not pruned.
    _entry: Option<Entry>,
}

impl Manifests {
    /// The folder `manifests` of metrics-server's release: from the folder that the user named, the
    /// cache, or the Go module.
    pub(super) async fn metrics_server(
        cache: &Cache,
        folder: Option<&Path>,
        go: &Go,
        progress: &Progress,
    ) -> Result<Self, AssetError> {
        if let Some(path) = folder.map(|folder| folder.join(NAME)).filter(|path| path.is_dir()) {
            let origin = Origin::Folder { path: path.clone() };
            let provenance = vec![provenance(&files(&path)?, origin)?];
            return Ok(Self { path, provenance, _entry: None });
        }
        let release = Release::metrics_server()?;
        let make = |dir: PathBuf| async move {
            let task = progress.task(format!("manifests of {}", release.title()));
            let module = go.module(&release, &dir).await.map_err(|error| Unavailable {
                what: format!("manifests of {}", release.title()),
                tried: vec![("Go module proxy", with_causes(&error))],
                mend: vec![
                    "install Go (https://go.dev/dl or your distribution's `golang`) and let it \
                     reach a module proxy (GOPROXY)"
                        .into(),
                    format!(
                        "put the folder `manifests` of metrics-server's repository at v{} as \
                         `{NAME}` into the folder that OUTAGE_ASSETS_DIR names",
                        release.version
                    ),
                ],
            })?;
            let from = module.dir.join("manifests");
            let files = files(&from)?;
            for file in &files {
                let to = dir.join(file.strip_prefix(&from).unwrap_or(file));
                let parent = to.parent().unwrap_or(&dir);
                std::fs::create_dir_all(parent).map_err(io_error("create", parent))?;
                // The module cache is read-only, and a copy of a file has its permissions.
                let text = std::fs::read(file).map_err(io_error("read", file))?;
                std::fs::write(&to, text).map_err(io_error("write", &to))?;
            }
            task.finish();
            let origin = Origin::Module { module: module.name };
            Ok::<_, AssetError>(vec![provenance(&files, origin)?])
        };
        let key = format!("metrics-server-{METRICS_SERVER}");
        let entry = cache.entry(KIND, &key, progress, make).await?;
        let (path, provenance) = (entry.path().to_owned(), entry.provenance().to_vec());
        Ok(Self { path, provenance, _entry: Some(entry) })
    }

    /// The folder.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn provenance(&self) -> &[Provenance] {
        &self.provenance
    }
}

/// Every file below a folder, in order.
fn files(folder: &Path) -> Result<Vec<PathBuf>, AssetError> {
    let mut files = Vec::new();
    for item in folder.read_dir().map_err(io_error("read", folder))? {
        let path = item.map_err(io_error("read", folder))?.path();
        if path.is_dir() {
            files.extend(self::files(&path)?);
        } else {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// One record for all of them: the hash is that of their contents, one after another.
fn provenance(files: &[PathBuf], origin: Origin) -> Result<Provenance, AssetError> {
    let mut hasher = Sha256::new();
    for file in files {
        hasher.update(std::fs::read(file).map_err(io_error("read", file))?);
    }
    Ok(Provenance {
        name: NAME.into(),
        version: METRICS_SERVER.into(),
        sha256: hex(&hasher.finalize()),
        origin,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A module like metrics-server's, and a `go` that says where it is. Written by another process:
    /// a program that this one has open for writing can't be run.
    fn module(dir: &Path) -> Go {
        let script = r#"
mkdir -p "$1/module/manifests/base" && echo kind: Deployment > "$1/module/manifests/base/deployment.yaml"
chmod 444 "$1/module/manifests/base/deployment.yaml"
printf '#!/bin/sh\necho "{\"GoMod\": \"x\", \"Dir\": \"%s\"}"\n' "$1/module" > "$1/go" && chmod 755 "$1/go"
"#;
        let mut made = std::process::Command::new("sh");
        made.args(["-c", script, "sh"]).arg(dir);
        assert!(made.status().expect("a shell").success());
        Go::new(dir.join("go"))
    }

    #[tokio::test]
    async fn they_are_taken_from_the_module_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let cache = Cache::at(dir.path().join("cache"));
        let (go, progress) = (module(dir.path()), Progress::silent());
        let got = Manifests::metrics_server(&cache, None, &go, &progress).await.expect("got");
        let text = std::fs::read_to_string(got.path().join("base/deployment.yaml"));
        assert_eq!(text.expect("a file"), "kind: Deployment\n");
        let [provenance] = got.provenance() else { panic!("{:?}", got.provenance()) };
        let module = format!("sigs.k8s.io/metrics-server@v{METRICS_SERVER}");
        assert_eq!(provenance.origin, Origin::Module { module });

        let nowhere = Go::new("/nowhere/go".into());
        let again = Manifests::metrics_server(&cache, None, &nowhere, &progress).await;
        assert_eq!(again.expect("cached").path(), got.path());
        let empty = Cache::at(dir.path().join("other"));
        let why = Manifests::metrics_server(&empty, None, &nowhere, &progress).await.expect_err("");
        let why = why.to_string();
        assert!(why.contains("/nowhere/go") && why.contains("OUTAGE_ASSETS_DIR"), "{why}");
    }

    #[tokio::test]
    async fn a_named_folder_comes_first() {
        let dir = tempfile::tempdir().expect("a folder");
        let named = dir.path().join(NAME);
        std::fs::create_dir_all(named.join("base")).expect("created");
        std::fs::write(named.join("base/deployment.yaml"), "kind: Pod").expect("written");
        let (cache, go) = (Cache::at(dir.path().join("cache")), Go::new("/nowhere/go".into()));
        let progress = Progress::silent();
        let got = Manifests::metrics_server(&cache, Some(dir.path()), &go, &progress).await;
        let got = got.expect("got");
        assert_eq!(got.path(), named);
        assert_eq!(got.provenance()[0].origin, Origin::Folder { path: named });
    }
}
