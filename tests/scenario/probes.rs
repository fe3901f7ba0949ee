//! Probes that have a file of their own: what can be written, and what an author is told about what
//! can't.

use outage::scenario::load;

use super::{broken, detecting};

#[test]
fn probes_of_objects_and_logs() {
    let through = "through: {master: 1}";
    let object = |fields: &str| {
        let kind = "apiVersion: coordination.k8s.io/v1, kind: Lease";
        format!(
            "object: {{{kind}, namespace: kube-system, {fields}, {through}}}\n      within: 10s"
        )
    };
    let event = |fields: &str| format!("event: {{{fields}, {through}}}\n      within: 10s");
    let log = |fields: &str| format!("log: {{{fields}}}\n      within: 10s");
    let cases = [
        object("name: kube-scheduler"),
        object("name: kube-scheduler, cel: 'object.spec.holder =='"),
        object("name: kube-scheduler, cel: 'object.spec = 1'"),
        object("name: kube-scheduler, cel: 'objects.all(o, o.x)'"),
        object("name: kube-scheduler, cel: 'object.x == other'"),
        object("name: kube-scheduler, cel: 'sise(object) == 1'"),
        object("name: kube-scheduler, cel: '1 == 1'"),
        object("name: kube-scheduler, cel: 'object.x == hosts[\"maser-1\"]'"),
        object("name: kube-scheduler, cel: 'object.x == nodes[\"worker-7\"]'"),
        object("cel: 'objects.exists(o, o.x == nodes.leader)'"),
        object("name: kube-scheduler, cel: true"),
        object("name: kube-scheduler, labels: {a: b}, cel: 'object == null'"),
        object("cel: 'object == null'"),
        object("labels: {}, cel: 'size(objects) == 0'"),
        object("labels: [a], cel: 'size(objects) == 0'"),
        "object:
          apiVersion: v1
          kind: Node
          name: a
          through: {master: 1}
          cel: |
            object.spec.x == 1 &&
            object.spec ==
      within: 10s"
            .into(),
        event("involved: {kind: Pod, name: a}"),
        event("involved: {kind: Pod}, reason: Failed"),
        event("involved: {node: {master: 7}}, reason: Failed"),
        event("involved: {component: etcd}, reason: Failed"),
        event("involved: {component: etcd, on: {master: 1}, name: a}, reason: Failed"),
        event("involved: {node: {worker: 1}}, type: warning, message: '(a'"),
        event("involved: {node: {worker: 1}}, reason: Failed").replace("within", "throughout"),
        event("involved: {node: {worker: 1}}, reason: Failed") + "\n      stableFor: 3s",
        event("involved: {node: {worker: 1}}, reason: Failed, is: gone"),
        log("of: {component: etcd}, on: {worker: 1}, line: x"),
        log("of: {component: etcd}, on: {every: nodes}, line: x"),
        log("of: {pod: a/b}, on: [], line: x"),
        log("of: {component: kubelet}, on: {master: 1}, line: x"),
        log("of: {service: etcd}, on: {master: 1}, line: x"),
        log("of: {pod: etcd}, on: {master: 1}, line: '[a'"),
        log("of: {service: kubelet}, on: {master: 1}"),
        log("of: {service: kubelet}, on: {master: 1}, line: x").replace("within", "throughout"),
    ];
    let said: String = cases.iter().map(|case| detecting(case)).collect();
    insta::assert_snapshot!(said);
}

#[test]
fn probes_of_conditions_and_commands() {
    let condition = |fields: &str| {
        let of = "apiVersion: v1, kind: Node, name: a, condition: Ready, through: {master: 1}";
        format!("condition: {{{of}, {fields}}}\n      within: 10s")
    };
    let command = |fields: &str| format!("command: {{{fields}}}\n      within: 10s");
    let cases = [
        condition("changes: {atLeast: x}"),
        condition("changes: absent"),
        condition("changes: {atLeast: 2}, reason: KubeletReady"),
        condition("status: True, message: '(a'"),
        condition("reason: KubeletReady"),
        command("on: {worker: 1}, run: ls"),
        command("on: {worker: 3}, run: '', exitCode: 300"),
        command("run: ls, stdout: '[a'"),
    ];
    let said: String = cases.iter().map(|case| detecting(case)).collect();
    insta::assert_snapshot!(said);
}

