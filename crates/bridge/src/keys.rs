//! The keys as data.

use cni_core::keys::Value::{Bool, Integer, List, Object, Text};
use cni_core::keys::{Key, REQUESTED_MAC};

/// Every key, for the documentation and `cnictl validate`.
pub const KEYS: &[Key] = &[
    Key::new("bridge", Text, "cni0", "the name of the bridge, which is created where it is missing"),
    Key::new("isGateway", Bool, "false", "the host is the gateway: the bridge gets the gateway's address"),
    Key::new(
        "isDefaultGateway",
        Bool,
        "false",
        "the same, and the container gets a default route through it",
    ),
    Key::new(
        "forceAddress",
        Bool,
        "false",
        "an address of the bridge that is in the way of the gateway's is replaced",
    ),
    Key::new(
        "ipMasq",
        Bool,
        "false",
        "what the container sends beyond its subnet carries the host's address",
    ),
    Key::new("ipMasqBackend", Text, "nftables", "nftables; with iptables nftables is used, too"),
    Key::new("mtu", Integer, "0", "MTU of the bridge and of both ends in bytes; 0 for the kernel's default"),
    Key::new("hairpinMode", Bool, "false", "frames may leave by the port that they came in by"),
    Key::new("promiscMode", Bool, "false", "the bridge is promiscuous; not together with hairpinMode"),
    Key::new("vlan", Integer, "0", "the VLAN of untagged frames, 1 to 4094"),
    Key::new("vlanTrunk", List(&Object(VLAN_TRUNK)), "[]", "VLANs that reach the container tagged"),
    Key::new("preserveDefaultVlan", Bool, "false", "the port stays in VLAN 1, too, with vlan or vlanTrunk"),
    Key::new("macspoofchk", Bool, "false", "frames without the container's own MAC address are dropped"),
    Key::new("enabledad", Bool, "false", "duplicate IPv6 addresses are detected"),
    Key::new(
        "disableContainerInterface",
        Bool,
        "false",
        "the container's interface stays down; not together with ipam",
    ),
    Key::new(
        "portIsolation",
        Bool,
        "false",
        "no frames pass between this container and others that are isolated, too",
    ),
    Key::new("args", Object(&[Key::new("cni", Object(REQUESTED_MAC), "{}", "requests")]), "{}", "requests"),
    Key::new("runtimeConfig", Object(REQUESTED_MAC), "{}", "the capability mac"),
];

const VLAN_TRUNK: &[Key] = &[
    Key::new("id", Integer, "", "one VLAN"),
    Key::new("minID", Integer, "", "the first VLAN of a range"),
    Key::new("maxID", Integer, "", "the last VLAN of a range"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_keys_is_complete() {
        assert_eq!(cni_core::keys::differences::<crate::config::Keys>(KEYS), Vec::<String>::new());
    }
}
