//! What happens in each variant, step by step: whether the steps fit together.

use std::collections::{BTreeMap, BTreeSet};

use super::overlap::both_put_back;
use super::problem::Finding;
use super::read::Reader;
use super::suggest::nearest;
use super::tree::{Node, Value};
use super::{Action, ConditionSide, Expectation, Fault, Probe, Step, Timing, Version};

/// The steps so far, by variant, as they are carried out on one version of Kubernetes.
struct History<'a> {
    version: Version,
    steady: &'a [Expectation],
    /// Whether not all versions are alike.
    versioned: bool,
    variants: BTreeMap<String, Past>,
    /// A step could not be read: what seems to be missing may stand there.
    incomplete: bool,
    /// The actions in such steps.
    unread: Vec<Unread<'a>>,
}

/// An action in a step that could not be read.
#[derive(Clone, Copy)]
enum Unread<'a> {
    Named(&'a str),
    /// Nor could its name.
    Nameless,
}

/// Reports what does not fit together, in the first version of Kubernetes in which that is so. What
/// a variant lacks is shown at `variants`; a step of `all` that could not be read is nothing.
pub(super) fn check(
    reader: &mut Reader,
    steady: &[Expectation],
    steps: &[Option<(Step, &Node)>],
    all: &Node,
    variants: &Node,
) {
    let items = match &all.value {
        Value::List(items) => items.as_slice(),
        _ => &[],
    };
    let unread = items.iter().zip(steps).filter(|(_, step)| step.is_none());
    let unread: Vec<_> = unread.filter_map(|(item, _)| action_in(item)).collect();
    let versions = reader.versions.clone();
    let read = || steps.iter().flatten().map(|(step, _)| step);
    // Between two bounds all versions are alike.
    let mut bounds: BTreeSet<Version> = read().flat_map(bounds).chain(versions.bounds()).collect();
    bounds.insert([0; 3]);
    bounds.retain(|version| versions.covers(*version));
    let said = |[major, minor, patch]: Version| format!("{major}.{minor}.{patch}");
    let versioned = bounds.len() > 1;
    let mut of_version = |version| {
        let found = reader.found();
        let mut history = History {
            version,
            steady,
            versioned,
            variants: BTreeMap::new(),
            incomplete: false,
            unread: unread.clone(),
        };
        for step in steps {
            match step {
                Some((step, node)) => history.step(reader, step, node),
                None => history.incomplete = true,
            }
        }
        history.end(reader, variants);
        reader.take_since(found)
    };
    let all: Vec<_> = bounds.iter().map(|version| (*version, of_version(*version))).collect();
    let Some((first, findings)) = all.iter().find(|(_, findings)| !findings.is_empty()) else {
        return;
    };
    let on = match bounds.iter().find(|later| *later > first) {
        Some(later) if *first == [0; 3] => format!("on versions before {}", said(*later)),
        _ => format!("on version {}", said(*first)),
    };
    for finding in findings {
        let everywhere = all.iter().all(|(_, findings)| findings.contains(finding));
        let finding = finding.clone();
        reader.report(if everywhere { finding } else { finding.and(&on) });
    }
}

/// The versions at which a step changes.
fn bounds(step: &Step) -> Vec<Version> {
    match step {
        Step::Inject(action) | Step::Remedy(action) => action.versions.bounds(),
        Step::Revert(revert) => revert.versions.bounds(),
        Step::Detect(all) | Step::Recover(all) => {
            all.iter().flat_map(|expectation| expectation.versions.bounds()).collect()
        }
    }
}

/// What happened in one variant.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Past {
    /// Actions, and whether they were reverted.
    actions: BTreeMap<String, bool>,
    /// What is in place, the last injected last.
    in_place: Vec<(String, Fault)>,
    injected: bool,
    detected: bool,
    /// Something was reverted or remedied.
    mended: bool,
    /// What was changed since something was expected last.
    row: Vec<String>,
    /// Whether something was expected since.
    row_ended: bool,
}

