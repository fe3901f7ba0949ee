//! Official releases, verified by the checksums that are published with them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::stream::{self, StreamExt, TryStreamExt};
use reqwest::{Client, Response, Url};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use super::cache::hex;
use super::error::{AssetError, io_error, with_causes};
use super::progress::{Progress, Task};
use super::release::{Product, Release};

/// Where releases are published. Tests put their own server here.
#[derive(Debug, Clone)]
pub struct Sites {
    /// Kubernetes: `<kubernetes>/v1.34.4/bin/linux/amd64/kubelet` and `….sha256`.
    pub kubernetes: String,
    /// etcd: `<etcd>/v3.6.5/etcd-v3.6.5-linux-amd64.tar.gz` and `SHA256SUMS`.
    pub etcd: String,
    /// `CoreDNS`: `<coredns>/v1.12.1/coredns_1.12.1_linux_amd64.tgz` and `….sha256`.
    pub coredns: String,
    /// cri-tools: `<cri_tools>/v1.30.0/crictl-v1.30.0-linux-amd64.tar.gz` and `….sha256`.
    pub cri_tools: String,
    /// kind: `<kind>/v0.31.0/kind-linux-amd64` and `….sha256sum`.
    pub kind: String,
    /// How long a connection may take to be made. A site that is blocked must not hold up a build.
    pub connect_timeout: Duration,
    /// How long a site may say nothing, before its answer or in the middle of it.
    pub silence_timeout: Duration,
}

impl Default for Sites {
    fn default() -> Self {
        Self {
            kubernetes: "https://dl.k8s.io/release".into(),
            etcd: "https://github.com/etcd-io/etcd/releases/download".into(),
            coredns: "https://github.com/coredns/coredns/releases/download".into(),
            cri_tools: "https://github.com/kubernetes-sigs/cri-tools/releases/download".into(),
            kind: "https://github.com/kubernetes-sigs/kind/releases/download".into(),
            connect_timeout: Duration::from_secs(3),
            silence_timeout: Duration::from_secs(10),
        }
    }
}

/// Transfers from one site at once.
const CONCURRENT: usize = 4;

/// What is left of a checksum file if it is a page that says something else.
const LONGEST_CHECKSUMS: usize = 1 << 16;

/// Downloads releases, and remembers which sites can't be reached.
#[derive(Debug)]
pub(super) struct Downloads {
    sites: Sites,
    client: Client,
    /// Host and why it can't be reached: found out once a run.
    unreachable: Mutex<HashMap<String, String>>,
}

/// What is published for a release.
struct Published {
    /// The file and the URL of its checksum.
    files: Vec<(Url, Url)>,
    packed: bool,
}

impl Downloads {
    pub(super) fn new(sites: Sites) -> Result<Self, AssetError> {
        // Another part of the program may have chosen already; then that one serves.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .connect_timeout(sites.connect_timeout)
            .read_timeout(sites.silence_timeout)
            .user_agent(concat!("outage/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| AssetError::Download {
                url: sites.kubernetes.clone(),
                why: with_causes(&error),
            })?;
        Ok(Self { sites, client, unreachable: Mutex::default() })
    }

    /// Puts a release's binaries into `dir`; returns the URL of each, in the release's order.
    pub(super) async fn release(
        &self,
        release: &Release,
        dir: &Path,
        progress: &Progress,
    ) -> Result<Vec<String>, AssetError> {
        let published = self.published(release)?;
        let host = published.files.first().and_then(|(url, _)| url.host_str());
        let host = host.unwrap_or("its site");
        let task = progress.task(format!("{}: downloading from {host}", release.title()));
        let transfer = Transfer::new(&task);
        let files: Vec<PathBuf> = stream::iter(&published.files)
            .map(|(url, checksum)| self.verified(url, checksum, dir, &transfer))
            .buffered(CONCURRENT)
            .try_collect()
            .await?;
        if published.packed {
            for file in &files {
                unpack(file.clone(), release.clone(), dir.to_owned()).await?;
            }
        } else {
            // Some names carry the architecture.
            for (file, binary) in files.iter().zip(release.binaries()) {
                let to = dir.join(binary.name());
                std::fs::rename(file, &to).map_err(io_error("rename", file))?;
            }
        }
        for binary in release.binaries() {
            make_executable(&dir.join(binary.name()))?;
        }
        task.finish();
        let urls = published.files.iter().map(|(url, _)| url.to_string());
        Ok(urls.cycle().take(release.commands().len()).collect())
    }

