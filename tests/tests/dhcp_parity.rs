//! Our dhcp plugin and daemon beside Debian's Go ones: the same configuration and server.

use oxcni_tests::dhcp::Dnsmasq;
use oxcni_tests::requirement::{Feature, met_on_any_kernel};
use oxcni_tests::{Host, Plugins, eventually};
use serde_json::{Value, json};

/// The result of an ADD with a server that gives all kinds of options.
fn result_of(plugins: Plugins, ipam: &Value) -> Value {
    let host = Host::new(plugins);
    let machine = host.veth_pair("eth1", "server", &["10.1.2.1/24"]);
    let options = [
        "--dhcp-option=option:dns-server,10.1.2.3",
        "--dhcp-option=option:domain-name,example.com",
        "--dhcp-option=option:static-route,10.0.0.0,10.1.2.9",
        "--dhcp-option=option:classless-static-route,10.7.0.0/16,10.1.2.7,10.8.0.0/16,0.0.0.0,0.0.0.0/0,10.1.2.1",
    ];
    let _dnsmasq = Dnsmasq::start(&machine, "10.1.2.50,10.1.2.50,12h", &options);
    let net = host.network(json!({
        "cniVersion": "1.0.0", "name": "net", "type": "macvlan", "master": "eth1", "ipam": ipam,
    }));
    let pod = host.container();
    let mut result = if plugins == Plugins::Go {
        let _daemon = host.go_dhcp_daemon();
        assert!(eventually(|| host.path("/run/cni/dhcp.sock").exists()));
        // Our plugin reports whose daemon it found.
        let dhcp = Plugins::Multicall.dir().join("dhcp");
        let status = net.hostwide_call("STATUS").program(dhcp).config(&json!({
            "cniVersion": "1.1.0", "name": "net", "type": "dhcp", "ipam": { "type": "dhcp" },
        }));
        status.run().fails(50, &["/run/cni/dhcp.sock", "Go dhcp plugin"]);
        // What it may hold ends by itself.
        let del = net.call("DEL", &pod).program(Plugins::Multicall.dir().join("dhcp")).run();
        assert!(del.succeeds().stderr.contains("not released"), "{del}");
        net.add(&pod).result()
    } else {
        let _daemon = host.dhcp_daemon(&[]);
        // The Go plugin, too.
        let error = net.call("ADD", &pod).program("/usr/lib/cni/dhcp").run().error();
        assert!(error.text().contains("501 this is the DHCP daemon of oxcni"), "{error:?}");
        net.add(&pod).result()
    };
    // What is empty may be absent.
    if result["dns"].as_object().is_some_and(serde_json::Map::is_empty) {
        result.as_object_mut().expect("an object").remove("dns");
    }
    for interface in result["interfaces"].as_array_mut().into_iter().flatten() {
        interface["mac"] = json!("");
    }
    result
}

fn both(ipam: &Value) -> [Value; 2] {
    [Plugins::Multicall, Plugins::Go].map(|plugins| result_of(plugins, ipam))
}

fn met(test: &str) -> bool {
    met_on_any_kernel(test, &[Feature::Macvlan, Feature::GoPlugins], "the plugins are compared on one kernel")
}

#[test]
fn with_the_same_options_requested_results_are_the_same() {
    if !met("with_the_same_options_requested_results_are_the_same") {
        return;
    }
    let router = json!({ "type": "dhcp", "request": [{ "skipDefault": true, "option": "subnet-mask" }, { "option": "routers" }] });
    let [ours, go] = both(&router);
    assert_eq!(ours, go);
    let routes = json!({ "type": "dhcp", "request": [{ "skipDefault": true, "option": "1" }, { "option": "3" }, { "option": "33" }] });
    let [ours, go] = both(&routes);
    assert_eq!(ours, go);
    let classless = json!({ "type": "dhcp", "request": [{ "skipDefault": true, "option": "1" }, { "option": "3" }, { "option": "121" }] });
    let [ours, go] = both(&classless);
    assert_eq!(ours["routes"][0], go["routes"][0]);
    assert_eq!(ours["ips"], go["ips"]);
}

#[test]
fn by_default_more_is_requested_than_by_go() {
    if !met("by_default_more_is_requested_than_by_go") {
        return;
    }
    let [mut ours, go] = both(&json!({ "type": "dhcp" }));
    assert_eq!(ours["dns"], json!({ "nameservers": ["10.1.2.3"], "domain": "example.com" }));
    assert_eq!(ours["routes"].as_array().map(Vec::len), Some(3));
    ours.as_object_mut().expect("an object").remove("dns");
    ours["routes"] = go["routes"].clone();
    assert_eq!(ours, go);
}

#[test]
fn check_takes_over_a_lease_of_a_go_daemon() {
    if !met("check_takes_over_a_lease_of_a_go_daemon") {
        return;
    }
    let config = json!({
        "cniVersion": "1.0.0", "name": "net", "type": "macvlan", "master": "eth1", "ipam": { "type": "dhcp" },
    });
    let mut host = Host::new(Plugins::Go);
    let machine = host.veth_pair("eth1", "server", &["10.1.2.1/24"]);
    let dnsmasq = Dnsmasq::start(&machine, "10.1.2.50,10.1.2.99,12h", &[]);
    let go_daemon = host.go_dhcp_daemon();
    assert!(eventually(|| host.path("/run/cni/dhcp.sock").exists()));
    let pod = host.container();
    let id = pod.id().to_owned();
    let result = host.network(config.clone()).add(&pod).result();
    go_daemon.kill();

    host.upgrade(Plugins::Multicall);
    let daemon = host.dhcp_daemon(&[]);
    let (net, pod) = (host.network(config), host.again(&id));
    net.check(&pod, &result).succeeds();
    daemon.prints("event=lease ", 1);
    net.check(&pod, &result).succeeds();
    // The RELEASE has the identifier of the Go daemon, or the server would ignore it.
    net.del_after(&pod, &result).succeeds();
    assert!(eventually(|| dnsmasq.leased().is_empty()), "{:?}", dnsmasq.leases());
}
