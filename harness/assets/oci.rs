//! OCI image archives: the same input gives the same bytes.
//!
//! containerd 1.6's `ctr images import` takes them under the reference that they carry.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType};

use super::cache::hex;
use super::error::{AssetError, io_error};
use super::layer::{Layer, header};

/// What an image runs, and the files that it has.
#[derive(Debug, Clone, Default)]
pub(super) struct Image {
    /// The full name, such as `registry.k8s.io/pause:3.10`.
    pub(super) reference: String,
    /// As Go names it.
    architecture: &'static str,
    pub(super) entrypoint: Vec<String>,
    pub(super) command: Vec<String>,
    pub(super) layer: Layer,
}

impl Image {
    /// An image without files that runs nothing.
    pub(super) fn new(reference: String, architecture: &'static str) -> Self {
        Self { reference, architecture, ..Self::default() }
    }

    /// Writes the archive. Beside it, while that lasts, there is a file `<path>.layer`.
    pub(super) fn write(&self, path: &Path) -> Result<(), AssetError> {
        let mut name = path.as_os_str().to_owned();
        name.push(".layer");
        let layer = PathBuf::from(name);
        let written = File::create(&layer)
            .and_then(|file| self.layer.write(BufWriter::with_capacity(1 << 17, file)));
        let (size, digest) = written.map_err(io_error("pack", &layer))?;
        self.write_archive(path, &layer, size, &digest).map_err(io_error("pack", path))?;
        std::fs::remove_file(&layer).map_err(io_error("remove", &layer))
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
        image.layer.text("etc/passwd", "root:x:0:0::/:/bin/sh\n");
        image.layer.link("bin", Path::new("usr/bin"));
        image.layer.scratch("tmp");
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
            image.layer.tree(dir.path()).expect("a tree");
            let path = dir.path().with_extension(format!("{i}.tar"));
            image.write(&path).expect("packed");
            let bytes = std::fs::read(&path).expect("an archive");
            std::fs::remove_file(&path).expect("removed");
            bytes
        });
        assert!(archives[0] == archives[1]);
    }
}