    fn published(&self, release: &Release) -> Result<Published, AssetError> {
        let Release { version, architecture, .. } = release;
        let (base, files, packed) = match release.product {
            Product::Kubernetes => {
                let file = |name| format!("bin/linux/{architecture}/{name}");
                let files = release.binaries().map(|b| file(b.name()));
                let files = files.map(|f| (f.clone(), format!("{f}.sha256")));
                (&self.sites.kubernetes, files.collect(), false)
            }
            Product::Etcd => {
                let file = format!("etcd-v{version}-linux-{architecture}.tar.gz");
                let files = vec![(file, "SHA256SUMS".to_owned())];
                (&self.sites.etcd, files, true)
            }
            Product::Coredns => {
                let file = format!("coredns_{version}_linux_{architecture}.tgz");
                let files = vec![(file.clone(), format!("{file}.sha256"))];
                (&self.sites.coredns, files, true)
            }
            Product::CriTools => {
                let file = format!("crictl-v{version}-linux-{architecture}.tar.gz");
                let files = vec![(file.clone(), format!("{file}.sha256"))];
                (&self.sites.cri_tools, files, true)
            }
            Product::Kind => {
                let file = format!("kind-linux-{architecture}");
                let files = vec![(file.clone(), format!("{file}.sha256sum"))];
                (&self.sites.kind, files, false)
            }
            Product::MetricsServer => {
                return Err(AssetError::Download {
                    url: format!("metrics-server {version}"),
                    why: "no binary is published, only an image".into(),
                });
            }
        };
        let url = |file: &str| {
            let url = format!("{base}/v{version}/{file}");
            Url::parse(&url).map_err(|error| AssetError::Download { url, why: error.to_string() })
        };
        let files: Vec<(String, String)> = files;
        Ok(Published {
            files: files
                .iter()
                .map(|(file, checksum)| Ok((url(file)?, url(checksum)?)))
                .collect::<Result<_, AssetError>>()?,
            packed,
        })
    }

    /// Downloads one file into `dir` and compares it with its checksum.
    async fn verified(
        &self,
        url: &Url,
        checksum: &Url,
        dir: &Path,
        transfer: &Transfer<'_>,
    ) -> Result<PathBuf, AssetError> {
        let name = url.path().rsplit('/').next().unwrap_or_default();
        let published = self.checksum(checksum, name).await?;
        let path = dir.join(name);
        let is = self.save(url, &path, transfer).await?;
        if is == published {
            return Ok(path);
        }
        Err(AssetError::Checksum { url: url.to_string(), is, published })
    }

    async fn checksum(&self, url: &Url, file: &str) -> Result<String, AssetError> {
        let mut response = self.get(url).await?;
        let mut text = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| failed(url, &e))? {
            text.extend_from_slice(&chunk);
            if text.len() > LONGEST_CHECKSUMS {
                break;
            }
        }
        published_checksum(&String::from_utf8_lossy(&text), file)
            .ok_or_else(|| AssetError::NoChecksum { url: url.to_string(), file: file.to_owned() })
    }

    /// Writes the body to `path` and returns its SHA-256.
    async fn save(
        &self,
        url: &Url,
        path: &Path,
        transfer: &Transfer<'_>,
    ) -> Result<String, AssetError> {
        let mut response = self.get(url).await?;
        transfer.expect(response.content_length().unwrap_or(0));
        let file = tokio::fs::File::create(path).await;
        let mut file = file.map_err(io_error("create", path))?;
        let mut hasher = Sha256::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| failed(url, &e))? {
            hasher.update(&chunk);
            let written = file.write_all(&chunk).await;
            written.map_err(io_error("write", path))?;
            transfer.advance(chunk.len() as u64);
        }
        file.flush().await.map_err(io_error("write", path))?;
        Ok(hex(&hasher.finalize()))
    }

    /// An answer that says success.
    async fn get(&self, url: &Url) -> Result<Response, AssetError> {
        let site = url.origin().ascii_serialization();
        if let Some(why) = self.known_unreachable(&site) {
            return Err(AssetError::Download { url: url.to_string(), why });
        }
        let response = self.client.get(url.clone()).send().await;
        let response = response.map_err(|error| {
            // The error that is made of it names the URL.
            let error = error.without_url();
            if error.is_connect() || error.is_timeout() {
                self.remember(site, with_causes(&error));
            }
            failed(url, &error)
        })?;
        response.error_for_status().map_err(|e| failed(url, &e.without_url()))
    }

    fn known_unreachable(&self, site: &str) -> Option<String> {
        let known = self.unreachable.lock().ok()?;
        known.get(site).cloned()
    }

    fn remember(&self, site: String, why: String) {
        if let Ok(mut known) = self.unreachable.lock() {
            known.insert(site, why);
        }
    }
}

