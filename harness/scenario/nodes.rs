//! Nodes that a scenario names instead of numbering them: any master, the one that leads etcd.
//!
//! A name can stand wherever a node can. Which node it is comes out when the cluster stands; the
//! file is then read once more with these nodes, so that nobody else ever sees a name. So that this
//! reading can't fail, every choice that could come out is tried when the file is loaded. A name may
//! stand for another node in another variant, but it stands for one in each.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::problem::Finding;
use super::read::{Fields, Reader, is_label};
use super::reference::{Field, LABEL, LINE, ONLY, Rule, Shape, list, optional, ruled};
use super::tree::{Entry, Node, Value};
use super::{NodeRef, Only};

/// Each name with its node.
pub type Nodes = BTreeMap<String, NodeRef>;

/// More names make too many choices to try them all.
const MOST: usize = 4;

/// A node that a scenario names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NamedNode {
    /// The name.
    pub name: String,
    /// The variants in which this is said of it; there is one saying for each variant.
    pub only: Only,
    /// Which nodes it may be.
    pub pick: Pick,
    /// Names of other nodes that it must not be.
    pub not: Vec<String>,
}

/// What one of the masters leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Led {
    /// Its member leads etcd.
    Etcd,
    /// Its controller manager holds the Lease.
    KubeControllerManager,
    /// Its scheduler holds the Lease.
    KubeScheduler,
}

impl Led {
    /// Its name, also that of the Lease of those that have one.
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::KubeScheduler => "kube-scheduler",
        }
    }
}

const LED: [(&str, Led); 3] = [
    ("etcd", Led::Etcd),
    ("kube-controller-manager", Led::KubeControllerManager),
    ("kube-scheduler", Led::KubeScheduler),
];

/// The master that leads each.
pub type Leaders = BTreeMap<Led, NodeRef>;

/// Which nodes a name may stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Pick {
    /// The master that leads it when the steady state begins.
    Leads(Led),
    /// Any other master.
    NotLeads(Led),
    /// Any master.
    AnyMaster,
    /// Any worker.
    AnyWorker,
}

impl std::fmt::Display for NamedNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.pick {
            Pick::Leads(led) => write!(f, "the master that leads {}", led.name())?,
            Pick::NotLeads(led) => write!(f, "any master that does not lead {}", led.name())?,
            Pick::AnyMaster => f.write_str("any master")?,
            Pick::AnyWorker => f.write_str("any worker")?,
        }
        if !self.not.is_empty() {
            write!(f, ", but not {}", self.not.join(" nor "))?;
        }
        Ok(())
    }
}

/// What is said of the names in one variant.
pub fn named_in(named: &[NamedNode], variant: &str) -> Vec<NamedNode> {
    named.iter().filter(|node| node.only.covers(variant)).cloned().collect()
}

/// Of what somebody must look which master leads it.
pub fn led(named: &[NamedNode]) -> BTreeSet<Led> {
    let led = named.iter().filter_map(|node| match node.pick {
        Pick::Leads(led) | Pick::NotLeads(led) => Some(led),
        Pick::AnyMaster | Pick::AnyWorker => None,
    });
    led.collect()
}

/// Every choice of nodes that meets what the names of one variant ask for, in a fixed order. What is
/// not in `leaders` may be led by any master.
pub fn choices(
    named: &[NamedNode],
    masters: usize,
    workers: usize,
    leaders: &Leaders,
) -> Vec<Nodes> {
    let masters: Vec<_> = (1..=masters).map(NodeRef::Master).collect();
    let workers: Vec<_> = (1..=workers).map(NodeRef::Worker).collect();
    let mut all_leaders = vec![leaders.clone()];
    for led in led(named).into_iter().filter(|led| !leaders.contains_key(led)) {
        let with = |leaders: &Leaders, master: &NodeRef| {
            leaders.iter().map(|(led, node)| (*led, *node)).chain([(led, *master)]).collect()
        };
        all_leaders = all_leaders
            .iter()
            .flat_map(|leaders| masters.iter().map(|master| with(leaders, master)))
            .collect();
    }
    let mut all = vec![];
    for leaders in all_leaders {
        let mut some = vec![Nodes::new()];
        for node in named {
            let candidates = match node.pick {
                Pick::AnyWorker => &workers,
                _ => &masters,
            };
            let fits = |candidate: &&NodeRef| match node.pick {
                Pick::Leads(led) => **candidate == leaders[&led],
                Pick::NotLeads(led) => **candidate != leaders[&led],
                Pick::AnyMaster | Pick::AnyWorker => true,
            };
            let with = |nodes: &Nodes, candidate: &NodeRef| {
                let mut nodes = nodes.clone();
                nodes.insert(node.name.clone(), *candidate);
                nodes
            };
            some = some
                .iter()
                .flat_map(|nodes| candidates.iter().filter(fits).map(|c| with(nodes, c)))
                .collect();
        }
        some.retain(|nodes| named.iter().all(|node| is_apart(node, nodes)));
        all.extend(some);
    }
    let mut seen = BTreeSet::new();
    all.retain(|nodes| seen.insert(nodes.clone()));
    all
}

