//! Fields that Debian's Go plugins do not know, against what newer ones did with them.
//!
//! A case is a file in `data/`, with its configuration and the observation; see the README there.

use std::fs;
use std::path::Path;

use oxcni_tests::requirement::{self, Feature};
use oxcni_tests::{Case, Intended, differences};
use serde_json::Value;

/// Of the interface with the gateway's address in a VLAN.
const GATEWAY_OF_A_VLAN: &[Intended] = &[Intended {
    path: "/accept_ra",
    reason: "Go lets the host take the routes that containers of the VLAN advertise",
}];

/// Of cases that are refused.
const REFUSED: &[Intended] = &[Intended {
    path: "/dels succeed",
    reason: "Go's DEL fails for what its ADD refuses, so runtimes retry for ever; ours has nothing to take down",
}];

/// Differences in every case: accepted for the reasons given.
const ALWAYS: &[Intended] = &[
    mtu_of("/interfaces/0/mtu"),
    mtu_of("/interfaces/1/mtu"),
    mtu_of("/interfaces/2/mtu"),
    mtu_of("/interfaces/3/mtu"),
];

const fn mtu_of(path: &'static str) -> Intended {
    Intended { path, reason: "the specification has the MTU in a result of 1.1.0; Go's plugins leave it out" }
}

/// Differences from the recorded plugins that are wanted.
fn intended_of(case: &str) -> &'static [Intended] {
    match case {
        "disable_container_interface" => &[Intended {
            path: "/checks succeed",
            reason: "Go's CHECK fails for every layer 2 attachment, for want of an IPAM plugin to ask",
        }],
        "vlan_gateway" => GATEWAY_OF_A_VLAN,
        "disable_container_interface_with_ipam" | "vlan_out_of_range" => REFUSED,
        "trunk_upside_down" | "trunk_id_out_of_range" | "trunk_id_zero" | "trunk_without_max_id" => REFUSED,
        "routes_with_attributes" | "static_routes_with_attributes" => &[
            Intended {
                path: "/metrics",
                reason: "Go's plugins pass mtu and advmss of a route on in the result, but do not give them to the kernel",
            },
            Intended { path: "/checks succeed", reason: "Go's CHECK does not find a route of another table" },
        ],
        _ => &[],
    }
}

/// The kernel on which the cases without VLANs were recorded says nothing of VLANs.
const NO_WORD_OF_VLANS: &[Intended] = &[
    Intended {
        path: "/links/br-par/vlan_default_pvid",
        reason: "a kernel without VLAN filtering of the bridge does not show it",
    },
    Intended { path: "/host/vlans", reason: "nor the default VLAN that every port is in" },
];

/// Compares all cases of a folder.
fn same_as(folder: &str, at_least: usize, unsaid: &[Intended]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(folder);
    let files: Vec<_> =
        fs::read_dir(folder).expect("the data").map(|entry| entry.expect("an entry").path()).collect();
    assert!(files.len() >= at_least, "only {} records", files.len());
    let mut found = String::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("a record");
        let record: Value = serde_json::from_str(&text).expect("a record is JSON");
        let case = Case::from_json(&record);
        let intended = [intended_of(&case.name), unsaid, ALWAYS].concat();
        found += &differences(&record["observed"], &case, &intended);
    }
    assert!(found.is_empty(), "{found}");
}

#[test]
fn same_as_newer_plugins() {
    if requirement::met("same_as_newer_plugins", &[]) {
        same_as("bridge", 13, NO_WORD_OF_VLANS);
    }
}

#[test]
fn same_vlans_as_newer_plugins() {
    if requirement::met("same_vlans_as_newer_plugins", &[Feature::BridgeVlan]) {
        same_as("bridge-vlan", 7, &[]);
    }
}
