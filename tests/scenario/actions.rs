//! What an author is told about steps that don't fit together.

use super::each;

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
    ]));
}
