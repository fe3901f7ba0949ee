//! What an author is told about steps that don't fit together.

use outage::scenario::load;

use super::{broken, each, said};

#[test]
fn actions() {
    let again = "  - inject:\n      name: stopped\n      fault:\n        stop: {component: etcd, on: {master: 3}, signal: SIGKILL}\n  - detect:";
    insta::assert_snapshot!(each(&[
        &[("actions: [stopped]", "actions: [stoped]")],
        &[("actions: [stopped]", "actions: [other]")],
        &[("actions: [stopped]", "actions: [stopped, stopped]")],
        &[("  - detect:", again)],
        &[("  - inject:", "  - remedy:")],
        &[("  - detect:", "  - recover:")],
        &[("    - name: it refuses", "    - {}\n    - name: it refuses")],
        &[("signal: SIGKILL", "signal: SIGKIL")],
        &[("signal: SIGKILL", "signal: SIGKIL"), ("actions: [stopped]", "actions: [nope]")],
    ]));
}

/// A fault after which something else stands in its step.
fn beside(fault: &str, beside: &str) -> Vec<(&'static str, String)> {
    let old = "        stop: {component: kube-apiserver, on: {master: 3}, signal: SIGKILL}";
    vec![(old, format!("        {fault}\n      {beside}"))]
}

#[test]
fn repetitions() {
    let isolate = "isolate: {on: {master: 3}}";
    let kill = "kill: {component: etcd, on: {master: 1}, signal: SIGKILL}";
    let cases = [
        beside(isolate, "repeat: {times: 2, every: 30s}"),
        beside(isolate, "repeat: {times: 1, every: 30s, lasts: 10s}"),
        beside(isolate, "repeat: {times: 2, every: 30s, lasts: 30s}"),
        beside(isolate, "repeat: {times: 2, every: 30s, lasts: 10s, jitter: 25s}"),
        beside(isolate, "repeat: {time: 2, every: 30, for: 10s}"),
        beside(kill, "repeat: {times: 2, every: 30s, lasts: 10s}"),
        beside(kill, "after: 10"),
    ];
    let cases: Vec<Vec<(&str, &str)>> = cases
        .iter()
        .map(|case| case.iter().map(|(old, new)| (*old, new.as_str())).collect())
        .collect();
    let cases: Vec<&[(&str, &str)]> = cases.iter().map(Vec::as_slice).collect();
    insta::assert_snapshot!(each(&cases));
}

#[test]
fn what_times_count_from() {
    insta::assert_snapshot!(each(&[
        &[("      within: 10s", "      within: 10s\n      from: stoped")],
        &[("      within: 10s", "      within: 10s\n      from: [stopped]")],
        &[("    within: 60s", "    within: 60s\n    from: stopped")],
        &[(
            "  - revert:",
            "  - detect:\n    - name: window\n      from: stopped\n      throughout: 10s\n      probe:\n        health: {apiserver: {master: 1}, path: /readyz, is: ok}\n  - revert:",
        )],
    ]));
}

#[test]
fn what_must_be_taken_back_in_order() {
    let stop = "        stop: {component: kube-apiserver, on: {master: 3}, signal: SIGKILL}";
    let revert = "  - revert:\n      actions: [stopped]";
    let [order, both] = [
        &*format!("{revert}\n  - revert:\n      actions: [later]"),
        "  - revert: {actions: [stopped, later]}",
    ];
    let with = |first: &str, later: &str, reverts: &str| {
        let inject = "  - inject:\n      name: later\n      fault:\n";
        broken(&[(stop, &format!("{first}\n{inject}        {later}")), (revert, reverts)])
    };
    let flag = |on| {
        format!(
            "settings: {{component: kube-apiserver, on: {{master: {on}}}, flags: {{v: \"4\"}}}}"
        )
    };
    let map = |data: &str| {
        let identity = "apiVersion: v1, kind: ConfigMap, metadata: {name: a}";
        format!("        apply: {{manifest: {{{identity}, data: {{{data}}}}}}}")
    };
    insta::assert_snapshot!(
        said(with(stop, &flag(3), order)) + &said(with(&map("a: b"), map("a: c").trim(), order))
    );
    for good in [
        with(stop, &flag(3), both),
        with(stop, &flag(2), order),
        with(&map("a: b"), map("b: c").trim(), order),
    ] {
        load("good.yaml", good.as_bytes()).unwrap_or_else(|error| panic!("{}", error.plain()));
    }
}
