//! A node goes from the Go plugins to ours and back with containers running.

use oxcni_tests::{Host, Plugins, both_flavours, eventually, source_seen_by, with_keys};
use serde_json::{Value, json};

fn config(rest: Value) -> Value {
    with_keys(
        json!({
            "cniVersion": "1.0.0", "name": "net", "type": "bridge", "bridge": "br-turns", "isDefaultGateway": true,
            "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.1.2.0/24" }], [{ "subnet": "fd00:1::/64" }]] },
        }),
        rest,
    )
}

/// No port, no rule, no reservation.
fn nothing_is_left(host: &Host) {
    // The kernel takes the links of a namespace that vanished down in its own time.
    let ports = || host.sh("ip -br link show master br-turns");
    assert!(eventually(|| ports().is_empty()), "{}", ports());
    assert!(host.rules().is_empty(), "{:#?}", host.rules());
    assert!(host.reservations("net").is_empty(), "{:?}", host.reservations("net"));
}

/// What the newest Go plugin gives to `nft -f -` for a container with address `10.1.2.<last>`
/// (pkg/ip/ipmasq_nftables_linux.go); `instance` is the hash that it makes of interface and container.
fn masquerade_of_newest_go(id: &str, instance: &str, last: u8) -> String {
    let comment = format!("a4861f4ae9f7d238-{instance}, net: net, if: eth0, id: {id}");
    format!(
        r#"nft -f - <<'END'
add table inet cni_plugins_masquerade {{ comment "Masquerading for plugins from github.com/containernetworking/plugins" ; }}
add chain inet cni_plugins_masquerade masq_checks {{ comment "Masquerade traffic from certain IPs to any (non-multicast) IP outside their subnet" ; }}
add chain inet cni_plugins_masquerade postrouting {{ type nat hook postrouting priority 100 ; }}
flush chain inet cni_plugins_masquerade postrouting
add rule inet cni_plugins_masquerade postrouting ip daddr == 224.0.0.0/4  return
add rule inet cni_plugins_masquerade postrouting ip6 daddr == ff00::/8  return
add rule inet cni_plugins_masquerade postrouting goto masq_checks
add rule inet cni_plugins_masquerade masq_checks ip saddr == 10.1.2.{last} ip daddr != 10.1.2.0/24 masquerade comment "{comment}"
END
"#
    )
}

/// Containers `c1` and `c2` with the hashes of `eth0:c1` and `eth0:c2`.
const INSTANCES: [(&str, &str, u8); 2] = [("c1", "f4d01f2ef4b92245", 2), ("c2", "8c6ebb285a95686c", 3)];

