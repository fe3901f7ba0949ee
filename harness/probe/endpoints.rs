//! The addresses behind a Service, in its Endpoints and in its `EndpointSlice`s, as one apiserver
//! tells them. Watched, and read anew at the probe's period.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::IpAddr;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, Stream, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, ListParams};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Client, ResourceExt};

use super::{Concerned, Look, Observation, Sink, listen, read, revision, target};
use crate::cluster::ClusterError;
use crate::cluster::client::Access;
use crate::scenario::{Endpoints, NodeRef};

/// The label by which slices say whose they are.
/// <https://kubernetes.io/docs/reference/labels-annotations-taints/#kubernetesioservice-name>
const SERVICE: &str = "kubernetes.io/service-name";

impl Look for Endpoints {
    fn wanted(&self) -> String {
        let list = |nodes: &[NodeRef]| {
            nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        let mut wants = Vec::new();
        if !self.contain.is_empty() {
            wants.push(format!("contain {}", list(&self.contain)));
        }
        if !self.lack.is_empty() {
            wants.push(format!("lack {}", list(&self.lack)));
        }
        let Self { service, through, .. } = self;
        let wants = wants.join(" and ");
        format!("Endpoints and EndpointSlices of {service} {wants}, as {through} tells")
    }

    fn concerned(&self) -> Vec<Concerned> {
        target::concerned(&self.service)
    }

    fn watch<'a>(
        &'a self,
        access: &'a Access,
        every: Duration,
        sink: Sink<'a>,
    ) -> BoxFuture<'a, Result<Infallible, ClusterError>> {
        Box::pin(async move {
            let addresses = |nodes: &[NodeRef]| -> Result<BTreeSet<IpAddr>, ClusterError> {
                nodes.iter().map(|id| Ok(access.node(*id)?.address())).collect()
            };
            let (contain, lack) = (addresses(&self.contain)?, addresses(&self.lack)?);
            let source = Source::new(&access.kube(self.through)?, &self.service);
            let judge = |listed: &Listed| judge(&contain, &lack, listed);
            let changes = source.changes().boxed();
            listen(every, sink, || source.list().boxed(), changes, Listed::apply, judge).await
        })
    }
}

/// Where the addresses are read.
struct Source {
    endpoints: Api<v1::Endpoints>,
    slices: Api<EndpointSlice>,
    service: String,
}

impl Source {
    fn new(client: &Client, service: &str) -> Self {
        let (namespace, name) = service.split_once('/').unwrap_or(("default", service));
        Self {
            endpoints: Api::namespaced(client.clone(), namespace),
            slices: Api::namespaced(client.clone(), namespace),
            service: name.to_owned(),
        }
    }

    async fn list(&self) -> Result<Listed, String> {
        let of_service = ListParams::default().labels(&format!("{SERVICE}={}", self.service));
        let endpoints = read(self.endpoints.get_opt(&self.service));
        let slices = read(self.slices.list(&of_service));
        let (endpoints, slices) = futures::try_join!(endpoints, slices)?;
        let mut listed = Listed::default();
        if let Some(endpoints) = endpoints {
            listed.apply(Change::of_endpoints(Event::Apply(endpoints)));
        }
        for slice in slices {
            listed.apply(Change::of_slice(Event::Apply(slice)));
        }
        Ok(listed)
    }

    /// Changes as the watches tell them. A watch that fails is begun again, ever more slowly.
    fn changes(&self) -> impl Stream<Item = watcher::Result<Change>> + use<> {
        let named = watcher::Config::default().fields(&format!("metadata.name={}", self.service));
        let of_service = watcher::Config::default().labels(&format!("{SERVICE}={}", self.service));
        let endpoints = watch(self.endpoints.clone(), named).default_backoff();
        let slices = watch(self.slices.clone(), of_service).default_backoff();
        futures::stream::select(
            endpoints.map_ok(Change::of_endpoints),
            slices.map_ok(Change::of_slice),
        )
    }
}

/// Which object lists an address: the Endpoints, or the slice with this name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum From {
    Endpoints,
    Slice(String),
}

#[derive(Debug)]
enum Change {
    /// The object lists these addresses since this revision.
    Lists(From, u64, BTreeSet<IpAddr>),
    /// The object is gone since this revision.
    Gone(From, u64),
    /// Nothing about an object.
    Nothing,
}

impl Change {
    fn of_endpoints(event: Event<v1::Endpoints>) -> Self {
        match event {
            Event::Apply(object) | Event::InitApply(object) => {
                let addresses = in_endpoints(&object);
                Self::Lists(From::Endpoints, revision(&object.metadata), addresses)
            }
            Event::Delete(object) => Self::Gone(From::Endpoints, revision(&object.metadata)),
            Event::Init | Event::InitDone => Self::Nothing,
        }
    }

    fn of_slice(event: Event<EndpointSlice>) -> Self {
        match event {
            Event::Apply(object) | Event::InitApply(object) => {
                let addresses = in_slice(&object);
                Self::Lists(From::Slice(object.name_any()), revision(&object.metadata), addresses)
            }
            Event::Delete(object) => {
                Self::Gone(From::Slice(object.name_any()), revision(&object.metadata))
            }
            Event::Init | Event::InitDone => Self::Nothing,
        }
    }
}

/// The ready addresses of the Endpoints.
fn in_endpoints(endpoints: &v1::Endpoints) -> BTreeSet<IpAddr> {
    let subsets = endpoints.subsets.iter().flatten();
    subsets
        .flat_map(|subset| subset.addresses.iter().flatten())
        .filter_map(|address| address.ip.parse().ok())
        .collect()
}

