//! The tuning plugin: what it sets, what DEL restores, and what the Go plugin's backups and ours
//! mean to each other.

use oxcni_tests::{Call, Container, Host, Network, Plugins, both_flavours, with_keys};
use serde_json::{Value, json};

/// A container with a bridge attachment `eth0`, and its result.
fn attached(host: &Host) -> (Container<'_>, Value) {
    let pod = host.container();
    let bridge = host.network(json!({ "cniVersion": "1.1.0", "name": "net", "type": "bridge" }));
    let result = bridge.add(&pod).result();
    (pod, result)
}

fn tuning<'h>(host: &'h Host, prev: &Value, rest: Value) -> Network<'h> {
    let config = json!({ "cniVersion": "1.1.0", "name": "net", "type": "tuning", "prevResult": prev });
    host.network(with_keys(config, rest))
}

/// `[mtu, promiscuous, allmulti, transmit queue length]` and the MAC address of `eth0`.
fn state(pod: &Container<'_>) -> (Value, String) {
    let link = pod.link("eth0");
    let has = |flag: &str| link["flags"].as_array().expect("flags").iter().any(|f| f == flag);
    (json!([link["mtu"], has("PROMISC"), has("ALLMULTI"), link["txqlen"]]), pod.mac("eth0"))
}

fn backups(host: &Host) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(host.path("/run/cni/tuning"))
        .map(|entries| {
            entries.map(|e| e.expect("an entry").file_name().into_string().expect("UTF-8")).collect()
        })
        .unwrap_or_default();
    names.sort();
    names
}

/// The same call by the Go plugin of Debian.
fn by_go<'h>(net: &Network<'h>, command: &str, pod: &Container<'_>) -> Call<'h> {
    net.call(command, pod).program(Plugins::Go.dir().join("tuning"))
}

fn all_attributes() -> Value {
    json!({ "mac": "02:00:00:00:00:77", "promisc": true, "mtu": 1400, "allmulti": true, "txQLen": 77 })
}

