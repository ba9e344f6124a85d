//! The vlan plugin, and dummy beside it: what they create, what CHECK finds, that DEL always ends.

use oxcni_tests::{Host, both_flavours, with_keys};
use serde_json::{Value, json};

fn config(rest: Value) -> Value {
    with_keys(
        json!({
            "cniVersion": "1.1.0", "name": "net", "type": "vlan", "master": "eth1", "vlanId": 100,
            "ipam": { "type": "host-local", "subnet": "10.1.2.0/24" },
        }),
        rest,
    )
}

/// The master `eth1`, whose other end is in another namespace.
fn master(host: &Host) {
    host.sh("ip link add eth1 type veth peer name eth1-peer; ip link set eth1 up; ip link set eth1-peer up");
}

both_flavours! {
    fn the_interface_is_in_its_vlan_and_reaches_others_there(host) needs [Vlan] {
        master(&host);
        let (net, pod) = (host.network(config(json!({ "mtu": 1400 }))), host.container());
        let result = net.add(&pod).result();
        let link = pod.link("eth0");
        assert_eq!((&link["linkinfo"]["info_kind"], &link["mtu"]), (&json!("vlan"), &json!(1400)));
        assert_eq!(pod.sh("ip -d -o link show eth0 | grep -o 'id 100'").trim(), "id 100");
        assert_eq!(result["interfaces"][0]["mac"], pod.mac("eth0").as_str());
        host.sh("ip link add link eth1-peer name peer.100 type vlan id 100; ip addr add 10.1.2.250/24 dev peer.100; ip link set peer.100 up");
        assert!(pod.reaches("10.1.2.250"));
        net.check(&pod, &result).succeeds();
        host.network(config(json!({ "vlanId": 101 }))).check(&pod, &result).fails(102, &["100", "101"]);
        net.del(&pod).succeeds();
        assert!(pod.link("eth0").is_null());
        net.del(&pod).succeeds();
    }

    fn vlan_0_and_an_attachment_without_addresses(host) needs [Vlan] {
        master(&host);
        let net = host.network(config(json!({ "vlanId": 0 }))).with("ipam", None);
        let pod = host.container();
        let result = net.add(&pod).result();
        assert_eq!(result["ips"].as_array().map_or(0, Vec::len), 0);
        assert!(pod.link("eth0")["flags"].as_array().expect("flags").iter().any(|f| f == "UP"));
        net.check(&pod, &result).succeeds();
        net.del(&pod).succeeds();
    }

    fn del_needs_no_master(host) needs [Vlan] {
        master(&host);
        let (net, pod) = (host.network(config(json!({}))), host.container());
        net.add(&pod).succeeds();
        host.sh("ip link del eth1");
        net.del(&pod).succeeds();
        assert_eq!(host.network(config(json!({ "master": "lo" }))).with("name", json!("net")).del(&pod).succeeds().stdout, "");
        net.add(&pod).fails(7, &["eth1", "does not exist"]);
    }

    fn a_vlan_that_the_master_has_already_is_explained(host) needs [Vlan] {
        master(&host);
        let (net, one, two) = (host.network(config(json!({}))), host.container(), host.container());
        net.add(&one).succeeds();
        let error = net.add(&two).fails(7, &["eth1"]);
        assert!(error.details.contains("VLAN ID"), "{error:?}");
        net.add(&one).fails(4, &["eth0 exists already"]);
        net.del(&one).succeeds();
        net.add(&two).succeeds();
    }

    fn a_master_in_the_container(host) needs [Vlan] {
        let (net, pod) = (host.network(config(json!({ "linkInContainer": true }))), host.container());
        pod.sh("ip link add eth1 type veth peer name eth1-peer; ip link set eth1 up");
        let result = net.add(&pod).result();
        net.check(&pod, &result).succeeds();
        net.del(&pod).succeeds();
        assert!(!pod.link("eth1").is_null() && pod.link("eth0").is_null());
    }

    fn what_can_not_be_is_refused_before_anything_is_made(host) {
        let pod = host.container();
        for (rest, quoted) in [
            (json!({ "vlanId": 4095 }), "4095"),
            (json!({ "vlanId": -1 }), "-1"),
            (json!({ "master": "" }), "master"),
            (json!({ "master": "nope0" }), "nope0"),
        ] {
            host.network(config(rest)).add(&pod).fails(7, &[quoted]);
        }
        host.network(json!({ "cniVersion": "1.1.0", "name": "net", "type": "dummy" })).add(&pod).fails(7, &["ipam"]);
    }

    fn dummy_has_addresses_and_leads_nowhere(host) needs [Dummy] {
        let net = host.network(config(json!({ "type": "dummy" })));
        let pod = host.container();
        let result = net.add(&pod).result();
        let link = pod.link("eth0");
        assert_eq!(link["linkinfo"]["info_kind"], "dummy");
        assert_eq!(result["interfaces"].as_array().map_or(0, Vec::len), 1);
        assert_eq!(result["ips"][0]["address"], "10.1.2.2/24");
        net.check(&pod, &result).succeeds();
        net.status().succeeds();
        net.add(&pod).fails(4, &["eth0 exists already"]);
        pod.sh("ip link set eth0 down");
        net.check(&pod, &result).fails(102, &["eth0 is down"]);
        net.del(&pod).succeeds();
        assert!(pod.link("eth0").is_null());
        net.gc(&[]).succeeds();
    }
}
