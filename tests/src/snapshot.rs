use std::collections::BTreeMap;
use std::fs;

use serde_json::{Map, Value, json};

use crate::{Container, Host, kernel};

/// What differs from run to run and is replaced by a stable word: random link names and MACs.
///
/// A name or an address that stands in the configuration is kept: it was requested.
#[derive(Clone, Debug, Default)]
pub struct Masks {
    keep: String,
    names: BTreeMap<String, String>,
}

impl Masks {
    /// Masks for a case whose configuration and setup are `text`.
    pub fn new(text: &str) -> Self {
        Self { keep: text.to_lowercase(), names: BTreeMap::new() }
    }

    /// Gives each veth of the host with a name like `veth0a1b2c3d` a number: `veth#1`, `veth#2`, …
    pub fn learn(&mut self, host: &Host) {
        let mut veths: Vec<_> = host
            .enter(kernel::links)
            .iter()
            .filter(|link| link["linkinfo"]["info_kind"] == "veth")
            .filter_map(|link| Some((link["ifindex"].as_u64()?, link["ifname"].as_str()?.to_owned())))
            .filter(|(_, name)| name.starts_with("veth") && !self.keep.contains(&format!(" {name} ")))
            .filter(|(_, name)| !self.names.contains_key(name))
            .collect();
        veths.sort();
        for (_, name) in veths {
            let number = self.names.len() + 1;
            self.names.insert(name, format!("veth#{number}"));
        }
    }

    /// The same value with every string masked.
    pub fn mask(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => json!(self.mask_text(text)),
            Value::Array(items) => items.iter().map(|item| self.mask(item)).collect(),
            Value::Object(object) => {
                object.iter().map(|(key, item)| (self.mask_text(key), self.mask(item))).collect()
            }
            other => other.clone(),
        }
    }

    fn mask_text(&self, text: &str) -> String {
        if let Some(name) = self.names.get(text) {
            return name.clone();
        }
        if is_mac(text) && !self.keep.contains(&text.to_lowercase()) {
            return "MAC".to_owned();
        }
        text.to_owned()
    }
}

/// Links, addresses, routes, bridge VLANs, sysctls and rules of the host, masked.
pub(crate) fn of_host(host: &Host, masks: &Masks) -> Value {
    masks.mask(&host.enter(network))
}

/// The same of a container.
pub(crate) fn of_container(container: &Container<'_>, masks: &Masks) -> Value {
    masks.mask(&container.enter(network))
}

/// The calling thread's network.
fn network() -> Value {
    let mut by_name = Map::new();
    for link in kernel::links() {
        let name = link["ifname"].as_str().unwrap_or_default().to_owned();
        let mut kept = link_state(&link);
        for (key, path) in LINK_SYSCTLS {
            kept.insert((*key).to_owned(), sysctl(&path.replace('@', &name)));
        }
        by_name.insert(name, Value::Object(kept));
    }
    let mut state = Map::new();
    state.insert("links".to_owned(), Value::Object(by_name));
    state.insert("routes".to_owned(), routes());
    state.insert("vlans".to_owned(), json!(kernel::vlans()));
    for path in SYSCTLS {
        state.insert((*path).to_owned(), sysctl(path));
    }
    Value::Object(state)
}

fn sysctl(path: &str) -> Value {
    json!(fs::read_to_string(format!("/proc/sys/net/{path}")).unwrap_or_default().trim())
}

const SYSCTLS: &[&str] = &["ipv4/ip_forward", "ipv4/conf/all/forwarding", "ipv6/conf/all/forwarding"];

