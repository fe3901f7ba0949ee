//! Where a connection goes.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::super::NodeRef;
use super::super::read::{Read, Reader, is_label};
use super::super::reference::{MASTER, Shape, kind, one_of, text};
use super::super::tree::{Node, Value};
use super::namespaced;

/// Where a connection goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    /// The virtual address of a Service, `namespace/name` or `namespace/name:port` with the number
    /// or the name of one of its ports; without, the first.
    Service(String),
    /// The apiserver of one master, by its own address.
    Apiserver(NodeRef),
    /// The load balancer before the apiservers.
    LoadBalancer,
    /// The address of a pod, `namespace/name:port`.
    Pod(String),
    /// An address and port.
    Address(SocketAddr),
}

const TARGETS: [(&str, Read<Target>); 5] = [
    ("service", |reader, node| service_port(reader, node).map(Target::Service)),
    ("apiserver", |reader, node| reader.master(node).map(Target::Apiserver)),
    ("loadBalancer", |reader, node| match node.value {
        Value::Null => Some(Target::LoadBalancer),
        _ => reader.wrong(node, "`loadBalancer` takes no value", "write `to: loadBalancer`"),
    }),
    ("pod", |reader, node| pod_port(reader, node).map(Target::Pod)),
    ("address", |reader, node| address(reader, node).map(Target::Address)),
];

/// How a target is written.
pub(super) const TARGET: Shape = Shape::Shared(
    "target",
    &one_of(
        "a target",
        &[
            kind(
                "service",
                "The virtual address of a Service, `namespace/name` or `namespace/name:port` with \
                 the number or the name of one of its ports; without, the first.",
                text("`namespace/name`, perhaps `:port`", "^[-a-z0-9]+/[-a-z0-9]+(:[-a-z0-9]+)?$"),
            )
            .examples(&["service: default/kubernetes"]),
            kind("apiserver", "The apiserver of one master, by its own address.", MASTER)
                .examples(&["apiserver: {master: 2}"]),
            kind("loadBalancer", "The load balancer before the apiservers.", Shape::Nothing),
            kind(
                "pod",
                "The address of a pod, `namespace/name:port`.",
                text("`namespace/name:port`", "^[-a-z0-9.]+/[-a-z0-9.]+:[0-9]+$"),
            )
            .examples(&["pod: kube-system/coredns-a:53"]),
            kind(
                "address",
                "An address and a port.",
                text("an address and a port", "^[0-9a-fA-F.:\\[\\]]+:[0-9]+$"),
            )
            .examples(&["address: \"10.96.0.10:53\""]),
        ],
    ),
);

pub(super) fn target(reader: &mut Reader, node: &Node) -> Option<Target> {
    reader.one_of(node, "a target", &TARGETS)
}

/// How a Service, or a `ServiceAccount`, is written.
pub(in crate::scenario) const NAMESPACED: Shape =
    text("`namespace/name`", "^[-a-z0-9]+/[-a-z0-9]+$");

/// Reads a Service's `namespace/name`.
pub(in crate::scenario) fn service(reader: &mut Reader, node: &Node) -> Option<String> {
    namespaced_label(reader, node, "a Service", "default/kubernetes")
}

/// Reads the `namespace/name` of something, such as this one.
pub(super) fn namespaced_label(
    reader: &mut Reader,
    node: &Node,
    what: &str,
    such_as: &str,
) -> Option<String> {
    let text = reader.line(node)?;
    if is_namespaced(&text) {
        return Some(text);
    }
    let help = format!("write `namespace/name`, such as `{such_as}`");
    reader.wrong(node, format!("`{text}` is not {what}"), help)
}

fn is_namespaced(text: &str) -> bool {
    text.split_once('/').is_some_and(|(namespace, name)| is_label(namespace) && is_label(name))
}

fn service_port(reader: &mut Reader, node: &Node) -> Option<String> {
    let text = reader.line(node)?;
    let (service, port) = text.split_once(':').map_or((text.as_str(), None), |(s, p)| (s, Some(p)));
    if is_namespaced(service) && port.is_none_or(|port| is_port(port) || is_port_name(port)) {
        return Some(text);
    }
    reader.wrong(
        node,
        format!("`{text}` is not a Service"),
        "write `namespace/name`, such as `default/kubernetes`, or with one of its ports, such as \
         `default/kubernetes:443`",
    )
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok_and(|port| port > 0)
}

fn is_port_name(text: &str) -> bool {
    is_label(text) && text.parse::<u64>().is_err()
}

fn pod_port(reader: &mut Reader, node: &Node) -> Option<String> {
    const HELP: &str = "write `namespace/name:port`, such as `kube-system/coredns-a:53`";
    let text = reader.line(node)?;
    let Some((pod, port)) = text.rsplit_once(':') else {
        return reader.wrong(node, format!("`{text}` names no port"), HELP);
    };
    if !is_port(port) {
        return reader.wrong(node, format!("`{port}` is not a port"), HELP);
    }
    let pod = Node { value: Value::Text(pod.to_owned()), span: node.span };
    namespaced(reader, &pod, false).map(|_| text)
}

fn address(reader: &mut Reader, node: &Node) -> Option<SocketAddr> {
    let text = reader.line(node)?;
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() > 0 => Some(address),
        _ => reader.wrong(
            node,
            format!("`{text}` is not an address and a port"),
            "write them such as `10.96.0.10:53`",
        ),
    }
}
