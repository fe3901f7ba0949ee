//! Files of a release that are no binaries: manifests of what is installed in a cluster, what kind
//! puts into its node images.
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

/// The kind of cache entry.
const KIND: &str = "manifests";

/// What they are called in a folder that the user names, and in reports.
pub(super) const METRICS_SERVER_MANIFESTS: &str = "metrics-server-manifests";
pub(super) const KIND_FILES: &str = "kind-files";

/// Which files of which module.
struct Wanted {
    name: &'static str,
    release: Release,
    /// Folders of the module, and what they are called here; without a name: the folder itself.
    folders: &'static [(&'static str, &'static str)],
}

/// A folder of files, and where they came from.
#[derive(Debug)]
pub(super) struct ModuleFiles {
    path: PathBuf,
    provenance: Vec<Provenance>,
    /// Held so that it is not pruned.
    _entry: Option<Entry>,
}

impl ModuleFiles {
    /// The folder `manifests` of metrics-server's release.
    pub(super) async fn metrics_server(
        cache: &Cache,
        folder: Option<&Path>,
        go: &Go,
        progress: &Progress,
    ) -> Result<Self, AssetError> {
        Wanted::metrics_server()?.fetch(cache, folder, go, progress).await
    }

    /// What kind puts into its images: `base` is laid over a node's root, `haproxy` has the load
    /// balancer's first configuration, `loadbalancer/const.go` the name of its image.
    pub(super) async fn kind(
        cache: &Cache,
        folder: Option<&Path>,
        go: &Go,
        progress: &Progress,
    ) -> Result<Self, AssetError> {
        Wanted::kind()?.fetch(cache, folder, go, progress).await
    }

    /// The names of those that are neither in the folder that the user named nor in the cache.
    pub(super) fn missing(
        cache: &Cache,
        folder: Option<&Path>,
    ) -> Result<Vec<&'static str>, AssetError> {
        let all = [Wanted::metrics_server()?, Wanted::kind()?].into_iter();
        let missing =
            all.filter(|wanted| wanted.named(folder).is_none() && !cache.has(KIND, &wanted.key()));
        Ok(missing.map(|wanted| wanted.name).collect())
    }

    /// The folder.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn provenance(&self) -> &[Provenance] {
        &self.provenance
    }
}

impl Wanted {
    fn metrics_server() -> Result<Self, AssetError> {
        Ok(Self {
            name: METRICS_SERVER_MANIFESTS,
            release: Release::metrics_server()?,
            folders: &[("manifests", "")],
        })
    }

    fn kind() -> Result<Self, AssetError> {
        Ok(Self {
            name: KIND_FILES,
            release: Release::of_kind()?,
            folders: &[
                ("images/base/files", "base"),
                ("images/haproxy", "haproxy"),
                ("pkg/cluster/internal/loadbalancer", "loadbalancer"),
            ],
        })
    }

    /// Where they are in the folder that the user named.
    fn named(&self, folder: Option<&Path>) -> Option<PathBuf> {
        folder.map(|folder| folder.join(self.name)).filter(|path| path.is_dir())
    }

    fn key(&self) -> String {
        format!("{}-{}", self.release.kind(), self.release.version)
    }

    /// From the folder that the user named, the cache, or the Go module.
    async fn fetch(
        self,
        cache: &Cache,
        folder: Option<&Path>,
        go: &Go,
        progress: &Progress,
    ) -> Result<ModuleFiles, AssetError> {
        if let Some(path) = self.named(folder) {
            let origin = Origin::Folder { path: path.clone() };
            let provenance = vec![self.provenance(&files(&path)?, origin)?];
            return Ok(ModuleFiles { path, provenance, _entry: None });
        }
        let key = self.key();
        let make = |dir: PathBuf| async move { self.make(&dir, go, progress).await };
        let entry = cache.entry(KIND, &key, progress, make).await?;
        let (path, provenance) = (entry.path().to_owned(), entry.provenance().to_vec());
        Ok(ModuleFiles { path, provenance, _entry: Some(entry) })
    }

    async fn make(
        &self,
        dir: &Path,
        go: &Go,
        progress: &Progress,
    ) -> Result<Vec<Provenance>, AssetError> {
        let task = progress.task(format!("files of {}", self.release.title()));
        let module = go.module(&self.release, dir).await;
        let module = module.map_err(|error| self.unavailable(&error))?;
        let mut all = Vec::new();
        for (folder, name) in self.folders {
            let from = module.dir.join(folder);
            let files = files(&from)?;
            for file in &files {
                let to = dir.join(name).join(file.strip_prefix(&from).unwrap_or(file));
                let parent = to.parent().unwrap_or(dir);
                std::fs::create_dir_all(parent).map_err(io_error("create", parent))?;
                // The module cache is read-only, and a copy of a file has its permissions.
                let text = std::fs::read(file).map_err(io_error("read", file))?;
                std::fs::write(&to, text).map_err(io_error("write", &to))?;
            }
            all.extend(files);
        }
        task.finish();
        Ok(vec![self.provenance(&all, Origin::Module { module: module.name })?])
    }

