//! Valid scenarios of all shapes: each is read, and read as the same however its YAML is written.

use std::sync::LazyLock;
use std::time::Duration;

use jsonschema::Validator;
use outage::scenario::reference::schema;
use outage::scenario::{Expectation, Scenario, Step, Timing, Wait, load};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::scenario_support::validator;

fn pick(from: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::sample::select(from).prop_map(str::to_owned)
}

/// Of three masters and two workers.
fn node() -> impl Strategy<Value = Value> {
    prop_oneof![
        (1..=3_u8).prop_map(|n| json!({"master": n})),
        (1..=2_u8).prop_map(|n| json!({"worker": n})),
    ]
}

fn master() -> impl Strategy<Value = Value> {
    (1..=3_u8).prop_map(|n| json!({"master": n}))
}

fn masters() -> impl Strategy<Value = Value> {
    prop_oneof![
        master(),
        Just(json!([{"master": 1}, {"master": 3}])),
        Just(json!({"every": "masters"}))
    ]
}

fn target() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!("loadBalancer")),
        Just(json!({"service": "default/kubernetes"})),
        master().prop_map(|master| json!({"apiserver": master})),
    ]
}

fn component() -> impl Strategy<Value = String> {
    pick(&["kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd"])
}

fn make() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!("absent")),
        Just(json!("unreadable")),
        Just(json!({"content": "a\nb"})),
        Just(json!({"copyOf": "/etc/b"})),
    ]
}

fn fault() -> impl Strategy<Value = Value> {
    let signal = pick(&["SIGKILL", "SIGTERM"]);
    let metadata = json!({"name": "a"});
    let manifest = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata});
    prop_oneof![
        (component(), masters(), signal)
            .prop_map(|(c, on, s)| json!({"stop": {"component": c, "on": on, "signal": s}})),
        (component(), masters()).prop_map(|(c, on)| json!({"pause": {"component": c, "on": on}})),
        node().prop_map(|on| json!({"powerOff": {"on": on}})),
        node().prop_map(|on| json!({"freeze": {"on": on}})),
        node().prop_map(|on| json!({"isolate": {"on": on}})),
        (node(), make())
            .prop_map(|(on, make)| { json!({"file": {"path": "/etc/a", "on": on, "make": make}}) }),
        (node(), pick(&["ca", "stranger"]), pick(&["new", "mismatched"])).prop_map(
            |(on, issuer, key)| {
                let expired = json!({"expired": "1h"});
                json!({"certificate": {"path": "/etc/a.crt", "on": on, "issuer": issuer,
                    "validity": expired, "sans": ["a"], "key": key}})
            }
        ),
        node().prop_map(|on| {
            json!({"command": {"on": on, "inject": "a", "prove": "b\nc\n", "revert": "d"}})
        }),
        (1..=2_u8, pick(&["drop", "reject"])).prop_map(|(to, what)| {
            json!({"traffic": {"from": {"master": 3}, "to": {"master": to}, "do": what}})
        }),
        Just(json!({"apply": {"manifest": manifest}})),
        (0..9_u32).prop_map(|replicas| {
            let of =
                json!({"apiVersion": "apps/v1", "kind": "Deployment", "namespace": "kube-system"});
            let mut scale = of;
            scale["name"] = json!("coredns");
            scale["replicas"] = json!(replicas);
            json!({"scale": scale})
        }),
    ]
}

fn probe() -> impl Strategy<Value = Value> {
    let path = pick(&["/readyz", "/livez", "/healthz"]);
    let status = pick(&["True", "False", "Unknown"]);
    prop_oneof![
        (master(), path, pick(&["ok", "failing", "refused"]))
            .prop_map(|(m, p, is)| json!({"health": {"apiserver": m, "path": p, "is": is}})),
        (master(), master(), pick(&["contain", "lack"])).prop_map(|(through, of, what)| {
            let service = "default/kubernetes";
            json!({"endpoints": {"service": service, "through": through, what: [of]}})
        }),
        (node(), target(), 1..300_u32).prop_map(|(from, to, attempts)| {
            let refused = json!({"count": 0});
            json!({"connect": {"from": from, "to": to, "attempts": attempts, "refused": refused}})
        }),
        (node(), target()).prop_map(|(from, to)| {
            let failed = json!({"count": 1});
            json!({"request": {
                "from": from, "to": to, "path": "/readyz", "attempts": 2, "failed": failed,
            }})
        }),
        (master(), status).prop_map(|(through, status)| {
            json!({"condition": {
                "apiVersion": "v1", "kind": "Node", "name": "master-3", "condition": "Ready",
                "status": status, "through": through,
            }})
        }),
        (master(), 1..9_u8).prop_map(|(through, count)| {
            let cel = format!("size(objects) == {count} && \"#'[\" != 'x: y'");
            json!({"object": {
                "apiVersion": "v1", "kind": "Node", "through": through, "cel": cel,
            }})
        }),
    ]
}

/// What an expectation is written with, and what it must be read as.
#[derive(Debug, Clone)]
struct Expected {
    name: String,
    timing: Timing,
    every: Option<u64>,
    waits: Vec<Wait>,
    written: Value,
}

fn name() -> impl Strategy<Value = String> {
    // What YAML takes for something else unless it is quoted is among these.
    "[a-z#&*!|>'\"%@,:\\[\\]{}?~-][ a-z0-9#&*!|>'\"%@,:\\[\\]{}?\u{e4}~-]{0,20}[a-z]"
}

