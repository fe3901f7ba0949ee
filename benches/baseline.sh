#!/usr/bin/env bash
# The yardstick of start.rs: starts the same nodes as a lab, with the same binaries, packages, image
# store, addresses and settings, by unshare, ip, mount and kubeadm, the way one would write it down
# first: everything is forked as soon as it can be, and nothing is held back. What has to wait waits
# for one thing, looked at every 20 ms or less.
#
# start.rs runs it, hands over the variables below, reads the milestones from its standard output
# and ends it by closing its standard input. Everything lives in namespaces that end with its first
# process. Needs bash 5, curl 7.84 and util-linux.
#
#   MASTERS WORKERS      how many nodes
#   KUBERNETES           version, without v; 1.31 or later (kubeadm's v1beta4)
#   NODE_ROOT            the unpacked packages that nodes are made of
#   STORE                containerd's folder with all images unpacked
#   PAUSE                reference of the pause image
#   KUBELET KUBEADM KUBECTL ETCDCTL OUTAGE
#                        programs; OUTAGE stands in for runc
#   WORK                 an empty folder on the file system of STORE
set -euo pipefail
: "${MASTERS:?}" "${WORKERS:?}" "${KUBERNETES:?}" "${NODE_ROOT:?}" "${STORE:?}" "${PAUSE:?}"
: "${KUBELET:?}" "${KUBEADM:?}" "${KUBECTL:?}" "${ETCDCTL:?}" "${OUTAGE:?}" "${WORK:?}"

# ------------------------------------------------------------------------------------------------
# What both parts of the script know

masters=() workers=()
for ((i = 1; i <= MASTERS; i++)); do masters+=("master-$i"); done
for ((i = 1; i <= WORKERS; i++)); do workers+=("worker-$i"); done
nodes=("${masters[@]}" "${workers[@]}")

