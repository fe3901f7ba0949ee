//! The ends of `traffic` as addresses: nodes by what the cluster says, pods and Services by what the
//! API says when the fault is injected, through the first apiserver that answers.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::{Api, Client};

use super::super::serving::{self, KUBELET_PORT};
use super::rules::{Source, Target};
use crate::cluster::ClusterError;
use crate::cluster::client::{Access, words};
use crate::scenario::{NodeRef, Traffic, TrafficEnd};

/// How long one read of the API may take.
const READ: std::time::Duration = std::time::Duration::from_secs(5);

/// Where packets are caught.
pub(super) async fn sources(
    traffic: &Traffic,
    access: &Access,
) -> Result<Vec<Source>, ClusterError> {
    let (namespace, labels) = match &traffic.from {
        TrafficEnd::Nodes(on) => {
            return Ok(on.iter().map(|on| Source { on: *on, pods: vec![] }).collect());
        }
        TrafficEnd::Pods { namespace, labels } => (namespace, labels),
        TrafficEnd::Component { .. } | TrafficEnd::Service(_) | TrafficEnd::LoadBalancer => {
            return Err(ClusterError::new("traffic starts on nodes or in pods"));
        }
    };
    let mut by_node: BTreeMap<NodeRef, Vec<IpAddr>> = BTreeMap::new();
    for pod in pods(namespace, labels, access).await? {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let on = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
        let mut nodes = access.cluster().nodes().iter();
        let node = nodes.find(|node| node.name() == on);
        let node = node.ok_or_else(|| ClusterError::new(format!("pod {name} is on no node")))?;
        by_node.entry(node.id()).or_default().push(own_address(&pod)?);
    }
    Ok(by_node.into_iter().map(|(on, pods)| Source { on, pods }).collect())
}

/// What packets are kept from.
pub(super) async fn targets(
    traffic: &Traffic,
    access: &Access,
) -> Result<Vec<Target>, ClusterError> {
    let given = |own: &[u16]| if traffic.ports.is_empty() { own } else { &traffic.ports }.to_vec();
    let look = |default: u16| traffic.ports.first().copied().unwrap_or(default);
    let mut targets = vec![];
    match &traffic.to {
        TrafficEnd::Nodes(on) => {
            for on in on {
                targets.push(Target {
                    address: access.node(*on)?.address(),
                    ports: given(&[]),
                    look: look(KUBELET_PORT),
                    inside: None,
                    outside: Some(*on),
                });
            }
        }
        TrafficEnd::Component { name, on } => {
            let own = serving::ports(*name);
            let look = look(own.first().copied().unwrap_or_default());
            for on in on {
                let address = access.node(*on)?.address();
                // What is on the same node may reach it by its loopback address: an apiserver its
                // etcd, the kubelet the liveness endpoints.
                for (address, inside) in [(address, None), ([127, 0, 0, 1].into(), Some(*on))] {
                    let ports = given(own);
                    targets.push(Target { address, ports, look, inside, outside: None });
                }
            }
        }
        TrafficEnd::Pods { namespace, labels } => {
            for pod in pods(namespace, labels, access).await? {
                let address = own_address(&pod)?;
                let look = look(first_port(&pod));
                targets.push(Target {
                    address,
                    ports: given(&[]),
                    look,
                    inside: None,
                    outside: None,
                });
            }
        }
        TrafficEnd::Service(name) => targets = behind_service(name, &traffic.ports, access).await?,
        TrafficEnd::LoadBalancer => {
            let at = access.cluster().load_balancer();
            let mut nodes = access.cluster().nodes().iter();
            let itself = nodes.find(|node| node.address() == at.ip()).map(|node| node.id());
            targets.push(load_balancer(at, &traffic.ports, itself));
        }
    }
    Ok(targets)
}

/// The load balancer; with one master it may be that master itself.
fn load_balancer(at: SocketAddr, wanted: &[u16], itself: Option<NodeRef>) -> Target {
    let ports = if wanted.is_empty() { vec![at.port()] } else { wanted.to_vec() };
    let look = ports.first().copied().unwrap_or_default();
    Target { address: at.ip(), ports, look, inside: None, outside: itself }
}

