//! The scenario language: what is read, and what an author is told about what can't be.

#![allow(clippy::unwrap_used)]

mod scenario_support;

use std::fmt::Write as _;

use outage::scenario::{
    Addon, BUILTIN, ConditionSide, Fault, NodeRef, Only, Probe, Scenario, Step, Tally, Timing,
    builtin, load,
};
use proptest::prelude::*;
use scenario_support::{SMALL, broken, said};

#[path = "scenario/actions.rs"]
mod actions;
#[path = "scenario/examples.rs"]
mod examples;
#[path = "scenario/files.rs"]
mod files;
#[path = "scenario/habits.rs"]
mod habits;
#[path = "scenario/probes.rs"]
mod probes;
#[path = "scenario/round_trip.rs"]
mod round_trip;

const GOOD: &str = include_str!("../scenarios/stopped-apiserver.yaml");

/// Snapshots of the small scenario, broken in several ways one after another.
fn each(cases: &[&[(&str, &str)]]) -> String {
    let mut out = String::new();
    for case in cases {
        let [.., (_, to)] = case else { panic!("a case without a change") };
        let _ = writeln!(out, "# {}\n{}", to.trim().escape_debug(), said(broken(case)));
    }
    out
}

fn good() -> Scenario {
    load("good.yaml", GOOD.as_bytes()).unwrap_or_else(|error| panic!("{}", error.plain()))
}

#[test]
fn the_shipped_file_loads() {
    let scenario = good();
    assert_eq!(scenario.variants.len(), 5);
    assert_eq!((scenario.cluster.masters, scenario.cluster.workers), (3, 1));
    let Step::Inject(action) = &scenario.steps[0] else { panic!("{:?}", scenario.steps[0]) };
    assert!(matches!(&action.fault, Fault::Stop(stop) if stop.on == [NodeRef::Master(3)]));
    let covers = ["master-count-sigkill", "master-count-switch-to-lease", "lease-sigkill"];
    assert_eq!(action.only, Only::These(covers.map(str::to_owned).to_vec()));
    let Step::Detect(expectations) = &scenario.steps[2] else { panic!("{:?}", scenario.steps[2]) };
    let Probe::Connect(connect) = &expectations[1].probe else { panic!("{expectations:?}") };
    assert_eq!(connect.refused, Tally::Share { of: 0.3333, false_alarm: 1e-6 });
    assert_eq!(expectations[1].every.as_secs(), 1);
    let Timing::Throughout { after, window } = expectations[6].timing else { panic!() };
    assert_eq!((after.as_secs(), window.as_secs()), (15, 10));
}

#[test]
fn a_file_without_variants_has_one() {
    let scenario = load("small.yaml", SMALL.as_bytes()).unwrap();
    assert_eq!(scenario.variants, ["default"]);
}

#[test]
fn every_shipped_file_is_built_in_and_named_after_its_file() {
    let mut files: Vec<_> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios"))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    files.sort();
    let mut names: Vec<_> = BUILTIN.iter().map(|builtin| builtin.name).collect();
    names.sort_unstable();
    assert_eq!(names, files);
    for builtin in BUILTIN {
        let scenario = load(builtin.path, builtin.text.as_bytes());
        let scenario = scenario.unwrap_or_else(|error| panic!("{}", error.plain()));
        assert_eq!(scenario.name, builtin.name);
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/").to_owned() + builtin.path;
        assert_eq!(load(&path, &std::fs::read(&path).unwrap()).unwrap(), scenario);
    }
}

#[test]
fn an_unknown_name_is_answered_with_the_nearest() {
    assert!(builtin("stopped-apiserver").is_ok());
    let error = builtin("stoped-apiserver").unwrap_err();
    insta::assert_snapshot!(error, @"no built-in scenario is called `stoped-apiserver`; did you mean `stopped-apiserver`?");
    insta::assert_snapshot!(builtin("zzz").unwrap_err(), @"no built-in scenario is called `zzz`");
}

