//! What an entry holds, and whether it still does.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{CacheError, Provenance, io_error};

pub(super) const ENTRY: &str = "entry.json";
const STAMPS: &str = "stamps.json";

/// Raised when entries written before can't be read any more.
const FORMAT: u32 = 1;

/// `entry.json`. Paths are relative to the entry.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    format: u32,
    pub(super) digest: String,
    pub(super) provenance: Vec<Provenance>,
    tree: Tree,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Tree {
    files: BTreeMap<String, Contents>,
    links: BTreeMap<String, PathBuf>,
    /// With their permission bits.
    directories: BTreeMap<String, u32>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Contents {
    size: u64,
    sha256: String,
    mode: u32,
}

/// How a file looked when its hash was last right, as in git's index.
///
/// The change time is left out: a hard link to the file, as each node's image store has it,
/// changes that and nothing else.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    size: u64,
    seconds: i64,
    nanoseconds: i64,
    inode: u64,
}

impl From<&Metadata> for Stamp {
    fn from(file: &Metadata) -> Self {
        Self {
            size: file.size(),
            seconds: file.mtime(),
            nanoseconds: file.mtime_nsec(),
            inode: file.ino(),
        }
    }
}

/// What is wrong with an entry, for a person.
pub(super) type Damage = String;

impl Manifest {
    /// Describes the tree below `dir`.
    pub(super) fn of(dir: &Path, provenance: Vec<Provenance>) -> Result<Self, CacheError> {
        let mut tree = Tree::default();
        let mut files = Vec::new();
        walk(dir, "", &mut tree, &mut files)?;
        tree.files = files
            .into_par_iter()
            .map(|(name, mode)| {
                let path = dir.join(&name);
                let (size, sha256) = hash(&path).map_err(io_error("read", &path))?;
                Ok((name, Contents { size, sha256, mode }))
            })
            .collect::<Result<_, CacheError>>()?;
        let text = serde_json::to_vec(&tree)
            .map_err(|source| CacheError::Describe { path: dir.join(ENTRY), source })?;
        Ok(Self { format: FORMAT, digest: hex(&Sha256::digest(text)), provenance, tree })
    }

    /// Reads `entry.json`.
    pub(super) fn read(dir: &Path) -> Result<Self, Damage> {
        let text = std::fs::read(dir.join(ENTRY)).map_err(|e| format!("{ENTRY}: {e}"))?;
        let manifest: Self = serde_json::from_slice(&text).map_err(|e| format!("{ENTRY}: {e}"))?;
        if manifest.format != FORMAT {
            return Err(format!("{ENTRY}: written by another version of outage"));
        }
        Ok(manifest)
    }

    pub(super) fn write(&self, dir: &Path) -> Result<(), CacheError> {
        write_json(&dir.join(ENTRY), self)
    }

    /// Notes how the files look now. Their hashes must have been right just before.
    pub(super) fn stamp(&self, dir: &Path) -> Result<(), CacheError> {
        let mut stamps = BTreeMap::new();
        for name in self.tree.files.keys() {
            let path = dir.join(name);
            let file = path.symlink_metadata().map_err(io_error("look at", &path))?;
            stamps.insert(name, Stamp::from(&file));
        }
        // Aside and renamed: another process may be reading the old ones.
        let aside = dir.join(".stamps.json.new");
        write_json(&aside, &stamps)?;
        std::fs::rename(&aside, dir.join(STAMPS)).map_err(io_error("rename", &aside))
    }

    /// Whether everything looks as it did when it was stamped; nothing is read but metadata.
    pub(super) fn looks_unchanged(&self, dir: &Path) -> bool {
        let stamps = std::fs::read(dir.join(STAMPS)).ok();
        let stamps: Option<BTreeMap<String, Stamp>> =
            stamps.and_then(|text| serde_json::from_slice(&text).ok());
        let Some(stamps) = stamps else { return false };
        self.skeleton(dir).is_ok()
            && self.tree.files.iter().all(|(name, contents)| {
                dir.join(name).symlink_metadata().is_ok_and(|file| {
                    file.is_file()
                        && permissions(&file) == contents.mode
                        && file.size() == contents.size
                        && stamps.get(name) == Some(&Stamp::from(&file))
                })
            })
    }

