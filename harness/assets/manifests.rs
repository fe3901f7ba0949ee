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
