//! Reading a whole file: what stands around faults and probes.

use std::collections::BTreeSet;
use std::time::Duration;

use super::addon::{ADDONS, addons};
use super::fault;
use super::history;
use super::nodes::{self, NODES};
use super::probe;
use super::problem::Finding;
use super::read::{Fields, Read, Reader};
use super::reference::{
    DURATION, FLAGS, LINE, NAME, ONLY, Rule, Shape, TEXT, kind, list, map, one_of, optional,
    required, ruled, some,
};
use super::repeat::{REPEAT, repeat};
use super::setup::{SETUP, set_up};
use super::suggest::nearest;
use super::tree::{Entry, Node, Value};
use super::versions::{VERSIONS, versions};
use super::waits::{WAITS_FOR, waits};
use super::{
    Action, ClusterNeeds, Expectation, Leaders, NamedNode, Nodes, Revert, Scenario, Setting, Step,
    Timing, choices, named_in,
};

const API_VERSION: &str = "outage/v1alpha1";
const KIND: &str = "Scenario";

/// What a file without `variants` has.
const ONLY_VARIANT: &str = "default";

/// No probe is faster.
const SHORTEST_PERIOD: Duration = Duration::from_millis(10);

/// What a file's `metadata` says.
struct Metadata {
    name: String,
    title: String,
    notes: String,
    references: Vec<String>,
}

/// How a scenario is written.
pub const SCENARIO: Shape = map(&[
    required("apiVersion", "The version of the language.", Shape::Just(API_VERSION)),
    required("kind", "That this is a scenario.", Shape::Just(KIND)),
    required("metadata", "What the scenario is called, and what it is about.", METADATA)
        .examples(&["metadata: {name: my-incident, title: One line for lists}"]),
    required("spec", "The cluster, what must hold at first, and the steps.", SPEC),
]);

/// Reads a scenario. What it gives is only sound if the reader found nothing.
pub(super) fn scenario(reader: &mut Reader, root: &Node) -> Option<Scenario> {
    if matches!(root.value, Value::Null) {
        let help = format!("a scenario begins with `apiVersion: {API_VERSION}` and `kind: {KIND}`");
        return reader.wrong(root, "the file is empty", help);
    }
    let mut fields = Fields::of(reader, root, "a scenario")?;
    if !is_ours(reader, &mut fields) {
        return None;
    }
    let metadata = fields.required(reader, "metadata", metadata);
    let spec = fields.required(reader, "spec", spec);
    fields.end(reader);
    let (metadata, spec) = (metadata?, spec?);
    Some(Scenario {
        name: metadata.name,
        title: metadata.title,
        notes: metadata.notes,
        references: metadata.references,
        ..spec
    })
}

/// Whether the file says that it is a scenario of this language. If it says that it is something
/// else, the rest of it is not worth reading.
fn is_ours(reader: &mut Reader, fields: &mut Fields) -> bool {
    fn expect(reader: &mut Reader, fields: &mut Fields, name: &'static str, ours: &str) -> bool {
        let Some((said, node)) = fields.required_node(reader, name, Reader::line) else {
            return true;
        };
        if said != ours {
            reader.report(
                Finding::new(node.span, format!("{name} `{said}` is not supported"))
                    .help(format!("this version of outage reads `{name}: {ours}`")),
            );
        }
        said == ours
    }
    let version = expect(reader, fields, "apiVersion", API_VERSION);
    let kind = expect(reader, fields, "kind", KIND);
    version && kind
}

const METADATA: Shape = map(&[
    required("name", "Its name, as reports have it.", NAME),
    required("title", "One line for lists.", LINE),
    optional("notes", "What it teaches, and what was measured.", TEXT),
    optional(
        "references",
        "Where the incident is documented: addresses, source files, titles of reports.",
        list(&LINE),
    )
    .or("[]"),
]);

fn metadata(reader: &mut Reader, node: &Node) -> Option<Metadata> {
    let mut fields = Fields::of(reader, node, "`metadata`")?;
    let name = fields.required(reader, "name", Reader::name);
    let title = fields.required(reader, "title", Reader::line);
    let notes = fields.optional(reader, "notes", Reader::text);
    let references =
        fields.optional(reader, "references", |reader, node| reader.list(node, Reader::line));
    fields.end(reader);
    Some(Metadata {
        name: name?,
        title: title?,
        notes: notes.unwrap_or_default(),
        references: references.unwrap_or_default(),
    })
}

