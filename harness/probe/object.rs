//! A CEL expression over an object, or over several, as one apiserver tells them. Watched, so that
//! no transition is missed, and read anew at the probe's period.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DynamicObject, ListParams};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use serde_json::{Value, json};

use super::{Concerned, Look, Observation, Sink, kind, listen, read, revision};
use crate::cluster::ClusterError;
use crate::cluster::client::Access;
use crate::scenario::{Expression, NodeRef, Nodes, Object};

impl Look for Object {
    fn wanted(&self) -> String {
        let Self { cel, through, .. } = self;
        let mut of: String = self.concerned().iter().map(ToString::to_string).collect();
        if !self.labels.is_empty() {
            of = format!("{of} with {}", selector(&self.labels));
        }
        let cel = cel.split_whitespace().collect::<Vec<_>>().join(" ");
        format!("{of}: {cel}, as {through} tells")
    }

    fn concerned(&self) -> Vec<Concerned> {
        vec![Concerned {
            api_version: self.api_version.clone(),
            kind: self.kind.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        }]
    }

    fn watch<'a>(
        &'a self,
        access: &'a Access,
        every: Duration,
        sink: Sink<'a>,
    ) -> BoxFuture<'a, Result<Infallible, ClusterError>> {
        Box::pin(async move {
            let judge = Judge::new(self, access)?;
            let Self { api_version, kind, namespace, name, .. } = self;
            let kind = kind::find(access, self.through, (api_version, kind), every, sink).await?;
            let api = match (namespace, name) {
                (Some(namespace), _) => kind.within(namespace),
                (None, Some(_)) => kind.within("default"),
                (None, None) => kind.everywhere(),
            };
            let mut config = watcher::Config::default();
            config = match name {
                Some(name) => config.fields(&format!("metadata.name={name}")),
                None if self.labels.is_empty() => config,
                None => config.labels(&selector(&self.labels)),
            };
            let changes = watch(api.clone(), config).default_backoff().boxed();
            let list = || list(self, api.clone()).boxed();
            listen(every, sink, list, changes, apply, |known| judge.observe(known)).await
        })
    }
}

/// That there are none, and what was looked for.
fn none(probe: &Object) -> String {
    let mut none = format!("there are no objects of kind {}", probe.kind);
    if !probe.labels.is_empty() {
        none.push_str(" with ");
        none.push_str(&selector(&probe.labels));
    }
    if let Some(namespace) = &probe.namespace {
        none.push_str(" in ");
        none.push_str(namespace);
    }
    none
}

/// Labels as the API selects by them.
fn selector(labels: &BTreeMap<String, String>) -> String {
    labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
}

/// Objects by namespace and name.
type Known = BTreeMap<(String, String), DynamicObject>;

