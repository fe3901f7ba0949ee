//! A certificate of a node is issued anew, with parts of it changed, and put in the place of the old
//! one, or into the kubeconfig that holds it. All else stays as it was: the other parts are those of
//! the old certificate, signed by the CA that signed it.
//!
//! Nobody is told. An apiserver takes a new serving certificate or proxy client certificate when it
//! sees the file change, others when they start.
//! <https://github.com/kubernetes/kubernetes/blob/v1.34.4/staging/src/k8s.io/apiserver/pkg/server/dynamiccertificates/dynamic_serving_content.go>

mod issue;

use std::time::Duration;

use futures::future::BoxFuture;
use time::OffsetDateTime;

use super::file::{self, Change, State};
use super::{Issued, Primitive, Proof, in_turn, nodes, record};
use crate::cluster::ClusterError;
use crate::cluster::client::Access;
use crate::cluster::holder::{Holder, encode};
use crate::scenario::{CertificateChange, Issuer, KeyChange, NodeRef, San, Sans, Usage, Validity};
use issue::Ca;

/// All reading and writing on one node.
const LIMIT: Duration = Duration::from_secs(30);

/// The CAs that kubeadm makes, on every master.
/// <https://github.com/kubernetes/kubernetes/blob/v1.34.4/cmd/kubeadm/app/constants/constants.go>
const CAS: [(Issuer, &str); 3] = [
    (Issuer::Ca, "/etc/kubernetes/pki/ca"),
    (Issuer::FrontProxyCa, "/etc/kubernetes/pki/front-proxy-ca"),
    (Issuer::EtcdCa, "/etc/kubernetes/pki/etcd/ca"),
];

impl CertificateChange {
    async fn changes(&self, access: &Access) -> Result<Vec<Change>, ClusterError> {
        let cas = cas(access).await?;
        let now = OffsetDateTime::now_utc();
        let mut changes = Vec::new();
        for on in &self.on {
            changes.extend(self.changes_on(*on, &cas, now, access).await?);
        }
        Ok(changes)
    }

    async fn changes_on(
        &self,
        on: NodeRef,
        cas: &[(Issuer, Ca)],
        now: OffsetDateTime,
        access: &Access,
    ) -> Result<Vec<Change>, ClusterError> {
        let (node, path) = (access.node(on)?, &self.path);
        let failed = |error: issue::Error| ClusterError::caused(format!("{path} on {on}"), error);
        let file = file::file(&**node, path).await?;
        let holder = Holder::of(&file.bytes()?).map_err(|error| failed(error.into()))?;
        let key_path = holder.key_beside(path);
        let key_file = match &key_path {
            Some(key_path) => Some(file::file(&**node, key_path).await?),
            None => None,
        };
        let key_bytes = key_file.as_ref().map(file::Content::bytes).transpose()?;
        let key = holder.key(key_bytes.as_deref()).map_err(|error| failed(error.into()))?;
        let certificate = holder.certificate().map_err(|error| failed(error.into()))?;
        let lost = self.lost(access)?;
        let issued = issue::anew(self, &lost, &certificate, &key, cas, now).map_err(failed)?;
        let with = |file: &file::Content, bytes: &[u8]| State::File(file.with(bytes));
        let key_in_file = issued.key.as_ref().filter(|_| key_path.is_none());
        let bytes = holder.with(&issued.certificate, key_in_file);
        let bytes = bytes.map_err(|error| failed(error.into()))?;
        let wanted = with(&file, &bytes);
        let mut changes = Vec::new();
        if let (Some(path), Some(file), Some(key)) = (key_path, key_file, &issued.key) {
            let wanted = with(&file, encode([key]).as_bytes());
            changes.push(Change { on, path, was: State::File(file), wanted });
        }
        changes.push(Change { on, path: path.clone(), was: State::File(file), wanted });
        // A key that no longer matches leaves the certificate as it is.
        changes.retain(|change| change.was != change.wanted);
        if changes.is_empty() {
            return Err(ClusterError::new(format!("{path} on {on} is like that already")));
        }
        Ok(changes)
    }

    /// The names that it loses, as they stand in it.
    fn lost(&self, access: &Access) -> Result<Vec<String>, ClusterError> {
        let Some(Sans::Without(lost)) = &self.sans else { return Ok(vec![]) };
        let cluster = access.cluster();
        let name = |san: &San| {
            Ok(match san {
                San::Name(name) => name.clone(),
                San::LoadBalancer => {
                    let address = cluster.load_balancer().ip();
                    cluster.host_name(address).map_or_else(|| address.to_string(), str::to_owned)
                }
                San::Node(node) => access.node(*node)?.address().to_string(),
            })
        };
        lost.iter().map(name).collect()
    }

