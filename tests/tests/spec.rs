//! The protocol itself: versions, variables, bad input. Every refusal leaves the node as it was.

use oxcni_tests::{Call, Container, Host, Network, both_flavours};
use serde_json::{Value, json};

const VERSIONS: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
const PLUGINS: [&str; 5] = ["bridge", "cnv-bridge", "host-local", "static", "loopback"];

fn config(rest: Value) -> Value {
    let mut config = json!({
        "cniVersion": "1.1.0", "name": "net", "type": "bridge", "bridge": "br-spec",
        "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.1.2.0/24" }], [{ "subnet": "fd00:1::/64" }]] },
    });
    for (key, value) in rest.as_object().expect("an object") {
        config[key] = value.clone();
    }
    config
}

/// A call that must fail with this code, name what is wrong, and change nothing.
#[track_caller]
fn refused(host: &Host, container: &Container<'_>, call: &Call<'_>, code: u64, quoted: &[&str]) {
    let state = || {
        (
            host.state(),
            host.sh("find /var/lib/cni /run/oxcni 2>/dev/null | sort || true"),
            container.sh("ip -j addr"),
        )
    };
    let before = state();
    call.run().fails(code, quoted);
    let after = state();
    assert_eq!(after.0, before.0, "the host changed");
    let made = after.1.replace(&before.1, "");
    assert!(!made.lines().any(|file| file.ends_with(|last: char| last.is_ascii_digit())), "on disk: {made}");
    assert_eq!(after.2, before.2, "the container changed");
}

/// ADD of a network that must be refused.
#[track_caller]
fn refused_add(host: &Host, net: &Network<'_>, code: u64, quoted: &[&str]) {
    let pod = host.container();
    refused(host, &pod, &net.call("ADD", &pod), code, quoted);
    // And a DEL of it, as runtimes send after a failed ADD, does not make it worse.
    let before = host.state();
    net.del(&pod);
    assert_eq!(host.state(), before);
}