# The last part of a node's address, and the third of its pods'.
number() {
    case $1 in
    master-*) echo $((10 + ${1#master-})) ;;
    worker-*) echo $((20 + ${1#worker-})) ;;
    esac
}

# Waits a moment without forking: nothing is ever written to this descriptor.
exec {nothing}<> <(:)
pause() { read -rt 0.01 -u "$nothing" || :; }

await_file() { until [ -e "$1" ]; do pause; done; }

read_only() { mount -o "remount,bind,ro,nosuid,nodev,noexec" "$1"; }

# kubeadm's configuration for a node, with the certificates in this folder.
kubeadm_yaml() {
    local name=$1 certificates=$2 initial='' master
    for master in "${masters[@]}"; do
        initial+="${initial:+,}$master=https://10.77.0.$(number "$master"):2380"
    done
    cat <<YAML
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint: {advertiseAddress: 10.77.0.$(number "$name"), bindPort: 6443}
nodeRegistration:
  name: $name
  criSocket: unix:///run/containerd/containerd.sock
  kubeletExtraArgs: [{name: node-ip, value: 10.77.0.$(number "$name")}]
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
clusterName: outage
certificatesDir: $certificates
kubernetesVersion: v$KUBERNETES
controlPlaneEndpoint: 10.77.0.2:6443
networking: {serviceSubnet: 10.96.0.0/16}
etcd:
  local:
    dataDir: /var/lib/etcd
    extraArgs:
    - {name: initial-cluster, value: "$initial"}
    - {name: initial-cluster-state, value: new}
---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupsPerQOS: false
enforceNodeAllocatable: [none]
failCgroupV1: false
failSwapOn: false
featureGates: {KubeletInUserNamespace: true}
localStorageCapacityIsolation: false
evictionHard: {nodefs.available: 0%, nodefs.inodesFree: 0%, imagefs.available: 0%}
imageGCHighThresholdPercent: 100
cgroupDriver: cgroupfs
resolvConf: /etc/resolv.conf
---
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: iptables
clusterCIDR: 10.244.0.0/16
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
YAML
}

# ------------------------------------------------------------------------------------------------
# A node: run as the first process of its own PID namespace, in its own network

# Everything below the node's root, which is an overlay over the packages.
lay_out_root() {
    local name=$1 number=$2 root=$3 at
    mount -t overlay -o "lowerdir=$NODE_ROOT,upperdir=${root%root}upper,workdir=${root%root}work,userxattr" \
        overlay "$root"
    mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
    mount -t sysfs -o nosuid,nodev,noexec sysfs "$root/sys"
    mount -t tmpfs -o nosuid,mode=755,size=1m tmpfs "$root/dev"
    mount -t tmpfs -o nosuid,nodev,mode=755 tmpfs "$root/run"
    mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs "$root/tmp"
    # Kernel settings are the host's, but those of the network are the node's.
    mount --bind "$root/proc/sys" "$root/proc/sys"
    read_only "$root/proc/sys"
    mount --bind /proc/sys/net "$root/proc/sys/net"
    read_only "$root/sys"
    mount --rbind /sys/fs/cgroup "$root/sys/fs/cgroup"
    for at in null zero full random urandom tty; do
        : >"$root/dev/$at"
        mount --bind "/dev/$at" "$root/dev/$at"
    done
    ln -s /proc/self/fd "$root/dev/fd"
    ln -s /proc/self/fd/0 "$root/dev/stdin"
    ln -s /proc/self/fd/1 "$root/dev/stdout"
    ln -s /proc/self/fd/2 "$root/dev/stderr"
    ln -s pts/ptmx "$root/dev/ptmx"
    mkdir -p "$root/dev/pts" "$root/dev/shm" "$root/var/lib/containerd" "$root/usr/local/bin" "$root/run/made"
    mount -t devpts -o nosuid,newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
    mount -t tmpfs -o nosuid,mode=1777 tmpfs "$root/dev/shm"
    mount --bind "$WORK/nodes/$name/containerd" "$root/var/lib/containerd"
    mount --bind "$WORK/bin" "$root/usr/local/bin"
    mount --bind "$OUTAGE" "$root/usr/local/bin/outage-runc"
    mount --bind "$WORK/made" "$root/run/made"
    printf '127.0.0.1 localhost\n10.77.0.%s %s\n' "$number" "$name" >"$root/etc/hosts"
    echo 'nameserver 10.77.0.1' >"$root/etc/resolv.conf"
    echo "$name" >"$root/etc/hostname"
    # The same id as a lab's node has.
    printf '00006f7574616765%016x\n' "$number" >"$root/etc/machine-id"
}

containerd_toml() {
    cat <<TOML
version = 2
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs"]
[plugins."io.containerd.grpc.v1.cri"]
disable_cgroup = true
disable_apparmor = true
restrict_oom_score_adj = true
disable_hugetlb_controller = true
sandbox_image = "$PAUSE"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
BinaryName = "/usr/local/bin/outage-runc"
[plugins."io.containerd.grpc.v1.cri".cni]
conf_dir = "/etc/cni/net.d"
bin_dir = "/usr/lib/cni"
TOML
}

cni_json() {
    cat <<JSON
{"cniVersion": "0.4.0", "name": "outage", "plugins": [
  {"type": "ptp", "ipMasq": false, "ipam": {
    "type": "host-local", "dataDir": "/run/cni-ipam-state",
    "routes": [{"dst": "0.0.0.0/0"}], "ranges": [[{"subnet": "10.244.$1.0/24"}]]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
JSON
}

# Its address, its routes, and a refusal for Services that kube-proxy has not translated yet.
node_network() {
    local number=$1 peer
    {
        printf 'link set lo up\naddr add 10.77.0.%s/16 dev eth0\nlink set eth0 up\n' "$number"
        echo 'route add default via 10.77.0.1'
        for peer in "${nodes[@]}"; do
            peer=$(number "$peer")
            [ "$peer" = "$number" ] || echo "route add 10.244.$peer.0/24 via 10.77.0.$peer"
        done
    } | ip -batch -
    nft -f - <<'NFT'
table inet outage {
chain output { type filter hook output priority 0; ip daddr 10.96.0.0/16 oifname "eth0" reject; }
chain forward { type filter hook forward priority 0; ip daddr 10.96.0.0/16 oifname "eth0" reject; }
}
NFT
    echo 1 >/proc/sys/net/ipv4/ip_forward
    local interface
    for interface in all default eth0; do
        echo 0 >"/proc/sys/net/ipv4/conf/$interface/rp_filter"
    done
}

# Waits for the authorities and has kubeadm make the rest. All but these phases are skipped: certs,
# kubeconfig, etcd, control-plane and kubelet-start.
node_files() {
    local name=$1
    await_file /run/made/done
    if [[ $name == master-* ]]; then
        cp -r /run/made/pki /etc/kubernetes/
        kubeadm_yaml "$name" /etc/kubernetes/pki >/etc/kubernetes/kubeadm.yaml
        kubeadm init --config /etc/kubernetes/kubeadm.yaml \
            --skip-phases=preflight,wait-control-plane,upload-config,upload-certs,mark-control-plane,bootstrap-token,kubelet-finalize,addon,show-join-command
    else
        mkdir -p /etc/kubernetes/pki
        cp /run/made/pki/ca.crt /etc/kubernetes/pki/
        cp "/run/made/workers/$name/kubelet.conf" /etc/kubernetes/
        kubeadm_yaml "$name" /run/made/pki >/run/kubeadm.yaml
        kubeadm init phase kubelet-start --config /run/kubeadm.yaml
    fi
    # kubeadm drops empty lists, and names the folder that the worker's authorities were in.
    sed -i -e 's,/run/made/pki,/etc/kubernetes/pki,' \
        -e 's/^enforceNodeAllocatable:.*/enforceNodeAllocatable: []/' -e '/^- none$/d' \
        /var/lib/kubelet/config.yaml
}

# kubeadm's phases that talk to the cluster, all at once when something answers.
node_online() {
    local name=$1
    await_file /run/made/answering
    if [ "$name" = master-1 ]; then
        kubeadm init --config /etc/kubernetes/kubeadm.yaml \
            --skip-phases=preflight,certs,kubeconfig,etcd,control-plane,kubelet-start,wait-control-plane,upload-certs,kubelet-finalize,show-join-command
    else
        kubeadm init phase mark-control-plane --config /etc/kubernetes/kubeadm.yaml
    fi
}

node() {
    local name=$1 number
    number=$(number "$name")
    local folder=$WORK/nodes/$name root=$WORK/nodes/$name/disk/root
    hostname "$name"
    mkdir -p "$folder/containerd"
    # The store: files by hard link, databases by copy.
    cp -al "$STORE"/io.* "$folder/containerd/"
    local database
    while read -r database; do
        cp --remove-destination "$STORE/$database" "$folder/containerd/$database"
    done < <(cd "$STORE" && find io.* -name '*.db')
    lay_out_root "$name" "$number" "$root"
    cd "$root"
    pivot_root . .
    export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
    hash -r
    umount -l .
    cd /
    mount --make-rshared /
    node_network "$number"
    mkdir -p /etc/containerd /etc/cni/net.d /etc/kubernetes/manifests
    containerd_toml >/etc/containerd/config.toml
    cni_json "$number" >/etc/cni/net.d/10-outage.conflist
    containerd >/var/log/containerd.log 2>&1 &
    node_files "$name"
    if [ "$name" = master-1 ]; then
        cp /etc/kubernetes/super-admin.conf /run/made/
    fi
    # A kubelet without a container runtime ends at once.
    until [ -S /run/containerd/containerd.sock ]; do pause; done
    # shellcheck disable=SC1091,SC2086 # kubeadm has written it: words of a command line
    (
        . /var/lib/kubelet/kubeadm-flags.env
        exec kubelet --kubeconfig=/etc/kubernetes/kubelet.conf \
            --config=/var/lib/kubelet/config.yaml $KUBELET_KUBEADM_ARGS
    ) >/var/log/kubelet.log 2>&1 &
    if [[ $name == master-* ]]; then
        node_online "$name"
        : >"/run/made/online-$name"
    fi
    # The first process collects what is left behind, and stays.
    wait
}

# ------------------------------------------------------------------------------------------------
# The room that the nodes stand in

milestone() {
    local now=${EPOCHREALTIME/./}
    printf '%d.%03d %s\n' $(((now - started) / 1000000)) $(((now - started) / 1000 % 1000)) "$*"
}

# Bridge, dead end, load balancer's address, and a network namespace with its cable a node.
network() {
    echo 0 >/proc/sys/net/ipv4/ip_forward
    mkdir /run/netns
    {
        printf 'link set lo up\nlink add br0 type bridge\n'
        printf 'addr add 10.77.0.1/16 dev br0\naddr add 10.77.0.2/16 dev br0\n'
        printf 'link set br0 up\nroute add default via 10.77.255.254\n'
        local name number
        for name in "${nodes[@]}"; do
            number=$(number "$name")
            printf 'netns add %s\n' "$name"
            printf 'link add c%s type veth peer name eth0 address 02:00:0a:4d:00:%02x netns %s\n' \
                "$number" "$number" "$name"
            printf 'link set c%s master br0 up\n' "$number"
        done
    } | ip -batch -
}

# What all masters share, and the workers' kubeconfigs.
authorities() {
    local phase pids=() pid worker
    kubeadm_yaml master-1 "$WORK/made/pki" >"$WORK/authorities.yaml"
    for phase in ca front-proxy-ca etcd-ca sa; do
        "$KUBEADM" init phase certs "$phase" --config "$WORK/authorities.yaml" &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid"; done
    for worker in "${workers[@]}"; do
        "$KUBEADM" init phase kubeconfig kubelet --node-name "$worker" --cert-dir "$WORK/made/pki" \
            --kubeconfig-dir "$WORK/made/workers/$worker" --kubernetes-version "v$KUBERNETES" \
            --control-plane-endpoint 10.77.0.2:6443 --apiserver-advertise-address 10.77.0.11
        sed -i 's,server: .*,server: https://10.77.0.2:6443,' "$WORK/made/workers/$worker/kubelet.conf"
    done
    : >"$WORK/made/done"
}

load_balancer() {
    {
        printf 'global\n  log stdout format raw local0 notice\n  maxconn 4000\n'
        printf 'defaults\n  log global\n  mode tcp\n  option dontlognull\n'
        printf '  timeout connect 5000\n  timeout client 50000\n  timeout server 50000\n'
        printf 'frontend control-plane\n  bind 10.77.0.2:6443\n  default_backend kube-apiservers\n'
        printf 'backend kube-apiservers\n  option httpchk GET /healthz\n'
        local name
        for name in "${masters[@]}"; do
            printf '  server %s 10.77.0.%s:6443 check check-ssl verify none\n' "$name" "$(number "$name")"
        done
    } >/run/haproxy.cfg
    # From the packages, with their libraries.
    local root=/run/haproxy-root
    mkdir $root
    mount --rbind "$NODE_ROOT" $root
    mount -t tmpfs tmpfs $root/run
    mount --rbind /dev $root/dev
    cp /run/haproxy.cfg $root/run/
    PATH=/usr/sbin:/usr/bin exec chroot $root haproxy -W -db -f /run/haproxy.cfg
}

# Asks one address every 20 ms, on one connection, until the answer is 200.
await_ok() {
    grep -q -m1 '^200$' < <(exec curl -sk --rate 50/s --connect-timeout 2 -m 2 -o /dev/null \
        -w '%{stderr}%{http_code}\n' "$1?[1-1000000]" 2>&1)
}

# The same as the administrator, until a line of the table that kubectl would print matches.
await_table() {
    grep -q -m1 -E "$2" < <(exec curl -sNk --rate 50/s --connect-timeout 2 -m 2 \
        --cert "$WORK/admin.crt" --key "$WORK/admin.key" \
        -H 'Accept: application/json;as=Table;v=v1;g=meta.k8s.io' \
        "https://10.77.0.11:6443$1?includeObject=None&pretty=false&ask=[1-1000000]")
}

await_apiservers() {
    local name pids=() pid
    for name in "${masters[@]}"; do
        await_ok "https://10.77.0.$(number "$name"):6443/readyz" &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid"; done
    milestone "$MASTERS of $MASTERS apiservers ready"
}

# $1: what; $2: path; $3: pattern.
await_kubernetes() {
    await_table "$2" "$3"
    milestone "$1"
}

room() {
    mount -t tmpfs -o mode=755 tmpfs /run
    mkdir -p "$WORK/bin" "$WORK/made"
    cp -l "$KUBELET" "$KUBEADM" "$KUBECTL" "$ETCDCTL" "$WORK/bin/"
    : >"$WORK/bin/outage-runc"
    local at
    while read -r _ at _; do
        # Control groups are looked at, never changed.
        [[ $at != /sys/fs/cgroup* ]] || read_only "$at"
    done </proc/mounts
    network
    authorities >"$WORK/authorities.log" 2>&1 &
    local name disk
    for name in "${nodes[@]}"; do
        disk=$WORK/nodes/$name/disk
        mkdir -p "$disk"
        mount -t tmpfs -o mode=755,size=4g tmpfs "$disk"
        mkdir "$disk/upper" "$disk/work" "$disk/root"
        nsenter --net="/run/netns/$name" unshare --mount --ipc --uts --pid --fork --kill-child \
            bash "$0" node "$name" >"$WORK/$name.log" 2>&1 </dev/null &
    done
    # With a mount namespace of its own, it sees no folder of the nodes.
    (export -f load_balancer number && exec unshare --mount bash -c "
        masters=(${masters[*]}); load_balancer") >"$WORK/haproxy.log" 2>&1 &

    local all=()
    await_apiservers &
    all+=($!)
    await_ok https://10.77.0.2:6443/healthz
    : >"$WORK/made/answering"
    milestone 'load balancer answers'
    local conf=$WORK/made/super-admin.conf
    sed -n 's/.*client-certificate-data: //p' "$conf" | base64 -d >"$WORK/admin.crt"
    sed -n 's/.*client-key-data: //p' "$conf" | base64 -d >"$WORK/admin.key"
    local count=${#nodes[@]} apps=/apis/apps/v1/namespaces/kube-system
    # The columns: name, status, …; name, desired, current, ready, …; name, ready of wanted, …
    await_kubernetes "$count of $count nodes Ready" /api/v1/nodes "(\"Ready\",.*){$count}" &
    all+=($!)
    await_kubernetes 'kube-proxy running' $apps/daemonsets/kube-proxy \
        "\"kube-proxy\",[0-9]+,[0-9]+,$count," &
    all+=($!)
    await_kubernetes 'CoreDNS running' $apps/deployments/coredns '"coredns","([1-9][0-9]*)/\1"' &
    all+=($!)
    for name in "${masters[@]}"; do await_file "$WORK/made/online-$name"; done
    local pid
    for pid in "${all[@]}"; do wait "$pid"; done
    milestone up
    # Until whoever started it is done, or gone.
    read -r _ || :
}

case ${1-} in
'')
    export started=${EPOCHREALTIME/./}
    exec unshare --user --map-root-user --mount --pid --net --ipc --uts --fork --kill-child \
        --mount-proc bash "$0" room
    ;;
room) room ;;
node) node "$2" ;;
esac
