//! The cache and the sources of assets, against a server of the test's own.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use outage::assets::{
    AssetError, Binary, Cache, CacheError, Entry, EntryState, Fetcher, Origin, Product, Progress,
    Provenance, Prune, Release, Sites, Sources, progress::Event, sha256_of,
};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// What the server does with a path.
#[derive(Clone)]
enum Answer {
    Body(Vec<u8>),
    /// Half of what its header promises.
    Truncated(Vec<u8>),
    /// Nothing, for ever.
    Silence,
}

struct Server {
    base: String,
    requests: Arc<AtomicUsize>,
}

impl Server {
    async fn start(answers: HashMap<String, Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = requests.clone();
        let answers = Arc::new(answers);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let answers = answers.clone();
                tokio::spawn(async move {
                    let mut head = vec![0; 4096];
                    let n = stream.read(&mut head).await.unwrap_or(0);
                    let head = String::from_utf8_lossy(&head[..n]).into_owned();
                    let path = head.split(' ').nth(1).unwrap_or_default();
                    let (status, length, body) = match answers.get(path) {
                        None => ("404 Not Found", 0, &[][..]),
                        Some(Answer::Body(body)) => ("200 OK", body.len(), &body[..]),
                        Some(Answer::Truncated(b)) => ("200 OK", b.len(), &b[..b.len() / 2]),
                        Some(Answer::Silence) => return std::future::pending().await,
                    };
                    let head = format!(
                        "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
                    );
                    // A client that went away is the test's own business.
                    let _ = stream.write_all(head.as_bytes()).await;
                    let _ = stream.write_all(body).await;
                });
            }
        });
        Self { base, requests }
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}

/// A release archive with a program in a folder, as etcd and `CoreDNS` publish theirs.
fn archive(names: &[&str]) -> Vec<u8> {
    let mut tar =
        tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for name in names {
        let body = format!("the program {name}");
        let mut header = tar::Header::new_gnu();
        header.set_size(body.len() as u64);
        header.set_mode(0o755);
        let path = format!("folder/{name}");
        tar.append_data(&mut header, path, body.as_bytes()).expect("appended");
    }
    tar.into_inner().and_then(flate2::write::GzEncoder::finish).expect("packed")
}

fn coredns() -> Release {
    Release::new(Product::Coredns, "1.2.3").expect("an architecture")
}

fn coredns_path(suffix: &str) -> String {
    let architecture = coredns().architecture;
    format!("/v1.2.3/coredns_1.2.3_linux_{architecture}.tgz{suffix}")
}

struct Bench {
    dir: tempfile::TempDir,
    fetcher: Fetcher,
    events: tokio::sync::mpsc::UnboundedReceiver<Event>,
}

impl Bench {
    /// A fetcher with an empty cache whose sites are all at `base`, and no Go.
    fn new(base: &str) -> Self {
        Self::with(base, |_| None, "/nowhere/go".into())
    }

    fn with(base: &str, folder: impl Fn(&Path) -> Option<PathBuf>, go: PathBuf) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let sources = Sources {
            folder: folder(dir.path()),
            sites: Sites {
                kubernetes: base.to_owned(),
                etcd: base.to_owned(),
                coredns: base.to_owned(),
                cri_tools: base.to_owned(),
                kind: base.to_owned(),
                connect_timeout: Duration::from_millis(500),
                silence_timeout: Duration::from_millis(500),
            },
            go,
        };
        let (progress, events) = Progress::channel();
        let fetcher = Fetcher::new(cache(dir.path()), sources, progress).expect("a fetcher");
        Self { dir, fetcher, events }
    }

    /// What the sources say when none of them has it; nothing may be left in the cache.
    async fn refusal(&self, release: &Release) -> String {
        let error = self.fetcher.binaries(release).await.expect_err("nothing to be had");
        assert!(matches!(error, AssetError::Unavailable(_)), "{error}");
        assert!(cache(self.dir.path()).list().expect("a list").is_empty());
        error.to_string()
    }
}

fn cache(dir: &Path) -> Cache {
    Cache::at(dir.join("cache"))
}