const LINK_SYSCTLS: &[(&str, &str)] = &[
    ("accept_dad", "ipv6/conf/@/accept_dad"),
    ("accept_ra", "ipv6/conf/@/accept_ra"),
    ("disable_ipv6", "ipv6/conf/@/disable_ipv6"),
    ("forwarding4", "ipv4/conf/@/forwarding"),
    ("forwarding6", "ipv6/conf/@/forwarding"),
    ("arp_notify", "ipv4/conf/@/arp_notify"),
    ("ndisc_notify", "ipv6/conf/@/ndisc_notify"),
    ("rp_filter", "ipv4/conf/@/rp_filter"),
    ("route_localnet", "ipv4/conf/@/route_localnet"),
];

/// What was configured of a link: not counters, timers, indexes and what follows from them.
fn link_state(link: &Value) -> Map<String, Value> {
    let mut kept = Map::new();
    let mut keep = |key: &str, value: &Value| {
        if !value.is_null() {
            kept.insert(key.to_owned(), value.clone());
        }
    };
    for key in ["mtu", "master", "address", "promiscuity", "group", "txqlen", "link", "ifalias"] {
        keep(key, &link[key]);
    }
    let flags: Vec<_> = list(&link["flags"])
        .iter()
        .filter(|flag| ["UP", "PROMISC", "ALLMULTI", "NOARP"].contains(&flag.as_str().unwrap_or_default()))
        .collect();
    keep("flags", &json!(flags));
    let info = &link["linkinfo"];
    keep("kind", &info["info_kind"]);
    for key in ["vlan_filtering", "vlan_default_pvid", "stp_state", "ageing_time", "mode", "id", "protocol"] {
        keep(key, &info["info_data"][key]);
    }
    for key in ["state", "hairpin", "isolated", "learning", "flood", "guard", "fastleave", "neigh_suppress"] {
        keep(&format!("port_{key}"), &info["info_slave_data"][key]);
    }
    // A port is forwarding or not by the carrier of its peer, which comes and goes.
    kept.remove("port_state");
    let addresses: Vec<_> = list(&link["addr_info"]).iter().filter(|entry| !of_the_kernel(entry)).collect();
    let addresses: Vec<_> = addresses.into_iter().map(address_state).collect();
    kept.insert("addresses".to_owned(), json!(addresses));
    kept
}

/// Link-local addresses come by themselves, some time after the carrier.
fn of_the_kernel(entry: &Value) -> bool {
    entry["scope"] == "link" && entry["family"] == "inet6"
}

fn address_state(entry: &Value) -> Value {
    let mut kept = entry.as_object().cloned().unwrap_or_default();
    // Duplicate address detection is under way or over; both are the same decision.
    kept.remove("tentative");
    kept.remove("protocol");
    Value::Object(kept)
}