const SPEC: Shape = map(&[
    required("cluster", "The cluster that it needs.", CLUSTER)
        .examples(&["cluster: {masters: 3, workers: 1}"]),
    optional("variants", "Names of the variants in which the steps are carried out.", some(&NAME))
        .or("[default]")
        .examples(&["variants: [lease-sigkill, lease-sigterm]"]),
    NODES,
    SETUP,
    required(
        "steadyState",
        "What must hold before anything is injected, all of it at one moment, or the case is INVALID.",
        some(&EXPECTATION),
    ),
    required("steps", "What is done, in this order.", STEPS_LIST),
]);

/// Reads `spec` into a scenario without its metadata. The cluster's size and the variants come
/// first: the rest refers to them.
fn spec(reader: &mut Reader, node: &Node) -> Option<Scenario> {
    let mut fields = Fields::of(reader, node, "`spec`")?;
    let variants_node = fields.get("variants");
    reader.variants = match variants_node {
        Some(node) => variants(reader, node),
        None => Some(vec![ONLY_VARIANT.to_owned()]),
    };
    let cluster = fields.required(reader, "cluster", cluster);
    reader.versions = cluster.as_ref().map(|cluster| cluster.versions.clone()).unwrap_or_default();
    let named = named_nodes(reader, &mut fields);
    let setup = fields.optional(reader, "setup", |reader, node| reader.list(node, set_up));
    let steady_state =
        fields.required(reader, "steadyState", |reader, node| reader.some(node, steady));
    let steps_node = fields.required_node(reader, "steps", |_, _| Some(()));
    let steps = steps_node.and_then(|((), node)| match &node.value {
        Value::List(items) => Some(items.iter().map(|item| step(reader, item)).collect()),
        _ => reader.wrong::<Vec<_>>(node, "the steps are no list", "begin each step with `- `"),
    });
    fields.end(reader);
    if let (Some(span), false) = (reader.written, reader.writes) {
        let finding = Finding::new(span, "nothing is ever written that could be read back");
        reader.report(finding.help("add an expectation with the probe `writes` before this one"));
    }
    let (steps, ((), steps_node)) = (steps?, steps_node?);
    let steady = steady_state.as_deref().unwrap_or_default();
    history::check(reader, steady, &steps, steps_node, variants_node.unwrap_or(steps_node));
    let steps = steps.into_iter().flatten().map(|(step, _)| step).collect();
    Some(Scenario {
        name: String::new(),
        title: String::new(),
        notes: String::new(),
        references: vec![],
        cluster: cluster?,
        nodes: named?,
        variants: reader.variants.clone()?,
        setup: setup.unwrap_or_default(),
        steady_state: steady_state?,
        steps,
    })
}

/// Reads `nodes`. If none were chosen for the names yet, the first that could be are taken.
fn named_nodes(reader: &mut Reader, fields: &mut Fields) -> Option<Vec<NamedNode>> {
    let node = fields.get("nodes");
    let named = node.map_or(Some(vec![]), |node| nodes::named(reader, node))?;
    if reader.nodes.is_none() {
        let (masters, workers) = (reader.masters?, reader.workers?);
        let mut all = vec![];
        for variant in reader.variants.clone()? {
            let of_variant =
                choices(&named_in(&named, &variant), masters, workers, &Leaders::new());
            if of_variant.is_empty() {
                let help = "allow more nodes, or set `spec.cluster.masters` and `workers`";
                let message = "no nodes of the cluster can have all these names";
                return reader.wrong(node?, message, help);
            }
            all.extend(of_variant);
        }
        // The same nodes may do for several variants.
        let mut seen = BTreeSet::<Nodes>::new();
        all.retain(|nodes| seen.insert(nodes.clone()));
        reader.choices = all;
        reader.nodes = reader.choices.first().cloned();
    }
    Some(named)
}

fn variants(reader: &mut Reader, node: &Node) -> Option<Vec<String>> {
    let found = reader.found();
    let read = reader.some(node, |reader, node| Some((reader.name(node)?, node.span)))?;
    let mut variants: Vec<String> = vec![];
    for (name, span) in read {
        if variants.contains(&name) {
            let message = format!("the variant `{name}` is listed twice");
            reader.report(Finding::new(span, message).help("give each variant a name of its own"));
        } else {
            variants.push(name);
        }
    }
    // With a name missing, whatever refers to it would look wrong.
    (reader.found() == found).then_some(variants)
}

