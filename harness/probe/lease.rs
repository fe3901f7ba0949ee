//! Who holds a Lease, as one apiserver tells it. Watched, so that no change is missed, and read anew at
//! the probe's period.

use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::coordination::v1;
use kube::Api;
use kube::runtime::{WatchStreamExt, watcher};

use super::{Concerned, Look, Observation, Sink, listen, metric, read, revision};
use crate::cluster::client::Access;
use crate::cluster::{Cluster, ClusterError};
use crate::scenario::{Lease, LeaseSide, NodeRef};

impl Look for Lease {
    fn wanted(&self) -> String {
        let Self { namespace, name, is, through } = self;
        let wanted = match is {
            LeaseSide::HeldBy(Some(node)) => format!("is held by {node}"),
            LeaseSide::HeldBy(None) => "is held by nobody".to_owned(),
            LeaseSide::Changes(wanted) => {
                format!("changes its holder {} times", metric::words(*wanted))
            }
        };
        format!("Lease {namespace}/{name} {wanted}, as {through} tells")
    }

    fn concerned(&self) -> Vec<Concerned> {
        vec![Concerned {
            api_version: "coordination.k8s.io/v1".into(),
            kind: "Lease".into(),
            namespace: Some(self.namespace.clone()),
            name: Some(self.name.clone()),
        }]
    }

    fn watch<'a>(
        &'a self,
        access: &'a Access,
        every: Duration,
        sink: Sink<'a>,
    ) -> BoxFuture<'a, Result<Infallible, ClusterError>> {
        Box::pin(async move {
            let api: Api<v1::Lease> = Api::namespaced(access.kube(self.through)?, &self.namespace);
            let changes = watcher::watch_object(api.clone(), &self.name).default_backoff();
            let seen = Mutex::new(Seen::default());
            let judge = |lease: &Option<v1::Lease>| {
                let identity = lease.as_ref().and_then(|lease| lease.spec.as_ref());
                let identity = identity.and_then(|spec| spec.holder_identity.as_deref());
                let identity = identity.unwrap_or_default();
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                judge(&self.is, identity, holder(identity, access.cluster()), &mut seen)
            };
            listen(every, sink, || read(api.get_opt(&self.name)), changes, apply, judge).await
        })
    }
}

/// Takes a change in, unless something newer is known; whether anything changed. A renewal is none.
fn apply(state: &mut Option<v1::Lease>, change: Option<v1::Lease>) -> bool {
    let at = |lease: &Option<v1::Lease>| lease.as_ref().map_or(0, |l| revision(&l.metadata));
    let of = |lease: &Option<v1::Lease>| {
        lease.as_ref().and_then(|l| l.spec.as_ref()).and_then(|spec| spec.holder_identity.clone())
    };
    if change.is_some() && at(&change) <= at(state) {
        return false;
    }
    let news = of(state) != of(&change);
    *state = change;
    news
}

/// The node whose process holds a Lease: leaders call themselves by their host's name and a random
/// part, kubelets by their node's name.
/// <https://github.com/kubernetes/kubernetes/blob/v1.34.4/cmd/kube-scheduler/app/options/options.go>
fn holder(identity: &str, cluster: &dyn Cluster) -> Option<NodeRef> {
    let of = |host: &str| {
        identity.strip_prefix(host).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    };
    let node = cluster.nodes().iter().find(|node| of(node.host_name()) || of(node.name()));
    node.map(|node| node.id())
}

/// The last that held it, and how often that has changed.
#[derive(Debug, Default)]
struct Seen {
    last: Option<String>,
    changes: u32,
}

fn judge(is: &LeaseSide, identity: &str, holder: Option<NodeRef>, seen: &mut Seen) -> Observation {
    // Between two holders it may be nobody's: that alone is no other holder.
    if !identity.is_empty()
        && seen.last.replace(identity.to_owned()).is_some_and(|last| last != identity)
    {
        seen.changes += 1;
    }
    let held = match (identity, holder) {
        ("", _) => "held by nobody".to_owned(),
        (identity, Some(node)) => format!("held by {node} ({identity})"),
        (identity, None) => format!("held by {identity}"),
    };
    match is {
        LeaseSide::HeldBy(None) => Observation { holds: identity.is_empty(), saw: held },
        LeaseSide::HeldBy(wanted) => Observation { holds: holder == *wanted, saw: held },
        LeaseSide::Changes(wanted) => {
            let holds = metric::judge(*wanted, Some(seen.changes.into())).holds;
            Observation { holds, saw: format!("{} changes; {held}", seen.changes) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Wanted;

    fn lease(revision: u32, holder: &str) -> v1::Lease {
        let mut lease = v1::Lease::default();
        lease.metadata.resource_version = Some(revision.to_string());
        lease.spec.get_or_insert_default().holder_identity = Some(holder.to_owned());
        lease
    }

    #[test]
    fn a_holder_is_a_node_or_nobody() {
        let see = |is, identity, node| judge(&is, identity, node, &mut Seen::default());
        let [one, two] = [1, 2].map(NodeRef::Master);
        assert!(see(LeaseSide::HeldBy(Some(one)), "m1_a", Some(one)).holds);
        assert!(!see(LeaseSide::HeldBy(Some(one)), "m2_a", Some(two)).holds);
        // A stranger is nobody's node, and still somebody.
        assert!(!see(LeaseSide::HeldBy(Some(one)), "stranger", None).holds);
        assert!(!see(LeaseSide::HeldBy(None), "stranger", None).holds);
        let saw = see(LeaseSide::HeldBy(None), "", None);
        assert_eq!((saw.holds, &*saw.saw), (true, "held by nobody"));
    }

    #[test]
    fn another_holder_is_a_change_and_nobody_is_none() {
        let is = LeaseSide::Changes(Wanted::Equals(1.0));
        let mut seen = Seen::default();
        let mut see = |identity| judge(&is, identity, None, &mut seen).holds;
        assert!(!see("a"));
        assert!(!see(""));
        assert!(!see("a"));
        assert!(see("b"));
        assert!(!see("a"));
    }

    #[test]
    fn a_renewal_is_no_news_and_an_old_state_none_either() {
        let mut state = Some(lease(5, "a"));
        assert!(!apply(&mut state, Some(lease(6, "a"))));
        assert!(!apply(&mut state, Some(lease(5, "b"))));
        assert!(apply(&mut state, Some(lease(7, "b"))));
        assert!(apply(&mut state, None));
    }
}
