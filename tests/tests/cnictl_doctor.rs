//! `cnictl doctor`: what is broken by hand, it names, and --repair mends.
//!
//! Each test has a subnet of its own: doctor looks for addresses in all namespaces of the machine.

use oxcni_tests::dhcp::Kea;
use oxcni_tests::{Container, Host, both_flavours};
use serde_json::{Value, json};

/// A bridge network with host-local, masquerading, and tuning behind it.
fn configure(host: &Host, subnet: &str) {
    let list = json!({
        "cniVersion": "1.0.0", "name": "net",
        "plugins": [
            { "type": "bridge", "bridge": "br0", "isGateway": true, "ipMasq": true,
              "ipam": { "type": "host-local", "subnet": format!("{subnet}.0/24") } },
            { "type": "tuning", "mtu": 1400 },
        ],
    });
    host.configure("10-net.conflist", list.to_string());
}

/// A bridge network with dhcp, and the namespace of its server.
fn configure_dhcp(host: &Host) -> Container<'_> {
    let conf = json!({
        "cniVersion": "1.1.0", "name": "net", "type": "bridge", "bridge": "br0", "ipam": { "type": "dhcp" },
    });
    host.configure("10-net.conf", conf.to_string());
    host.sh("ip link add name br0 type bridge; ip link set br0 up");
    let server = host.veth_pair("server", "server", &["10.1.2.1/24"]);
    host.sh("ip link set server master br0");
    server
}

/// The kinds of what doctor finds.
fn kinds(found: &Value) -> Vec<&str> {
    found.as_array().expect("a list").iter().filter_map(|ailment| ailment["kind"].as_str()).collect()
}

#[track_caller]
fn repairs(host: &Host, expected: &[&str]) {
    let found = host.cnictl_json("doctor");
    assert_eq!(kinds(&found), expected, "{found:#}");
    let shown = host.cnictl("doctor");
    assert_eq!(shown.status.code(), Some(3), "{shown}");
    assert_eq!(shown.stdout.matches("--repair").count(), expected.len(), "{shown}");
    let repaired = host.cnictl("doctor --repair --grace 0");
    assert!(repaired.ok(), "{repaired}");
    is_healthy(host);
}

#[track_caller]
fn is_healthy(host: &Host) {
    assert_eq!(host.cnictl_json("doctor"), json!([]));
    assert!(host.cnictl("doctor").succeeds().stdout.contains("healthy"));
}

/// The MAC address of a container's interface.
fn mac(pod: &oxcni_tests::Container<'_>) -> String {
    pod.sh("cat /sys/class/net/eth0/address 2>/dev/null || ip -o link show eth0 | sed 's/.*ether \\([^ ]*\\).*/\\1/'")
        .trim()
        .to_owned()
}

