//! What is tried: generated configurations, requests and states of the host.

use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Map, Value, json};

/// Which plugin is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Bridge,
    BridgeVlan,
    Macvlan,
    Ipvlan,
    Vlan,
    HostLocal,
    Static,
    Loopback,
    Tuning,
}

/// One case: an ADD, then what happens to the attachment, CHECK, and DEL, for each container.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) family: Family,
    pub(crate) config: Value,
    /// `CNI_ARGS`.
    pub(crate) args: &'static str,
    /// Commands of ip(8) that prepare the host.
    pub(crate) host_links: &'static str,
    /// Commands of ip(8) that prepare each container.
    pub(crate) container_links: &'static str,
    /// Commands of ip(8) that are run in the first container between ADD and CHECK.
    pub(crate) change: &'static str,
    pub(crate) containers: usize,
    /// Whether DEL gets the result of ADD, as from libcni.
    pub(crate) del_with_result: bool,
}

impl Case {
    /// The value of a key of the configuration, whatever the key's case.
    pub(crate) fn key(&self, key: &str) -> &Value {
        let fields = self.config.as_object();
        let found = fields.and_then(|fields| fields.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)));
        found.map_or(&Value::Null, |(_, value)| value)
    }
}

/// How the cases of a family are generated; `newer` where the Go plugins are newer than Debian's.
pub(crate) fn cases(family: Family, newer: bool) -> BoxedStrategy<Case> {
    let surroundings = (
        args(family),
        select(host_links(family)),
        select(container_links(family)),
        select(changes(family)),
        // Duplicate address detection takes seconds on macvlan.
        1_usize..=if family == Family::Macvlan { 2 } else { 3 },
        any::<bool>(),
    );
    (config(family, newer), surroundings)
        .prop_map(
            move |(config, (args, host_links, container_links, change, containers, del_with_result))| Case {
                family,
                config,
                args,
                host_links,
                container_links,
                change,
                containers,
                del_with_result,
            },
        )
        .boxed()
}