    /// Reads every file and compares it with its hash.
    pub(super) fn verify(&self, dir: &Path) -> Result<(), Damage> {
        self.skeleton(dir)?;
        self.tree.files.par_iter().try_for_each(|(name, contents)| {
            let path = dir.join(name);
            let file = path.symlink_metadata().map_err(|e| format!("{name}: {e}"))?;
            if !file.is_file() || permissions(&file) != contents.mode {
                return Err(format!("{name}: not the file that it was"));
            }
            if file.size() != contents.size {
                let (is, was) = (file.size(), contents.size);
                return Err(format!("{name}: {is} bytes long instead of {was}"));
            }
            let (_, sha256) = hash(&path).map_err(|e| format!("{name}: {e}"))?;
            if sha256 == contents.sha256 {
                Ok(())
            } else {
                Err(format!("{name}: its contents changed"))
            }
        })
    }

    /// Compares directories and links.
    fn skeleton(&self, dir: &Path) -> Result<(), Damage> {
        for (name, mode) in &self.tree.directories {
            let there = dir.join(name).symlink_metadata();
            if !there.is_ok_and(|d| d.is_dir() && permissions(&d) == *mode) {
                return Err(format!("{name}: not the directory that it was"));
            }
        }
        for (name, target) in &self.tree.links {
            if !std::fs::read_link(dir.join(name)).is_ok_and(|t| t == *target) {
                return Err(format!("{name}: not the link that it was"));
            }
        }
        Ok(())
    }

    /// Bytes of all files.
    pub(super) fn size(&self) -> u64 {
        self.tree.files.values().map(|c| c.size).sum()
    }
}

/// Notes that the entry was used.
#[expect(clippy::disallowed_methods, reason = "the time of a file, not a duration")]
pub(super) fn touch(dir: &Path) {
    // Only pruning looks at it: a cache that can only be read is as good.
    if let Ok(file) = File::options().append(true).open(dir.join(STAMPS)) {
        let _ = file.set_modified(SystemTime::now());
    }
}

/// When the entry was last used.
pub(super) fn last_used(dir: &Path) -> Option<SystemTime> {
    dir.join(STAMPS).metadata().and_then(|f| f.modified()).ok()
}

fn permissions(file: &Metadata) -> u32 {
    file.permissions().mode() & 0o7777
}

/// Collects everything below `dir` but the entry's own two files.
fn walk(
    dir: &Path,
    prefix: &str,
    tree: &mut Tree,
    files: &mut Vec<(String, u32)>,
) -> Result<(), CacheError> {
    for item in dir.read_dir().map_err(io_error("read", dir))? {
        let item = item.map_err(io_error("read", dir))?;
        let path = item.path();
        let unsupported = |why| CacheError::Unsupported { path: path.clone(), why };
        let name = item.file_name().into_string();
        let name = format!("{prefix}{}", name.map_err(|_| unsupported("its name is not UTF-8"))?);
        let about = path.symlink_metadata().map_err(io_error("look at", &path))?;
        if about.is_dir() {
            walk(&path, &format!("{name}/"), tree, files)?;
            tree.directories.insert(name, permissions(&about));
        } else if about.is_symlink() {
            let target = std::fs::read_link(&path).map_err(io_error("read", &path))?;
            tree.links.insert(name, target);
        } else if about.is_file() {
            files.push((name, permissions(&about)));
        } else {
            return Err(unsupported("it is neither a file, a directory nor a link"));
        }
    }
    Ok(())
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), CacheError> {
    let text = serde_json::to_vec(value)
        .map_err(|source| CacheError::Describe { path: path.to_owned(), source })?;
    std::fs::write(path, text).map_err(io_error("write", path))
}

fn hash(path: &Path) -> std::io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 17];
    let mut size = 0;
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok((size, hex(&hasher.finalize())));
        }
        hasher.update(&buffer[..n]);
        size += n as u64;
    }
}

/// SHA-256 of a file, in lower-case hexadecimal.
///
/// # Errors
/// [`CacheError::Io`] if it can't be read.
pub fn sha256_of(path: &Path) -> Result<String, CacheError> {
    hash(path).map(|(_, sha256)| sha256).map_err(io_error("read", path))
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