fn is_apart(node: &NamedNode, nodes: &Nodes) -> bool {
    node.not.iter().all(|other| nodes.get(other) != nodes.get(&node.name))
}

/// A choice in words: `lost = master-1, peer = master-2`.
pub fn words(nodes: &Nodes) -> String {
    nodes.iter().map(|(name, node)| format!("{name} = {node}")).collect::<Vec<_>>().join(", ")
}

/// How it is written what a master leads.
const LEDS: Shape = Shape::Words(&[
    ("etcd", "its member leads"),
    ("kube-controller-manager", "its controller manager holds the Lease"),
    ("kube-scheduler", "its scheduler holds the Lease"),
]);

/// How one saying of a named node is written.
const NAMED: Shape = Shape::Shared(
    "namedNode",
    &ruled(
        &[
            optional("leads", "The master that leads it when the steady state begins.", LEDS)
                .examples(&["leads: etcd"]),
            optional("notLeads", "Any other master.", LEDS).examples(&["notLeads: etcd"]),
            optional(
                "any",
                "Any node of a role, by the seed that is printed.",
                Shape::Words(&[("masters", ""), ("workers", "")]),
            )
            .examples(&["any: masters"]),
            optional(
                "not",
                "Names of other nodes that it must not be: one, or a list.",
                Shape::Either(&[LINE, list(&LINE)]),
            ),
            ONLY,
        ],
        &[Rule::One(&["leads", "notLeads", "any"])],
    ),
);

/// How they are written.
pub(super) const NODES: Field = optional(
    "nodes",
    "Names for nodes that are chosen when a case begins, at most four. A name that is another node in \
     another variant has a list with one item for each.",
    Shape::Named { of: &Shape::Either(&[NAMED, list(&NAMED)]), names: LABEL, count: (0, MOST) },
)
.or("{}")
.examples(&["nodes: {lost: {leads: etcd}, peer: {any: masters, not: lost}}"]);

/// Reads `nodes`, and takes the first choice for the rest of the file.
pub(super) fn named(reader: &mut Reader, node: &Node) -> Option<Vec<NamedNode>> {
    let Value::Map(entries) = &node.value else {
        return reader.mistyped(node, "names with nodes, such as `lost: {leads: etcd}`");
    };
    let found = reader.found();
    let names: Vec<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
    if names.len() > MOST {
        let message = format!("{} nodes are named", names.len());
        return reader.wrong(node, message, format!("name at most {MOST}"));
    }
    let mut named = vec![];
    for entry in entries {
        if !is_label(&entry.key) {
            let message = format!("`{}` is not a name", entry.key);
            let help = "write lower-case letters, digits and dashes";
            reader.report(Finding::new(entry.key_span, message).help(help));
        }
        let sayings = match &entry.value.value {
            Value::List(items) => items.as_slice(),
            _ => std::slice::from_ref(&entry.value),
        };
        let said: Vec<_> =
            sayings.iter().filter_map(|item| one(reader, item, &entry.key, &names)).collect();
        if reader.found() == found {
            said_once(reader, entry, &said);
        }
        named.extend(said);
    }
    (reader.found() == found).then_some(named)
}

/// Checks that each variant knows in just one way which node a name is.
fn said_once(reader: &mut Reader, entry: &Entry, said: &[NamedNode]) {
    for variant in reader.variants.clone().unwrap_or_default() {
        let how = match said.iter().filter(|node| node.only.covers(&variant)).count() {
            0 => "not said",
            1 => continue,
            _ => "said more than once",
        };
        let message = format!("it is {how} which node `{}` is in {variant}", entry.key);
        let help = "write a list with one item for each variant, such as \
                    `- {only: [a], leads: etcd}`";
        reader.report(Finding::new(entry.key_span, message).help(help));
    }
}

