//! Sockets in a container's namespace. They exist only while an answer is waited for: a packet
//! socket keeps a deleted namespace and its links alive.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::Range;
use std::rc::Rc;

use cni_core::netlink::RTNLGRP_LINK;
use cni_core::netns::Netns;
use dhcp_client::v4::{Packet, frame};
use nix::libc;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::clock::Clock;
use super::closer::ClosedLater;
use super::events::Events;
use super::filter::{NOTHING, datagrams_in_answer_to, frames_in_answer_to};
use super::inbox::{Inbox, Pace};

/// The protocol of IPv4 frames (`ETH_P_IP`).
const IPV4: u16 = libc::ETH_P_IP as u16;

/// How often changes of links are looked at in each period of [`Pace`]: a container can make them without end.
const LOOKS: u32 = 1;

/// Where the transaction ID is in a message.
const XID: Range<usize> = 4..8;

/// What came in.
#[derive(Debug)]
pub(crate) enum Input {
    /// A message of DHCP.
    Packet(Packet),
    /// A link of the namespace changed.
    Link,
    /// The socket failed, as when its link went away.
    Failed(io::Error),
}

/// A way to send and receive.
pub(crate) enum Port {
    /// A packet socket at the link, and the events of links.
    #[allow(dead_code, reason = "closed_later is only dropped, after the socket")]
    Link { inbox: Inbox, closed_later: ClosedLater, links: Events, looks: Pace, index: u32 },
    /// A UDP socket at the leased address.
    Address { inbox: Inbox, address: Ipv4Addr },
}

impl Port {
    /// A port at a link of the namespace.
    ///
    /// # Errors
    /// Those of socket(2) and bind(2).
    pub(crate) fn at_link(clock: &Rc<Clock>, netns: &Netns, index: u32) -> io::Result<Port> {
        let open = || -> io::Result<Port> {
            // Without a protocol nothing is received before the filter is there.
            let socket = Socket::new(Domain::PACKET, Type::DGRAM.nonblocking().cloexec(), None)?;
            socket.attach_filter(&NOTHING)?;
            socket.bind(&link_address(index, [0; 6], IPV4))?;
            let links = Events::here(&[RTNLGRP_LINK])?;
            let closed_later = ClosedLater::of(&socket)?;
            let (inbox, looks) = (Inbox::new(socket, clock)?, Pace::new(clock, LOOKS));
            Ok(Port::Link { inbox, closed_later, links, looks, index })
        };
        netns.enter(open).map_err(io::Error::other)?
    }

    /// A port at an address that the interface has.
    ///
    /// # Errors
    /// Those of socket(2) and bind(2): `EADDRNOTAVAIL` where it does not have it.
    pub(crate) fn at_address(
        clock: &Rc<Clock>,
        netns: &Netns,
        ifname: &str,
        address: Ipv4Addr,
    ) -> io::Result<Port> {
        let open = || -> io::Result<Port> {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
            socket.set_reuse_address(true)?;
            socket.set_broadcast(true)?;
            socket.attach_filter(&NOTHING)?;
            socket.bind_device(Some(ifname.as_bytes()))?;
            socket.bind(&SocketAddrV4::new(address, frame::CLIENT_PORT).into())?;
            Ok(Port::Address { inbox: Inbox::new(socket, clock)?, address })
        };
        netns.enter(open).map_err(io::Error::other)?
    }

    /// Broadcasts a message on the link. From now on its answers are received, and nothing else.
    ///
    /// # Errors
    /// Those of sendto(2).
    pub(crate) fn broadcast(&self, message: &[u8]) -> io::Result<()> {
        let Port::Link { inbox, .. } = self else { return Err(io::ErrorKind::InvalidInput.into()) };
        inbox.socket().attach_filter(&frames_in_answer_to(xid(message)))?;
        self.send_frame(&frame::broadcast(message))
    }

    /// Sends a message from an address to a server, also where the interface does not have the
    /// address: as a broadcast of the link that only the server takes.
    ///
    /// # Errors
    /// Those of sendto(2).
    pub(crate) fn send_as(&self, from: Ipv4Addr, to: Ipv4Addr, message: &[u8]) -> io::Result<()> {
        self.send_frame(&frame::datagram((from, frame::CLIENT_PORT), (to, frame::SERVER_PORT), message))
    }

