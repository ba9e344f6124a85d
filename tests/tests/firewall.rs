//! Firewall rules: how little of the ruleset is changed, and rules that iptables keeps.
#![cfg(target_arch = "x86_64")]

use oxcni_tests::{Container, Host, Network, both_flavours, without_nf_tables};
use serde_json::json;

fn masquerading(host: &Host) -> Network<'_> {
    host.network(json!({
        "cniVersion": "1.1.0", "name": "net", "type": "bridge", "bridge": "br-test", "ipMasq": true,
        "ipam": { "type": "host-local", "subnet": "10.1.2.0/24" },
    }))
}

/// What nft(8) sees of the changes that `work` makes to the ruleset.
fn changes(host: &Host, work: impl FnOnce()) -> Vec<String> {
    // A table that comes and goes shows that the monitor listens, and then that it has heard all.
    let heard = |mark: &str| {
        host.sh(&format!(
            "until grep -q {mark} /run/changes; do nft add table inet {mark}; nft delete table inet {mark}; sleep 0.05; done"
        ));
    };
    host.sh("stdbuf -oL nft monitor > /run/changes 2>&1 < /dev/null & echo $! > /run/monitor");
    heard("begun");
    work();
    heard("ended");
    host.sh("kill $(cat /run/monitor)");
    let shown = host.sh("cat /run/changes");
    let lines = shown.lines().filter(|line| !line.starts_with('#') && !line.contains("inet begun"));
    lines.take_while(|line| !line.contains("inet ended")).map(str::to_owned).collect()
}

/// Rules of the legacy tables, as Go's bridge makes them for the address of a container.
fn add_legacy_rules(host: &Host, pod: &Container<'_>, address: &str) {
    let id = pod.id();
    host.sh(&format!(
        "chain=CNI-$(printf net{id} | sha512sum | cut -c 1-24); iptables-legacy -t nat -N $chain; \
         iptables-legacy -t nat -A $chain ! -d 224.0.0.0/4 -j MASQUERADE; \
         iptables-legacy -t nat -A POSTROUTING -s {address} -m comment --comment 'name: \"net\" id: \"{id}\"' -j $chain"
    ));
}

both_flavours! {
    fn add_makes_its_own_rule_only_and_del_deletes_it_only(host) {
        let net = masquerading(&host);
        net.add(&host.container()).succeeds();
        let net = net.with("ipam", json!({ "type": "static", "addresses": [{ "address": "10.1.2.3/24" }] }));
        let pod = host.container();
        let is_own = |change: &str| change.contains("masq_checks") && change.contains("10.1.2.3");
        let added = changes(&host, || drop(net.add(&pod).result()));
        assert!(matches!(&added[..], [one] if one.starts_with("add rule ") && is_own(one)), "{added:#?}");
        // As after an ADD that was killed.
        let replaced = changes(&host, || {
            pod.ip("link del eth0");
            net.add(&pod).succeeds();
        });
        let [deleted, own] = &replaced[..] else { panic!("{replaced:#?}") };
        assert!(deleted.starts_with("delete rule ") && own.starts_with("add rule ") && is_own(own), "{replaced:#?}");
        let removed = changes(&host, || _ = net.del(&pod).succeeds());
        assert!(matches!(&removed[..], [one] if one.starts_with("delete rule ")), "{removed:#?}");
        assert_eq!(changes(&host, || _ = net.del(&pod).succeeds()), Vec::<String>::new());
    }

    fn rules_of_iptables_are_removed_where_nf_tables_fails(host) needs [IptablesLegacy] {
        let net = masquerading(&host);
        let pod = host.container();
        net.clone().with("ipMasq", json!(false)).add(&pod).succeeds();
        add_legacy_rules(&host, &pod, "10.1.2.2");
        let rules = || host.sh("iptables-legacy -t nat -S");
        assert!(rules().contains("-j CNI-"), "{}", rules());
        let del = without_nf_tables(&net.call("DEL", &pod));
        assert!(del.status.success(), "{del:?}");
        assert!(!rules().contains("CNI-"), "{}", rules());
        assert!(pod.link("eth0").is_null() && host.reservations("net").is_empty());
    }
}
