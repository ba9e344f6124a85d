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

    fn key(&self, key: &str) -> &Value {
        self.case.key(key)
    }

    /// Whether ours left what a path such as `/after add/host/links/br0` is about as it was.
    fn untouched_by_ours(&self, path: &str) -> bool {
        let Some((when, what)) = path[1..].split_once('/') else { return false };
        let what = format!("/{what}");
        let mut changed = Vec::new();
        walk(&self.ours["before"], &self.ours[when], String::new(), &mut changed);
        let within = |path: &str, whole: &str| {
            path.strip_prefix(whole).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        !changed.iter().any(|found| within(&found.path, &what) || within(&what, &found.path))
    }
}

/// Releases of the Go plugins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Release {
    Any,
    /// 1.1.1, which Debian has.
    Debian,
    /// Later ones.
    Newer,
}

impl Release {
    /// Whether a rule of this holds for `other`, which is a certain one.
    pub(crate) fn holds_for(self, other: Release) -> bool {
        self == Release::Any || self == other
    }
}

/// An accepted difference.
pub(crate) struct Rule {
    pub(crate) name: &'static str,
    pub(crate) reason: &'static str,
    /// Where it applies; a case of the first must need it.
    pub(crate) families: &'static [Family],
    /// Which Go plugins differ in this.
    pub(crate) of: Release,
    /// Whether so few cases need it that only a run of a thousand must have one.
    pub(crate) rare: bool,
    pub(crate) explains: fn(&Context<'_>, &Difference) -> bool,
}

use Family::{Bridge, BridgeVlan, HostLocal, Ipvlan, Loopback, Macvlan, Static, Tuning, Vlan};
use Release::{Any, Debian, Newer};

pub(crate) const RULES: &[Rule] = &[
    Rule {
        name: "errors of Go have no code of the specification",
        reason: "Go gives 999 and 100 to nearly all errors; ours have the specification's where it has one",
        families: &[Bridge, BridgeVlan, Macvlan, Ipvlan, Vlan, HostLocal, Static, Loopback, Tuning],
        of: Any,
        rare: false,
        explains: |_, difference| {
            let is_error = |value: &Value| value.as_str().is_some_and(|text| text.starts_with("error: "));
            difference.theirs == "error: of the plugin" && is_error(&difference.ours)
        },
    },
    Rule {
        name: "loopback of Go prints results of 1.0.0",
        reason: "it gives them the configured version without converting them; ours converts them",
        families: &[Loopback],
        of: Any,
        rare: false,
        explains: |context, difference| {
            let version = context.key("cniVersion").as_str().unwrap_or("0.1.0");
            difference.path.starts_with("/results/") && version.starts_with("0.")
        },
    },
    Rule {
        name: "a refused ADD of Go leaves what it made",
        reason: "ours leave all as it was; Go's DEL after it may even delete an interface that is not its own",
        families: &[Bridge, BridgeVlan, Macvlan, Ipvlan, Vlan, HostLocal, Tuning],
        of: Any,
        rare: false,
        explains: |context, difference| {
            let path = &difference.path;
            let refused = if path.contains("/containers/") {
                context.refused_by_go_at(path)
            } else {
                context.refused_by_go()
            };
            refused && path.starts_with("/after ") && context.untouched_by_ours(path)
        },
    },
    Rule {
        name: "what a refused ADD of Go leaves beside an attachment",
        reason: "links are numbered as they are found, and the next address follows the one that was taken last",
        families: &[Bridge, BridgeVlan, Macvlan, Ipvlan, Vlan, HostLocal],
        of: Any,
        rare: true,
        explains: |context, difference| {
            let path = &difference.path;
            let is_veth = |value: &Value| value.as_str().is_some_and(|name| name.starts_with("veth#"));
            path.starts_with("/after ")
                && context.refused_by_go()
                && (path.contains("/last_reserved_ip")
                    || path.contains("/host/")
                    || is_veth(&difference.ours))
                && context.case.containers > 1
        },
    },
    Rule {
        name: "DEL of Go fails for what its ADD refused",
        reason: "a runtime would repeat that DEL for ever; ours find nothing to take down",
        families: &[Bridge, BridgeVlan, Macvlan, Ipvlan, Vlan, HostLocal, Tuning],
        of: Any,
        rare: true,
        explains: |context, difference| {
            let path = &difference.path;
            path.starts_with("/del/") && difference.ours == "success" && context.refused_by_go_at(path)
        },
    },
    Rule {
        name: "DEL of Go's static reads nothing",
        reason: "so it succeeds where `ipam` is not an object; no runtime calls it so, since libcni refuses that",
        families: &[Static],
        of: Any,
        rare: true,
        explains: |context, difference| {
            difference.path.starts_with("/del/") && !context.key("ipam").is_object()
        },
    },
    Rule {
        name: "CHECK of Go fails for a negative queue length",
        reason: "it compares -1 with the 4294967295 that its ADD made of it",
        families: &[Tuning],
        of: Newer,
        rare: false,
        explains: |context, difference| {
            difference.path.starts_with("/check/")
                && difference.ours == "success"
                && context.key("txQLen").as_i64().is_some_and(|len| len < 0)
        },
    },
    Rule {
        name: "CHECK of Go's tuning does not replace IFNAME",
        reason: "so it fails for every attachment with such a sysctl",
        families: &[Tuning],
        of: Any,
        rare: true,
        explains: |context, difference| {
            difference.path.starts_with("/check/") && context.key("sysctl").to_string().contains("IFNAME")
        },
    },
    Rule {
        name: "the transmit queue length",
        reason: "Go leaves links without one, newer ones only the host's end of a veth pair; ours keep the kernel's default",
        families: &[Bridge, BridgeVlan, Macvlan, Ipvlan, Vlan],
        of: Any,
        rare: false,
        explains: |_, difference| difference.path.ends_with("/txqlen"),
    },
    Rule {
        name: "IPv6 addresses are announced",
        reason: "Go announces IPv4 addresses by the kernel (arp_notify); ours IPv6 addresses too (ndisc_notify)",
        families: &[Bridge, BridgeVlan, Macvlan, Ipvlan, Vlan],
        of: Any,
        rare: false,
        explains: |_, difference| difference.path.ends_with("/links/eth0/ndisc_notify"),
    },
    Rule {
        name: "IPv4 addresses of VLAN interfaces are announced",
        reason: "as those of all other plugins, by the kernel (arp_notify)",
        families: &[Vlan],
        of: Any,
        rare: false,
        explains: |_, difference| {
            difference.path.ends_with("/links/eth0/arp_notify") && difference.ours == "1"
        },
    },
    Rule {
        name: "ports of a VLAN are in VLAN 1 too",
        reason: "1.1.1 leaves the bridge's default VLAN on them; newer ones take it away, as ours",
        families: &[BridgeVlan],
        of: Debian,
        rare: false,
        explains: |_, difference| {
            difference.path.contains("/host/vlans")
                && without_vlan_1(&difference.theirs) == without_vlan_1(&difference.ours)
        },
    },
    Rule {
        name: "Go's ipvlan takes the interface of prevResult for its master",
        reason: "where none is configured, as if it were chained; so CHECK fails, and DEL with a result",
        families: &[Ipvlan],
        of: Any,
        rare: true,
        explains: |context, difference| {
            let is_later = ["/check/", "/del/"].iter().any(|call| difference.path.starts_with(call));
            let without_master = context.key("master").as_str().is_none_or(str::is_empty);
            is_later && difference.ours == "success" && without_master
        },
    },
    Rule {
        name: "the gateway of a VLAN accepts no routes of containers",
        reason: "as the bridge, of which Go knows it too (accept_ra)",
        families: &[BridgeVlan],
        of: Any,
        rare: true,
        explains: |_, difference| {
            let path = &difference.path;
            path.contains("/host/links/")
                && path.ends_with("/accept_ra")
                && path.contains('.')
                && difference.ours == "0"
        },
    },
    Rule {
        name: "CHECK of Go fails without IPAM",
        reason: "it asks an IPAM plugin of no name",
        families: &[Bridge, BridgeVlan, Macvlan],
        of: Any,
        rare: true,
        explains: |context, difference| {
            difference.path.starts_with("/check/")
                && difference.ours == "success"
                && context.key("ipam")["type"].is_null()
        },
    },
    Rule {
        name: "CHECK of Go fails beside others",
        reason: "the MAC address of a bridge without gateway follows its ports, and Go compares it",
        families: &[Bridge, BridgeVlan],
        of: Any,
        rare: true,
        explains: |context, difference| {
            difference.path.starts_with("/check/")
                && difference.ours == "success"
                && context.case.containers > 1
                && !["isGateway", "isDefaultGateway"].into_iter().any(|key| context.key(key) == true)
        },
    },
    Rule {
        name: "CHECK finds an interface that is down",
        reason: "no packet reaches the container; Go looks at its addresses and routes only",
        families: &[Bridge, BridgeVlan, Macvlan, Ipvlan, Vlan],
        of: Any,
        rare: true,
        explains: |context, difference| {
            difference.path == "/check/0"
                && difference.theirs == "success"
                && context.case.change == "link set eth0 down"
        },
    },
    Rule {
        name: "DNS settings of IPAM",
        reason: "Go loses those that IPAM gave: bridge of 1.1.1 where the configuration has none, macvlan and ipvlan always",
        families: &[Bridge, Macvlan, Ipvlan],
        of: Any,
        rare: true,
        explains: |_, difference| {
            difference.path.starts_with("/results/")
                && difference.path.contains("/dns")
                && difference.theirs.is_null()
        },
    },
    Rule {
        name: "when an IPv6 address is found to be a duplicate",
        reason: "without a gateway no plugin waits for the kernel to find it",
        families: &[Macvlan],
        of: Any,
        rare: true,
        explains: |context, difference| {
            let of_address = ["/dadfailed", "/tentative"].iter().any(|end| difference.path.ends_with(end));
            of_address && context.case.containers > 1 && context.key("ipam")["type"] == "static"
        },
    },
    Rule {
        name: "an IPv6 address that another container has",
        reason: "1.1.1 does not look how duplicate address detection ends; newer ones refuse, as ours",
        families: &[Bridge, Macvlan],
        of: Debian,
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
        name: "DEL of Go fails with ipMasq and several addresses",
        reason: "it removes the rules of all for each of them, and does not find those of the second",
        families: &[Bridge],
        of: Newer,
        rare: true,
        explains: |context, difference| {
            let ipam = context.key("ipam");
            let several = ["ranges", "addresses"]
                .iter()
                .any(|key| ipam[key].as_array().is_some_and(|all| all.len() > 1));
            difference.path.starts_with("/del/")
                && difference.ours == "success"
                && context.key("ipMasq") == true
                && several
        },
    },
    Rule {
        name: "CHECK of Go fails for a route without a next hop",
        reason: "ADD gives it the gateway of its address, CHECK looks for one without",
        families: &[Bridge, BridgeVlan, Macvlan, Ipvlan, Vlan],
        of: Any,
        rare: true,
        explains: |context, difference| {
            let routes = context.key("ipam")["routes"].as_array().cloned().unwrap_or_default();
            let without = routes.iter().any(|route| route["gw"].is_null());
            difference.path.starts_with("/check/") && difference.ours == "success" && without
        },
    },
    Rule {
        name: "CHECK of Go asks for the route of an address' own subnet",
        reason: "ours for the addresses and for the routes of the result",
        families: &[Bridge, BridgeVlan, Macvlan, Ipvlan, Vlan],
        of: Any,
        rare: true,
        explains: |context, difference| {
            difference.path == "/check/0"
                && difference.ours == "success"
                && context.case.change.starts_with("route flush")
        },
    },
    Rule {
        name: "an address that is configured twice",
        reason: "CHECK of Go's static fails for it",
        families: &[Static],
        of: Any,
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
        name: "the MTU of interfaces in results",
        reason: "results of 1.1.0 have it; Go leaves it out",
        families: &[Bridge, BridgeVlan, Macvlan, Ipvlan, Vlan],
        of: Newer,
        rare: false,
        explains: |context, difference| {
            let path = &difference.path;
            path.starts_with("/results/")
                && path.ends_with("/mtu")
                && difference.theirs.is_null()
                && context.key("cniVersion") == "1.1.0"
        },
    },
    Rule {
        name: "a next hop behind a route without one",
        reason: "the kernel takes it where that route has link scope, and refuses Go's ADD",
        families: &[Bridge, BridgeVlan, Macvlan, Ipvlan, Vlan],
        of: Any,
        rare: true,
        explains: |context, difference| {
            let routes = context.key("ipam")["routes"].as_array().cloned().unwrap_or_default();
            let direct = routes.iter().position(|route| route["gw"].is_null());
            let behind = direct.is_some_and(|at| routes[at..].iter().any(|route| route["gw"].is_string()));
            behind && context.refused_by_go() && !difference.path.contains("/host/")
        },
    },
    Rule {
        name: "routes without a next hop have link scope",
        reason: "as with `ip route`, so that later routes can go by way of them",
        families: &[Macvlan, Bridge, BridgeVlan, Ipvlan, Vlan],
        of: Any,
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