/// A key with one of these values, or without the key.
type Field = BoxedStrategy<Option<(&'static str, Value)>>;

fn field(probability: f64, key: &'static str, values: &[Value]) -> Field {
    generated(probability, key, select(values.to_vec()).boxed())
}

/// As [`field`], with one of the `odd` values now and then: plugins refuse most of them.
fn mostly(probability: f64, key: &'static str, usual: &[Value], odd: &[Value]) -> Field {
    let value = prop_oneof![9 => select(usual.to_vec()), 1 => select(odd.to_vec())];
    generated(probability, key, value.boxed())
}

fn generated(probability: f64, key: &'static str, value: BoxedStrategy<Value>) -> Field {
    let field = value.prop_map(move |value| (key, value));
    if probability < 1.0 { weighted(probability, field).boxed() } else { field.prop_map(Some).boxed() }
}

fn object(fields: Vec<Field>) -> BoxedStrategy<Value> {
    let collected = fields.prop_map(|fields| {
        let known = fields.into_iter().flatten().map(|(key, value)| (key.to_owned(), value));
        Value::Object(known.collect::<Map<_, _>>())
    });
    collected.boxed()
}

fn config(family: Family, newer: bool) -> BoxedStrategy<Value> {
    let mut fields = vec![version(newer), field(0.99, "name", &[json!("net")]), plugin(family)];
    fields.extend(match family {
        Family::Bridge => bridge(newer),
        Family::BridgeVlan => [bridge(newer), vlans(newer)].concat(),
        Family::Macvlan => macvlan(newer),
        Family::Ipvlan => ipvlan(newer),
        Family::Vlan => vlan(newer),
        Family::HostLocal => vec![generated(0.98, "ipam", host_local())],
        Family::Static => vec![generated(0.98, "ipam", static_addresses())],
        Family::Loopback => vec![],
        Family::Tuning => tuning(newer),
    });
    fields.push(runtime_config());
    fields.push(field(
        0.05,
        "args",
        &[json!({ "cni": { "ips": ["10.1.2.66"] } }), json!({ "cni": { "mac": "c2:11:22:33:44:66" } })],
    ));
    fields.push(field(
        0.1,
        "dns",
        &[json!({ "nameservers": ["10.9.9.9"] }), json!({}), json!({ "domain": "example.org" })],
    ));
    (object(fields), weighted(0.1, oddity())).prop_map(|(config, oddity)| odd(config, oddity)).boxed()
}

/// What people write who did not read the documentation.
#[derive(Clone, Debug)]
enum Oddity {
    OtherCase(Index),
    Null(Index),
    WrongType(Index, Value),
    Unknown(Value),
}

fn oddity() -> BoxedStrategy<Oddity> {
    let wrong = select(vec![
        json!("yes"),
        json!(7),
        json!(true),
        json!([]),
        json!({}),
        json!(1.5),
        json!(-1),
        json!(""),
    ]);
    prop_oneof![
        3 => any::<Index>().prop_map(Oddity::OtherCase),
        2 => any::<Index>().prop_map(Oddity::Null),
        2 => (any::<Index>(), wrong.clone()).prop_map(|(index, value)| Oddity::WrongType(index, value)),
        1 => wrong.prop_map(Oddity::Unknown),
    ]
    .boxed()
}

fn odd(mut config: Value, oddity: Option<Oddity>) -> Value {
    let object = config.as_object_mut().expect("an object");
    let key = |index: Index, object: &Map<String, Value>| {
        // The type must stay: it names the program that is called.
        let keys: Vec<_> =
            object.keys().filter(|key| !["type", "prevResult"].contains(&key.as_str())).collect();
        (!keys.is_empty()).then(|| keys[index.index(keys.len())].clone())
    };
    match oddity {
        Some(Oddity::OtherCase(index)) => {
            if let Some(key) = key(index, object)
                && let Some(value) = object.remove(&key)
            {
                object.insert(key.to_uppercase(), value);
            }
        }
        Some(Oddity::Null(index)) => {
            if let Some(key) = key(index, object) {
                object.insert(key, Value::Null);
            }
        }
        Some(Oddity::WrongType(index, value)) => {
            if let Some(key) = key(index, object) {
                object.insert(key, value);
            }
        }
        Some(Oddity::Unknown(value)) => drop(object.insert("somethingElse".to_owned(), value)),
        None => {}
    }
    config
}

fn version(newer: bool) -> Field {
    let mut versions = vec![
        json!("1.0.0"),
        json!("1.0.0"),
        json!("1.0.0"),
        json!("0.4.0"),
        json!("0.4.0"),
        json!("0.3.1"),
        json!("0.2.0"),
    ];
    if newer {
        versions.extend([json!("1.1.0"), json!("1.1.0"), json!("1.1.0")]);
    }
    generated(0.97, "cniVersion", prop_oneof![60 => select(versions), 1 => Just(json!("9.9.9"))].boxed())
}

fn plugin(family: Family) -> Field {
    let name = match family {
        Family::Bridge | Family::BridgeVlan => "bridge",
        Family::Macvlan => "macvlan",
        Family::Ipvlan => "ipvlan",
        Family::Vlan => "vlan",
        Family::HostLocal => "host-local",
        Family::Static => "static",
        Family::Loopback => "loopback",
        Family::Tuning => "tuning",
    };
    field(1.0, "type", &[json!(name)])
}

fn runtime_config() -> Field {
    let fields = vec![
        field(0.3, "mac", &[json!("c2:11:22:33:44:77")]),
        field(0.3, "ips", &[json!(["10.1.2.88"]), json!(["10.1.2.89/24"]), json!(["fd00:1::88"])]),
        field(0.2, "ipRanges", &[json!([[{ "subnet": "10.5.0.0/24" }]])]),
    ];
    generated(0.1, "runtimeConfig", object(fields))
}

fn bridge(newer: bool) -> Vec<Field> {
    let mut fields = vec![
        mostly(
            0.8,
            "bridge",
            &[json!("br-dif"), json!("br-dif"), json!("cni1")],
            &[json!(""), json!("a/b"), json!("sixteen-long-abc")],
        ),
        field(0.4, "isGateway", &[json!(true), json!(false)]),
        field(0.3, "isDefaultGateway", &[json!(true), json!(false)]),
        field(0.1, "forceAddress", &[json!(true)]),
        field(0.05, "ipMasq", &[json!(true)]),
        mtu(),
        field(0.1, "hairpinMode", &[json!(true), json!(false)]),
        field(0.1, "promiscMode", &[json!(true), json!(false)]),
        field(0.05, "enabledad", &[json!(true)]),
        ipam(),
    ];
    if newer {
        fields.push(field(0.05, "disableContainerInterface", &[json!(true), json!(false)]));
    }
    fields
}

fn vlans(newer: bool) -> Vec<Field> {
    let mut fields =
        vec![mostly(0.5, "vlan", &[json!(100), json!(0), json!(4094)], &[json!(1), json!(4095), json!(-1)])];
    if newer {
        fields.push(field(0.3, "preserveDefaultVlan", &[json!(true), json!(false)]));
        fields.push(field(
            0.5,
            "vlanTrunk",
            &[
                json!([{ "id": 101 }]),
                json!([{ "minID": 200, "maxID": 210 }]),
                json!([{ "id": 101 }, { "minID": 200, "maxID": 202 }]),
                json!([]),
                json!([{}]),
                json!([{ "id": 100 }]),
                json!([{ "minID": 20 }]),
            ],
        ));
    }
    fields
}

fn mtu() -> Field {
    mostly(
        0.2,
        "mtu",
        &[json!(0), json!(1400), json!(1280)],
        &[json!(9000), json!(68), json!(67), json!(70_000)],
    )
}

fn master() -> Field {
    prop_oneof![
        12 => field(1.0, "master", &[json!("eth1")]),
        1 => field(0.5, "master", &[json!("eth7"), json!("")]),
    ]
    .boxed()
}

fn link_in_container() -> Field {
    field(0.1, "linkInContainer", &[json!(true), json!(false)])
}

fn macvlan(newer: bool) -> Vec<Field> {
    let mut fields = vec![
        master(),
        mostly(
            0.5,
            "mode",
            &[
                json!("bridge"),
                json!("bridge"),
                json!("private"),
                json!("vepa"),
                json!("passthru"),
                json!(""),
            ],
            &[json!("bride")],
        ),
        mostly(0.2, "mtu", &[json!(0), json!(1400), json!(1500)], &[json!(1501)]),
        mostly(0.15, "mac", &[json!("c2:11:22:33:44:55"), json!("")], &[json!("c2:11:22:33:44")]),
        ipam(),
    ];
    if newer {
        fields.push(link_in_container());
    }
    fields
}

fn ipvlan(newer: bool) -> Vec<Field> {
    let mut fields = vec![
        master(),
        mostly(0.5, "mode", &[json!("l2"), json!("l3"), json!("l3s"), json!("")], &[json!("l4")]),
        field(0.2, "mtu", &[json!(0), json!(1400), json!(1500)]),
        ipam(),
    ];
    if newer {
        fields.push(link_in_container());
    }
    fields
}

fn vlan(newer: bool) -> Vec<Field> {
    let mut fields = vec![
        master(),
        mostly(0.97, "vlanId", &[json!(100), json!(0), json!(4094)], &[json!(4095), json!(-1)]),
        mostly(0.2, "mtu", &[json!(0), json!(1400), json!(1500)], &[json!(1501)]),
        // The Go plugin requires it.
        generated(1.0, "ipam", addresses()),
    ];
    if newer {
        fields.push(link_in_container());
    }
    fields
}

fn tuning(newer: bool) -> Vec<Field> {
    let before = |version: &str| {
        json!({ "cniVersion": version, "interfaces": [{ "name": "eth0", "sandbox": "/run/netns/c1" }],
            "ips": [{ "address": "10.1.2.2/24", "interface": 0 }] })
    };
    let mut fields = vec![
        field(0.95, "prevResult", &[before("1.0.0")]),
        field(
            0.4,
            "sysctl",
            &[
                json!({ "net.ipv4.conf.IFNAME.arp_notify": "1" }),
                json!({ "net.ipv4.conf.eth0.rp_filter": "2", "net.ipv6.conf.eth0.accept_ra": "0" }),
                json!({ "net/ipv4/ip_forward": "1" }),
                json!({ "kernel.hostname": "x" }),
                json!({ "net.ipv4.conf.eth0.no_such_key": "1" }),
                json!({}),
            ],
        ),
        field(0.3, "mac", &[json!("c2:11:22:33:44:55"), json!("nonsense"), json!("")]),
        field(0.3, "promisc", &[json!(true), json!(false)]),
        field(0.3, "allmulti", &[json!(true), json!(false)]),
        field(0.3, "mtu", &[json!(0), json!(1400), json!(1), json!(70_000)]),
    ];
    if newer {
        fields.push(field(0.2, "txQLen", &[json!(500), json!(0), json!(-1)]));
    }
    fields
}

fn ipam() -> Field {
    let none = select(vec![json!({}), json!({ "type": "unheard-of" })]).boxed();
    generated(0.95, "ipam", prop_oneof![36 => addresses(), 1 => none].boxed())
}

fn addresses() -> BoxedStrategy<Value> {
    prop_oneof![7 => host_local(), 2 => static_addresses()].boxed()
}

fn range() -> BoxedStrategy<Value> {
    let usual = vec![
        json!({ "subnet": "10.1.2.0/24" }),
        json!({ "subnet": "10.1.2.0/24" }),
        json!({ "subnet": "10.1.2.0/24", "rangeStart": "10.1.2.20", "rangeEnd": "10.1.2.21" }),
        json!({ "subnet": "10.1.2.0/24", "gateway": "10.1.2.2" }),
        json!({ "subnet": "10.1.3.0/24" }),
        json!({ "subnet": "fd00:1::/64" }),
        json!({ "subnet": "fd00:1::/64", "rangeStart": "fd00:1::20", "gateway": "fd00:1::9" }),
    ];
    let odd = vec![
        json!({ "subnet": "10.1.3.0/30" }),
        json!({ "subnet": "10.1.2.0/31" }),
        json!({ "subnet": "10.1.2.7/24" }),
        json!({ "subnet": "10.1.2.0/24", "rangeStart": "10.1.9.1" }),
    ];
    prop_oneof![14 => select(usual), 1 => select(odd)].boxed()
}

fn route() -> BoxedStrategy<Value> {
    let usual = vec![
        json!({ "dst": "0.0.0.0/0" }),
        json!({ "dst": "172.30.0.0/16", "gw": "10.1.2.7" }),
        json!({ "dst": "172.31.0.0/16" }),
    ];
    let odd = vec![
        json!({ "dst": "::/0" }),
        json!({ "dst": "fd00:9::/32", "gw": "fd00:1::9" }),
        json!({ "dst": "172.30.0.0/16", "gw": "10.1.2.8" }),
        json!({ "dst": "172.29.0.0/16", "gw": "10.77.0.1" }),
        json!({ "dst": "nonsense" }),
    ];
    prop_oneof![6 => select(usual), 1 => select(odd)].boxed()
}

fn routes() -> Field {
    generated(0.2, "routes", vec(route(), 0..3).prop_map(Value::from).boxed())
}

fn host_local() -> BoxedStrategy<Value> {
    let kind = || field(1.0, "type", &[json!("host-local")]);
    let data_dir = || {
        field(0.15, "dataDir", &[json!("/var/lib/cni/elsewhere"), json!(""), json!("/var/lib/cni/a/../b")])
    };
    let flat = (range(), object(vec![kind(), routes(), data_dir()])).prop_map(|(range, mut ipam)| {
        for (key, value) in range.as_object().expect("an object") {
            ipam[key] = value.clone();
        }
        ipam
    });
    let sets = vec(vec(range(), 1..2).prop_map(Value::from), 1..3).prop_map(Value::from).boxed();
    let nested = object(vec![kind(), generated(0.97, "ranges", sets), routes(), data_dir()]);
    prop_oneof![2 => flat, 1 => nested].boxed()
}

fn static_addresses() -> BoxedStrategy<Value> {
    let usual = select(vec![
        json!({ "address": "10.1.2.30/24" }),
        json!({ "address": "10.1.2.30/24", "gateway": "10.1.2.1" }),
        json!({ "address": "10.1.3.30/24", "gateway": "10.1.3.1" }),
        json!({ "address": "fd00:1::30/64", "gateway": "fd00:1::1" }),
        json!({ "address": "fd00:1::31/64" }),
    ]);
    let address = prop_oneof![19 => usual, 1 => Just(json!({ "address": "10.1.2.31" }))];
    let dns = [json!({ "nameservers": ["10.8.8.8"], "search": ["example.net"] })];
    object(vec![
        field(1.0, "type", &[json!("static")]),
        generated(0.97, "addresses", vec(address, 1..3).prop_map(Value::from).boxed()),
        routes(),
        field(0.1, "dns", &dns),
    ])
}

fn args(family: Family) -> BoxedStrategy<&'static str> {
    let mut choices = vec![
        "IgnoreUnknown=1;MAC=c2:11:22:33:44:55",
        "IgnoreUnknown=true;K8S_POD_NAME=p;K8S_POD_NAMESPACE=n",
        "IgnoreUnknown=1;IP=nonsense",
        "UNHEARD=of",
        "IgnoreUnknown=1;MAC=nonsense",
    ];
    if matches!(family, Family::Static) {
        choices
            .extend(["IgnoreUnknown=1;IP=10.1.2.77/24;GATEWAY=10.1.2.1", "IgnoreUnknown=1;IP=10.1.2.77/24"]);
    } else {
        choices.extend(["IgnoreUnknown=1;IP=10.1.2.77", "IP=10.1.2.77"]);
    }
    prop_oneof![14 => Just(""), 1 => select(choices)].boxed()
}

