//! The protocol itself: versions in and out, what a person reads, what delegates receive.

use oxcni_tests::{Call, both_flavours, with_keys};
use serde_json::{Value, json};

const VERSIONS: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
const PLUGINS: [&str; 5] = ["bridge", "cnv-bridge", "host-local", "static", "loopback"];

fn config(rest: Value) -> Value {
    with_keys(
        json!({
            "cniVersion": "1.1.0", "name": "net", "type": "bridge", "bridge": "br-spec",
            "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.1.2.0/24" }], [{ "subnet": "fd00:1::/64" }]] },
        }),
        rest,
    )
}

both_flavours! {
    fn every_version_in_and_out(host) {
        for version in VERSIONS {
            let net = host.network(config(json!({ "cniVersion": version, "name": format!("net-{version}"), "isGateway": true })));
            let pod = host.container();
            let result = net.add(&pod).result();
            assert_eq!(result["cniVersion"], version);
            match version {
                "0.1.0" | "0.2.0" => {
                    assert_eq!(result["ip4"]["ip"], "10.1.2.2/24", "{result}");
                    assert_eq!(result["ip4"]["gateway"], "10.1.2.1");
                    assert_eq!(result["ip6"]["ip"], "fd00:1::2/64");
                    assert!(result.get("interfaces").is_none() && result.get("ips").is_none(), "{result}");
                }
                "0.3.0" | "0.3.1" | "0.4.0" => {
                    assert_eq!(result["ips"][0]["version"], "4", "{result}");
                    assert_eq!(result["ips"][1]["version"], "6");
                    assert_eq!(result["ips"][0]["interface"], 2);
                }
                _ => {
                    assert!(result["ips"][0].get("version").is_none(), "{result}");
                    assert_eq!(result["ips"][1]["address"], "fd00:1::2/64");
                    assert_eq!(result["interfaces"][2]["sandbox"], pod.netns());
                }
            }
            assert!(version == "1.1.0" || result["interfaces"][2]["mtu"].is_null(), "{version}: {result}");
            if ["0.4.0", "1.0.0", "1.1.0"].contains(&version) {
                net.check(&pod, &result).succeeds();
            }
            net.del_after(&pod, &result).succeeds();
            assert!(host.reservations(&format!("net-{version}")).is_empty(), "{version}");
        }
    }

    fn a_result_without_addresses_is_passed_on_but_not_made_in_0_2_0(host) {
        let pod = host.container();
        pod.ip("link add name eth0 type veth peer name far");
        let chained = json!({ "cniVersion": "0.2.0", "name": "net", "prevResult": { "cniVersion": "0.2.0" } });
        for plugin in ["tuning", "passthru", "loopback"] {
            let result = host.network(chained.clone()).with("type", json!(plugin)).add(&pod).result();
            assert_eq!(result, json!({ "cniVersion": "0.2.0", "dns": {} }), "{plugin}");
        }
        let alone = json!({ "cniVersion": "0.2.0", "name": "net", "type": "static", "ipam": { "type": "static" } });
        host.network(alone).add(&pod).fails(7, &["0.2.0", "without addresses"]);
    }

    fn no_version_means_0_1_0(host) {
        let result = host.network(config(json!({}))).with("cniVersion", None).add(&host.container()).result();
        assert_eq!(result["cniVersion"], "0.1.0");
        assert_eq!(result["ip4"]["ip"], "10.1.2.2/24");
    }

    fn version_tells_all_versions(host) {
        for plugin in PLUGINS {
            let call = Call::new(&host, plugin).env("CNI_COMMAND", "VERSION");
            for call in [call.clone().config(&json!({ "cniVersion": "1.0.0" })), call.clone(), call.without("CNI_PATH")] {
                let answer = call.run().result();
                assert_eq!(answer["supportedVersions"], json!(VERSIONS), "{plugin}: {answer}");
                assert!(answer["cniVersion"].is_string(), "{answer}");
            }
        }
    }

    fn a_person_is_told_what_it_is(host) {
        for plugin in PLUGINS {
            let by_hand = Call::new(&host, plugin).without("CNI_PATH");
            for call in [by_hand.clone(), by_hand.clone().arg("--help")] {
                let outcome = call.run();
                outcome.succeeds();
                let text = format!("{}{}", outcome.stdout, outcome.stderr);
                assert!(text.contains(plugin), "{outcome}");
                for version in VERSIONS {
                    assert!(text.contains(version), "{outcome}");
                }
                assert!(text.contains("Documentation"), "{outcome}");
            }
            let outcome = by_hand.arg("--version").run();
            assert!(outcome.succeeds().stdout.contains("oxcni"), "{outcome}");
        }
    }

    fn longest_names_are_taken(host) {
        let pod = host.container();
        let net = host.network(config(json!({}))).ifname("fifteen-long-ab");
        net.add(&pod).succeeds();
        net.del(&pod).succeeds();
        assert!(host.reservations("net").is_empty());
    }

    fn errors_speak_the_version_that_was_asked_in(host) {
        for version in VERSIONS {
            let error = host.network(config(json!({ "cniVersion": version, "vlan": 5000 }))).add(&host.container()).error();
            assert_eq!(error.cni_version, version);
        }
    }

    fn commands_of_later_versions_are_refused(host) {
        let pod = host.container();
        let old = host.network(config(json!({ "cniVersion": "0.3.1" })));
        let result = old.add(&pod).result();
        assert_eq!(old.check(&pod, &result).error().code, 1);
        let old = host.network(config(json!({ "cniVersion": "1.0.0" })));
        assert_eq!(old.status().error().code, 1);
        assert_eq!(old.gc(&[]).error().code, 1);
        assert!(!host.reservations("net").is_empty());
    }

    fn check_without_a_result_is_refused(host) {
        let net = host.network(config(json!({})));
        let pod = host.container();
        net.add(&pod).succeeds();
        let error = net.call("CHECK", &pod).run().error();
        assert!(error.text().contains("prevResult"), "{error:?}");
    }

    fn prev_result_in_every_version_is_understood(host) {
        for version in ["0.4.0", "1.0.0", "1.1.0"] {
            let net = host.network(config(json!({ "cniVersion": version, "isGateway": true })));
            let pod = host.container();
            let result = net.add(&pod).result();
            net.check(&pod, &result).succeeds();
            let mut wrong = result.clone();
            wrong["ips"][0]["address"] = json!("10.1.2.250/24");
            let error = net.check(&pod, &wrong).error();
            assert!(error.text().contains("10.1.2.250"), "{error:?}");
            for garbage in [json!({ "cniVersion": version, "ips": "none" }), json!("text"), json!({ "cniVersion": "9.9.9" })] {
                net.check(&pod, &garbage).error();
            }
            net.del(&pod).succeeds();
        }
    }

    fn status_passes_through_to_ipam(host) {
        host.network(config(json!({}))).status().succeeds();
        host.install_script("/run/plugins/sick", "#!/bin/sh\n\
            echo '{\"cniVersion\":\"1.1.0\",\"code\":50,\"msg\":\"no server\"}'; exit 1\n");
        let net = host.network(config(json!({ "ipam": { "type": "sick" } })));
        let call = Call::new(&host, "bridge").env("CNI_COMMAND", "STATUS").config(net.config()).path_before("/run/plugins");
        call.run().fails(50, &["no server"]);
    }

    fn unknown_keys_reach_a_third_party_ipam_unchanged(host) {
        host.install_script("/run/plugins/recorder", "#!/bin/sh\n\
            cat > /run/seen.$CNI_COMMAND; env | grep ^CNI_ > /run/env.$CNI_COMMAND; \
            [ $CNI_COMMAND = ADD ] && echo '{\"cniVersion\":\"1.0.0\",\"ips\":[{\"address\":\"10.1.2.9/24\"}]}'; exit 0\n");
        let given = json!({
            "cniVersion": "1.0.0", "name": "net", "type": "bridge", "bridge": "br-spec",
            "vendor.example/x": { "deep": [1, 2.50, null, "ü\u{1F980}"], "big": 18446744073709551615_u64 },
            "ipam": { "type": "recorder", "anything": true, "ranges": "not host-local's", "unheard": { "of": [] } },
            "args": { "cni": { "z": 1 } }, "runtimeConfig": { "portMappings": [{ "hostPort": 80 }] },
        });
        let net = host.network(given.clone()).path_before("/run/plugins").args("IgnoreUnknown=1;K8S_POD_NAME=x");
        let pod = host.container();
        let result = net.add(&pod).result();
        net.check(&pod, &result).succeeds();
        net.del(&pod).succeeds();
        let read = |file: &str| std::fs::read_to_string(host.path(file)).expect("recorded");
        for command in ["ADD", "DEL"] {
            let seen: Value = serde_json::from_str(&read(&format!("/run/seen.{command}"))).expect("JSON");
            assert_eq!(seen, given, "{command}");
        }
        let seen: Value = serde_json::from_str(&read("/run/seen.CHECK")).expect("JSON");
        assert_eq!(seen["prevResult"], result);
        let env = read("/run/env.ADD");
        for line in ["CNI_COMMAND=ADD", "CNI_CONTAINERID=c1", "CNI_IFNAME=eth0", "CNI_NETNS=/run/netns/c1", "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAME=x"] {
            assert!(env.lines().any(|known| known == line), "{line} is not in\n{env}");
        }
        assert!(env.contains("CNI_PATH=/run/plugins:"), "{env}");
    }

    fn ipam_of_an_older_version_is_understood(host) {
        host.install_script("/run/plugins/old", "#!/bin/sh\n\
            [ $CNI_COMMAND = ADD ] && echo '{\"cniVersion\":\"0.2.0\",\"ip4\":{\"ip\":\"10.1.2.9/24\",\"gateway\":\"10.1.2.1\",\"routes\":[{\"dst\":\"0.0.0.0/0\"}]},\"dns\":{\"nameservers\":[\"10.0.0.53\"]}}'; exit 0\n");
        let net = host.network(config(json!({ "cniVersion": "0.2.0", "ipam": { "type": "old" } }))).path_before("/run/plugins");
        let pod = host.container();
        let result = net.add(&pod).result();
        assert_eq!(result["ip4"]["ip"], "10.1.2.9/24");
        assert_eq!(result["dns"]["nameservers"][0], "10.0.0.53");
        assert_eq!(pod.default_gateways(), ["10.1.2.1"]);
        net.del(&pod).succeeds();
    }

    fn loopback_up_and_down(host) {
        for version in VERSIONS {
            let net = host.network(json!({ "cniVersion": version, "name": "lo", "type": "loopback" })).ifname("lo");
            let pod = host.container();
            assert!(pod.is_cut_off_from("127.0.0.1"));
            let result = net.add(&pod).result();
            assert!(pod.reaches("127.0.0.1") && pod.reaches("::1"));
            if !["0.1.0", "0.2.0"].contains(&version) {
                assert_eq!(result["ips"][0]["address"], "127.0.0.1/8", "{result}");
                assert_eq!(result["interfaces"][0]["name"], "lo");
            }
            if ["0.4.0", "1.0.0", "1.1.0"].contains(&version) {
                net.check(&pod, &result).succeeds();
            }
            net.del(&pod).succeeds();
            net.del(&pod).succeeds();
            assert!(pod.is_cut_off_from("127.0.0.1"));
            pod.vanish();
            net.del(&pod).succeeds();
        }
    }

    fn loopback_that_is_used_for_something_else_stays_as_it_was(host) {
        let net = host.network(json!({ "cniVersion": "1.0.0", "name": "lo", "type": "loopback" })).ifname("lo");
        let pod = host.container();
        pod.sh("ip addr add 10.9.9.9/32 dev lo");
        let before = pod.link("lo");
        net.add(&pod).fails(100, &["10.9.9.9"]);
        assert_eq!(pod.link("lo"), before);
    }

    fn loopback_takes_its_own_result_of_a_chain(host) {
        let net = host.network(json!({ "cniVersion": "1.0.0", "name": "lo", "type": "loopback" })).ifname("lo");
        let before = json!({ "cniVersion": "1.0.0", "interfaces": [{ "name": "eth0", "sandbox": "/run/netns/c1" }],
            "ips": [{ "address": "10.1.2.3/24", "interface": 0 }] });
        let pod = host.container();
        let result = net.after(&before).add(&pod).result();
        assert_eq!(result["ips"][0]["address"], "10.1.2.3/24", "{result}");
    }
}