/// ADD with an `ipam` section that must be refused, both as bridge and as host-local itself.
#[track_caller]
fn refused_ipam(host: &Host, ipam: Value, quoted: &[&str]) {
    let mut ipam = ipam;
    if ipam.get("type").is_none() {
        ipam["type"] = json!("host-local");
    }
    let plugin = ipam["type"].clone();
    refused_add(host, &host.network(config(json!({ "ipam": ipam }))), 7, quoted);
    refused_add(host, &host.network(config(json!({ "type": plugin, "ipam": ipam }))), 7, quoted);
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

    fn no_version_means_0_1_0(host) {
        let result = host.network(config(json!({}))).with("cniVersion", None).add(&host.container()).result();
        assert_eq!(result["cniVersion"], "0.1.0");
        assert_eq!(result["ip4"]["ip"], "10.1.2.2/24");
    }

    fn version_tells_all_versions(host) {
        for plugin in PLUGINS {
            let call = Call::new(&host, plugin).env("CNI_COMMAND", "VERSION");
            for call in [call.clone().config(&json!({ "cniVersion": "1.0.0" })), call.clone(), call.without("CNI_PATH")] {
                let told = call.run().result();
                assert_eq!(told["supportedVersions"], json!(VERSIONS), "{plugin}: {told}");
                assert!(told["cniVersion"].is_string(), "{told}");
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

    fn missing_variables_are_all_named(host) {
        let pod = host.container();
        for plugin in PLUGINS {
            for command in ["ADD", "CHECK"] {
                let call = Call::new(&host, plugin).without("CNI_PATH").env("CNI_COMMAND", command).config(&config(json!({ "type": plugin })));
                refused(&host, &pod, &call, 4, &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"]);
            }
            let call = Call::new(&host, plugin).env("CNI_COMMAND", "DEL").config(&config(json!({ "type": plugin })));
            refused(&host, &pod, &call, 4, &["CNI_CONTAINERID", "CNI_IFNAME"]);
        }
        let net = host.network(config(json!({})));
        for variable in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"] {
            refused(&host, &pod, &net.call("ADD", &pod).without(variable), 4, &[variable]);
            refused(&host, &pod, &net.call("ADD", &pod).env(variable, ""), 4, &[variable]);
        }
    }

    fn malformed_variables_are_quoted(host) {
        let pod = host.container();
        let net = host.network(config(json!({})));
        for id in ["../x", "a/b", "-x", ".x", "a b", "a\nb", "ü"] {
            refused(&host, &pod, &net.call("ADD", &pod).env("CNI_CONTAINERID", id), 4, &["CNI_CONTAINERID"]);
            refused(&host, &pod, &net.call("DEL", &pod).env("CNI_CONTAINERID", id), 4, &["CNI_CONTAINERID"]);
        }
        for ifname in [".", "..", "a/b", "a:b", "a b", "sixteen-long-abc", "../x"] {
            refused(&host, &pod, &net.call("ADD", &pod).env("CNI_IFNAME", ifname), 4, &["CNI_IFNAME"]);
        }
        let both = net.call("ADD", &pod).env("CNI_CONTAINERID", "../x").env("CNI_IFNAME", "a/b");
        refused(&host, &pod, &both, 4, &["CNI_CONTAINERID", "../x", "CNI_IFNAME", "a/b"]);
        for args in ["no-equals-sign", "=", "A", "MAC=1;oops"] {
            refused(&host, &pod, &net.call("ADD", &pod).env("CNI_ARGS", args), 4, &["CNI_ARGS"]);
        }
        for command in ["add", "DESTROY", " ADD"] {
            refused(&host, &pod, &net.call(command, &pod), 4, &["CNI_COMMAND"]);
        }
    }

    fn longest_names_are_taken(host) {
        let pod = host.container();
        let net = host.network(config(json!({}))).ifname("fifteen-long-ab");
        net.add(&pod).succeeds();
        net.del(&pod).succeeds();
        assert!(host.reservations("net").is_empty());
    }

    fn namespace_that_is_none_is_refused(host) {
        let pod = host.container();
        let net = host.network(config(json!({})));
        host.sh("echo > /run/a-file; mkdir /run/a-folder");
        for path in ["/run/netns/never", "/run/a-file", "/run/a-folder", "/proc/self/status", "relative"] {
            let error = net.call("ADD", &pod).env("CNI_NETNS", path).run().error();
            assert!([4, 8].contains(&error.code), "{path}: {error:?}");
            assert!(error.text().contains(path), "{path}: {error:?}");
        }
        // Another kind of namespace is none either.
        let error = net.call("ADD", &pod).env("CNI_NETNS", "/proc/self/ns/uts").run().error();
        assert!([4, 8].contains(&error.code), "{error:?}");
        assert_eq!(host.links(), ["lo"]);
        assert!(host.reservations("net").is_empty());
    }

    fn namespace_of_the_host_is_refused(host) {
        let pod = host.container();
        let net = host.network(config(json!({})));
        for path in ["/proc/self/ns/net", "/proc/thread-self/ns/net"] {
            let call = net.call("ADD", &pod).env("CNI_NETNS", path);
            let before = host.state();
            let error = call.run().error();
            assert!([4, 8].contains(&error.code), "{error:?}");
            assert!(error.text().contains(path), "{error:?}");
            assert_eq!(host.state(), before);
        }
        let overridden = net.call("ADD", &pod).env("CNI_NETNS", "/proc/self/ns/net").env("CNI_NETNS_OVERRIDE", "1");
        overridden.run().succeeds();
        let del = net.call("DEL", &pod).env("CNI_NETNS", "/proc/self/ns/net").env("CNI_NETNS_OVERRIDE", "true");
        del.run().succeeds();
        assert!(host.reservations("net").is_empty());
    }

    fn not_json_is_shown_with_its_place(host) {
        let pod = host.container();
        let add = host.network(config(json!({}))).call("ADD", &pod);
        let broken = "{\n  \"cniVersion\": \"1.0.0\",\n  \"name\": \"net\" \"type\": \"bridge\"\n}";
        refused(&host, &pod, &add.clone().stdin(broken), 6, &["line 3", "column", "\"type\""]);
        refused(&host, &pod, &add.clone().stdin("{ \"name\": \"net\", # a comment\n }"), 6, &["line 1", "# a comment"]);
        for garbage in ["", "null", "[]", "\"net\"", "7", "{", "{}}", "\u{0}", "{\"cniVersion\": \"1.0.0\",}"] {
            let error = add.clone().stdin(garbage).run().error();
            assert!([6, 7].contains(&error.code), "{garbage:?}: {error:?}");
        }
        refused(&host, &pod, &add.clone().stdin(&b"{\"name\":\"\xff\xfe\"}"[..]), 6, &[]);
        assert_eq!(host.links(), ["lo"]);
    }

    fn broken_json_is_shown_in_plugins_of_all_kinds(host) {
        let pod = host.container();
        for plugin in PLUGINS {
            let add = host.network(config(json!({ "type": plugin }))).call("ADD", &pod);
            refused(&host, &pod, &add.stdin("{ \"cniVersion\": \"1.0.0\", \"name\" }"), 6, &["line 1", "column"]);
        }
    }

    fn endless_and_deep_input_ends(host) {
        let pod = host.container();
        let add = host.network(config(json!({}))).call("ADD", &pod);
        let deep = format!("{{\"name\":\"net\",\"x\":{}", "[".repeat(200_000));
        add.clone().stdin(deep).run().error();
        let long = format!("{{\"cniVersion\":\"1.0.0\",\"name\":\"net\",\"type\":\"bridge\",\"x\":\"{}\"}}", "a".repeat(20 << 20));
        add.stdin(long).run().error();
        assert_eq!(host.links(), ["lo"]);
    }

    fn value_of_the_wrong_type_names_its_key(host) {
        refused_with_key(&host, json!({ "mtu": "large" }), "mtu");
        refused_with_key(&host, json!({ "isGateway": "yes" }), "isGateway");
        refused_with_key(&host, json!({ "vlan": 1.5 }), "vlan");
        refused_with_key(&host, json!({ "bridge": 7 }), "bridge");
        refused_with_key(&host, json!({ "ipam": { "type": "host-local", "subnet": 10 } }), "subnet");
    }

    fn unknown_version_lists_ours(host) {
        for version in ["2.0.0", "1.2.0", "0.9.0", "1.0", "latest", ""] {
            let net = host.network(config(json!({ "cniVersion": version })));
            if version.is_empty() {
                // As good as none.
                let outcome = net.add(&host.container());
                if outcome.ok() {
                    continue;
                }
            }
            refused_add(&host, &net, 1, &["0.1.0", "1.1.0"]);
        }
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

    fn ranges_that_make_no_sense_are_refused(host) {
        let range = |range: Value| json!({ "ranges": [[range]] });
        refused_ipam(&host, range(json!({ "subnet": "10.1.2.0/24", "rangeStart": "10.1.2.20", "rangeEnd": "10.1.2.10" })), &["10.1.2.20", "10.1.2.10"]);
        refused_ipam(&host, range(json!({ "subnet": "10.1.2.0/24", "rangeStart": "10.1.3.1" })), &["10.1.3.1", "10.1.2.0/24"]);
        refused_ipam(&host, range(json!({ "subnet": "10.1.2.0/24", "rangeEnd": "10.1.3.1" })), &["10.1.3.1", "10.1.2.0/24"]);
        refused_ipam(&host, range(json!({ "subnet": "10.1.2.0/24", "rangeStart": "fd00::1" })), &["fd00::1"]);
        refused_ipam(&host, range(json!({ "subnet": "fd00:1::/64", "rangeEnd": "10.1.2.9" })), &["10.1.2.9"]);
        refused_ipam(&host, range(json!({ "subnet": "10.1.2.0/31" })), &["10.1.2.0/31"]);
        refused_ipam(&host, range(json!({ "subnet": "10.1.2.3/32" })), &["10.1.2.3/32"]);
        refused_ipam(&host, range(json!({ "subnet": "fd00:1::/127" })), &["fd00:1::/127"]);
        refused_ipam(&host, range(json!({ "subnet": "10.1.2.7/24" })), &["10.1.2.7/24"]);
        refused_ipam(&host, range(json!({ "subnet": "10.1.2.0/33" })), &["10.1.2.0/33"]);
        refused_ipam(&host, range(json!({ "subnet": "nonsense" })), &["nonsense"]);
        refused_ipam(&host, range(json!({ "subnet": "10.1.2.0/24", "gateway": "nowhere" })), &["nowhere"]);
        refused_ipam(&host, json!({ "subnet": "10.1.2.0/24", "rangeStart": "10.1.9.1" }), &["10.1.9.1"]);
        refused_ipam(&host, json!({ "ranges": [[{ "subnet": "10.1.2.0/24" }], [{ "subnet": "10.1.0.0/16" }]] }), &["10.1.2.0/24", "10.1.0.0/16"]);
        refused_ipam(&host, json!({ "ranges": [[{ "subnet": "10.1.2.0/24" }, { "subnet": "10.1.2.128/25" }]] }), &["10.1.2.128/25"]);
        refused_ipam(&host, json!({ "ranges": [[{ "subnet": "10.1.2.0/24" }, { "subnet": "fd00:1::/64" }]] }), &["fd00:1::/64"]);
        refused_ipam(&host, json!({}), &["range"]);
        refused_ipam(&host, json!({ "ranges": [] }), &["range"]);
        refused_ipam(&host, json!({ "ranges": [[]] }), &["range"]);
    }

    fn requested_address_outside_every_range_is_refused(host) {
        let ipam = json!({ "type": "host-local", "ranges": [[{ "subnet": "10.1.2.0/24", "rangeEnd": "10.1.2.50" }]] });
        for (rest, address) in [
            (json!({ "args": { "cni": { "ips": ["10.9.9.9"] } } }), "10.9.9.9"),
            (json!({ "runtimeConfig": { "ips": ["10.1.2.51"] } }), "10.1.2.51"),
            (json!({ "runtimeConfig": { "ips": ["fd00::9"] } }), "fd00::9"),
        ] {
            let mut rest = rest;
            rest["ipam"] = ipam.clone();
            refused_add(&host, &host.network(config(rest)), 7, &[address]);
        }
        refused_add(&host, &host.network(config(json!({ "ipam": ipam }))).args("IP=10.1.3.1"), 7, &["10.1.3.1"]);
        refused_add(&host, &host.network(config(json!({ "ipam": ipam, "runtimeConfig": { "ips": ["nonsense"] } }))), 7, &["nonsense"]);
    }

    fn static_that_makes_no_sense_is_refused(host) {
        refused_ipam(&host, json!({ "type": "static", "addresses": [{ "address": "10.1.2.3" }] }), &["10.1.2.3"]);
        refused_ipam(&host, json!({ "type": "static", "addresses": [{ "address": "10.1.2.300/24" }] }), &["10.1.2.300/24"]);
        refused_ipam(&host, json!({ "type": "static", "addresses": [{ "address": "10.1.2.3/24", "gateway": "x" }] }), &["x"]);
        refused_ipam(&host, json!({ "type": "static", "addresses": [{ "address": "10.1.2.3/24" }], "routes": [{ "dst": "10.0.0.0" }] }), &["10.0.0.0"]);
    }

    fn bridge_options_out_of_range_are_refused(host) {
        let net = |rest: Value| host.network(config(rest));
        refused_add(&host, &net(json!({ "vlan": 4095 })), 7, &["4095"]);
        refused_add(&host, &net(json!({ "vlan": -1 })), 7, &["-1"]);
        refused_add(&host, &net(json!({ "vlanTrunk": [{ "id": 4095 }] })), 7, &["4095"]);
        refused_add(&host, &net(json!({ "vlanTrunk": [{ "id": 0 }] })), 7, &["0"]);
        refused_add(&host, &net(json!({ "vlanTrunk": [{ "minID": 20, "maxID": 10 }] })), 7, &["20", "10"]);
        refused_add(&host, &net(json!({ "vlanTrunk": [{ "minID": 20 }] })), 7, &["maxID"]);
        refused_add(&host, &net(json!({ "vlanTrunk": [{ "maxID": 20 }] })), 7, &["minID"]);
        refused_add(&host, &net(json!({ "hairpinMode": true, "promiscMode": true })), 7, &["hairpin", "promisc"]);
        refused_add(&host, &net(json!({ "disableContainerInterface": true })), 7, &["disableContainerInterface"]);
        refused_add(&host, &net(json!({ "mtu": 10 })), 7, &["10"]);
        refused_add(&host, &net(json!({ "mtu": 700_000 })), 7, &["700000"]);
        refused_add(&host, &net(json!({ "bridge": "a/b" })), 7, &["a/b"]);
        refused_add(&host, &net(json!({ "bridge": "sixteen-long-abc" })), 7, &["sixteen-long-abc"]);
        refused_add(&host, &net(json!({ "runtimeConfig": { "mac": "c2:11:22:33:44" } })), 7, &["c2:11:22:33:44"]);
        refused_add(&host, &net(json!({ "args": { "cni": { "mac": "nonsense" } } })), 7, &["nonsense"]);
        refused_add(&host, &net(json!({ "runtimeConfig": { "mac": "01:00:5e:00:00:01" } })), 7, &["01:00:5e:00:00:01"]);
    }

    fn bridge_name_of_a_link_of_another_kind_is_refused(host) {
        host.sh("ip link add name br-spec type veth peer name other");
        refused_add(&host, &host.network(config(json!({}))), 7, &["br-spec", "veth"]);
    }

    fn interface_that_exists_is_refused(host) {
        let net = host.network(config(json!({})));
        let pod = host.container();
        net.add(&pod).succeeds();
        let other = host.network(config(json!({ "name": "other", "bridge": "br-other",
            "ipam": { "type": "host-local", "subnet": "10.1.7.0/24" } })));
        refused(&host, &pod, &other.call("ADD", &pod), 7, &["eth0"]);
        assert!(host.reservations("other").is_empty());
    }

    fn other_address_on_the_bridge_is_refused_without_force(host) {
        host.sh("ip link add name br-spec type bridge; ip link set br-spec up; ip addr add 10.9.9.9/24 dev br-spec");
        let net = host.network(config(json!({ "isGateway": true, "ipam": { "type": "host-local", "subnet": "10.1.2.0/24" } })));
        let pod = host.container();
        let before = (host.sh("ip -j -4 addr show dev br-spec"), host.links());
        let error = net.add(&pod).error();
        assert!(error.text().contains("10.9.9.9") && error.text().contains("forceAddress"), "{error:?}");
        assert_eq!((host.sh("ip -j -4 addr show dev br-spec"), host.links()), before);
        assert!(host.reservations("net").is_empty());
        assert!(pod.link("eth0").is_null());
    }

    fn types_that_are_no_names_are_refused(host) {
        for kind in ["../../../bin/sh", "a/b", ".", ".."] {
            let net = host.network(config(json!({ "ipam": { "type": kind } })));
            refused_add(&host, &net, 7, &[kind]);
        }
    }

    fn plugin_that_is_not_installed_names_the_folders_searched(host) {
        let net = host.network(config(json!({ "ipam": { "type": "unheard-of" } }))).path_before("/run/plugins");
        let pod = host.container();
        let before = host.state();
        let error = net.add(&pod).error();
        assert!(error.text().contains("unheard-of") && error.text().contains("/run/plugins"), "{error:?}");
        assert_eq!(host.state(), before);
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

    fn loopback_takes_its_own_result_of_a_chain(host) {
        let net = host.network(json!({ "cniVersion": "1.0.0", "name": "lo", "type": "loopback" })).ifname("lo");
        let before = json!({ "cniVersion": "1.0.0", "interfaces": [{ "name": "eth0", "sandbox": "/run/netns/c1" }],
            "ips": [{ "address": "10.1.2.3/24", "interface": 0 }] });
        let pod = host.container();
        let result = net.after(&before).add(&pod).result();
        assert_eq!(result["ips"][0]["address"], "10.1.2.3/24", "{result}");
    }
}

#[track_caller]
fn refused_with_key(host: &Host, rest: Value, key: &str) {
    let pod = host.container();
    let before = host.state();
    let error = host.network(config(rest)).add(&pod).error();
    assert!([6, 7].contains(&error.code), "{error:?}");
    assert!(error.text().contains(key), "{key} is not named: {error:?}");
    assert_eq!(host.state(), before);
}
