//! Reading faults: one function a fault, and one line in [`FAULTS`].

mod certificate;
mod clock;
mod command;
mod container;
mod degrade;
mod file;
mod kill;
mod limit;
mod node;
mod object;
mod open_files;
mod pause;
mod program;
mod traffic;

pub use certificate::{CertificateChange, Issuer, KeyChange, San, Sans, Usage, Validity};
pub use clock::{ClockShift, Shift};
pub use command::CommandFault;
pub use container::{ContainerNameTaken, NameHolder};
pub use degrade::{Degradation, Degrade};
pub use file::{FileChange, Make};
pub(super) use file::{PATH, path};
pub use kill::Kill;
pub use limit::{Limit, Resource};
pub use node::{Freeze, FullDisk, Isolate, PowerOff};
pub use object::{Apply, Delete, ObjectRef, Patch, PatchStrategy, Scale};
pub(super) use object::{COUNT, MANIFEST, count, manifest};
pub use open_files::TooManyOpenFiles;
pub use pause::Pause;
pub use program::Program;
pub use traffic::{Protocol, Traffic, TrafficEnd, TrafficRule};

use std::collections::BTreeMap;

use super::places;
use super::problem::Finding;
use super::read::{Fields, Read, Reader};
use super::reference::{CHANGED_FLAGS, Field, Shape, kind, map, one_of, optional, required};
use super::tree::{Node, Value};
use super::{Component, Fault, SettingsChange, Signal, Starts, Stop};

const FAULTS: [(&str, Read<Fault>); 21] = [
    ("stop", stop),
    ("settings", settings),
    ("kill", kill::kill),
    ("pause", pause::pause),
    ("clock", clock::clock),
    ("tooManyOpenFiles", open_files::too_many_open_files),
    ("limit", limit::limit),
    ("fullDisk", node::full_disk),
    ("powerOff", node::power_off),
    ("freeze", node::freeze),
    ("isolate", node::isolate),
    ("traffic", traffic::traffic),
    ("degrade", degrade::degrade),
    ("file", file::file),
    ("certificate", certificate::certificate),
    ("containerNameTaken", container::container_name_taken),
    ("apply", object::apply),
    ("patch", object::patch),
    ("delete", object::delete),
    ("scale", object::scale),
    ("command", command::command),
];

/// How each fault is written: the constant beside its function.
pub(super) const FAULT: Shape = Shape::Shared(
    "fault",
    &one_of(
        "a fault",
        &[
            STOP,
            SETTINGS,
            kill::KILL,
            pause::PAUSE,
            clock::CLOCK,
            open_files::TOO_MANY_OPEN_FILES,
            limit::LIMIT,
            node::FULL_DISK,
            node::POWER_OFF,
            node::FREEZE,
            node::ISOLATE,
            traffic::TRAFFIC,
            degrade::DEGRADE,
            file::FILE,
            certificate::CERTIFICATE,
            container::CONTAINER_NAME_TAKEN,
            object::APPLY,
            object::PATCH,
            object::DELETE,
            object::SCALE,
            command::COMMAND,
        ],
    ),
);

const COMPONENTS: [(&str, Component); 4] = [
    ("kube-apiserver", Component::KubeApiserver),
    ("kube-controller-manager", Component::KubeControllerManager),
    ("kube-scheduler", Component::KubeScheduler),
    ("etcd", Component::Etcd),
];

const SIGNALS: [(&str, Signal); 2] = [("SIGKILL", Signal::Kill), ("SIGTERM", Signal::Term)];

/// How a component of the control plane is written.
pub(super) const COMPONENT: Shape = Shape::Words(&[
    ("kube-apiserver", ""),
    ("kube-controller-manager", ""),
    ("kube-scheduler", ""),
    ("etcd", ""),
]);

/// How a signal is written.
const SIGNAL: Shape = Shape::Words(&[
    ("SIGKILL", "At once, without a chance to clean up."),
    ("SIGTERM", "Asks for a graceful end."),
]);

/// Reads a fault.
pub(super) fn fault(reader: &mut Reader, node: &Node) -> Option<Fault> {
    reader.one_of(node, "a fault", &FAULTS)
}

/// Reads a component's name.
pub(super) fn component(reader: &mut Reader, node: &Node) -> Option<Component> {
    reader.word(node, &COMPONENTS)
}

/// Reads a signal that ends a process.
fn signal(reader: &mut Reader, node: &Node) -> Option<Signal> {
    reader.word(node, &SIGNALS)
}

const STOP: Field = kind(
    "stop",
    "A component dies by the signal and is held down until the revert.",
    map(&[
        required("component", "What is stopped.", program::STOPPABLE_PROGRAM),
        required("on", "On which nodes, on all at once; a component's are masters.", places::NODES),
        required("signal", "How its process dies.", SIGNAL),
    ]),
)
.examples(&[
    "stop: {component: kube-apiserver, on: {master: 3}, signal: SIGKILL}",
    "stop: {component: kubelet, on: {worker: 1}, signal: SIGTERM}",
]);

