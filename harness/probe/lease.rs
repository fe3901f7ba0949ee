//! Who holds a Lease, as one apiserver tells it. Watched, so that no change is missed, and read anew at
//! the probe's period.

use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::coordination::v1;
use kube::Api;
use kube::runtime::{WatchStreamExt, watcher};

use super::{Changes, Concerned, Look, Observation, Sink, listen, metric, newer, read};
use crate::cluster::client::Access;
use crate::cluster::{Cluster, ClusterError, leads_from};
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
            let seen = Mutex::new(Changes::default());
            let judge = |lease: &Option<v1::Lease>| {
                let identity = identity(lease.as_ref()).unwrap_or_default();
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                judge(&self.is, identity, holder(identity, access.cluster()), &mut seen)
            };
            listen(every, sink, || read(api.get_opt(&self.name)), changes, apply, judge).await
        })
    }
}

/// Takes a change in, unless something newer is known; whether it is news. A renewal is none.
fn apply(state: &mut Option<v1::Lease>, change: Option<v1::Lease>) -> bool {
    let before = identity(state.as_ref()).map(str::to_owned);
    newer(state, change) && before.as_deref() != identity(state.as_ref())
}

/// What the holder calls itself.
fn identity(lease: Option<&v1::Lease>) -> Option<&str> {
    lease?.spec.as_ref()?.holder_identity.as_deref()
}

/// The node whose process holds a Lease: a leader's, or the kubelet, which calls itself by its node's
/// name.
fn holder(identity: &str, cluster: &dyn Cluster) -> Option<NodeRef> {
    let of = |own: &str| identity == own || leads_from(own, identity);
    let node = cluster.nodes().iter().find(|node| of(node.host_name()) || of(node.name()));
    node.map(|node| node.id())
}

fn judge(
    is: &LeaseSide,
    identity: &str,
    holder: Option<NodeRef>,
    seen: &mut Changes,
) -> Observation {
    // Between two holders it may be nobody's: that alone is no other holder.
    if !identity.is_empty() {
        seen.see(identity);
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
            let holds = metric::judge(*wanted, Some(seen.count.into())).holds;
            Observation { holds, saw: format!("{} changes; {held}", seen.count) }
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
        let see = |is, identity, node| judge(&is, identity, node, &mut Changes::default());
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
        let mut seen = Changes::default();
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
