//! A key or an alarm of etcd, by etcd's own API. That a Secret is encrypted at rest:
//!
//! ```yaml
//! etcd: {on: {master: 1}, key: /registry/secrets/default/token, value: '^k8s:enc:secretbox:v1:'}
//! ```

use serde::{Deserialize, Serialize};

use super::super::problem::Finding;
use super::super::read::{Fields, Reader};
use super::super::reference::{
    Field, MASTER, PATTERN, Rule, Shape, kind, optional, required, ruled, text,
};
use super::super::tree::Node;
use super::super::{NodeRef, Probe};
use super::pattern;

/// See [`Probe::Etcd`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EtcdState {
    /// The master whose member is asked, on that master.
    pub on: NodeRef,
    /// What it must have.
    pub has: EtcdSide,
    /// Whether it must not have it instead.
    pub absent: bool,
}

/// What is expected of etcd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EtcdSide {
    /// A key, as this member has it: a member without a quorum answers, too.
    Key {
        /// The key, such as `/registry/secrets/default/token`.
        key: String,
        /// A regular expression that its value must match. Bytes that are no UTF-8 count as `\u{fffd}`.
        value: Option<String>,
    },
    /// An alarm of any member. The members agree on it, so this needs a quorum.
    Alarm(EtcdAlarm),
}

/// What etcd raises an alarm about.
/// <https://github.com/etcd-io/etcd/blob/v3.6.5/api/etcdserverpb/rpc.proto>
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EtcdAlarm {
    /// The quota of a member's database is used up.
    #[serde(rename = "NOSPACE")]
    NoSpace,
    /// The data of a member is damaged.
    #[serde(rename = "CORRUPT")]
    Corrupt,
}

impl EtcdAlarm {
    /// As etcd writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoSpace => "NOSPACE",
            Self::Corrupt => "CORRUPT",
        }
    }
}

pub(super) const ETCD: Field = kind(
    "etcd",
    "A key or an alarm of etcd, asked by etcd's own API.",
    ruled(
        &[
            required("on", "The master whose member is asked, on that master.", MASTER),
            optional(
                "key",
                "A key, as this member has it: a member without a quorum answers, too.",
                text("a key of Kubernetes, such as `/registry/leases/kube-system/a`", "^/.+$"),
            ),
            optional(
                "value",
                "What the key's value must match. Bytes that are no text match `.` alone.",
                PATTERN,
            ),
            optional(
                "alarm",
                "An alarm of any member; asking for it needs a quorum.",
                Shape::Words(&[
                    ("NOSPACE", "The quota of a member's database is used up."),
                    ("CORRUPT", "The data of a member is damaged."),
                ]),
            ),
            optional(
                "is",
                "Whether the key or the alarm must be there.",
                Shape::Words(&[("present", "It is there."), ("absent", "It is not.")]),
            )
            .or("present"),
        ],
        &[Rule::One(&["key", "alarm"]), Rule::With("value", "key")],
    ),
)
.examples(&[
    "etcd: {on: {master: 1}, key: /registry/secrets/default/token, value: \"^k8s:enc:secretbox:v1:\"}",
    "etcd: {on: {master: 3}, key: /registry/masterleases/10.0.0.1, is: absent}",
    "etcd: {on: {master: 1}, alarm: NOSPACE}",
]);

pub(super) fn read(reader: &mut Reader, node: &Node) -> Option<Probe> {
    const STATES: [(&str, bool); 2] = [("present", false), ("absent", true)];
    let mut fields = Fields::of(reader, node, "`etcd`")?;
    let on = fields.required(reader, "on", Reader::master);
    let absent = fields.optional(reader, "is", |reader, node| reader.word(node, &STATES));
    let absent = absent.unwrap_or(false);
    let has = side(reader, &mut fields, absent);
    fields.end(reader);
    Some(Probe::Etcd(EtcdState { on: on?, has: has?, absent }))
}

fn side(reader: &mut Reader, fields: &mut Fields, absent: bool) -> Option<EtcdSide> {
    const ALARMS: [(&str, EtcdAlarm); 2] =
        [("NOSPACE", EtcdAlarm::NoSpace), ("CORRUPT", EtcdAlarm::Corrupt)];
    let value_node = fields.get("value");
    let value = fields.perhaps(reader, "value", pattern);
    match (fields.get("key"), fields.get("alarm")) {
        (Some(node), None) => {
            if let (Some(node), true) = (value_node, absent) {
                let finding = Finding::new(node.span, "a key that is absent has no value");
                reader.report(finding.help("leave `value` or `is: absent` away"));
            }
            let key = reader.line(node)?;
            if !key.starts_with('/') {
                let help = "write it whole, such as `/registry/leases/kube-system/kube-scheduler`";
                return reader.wrong(node, format!("`{key}` is no key of Kubernetes"), help);
            }
            Some(EtcdSide::Key { key, value: value? })
        }
        (None, Some(node)) => {
            if let Some(value) = value_node {
                let finding = Finding::new(value.span, "`value` belongs to `key`");
                reader.report(finding.help("write `key`, or leave it away"));
            }
            reader.word(node, &ALARMS).map(EtcdSide::Alarm)
        }
        (Some(_), Some(node)) => {
            let help = "write an expectation for each";
            reader.wrong(node, "`alarm` and `key` exclude each other", help)
        }
        (None, None) => {
            let help = "add `key: /registry/…` or `alarm: NOSPACE`";
            fields.lacks(reader, "nothing is expected of etcd", help);
            None
        }
    }
}
