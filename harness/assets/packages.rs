//! What a node needs of a distribution, unpacked from its packages; nothing is installed.
//!
//! apt runs with folders of its own and an empty record of what is installed, so it downloads the
//! whole closure down to libc6, and neither needs root nor touches the host. Maintainer scripts
//! do not run: the few things that they would do for a node are done here.

mod apt;
mod root;

use std::path::{Path, PathBuf};

use super::cache::{Cache, Entry};
use super::error::{AssetError, io_error};
use super::progress::Progress;
use super::provenance::Provenance;
use super::release::architecture;
use apt::Apt;

/// The kind of cache entry.
const KIND: &str = "packages";

/// Raised when the same packages would be laid out differently.
const LAYOUT: &str = "1";

/// A root that is unpacked from packages, in a folder of this name.
#[derive(Debug)]
struct Root {
    name: &'static str,
    /// What is asked for; dependencies come along.
    packages: &'static [&'static [&'static str]],
    /// Files without which it is of no use.
    needs: &'static [&'static str],
}

/// A lab's node, and what is in the image of kube-proxy. The packages of a second root are among
/// those of the first.
static LAB: [Root; 2] = [
    Root { name: "node", packages: &[NODE], needs: NODE_NEEDS },
    Root { name: "proxy", packages: &[PROXY], needs: PROXY_NEEDS },
];

/// A container that is a node of a kind cluster, or its load balancer.
static KIND_CLUSTER: [Root; 1] =
    [Root { name: "node", packages: &[NODE, KIND_NODE], needs: KIND_NODE_NEEDS }];

/// Satisfies what would otherwise bring usrmerge, and with it all of Perl. Ubuntu 22.04 does not have
/// it, and nothing there asks for it.
const USR_IS_MERGED: &str = "usr-is-merged";

/// What is asked for in a node.
const NODE: &[&str] = &[
    "bash",
    "busybox-static",
    "catatonit",
    "conntrack",
    "containerd",
    "containernetworking-plugins",
    "coreutils",
    "dash",
    "ethtool",
    "findutils",
    "grep",
    "gzip",
    "haproxy",
    "iproute2",
    "iptables",
    "mawk",
    "mount",
    "nftables",
    "procps",
    "runc",
    "sed",
    "socat",
    "tar",
    USR_IS_MERGED,
    "util-linux",
];

/// What kube-proxy runs in its image.
const PROXY: &[&str] = &["conntrack", "iptables", "nftables"];

/// What kind's entrypoint and units run in a node beside that. Debian's libc-bin has `getent`.
const KIND_NODE: &[&str] = &["debianutils", "hostname", "kmod", "libc-bin", "systemd"];

const NODE_NEEDS: &[&str] = &[
    "bin/bash",
    "bin/sh",
    "usr/bin/containerd",
    "usr/bin/ctr",
    "usr/bin/catatonit",
    "usr/lib/cni/ptp",
    "usr/sbin/haproxy",
    "usr/sbin/iptables",
    "usr/sbin/nft",
    "usr/sbin/runc",
];
const PROXY_NEEDS: &[&str] = &["usr/sbin/iptables", "usr/sbin/nft", "usr/sbin/conntrack"];
const KIND_NODE_NEEDS: &[&str] = &[
    "usr/lib/systemd/systemd",
    "usr/bin/getent",
    "usr/bin/hostname",
    "usr/bin/systemctl",
    "usr/bin/which.debianutils",
    "usr/bin/containerd",
    "usr/sbin/haproxy",
    "usr/sbin/iptables-legacy-save",
    "usr/sbin/runc",
];

/// Roots unpacked from the distribution's packages.
#[derive(Debug)]
pub(super) struct Packages {
    entry: Entry,
}

impl Packages {
    /// The roots of a lab for this machine's distribution, from the cache where they are there.
    pub(super) async fn fetch(cache: &Cache, progress: &Progress) -> Result<Self, AssetError> {
        Self::of(&LAB, cache, progress).await
    }

    /// The root of a kind cluster's containers, likewise; there is none for kube-proxy.
    pub(super) async fn kind(cache: &Cache, progress: &Progress) -> Result<Self, AssetError> {
        Self::of(&KIND_CLUSTER, cache, progress).await
    }

    async fn of(
        roots: &'static [Root],
        cache: &Cache,
        progress: &Progress,
    ) -> Result<Self, AssetError> {
        let release = os_release()?;
        let key = key(&release, roots)?;
        let make = |dir| unpack(dir, release, roots, progress);
        let entry = cache.entry(KIND, &key, progress, make).await?;
        Ok(Self { entry })
    }

