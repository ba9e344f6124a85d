//! The bridge plugin where an ADD fails, or a configuration is not what it was: what it takes back,
//! and what it leaves to others.

use oxcni_tests::{Host, Network, Paused, both_flavours, with_keys, without_nf_tables};
use serde_json::{Value, json};

fn config(rest: Value) -> Value {
    with_keys(
        json!({
            "cniVersion": "1.1.0", "name": "net", "type": "bridge", "bridge": "br-test",
            "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.1.2.0/24" }], [{ "subnet": "fd00:1::/64" }]] },
        }),
        rest,
    )
}

both_flavours! {
    fn a_kernel_without_nf_tables_is_told_and_del_ends_well(host) {
        let masquerading = host.network(config(json!({ "ipMasq": true })));
        let pod = host.container();
        let why = "ipMasq needs nf_tables, which this kernel does not have";
        for call in [masquerading.call("ADD", &pod), masquerading.hostwide_call("STATUS")] {
            let failed = without_nf_tables(&call);
            assert!(!failed.status.success() && failed.output.contains(why), "{failed:?}");
        }
        assert!(pod.link("eth0").is_null() && host.reservations("net").is_empty());
        // Added without rules, deleted by a configuration that asks for them.
        host.network(config(json!({}))).add(&pod).succeeds();
        let del = without_nf_tables(&masquerading.call("DEL", &pod));
        assert!(del.status.success(), "{del:?}");
        assert!(pod.link("eth0").is_null() && host.reservations("net").is_empty());
    }

    fn failed_add_leaves_a_bridge_as_it_was(host) {
        host.sh("ip link add name br-test type bridge");
        let before = host.state();
        let net = host.network(config(json!({ "promiscMode": true, "isGateway": true })));
        let pod = host.container();
        pod.sh("ip link add name eth0 type bridge");
        net.add(&pod).fails(4, &["eth0"]);
        assert_eq!(host.state(), before);
    }

    fn add_that_fails_late_leaves_a_bridge_as_it_was(host) {
        host.sh("ip link add name br-test type bridge; sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
        let before = host.state();
        fails_late(&host, &host.network(config(json!({ "isGateway": true, "ipMasq": true }))));
        assert_eq!(host.state(), before);
        host.ip("link set br-test up; addr add 10.1.2.254/24 brd + dev br-test; addr add fd00:1::254/64 dev br-test");
        let before = host.state();
        fails_late(&host, &host.network(config(json!({ "isGateway": true, "ipMasq": true, "forceAddress": true }))));
        assert_eq!(host.state(), before);
    }

    fn add_that_fails_late_leaves_a_vlan_bridge_as_it_was(host) needs [BridgeVlan] {
        host.sh("ip link add name br-test type bridge vlan_filtering 1; \
                 sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
        let before = host.state();
        fails_late(&host, &host.network(config(json!({ "isGateway": true, "ipMasq": true, "vlan": 100 }))));
        assert_eq!(host.state(), before);
    }

    fn replaced_address_comes_back_to_those_who_used_it(host) {
        let net = host.network(config(json!({ "isGateway": true })));
        let pod = host.container();
        net.add(&pod).succeeds();
        let forced = json!({ "isGateway": true, "forceAddress": true, "ipMasq": true, "name": "other",
            "ipam": { "type": "host-local", "subnet": "10.1.7.0/24" } });
        fails_late(&host, &host.network(config(forced)));
        assert!(pod.reaches("10.1.2.1"));
    }

    fn failing_add_takes_no_gateway_from_who_came_meanwhile(host) {
        failing_add_beside_another(&host, &json!({ "isGateway": true }));
    }

    fn failing_add_takes_no_vlan_gateway_from_who_came_meanwhile(host) needs [BridgeVlan] {
        failing_add_beside_another(&host, &json!({ "isGateway": true, "vlan": 100 }));
    }

    fn del_takes_the_rules_down_when_the_configuration_has_become_invalid(host) {
        let net = host.network(config(json!({ "isGateway": true, "ipMasq": true })));
        let pod = host.container();
        net.add(&pod).succeeds();
        net.with("mtu", json!(10)).del(&pod).succeeds();
        assert!(host.rules().is_empty(), "rules are left: {:#?}", host.rules());
    }

    fn add_fails_on_a_duplicate_address_and_is_taken_back(host) {
        let net = host.network(config(json!({ "enabledad": true,
            "ipam": { "type": "static", "addresses": [{ "address": "fd00:1::9/64", "gateway": "fd00:1::1" }] } })));
        let (first, second) = (host.container(), host.container());
        net.add(&first).succeeds();
        let before = host.state();
        net.add(&second).fails(100, &["duplicate address detection", "fd00:1::9"]);
        assert!(second.link("eth0").is_null());
        assert_eq!(host.state(), before);
    }

    fn add_on_a_full_or_read_only_data_folder_leaves_the_host_as_it_was(host) {
        let net = host.network(config(json!({ "isGateway": true })));
        let before = host.state();
        for options in ["nr_inodes=2", "ro"] {
            host.sh(&format!("mount -t tmpfs -o {options} tmpfs /var/lib/cni"));
            let pod = host.container();
            net.add(&pod).fails(5, &["ipam host-local", "/var/lib/cni/networks"]);
            assert!(pod.link("eth0").is_null(), "{options}");
            assert_eq!(host.state(), before, "{options}");
            host.sh("umount /var/lib/cni");
        }
    }

    fn del_and_gc_tell_of_a_read_only_data_folder_until_it_can_be_written(host) {
        host.sh("mount -t tmpfs tmpfs /var/lib/cni");
        let net = host.network(config(json!({ "isGateway": true, "ipMasq": true })));
        let (deleted, collected) = (host.container(), host.container());
        net.add(&deleted).succeeds();
        net.add(&collected).succeeds();
        let held = host.reservations("net");
        host.sh("mount -o remount,ro /var/lib/cni");
        net.del(&deleted).fails(106, &["10.1.2.2", "fd00:1::2", "read-only"]);
        net.gc(&[]).fails(106, &["10.1.2.3", "fd00:1::3", "read-only"]);
        // Everything else is done, and nothing is reported free that is not.
        assert!(deleted.link("eth0").is_null());
        assert!(host.rules().is_empty(), "{:#?}", host.rules());
        assert_eq!(host.reservations("net"), held);
        host.sh("mount -o remount,rw /var/lib/cni");
        net.del(&deleted).succeeds();
        net.gc(&[]).succeeds();
        assert!(host.reservations("net").is_empty());
    }

    fn spoof_check_of_any_id_leaves_no_rule(host) needs [NftBridge] {
        let net = host.network(config(json!({ "macspoofchk": true, "ipam": {} })));
        let before = (host.rules(), vec!["lo".to_owned()]);
        for length in [64, 128, 200, 250] {
            let pod = host.named_container(&"0123456789".repeat(25)[..length]);
            let added = net.add(&pod);
            added.succeeds();
            net.del(&pod).succeeds();
            host.sh("ip link del br-test");
            assert_eq!((host.rules(), host.links()), before, "{length}");
        }
    }

    fn spoof_check_goes_beside_rules_that_are_not_understood(host) needs [NftBridge] {
        host.sh("nft add table bridge nat; \
                 nft 'add chain bridge nat PREROUTING { type filter hook prerouting priority -300; }'; \
                 nft 'add rule bridge nat PREROUTING meta hour > \"10:00\" accept'");
        let before = host.rules();
        let net = host.network(config(json!({ "macspoofchk": true })));
        let (one, two) = (host.container(), host.container());
        net.add(&one).succeeds();
        net.add(&two).succeeds();
        net.del(&one).succeeds();
        two.vanish();
        // The kernel takes an interface down in its own time.
        assert!(oxcni_tests::eventually(|| host.links() == ["br-test", "lo"]));
        net.gc(&[]).succeeds();
        assert_eq!(host.rules(), before);
    }

    fn del_fails_while_rules_of_iptables_may_remain(host) needs [IptablesLegacy] {
        let net = host.network(config(json!({ "ipMasq": true })));
        let pod = host.container();
        net.add(&pod).succeeds();
        // The kernel makes the table when it is first looked at.
        host.sh("iptables-legacy -t nat -S");
        host.install_script("/run/failing/iptables-legacy",
            "#!/bin/sh\n[ $1 = -V ] && echo 'iptables v1.8.9 (legacy)' && exit\necho 'no lock' >&2; exit 4\n");
        let failed = net.call("DEL", &pod).env("PATH", "/run/failing:/usr/sbin:/bin").run();
        failed.fails(104, &["iptables-legacy -t nat -S POSTROUTING", "no lock"]);
        // All else is done.
        assert!(pod.link("eth0").is_null());
        assert!(host.rules().is_empty(), "{:#?}", host.rules());
        assert!(host.reservations("net").is_empty());
        net.del(&pod).succeeds();
    }

    fn del_takes_spoof_check_down_when_the_configuration_has_become_invalid(host) needs [NftBridge] {
        let net = host.network(config(json!({ "macspoofchk": true })));
        let pod = host.container();
        net.add(&pod).succeeds();
        net.with("mtu", json!(10)).del(&pod).succeeds();
        assert!(host.rules().is_empty(), "rules are left: {:#?}", host.rules());
    }
}

/// A chain in the way of that for masquerading, which has another type.
const OBSTACLE: &str = "nft add table inet cni_plugins_masquerade; \
    nft 'add chain inet cni_plugins_masquerade postrouting { type filter hook postrouting priority 100; }'";

/// An ADD that has done all on the bridge when it can't masquerade.
#[track_caller]
fn fails_late(host: &Host, net: &Network<'_>) {
    let pod = host.container();
    host.sh(OBSTACLE);
    net.add(&pod).fails(104, &["adding masquerade rules"]);
    host.sh("nft delete table inet cni_plugins_masquerade");
    assert!(pod.link("eth0").is_null());
}

/// An ADD makes bridge and gateway, another one finds them, then the first fails.
fn failing_add_beside_another(host: &Host, rest: &Value) {
    let net = host.network(config(rest.clone()));
    let (failing, other) = (host.container(), host.container());
    host.sh(OBSTACLE);
    let masqueraded = net.clone().with("ipMasq", json!(true));
    let paused = Paused::before_nf_tables(&masqueraded.call("ADD", &failing));
    let result = net.add(&other).result();
    assert!(!paused.finish().success());
    assert!(other.reaches("10.1.2.1") && other.reaches("fd00:1::1"));
    net.check(&other, &result).succeeds();
}
