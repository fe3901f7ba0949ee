//! Where things are in a lab: folders, addresses, names.

use serde::{Deserialize, Serialize};

/// What the lab's first process needs from the host's file system.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct LabPaths {
    /// The lab's own folder: everything it leaves is in there.
    pub folder: String,
    /// The unpacked distribution packages that nodes are made of.
    pub node_root: String,
    /// This program.
    pub exe: String,
}

/// Fixed places in the control room, the root of the lab's first process.
pub(super) struct ControlPaths {
    pub lab: &'static str,
    pub node_root: &'static str,
    pub exe: &'static str,
    pub cgroup: &'static str,
    pub dev: &'static str,
}

pub(super) const CONTROL: ControlPaths = ControlPaths {
    lab: "/outage/lab",
    node_root: "/outage/node-root",
    exe: "/outage/exe",
    cgroup: "/outage/cgroup",
    dev: "/outage/dev",
};

/// The network between nodes.
pub(super) mod network {
    use std::fmt::Write;
    use std::net::Ipv4Addr;

    use crate::cluster::agent::wire::NodeSpec;

    /// Every node's default route: a dead end.
    pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
    /// Where the dead end's own default route leads: kubeadm wants one. What nodes send there is
    /// dropped before, since the dead end does not forward.
    const NOBODY: Ipv4Addr = Ipv4Addr::new(10, 77, 255, 254);
    /// The load balancer before the apiservers.
    pub const LOAD_BALANCER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
    /// The hardware address behind both.
    pub const HARDWARE: &str = "02:00:0a:4d:ff:00";
    /// The addresses of all pods.
    pub const PODS: &str = "10.244.0.0/16";
    /// The virtual addresses of Services.
    pub const SERVICES: &str = "10.96.0.0/16";
    /// Settings of a node's network namespace: pods' traffic is forwarded, from any side.
    pub const SYSCTLS: [(&str, &str); 4] = [
        ("ipv4/ip_forward", "1"),
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv4/conf/default/rp_filter", "0"),
        ("ipv4/conf/eth0/rp_filter", "0"),
    ];

    /// The address of the node with this number.
    pub fn address(number: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, number)
    }

    /// The addresses of the pods on the node with this number.
    pub fn pods(number: u8) -> String {
        format!("10.244.{number}.0/24")
    }

    /// `ip -batch` lines that make the bridge. Without a hardware address of its own it would have
    /// the lowest of its cables', and another one when that cable goes: nodes would send what is
    /// for the load balancer to the old one, for up to a minute, as Linux keeps what it knows of
    /// its neighbours (`br_stp_recalculate_bridge_id` in `net/bridge/br_stp_if.c`).
    pub fn control_batch() -> String {
        format!(
            "link set lo up\n\
             link add br0 address {HARDWARE} type bridge\n\
             addr add {GATEWAY}/16 dev br0\n\
             addr add {LOAD_BALANCER}/16 dev br0\n\
             link set br0 up\n\
             route add default via {NOBODY}\n"
        )
    }

    /// `ip -batch` lines that lay a cable from the bridge to a node's namespace. The hardware
    /// address is the node's for good, so that peers need not learn it anew after a power cycle.
    pub fn cable_batch(node: &NodeSpec, pid: i32) -> String {
        let number = node.number;
        format!(
            "link add c{pid} type veth peer name eth0 address 02:00:0a:4d:00:{number:02x} netns {pid}\n\
             link set c{pid} master br0 up\n"
        )
    }

    /// `ip -batch` lines that take the cable away again, with both its ends.
    pub fn uncable_batch(pid: i32) -> String {
        format!("link delete c{pid}\n")
    }

    /// `nft -f` lines run in a node's namespace. What is sent to a Service that kube-proxy has not
    /// (yet) translated is refused at once: silence would cost a client that started a moment too
    /// early its whole time-out.
    pub fn node_rules() -> String {
        let refuse = format!("ip daddr {SERVICES} oifname \"eth0\" reject");
        format!(
            "table inet outage {{\n\
             chain output {{ type filter hook output priority 0; {refuse}; }}\n\
             chain forward {{ type filter hook forward priority 0; {refuse}; }}\n\
             }}\n"
        )
    }

    /// `ip -batch` lines run in a node's namespace; `peers` are the numbers of the other nodes.
    pub fn node_batch(number: u8, peers: impl IntoIterator<Item = u8>) -> String {
        let mut batch = format!(
            "link set lo up\n\
             addr add {}/16 dev eth0\n\
             link set eth0 up\n\
             route add default via {GATEWAY}\n",
            address(number)
        );
        for peer in peers {
            // Writing to a String can't fail.
            let _ = writeln!(batch, "route add {} via {}", pods(peer), address(peer));
        }
        batch
    }
}
