//! YAML as values that know where they stand in the file.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{Error, Location, MessageFormatter, Options, Spanned, UserMessageFormatter};

use super::problem::Finding;
use super::suggest::nearest;

/// A value and its place.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    /// Byte offset and length. A map or list is shown by the key that it belongs to, or else by
    /// where it begins.
    pub(super) span: (usize, usize),
}

impl Node {
    /// The value as JSON.
    pub(super) fn json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Integer(value) => (*value).into(),
            Value::Float(value) => (*value).into(),
            Value::Text(text) => text.as_str().into(),
            Value::List(items) => items.iter().map(Self::json).collect(),
            Value::Map(entries) => {
                entries.iter().map(|entry| (entry.key.clone(), entry.value.json())).collect()
            }
        }
    }
}

/// A value of YAML's core schema.
#[derive(Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A field of a map.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_span: (usize, usize),
    pub(super) value: Node,
}

/// A file's one document.
pub(super) struct Parsed {
    pub(super) root: Node,
    /// Keys that stand twice in a map; the first of each was taken.
    pub(super) duplicate_keys: Vec<Finding>,
}

/// Reads the one document of a file.
///
/// # Errors
/// The first place where it is not YAML, or more than a scenario can be.
pub(super) fn parse(text: &str) -> Result<Parsed, Finding> {
    match serde_saphyr::from_str_with_options(text, options(DuplicateKeyPolicy::Error)) {
        Ok(root) => Ok(Parsed { root, duplicate_keys: vec![] }),
        // Not a matter of syntax: the rest of the file is worth reading.
        Err(error) => match error.without_snippet() {
            Error::DuplicateMappingKey { .. } => {
                let root = serde_saphyr::from_str_with_options(
                    text,
                    options(DuplicateKeyPolicy::FirstWins),
                )
                .map_err(|error| finding(text, &error))?;
                Ok(Parsed { root, duplicate_keys: vec![finding(text, &error)] })
            }
            error => Err(finding(text, error)),
        },
    }
}

/// Far more than any scenario needs, far less than what takes noticeable time or memory.
fn options(duplicate_keys: DuplicateKeyPolicy) -> Options {
    serde_saphyr::options! {
        duplicate_keys: duplicate_keys,
        strict_booleans: true,
        reject_unsupported_tags: true,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 20_000 },
        budget: serde_saphyr::budget! {
            max_depth: 32,
            max_events: 100_000,
            max_nodes: 50_000,
            max_aliases: 1_000,
            max_anchors: 1_000,
            max_recorded_anchor_events: 100_000,
        },
    }
}

/// What the YAML library says, in the words of somebody who writes YAML.
fn finding(text: &str, error: &Error) -> Finding {
    let at = error.location().map_or((0, 0), |location| place(text, location));
    match error.without_snippet() {
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            Finding::new(at, format!("the key `{key}` stands twice in the same map"))
                .help("keep one of the two")
        }
        Error::MultipleDocuments { .. } => Finding::new(at, "a second document begins here")
            .help("a file holds one scenario: put each into a file of its own"),
        Error::Eof { .. } => Finding::new(at, "the file ends before a scenario begins"),
        Error::Budget { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. } => {
            Finding::new(at, "the file unfolds to more than a scenario can be")
                .help("look for aliases of aliases, very long lists and very deep nesting")
        }
        Error::UnknownAnchor { .. } => unknown_anchor(text, at),
        // Nothing else is read as a certain type.
        Error::Unexpected { .. } => Finding::new(at, "a key must be a word, not a list or a map"),
        Error::AliasError { error, .. } => finding(text, error),
        error => {
            let message = UserMessageFormatter.format_message(error);
            // It tells where the text began in whose next line it is.
            let tab = text.get(at.0..).and_then(|rest| rest.find('\t')).map(|tab| at.0 + tab);
            let tab = tab.filter(|_| message.ends_with("found a tab"));
            syntax(tab.map_or(at, |tab| (tab, 1)), &message)
        }
    }
}

fn unknown_anchor(text: &str, at: (usize, usize)) -> Finding {
    let name = |text: &'_ str| -> String {
        text.chars().take_while(|char| char.is_alphanumeric() || "-_".contains(*char)).collect()
    };
    let alias = name(text.get(at.0..).unwrap_or_default().trim_start_matches('*'));
    let anchors: Vec<_> = text.split('&').skip(1).map(name).collect();
    let finding = Finding::new(at, format!("no anchor `&{alias}` stands before this alias"));
    match nearest(&alias, anchors.iter().map(String::as_str)) {
        Some(near) if near != alias => finding.help(format!("did you mean `*{near}`?")),
        _ => finding.help("put a text that begins with `*` in quotes"),
    }
}

/// A syntax error, with the way out of those that people meet.
fn syntax(at: (usize, usize), message: &str) -> Finding {
    let finding = Finding::new(at, format!("this is not YAML: {message}"));
    let help = [
        ("tab", "indent with spaces"),
        ("escape", "write it in single quotes: a backslash stands for itself there"),
        ("tag", "put a text that begins with `!` in quotes"),
        ("simple key", "is a line of a longer text indented too little, or a `:` missing?"),
        (
            "mapping values are not allowed",
            "is this line, or the one above it, indented wrongly? A text that contains `: ` goes in quotes",
        ),
        ("only valid inside a block", "is a bracket or brace above it not closed?"),
        ("block mapping", "indent all fields of a map alike"),
        ("quoted scalar", "is a quote not closed?"),
        ("flow", "is a bracket or brace not closed?"),
        ("':' indicator", "is a bracket, brace or quote not closed?"),
        ("recursion", "nest less deeply"),
    ];
    match help.iter().find(|(part, _)| message.contains(part)) {
        Some((_, help)) => finding.help(*help),
        None => finding,
    }
}

/// The place of an error. Those of the scanner have a line and a column only.
fn place(text: &str, location: Location) -> (usize, usize) {
    if location.span().byte_offset().is_some() {
        return span(location);
    }
    let index = |number: u64| usize::try_from(number.saturating_sub(1)).unwrap_or(usize::MAX);
    let mut lines = text.split_inclusive('\n');
    let before: usize = lines.by_ref().take(index(location.line())).map(str::len).sum();
    let line = lines.next().unwrap_or_default().trim_end();
    let column = line.char_indices().nth(index(location.column())).map_or(line.len(), |(at, _)| at);
    (before + column, 1)
}

fn span(location: Location) -> (usize, usize) {
    let bytes = |count: Option<u64>| count.and_then(|count| usize::try_from(count).ok());
    let span = location.span();
    (bytes(span.byte_offset()).unwrap_or(0), bytes(span.byte_len()).unwrap_or(0))
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        let at = match &spanned.value {
            Value::Map(entries) => entries.first().map(|entry| entry.key_span),
            _ => None,
        };
        Ok(Self { value: spanned.value, span: at.unwrap_or_else(|| span(spanned.defined)) })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    #[expect(clippy::cast_precision_loss, reason = "no field takes a number of that size")]
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or(Value::Float(value as f64), Value::Integer))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, mut value)) = map.next_entry::<Spanned<String>, Node>()? {
            let key_span = span(key.defined);
            if matches!(value.value, Value::Null | Value::List(_) | Value::Map(_)) {
                value.span = key_span;
            }
            entries.push(Entry { key: key.value, key_span, value });
        }
        Ok(Value::Map(entries))
    }
}