#[tokio::test]
async fn a_release_whose_checksum_fits_is_taken() {
    let body = archive(&["README", "coredns"]);
    let file = coredns_path("").rsplit('/').next().map(str::to_owned);
    let sum = format!("{}  {}\n", hex(&body), file.expect("a name"));
    let server = Server::start(HashMap::from([
        (coredns_path(""), Answer::Body(body)),
        (coredns_path(".sha256"), Answer::Body(sum.into())),
    ]))
    .await;
    let bench = Bench::new(&server.base);
    let found = bench.fetcher.binaries(&coredns()).await.expect("coredns");
    let path = found.path(Binary::Coredns).expect("a path");
    assert_eq!(std::fs::read_to_string(path).expect("text"), "the program coredns");
    assert_eq!(path.metadata().expect("metadata").permissions().mode() & 0o777, 0o755);
    let provenance = &found.provenance()[0];
    assert_eq!(provenance.sha256, hex(b"the program coredns"));
    let url = format!("{}{}", server.base, coredns_path(""));
    assert_eq!(provenance.origin, Origin::Download { url });
    assert!(!path.with_file_name("README").exists());

    // The second time nothing is asked for.
    let asked = server.requests.load(Ordering::SeqCst);
    bench.fetcher.binaries(&coredns()).await.expect("coredns");
    assert_eq!(server.requests.load(Ordering::SeqCst), asked);
}

#[tokio::test]
async fn all_commands_of_kubernetes_are_downloaded_each_with_its_checksum() {
    let release = Release::new(Product::Kubernetes, "1.34.4").expect("a release");
    let mut answers = HashMap::new();
    for binary in release.binaries() {
        let path = format!("/v1.34.4/bin/linux/{}/{}", release.architecture, binary.name());
        let body = binary.name().as_bytes().to_vec();
        answers.insert(format!("{path}.sha256"), Answer::Body(hex(&body).into()));
        answers.insert(path, Answer::Body(body));
    }
    let server = Server::start(answers).await;
    let found = Bench::new(&server.base).fetcher.binaries(&release).await.expect("kubernetes");
    assert_eq!(found.iter().count(), 7);
    for provenance in found.provenance() {
        assert_eq!(provenance.sha256, hex(provenance.name.as_bytes()));
    }
}

#[tokio::test]
async fn a_program_that_is_published_under_another_name_gets_its_own() {
    let release = Release::of_kind().expect("a release");
    let path = format!("/v{}/kind-linux-{}", release.version, release.architecture);
    let sum = format!("{}  kind-linux-{}\n", hex(b"kind"), release.architecture);
    let server = Server::start(HashMap::from([
        (path.clone(), Answer::Body("kind".into())),
        (format!("{path}.sha256sum"), Answer::Body(sum.into())),
    ]))
    .await;
    let bench = Bench::new(&server.base);
    let found = bench.fetcher.binaries(&release).await.expect("kind");
    let path = found.path(Binary::Kind).expect("a path");
    assert_eq!(std::fs::read_to_string(path).expect("text"), "kind");
    assert_eq!(path.metadata().expect("metadata").permissions().mode() & 0o777, 0o755);
    let mut kept: Vec<_> = path
        .parent()
        .expect("a folder")
        .read_dir()
        .expect("readable")
        .map(|f| f.expect("a file").file_name())
        .collect();
    kept.sort();
    assert_eq!(kept, ["entry.json", "kind", "stamps.json"]);
}

#[tokio::test]
async fn a_checksum_that_does_not_fit_is_said_loudly() {
    let server = Server::start(HashMap::from([
        (coredns_path(""), Answer::Body(archive(&["coredns"]))),
        (coredns_path(".sha256"), Answer::Body("0".repeat(64).into())),
    ]))
    .await;
    let mut bench = Bench::new(&server.base);
    let refusal = bench.refusal(&coredns()).await;
    assert!(refusal.contains(&"0".repeat(64)), "{refusal}");
    let mut events = std::iter::from_fn(|| bench.events.try_recv().ok());
    assert!(events.any(|e| matches!(e, Event::Warning(text) if text.contains("SHA-256"))));
}

#[tokio::test]
async fn what_is_missing_or_broken_off_is_not_taken_and_the_error_says_how_to_mend() {
    let body = archive(&["coredns"]);
    let sum = Answer::Body(hex(&body).into());
    let truncated = Server::start(HashMap::from([
        (coredns_path(""), Answer::Truncated(body)),
        (coredns_path(".sha256"), sum.clone()),
    ]))
    .await;
    Bench::new(&truncated.base).refusal(&coredns()).await;

    let missing = Server::start(HashMap::from([(coredns_path(".sha256"), sum)])).await;
    let refusal = Bench::new(&missing.base).refusal(&coredns()).await;
    for part in ["404", "/nowhere/go", "OUTAGE_ASSETS_DIR", "https://go.dev/dl"] {
        assert!(refusal.contains(part), "{part}: {refusal}");
    }
}

#[tokio::test]
async fn a_site_that_says_nothing_is_waited_for_once() {
    let server = Server::start(HashMap::from([
        (coredns_path(".sha256"), Answer::Silence),
        ("/v3.2.1/SHA256SUMS".into(), Answer::Silence),
    ]))
    .await;
    let bench = Bench::new(&server.base);
    let began = Instant::now();
    bench.refusal(&coredns()).await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let asked = server.requests.load(Ordering::SeqCst);
    bench.refusal(&Release::new(Product::Etcd, "3.2.1").expect("a release")).await;
    assert_eq!(server.requests.load(Ordering::SeqCst), asked);
}

