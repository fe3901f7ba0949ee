//! The scenario language: what depends on the version of Kubernetes, and nodes that are named.

#![allow(clippy::unwrap_used)]

mod scenario_support;

use std::fmt::Write as _;

use outage::run::explain;
use outage::scenario::{Fault, Leaders, Led, NodeRef, Step, choices, load, load_with, named_in};
use scenario_support::{broken, said};

#[test]
fn versions() {
    let of = |versions: &str| format!("  cluster:\n    versions: {versions}");
    let mut out = String::new();
    for range in ["\">=1.28.0 <1.28.3\"", "[\">=1.27.7 <1.28.0\", \">=1.28.3\"]", "\"=1.28\""] {
        let scenario = load("my.yaml", broken(&[("  cluster:", &of(range))]).as_bytes()).unwrap();
        let covered = [[1, 27, 6], [1, 27, 7], [1, 28, 2], [1, 28, 3], [1, 29, 0]];
        let covered = covered.map(|version| scenario.cluster.versions.covers(version));
        let _ = writeln!(out, "# {range}\n{} {covered:?}\n", scenario.cluster.versions);
    }
    for range in
        ["1.28", "\"1.28.3\"", "\">= 1.28\"", "\">=1.29 <1.28\"", "[]", "{}", "\"\"", "[\"<1.x\"]"]
    {
        let _ = writeln!(out, "# {range}\n{}", said(broken(&[("  cluster:", &of(range))])));
    }
    insta::assert_snapshot!(out);
}

#[test]
fn what_happens_must_fit_together_on_every_version() {
    let stop = "        stop: {component: kube-apiserver, on: {master: 3}, signal: SIGKILL}\n";
    let inject = |versions: &str| {
        format!(
            "  - inject:\n      name: stopped\n      versions: \"{versions}\"\n      fault:\n{stop}"
        )
    };
    let first = format!("  - inject:\n      name: stopped\n      fault:\n{stop}");
    let with = |steps: String| broken(&[(&first, &steps)]);
    let both = with(inject("<1.28.3") + &inject(">=1.28.3"));
    assert!(load("my.yaml", both.as_bytes()).is_ok(), "one on each version");
    let detect = "    - name: it refuses connections\n";
    let late = "    - name: it refuses connections\n      versions: \">=1.30\"\n";
    let cluster = |text: String| text.replace("  cluster:", "  cluster:\n    versions: \">=1.30\"");
    assert!(load("my.yaml", cluster(broken(&[(detect, late)])).as_bytes()).is_ok());
    let mut out = String::new();
    for (what, text) in [
        ("two actions of one name on some versions", with(inject("<1.29") + &inject(">=1.28.3"))),
        ("nothing is injected on some", with(inject(">=1.28"))),
        ("nothing is detected on some", broken(&[(detect, late)])),
    ] {
        let _ = writeln!(out, "# {what}\n{}", said(text));
    }
    insta::assert_snapshot!(out);
}

/// The small scenario with named nodes, master 3 replaced by a name where it is stopped.
fn naming(nodes: &str, on: &str) -> String {
    let nodes = format!("  nodes: {nodes}\n  steadyState:");
    broken(&[("  steadyState:", &nodes), ("on: {master: 3}", &format!("on: {on}"))])
}

#[test]
fn a_scenario_is_told_step_by_step() {
    let scenario = load("s.yaml", include_bytes!("../scenarios/stopped-apiserver.yaml")).unwrap();
    let told = explain(&scenario, &[2], [1, 34, 4]).unwrap();
    let (_, steps) = told.split_once("\nOn 3 masters").unwrap();
    insta::assert_snapshot!(steps);
    let text = naming("{lost: {leads: etcd}, peer: {any: masters, not: lost}}", "{node: peer}");
    let text = text.replace("  cluster:", "  cluster:\n    versions: \">=1.35\"");
    let scenario = load("my.yaml", text.as_bytes()).unwrap();
    insta::assert_snapshot!(explain(&scenario, &[0], [1, 34, 4]).unwrap());
}

#[test]
fn what_is_written_into_objects_is_told() {
    let scenario = load("s.yaml", include_bytes!("examples/setup.yaml")).unwrap();
    let told = explain(&scenario, &[0], [1, 34, 4]).unwrap();
    let (_, steps) = told.split_once("\nOn 3 masters").unwrap();
    insta::assert_snapshot!(steps);
}

