//! Waiting for objects of the API by watching them: a look at each costs a connection, and a lab
//! starts on few cores.

use std::fmt::Debug;
use std::hash::Hash;
use std::pin::pin;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{Stream, StreamExt};
use kube::api::Api;
use kube::runtime::reflector::Store;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, reflector, watcher};
use serde::de::DeserializeOwned;

use super::ClusterError;
use super::awaited::Awaited;
use super::client::words;

/// Waits until the objects of a kind, or the one of this name, satisfy a condition, which else says
/// what it sees. A watch that breaks is made again after a pause. `what` is awaited, for messages.
///
/// It is boxed, as it is large, and whoever waits for one thing after another would be so many times as
/// large: without optimizations more than a thread's stack.
pub(super) fn await_objects<'a, K>(
    awaited: &'a Awaited,
    what: &'a str,
    api: Api<K>,
    name: Option<&'a str>,
    holds: impl Fn(&[Arc<K>]) -> Result<(), String> + Send + 'a,
) -> BoxFuture<'a, Result<(), ClusterError>>
where
    K: kube::Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Clone + Default + Eq + Hash + Send + Sync,
{
    Box::pin(watch_objects(awaited, what, api, name, holds))
}

async fn watch_objects<K>(
    awaited: &Awaited,
    what: &str,
    api: Api<K>,
    name: Option<&str>,
    holds: impl Fn(&[Arc<K>]) -> Result<(), String>,
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
    let events = reflector(writer, watcher(api, config)).default_backoff();
    awaited.saw(what, "nothing yet");
    let told = |seen| awaited.saw(what, seen);
    await_in(&objects, events, told, holds).await?;
    awaited.came(what);
    Ok(())
}

/// The same in what events make of a store. While a list is not complete, the store holds what an
/// earlier one said, at first nothing.
async fn await_in<K>(
    objects: &Store<K>,
    events: impl Stream<Item = watcher::Result<Event<K>>>,
    told: impl Fn(String),
    holds: impl Fn(&[Arc<K>]) -> Result<(), String>,
) -> Result<(), ClusterError>
where
    K: kube::Resource + Clone + 'static,
    K::DynamicType: Clone + Eq + Hash,
{
    let mut events = pin!(events);
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init | Event::InitApply(_)) => {}
            Ok(Event::InitDone | Event::Apply(_) | Event::Delete(_)) => {
                match holds(&objects.state()) {
                    Ok(()) => return Ok(()),
                    Err(seen) => told(seen),
                }
            }
            Err(error) => told(words(&error)),
        }
    }
    Err(ClusterError::new("a watch ended by itself"))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use futures::stream;
    use k8s_openapi::api::core::v1::Namespace;

    use super::*;

    fn none(found: &[Arc<Namespace>]) -> Result<(), String> {
        if found.is_empty() { Ok(()) } else { Err(format!("{} left", found.len())) }
    }

    fn namespace() -> Namespace {
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some("written".into());
        namespace
    }

    async fn come_to(
        events: Vec<watcher::Result<Event<Namespace>>>,
    ) -> (Result<(), ClusterError>, Vec<String>) {
        let (objects, writer) = reflector::store();
        let told = RefCell::new(Vec::new());
        let events = reflector(writer, stream::iter(events));
        let came = await_in(&objects, events, |seen| told.borrow_mut().push(seen), none).await;
        (came, told.into_inner())
    }

    #[tokio::test]
    async fn nothing_is_concluded_from_a_list_that_is_not_complete() {
        let listed =
            || vec![Ok(Event::Init), Ok(Event::InitApply(namespace())), Ok(Event::InitDone)];
        let broken = || vec![Err(watcher::Error::NoResourceVersion)];
        let (came, told) =
            come_to([broken(), listed(), broken()].into_iter().flatten().collect()).await;
        assert!(came.is_err());
        assert_eq!(told.len(), 3, "{told:?}");
        assert_eq!(told[1], "1 left");

        let gone = vec![Ok(Event::Delete(namespace()))];
        let (came, _) = come_to([listed(), gone].into_iter().flatten().collect()).await;
        assert!(came.is_ok());
        let (came, _) = come_to(vec![Ok(Event::Init), Ok(Event::InitDone)]).await;
        assert!(came.is_ok());
    }
}
