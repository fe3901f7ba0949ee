//! Where a connection goes: an apiserver, the load balancer, a Service's virtual address, a pod's, or
//! any other.

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::{Api, Client};
use tokio::sync::OnceCell;

use super::read;
use crate::cluster::ClusterError;
use crate::cluster::client::Access;
use crate::scenario::Target;

/// The target in words.
pub(super) fn words(target: &Target) -> String {
    match target {
        Target::Service(name) => format!("service {name}"),
        Target::Apiserver(master) => format!("the apiserver of {master}"),
        Target::LoadBalancer => "the load balancer".to_owned(),
        Target::Pod(name) => format!("pod {name}"),
        Target::Address(address) => address.to_string(),
    }
}

/// The target's address. A Service is looked up through the first apiserver that answers, once
/// for each `known`: a virtual address does not change while the Service exists. A pod is looked up
/// each time. The inner error says why nobody could tell.
pub(super) async fn address(
    target: &Target,
    access: &Access,
    known: &OnceCell<SocketAddr>,
) -> Result<Result<SocketAddr, String>, ClusterError> {
    match target {
        Target::Apiserver(master) => Ok(Ok(access.apiserver(*master)?)),
        Target::LoadBalancer => Ok(Ok(access.cluster().load_balancer())),
        Target::Address(address) => Ok(Ok(*address)),
        Target::Pod(name) => look_up_pod(name, access).await,
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

/// Looks `namespace/name:port` or `namespace/name` up through the first apiserver that answers.
async fn first<T, Fut>(
    name: &str,
    access: &Access,
    get: impl Fn(Client, String, String) -> Fut,
) -> Result<Result<(T, Option<String>), String>, ClusterError>
where
    Fut: Future<Output = kube::Result<T>>,
{
    let (object, port) = name.split_once(':').map_or((name, None), |(o, p)| (o, Some(p)));
    let Some((namespace, object)) = object.split_once('/') else {
        return Ok(Err(format!("{name} is not namespace/name")));
    };
    let mut last = "the cluster has no master".to_owned();
    for master in access.masters() {
        let client = access.kube(master.id())?;
        match read(get(client, namespace.to_owned(), object.to_owned())).await {
            Ok(found) => return Ok(Ok((found, port.map(str::to_owned)))),
            Err(why) => last = format!("{name} through {}: {why}", master.id()),
        }
    }
    Ok(Err(last))
}

async fn look_up(name: &str, access: &Access) -> Result<Result<SocketAddr, String>, ClusterError> {
    let found = first(name, access, |client, namespace, name| async move {
        Api::<Service>::namespaced(client, &namespace).get(&name).await
    });
    Ok(found.await?.and_then(|(service, port)| virtual_address(&service, port.as_deref())))
}

async fn look_up_pod(
    name: &str,
    access: &Access,
) -> Result<Result<SocketAddr, String>, ClusterError> {
    let found = first(name, access, |client, namespace, name| async move {
        Api::<Pod>::namespaced(client, &namespace).get(&name).await
    });
    Ok(found.await?.and_then(|(pod, port)| pod_address(&pod, port.as_deref())))
}

/// The cluster address of a Service, with one of its ports by number or name, or the first.
fn virtual_address(service: &Service, port: Option<&str>) -> Result<SocketAddr, String> {
    let spec = service.spec.as_ref().ok_or("the Service has no spec")?;
    let address = spec.cluster_ip.as_deref().unwrap_or("none");
    let address: IpAddr =
        address.parse().map_err(|_| format!("the Service's cluster address is {address}"))?;
    let mut ports = spec.ports.iter().flatten();
    let found = match port {
        None => ports.next().ok_or("the Service has no port")?,
        Some(wanted) => ports
            .find(|p| p.name.as_deref() == Some(wanted) || p.port.to_string() == wanted)
            .ok_or_else(|| format!("the Service has no port {wanted}"))?,
    };
    let port = u16::try_from(found.port).map_err(|_| format!("its port is {}", found.port))?;
    Ok(SocketAddr::new(address, port))
}

fn pod_address(pod: &Pod, port: Option<&str>) -> Result<SocketAddr, String> {
    let address = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref()).unwrap_or("none");
    let address: IpAddr = address.parse().map_err(|_| format!("the pod's address is {address}"))?;
    let port = port.and_then(|port| port.parse().ok()).ok_or("no port is named")?;
    Ok(SocketAddr::new(address, port))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_service_has_an_address_and_ports_unless_it_is_headless() {
        let service = |spec| serde_json::from_value(json!({"spec": spec})).unwrap();
        let ports = json!([{"port": 443}, {"port": 80, "name": "plain"}]);
        let plain = service(json!({"clusterIP": "10.96.0.1", "ports": ports}));
        for (port, expected) in [
            (None, Some(443)),
            (Some("443"), Some(443)),
            (Some("80"), Some(80)),
            (Some("plain"), Some(80)),
            (Some("81"), None),
        ] {
            let found = virtual_address(&plain, port).ok();
            assert_eq!(found, expected.map(|port| SocketAddr::from(([10, 96, 0, 1], port))));
        }
        let headless = service(json!({"clusterIP": "None", "ports": ports}));
        assert!(virtual_address(&headless, None).unwrap_err().contains("None"));
        assert!(virtual_address(&service(json!({"clusterIP": "10.0.0.1"})), None).is_err());
    }

    #[test]
    fn a_pod_has_an_address_once_it_runs() {
        let pod = |status| serde_json::from_value(json!({"status": status})).unwrap();
        let running = pod(json!({"podIP": "10.244.1.2"}));
        assert_eq!(pod_address(&running, Some("53")), Ok("10.244.1.2:53".parse().unwrap()));
        assert!(pod_address(&pod(json!({})), Some("53")).unwrap_err().contains("none"));
    }
}
