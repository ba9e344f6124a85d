//! The result of an ADD, in the terms of the newest version of the specification.

use std::net::IpAddr;

use serde::{Deserialize, Deserializer, Serialize};

use super::{Cidr, none_if_empty};

/// The result of an ADD (specification, section 5, "ADD Success").
///
/// Always in the newest form; [`AddResult::to_json`] and [`AddResult::from_json`] convert it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AddResult {
    /// The interfaces that were made, also those on the host.
    pub interfaces: Vec<Interface>,
    /// The addresses that were assigned.
    pub ips: Vec<IpConfig>,
    /// The routes that were added.
    pub routes: Vec<Route>,
    /// Name servers and their options.
    pub dns: Dns,
}

/// An interface of a result.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Interface {
    /// Its name. Another plugin may leave it out.
    #[serde(default)]
    pub name: String,
    /// Its hardware address. Empty: it has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// Its MTU in bytes (since 1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Its network namespace, the value of `CNI_NETNS`. Empty: the host's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sandbox: String,
    /// The path of its socket file, for vhost-user and the like (since 1.1.0).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub socket_path: String,
    /// The address of its PCI device, for SR-IOV and the like (since 1.1.0).
    #[serde(default, rename = "pciID", skip_serializing_if = "String::is_empty")]
    pub pci_id: String,
}

/// An address of a result.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct IpConfig {
    /// Index into the interfaces of the result. An IPAM plugin does not set it, and that of
    /// another plugin may be out of range.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "index")]
    pub interface: Option<usize>,
    /// The address.
    pub address: Cidr,
    /// The gateway of its subnet.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "optional_ip")]
    pub gateway: Option<IpAddr>,
}

/// A route of a result or of a configuration.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Route {
    /// The destination.
    pub dst: Cidr,
    /// The next hop. By default the gateway of an address of the same family.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "optional_ip")]
    pub gw: Option<IpAddr>,
    /// MTU along the path in bytes; 0: that of the interface. This and all below since 1.1.0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub mtu: u32,
    /// The maximum segment size to advertise in bytes; 0: that of the interface.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub advmss: u32,
    /// The metric, lower is preferred; 0: the kernel's default.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: u32,
    /// The routing table. By default the main one (254).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// The scope: 0 global, 253 link, 254 host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u8>,
}

impl Route {
    /// A route with a destination and an optional next hop.
    pub fn new(dst: Cidr, gw: Option<IpAddr>) -> Route {
        Route { dst, gw, mtu: 0, advmss: 0, priority: 0, table: None, scope: None }
    }

    /// Whether this is a default route, of either family.
    pub fn is_default(&self) -> bool {
        self.dst.prefix() == 0 && self.dst.ip().is_unspecified()
    }
}

/// DNS settings of a network.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Dns {
    /// Addresses of name servers, the most preferred first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// The local domain for short names.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Search domains, the most preferred first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Options of the resolver.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

impl Dns {
    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == Dns::default()
    }
}

/// An index, where other plugins write -1 for an address without an interface.
fn index<'de, D: Deserializer<'de>>(index: D) -> Result<Option<usize>, D::Error> {
    let index = Option::<i64>::deserialize(index)?;
    Ok(index.and_then(|index| usize::try_from(index).ok()))
}

/// An optional address. An IPv4-mapped address is IPv4, as in Go.
fn optional_ip<'de, D: Deserializer<'de>>(ip: D) -> Result<Option<IpAddr>, D::Error> {
    none_if_empty(ip).map(|ip: Option<IpAddr>| ip.map(|ip| ip.to_canonical()))
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}