#[test]
fn all_problems_come_at_once() {
    let text = broken(&[
        ("masters: 3", "masters: 4"),
        ("path: /readyz, is: ok}\n    within: 60s", "path: /ready, is: okay}\n    witin: 60"),
        ("signal: SIGKILL", "sgnal: SIGKILL"),
        ("within: 10s", "within: 10"),
        ("actions: [stopped]", "actions: []"),
    ]);
    insta::assert_snapshot!("all_at_once", said(&text));
    let error = load("my.yaml", text.as_bytes()).unwrap_err();
    insta::assert_snapshot!("all_at_once_graphical", error.graphical(false));
}

#[test]
fn fields() {
    insta::assert_snapshot!(each(&[
        &[("  title:", "  titel:")],
        &[("signal: SIGKILL", "signal: SIGKILL, hard: true")],
        &[("  title: The least that is a scenario\n", "  name: other\n  title: T\n")],
        &[("  name: small\n", "")],
        &[("masters: 3", "masters: three")],
        &[("      name: stopped\n", "      name: [stopped]\n")],
        &[("  steps:", "  steps: 3\n  other:")],
        &[("  - revert:\n      actions: [stopped]\n", "  - revert:\n")],
        &[("name: small", "name: Small Scenario")],
        &[("title: The least that is a scenario", "title: 7")],
        &[("title: The least that is a scenario", "title:")],
    ]));
}

