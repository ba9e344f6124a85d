//! Nodes as they are found: locks held by other users, links without a carrier, interfaces with long
//! names, a default route that moves, IPAM plugins of other programs.

use std::time::{Duration, Instant};

use oxcni_tests::{Host, Network, both_flavours, with_keys};
use serde_json::{Value, json};

fn config(rest: Value) -> Value {
    with_keys(
        json!({
            "cniVersion": "1.1.0", "name": "net", "type": "bridge", "bridge": "br-test", "isGateway": true,
            "ipam": { "type": "host-local", "subnet": "10.1.2.0/24" },
        }),
        rest,
    )
}

/// A bound against hanging only.
const SOON: Duration = Duration::from_secs(20);

/// An IPAM plugin of another program, which records at DEL whether the interface exists.
fn foreign_ipam(host: &Host) {
    host.install_script(
        "/run/foreign/elsewhere",
        "#!/bin/sh\ncat > /dev/null\ncase $CNI_COMMAND in\n\
         ADD) echo '{\"cniVersion\":\"1.1.0\",\"ips\":[{\"address\":\"10.1.2.77/24\"}]}' ;;\n\
         DEL) nsenter --net=$CNI_NETNS ip link show eth0 > /dev/null 2>&1 && echo with >> /run/del || echo without >> /run/del ;;\n\
         esac\n",
    );
}

fn assign_type(host: &Host, link: &str) -> String {
    host.sh(&format!("cat /sys/class/net/{link}/addr_assign_type")).trim().to_owned()
}

/// The kernel puts a link whose master is of its own kind on that one's lower device. CHECK knows that: on
/// the host, with the master in the container, and where the plugin's own namespace is the container's.
fn stacked(kind: &str, host: &Host) {
    host.ip("link add eth1 type veth peer name eth1-peer; link set eth1 up");
    host.ip(&format!("link add below link eth1 type {kind}; link set below up"));
    let network = |rest: Value| {
        let own = json!({ "type": kind, "master": "below", "isGateway": null });
        host.network(config(with_keys(own, rest))).ifname("net1")
    };
    let (net, pod) = (network(json!({})), host.container());
    let result = net.add(&pod).result();
    assert_eq!(pod.link("net1")["link_index"], host.link("eth1")["ifindex"]);
    net.check(&pod, &result).succeeds();
    network(json!({ "master": "eth1-peer" })).check(&pod, &result).fails(102, &["eth1-peer"]);
    net.del(&pod).succeeds();

    let own = |net: &Network<'_>, command| {
        let call = net.call(command, &pod).env("CNI_NETNS_OVERRIDE", "1");
        call.env("CNI_NETNS", "/proc/self/ns/net").run()
    };
    for master in ["below", "eth1"] {
        let net = network(json!({ "master": master }));
        let result = own(&net, "ADD").result();
        assert_eq!(host.link("net1")["link"], "eth1");
        own(&net.after(&result), "CHECK").succeeds();
        own(&net, "DEL").succeeds();
        assert!(host.link("net1").is_null());
    }

    host.ip("link set below netns c1");
    pod.ip("link set below up");
    let net = network(json!({ "linkInContainer": true }));
    let result = net.add(&pod).result();
    assert_eq!(pod.link("net1")["link_index"], host.link("eth1")["ifindex"]);
    net.check(&pod, &result).succeeds();
    net.del(&pod).succeeds();
}

