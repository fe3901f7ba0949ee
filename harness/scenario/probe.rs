//! Reading probes: one function a probe, and one line in [`PROBES`].

use std::time::Duration;

use super::read::{Fields, Read, Reader, is_label};
use super::tree::{Node, Value};
use super::{
    Condition, Connect, Endpoints, Health, HealthState, NodeRef, Probe, Request, Tally, Target,
};

const PROBES: [(&str, Read<Probe>); 5] = [
    ("health", health),
    ("endpoints", endpoints),
    ("connect", connect),
    ("request", request),
    ("condition", condition),
];

const HEALTH_STATES: [(&str, HealthState); 3] =
    [("ok", HealthState::Ok), ("failing", HealthState::Failing), ("refused", HealthState::Refused)];

const TARGETS: [(&str, Read<Target>); 3] = [
    ("service", |reader, node| service(reader, node).map(Target::Service)),
    ("apiserver", |reader, node| reader.master(node).map(Target::Apiserver)),
    ("loadBalancer", |reader, node| match node.value {
        Value::Null => Some(Target::LoadBalancer),
        _ => reader.wrong(node, "`loadBalancer` takes no value", "write `to: loadBalancer`"),
    }),
];

/// Fewer attempts than this say next to nothing about a share.
const FEWEST_FOR_SHARE: u32 = 30;

/// Reads a probe.
pub(super) fn probe(reader: &mut Reader, node: &Node) -> Option<Probe> {
    reader.one_of(node, "a probe", &PROBES)
}

/// How long a probe waits between two observations if the file doesn't say.
pub(super) fn period(probe: &Probe) -> Duration {
    match probe {
        Probe::Health(_) | Probe::Endpoints(_) | Probe::Condition(_) => Duration::from_millis(100),
        Probe::Connect(_) | Probe::Request(_) => Duration::from_secs(1),
    }
}

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
    fields.end(reader);
    Some(Probe::Health(Health { apiserver: apiserver?, path: path?, is: is? }))
}

fn endpoints(reader: &mut Reader, node: &Node) -> Option<Probe> {
    let mut fields = Fields::of(reader, node, "`endpoints`")?;
    let service = fields.required(reader, "service", service);
    let through = fields.required(reader, "through", Reader::master);
    let contain =
        fields.get("contain").map_or(Some(vec![]), |node| reader.some(node, Reader::node));
    let lack = fields.get("lack").map_or(Some(vec![]), |node| reader.some(node, Reader::node));
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

fn connect(reader: &mut Reader, node: &Node) -> Option<Probe> {
    let mut fields = Fields::of(reader, node, "`connect`")?;
    let from = fields.required(reader, "from", Reader::node);
    let to = fields.required(reader, "to", target);
    let attempts = fields.required(reader, "attempts", attempts);
    let refused = tally(reader, &mut fields, "refused", attempts);
    fields.end(reader);
    Some(Probe::Connect(Connect { from: from?, to: to?, attempts: attempts?, refused: refused? }))
}

fn request(reader: &mut Reader, node: &Node) -> Option<Probe> {
    let mut fields = Fields::of(reader, node, "`request`")?;
    let from = fields.required(reader, "from", Reader::node);
    let to = fields.required(reader, "to", target);
    let path = fields.required(reader, "path", |reader, node| {
        let path = reader.line(node)?;
        if path.starts_with('/') && path.is_ascii() && !path.contains(' ') {
            return Some(path);
        }
        let message = format!("`{path}` is not the path of a request");
        reader.wrong(node, message, "write an absolute path, such as `/readyz`")
    });
    let attempts = fields.required(reader, "attempts", attempts);
    let failed = tally(reader, &mut fields, "failed", attempts);
    fields.end(reader);
    Some(Probe::Request(Request {
        from: from?,
        to: to?,
        path: path?,
        attempts: attempts?,
        failed: failed?,
    }))
}

fn condition(reader: &mut Reader, node: &Node) -> Option<Probe> {
    let mut fields = Fields::of(reader, node, "`condition`")?;
    let api_version = fields.required(reader, "apiVersion", Reader::line);
    let kind = fields.required(reader, "kind", Reader::line);
    let namespace = match fields.get("namespace") {
        Some(node) => reader.name(node).map(Some),
        None => Some(None),
    };
    let name = fields.required(reader, "name", Reader::line);
    let condition = fields.required(reader, "condition", Reader::line);
    let status = fields.required(reader, "status", status);
    let reason = match fields.get("reason") {
        Some(node) => reader.line(node).map(Some),
        None => Some(None),
    };
    let through = fields.required(reader, "through", Reader::master);
    fields.end(reader);
    Some(Probe::Condition(Condition {
        api_version: api_version?,
        kind: kind?,
        namespace: namespace?,
        name: name?,
        condition: condition?,
        status: status?,
        reason: reason?,
        through: through?,
    }))
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

fn target(reader: &mut Reader, node: &Node) -> Option<Target> {
    reader.one_of(node, "a target", &TARGETS)
}

/// Reads `namespace/name` of a Service.
pub(super) fn service(reader: &mut Reader, node: &Node) -> Option<String> {
    let service = reader.line(node)?;
    match service.split_once('/') {
        Some((namespace, name)) if is_label(namespace) && is_label(name) => Some(service),
        _ => reader.wrong(
            node,
            format!("`{service}` is not a Service"),
            "write `namespace/name`, such as `default/kubernetes`",
        ),
    }
}

fn attempts(reader: &mut Reader, node: &Node) -> Option<u32> {
    reader.count(node, 1)
}

/// Reads how many of the attempts must end in the counted way.
fn tally(
    reader: &mut Reader,
    fields: &mut Fields,
    name: &'static str,
    attempts: Option<u32>,
) -> Option<Tally> {
    const TALLIES: [(&str, Read<Tally>); 2] =
        [("count", |reader, node| reader.count(node, 0).map(Tally::Count)), ("share", share)];
    let (tally, node) = fields
        .required_node(reader, name, |reader, node| reader.one_of(node, "a tally", &TALLIES))?;
    match (tally, attempts) {
        (Tally::Count(count), Some(attempts)) if count > attempts => reader.wrong(
            node,
            format!("{count} of {attempts} attempts can't be"),
            format!("write a count of at most {attempts}, or more attempts"),
        ),
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

fn share(reader: &mut Reader, node: &Node) -> Option<Tally> {
    let mut fields = Fields::of(reader, node, "`share`")?;
    let of = fields.required(reader, "of", Reader::fraction);
    let false_alarm = fields.required(reader, "falseAlarm", Reader::fraction);
    fields.end(reader);
    Some(Tally::Share { of: of?, false_alarm: false_alarm? })
}
