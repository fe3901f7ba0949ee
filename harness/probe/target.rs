//! Where a connection goes: an apiserver, the load balancer, or a Service's virtual address.

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::Service;
use kube::Api;
use tokio::sync::OnceCell;

use super::{Concerned, read};
use crate::cluster::ClusterError;
use crate::cluster::client::Access;
use crate::scenario::Target;

/// The target in words.
pub(super) fn words(target: &Target) -> String {
    match target {
        Target::Service(name) => format!("service {name}"),
        Target::Apiserver(master) => format!("the apiserver of {master}"),
        Target::LoadBalancer => "the load balancer".to_owned(),
    }
}

impl Target {
    /// The objects that say where it leads.
    pub(super) fn concerned(&self) -> Vec<Concerned> {
        match self {
            Self::Service(name) => concerned(name),
            Self::Apiserver(_) | Self::LoadBalancer => vec![],
        }
    }
}

/// A Service and its endpoints.
pub(super) fn concerned(service: &str) -> Vec<Concerned> {
    let Some((namespace, name)) = service.split_once('/') else { return vec![] };
    let of = |api_version: &str, kind: &str, name: Option<&str>| Concerned {
        api_version: api_version.into(),
        kind: kind.into(),
        namespace: Some(namespace.into()),
        name: name.map(Into::into),
    };
    vec![
        of("v1", "Service", Some(name)),
        of("v1", "Endpoints", Some(name)),
        of("discovery.k8s.io/v1", "EndpointSlice", None),
    ]
}

/// The target's address. A Service is looked up through the first apiserver that answers, once
/// for each `known`: a virtual address does not change while the Service exists. The inner error
/// says why nobody could tell.
pub(super) async fn address(
    target: &Target,
    access: &Access,
    known: &OnceCell<SocketAddr>,
) -> Result<Result<SocketAddr, String>, ClusterError> {
    match target {
        Target::Apiserver(master) => Ok(Ok(access.apiserver(*master)?)),
        Target::LoadBalancer => Ok(Ok(access.cluster().load_balancer())),
        Target::Service(name) => {
            if let Some(address) = known.get() {
                return Ok(Ok(*address));
            }
            let found = look_up(name, access).await?;
            if let Ok(address) = found {
                // Set by one observer only; a second setting would be the same.
                let _ = known.set(address);
            }
            Ok(found)
        }
    }
}

async fn look_up(name: &str, access: &Access) -> Result<Result<SocketAddr, String>, ClusterError> {
    let Some((namespace, service)) = name.split_once('/') else {
        return Ok(Err(format!("{name} is not namespace/name")));
    };
    let mut last = "the cluster has no master".to_owned();
    for master in access.masters() {
        let services: Api<Service> = Api::namespaced(access.kube(master.id())?, namespace);
        match read(services.get(service)).await {
            Ok(service) => return Ok(virtual_address(&service)),
            Err(why) => last = format!("service {name} through {}: {why}", master.id()),
        }
    }
    Ok(Err(last))
}

/// The cluster address and the first port of a Service.
fn virtual_address(service: &Service) -> Result<SocketAddr, String> {
    let spec = service.spec.as_ref().ok_or("the Service has no spec")?;
    let address = spec.cluster_ip.as_deref().unwrap_or("none");
    let address: IpAddr =
        address.parse().map_err(|_| format!("the Service's cluster address is {address}"))?;
    let port = spec.ports.iter().flatten().next().ok_or("the Service has no port")?.port;
    let port = u16::try_from(port).map_err(|_| format!("the Service's port is {port}"))?;
    Ok(SocketAddr::new(address, port))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_services_first_port_counts_and_a_headless_service_has_no_address() {
        let service = |spec| serde_json::from_value(json!({"spec": spec})).unwrap();
        let ports = json!([{"port": 443}, {"port": 80}]);
        let plain = service(json!({"clusterIP": "10.96.0.1", "ports": ports}));
        assert_eq!(virtual_address(&plain), Ok("10.96.0.1:443".parse().unwrap()));
        let headless = service(json!({"clusterIP": "None", "ports": ports}));
        assert!(virtual_address(&headless).unwrap_err().contains("None"));
        assert!(virtual_address(&service(json!({"clusterIP": "10.0.0.1"}))).is_err());
    }
}
