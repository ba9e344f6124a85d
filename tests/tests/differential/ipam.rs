//! Generated configurations of the IPAM plugins.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use crate::field::{Field, field, generated, object};

pub(crate) fn addresses() -> BoxedStrategy<Value> {
    prop_oneof![9 => plain_addresses(), 7 => host_local(), 2 => static_addresses()].boxed()
}

/// Addresses without a mistake, for cases that are about something else.
pub(crate) fn plain_addresses() -> BoxedStrategy<Value> {
    select(vec![
        json!({ "type": "host-local", "subnet": "10.1.2.0/24" }),
        json!({ "type": "host-local", "subnet": "10.1.2.0/24", "rangeStart": "10.1.2.20", "rangeEnd": "10.1.2.21" }),
        json!({ "type": "host-local", "subnet": "fd00:1::/64" }),
        json!({ "type": "host-local", "ranges": [[{ "subnet": "10.1.2.0/24" }], [{ "subnet": "fd00:1::/64" }]],
            "routes": [{ "dst": "172.30.0.0/16", "gw": "10.1.2.7" }] }),
        json!({ "type": "static", "addresses": [{ "address": "10.1.2.30/24", "gateway": "10.1.2.1" }] }),
    ])
    .boxed()
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

pub(crate) fn host_local() -> BoxedStrategy<Value> {
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

pub(crate) fn static_addresses() -> BoxedStrategy<Value> {
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
