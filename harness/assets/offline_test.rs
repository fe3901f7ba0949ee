//! With everything in the cache, a cluster's assets are had without any source.

use std::path::{Path, PathBuf};

use super::*;

/// A program that says of itself what kubeadm, or busybox, says.
///
/// Written by another process: a program that this one has open for writing can't be run, and a
/// child forked by another test in that moment holds it open for longer.
fn program(path: &Path, said: &str) {
    let parent = path.parent().expect("a folder");
    std::fs::create_dir_all(parent).expect("created");
    let script = "printf '%s\\n' '#!/bin/sh' \"printf '$1'\" > \"$0\" && chmod 755 \"$0\"";
    let mut written = std::process::Command::new("sh");
    written.arg("-c").arg(script).arg(path).arg(said);
    assert!(written.status().expect("a shell").success());
}

fn described(name: &str, version: &str) -> Provenance {
    Provenance {
        name: name.into(),
        version: version.into(),
        sha256: "0".repeat(64),
        origin: Origin::Packed,
    }
}

const KUBEADM_SAYS: &str = "registry.k8s.io/kube-apiserver:v1.34.4\\n\
                            registry.k8s.io/kube-proxy:v1.34.4\\n\
                            registry.k8s.io/coredns/coredns:v1.12.1\\n\
                            registry.k8s.io/pause:3.10.1\\n\
                            registry.k8s.io/etcd:3.6.5-0\\n";

async fn fill(cache: &Cache, kubernetes: &KubernetesVersion) {
    for release in Release::of_cluster(kubernetes).expect("a version") {
        let describe = |dir: PathBuf| {
            let all = release.binaries().map(|binary| {
                program(&dir.join(binary.name()), KUBEADM_SAYS);
                described(binary.name(), &release.version)
            });
            all.collect()
        };
        let make = |dir| async { Ok::<_, CacheError>(describe(dir)) };
        let (kind, key) = (release.kind(), release.key());
        cache.entry(kind, &key, &Progress::silent(), make).await.expect("filled");
    }
    let roots = |dir: &Path| {
        program(&dir.join("node/bin/busybox"), "busybox\\nsh\\nwget\\n");
        program(&dir.join("node/usr/bin/catatonit"), "");
        program(&dir.join("proxy/usr/sbin/iptables"), "");
        vec![described("busybox-static", "1:1.35.0-4+b3")]
    };
    Packages::pretend(cache, roots).await.expect("filled");
}

#[tokio::test]
async fn nothing_is_asked_for_when_all_is_in_the_cache() {
    let dir = tempfile::tempdir().expect("a folder");
    let cache = Cache::at(dir.path());
    let wanted = Wanted {
        kubernetes: DEFAULT_KUBERNETES.parse().expect("a version"),
        metrics_server: false,
    };
    fill(&cache, &wanted.kubernetes).await;
    // Nobody listens there, and there is no such program.
    let nowhere = String::from("http://127.0.0.1:9");
    let sources = Sources {
        folder: None,
        sites: Sites {
            kubernetes: nowhere.clone(),
            etcd: nowhere.clone(),
            coredns: nowhere.clone(),
            cri_tools: nowhere.clone(),
            kind: nowhere,
            ..Sites::default()
        },
        go: "/nowhere/go".into(),
    };
    let fetch = || async {
        let fetcher = Fetcher::new(cache.clone(), sources.clone(), Progress::silent())?;
        fetcher.fetch(&wanted).await
    };
    let assets = fetch().await.expect("assets");
    let references: Vec<_> = assets.images().iter().map(|i| &*i.reference).collect();
    assert_eq!(references.len(), 6);
    assert!(references.contains(&"docker.io/library/busybox:1.35.0"), "{references:?}");
    assert!(assets.binary(Binary::Kubelet).expect("a path").is_file());
    assert!(assets.binary(Binary::MetricsServer).is_err());
    assert!(assets.path("registry.k8s.io/etcd:3.6.5-0").expect("an archive").is_file());

    // Packed again, the archives are the same to the byte.
    let hashes = |assets: &Assets| {
        let archives = assets.images().iter();
        archives.map(|image| sha256_of(&image.path)).collect::<Result<Vec<_>, _>>()
    };
    let first = hashes(&assets).expect("hashes");
    std::fs::remove_dir_all(dir.path().join("images")).expect("removed");
    let again = fetch().await.expect("assets");
    assert_eq!(hashes(&again).expect("hashes"), first);
}

#[tokio::test]
async fn what_only_go_can_get_is_known_unless_it_is_named_or_cached() {
    let dir = tempfile::tempdir().expect("a folder");
    let (cache, folder) = (Cache::at(dir.path().join("cache")), dir.path().join("named"));
    std::fs::create_dir_all(&folder).expect("a folder");
    let missing = || {
        let sources = Sources { folder: Some(folder.clone()), ..Sources::from_env() };
        let fetcher = Fetcher::new(cache.clone(), sources, Progress::silent()).expect("a fetcher");
        fetcher.only_by_go().expect("a release")
    };
    let all = [METRICS_SERVER_MANIFESTS, module_files::KIND_FILES, "metrics-server"];
    assert_eq!(missing(), all);
    std::fs::write(folder.join("metrics-server"), "").expect("written");
    std::fs::create_dir(folder.join(module_files::KIND_FILES)).expect("created");
    assert_eq!(missing(), [METRICS_SERVER_MANIFESTS]);

    std::fs::remove_dir_all(&folder).expect("removed");
    let release = Release::metrics_server().expect("a release");
    let make = |_| async { Ok::<_, CacheError>(Vec::new()) };
    let made = cache.entry(release.kind(), &release.key(), &Progress::silent(), make).await;
    drop(made.expect("made"));
    assert_eq!(missing(), all[..2]);
}
