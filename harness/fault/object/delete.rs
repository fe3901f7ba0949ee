//! An object is deleted. The revert creates it once more, from what it was, when the old one is
//! gone.
//!
//! An object that finalizers hold, such as a namespace whose content can't be listed, counts as
//! deleted when it is marked so: that it hangs may be what is to be seen. The revert waits for its
//! end, so what holds it must be mended before.
//!
//! What else it changes: what goes with the object does not come back with it, as the content of a
//! namespace; what a controller makes of it does, as the pods of a Deployment. The new object has
//! another uid. An object that its controller makes again at once can't be proven to be deleted.

use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::json;

use super::{Before, Door, LIMIT, bring_back, deleting, words_of_through};
use crate::cluster::ClusterError;
use crate::cluster::client::Access;
use crate::fault::{Issued, Primitive, Proof, record, recorded};
use crate::scenario::Delete;

impl Delete {
    async fn found(&self, access: &Access) -> Result<Before, ClusterError> {
        let door = Door::to(access, &self.object, self.through).await?;
        let Some(found) = door.get(&self.object).await? else {
            return Err(ClusterError::new(format!("there is no {} to delete", self.object)));
        };
        match deleting(&found) {
            Some(held) => Err(ClusterError::new(format!("{} {held}", self.object))),
            None => Ok(Before { object: Some(found) }),
        }
    }

    async fn delete(&self, access: &Access, issued: Issued) -> Result<(), ClusterError> {
        let door = Door::to(access, &self.object, self.through).await?;
        let Some(found) = door.get(&self.object).await? else {
            return Err(ClusterError::new(format!("there is no {} to delete", self.object)));
        };
        issued();
        door.delete(&self.object, &found).await
    }

    async fn look(&self, access: &Access) -> Result<Proof, ClusterError> {
        let door = Door::beside(access, &self.object, self.through).await?;
        let (object, master) = (&self.object, door.master);
        Ok(match door.get(object).await? {
            None => Ok(vec![format!("there is no {object}, as {master} tells")]),
            Some(found) => match deleting(&found) {
                Some(held) => Ok(vec![format!("{object} {held}, as {master} tells")]),
                None => Err(format!("{object} is there, as {master} tells")),
            },
        })
    }
}

impl Primitive for Delete {
    fn does(&self) -> String {
        format!("delete {}{}", self.object, words_of_through(self.through))
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
        Box::pin(self.delete(access, issued))
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
        // Of an object that is there, nothing was changed.
        let change = json!({});
        Box::pin(async move { bring_back(access, &self.object, &recorded(before)?, &change).await })
    }
}