    /// Puts these roots into the cache as if they had been unpacked from packages.
    #[cfg(test)]
    pub(super) async fn pretend(
        cache: &Cache,
        make: impl FnOnce(&Path) -> Vec<Provenance>,
    ) -> Result<Entry, AssetError> {
        let make = |dir: PathBuf| async move { Ok(make(&dir)) };
        let key = key(&os_release()?, &LAB)?;
        cache.entry(KIND, &key, &Progress::silent(), make).await
    }

    /// The root of a node.
    pub(super) fn node_root(&self) -> PathBuf {
        self.entry.path().join("node")
    }

    /// The root of kube-proxy's image.
    pub(super) fn proxy_root(&self) -> PathBuf {
        self.entry.path().join("proxy")
    }

    /// A digest of all of it.
    pub(super) fn digest(&self) -> &str {
        self.entry.digest()
    }

    /// Every package.
    pub(super) fn provenance(&self) -> &[Provenance] {
        self.entry.provenance()
    }

    /// The version of a package, as far as it comes from upstream: 1.35.0 of `1:1.35.0-4+deb12u1`.
    pub(super) fn upstream_version(&self, package: &str) -> Option<&str> {
        let package = self.provenance().iter().find(|p| p.name == package)?;
        let version = package.version.split_once(':').map_or(&*package.version, |(_, v)| v);
        Some(version.rsplit_once('-').map_or(version, |(upstream, _)| upstream))
    }
}

/// The codename of a distribution that has packages of this form, such as `bookworm`.
fn os_release() -> Result<String, AssetError> {
    let path = Path::new("/etc/os-release");
    let text = std::fs::read_to_string(path).map_err(io_error("read", path))?;
    let codename = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    let codename = codename.map(|name| name.trim_matches('"').to_owned());
    codename.filter(|name| !name.is_empty()).ok_or_else(|| AssetError::NotUnderstood {
        what: path.display().to_string(),
        why: "it has no VERSION_CODENAME; Debian 12 or later or Ubuntu 22.04 or later is wanted"
            .into(),
    })
}

fn key(codename: &str, roots: &[Root]) -> Result<String, AssetError> {
    use sha2::{Digest, Sha256};
    let mut list = vec![LAYOUT.to_owned()];
    list.extend(roots.iter().map(|root| root.packages.concat().join(" ")));
    let list = super::cache::hex(&Sha256::digest(list.join("\n")));
    Ok(format!("{codename}-{}-{}", architecture()?, &list[..12]))
}

async fn unpack(
    dir: PathBuf,
    codename: String,
    roots: &[Root],
    progress: &Progress,
) -> Result<Vec<Provenance>, AssetError> {
    let task = progress.task(format!("packages of {codename}: downloading"));
    let apt = Apt::new(&dir).await?;
    apt.update(progress).await?;
    let merged = apt.has(USR_IS_MERGED).await?;
    let asked = |root: &Root| -> Vec<_> {
        let packages = root.packages.concat().into_iter();
        packages.filter(|package| merged || *package != USR_IS_MERGED).collect()
    };
    task.step("the closure of what a node needs");
    let archives = apt.download(&roots.iter().flat_map(asked).collect::<Vec<_>>()).await?;
    let mut closures = Vec::new();
    for root in roots {
        closures.push(apt.closure(&asked(root)).await?);
    }
    task.finish();

    let task = progress.task(format!("packages of {codename}: unpacking {}", archives.len()));
    for root in roots {
        root::lay_out(&dir.join(root.name))?;
    }
    let mut provenance = Vec::new();
    for archive in &archives {
        task.step(&archive.package);
        for (root, _) in roots.iter().zip(&closures).filter(|(_, c)| c.contains(&archive.package)) {
            root::unpack(&archive.path, &dir.join(root.name)).await?;
        }
        provenance.push(archive.provenance(&codename)?);
    }
    for root in roots {
        root::finish(&dir.join(root.name), root.needs)?;
    }
    apt.remove()?;
    task.finish();
    Ok(provenance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_changes_with_the_distribution_and_the_roots() {
        let bookworm = key("bookworm", &LAB).expect("a key");
        assert_eq!(key("bookworm", &LAB).expect("a key"), bookworm);
        assert_ne!(key("noble", &LAB).expect("a key"), bookworm);
        assert_ne!(key("bookworm", &KIND_CLUSTER).expect("a key"), bookworm);
    }
}
