//! Bad input: a clear error with the specification's code, and the node as it was before.

use std::net::IpAddr;

use oxcni_tests::{Call, Container, Host, Network, both_flavours, with_keys};
use serde_json::{Value, json};

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

/// A call that must fail with this code, name what is wrong, and change nothing; gives the
/// host's state.
#[track_caller]
fn refused(host: &Host, container: &Container<'_>, call: &Call<'_>, code: u64, quoted: &[&str]) -> Value {
    let state = || {
        (
            host.state(),
            [host.files_below("/var/lib/cni"), host.files_below("/run/oxcni")].concat(),
            container.state(),
        )
    };
    let before = state();
    call.run().fails(code, quoted);
    let after = state();
    assert_eq!(after.0, before.0, "the host changed");
    let is_reservation =
        |file: &&String| file.rsplit('/').next().is_some_and(|name| name.parse::<IpAddr>().is_ok());
    let made: Vec<_> =
        after.1.iter().filter(|file| !before.1.contains(file)).filter(is_reservation).collect();
    assert!(made.is_empty(), "on disk: {made:?}");
    assert_eq!(after.2, before.2, "the container changed");
    after.0
}

/// ADD of a network that must be refused.
#[track_caller]
fn refused_add(host: &Host, net: &Network<'_>, code: u64, quoted: &[&str]) {
    let pod = host.container();
    let before = refused(host, &pod, &net.call("ADD", &pod), code, quoted);
    // And a DEL of it, as runtimes send after a failed ADD, does not make it worse.
    net.del(&pod).succeeds();
    assert_eq!(host.state(), before);
}

/// ADD and DEL of a network of which not even the type or the version can be read.
#[track_caller]
fn refused_altogether(host: &Host, net: &Network<'_>, code: u64, quoted: &[&str]) {
    let pod = host.container();
    for command in ["ADD", "DEL"] {
        refused(host, &pod, &net.call(command, &pod), code, quoted);
    }
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
    fn namespace_that_is_none_is_refused(host) {
        let pod = host.container();
        let net = host.network(config(json!({})));
        host.sh("echo > /run/a-file; mkdir /run/a-folder");
        for path in ["/run/netns/never", "/run/a-file", "/run/a-folder", "/proc/self/status", "relative"] {
            let error = net.call("ADD", &pod).env("CNI_NETNS", path).run().error();
            assert!([4, 8].contains(&error.code), "{path}: {error:?}");
            assert!(error.text().contains(path), "{path}: {error:?}");
        }
        // A namespace of another kind is not a network namespace.
        let error = net.call("ADD", &pod).env("CNI_NETNS", "/proc/self/ns/uts").run().error();
        assert!([4, 8].contains(&error.code), "{error:?}");
        assert_eq!(host.links(), ["lo"]);
        assert!(host.reservations("net").is_empty());
    }

    fn del_releases_nothing_while_the_namespace_can_not_be_looked_at(host) {
        let net = host.network(config(json!({ "isGateway": true })));
        let pod = host.container();
        net.add(&pod).succeeds();
        let held = host.reservations("net");
        // Links that lead to each other: open(2) fails, which says nothing of the namespace.
        host.sh("ln -s there /run/netns/here; ln -s here /run/netns/there");
        net.call("DEL", &pod).env("CNI_NETNS", "/run/netns/here").run().fails(5, &["/run/netns/here"]);
        assert_eq!(host.reservations("net"), held);
        net.del(&pod).succeeds();
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
        refused(&host, &pod, &other.call("ADD", &pod), 4, &["eth0", pod.netns()]);
        assert!(host.reservations("other").is_empty());
    }

    fn other_address_on_the_bridge_is_refused_without_force(host) {
        host.ip("link add name br-spec type bridge; link set br-spec up; addr add 10.9.9.9/24 dev br-spec");
        let net = host.network(config(json!({ "isGateway": true, "ipam": { "type": "host-local", "subnet": "10.1.2.0/24" } })));
        let pod = host.container();
        let before = (host.sh("ip -br -4 addr show dev br-spec | grep -o 10.9.9.9/24"), host.links());
        let error = net.add(&pod).error();
        assert!(error.text().contains("10.9.9.9") && error.text().contains("forceAddress"), "{error:?}");
        assert_eq!((host.sh("ip -br -4 addr show dev br-spec | grep -o 10.9.9.9/24"), host.links()), before);
        assert!(host.reservations("net").is_empty());
        assert!(pod.link("eth0").is_null());
    }

    fn result_that_the_version_can_not_say_leaves_nothing(host) {
        let layer_2 = || host.network(config(json!({ "ipam": {} })));
        refused_add(&host, &layer_2().with("cniVersion", json!("0.2.0")), 7, &["0.2.0", "without addresses"]);
        refused_add(&host, &layer_2().with("cniVersion", None), 7, &["0.1.0", "without addresses"]);
    }

    fn plugin_that_is_not_installed_names_the_folders_searched(host) {
        let net = host.network(config(json!({ "ipam": { "type": "unheard-of" } }))).path_before("/run/plugins");
        let pod = host.container();
        let before = host.state();
        let error = net.add(&pod).error();
        assert!(error.text().contains("unheard-of") && error.text().contains("/run/plugins"), "{error:?}");
        assert_eq!(host.state(), before);
    }
}

