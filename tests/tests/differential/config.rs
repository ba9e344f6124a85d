//! Generated configurations of each plugin.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use crate::case::Family;
use crate::field::{Field, field, generated, mostly, object, with_mistakes};
use crate::ipam::{addresses, host_local, plain_addresses, static_addresses};

pub(crate) fn config(family: Family, newer: bool) -> BoxedStrategy<Value> {
    let mut fields = vec![version(newer), field(0.99, "name", &[json!("net")]), plugin(family)];
    fields.extend(match family {
        Family::Bridge => bridge(newer),
        Family::BridgeVlan => vlans(newer),
        Family::Macvlan => macvlan(newer),
        Family::Ipvlan => ipvlan(newer),
        Family::Vlan => vlan(newer),
        Family::Dummy => vec![ipam()],
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
    with_mistakes(object(fields))
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
        Family::Dummy => "dummy",
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
        field(0.1, "ipMasq", &[json!(true)]),
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

/// A bridge with VLANs. What has no part in them is that of [`bridge`].
fn vlans(newer: bool) -> Vec<Field> {
    let mut fields = vec![
        field(1.0, "bridge", &[json!("br-dif"), json!("cni1")]),
        field(0.4, "isGateway", &[json!(true)]),
        field(0.2, "isDefaultGateway", &[json!(true)]),
        mostly(0.6, "vlan", &[json!(100), json!(0), json!(4094)], &[json!(1), json!(4095), json!(-1)]),
        generated(0.95, "ipam", plain_addresses()),
    ];
    if newer {
        fields.push(field(0.3, "preserveDefaultVlan", &[json!(true), json!(false)]));
        fields.push(mostly(
            0.5,
            "vlanTrunk",
            &[
                json!([{ "id": 101 }]),
                json!([{ "minID": 200, "maxID": 210 }]),
                json!([{ "id": 101 }, { "minID": 200, "maxID": 202 }]),
                json!([]),
                json!([{}]),
                json!([{ "id": 100 }]),
            ],
            &[json!([{ "minID": 20 }])],
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
        // One without a master takes that of the default route.
        prop_oneof![5 => master(), 1 => Just(None)].boxed(),
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
        // Go takes one without addresses in all versions.
        mostly(0.95, "prevResult", &[before("1.0.0")], &[json!({ "cniVersion": "1.0.0" })]),
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