fn stop(reader: &mut Reader, node: &Node) -> Option<Fault> {
    let mut fields = Fields::of(reader, node, "`stop`")?;
    let (component, on) = program::one_on(reader, &mut fields, program::stoppable);
    let signal = fields.required(reader, "signal", signal);
    fields.end(reader);
    Some(Fault::Stop(Stop { component: component?, on: on?, signal: signal? }))
}

const SETTINGS: Field = kind(
    "settings",
    "A component runs with other flags until the revert, one node after another.",
    map(&[
        required("component", "Whose flags.", COMPONENT),
        required("on", "On which masters, in this order.", places::MASTERS),
        required(
            "flags",
            "Each flag's name, without dashes, and its new value, or a list for a flag that is given \
             several times; `null` takes the flag away.",
            CHANGED_FLAGS,
        ),
        optional(
            "starts",
            "Whether the component starts with them; if not, it must refuse them: start, and end by \
             itself. `unready`: an apiserver that runs and does not become ready.",
            Shape::Either(&[Shape::Bool, Shape::Just("unready")]),
        )
        .or("true"),
    ]),
)
.examples(&[
    "settings: {component: kube-apiserver, on: {every: masters}, flags: {endpoint-reconciler-type: lease, apiserver-count: null}}",
    "settings: {component: kube-apiserver, on: {master: 2}, flags: {service-account-issuer: [https://new.example, https://kubernetes.default.svc.cluster.local]}}",
    "settings: {component: kube-scheduler, on: {master: 1}, flags: {no-such-flag: \"1\"}, starts: false}",
    "settings: {component: kube-apiserver, on: {master: 3}, flags: {encryption-provider-config: /etc/kubernetes/pki/encryption.yaml}, starts: unready}",
]);

fn settings(reader: &mut Reader, node: &Node) -> Option<Fault> {
    let mut fields = Fields::of(reader, node, "`settings`")?;
    let component = fields.required(reader, "component", component);
    let on = fields.required(reader, "on", places::masters);
    let flags = fields.required(reader, "flags", |reader, node| flags(reader, node, changed_flag));
    let starts_node = fields.get("starts");
    let starts = match starts_node {
        Some(node) => starts(reader, node),
        None => Some(Starts::Ready),
    };
    fields.end(reader);
    let (component, starts) = (component?, starts?);
    if let (Some(node), Starts::Unready, true) =
        (starts_node, starts, component != Component::KubeApiserver)
    {
        let message = format!("{} does not say whether it is ready", component.name());
        return reader.wrong(node, message, "write `true` or `false`, or take kube-apiserver");
    }
    Some(Fault::Settings(SettingsChange { component, on: on?, flags: flags?, starts }))
}

fn starts(reader: &mut Reader, node: &Node) -> Option<Starts> {
    match &node.value {
        Value::Bool(true) => Some(Starts::Ready),
        Value::Bool(false) => Some(Starts::Not),
        Value::Text(text) if text == "unready" => Some(Starts::Unready),
        _ => reader.mistyped(node, "`true`, `false` or `unready`"),
    }
}

/// Reads flags, their values by `value`.
pub(super) fn flags<T>(
    reader: &mut Reader,
    node: &Node,
    value: Read<T>,
) -> Option<BTreeMap<String, T>> {
    let Value::Map(entries) = &node.value else {
        return reader.mistyped(node, "flags, such as `{v: \"4\"}`");
    };
    if entries.is_empty() {
        return reader.wrong(node, "no flag is set", "write at least one, such as `v: \"4\"`");
    }
    let mut flags = BTreeMap::new();
    for entry in entries {
        let name = entry.key.trim_start_matches('-');
        let allowed = |char: char| char.is_ascii_alphanumeric() || "-_.".contains(char);
        if name != entry.key || name.is_empty() || !name.chars().all(allowed) {
            let help = format!(
                "write the name without leading dashes, such as `{}`",
                if name.is_empty() { "v" } else { name }
            );
            reader.report(
                Finding::new(entry.key_span, format!("`{}` is not the name of a flag", entry.key))
                    .help(help),
            );
        }
        if let Some(value) = value(reader, &entry.value) {
            flags.insert(name.to_owned(), value);
        }
    }
    Some(flags)
}

/// Reads a flag's value.
pub(super) fn set_flag(reader: &mut Reader, node: &Node) -> Option<String> {
    match &node.value {
        Value::Null => reader.wrong(
            node,
            "this flag has no value",
            "write one in quotes; only the fault `settings` can take a flag away, by `null`",
        ),
        // An empty value is one: `--feature-gates=`.
        Value::Text(text) if !text.contains(char::is_control) => Some(text.clone()),
        _ => reader.line(node),
    }
}

/// Reads a flag's new values; none take it away.
fn changed_flag(reader: &mut Reader, node: &Node) -> Option<Vec<String>> {
    match node.value {
        Value::Null => Some(vec![]),
        Value::List(_) => reader.some(node, set_flag),
        _ => set_flag(reader, node).map(|value| vec![value]),
    }
}
