//! The part of rtnetlink(7) that the floor needs, without a library that could cost time.

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// Message types of rtnetlink(7).
pub(crate) mod kind {
    pub(crate) const NEW_LINK: u16 = 16;
    pub(crate) const GET_LINK: u16 = 18;
    pub(crate) const NEW_ADDRESS: u16 = 20;
    pub(crate) const GET_ADDRESS: u16 = 22;
    pub(crate) const NEW_ROUTE: u16 = 24;
}

/// Attributes of links, addresses and routes.
pub(crate) mod attribute {
    pub(crate) const IFNAME: u16 = 3;
    pub(crate) const LINK: u16 = 5;
    pub(crate) const MASTER: u16 = 10;
    pub(crate) const LINK_INFO: u16 = 18;
    pub(crate) const NETNS_FD: u16 = 28;
    pub(crate) const INFO_KIND: u16 = 1;
    pub(crate) const INFO_DETAILS: u16 = 2;
    pub(crate) const VETH_PEER: u16 = 1;
    pub(crate) const ADDRESS: u16 = 1;
    pub(crate) const LOCAL: u16 = 2;
    pub(crate) const OUTPUT_LINK: u16 = 4;
    pub(crate) const GATEWAY: u16 = 5;
}

const HEADER: usize = 16;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const DUMP: u16 = 0x300;
const REQUEST_ACK: u16 = 0x1 | 0x4;
const CREATE_EXCLUSIVE: u16 = 0x400 | 0x200;
const ECHO: u16 = 0x8;
const UP: u32 = 1;
const INET: u8 = 2;

/// A request, or a part to nest in one.
pub(crate) struct Message(Vec<u8>);

impl Message {
    /// A part: a header of its own and attributes, without a message around.
    pub(crate) fn part(header: &[u8]) -> Self {
        Self(header.to_vec())
    }

    /// A request that something be made; for a link the kernel reports the index (NLM_F_ECHO).
    pub(crate) fn create(kind: u16, header: &[u8]) -> Self {
        let echo = if kind == kind::NEW_LINK { ECHO } else { 0 };
        Self::request(kind, CREATE_EXCLUSIVE | echo, header)
    }

    /// A request that a link be set up.
    pub(crate) fn up(index: i32) -> Self {
        Self::request(kind::NEW_LINK, 0, &link_header(index, true))
    }

    fn request(kind: u16, flags: u16, header: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(REQUEST_ACK | flags).to_ne_bytes());
        bytes.extend_from_slice(header);
        Self(bytes)
    }

    pub(crate) fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(4 + value.len()).expect("attributes here are short");
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    pub(crate) fn name(self, ifname: &str) -> Self {
        self.attribute(attribute::IFNAME, format!("{ifname}\0").as_bytes())
    }

    pub(crate) fn link_kind(self, kind: &str, details: &Self) -> Self {
        let info = Self::part(&[])
            .attribute(attribute::INFO_KIND, kind.as_bytes())
            .attribute(attribute::INFO_DETAILS, details.bytes());
        self.attribute(attribute::LINK_INFO, info.bytes())
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// `struct ifinfomsg`
pub(crate) fn link_header(index: i32, up: bool) -> [u8; 16] {
    let flags = if up { UP } else { 0 };
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&flags.to_ne_bytes());
    header
}

/// `struct ifaddrmsg`
pub(crate) fn address_header(prefix: u8, index: i32) -> [u8; 8] {
    let mut header = [INET, prefix, 0, 0, 0, 0, 0, 0];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header
}

/// `struct rtmsg` of an IPv4 unicast default route in the main table, with the protocol `boot`.
pub(crate) fn default_route_header() -> [u8; 12] {
    [INET, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0]
}

/// A socket that stays in the namespace where it was opened.
pub(crate) struct Socket(OwnedFd);

impl Socket {
    pub(crate) fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let protocol = SockProtocol::NetlinkRoute;
        Ok(Self(socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?))
    }

    /// Requests all IPv4 addresses.
    pub(crate) fn addresses(&self) -> io::Result<()> {
        self.send(Message::request(kind::GET_ADDRESS, DUMP, &address_header(0, 0))).map(drop)
    }

    /// Requests a link by its name.
    pub(crate) fn link_index(&self, ifname: &str) -> io::Result<i32> {
        self.send(Message::request(kind::GET_LINK, 0, &link_header(0, false)).name(ifname))
    }

    /// Sends a request and waits for its acknowledgement; returns the index of the link that the
    /// kernel reported before, or 0.
    pub(crate) fn send(&self, message: Message) -> io::Result<i32> {
        let mut bytes = message.0;
        let length = u32::try_from(bytes.len()).expect("messages here are short");
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        send(self.0.as_raw_fd(), &bytes, MsgFlags::empty())?;
        let mut index = 0;
        let mut buffer = [0; 16 * 1024];
        loop {
            let count = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            let mut rest = &buffer[..count];
            while rest.len() >= HEADER + 4 {
                let length = usize::try_from(number(rest, 0)).unwrap_or(usize::MAX);
                match u16::from_ne_bytes([rest[4], rest[5]]) {
                    ERROR if number(rest, HEADER) == 0 => return Ok(index),
                    ERROR => return Err(io::Error::from_raw_os_error(-number(rest, HEADER))),
                    DONE => return Ok(index),
                    kind::NEW_LINK => index = number(rest, HEADER + 4),
                    _ => {}
                }
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }
}

fn number(bytes: &[u8], at: usize) -> i32 {
    let mut field = [0; 4];
    field.copy_from_slice(&bytes[at..at + 4]);
    i32::from_ne_bytes(field)
}
