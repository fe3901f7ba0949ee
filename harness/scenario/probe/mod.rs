//! Reading probes: one function a probe, and one line in [`PROBES`]. What a newer probe wants
//! stands in a file of its own, beside its reading.

mod command;
mod etcd;
mod event;
mod kubectl;
mod lease;
mod log;
mod metric;
mod object;
mod request;
mod said;
pub(super) mod target;
mod writes;

use std::time::Duration;

use super::read::{Fields, Read, Reader};
use super::reference::{
    Field, LINE, MASTER, NAME, NODE, PATTERN, Rule, Shape, kind, map, one_of, optional, required,
    ruled, some, text, whole,
};
use super::tree::{Node, Value};
use super::{
    Condition, ConditionSide, Connect, Endpoints, Health, HealthState, NodeRef, Probe, Tally,
};

pub use command::CommandRun;
pub use etcd::{EtcdAlarm, EtcdSide, EtcdState};
pub use event::{EventSeen, Involved};
pub use kubectl::Kubectl;
pub use lease::{Lease, LeaseSide};
pub use log::{LogLine, LogOf};
pub use metric::{Metric, MetricOf, MetricSide, Wanted};
pub use object::Object;
pub use request::{Caller, Holding, Method, Request, User};
pub use said::Said;
pub use target::Target;
pub use writes::{Writes, Written};

use target::{NAMESPACED, TARGET, service, target};

const PROBES: [(&str, Read<Probe>); 15] = [
    ("health", health),
    ("endpoints", endpoints),
    ("connect", connect),
    ("request", request::read),
    ("condition", condition),
    ("object", object::read),
    ("lease", lease::read),
    ("event", event::read),
    ("log", log::read),
    ("metric", metric::read),
    ("etcd", etcd::read),
    ("kubectl", kubectl::read),
    ("command", command::read),
    ("writes", writes::read),
    ("written", writes::read_written),
];

/// How each probe is written: the constant beside its function.
pub(super) const PROBE: Shape = Shape::Shared(
    "probe",
    &one_of(
        "a probe",
        &[
            HEALTH,
            ENDPOINTS,
            CONNECT,
            request::REQUEST,
            CONDITION,
            object::OBJECT,
            lease::LEASE,
            event::EVENT,
            log::LOG,
            metric::METRIC,
            etcd::ETCD,
            kubectl::KUBECTL,
            command::COMMAND,
            writes::WRITES,
            writes::WRITTEN,
        ],
    ),
);

/// How it is written which apiserver is asked.
const THROUGH: Field = required("through", "The apiserver that is asked, directly.", MASTER);

const HEALTH_STATES: [(&str, HealthState); 3] =
    [("ok", HealthState::Ok), ("failing", HealthState::Failing), ("refused", HealthState::Refused)];

/// Fewer attempts than this say next to nothing about a share.
const FEWEST_FOR_SHARE: u32 = 30;

/// Reads a probe.
pub(super) fn probe(reader: &mut Reader, node: &Node) -> Option<Probe> {
    reader.one_of(node, "a probe", &PROBES)
}

/// How long a probe waits between two observations if the file doesn't say.
pub(super) fn period(probe: &Probe) -> Duration {
    match probe {
        Probe::Health(_)
        | Probe::Endpoints(_)
        | Probe::Condition(_)
        | Probe::Object(_)
        | Probe::Lease(_)
        | Probe::Writes(_) => Duration::from_millis(100),
        Probe::Log(_) => Duration::from_millis(500),
        Probe::Connect(_)
        | Probe::Request(_)
        | Probe::Event(_)
        | Probe::Metric(_)
        | Probe::Etcd(_)
        | Probe::Kubectl(_)
        | Probe::Command(_)
        | Probe::Written(_) => Duration::from_secs(1),
    }
}

/// Whether it holds at the one observation that something new comes with, and not after.
pub(super) fn is_momentary(probe: &Probe) -> bool {
    matches!(
        probe,
        Probe::Event(EventSeen { absent: false, .. }) | Probe::Log(LogLine { absent: false, .. })
    )
}

