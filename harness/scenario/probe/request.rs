//! Requests, counted by outcome.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::super::fault::{PATH, path};
use super::super::read::{Fields, Reader};
use super::super::reference::{
    DURATION, Field, MASTER, NODE, PATTERN, Rule, Shape, kind, map, optional, required, ruled,
    some, text, whole,
};
use super::super::tree::{Node, Value};
use super::super::{NodeRef, Probe, Tally};
use super::target::{NAMESPACED, TARGET, Target, namespaced_label, target};
use super::{TALLY, attempts, error, pattern, tally};

/// See [`Probe::Request`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The node that asks.
    pub from: NodeRef,
    /// Whom.
    pub to: Target,
    /// Its path.
    pub path: String,
    /// What is asked for there.
    pub method: Method,
    /// What is sent with it, as JSON.
    pub content: Option<Json>,
    /// Who asks.
    pub caller: Caller,
    /// The statuses that are no failures; empty: all below 500.
    pub status: Vec<u16>,
    /// A regular expression that the body of an answer must match, or it is a failure.
    pub body: Option<String>,
    /// Requests per observation, each on a connection of its own.
    pub attempts: u32,
    /// How many must fail (no answer, another status or another body).
    pub failed: Tally,
    /// A regular expression that the words of each failure must match.
    pub error: Option<String>,
    /// The time from the start of one request to the start of the next, whether or not that one was
    /// answered; nothing: each waits for the one before.
    pub pace: Option<Duration>,
    /// How long a request may take from its connect to the end of its answer, or it is a failure.
    pub timeout: Duration,
    /// Whether the server's certificate must be one of the cluster's CA, for the address.
    pub verify: bool,
}

impl Request {
    /// How long a request may take if the file says nothing.
    pub const TIMEOUT: Duration = Duration::from_secs(5);
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// To be told.
    #[default]
    Get,
    /// To create.
    Post,
    /// To replace.
    Put,
    /// To change (RFC 7386).
    Patch,
    /// To delete.
    Delete,
}

impl Method {
    const WORDS: [(&str, Self); 5] = [
        ("GET", Self::Get),
        ("POST", Self::Post),
        ("PUT", Self::Put),
        ("PATCH", Self::Patch),
        ("DELETE", Self::Delete),
    ];

    /// As it is written in a request.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::WORDS.into_iter().find(|(_, method)| *method == self).map_or("", |(word, _)| word)
    }
}

/// Who asks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Caller {
    /// The cluster's administrator, by its certificate.
    #[default]
    Administrator,
    /// The administrator in a user's name (impersonation).
    User(User),
    /// A `ServiceAccount`, by a token that is issued for each observation.
    ServiceAccount {
        /// Which, `namespace/name`.
        name: String,
        /// The master whose apiserver issues the token.
        issued_by: NodeRef,
    },
    /// Whoever a certificate of a node says, as the file is at each observation.
    Certificate(Holding),
    /// Nobody: without a certificate, and without a token.
    Nobody,
}

/// A file that holds a certificate with its key, or has the key beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    /// The file: `….crt`, with `….key` beside it; `….pem` with both; or a kubeconfig.
    pub path: String,
    /// The node that it is on.
    pub on: NodeRef,
}

/// A user, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The name, such as `system:serviceaccount:default:default`.
    pub user: String,
    /// Its groups; `system:authenticated` comes by itself if none is named.
    pub groups: Vec<String>,
}

const LONGEST_TIMEOUT: Duration = Duration::from_mins(1);

const STATUS: Shape = Shape::Whole { least: 100, most: 599 };
const USER: Shape = text("the name of a user or group", "^[!-~]+$");

/// How it is written who asks.
const CALLER: Shape = Shape::Either(&[
    Shape::Just("nobody"),
    ruled(
        &[
            optional(
                "user",
                "The user in whose name the administrator asks (impersonation), such as \
                 `system:serviceaccount:default:default`.",
                USER,
            ),
            optional(
                "groups",
                "The user's groups; `system:authenticated` comes by itself if none is named.",
                some(&USER),
            ),
            optional(
                "serviceAccount",
                "A `ServiceAccount`, by a token that is issued for each observation.",
                map(&[
                    required("name", "Which, `namespace/name`.", NAMESPACED),
                    required("issuedBy", "The master whose apiserver issues the token.", MASTER),
                ]),
            ),
            optional(
                "certificate",
                "Whoever a certificate of a node says, with its key, as the file is at each observation.",
                map(&[
                    required(
                        "path",
                        "The file: `.crt` with `.key` beside it, `.pem` with both, or a kubeconfig.",
                        PATH,
                    ),
                    required("on", "The node that it is on.", NODE),
                ]),
            ),
        ],
        &[Rule::One(&["user", "serviceAccount", "certificate"]), Rule::With("groups", "user")],
    ),
]);