const CLUSTER: Shape = map(&[
    VERSIONS,
    required("masters", "Nodes of the control plane.", Shape::Numbers(&[1, 3, 5])),
    required("workers", "Nodes that are not.", Shape::Whole { least: 0, most: 3 }),
    optional(
        "settings",
        "Flags of components of the control plane that differ from kubeadm's, on every master.",
        list(&map(&[
            ONLY,
            required("component", "The component whose flags they are.", fault::COMPONENT),
            required("flags", "Each flag's name, without dashes, and its value.", FLAGS),
        ])),
    )
    .or("[]")
    .examples(&["settings: [{component: kube-apiserver, flags: {v: \"4\"}}]"]),
    ADDONS,
]);

fn cluster(reader: &mut Reader, node: &Node) -> Option<ClusterNeeds> {
    let mut fields = Fields::of(reader, node, "`cluster`")?;
    reader.masters = fields.required(reader, "masters", |reader, node| match node.value {
        Value::Integer(masters @ (1 | 3 | 5)) => usize::try_from(masters).ok(),
        Value::Integer(masters) => {
            reader.wrong(node, format!("a cluster can't have {masters} masters"), "write 1, 3 or 5")
        }
        _ => reader.mistyped(node, "the number of masters: 1, 3 or 5"),
    });
    reader.workers = fields.required(reader, "workers", |reader, node| match node.value {
        Value::Integer(workers @ 0..=3) => usize::try_from(workers).ok(),
        Value::Integer(workers) => reader.wrong(
            node,
            format!("a cluster can't have {workers} workers"),
            "write a number from 0 to 3",
        ),
        _ => reader.mistyped(node, "the number of workers: 0 to 3"),
    });
    let settings = fields.optional(reader, "settings", |reader, node| reader.list(node, setting));
    let addons = fields.optional(reader, "addons", addons);
    let versions = fields.optional(reader, "versions", versions).unwrap_or_default();
    fields.end(reader);
    Some(ClusterNeeds {
        versions,
        masters: reader.masters?,
        workers: reader.workers?,
        settings: settings.unwrap_or_default(),
        addons: addons.unwrap_or_default(),
    })
}

fn setting(reader: &mut Reader, node: &Node) -> Option<Setting> {
    let mut fields = Fields::of(reader, node, "a setting")?;
    let only = fields.optional(reader, "only", Reader::only).unwrap_or_default();
    let component = fields.required(reader, "component", fault::component);
    let flags = fields
        .required(reader, "flags", |reader, node| fault::flags(reader, node, fault::set_flag));
    fields.end(reader);
    Some(Setting { only, component: component?, flags: flags? })
}

const STEPS_LIST: Shape = some(&one_of(
    "a step",
    &[
        kind(
            "inject",
            "Injects a fault and proves its effect. Times to detect count from here.",
            ACTION,
        ),
        kind("detect", "What must be seen while the fault is in place.", some(&EXPECTATION)),
        kind(
            "revert",
            "Takes faults back, the last first, and verifies that. Times to recover count from here.",
            map(&[
                ONLY,
                VERSIONS,
                required("actions", "Names of actions of earlier steps.", some(&NAME)),
            ]),
        )
        .examples(&["revert: {actions: [stopped]}"]),
        kind(
            "remedy",
            "A change that mends the cluster with the fault still in place. Undone at the end.",
            ACTION,
        ),
        kind("recover", "What must be seen after a revert or a remedy.", some(&EXPECTATION)),
    ],
));

/// Reads a step; nothing if there is anything wrong with it.
fn step<'a>(reader: &mut Reader, item: &'a Node) -> Option<(Step, &'a Node)> {
    let found = reader.found();
    let is_step = |entry: &Entry| STEPS.iter().any(|(name, _)| *name == entry.key);
    if let Value::Map(entries) = &item.value
        && entries.len() > 1
        && entries.iter().all(is_step)
    {
        return reader.wrong(item, "these are several steps", "begin each step with `- `");
    }
    let step = reader.one_of(item, "a step", &STEPS)?;
    (reader.found() == found).then_some((step, inner(item)))
}