fn failed(url: &Url, error: &reqwest::Error) -> AssetError {
    AssetError::Download { url: url.to_string(), why: with_causes(error) }
}

/// The checksum of `file`: of the line that names it, or the only word of the text.
fn published_checksum(text: &str, file: &str) -> Option<String> {
    let is_checksum = |word: &str| word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let mut lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines
        .find_map(|words| match words[..] {
            [only] => Some(only),
            // `*` marks a file that was read in binary mode.
            [checksum, name] if name.trim_start_matches('*') == file => Some(checksum),
            _ => None,
        })
        .filter(|word| is_checksum(word))
        .map(str::to_ascii_lowercase)
}

/// Several transfers shown as one.
struct Transfer<'a> {
    task: &'a Task,
    done: AtomicU64,
    total: AtomicU64,
}

impl<'a> Transfer<'a> {
    fn new(task: &'a Task) -> Self {
        Self { task, done: AtomicU64::new(0), total: AtomicU64::new(0) }
    }

    fn expect(&self, bytes: u64) {
        self.total.fetch_add(bytes, Ordering::Relaxed);
    }

    fn advance(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.task.bytes(done, self.total.load(Ordering::Relaxed));
    }
}

/// Takes a release's binaries out of its archive, and the archive away.
async fn unpack(archive: PathBuf, release: Release, dir: PathBuf) -> Result<(), AssetError> {
    tokio::task::spawn_blocking(move || {
        let file = std::fs::File::open(&archive).map_err(io_error("open", &archive))?;
        let mut packed = tar::Archive::new(flate2::read::GzDecoder::new(file));
        let entries = packed.entries().map_err(io_error("unpack", &archive))?;
        for entry in entries {
            let mut entry = entry.map_err(io_error("unpack", &archive))?;
            let path = entry.path().map_err(io_error("unpack", &archive))?;
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            let Some(binary) = release.binaries().find(|b| b.name() == name) else {
                continue;
            };
            if entry.header().entry_type().is_file() {
                let to = dir.join(binary.name());
                entry.unpack(&to).map_err(io_error("unpack", &to))?;
            }
        }
        std::fs::remove_file(&archive).map_err(io_error("remove", &archive))
    })
    .await?
}

fn make_executable(path: &Path) -> Result<(), AssetError> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
        .map_err(io_error("make executable", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_forms_of_checksums_are_read() {
        let sum = "0123456789abcdef".repeat(4);
        let other = "f".repeat(64);
        let find = |text: &str| published_checksum(text, "etcd.tar.gz");
        assert_eq!(find(&sum), Some(sum.clone()));
        assert_eq!(find(&format!("{}\n", sum.to_uppercase())), Some(sum.clone()));
        assert_eq!(find(&format!("{other}  b\n{sum}  etcd.tar.gz\n")), Some(sum.clone()));
        assert_eq!(find(&format!("{sum} *etcd.tar.gz")), Some(sum.clone()));
        assert_eq!(find(&format!("{sum}  etcd.tar.gz.asc")), None);
        assert_eq!(find("<html> Not here </html>"), None);
        assert_eq!(find("Forbidden"), None);
    }
}
