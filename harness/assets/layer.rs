//! One layer of an image: the same input gives the same bytes.
//!
//! An uncompressed tar archive, sorted, every file root's and from 1970.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use super::cache::hex;
use super::error::{AssetError, io_error};

/// What is in a layer, by path without a leading slash. Parent directories are added.
#[derive(Debug, Clone, Default)]
pub struct Layer {
    files: BTreeMap<String, Node>,
}

#[derive(Debug, Clone)]
enum Node {
    /// With its permissions, or as executable as the file is.
    File(PathBuf, Option<u32>),
    Text(Cow<'static, str>, u32),
    Link(PathBuf),
    Directory(u32),
}

impl Layer {
    /// Adds an executable or other file under this path.
    pub fn file(&mut self, path: &str, from: &Path) {
        self.add(path, Node::File(from.to_owned(), None));
    }

    /// Adds a file with these permissions.
    pub fn file_with_mode(&mut self, path: &str, from: &Path, mode: u32) {
        self.add(path, Node::File(from.to_owned(), Some(mode)));
    }

    /// Adds a short file.
    pub fn text(&mut self, path: &str, text: impl Into<Cow<'static, str>>) {
        self.add(path, Node::Text(text.into(), 0o644));
    }

    /// Adds a script.
    pub fn script(&mut self, path: &str, text: impl Into<Cow<'static, str>>) {
        self.add(path, Node::Text(text.into(), 0o755));
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, target: &Path) {
        self.add(path, Node::Link(target.to_owned()));
    }

    /// Adds an empty directory.
    pub fn directory(&mut self, path: &str) {
        self.add(path, Node::Directory(0o755));
    }

    /// Adds a directory that anyone may write to.
    pub fn scratch(&mut self, path: &str) {
        self.add(path, Node::Directory(0o1777));
    }

    /// Adds everything below a directory.
    ///
    /// # Errors
    /// [`AssetError::Io`] if it can't be read.
    pub fn tree(&mut self, root: &Path) -> Result<(), AssetError> {
        self.tree_under("", root)
    }

    /// Adds everything below a directory, under this path with a slash at its end.
    ///
    /// # Errors
    /// [`AssetError::Io`] if it can't be read.
    pub fn tree_under(&mut self, prefix: &str, root: &Path) -> Result<(), AssetError> {
        for item in root.read_dir().map_err(io_error("read", root))? {
            let path = item.map_err(io_error("read", root))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let name = format!("{prefix}{name}");
            let about = path.symlink_metadata().map_err(io_error("look at", &path))?;
            if about.is_dir() {
                self.add(&name, Node::Directory(about.permissions().mode() & 0o7777));
                self.tree_under(&format!("{name}/"), &path)?;
            } else if about.is_symlink() {
                let target = std::fs::read_link(&path).map_err(io_error("read", &path))?;
                self.link(&name, &target);
            } else {
                self.file(&name, &path);
            }
        }
        Ok(())
    }

    /// Takes out whatever has such a path.
    pub fn remove(&mut self, unwanted: impl Fn(&str) -> bool) {
        self.files.retain(|path, _| !unwanted(path));
    }

    fn add(&mut self, path: &str, node: Node) {
        let parents = path.match_indices('/').map(|(end, _)| &path[..end]);
        for parent in parents {
            let parent = self.files.entry(parent.to_owned());
            parent.or_insert(Node::Directory(0o755));
        }
        self.files.insert(path.to_owned(), node);
    }

    /// Writes the archive; returns its size in bytes and its SHA-256 in lower-case hexadecimal.
    ///
    /// # Errors
    /// A file that can't be read, or whatever the writer fails with.
    pub fn write(&self, out: impl Write) -> io::Result<(u64, String)> {
        let mut hashed = self.pack(Hashed { out, size: 0, hasher: Sha256::new() }, true)?;
        hashed.out.flush()?;
        Ok((hashed.size, hex(&hashed.hasher.finalize())))
    }