const STEPS: [(&str, Read<Step>); 5] = [
    ("inject", |reader, node| action(reader, node).map(Step::Inject)),
    ("detect", |reader, node| reader.some(node, expectation).map(Step::Detect)),
    ("revert", |reader, node| revert(reader, node).map(Step::Revert)),
    ("remedy", |reader, node| action(reader, node).map(Step::Remedy)),
    ("recover", |reader, node| reader.some(node, expectation).map(Step::Recover)),
];

/// What stands under a step's one field.
fn inner(step: &Node) -> &Node {
    match &step.value {
        Value::Map(entries) => entries.first().map_or(step, |entry| &entry.value),
        _ => step,
    }
}

const ACTION: Shape = Shape::Shared(
    "action",
    &map(&[
        required("name", "Its name; `revert` refers to it.", NAME),
        ONLY,
        VERSIONS,
        required("fault", "What is changed.", fault::FAULT),
        optional(
            "after",
            "How long after the injection before it, in a row of changes, it follows.",
            DURATION,
        )
        .or("0s")
        .examples(&["after: 10s"]),
        REPEAT,
    ]),
);

fn action(reader: &mut Reader, node: &Node) -> Option<Action> {
    let mut fields = Fields::of(reader, node, "an action")?;
    if let (Some(actions), None) = (fields.beside("actions"), fields.get("fault")) {
        let help = "write `revert` for `inject` or `remedy`, or what is changed as `fault`";
        return reader.wrong(actions, "only a `revert` names earlier actions", help);
    }
    let name = fields.required(reader, "name", Reader::name);
    let only = fields.optional(reader, "only", Reader::only).unwrap_or_default();
    let versions = fields.optional(reader, "versions", versions).unwrap_or_default();
    let fault = fields.required(reader, "fault", fault::fault);
    let after = fields.optional(reader, "after", Reader::duration).unwrap_or_default();
    let repeat = match (fields.get("repeat"), &fault) {
        (Some(node), Some(fault)) => Some(repeat(reader, node, fault)?),
        _ => None,
    };
    fields.end(reader);
    Some(Action { name: name?, only, versions, after, repeat, fault: fault? })
}

fn revert(reader: &mut Reader, node: &Node) -> Option<Revert> {
    let names = match &node.value {
        Value::Text(name) => Some(format!("[{name}]")),
        Value::List(_) => Some("[…]".to_owned()),
        _ => None,
    };
    if let Some(names) = names {
        let help = format!("write `revert: {{actions: {names}}}`");
        return reader.wrong(node, "a revert is a map with `actions`", help);
    }
    let mut fields = Fields::of(reader, node, "`revert`")?;
    let only = fields.optional(reader, "only", Reader::only).unwrap_or_default();
    let versions = fields.optional(reader, "versions", versions).unwrap_or_default();
    let actions =
        fields.required(reader, "actions", |reader, node| reader.some(node, Reader::name));
    fields.end(reader);
    Some(Revert { only, versions, actions: actions? })
}

const EXPECTATION: Shape = Shape::Shared(
    "expectation",
    &ruled(
        &[
            required("name", "What is expected, in words.", LINE),
            ONLY,
            VERSIONS,
            required("probe", "What is observed, and what must be seen.", probe::PROBE),
            optional(
                "every",
                "The time from the end of one observation to the start of the next, where the probe \
                 polls; at least 10ms. Without: 100ms for `health`, `endpoints`, `condition`, `object`, \
                 `lease` and `writes`, 500ms for `log`, 1s for the others.",
                DURATION,
            )
            .examples(&["every: 2s"]),
            optional(
                "within",
                "It must begin to hold by then, and not hold yet just before its cause.",
                DURATION,
            )
            .examples(&["within: 30s"]),
            optional(
                "stableFor",
                "How long it must go on to hold then; without: one observation is enough.",
                DURATION,
            )
            .examples(&["stableFor: 5s"]),
            optional(
                "from",
                "The action that its times count from, of those that are injected or reverted just \
                 before; without: the last of them.",
                NAME,
            )
            .examples(&["from: stopped"]),
            optional("throughout", "It must hold all this time.", DURATION)
                .examples(&["throughout: 60s"]),
            optional(
                "after",
                "How long after its cause the window opens; in a later step than the first after the \
                 change: after the start of its step.",
                DURATION,
            )
            .or("0s"),
            WAITS_FOR,
        ],
        &[
            Rule::One(&["within", "throughout"]),
            Rule::With("stableFor", "within"),
            Rule::With("after", "throughout"),
        ],
    ),
);