fn key(object: &DynamicObject) -> (String, String) {
    let metadata = &object.metadata;
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

async fn list(probe: &Object, api: Api<DynamicObject>) -> Result<Known, String> {
    let objects = match &probe.name {
        Some(name) => read(api.get_opt(name)).await?.into_iter().collect(),
        None if probe.labels.is_empty() => read(api.list(&ListParams::default())).await?.items,
        None => {
            let with = ListParams::default().labels(&selector(&probe.labels));
            read(api.list(&with)).await?.items
        }
    };
    Ok(objects.into_iter().map(|object| (key(&object), object)).collect())
}

/// Takes a change in, unless something newer is known; whether anything changed.
fn apply(known: &mut Known, change: Event<DynamicObject>) -> bool {
    let older = |known: &Known, than: &DynamicObject| {
        known.get(&key(than)).is_none_or(|o| revision(&o.metadata) < revision(&than.metadata))
    };
    match change {
        Event::Apply(object) | Event::InitApply(object) if older(known, &object) => {
            known.insert(key(&object), object);
            true
        }
        // A deletion carries the revision at which it happened.
        Event::Delete(object) if older(known, &object) => known.remove(&key(&object)).is_some(),
        _ => false,
    }
}

/// The names of nodes by what a scenario calls these nodes.
fn called(named: &Nodes, names: &BTreeMap<NodeRef, Value>) -> Value {
    let own = named.iter().filter_map(|(own, node)| Some((own.clone(), names.get(node)?.clone())));
    let by_number = names.iter().map(|(node, name)| (node.to_string(), name.clone()));
    Value::Object(own.chain(by_number).collect())
}

/// The time, as Kubernetes writes times: such texts are in the order of time. Nodes have the clock of
/// this machine.
fn now() -> Value {
    json!(Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// What judges what is known.
struct Judge<'a> {
    probe: &'a Object,
    expression: Expression,
    /// From `master-1`, and from the scenario's names, to the node's name in Kubernetes.
    nodes: Value,
    /// The same to the node's host name.
    hosts: Value,
    /// When it began to be observed.
    since: Value,
}

impl<'a> Judge<'a> {
    fn new(probe: &'a Object, access: &Access) -> Result<Self, ClusterError> {
        let expression = Expression::new(&probe.cel)
            .map_err(|why| ClusterError::new(format!("the expression {}: {why}", probe.cel)))?;
        let nodes = access.cluster().nodes().iter();
        let names = nodes.clone().map(|node| (node.id(), json!(node.name()))).collect();
        let hosts = nodes.map(|node| (node.id(), json!(node.host_name()))).collect();
        let [nodes, hosts] = [names, hosts].map(|names| called(&probe.named, &names));
        Ok(Self { probe, expression, nodes, hosts, since: now() })
    }

    fn observe(&self, known: &Known) -> Observation {
        if self.probe.name.is_none() && known.is_empty() && self.expression.needs_some("objects") {
            return Observation::nothing(none(self.probe));
        }
        let mut objects = known.values().map(|object| self.value(object));
        let (name, subject) = match self.probe.name {
            Some(_) => ("object", objects.next().unwrap_or_default()),
            None => ("objects", objects.collect()),
        };
        let names = [
            (name, &subject),
            ("nodes", &self.nodes),
            ("hosts", &self.hosts),
            ("since", &self.since),
            ("now", &now()),
        ];
        let seen = match (&self.probe.name, known.is_empty()) {
            (Some(name), true) => format!("there is no {} {name}", self.probe.kind),
            (Some(_), false) => self.expression.shown(&names).join(", "),
            (None, _) => listed(known),
        };
        match self.expression.holds(&names) {
            Ok(holds) => Observation { holds, saw: seen },
            Err(why) => Observation::nothing(format!("{seen}: {why}")),
        }
    }

    /// The object as JSON. In lists the API leaves its kind out.
    fn value(&self, object: &DynamicObject) -> Value {
        let mut value = serde_json::to_value(object).unwrap_or_default();
        value["apiVersion"] = json!(self.probe.api_version);
        value["kind"] = json!(self.probe.kind);
        value
    }
}

/// How many there are, and the names of the first.
fn listed(known: &Known) -> String {
    const MOST: usize = 5;
    let names = known.keys().take(MOST).map(|(_, name)| name.as_str()).collect::<Vec<_>>();
    let more = if known.len() > MOST { ", …" } else { "" };
    match known.len() {
        0 => "no object".to_owned(),
        1 => format!("one object: {}", names.join(", ")),
        count => format!("{count} objects: {}{more}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str, revision: u32, spec: &Value) -> DynamicObject {
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "n", "resourceVersion": revision.to_string()},
            "spec": spec,
        }))
        .unwrap()
    }

    fn known(objects: &[DynamicObject]) -> Known {
        objects.iter().map(|object| (key(object), object.clone())).collect()
    }

    fn observe(name: Option<&str>, cel: &str, objects: &[DynamicObject]) -> Observation {
        let probe = Object {
            api_version: "coordination.k8s.io/v1".into(),
            kind: "Lease".into(),
            namespace: Some("n".into()),
            name: name.map(Into::into),
            labels: BTreeMap::new(),
            cel: cel.into(),
            named: Nodes::new(),
            through: NodeRef::Master(1),
        };
        let expression = Expression::new(cel).unwrap();
        let [nodes, hosts] = ["kind-a", "host-a"].map(|name| json!({"master-1": name}));
        let since = json!("2026-11-21T09:59:59Z");
        let judge = Judge { probe: &probe, expression, nodes, hosts, since };
        judge.observe(&known(objects))
    }

    #[test]
    fn nodes_are_called_by_number_and_as_the_scenario_calls_them() {
        let names = [1, 2].map(|n| (NodeRef::Master(n), json!(format!("kind-{n}")))).into();
        let own =
            [("lost".to_owned(), NodeRef::Master(2)), ("gone".to_owned(), NodeRef::Worker(1))];
        let called = called(&own.into(), &names);
        assert_eq!(called, json!({"master-1": "kind-1", "master-2": "kind-2", "lost": "kind-2"}));
    }

    #[test]
    fn a_holder_is_told_by_its_hosts_name() {
        let held = object("a", 1, &json!({"holder": "host-a_1"}));
        let by = |names: &str| {
            let cel = format!("object.spec.holder.startsWith({names}[\"master-1\"] + \"_\")");
            observe(Some("a"), &cel, std::slice::from_ref(&held)).holds
        };
        assert!(by("hosts") && !by("nodes"));
    }

    #[test]
    fn what_happened_since_is_told_from_what_was_before() {
        let cel = "object.spec.renewTime >= since";
        let renewed = |at: &str| object("a", 1, &json!({"renewTime": at}));
        assert!(!observe(Some("a"), cel, &[renewed("2026-11-21T09:59:58Z")]).holds);
        assert!(observe(Some("a"), cel, &[renewed("2026-11-21T10:00:00Z")]).holds);
    }

    #[test]
    fn how_long_ago_it_was_is_told_by_now() {
        let cel = "timestamp(object.spec.renewTime) < timestamp(now) - duration('1h')";
        let renewed = |at: &Value| object("a", 1, &json!({"renewTime": at}));
        assert!(observe(Some("a"), cel, &[renewed(&json!("2020-01-21T09:59:58Z"))]).holds);
        assert!(!observe(Some("a"), cel, &[renewed(&now())]).holds);
    }

    #[test]
    fn one_object_is_judged_and_its_absence_can_be_wanted() {
        let held = object("a", 1, &json!({"holder": "kind-a_1"}));
        let by_first = "object.spec.holder.startsWith(nodes['master-1'] + '_')";
        for (cel, holds, saw) in [
            (by_first, true, "object.spec.holder is \"kind-a_1\""),
            (
                "object.kind == 'Lease' && object.spec.holder == ''",
                false,
                "object.kind is \"Lease\", object.spec.holder is \"kind-a_1\"",
            ),
            ("object == null", false, ""),
            ("object.spec.x == 1", false, "object.spec.x is absent: there is no field x"),
        ] {
            let seen = observe(Some("a"), cel, std::slice::from_ref(&held));
            assert_eq!((seen.holds, seen.saw.as_str()), (holds, saw), "{cel}");
        }
        assert!(observe(Some("a"), "object == null", &[]).holds);
        let gone = observe(Some("a"), by_first, &[]);
        assert!(!gone.holds && gone.saw.starts_with("there is no Lease a"), "{}", gone.saw);
    }

    #[test]
    fn several_objects_are_judged_together() {
        let objects = [object("a", 1, &json!({"n": 1})), object("b", 1, &json!({"n": 2}))];
        for (cel, holds) in [
            ("size(objects) == 2", true),
            ("objects.all(o, o.spec.n > 1)", false),
            ("objects.exists(o, o.metadata.name == 'b' && o.spec.n == 2)", true),
        ] {
            let seen = observe(None, cel, &objects);
            assert_eq!((seen.holds, seen.saw.as_str()), (holds, "2 objects: a, b"), "{cel}");
        }
        assert!(observe(None, "size(objects) == 0", &[]).holds);
        assert!(observe(None, "size(objects) == 0 || objects.all(o, o.x == 1)", &[]).holds);
        let none = observe(None, "objects.all(o, o.spec.n > 1)", &[]);
        assert!(!none.holds);
        assert_eq!(none.saw, "there are no objects of kind Lease in n");
    }

    #[test]
    fn only_newer_objects_change_what_is_known() {
        let at = |revision| object("a", revision, &json!({}));
        let mut state = known(&[at(5)]);
        assert!(!apply(&mut state, Event::Apply(at(5))));
        assert!(!apply(&mut state, Event::Delete(at(4))));
        assert!(apply(&mut state, Event::InitApply(at(10))));
        assert!(apply(&mut state, Event::Delete(at(11))));
        assert!(!apply(&mut state, Event::Delete(at(12))));
        assert!(!apply(&mut state, Event::Init));
        assert!(apply(&mut state, Event::Apply(at(13))));
    }
}
