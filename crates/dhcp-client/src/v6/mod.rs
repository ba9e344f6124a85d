//! The client of DHCPv6 (RFC 8415), for one address of an identity association (IA_NA), and what router
//! advertisements say of DNS (RFC 8106).

mod client;
mod lease;
mod packet;
mod retransmit;
mod router_dns;
mod step;

pub use client::Client;
pub use lease::{Lease, Refused};
pub use packet::{IaAddress, IaNa, Message, MessageType, Options, code, status};
pub use router_dns::RouterDns;
pub use step::{Action, Config, Counters, Event, Phase};

/// The port of servers and relays (RFC 8415, section 7.2).
pub const SERVER_PORT: u16 = 547;
/// The port of clients.
pub const CLIENT_PORT: u16 = 546;
/// All servers and relays of a link (RFC 8415, section 7.1).
pub const ALL_SERVERS: std::net::Ipv6Addr = std::net::Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);

/// The DHCP unique identifier made of a UUID (RFC 6355).
pub fn duid_of_uuid(uuid: [u8; 16]) -> Vec<u8> {
    [&[0, 4], &uuid[..]].concat()
}