fn one(reader: &mut Reader, node: &Node, name: &str, names: &[&str]) -> Option<NamedNode> {
    const ROLES: [(&str, Pick); 2] = [("masters", Pick::AnyMaster), ("workers", Pick::AnyWorker)];
    let mut fields = Fields::of(reader, node, "a named node")?;
    let [leads, follows, any] = ["leads", "notLeads", "any"].map(|field| fields.get(field));
    let only = fields.optional(reader, "only", Reader::only).unwrap_or_default();
    let not = fields.get("not");
    let pick = match (leads, follows, any) {
        (Some(node), None, None) => reader.word(node, &LED).map(Pick::Leads),
        (None, Some(node), None) => reader.word(node, &LED).map(Pick::NotLeads),
        (None, None, Some(node)) => reader.word(node, &ROLES),
        _ => {
            let help = "write one of `leads: etcd`, `notLeads: etcd`, `any: masters` and \
                        `any: workers`";
            fields.lacks(reader, "it must be said in one way which node this is", help);
            None
        }
    };
    let not = match not {
        None => Some(vec![]),
        Some(node) => others(reader, node, name, names),
    };
    fields.end(reader);
    Some(NamedNode { name: name.to_owned(), only, pick: pick?, not: not? })
}

/// Reads the names of other nodes: one, or a list.
fn others(reader: &mut Reader, node: &Node, own: &str, names: &[&str]) -> Option<Vec<String>> {
    let read: Vec<(String, &Node)> = match &node.value {
        Value::List(items) => {
            items.iter().filter_map(|item| Some((reader.line(item)?, item))).collect()
        }
        _ => vec![(reader.line(node)?, node)],
    };
    for (name, node) in &read {
        if name == own || !names.contains(&name.as_str()) {
            let message = format!("no other node is called `{name}`");
            reader.report(Finding::new(node.span, message).help("name another node of this map"));
        }
    }
    Some(read.into_iter().map(|(name, _)| name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, pick: Pick, not: &[&str]) -> NamedNode {
        let not = not.iter().map(ToString::to_string).collect();
        NamedNode { name: name.into(), only: Only::default(), pick, not }
    }

    fn led_by(master: usize) -> Leaders {
        Leaders::from([(Led::Etcd, NodeRef::Master(master))])
    }

    #[test]
    fn every_choice_meets_what_is_asked_for() {
        let named = [
            node("lost", Pick::Leads(Led::Etcd), &[]),
            node("peer", Pick::AnyMaster, &["lost"]),
            node("from", Pick::AnyWorker, &[]),
        ];
        let all = choices(&named, 3, 2, &Leaders::new());
        assert_eq!(all.len(), 3 * 2 * 2);
        assert!(all.iter().all(|nodes| nodes["lost"] != nodes["peer"]));
        let with = choices(&named, 3, 2, &led_by(2));
        assert_eq!(with.len(), 4);
        assert!(with.iter().all(|nodes| nodes["lost"] == NodeRef::Master(2)));
        let follows = choices(&[node("x", Pick::NotLeads(Led::Etcd), &[])], 3, 0, &led_by(1));
        assert_eq!(follows.iter().map(words).collect::<Vec<_>>(), ["x = master-2", "x = master-3"]);
    }

    #[test]
    fn two_may_be_led_by_one_master_or_by_two() {
        let named = [
            node("a", Pick::Leads(Led::KubeScheduler), &[]),
            node("b", Pick::Leads(Led::KubeControllerManager), &[]),
        ];
        assert_eq!(choices(&named, 3, 0, &Leaders::new()).len(), 3 * 3);
        let known = Leaders::from([(Led::KubeScheduler, NodeRef::Master(3))]);
        let all = choices(&named, 3, 0, &known);
        assert!(all.iter().all(|nodes| nodes["a"] == NodeRef::Master(3)));
        let b: Vec<_> = all.iter().map(|nodes| nodes["b"]).collect();
        assert_eq!(b, [1, 2, 3].map(NodeRef::Master));
    }

    #[test]
    fn what_can_not_be_has_no_choice() {
        assert!(choices(&[node("x", Pick::AnyWorker, &[])], 3, 0, &Leaders::new()).is_empty());
        let two = [node("x", Pick::AnyMaster, &["y"]), node("y", Pick::AnyMaster, &[])];
        assert!(choices(&two, 1, 0, &Leaders::new()).is_empty());
        assert!(
            choices(&[node("x", Pick::NotLeads(Led::Etcd), &[])], 1, 0, &Leaders::new()).is_empty()
        );
        assert_eq!(choices(&[], 3, 1, &Leaders::new()), [Nodes::new()]);
    }
}
