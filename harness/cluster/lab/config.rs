//! The files that tell upstream's programs what a lab is: kubeadm, containerd, the kubelet's flags,
//! the pod network, the load balancer. Every departure from kubeadm's defaults is made here and
//! listed in [`DEPARTURES`].

use std::fmt::Write;

use serde_json::{Value, json};

use super::layout::network;
use super::{Machine, Options};
use crate::assets::{Differences, KubeadmApi};
use crate::scenario::Component;

/// What differs from a cluster that `kubeadm init` and `kubeadm join` make on machines of their
/// own, in words.
pub(super) const DEPARTURES: [&str; 13] = [
    "kubelet: cgroupsPerQOS false, enforceNodeAllocatable [], feature gate \
     KubeletInUserNamespace, failCgroupV1 false: a user namespace has no cgroups to give, so pods \
     have no limits",
    "kubelet: localStorageCapacityIsolation false, eviction by disk and image garbage collection \
     off, failSwapOn false: disk and swap are the host's",
    "kubelet: cgroupDriver cgroupfs, resolvConf /etc/resolv.conf, node-ip by flag",
    "nodes: the disk is memory (a tmpfs), so etcd's fsync costs nothing; containerd's folder is on \
     the host's disk",
    "nodes: no DNS server outside the cluster, a default route to a dead end, and Service addresses \
     that kube-proxy has not translated are rejected",
    "containerd: disable_cgroup, disable_apparmor, restrict_oom_score_adj; runc through a wrapper \
     that takes rlimits, negative OOM scores, cgroup mounts and devpts's gid out",
    "containerd, runc, the CNI plugins and haproxy are the distribution's",
    "pause is catatonit -P",
    "kube-proxy: conntrack limits and timeouts 0 (left as they are)",
    "etcd members start together with a static initial-cluster instead of joining one by one",
    "masters are initialised by kubeadm init's phases each, with shared CAs; workers get their \
     kubelet.conf from kubeadm's kubeconfig phase instead of a TLS bootstrap; each kubelet's first client \
     certificate is laid where kubeadm's kubelet-finalize phase expects it",
    "pod CIDRs are fixed by node and routed statically, not allocated by the controller manager",
    "component images are packed from the binaries named above",
];

/// kubeadm's configuration for one node, whose certificates are in this folder.
pub(super) fn kubeadm(
    options: &Options,
    differences: &Differences,
    machines: &[Machine],
    machine: &Machine,
    certificates: &str,
) -> String {
    let masters: Vec<&Machine> = machines.iter().filter(|machine| machine.is_master()).collect();
    let initial = masters
        .iter()
        .map(|master| format!("{}=https://{}:2380", master.name, master.address()))
        .collect::<Vec<_>>()
        .join(",");
    let args = |component: Component, own: &[(&str, &str)]| {
        let mut flags: Vec<(String, String)> =
            own.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let theirs = options.settings.iter().filter(|(of, _, _)| *of == component);
        flags.extend(theirs.map(|(_, name, value)| (name.clone(), value.clone())));
        extra_args(differences.kubeadm_api, flags)
    };
    let api = differences.kubeadm_api.to_string();
    let taints: Value = if machines.iter().any(|machine| !machine.is_master()) {
        // kubeadm's own: the control-plane taint.
        Value::Null
    } else {
        json!([])
    };
    let mut registration = json!({
        "name": machine.name,
        "criSocket": "unix:///run/containerd/containerd.sock",
        "kubeletExtraArgs": extra_args(
            differences.kubeadm_api,
            vec![("node-ip".into(), machine.address().to_string())],
        ),
    });
    if !taints.is_null() {
        registration["taints"] = taints;
    }
    let documents = [
        json!({
            "apiVersion": api,
            "kind": "InitConfiguration",
            "localAPIEndpoint": {"advertiseAddress": machine.address().to_string(), "bindPort": 6443},
            "nodeRegistration": registration,
        }),
        json!({
            "apiVersion": api,
            "kind": "ClusterConfiguration",
            "clusterName": "outage",
            "certificatesDir": certificates,
            "kubernetesVersion": format!("v{}", options.kubernetes),
            "controlPlaneEndpoint": format!("{}:6443", network::LOAD_BALANCER),
            "networking": {"serviceSubnet": network::SERVICES},
            "apiServer": {"extraArgs": args(Component::KubeApiserver, &[])},
            "controllerManager": {"extraArgs": args(Component::KubeControllerManager, &[])},
            "scheduler": {"extraArgs": args(Component::KubeScheduler, &[])},
            "etcd": {"local": {
                "dataDir": "/var/lib/etcd",
                "extraArgs": args(Component::Etcd, &[
                    ("initial-cluster", &initial),
                    ("initial-cluster-state", "new"),
                ]),
            }},
        }),
        json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "cgroupsPerQOS": false,
            "enforceNodeAllocatable": ["none"],
            "failSwapOn": false,
            "featureGates": {"KubeletInUserNamespace": true},
            "localStorageCapacityIsolation": false,
            "evictionHard": {
                "nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%",
            },
            "imageGCHighThresholdPercent": 100,
            "cgroupDriver": "cgroupfs",
            "resolvConf": "/etc/resolv.conf",
        }),
        json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "iptables",
            "clusterCIDR": network::PODS,
            "conntrack": {
                "maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s",
            },
        }),
    ];
    let mut documents: Vec<Value> = documents.into();
    if differences.fail_cgroup_v1 {
        documents[2]["failCgroupV1"] = false.into();
    }
    // JSON is YAML.
    documents.iter().map(Value::to_string).collect::<Vec<_>>().join("\n---\n")
}