pub(super) const REQUEST: Field = kind(
    "request",
    "HTTPS requests from a node, counted.",
    ruled(&[
        required("from", "The node that asks.", NODE),
        required("to", "Whom.", TARGET),
        required(
            "path",
            "The path of the request.",
            text("an absolute path, such as `/readyz`", "^/[!-~]*$"),
        ),
        optional(
            "method",
            "What is asked for. Whatever is not `GET` is asked of the API (`/api/…`, `/apis/…`) as a dry \
             run, so that nothing is changed by being observed.",
            Shape::Words(&[
                ("GET", "To be told."),
                ("POST", "To create."),
                ("PUT", "To replace."),
                ("PATCH", "To change: fields are merged, `null` takes one away (RFC 7386)."),
                ("DELETE", "To delete."),
            ]),
        )
        .or("GET"),
        optional(
            "content",
            "What is sent with it, as JSON.",
            Shape::Named { of: &Shape::Any, names: "", count: (0, usize::MAX) },
        )
        .examples(&["content: {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}"]),
        optional("as", "Who asks; without: the cluster's administrator.", CALLER).examples(&[
            "as: {user: jane, groups: [sre]}",
            "as: {serviceAccount: {name: default/default, issuedBy: {master: 1}}}",
            "as: {certificate: {path: /etc/kubernetes/scheduler.conf, on: {master: 1}}}",
            "as: nobody",
        ]),
        optional(
            "verify",
            "Whether the server's certificate must be of the cluster's CA, for the address that is asked.",
            Shape::Bool,
        )
        .or("true"),
        optional(
            "status",
            "The statuses that are no failures; without: all below 500.",
            Shape::Either(&[STATUS, some(&STATUS)]),
        )
        .examples(&["status: [403]"]),
        optional(
            "body",
            "What the body of an answer must match, or it is a failure.",
            PATTERN,
        ),
        required(
            "attempts",
            "Requests per observation, each on a connection of its own.",
            whole(1),
        ),
        optional(
            "pace",
            "The time from the start of one request to the start of the next, answered or not; \
             without: each waits for the one before.",
            DURATION,
        )
        .examples(&["pace: 50ms"]),
        optional(
            "timeout",
            "How long a request may take, from its connect to the end of its answer, up to a minute.",
            DURATION,
        )
        .or("5s")
        .examples(&["timeout: 1s"]),
        required(
            "failed",
            "How many must fail: no answer in time, another status or another body.",
            TALLY,
        ),
        optional(
            "error",
            "What the words of each failure must match, as they are shown: such as `connection refused`, \
             `no answer in time`, `certificate` or `^401`.",
            PATTERN,
        )
        .examples(&["error: certificate"]),
    ], &[Rule::With("content", "method")]),
)
.examples(&[
    "request: {from: {worker: 1}, to: loadBalancer, path: /readyz, attempts: 20, failed: {count: 0}}",
    "request: {from: {worker: 1}, to: {apiserver: {master: 2}}, path: /api, as: {user: jane, groups: [sre]}, status: [403], body: jane, attempts: 1, failed: {count: 0}}",
    "request: {from: {worker: 1}, to: {apiserver: {master: 2}}, path: /api, as: {serviceAccount: {name: default/default, issuedBy: {master: 1}}}, status: [200], attempts: 1, failed: {count: 0}}",
    "request: {from: {worker: 1}, to: {apiserver: {master: 1}}, path: /api, as: {certificate: {path: /etc/kubernetes/scheduler.conf, on: {master: 2}}}, status: [401], attempts: 1, failed: {count: 0}}",
    "request: {from: {worker: 1}, to: loadBalancer, path: /readyz, verify: false, pace: 50ms, attempts: 600, failed: {atMost: 3}}",
    "request: {from: {worker: 1}, to: {apiserver: {master: 3}}, path: /api/v1/pods, timeout: 1s, attempts: 10, failed: {atLeast: 5}}",
    "request: {from: {worker: 1}, to: loadBalancer, path: /api/v1/namespaces/default/configmaps, method: POST, content: {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}, status: [201], pace: 1s, attempts: 30, failed: {count: 0}}",
]);

