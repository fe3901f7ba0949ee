//! OCI image archives: the same input gives the same bytes.
//!
//! One uncompressed layer, sorted, every file root's and from 1970. containerd 1.6's
//! `ctr images import` takes them under the reference that they carry.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use super::cache::hex;
use super::error::{AssetError, io_error};

/// What an image runs, and the files that it has.
#[derive(Debug, Clone, Default)]
pub(super) struct Image {
    /// The full name, such as `registry.k8s.io/pause:3.10`.
    pub(super) reference: String,
    /// As Go names it.
    architecture: &'static str,
    pub(super) entrypoint: Vec<String>,
    pub(super) command: Vec<String>,
    /// By path without a leading slash. Parent directories are added.
    files: BTreeMap<String, Node>,
}

#[derive(Debug, Clone)]
enum Node {
    File(PathBuf),
    Text(&'static str),
    Link(PathBuf),
    Directory(u32),
}

impl Image {
    /// An image without files that runs nothing.
    pub(super) fn new(reference: String, architecture: &'static str) -> Self {
        Self { reference, architecture, ..Self::default() }
    }

    /// Adds an executable or other file under this path.
    pub(super) fn file(&mut self, path: &str, from: &Path) {
        self.add(path, Node::File(from.to_owned()));
    }

    /// Adds a short file.
    pub(super) fn text(&mut self, path: &str, text: &'static str) {
        self.add(path, Node::Text(text));
    }

    /// Adds a symbolic link.
    pub(super) fn link(&mut self, path: &str, target: &Path) {
        self.add(path, Node::Link(target.to_owned()));
    }

    /// Adds a directory that anyone may write to.
    pub(super) fn scratch(&mut self, path: &str) {
        self.add(path, Node::Directory(0o1777));
    }

    /// Adds everything below a directory.
    pub(super) fn tree(&mut self, root: &Path) -> Result<(), AssetError> {
        self.subtree(root, "")
    }

    fn subtree(&mut self, dir: &Path, prefix: &str) -> Result<(), AssetError> {
        for item in dir.read_dir().map_err(io_error("read", dir))? {
            let path = item.map_err(io_error("read", dir))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let name = format!("{prefix}{name}");
            let about = path.symlink_metadata().map_err(io_error("look at", &path))?;
            if about.is_dir() {
                self.add(&name, Node::Directory(about.permissions().mode() & 0o7777));
                self.subtree(&path, &format!("{name}/"))?;
            } else if about.is_symlink() {
                let target = std::fs::read_link(&path).map_err(io_error("read", &path))?;
                self.link(&name, &target);
            } else {
                self.file(&name, &path);
            }
        }
        Ok(())
    }

    fn add(&mut self, path: &str, node: Node) {
        let parents = path.match_indices('/').map(|(end, _)| &path[..end]);
        for parent in parents {
            let parent = self.files.entry(parent.to_owned());
            parent.or_insert(Node::Directory(0o755));
        }
        self.files.insert(path.to_owned(), node);
    }

    /// Writes the archive. Beside it, while that lasts, there is a file `<path>.layer`.
    pub(super) fn write(&self, path: &Path) -> Result<(), AssetError> {
        let mut name = path.as_os_str().to_owned();
        name.push(".layer");
        let layer = PathBuf::from(name);
        let written = self.write_layer(&layer);
        let (size, digest) = written.map_err(io_error("pack", &layer))?;
        self.write_archive(path, &layer, size, &digest).map_err(io_error("pack", path))?;
        std::fs::remove_file(&layer).map_err(io_error("remove", &layer))
    }

