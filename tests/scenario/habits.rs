//! What people write who know YAML, Kubernetes and other tools, but not this language: each is told what
//! to write.

use super::{each, said};

const FAULT: &str = "        stop: {component: kube-apiserver, on: {master: 3}, signal: SIGKILL}";
const PROBE: &str = "        health: {apiserver: {master: 3}, path: /readyz, is: refused}";

#[test]
fn values_in_another_form() {
    let faults = [
        "clock: {component: etcd, on: {master: 1}, by: 10m}",
        "clock: {component: etcd, on: {master: 1}, by: ahead}",
        "certificate: {path: /etc/kubernetes/pki/apiserver.crt, on: {master: 1}, validity: expired}",
        "stop: {component: etcd, on: worker-1, signal: SIGKILL}",
        "stop: {component: etcd, on: {node: master-2}, signal: SIGKILL}",
        "stop: {component: etcd, on: {master: \"1\"}, signal: SIGKILL}",
        "stop: {component: apiserver, on: {master: 1}, signal: KILL}",
        "isolate: {master: 3}",
        "settings: {component: etcd, on: {master: 1}, flags: {a: [b, {c: d}]}}",
    ];
    let probes = [
        "kubectl: {from: {worker: 1}, to: loadBalancer, args: get secrets, exitCode: 0}",
        "kubectl: {from: {worker: 1}, to: loadBalancer, args: [kubectl, get, pods], exitCode: 0}",
        "kubectl: {from: {worker: 1}, to: loadBalancer, args: [get pods], exitCode: \"0\"}",
        "connect: {from: {worker: 1}, to: loadBalancer, attempts: 20, refused: 20}",
        "connect: {from: {worker: 1}, to: loadBalancer, attempts: 20, refused: none}",
        "lease: {name: kube-scheduler, heldBy: master-2, through: {master: 1}}",
        "lease: {name: kube-scheduler, changes: 0, through: {master: 1}}",
        "log: {of: kubelet, on: {worker: 1}, line: a}",
        "log: {of: {component: kubelet}, on: {worker: 1}, line: a}",
        "log: {of: {service: kubelet}, on: {worker: 1}, line: \"x509: \\d+\"}",
        "endpoints: {service: default/kubernetes, through: {master: 1}, contain: {master: 1}}",
        "endpoints: {service: default/kubernetes, through: {master: 1}, contain: [master-1]}",
        "object: {apiVersion: v1, kind: Node, name: a, cel: !object.a, through: {master: 1}}",
        "request: {from: {worker: 1}, to: loadBalancer, path: /api, content: {a: b}, attempts: 1, failed: {count: 0}}",
        "request: {from: {worker: 1}, to: loadBalancer, path: /api, method: post, attempts: 1, failed: {count: 0}}",
        "request: {from: {worker: 1}, to: loadBalancer, path: /api, attempts: 1, failed: {count: 0}, error: a}",
    ];
    let of = |old: &'static str, new: &[&str]| -> String {
        let of = |new: &&str| each(&[&[(old, &format!("        {new}"))]]);
        new.iter().map(of).collect()
    };
    insta::assert_snapshot!(of(FAULT, &faults) + &of(PROBE, &probes));
}

#[test]
fn steps_in_another_form() {
    let setup = "  setup:\n  - apiVersion: v1\n    kind: Namespace\n    metadata: {name: a}\n  steadyState:";
    let versions = "      within: 10s\n      versions: \"<1.20.0\"";
    insta::assert_snapshot!(each(&[
        &[("  - revert:\n      actions: [stopped]", "  - revert: stopped")],
        &[("  - revert:\n      actions: [stopped]", "  - revert: [stopped]")],
        &[("  - revert:", "  - remedy:")],
        &[("  - detect:", "    detect:")],
        &[("  - inject:", "    inject:")],
        &[("  steadyState:", setup)],
        &[
            ("  cluster:", "  cluster:\n    versions: \">=1.26.0\""),
            ("      within: 10s", versions),
        ],
        &[
            ("      within: 10s\n", "      within: 10s\n      versions: \">=1.30.0\"\n"),
            ("[stopped]", "[stoped]")
        ],
    ]));
}

#[test]
fn an_alias_is_misspelt() {
    let text = "a: &own-lease {b: c}\nd: {<<: *ownlease}\n";
    assert_eq!(
        said(text),
        "my.yaml:2:9: no anchor `&ownlease` stands before this alias\n    help: did you mean `*own-lease`?\n"
    );
    assert!(said("a: *.txt\n").contains("in quotes"));
}