pub(super) fn read(reader: &mut Reader, node: &Node) -> Option<Probe> {
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
    let method = fields.perhaps(reader, "method", |r, node| r.word(node, &Method::WORDS));
    // Of one that can't be read nothing is known.
    let is_get = method.is_some_and(|method| method.unwrap_or_default() == Method::Get);
    let content = fields.optional(reader, "content", |reader, node| match node.value {
        Value::Map(_) => Some(node.json()),
        _ => reader.mistyped(node, "a map, such as `{apiVersion: v1}`"),
    });
    if let (true, Some(node)) = (is_get, fields.get("content")) {
        let help = "take `content` away, or write such as `method: POST`";
        reader.wrong::<()>(node, "nothing is sent with a GET", help);
    }
    let caller = fields.optional(reader, "as", caller).unwrap_or_default();
    let status = fields.optional(reader, "status", |reader, node| match node.value {
        Value::List(_) => reader.some(node, status),
        _ => Some(vec![status(reader, node)?]),
    });
    let body = fields.optional(reader, "body", pattern);
    let verify = fields.optional(reader, "verify", |reader, node| match node.value {
        Value::Bool(verify) => Some(verify),
        _ => reader.mistyped(node, "`true` or `false`"),
    });
    let pace = fields.optional(reader, "pace", pace);
    let timeout = fields.optional(reader, "timeout", |reader, node| {
        match reader.duration_up_to(node, LONGEST_TIMEOUT, "1m")? {
            Duration::ZERO => {
                reader.wrong(node, "no request is answered in no time", "write such as `1s`")
            }
            timeout => Some(timeout),
        }
    });
    let attempts = fields.required(reader, "attempts", attempts);
    let failed = tally(reader, &mut fields, "failed", attempts);
    let error = error(reader, &mut fields, failed);
    fields.end(reader);
    Some(Probe::Request(Request {
        from: from?,
        to: to?,
        path: path?,
        method: method?.unwrap_or_default(),
        content,
        caller,
        status: status.unwrap_or_default(),
        body,
        attempts: attempts?,
        failed: failed?,
        error: error?,
        pace,
        timeout: timeout.unwrap_or(Request::TIMEOUT),
        verify: verify.unwrap_or(true),
    }))
}

/// The shortest time between the starts of two requests: a client, not a flood.
const SHORTEST_PACE: Duration = Duration::from_millis(10);

fn pace(reader: &mut Reader, node: &Node) -> Option<Duration> {
    match reader.duration(node)? {
        pace if pace < SHORTEST_PACE => {
            reader.wrong(node, "this pace is too fast", "write at least `10ms`")
        }
        pace => Some(pace),
    }
}

fn caller(reader: &mut Reader, node: &Node) -> Option<Caller> {
    fn name(reader: &mut Reader, node: &Node) -> Option<String> {
        let name = reader.line(node)?;
        if name.chars().all(|char| char.is_ascii_graphic()) {
            return Some(name);
        }
        // It is sent in a header.
        let help = "write one word, such as `system:serviceaccount:default:default`";
        reader.wrong(node, format!("`{name}` is not the name of a user or group"), help)
    }
    const HELP: &str = "write `as: nobody`, `as: {user: jane}`, `as: {serviceAccount: {name: \
                        default/default, issuedBy: {master: 1}}}`, or `as: {certificate: {path: \
                        /etc/kubernetes/scheduler.conf, on: {master: 1}}}`";
    if let Value::Text(text) = &node.value {
        return match text.as_str() {
            "nobody" => Some(Caller::Nobody),
            _ => reader.wrong(node, format!("`{text}` is not somebody who can ask"), HELP),
        };
    }
    let mut fields = Fields::of(reader, node, "`as`")?;
    let user = fields.perhaps(reader, "user", name);
    let groups = fields.perhaps(reader, "groups", |reader, node| reader.some(node, name));
    let account = fields.perhaps(reader, "serviceAccount", service_account);
    let certificate = fields.perhaps(reader, "certificate", certificate);
    let caller = match (user, account, certificate) {
        (Some(Some(user)), Some(None), Some(None)) => {
            groups.map(|groups| Caller::User(User { user, groups: groups.unwrap_or_default() }))
        }
        (Some(None), Some(Some(_)), Some(None)) | (Some(None), Some(None), Some(Some(_)))
            if fields.get("groups").is_some() =>
        {
            let message = "whoever shows a token or a certificate has its own groups";
            fields.lacks(reader, message, "take `groups` away");
            None
        }
        (Some(None), Some(caller @ Some(_)), Some(None))
        | (Some(None), Some(None), Some(caller @ Some(_))) => caller,
        (Some(_), Some(_), Some(_)) => {
            fields.lacks(reader, "it must be said in one way who asks", HELP);
            None
        }
        _ => None, // What can't be read was reported.
    };
    fields.end(reader);
    caller
}

fn service_account(reader: &mut Reader, node: &Node) -> Option<Caller> {
    let mut fields = Fields::of(reader, node, "`serviceAccount`")?;
    let name = fields.required(reader, "name", |reader, node| {
        namespaced_label(reader, node, "a ServiceAccount", "default/default")
    });
    let issued_by = fields.required(reader, "issuedBy", Reader::master);
    fields.end(reader);
    Some(Caller::ServiceAccount { name: name?, issued_by: issued_by? })
}

fn certificate(reader: &mut Reader, node: &Node) -> Option<Caller> {
    let mut fields = Fields::of(reader, node, "`certificate`")?;
    let path = fields.required(reader, "path", path);
    let on = fields.required(reader, "on", Reader::node);
    fields.end(reader);
    Some(Caller::Certificate(Holding { path: path?, on: on? }))
}

fn status(reader: &mut Reader, node: &Node) -> Option<u16> {
    let code = reader.count(node, 0)?;
    match u16::try_from(code) {
        Ok(status @ 100..600) => Some(status),
        _ => {
            reader.wrong(node, format!("{code} is not a status of HTTP"), "write one such as `200`")
        }
    }
}