    fn write_layer(&self, path: &Path) -> io::Result<(u64, String)> {
        let mut layer = Builder::new(BufWriter::with_capacity(1 << 17, File::create(path)?));
        for (name, node) in &self.files {
            match node {
                Node::File(from) => {
                    let file = File::open(from)?;
                    let about = file.metadata()?;
                    let executable = about.permissions().mode() & 0o111 != 0;
                    let mut header = header(EntryType::Regular, about.len());
                    header.set_mode(if executable { 0o755 } else { 0o644 });
                    layer.append_data(&mut header, name, file)?;
                }
                Node::Text(text) => {
                    let mut header = header(EntryType::Regular, text.len() as u64);
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
        layer.into_inner()?.flush()?;
        let mut file = File::open(path)?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 17];
        loop {
            let n = file.read(&mut buffer)?;
            if n == 0 {
                return Ok((file.stream_position()?, hex(&hasher.finalize())));
            }
            hasher.update(&buffer[..n]);
        }
    }

    fn write_archive(&self, to: &Path, layer: &Path, size: u64, digest: &str) -> io::Result<()> {
        let config = serde_json::to_vec(&self.config(digest))?;
        let layers = json!([descriptor("layer.v1.tar", size, digest)]);
        let manifest = serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": blob_descriptor("config.v1+json", &config),
            "layers": layers,
        }))?;
        let mut described = blob_descriptor("manifest.v1+json", &manifest);
        described["annotations"] = json!({
            "io.containerd.image.name": self.reference,
            "org.opencontainers.image.ref.name": self.reference,
        });
        described["platform"] = json!({ "architecture": self.architecture, "os": "linux" });
        let index = serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [described],
        }))?;

        let mut archive = Builder::new(BufWriter::with_capacity(1 << 17, File::create(to)?));
        let mut add = |name: &str, size: u64, contents: &mut dyn Read| {
            archive.append_data(&mut header(EntryType::Regular, size), name, contents)
        };
        let layout = br#"{"imageLayoutVersion":"1.0.0"}"#;
        add("oci-layout", layout.len() as u64, &mut &layout[..])?;
        add("index.json", index.len() as u64, &mut &index[..])?;
        for blob in [&manifest, &config] {
            add(&blob_path(&sha256(blob)), blob.len() as u64, &mut &blob[..])?;
        }
        add(&blob_path(digest), size, &mut File::open(layer)?)?;
        archive.into_inner()?.flush()
    }

    fn config(&self, layer: &str) -> Value {
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        json!({
            "architecture": self.architecture,
            "os": "linux",
            "config": { "Env": [path], "Entrypoint": self.entrypoint, "Cmd": self.command },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer}")] },
        })
    }
}

/// root's, and from 1970.
fn header(kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(if kind == EntryType::Symlink { 0o777 } else { 0o644 });
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn descriptor(kind: &str, size: u64, digest: &str) -> Value {
    json!({
        "mediaType": format!("application/vnd.oci.image.{kind}"),
        "digest": format!("sha256:{digest}"),
        "size": size,
    })
}

fn blob_descriptor(kind: &str, blob: &[u8]) -> Value {
    descriptor(kind, blob.len() as u64, &sha256(blob))
}

fn blob_path(digest: &str) -> String {
    format!("blobs/sha256/{digest}")
}

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Image {
        let mut image = Image {
            reference: "registry.k8s.io/pause:3.10".into(),
            architecture: "amd64",
            entrypoint: vec!["/usr/bin/catatonit".into(), "-P".into()],
            ..Image::default()
        };
        image.text("etc/passwd", "root:x:0:0::/:/bin/sh\n");
        image.link("bin", Path::new("usr/bin"));
        image.scratch("tmp");
        image
    }

    #[test]
    fn the_same_input_gives_the_same_bytes() {
        let dir = tempfile::tempdir().expect("a folder");
        let program = dir.path().join("program");
        let archives = [0, 1].map(|i| {
            // Another time of writing, and another order of adding.
            std::fs::write(&program, "contents").expect("written");
            let mut image = image();
            image.tree(dir.path()).expect("a tree");
            let path = dir.path().with_extension(format!("{i}.tar"));
            image.write(&path).expect("packed");
            let bytes = std::fs::read(&path).expect("an archive");
            std::fs::remove_file(&path).expect("removed");
            bytes
        });
        assert!(archives[0] == archives[1]);
    }

    #[test]
    fn every_file_of_the_layer_is_roots_and_parents_come_first() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("layer.tar");
        image().write_layer(&path).expect("packed");
        let mut layer = tar::Archive::new(File::open(&path).expect("a layer"));
        let mut names = Vec::new();
        for entry in layer.entries().expect("entries") {
            let entry = entry.expect("an entry");
            let header = entry.header();
            assert_eq!((header.uid().ok(), header.gid().ok()), (Some(0), Some(0)));
            assert_eq!(header.mtime().ok(), Some(0));
            names.push(entry.path().expect("a path").display().to_string());
        }
        assert_eq!(names, ["bin", "etc/", "etc/passwd", "tmp/"]);
    }
}