fn expectation() -> impl Strategy<Value = Expected> {
    let timing = prop_oneof![
        (10..500_u64, 5..60_u64).prop_map(|(within, stable)| Timing::Within {
            deadline: Duration::from_secs(within),
            stable_for: Duration::from_secs(stable),
        }),
        (0..60_u64, 5..60_u64).prop_map(|(after, window)| Timing::Throughout {
            after: Duration::from_secs(after),
            window: Duration::from_secs(window),
        }),
    ];
    let waits = prop::option::of(1..90_u64);
    (name(), timing, prop::option::of(10..5000_u64), waits, probe()).prop_map(
        |(name, timing, every, waits, probe)| {
            let mut written = json!({"name": name, "probe": probe});
            let words = |time: Duration| json!(format!("{}s", time.as_secs()));
            match timing {
                Timing::Within { deadline, stable_for } => {
                    written["within"] = words(deadline);
                    written["stableFor"] = words(stable_for);
                }
                Timing::Throughout { after, window } => {
                    written["after"] = words(after);
                    written["throughout"] = words(window);
                }
            }
            if let Some(every) = every {
                written["every"] = json!(format!("{every}ms"));
            }
            let waits = waits.map(|lasts| Wait::Timer {
                name: "a timer".into(),
                lasts: Duration::from_secs(lasts),
                source: "https://kubernetes.io".into(),
            });
            if let Some(Wait::Timer { name, lasts, source }) = &waits {
                let timer = json!({"name": name, "lasts": words(*lasts), "source": source});
                written["waitsFor"] = json!([{"timer": timer}]);
            }
            let waits = waits.into_iter().collect();
            Expected { name, timing, every, waits, written }
        },
    )
}

fn expectations() -> impl Strategy<Value = Vec<Expected>> {
    prop::collection::vec(expectation(), 1..4)
}

/// A file, and what is expected in it: steady state, detection, recovery.
fn file() -> impl Strategy<Value = (Value, [Vec<Expected>; 3])> {
    let faults = prop::collection::vec(fault(), 1..4);
    let parts = (expectations(), faults, expectations(), expectations(), any::<bool>());
    let differ = |steady: &[Expected], detect: &[Expected]| {
        let probes: Vec<_> = steady.iter().map(|expected| &expected.written["probe"]).collect();
        !detect.iter().any(|expected| probes.contains(&&expected.written["probe"]))
    };
    let parts = parts.prop_filter("what holds at first can't be detected", move |parts| {
        differ(&parts.0, &parts.2)
    });
    parts.prop_map(|(steady, faults, detect, recover, notes)| {
        let written = |all: &[Expected]| -> Vec<Value> {
            all.iter().map(|expected| expected.written.clone()).collect()
        };
        let names: Vec<String> = (0..faults.len()).map(|at| format!("fault-{at}")).collect();
        let inject = faults.iter().zip(&names);
        let mut steps: Vec<Value> =
            inject.map(|(fault, name)| json!({"inject": {"name": name, "fault": fault}})).collect();
        steps.push(json!({"detect": written(&detect)}));
        steps.push(json!({"revert": {"actions": names}}));
        steps.push(json!({"recover": written(&recover)}));
        let mut metadata = json!({"name": "made", "title": "Made: by a test"});
        if notes {
            metadata["notes"] = json!("Of several\nlines:\n\n  - and such\n");
            metadata["references"] = json!(["https://kubernetes.io/docs/#a"]);
        }
        let spec = json!({
            "cluster": {"masters": 3, "workers": 2},
            "steadyState": written(&steady),
            "steps": steps,
        });
        let file = json!({
            "apiVersion": "outage/v1alpha1", "kind": "Scenario", "metadata": metadata, "spec": spec,
        });
        (file, [steady, detect, recover])
    })
}

fn read(text: &str) -> Scenario {
    load("made.yaml", text.as_bytes()).unwrap_or_else(|e| panic!("{}\n{text}", e.plain()))
}

fn same(read: &[Expectation], wanted: &[Expected]) {
    assert_eq!(read.len(), wanted.len());
    for (read, wanted) in read.iter().zip(wanted) {
        assert_eq!((&read.name, read.timing), (&wanted.name, wanted.timing));
        assert_eq!(read.waits_for, wanted.waits);
        if let Some(every) = wanted.every {
            assert_eq!(read.every, Duration::from_millis(every));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_valid_file_is_read_as_it_was_meant_in_any_style((file, wanted) in file()) {
        static SCHEMA: LazyLock<Validator> = LazyLock::new(|| validator(&schema()));
        prop_assert!(SCHEMA.is_valid(&file));
        let scenario = read(&file.to_string());
        prop_assert_eq!(&scenario, &read(&serde_json::to_string_pretty(&file).unwrap()));
        prop_assert_eq!(&scenario, &read(&serde_saphyr::to_string(&file).unwrap()));
        let [steady, detect, recover] = wanted;
        same(&scenario.steady_state, &steady);
        for step in &scenario.steps {
            match step {
                Step::Detect(read) => same(read, &detect),
                Step::Recover(read) => same(read, &recover),
                _ => {}
            }
        }
        let faults = scenario.steps.iter().filter(|step| matches!(step, Step::Inject(_))).count();
        prop_assert_eq!(faults + 3, file["spec"]["steps"].as_array().unwrap().len());
    }
}
