//! Reading values out of a tree. Every function says what is wrong and where, and gives nothing
//! back; the caller reads on.

use std::time::Duration;

use super::problem::Finding;
use super::suggest::{names, nearest, suggest};
use super::tree::{Entry, Node, Value};
use super::{NodeRef, Nodes, Only, Versions};

/// Durations longer than this are mistakes, and would overflow clocks.
const LONGEST: Duration = Duration::from_hours(24);

/// Collects what is found, and knows what the file said so far: the names that the rest refers to.
pub(super) struct Reader {
    findings: Vec<Finding>,
    /// The cluster's masters and workers; nothing if the file's own figures are wrong.
    pub(super) masters: Option<usize>,
    pub(super) workers: Option<usize>,
    /// The versions of Kubernetes that the scenario is for, as far as they were read.
    pub(super) versions: Versions,
    /// The variants; nothing if they could not be read.
    pub(super) variants: Option<Vec<String>>,
    /// The nodes that names stand for; nothing if the names could not be read.
    pub(super) nodes: Option<Nodes>,
    /// Every choice of nodes for these names.
    pub(super) choices: Vec<Nodes>,
    /// Whether some probe writes, and where the first is that reads back what was written.
    pub(super) writes: bool,
    pub(super) written: Option<(usize, usize)>,
}

/// A way to read a field's value.
pub(super) type Read<T> = fn(&mut Reader, &Node) -> Option<T>;

impl Reader {
    /// With nodes that were chosen for the names of the file, if they were.
    pub(super) fn new(findings: Vec<Finding>, nodes: Option<Nodes>) -> Self {
        Self {
            findings,
            masters: None,
            workers: None,
            versions: Versions::All,
            variants: None,
            nodes,
            choices: vec![],
            writes: false,
            written: None,
        }
    }

    /// What was found, and every choice of nodes.
    pub(super) fn end(self) -> (Vec<Finding>, Vec<Nodes>) {
        (self.findings, self.choices)
    }

    /// How much was found so far.
    pub(super) fn found(&self) -> usize {
        self.findings.len()
    }

    /// What was found since `found` was so much, for the caller to report.
    pub(super) fn take_since(&mut self, found: usize) -> Vec<Finding> {
        self.findings.split_off(found)
    }

