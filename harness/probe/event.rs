//! A new event about an object, as one apiserver tells it. Watched, and read anew at the probe's
//! period. An event that is there at the first reading is old; an old one whose count grows is new.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::Event as CoreEvent;
use kube::api::{Api, ListParams};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use regex::Regex;

use super::{Look, Observation, Sink, brief, listen, pattern, read};
use crate::cluster::ClusterError;
use crate::cluster::client::Access;
use crate::scenario::{EventSeen, Involved, matches};

impl Look for EventSeen {
    fn wanted(&self) -> String {
        let mut text = if self.absent { "no new event" } else { "a new event" }.to_owned();
        for (mark, part) in
            [(" of type ", &self.kind), (" ", &self.reason), (" that matches ", &self.message)]
        {
            if let Some(part) = part {
                text.push_str(mark);
                text.push_str(part);
            }
        }
        let about = match &self.involved {
            Involved::Object { kind, name, .. } => format!("{kind} {name}"),
            Involved::Component { component, on } => format!("{} on {on}", component.name()),
            Involved::Node(node) => node.to_string(),
        };
        format!("{text} about {about}, as {} tells", self.through)
    }

    fn watch<'a>(
        &'a self,
        access: &'a Access,
        every: Duration,
        sink: Sink<'a>,
    ) -> BoxFuture<'a, Result<Infallible, ClusterError>> {
        Box::pin(async move {
            let wanted = Wanted::new(self, access)?;
            let events: Api<CoreEvent> =
                Api::namespaced(access.kube(self.through)?, &wanted.namespace);
            let of_kind = format!("involvedObject.kind={}", wanted.kind);
            let config = watcher::Config::default().fields(&of_kind);
            let changes = watch(events.clone(), config).default_backoff().boxed();
            let listing = ListParams::default().fields(&of_kind);
            let list = || {
                let reading = read(events.list(&listing));
                let wanted = &wanted;
                async move { Ok(wanted.counts(reading.await?.items)) }.boxed()
            };
            let take = |counts: &mut Counts, change| wanted.take(counts, change);
            let told = Mutex::new(None);
            let judge = |counts: &Counts| {
                let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
                judge(self.absent, &new(&mut told, counts))
            };
            listen(every, sink, list, changes, take, judge).await
        })
    }
}

/// Each wanted event by its unique id: how often it came, and its words.
type Counts = BTreeMap<String, (i32, String)>;

/// Which events are wanted.
struct Wanted<'a> {
    probe: &'a EventSeen,
    kind: &'a str,
    name: String,
    namespace: String,
    message: Option<Regex>,
}

impl<'a> Wanted<'a> {
    fn new(probe: &'a EventSeen, access: &Access) -> Result<Self, ClusterError> {
        // Events about objects without a namespace are in `default`.
        // <https://github.com/kubernetes/client-go/blob/v0.34.4/tools/record/event.go>
        let (kind, name, namespace) = match &probe.involved {
            Involved::Object { kind, name, namespace } => {
                (kind.as_str(), name.clone(), namespace.as_deref().unwrap_or("default"))
            }
            Involved::Component { component, on } => {
                let node = access.node(*on)?.name();
                ("Pod", format!("{}-{node}", component.name()), "kube-system")
            }
            Involved::Node(node) => ("Node", access.node(*node)?.name().to_owned(), "default"),
        };
        let message = probe.message.as_deref().map(pattern).transpose()?;
        Ok(Self { probe, kind, name, namespace: namespace.to_owned(), message })
    }

    fn fits(&self, event: &CoreEvent) -> bool {
        let is =
            |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        let message = event.message.as_deref().unwrap_or_default();
        event.involved_object.kind.as_deref() == Some(self.kind)
            && matches(&self.name, event.involved_object.name.as_deref().unwrap_or_default())
            && is(&self.probe.reason, &event.reason)
            && is(&self.probe.kind, &event.type_)
            && self.message.as_ref().is_none_or(|wanted| wanted.is_match(message))
    }

    fn counts(&self, events: Vec<CoreEvent>) -> Counts {
        let mut counts = Counts::new();
        for event in events {
            self.take(&mut counts, Event::Apply(event));
        }
        counts
    }

    /// Takes a change in; whether a wanted event came, or came once more.
    fn take(&self, counts: &mut Counts, change: Event<CoreEvent>) -> bool {
        // A deleted event is one that has run out.
        let (Event::Apply(event) | Event::InitApply(event)) = change else { return false };
        let count = event.series.as_ref().and_then(|s| s.count).max(event.count).unwrap_or(1);
        let id = event.metadata.uid.clone().unwrap_or_default();
        let grown = counts.get(&id).is_none_or(|(known, _)| *known < count);
        if !self.fits(&event) || !grown {
            return false;
        }
        let reason = event.reason.unwrap_or_default();
        let text = format!("{reason}: {}", brief(&event.message.unwrap_or_default()));
        counts.insert(id, (count, text));
        true
    }
}

