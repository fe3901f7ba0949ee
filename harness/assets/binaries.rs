//! The binaries of releases, from the first source that has them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use super::build::Go;
use super::cache::{Cache, Entry, sha256_of};
use super::download::{Downloads, Sites};
use super::error::{AssetError, Unavailable, checked, io_error, with_causes};
use super::module_files::ModuleFiles;
use super::progress::Progress;
use super::provenance::{Origin, Provenance};
use super::release::{Binary, Product, Release};

/// Where binaries may come from, in the order in which they are looked for.
///
/// First the named folder, then the cache, the sites, the user's `go`.
#[derive(Debug, Clone)]
pub struct Sources {
    /// A folder that the user named, with files such as `kubelet`.
    pub folder: Option<PathBuf>,
    /// Where official releases are published.
    pub sites: Sites,
    /// The Go command that builds what can't be downloaded.
    pub go: PathBuf,
}

impl Sources {
    /// The usual ones, with `$OUTAGE_ASSETS_DIR` as the named folder if it is set.
    pub fn from_env() -> Self {
        let folder = std::env::var_os("OUTAGE_ASSETS_DIR").filter(|dir| !dir.is_empty());
        Self { folder: folder.map(PathBuf::from), sites: Sites::default(), go: "go".into() }
    }
}

/// Binaries on disk, and where each came from.
#[derive(Debug, Default)]
pub struct Binaries {
    paths: BTreeMap<Binary, PathBuf>,
    provenance: Vec<Provenance>,
    /// Held so that they are not pruned.
    entries: Vec<Entry>,
}

impl Binaries {
    /// Where a binary is.
    ///
    /// # Errors
    /// [`AssetError::NotWanted`] for one of a release that was not asked for.
    pub fn path(&self, binary: Binary) -> Result<&Path, AssetError> {
        let path = self.paths.get(&binary).map(PathBuf::as_path);
        path.ok_or(AssetError::NotWanted { name: binary.name() })
    }

    /// Each of them, and where it is.
    pub fn iter(&self) -> impl Iterator<Item = (Binary, &Path)> {
        self.paths.iter().map(|(binary, path)| (*binary, path.as_path()))
    }

    /// Where each came from.
    pub fn provenance(&self) -> &[Provenance] {
        &self.provenance
    }

    pub(super) fn extend(&mut self, other: Self) {
        self.paths.extend(other.paths);
        self.provenance.extend(other.provenance);
        self.entries.extend(other.entries);
    }
}

/// Gets releases.
#[derive(Debug)]
pub(super) struct Finder {
    cache: Cache,
    folder: Option<PathBuf>,
    downloads: Downloads,
    go: Go,
    progress: Progress,
}

impl Finder {
    /// Upstream's manifests of metrics-server.
    pub(super) async fn manifests(&self) -> Result<ModuleFiles, AssetError> {
        let folder = self.folder.as_deref();
        ModuleFiles::metrics_server(&self.cache, folder, &self.go, &self.progress).await
    }

    /// What kind puts into its images.
    pub(super) async fn kind_files(&self) -> Result<ModuleFiles, AssetError> {
        let folder = self.folder.as_deref();
        ModuleFiles::kind(&self.cache, folder, &self.go, &self.progress).await
    }

    /// What a kind cluster is made of, can only be had by `go`, and is neither named nor cached.
    pub(super) fn only_by_go(&self) -> Result<Vec<&'static str>, AssetError> {
        let folder = self.folder.as_deref();
        let mut missing = ModuleFiles::missing(&self.cache, folder)?;
        let release = Release::metrics_server()?;
        if !self.cache.has(release.kind(), &release.key()) {
            let named = |name: &str| folder.is_some_and(|folder| folder.join(name).is_file());
            missing.extend(release.binaries().map(Binary::name).filter(|name| !named(name)));
        }
        Ok(missing)
    }

    pub(super) fn new(
        cache: Cache,
        sources: Sources,
        progress: Progress,
    ) -> Result<Self, AssetError> {
        Ok(Self {
            cache,
            folder: sources.folder,
            downloads: Downloads::new(sources.sites)?,
            go: Go::new(sources.go),
            progress,
        })
    }

    /// The binaries of one release.
    pub(super) async fn find(&self, release: &Release) -> Result<Binaries, AssetError> {
        let mut found = Binaries::default();
        for binary in release.binaries() {
            if let Some((path, provenance)) = self.in_folder(binary).await? {
                found.paths.insert(binary, path);
                found.provenance.push(provenance);
            }
        }
        if release.binaries().all(|binary| found.paths.contains_key(&binary)) {
            return Ok(found);
        }
        let make = |dir: PathBuf| async move { self.make(release, &dir).await };
        let kind = release.kind();
        let entry = self.cache.entry(kind, &release.key(), &self.progress, make).await?;
        for (binary, provenance) in release.binaries().zip(entry.provenance()) {
            if let Slot::Vacant(slot) = found.paths.entry(binary) {
                slot.insert(entry.path().join(binary.name()));
                found.provenance.push(provenance.clone());
            }
        }
        found.entries.push(entry);
        Ok(found)
    }

    async fn in_folder(&self, binary: Binary) -> Result<Option<(PathBuf, Provenance)>, AssetError> {
        let Some(folder) = &self.folder else {
            return Ok(None);
        };
        let path = folder.join(binary.name());
        if !path.is_file() {
            return Ok(None);
        }
        let path = path.canonicalize().map_err(io_error("find", &path))?;
        let version = reported_version(binary, &path).await?;
        let hashed = path.clone();
        let provenance = Provenance {
            name: binary.name().into(),
            version,
            sha256: tokio::task::spawn_blocking(move || sha256_of(&hashed)).await??,
            origin: Origin::Folder { path: path.clone() },
        };
        Ok(Some((path, provenance)))
    }

    /// Fills `dir` from the first source that can.
    async fn make(&self, release: &Release, dir: &Path) -> Result<Vec<Provenance>, AssetError> {
        let mut tried = Vec::new();
        if let Some(folder) = &self.folder {
            let missing = release.binaries().find(|b| !folder.join(b.name()).is_file());
            let missing = missing.map_or("", Binary::name);
            tried.push(("named folder", format!("{} has no {missing}", folder.display())));
        }
        match self.downloads.release(release, dir, &self.progress).await {
            Ok(urls) => {
                let origins = urls.into_iter().map(|url| Origin::Download { url });
                return describe(release, dir, origins).await;
            }
            Err(error) => {
                let why = with_causes(&error);
                let title = release.title();
                match error {
                    AssetError::Checksum { .. } | AssetError::NoChecksum { .. } => {
                        self.progress.warning(format!("{title}: {why}"));
                    }
                    _ => self.progress.notice(format!("{title}: {why}; building it instead")),
                }
                tried.push(("official download", why));
            }
        }
        clear(dir)?;
        match self.go.build(release, dir, &self.progress).await {
            Ok(toolchain) => {
                let origins = release.commands().iter().map(|command| Origin::Built {
                    module: format!("{}@v{}", command.module, release.version),
                    toolchain: toolchain.clone(),
                });
                describe(release, dir, origins).await
            }
            Err(error) => {
                tried.push(("build from the Go module proxy", with_causes(&error)));
                let what = release.title();
                let mend = mend(release);
                Err(Unavailable { what, tried, mend }.into())
            }
        }
    }
}

