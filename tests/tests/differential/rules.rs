//! Accepted differences from Go: each a named rule with its reason. A rule that no case needs is a
//! failure, so the list holds only what is true.

use serde_json::Value;

use crate::case::{Case, Family};

/// One place at which two observations differ.
#[derive(Clone, Debug)]
pub(crate) struct Difference {
    /// Keys and positions, such as `/after add/host/links/cni0/mtu`.
    pub(crate) path: String,
    pub(crate) theirs: Value,
    pub(crate) ours: Value,
}

/// Everything that a rule may look at.
pub(crate) struct Context<'a> {
    pub(crate) case: &'a Case,
    /// The whole observation of Go.
    pub(crate) theirs: &'a Value,
    /// The whole observation of ours.
    pub(crate) ours: &'a Value,
}

impl Context<'_> {
    /// Whether an ADD of Go failed.
    fn refused_by_go(&self) -> bool {
        self.theirs["add"].as_array().is_some_and(|adds| adds.iter().any(|exit| exit != "success"))
    }

    /// Whether Go's ADD of the container failed that a path such as `/del/1` is about.
    fn refused_by_go_at(&self, path: &str) -> bool {
        let position = path.split('/').find_map(|part| part.parse::<usize>().ok());
        position.is_some_and(|position| self.theirs["add"][position] != "success")
    }

    /// The value of a key of the configuration, whatever the key's case.
    fn key(&self, key: &str) -> &Value {
        let fields = self.case.config.as_object();
        let found = fields.and_then(|fields| fields.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)));
        found.map_or(&Value::Null, |(_, value)| value)
    }
}