fn routes() -> Value {
    let mut kept = kernel::routes();
    kept.retain(|route| {
        let dst = route["dst"].as_str().unwrap_or_default();
        // An IPv6 address brings them once its duplicate detection is over.
        let of_address = route["table"] == "local" && dst.contains(':');
        route["type"] != "multicast" && !of_address && !dst.starts_with("fe80:") && !dst.starts_with("ff00:")
    });
    kept.sort_by_key(ToString::to_string);
    json!(kept)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// One link of the calling thread's namespace; null when it does not exist.
fn link_of_name(name: &str) -> Value {
    kernel::links().into_iter().find(|link| link["ifname"] == name).unwrap_or_default()
}

fn is_mac(text: &str) -> bool {
    text.len() == 17
        && text.split(':').count() == 6
        && text.split(':').all(|octet| octet.len() == 2 && octet.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

impl Host {
    /// All of the host's network state in one value, for "the node as it was before".
    ///
    /// Link-local addresses and what follows from the carrier are left out; names are not masked.
    pub fn state(&self) -> Value {
        let mut state = of_host(self, &Masks::default());
        state["rules"] = json!(self.rules());
        state
    }

    /// As [`Self::state`], without the rules and with this masking.
    pub fn masked_state(&self, masks: &Masks) -> Value {
        of_host(self, masks)
    }

    /// The rules of nf_tables, a line each, without handles and counters.
    ///
    /// Tables and chains without a rule have no effect and are left out: they are shared, and
    /// removing an empty one would race with a plugin about to use it. For the same reason
    /// the three rules stay that lead into the shared chain of all masquerading.
    pub fn rules(&self) -> Vec<String> {
        const LEADING_IN: [&str; 3] =
            ["ip daddr 224.0.0.0/4 return", "ip6 daddr ff00::/8 return", "goto masq_checks"];
        let frame = |line: &&str| {
            let line = line.trim();
            !(line.is_empty()
                || line == "}"
                || line.ends_with('{')
                || line.starts_with("type ")
                || LEADING_IN.contains(&line))
        };
        if !self.enter(kernel::has_nft_tables) {
            return Vec::new();
        }
        let shown = self.sh("nft -s list ruleset");
        shown.lines().filter(frame).map(|line| line.trim().to_owned()).collect()
    }

    /// Names of the host's links, sorted.
    pub fn links(&self) -> Vec<String> {
        let links = self.enter(kernel::links);
        let mut names: Vec<_> =
            links.iter().filter_map(|link| link["ifname"].as_str().map(str::to_owned)).collect();
        names.sort();
        names
    }

    /// One link of the host as `ip -d -j addr show` reports it; null when it does not exist.
    pub fn link(&self, name: &str) -> Value {
        self.enter(|| link_of_name(name))
    }

    /// All files and folders below a folder of this host, sorted; none where it is not there.
    pub fn files_below(&self, folder: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(self.path(&folder)).into_iter().flatten().filter_map(Result::ok) {
                let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    folders.push(path.clone());
                }
                found.push(path);
            }
        }
        found.sort();
        found
    }

    /// Reservation files of a network in host-local's default folder: address and content.
    pub fn reservations(&self, network: &str) -> BTreeMap<String, String> {
        self.reservations_in(&format!("/var/lib/cni/networks/{network}"))
    }

    /// Reservation files in a folder of this host: address and content.
    pub fn reservations_in(&self, folder: &str) -> BTreeMap<String, String> {
        let Ok(entries) = fs::read_dir(self.path(folder)) else {
            return BTreeMap::new();
        };
        entries
            .filter_map(Result::ok)
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                // Windows peers write `_` for `:`; no one does here.
                name.parse::<std::net::IpAddr>().ok()?;
                Some((name, fs::read_to_string(entry.path()).unwrap_or_default()))
            })
            .collect()
    }
}

impl Container<'_> {
    /// All of the container's network state in one value, as [`Host::state`].
    pub fn state(&self) -> Value {
        of_container(self, &Masks::default())
    }

    /// As [`Self::state`], with this masking.
    pub fn masked_state(&self, masks: &Masks) -> Value {
        of_container(self, masks)
    }

    /// One link of the container as `ip -d -j addr show` reports it; null when it does not exist.
    pub fn link(&self, name: &str) -> Value {
        self.enter(|| link_of_name(name))
    }

    /// True where a link of the container is operational, or becomes so within seconds: the kernel
    /// tells by itself, some time after the carrier came.
    pub fn comes_up(&self, name: &str) -> bool {
        crate::eventually(|| self.link(name)["operstate"] == "UP")
    }

    /// Routes of the container's main table, both families, as `ip -j route` reports them.
    pub fn routes(&self) -> Vec<Value> {
        let mut routes = self.enter(kernel::routes);
        routes.retain(|route| {
            route["table"].is_null() && !route["dst"].as_str().unwrap_or_default().starts_with("fe80:")
        });
        routes
    }

    /// The container's default routes' gateways.
    pub fn default_gateways(&self) -> Vec<String> {
        self.routes()
            .iter()
            .filter(|route| route["dst"] == "default")
            .filter_map(|route| route["gateway"].as_str().map(str::to_owned))
            .collect()
    }

    /// The MAC address of a link.
    pub fn mac(&self, name: &str) -> String {
        self.link(name)["address"].as_str().unwrap_or_default().to_owned()
    }
}