/// What each binary of a release is, in the release's order.
async fn describe(
    release: &Release,
    dir: &Path,
    origins: impl Iterator<Item = Origin>,
) -> Result<Vec<Provenance>, AssetError> {
    let mut all = Vec::new();
    for (binary, origin) in release.binaries().zip(origins) {
        let path = dir.join(binary.name());
        all.push(Provenance {
            name: binary.name().into(),
            version: release.version.clone(),
            sha256: tokio::task::spawn_blocking(move || sha256_of(&path)).await??,
            origin,
        });
    }
    Ok(all)
}

fn mend(release: &Release) -> Vec<String> {
    let names: Vec<_> = release.binaries().map(Binary::name).collect();
    let mut ways = vec![
        "install Go (https://go.dev/dl or your distribution's `golang`) and let it reach a module \
         proxy (GOPROXY)"
            .to_owned(),
        format!("name a folder that holds {} by OUTAGE_ASSETS_DIR", names.join(", ")),
    ];
    match release.product {
        Product::Kubernetes => ways.insert(0, "let this machine reach https://dl.k8s.io".into()),
        Product::Etcd | Product::Coredns | Product::CriTools | Product::Kind => {
            ways.insert(0, "let this machine reach https://github.com".into());
        }
        Product::MetricsServer => {}
    }
    ways
}

/// Empties a directory of what a source that failed left.
fn clear(dir: &Path) -> Result<(), AssetError> {
    std::fs::remove_dir_all(dir).map_err(io_error("clear", dir))?;
    std::fs::create_dir(dir).map_err(io_error("create", dir))
}

/// What a binary says its version is.
async fn reported_version(binary: Binary, path: &Path) -> Result<String, AssetError> {
    let mut command = Command::new(path);
    command.args(binary.version_arguments()).stdin(Stdio::null()).kill_on_drop(true);
    let output = command
        .output()
        .await
        .map_err(|source| AssetError::Spawn { command: path.display().to_string(), source })?;
    let output = checked(&path.display().to_string(), output)?;
    let said = String::from_utf8_lossy(&output.stdout);
    version_in(&said).ok_or_else(|| AssetError::NotUnderstood {
        what: format!("what {} says of its version", path.display()),
        why: format!("no version is in `{}`", said.trim()),
    })
}

/// The first thing in a text that has the form of a version, without its `v`.
fn version_in(text: &str) -> Option<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+');
    let words = text.split(|c: char| !is_part(c));
    words
        .filter_map(|word| word.get(word.find(|c: char| c.is_ascii_digit())?..))
        .find(|word| {
            let numbers =
                word.splitn(3, '.').filter(|n| n.starts_with(|c: char| c.is_ascii_digit()));
            numbers.count() == 3
        })
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_binaries_say() {
        for (said, version) in [
            ("Kubernetes v1.34.4\n", "1.34.4"),
            ("Client Version: v1.34.4\nKustomize Version: v5.7.1\n", "1.34.4"),
            ("version.Info{Major:\"1\", Minor:\"25\", GitVersion:\"v1.25.4\"}", "1.25.4"),
            ("etcd Version: 3.6.5\nGit SHA: Not provided\n", "3.6.5"),
            ("CoreDNS-1.12.1\nlinux/amd64, go1.26.8, \n", "1.12.1"),
            ("kind v0.31.0 go1.26.8 linux/amd64\n", "0.31.0"),
            ("v1.34.4-dirty", "1.34.4-dirty"),
        ] {
            assert_eq!(version_in(said).as_deref(), Some(version));
        }
        assert_eq!(version_in("version unknown"), None);
    }
}