/// The pods with these labels, of which there must be some.
async fn pods(
    namespace: &str,
    labels: &BTreeMap<String, String>,
    access: &Access,
) -> Result<Vec<Pod>, ClusterError> {
    let selector: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let selector = selector.join(",");
    let params = ListParams::default().labels(&selector);
    let params = &params;
    let listing = |client: Client| async move {
        Api::<Pod>::namespaced(client, namespace).list(params).await.map(|list| list.items)
    };
    let found = read(&format!("the pods {selector} in {namespace}"), access, listing).await?;
    let alive = |pod: &Pod| pod.metadata.deletion_timestamp.is_none();
    let found: Vec<_> = found.into_iter().filter(alive).collect();
    if found.is_empty() {
        return Err(ClusterError::new(format!("{namespace} has no pods {selector}")));
    }
    Ok(found)
}

/// The pod's own address.
fn own_address(pod: &Pod) -> Result<IpAddr, ClusterError> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    if pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true) {
        let what = format!("pod {name} is in its node's network: name the node instead");
        return Err(ClusterError::new(what));
    }
    let address = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref());
    let address = address.and_then(|text| text.parse().ok());
    address.ok_or_else(|| ClusterError::new(format!("pod {name} has no address yet")))
}

/// The first port that a pod says it has; without one any will do.
fn first_port(pod: &Pod) -> u16 {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
    ports.find_map(|port| u16::try_from(port.container_port).ok()).unwrap_or(80)
}

async fn behind_service(
    name: &str,
    wanted: &[u16],
    access: &Access,
) -> Result<Vec<Target>, ClusterError> {
    let (namespace, name) = name
        .split_once('/')
        .ok_or_else(|| ClusterError::new(format!("{name} is not namespace/name")))?;
    let what = format!("Service {name} in {namespace}");
    let reading = |client: Client| async move {
        Api::<Service>::namespaced(client, namespace).get(name).await
    };
    let service = read(&what, access, reading).await?;
    let params = ListParams::default().labels(&format!("kubernetes.io/service-name={name}"));
    let params = &params;
    let listing = |client: Client| async move {
        Api::<EndpointSlice>::namespaced(client, namespace).list(params).await
    };
    let slices = read(&format!("the endpoints of {what}"), access, listing).await?.items;
    service_targets(&service, &slices, wanted)
        .map_err(|why| ClusterError::new(format!("{what}: {why}")))
}

/// The virtual address with the Service's ports, and each endpoint with the ports that stand for
/// them.
fn service_targets(
    service: &Service,
    slices: &[EndpointSlice],
    wanted: &[u16],
) -> Result<Vec<Target>, String> {
    let spec = service.spec.as_ref().ok_or("it has no spec")?;
    let all = spec.ports.iter().flatten().map(|port| {
        let number = u16::try_from(port.port).map_err(|_| format!("its port is {}", port.port))?;
        Ok((port.name.clone().unwrap_or_default(), number))
    });
    let mut ports = all.collect::<Result<Vec<_>, String>>()?;
    ports.retain(|(_, port)| wanted.is_empty() || wanted.contains(port));
    let numbers: Vec<u16> = ports.iter().map(|(_, port)| *port).collect();
    let Some(look) = numbers.first().copied() else {
        return Err(format!("it has none of the ports {wanted:?}"));
    };
    let target =
        |address, ports, look| Target { address, ports, look, inside: None, outside: None };
    let virtual_address = spec.cluster_ip.as_deref().and_then(|text| text.parse().ok());
    let mut targets: Vec<Target> =
        virtual_address.map(|address| target(address, numbers, look)).into_iter().collect();
    for slice in slices {
        let named = slice.ports.iter().flatten().filter(|port| {
            ports.iter().any(|(name, _)| *name == port.name.clone().unwrap_or_default())
        });
        let own: Vec<u16> = named.filter_map(|port| u16::try_from(port.port?).ok()).collect();
        let Some(look) = own.first().copied() else { continue };
        let addresses = slice.endpoints.iter().flatten().flat_map(|endpoint| &endpoint.addresses);
        for address in addresses.filter_map(|text| text.parse().ok()) {
            targets.push(target(address, own.clone(), look));
        }
    }
    if targets.is_empty() {
        Err("it has neither an address nor endpoints".into())
    } else {
        Ok(targets)
    }
}

