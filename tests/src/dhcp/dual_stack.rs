//! A network with IPv4 and IPv6, and what tests of it look at.

use serde_json::{Value, json};

use crate::{Container, Host, eventually};

/// The range of addresses that dnsmasq leases by DHCPv4.
pub const RANGE: &str = "10.1.2.50,10.1.2.99,12h";
/// The argument with which dnsmasq leases addresses by DHCPv6.
pub const LEASED: &str = "--dhcp-range=fd00:1::50,fd00:1::99,64,12h";
/// The argument with which dnsmasq announces a prefix and leases none of its addresses.
pub const SLAAC: &str = "--dhcp-range=fd00:1::,ra-only,64,12h";

/// A network of macvlan on the master `eth1`.
pub fn config(family: &str) -> Value {
    json!({
        "cniVersion": "1.1.0", "name": "net", "type": "macvlan", "master": "eth1",
        "ipam": { "type": "dhcp", "family": family },
    })
}

/// A machine beside the master `eth1` that is to be a server or router.
pub fn server(host: &Host) -> Container<'_> {
    let machine = host.veth_pair("eth1", "server", &["10.1.2.1/24", "fd00:1::1/64"]);
    settled(&machine, "eth0");
    machine
}

/// Waits until a link has a link-local address that can be used.
#[track_caller]
pub fn settled(machine: &Container<'_>, link: &str) {
    let list = || machine.sh(&format!("ip -6 addr show dev {link}"));
    assert!(eventually(|| list().contains("scope link") && !list().contains("tentative")), "{}", list());
}

/// The IPv6 addresses of a container, as ip(8) lists them.
pub fn ipv6_of(pod: &Container<'_>) -> String {
    pod.sh("ip -6 addr show dev eth0")
}

impl Host {
    /// What our dhcp program prints for some arguments.
    pub fn dhcp(&self, arguments: &str) -> String {
        self.sh(&format!("{} {arguments}", self.plugins().dir().join("dhcp").display()))
    }

    /// The leases of the daemon.
    pub fn leases(&self) -> Value {
        serde_json::from_str(&self.dhcp("leases -o json")).expect("JSON")
    }
}