    fn send_frame(&self, packet: &[u8]) -> io::Result<()> {
        let Port::Link { inbox, index, .. } = self else { return Err(io::ErrorKind::InvalidInput.into()) };
        inbox.socket().send_to(packet, &link_address(*index, [0xff; 6], IPV4)).map(drop)
    }

    /// Sends a message from the leased address. From now on its answers are received, and nothing else.
    ///
    /// # Errors
    /// Those of sendto(2).
    pub(crate) fn send_to(&self, to: Ipv4Addr, message: &[u8]) -> io::Result<()> {
        let Port::Address { inbox, .. } = self else { return Err(io::ErrorKind::InvalidInput.into()) };
        inbox.socket().attach_filter(&datagrams_in_answer_to(xid(message)))?;
        inbox.socket().send_to(message, &SocketAddrV4::new(to, frame::SERVER_PORT).into()).map(drop)
    }

    /// Waits until all that was sent has left: a datagram waits in the kernel while the server's
    /// MAC address is looked for, and is lost with the link. Gives up after half a second.
    pub(crate) async fn flushed(&self, clock: &Rc<Clock>) {
        let Port::Address { inbox, .. } = self else { return };
        for wait in [0, 1, 1, 2, 4, 8, 16, 32, 64, 128, 256] {
            clock.sleep(wait).await;
            if unsent(inbox.socket()) == 0 {
                return;
            }
        }
    }

    /// The next thing that comes in.
    pub(crate) async fn receive(&self) -> Input {
        match self {
            Port::Address { inbox, .. } => loop {
                match inbox.next().await {
                    Ok(bytes) => {
                        if let Some(packet) = Packet::parse(&bytes) {
                            return Input::Packet(packet);
                        }
                    }
                    Err(err) => return Input::Failed(err),
                }
            },
            Port::Link { inbox, links, looks, .. } => loop {
                let changed = async {
                    looks.wait().await;
                    links.next().await;
                };
                tokio::select! {
                    bytes = inbox.next() => match bytes {
                        Ok(bytes) => {
                            if let Some(packet) = frame::payload(&bytes).and_then(|(_, text)| Packet::parse(text)) {
                                return Input::Packet(packet);
                            }
                        }
                        Err(err) => return Input::Failed(err),
                    },
                    () = changed => {
                        links.read(|_, _| ());
                        looks.count();
                        return Input::Link;
                    }
                }
            },
        }
    }
}

/// The transaction ID of a message.
fn xid(message: &[u8]) -> u32 {
    let bytes = message.get(XID).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
    bytes.map_or(0, u32::from_be_bytes)
}

/// `struct sockaddr_ll` (packet(7)): frames of a protocol on a link, to a MAC address.
#[allow(unsafe_code)] // socket2 has no type for it
pub(crate) fn link_address(index: u32, destination: [u8; 6], protocol: u16) -> SockAddr {
    let mut address = [0; 8];
    address[..6].copy_from_slice(&destination);
    let link = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol.to_be(),
        sll_ifindex: index as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: address,
    };
    let length = size_of::<libc::sockaddr_ll>();
    let mut storage = socket2::SockAddrStorage::zeroed();
    // SAFETY: the storage has room for every kind of socket address, and `length` bytes of it are
    // one of the family that its first field says.
    unsafe {
        *storage.view_as::<libc::sockaddr_ll>() = link;
        SockAddr::new(storage, length as libc::socklen_t)
    }
}

/// The bytes of what was sent and has not left yet (`SIOCOUTQ`, udp(7)).
#[allow(unsafe_code)] // nix has no safe form of it
fn unsent(socket: &Socket) -> libc::c_int {
    use std::os::fd::AsRawFd;
    nix::ioctl_read_bad!(outq, libc::TIOCOUTQ, libc::c_int);
    let mut bytes = 0;
    // SAFETY: the descriptor is open, and the kernel writes one int.
    match unsafe { outq(socket.as_raw_fd(), &mut bytes) } {
        Ok(_) => bytes,
        Err(_) => 0,
    }
}