/// Reads an expectation of the steady state, before which nothing was changed.
fn steady(reader: &mut Reader, node: &Node) -> Option<Expectation> {
    let expectation = expectation(reader, node)?;
    if expectation.from.is_some() {
        let help = "leave `from` away: times of the steady state count from its beginning";
        return reader.wrong(node, "nothing was changed before the steady state", help);
    }
    Some(expectation)
}

fn expectation(reader: &mut Reader, node: &Node) -> Option<Expectation> {
    let mut fields = Fields::of(reader, node, "an expectation")?;
    let name = fields.required(reader, "name", Reader::line);
    let only = fields.optional(reader, "only", Reader::only).unwrap_or_default();
    let versions = fields.optional(reader, "versions", versions).unwrap_or_default();
    let probe = fields.required(reader, "probe", probe::probe);
    let every = fields.optional(reader, "every", |reader, node| {
        let every = reader.duration(node)?;
        if every >= SHORTEST_PERIOD {
            return Some(every);
        }
        reader.wrong(node, "this period is too short", "write at least `10ms`")
    });
    let every = every.or_else(|| probe.as_ref().map(probe::period));
    let timing = timing(reader, &mut fields, every);
    let from = fields.perhaps(reader, "from", Reader::name);
    let waits_for = fields.optional(reader, "waitsFor", waits).unwrap_or_default();
    if probe.as_ref().is_some_and(probe::is_momentary) {
        for (name, node) in ["stableFor", "throughout"].map(|name| (name, fields.get(name))) {
            let Some(node) = node else { continue };
            let message = format!("what comes once can't be expected with `{name}`");
            let help = "write `within` alone, or `is: absent` in the probe";
            reader.report(Finding::new(node.span, message).help(help));
        }
    }
    fields.end(reader);
    let (name, probe, timing, every, from) = (name?, probe?, timing?, every?, from?);
    Some(Expectation { name, only, versions, probe, timing, every, from, waits_for })
}

/// Reads `within` with `stableFor`, or `throughout` with `after`.
fn timing(reader: &mut Reader, fields: &mut Fields, every: Option<Duration>) -> Option<Timing> {
    let [within, stable_for, throughout, after] =
        ["within", "stableFor", "throughout", "after"].map(|name| fields.get(name));
    let belongs = |reader: &mut Reader, node: Option<&Node>, what: &str, to: &str| {
        if let Some(node) = node {
            let message = format!("`{what}` belongs to `{to}`");
            reader.report(
                Finding::new(node.span, message).help(format!("write `{to}`, or leave it away")),
            );
        }
    };
    match (within, throughout) {
        (Some(within), None) => {
            belongs(reader, after, "after", "throughout");
            let deadline = lasting(reader, within, every)?;
            let stable_for =
                stable_for.map_or(Some(Duration::ZERO), |node| lasting(reader, node, every))?;
            Some(Timing::Within { deadline, stable_for })
        }
        (None, Some(throughout)) => {
            belongs(reader, stable_for, "stableFor", "within");
            let window = lasting(reader, throughout, every)?;
            let after = after.map_or(Some(Duration::ZERO), |node| reader.duration(node))?;
            Some(Timing::Throughout { after, window })
        }
        (Some(_), Some(throughout)) => reader.wrong(
            throughout,
            "`within` and `throughout` exclude each other",
            "`within: 30s`: it must begin to hold by then; `throughout: 30s`: it must hold all the time",
        ),
        (None, None) => {
            // A misspelt one is reported as such.
            if !fields.unknown().any(|key| nearest(key, ["within", "throughout"]).is_some()) {
                fields.lacks(reader, "it doesn't say when it must hold", "add `within: 30s` or `throughout: 30s`");
            }
            None
        }
    }
}

/// Reads a duration in which the probe observes at least twice.
fn lasting(reader: &mut Reader, node: &Node, every: Option<Duration>) -> Option<Duration> {
    let duration = reader.duration(node)?;
    match every {
        Some(every) if duration < every => reader.wrong(
            node,
            format!(
                "{} is shorter than the probe's period of {}",
                humantime::format_duration(duration),
                humantime::format_duration(every)
            ),
            "allow more time, or observe more often with `every`",
        ),
        _ => Some(duration),
    }
}
