//! The socket of DHCPv6. It exists only while an answer is waited for.

use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::rc::Rc;

use cni_core::netns::Netns;
use dhcp_client::v6::{ALL_SERVERS, CLIENT_PORT, Message, SERVER_PORT};
use socket2::{Domain, Protocol, Socket, Type};

use super::clock::Clock;
use super::filter::{NOTHING, ipv6_datagrams_in_answer_to};
use super::inbox::Inbox;

/// A UDP socket at the client's port of one interface.
pub(crate) struct Ipv6Port {
    inbox: Inbox,
    index: u32,
}

impl Ipv6Port {
    /// Opens it.
    ///
    /// # Errors
    /// Those of socket(2) and bind(2).
    pub(crate) fn open(clock: &Rc<Clock>, netns: &Netns, ifname: &str, index: u32) -> io::Result<Ipv6Port> {
        let open = || -> io::Result<Ipv6Port> {
            let socket = Socket::new(Domain::IPV6, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
            socket.set_only_v6(true)?;
            socket.set_reuse_address(true)?;
            socket.attach_filter(&NOTHING)?;
            socket.bind_device(Some(ifname.as_bytes()))?;
            socket.bind(&SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, CLIENT_PORT, 0, 0).into())?;
            Ok(Ipv6Port { inbox: Inbox::new(socket, clock)?, index })
        };
        netns.enter(open).map_err(io::Error::other)?
    }

    /// Sends a message to all servers of the link, from its link-local address. From now on its answers are received,
    /// and nothing else.
    ///
    /// # Errors
    /// Those of sendto(2): `EADDRNOTAVAIL` where there is no such address yet.
    pub(crate) fn send(&self, message: &[u8]) -> io::Result<()> {
        let xid = message.get(..4).map_or(0, |bytes| u32::from_be_bytes([0, bytes[1], bytes[2], bytes[3]]));
        self.inbox.socket().attach_filter(&ipv6_datagrams_in_answer_to(xid))?;
        let servers = SocketAddrV6::new(ALL_SERVERS, SERVER_PORT, 0, self.index);
        self.inbox.socket().send_to(message, &servers.into()).map(drop)
    }

    /// The next message.
    ///
    /// # Errors
    /// Those of recv(2).
    pub(crate) async fn receive(&self) -> io::Result<Message> {
        loop {
            if let Some(message) = Message::parse(&self.inbox.next().await?) {
                return Ok(message);
            }
        }
    }
}