both_flavours! {
    fn masquerade_of_newest_go_is_that_of_ours(host) {
        let net = host.network(config(json!({ "ipMasq": true, "ipam": { "type": "host-local", "subnet": "10.1.2.0/24" } })));
        for (id, _, _) in INSTANCES {
            let pod = host.container();
            assert_eq!(pod.id(), id);
            net.add(&pod).succeeds();
        }
        let whole = || host.sh("nft -s list table inet cni_plugins_masquerade | grep -v '^\t*comment'");
        let ours = whole();
        host.sh("nft delete table inet cni_plugins_masquerade");
        for (id, instance, last) in INSTANCES {
            host.sh(&masquerade_of_newest_go(id, instance, last));
        }
        let lines = |shown: &str| {
            let mut lines: Vec<_> = shown.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert_eq!(lines(&ours), lines(&whole()));
        // And what Go wrote is replaced by ours, not added to.
        net.del(&host.again("c1")).succeeds();
        net.add(&host.again("c1")).succeeds();
        assert_eq!(lines(&whole()).len(), lines(&ours).len());
    }

    fn masquerade_of_newest_go_is_taken_away_by_del_and_gc(host) {
        let net = host.network(config(json!({ "cniVersion": "1.1.0", "ipMasq": true })));
        let (one, _two) = (host.container(), host.container());
        for (id, instance, last) in INSTANCES {
            host.sh(&masquerade_of_newest_go(id, instance, last));
        }
        let ids = || {
            let rules = host.rules();
            let ids = rules.iter().filter_map(|rule| Some(rule.split_once(", id: ")?.1.trim_matches('"').to_owned()));
            ids.collect::<Vec<_>>()
        };
        assert_eq!(ids(), ["c1", "c2"]);
        net.gc(&[&one]).succeeds();
        assert_eq!(ids(), ["c1"]);
        net.del(&one).succeeds();
        assert!(ids().is_empty(), "{:?}", ids());
    }

    fn add_by_go_check_and_del_by_ours(host) needs [GoPlugins] {
        let mut host = host;
        let ours = host.plugins();
        host.upgrade(Plugins::Go);
        let (one, two) = (host.container(), host.container());
        let (id1, id2) = (one.id().to_owned(), two.id().to_owned());
        let results = [&one, &two].map(|pod| host.network(config(json!({}))).add(pod).result());

        host.upgrade(ours);
        let net = host.network(config(json!({})));
        let (one, two) = (host.again(&id1), host.again(&id2));
        net.check(&one, &results[0]).succeeds();
        let third = host.container();
        assert_eq!(net.add_addresses(&third), ["10.1.2.4", "fd00:1::4"]);
        assert!(third.reaches("10.1.2.2"));
        net.del_after(&one, &results[0]).succeeds();
        net.del(&two).succeeds();
        net.del(&third).succeeds();
        nothing_is_left(&host);
    }

    fn add_by_ours_check_and_del_by_go(host) needs [GoPlugins] {
        let mut host = host;
        let (one, two) = (host.container(), host.container());
        let (id1, id2) = (one.id().to_owned(), two.id().to_owned());
        let results = [&one, &two].map(|pod| host.network(config(json!({}))).add(pod).result());

        host.upgrade(Plugins::Go);
        let net = host.network(config(json!({})));
        let (one, two) = (host.again(&id1), host.again(&id2));
        net.check(&one, &results[0]).succeeds();
        let third = host.container();
        assert_eq!(net.add_addresses(&third), ["10.1.2.4", "fd00:1::4"]);
        assert!(third.reaches("10.1.2.2"));
        net.del_after(&one, &results[0]).succeeds();
        net.del(&two).succeeds();
        net.del(&third).succeeds();
        nothing_is_left(&host);
    }

    fn masquerade_of_go_is_taken_away_by_ours(host) needs [GoPlugins, Iptables] {
        let mut host = host;
        let ours = host.plugins();
        host.upgrade(Plugins::Go);
        let pod = host.container();
        let id = pod.id().to_owned();
        let result = host.network(config(json!({ "ipMasq": true }))).add(&pod).result();
        assert!(host.rules().iter().any(|rule| rule.contains("masquerade")), "{:#?}", host.rules());
        host.upgrade(ours);
        host.network(config(json!({ "ipMasq": true }))).del_after(&host.again(&id), &result).succeeds();
        nothing_is_left(&host);
    }

    fn masquerade_of_go_is_taken_away_without_a_result(host) needs [GoPlugins, Iptables] {
        let mut host = host;
        let ours = host.plugins();
        host.upgrade(Plugins::Go);
        let (stays, goes) = (host.container(), host.container());
        let (stays, goes) = (stays.id().to_owned(), goes.id().to_owned());
        for id in [&stays, &goes] {
            host.network(config(json!({ "ipMasq": true }))).add(&host.again(id)).succeeds();
        }
        host.upgrade(ours);
        let net = host.network(config(json!({ "ipMasq": true })));
        let (stays, goes) = (host.again(&stays), host.again(&goes));
        goes.vanish();
        net.del(&goes).succeeds();
        let rules = host.rules();
        assert!(rules.iter().any(|rule| rule.contains("10.1.2.2")), "the rules of a living container are gone: {rules:#?}");
        assert!(!rules.iter().any(|rule| rule.contains("10.1.2.3")), "{rules:#?}");
        net.del(&stays).succeeds();
        nothing_is_left(&host);
    }

    fn gc_by_ours_after_add_by_go(host) needs [GoPlugins, Iptables] {
        let mut host = host;
        let ours = host.plugins();
        host.upgrade(Plugins::Go);
        let (keep, lose) = (host.container(), host.container());
        let (keep, lose) = (keep.id().to_owned(), lose.id().to_owned());
        for id in [&keep, &lose] {
            host.network(config(json!({ "ipMasq": true }))).add(&host.again(id)).succeeds();
        }
        host.upgrade(ours);
        let net = host.network(config(json!({ "ipMasq": true, "cniVersion": "1.1.0" })));
        let (keep, lose) = (host.again(&keep), host.again(&lose));
        lose.vanish();
        net.gc(&[&keep]).succeeds();
        assert_eq!(host.reservations("net").into_keys().collect::<Vec<_>>(), ["10.1.2.2", "fd00:1::2"]);
        let rules = host.rules();
        assert!(rules.iter().any(|rule| rule.contains("10.1.2.2")), "{rules:#?}");
        assert!(!rules.iter().any(|rule| rule.contains("10.1.2.3")), "{rules:#?}");
        net.del(&keep).succeeds();
        nothing_is_left(&host);
    }

    fn spoof_check_of_go_is_taken_away_by_ours(host) needs [GoPlugins, NftBridge] {
        let mut host = host;
        let ours = host.plugins();
        host.upgrade(Plugins::Go);
        let pod = host.container();
        let id = pod.id().to_owned();
        host.network(config(json!({ "macspoofchk": true }))).add(&pod).succeeds();
        assert!(host.rules().iter().any(|rule| rule.contains("drop")));
        host.upgrade(ours);
        host.network(config(json!({ "macspoofchk": true }))).del(&host.again(&id)).succeeds();
        nothing_is_left(&host);
    }

    fn spoof_check_of_ours_is_taken_away_by_go(host) needs [GoPlugins, NftBridge] {
        let mut host = host;
        let pod = host.container();
        let id = pod.id().to_owned();
        host.network(config(json!({ "macspoofchk": true }))).add(&pod).succeeds();
        assert!(host.rules().iter().any(|rule| rule.contains("drop")));
        host.upgrade(Plugins::Go);
        host.network(config(json!({ "macspoofchk": true }))).del(&host.again(&id)).succeeds();
        nothing_is_left(&host);
    }

    fn masquerade_of_both_side_by_side(host) needs [GoPlugins, Iptables] {
        let mut host = host;
        let ours = host.plugins();
        host.named_container("beyond");
        host.ip("link add name up0 type veth peer name eth0 netns beyond; addr add 192.0.2.1/24 dev up0; link set up0 up");
        host.again("beyond").ip("addr add 192.0.2.2/24 dev eth0; link set eth0 up");
        let mut ids = Vec::new();
        for plugins in [Plugins::Go, ours] {
            host.upgrade(plugins);
            let pod = host.container();
            host.network(config(json!({ "ipMasq": true }))).add(&pod).succeeds();
            ids.push(pod.id().to_owned());
        }
        for id in &ids {
            let seen = source_seen_by(&host.again("beyond"), "192.0.2.2".parse().expect("an address"), &host.again(id));
            assert_eq!(seen.map(|from| from.to_string()).as_deref(), Some("192.0.2.1"), "{id}");
        }
        let between = source_seen_by(&host.again(&ids[0]), "10.1.2.2".parse().expect("an address"), &host.again(&ids[1]));
        assert_eq!(between.map(|from| from.to_string()).as_deref(), Some("10.1.2.3"));
        for id in &ids {
            host.network(config(json!({ "ipMasq": true }))).del(&host.again(id)).succeeds();
        }
        nothing_is_left(&host);
    }

    fn host_local_of_both_on_one_folder_at_once(host) needs [GoPlugins] {
        let config = json!({ "cniVersion": "1.0.0", "name": "net", "type": "host-local",
            "ipam": { "type": "host-local", "subnet": "10.1.2.0/24" } });
        let containers: Vec<_> = (0..32).map(|_| host.container()).collect();
        let net = host.network(config);
        let go = Plugins::Go.dir().join("host-local");
        let both = |command: &str| -> Vec<_> {
            let started: Vec<_> = containers
                .iter()
                .enumerate()
                .map(|(number, pod)| {
                    let call = net.call(command, pod);
                    let call = if number % 2 == 0 { call.program(&go) } else { call };
                    call.start()
                })
                .collect();
            started.into_iter().map(|child| oxcni_tests::Outcome::of(child, command)).collect()
        };
        let mut given: Vec<_> =
            both("ADD").iter().map(|added| added.result()["ips"][0]["address"].to_string()).collect();
        given.sort();
        given.dedup();
        assert_eq!(given.len(), 32);
        for deleted in both("DEL") {
            deleted.succeeds();
        }
        assert!(host.reservations("net").is_empty());
    }

    fn our_bridge_calls_their_ipam_and_theirs_calls_ours(host) needs [GoPlugins] {
        let theirs = Plugins::Go.dir();
        host.sh(&format!("mkdir -p /run/theirs; cp {}/host-local /run/theirs/", theirs.display()));
        let net = host.network(config(json!({}))).path_before("/run/theirs");
        let pod = host.container();
        let result = net.add(&pod).result();
        assert_eq!(result["ips"][0]["address"], "10.1.2.2/24");
        net.check(&pod, &result).succeeds();
        net.del(&pod).succeeds();

        let net = host.network(config(json!({})));
        let theirs_with_our_ipam = |command: &str, pod| net.call(command, pod).program(theirs.join("bridge")).run();
        let pod = host.container();
        let result = theirs_with_our_ipam("ADD", &pod).result();
        assert_eq!(result["ips"][0]["address"], "10.1.2.3/24");
        theirs_with_our_ipam("DEL", &pod).succeeds();
        nothing_is_left(&host);
    }
}