const HEALTH: Field = kind(
    "health",
    "A health endpoint of one apiserver, asked directly.",
    map(&[
        required("apiserver", "Whose apiserver.", MASTER),
        required(
            "path",
            "`/readyz`, `/livez` or `/healthz`, or one check of it, such as `/readyz/etcd`.",
            text("the path of a health endpoint", "^/(readyz|livez|healthz)(/.+)?$"),
        ),
        required(
            "is",
            "What it must say.",
            Shape::Words(&[
                ("ok", "200."),
                ("failing", "Any other status."),
                ("refused", "The connection is refused."),
            ]),
        ),
        optional(
            "check",
            "A check that must be among those that fail; only with `is: failing`.",
            LINE,
        ),
    ]),
)
.examples(&["health: {apiserver: {master: 3}, path: /readyz, is: failing, check: etcd}"]);

fn health(reader: &mut Reader, node: &Node) -> Option<Probe> {
    let mut fields = Fields::of(reader, node, "`health`")?;
    let apiserver = fields.required(reader, "apiserver", Reader::master);
    let path = fields.required(reader, "path", |reader, node| {
        let path = reader.line(node)?;
        let mut parts = path.split('/');
        let endpoint = (parts.next(), parts.next(), parts.next(), parts.next());
        let check_is_named = |check: &str| !check.is_empty() && !check.contains(char::is_whitespace);
        match endpoint {
            (Some(""), Some("readyz" | "livez" | "healthz"), None, None) => Some(path),
            (Some(""), Some("readyz" | "livez" | "healthz"), Some(check), last)
                if check_is_named(check) && last.is_none_or(check_is_named) =>
            {
                Some(path)
            }
            _ => reader.wrong(
                node,
                format!("`{path}` is not a health endpoint"),
                "write `/readyz`, `/livez` or `/healthz`, or one check of it, such as `/readyz/etcd`",
            ),
        }
    });
    let is = fields.required(reader, "is", |reader, node| reader.word(node, &HEALTH_STATES));
    let check_node = fields.get("check");
    let check = check_node.and_then(|node| reader.line(node));
    fields.end(reader);
    let (path, is) = (path?, is?);
    if let Some(node) = check_node {
        if is != HealthState::Failing {
            let help = "write `is: failing`, or ask for the check alone: `path: /readyz/etcd`";
            return reader.wrong(node, "`check` names a check that fails", help);
        }
        if path.matches('/').count() > 1 {
            let help = "leave `check` away, or ask for all checks: `path: /readyz`";
            return reader.wrong(node, format!("{path} is one check already"), help);
        }
    }
    Some(Probe::Health(Health { apiserver: apiserver?, path, is, check }))
}

const ENDPOINTS: Field = kind(
    "endpoints",
    "The addresses of a Service, in its Endpoints and its EndpointSlices: both must say it.",
    ruled(
        &[
            required("service", "The Service, `namespace/name`.", NAMESPACED),
            THROUGH,
            optional("contain", "Nodes whose address must be listed.", some(&NODE)),
            optional("lack", "Nodes whose address must not be listed.", some(&NODE)),
        ],
        &[Rule::Some(&["contain", "lack"])],
    ),
)
.examples(&[
    "endpoints: {service: default/kubernetes, through: {master: 1}, contain: [{master: 1}], lack: [{master: 3}]}",
]);