    fn unavailable(&self, error: &AssetError) -> Unavailable {
        let folders = self.folders.iter().map(|(folder, name)| match *name {
            "" => format!("`{folder}`"),
            name => format!("`{folder}` (as `{name}`)"),
        });
        let folders: Vec<_> = folders.collect();
        Unavailable {
            what: format!("files of {}", self.release.title()),
            tried: vec![("Go module proxy", with_causes(error))],
            mend: vec![
                "install Go (https://go.dev/dl or your distribution's `golang`) and let it reach \
                 a module proxy (GOPROXY)"
                    .into(),
                format!(
                    "make a folder `{}` in the folder that OUTAGE_ASSETS_DIR names, of {} in the \
                     repository of {} at v{}",
                    self.name,
                    folders.join(", "),
                    self.release.kind(),
                    self.release.version
                ),
            ],
        }
    }

    /// One record for all of them: the hash is that of their contents, one after another.
    fn provenance(&self, files: &[PathBuf], origin: Origin) -> Result<Provenance, AssetError> {
        let mut hasher = Sha256::new();
        for file in files {
            hasher.update(std::fs::read(file).map_err(io_error("read", file))?);
        }
        Ok(Provenance {
            name: self.name.into(),
            version: self.release.version.clone(),
            sha256: hex(&hasher.finalize()),
            origin,
        })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assets::METRICS_SERVER;

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
        let got = ModuleFiles::metrics_server(&cache, None, &go, &progress).await.expect("got");
        let text = std::fs::read_to_string(got.path().join("base/deployment.yaml"));
        assert_eq!(text.expect("a file"), "kind: Deployment\n");
        let [provenance] = got.provenance() else { panic!("{:?}", got.provenance()) };
        let module = format!("sigs.k8s.io/metrics-server@v{METRICS_SERVER}");
        assert_eq!(provenance.origin, Origin::Module { module });

        let nowhere = Go::new("/nowhere/go".into());
        let again = ModuleFiles::metrics_server(&cache, None, &nowhere, &progress).await;
        assert_eq!(again.expect("cached").path(), got.path());
        let empty = Cache::at(dir.path().join("other"));
        let why =
            ModuleFiles::metrics_server(&empty, None, &nowhere, &progress).await.expect_err("");
        let why = why.to_string();
        assert!(why.contains("/nowhere/go") && why.contains("OUTAGE_ASSETS_DIR"), "{why}");
    }

    #[tokio::test]
    async fn each_folder_of_a_module_gets_its_name() {
        let dir = tempfile::tempdir().expect("a folder");
        for file in ["images/base/files/kind/bin/a", "images/haproxy/haproxy.cfg"] {
            let file = dir.path().join("module").join(file);
            std::fs::create_dir_all(file.parent().expect("a folder")).expect("created");
            std::fs::write(file, "x").expect("written");
        }
        let constants = dir.path().join("module/pkg/cluster/internal/loadbalancer/const.go");
        std::fs::create_dir_all(constants.parent().expect("a folder")).expect("created");
        std::fs::write(constants, "const Image = \"haproxy:v1\"\n").expect("written");
        let (go, cache) = (module(dir.path()), Cache::at(dir.path().join("cache")));
        let got = ModuleFiles::kind(&cache, None, &go, &Progress::silent()).await.expect("got");
        for file in ["base/kind/bin/a", "haproxy/haproxy.cfg", "loadbalancer/const.go"] {
            assert!(got.path().join(file).is_file(), "{file}");
        }
        assert_eq!(got.provenance()[0].name, KIND_FILES);
    }

    #[tokio::test]
    async fn a_named_folder_comes_first() {
        let dir = tempfile::tempdir().expect("a folder");
        let named = dir.path().join(METRICS_SERVER_MANIFESTS);
        std::fs::create_dir_all(named.join("base")).expect("created");
        std::fs::write(named.join("base/deployment.yaml"), "kind: Pod").expect("written");
        let (cache, go) = (Cache::at(dir.path().join("cache")), Go::new("/nowhere/go".into()));
        let progress = Progress::silent();
        let got = ModuleFiles::metrics_server(&cache, Some(dir.path()), &go, &progress).await;
        let got = got.expect("got");
        assert_eq!(got.path(), named);
        assert_eq!(got.provenance()[0].origin, Origin::Folder { path: named });
    }
}