#[test]
fn probes_of_answers() {
    let metric = |fields: &str| {
        format!(
            "metric: {{component: etcd, on: {{master: 1}}, name: a_total, {fields}}}\n      within: 10s"
        )
    };
    let from = "from: {worker: 1}";
    let kubectl = |fields: &str| format!("kubectl: {{{from}, {fields}}}\n      within: 30s");
    let request = |fields: &str| {
        let tally = "attempts: 1, failed: {count: 0}";
        format!(
            "request: {{{from}, to: loadBalancer, path: /apis, {tally}, {fields}}}\n      within: 10s"
        )
    };
    let writes =
        |fields: &str| format!("writes: {{{from}, to: loadBalancer, {fields}}}\n      within: 10s");
    let connect = |to: &str| {
        format!(
            "connect: {{{from}, to: {to}, attempts: 1, refused: {{count: 0}}}}\n      within: 10s"
        )
    };
    let cases = [
        metric("labels: {a: b}"),
        metric("value: {atLeast: 1}, increase: {atLeast: 1}"),
        metric("value: 1"),
        metric("value: {atleast: 1}"),
        metric("value: {equals: x}"),
        metric("value: {absent: 1}"),
        metric("increase: absent"),
        metric("value: {equals: 1}").replace("etcd", "coredns"),
        metric("value: {equals: 1}").replace("master", "worker"),
        metric("value: {equals: 1}").replace("a_total", "'a_total{b}'"),
        kubectl("to: loadBalancer, args: [get, nodes]"),
        kubectl("to: loadBalancer, args: [], exitCode: 0"),
        kubectl("to: loadBalancer, args: get nodes, exitCode: 256"),
        kubectl("to: {apiserver: {master: 1}}, args: [get, --server=x], exitCode: 0"),
        kubectl("to: {apiserver: {master: 1}}, args: [get, 1], stderr: '('"),
        request("as: jane"),
        request("as: {groups: []}"),
        request("as: {serviceAccount: {name: default, issuedBy: {worker: 1}}}"),
        request("as: {user: jane, serviceAccount: {name: a/b, issuedBy: {master: 1}}}"),
        request("as: {groups: [a], serviceAccount: {name: a/b, issuedBy: {master: 1}}}"),
        request("as: {user: \"jane doe\", groups: [ä]}"),
        request("status: 99"),
        request("status: [200, x]"),
        request("body: '*'"),
        writes("attempts: 10"),
        writes("attempts: 10, failed: {count: 0}, error: x"),
        writes("attempts: 10, failed: {count: 11}, error: '('"),
        "written: {through: {master: 1}}\n      within: 10s".into(),
        "written: {through: {worker: 1}}\n      within: 10s".into(),
        "health: {apiserver: {master: 3}, path: /readyz, is: ok, check: etcd}\n      within: 10s".into(),
        "health: {apiserver: {master: 3}, path: /readyz/etcd, is: failing, check: etcd}\n      within: 10s".into(),
        connect("{address: 10.0.0.1}"),
        connect("{address: 'a:1'}"),
        connect("{pod: a/b}"),
        connect("{pod: 'a/B:1'}"),
        connect("{pod: 'a/b:0'}"),
        connect("{service: 'a/b:99999'}"),
        connect("{service: 'a/b:_'}"),
    ];
    let said: String = cases.iter().map(|case| detecting(case)).collect();
    insta::assert_snapshot!(said);
}

#[test]
fn every_probe_loads() {
    let through = "through: {master: 1}";
    let tally = "attempts: 10, failed: {count: 0}";
    let write = format!("writes: {{from: {{worker: 1}}, to: loadBalancer, {tally}}}");
    let cases = [
        format!("object: {{apiVersion: v1, kind: Node, name: n, cel: 'object == null', {through}}}"),
        format!("object: {{apiVersion: v1, kind: Pod, labels: {{a: '', b: c}}, cel: 'objects.all(o, o.spec.nodeName == nodes[\"master-1\"])', {through}}}"),
        format!("event: {{involved: {{component: etcd, on: {{master: 1}}}}, type: Warning, {through}}}"),
        format!("event: {{involved: {{kind: Pod, name: 'a-*', namespace: b}}, message: 'x.*y', is: absent, {through}}}"),
        "log: {of: {component: etcd}, on: {master: 1}, line: 'lost .*leader'}".into(),
        "log: {of: {pod: kube-system/coredns-*}, on: {worker: 1}, line: x, is: absent}".into(),
        "log: {of: {service: containerd}, on: {worker: 1}, line: x, is: seen}".into(),
        "log: {of: {pod: a/b}, on: [{master: 1}, {worker: 1}], line: x}".into(),
        "metric: {component: kubelet, on: {worker: 1}, name: x, increase: {atLeast: 0.5}}".into(),
        "metric: {component: kubelet, on: {every: nodes}, name: x, rate: {atLeast: 0.5}}".into(),
        "metric: {component: etcd, on: {master: 1}, name: x, labels: {a: b}, value: absent}".into(),
        "kubectl: {from: {master: 1}, to: {apiserver: {master: 2}}, args: [top, nodes], exitCode: 1, stderr: x}".into(),
        format!("request: {{from: {{worker: 1}}, to: {{service: 'a/b:https'}}, path: /, as: {{user: jane, groups: [a]}}, status: [200, 403], body: x, {tally}}}"),
        format!("request: {{from: {{worker: 1}}, to: {{pod: 'a/b:443'}}, path: /, status: 200, {tally}}}"),
        "connect: {from: {worker: 1}, to: {address: '10.0.0.1:53'}, attempts: 1, refused: {count: 1}}".into(),
        "health: {apiserver: {master: 3}, path: /readyz, is: failing, check: etcd}".into(),
        write.clone(),
    ];
    for case in cases {
        let text =
            broken(&[("health: {apiserver: {master: 3}, path: /readyz, is: refused}", &case)]);
        load("my.yaml", text.as_bytes())
            .unwrap_or_else(|error| panic!("{case}: {}", error.plain()));
    }
    let both = format!(
        "{write}\n      within: 10s\n    - name: there\n      probe:\n        written: {{{through}}}"
    );
    let text = broken(&[("health: {apiserver: {master: 3}, path: /readyz, is: refused}", &both)]);
    load("my.yaml", text.as_bytes()).unwrap_or_else(|error| panic!("{}", error.plain()));
}