fn endpoints(reader: &mut Reader, node: &Node) -> Option<Probe> {
    let mut fields = Fields::of(reader, node, "`endpoints`")?;
    let service = fields.required(reader, "service", service);
    let through = fields.required(reader, "through", Reader::master);
    let mut nodes = |name| match fields.get(name) {
        Some(node) => {
            let found = reader.found();
            let nodes = reader.some(node, Reader::node);
            nodes.filter(|_| reader.found() == found)
        }
        None => Some(vec![]),
    };
    let (contain, lack) = (nodes("contain"), nodes("lack"));
    fields.end(reader);
    let (service, contain, lack) = (service?, contain?, lack?);
    let listed = || contain.iter().chain(&lack);
    if listed().next().is_none() {
        let help =
            "write `contain` or `lack` with at least one node, such as `lack: [{master: 3}]`";
        return reader.wrong(node, "nothing is expected of the addresses", help);
    }
    if let Some(both) = contain.iter().find(|node| lack.contains(node)) {
        let message = format!("{both} can't be both listed and not listed");
        return reader.wrong(node, message, "name it in `contain` or in `lack`");
    }
    if service == "default/kubernetes"
        && let Some(worker) = listed().find(|node| matches!(node, NodeRef::Worker(_)))
    {
        let message = format!("{worker} is never behind {service}");
        return reader.wrong(node, message, "only apiservers are: name masters");
    }
    Some(Probe::Endpoints(Endpoints { service, through: through?, contain, lack }))
}

const CONNECT: Field = kind(
    "connect",
    "TCP connects from a node, counted.",
    map(&[
        required("from", "The node that connects.", NODE),
        required("to", "Where to.", TARGET),
        required("attempts", "Connects per observation, one after another.", whole(1)),
        required("refused", "How many must be refused. All others must be accepted.", TALLY),
    ]),
)
.examples(&[
    "connect: {from: {worker: 1}, to: {service: default/kubernetes}, attempts: 300, refused: {share: {of: 0.3333, falseAlarm: 1e-6}}}",
    "connect: {from: {worker: 1}, to: {address: \"10.0.0.1:53\"}, attempts: 10, refused: {count: 10}}",
]);

fn connect(reader: &mut Reader, node: &Node) -> Option<Probe> {
    let mut fields = Fields::of(reader, node, "`connect`")?;
    let from = fields.required(reader, "from", Reader::node);
    let to = fields.required(reader, "to", target);
    let attempts = fields.required(reader, "attempts", attempts);
    let refused = tally(reader, &mut fields, "refused", attempts);
    fields.end(reader);
    Some(Probe::Connect(Connect { from: from?, to: to?, attempts: attempts?, refused: refused? }))
}

const CONDITION: Field = kind(
    "condition",
    "A condition in any object's status.",
    ruled(
        &[
            required("apiVersion", "The object's `apiVersion`, such as `v1` or `apps/v1`.", LINE),
            required("kind", "The object's kind.", LINE),
            optional("namespace", "Its namespace; without, for a namespaced kind: `default`.", NAME),
            required("name", "The object's name.", LINE),
            required("condition", "The condition's type, such as `Ready`.", LINE),
            optional(
                "status",
                "What the condition's status must be.",
                Shape::Either(&[
                    Shape::Words(&[("True", ""), ("False", ""), ("Unknown", "")]),
                    Shape::Bool,
                ]),
            ),
            optional("reason", "What its reason must be.", LINE),
            optional("message", "What its message must match.", PATTERN),
            optional(
                "changes",
                "How often its status must have changed since the observation began.",
                metric::COUNT,
            ),
            THROUGH,
        ],
        &[
            Rule::One(&["status", "changes"]),
            Rule::With("reason", "status"),
            Rule::With("message", "status"),
        ],
    ),
)
.examples(&[
    "condition: {apiVersion: apps/v1, kind: Deployment, namespace: kube-system, name: coredns, condition: Available, status: \"False\", reason: MinimumReplicasUnavailable, through: {master: 1}}",
    "condition: {apiVersion: apiregistration.k8s.io/v1, kind: APIService, name: v1beta1.metrics.k8s.io, condition: Available, changes: {atLeast: 3}, through: {master: 1}}",
    "condition: {apiVersion: apiregistration.k8s.io/v1, kind: APIService, name: v1beta1.metrics.k8s.io, condition: Available, status: \"False\", message: Client.Timeout exceeded, through: {master: 1}}",
]);

