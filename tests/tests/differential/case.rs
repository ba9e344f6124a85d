//! What is tried: a configuration, a request and a state of the host.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Value;

use crate::config::config;

/// Which plugin is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Bridge,
    BridgeVlan,
    Macvlan,
    Ipvlan,
    Vlan,
    Dummy,
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
    /// How often duplicate address detection asks for an IPv6 address; each time takes a second.
    pub(crate) probes: u8,
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
        1_usize..=3,
        prop_oneof![3 => Just(0), 1 => Just(1)],
        any::<bool>(),
    );
    (config(family, newer), surroundings)
        .prop_map(
            move |(
                config,
                (args, host_links, container_links, change, containers, probes, del_with_result),
            )| Case {
                family,
                config,
                args,
                host_links,
                container_links,
                change,
                containers,
                probes,
                del_with_result,
            },
        )
        .boxed()
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
        Family::Bridge | Family::BridgeVlan | Family::Dummy => {
            [vec![""; 24], vec![OTHER_DEFAULT, TAKEN]].concat()
        }
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