    fn parts(&self) -> String {
        let mut parts = Vec::new();
        parts.extend(self.common_name.as_ref().map(|name| format!("the common name {name}")));
        parts.extend(self.organization.as_ref().map(|name| match name.as_str() {
            "" => "no organization".to_owned(),
            name => format!("the organization {name}"),
        }));
        parts.extend(self.sans.as_ref().map(|sans| match sans {
            Sans::Only(sans) if sans.is_empty() => "no names".to_owned(),
            Sans::Only(sans) => format!("the names {}", sans.join(", ")),
            Sans::Without(lost) => {
                let name = |san: &San| match san {
                    San::Name(name) => name.clone(),
                    San::LoadBalancer => "the load balancer".to_owned(),
                    San::Node(node) => node.to_string(),
                };
                let lost = lost.iter().map(name).collect::<Vec<_>>().join(" and ");
                format!("its names but for {lost}")
            }
        }));
        parts.extend(self.issuer.map(|issuer| {
            let name = match issuer {
                Issuer::Ca => "the cluster's CA",
                Issuer::FrontProxyCa => "the front proxies' CA",
                Issuer::EtcdCa => "etcd's CA",
                Issuer::Stranger => "a CA that nobody knows",
            };
            format!("a signature of {name}")
        }));
        parts.extend(self.validity.map(|validity| match validity {
            Validity::Expired(ago) => format!("an end {ago:?} ago"),
            Validity::NotYet(after) => format!("a beginning in {after:?}"),
            Validity::ExpiresIn(after) => format!("an end in {after:?}"),
        }));
        parts.extend(self.usages.as_ref().map(|usages| {
            let name = |usage: &Usage| match usage {
                Usage::ClientAuth => "clientAuth",
                Usage::ServerAuth => "serverAuth",
            };
            match usages.as_slice() {
                [] => "no usages".to_owned(),
                usages => format!("for {}", usages.iter().map(name).collect::<Vec<_>>().join(", ")),
            }
        }));
        parts.extend(match self.key {
            KeyChange::Same => None,
            KeyChange::New => Some("a new key".to_owned()),
            KeyChange::Mismatched => Some("a key that does not match it".to_owned()),
        });
        parts.join(" and ")
    }
}

/// The CAs, as the first master has them that can be read.
async fn cas(access: &Access) -> Result<Vec<(Issuer, Ca)>, ClusterError> {
    let mut last = ClusterError::new("the cluster has no master");
    for master in access.masters().filter(|master| master.powered()) {
        let read = async {
            let mut cas = Vec::new();
            for (issuer, path) in CAS {
                let (certificate, key) = (format!("{path}.crt"), format!("{path}.key"));
                let bytes = |file: file::Content| file.bytes();
                let ca = Ca::of(
                    &bytes(file::file(&**master, &certificate).await?)?,
                    &bytes(file::file(&**master, &key).await?)?,
                );
                let ca = ca.map_err(|error| ClusterError::caused(certificate, error))?;
                cas.push((issuer, ca));
            }
            Ok(cas)
        };
        match read.await {
            Ok(cas) => return Ok(cas),
            Err(error) => last = error,
        }
    }
    Err(last)
}

impl Primitive for CertificateChange {
    fn does(&self) -> String {
        format!("give {} on {} {}", self.path, nodes(&self.on), self.parts())
    }

    fn limit(&self) -> Duration {
        in_turn(LIMIT, &self.on) + LIMIT
    }

    fn before<'a>(
        &'a self,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<serde_json::Value, ClusterError>> {
        Box::pin(async { record(&self.changes(access).await?) })
    }

    fn inject<'a>(
        &'a self,
        before: &'a serde_json::Value,
        access: &'a Access,
        issued: Issued,
    ) -> BoxFuture<'a, Result<(), ClusterError>> {
        Box::pin(file::change(before, access, issued))
    }

    fn prove<'a>(
        &'a self,
        before: &'a serde_json::Value,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<Proof, ClusterError>> {
        Box::pin(file::prove(before, access))
    }

    fn revert<'a>(
        &'a self,
        before: &'a serde_json::Value,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<(), ClusterError>> {
        Box::pin(file::restore(before, access))
    }
}
