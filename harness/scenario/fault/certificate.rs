//! `certificate`: a certificate of a node is issued anew, with parts of it changed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::places::{self, NODES};
use super::super::read::{Fields, Read, Reader};
use super::super::reference::{
    DURATION, EMPTY, Field, LINE, NODE, Rule, Shape, kind, list, map, one_of, optional, required,
    ruled, some,
};
use super::super::tree::{Node, Value};
use super::super::{Fault, NodeRef};
use super::file::{PATH, path};

/// See [`Fault::Certificate`]. What is not said stays as it is in the certificate that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateChange {
    /// The file with the certificate, from the node's root: PEM with the key in the same file or
    /// beside it (`x.crt`, `x.key`), or a kubeconfig that holds both.
    pub path: String,
    /// On which nodes, on one after another.
    pub on: Vec<NodeRef>,
    /// Its subject's common name.
    pub common_name: Option<String>,
    /// Its subject's organization; empty: none.
    pub organization: Option<String>,
    /// Names and addresses that it is for.
    pub sans: Option<Sans>,
    /// Who signs it.
    pub issuer: Option<Issuer>,
    /// When it is valid.
    pub validity: Option<Validity>,
    /// What it may be used for.
    pub usages: Option<Vec<Usage>>,
    /// What becomes of the key.
    pub key: KeyChange,
}

impl CertificateChange {
    /// One that changes nothing yet.
    pub fn none(path: impl Into<String>, on: Vec<NodeRef>) -> Self {
        Self {
            path: path.into(),
            on,
            common_name: None,
            organization: None,
            sans: None,
            issuer: None,
            validity: None,
            usages: None,
            key: KeyChange::Same,
        }
    }

    /// Whether only the key changes, so that the certificate stays the very same.
    pub fn keeps_certificate(&self) -> bool {
        let none = Self::none(&self.path, self.on.clone());
        *self == Self { key: KeyChange::Mismatched, ..none }
    }
}

/// Names and addresses that a certificate is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Sans {
    /// These alone.
    Only(Vec<String>),
    /// Those that it had, but for these.
    Without(Vec<San>),
}

/// A name or an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum San {
    /// As it stands in the certificate.
    Name(String),
    /// The load balancer's: a name, or else its address.
    LoadBalancer,
    /// A node's address.
    Node(NodeRef),
}

/// Who signs a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Issuer {
    /// The cluster's CA, `/etc/kubernetes/pki/ca.crt`.
    Ca,
    /// The CA of the apiservers as front proxies, `front-proxy-ca.crt`.
    FrontProxyCa,
    /// The CA of etcd, `etcd/ca.crt`.
    EtcdCa,
    /// A CA that nobody knows, made for this, with the name of the one that signed it before.
    Stranger,
}

/// When a certificate is valid, as the injection sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Validity {
    /// It ended so long ago.
    Expired(Duration),
    /// It begins after so long.
    NotYet(Duration),
    /// It ends after so long.
    ExpiresIn(Duration),
}

/// What a certificate may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Usage {
    /// A client shows it.
    ClientAuth,
    /// A server shows it.
    ServerAuth,
}

/// What becomes of a certificate's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum KeyChange {
    /// It stays, and the certificate is for it.
    Same,
    /// There is a new one, and the certificate is for it.
    New,
    /// There is a new one, and the certificate is for the old one.
    Mismatched,
}

const ISSUERS: [(&str, Issuer); 4] = [
    ("ca", Issuer::Ca),
    ("front-proxy-ca", Issuer::FrontProxyCa),
    ("etcd-ca", Issuer::EtcdCa),
    ("stranger", Issuer::Stranger),
];

const VALIDITIES: [(&str, Read<Validity>); 3] = [
    ("expired", |reader, node| reader.duration(node).map(Validity::Expired)),
    ("notYet", |reader, node| reader.duration(node).map(Validity::NotYet)),
    ("expiresIn", |reader, node| reader.duration(node).map(Validity::ExpiresIn)),
];

const USAGES: [(&str, Usage); 2] =
    [("clientAuth", Usage::ClientAuth), ("serverAuth", Usage::ServerAuth)];

const KEYS: [(&str, KeyChange); 3] =
    [("same", KeyChange::Same), ("new", KeyChange::New), ("mismatched", KeyChange::Mismatched)];