both_flavours! {
    fn attributes_are_set_and_del_restores_them(host) {
        let (pod, prev) = attached(&host);
        let before = state(&pod);
        let net = tuning(&host, &prev, all_attributes());
        let result = net.add(&pod).result();
        assert_eq!(state(&pod), (json!([1400, true, true, 77]), "02:00:00:00:00:77".to_owned()));
        let own = result["interfaces"].as_array().expect("interfaces").iter().find(|i| i["name"] == "eth0");
        let own = own.expect("eth0");
        assert_eq!((&own["mac"], &own["mtu"]), (&json!("02:00:00:00:00:77"), &json!(1400)));
        net.check(&pod, &result).succeeds();
        assert_eq!(backups(&host), [format!("{}_eth0.json", pod.id())]);
        net.del(&pod).succeeds();
        assert_eq!(state(&pod), before);
        assert!(backups(&host).is_empty());
        net.del(&pod).succeeds();
    }

    fn an_argument_overrules_the_configuration(host) {
        let (pod, prev) = attached(&host);
        let args = json!({ "cni": { "mtu": 1300, "mac": "02:00:00:00:00:04", "sysctl": { "net.ipv4.conf.IFNAME.log_martians": "1" } } });
        let rest = json!({
            "mtu": 1400, "mac": "02:00:00:00:00:01", "runtimeConfig": { "mac": "02:00:00:00:00:03" },
            "sysctl": { "net.ipv4.conf.IFNAME.log_martians": "0" },
        });
        let net = tuning(&host, &prev, rest.clone()).args("IgnoreUnknown=1;MAC=02:00:00:00:00:02");
        net.add(&pod).succeeds();
        assert_eq!(pod.mac("eth0"), "02:00:00:00:00:03");
        net.del(&pod).succeeds();
        tuning(&host, &prev, with_keys(rest, json!({ "args": args }))).add(&pod).succeeds();
        assert_eq!((state(&pod).0[0].clone(), pod.mac("eth0")), (json!(1300), "02:00:00:00:00:04".to_owned()));
        assert_eq!(pod.sh("cat /proc/sys/net/ipv4/conf/eth0/log_martians").trim(), "1");
    }

    fn sysctls_are_of_the_container_and_of_the_network_only(host) {
        let (pod, prev) = attached(&host);
        let net = tuning(&host, &prev, json!({ "sysctl": {
            "net.ipv4.conf.IFNAME.arp_filter": "1",
            "net/ipv4/tcp_rmem": "4096 87380 6000000",
        } }));
        let result = net.add(&pod).result();
        assert_eq!(pod.sh("cat /proc/sys/net/ipv4/conf/eth0/arp_filter").trim(), "1");
        net.check(&pod, &result).succeeds();
        pod.sh("echo 0 > /proc/sys/net/ipv4/conf/eth0/arp_filter");
        net.check(&pod, &result).fails(102, &["arp_filter", "\"0\"", "\"1\""]);
        for key in ["kernel.hostname", "net/../kernel/hostname", "net.//.kernel.hostname"] {
            tuning(&host, &prev, json!({ "sysctl": { key: "x" } })).add(&pod).fails(7, &[key]);
        }
        assert!(backups(&host).is_empty(), "sysctls need no backup");
    }

    fn more_sysctls_than_a_container_can_need_are_refused(host) {
        let (pod, prev) = attached(&host);
        let sysctls: serde_json::Map<String, Value> =
            (0..1001).map(|i| (format!("net.core.number{i}"), json!("1"))).collect();
        tuning(&host, &prev, json!({ "sysctl": sysctls })).add(&pod).fails(7, &["1001 sysctls", "1000"]);
    }

    fn a_failed_add_sets_everything_back(host) {
        let (pod, prev) = attached(&host);
        let (before, filter) = (state(&pod), "net.ipv4.conf.IFNAME.arp_filter");
        for rest in [
            json!({ "mtu": 1400, "promisc": true, "sysctl": { filter: "1", "net.ipv4.no_such_setting": "1" } }),
            json!({ "sysctl": { filter: "1" }, "promisc": true, "mtu": 17 }),
        ] {
            assert!(!tuning(&host, &prev, rest.clone()).add(&pod).ok(), "{rest}");
            assert_eq!(state(&pod), before, "{rest}");
            assert_eq!(pod.sh("cat /proc/sys/net/ipv4/conf/eth0/arp_filter").trim(), "0");
            assert!(backups(&host).is_empty(), "{rest}");
        }
    }

    fn the_allowlist_is_the_administrators(host) {
        let (pod, prev) = attached(&host);
        let net = tuning(&host, &prev, json!({ "sysctl": { "net.ipv4.conf.IFNAME.arp_filter": "1" } }));
        host.sh("mkdir -p /etc/cni/tuning && mount -t tmpfs none /etc/cni/tuning && echo '^net.core' > /etc/cni/tuning/allowlist.conf");
        net.add(&pod).fails(7, &["net.ipv4.conf.IFNAME.arp_filter", "allowlist.conf", "^net.core"]);
        net.status().fails(50, &["allowlist.conf"]);
        host.sh("echo '^net.ipv4.conf.IFNAME.[a-z_]*$' >> /etc/cni/tuning/allowlist.conf");
        net.status().succeeds();
        net.add(&pod).succeeds();
    }

    fn gc_removes_the_backups_that_no_del_came_for(host) {
        let ((gone, prev), (pod, pod_prev)) = (attached(&host), attached(&host));
        for (pod, prev) in [(&gone, &prev), (&pod, &pod_prev)] {
            tuning(&host, prev, json!({ "mtu": 1400 })).add(pod).succeeds();
        }
        let other = tuning(&host, &prev, json!({ "mtu": 1300, "name": "other" })).ifname("eth0");
        host.sh("echo '{\"mtu\":1500}' > /run/cni/tuning/go_eth0.json");
        other.gc(&[]).succeeds();
        assert_eq!(backups(&host).len(), 3, "another network's GC");
        tuning(&host, &Value::Null, json!({})).gc(&[&pod]).succeeds();
        assert_eq!(backups(&host), [format!("{}_eth0.json", pod.id()), "go_eth0.json".to_owned()]);
    }

    fn del_ends_well_without_interface_or_namespace(host) {
        for vanish in [false, true] {
            let (pod, prev) = attached(&host);
            let net = tuning(&host, &prev, json!({ "mtu": 1400 }));
            net.add(&pod).succeeds();
            if vanish { pod.vanish() } else { drop(pod.sh("ip link del eth0")) }
            net.del(&pod).succeeds();
            assert!(backups(&host).is_empty());
            net.with("mtu", json!("many")).with("prevResult", None).del(&pod).succeeds();
        }
    }

    fn without_prev_result_it_says_what_it_needs(host) {
        let (pod, _) = attached(&host);
        tuning(&host, &Value::Null, json!({ "mtu": 1400 })).add(&pod).fails(7, &["prevResult"]);
    }

    fn go_restores_what_ours_stored_and_ours_what_go_stored(host) needs [GoPlugins] {
        let (pod, prev) = attached(&host);
        let prev = with_keys(prev, json!({ "cniVersion": "1.0.0" }));
        let before = state(&pod);
        let net = tuning(&host, &prev, with_keys(all_attributes(), json!({ "cniVersion": "1.0.0", "txQLen": null })));
        net.add(&pod).succeeds();
        by_go(&net, "DEL", &pod).run().succeeds();
        assert_eq!((state(&pod), backups(&host)), (before.clone(), vec![]));
        by_go(&net, "ADD", &pod).run().succeeds();
        assert_eq!(state(&pod).0[0], 1400);
        net.del(&pod).succeeds();
        assert_eq!((state(&pod), backups(&host)), (before, vec![]));
    }
}
