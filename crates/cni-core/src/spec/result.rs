//! The result of an ADD, in the terms of the newest version of the specification.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Cidr, none_if_empty};

/// What an attachment consists of (specification, section 5, "ADD Success").
///
/// Always held in the newest form; [`AddResult::to_json`] and [`AddResult::from_json`]
/// convert at the border.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AddResult {
    /// The interfaces that were made, those on the host included.
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
    /// Its name.
    pub name: String,
    /// Its hardware address, empty where it has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// Its MTU in bytes (since 1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The network namespace it is in, as `CNI_NETNS` gave it; empty on the host.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sandbox: String,
    /// The socket of an interface that is one (since 1.1.0).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub socket_path: String,
    /// The PCI device of an interface that is one (since 1.1.0).
    #[serde(default, rename = "pciID", skip_serializing_if = "String::is_empty")]
    pub pci_id: String,
}

/// An address of a result.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct IpConfig {
    /// Index into the interfaces of the result; absent in what an IPAM plugin returns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<usize>,
    /// The address.
    pub address: Cidr,
    /// The gateway of its subnet.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "none_if_empty")]
    pub gateway: Option<IpAddr>,
}

/// A route of a result or of a configuration.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Route {
    /// The destination.
    pub dst: Cidr,
    /// The next hop; absent, the gateway of an address of the same family is used.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "none_if_empty")]
    pub gw: Option<IpAddr>,
    /// MTU along the path in bytes, 0 for none of its own (since 1.1.0, as all below).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub mtu: u32,
    /// The maximum segment size to advertise in bytes, 0 for none of its own.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub advmss: u32,
    /// The metric, lower is preferred, 0 for the kernel's default.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: u32,
    /// The routing table; absent, the main one (254).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// The scope: 0 global, 253 link, 254 host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u8>,
}

impl Route {
    /// A route with nothing but a destination and perhaps a next hop.
    pub fn new(dst: Cidr, gw: Option<IpAddr>) -> Route {
        Route { dst, gw, mtu: 0, advmss: 0, priority: 0, table: None, scope: None }
    }

    /// Whether this is a default route, of either family.
    pub fn is_default(&self) -> bool {
        self.dst.prefix() == 0 && self.dst.ip().is_unspecified()
    }
}

/// Name resolution of a network.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Dns {
    /// Addresses of name servers, most preferred first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// The local domain for short names.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Search domains, most preferred first.
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

fn is_zero(number: &u32) -> bool {
    *number == 0
}
