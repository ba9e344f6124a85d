//! A DHCPv6 server that does what a test wants, however wrong that is.

use std::net::{Ipv6Addr, SocketAddrV6, UdpSocket};

use nix::sys::socket::{setsockopt, sockopt};

use super::scripted_server::{Message, Server};
use crate::Container;

/// A message of a client.
#[derive(Clone, Debug)]
pub struct Ipv6Request(Vec<u8>);

impl Message for Ipv6Request {
    fn read(bytes: &[u8]) -> Option<Ipv6Request> {
        (bytes.len() >= 4).then(|| Ipv6Request(bytes.to_vec()))
    }

    /// The message type: 1 SOLICIT, 3 REQUEST, 8 RELEASE.
    fn kind(&self) -> u8 {
        self.0[0]
    }
}

impl Ipv6Request {
    /// The value of an option.
    pub fn option(&self, number: u16) -> Option<&[u8]> {
        let mut rest = self.0.get(4..)?;
        while let [a, b, c, d, tail @ ..] = rest {
            let (value, tail) = tail.split_at_checked(usize::from(u16::from_be_bytes([*c, *d])))?;
            if u16::from_be_bytes([*a, *b]) == number {
                return Some(value);
            }
            rest = tail;
        }
        None
    }

    /// An answer that is right: an ADVERTISE that is taken at once, or a REPLY, of fd00:1::77 for 1000 s.
    pub fn answer(&self) -> Ipv6Reply {
        let kind = if self.kind() == 1 { 2 } else { 7 };
        let options = vec![
            (1, self.option(1).unwrap_or_default().to_vec()),
            (2, vec![0, 3, 0, 1, 2, 0, 0, 0, 0, 9]),
            (7, vec![255]),
            (3, association([300, 600], "fd00:1::77", [1000, 1000])),
        ];
        Ipv6Reply { header: [kind, self.0[1], self.0[2], self.0[3]], options }
    }
}

/// The value of an IA_NA with T1 and T2, and an address with its preferred and valid lifetime.
pub fn association(timers: [u32; 2], address: &str, lifetimes: [u32; 2]) -> Vec<u8> {
    let address: Ipv6Addr = address.parse().expect("an IPv6 address");
    let mut value = [1, timers[0], timers[1]].map(u32::to_be_bytes).concat();
    value.extend([0, 5, 0, 24]);
    value.extend(address.octets());
    value.extend(lifetimes.map(u32::to_be_bytes).concat());
    value
}

/// A message of the server.
#[derive(Clone, Debug)]
pub struct Ipv6Reply {
    /// The type and the transaction ID.
    pub header: [u8; 4],
    /// The options in their order.
    pub options: Vec<(u16, Vec<u8>)>,
}

impl Ipv6Reply {
    /// The same with an option in place of one of that number.
    pub fn with(mut self, number: u16, value: &[u8]) -> Ipv6Reply {
        self.options.retain(|(other, _)| *other != number);
        self.options.push((number, value.to_vec()));
        self
    }

    /// Its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.header.to_vec();
        for (number, value) in &self.options {
            bytes.extend(number.to_be_bytes());
            bytes.extend((value.len() as u16).to_be_bytes());
            bytes.extend(value);
        }
        bytes
    }
}

/// A server of DHCPv6 that runs until it is dropped.
pub type ScriptedIpv6 = Server<Ipv6Request>;

impl ScriptedIpv6 {
    /// A server on the link `eth0` of a namespace: `script` gets each message and how many of its
    /// type came before, and gives what is sent in answer.
    pub fn start(
        machine: &Container<'_>,
        script: impl Fn(&Ipv6Request, usize) -> Vec<Vec<u8>> + Send + 'static,
    ) -> ScriptedIpv6 {
        let socket = machine.enter(|| {
            let socket =
                UdpSocket::bind(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 547, 0, 0)).expect("a port");
            setsockopt(&socket, sockopt::BindToDevice, &"eth0".into()).expect("binding to eth0");
            let index = nix::net::if_::if_nametoindex("eth0").expect("eth0");
            let servers: Ipv6Addr = "ff02::1:2".parse().expect("an address");
            socket.join_multicast_v6(&servers, index).expect("joining the group");
            socket
        });
        Server::run(socket, move |socket, request, before, client| {
            for bytes in script(request, before) {
                drop(socket.send_to(&bytes, client));
            }
        })
    }
}
