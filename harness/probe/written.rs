//! Whether every write that was acknowledged by now is there, as one apiserver tells it: a list of
//! the newest state, which etcd's quorum confirms. What was not acknowledged may be there or not.
//! Polled.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::api::{Api, ListParams};

use super::{Look, Observation, Sink, poll, read};
use crate::cluster::ClusterError;
use crate::cluster::client::Access;
use crate::cluster::ledger::NAMESPACE;
use crate::scenario::Written;

impl Look for Written {
    fn wanted(&self) -> String {
        format!("every acknowledged write is there, as {} tells", self.through)
    }

    fn watch<'a>(
        &'a self,
        access: &'a Access,
        every: Duration,
        sink: Sink<'a>,
    ) -> BoxFuture<'a, Result<Infallible, ClusterError>> {
        Box::pin(async move {
            let api: Api<ConfigMap> = Api::namespaced(access.kube(self.through)?, NAMESPACE);
            let observe = || async {
                // Before the list: what is acknowledged meanwhile need not be in it.
                let acknowledged = access.ledger().all();
                // Without a resource version, so that no cache answers with an older state.
                // <https://kubernetes.io/docs/reference/using-api/api-concepts/#semantics-for-get-and-list>
                Ok(match read(api.list_metadata(&ListParams::default())).await {
                    Ok(list) => {
                        let there = list.iter().map(ResourceExt::name_any).collect();
                        judge(&acknowledged, &there)
                    }
                    Err(why) => Observation::nothing(why),
                })
            };
            poll(every, sink, observe).await
        })
    }
}

fn judge(acknowledged: &BTreeSet<String>, there: &BTreeSet<String>) -> Observation {
    let lost: Vec<&str> = acknowledged.difference(there).map(String::as_str).collect();
    let count = acknowledged.len();
    let Some(first) = lost.first() else {
        // That nothing was lost says nothing when nothing was written.
        return match count {
            0 => Observation::nothing("no write was acknowledged yet"),
            _ => Observation { holds: true, saw: format!("all {count} acknowledged writes") },
        };
    };
    let lost = lost.len();
    Observation::nothing(format!("of {count} acknowledged writes {lost} lost, {first} among them"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_was_acknowledged_must_be_there() {
        let set = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        for (acknowledged, there, holds) in [
            (&["a", "b"][..], &["a", "b"][..], true),
            (&["a"], &["a", "b"], true), // b was not acknowledged, and yet carried out.
            (&["a", "b"], &["b"], false),
            (&["a"], &[], false),
            (&[], &["a"], false),
        ] {
            let judged = judge(&set(acknowledged), &set(there));
            assert_eq!(judged.holds, holds, "{}", judged.saw);
        }
        let saw = judge(&set(&["a", "b", "c"]), &set(&["a"])).saw;
        assert_eq!(saw, "of 3 acknowledged writes 2 lost, b among them");
    }
}