both_flavours! {
    fn a_broken_attachment_is_mended_with_its_addresses_and_its_mac_address(host) {
        configure(&host, "10.211.1");
        let (pod, other) = (host.container(), host.container());
        host.cnictl("add net c1").succeeds();
        host.cnictl("add net c2").succeeds();
        is_healthy(&host);
        let address = mac(&pod);
        let breaks = [
            ("the link is deleted", "ip -n c1 link del eth0"),
            ("the address is removed", "ip -n c1 addr del 10.211.1.2/24 dev eth0"),
            ("the rule is flushed", "nft flush chain inet cni_plugins_masquerade masq_checks"),
            ("the reservation is removed", "rm /var/lib/cni/networks/net/10.211.1.2"),
            ("the interface is down", "ip -n c1 link set eth0 down"),
        ];
        for (what, how) in breaks {
            host.sh(how);
            let broken = kinds(&host.cnictl_json("doctor")).len();
            assert_eq!(broken, if what.contains("flushed") { 2 } else { 1 }, "{what}");
            repairs(&host, &["broken"].repeat(broken));
            assert_eq!(mac(&pod), address, "{what}");
            assert!(pod.reaches("10.211.1.1") && pod.reaches("10.211.1.3"), "{what}");
            assert!(other.reaches("10.211.1.2"), "{what}");
        }
        // What was added to keep the address is not kept for the next time.
        let entry: Value =
            serde_json::from_str(&host.sh("cat /var/lib/cni/results/net-cnitool-*-eth0 | head -c 100000 | sed 's/}{.*/}/'"))
                .expect("JSON");
        assert_eq!(entry.get("cniArgs"), None, "{entry}");
        host.cnictl("del net c1").succeeds();
        host.cnictl("del net c2").succeeds();
        is_healthy(&host);
    }

    fn what_belongs_to_no_attachment_is_removed(host) {
        configure(&host, "10.211.2");
        let pod = host.container();
        host.cnictl("add net c1").succeeds();
        // A reservation, also of a network that is not configured any more.
        host.sh("cd /var/lib/cni/networks && printf 'gone\\r\\neth0' > net/10.211.2.99 && mkdir old && printf 'gone\\r\\neth0' > old/10.211.2.98");
        repairs(&host, &["reservation", "reservation"]);
        assert_eq!(host.sh("ls /var/lib/cni/networks/net /var/lib/cni/networks/old | grep ^10").trim(), "10.211.2.2");
        // A rule.
        host.sh("nft add rule inet cni_plugins_masquerade masq_checks ip saddr 10.211.2.97 masquerade comment '\"0123456789abcdef-0123456789abcdef, net: net, if: eth0, id: gone\"'");
        repairs(&host, &["masquerade"]);
        assert!(!host.sh("nft list ruleset").contains("10.211.2.97"));
        // A link, whose other end is on the host, or bare in a container.
        host.container();
        host.ip("link add veth01234567 type veth peer name left; link set veth01234567 master br0;
                 link add veth89abcdef type veth peer name eth0 netns c2; link set veth89abcdef master br0");
        repairs(&host, &["link", "link"]);
        assert!(host.try_ip("link show veth01234567").is_err() && host.try_ip("link show veth89abcdef").is_err());
        assert!(pod.reaches("10.211.2.1"));
    }

    fn an_entry_whose_namespace_is_gone_is_detached(host) {
        configure(&host, "10.211.3");
        let pod = host.container();
        host.cnictl("add net c1").succeeds();
        pod.vanish();
        repairs(&host, &["gone"]);
        assert_eq!(host.cnictl_json("list"), json!([]));
        assert_eq!(host.sh("ls /var/lib/cni/networks/net | grep ^10 || true"), "");
    }

    fn a_link_is_not_taken_for_the_peer_of_another_namespace(host) {
        configure(&host, "10.211.9");
        let pod = host.container();
        host.cnictl("add net c1").succeeds();
        let port = host.sh("ls /sys/class/net | grep ^veth");
        let port_index = host.sh(&format!("cat /sys/class/net/{}/ifindex", port.trim()));
        let index = host.sh(&format!("cat /sys/class/net/{}/iflink", port.trim()));
        // A namespace that no path leads to any more, as while the kernel removes it.
        let _kept = std::fs::File::open(host.path(pod.netns())).expect("the namespace");
        pod.vanish();
        // A container in a container, whose interfaces have the same indices as the pair of the first.
        let (outer, inner) = (host.container(), host.container());
        outer.ip(&format!("link add outer index {} type veth peer name eth0 index {} netns {}",
            port_index.trim(), index.trim(), inner.id()));
        inner.ip("addr add 10.211.10.1/24 dev eth0");
        repairs(&host, &["gone"]);
        assert!(host.try_ip(&format!("link show {}", port.trim())).is_ok());
    }

    fn what_another_runtime_uses_without_a_cache_is_left(host) {
        configure(&host, "10.211.4");
        let pod = host.container();
        host.cnictl("add net c1").succeeds();
        host.sh("rm /var/lib/cni/results/*");
        let found = host.cnictl_json("doctor");
        assert_eq!(kinds(&found), ["reservation", "masquerade", "link"], "{found:#}");
        assert!((0..3).all(|i| found[i]["remedy"] == "leaves it"), "{found:#}");
        let repaired = host.cnictl("doctor --repair --grace 0");
        assert_eq!(repaired.status.code(), Some(3), "{repaired}");
        assert!(pod.reaches("10.211.4.1"));
        assert!(host.sh("ls /var/lib/cni/networks/net").contains("10.211.4.2"));
        assert!(host.sh("nft list ruleset").contains("10.211.4.2"));
    }

    fn leases_of_dhcp_are_kept_where_their_interface_is(host) {
        let server = configure_dhcp(&host);
        let kea = Kea::with_leases_of(&server, [1000, 2000, 4000], 99);
        let _daemon = host.dhcp_daemon(&[]);
        let (living, gone) = (host.container(), host.container());
        let result = host.cnictl("add net c1 --container-id one -o json").result();
        let address = result["ips"][0]["address"].as_str().and_then(|cidr| cidr.split('/').next()).expect("an address");
        host.cnictl("add net c2 --container-id two").succeeds();
        is_healthy(&host);
        // The cache loses both: one container is gone, the other may be of a runtime without this cache.
        host.sh("rm /var/lib/cni/results/*");
        gone.vanish();
        let leases = || -> Vec<(String, String)> {
            let found = host.cnictl_json("doctor");
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let leases = found.as_array().expect("a list").iter().filter(|it| it["kind"] == "lease");
            let mut leases: Vec<_> = leases.map(|it| (text(&it["subject"]), text(&it["remedy"]))).collect();
            leases.sort();
            leases
        };
        let lease = |id: &str, remedy: &str| (format!("lease of eth0 of container {id} on network net"), remedy.to_owned());
        assert_eq!(leases(), [lease("one", "leaves it"), lease("two", "releases it")]);
        let repaired = host.cnictl("doctor --repair --grace 0");
        assert_eq!(repaired.status.code(), Some(3), "{repaired}");
        assert_eq!(leases(), [lease("one", "leaves it")]);
        assert!(!kea.has_released(address));
        assert!(living.reaches("10.1.2.1"));
        living.ip("link del eth0");
        repairs(&host, &["lease"]);
    }

    fn a_broken_attachment_with_a_lease_is_mended_with_its_address(host) {
        let server = configure_dhcp(&host);
        let _kea = Kea::with_leases_of(&server, [1000, 2000, 4000], 99);
        let _daemon = host.dhcp_daemon(&[]);
        let pod = host.container();
        let result = host.cnictl("add net c1 -o json").result();
        let address = result["ips"][0]["address"].as_str().expect("an address");
        is_healthy(&host);
        let before = mac(&pod);
        for how in [format!("addr del {address} dev eth0"), "link set eth0 down".to_owned(), "link del eth0".to_owned()] {
            pod.ip(&how);
            repairs(&host, &["broken"]);
            assert_eq!(host.cnictl_json("list")[0]["addresses"], json!([address]), "{how}");
            assert_eq!(mac(&pod), before, "{how}");
            assert!(pod.reaches("10.1.2.1"), "{how}");
        }
    }

    fn an_attachment_that_can_not_be_mended_can_be_tried_again(host) {
        configure(&host, "10.211.5");
        let pod = host.container();
        host.cnictl("add net c1").succeeds();
        let address = mac(&pod);
        pod.ip("addr del 10.211.5.2/24 dev eth0");
        // tuning can't be called for ADD: nothing is detached then.
        host.sh("mkdir /run/plugins && cp -a $(dirname $(command -v sh))/true /run/plugins/bridge");
        let failed = host.cnictl("doctor --repair --grace 0 --path /run/plugins");
        assert_eq!(failed.status.code(), Some(3), "{failed}");
        assert!(failed.stdout.contains("no plugin of type"), "{failed}");
        // The interface is taken: ADD fails after DEL, and the entry stays.
        host.install_script("/run/failing/tuning", "#!/bin/sh\n[ $CNI_COMMAND = ADD ] || exit 0\necho '{\"code\":11,\"msg\":\"later\"}'; exit 1\n");
        let call = host.cnictl_call("doctor --repair --grace 0").path_before("/run/failing");
        let failed = call.run();
        assert!(failed.stdout.contains("later"), "{failed}");
        repairs(&host, &["broken"]);
        assert_eq!(mac(&pod), address);
        assert!(pod.reaches("10.211.5.1"));
    }
}

/// Configures multus with a pod `ns/p` on two bridges, its second network that of a definition.
fn configure_multus(host: &Host) {
    let multus = json!({
        "cniVersion": "1.1.0", "name": "multus-net", "type": "multus", "manifestDir": "/run/manifests",
        "binDir": "/opt/cni/bin",
        "delegates": [{ "cniVersion": "1.1.0", "name": "default-net", "type": "bridge", "bridge": "br0", "isGateway": true,
            "ipam": { "type": "host-local", "subnet": "10.211.6.0/24" } }],
    });
    let second = json!({
        "cniVersion": "1.1.0", "name": "second", "type": "bridge", "bridge": "br1", "isGateway": true,
        "ipam": { "type": "host-local", "subnet": "10.211.7.0/24" },
    });
    host.configure("00-multus.conf", multus.to_string());
    host.configure("20-second.conf", second.to_string());
    std::fs::create_dir_all(host.path("/run/manifests")).expect("a folder");
    let manifests = format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n  namespace: ns\n  annotations: {{k8s.v1.cni.cncf.io/networks: second}}\n\
         ---\napiVersion: k8s.cni.cncf.io/v1\nkind: NetworkAttachmentDefinition\nmetadata: {{name: second, namespace: ns}}\n\
         spec:\n  config: '{second}'\n"
    );
    std::fs::write(host.path("/run/manifests/all.yaml"), manifests).expect("manifests");
}

