//! The socket of DHCPv6. It exists only while an answer is waited for.

use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};

use cni_core::netns::Netns;
use dhcp_client::v6::{ALL_SERVERS, CLIENT_PORT, Message, SERVER_PORT};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::unix::AsyncFd;

use super::port::received;
use super::watch::watch;

/// A UDP socket at the client's port of one interface.
pub(crate) struct Ipv6Port {
    socket: AsyncFd<Socket>,
    index: u32,
}

impl Ipv6Port {
    /// Opens it.
    ///
    /// # Errors
    /// Those of socket(2) and bind(2).
    pub(crate) fn open(netns: &Netns, ifname: &str, index: u32) -> io::Result<Ipv6Port> {
        let open = || -> io::Result<Ipv6Port> {
            let socket = Socket::new(Domain::IPV6, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
            socket.set_only_v6(true)?;
            socket.set_reuse_address(true)?;
            socket.bind_device(Some(ifname.as_bytes()))?;
            socket.bind(&SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, CLIENT_PORT, 0, 0).into())?;
            Ok(Ipv6Port { socket: watch(socket)?, index })
        };
        netns.enter(open).map_err(io::Error::other)?
    }

    /// Sends a message to all servers of the link, from its link-local address.
    ///
    /// # Errors
    /// Those of sendto(2): `EADDRNOTAVAIL` where there is no such address yet.
    pub(crate) fn send(&self, message: &[u8]) -> io::Result<()> {
        let servers = SocketAddrV6::new(ALL_SERVERS, SERVER_PORT, 0, self.index);
        self.socket.get_ref().send_to(message, &servers.into()).map(drop)
    }

    /// The next message.
    ///
    /// # Errors
    /// Those of recv(2).
    pub(crate) async fn receive(&self) -> io::Result<Message> {
        loop {
            if let Some(message) = Message::parse(&received(&self.socket).await?) {
                return Ok(message);
            }
        }
    }
}
