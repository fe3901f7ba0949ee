//! Waiting for objects of the API by watching them: a look at each costs a connection, and a lab
//! starts on few cores.

use std::fmt::Debug;
use std::hash::Hash;
use std::pin::pin;
use std::sync::Arc;

use futures::StreamExt;
use kube::api::Api;
use kube::runtime::{WatchStreamExt, reflector, watcher};
use serde::de::DeserializeOwned;

use super::ClusterError;

/// Waits until the objects of a kind, or the one of this name, satisfy a condition. A watch that
/// breaks is made again after a pause.
pub(super) async fn await_objects<K>(
    api: Api<K>,
    name: Option<&str>,
    holds: impl Fn(&[Arc<K>]) -> bool,
) -> Result<(), ClusterError>
where
    K: kube::Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Clone + Default + Eq + Hash,
{
    let all = watcher::Config::default();
    let config = match name {
        Some(name) => all.fields(&format!("metadata.name={name}")),
        None => all,
    };
    let (objects, writer) = reflector::store();
    let mut events = pin!(reflector(writer, watcher(api, config)).default_backoff());
    while events.next().await.is_some() {
        if holds(&objects.state()) {
            return Ok(());
        }
    }
    Err(ClusterError::new("a watch ended by itself"))
}
