//! The keys as data.

use cni_core::keys::Value::{Any, Bool, Integer, Object, Text};
use cni_core::keys::{Key, REQUESTED_MAC};

/// Every key, for the documentation and `cnictl validate`.
pub const KEYS: &[Key] = &[
    Key::new("dataDir", Text, "/run/cni/tuning", "the folder of the backups"),
    SYSCTL,
    MAC,
    PROMISC,
    MTU,
    ALLMULTI,
    TX_Q_LEN,
    Key::new("runtimeConfig", Object(REQUESTED_MAC), "{}", "the capability mac"),
    Key::new(
        "args",
        Object(&[Key::new("cni", Object(ARGS), "{}", "each overrules all other sources")]),
        "{}",
        "requests",
    ),
];

const ARGS: &[Key] = &[SYSCTL, MAC, PROMISC, MTU, ALLMULTI, TX_Q_LEN];

const SYSCTL: Key = Key::new(
    "sysctl",
    Any,
    "{}",
    "settings below /proc/sys/net of the container; IFNAME stands for the interface",
);
const MAC: Key =
    Key::new("mac", Text, "", "the MAC address; MAC= of CNI_ARGS and runtimeConfig.mac overrule it");
const PROMISC: Key = Key::new("promisc", Bool, "false", "the interface receives all packets");
const MTU: Key = Key::new("mtu", Integer, "0", "MTU in bytes; 0 leaves it");
const ALLMULTI: Key =
    Key::new("allmulti", Bool, "", "whether the interface receives all multicast packets; absent leaves it");
const TX_Q_LEN: Key =
    Key::new("txQLen", Integer, "", "length of the transmit queue in packets; absent leaves it");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_keys_is_complete() {
        assert_eq!(cni_core::keys::differences::<crate::config::Keys>(KEYS), Vec::<String>::new());
    }
}
