//! What happens in each variant, step by step: whether the steps fit together.

use std::collections::BTreeMap;

use super::document::covered;
use super::problem::Finding;
use super::read::{Reader, nearest};
use super::tree::{Node, Value};
use super::{Expectation, Only, Step};

/// The steps so far, by variant.
#[derive(Default)]
pub(super) struct History {
    variants: BTreeMap<String, Past>,
    /// A step could not be read: what seems to be missing may stand there.
    incomplete: bool,
}

/// What happened in one variant.
#[derive(Default)]
struct Past {
    /// Actions, and whether they were reverted.
    actions: BTreeMap<String, bool>,
    injected: bool,
    detected: bool,
    /// Something was reverted or remedied.
    mended: bool,
}

impl History {
    /// A step could not be read.
    pub(super) fn unreadable(&mut self) {
        self.incomplete = true;
    }

    /// A step follows; `node` is what stands under its name.
    pub(super) fn step(&mut self, reader: &mut Reader, step: &Step, node: &Node) {
        let Some(all) = reader.variants.clone() else { return };
        match step {
            Step::Inject(action) => {
                self.act(reader, &all, (&action.name, &action.only), node, true);
            }
            Step::Remedy(action) => {
                self.act(reader, &all, (&action.name, &action.only), node, false);
            }
            Step::Revert(revert) => {
                for name in &revert.actions {
                    self.revert(reader, &covered(&revert.only, &all), name, node);
                }
            }
            Step::Detect(expectations) => {
                let early = "nothing was injected before this is to be detected";
                for (variants, node) in located(&all, expectations, node) {
                    let late = |past: &Past| !past.injected;
                    self.too_early(reader, &variants, node, early, late);
                    for variant in variants {
                        self.past(variant).detected = true;
                    }
                }
            }
            Step::Recover(expectations) => {
                let early = "nothing was reverted or remedied before this is to recover";
                for (variants, node) in located(&all, expectations, node) {
                    self.too_early(reader, &variants, node, early, |past| !past.mended);
                }
            }
        }
    }

    fn past(&mut self, variant: &str) -> &mut Past {
        self.variants.entry(variant.to_owned()).or_default()
    }

    fn act(
        &mut self,
        reader: &mut Reader,
        all: &[String],
        (name, only): (&str, &Only),
        node: &Node,
        injects: bool,
    ) {
        let mut taken = vec![];
        for variant in covered(only, all) {
            let past = self.past(variant);
            past.injected |= injects;
            past.mended |= !injects;
            if past.actions.insert(name.to_owned(), false).is_some() {
                taken.push(variant);
            }
        }
        if !taken.is_empty() {
            let message =
                format!("an earlier action is called `{name}`, too{}", of(&taken, all.len()));
            let help = "give it another name, or limit one of them with `only`";
            reader.report(Finding::new(field(node, "name").span, message).help(help));
        }
    }

    fn revert(&mut self, reader: &mut Reader, variants: &[&String], name: &str, node: &Node) {
        let at = item(field(node, "actions"), name).span;
        let (mut unknown, mut again) = (vec![], vec![]);
        for variant in variants {
            let past = self.past(variant);
            past.mended = true;
            match past.actions.get_mut(name) {
                None => unknown.push(*variant),
                Some(true) => again.push(*variant),
                Some(reverted) => *reverted = true,
            }
        }
        let all = reader.variants.as_ref().map_or(0, Vec::len);
        if !unknown.is_empty() && !self.incomplete {
            let known = self.variants.values().flat_map(|past| past.actions.keys());
            let known: Vec<_> = known.map(String::as_str).collect();
            let help = match nearest(name, known.iter().copied()) {
                Some(near) if near == name => "limit this revert with `only`".to_owned(),
                Some(near) => format!("did you mean `{near}`?"),
                None => "name an action of an earlier `inject` or `remedy`".to_owned(),
            };
            let message = format!("no earlier action is called `{name}`{}", of(&unknown, all));
            reader.report(Finding::new(at, message).help(help));
        }
        if !again.is_empty() {
            let message = format!("`{name}` was reverted before{}", of(&again, all));
            reader.report(Finding::new(at, message).help("revert it once in each variant"));
        }
    }

    fn too_early(
        &mut self,
        reader: &mut Reader,
        variants: &[&String],
        node: &Node,
        message: &str,
        early: fn(&Past) -> bool,
    ) {
        let early: Vec<_> =
            variants.iter().copied().filter(|variant| early(self.past(variant))).collect();
        if !early.is_empty() && !self.incomplete {
            let all = reader.variants.as_ref().map_or(0, Vec::len);
            let finding = Finding::new(node.span, format!("{message}{}", of(&early, all)));
            reader.report(
                finding.help("put it after the step that causes it, or limit it with `only`"),
            );
        }
    }

    /// The steps are over. What a variant lacks is shown at `node`.
    pub(super) fn end(mut self, reader: &mut Reader, node: &Node) {
        let Some(all) = reader.variants.clone().filter(|_| !self.incomplete) else { return };
        for variant in &all {
            let (message, help) = match self.past(variant) {
                Past { injected: false, .. } => ("nothing is injected", "add an `inject` step"),
                Past { detected: false, .. } => {
                    ("nothing is expected after the injection", "add a `detect` step")
                }
                _ => continue,
            };
            let message = format!("{message}{}", of(&[variant], all.len()));
            let finding = Finding::new(item(node, variant).span, message);
            reader.report(finding.help(format!("{help}, or extend its `only`")));
        }
    }
}

/// Each expectation's variants, and its node.
fn located<'a>(
    all: &'a [String],
    expectations: &'a [Expectation],
    node: &'a Node,
) -> impl Iterator<Item = (Vec<&'a String>, &'a Node)> {
    let items = match &node.value {
        Value::List(items) => items.as_slice(),
        _ => &[],
    };
    expectations
        .iter()
        .zip(items)
        .map(|(expectation, node)| (covered(&expectation.only, all), node))
}

/// Which variants a message is about; nothing if a file has only one.
fn of(variants: &[&String], all: usize) -> String {
    let names = variants.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    match variants.len() {
        _ if all <= 1 => String::new(),
        1 => format!(", in the variant {names}"),
        _ => format!(", in the variants {names}"),
    }
}

fn field<'a>(node: &'a Node, name: &str) -> &'a Node {
    match &node.value {
        Value::Map(entries) => {
            entries.iter().find(|entry| entry.key == name).map_or(node, |entry| &entry.value)
        }
        _ => node,
    }
}

fn item<'a>(node: &'a Node, text: &str) -> &'a Node {
    let is = |item: &&Node| matches!(&item.value, Value::Text(value) if value == text);
    match &node.value {
        Value::List(items) => items.iter().find(is).unwrap_or(node),
        _ => node,
    }
}
