//! What is tried: a pod, its networks and multus' configuration.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// What the scripts that play plugins report: interfaces, and what else a result has.
pub(crate) const RESULTS: [(&str, &str); 6] = [
    (
        "one",
        r#""interfaces": [{ "name": "$CNI_IFNAME", "mac": "02:00:00:00:00:01", "sandbox": "$CNI_NETNS" }],
       "ips": [{ $family "interface": 0, "address": "10.9.0.1/24", "gateway": "10.9.0.254" }]"#,
    ),
    (
        "veth",
        r#""interfaces": [{ "name": "br0" }, { "name": "veth1", "mac": "02:00:00:00:00:02" }, { "name": "$CNI_IFNAME", "sandbox": "$CNI_NETNS" }],
       "ips": [{ $family "interface": 2, "address": "10.9.0.2/24" }],
       "routes": [{ "dst": "0.0.0.0/0", "gw": "10.9.0.254" }, { "dst": "10.0.0.0/8" }], "dns": { "nameservers": ["10.0.0.53"], "search": ["x.test"] }"#,
    ),
    (
        "two",
        r#""interfaces": [{ "name": "$CNI_IFNAME", "sandbox": "$CNI_NETNS" }, { "name": "more0", "sandbox": "$CNI_NETNS" }],
       "ips": [{ $family "address": "10.9.0.3/24" }, { $family "interface": 0, "address": "10.9.1.3/24", "gateway": "10.9.1.254" }]"#,
    ),
    ("host", r#""interfaces": [{ "name": "host0" }], "ips": [{ $family "address": "10.9.0.4/24" }]"#),
    ("bare", r#""ips": [{ $family "address": "10.9.0.5/24" }]"#),
    ("empty", r#""dns": {}"#),
];

/// The configuration of a network.
#[derive(Clone, Debug)]
pub(crate) struct Net {
    pub(crate) plugins: Vec<usize>,
    pub(crate) is_list: bool,
    pub(crate) has_name: bool,
    pub(crate) version: Option<&'static str>,
    pub(crate) extra: Vec<usize>,
}

/// Keys that a configuration has besides.
const EXTRA: [(&str, &str); 6] = [
    (
        "capabilities",
        r#"{"ips":true,"mac":true,"portMappings":true,"bandwidth":true,"deviceID":true,"infinibandGUID":true}"#,
    ),
    ("capabilities", r#"{"ips":true,"mac":false}"#),
    ("args", r#"{"cni":{"of":"definition","both":1},"x":2}"#),
    ("ipam", r#"{"type":"host-local","ranges":[[{"subnet":"10.0.0.0/8"}]]}"#),
    ("dns", r#"{"nameservers":["10.0.0.1"]}"#),
    ("runtimeConfig", r#"{"mac":"02:00:00:00:00:aa"}"#),
];

/// Keys that a pod asks for a network with.
pub(crate) const REQUESTED: [(&str, &str); 9] = [
    ("interface", r#""ask0""#),
    ("ips", r#"["10.9.9.9/24"]"#),
    ("mac", r#""02:00:00:00:00:bb""#),
    ("portMappings", r#"[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]"#),
    ("bandwidth", r#"{"ingressRate":1000,"ingressBurst":2000,"egressRate":3000,"egressBurst":4000}"#),
    ("cni-args", r#"{"of":"pod","both":2}"#),
    ("deviceID", r#""0000:03:02.1""#),
    ("infiniband-guid", r#""c2:11:22:33:44:55:66:77""#),
    ("default-route", r#"["10.9.0.254"]"#),
];

/// Where a network that multus' configuration names by `clusterNetwork` or `defaultNetworks` is found.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// A definition in the namespace of multus.
    Definition,
    /// A file in `confDir`, by the name of its network.
    ConfDir,
    /// A file, by its path.
    File,
    /// The only file of a folder, by the folder's path.
    Folder,
}

/// The networks of all pods.
#[derive(Clone, Debug)]
pub(crate) enum Configured {
    Delegates(Net, Option<Net>),
    /// `clusterNetwork` and `defaultNetworks`.
    Named(Vec<(Net, Place)>),
}

#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) configured: Configured,
    pub(crate) selected: Vec<(Net, Vec<usize>)>,
    pub(crate) is_short: bool,
    /// `default-network` of the pod.
    pub(crate) replaced: Option<Net>,
    pub(crate) runtime_config: bool,
    pub(crate) is_system: bool,
}

fn net(in_definition: bool) -> impl Strategy<Value = Net> {
    let versions = [Some("0.3.1"), Some("0.4.0"), Some("1.0.0"), Some("1.0.0"), None];
    let count = if in_definition { versions.len() } else { 4 };
    let plugins = prop::collection::vec(0..RESULTS.len(), 1..3);
    let extra = prop::collection::vec(0..EXTRA.len(), 0..3);
    (plugins, any::<bool>(), any::<bool>(), 0..count, extra).prop_map(
        move |(plugins, is_list, has_name, version, extra)| Net {
            is_list: is_list || plugins.len() > 1,
            has_name: has_name || !in_definition,
            version: versions[version],
            plugins,
            extra,
        },
    )
}

fn configured() -> impl Strategy<Value = Configured> {
    let delegates = (net(false), prop::option::weighted(0.2, net(false)));
    let places = [Place::Definition, Place::ConfDir, Place::File, Place::Folder];
    let named = prop::collection::vec((net(false), prop::sample::select(places.to_vec())), 1..4);
    prop_oneof![
        3 => delegates.prop_map(|(first, second)| Configured::Delegates(first, second)),
        2 => named.prop_map(Configured::Named),
    ]
}

pub(crate) fn cases() -> impl Strategy<Value = Case> {
    let requested = prop::collection::vec(0..REQUESTED.len(), 0..4);
    let selected = prop::collection::vec((net(true), requested), 0..4);
    let replaced = prop::option::weighted(0.1, net(true));
    let flags = (any::<bool>(), any::<bool>(), prop::bool::weighted(0.1));
    (configured(), selected, replaced, flags).prop_map(|(configured, selected, replaced, flags)| {
        let (is_short, runtime_config, is_system) = flags;
        Case { configured, selected, is_short, replaced, runtime_config, is_system }
    })
}

impl Net {
    pub(crate) fn json(&self, name: &str) -> Value {
        let mut config = Map::new();
        if self.has_name {
            config.insert("name".into(), json!(name));
        }
        config.extend(self.version.map(|version| ("cniVersion".to_owned(), json!(version))));
        let plugin = |number: &usize| {
            let mut plugin = Map::from_iter([("type".to_owned(), json!(RESULTS[*number].0))]);
            for (key, value) in self.extra.iter().map(|extra| EXTRA[*extra]) {
                plugin.insert(key.to_owned(), serde_json::from_str(value).expect("JSON"));
            }
            plugin
        };
        if self.is_list {
            config.insert("plugins".into(), self.plugins.iter().map(plugin).collect());
        } else {
            config.extend(plugin(&self.plugins[0]));
        }
        config.into()
    }
}