fn condition(reader: &mut Reader, node: &Node) -> Option<Probe> {
    let mut fields = Fields::of(reader, node, "`condition`")?;
    let api_version = fields.required(reader, "apiVersion", Reader::line);
    let kind = fields.required(reader, "kind", Reader::line);
    let namespace = fields.perhaps(reader, "namespace", Reader::name);
    let name = fields.required(reader, "name", Reader::line);
    let condition = fields.required(reader, "condition", Reader::line);
    let is = condition_side(reader, &mut fields);
    let through = fields.required(reader, "through", Reader::master);
    fields.end(reader);
    Some(Probe::Condition(Condition {
        api_version: api_version?,
        kind: kind?,
        namespace: namespace?,
        name: name?,
        condition: condition?,
        is: is?,
        through: through?,
    }))
}

/// Reads what is expected of a condition: a status, or how often it has changed.
fn condition_side(reader: &mut Reader, fields: &mut Fields) -> Option<ConditionSide> {
    if let Some(node) = fields.get("changes") {
        let others = ["status", "reason", "message"];
        if others.iter().any(|name| fields.get(name).is_some()) {
            let help = "write an expectation for each";
            return reader.wrong(node, "`changes` and `status` exclude each other", help);
        }
        return metric::changes(reader, node).map(ConditionSide::Changes);
    }
    let status = if let Some(node) = fields.get("status") {
        status(reader, node)
    } else {
        let help = "add `status` or `changes`, such as `status: \"False\"`";
        fields.lacks(reader, "nothing is expected of the condition", help);
        None
    };
    let reason = fields.perhaps(reader, "reason", Reader::line);
    let message = fields.perhaps(reader, "message", pattern);
    Some(ConditionSide::State { status: status?, reason: reason?, message: message? })
}

/// Reads a condition's status. YAML takes an unquoted `True` for a boolean; here it is none.
fn status(reader: &mut Reader, node: &Node) -> Option<String> {
    const STATUSES: [(&str, &str); 3] =
        [("True", "True"), ("False", "False"), ("Unknown", "Unknown")];
    let status = match node.value {
        Value::Bool(true) => "True",
        Value::Bool(false) => "False",
        _ => reader.word(node, &STATUSES)?,
    };
    Some(status.to_owned())
}

fn attempts(reader: &mut Reader, node: &Node) -> Option<u32> {
    reader.count(node, 1)
}

/// How it is written how many of the attempts must end in the counted way.
const TALLY: Shape = Shape::Shared(
    "tally",
    &one_of(
        "a tally",
        &[
            kind("count", "Just so many.", whole(0)).examples(&["count: 0"]),
            kind("atMost", "So many or fewer.", whole(0)).examples(&["atMost: 3"]),
            kind("atLeast", "So many or more.", whole(1)).examples(&["atLeast: 1"]),
            kind(
                "share",
                "A share of at least 30 attempts, as a statistical statement.",
                map(&[
                    required("of", "The share; one in three is `0.3333`.", Shape::Fraction),
                    required(
                        "falseAlarm",
                        "The probability that one observation of a true share is taken for another.",
                        Shape::Fraction,
                    ),
                ]),
            )
            .examples(&["share: {of: 0.3333, falseAlarm: 1e-6}"]),
        ],
    ),
);