both_flavours! {
    on_any_kernel: "refused before the kernel is asked";

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
        let mac = net.call("ADD", &pod).env("CNI_ARGS", "MAC=c2:11:22:33:44");
        refused(&host, &pod, &mac, 4, &["CNI_ARGS", "MAC", "c2:11:22:33:44"]);
        for command in ["add", "DESTROY", " ADD"] {
            refused(&host, &pod, &net.call(command, &pod), 4, &["CNI_COMMAND"]);
        }
    }

    fn not_json_is_shown_with_its_place(host) {
        let pod = host.container();
        let add = host.network(config(json!({}))).call("ADD", &pod);
        let broken = "{\n  \"cniVersion\": \"1.0.0\",\n  \"name\": \"net\" \"type\": \"bridge\"\n}";
        refused(&host, &pod, &add.clone().stdin(broken), 6, &["line 3", "column", "type"]);
        refused(&host, &pod, &add.clone().stdin("{ \"name\": \"net\", # a comment\n }"), 6, &["line 1", "a comment"]);
        for garbage in ["", "null", "[]", "\"net\"", "7", "{", "{}}", "\u{0}", "{\"cniVersion\": \"1.0.0\",}"] {
            let error = add.clone().stdin(garbage).run().error();
            assert!([6, 7].contains(&error.code), "{garbage:?}: {error:?}");
        }
        // Invalid UTF-8 in a string is read as U+FFFD.
        let invalid = add.clone().stdin(&b"{\"name\":\"\xff\xfe\"}"[..]);
        refused(&host, &pod, &invalid, 7, &["network name \"\u{fffd}\u{fffd}\""]);
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
            refused_altogether(&host, &net, 1, &["0.1.0", "1.1.0"]);
        }
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
        refused_ipam(&host, json!({ "ranges": [[{ "subnet": "10.1.2.0/24" }], [{ "subnet": "10.1.0.0/16" }]] }), &["10.1.2.", "10.1.0."]);
        refused_ipam(&host, json!({ "ranges": [[{ "subnet": "10.1.2.0/24" }, { "subnet": "10.1.2.128/25" }]] }), &["10.1.2.1"]);
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
        refused_add(&host, &host.network(config(json!({ "ipam": ipam }))).args("IgnoreUnknown=1;IP=10.1.3.1"), 7, &["10.1.3.1"]);
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

    fn types_that_are_no_names_are_refused(host) {
        for kind in ["../../../bin/sh", "a/b", ".", ".."] {
            let net = host.network(config(json!({ "ipam": { "type": kind } })));
            refused_altogether(&host, &net, 7, &[kind]);
        }
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
