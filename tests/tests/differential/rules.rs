//! Accepted differences from Go: each a named rule with its reason. A rule that no case needs is a
//! failure, so the list holds only what is true.

use serde_json::Value;

use crate::case::Family::{
    self, Bridge, BridgeVlan, Dummy, HostLocal, Ipvlan, Loopback, Macvlan, Static, Tuning, Vlan,
};
use crate::rule::Release::{Any, Debian, Newer};
use crate::rule::{Place, Rule};

/// All that create an interface.
const INTERFACE: &[Family] = &[Bridge, BridgeVlan, Macvlan, Ipvlan, Vlan, Dummy];

pub(crate) const RULES: &[Rule] = &[
    Rule {
        name: "errors of Go have no code of the specification",
        reason: "Go gives 999 and 100 to nearly all errors; ours have the specification's where it has one",
        families: &[Bridge, BridgeVlan, Macvlan, Ipvlan, Vlan, Dummy, HostLocal, Static, Loopback, Tuning],
        of: Any,
        rare: false,
        explains: |at| {
            let is_error = |value: &Value| value.as_str().is_some_and(|text| text.starts_with("error: "));
            at.difference.theirs == "error: of the plugin" && is_error(&at.difference.ours)
        },
    },
    Rule {
        name: "loopback of Go prints results of 1.0.0",
        reason: "it gives them the configured version without converting them; ours converts them",
        families: &[Loopback],
        of: Any,
        rare: false,
        explains: |at| {
            // Up to 0.2.0 one address of each family, up to 0.4.0 each with its version.
            let forms: &[&str] = match at.key("cniVersion").as_str().unwrap_or_default() {
                "" | "0.1.0" | "0.2.0" => &["/interfaces", "/ips", "/ip4", "/ip6"],
                "0.3.0" | "0.3.1" | "0.4.0" => &["/version"],
                _ => &[],
            };
            at.is_of("results") && forms.iter().any(|form| at.ends_with(form))
        },
    },
    Rule {
        name: "a refused ADD of Go leaves what it made",
        reason: "ours leave all as it was; Go's DEL after it may even delete an interface that is not its own",
        families: &[Bridge, BridgeVlan, Macvlan, Ipvlan, Vlan, Dummy, HostLocal, Tuning],
        of: Any,
        rare: false,
        explains: |at| at.is_of_state() && at.is_refused_by_go() && at.is_untouched_by_ours(),
    },
    Rule {
        name: "what a refused ADD of Go leaves beside an attachment",
        reason: "links are numbered as they are found, and the next address follows the one that was taken last",
        families: &[Bridge, BridgeVlan, Macvlan, Ipvlan, Vlan, Dummy, HostLocal],
        of: Any,
        rare: true,
        explains: |at| {
            let is_veth = at.difference.ours.as_str().is_some_and(|name| name.starts_with("veth#"));
            let has_all_of_ours = || {
                // 1.1.1 leaves ports in VLAN 1, too.
                let list = |of: &Value| without_vlan_1(of).as_array().cloned().unwrap_or_default();
                let theirs = list(&at.difference.theirs);
                list(&at.difference.ours).iter().all(|entry| theirs.contains(entry))
            };
            at.is_of_state()
                && at.is_refused_by_go()
                && at.case.containers > 1
                && (is_veth
                    || at.path().contains("/last_reserved_ip")
                    || at.path().contains("/host/vlans") && has_all_of_ours())
        },
    },
    Rule {
        name: "DEL of Go fails for what its ADD refused",
        reason: "a runtime would repeat that DEL for ever; ours find nothing to take down",
        families: &[Bridge, BridgeVlan, Macvlan, Ipvlan, Vlan, Dummy, HostLocal, Tuning],
        of: Any,
        rare: true,
        explains: |at| at.go_alone_fails("del", "") && at.is_refused_by_go(),
    },
    Rule {
        name: "DEL of Go's static reads nothing",
        reason: "so it succeeds where `ipam` is not an object; no runtime calls it so, since libcni refuses that",
        families: &[Static],
        of: Any,
        rare: true,
        explains: |at| at.is_of("del") && at.difference.theirs == "success" && !at.key("ipam").is_object(),
    },
    Rule {
        name: "CHECK of Go fails for a negative queue length",
        reason: "it compares -1 with the 4294967295 that its ADD made of it",
        families: &[Tuning],
        of: Newer,
        rare: false,
        explains: |at| {
            at.go_alone_fails("check", "Transmit Queue Length")
                && at.key("txQLen").as_i64().is_some_and(|len| len < 0)
        },
    },
    Rule {
        name: "CHECK of Go's tuning does not replace IFNAME",
        reason: "so it fails for every attachment with such a sysctl",
        families: &[Tuning],
        of: Debian,
        rare: true,
        explains: |at| at.go_alone_fails("check", "IFNAME"),
    },
    Rule {
        name: "the transmit queue length",
        reason: "Go leaves links without one, newer ones only the host's end of a veth pair; ours keep the kernel's default",
        families: INTERFACE,
        of: Any,
        rare: false,
        explains: |at| at.ends_with("/txqlen"),
    },
    Rule {
        name: "IPv6 addresses are announced",
        reason: "Go announces IPv4 addresses by the kernel (arp_notify); ours IPv6 addresses too (ndisc_notify)",
        families: INTERFACE,
        of: Any,
        rare: false,
        explains: |at| at.ends_with("/links/eth0/ndisc_notify"),
    },
    Rule {
        name: "IPv4 addresses of VLAN and dummy interfaces are announced",
        reason: "as those of all other plugins, by the kernel (arp_notify)",
        families: &[Vlan, Dummy],
        of: Any,
        rare: false,
        explains: |at| at.ends_with("/links/eth0/arp_notify") && at.difference.ours == "1",
    },
    Rule {
        name: "ports of a VLAN are in VLAN 1 too",
        reason: "1.1.1 leaves the bridge's default VLAN on them; newer ones take it away, as ours",
        families: &[BridgeVlan],
        of: Debian,
        rare: false,
        explains: |at| {
            let (theirs, ours) = (&at.difference.theirs, &at.difference.ours);
            at.path().contains("/host/vlans") && without_vlan_1(theirs) == without_vlan_1(ours)
        },
    },
    Rule {
        name: "the VLAN of untagged frames in its own trunk",
        reason: "Go makes it a tagged one, so nothing of the container passes: it sends untagged frames",
        families: &[BridgeVlan],
        of: Newer,
        rare: true,
        explains: |at| {
            let has_vlan = |item: &Value| item["id"] == *at.key("vlan");
            let is_in_trunk = at.key("vlanTrunk").as_array().is_some_and(|trunk| trunk.iter().any(has_vlan));
            at.path().contains("/host/vlans/")
                && at.ends_with("/flags")
                && at.difference.theirs.is_null()
                && is_in_trunk
        },
    },
    Rule {
        name: "Go's ipvlan takes the interface of prevResult for its master",
        reason: "where none is configured, as if it were chained; so CHECK fails, and DEL with a result",
        families: &[Ipvlan],
        of: Any,
        rare: false,
        explains: |at| {
            let without_master = at.key("master").as_str().is_none_or(str::is_empty);
            without_master && (at.go_alone_fails("check", "") || at.go_alone_fails("del", ""))
        },
    },
    Rule {
        name: "the gateway of a VLAN accepts no routes of containers",
        reason: "as the bridge, of which Go knows it too (accept_ra)",
        families: &[BridgeVlan],
        of: Any,
        rare: false,
        explains: |at| {
            let is_of_vlan = at.path().contains("/host/links/") && at.path().contains('.');
            is_of_vlan && at.ends_with("/accept_ra") && at.difference.ours == "0"
        },
    },
    Rule {
        name: "CHECK of Go fails without IPAM",
        reason: "it asks an IPAM plugin of no name",
        families: &[Bridge, BridgeVlan, Macvlan],
        of: Any,
        rare: true,
        explains: |at| {
            at.go_alone_fails("check", "no plugin name provided") && at.key("ipam")["type"].is_null()
        },
    },
    Rule {
        name: "CHECK of Go fails beside others",
        reason: "the MAC address of a bridge follows its ports unless it has the gateway's address, and Go compares it",
        families: &[Bridge, BridgeVlan],
        of: Any,
        rare: true,
        explains: |at| {
            let is_gateway = ["isGateway", "isDefaultGateway"].into_iter().any(|key| at.key(key) == true);
            // That of a VLAN is on an interface of its own.
            let is_of_vlan = at.key("vlan").as_i64().is_some_and(|vlan| vlan != 0);
            at.go_alone_fails("check", "Mac doesn't match")
                && at.case.containers > 1
                && (!is_gateway || is_of_vlan)
        },
    },
    Rule {
        name: "CHECK finds an interface that is down",
        reason: "no packet reaches the container; Go looks at its addresses and routes only, and misses it where it has none",
        families: &[Macvlan],
        of: Any,
        rare: true,
        explains: |at| {
            let is_set_down = at.case.change == "link set eth0 down" && at.key("ipam")["type"].is_null();
            is_set_down && at.path() == "/check/0" && at.difference.theirs == "success"
        },
    },
    Rule {
        name: "DNS settings of IPAM",
        reason: "Go loses those that IPAM gave",
        families: &[Macvlan, Ipvlan, Vlan],
        of: Any,
        rare: true,
        explains: |at| is_dns(at, &at.key("ipam")["dns"]),
    },
    Rule {
        name: "DNS settings of IPAM where the configuration of a bridge has none",
        reason: "1.1.1 loses those that IPAM gave",
        families: &[Bridge],
        of: Debian,
        rare: true,
        explains: |at| is_dns(at, &at.key("ipam")["dns"]),
    },
    Rule {
        name: "DNS settings of the configuration",
        reason: "Go's dummy leaves them out of its result, alone of all its plugins",
        families: &[Dummy],
        of: Newer,
        rare: false,
        explains: |at| is_dns(at, at.key("dns")),
    },
    Rule {
        name: "when an IPv6 address is found to be a duplicate",
        reason: "without a gateway no plugin waits for the kernel to find it",
        families: &[Macvlan, Bridge],
        of: Any,
        rare: true,
        explains: |at| {
            let is_state = ["/dadfailed", "/tentative"].iter().any(|state| at.ends_with(state));
            is_state && at.case.containers > 1 && at.key("ipam")["type"] == "static"
        },
    },
    Rule {
        name: "an IPv6 address that another container has",
        reason: "1.1.1 does not look how duplicate address detection ends; newer ones refuse as ours",
        families: &[Macvlan, Bridge],
        of: Debian,
        rare: true,
        explains: |at| at.is_refused_by_ours_alone("duplicate address detection"),
    },
    Rule {
        name: "DEL of Go fails with ipMasq",
        reason: "iptables finds the chain in use, or not there: the kernel frees a rule later, and Go removes the rules of all addresses for each",
        families: &[Bridge],
        of: Any,
        rare: true,
        explains: |at| at.go_alone_fails("del", "tables -t nat") && at.key("ipMasq") == true,
    },
    Rule {
        name: "CHECK of Go fails for a route without a next hop",
        reason: "ADD gives it the gateway of its address, CHECK looks for one without",
        families: INTERFACE,
        of: Debian,
        rare: true,
        explains: |at| {
            at.go_alone_fails("check", "Expected Route")
                && at.of_ipam("routes").iter().any(|route| route["gw"].is_null())
        },
    },
    Rule {
        name: "CHECK of Go asks for the route of an address' own subnet",
        reason: "ours for the addresses and for the routes of the result",
        families: INTERFACE,
        of: Any,
        rare: true,
        explains: |at| {
            let is_flushed = at.case.change.starts_with("route flush");
            is_flushed && at.path() == "/check/0" && at.go_alone_fails("check", "Failed to find Gateway")
        },
    },
    Rule {
        name: "an address that is configured twice",
        reason: "CHECK of Go's static fails for it",
        families: &[Static],
        of: Any,
        rare: true,
        explains: |at| {
            let addresses = at.of_ipam("addresses");
            let twice = (1..addresses.len()).any(|this| {
                addresses[..this].iter().any(|earlier| earlier["address"] == addresses[this]["address"])
            });
            at.go_alone_fails("check", "") && twice
        },
    },
    Rule {
        name: "a MAC address behind a result without addresses",
        reason: "0.2.0 has no form for it, so Go can't write the MAC address into the result; ours pass it on as it is",
        families: &[Tuning],
        of: Any,
        rare: true,
        explains: |at| at.is_refused_by_go_alone("cannot convert: no valid IP addresses"),
    },
    Rule {
        name: "the MTU of interfaces in results",
        reason: "results of 1.1.0 have it; Go leaves it out",
        families: INTERFACE,
        of: Newer,
        rare: false,
        explains: |at| {
            let is_left_out = at.is_of("results") && at.ends_with("/mtu") && at.difference.theirs.is_null();
            is_left_out && at.key("cniVersion") == "1.1.0"
        },
    },
    Rule {
        name: "a next hop behind a route without one",
        reason: "the kernel takes it where that route has link scope, and refuses Go's ADD",
        families: INTERFACE,
        of: Any,
        rare: true,
        explains: |at| {
            let routes = at.of_ipam("routes");
            let direct = routes.iter().position(|route| route["gw"].is_null());
            let behind =
                direct.is_some_and(|direct| routes[direct..].iter().any(|route| route["gw"].is_string()));
            behind && at.is_refused_by_go_alone("network is unreachable")
        },
    },
    Rule {
        name: "routes without a next hop have link scope",
        reason: "as with `ip route`, so that later routes can go by way of them",
        families: &[Macvlan, Bridge, BridgeVlan, Ipvlan, Vlan, Dummy],
        of: Any,
        rare: true,
        explains: |at| {
            let is_of_container = at.path().contains("/containers/") && at.ends_with("/scope");
            is_of_container && at.difference.theirs.is_null() && at.difference.ours == "link"
        },
    },
];

/// Whether a result of ours alone has these DNS settings.
fn is_dns(at: &Place<'_>, settings: &Value) -> bool {
    let key = at.path().rsplit('/').next().unwrap_or_default();
    let expected = if key == "dns" { settings } else { &settings[key] };
    at.is_of("results")
        && at.path().contains("/dns")
        && at.difference.theirs.is_null()
        && at.difference.ours == *expected
}

/// Lists of VLANs, or of interfaces with such lists, without VLAN 1.
fn without_vlan_1(list: &Value) -> Value {
    let mut list = list.as_array().cloned().unwrap_or_default();
    list.retain(|entry| entry["vlan"] != 1);
    for entry in list.iter_mut().filter(|entry| entry["vlans"].is_array()) {
        entry["vlans"] = without_vlan_1(&entry["vlans"]);
    }
    list.retain(|entry| entry["vlans"].as_array().is_none_or(|vlans| !vlans.is_empty()));
    Value::Array(list)
}
