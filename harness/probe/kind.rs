//! A kind of objects as one apiserver knows it. Only its own group is asked for: others may be
//! broken.

use std::time::Duration;

use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::discovery::{self, Scope};
use tokio::time::Instant;

use super::{Observation, Sighting, Sink, read};
use crate::cluster::ClusterError;
use crate::cluster::client::{Access, gvk};
use crate::scenario::NodeRef;

/// A kind that was found.
pub(super) struct Kind {
    client: Client,
    resource: ApiResource,
    scope: Scope,
}

impl Kind {
    /// Its objects in a namespace, or all if the kind has none.
    pub(super) fn within(self, namespace: &str) -> Api<DynamicObject> {
        match self.scope {
            Scope::Cluster => self.everywhere(),
            Scope::Namespaced => Api::namespaced_with(self.client, namespace, &self.resource),
        }
    }

    /// Its objects in all namespaces.
    pub(super) fn everywhere(self) -> Api<DynamicObject> {
        Api::all_with(self.client, &self.resource)
    }
}

/// Asks the apiserver what the kind's plural is and whether it has namespaces, until it tells.
pub(super) async fn find(
    access: &Access,
    through: NodeRef,
    (api_version, kind): (&str, &str),
    every: Duration,
    sink: Sink<'_>,
) -> Result<Kind, ClusterError> {
    let client = access.kube(through)?;
    let gvk = gvk(api_version, kind)?;
    loop {
        let began = Instant::now();
        let why = match read(discovery::pinned_kind(&client, &gvk)).await {
            Ok((resource, capabilities)) => {
                return Ok(Kind { client, resource, scope: capabilities.scope });
            }
            Err(why) => why,
        };
        let observation = Observation::nothing(why);
        sink(Sighting { began, ended: Instant::now(), watched: false, observation });
        tokio::time::sleep(every).await;
    }
}
