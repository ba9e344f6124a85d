//! The keys as data.

use cni_core::keys::Key;
use cni_core::keys::Value::{Bool, Integer, List, Object, Text};

/// Every key, for the documentation and `cnictl validate`.
pub const KEYS: &[Key] = &[
    Key::new("ipam", Object(IPAM), "", "how addresses are managed"),
    Key::new(
        "mtu",
        Integer,
        "0",
        "the interface plugin's: where it is 0, the interface gets the MTU of the lease",
    ),
];

const IPAM: &[Key] = &[
    Key::new(
        "daemonSocketPath",
        Text,
        "",
        "the socket of the daemon; without it /run/oxcni/dhcp.sock, or /run/cni/dhcp.sock",
    ),
    Key::new("request", List(&Object(REQUEST)), "[]", "options of DHCPv4 to request besides the usual ones"),
    Key::new("provide", List(&Object(PROVIDE)), "[]", "options of DHCPv4 to send"),
    Key::new("priority", Integer, "0", "the metric of every route"),
    Key::new("family", Text, "ipv4", "which addresses are obtained: ipv4, ipv6 or dual"),
];

const REQUEST: &[Key] = &[
    Key::new("option", Text, "", "the option, by name or number"),
    Key::new("skipDefault", Bool, "false", "the usual options are not requested"),
];

const PROVIDE: &[Key] = &[
    Key::new("option", Text, "", "the option, by name or number"),
    Key::new("value", Text, "", "its value"),
    Key::new("fromArg", Text, "", "the key of CNI_ARGS whose value overrules it"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_keys_is_complete() {
        assert_eq!(cni_core::keys::differences::<crate::config::NetworkConf>(KEYS), Vec::<String>::new());
    }
}