/// Reads how many of the attempts must end in the counted way.
fn tally(
    reader: &mut Reader,
    fields: &mut Fields,
    name: &'static str,
    attempts: Option<u32>,
) -> Option<Tally> {
    const TALLIES: [(&str, Read<Tally>); 4] = [
        ("count", |reader, node| reader.count(node, 0).map(Tally::Count)),
        ("atMost", |reader, node| reader.count(node, 0).map(Tally::AtMost)),
        ("atLeast", |reader, node| reader.count(node, 1).map(Tally::AtLeast)),
        ("share", share),
    ];
    let (tally, node) = fields
        .required_node(reader, name, |reader, node| reader.one_of(node, "a tally", &TALLIES))?;
    match (tally, attempts) {
        (Tally::Count(count) | Tally::AtMost(count) | Tally::AtLeast(count), Some(attempts))
            if count > attempts =>
        {
            reader.wrong(
                node,
                format!("{count} of {attempts} attempts can't be"),
                format!("write a count of at most {attempts}, or more attempts"),
            )
        }
        (Tally::Share { .. }, Some(attempts)) if attempts < FEWEST_FOR_SHARE => reader.wrong(
            node,
            format!("{attempts} attempts are too few to measure a share"),
            format!(
                "write at least {FEWEST_FOR_SHARE} attempts; some hundreds tell a third from a half"
            ),
        ),
        _ => Some(tally),
    }
}

/// Reads what the words of each failure must match, if there may be failures.
#[expect(clippy::option_option, reason = "read or not; then said or not")]
fn error(
    reader: &mut Reader,
    fields: &mut Fields,
    failed: Option<Tally>,
) -> Option<Option<String>> {
    let Some(node) = fields.get("error") else { return Some(None) };
    let error = pattern(reader, node)?;
    if failed == Some(Tally::Count(0)) {
        let help = "leave `error` away, or expect failures: `failed: {count: 10}`";
        return reader.wrong(node, "without failures there is no error", help);
    }
    Some(Some(error))
}

fn share(reader: &mut Reader, node: &Node) -> Option<Tally> {
    let mut fields = Fields::of(reader, node, "`share`")?;
    let of = fields.required(reader, "of", Reader::fraction);
    let false_alarm = fields.required(reader, "falseAlarm", Reader::fraction);
    fields.end(reader);
    Some(Tally::Share { of: of?, false_alarm: false_alarm? })
}

/// Reads a regular expression.
fn pattern(reader: &mut Reader, node: &Node) -> Option<String> {
    let text = reader.text(node)?;
    if text.contains(char::is_control) {
        let help = "put it in single quotes: `\\n` and `\\t` are its own there";
        return reader.wrong(node, "a regular expression stands in one line", help);
    }
    let Err(error) = regex::Regex::new(&text) else { return Some(text) };
    let said = error.to_string();
    let why = said.lines().last().unwrap_or_default().trim_start_matches("error: ");
    reader.wrong(
        node,
        format!("`{text}` is not a regular expression: {why}"),
        "see https://docs.rs/regex/#syntax; single quotes keep YAML from changing it",
    )
}

/// How it is written whether what comes must come or stay away.
const IS: Field = optional(
    "is",
    "Whether it must come or stay away.",
    Shape::Words(&[("seen", "It comes."), ("absent", "It does not come.")]),
)
.or("seen");

/// Reads whether what comes must come or stay away; it must come if the file doesn't say.
fn absent(reader: &mut Reader, fields: &mut Fields) -> bool {
    const STATES: [(&str, bool); 2] = [("seen", false), ("absent", true)];
    fields.optional(reader, "is", |reader, node| reader.word(node, &STATES)).unwrap_or(false)
}

/// Reads `namespace/name` where each part is a name and may have a `*` if `wild`.
fn namespaced(reader: &mut Reader, node: &Node, wild: bool) -> Option<String> {
    let text = reader.line(node)?;
    let fits = |part: &str| {
        let allowed = |byte: u8| {
            byte.is_ascii_lowercase()
                || byte.is_ascii_digit()
                || b"-.".contains(&byte)
                || (wild && byte == b'*')
        };
        !part.is_empty() && part.len() <= 253 && part.bytes().all(allowed)
    };
    match text.split_once('/') {
        Some((namespace, name)) if fits(namespace) && fits(name) => Some(text),
        _ => reader.wrong(
            node,
            format!("`{text}` is not a namespace and a name"),
            "write `namespace/name`, such as `kube-system/etcd-a`",
        ),
    }
}
