//! The keys as data.

use cni_core::keys::Value::{List, Object, Text};
use cni_core::keys::{DNS, Key, REQUESTED_IPS, ROUTE};

/// Every key, for the documentation and `cnictl validate`.
pub const KEYS: &[Key] = &[
    Key::new("ipam", Object(IPAM), "", "how addresses are managed"),
    Key::new("runtimeConfig", Object(REQUESTED_IPS), "{}", "the capability ips"),
    Key::new("args", Object(&[Key::new("cni", Object(REQUESTED_IPS), "{}", "requests")]), "{}", "requests"),
];

const IPAM: &[Key] = &[
    Key::new("addresses", List(&Object(ADDRESS)), "[]", "the addresses of the container"),
    Key::new("routes", List(&Object(ROUTE)), "[]", "routes for the result"),
    Key::new("dns", Object(DNS), "{}", "DNS settings for the result"),
];

const ADDRESS: &[Key] = &[
    Key::new("address", Text, "", "the address, with its prefix length"),
    Key::new("gateway", Text, "", "the gateway, which may be of the other address family"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_keys_is_complete() {
        assert_eq!(cni_core::keys::differences::<crate::config::NetworkConf>(KEYS), Vec::<String>::new());
    }
}
