//! The same configuration to the Go plugins of Debian's package and to ours: the same results,
//! the same kernel. `recorded.rs` compares with newer ones.

use oxcni_tests::requirement::{self, Feature};
use oxcni_tests::{Container, Host, Intended, Plugins, parity, source_seen_by, with_keys};
use serde_json::{Value, json};

/// Of cases that are refused: Go leaves behind what it made until then, and its DEL refuses too.
const REFUSED: &[Intended] = &[
    Intended {
        path: "/after add/containers/0",
        reason: "Go leaves the container's link behind; ours undo what they made",
    },
    Intended { path: "/after add/host/links", reason: "and its other end, and a bridge that it made" },
    Intended { path: "/after add/host/routes", reason: "and the routes of the bridge's address" },
    Intended { path: "/after add/host/vlans", reason: "and their VLANs, where the kernel has them" },
    Intended { path: "/after del/host/vlans", reason: "which go with the links" },
    Intended { path: "/after del/host/links", reason: "of which the bridge outlives the DEL" },
    Intended { path: "/after del/host/routes", reason: "with its address" },
    Intended {
        path: "/dels succeed",
        reason: "Go's DEL fails for what its ADD refuses, so runtimes retry for ever; ours has nothing to take down",
    },
];

/// The third container finds no address.
const EXHAUSTED: &[Intended] = &[
    Intended {
        path: "/after add/containers/2",
        reason: "Go leaves the link of the refused container behind",
    },
    Intended { path: "/after add/host/links/veth#3", reason: "and its other end" },
    Intended { path: "/after add/host/vlans", reason: "and that end's VLAN, where the kernel has them" },
    CHECK_BESIDE_OTHERS[0],
];

const OLD_RESULT_OF_LOOPBACK: &[Intended] = &[Intended {
    path: "/results/0",
    reason: "1.1.1 prints a result of 1.0.0 whatever version was requested",
}];

/// Where nothing keeps the bridge's MAC, it follows its ports, and 1.1.1 compares it in CHECK.
const CHECK_BESIDE_OTHERS: &[Intended] = &[Intended {
    path: "/checks succeed",
    reason: "Go's CHECK of one container fails when another one's port changed the bridge's MAC: by chance",
}];

/// Go has `preserveDefaultVlan` since 1.8, which says whether VLAN 1 stays; before, it did.
const DEFAULT_VLAN: &[Intended] = &[
    Intended {
        path: "/after add/host/vlans",
        reason: "1.1.1 leaves a port in VLAN 1, too; newer ones and ours do not",
    },
    Intended { path: "/after del/host/vlans", reason: "nor the port of the gateway" },
];

/// The bridge's MAC address is not kept: the gateway's address is on another link.
const DEFAULT_VLAN_BESIDE_OTHERS: &[Intended] = &[
    DEFAULT_VLAN[0],
    DEFAULT_VLAN[1],
    CHECK_BESIDE_OTHERS[0],
    Intended {
        path: "/links/br-par.100/accept_ra",
        reason: "Go lets the host take the routes that containers of the VLAN advertise",
    },
];

/// Found with resolvConf and with static's dns.
const DNS_OF_IPAM: &[Intended] = &[Intended {
    path: "/results/0/dns",
    reason: "1.1.1 loses the DNS settings that IPAM gave when the bridge's configuration has none; newer ones keep them",
}];

fn bridge(rest: Value) -> Value {
    with_keys(json!({ "cniVersion": "1.0.0", "name": "net", "type": "bridge", "bridge": "br-par" }), rest)
}

fn with_ipam(rest: Value) -> Value {
    let mut config = bridge(rest);
    config["ipam"] = json!({ "type": "host-local", "subnet": "10.1.2.0/24" });
    config
}

/// The Go plugin delegates CHECK to the IPAM plugin of no name and fails.
const CHECK_OF_LAYER_2: &[Intended] = &[Intended {
    path: "/checks succeed",
    reason: "Go's CHECK fails for every layer 2 attachment, for want of an IPAM plugin to ask",
}];