fn extra_args(api: KubeadmApi, flags: Vec<(String, String)>) -> Value {
    match api {
        KubeadmApi::V1beta3 => {
            Value::Object(flags.into_iter().map(|(name, value)| (name, value.into())).collect())
        }
        KubeadmApi::V1beta4 => Value::Array(
            flags.into_iter().map(|(name, value)| json!({"name": name, "value": value})).collect(),
        ),
    }
}

/// containerd's configuration, for 1.6 and 1.7.
pub(super) fn containerd(pause: &str) -> String {
    format!(
        r#"version = 2
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs"]
[plugins."io.containerd.grpc.v1.cri"]
disable_cgroup = true
disable_apparmor = true
restrict_oom_score_adj = true
disable_hugetlb_controller = true
sandbox_image = "{pause}"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
BinaryName = "/usr/local/bin/outage-runc"
[plugins."io.containerd.grpc.v1.cri".cni]
conf_dir = "/etc/cni/net.d"
bin_dir = "/usr/lib/cni"
"#
    )
}

/// The pod network of a node: point-to-point links and a range of its own. What is handed out is
/// forgotten at a power cycle, as the pods are.
pub(super) fn cni(machine: &Machine) -> String {
    json!({
        "cniVersion": "0.4.0",
        "name": "outage",
        "plugins": [
            {
                "type": "ptp",
                "ipMasq": false,
                "ipam": {
                    "type": "host-local",
                    "dataDir": "/run/cni-ipam-state",
                    "routes": [{"dst": "0.0.0.0/0"}],
                    "ranges": [[{"subnet": network::pods(machine.number)}]],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
    .to_string()
}

/// The load balancer, as kind configures it: TCP, with haproxy's default health check (every 2 s,
/// down after 3 failures, up after 2 successes) of `GET /healthz`. It logs what changes, not each
/// connection: it writes its log itself, between connections, and a disk that lets it wait for that
/// makes all clients and its health checks wait, too.
pub(super) fn haproxy<'a>(masters: impl Iterator<Item = &'a Machine>) -> String {
    let mut config = format!(
        "global\n  log stdout format raw local0 notice\n  maxconn 4000\n\
         defaults\n  log global\n  mode tcp\n  option dontlognull\n\
         \x20 timeout connect 5000\n  timeout client 50000\n  timeout server 50000\n\
         frontend control-plane\n  bind {}:6443\n  default_backend kube-apiservers\n\
         backend kube-apiservers\n  option httpchk GET /healthz\n",
        network::LOAD_BALANCER
    );
    for master in masters {
        // Writing to a String can't fail.
        let _ = writeln!(
            config,
            "  server {} {}:6443 check check-ssl verify none",
            master.name,
            master.address()
        );
    }
    config
}

/// Starts the kubelet as kubeadm's unit file for systemd does: with the flags that kubeadm wrote.
pub(super) const KUBELET: &str = r"
[ ! -f /var/lib/kubelet/kubeadm-flags.env ] || . /var/lib/kubelet/kubeadm-flags.env
exec kubelet --kubeconfig=/etc/kubernetes/kubelet.conf --config=/var/lib/kubelet/config.yaml $KUBELET_KUBEADM_ARGS
";
