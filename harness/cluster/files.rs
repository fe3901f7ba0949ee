//! Files of a cluster's folder.

use std::fs;
use std::io;
use std::path::Path;

/// Gives a file a second name, or a copy: it may be on another file system, and nobody may link what
/// somebody else owns (`fs.protected_hardlinks`).
pub(super) fn link_or_copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(drop))
}
