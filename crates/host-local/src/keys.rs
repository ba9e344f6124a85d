//! The keys as data.

use cni_core::keys::Value::{Bool, List, Object, Text};
use cni_core::keys::{Key, REQUESTED_IPS, ROUTE};

/// Every key, for the documentation and `cnictl validate`.
pub const KEYS: &[Key] = &[
    Key::new("ipam", Object(IPAM), "", "how addresses are managed"),
    Key::new("runtimeConfig", Object(RUNTIME), "{}", "the capabilities ips and ipRanges"),
    Key::new("args", Object(&[Key::new("cni", Object(REQUESTED_IPS), "{}", "requests")]), "{}", "requests"),
];

const IPAM: &[Key] = &[
    Key::new(
        "ranges",
        List(&List(&Object(RANGE))),
        "[]",
        "range sets; an attachment gets one address of each",
    ),
    SUBNET,
    RANGE_START,
    RANGE_END,
    GATEWAY,
    Key::new("routes", List(&Object(ROUTE)), "[]", "routes for the result"),
    Key::new("resolvConf", Text, "", "a file such as /etc/resolv.conf, from which dns of the result is read"),
    Key::new("dataDir", Text, "/var/lib/cni/networks", "where the reservations are"),
    Key::new("reclaimAfterReboot", Bool, "true", "whether reservations of earlier boots are reclaimed"),
];

const RANGE: &[Key] = &[SUBNET, RANGE_START, RANGE_END, GATEWAY];

const SUBNET: Key = Key::new("subnet", Text, "", "the network without host bits; at most /30 or /126");
const RANGE_START: Key =
    Key::new("rangeStart", Text, "", "the first address; by default the second of the subnet");
const RANGE_END: Key = Key::new("rangeEnd", Text, "", "the last address; by default the last of the subnet");
const GATEWAY: Key =
    Key::new("gateway", Text, "", "the gateway, which is never allocated; by default the first address");

const RUNTIME: &[Key] = &[
    Key::new("ipRanges", List(&List(&Object(RANGE))), "[]", "range sets, before those of the configuration"),
    Key::new("ips", List(&Text), "[]", "the addresses of the container"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_keys_is_complete() {
        assert_eq!(cni_core::keys::differences::<crate::config::NetworkConf>(KEYS), Vec::<String>::new());
    }
}