parity! {
    layer_2 { bridge(json!({})), intended: CHECK_OF_LAYER_2 }
    layer_2_with_mtu { bridge(json!({ "mtu": 1300 })), intended: CHECK_OF_LAYER_2 }
    an_address { with_ipam(json!({})) }
    two_containers { with_ipam(json!({})), containers: 2, intended: CHECK_BESIDE_OTHERS }
    gateway { with_ipam(json!({ "isGateway": true })) }
    gateway_for_two { with_ipam(json!({ "isGateway": true })), containers: 2 }
    default_gateway { with_ipam(json!({ "isDefaultGateway": true })) }
    default_gateway_with_default_route_from_ipam { bridge(json!({ "isDefaultGateway": true, "ipam": {
        "type": "host-local", "subnet": "10.1.2.0/24",
        "routes": [{ "dst": "0.0.0.0/0", "gw": "10.1.2.9" }] } })) }
    routes { bridge(json!({ "isGateway": true, "ipam": {
        "type": "host-local", "subnet": "10.1.2.0/24",
        "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "172.30.0.0/16", "gw": "10.1.2.7" }] } })) }
    ipv6 { bridge(json!({ "isGateway": true, "ipam": { "type": "host-local",
        "ranges": [[{ "subnet": "fd00:1::/64" }]], "routes": [{ "dst": "::/0" }] } })) }
    dual_stack { bridge(json!({ "isDefaultGateway": true, "ipam": { "type": "host-local",
        "ranges": [[{ "subnet": "10.1.2.0/24" }], [{ "subnet": "fd00:1::/64" }]] } })), containers: 2 }
    two_gateways_of_one_family { bridge(json!({ "isGateway": true, "ipam": { "type": "host-local",
        "ranges": [[{ "subnet": "10.1.2.0/24" }], [{ "subnet": "10.1.3.0/24" }]] } })),
        intended: REFUSED }
    duplicate_address_detection { bridge(json!({ "enabledad": true, "ipam": { "type": "host-local",
        "ranges": [[{ "subnet": "fd00:1::/64" }]] } })) }
    hairpin { with_ipam(json!({ "hairpinMode": true })) }
    promiscuous { with_ipam(json!({ "promiscMode": true })) }
    mtu { with_ipam(json!({ "mtu": 1400 })) }
    mtu_on_a_bridge_that_exists { with_ipam(json!({ "mtu": 1400 })),
        links: "link add name br-par type bridge" }
    mac_from_cni_args { with_ipam(json!({})), args: "IgnoreUnknown=1;MAC=c2:11:22:33:44:55" }
    bridge_that_exists { with_ipam(json!({ "isGateway": true })),
        links: "link add name br-par address c2:00:00:00:00:01 type bridge; link set br-par up" }
    bridge_name_of_another_kind { with_ipam(json!({})), links: "link add name br-par type veth peer name other" }
    bridge_has_another_address { with_ipam(json!({ "isGateway": true })),
        links: "link add name br-par type bridge; addr add 10.9.9.9/24 dev br-par",
        intended: REFUSED }
    force_address { with_ipam(json!({ "isGateway": true, "forceAddress": true })),
        links: "link add name br-par type bridge; addr add 10.9.9.9/24 dev br-par" }
    force_address_of_ipv6 { bridge(json!({ "isGateway": true, "forceAddress": true, "ipam": { "type": "host-local",
        "ranges": [[{ "subnet": "fd00:1::/64" }]] } })),
        links: "link add name br-par type bridge; addr add fd00:1::77/64 dev br-par nodad; addr add fd00:2::1/64 dev br-par nodad" }
    ipv6_of_another_subnet_stays { bridge(json!({ "isGateway": true, "ipam": { "type": "host-local",
        "ranges": [[{ "subnet": "fd00:1::/64" }]] } })),
        links: "link add name br-par type bridge; addr add fd00:2::1/64 dev br-par nodad" }
    vlan [BridgeVlan] { with_ipam(json!({ "vlan": 100 })), intended: DEFAULT_VLAN }
    vlan_with_gateway [BridgeVlan] { with_ipam(json!({ "vlan": 100, "isGateway": true })), containers: 2,
        intended: DEFAULT_VLAN_BESIDE_OTHERS }
    static_addresses { bridge(json!({ "isGateway": true, "ipam": { "type": "static",
        "addresses": [{ "address": "10.10.0.1/24", "gateway": "10.10.0.254" }, { "address": "fd00:1::7/64", "gateway": "fd00:1::1" }],
        "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "192.168.0.0/16", "gw": "10.10.0.5" }, { "dst": "fd00:9::/32", "gw": "fd00:1::9" }],
        "dns": { "nameservers": ["8.8.8.8"], "domain": "example.com", "search": ["example.com"] } } })), intended: DNS_OF_IPAM }
    loopback { json!({ "cniVersion": "1.0.0", "name": "net", "type": "loopback" }) }
}

parity! {
    on_any_kernel: "it compares which addresses are chosen and how a result is written";

    layer_2_with_an_empty_ipam { bridge(json!({ "ipam": {} })), intended: CHECK_OF_LAYER_2 }
    layer_2_with_dns { bridge(json!({ "dns": { "nameservers": ["10.9.9.9"], "domain": "example.org" } })),
        intended: CHECK_OF_LAYER_2 }
    default_bridge_name { json!({ "cniVersion": "1.0.0", "name": "net", "type": "bridge",
        "ipam": { "type": "host-local", "subnet": "10.1.2.0/24" } }) }
    gateway_given { bridge(json!({ "isGateway": true, "ipam": { "type": "host-local",
        "ranges": [[{ "subnet": "10.1.2.0/24", "rangeStart": "10.1.2.50", "rangeEnd": "10.1.2.60", "gateway": "10.1.2.77" }]] } })) }
    gateway_outside_of_its_subnet { bridge(json!({ "ipam": { "type": "host-local",
        "ranges": [[{ "subnet": "10.1.2.0/24", "gateway": "10.7.7.7" }]] } })) }
    two_addresses_of_one_family { bridge(json!({ "ipam": { "type": "host-local",
        "ranges": [[{ "subnet": "10.1.2.0/24" }], [{ "subnet": "10.1.3.0/24" }]] } })) }
    hairpin_with_promiscuous_is_refused { with_ipam(json!({ "hairpinMode": true, "promiscMode": true })),
        intended: REFUSED }
    mac_from_args_overrules_cni_args {
        with_ipam(json!({ "args": { "cni": { "mac": "c2:11:22:33:44:66" } } })), args: "IgnoreUnknown=1;MAC=c2:11:22:33:44:55" }
    mac_from_runtime_config_overrules_all {
        with_ipam(json!({ "args": { "cni": { "mac": "c2:11:22:33:44:66" } },
            "capabilities": { "mac": true }, "runtimeConfig": { "mac": "c2:11:22:33:44:77" } })),
        args: "IgnoreUnknown=1;MAC=c2:11:22:33:44:55" }
    unknown_cni_arg_is_refused { with_ipam(json!({})), args: "UNHEARD=of",
        intended: REFUSED }
    unknown_cni_arg_is_ignored_when_asked { with_ipam(json!({})), args: "IgnoreUnknown=true;UNHEARD=of;MAC=c2:11:22:33:44:55" }
    dns_of_the_configuration { with_ipam(json!({ "dns": { "nameservers": ["10.9.9.9"], "search": ["a.example", "b.example"],
        "options": ["ndots:5"] } })) }
    unknown_keys_are_tolerated { with_ipam(json!({ "mode": "bridge", "x": { "y": [1, null] } })) }
    version_0_1_0 { with_ipam(json!({ "cniVersion": "0.1.0", "isGateway": true })) }
    version_0_2_0 { with_ipam(json!({ "cniVersion": "0.2.0", "isGateway": true })) }
    version_0_3_0 { with_ipam(json!({ "cniVersion": "0.3.0", "isGateway": true })) }
    version_0_3_1 { with_ipam(json!({ "cniVersion": "0.3.1", "isGateway": true })) }
    version_0_4_0 { with_ipam(json!({ "cniVersion": "0.4.0", "isGateway": true })) }
    no_version_at_all { { let mut config = with_ipam(json!({})); config.as_object_mut().map(|object| object.remove("cniVersion")); config } }
    static_address_from_cni_args { bridge(json!({ "ipam": { "type": "static" } })),
        args: "IgnoreUnknown=1;IP=10.10.0.7/24;GATEWAY=10.10.0.254" }
    static_addresses_from_cni_args_add { bridge(json!({ "ipam": { "type": "static", "addresses": [{ "address": "10.10.0.1/24" }] } })),
        args: "IgnoreUnknown=1;IP=10.11.0.7/24" }
    static_addresses_from_args_replace { bridge(json!({ "args": { "cni": { "ips": ["10.12.0.3/24"] } },
        "ipam": { "type": "static", "addresses": [{ "address": "10.10.0.1/24" }] } })) }
    static_addresses_from_runtime_config_replace { bridge(json!({ "args": { "cni": { "ips": ["10.12.0.3/24"] } },
        "capabilities": { "ips": true }, "runtimeConfig": { "ips": ["10.13.0.4/24"] },
        "ipam": { "type": "static", "addresses": [{ "address": "10.10.0.1/24" }] } })) }
    static_without_addresses { bridge(json!({ "ipam": { "type": "static" } })),
        intended: REFUSED }
    loopback_0_2_0 { json!({ "cniVersion": "0.2.0", "name": "net", "type": "loopback" }),
        intended: OLD_RESULT_OF_LOOPBACK }
    requested_address_from_cni_args { with_ipam(json!({})), args: "IgnoreUnknown=1;IP=10.1.2.99" }
    requested_address_from_args { with_ipam(json!({ "args": { "cni": { "ips": ["10.1.2.98"] } } })) }
    requested_address_from_runtime_config { with_ipam(json!({ "capabilities": { "ips": true }, "runtimeConfig": { "ips": ["10.1.2.97"] } })) }
    requested_addresses_add_up { bridge(json!({ "args": { "cni": { "ips": ["10.1.3.5"] } }, "ipam": { "type": "host-local",
        "ranges": [[{ "subnet": "10.1.2.0/24" }], [{ "subnet": "10.1.3.0/24" }]] } })), args: "IgnoreUnknown=1;IP=10.1.2.99" }
    requested_address_outside_is_refused { with_ipam(json!({ "args": { "cni": { "ips": ["10.9.9.9"] } } })),
        intended: REFUSED }
    ip_ranges_from_runtime_config { with_ipam(json!({ "capabilities": { "ipRanges": true },
        "runtimeConfig": { "ipRanges": [[{ "subnet": "10.5.0.0/24" }]] } })) }
    range_set_of_two_subnets { bridge(json!({ "ipam": { "type": "host-local", "ranges": [[
        { "subnet": "10.1.2.0/29", "rangeStart": "10.1.2.2", "rangeEnd": "10.1.2.2" }, { "subnet": "10.1.3.0/24" }]] } })), containers: 3,
        intended: CHECK_BESIDE_OTHERS }
    address_of_the_gateway_is_never_given { bridge(json!({ "ipam": { "type": "host-local",
        "ranges": [[{ "subnet": "10.1.2.0/29", "gateway": "10.1.2.3" }]] } })), containers: 3,
        intended: CHECK_BESIDE_OTHERS }
    exhausted_range { bridge(json!({ "ipam": { "type": "host-local",
        "ranges": [[{ "subnet": "10.1.2.0/24", "rangeStart": "10.1.2.4", "rangeEnd": "10.1.2.5" }]] } })), containers: 3,
        intended: EXHAUSTED }
    resolv_conf { bridge(json!({ "ipam": { "type": "host-local", "subnet": "10.1.2.0/24", "resolvConf": "/run/resolv.conf" } })),
        setup: "printf 'nameserver 10.0.0.53\\n# comment\\nsearch a.example b.example\\ndomain c.example\\noptions ndots:2 edns0\\n' > /run/resolv.conf",
        intended: DNS_OF_IPAM }
}

/// Firewall rules are compared by what they do to packets: whom peers see, and who gets through.
fn effects(plugins: Plugins, config: &Value) -> Value {
    let host = Host::new(plugins);
    let beyond = host.named_container("beyond");
    host.ip("link add name up0 type veth peer name eth0 netns beyond; link set up0 up; \
         addr add 192.0.2.1/24 dev up0; addr add 2001:db8::1/64 dev up0 nodad");
    beyond.ip("link set eth0 up; link set lo up; addr add 192.0.2.2/24 dev eth0; \
         addr add 2001:db8::2/64 dev eth0 nodad; route add 10.1.2.0/24 via 192.0.2.1; \
         route add fd00:1::/64 via 2001:db8::1");
    let net = host.network(config.clone());
    let (one, two) = (host.container(), host.container());
    net.add(&one).succeeds();
    net.add(&two).succeeds();
    let seen = |at: &Container<'_>, address: &str| {
        let from = source_seen_by(at, address.parse().expect("an address"), &one);
        from.map_or_else(|| "nobody".to_owned(), |from| from.to_string())
    };
    let mut effects = vec![
        seen(&beyond, "192.0.2.2"),
        seen(&beyond, "2001:db8::2"),
        seen(&two, "10.1.2.3"),
        seen(&two, "fd00:1::3"),
    ];
    net.del(&two).succeeds();
    effects.push(seen(&beyond, "192.0.2.2"));
    net.del(&one).succeeds();
    json!({ "seen": effects, "rules left": host.rules() })
}

#[test]
fn masquerade_has_the_same_effect() {
    if !requirement::met("masquerade_has_the_same_effect", &[Feature::GoPlugins, Feature::Iptables]) {
        return;
    }
    for masquerade in [true, false] {
        let config = json!({ "cniVersion": "1.0.0", "name": "net", "type": "bridge", "bridge": "br-par",
            "isDefaultGateway": true, "ipMasq": masquerade, "ipam": { "type": "host-local",
                "ranges": [[{ "subnet": "10.1.2.0/24" }], [{ "subnet": "fd00:1::/64" }]] } });
        let theirs = effects(Plugins::Go, &config);
        for flavour in Plugins::OURS {
            assert_eq!(effects(flavour, &config), theirs, "{flavour:?}, ipMasq {masquerade}");
        }
    }
}