#[test]
fn named_nodes_are_read_as_the_nodes_that_were_chosen() {
    let text = naming("{lost: {leads: etcd}, peer: {any: masters, not: lost}}", "{node: peer}");
    let scenario = load("my.yaml", text.as_bytes()).unwrap();
    let all = choices(&scenario.nodes, 3, 1, &Leaders::new());
    assert_eq!(all.len(), 6);
    for nodes in all {
        let peer = nodes["peer"];
        let scenario = load_with("my.yaml", text.as_bytes(), nodes).unwrap();
        let Step::Inject(action) = &scenario.steps[0] else { panic!() };
        assert!(matches!(&action.fault, Fault::Stop(stop) if stop.on == [peer]));
    }
}

/// The same in two variants.
fn in_variants(nodes: &str) -> String {
    naming(nodes, "{node: lost}").replace("  nodes:", "  variants: [a, b]\n  nodes:")
}

#[test]
fn a_name_may_be_another_node_in_each_variant() {
    let text = in_variants(
        "{lost: [{only: [a], leads: etcd}, {only: [b], notLeads: etcd}], \
         peer: {any: masters, not: lost}}",
    );
    let scenario = load("my.yaml", text.as_bytes()).unwrap();
    let leaders = Leaders::from([(Led::Etcd, NodeRef::Master(2))]);
    let of = |variant| choices(&named_in(&scenario.nodes, variant), 3, 1, &leaders);
    let lost = |variant| of(variant).iter().map(|nodes| nodes["lost"]).collect::<Vec<_>>();
    assert_eq!(lost("a"), [NodeRef::Master(2); 2]);
    assert_eq!(lost("b"), [1, 1, 3, 3].map(NodeRef::Master));
    let mut out = explain(&scenario, &[0, 1], [1, 34, 4]).unwrap();
    out = out.lines().filter(|line| line.contains("lost")).collect::<Vec<_>>().join("\n") + "\n\n";
    for nodes in [
        "{lost: {only: [a], leads: etcd}}",
        "{lost: [{only: [a], leads: etcd}, {any: masters}]}",
        "{lost: [{only: [c], leads: etcd}]}",
        "{lost: []}",
        "{lost: {any: masters}, peer: [{only: [a], any: masters}, {only: [b], leads: etcd}], \
         third: {leads: etcd, not: peer}}",
    ] {
        let _ = writeln!(out, "# {nodes}\n{}", said(in_variants(nodes)));
    }
    insta::assert_snapshot!(out);
}

#[test]
fn named_nodes() {
    let mut out = String::new();
    for (nodes, on) in [
        ("{lost: {leads: etcd}}", "{node: lsot}"),
        ("{lost: {any: workers}}", "{node: lost}"),
        ("{lost: {leads: kubelet}}", "{node: lost}"),
        ("{lost: {leads: etcd, any: masters}}", "{node: lost}"),
        ("{lost: {not: lost}}", "{node: lost}"),
        ("{lost: {any: masters, not: [lost, other]}}", "{node: lost}"),
        ("{lost: {leads: etcd}, a: {leads: etcd, not: lost}}", "{node: lost}"),
        ("{Lost: {leads: etcd}}", "{master: 1}"),
        (
            "{a: {any: masters}, b: {any: masters}, c: {any: masters}, d: {any: masters}, e: {any: masters}}",
            "{master: 1}",
        ),
        ("[lost]", "{master: 1}"),
        ("{lost: etcd}", "{node: 3}"),
    ] {
        let _ = writeln!(out, "# {nodes} {on}\n{}", said(naming(nodes, on)));
    }
    let _ = writeln!(out, "# none\n{}", said(broken(&[("on: {master: 3}", "on: {node: lost}")])));
    let nodes = "  nodes: {a: {any: masters}, b: {any: masters}}\n  steadyState:";
    let both = "endpoints: {service: default/kubernetes, through: {master: 1}, contain: [{node: a}], lack: [{node: b}]}";
    let text = broken(&[
        ("  steadyState:", nodes),
        ("health: {apiserver: {master: 3}, path: /readyz, is: refused}", both),
    ]);
    let _ = writeln!(out, "# only some choices are wrong\n{}", said(&text));
    let apart = text.replace("b: {any: masters}", "b: {any: masters, not: a}");
    assert!(load("my.yaml", apart.as_bytes()).is_ok());
    insta::assert_snapshot!(out);
}