/// Reads through one master's apiserver after another until one answers.
async fn read<T, Fut>(
    what: &str,
    access: &Access,
    reading: impl Fn(Client) -> Fut,
) -> Result<T, ClusterError>
where
    Fut: Future<Output = kube::Result<T>>,
{
    let mut last = "the cluster has no master".to_owned();
    for master in access.masters() {
        let asking = reading(access.kube(master.id())?);
        last = match tokio::time::timeout(READ, asking).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(error)) => words(&error),
            Err(_) => format!("{} gave no answer in {READ:?}", master.id()),
        };
    }
    Err(ClusterError::new(format!("read {what}: {last}")))
}

/// Places that a source may reach, for a control path beside what is hit: kubelets, which listen
/// everywhere.
pub(super) fn candidates(source: &Source, access: &Access) -> Vec<SocketAddr> {
    let nodes = access.cluster().nodes().iter().filter(|node| node.powered());
    let mut places: Vec<_> =
        nodes.map(|node| SocketAddr::new(node.address(), KUBELET_PORT)).collect();
    if source.pods.is_empty() {
        places.push(([127, 0, 0, 1], KUBELET_PORT).into());
    }
    places
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_service_is_its_address_and_its_endpoints_with_their_own_ports() {
        let service = serde_json::from_value(json!({"spec": {
            "clusterIP": "10.96.0.9",
            "ports": [{"name": "https", "port": 443}, {"name": "metrics", "port": 9090}],
        }}))
        .unwrap();
        let slice = serde_json::from_value(json!({
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.244.1.5"]}, {"addresses": ["10.244.2.6"]}],
            "ports": [{"name": "https", "port": 10250}, {"name": "metrics", "port": 9091}],
        }))
        .unwrap();
        let targets = service_targets(&service, &[slice], &[443]).unwrap();
        let said: Vec<_> =
            targets.iter().map(|t| format!("{} {:?} {}", t.address, t.ports, t.look)).collect();
        assert_eq!(
            said,
            ["10.96.0.9 [443] 443", "10.244.1.5 [10250] 10250", "10.244.2.6 [10250] 10250"]
        );
        assert!(service_targets(&service, &[], &[80]).is_err());
        let headless = serde_json::from_value(json!({"spec": {
            "clusterIP": "None", "ports": [{"port": 80}],
        }}))
        .unwrap();
        assert!(service_targets(&headless, &[], &[]).is_err());
    }

    #[test]
    fn the_load_balancer_is_its_address_and_its_own_port() {
        let at = "10.77.0.2:6443".parse().unwrap();
        let target = load_balancer(at, &[], None);
        assert!(target.hits(at) && !target.hits("10.77.0.2:443".parse().unwrap()));
        assert_eq!((target.look, target.outside), (6443, None));
        let target = load_balancer(at, &[443], Some(NodeRef::Master(1)));
        assert_eq!((target.ports, target.look), (vec![443], 443));
        assert_eq!(target.outside, Some(NodeRef::Master(1)));
    }

    #[test]
    fn a_pod_on_its_nodes_network_has_no_address_of_its_own() {
        let pod = |host| {
            serde_json::from_value(json!({
                "spec": {"hostNetwork": host, "containers": [
                    {"name": "a"}, {"name": "b", "ports": [{"containerPort": 8080}]},
                ]},
                "status": {"podIP": "10.0.0.1"},
            }))
            .unwrap()
        };
        assert!(own_address(&pod(true)).is_err());
        assert_eq!(own_address(&pod(false)).unwrap().to_string(), "10.0.0.1");
        assert_eq!(first_port(&pod(false)), 8080);
    }
}
