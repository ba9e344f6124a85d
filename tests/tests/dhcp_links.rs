//! The dhcp plugin over the links that are not macvlan or bridge.

use oxcni_tests::dhcp::Dnsmasq;
use oxcni_tests::dhcp::dual_stack::{LEASED, RANGE, settled};
use oxcni_tests::{both_flavours, eventually};
use serde_json::{Value, json};

/// The clock of an emulated machine may run ten times too fast for a while.
const PATIENT: [&str; 2] = ["-resendtimeout", "5m"];

/// What dnsmasq needs to announce a prefix and to lease its addresses.
const IPV6: [&str; 2] = [LEASED, "--enable-ra"];

fn address(result: &Value) -> String {
    let cidr = result["ips"][0]["address"].as_str().expect("an address");
    cidr.split('/').next().unwrap_or_default().to_owned()
}

both_flavours! {
    fn containers_that_share_a_mac_address_have_leases_of_their_own(host) needs [Ipvlan] {
        let machine = host.veth_pair("eth1", "server", &["10.1.2.1/24"]);
        let dnsmasq = Dnsmasq::start(&machine, RANGE, &[]);
        let daemon = host.dhcp_daemon(&PATIENT);
        let net = host.network(json!({
            "cniVersion": "1.1.0", "name": "net", "type": "ipvlan", "master": "eth1", "ipam": { "type": "dhcp" },
        }));
        let (one, two) = (host.container(), host.container());
        let results = [net.add(&one).result(), net.add(&two).result()];
        assert_eq!(one.mac("eth0"), two.mac("eth0"));
        let mut addresses = results.each_ref().map(address);
        addresses.sort();
        assert_ne!(addresses[0], addresses[1]);
        assert_eq!(dnsmasq.leased(), addresses);
        assert!(one.reaches("10.1.2.1") && two.reaches("10.1.2.1"));
        host.dhcp(&format!("leases --renew {}", one.id()));
        daemon.prints("event=lease ", 3);
        net.del(&one).succeeds();
        assert!(eventually(|| dnsmasq.leased() == [address(&results[1])]), "{:?}", dnsmasq.leases());
    }

    fn containers_that_share_a_mac_address_have_ipv6_leases_of_their_own(host) needs [Ipvlan] {
        let machine = host.veth_pair("eth1", "server", &["10.1.2.1/24", "fd00:1::1/64"]);
        settled(&machine, "eth0");
        let dnsmasq = Dnsmasq::start(&machine, RANGE, &IPV6);
        let _daemon = host.dhcp_daemon(&PATIENT);
        let net = host.network(json!({
            "cniVersion": "1.1.0", "name": "net", "type": "ipvlan", "master": "eth1",
            "ipam": { "type": "dhcp", "family": "ipv6" },
        }));
        let (one, two) = (host.container(), host.container());
        let results = [net.add(&one).result(), net.add(&two).result()];
        let mut addresses = results.each_ref().map(address);
        addresses.sort();
        assert_ne!(addresses[0], addresses[1]);
        assert!(addresses.iter().all(|address| dnsmasq.leased().contains(address)), "{:?}", dnsmasq.leases());
        assert!(one.reaches("fd00:1::1") && two.reaches("fd00:1::1"));
        net.check(&one, &results[0]).succeeds();
        net.del(&one).succeeds();
        let released = address(&results[0]);
        assert!(eventually(|| !dnsmasq.leased().contains(&released)), "{:?}", dnsmasq.leases());
    }

    fn modes_that_pass_no_broadcast_are_refused(host) needs [Ipvlan] {
        host.veth_pair("eth1", "outside", &[]);
        let _daemon = host.dhcp_daemon(&[]);
        for mode in ["l3", "l3s"] {
            let net = host.network(json!({
                "cniVersion": "1.1.0", "name": "net", "type": "ipvlan", "master": "eth1", "mode": mode,
                "ipam": { "type": "dhcp" },
            }));
            let pod = host.container();
            net.add(&pod).fails(7, &["ipvlan", "l2"]);
            assert!(pod.link("eth0").is_null());
        }
    }

    fn a_vlan_master_carries_dhcp(host) needs [Vlan, Macvlan] {
        let machine = host.veth_pair("eth1", "server", &[]);
        machine.sh("ip link add link eth0 name v type vlan id 7; ip link set eth0 up; ip link set v up; ip addr add 10.1.2.1/24 dev v; ip addr add fd00:1::1/64 dev v nodad");
        settled(&machine, "v");
        host.sh("ip link add link eth1 name eth1.7 type vlan id 7; ip link set eth1.7 up");
        let _dnsmasq = Dnsmasq::start(&machine, RANGE, &["--interface=v", IPV6[0], IPV6[1]]);
        let _daemon = host.dhcp_daemon(&PATIENT);
        let net = host.network(json!({
            "cniVersion": "1.1.0", "name": "net", "type": "macvlan", "master": "eth1.7", "ipam": { "type": "dhcp" },
        }));
        let pod = host.container();
        let result = net.add(&pod).result();
        assert!(pod.reaches("10.1.2.1"));
        net.check(&pod, &result).succeeds();
        net.del(&pod).succeeds();
        let net = host.network(json!({
            "cniVersion": "1.1.0", "name": "six", "type": "macvlan", "master": "eth1.7",
            "ipam": { "type": "dhcp", "family": "ipv6" },
        }));
        let result = net.add(&pod).result();
        assert!(address(&result).starts_with("fd00:1::") && pod.reaches("fd00:1::1"), "{result}");
        net.del(&pod).succeeds();
    }
}