both_flavours! {
    fn the_later_of_two_equal_routes_wins_in_ipv4_and_joins_in_ipv6(host) {
        let pod = host.container();
        pod.ip("link add name net9 type veth peer name far9; link set far9 up; link set net9 up; \
            addr add 10.200.0.2/24 dev net9; addr add fd00:9::2/64 dev net9 nodad; \
            route add default via 10.200.0.1 dev net9; route add ::/0 via fd00:9::1 dev net9 metric 1024");
        host.network(config(json!({
            "ipam": {
                "type": "static", "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
                "addresses": [{ "address": "10.1.2.3/24", "gateway": "10.1.2.1" }, { "address": "fd00:1::3/64", "gateway": "fd00:1::1" }],
            },
        }))).add(&pod).succeeds();
        let way = pod.sh("ip route get 192.0.2.1");
        assert!(way.contains("dev eth0"), "{way}\n{}", pod.sh("ip route"));
        let joined = pod.sh("ip -6 route show default");
        assert!(joined.contains("dev eth0") && joined.contains("dev net9"), "{joined}");
    }

    fn a_lock_of_another_user_on_the_namespace_holds_nobody_up(host) {
        let started = Instant::now();
        // The path is one that every user can open.
        let mut holder = host.enter(|| {
            std::process::Command::new("setpriv")
                .args(["--reuid=65534", "--regid=65534", "--clear-groups", "flock", "-x", "/proc/self/ns/net"])
                .args(["sh", "-c", "echo held; exec sleep 60"])
                .stdout(std::process::Stdio::piped())
                .spawn()
                .expect("setpriv and flock")
        });
        let mut line = String::new();
        let stdout = holder.stdout.take().expect("a pipe");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).expect("a line");
        assert_eq!(line, "held\n");
        let (net, pod) = (host.network(config(json!({}))), host.container());
        net.add(&pod).succeeds();
        net.del(&pod).succeeds();
        holder.kill().expect("the holder runs");
        holder.wait().expect("the holder ends");
        assert!(started.elapsed() < SOON);
        let locks = host.sh("stat -c '%a %U' /run/oxcni/locks; setpriv --reuid=65534 --clear-groups ls /run/oxcni/locks 2>&1 || true");
        assert!(locks.starts_with("700 root") && locks.contains("Permission denied"), "{locks}");
    }

    fn duplicate_detection_is_awaited_for_a_gateway_and_a_carrier_only(host) needs [Macvlan] {
        host.sh("ip link add eth1 type veth peer name eth1-peer; ip link set eth1 up");
        let address = |gateway: Value| json!({ "type": "macvlan", "master": "eth1",
            "ipam": { "type": "static", "addresses": [{ "address": "fd00:1::9/64", "gateway": gateway }] } });
        let pod = host.container();
        // eth1-peer is down: eth1 has no carrier, and detection never ends.
        for gateway in [json!(""), json!("fd00:1::1")] {
            let net = host.network(config(address(gateway))).with("isGateway", None);
            let result = net.add(&pod).result();
            net.check(&pod, &result).succeeds();
            net.del(&pod).succeeds();
        }
    }

    fn standard_error_that_can_not_be_written_fails_nothing(host) {
        let net = host.network(config(json!({ "ipMasqBackend": "iptables", "ipMasq": true })));
        for redirection in ["2>/dev/full", "2>&-"] {
            let pod = host.container();
            net.call("ADD", &pod).redirected(redirection).run().succeeds();
            net.call("DEL", &pod).redirected(redirection).run().succeeds();
        }
    }

    fn arguments_do_not_keep_a_plugin_from_its_command(host) {
        let (net, pod) = (host.network(config(json!({}))), host.container());
        net.call("ADD", &pod).arg("--help").run().succeeds();
        assert!(!pod.link("eth0").is_null());
        net.call("DEL", &pod).arg("x").run().succeeds();
        assert!(pod.link("eth0").is_null());
    }

    fn an_ipam_plugin_of_another_program_finds_the_interface_at_del(host) {
        foreign_ipam(&host);
        let (net, pod) = (host.network(config(json!({ "ipam": { "type": "elsewhere" } }))), host.container());
        let net = net.path_before("/run/foreign");
        net.add(&pod).succeeds();
        net.del(&pod).succeeds();
        assert!(pod.link("eth0").is_null());
        // Also where ADD fails after the addresses were assigned, and where the link is gone.
        let failing = host.network(config(json!({ "ipam": { "type": "elsewhere" }, "cniVersion": "0.2.0" })));
        host.sh("ip addr flush dev br-test; ip addr add 10.1.2.200/24 dev br-test");
        failing.path_before("/run/foreign").add(&pod).fails(7, &["10.1.2.200"]);
        net.del(&pod).succeeds();
        assert_eq!(host.sh("cat /run/del"), "with\nwith\nwithout\n");
    }

    fn an_alternative_name_is_a_masters_name(host) needs [Macvlan] {
        let name = format!("uplink-{}", "x".repeat(120));
        host.sh(&format!("ip link add eth1 type veth peer name eth1-peer; ip link set eth1 up; ip link property add dev eth1 altname {name}"));
        let net = host.network(config(json!({ "type": "macvlan", "master": name }))).with("isGateway", None);
        let pod = host.container();
        let result = net.add(&pod).result();
        net.check(&pod, &result).succeeds();
        net.del(&pod).succeeds();
    }

    fn check_holds_when_the_default_route_has_moved(host) needs [Macvlan] {
        host.sh("for i in 1 2; do ip link add eth$i type veth peer name peer$i; ip link set eth$i up; ip link set peer$i up; ip addr add 192.0.$i.2/24 dev eth$i; done; ip route add default via 192.0.1.1");
        let net = host.network(config(json!({ "type": "macvlan" }))).with("isGateway", None);
        let pod = host.container();
        let result = net.add(&pod).result();
        host.sh("ip route replace default via 192.0.2.1");
        net.check(&pod, &result).succeeds();
        host.sh("ip route del default");
        net.check(&pod, &result).succeeds();
        pod.sh("ip addr del 10.1.2.2/24 dev eth0");
        net.check(&pod, &result).fails(102, &["10.1.2.2"]);
    }

    fn a_macvlan_on_a_macvlan_is_on_the_device_below(host) needs [Macvlan] {
        stacked("macvlan", &host);
    }

    fn an_ipvlan_on_an_ipvlan_is_on_the_device_below(host) needs [Ipvlan] {
        stacked("ipvlan", &host);
    }

    fn the_kernel_numbers_no_bridge_of_ours(host) {
        let pod = host.container();
        host.network(config(json!({ "bridge": "br%d" }))).add(&pod).fails(7, &["br%d", "%"]);
        host.network(config(json!({}))).ifname("eth%d").add(&pod).fails(4, &["eth%d"]);
        assert!(host.link("br0").is_null());
    }

    fn a_bridge_that_existed_keeps_its_way_to_an_address_when_add_fails(host) {
        host.sh("ip link add name br-test type bridge; ip link add p type veth peer name q; ip link set p master br-test; ip link set p up; ip link set q up");
        let before = assign_type(&host, "br-test");
        let net = host.network(config(json!({ "mac": "", "args": {}, "ipMasq": true })));
        host.sh("ip addr add 10.1.3.1/24 dev br-test");
        let pod = host.container();
        net.add(&pod).fails(7, &["10.1.3.1"]);
        assert_eq!(assign_type(&host, "br-test"), before);
        host.sh("ip addr flush dev br-test");
        let result = net.add(&pod).result();
        assert_eq!(assign_type(&host, "br-test"), "3");
        assert_eq!(result["interfaces"][0]["mac"], host.link("br-test")["address"]);
        net.check(&pod, &result).succeeds();
        net.del(&pod).succeeds();
    }

    fn check_accepts_what_go_leaves_of_a_vlan_in_its_own_trunk(host) needs [BridgeVlan] {
        let net = host.network(config(json!({ "vlan": 7, "vlanTrunk": [{ "minID": 5, "maxID": 9 }], "isGateway": false })));
        let pod = host.container();
        let result = net.add(&pod).result();
        net.check(&pod, &result).succeeds();
        let port = result["interfaces"][1]["name"].as_str().expect("a name").to_owned();
        host.sh(&format!("bridge vlan add dev {port} vid 7"));
        net.check(&pod, &result).succeeds();
        host.sh(&format!("bridge vlan del dev {port} vid 7"));
        net.check(&pod, &result).fails(102, &["VLAN 7"]);
    }

    fn what_go_ignores_is_ignored(host) {
        let pod = host.container();
        for rest in [json!({ "mtu": -1 }), json!({ "ipMasqBackend": "pf" })] {
            host.network(config(rest)).add(&pod).succeeds();
            host.network(config(json!({}))).del(&pod).succeeds();
        }
        host.network(config(json!({ "ipMasqBackend": "pf", "ipMasq": true }))).add(&pod).fails(7, &["pf"]);
    }

    fn the_interface_of_a_vlans_gateway_needs_a_name_where_it_is_made(host) needs [BridgeVlan] {
        let net = |rest: Value| {
            let own = json!({ "bridge": "br-of-15-letter", "vlan": 4000 });
            host.network(config(with_keys(own, rest)))
        };
        let pod = host.container();
        net(json!({})).add(&pod).fails(7, &["VLAN 4000", "a shorter name"]);
        for without_gateway in [json!({ "isGateway": false }), json!({ "ipam": {} })] {
            let net = net(without_gateway);
            let result = net.add(&pod).result();
            net.check(&pod, &result).succeeds();
            net.del(&pod).succeeds();
        }
    }

    fn check_finds_the_bridge_or_the_port_down(host) {
        let (net, pod) = (host.network(config(json!({}))), host.container());
        let result = net.add(&pod).result();
        net.check(&pod, &result).succeeds();
        let port = result["interfaces"][1]["name"].as_str().expect("a name").to_owned();
        for name in ["br-test", &port] {
            host.sh(&format!("ip link set {name} down"));
            net.check(&pod, &result).fails(102, &[name, "down"]);
            host.sh(&format!("ip link set {name} up"));
        }
    }

    fn del_leaves_a_link_that_is_not_ours(host) {
        let (net, pod) = (host.network(config(json!({}))), host.container());
        net.add(&pod).succeeds();
        pod.sh("ip link del eth0; ip link set lo down; ip link set lo name eth0");
        net.del(&pod).succeeds();
        assert!(!pod.link("eth0").is_null());
        let again = host.container();
        assert_eq!(net.add_addresses(&again), ["10.1.2.3"]);
        let held = host.sh("ls /var/lib/cni/networks/net");
        assert!(!held.contains("10.1.2.2"), "its address is released: {held}");
    }
}

both_flavours! {
    on_any_kernel: "decided before the kernel is asked";

    fn a_plugin_of_another_kind_is_no_ipam_plugin(host) {
        let pod = host.container();
        for kind in ["bridge", "multus", "tuning", "macvlan"] {
            let net = host.network(config(json!({ "ipam": { "type": kind, "binDir": "/run", "delegates": [] } })));
            let add = net.add(&pod);
            if host.plugins() == oxcni_tests::Plugins::Multicall || kind == "bridge" {
                add.fails(7, &[kind, "not an IPAM plugin"]);
            } else {
                assert!(!add.ok(), "{kind}");
            }
            net.del(&pod).succeeds();
            assert!(pod.link("eth0").is_null());
        }
    }
}
