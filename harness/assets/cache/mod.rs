//! Directories that are made once, verified whenever they are opened, and shared by processes.
//!
//! ```text
//! <root>/<kind>/<key>/           an entry: what was made, and
//!                    entry.json  what it holds: sizes, SHA-256, provenance
//!                    stamps.json sizes and times as they were when the hashes were last right
//! <root>/<kind>/.<key>.lock      held while the entry is being made; what has none is no entry
//! <root>/<kind>/.making~<key>~…  what is not an entry yet
//! ```
//!
//! # Guarantees
//! An entry is complete: it is written aside, synced, and renamed. It is made by one process at a
//! time. A file that was changed, truncated or lost since is found before the entry is handed out,
//! and the entry is made again.

mod manifest;
mod prune;

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::progress::{Progress, Task};
use super::provenance::Provenance;
use manifest::Manifest;
pub(crate) use manifest::hex;
pub use manifest::sha256_of;
pub use prune::{CachedEntry, EntryState, Prune};

/// What a process that waits for another one's entry lets pass between two looks at its lock.
const LOCK_PERIOD: Duration = Duration::from_millis(100);

/// What can go wrong with the cache itself.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// Neither a cache folder nor a home is known.
    #[error("no place for the cache: set OUTAGE_CACHE, XDG_CACHE_HOME or HOME to a folder")]
    NoPlace,
    /// A kind or key that can't be a file name.
    #[error("`{name}` can't name a cache entry: letters, digits, `.`, `_`, `-` and `+` only")]
    BadName {
        /// The name.
        name: String,
    },
    /// The tree holds something that can't be kept and compared.
    #[error("{} can't be kept in the cache: {why}", path.display())]
    Unsupported {
        /// Where it is.
        path: PathBuf,
        /// What it is.
        why: &'static str,
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
    /// What an entry says of itself could not be written.
    #[error("can't describe the entry {}", path.display())]
    Describe {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
    /// A task of the runtime ended early.
    #[error("the work on a cache entry was broken off")]
    BrokenOff(#[from] tokio::task::JoinError),
}

/// Gives an I/O error what was tried and where.
fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CacheError {
    let path = path.to_owned();
    move |source| CacheError::Io { action, path, source }
}

/// A folder of entries.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

/// A complete, verified entry. It is not pruned while this is held.
#[derive(Debug)]
pub struct Entry {
    dir: PathBuf,
    manifest: Manifest,
    /// A shared lock on `entry.json`.
    in_use: std::fs::File,
}

impl Entry {
    /// The directory that was made. Nothing in it may be changed.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Where its contents came from, as its maker said.
    pub fn provenance(&self) -> &[Provenance] {
        &self.manifest.provenance
    }

    /// SHA-256 over everything in it (names, contents, modes): the same tree, the same digest.
    pub fn digest(&self) -> &str {
        &self.manifest.digest
    }
}

impl Drop for Entry {
    /// Closing is not enough: a child of this process may have the file, too, until it is another
    /// program.
    fn drop(&mut self) {
        // Nobody is left whom it would help to know.
        let _ = self.in_use.unlock();
    }
}

impl Cache {
    /// The user's cache: `$OUTAGE_CACHE`, else `$XDG_CACHE_HOME/outage`, else `~/.cache/outage`.
    ///
    /// # Errors
    /// [`CacheError::NoPlace`] if none of the variables is set.
    pub fn from_env() -> Result<Self, CacheError> {
        let folder = |name: &str| {
            let value = PathBuf::from(std::env::var_os(name)?);
            // The XDG specification: a relative path is to be ignored.
            value.is_absolute().then_some(value)
        };
        let root = folder("OUTAGE_CACHE")
            .or_else(|| Some(folder("XDG_CACHE_HOME")?.join("outage")))
            .or_else(|| Some(folder("HOME")?.join(".cache/outage")))
            .ok_or(CacheError::NoPlace)?;
        Ok(Self::at(root))
    }

    /// The cache in this folder, which is made when the first entry is.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether there is an entry of this name; it is not verified.
    pub(super) fn has(&self, kind: &str, key: &str) -> bool {
        Slot::new(&self.root, kind, key).is_ok_and(|slot| slot.dir().join(manifest::ENTRY).exists())
    }

    /// The verified entry of this name, made by `make` if there is none, or none that is whole.
    ///
    /// `make` fills the empty directory that it is given and says where the contents came from.
    /// It runs in one process at a time; the others wait and then find the entry. When it fails,
    /// or the future is dropped, nothing of it stays.
    ///
    /// # Errors
    /// What `make` fails with, or a [`CacheError`].
    pub async fn entry<F, M, E>(
        &self,
        kind: &str,
        key: &str,
        progress: &Progress,
        make: F,
    ) -> Result<Entry, E>
    where
        F: FnOnce(PathBuf) -> M,
        M: Future<Output = Result<Vec<Provenance>, E>>,
        E: From<CacheError>,
    {
        let slot = Slot::new(&self.root, kind, key)?;
        if let Some(entry) = slot.open_unchanged().await? {
            return Ok(entry);
        }
        let lock = slot.lock(progress).await?;
        if let Some(entry) = slot.open_or_discard(progress).await? {
            return Ok(entry);
        }
        let aside = slot.aside()?;
        let provenance = make(aside.path().to_owned()).await?;
        let entry = slot.seal(aside, provenance).await?;
        drop(lock);
        Ok(entry)
    }
}

/// The place of one entry.
#[derive(Debug, Clone)]
struct Slot {
    folder: PathBuf,
    key: String,
}

impl Slot {
    fn new(root: &Path, kind: &str, key: &str) -> Result<Self, CacheError> {
        for name in [kind, key] {
            let fits = |c: char| c.is_ascii_alphanumeric() || "._-+".contains(c);
            if name.is_empty() || name.starts_with('.') || !name.chars().all(fits) {
                return Err(CacheError::BadName { name: name.to_owned() });
            }
        }
        Ok(Self { folder: root.join(kind), key: key.to_owned() })
    }

    fn dir(&self) -> PathBuf {
        self.folder.join(&self.key)
    }

    /// Held by who makes this entry or removes it. It stays.
    fn lock_file(&self) -> PathBuf {
        self.folder.join(format!(".{}.lock", self.key))
    }

    /// Whether this folder, if there is one, is an entry and not something that the cache did not
    /// make.
    fn is_made(&self) -> bool {
        self.lock_file().exists()
    }

    /// The entry, if every file looks as it did when its hash was last right.
    async fn open_unchanged(&self) -> Result<Option<Entry>, CacheError> {
        let dir = self.dir();
        tokio::task::spawn_blocking(move || {
            let Ok(in_use) = hold(&dir) else {
                return None;
            };
            let manifest = Manifest::read(&dir).ok()?;
            manifest.looks_unchanged(&dir).then(|| {
                manifest::touch(&dir);
                Entry { dir, manifest, in_use }
            })
        })
        .await
        .map_err(CacheError::from)
    }

    /// The entry, if every file's hash is right; one that is not whole is removed.
    async fn open_or_discard(&self, progress: &Progress) -> Result<Option<Entry>, CacheError> {
        let slot = self.clone();
        let progress = progress.clone();
        tokio::task::spawn_blocking(move || {
            slot.sweep()?;
            let dir = slot.dir();
            if !dir.exists() {
                return Ok(None);
            }
            let damage = match Manifest::read(&dir) {
                Ok(manifest) => match manifest.verify(&dir) {
                    Ok(()) => {
                        manifest.stamp(&dir)?;
                        return open(dir, manifest).map(Some);
                    }
                    Err(damage) => damage,
                },
                Err(damage) => damage,
            };
            progress.warning(format!("{} is damaged ({damage}): made again", dir.display()));
            slot.discard(&dir)?;
            Ok(None)
        })
        .await?
    }

    /// Waits until this process is the only one that makes this entry.
    async fn lock(&self, progress: &Progress) -> Result<std::fs::File, CacheError> {
        let path = self.lock_file();
        std::fs::create_dir_all(&self.folder).map_err(io_error("create", &self.folder))?;
        let file = std::fs::File::create(&path).map_err(io_error("create", &path))?;
        let mut waiting = None;
        // Waiting in `File::lock` could not be broken off by Ctrl-C.
        loop {
            match file.try_lock() {
                Ok(()) => {
                    if let Some(waiting) = waiting {
                        Task::finish(waiting);
                    }
                    return Ok(file);
                }
                Err(std::fs::TryLockError::WouldBlock) => {
                    waiting.get_or_insert_with(|| {
                        progress.task(format!("waiting for another process to make {}", self.key))
                    });
                    tokio::time::sleep(LOCK_PERIOD).await;
                }
                Err(std::fs::TryLockError::Error(source)) => {
                    return Err(io_error("lock", &path)(source));
                }
            }
        }
    }

    /// A directory to write in. Its name is new each time, so that a compiler that outlived its
    /// killed parent can't write into its successor's.
    fn aside(&self) -> Result<TempDir, CacheError> {
        tempfile::Builder::new()
            .prefix(&self.unfinished_prefix())
            .tempdir_in(&self.folder)
            .map_err(io_error("create a folder in", &self.folder))
    }

    fn unfinished_prefix(&self) -> String {
        format!(".making~{}~", self.key)
    }

    /// Removes what killed makers of this entry left. The lock must be held.
    fn sweep(&self) -> Result<(), CacheError> {
        let prefix = self.unfinished_prefix();
        for name in names_in(&self.folder)? {
            if name.starts_with(&prefix) {
                remove(&self.folder.join(name))?;
            }
        }
        Ok(())
    }

    /// Takes an entry out of sight, then away. The lock must be held.
    fn discard(&self, dir: &Path) -> Result<(), CacheError> {
        let grave = self.aside()?.keep();
        std::fs::rename(dir, grave.join("entry")).map_err(io_error("move", dir))?;
        remove(&grave)
    }

    /// Makes what was written aside an entry.
    async fn seal(&self, aside: TempDir, provenance: Vec<Provenance>) -> Result<Entry, CacheError> {
        let slot = self.clone();
        tokio::task::spawn_blocking(move || {
            make_readable(aside.path())?;
            let manifest = Manifest::of(aside.path(), provenance)?;
            manifest.write(aside.path())?;
            manifest.stamp(aside.path())?;
            sync_file_system(aside.path())?;
            let dir = slot.dir();
            // `keep` first: after the rename its destructor would look for a path that is gone.
            let written = aside.keep();
            std::fs::rename(&written, &dir).map_err(io_error("rename", &written))?;
            sync_file_system(&slot.folder)?;
            open(dir, manifest)
        })
        .await?
    }
}

fn open(dir: PathBuf, manifest: Manifest) -> Result<Entry, CacheError> {
    let in_use = hold(&dir).map_err(io_error("hold", &dir))?;
    Ok(Entry { dir, manifest, in_use })
}

/// Marks an entry as in use until the file is unlocked.
fn hold(dir: &Path) -> io::Result<std::fs::File> {
    let file = std::fs::File::open(dir.join(manifest::ENTRY))?;
    file.try_lock_shared()?;
    Ok(file)
}

/// A temporary directory is its owner's alone; what becomes an entry can be read like any program.
fn make_readable(dir: &Path) -> Result<(), CacheError> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755))
        .map_err(io_error("open up", dir))
}

/// One call for all files of a tree: thousands of single syncs take minutes on a slow disk.
fn sync_file_system(path: &Path) -> Result<(), CacheError> {
    let dir = std::fs::File::open(path).map_err(io_error("open", path))?;
    nix::unistd::syncfs(&dir).map_err(|errno| io_error("sync", path)(errno.into()))
}

fn names_in(folder: &Path) -> Result<Vec<String>, CacheError> {
    let mut names = Vec::new();
    for item in folder.read_dir().map_err(io_error("read", folder))? {
        let item = item.map_err(io_error("read", folder))?;
        // What this cache makes has UTF-8 names; anything else is not its own.
        if let Ok(name) = item.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Removes a tree, also one with directories that forbid it.
fn remove(path: &Path) -> Result<(), CacheError> {
    remove_tree(path).map_err(io_error("remove", path))
}

/// Removes a tree, if it is there, also one with directories that forbid it, as overlay mounts leave.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;

    fn open_up(dir: &Path) -> io::Result<()> {
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))?;
        for item in dir.read_dir()? {
            let item = item?;
            if item.file_type()?.is_dir() {
                open_up(&item.path())?;
            }
        }
        Ok(())
    }

    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(path).and_then(|()| std::fs::remove_dir_all(path))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