pub(super) const CERTIFICATE: Field = kind(
    "certificate",
    "A certificate of a node is issued anew, with parts of it changed, until the revert. Nobody is told.",
    ruled(
        &[
            required(
                "path",
                "The file with the certificate: PEM with the key in it or beside it (`x.crt`, `x.key`), \
                 or a kubeconfig that holds both.",
                PATH,
            ),
            required("on", "On which nodes, on one after another.", NODES),
            optional("commonName", "Its subject's common name.", LINE),
            optional("organization", "Its subject's organization; empty: none.", EMPTY),
            optional(
                "sans",
                "Names and addresses that it is for: a list of all of them, or those that it loses.",
                Shape::Either(&[
                    list(&LINE),
                    map(&[required(
                        "without",
                        "Which of those that it has it loses: names, addresses, `loadBalancer` or nodes.",
                        some(&Shape::Either(&[LINE, NODE])),
                    )]),
                ]),
            )
            .examples(&["sans: {without: [loadBalancer, kubernetes.default, {master: 1}]}"]),
            optional(
                "issuer",
                "Who signs it; without: the CA that signed it before.",
                Shape::Words(&[
                    ("ca", "The cluster's CA."),
                    ("front-proxy-ca", "The CA of the apiservers as front proxies."),
                    ("etcd-ca", "The CA of etcd."),
                    ("stranger", "A CA that nobody knows, with the name of the one before."),
                ]),
            ),
            optional(
                "validity",
                "When it is valid.",
                one_of(
                    "a validity",
                    &[
                        kind("expired", "It ended so long ago.", DURATION)
                            .examples(&["expired: 1h"]),
                        kind("notYet", "It begins after so long.", DURATION)
                            .examples(&["notYet: 1h"]),
                        kind("expiresIn", "It ends after so long.", DURATION)
                            .examples(&["expiresIn: 2m"]),
                    ],
                ),
            ),
            optional(
                "usages",
                "What it may be used for.",
                list(&Shape::Words(&[
                    ("clientAuth", "A client shows it."),
                    ("serverAuth", "A server shows it."),
                ])),
            ),
            optional(
                "key",
                "What becomes of the key.",
                Shape::Words(&[
                    ("same", "It stays, and the certificate is for it."),
                    ("new", "There is a new one, and the certificate is for it."),
                    ("mismatched", "There is a new one, and the certificate is for the old one."),
                ]),
            )
            .or("same"),
        ],
        &[Rule::Some(&PARTS)],
    ),
)
.examples(&[
    "certificate: {path: /etc/kubernetes/pki/front-proxy-client.crt, on: {every: masters}, commonName: stranger, organization: \"\", usages: [clientAuth]}",
    "certificate: {path: /etc/kubernetes/pki/apiserver.crt, on: {master: 3}, sans: [kubernetes, 10.96.0.1], issuer: stranger, validity: {expired: 1h}}",
    "certificate: {path: /etc/kubernetes/pki/apiserver.crt, on: {every: masters}, sans: {without: [loadBalancer]}}",
    "certificate: {path: /etc/kubernetes/pki/etcd/peer.crt, on: {master: 2}, validity: {notYet: 10m}, key: mismatched}",
    "certificate: {path: /etc/kubernetes/scheduler.conf, on: {master: 1}, validity: {expiresIn: 2m}, key: new}",
]);

/// What can be changed.
const PARTS: [&str; 7] =
    ["commonName", "organization", "sans", "issuer", "validity", "usages", "key"];

pub(super) fn certificate(reader: &mut Reader, node: &Node) -> Option<Fault> {
    let mut fields = Fields::of(reader, node, "`certificate`")?;
    let path = fields.required(reader, "path", path);
    let on = fields.required(reader, "on", places::nodes);
    let found = reader.found();
    let common_name = fields.optional(reader, "commonName", Reader::line);
    let organization = fields.optional(reader, "organization", Reader::line_or_empty);
    let sans = fields.optional(reader, "sans", sans);
    let issuer = fields.optional(reader, "issuer", |reader, node| reader.word(node, &ISSUERS));
    let validity = fields.optional(reader, "validity", |reader, node| {
        reader.one_of(node, "a validity", &VALIDITIES)
    });
    let usages = fields.optional(reader, "usages", |reader, node| {
        reader.list(node, |reader, node| reader.word(node, &USAGES))
    });
    let key = fields.optional(reader, "key", |reader, node| reader.word(node, &KEYS));
    let unsaid = PARTS.iter().all(|name| fields.get(name).is_none());
    if unsaid && fields.unknown().next().is_none() {
        let parts = PARTS.map(|part| format!("`{part}`")).join(", ");
        fields.lacks(reader, "nothing of the certificate changes", &format!("add one of {parts}"));
    }
    fields.end(reader);
    let (path, on) = (path?, on?);
    if reader.found() > found {
        return None;
    }
    let key = key.unwrap_or(KeyChange::Same);
    Some(Fault::Certificate(CertificateChange {
        path,
        on,
        common_name,
        organization,
        sans,
        issuer,
        validity,
        usages,
        key,
    }))
}

fn sans(reader: &mut Reader, node: &Node) -> Option<Sans> {
    let Value::Map(_) = &node.value else {
        return reader.list(node, Reader::line).map(Sans::Only);
    };
    let mut fields = Fields::of(reader, node, "`sans`")?;
    let without = fields.required(reader, "without", |reader, node| reader.some(node, san));
    fields.end(reader);
    without.map(Sans::Without)
}

fn san(reader: &mut Reader, node: &Node) -> Option<San> {
    match &node.value {
        Value::Text(text) if text == "loadBalancer" => Some(San::LoadBalancer),
        Value::Map(_) => reader.node(node).map(San::Node),
        _ => reader.line(node).map(San::Name),
    }
}