/// An accepted difference.
pub(crate) struct Rule {
    pub(crate) name: &'static str,
    pub(crate) reason: &'static str,
    /// Where it applies; a case of the first must need it.
    pub(crate) families: &'static [Family],
    /// Whether so few cases need it that only a run of a thousand must have one.
    pub(crate) rare: bool,
    pub(crate) explains: fn(&Context<'_>, &Difference) -> bool,
}

use Family::{Bridge, BridgeVlan, HostLocal, Ipvlan, Loopback, Macvlan, Static, Tuning, Vlan};

pub(crate) const RULES: &[Rule] = &[
    Rule {
        name: "errors of Go have no code of the specification",
        reason: "Go gives 999 and 100 to nearly all errors; ours have the specification's where it has one",
        families: &[Bridge, BridgeVlan, Macvlan, Ipvlan, Vlan, HostLocal, Static, Loopback, Tuning],
        rare: false,
        explains: |_, difference| {
            let is_error = |value: &Value| value.as_str().is_some_and(|text| text.starts_with("error: "));
            difference.theirs == "error: of the plugin" && is_error(&difference.ours)
        },
    },
    Rule {
        name: "loopback of 1.1.1 prints results of 1.0.0",
        reason: "it does so whatever version is configured; newer ones convert, as ours",
        families: &[Loopback],
        rare: false,
        explains: |context, difference| {
            difference.path.starts_with("/results/") && context.case.config["cniVersion"] != "1.0.0"
        },
    },
    Rule {
        name: "a refused ADD of Go leaves what it made",
        reason: "ours undo it",
        families: &[Bridge, BridgeVlan, Macvlan, Ipvlan, Vlan, HostLocal, Tuning],
        rare: false,
        explains: |context, difference| {
            let path = &difference.path;
            let (of_host, of_container) = (["/host/", "/files"], "/containers/");
            path.starts_with("/after ")
                && (of_host.iter().any(|part| path.contains(part)) && context.refused_by_go()
                    || path.contains(of_container) && context.refused_by_go_at(path))
                // Links are numbered as they are found.
                || context.refused_by_go() && difference.ours.as_str().is_some_and(|name| name.starts_with("veth#"))
        },
    },
    Rule {
        name: "DEL of Go fails for what its ADD refused",
        reason: "a runtime would repeat that DEL for ever; ours find nothing to take down",
        families: &[Bridge, BridgeVlan, Macvlan, Ipvlan, Vlan, HostLocal, Tuning],
        rare: true,
        explains: |context, difference| {
            let path = &difference.path;
            path.starts_with("/del/") && difference.ours == "success" && context.refused_by_go_at(path)
        },
    },
    Rule {
        name: "DEL of Go's static reads nothing",
        reason: "so it succeeds where `ipam` is not an object; ours names the mistake for every plugin alike",
        families: &[Static],
        rare: true,
        explains: |context, difference| {
            difference.path.starts_with("/del/") && !context.key("ipam").is_object()
        },
    },
    Rule {
        name: "tuning of 1.1.1 does not know txQLen",
        reason: "newer ones have it, as ours",
        families: &[Tuning],
        rare: false,
        explains: |context, difference| difference.path.ends_with("/txqlen") || context.key("txQLen") == -1,
    },
    Rule {
        name: "CHECK of Go's tuning does not replace IFNAME",
        reason: "so it fails for every attachment with such a sysctl",
        families: &[Tuning],
        rare: true,
        explains: |context, difference| {
            difference.path.starts_with("/check/") && context.key("sysctl").to_string().contains("IFNAME")
        },
    },
    Rule {
        name: "the transmit queue length",
        reason: "Go leaves links without one, newer ones only the host's end of a veth pair; ours keep the kernel's default",
        families: &[Bridge, BridgeVlan, Macvlan, Ipvlan, Vlan],
        rare: false,
        explains: |_, difference| difference.path.ends_with("/txqlen"),
    },
    Rule {
        name: "IPv6 addresses are announced",
        reason: "Go announces IPv4 addresses by the kernel (arp_notify); ours IPv6 addresses too (ndisc_notify)",
        families: &[Bridge, BridgeVlan, Macvlan, Ipvlan, Vlan],
        rare: false,
        explains: |_, difference| difference.path.ends_with("/links/eth0/ndisc_notify"),
    },
    Rule {
        name: "CHECK of Go fails without IPAM",
        reason: "it asks an IPAM plugin of no name",
        families: &[Bridge, BridgeVlan, Macvlan],
        rare: true,
        explains: |context, difference| {
            difference.path.starts_with("/check/")
                && difference.ours == "success"
                && context.key("ipam")["type"].is_null()
        },
    },
    Rule {
        name: "CHECK of Go fails beside others",
        reason: "where nothing keeps the bridge's MAC address it follows its ports, and 1.1.1 compares it",
        families: &[Bridge, BridgeVlan],
        rare: true,
        explains: |context, difference| {
            difference.path.starts_with("/check/")
                && difference.ours == "success"
                && context.case.containers > 1
        },
    },
    Rule {
        name: "CHECK finds more",
        reason: "a route that leads elsewhere, an interface that is down, an MTU that is another",
        families: &[Bridge, BridgeVlan, Macvlan, Ipvlan, Vlan],
        rare: true,
        explains: |context, difference| {
            let stricter = difference.theirs == "success" && !context.case.change.is_empty();
            difference.path == "/check/0" && stricter
        },
    },
    Rule {
        name: "macvlan of 1.1.1 does not know linkInContainer",
        reason: "newer ones have it, as ours",
        families: &[Macvlan],
        rare: true,
        explains: |context, _| context.key("linkInContainer") == true,
    },
    Rule {
        name: "DNS settings of IPAM",
        reason: "Go loses those that IPAM gave: bridge of 1.1.1 where the configuration has none, macvlan and ipvlan always",
        families: &[Bridge, Macvlan, Ipvlan],
        rare: true,
        explains: |_, difference| {
            difference.path.starts_with("/results/") && difference.path.contains("/dns")
        },
    },
    Rule {
        name: "an IPv6 address that another container has",
        reason: "Go may end an ADD before the kernel has found the duplicate; ours waits and refuses",
        families: &[Bridge, Macvlan],
        rare: true,
        explains: |context, difference| {
            let duplicates = context.case.containers > 1 && context.key("ipam")["type"] == "static";
            let refused =
                context.ours["add"].as_array().is_some_and(|adds| adds.iter().any(|exit| exit != "success"));
            duplicates
                && refused
                && !difference.path.contains("/host/")
                && context.key("ipam").to_string().contains("fd00:")
        },
    },
    Rule {
        name: "CHECK of Go fails for a route without a next hop",
        reason: "ADD gives it the gateway of its address, CHECK looks for one without",
        families: &[Bridge, BridgeVlan, Macvlan, Ipvlan, Vlan],
        rare: true,
        explains: |context, difference| {
            let routes = context.key("ipam")["routes"].as_array().cloned().unwrap_or_default();
            let without = routes.iter().any(|route| route["gw"].is_null());
            difference.path.starts_with("/check/") && difference.ours == "success" && without
        },
    },
    Rule {
        name: "keys in another case",
        reason: "Go reads all keys without regard to case; ours not yet those that all plugins have in common",
        families: &[Bridge, BridgeVlan, Macvlan, Ipvlan, Vlan, HostLocal, Static, Loopback, Tuning],
        rare: false,
        explains: |context, _| {
            let mut keys = context.case.config.as_object().into_iter().flat_map(serde_json::Map::keys);
            keys.any(|key| key.bytes().all(|byte| byte.is_ascii_uppercase()))
        },
    },
    Rule {
        name: "CHECK of Go asks for the route of an address' own subnet",
        reason: "ours for the addresses and for the routes of the result",
        families: &[Bridge, BridgeVlan, Macvlan, Ipvlan, Vlan],
        rare: true,
        explains: |context, difference| {
            difference.path == "/check/0"
                && difference.ours == "success"
                && context.case.change.starts_with("route flush")
        },
    },
    Rule {
        name: "Go's IPAM plugins don't read the network's DNS settings",
        reason: "so they accept a value of another type; ours name that mistake in every plugin",
        families: &[Static, HostLocal],
        rare: true,
        explains: |context, _| !context.key("dns").is_object() && !context.key("dns").is_null(),
    },
    Rule {
        name: "bridge of 1.1.1 does not know disableContainerInterface",
        reason: "newer ones have it, as ours",
        families: &[Bridge, BridgeVlan],
        rare: true,
        explains: |context, _| context.key("disableContainerInterface") == true,
    },
    Rule {
        name: "an empty list for an object",
        reason: "ours read it as an object without keys, Go refuses it",
        families: &[Bridge, BridgeVlan, Macvlan, Ipvlan, Vlan, HostLocal, Static, Tuning],
        rare: true,
        explains: |context, _| {
            let is_empty_list = |key| context.key(key).as_array().is_some_and(Vec::is_empty);
            ["ipam", "args", "runtimeConfig", "dns", "sysctl"].into_iter().any(is_empty_list)
        },
    },
    Rule {
        name: "an address that is configured twice",
        reason: "CHECK of Go's static fails for it",
        families: &[Static],
        rare: true,
        explains: |context, difference| {
            let addresses = context.key("ipam")["addresses"].as_array().cloned().unwrap_or_default();
            let twice = addresses
                .iter()
                .enumerate()
                .any(|(at, one)| addresses[..at].iter().any(|other| other["address"] == one["address"]));
            difference.path.starts_with("/check/") && difference.ours == "success" && twice
        },
    },
    Rule {
        name: "routes without a next hop have link scope",
        reason: "as with `ip route`, so that later routes can go by way of them",
        families: &[Macvlan, Bridge, BridgeVlan, Ipvlan, Vlan],
        rare: true,
        explains: |_, difference| {
            difference.path.ends_with("/scope") && difference.theirs.is_null() && difference.ours == "link"
        },
    },
];

/// All differences that no rule explains; the names of rules that explained one are noted in `used`.
pub(crate) fn unexplained(
    context: &Context<'_>,
    rules: &[&Rule],
    used: &mut Vec<&'static str>,
) -> Vec<Difference> {
    let mut found = Vec::new();
    walk(context.theirs, context.ours, String::new(), &mut found);
    found.retain(|difference| {
        let mut explained = false;
        for rule in rules.iter().filter(|rule| rule.families.contains(&context.case.family)) {
            if (rule.explains)(context, difference) {
                explained = true;
                if !used.contains(&rule.name) {
                    used.push(rule.name);
                }
            }
        }
        !explained
    });
    found
}

/// `"dns": {}` is as good as no `dns`.
fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty)
}

fn walk(theirs: &Value, ours: &Value, path: String, found: &mut Vec<Difference>) {
    if is_empty(theirs) && is_empty(ours) {
        return;
    }
    match (theirs, ours) {
        (Value::Object(left), Value::Object(right)) => {
            for (key, value) in left {
                walk(value, right.get(key).unwrap_or(&Value::Null), format!("{path}/{key}"), found);
            }
            for (key, value) in right.iter().filter(|(key, _)| !left.contains_key(*key)) {
                walk(&Value::Null, value, format!("{path}/{key}"), found);
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (index, (left, right)) in left.iter().zip(right).enumerate() {
                walk(left, right, format!("{path}/{index}"), found);
            }
        }
        (left, right) if left != right => {
            found.push(Difference { path, theirs: left.clone(), ours: right.clone() });
        }
        _ => {}
    }
}
