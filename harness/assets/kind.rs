//! kind, and what its images are made of where no registry has them.

use std::path::{Path, PathBuf};

use super::binaries::Binaries;
use super::error::{AssetError, io_error};
use super::module_files::ModuleFiles;
use super::packages::Packages;
use super::provenance::Provenance;
use super::release::Binary;

/// kind, and what its images are made of beside a cluster's assets. It is not pruned while this is
/// held.
#[derive(Debug)]
pub struct KindAssets {
    binaries: Binaries,
    packages: Packages,
    files: ModuleFiles,
    root: PathBuf,
    load_balancer: String,
    provenance: Vec<Provenance>,
}

impl KindAssets {
    pub(super) fn new(
        binaries: Binaries,
        packages: Packages,
        files: ModuleFiles,
    ) -> Result<Self, AssetError> {
        let path = files.path().join("loadbalancer/const.go");
        let text = std::fs::read_to_string(&path).map_err(io_error("read", &path))?;
        let load_balancer = constant(&text, "Image").ok_or_else(|| AssetError::NotUnderstood {
            what: path.display().to_string(),
            why: "it should have a line `const Image = \"…\"`".into(),
        })?;
        let parts = [binaries.provenance(), packages.provenance(), files.provenance()];
        Ok(Self {
            provenance: parts.concat(),
            root: packages.node_root(),
            load_balancer: load_balancer.to_owned(),
            binaries,
            packages,
            files,
        })
    }

    /// The `kind` command.
    ///
    /// # Errors
    /// None in practice: it was asked for.
    pub fn command(&self) -> Result<&Path, AssetError> {
        self.binaries.path(Binary::Kind)
    }

    /// The root of a node's container: a lab's node root, and systemd. Not to be written to.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What kind's own images have over their packages: `base`, `haproxy`.
    pub fn files(&self) -> &Path {
        self.files.path()
    }

    /// The name of the image that this kind runs as the load balancer, which can't be configured.
    pub fn load_balancer(&self) -> &str {
        &self.load_balancer
    }

    /// A digest of the packages.
    pub fn packages_digest(&self) -> &str {
        self.packages.digest()
    }

    /// What there is and where it came from.
    pub fn provenance(&self) -> &[Provenance] {
        &self.provenance
    }
}

/// The value of `const NAME = "value"` in a Go file.
fn constant<'a>(go: &'a str, name: &str) -> Option<&'a str> {
    let start = format!("const {name} = \"");
    go.lines().find_map(|line| line.strip_prefix(start.as_str())?.strip_suffix('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_is_read_from_go() {
        let go = "package p\n\n// Image is\nconst Image = \"docker.io/kindest/haproxy:v1\"\n\
                  const ImagePath = \"x\"\n";
        assert_eq!(constant(go, "Image"), Some("docker.io/kindest/haproxy:v1"));
        assert_eq!(constant(go, "Path"), None);
    }
}