/// A `go` that knows as much as a build needs, and writes its packages' names as programs.
const FAKE_GO: &str = r#"#!/bin/sh
set -e
case "$1" in
version) echo "go version go1.99.0 linux/amd64" ;;
mod) echo "go 1.24" > "$PWD/their.mod"; echo "{\"GoMod\": \"$PWD/their.mod\", \"Dir\": \"$PWD\"}" ;;
build) grep -q "require github.com/coredns/coredns v1.2.3" go.mod
  test "$CGO_ENABLED" = 0
  echo built > bin/coredns ;;
esac
"#;

/// Written by another process: a program that this one has open for writing can't be run, and a
/// child forked by another test in that moment holds it open for longer.
fn program(path: &Path, text: &str) {
    let script = "printf %s \"$1\" > \"$0\" && chmod 755 \"$0\"";
    let mut written = std::process::Command::new("sh");
    written.arg("-c").arg(script).arg(path).arg(text);
    assert!(written.status().expect("a shell").success());
}

#[tokio::test]
async fn what_can_not_be_downloaded_is_built() {
    let tools = tempfile::tempdir().expect("a folder");
    let go = tools.path().join("go");
    program(&go, FAKE_GO);
    // Nobody listens on the discard port.
    let bench = Bench::with("http://127.0.0.1:9", |_| None, go);
    let found = bench.fetcher.binaries(&coredns()).await.expect("coredns");
    let path = found.path(Binary::Coredns).expect("a path");
    assert_eq!(std::fs::read_to_string(path).expect("text"), "built\n");
    let origin = Origin::Built {
        module: "github.com/coredns/coredns@v1.2.3".into(),
        toolchain: "go1.99.0".into(),
    };
    assert_eq!(found.provenance()[0].origin, origin);
    // Of the build nothing but its result is kept.
    let kept = path.parent().expect("a folder").read_dir().expect("readable");
    let mut kept: Vec<_> = kept.map(|f| f.expect("a file").file_name()).collect();
    kept.sort();
    assert_eq!(kept, ["coredns", "entry.json", "stamps.json"]);
}

#[tokio::test]
async fn the_named_folder_comes_first_and_its_version_is_what_it_says() {
    let named = |dir: &Path| {
        program(&dir.join("coredns"), "#!/bin/sh\necho CoreDNS-9.8.7\n");
        Some(dir.to_owned())
    };
    let bench = Bench::with("http://127.0.0.1:9", named, "/nowhere/go".into());
    let found = bench.fetcher.binaries(&coredns()).await.expect("coredns");
    assert_eq!(found.provenance()[0].version, "9.8.7");
    assert!(matches!(found.provenance()[0].origin, Origin::Folder { .. }));
    let refusal = bench.refusal(&Release::new(Product::Etcd, "3.2.1").expect("a release")).await;
    assert!(refusal.contains("has no etcd"), "{refusal}");
}

/// Makes or opens an entry with one file, and counts how often it is made.
async fn entry(cache: &Cache, made: &AtomicUsize) -> Entry {
    let fill = |dir: PathBuf| async move {
        made.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        std::fs::create_dir(dir.join("sub")).map_err(|source| CacheError::Io {
            action: "create",
            path: dir.clone(),
            source,
        })?;
        std::fs::write(dir.join("sub/file"), "contents").expect("written");
        std::os::unix::fs::symlink("sub/file", dir.join("link")).expect("linked");
        Ok::<Vec<Provenance>, CacheError>(Vec::new())
    };
    cache.entry("kind", "key", &Progress::silent(), fill).await.expect("an entry")
}

#[tokio::test]
async fn a_damaged_entry_is_made_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let cache = cache(dir.path());
    let made = AtomicUsize::new(0);
    let digest = entry(&cache, &made).await.digest().to_owned();
    let path = cache.root().join("kind/key");
    let file = path.join("sub/file");
    let damages: [&dyn Fn(); 7] = [
        &|| std::fs::write(&file, "contentz").expect("flipped"),
        &|| std::fs::write(&file, "cont").expect("truncated"),
        &|| std::fs::remove_file(&file).expect("removed"),
        &|| std::fs::remove_file(path.join("link")).expect("removed"),
        &|| std::fs::write(path.join("entry.json"), "{\"format\":").expect("half-written"),
        &|| std::fs::remove_file(path.join("entry.json")).expect("removed"),
        &|| {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600))
                .expect("changed");
        },
    ];
    for (i, damage) in damages.iter().enumerate() {
        damage();
        let again = entry(&cache, &made).await;
        assert_eq!(made.load(Ordering::SeqCst), i + 2, "damage {i}");
        assert_eq!(again.digest(), digest);
        assert_eq!(std::fs::read_to_string(&file).expect("text"), "contents");
    }
    entry(&cache, &made).await;
    assert_eq!(made.load(Ordering::SeqCst), damages.len() + 1);
}

