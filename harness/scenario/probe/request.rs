//! Requests, counted by outcome.

use serde::{Deserialize, Serialize};

use super::super::read::{Fields, Reader};
use super::super::reference::{
    Field, NODE, PATTERN, Shape, kind, map, optional, required, some, text, whole,
};
use super::super::tree::{Node, Value};
use super::super::{NodeRef, Probe, Tally};
use super::target::{TARGET, Target, target};
use super::{TALLY, attempts, pattern, tally};

/// See [`Probe::Request`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The node that asks.
    pub from: NodeRef,
    /// Whom.
    pub to: Target,
    /// The path of the GET.
    pub path: String,
    /// Whom the administrator speaks for (impersonation); nothing: for itself.
    pub as_user: Option<User>,
    /// The statuses that are no failures; empty: all below 500.
    pub status: Vec<u16>,
    /// A regular expression that the body of an answer must match, or it is a failure.
    pub body: Option<String>,
    /// Requests per observation, each on a connection of its own.
    pub attempts: u32,
    /// How many must fail (no answer, another status or another body).
    pub failed: Tally,
}

/// A user, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The name, such as `system:serviceaccount:default:default`.
    pub user: String,
    /// Its groups; `system:authenticated` comes by itself if none is named.
    pub groups: Vec<String>,
}

const STATUS: Shape = Shape::Whole { least: 100, most: 599 };
const USER: Shape = text("the name of a user or group", "^[!-~]+$");

pub(super) const REQUEST: Field = kind(
    "request",
    "HTTPS requests (GET) from a node, counted.",
    map(&[
        required("from", "The node that asks.", NODE),
        required("to", "Whom.", TARGET),
        required(
            "path",
            "The path of the request.",
            text("an absolute path, such as `/readyz`", "^/[!-~]*$"),
        ),
        optional(
            "as",
            "Whom the administrator speaks for (impersonation); without: for itself.",
            map(&[
                required(
                    "user",
                    "The name, such as `system:serviceaccount:default:default`.",
                    USER,
                ),
                optional(
                    "groups",
                    "Its groups; `system:authenticated` comes by itself if none is named.",
                    some(&USER),
                ),
            ]),
        )
        .examples(&["as: {user: jane, groups: [sre]}"]),
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
        required("failed", "How many must fail: no answer, another status or another body.", TALLY),
    ]),
)
.examples(&[
    "request: {from: {worker: 1}, to: loadBalancer, path: /readyz, attempts: 20, failed: {count: 0}}",
    "request: {from: {worker: 1}, to: {apiserver: {master: 2}}, path: /api, as: {user: jane, groups: [sre]}, status: [403], body: jane, attempts: 1, failed: {count: 0}}",
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
    let as_user = fields.optional(reader, "as", user);
    let status = fields.optional(reader, "status", |reader, node| match node.value {
        Value::List(_) => reader.some(node, status),
        _ => Some(vec![status(reader, node)?]),
    });
    let body = fields.optional(reader, "body", pattern);
    let attempts = fields.required(reader, "attempts", attempts);
    let failed = tally(reader, &mut fields, "failed", attempts);
    fields.end(reader);
    Some(Probe::Request(Request {
        from: from?,
        to: to?,
        path: path?,
        as_user,
        status: status.unwrap_or_default(),
        body,
        attempts: attempts?,
        failed: failed?,
    }))
}

fn user(reader: &mut Reader, node: &Node) -> Option<User> {
    fn name(reader: &mut Reader, node: &Node) -> Option<String> {
        let name = reader.line(node)?;
        if name.chars().all(|char| char.is_ascii_graphic()) {
            return Some(name);
        }
        // It is sent in a header.
        let help = "write one word, such as `system:serviceaccount:default:default`";
        reader.wrong(node, format!("`{name}` is not the name of a user or group"), help)
    }
    let mut fields = Fields::of(reader, node, "`as`")?;
    let user = fields.required(reader, "user", name);
    let groups = fields.optional(reader, "groups", |reader, node| reader.some(node, name));
    fields.end(reader);
    Some(User { user: user?, groups: groups.unwrap_or_default() })
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