#[test]
fn a_missing_field_is_missed_even_if_another_is_near_to_it() {
    let traffic = "traffic: {from: {master: 1}, do: drop}";
    insta::assert_snapshot!(said(injecting(traffic)), @r"
    my.yaml:19:9: the field `to` is missing
        help: add `to: …`
    ");
    let apply = "apply: {manifest: {apiVersion: v1, kinds: Pod, metadata: {nama: a}}}";
    insta::assert_snapshot!(said(injecting(apply)), @r"
    my.yaml:19:17: the field `kind` is missing
        help: add `kind: …`
    my.yaml:19:56: the field `name` is missing
        help: add `name: …`
    ");
}

#[test]
fn addons() {
    let addons = |list: &str| format!("workers: 1\n    addons: {list}");
    let scenario = broken(&[("workers: 1", &addons("[metrics-server]"))]);
    let scenario = load("my.yaml", scenario.as_bytes()).unwrap();
    assert_eq!(scenario.cluster.addons, [Addon::MetricsServer]);
    for (name, addon) in Addon::ALL {
        assert_eq!(addon.name(), name);
    }
    let mut out = String::new();
    for list in [
        "[metric-server]",
        "[dashboard]",
        "[metrics-server, metrics-server]",
        "metrics-server",
        "[{metrics-server: {}}]",
    ] {
        let _ = writeln!(out, "# {list}\n{}", said(broken(&[("workers: 1", &addons(list))])));
    }
    insta::assert_snapshot!(out);
}

#[test]
fn one_of() {
    insta::assert_snapshot!(each(&[
        &[("  - inject:", "  - injct:")],
        &[("        stop: {", "        halt: {")],
        &[("signal: SIGKILL}\n", "signal: SIGKILL}\n        settings: {}\n")],
        &[("SIGKILL", "KILL")],
        &[("component: kube-apiserver", "component: apiserver")],
        &[("is: refused", "is: down")],
        &[(
            "      health: {apiserver: {master: 3}, path: /readyz, is: refused}\n",
            "      helth: {}\n"
        )],
        &[("  - revert:\n      actions: [stopped]\n", "  - revert\n")],
    ]));
}

#[test]
fn nodes() {
    insta::assert_snapshot!(each(&[
        &[("on: {master: 3}", "on: {master: 4}")],
        &[("on: {master: 3}", "on: {master: 0}")],
        &[("on: {master: 3}", "on: {worker: 1}")],
        &[("on: {master: 3}", "on: {worker: 2}")],
        &[("workers: 1", "workers: 0"), ("on: {master: 3}", "on: {worker: 1}")],
        &[("on: {master: 3}", "on: master-3")],
        &[("on: {master: 3}", "on: {node: 3}")],
        &[("masters: 3", "masters: 2")],
        &[("workers: 1", "workers: 4")],
        &[("workers: 1", "workers: -1")],
    ]));
}

/// The small scenario with another probe, timing included, in `detect`.
fn detecting(probe: &str) -> String {
    let old =
        "        health: {apiserver: {master: 3}, path: /readyz, is: refused}\n      within: 10s";
    let (name, rest) = probe.split_once(": ").unwrap();
    format!("# {probe}\n{}\n", said(broken(&[(old, &format!("        {name}: {rest}"))])))
}

#[test]
fn timing() {
    let ready = "health: {apiserver: {master: 3}, path: /readyz, is: refused}\n      ";
    let cases = [
        "within: 30",
        "within: 0.5",
        "within: soon",
        "within: [30s]",
        "within: 99999y",
        "within: 50ms",
        "within: 30s\n      every: 1m",
        "within: 30s\n      every: 0s",
        "throughout: 5s\n      every: 6s",
        "within: 30s\n      throughout: 10s",
        "every: 1s",
        "within: 30s\n      after: 1s",
        "throughout: 30s\n      stableFor: 1s",
        "within: 30s\n      stableFor: 1",
        "stablefor: 3s",
    ];
    let said: String = cases.iter().map(|case| detecting(&format!("{ready}{case}"))).collect();
    insta::assert_snapshot!(said);
}

#[test]
fn probes() {
    let connect = |tally: &str| {
        format!(
            "connect: {{from: {{worker: 1}}, to: {{service: default/kubernetes}}, {tally}}}\n      within: 10s"
        )
    };
    let endpoints = |what: &str| {
        format!(
            "endpoints: {{service: default/kubernetes, through: {{master: 1}}{what}}}\n      within: 10s"
        )
    };
    let cases = [
        connect("attempts: 300, refused: {share: {of: 33, falseAlarm: 1e-6}}"),
        connect("attempts: 300, refused: {share: {of: 1.5, falseAlarm: 0}}"),
        connect("attempts: 29, refused: {share: {of: 0.3, falseAlarm: 1e-6}}"),
        connect("attempts: 0, refused: {count: 0}"),
        connect("attempts: 10, refused: {count: 11}"),
        connect("attempts: 10, refused: 0"),
        connect("attempts: 10"),
        connect("attempts: 1e3, refused: {count: 0}"),
        connect("attempts: 10, refused: {count: 0}").replace("10s", "500ms"),
        connect("attempts: 10, refused: {count: 0}").replace("{service: default/kubernetes}", "{service: kubernetes}"),
        connect("attempts: 10, refused: {count: 0}").replace("{service: default/kubernetes}", "loadbalancer"),
        connect("attempts: 10, refused: {count: 0}").replace("{service: default/kubernetes}", "{loadBalancer: 1}"),
        endpoints(""),
        endpoints(", contain: []"),
        endpoints(", contain: [{master: 1}], lack: [{master: 1}]"),
        endpoints(", lack: [{worker: 1}]"),
        endpoints(", lack: [{master: 1}, {master: 7}, {master: x}]"),
        "health: {apiserver: {master: 3}, path: readyz, is: ok}\n      within: 10s".into(),
        "health: {apiserver: {worker: 1}, path: /readyz/etcd, is: ok}\n      within: 10s".into(),
        "request: {from: {worker: 1}, to: loadBalancer, path: 'a b', attempts: 1, failed: {count: 0}}\n      within: 10s".into(),
        "condition: {apiVersion: v1, kind: Node, name: n, condition: Ready, status: Yes, through: {master: 1}}\n      within: 10s".into(),
    ];
    let said: String = cases.iter().map(|case| detecting(case)).collect();
    insta::assert_snapshot!(said);
}

#[test]
fn a_status_needs_no_quotes() {
    let text = broken(&[(
        "health: {apiserver: {master: 3}, path: /readyz, is: refused}",
        "condition: {apiVersion: v1, kind: Node, name: n, condition: Ready, status: False, through: {master: 1}}",
    )]);
    let scenario = load("my.yaml", text.as_bytes()).unwrap();
    let Step::Detect(expectations) = &scenario.steps[1] else { panic!() };
    let Probe::Condition(condition) = &expectations[0].probe else { panic!() };
    let is = ConditionSide::State { status: "False".into(), reason: None, message: None };
    assert_eq!(condition.is, is);
}

#[test]
fn flags() {
    let settings = |flags: &str| {
        let fault =
            format!("settings: {{component: kube-apiserver, on: [{{master: 1}}], flags: {flags}}}");
        let old = "stop: {component: kube-apiserver, on: {master: 3}, signal: SIGKILL}";
        broken(&[(old, &fault)])
    };
    assert!(load("my.yaml", settings("{a: \"3\", b: null, c: '', d: [x, y]}").as_bytes()).is_ok());
    let mut out = String::new();
    for flags in
        ["{--a: x}", "{-: x}", "{a: 3}", "{a: true}", "{a: [x, 1]}", "{a: []}", "{}", "[a]"]
    {
        let _ = writeln!(out, "# {flags}\n{}", said(settings(flags)));
    }
    for on in ["[]", "[{master: 1}, {master: 1}]", "[{worker: 1}]"] {
        let settings = settings("{a: b}").replace("on: [{master: 1}]", &format!("on: {on}"));
        let _ = writeln!(out, "# on: {on}\n{}", said(settings));
    }
    let cluster = "workers: 1\n    settings: [{component: etcd, flags: {a: null}}, {only: [x], component: etcd, flags: {a: b}}]";
    let _ = write!(out, "# {cluster}\n{}", said(broken(&[("workers: 1", cluster)])));
    insta::assert_snapshot!(out);
}

/// The small scenario with another fault.
fn injecting(fault: &str) -> String {
    let old = "stop: {component: kube-apiserver, on: {master: 3}, signal: SIGKILL}";
    broken(&[(old, fault)])
}

fn injected(fault: &str) -> Fault {
    let scenario = load("my.yaml", injecting(fault).as_bytes());
    let scenario = scenario.unwrap_or_else(|error| panic!("{}", error.plain()));
    let Step::Inject(action) = &scenario.steps[0] else { panic!("{:?}", scenario.steps[0]) };
    action.fault.clone()
}

#[test]
fn faults_strike_one_several_or_every_node() {
    let on = |places: &str| match injected(&format!("isolate: {{on: {places}}}")) {
        Fault::Isolate(isolate) => isolate.on.iter().map(ToString::to_string).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(on("{master: 2}"), ["master-2"]);
    assert_eq!(on("[{worker: 1}, {master: 2}]"), ["worker-1", "master-2"]);
    assert_eq!(on("{every: masters}"), ["master-1", "master-2", "master-3"]);
    assert_eq!(on("{every: workers}"), ["worker-1"]);
    assert_eq!(on("{every: nodes}"), ["master-1", "master-2", "master-3", "worker-1"]);
}

#[test]
fn faults_are_written_back_as_they_were_read() {
    for fault in [
        "kill: {component: kubelet, on: [{worker: 1}, {master: 1}], signal: SIGTERM}",
        "pause: {component: etcd, on: {every: masters}}",
        "powerOff: {on: {master: 3}}",
        "freeze: {on: {worker: 1}}",
        "traffic: {from: {master: 3}, to: {service: kube-system/metrics-server}, do: drop}",
        "traffic: {from: [{master: 3}], to: {component: {name: etcd, on: {master: 3}}}, do: reject, \
         ports: [2379], protocol: tcp, oneWay: true}",
        "traffic: {from: {pod: {namespace: default, labels: {app: web}}}, to: {every: nodes}, do: drop}",
        "file: {path: /etc/a, on: {every: masters}, make: {copyOf: /etc/b}}",
        "file: {path: /etc/a, on: {master: 1}, make: {content: ''}}",
        "certificate: {path: /a.crt, on: {worker: 1}, organization: '', validity: {notYet: 5m}}",
        "command: {on: {worker: 1}, inject: a, prove: b, revert: c}",
    ] {
        let read = injected(fault);
        let written = serde_json::to_string(&read).unwrap();
        assert_eq!(serde_json::from_str::<Fault>(&written).unwrap(), read);
    }
}

#[test]
fn faults() {
    let cases = [
        "kill: {component: kube-apiserver, on: {worker: 1}, signal: SIGKILL}",
        "kill: {component: etcd, on: {every: workers}, signal: SIGKILL}",
        "kill: {component: etcd, on: [{master: 1}, {worker: 1}], signal: SIGSTOP}",
        "kill: {component: kubelets, on: {worker: 2}}",
        "stop: {component: kube-proxy, on: {worker: 1}, signal: SIGKILL}",
        "pause: {component: containerd, on: [{worker: 1}, {worker: 1}]}",
        "pause: {component: etcd, on: []}",
        "clock: {component: kubelet, on: {worker: 1}, by: {ahead: 9s}}",
        "clock: {component: kubelet, on: {worker: 1}, by: {behind: 5000d}}",
        "tooManyOpenFiles: {component: etcd, on: {master: 1}}",
        "limit: {component: etcd, on: {worker: 1}, to: {cpu: 0.5}}",
        "limit: {component: etcd, on: {master: 1}, to: {cpu: 0m, memory: 1Mi}}",
        "limit: {component: kubelet, on: {worker: 1}, to: {memory: 64M}}",
        "limit: {component: kubelet, on: {worker: 1}, to: {memory: 9999999999Gi}}",
        "fullDisk: {on: {worker: 1}}",
        "powerOff: {on: {every: master}}",
        "powerOff: {on: master-1}",
        "powerOff: {}",
        "freeze: {on: {every: masters, master: 1}}",
        "isolate: {on: {node: 1}, how: hard}",
        "traffic: {}",
        "traffic: {from: {master: 4}, to: {worker: 1}, do: block}",
        "traffic: {from: {service: default/web}, to: {component: {name: containerd, on: {master: 1}}}, do: drop}",
        "traffic: {from: {component: {name: etcd, on: {master: 1}}}, to: {service: web}, do: drop}",
        "traffic: {from: {pod: {namespace: Web, labels: {}}}, to: {pod: {labels: [a]}}, do: drop}",
        "traffic: {from: worker, to: {every: nodes}, do: drop, oneWay: yes please}",
        "traffic: {from: loadBalancer, to: {master: 1}, do: drop}",
        "traffic: {from: {worker: 1}, to: {every: masters}, do: drop, ports: [0, 65536, x], protocol: sctp}",
    ];
    let mut out = String::new();
    for case in cases {
        let _ = writeln!(out, "# {case}\n{}", said(injecting(case)));
    }
    insta::assert_snapshot!(out);
}

#[test]
fn variants() {
    let variants = ("  steadyState:", "  variants: [lease-a, lease-b, old]\n  steadyState:");
    let only = |what: &str, patterns: &str| {
        (format!("      name: {what}\n"), format!("      name: {what}\n      only: {patterns}\n"))
    };
    let mut out = each(&[
        &[("  steadyState:", "  variants: []\n  steadyState:")],
        &[("  steadyState:", "  variants: [a, B, a]\n  steadyState:")],
    ]);
    for patterns in ["[lese-a]", "[lease-*, new-*]", "[]", "lease-a", "[lease-*]", "[old, lease-a]"]
    {
        let (from, to) = only("stopped", patterns);
        let _ =
            writeln!(out, "# inject only {patterns}\n{}", said(broken(&[variants, (&from, &to)])));
    }
    let detect = (
        "    - name: it refuses connections\n",
        "    - name: it refuses connections\n      only: [old]\n",
    );
    let _ = writeln!(out, "# detect only [old]\n{}", said(broken(&[variants, detect])));
    insta::assert_snapshot!(out);
}

#[test]
fn faults_of_names_and_objects() {
    let stop = "stop: {component: kube-apiserver, on: {master: 3}, signal: SIGKILL}";
    let faults = [
        "containerNameTaken: {component: kube-apiserver, on: {master: 3}, by: runningAtempt}",
        "containerNameTaken: {component: kube-apiserver, on: {worker: 1}}",
        "apply: {manifest: {kind: Namespace, metadata: {}}}",
        "apply: {manifest: {apiVersion: v1, kind: List, metadata: {name: a}}, through: {master: 9}}",
        "apply: {manifest: {apiVersion: v1, kind: Node, metadata: {name: a}, status: {a: b}}}",
        "apply: {manifest: text}",
        "apply: {manifest: {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}, count: 10001}",
        "patch: {apiVersion: v1, kind: Node, name: a, patch: {}}",
        "patch: {apiVersion: v1, kind: Node, name: a, patch: [1]}",
        "patch: {apiVersion: v1, kind: Node, name: a, patch: {metadata: {name: b}}, strategy: json}",
        "patch: {apiVersion: v1, kind: Node, name: a, patch: {a: [{$patch: delete}]}}",
        "delete: {apiVersion: a/b/c, kind: Node, name: a}",
        "delete: {apiVersion: v1, kind: Pod, namespace: A_b, nam: a}",
        "scale: {apiVersion: apps/v1, kind: Deployment, name: a, replicas: -1}",
        "scale: {apiVersion: apps/v1, kind: Deployment, name: a, replicas: 3000000000}",
    ];
    let cases: Vec<_> = faults.map(|fault| [(stop, fault)]).into();
    let cases: Vec<&[(&str, &str)]> = cases.iter().map(|case| &case[..]).collect();
    insta::assert_snapshot!(each(&cases));
}

#[test]
fn other_files() {
    insta::assert_snapshot!(each(&[
        &[("outage/v1alpha1", "outage/v2")],
        &[("outage/v1alpha1", "apps/v1"), ("kind: Scenario", "kind: Deployment")],
        &[("apiVersion: outage/v1alpha1\n", ""), ("kind: Scenario", "")],
    ]));
}

#[test]
fn broken_syntax() {
    let bomb = (0..30).fold(String::from("l0: &l0 [x, x]\n"), |text, level| {
        format!("{text}l{}: &l{} [*l{level}, *l{level}]\n", level + 1, level + 1)
    });
    let deep = format!("a: {}", "[".repeat(100_000));
    let wide = format!("a: [{}]", "1,".repeat(200_000));
    let cases: &[(&str, &[u8])] = &[
        ("empty", b""),
        ("a comment only", b"# nothing\n"),
        ("a word", b"scenario"),
        ("a list", b"- a\n- b\n"),
        ("NUL", b"apiVersion: a\nkind: \0b"),
        ("not UTF-8", b"apiVersion: a\nkind: \xff\xfe"),
        ("UTF-16", b"\xff\xfea\0p\0i\0"),
        ("an escape sequence", b"a: b\nkind: \x1b[31mred"),
        ("tabs", b"a:\n\tb: c\n"),
        ("a tab after a text", b"a: b\n\tc: d\n"),
        ("an unclosed bracket", b"a: [b, c\nd: e\n"),
        ("an unclosed quote", b"a: \"b\n"),
        ("a stray colon", b"a: b: c\n"),
        ("bad indentation", b"a:\n    b: c\n  d: e\n"),
        ("an unknown alias", b"a: *b\n"),
        ("an unknown tag", b"a: !b c\n"),
        ("a list as key", b"[a, b]: c\n"),
        ("an alias bomb", bomb.as_bytes()),
        ("a recursive alias", b"a: &a [*a]\n"),
        ("deep nesting", deep.as_bytes()),
        ("a long list", wide.as_bytes()),
        ("infinity", b"a: .inf\n"),
    ];
    let mut out = String::new();
    for (what, bytes) in cases {
        let _ = writeln!(out, "# {what}\n{}", said(bytes));
    }
    let _ = writeln!(out, "# several documents\n{}", said(format!("{SMALL}---\n{SMALL}")));
    let _ = writeln!(out, "# 2 MiB\n{}", said(" ".repeat(2 << 20)));
    insta::assert_snapshot!(out);
}

#[test]
fn a_byte_order_mark_is_no_problem() {
    assert_eq!(load("a", format!("\u{feff}{GOOD}").as_bytes()).unwrap(), good());
    assert_eq!(load("a", GOOD.replace('\n', "\r\n").as_bytes()).unwrap().steps, good().steps);
}

#[test]
fn aliases_and_merge_keys_repeat_what_was_written() {
    let alias = |path: &str| {
        let anchor =
            format!("&ready\n      health: {{apiserver: {{master: 3}}, path: {path}, is: ok}}");
        broken(&[
            (
                "\n      health: {apiserver: {master: 3}, path: /readyz, is: ok}",
                &format!(" {anchor}"),
            ),
            ("\n        health: {apiserver: {master: 3}, path: /readyz, is: ok}", " *ready"),
        ])
    };
    let plain = load("my.yaml", SMALL.as_bytes()).unwrap();
    assert_eq!(load("my.yaml", alias("/readyz").as_bytes()).unwrap(), plain);
    insta::assert_snapshot!(said(alias("readyz")), @r"
    my.yaml:13:46: `readyz` is not a health endpoint
        help: write `/readyz`, `/livez` or `/healthz`, or one check of it, such as `/readyz/etcd`
    ");
    let merged = broken(&[
        (
            "{apiserver: {master: 3}, path: /readyz, is: ok}",
            "&health {apiserver: {master: 3}, path: /readyz, is: ok}",
        ),
        ("{apiserver: {master: 3}, path: /readyz, is: refused}", "{<<: *health, is: refused}"),
    ]);
    assert_eq!(load("my.yaml", merged.as_bytes()).unwrap(), plain);
}

#[test]
fn places_are_counted_in_characters() {
    let text =
        broken(&[("title: The least that is a scenario", "{title: äöü, notes: \"ß\", nots: x}")]);
    let text = text.replace("  name: small\n  {", "  {name: small, ");
    let error = load("my.yaml", text.as_bytes()).unwrap_err();
    let problem = &error.problems()[0];
    assert_eq!((problem.line, problem.column), (4, 41), "{}", error.plain());
    assert_eq!(&text[problem.span.offset()..][..problem.span.len()], "nots");
}

#[test]
fn hostile_files_are_refused_in_few_words() {
    let long = format!(
        "apiVersion: outage/v1alpha1\nkind: Scenario\nspec: {{variants: ['{}']}}",
        "*".repeat(1_000_000)
    );
    let many = format!(
        "apiVersion: outage/v1alpha1\nkind: Scenario\nspec:\n{}",
        (0..20_000).fold(String::new(), |mut text, index| {
            let _ = writeln!(text, "  a{index}: b");
            text
        })
    );
    let keys = format!("{{{}}}", "a: b,".repeat(10_000));
    for text in
        [long, many, keys, "a: ".repeat(300_000), "- ".repeat(500_000), "&a ".repeat(300_000)]
    {
        let error = load("my.yaml", text.as_bytes()).unwrap_err();
        assert!(error.plain().len() < 200_000 && error.graphical(true).len() < 1_000_000);
        assert!(error.problems().len() <= 50);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
        if let Err(error) = load("my.yaml", &bytes) {
            error.plain();
            error.graphical(false);
        }
    }

    #[test]
    fn arbitrary_text_never_panics(text in "[-a-z0-9:{}\\[\\]\"'&*!|>#,.?%@ \t\n\u{e4}]{0,200}") {
        if let Err(error) = load("my.yaml", text.as_bytes()) {
            error.plain();
            error.graphical(false);
        }
    }

    #[test]
    fn mutations_of_a_good_file_never_panic(
        edits in prop::collection::vec((0..GOOD.len(), 0..40_usize, prop::collection::vec(any::<u8>(), 0..4)), 1..4),
        lines in prop::collection::vec((0..160_usize, 0..160_usize), 0..3),
    ) {
        let mut all: Vec<&str> = GOOD.lines().collect();
        for (from, to) in lines {
            let line = all[from % all.len()];
            all.insert(to % all.len(), line);
        }
        let mut bytes = all.join("\n").into_bytes();
        for (at, length, insert) in edits {
            let at = at.min(bytes.len());
            let end = (at + length).min(bytes.len());
            bytes.splice(at..end, insert);
        }
        if let Err(error) = load("my.yaml", &bytes) {
            prop_assert!(!error.problems().is_empty());
            error.plain();
            error.graphical(false);
        }
    }
}