#[tokio::test]
async fn a_file_that_was_only_touched_or_linked_is_as_good() {
    let dir = tempfile::tempdir().expect("a folder");
    let cache = cache(dir.path());
    let made = AtomicUsize::new(0);
    let file = entry(&cache, &made).await.path().join("sub/file");
    std::fs::hard_link(&file, dir.path().join("twin")).expect("linked");
    let touched = std::fs::File::options().append(true).open(&file).expect("a file");
    touched.set_modified(std::time::SystemTime::UNIX_EPOCH).expect("touched");
    entry(&cache, &made).await;
    entry(&cache, &made).await;
    assert_eq!(made.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_killed_makers_left_is_removed_and_a_failed_one_leaves_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let cache = cache(dir.path());
    let left = cache.root().join("kind/.making~key~left");
    std::fs::create_dir_all(left.join("half")).expect("created");
    assert_eq!(cache.list().expect("a list")[0].state, EntryState::Unfinished);
    entry(&cache, &AtomicUsize::new(0)).await;
    assert!(!left.exists());

    let fail = |dir: PathBuf| async move {
        std::fs::write(dir.join("half"), "").expect("written");
        Err(CacheError::NoPlace)
    };
    let failed = cache.entry("kind", "other", &Progress::silent(), fail).await;
    assert!(failed.is_err());
    let never = |_| std::future::pending::<Result<Vec<Provenance>, CacheError>>();
    let silent = Progress::silent();
    let broken_off = cache.entry("kind", "other", &silent, never);
    assert!(tokio::time::timeout(Duration::from_millis(100), broken_off).await.is_err());
    assert_eq!(cache.list().expect("a list").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_at_once_one_makes_and_all_get() {
    let dir = tempfile::tempdir().expect("a folder");
    let cache = cache(dir.path());
    let made = AtomicUsize::new(0);
    let all = (0..8).map(|_| entry(&cache, &made));
    let all = futures::future::join_all(all).await;
    assert_eq!(made.load(Ordering::SeqCst), 1);
    assert!(all.iter().all(|e| e.path() == all[0].path()));
}

#[tokio::test]
async fn only_what_nobody_uses_is_pruned() {
    let dir = tempfile::tempdir().expect("a folder");
    let cache = cache(dir.path());
    let made = AtomicUsize::new(0);
    let held = entry(&cache, &made).await;
    assert!(cache.prune(Prune::All).expect("pruned").is_empty());
    drop(held);
    let day = Duration::from_hours(24);
    assert!(cache.prune(Prune::UnusedFor(day)).expect("pruned").is_empty());
    assert_eq!(cache.prune(Prune::All).expect("pruned").len(), 1);
    assert!(cache.list().expect("a list").is_empty());
    entry(&cache, &made).await;
    assert_eq!(made.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn what_others_keep_below_the_cache_is_neither_listed_nor_pruned() {
    let dir = tempfile::tempdir().expect("a folder");
    let cache = cache(dir.path());
    drop(entry(&cache, &AtomicUsize::new(0)).await);
    let others = ["labs/lab-x", "kind-clusters/outage-y", "runs/2026-z"];
    for other in others.map(|other| cache.root().join(other)) {
        std::fs::create_dir_all(&other).expect("a folder");
        std::fs::write(other.join("lock"), "1").expect("a file");
    }
    assert_eq!(cache.list().expect("listed").len(), 1);
    let month = Duration::from_secs(30 * 24 * 60 * 60);
    assert!(cache.prune(Prune::UnusedFor(month)).expect("pruned").is_empty());
    assert_eq!(cache.prune(Prune::All).expect("pruned").len(), 1);
    assert!(others.iter().all(|other| cache.root().join(other).join("lock").exists()));
}

#[tokio::test]
async fn names_that_leave_the_cache_are_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    for key in ["", "..", "a/b", ".hidden", "a b"] {
        let make = |_| async { Ok::<_, CacheError>(Vec::new()) };
        let refused = cache(dir.path()).entry("kind", key, &Progress::silent(), make).await;
        assert!(matches!(refused, Err(CacheError::BadName { .. })), "{key}");
    }
}

#[test]
fn a_files_hash_is_the_known_one() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "abc").expect("written");
    let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(sha256_of(file.path()).expect("a hash"), known);
}
