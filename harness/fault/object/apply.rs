//! An object is applied by server-side apply: created, or changed where the manifest says so. An
//! object that was created is deleted by the revert; of one that was there, each field of the
//! manifest gets the value that it had.
//!
//! What else it changes: another owner of a field loses it (the apply is forced), and does not get
//! it back by the revert. What the API writes otherwise than the manifest (`1000m` as `1`) is not
//! recognised by the proof: write it as the API does.

use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{self, StreamExt, TryStreamExt};
use kube::api::{Patch, PatchParams};
use serde_json::Value;

use super::{
    Before, Door, LIMIT, MANAGER, back, bring_back, deleting, fields, insist, learnt,
    words_of_through,
};
use crate::cluster::ClusterError;
use crate::cluster::client::Access;
use crate::fault::{Issued, Primitive, Proof, record, recorded};
use crate::scenario::{Apply, ObjectRef};

/// How many objects are worked on at once.
const AT_ONCE: usize = 16;

/// Look, do what is missing, look again.
const STEPS: usize = 2;

/// One of the objects, with its manifest.
struct Instance {
    object: ObjectRef,
    manifest: Value,
}

impl Instance {
    /// What of the object is not as its manifest says.
    fn differs(&self, found: &Value) -> Option<String> {
        fields::differs(&fields::without_identity(&self.manifest), found)
    }
}

/// Works on several at once, and gives what came of them in their order.
async fn spread<I, T, Fut>(
    items: impl IntoIterator<Item = I>,
    work: impl Fn(I) -> Fut,
) -> Result<Vec<T>, ClusterError>
where
    Fut: Future<Output = Result<T, ClusterError>>,
{
    stream::iter(items).map(work).buffered(AT_ONCE).try_collect().await
}

impl Apply {
    fn instances(&self) -> Vec<Instance> {
        let Some(count) = self.count else {
            return vec![Instance { object: self.object.clone(), manifest: self.manifest.clone() }];
        };
        let numbered = |number| {
            let name = format!("{}-{number}", self.object.name);
            let mut manifest = self.manifest.clone();
            manifest["metadata"]["name"] = name.clone().into();
            Instance { object: ObjectRef { name, ..self.object.clone() }, manifest }
        };
        (1..=count).map(numbered).collect()
    }

    async fn found(&self, access: &Access) -> Result<Vec<Before>, ClusterError> {
        learnt(access, &self.object).await?;
        let door = &Door::to(access, &self.object, self.through).await?;
        spread(self.instances(), |instance| async move {
            let object = door.get(&instance.object).await?;
            if let Some(found) = &object {
                if let Some(held) = deleting(found) {
                    return Err(ClusterError::new(format!("{} {held}", instance.object)));
                }
                if instance.differs(found).is_none() {
                    return Err(ClusterError::new(format!("{} is already so", instance.object)));
                }
            }
            Ok(Before { object })
        })
        .await
    }

    async fn apply(&self, access: &Access, issued: Issued) -> Result<(), ClusterError> {
        let door = &Door::to(access, &self.object, self.through).await?;
        issued();
        let applied = spread(self.instances(), |Instance { object, manifest }| async move {
            let parameters = PatchParams::apply(MANAGER).force().validation_strict();
            let manifest = Patch::Apply(&manifest);
            let what = format!("apply {object} through {}", door.master);
            insist(&what, || door.api.patch(&object.name, &parameters, &manifest)).await.map(drop)
        });
        applied.await.map(drop)
    }

    async fn look(&self, access: &Access) -> Result<Proof, ClusterError> {
        let door = &Door::beside(access, &self.object, self.through).await?;
        let master = door.master;
        let looked = spread(self.instances(), |instance| async move {
            let object = &instance.object;
            Ok(match door.get(object).await? {
                None => Err(format!("there is no {object}, as {master} tells")),
                Some(found) => match instance.differs(&found) {
                    Some(difference) => {
                        Err(format!("of {object}, as {master} tells, {difference}"))
                    }
                    None => Ok(()),
                },
            })
        });
        let proof: Result<Vec<()>, String> = looked.await?.into_iter().collect();
        Ok(proof.map(|_| {
            vec![match self.count {
                None => format!("{} is as the manifest says, as {master} tells", self.object),
                Some(count) => {
                    format!("{count} objects are as the manifest says, as {master} tells")
                }
            }]
        }))
    }

    async fn take_back(&self, before: Vec<Before>, access: &Access) -> Result<(), ClusterError> {
        // For many, a connection for each would cost more than the work.
        let door = &Door::to(access, &self.object, None).await.ok();
        let both = self.instances().into_iter().zip(before).rev();
        let taken_back = stream::iter(both).map(|(instance, before)| async move {
            let (object, change) = (&instance.object, fields::without_identity(&instance.manifest));
            if let Some(door) = door {
                for _ in 0..STEPS {
                    match back(door, object, &before, &change).await {
                        Ok(None) => return Ok(()),
                        Ok(Some(_)) => {}
                        Err(_) => break,
                    }
                }
            }
            bring_back(access, object, &before, &change).await
        });
        // One that can't be taken back keeps none of the others.
        let taken_back: Vec<_> = taken_back.buffer_unordered(AT_ONCE).collect().await;
        taken_back.into_iter().collect()
    }
}

impl Primitive for Apply {
    fn does(&self) -> String {
        let through = words_of_through(self.through);
        match self.count {
            None => format!("apply {}{through}", self.object),
            Some(count) => format!("apply {}-1 to -{count}{through}", self.object),
        }
    }

    fn limit(&self) -> Duration {
        LIMIT
    }

    fn before<'a>(
        &'a self,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<serde_json::Value, ClusterError>> {
        Box::pin(async { record(&self.found(access).await?) })
    }

    fn inject<'a>(
        &'a self,
        _: &'a serde_json::Value,
        access: &'a Access,
        issued: Issued,
    ) -> BoxFuture<'a, Result<(), ClusterError>> {
        Box::pin(self.apply(access, issued))
    }

    fn prove<'a>(
        &'a self,
        _: &'a serde_json::Value,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<Proof, ClusterError>> {
        Box::pin(self.look(access))
    }

    fn revert<'a>(
        &'a self,
        before: &'a serde_json::Value,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<(), ClusterError>> {
        Box::pin(async { self.take_back(recorded(before)?, access).await })
    }
}
