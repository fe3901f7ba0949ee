//! What the cache holds, and what of it can go.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::manifest::{self, Manifest};
use super::{Cache, CacheError, Provenance, Slot, names_in, remove};

/// One entry of the cache, as `outage assets list` shows it.
#[derive(Debug, Clone)]
pub struct CachedEntry {
    /// What it is, such as `kubernetes`.
    pub kind: String,
    /// Which one, such as `1.34.4-amd64`.
    pub key: String,
    /// Where it is.
    pub path: PathBuf,
    /// Bytes of all its files; 0 for one that can't be read.
    pub size: u64,
    /// Where its contents came from.
    pub provenance: Vec<Provenance>,
    /// When it was last opened.
    pub last_used: Option<SystemTime>,
    /// Whether it can be used.
    pub state: EntryState,
}

/// Whether an entry can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryState {
    /// Every file is as it was made.
    Complete,
    /// It will be made again when it is wanted; why.
    Damaged(String),
    /// Being made now, or left by a process that was killed.
    Unfinished,
}

/// Which entries are pruned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prune {
    /// Those that were not used for so long, and whatever is damaged or was left unfinished.
    UnusedFor(Duration),
    /// All.
    All,
}

impl Cache {
    /// Every entry, verified. Reads only metadata of files that did not change.
    ///
    /// An entry is what has a maker's lock beside it: other rooms keep folders of their own below
    /// the cache's, and those are none of its business.
    ///
    /// # Errors
    /// [`CacheError::Io`] if the cache's folders can't be read.
    pub fn list(&self) -> Result<Vec<CachedEntry>, CacheError> {
        let mut entries = Vec::new();
        if !self.root().exists() {
            return Ok(entries);
        }
        for kind in names_in(self.root())? {
            let folder = self.root().join(&kind);
            if !folder.is_dir() {
                continue;
            }
            for name in names_in(&folder)? {
                let path = folder.join(&name);
                if let Some(rest) = name.strip_prefix(".making~") {
                    let key = rest.rsplit_once('~').map_or(rest, |(key, _)| key);
                    entries.push(unfinished(&kind, key, path));
                } else if Slot::new(self.root(), &kind, &name).is_ok_and(|slot| slot.is_made()) {
                    entries.push(look_at(&kind, &name, path));
                }
            }
        }
        Ok(entries)
    }

    /// Removes entries and returns them. One that is in use or being made stays.
    ///
    /// # Errors
    /// [`CacheError::Io`] if something can't be removed.
    pub fn prune(&self, which: Prune) -> Result<Vec<CachedEntry>, CacheError> {
        let mut pruned = Vec::new();
        for entry in self.list()? {
            let slot = Slot::new(self.root(), &entry.kind, &entry.key)?;
            if entry.is_due(which) && slot.remove(&entry.path)? {
                pruned.push(entry);
            }
        }
        Ok(pruned)
    }
}

impl CachedEntry {
    fn is_due(&self, which: Prune) -> bool {
        match (which, &self.state) {
            (Prune::UnusedFor(limit), EntryState::Complete) => self
                .last_used
                .and_then(|used| used.elapsed().ok())
                .is_some_and(|unused| unused > limit),
            _ => true,
        }
    }
}

impl Slot {
    /// Removes this folder unless someone makes or uses it; whether it was.
    fn remove(&self, path: &Path) -> Result<bool, CacheError> {
        let lock = self.lock_file();
        let lock = std::fs::File::create(&lock).map_err(super::io_error("create", &lock))?;
        // Both are held until it is gone: who opens an entry waits for no maker.
        let entry = std::fs::File::open(path.join(manifest::ENTRY)).ok();
        let in_use = || entry.as_ref().is_some_and(|entry| entry.try_lock().is_err());
        if lock.try_lock().is_err() || in_use() {
            return Ok(false);
        }
        if path == self.dir() {
            self.discard(path)?;
        } else {
            remove(path)?;
        }
        Ok(true)
    }
}

fn unfinished(kind: &str, key: &str, path: PathBuf) -> CachedEntry {
    CachedEntry {
        kind: kind.to_owned(),
        key: key.to_owned(),
        path,
        size: 0,
        provenance: Vec::new(),
        last_used: None,
        state: EntryState::Unfinished,
    }
}

fn look_at(kind: &str, key: &str, path: PathBuf) -> CachedEntry {
    let (manifest, state) = match Manifest::read(&path) {
        Err(damage) => (None, EntryState::Damaged(damage)),
        Ok(manifest) if manifest.looks_unchanged(&path) => (Some(manifest), EntryState::Complete),
        Ok(manifest) => match manifest.verify(&path) {
            Err(damage) => (Some(manifest), EntryState::Damaged(damage)),
            Ok(()) => (Some(manifest), EntryState::Complete),
        },
    };
    CachedEntry {
        kind: kind.to_owned(),
        key: key.to_owned(),
        size: manifest.as_ref().map_or(0, Manifest::size),
        last_used: manifest::last_used(&path),
        path,
        provenance: manifest.map(|m| m.provenance).unwrap_or_default(),
        state,
    }
}
