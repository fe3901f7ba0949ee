//! Fields of an object change. The revert gives each field of the patch the value that it had; a
//! list comes back as a whole.

use std::time::Duration;

use futures::future::BoxFuture;
use kube::api::PatchParams;

use super::{Before, Door, LIMIT, MANAGER, bring_back, deleting, fields, insist, words_of_through};
use crate::cluster::ClusterError;
use crate::cluster::client::Access;
use crate::fault::{Issued, Primitive, Proof, record, recorded};
use crate::scenario::{Patch, PatchStrategy};

impl Patch {
    async fn found(&self, access: &Access) -> Result<Before, ClusterError> {
        let door = Door::to(access, &self.object, self.through).await?;
        let Some(found) = door.get(&self.object).await? else {
            return Err(ClusterError::new(format!("there is no {} to patch", self.object)));
        };
        if let Some(held) = deleting(&found) {
            return Err(ClusterError::new(format!("{} {held}", self.object)));
        }
        if fields::differs(&self.patch, &found).is_none() {
            return Err(ClusterError::new(format!("{} is already so", self.object)));
        }
        Ok(Before { object: Some(found) })
    }

    async fn patch(&self, access: &Access, issued: Issued) -> Result<(), ClusterError> {
        let door = Door::to(access, &self.object, self.through).await?;
        let parameters =
            PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
        let parameters = parameters.validation_strict();
        let patch = match self.strategy {
            PatchStrategy::Merge => kube::api::Patch::Merge(&self.patch),
            PatchStrategy::Strategic => kube::api::Patch::Strategic(&self.patch),
        };
        let what = format!("patch {} through {}", self.object, door.master);
        issued();
        insist(&what, || door.api.patch(&self.object.name, &parameters, &patch)).await.map(drop)
    }

    async fn look(&self, access: &Access) -> Result<Proof, ClusterError> {
        let door = Door::beside(access, &self.object, self.through).await?;
        let (object, master) = (&self.object, door.master);
        let Some(found) = door.get(object).await? else {
            return Ok(Err(format!("there is no {object}, as {master} tells")));
        };
        Ok(match fields::differs(&self.patch, &found) {
            Some(difference) => Err(format!("of {object}, as {master} tells, {difference}")),
            None => Ok(vec![format!("{object} is as the patch says, as {master} tells")]),
        })
    }
}

impl Primitive for Patch {
    fn does(&self) -> String {
        format!("patch {}{}", self.object, words_of_through(self.through))
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
        Box::pin(self.patch(access, issued))
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
        Box::pin(async { bring_back(access, &self.object, &recorded(before)?, &self.patch).await })
    }
}