    /// How many bytes [`Layer::write`] will write.
    ///
    /// # Errors
    /// A file that can't be looked at.
    pub fn size(&self) -> io::Result<u64> {
        self.pack(Counter(0), false).map(|counter| counter.0)
    }

    /// Without contents there are zeros in their place.
    fn pack<W: Write>(&self, out: W, contents: bool) -> io::Result<W> {
        let mut layer = Builder::new(out);
        for (name, node) in &self.files {
            match node {
                Node::File(from, mode) => {
                    let about = from.metadata()?;
                    let executable = about.permissions().mode() & 0o111 != 0;
                    let mut header = header(EntryType::Regular, about.len());
                    header.set_mode(mode.unwrap_or(if executable { 0o755 } else { 0o644 }));
                    if contents {
                        layer.append_data(&mut header, name, File::open(from)?)?;
                    } else {
                        layer.append_data(&mut header, name, io::repeat(0).take(about.len()))?;
                    }
                }
                Node::Text(text, mode) => {
                    let mut header = header(EntryType::Regular, text.len() as u64);
                    header.set_mode(*mode);
                    layer.append_data(&mut header, name, text.as_bytes())?;
                }
                Node::Link(target) => {
                    layer.append_link(&mut header(EntryType::Symlink, 0), name, target)?;
                }
                Node::Directory(mode) => {
                    let mut header = header(EntryType::Directory, 0);
                    header.set_mode(*mode);
                    layer.append_data(&mut header, format!("{name}/"), io::empty())?;
                }
            }
        }
        layer.into_inner()
    }
}

/// root's, and from 1970.
pub(super) fn header(kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(if kind == EntryType::Symlink { 0o777 } else { 0o644 });
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// Hashes and counts what it hands on.
struct Hashed<W> {
    out: W,
    size: u64,
    hasher: Sha256,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        self.size += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Counts what it drops.
struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer() -> Layer {
        let mut layer = Layer::default();
        layer.text("etc/passwd", "root:x:0:0::/:/bin/sh\n");
        layer.script("etc/rc", "#!/bin/sh\n");
        layer.link("bin", Path::new("usr/bin"));
        layer.scratch("tmp");
        layer
    }

    #[test]
    fn every_file_is_roots_and_parents_come_first() {
        let mut bytes = Vec::new();
        layer().write(&mut bytes).expect("packed");
        let mut packed = tar::Archive::new(&bytes[..]);
        let mut names = Vec::new();
        for entry in packed.entries().expect("entries") {
            let entry = entry.expect("an entry");
            let header = entry.header();
            assert_eq!((header.uid().ok(), header.gid().ok()), (Some(0), Some(0)));
            assert_eq!(header.mtime().ok(), Some(0));
            let name = entry.path().expect("a path").display().to_string();
            names.push(format!("{name} {:o}", header.mode().expect("a mode")));
        }
        let expected = ["bin 777", "etc/ 755", "etc/passwd 644", "etc/rc 755", "tmp/ 1777"];
        assert_eq!(names, expected);
    }

    #[test]
    fn the_size_is_known_before_it_is_written() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("file");
        std::fs::write(&file, vec![7; 5000]).expect("written");
        let mut layer = layer();
        layer.file_with_mode(&"long/".repeat(40), &file, 0o755);
        let mut bytes = Vec::new();
        let (size, digest) = layer.write(&mut bytes).expect("packed");
        assert_eq!(size, bytes.len() as u64);
        assert_eq!(layer.size().expect("a size"), size);
        assert_eq!(digest, hex(&Sha256::digest(&bytes)));
    }

    #[test]
    fn what_is_taken_out_is_not_written() {
        let mut layer = layer();
        layer.remove(|path| path.starts_with("etc/") || path == "tmp");
        assert_eq!(layer.files.keys().collect::<Vec<_>>(), ["bin", "etc"]);
    }
}