    pub(super) fn report(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// Reports a problem of a value.
    pub(super) fn wrong<T>(
        &mut self,
        node: &Node,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Option<T> {
        self.report(Finding::new(node.span, message).help(help));
        None
    }

    /// Reports a value of the wrong type.
    pub(super) fn mistyped<T>(&mut self, node: &Node, wanted: &str) -> Option<T> {
        self.report(Finding::new(
            node.span,
            format!("expected {wanted}, found {}", kind(&node.value)),
        ));
        None
    }

    /// A text of one line.
    pub(super) fn line(&mut self, node: &Node) -> Option<String> {
        let text = self.text(node)?;
        if text.contains(char::is_control) {
            return self.wrong(node, "this must be one line", "use `notes` for longer text");
        }
        Some(text)
    }

    /// The same, or an empty one.
    pub(super) fn line_or_empty(&mut self, node: &Node) -> Option<String> {
        match &node.value {
            Value::Text(text) if text.is_empty() => Some(String::new()),
            _ => self.line(node),
        }
    }

    /// A text that is not empty.
    pub(super) fn text(&mut self, node: &Node) -> Option<String> {
        match &node.value {
            Value::Text(text) if text.trim().is_empty() => {
                self.wrong(node, "this must not be empty", "write some text")
            }
            Value::Text(text) => Some(text.clone()),
            Value::Bool(_) | Value::Integer(_) | Value::Float(_) => {
                let message = format!("expected a text, found {}", kind(&node.value));
                self.wrong(node, message, "put it in quotes, such as `\"3\"` or `\"true\"`")
            }
            _ => self.mistyped(node, "a text"),
        }
    }

    /// A name of lower-case letters, digits and dashes.
    pub(super) fn name(&mut self, node: &Node) -> Option<String> {
        let name = self.line(node)?;
        if is_label(&name) {
            return Some(name);
        }
        let fitting = name.to_lowercase().replace(|char: char| !char.is_ascii_alphanumeric(), "-");
        let fitting = fitting.trim_matches('-');
        let help = if is_label(fitting) { format!(", such as `{fitting}`") } else { String::new() };
        self.wrong(
            node,
            format!("`{name}` is not a name"),
            format!("write at most 63 lower-case letters, digits and dashes{help}"),
        )
    }

    /// A whole number of at least `least`.
    pub(super) fn count(&mut self, node: &Node, least: u32) -> Option<u32> {
        let number = match &node.value {
            Value::Integer(number) => *number,
            Value::Text(text) if text.parse::<u32>().is_ok() => {
                let message = format!("expected a whole number, found the text `{text}`");
                return self.wrong(node, message, format!("take the quotes away: `{text}`"));
            }
            _ => return self.mistyped(node, "a whole number"),
        };
        match u32::try_from(number) {
            Ok(count) if count >= least => Some(count),
            _ => self.wrong(
                node,
                format!("{number} is out of range"),
                format!("write a whole number from {least} to {}", u32::MAX),
            ),
        }
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, node: &Node) -> Option<bool> {
        match node.value {
            Value::Bool(value) => Some(value),
            _ => self.mistyped(node, "`true` or `false`"),
        }
    }

    /// A number between 0 and 1, both excluded.
    pub(super) fn fraction(&mut self, node: &Node) -> Option<f64> {
        match node.value {
            Value::Float(number) if number > 0.0 && number < 1.0 => Some(number),
            Value::Float(number) => self.not_a_fraction(node, &number.to_string()),
            Value::Integer(number) => self.not_a_fraction(node, &number.to_string()),
            _ => self.mistyped(node, "a number between 0 and 1"),
        }
    }

    fn not_a_fraction<T>(&mut self, node: &Node, number: &str) -> Option<T> {
        self.wrong(
            node,
            format!("{number} is not between 0 and 1"),
            "write a number more than 0 and less than 1, such as `0.3333`; \
             to demand none or all, use `count`",
        )
    }

    /// A duration with its unit.
    pub(super) fn duration(&mut self, node: &Node) -> Option<Duration> {
        self.duration_up_to(node, LONGEST, "24h")
    }

    /// A duration with its unit, at most `longest`, which is `written` so.
    pub(super) fn duration_up_to(
        &mut self,
        node: &Node,
        longest: Duration,
        written: &str,
    ) -> Option<Duration> {
        const UNITS: &str = "write a number with a unit, such as `500ms`, `30s` or `2m`";
        let text = match &node.value {
            Value::Integer(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            Value::Text(text) => text.trim().to_owned(),
            _ => return self.mistyped(node, "a duration such as `30s`"),
        };
        if text.parse::<f64>().is_ok() {
            return self.wrong(
                node,
                format!("the duration {text} has no unit"),
                format!("write `{text}s` for seconds or `{text}ms` for milliseconds"),
            );
        }
        match humantime::parse_duration(&text) {
            Ok(duration) if duration <= longest => Some(duration),
            Ok(_) => self.wrong(
                node,
                format!("{text} is too long"),
                format!("write at most `{written}`"),
            ),
            Err(_) => self.wrong(node, format!("`{text}` is not a duration"), UNITS),
        }
    }

    /// A list, each item read by itself. What can't be read is left out, and reported.
    pub(super) fn list<T>(&mut self, node: &Node, read: Read<T>) -> Option<Vec<T>> {
        let help = match &node.value {
            Value::List(items) => {
                return Some(items.iter().filter_map(|item| read(self, item)).collect());
            }
            Value::Map(_) => "begin each item with `- `, or put `[` and `]` around it".to_owned(),
            Value::Text(text) => {
                let words = text.split_whitespace().collect::<Vec<_>>().join(", ");
                format!("write `[{words}]`")
            }
            _ => "put `[` and `]` around it".to_owned(),
        };
        self.wrong(node, format!("expected a list, found {}", kind(&node.value)), help)
    }

    /// A list with at least one item.
    pub(super) fn some<T>(&mut self, node: &Node, read: Read<T>) -> Option<Vec<T>> {
        if matches!(&node.value, Value::List(items) if items.is_empty()) {
            return self.wrong(
                node,
                "this list is empty",
                "write at least one item, or leave the field away",
            );
        }
        self.list(node, read)
    }

    /// One of several words.
    pub(super) fn word<T: Copy>(&mut self, node: &Node, words: &[(&str, T)]) -> Option<T> {
        let Value::Text(text) = &node.value else {
            return self
                .mistyped(node, &format!("one of {}", names(words.iter().map(|(word, _)| *word))));
        };
        let found = words.iter().find(|(word, _)| word == text).map(|(_, value)| *value);
        found.or_else(|| {
            let help = suggest(text, words.iter().map(|(word, _)| *word));
            self.wrong(node, format!("`{text}` is not allowed here"), help)
        })
    }

    /// A map with one field, whose name says how its value is read. A kind without content is
    /// written as a plain word and read from an empty value.
    pub(super) fn one_of<T>(
        &mut self,
        node: &Node,
        what: &str,
        kinds: &[(&str, Read<T>)],
    ) -> Option<T> {
        let empty = Node { value: Value::Null, span: node.span };
        let (name, span, value) = match &node.value {
            Value::Text(word) => (word, node.span, &empty),
            Value::Map(entries) => match entries.as_slice() {
                [Entry { key, key_span, value }] => (key, *key_span, value),
                entries => {
                    let found = match entries {
                        [] => "no field".to_owned(),
                        entries => names(entries.iter().map(|entry| entry.key.as_str())),
                    };
                    let message = format!("{what} is written with just one field, found {found}");
                    return self.wrong(
                        node,
                        message,
                        format!("write one of {}", names(kinds.iter().map(|(kind, _)| *kind))),
                    );
                }
            },
            value => {
                let all = names(kinds.iter().map(|(kind, _)| *kind));
                let message = format!("expected {what}: one of {all}, found {}", self::kind(value));
                // Of a bare number it is not clear what it counts as.
                let plain = ["count", "equals"];
                let plain = kinds.iter().find(|(kind, _)| plain.contains(kind));
                let mut finding = Finding::new(node.span, message);
                match (value, plain) {
                    (Value::Integer(number), Some((kind, _))) => {
                        finding = finding.help(format!("write `{{{kind}: {number}}}`"));
                    }
                    (Value::List(_), _) => {
                        finding = finding.help("write one, without `- ` or brackets");
                    }
                    _ => {}
                }
                self.report(finding);
                return None;
            }
        };
        if let Some((_, read)) = kinds.iter().find(|(kind, _)| kind == name) {
            let found = self.found();
            let read = read(self, value);
            if let (Value::Text(_), None) = (&node.value, &read) {
                let help = format!("write `{{{name}: …}}`, with its value");
                let findings = self.take_since(found);
                self.findings.extend(findings.into_iter().map(|finding| finding.or_help(&help)));
            }
            return read;
        }
        let help = suggest(name, kinds.iter().map(|(kind, _)| *kind));
        self.report(Finding::new(span, format!("`{name}` is not {what}")).help(help));
        None
    }

    /// A node of the cluster.
    pub(super) fn node(&mut self, node: &Node) -> Option<NodeRef> {
        let kinds: [(&str, Read<NodeRef>); 3] = [
            ("master", |reader, node| {
                reader.index(node, "master", reader.masters).map(NodeRef::Master)
            }),
            ("worker", |reader, node| {
                reader.index(node, "worker", reader.workers).map(NodeRef::Worker)
            }),
            ("node", Self::named_node),
        ];
        if let Value::Text(text) = &node.value {
            let message = format!("`{text}` is not a node");
            let help = self.node_meant(text);
            return self.wrong(node, message, help);
        }
        self.one_of(node, "a node", &kinds)
    }

    /// How the node is written that a plain word means, such as `master-2`.
    pub(super) fn node_meant(&self, word: &str) -> String {
        let numbered = word.split_once('-').filter(|(role, number)| {
            ["master", "worker"].contains(role) && number.parse::<usize>().is_ok()
        });
        match (numbered, &self.nodes) {
            (Some((role, number)), _) => format!("write `{{{role}: {number}}}`"),
            (None, Some(nodes)) if nodes.contains_key(word) => format!("write `{{node: {word}}}`"),
            _ => "write `{master: 1}` or `{worker: 1}`".to_owned(),
        }
    }

    /// A node of `spec.nodes`.
    fn named_node(&mut self, node: &Node) -> Option<NodeRef> {
        let name = self.line(node)?;
        // Where the names are wrong themselves, that is reported.
        let nodes = self.nodes.as_ref()?;
        if let Some(named) = nodes.get(&name) {
            return Some(*named);
        }
        let help = match nodes.len() {
            0 => format!("name nodes in `spec.nodes`, or {}", self.node_meant(&name)),
            _ => suggest(&name, nodes.keys().map(String::as_str)),
        };
        self.wrong(node, format!("no node is called `{name}`"), help)
    }

    fn index(&mut self, node: &Node, role: &str, nodes: Option<usize>) -> Option<usize> {
        if let Value::List(items) = &node.value {
            let nodes = items.iter().filter_map(|item| match item.value {
                Value::Integer(number) => Some(format!("{{{role}: {number}}}")),
                _ => None,
            });
            let help = format!("for several write `[{}]`", nodes.collect::<Vec<_>>().join(", "));
            let message = format!("expected the number of one {role}, found a list");
            return self.wrong(node, message, help);
        }
        let index = self.count(node, 0)? as usize;
        let help = match nodes {
            _ if index == 0 => format!("nodes are counted from 1: write `{{{role}: 1}}`"),
            Some(0) => format!("the cluster has no {role}s; set `spec.cluster.{role}s`"),
            Some(nodes) if index > nodes => format!(
                "the cluster has {nodes} {role}{}, counted from 1; see `spec.cluster.{role}s`",
                if nodes == 1 { "" } else { "s" }
            ),
            _ => return Some(index),
        };
        self.wrong(node, format!("there is no {role} {index}"), help)
    }

    /// A control-plane node.
    pub(super) fn master(&mut self, node: &Node) -> Option<NodeRef> {
        match self.node(node)? {
            NodeRef::Worker(_) => self.wrong(
                node,
                "a worker runs no control-plane component",
                "write a master, such as `{master: 1}`",
            ),
            master @ NodeRef::Master(_) => Some(master),
        }
    }

    /// The variants that patterns such as `lease-*` stand for.
    pub(super) fn only(&mut self, node: &Node) -> Option<Only> {
        let Value::List(_) = &node.value else {
            return self.mistyped(node, "a list of variants, such as `[lease-*]`");
        };
        let patterns = self.some(node, |reader, node| {
            let pattern = reader.line(node)?;
            let Some(variants) = &reader.variants else { return Some(pattern) };
            if variants.iter().any(|variant| matches(&pattern, variant)) {
                return Some(pattern);
            }
            let help = suggest(&pattern, variants.iter().map(String::as_str));
            reader.wrong(node, format!("no variant is called `{pattern}`"), help)
        })?;
        let mut variants = self.variants.clone()?;
        variants.retain(|variant| patterns.iter().any(|pattern| matches(pattern, variant)));
        Some(Only::These(variants))
    }
}

/// The fields of a map. Whatever was not asked for is reported by [`Fields::end`].
pub(super) struct Fields<'a> {
    node: &'a Node,
    entries: &'a [Entry],
    asked: Vec<&'static str>,
    /// Fields that are missing, but perhaps only misspelt.
    misspelt: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// The fields of `node`, which is `what`: "a probe".
    pub(super) fn of(reader: &mut Reader, node: &'a Node, what: &str) -> Option<Self> {
        match &node.value {
            Value::Map(entries) => Some(Self { node, entries, asked: vec![], misspelt: vec![] }),
            _ => reader.mistyped(node, &format!("a map with the fields of {what}")),
        }
    }

    /// The value of a field, unread.
    pub(super) fn get(&mut self, name: &'static str) -> Option<&'a Node> {
        if !self.asked.contains(&name) {
            self.asked.push(name);
        }
        self.beside(name)
    }

    /// The same of a field that belongs elsewhere.
    pub(super) fn beside(&self, name: &str) -> Option<&'a Node> {
        self.entries.iter().find(|entry| entry.key == name).map(|entry| &entry.value)
    }

    /// The value of a field that may be absent.
    pub(super) fn optional<T>(
        &mut self,
        reader: &mut Reader,
        name: &'static str,
        read: Read<T>,
    ) -> Option<T> {
        self.get(name).and_then(|node| read(reader, node))
    }

    /// The value of a field that may be absent, told from one that can't be read: nothing at all.
    #[expect(clippy::option_option, reason = "read or not; then said or not")]
    pub(super) fn perhaps<T>(
        &mut self,
        reader: &mut Reader,
        name: &'static str,
        read: Read<T>,
    ) -> Option<Option<T>> {
        match self.get(name) {
            Some(node) => read(reader, node).map(Some),
            None => Some(None),
        }
    }

    /// The value of a field that must be there.
    pub(super) fn required<T>(
        &mut self,
        reader: &mut Reader,
        name: &'static str,
        read: Read<T>,
    ) -> Option<T> {
        self.required_node(reader, name, read).map(|(value, _)| value)
    }

    /// The value of a field that must be there, with its node for further checks.
    pub(super) fn required_node<T>(
        &mut self,
        reader: &mut Reader,
        name: &'static str,
        read: Read<T>,
    ) -> Option<(T, &'a Node)> {
        if let Some(node) = self.get(name) {
            return Some((read(reader, node)?, node));
        }
        // A misspelt field is reported as such, in `end`.
        if self.entries.iter().any(|entry| nearest(&entry.key, [name]).is_some()) {
            self.misspelt.push(name);
        } else {
            self.missing(reader, name);
        }
        None
    }

    fn missing(&self, reader: &mut Reader, name: &str) {
        let finding = Finding::new(self.node.span, format!("the field `{name}` is missing"));
        reader.report(finding.help(format!("add `{name}: …`")));
    }

    /// Fields that were not asked for so far.
    pub(super) fn unknown(&self) -> impl Iterator<Item = &'a str> {
        let keys = self.entries.iter().map(|entry| entry.key.as_str());
        keys.filter(|key| !self.asked.contains(key))
    }

    /// Reports that something is missing among the fields.
    pub(super) fn lacks(&self, reader: &mut Reader, message: &str, help: &str) {
        reader.report(Finding::new(self.node.span, message).help(help));
    }

    /// The end of a map that may have other fields, too: none of them is a misspelt one.
    pub(super) fn open_end(self, reader: &mut Reader) {
        self.misspelt.iter().for_each(|name| self.missing(reader, name));
    }

    /// Reports every field that was not asked for.
    pub(super) fn end(self, reader: &mut Reader) {
        // What looked like a missing field may be another one.
        for name in &self.misspelt {
            if !self.unknown().any(|key| nearest(key, [*name]).is_some()) {
                self.missing(reader, name);
            }
        }
        for entry in self.entries.iter().filter(|entry| !self.asked.contains(&entry.key.as_str())) {
            let help = suggest(&entry.key, self.asked.iter().copied());
            reader.report(
                Finding::new(entry.key_span, format!("there is no field `{}` here", entry.key))
                    .help(help),
            );
        }
    }
}

/// Whether it is a DNS label, as Kubernetes' names are.
pub(super) fn is_label(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(allowed)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// Whether the pattern is the name when something is put for each `*`.
pub fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else {
        return false;
    };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    let Some(middle) = rest.strip_suffix(last) else { return false };
    rest = middle;
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}

fn kind(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(value) => format!("the boolean {value}"),
        Value::Integer(number) => format!("the number {number}"),
        Value::Float(number) => format!("the number {number}"),
        Value::Text(text) => format!("the text `{text}`"),
        Value::List(_) => "a list".to_owned(),
        Value::Map(_) => "a map".to_owned(),
    }
}