fn host_links(family: Family) -> Vec<&'static str> {
    const MASTER: &str = "link add name eth1 address c2:00:00:00:00:01 type veth peer name far; link set far up; link set eth1 up; \
        addr add 192.0.2.1/24 dev eth1; route add default via 192.0.2.9 dev eth1";
    const SMALL_MASTER: &str = "link add name eth1 address c2:00:00:00:00:01 mtu 1400 type veth peer name far; link set far up; link set eth1 up";
    const NO_MASTER: &str = "link add name other type bridge";
    const BRIDGE: &str = "link add name br-dif address c2:00:00:00:00:02 type bridge";
    const BRIDGE_WITH_ADDRESS: &str = "link add name br-dif address c2:00:00:00:00:02 type bridge; link set br-dif up; addr add 10.1.2.200/24 dev br-dif";
    const BRIDGE_WITH_OTHER_ADDRESS: &str =
        "link add name br-dif type bridge; addr add 10.99.0.1/24 dev br-dif";
    const NO_BRIDGE: &str = "link add name br-dif type veth peer name cni1";
    match family {
        Family::Bridge | Family::BridgeVlan => {
            [vec![""; 14], vec![BRIDGE, BRIDGE, BRIDGE_WITH_ADDRESS, BRIDGE_WITH_OTHER_ADDRESS, NO_BRIDGE]]
                .concat()
        }
        Family::Macvlan | Family::Ipvlan | Family::Vlan => {
            [vec![MASTER; 16], vec![SMALL_MASTER, NO_MASTER]].concat()
        }
        _ => vec![""],
    }
}