/// The addresses of a slice that are not said to be unready; unknown counts as ready.
/// <https://github.com/kubernetes/api/blob/v0.34.4/discovery/v1/types.go>
fn in_slice(slice: &EndpointSlice) -> BTreeSet<IpAddr> {
    slice
        .endpoints
        .iter()
        .flatten()
        .filter(|endpoint| endpoint.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true))
        .flat_map(|endpoint| &endpoint.addresses)
        .filter_map(|address| address.parse().ok())
        .collect()
}

/// What each object lists, with the revision at which it was last seen.
#[derive(Debug, Default)]
struct Listed(BTreeMap<From, (u64, BTreeSet<IpAddr>)>);

impl Listed {
    /// Takes a change in, unless something newer is known; whether addresses changed.
    fn apply(&mut self, change: Change) -> bool {
        match change {
            Change::Lists(from, revision, addresses) => {
                match self.0.get(&from) {
                    Some((known, _)) if *known >= revision => return false,
                    _ => {}
                }
                let before = self.0.insert(from, (revision, addresses.clone()));
                before.is_none_or(|(_, before)| before != addresses)
            }
            Change::Gone(from, revision) => {
                let known = self.0.get(&from).is_some_and(|(known, _)| *known <= revision);
                known && self.0.remove(&from).is_some()
            }
            Change::Nothing => false,
        }
    }

    fn endpoints(&self) -> Option<&BTreeSet<IpAddr>> {
        self.0.get(&From::Endpoints).map(|(_, addresses)| addresses)
    }

    fn slices(&self) -> Option<BTreeSet<IpAddr>> {
        let mut slices = self.0.iter().filter(|(from, _)| **from != From::Endpoints).peekable();
        slices.peek()?;
        Some(slices.flat_map(|(_, (_, addresses))| addresses).copied().collect())
    }
}

/// It holds if both sources exist, contain all of one list and nothing of the other.
fn judge(contain: &BTreeSet<IpAddr>, lack: &BTreeSet<IpAddr>, listed: &Listed) -> Observation {
    let slices = listed.slices();
    let sources = [("Endpoints", listed.endpoints()), ("EndpointSlices", slices.as_ref())];
    let holds = sources.iter().all(|(_, addresses)| {
        addresses.is_some_and(|them| contain.is_subset(them) && lack.is_disjoint(them))
    });
    let words = |addresses: Option<&BTreeSet<IpAddr>>| match addresses {
        None => "there are none".to_owned(),
        Some(them) if them.is_empty() => "no address".to_owned(),
        Some(them) => them.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    let [(one, first), (other, second)] = sources;
    let saw = if first == second {
        format!("{one} and {other}: {}", words(first))
    } else {
        format!("{one}: {}; {other}: {}", words(first), words(second))
    };
    Observation { holds, saw }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(last: &[u8]) -> BTreeSet<IpAddr> {
        last.iter().map(|n| IpAddr::from([10, 0, 0, *n])).collect()
    }

    fn listed(endpoints: Option<&[u8]>, slice: Option<&[u8]>) -> Listed {
        let mut listed = Listed::default();
        if let Some(them) = endpoints {
            listed.apply(Change::Lists(From::Endpoints, 1, set(them)));
        }
        if let Some(them) = slice {
            listed.apply(Change::Lists(From::Slice("kubernetes".into()), 1, set(them)));
        }
        listed
    }

    #[test]
    fn both_sources_must_contain_and_lack() {
        for (endpoints, slice, holds) in [
            (Some(&[1, 2][..]), Some(&[1, 2][..]), true),
            (Some(&[1, 2, 3]), Some(&[1, 2, 3]), false),
            (Some(&[1, 2, 3]), Some(&[1, 2]), false),
            (Some(&[1, 2]), Some(&[1, 2, 3]), false),
            (Some(&[2]), Some(&[2]), false),
            (None, Some(&[1, 2]), false),
            (Some(&[1, 2]), None, false),
            (None, None, false),
        ] {
            let judged = judge(&set(&[1]), &set(&[3]), &listed(endpoints, slice));
            assert_eq!(judged.holds, holds, "{}", judged.saw);
        }
    }

    #[test]
    fn an_absent_object_does_not_lack_anything() {
        assert!(!judge(&set(&[]), &set(&[3]), &listed(None, None)).holds);
        assert!(judge(&set(&[]), &set(&[3]), &listed(Some(&[]), Some(&[]))).holds);
    }

    #[test]
    fn differing_sources_are_both_told() {
        let judged = judge(&set(&[]), &set(&[]), &listed(Some(&[1]), Some(&[])));
        assert_eq!(judged.saw, "Endpoints: 10.0.0.1; EndpointSlices: no address");
        let judged = judge(&set(&[]), &set(&[]), &listed(Some(&[1]), Some(&[1])));
        assert_eq!(judged.saw, "Endpoints and EndpointSlices: 10.0.0.1");
    }

    #[test]
    fn what_is_older_than_what_is_known_changes_nothing() {
        let mut listed = listed(Some(&[1]), None);
        assert!(!listed.apply(Change::Lists(From::Endpoints, 1, set(&[2]))));
        assert!(!listed.apply(Change::Gone(From::Endpoints, 0)));
        assert_eq!(listed.endpoints(), Some(&set(&[1])));
        assert!(listed.apply(Change::Lists(From::Endpoints, 2, set(&[2]))));
        assert!(!listed.apply(Change::Lists(From::Endpoints, 3, set(&[2]))), "no address changed");
        assert!(listed.apply(Change::Gone(From::Endpoints, 4)));
        assert_eq!(listed.endpoints(), None);
    }
}