both_flavours! {
    fn the_networks_of_a_pod_are_listed_kept_and_mended(host) {
        configure_multus(&host);
        let pod = host.container();
        let arguments = "IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=p";
        host.cnictl_call("add multus-net c1").env("CNI_ARGS", arguments).run().succeeds();
        is_healthy(&host);
        let listed = host.cnictl_json("list");
        let networks: Vec<_> = listed.as_array().expect("a list").iter()
            .map(|it| (it["network"].as_str().unwrap_or_default(), it["cache"].as_str().unwrap_or_default(), it["ifname"].as_str().unwrap_or_default())).collect();
        assert_eq!(networks, [("multus-net", "libcni", "eth0"), ("default-net", "multus", "eth0"), ("second", "multus", "net1")]);
        assert!(listed.as_array().is_some_and(|all| all.iter().all(|it| it["pod"] == "ns/p")), "{listed}");

        pod.ip("link del net1");
        repairs(&host, &["broken", "broken"]);
        assert!(pod.reaches("10.211.7.1") && pod.reaches("10.211.6.1"));

        // An ADD that has not finished has no result: what multus plans stays.
        host.sh("rm /var/lib/cni/multus/results/second-*");
        host.cnictl("gc second").succeeds();
        assert!(host.sh("ls /var/lib/cni/networks/second").contains("10.211.7.2"));
        let found = host.cnictl_json("doctor");
        assert!(!kinds(&found).contains(&"reservation"), "{found}");

        host.cnictl("del multus-net c1").succeeds();
        assert_eq!(host.sh("ls /var/lib/cni/networks/second /var/lib/cni/networks/default-net | grep ^10 || true"), "");
        is_healthy(&host);
    }

    fn rules_of_macspoofchk_are_found_and_mended(host) needs [NftBridge] {
        let conf = json!({
            "cniVersion": "1.0.0", "name": "net", "type": "bridge", "bridge": "br0", "isGateway": true, "macspoofchk": true,
            "ipam": { "type": "host-local", "subnet": "10.211.8.0/24" },
        });
        host.configure("10-net.conf", conf.to_string());
        let pod = host.container();
        host.cnictl("add net c1 --container-id one").succeeds();
        is_healthy(&host);
        host.sh("nft flush chain bridge nat cni-br-iface-one-eth0-mac");
        repairs(&host, &["broken"]);
        host.sh("nft add chain bridge nat cni-br-iface-gone-eth0 && nft add chain bridge nat cni-br-iface-gone-eth0-mac
                 nft 'add rule bridge nat PREROUTING iifname veth00000000 jump cni-br-iface-gone-eth0 comment \"macspoofchk-gone-eth0\"'");
        repairs(&host, &["macspoofchk"]);
        assert!(!host.sh("nft list ruleset").contains("gone-eth0"));
        assert!(pod.reaches("10.211.8.1"));
    }
}