fn container_links(family: Family) -> Vec<&'static str> {
    const TAKEN: &str = "link add name eth0 type bridge";
    const MASTER: &str = "link add name eth1 address c2:00:00:00:00:03 type veth peer name far; link set far up; link set eth1 up";
    const OTHER_DEFAULT: &str = "link add name net9 type bridge; link set net9 up; addr add 10.200.0.2/24 dev net9; route add default via 10.200.0.1 dev net9";
    match family {
        Family::Tuning => vec![
            "link add name eth0 address c2:00:00:00:00:07 type veth peer name far; link set far up; link set eth0 up",
        ],
        Family::HostLocal | Family::Static | Family::Loopback => vec![""],
        Family::Bridge | Family::BridgeVlan => [vec![""; 24], vec![OTHER_DEFAULT, TAKEN]].concat(),
        _ => [vec![""; 18], vec![MASTER; 6], vec![OTHER_DEFAULT, TAKEN]].concat(),
    }
}

fn changes(family: Family) -> Vec<&'static str> {
    match family {
        Family::HostLocal | Family::Static => vec![""],
        Family::Loopback => vec!["", "link set lo down"],
        Family::Tuning => vec![
            "",
            "",
            "",
            "link set eth0 mtu 1300",
            "link set eth0 promisc off",
            "link del eth0",
            "link set eth0 address c2:00:00:00:00:99",
        ],
        _ => vec![
            "",
            "",
            "",
            "",
            "",
            "addr flush dev eth0",
            "link set eth0 down",
            "link del eth0",
            "route flush table main",
            "link set eth0 mtu 1290",
        ],
    }
}