/// What has come since it was told last; nothing the first time.
fn new(told: &mut Option<BTreeMap<String, i32>>, counts: &Counts) -> Vec<String> {
    let first = told.is_none();
    let told = told.get_or_insert_default();
    let mut new = Vec::new();
    for (id, (count, text)) in counts {
        let before = told.insert(id.clone(), *count);
        if before.is_none_or(|before| before < *count) {
            new.push(text.clone());
        }
    }
    if first { Vec::new() } else { new }
}

fn judge(absent: bool, new: &[String]) -> Observation {
    let saw = new.last().cloned().unwrap_or_else(|| "no such event".to_owned());
    Observation { holds: new.is_empty() == absent, saw }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::scenario::NodeRef;

    fn event(id: &str, name: &str, count: i32, message: &str) -> CoreEvent {
        serde_json::from_value(json!({
            "metadata": {"uid": id, "name": id},
            "involvedObject": {"kind": "Pod", "name": name},
            "reason": "Failed", "type": "Warning", "message": message, "count": count,
        }))
        .unwrap()
    }

    fn probe(reason: Option<&str>, kind: Option<&str>, message: Option<&str>) -> EventSeen {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        EventSeen {
            involved: Involved::Object {
                kind: "Pod".into(),
                name: "etcd-*".into(),
                namespace: None,
            },
            reason: owned(reason),
            kind: owned(kind),
            message: owned(message),
            absent: false,
            through: NodeRef::Master(1),
        }
    }

    fn wanted(probe: &EventSeen) -> Wanted<'_> {
        let message = probe.message.as_deref().map(|text| pattern(text).unwrap());
        Wanted { probe, kind: "Pod", name: "etcd-*".into(), namespace: "default".into(), message }
    }

    #[test]
    fn each_field_that_is_given_must_fit() {
        let it = event("1", "etcd-a", 1, "name \"x_2\" is reserved");
        for (reason, kind, message, fits) in [
            (None, None, Some("is reserved"), true),
            (Some("Failed"), Some("Warning"), Some(r#"name ".*_\d""#), true),
            (Some("BackOff"), None, None, false),
            (None, Some("Normal"), None, false),
            (None, None, Some("^is reserved"), false),
        ] {
            let probe = probe(reason, kind, message);
            assert_eq!(wanted(&probe).fits(&it), fits, "{reason:?} {kind:?} {message:?}");
        }
        let probe = probe(Some("Failed"), None, None);
        assert!(!wanted(&probe).fits(&event("1", "kube-apiserver-a", 1, "")));
    }

    #[test]
    fn only_what_comes_after_the_first_reading_is_new() {
        let probe = probe(Some("Failed"), None, None);
        let wanted = wanted(&probe);
        let mut told = None;
        let mut counts = wanted.counts(vec![event("1", "etcd-a", 3, "old")]);
        assert!(new(&mut told, &counts).is_empty());
        assert!(!wanted.take(&mut counts, Event::Apply(event("1", "etcd-a", 3, "old"))));
        assert!(wanted.take(&mut counts, Event::Apply(event("1", "etcd-a", 4, "again"))));
        assert_eq!(new(&mut told, &counts), ["Failed: again"]);
        assert!(new(&mut told, &counts).is_empty(), "it is told once");
        assert!(!wanted.take(&mut counts, Event::Delete(event("1", "etcd-a", 4, "again"))));
        assert!(wanted.take(&mut counts, Event::InitApply(event("2", "etcd-b", 1, "new"))));
        assert_eq!(new(&mut told, &counts), ["Failed: new"]);
    }

    #[test]
    fn a_series_counts_too() {
        let probe = probe(Some("Failed"), None, None);
        let mut one = event("1", "etcd-a", 1, "");
        one.count = None;
        assert_eq!(wanted(&probe).counts(vec![one.clone()])["1"].0, 1);
        one.series = serde_json::from_value(json!({"count": 7})).unwrap();
        assert_eq!(wanted(&probe).counts(vec![one])["1"].0, 7);
    }

    #[test]
    fn presence_and_absence_are_opposites() {
        let new = ["Failed: x".to_owned()];
        for (absent, new, holds) in [
            (false, &new[..], true),
            (false, &[], false),
            (true, &new[..], false),
            (true, &[], true),
        ] {
            assert_eq!(judge(absent, new).holds, holds);
        }
        assert_eq!(judge(false, &new).saw, "Failed: x");
    }
}