impl Past {
    fn change(&mut self, name: &str) {
        if std::mem::take(&mut self.row_ended) {
            self.row.clear();
        }
        self.row.push(name.to_owned());
    }
}

impl History<'_> {
    /// A step follows; `node` is what stands under its name.
    fn step(&mut self, reader: &mut Reader, step: &Step, node: &Node) {
        let Some(all) = reader.variants.clone() else { return };
        let version = self.version;
        match step {
            Step::Inject(action) => self.act(reader, &all, action, node, true),
            Step::Remedy(action) => self.act(reader, &all, action, node, false),
            Step::Revert(revert) => {
                let variants: Vec<_> =
                    all.iter().filter(|variant| revert.covers(variant, version)).collect();
                self.in_order(reader, &variants, &revert.actions, node);
                for name in &revert.actions {
                    self.revert(reader, &variants, name, node);
                }
            }
            Step::Detect(expectations) => {
                self.counts_from(reader, expectations, node);
                let early = "nothing was injected before this is to be detected";
                let located = located(&all, version, expectations, node).zip(expectations);
                for ((variants, node), expectation) in located {
                    let late = |past: &Past| !past.injected;
                    self.too_early(reader, &variants, node, early, late);
                    self.holds_before(reader, &variants, expectation, node);
                    for variant in variants {
                        self.past(variant).detected = true;
                    }
                }
            }
            Step::Recover(expectations) => {
                self.counts_from(reader, expectations, node);
                let early = "this is to recover before anything was reverted or remedied";
                for (variants, node) in located(&all, version, expectations, node) {
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
        action: &Action,
        node: &Node,
        injects: bool,
    ) {
        let name = &action.name;
        let mut taken = vec![];
        let version = self.version;
        for variant in all.iter().filter(|variant| action.covers(variant, version)) {
            let past = self.past(variant);
            past.injected |= injects;
            past.mended |= !injects;
            past.change(name);
            if past.actions.insert(name.clone(), false).is_some() {
                taken.push(variant);
            }
            past.in_place.push((name.clone(), action.fault.clone()));
        }
        if !taken.is_empty() {
            let message =
                format!("an earlier action is called `{name}`, too{}", Self::of(&taken, all.len()));
            let help = format!("give it another name, or limit one of them with {}", self.only());
            reader.report(Finding::new(field(node, "name").span, message).help(help));
        }
    }

    /// Whoever puts back what it found must not do so while a later one is in place that found the change:
    /// that would bring it back.
    fn in_order(
        &mut self,
        reader: &mut Reader,
        variants: &[&String],
        names: &[String],
        node: &Node,
    ) {
        let all = reader.variants.as_ref().map_or(0, Vec::len);
        let mut found: BTreeMap<(String, String, String), Vec<&String>> = BTreeMap::new();
        for variant in variants {
            let in_place = &mut self.past(variant).in_place;
            let reverted = |(name, _): &(String, Fault)| names.contains(name);
            for (index, (name, fault)) in in_place.iter().enumerate() {
                let stays = in_place[index + 1..].iter().filter(|later| !reverted(later));
                for (later, other) in stays.filter(|_| names.contains(name)) {
                    if let Some(what) = both_put_back(fault, other) {
                        let key = (name.clone(), later.clone(), what);
                        found.entry(key).or_default().push(variant);
                    }
                }
            }
            in_place.retain(|action| !reverted(action));
        }
        for ((name, later, what), variants) in found {
            let message = format!(
                "`{later}` is still in place, and was injected after `{name}`: both put {what} back as they \
                 found it{}",
                Self::of(&variants, all)
            );
            let help = format!("revert `{later}` before, or both in one step: the last goes first");
            let at = item(field(node, "actions"), &name).span;
            reader.report(Finding::new(at, message).help(help));
        }
    }

    fn revert(&mut self, reader: &mut Reader, variants: &[&String], name: &str, node: &Node) {
        let at = item(field(node, "actions"), name).span;
        let (mut unknown, mut again) = (vec![], vec![]);
        for variant in variants {
            let past = self.past(variant);
            past.mended = true;
            past.change(name);
            match past.actions.get_mut(name) {
                None => unknown.push(*variant),
                Some(true) => again.push(*variant),
                Some(reverted) => *reverted = true,
            }
        }
        let all = reader.variants.as_ref().map_or(0, Vec::len);
        let hidden = self.unread.iter().any(|unread| match unread {
            Unread::Named(unread) => *unread == name,
            Unread::Nameless => true,
        });
        if !unknown.is_empty() && !hidden {
            let known = self.variants.values().flat_map(|past| past.actions.keys());
            let known: Vec<_> = known.map(String::as_str).collect();
            let help = match nearest(name, known.iter().copied()) {
                Some(near) if near == name => format!("limit this revert with {}", self.only()),
                Some(near) => format!("did you mean `{near}`?"),
                None if known.is_empty() => "nothing was injected before".to_owned(),
                None => {
                    let known: BTreeSet<_> = known.iter().map(|name| format!("`{name}`")).collect();
                    format!("there are: {}", known.into_iter().collect::<Vec<_>>().join(", "))
                }
            };
            let message =
                format!("no earlier action is called `{name}`{}", Self::of(&unknown, all));
            reader.report(Finding::new(at, message).help(help));
        }
        if !again.is_empty() {
            let message = format!("`{name}` was reverted before{}", Self::of(&again, all));
            reader.report(Finding::new(at, message).help("revert it once in each variant"));
        }
    }

    /// What times are said to count from must have been changed just before.
    fn counts_from(&mut self, reader: &mut Reader, expectations: &[Expectation], node: &Node) {
        let Some(all) = reader.variants.clone() else { return };
        let ended: Vec<String> =
            all.iter().filter(|variant| self.past(variant).row_ended).cloned().collect();
        for ((variants, node), expectation) in
            located(&all, self.version, expectations, node).zip(expectations)
        {
            for variant in &variants {
                self.past(variant).row_ended = true;
            }
            let Some(from) = &expectation.from else { continue };
            let late: Vec<&String> =
                variants.iter().filter(|variant| ended.contains(variant)).copied().collect();
            if matches!(expectation.timing, Timing::Throughout { .. }) && !late.is_empty() {
                let of = Self::of(&late, all.len());
                let message = format!("a window of a later step opens with its step{of}");
                let help = "leave `from` away, or put it into the first step after the change";
                reader.report(Finding::new(field(node, "from").span, message).help(help));
                continue;
            }
            let without = |variant: &&&String| !self.past(variant).row.contains(from);
            let without: Vec<&String> = variants.iter().filter(without).copied().collect();
            if without.is_empty() || self.incomplete {
                continue;
            }
            let row = self.past(without[0]).row.clone();
            let message =
                format!("`{from}` is not changed just before{}", Self::of(&without, all.len()));
            let help = match nearest(from, row.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None if row.is_empty() => "leave `from` away".to_owned(),
                None => format!("times can count from: {}", row.join(", ")),
            };
            reader.report(Finding::new(field(node, "from").span, message).help(help));
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
            let finding = Finding::new(node.span, format!("{message}{}", Self::of(&early, all)));
            let only = self.only();
            let in_place = self.past(early[0]).in_place.iter().map(|(name, _)| name.as_str());
            let in_place = in_place.collect::<Vec<_>>().join(", ");
            let help = if in_place.is_empty() {
                format!("put it after the step that causes it, or limit it with {only}")
            } else {
                let all = format!("`- revert: {{actions: [{in_place}]}}`");
                format!("put a step before it that mends, such as {all}, or limit it with {only}")
            };
            reader.report(finding.help(help));
        }
    }

    /// What is to be detected must not hold before, and all of the steady state does.
    fn holds_before(
        &mut self,
        reader: &mut Reader,
        variants: &[&String],
        expectation: &Expectation,
        node: &Node,
    ) {
        if !matches!(expectation.timing, Timing::Within { .. }) || !is_state(&expectation.probe) {
            return;
        }
        let (steady, version) = (self.steady, self.version);
        let alike = |variant: &String| {
            let mut alike = steady.iter().filter(|steady| steady.probe == expectation.probe);
            alike.any(|steady| steady.covers(variant, version))
        };
        let mut found: Vec<&String> = variants.iter().copied().filter(|v| alike(v)).collect();
        // What was mended may have to fail once more.
        found.retain(|variant| !self.past(variant).mended);
        if !found.is_empty() {
            let all = reader.variants.as_ref().map_or(0, Vec::len);
            let of = Self::of(&found, all);
            let message = format!("this holds in the steady state, so it can't be detected{of}");
            let help = "write what the fault brings about; what must go on to hold is `throughout`";
            reader.report(Finding::new(node.span, message).help(help));
        }
    }

    /// The steps are over. What a variant lacks is shown at `node`.
    fn end(mut self, reader: &mut Reader, node: &Node) {
        let Some(all) = reader.variants.clone().filter(|_| !self.incomplete) else { return };
        for variant in &all {
            let (message, help) = match self.past(variant) {
                Past { injected: false, .. } => ("nothing is injected", "add an `inject` step"),
                Past { detected: false, .. } => {
                    ("nothing is expected after the injection", "add a `detect` step")
                }
                _ => continue,
            };
            let message = format!("{message}{}", Self::of(&[variant], all.len()));
            let finding = Finding::new(item(node, variant).span, message);
            reader.report(finding.help(format!("{help}, or extend its {}", self.only())));
        }
    }

    /// By what a step is limited.
    fn only(&self) -> &'static str {
        if self.versioned { "`only` or `versions`" } else { "`only`" }
    }

    /// Which variants a message is about, if the file has several.
    fn of(variants: &[&String], all: usize) -> String {
        let names = variants.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        match variants.len() {
            _ if all <= 1 => String::new(),
            1 => format!(", in the variant {names}"),
            _ => format!(", in the variants {names}"),
        }
    }
}

/// Whether a probe tells what is so, and not what is new since somebody looked.
fn is_state(probe: &Probe) -> bool {
    match probe {
        Probe::Condition(condition) => matches!(condition.is, ConditionSide::State { .. }),
        Probe::Health(_)
        | Probe::Endpoints(_)
        | Probe::Connect(_)
        | Probe::Object(_)
        | Probe::Request(_)
        | Probe::Kubectl(_)
        | Probe::Command(_) => true,
        _ => false,
    }
}

/// The action in a step, if it may have one.
fn action_in(step: &Node) -> Option<Unread<'_>> {
    let Value::Map(entries) = &step.value else { return Some(Unread::Nameless) };
    let has = |kinds: &[&str]| entries.iter().find(|entry| kinds.contains(&entry.key.as_str()));
    if let Some(action) = has(&["inject", "remedy"]) {
        return Some(match &field(&action.value, "name").value {
            Value::Text(name) => Unread::Named(name),
            _ => Unread::Nameless,
        });
    }
    has(&["detect", "revert", "recover"]).is_none().then_some(Unread::Nameless)
}

/// Each expectation's variants, and its node.
fn located<'a>(
    all: &'a [String],
    version: Version,
    expectations: &'a [Expectation],
    node: &'a Node,
) -> impl Iterator<Item = (Vec<&'a String>, &'a Node)> {
    let items = match &node.value {
        Value::List(items) => items.as_slice(),
        _ => &[],
    };
    let covered = move |expectation: &Expectation| -> Vec<&'a String> {
        all.iter().filter(|variant| expectation.covers(variant, version)).collect()
    };
    expectations.iter().zip(items).map(move |(expectation, node)| (covered(expectation), node))
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
