//! The form in which a container engine takes images from a file: what `docker save` writes and
//! `docker load`, `podman load` and `nerdctl load` read.
//!
//! Images that share a layer share its bytes. The same input gives the same bytes, and so the same
//! image ids.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde_json::json;
use tar::{Builder, EntryType};

use super::cache::hex;
use super::error::AssetError;
use super::layer::{Layer, header};
use super::release::architecture;

/// An image for a container engine.
#[derive(Debug, Clone, Default)]
pub struct EngineImage {
    /// The name that it gets, with its tag.
    pub reference: String,
    /// Its layers from the lowest, as their places among those of the archive.
    pub layers: Vec<usize>,
    /// What it runs.
    pub entrypoint: Vec<String>,
    /// Variables, each `NAME=value`.
    pub environment: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// What the engine sends to stop it, such as `SIGTERM`.
    pub stop_signal: String,
}

/// Writes an archive of images.
///
/// # Errors
/// A file that can't be read or has changed, or whatever the writer fails with; and
/// [`AssetError::Architecture`].
pub fn write_engine_archive(
    layers: &[Layer],
    images: &[EngineImage],
    out: impl Write,
) -> Result<(), AssetError> {
    let architecture = architecture()?;
    write(layers, images, architecture, out).map_err(|source| AssetError::Io {
        action: "write",
        path: "the archive of images".into(),
        source,
    })
}

fn write(
    layers: &[Layer],
    images: &[EngineImage],
    architecture: &str,
    mut out: impl Write,
) -> io::Result<()> {
    let mut digests = Vec::new();
    for (i, layer) in layers.iter().enumerate() {
        // The digest is known only when the layer is written, and a gigabyte is not written twice:
        // so its file is not named after it.
        let expected = layer.size()?;
        let mut header = header(EntryType::Regular, expected);
        header.set_path(layer_name(i))?;
        header.set_cksum();
        out.write_all(header.as_bytes())?;
        let (size, digest) = layer.write(&mut out)?;
        if size != expected {
            return Err(io::Error::other("a file changed while it was packed"));
        }
        digests.push(format!("sha256:{digest}"));
    }
    // A layer's own size is a multiple of a block, so the next header may follow.
    let mut archive = Builder::new(out);
    let mut manifest = Vec::new();
    for image in images {
        let diff_ids: Vec<_> = image.layers.iter().filter_map(|i| digests.get(*i)).collect();
        let config = serde_json::to_vec(&json!({
            "architecture": architecture,
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": {
                "Entrypoint": image.entrypoint,
                "Env": image.environment,
                "Labels": image.labels,
                "StopSignal": image.stop_signal,
            },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
            "history": image.layers.iter().map(|_| json!({ "created_by": "outage" }))
                .collect::<Vec<_>>(),
        }))?;
        let name = format!("{}.json", hex(&<sha2::Sha256 as sha2::Digest>::digest(&config)));
        let mut file = header(EntryType::Regular, config.len() as u64);
        archive.append_data(&mut file, &name, &config[..])?;
        manifest.push(json!({
            "Config": name,
            "RepoTags": [image.reference],
            "Layers": image.layers.iter().map(|i| layer_name(*i)).collect::<Vec<_>>(),
        }));
    }
    let manifest = serde_json::to_vec(&manifest)?;
    let mut file = header(EntryType::Regular, manifest.len() as u64);
    archive.append_data(&mut file, "manifest.json", &manifest[..])?;
    archive.into_inner()?.flush()
}

fn layer_name(i: usize) -> String {
    format!("layer-{i}.tar")
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};
    use std::io::Read;

    fn archive() -> BTreeMap<String, Vec<u8>> {
        let layers = ["a", "b"].map(|text| {
            let mut layer = Layer::default();
            layer.text("file", text);
            layer
        });
        let image = |reference: &str, layers: &[usize]| EngineImage {
            reference: reference.into(),
            layers: layers.into(),
            stop_signal: "SIGRTMIN+3".into(),
            ..EngineImage::default()
        };
        let images = [image("node:v1", &[0, 1]), image("balancer:v1", &[0])];
        let mut bytes = Vec::new();
        write(&layers, &images, "amd64", &mut bytes).expect("written");
        let mut packed = tar::Archive::new(&bytes[..]);
        let entries = packed.entries().expect("entries").map(|entry| {
            let mut entry = entry.expect("an entry");
            let mut contents = Vec::new();
            entry.read_to_end(&mut contents).expect("read");
            (entry.path().expect("a path").display().to_string(), contents)
        });
        entries.collect()
    }

    #[test]
    fn images_share_layers_and_name_them_by_their_contents() {
        let files = archive();
        let json = |name: &str| -> serde_json::Value {
            serde_json::from_slice(&files[name]).expect("JSON")
        };
        let manifest = json("manifest.json");
        assert_eq!(manifest[0]["Layers"], json!(["layer-0.tar", "layer-1.tar"]));
        assert_eq!(manifest[1]["Layers"], json!(["layer-0.tar"]));
        assert_eq!(manifest[0]["RepoTags"], json!(["node:v1"]));
        let config = json(manifest[0]["Config"].as_str().expect("a name"));
        assert_eq!(config["config"]["StopSignal"], "SIGRTMIN+3");
        let digest = format!("sha256:{}", hex(&Sha256::digest(&files["layer-1.tar"])));
        assert_eq!(config["rootfs"]["diff_ids"][1], digest);
        assert_eq!(files.len(), 5);
    }

    #[test]
    fn the_same_input_gives_the_same_bytes() {
        assert!(archive() == archive());
    }
}
