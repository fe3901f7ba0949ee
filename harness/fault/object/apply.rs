//! An object is applied by server-side apply: created, or changed where the manifest says so. An
//! object that was created is deleted by the revert; of one that was there, each field of the
//! manifest gets the value that it had.
//!
//! What else it changes: another owner of a field loses it (the apply is forced), and does not get
//! it back by the revert. What the API writes otherwise than the manifest (`1000m` as `1`) is not
//! recognised by the proof: write it as the API does.

use std::time::Duration;

use futures::future::BoxFuture;
use kube::api::{Patch, PatchParams};

use super::{Before, Door, LIMIT, MANAGER, bring_back, deleting, fields, insist, words_of_through};
use crate::cluster::ClusterError;
use crate::cluster::client::Access;
use crate::fault::{Issued, Primitive, Proof, record, recorded};
use crate::scenario::Apply;

impl Apply {
    async fn found(&self, access: &Access) -> Result<Before, ClusterError> {
        let door = Door::to(access, &self.object, self.through).await?;
        let object = door.get(&self.object).await?;
        if let Some(found) = &object {
            if let Some(held) = deleting(found) {
                return Err(ClusterError::new(format!("{} {held}", self.object)));
            }
            if fields::differs(&fields::without_identity(&self.manifest), found).is_none() {
                return Err(ClusterError::new(format!("{} is already so", self.object)));
            }
        }
        Ok(Before { object })
    }

    async fn apply(&self, access: &Access, issued: Issued) -> Result<(), ClusterError> {
        let door = Door::to(access, &self.object, self.through).await?;
        let parameters = PatchParams::apply(MANAGER).force().validation_strict();
        let manifest = Patch::Apply(&self.manifest);
        let what = format!("apply {} through {}", self.object, door.master);
        issued();
        insist(&what, || door.api.patch(&self.object.name, &parameters, &manifest)).await.map(drop)
    }

    async fn look(&self, access: &Access) -> Result<Proof, ClusterError> {
        let door = Door::beside(access, &self.object, self.through).await?;
        let (object, master) = (&self.object, door.master);
        let Some(found) = door.get(object).await? else {
            return Ok(Err(format!("there is no {object}, as {master} tells")));
        };
        Ok(match fields::differs(&fields::without_identity(&self.manifest), &found) {
            Some(difference) => Err(format!("of {object}, as {master} tells, {difference}")),
            None => Ok(vec![format!("{object} is as the manifest says, as {master} tells")]),
        })
    }
}

impl Primitive for Apply {
    fn does(&self) -> String {
        format!("apply {}{}", self.object, words_of_through(self.through))
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
        Box::pin(async {
            let change = fields::without_identity(&self.manifest);
            bring_back(access, &self.object, &recorded(before)?, &change).await
        })
    }
}
