//! Dumps of netlink(7), as messages and their attributes.

use std::net::IpAddr;
use std::ops::Range;

use netlink_sys::constants::{NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{Socket, SocketAddr};

const HEADER: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_DUMP_INTR: u16 = 0x10;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const DUMP_REQUEST: u16 = 0x301;
/// `NLM_F_REQUEST | NLM_F_ACK`.
const ACKNOWLEDGED: u16 = 0x5;
/// `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`, which are no part of an attribute's number.
const ATTRIBUTE_FLAGS: u16 = 0xc000;

/// One message of an answer, without the header that all kinds have.
#[derive(Debug)]
pub(super) struct Message(Vec<u8>);

impl Message {
    pub(super) fn header(&self, range: Range<usize>) -> &[u8] {
        &self.0[range]
    }

    pub(super) fn header_u32(&self, at: usize) -> u32 {
        u32::from_ne_bytes(self.0[at..at + 4].try_into().expect("four bytes"))
    }

    /// The attributes behind a header of this length.
    pub(super) fn attributes(&self, header: usize) -> Attributes<'_> {
        Attributes::read(&self.0[header..])
    }
}

/// Attributes of a message or of another attribute, in order.
#[derive(Debug)]
pub(super) struct Attributes<'a>(Vec<(u16, &'a [u8])>);

impl<'a> Attributes<'a> {
    pub(super) fn read(mut bytes: &'a [u8]) -> Self {
        let mut found = Vec::new();
        while bytes.len() >= 4 {
            let length = usize::from(u16::from_ne_bytes([bytes[0], bytes[1]])).clamp(4, bytes.len());
            let kind = u16::from_ne_bytes([bytes[2], bytes[3]]) & !ATTRIBUTE_FLAGS;
            found.push((kind, &bytes[4..length]));
            bytes = &bytes[length.next_multiple_of(4).min(bytes.len())..];
        }
        Self(found)
    }

    pub(super) fn all(&self, kind: u16) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter(move |(found, _)| *found == kind).map(|(_, bytes)| *bytes)
    }

    pub(super) fn bytes(&self, kind: u16) -> Option<&'a [u8]> {
        self.all(kind).next()
    }

    pub(super) fn nested(&self, kind: u16) -> Option<Attributes<'a>> {
        self.bytes(kind).map(Self::read)
    }

    pub(super) fn u8(&self, kind: u16) -> Option<u8> {
        self.bytes(kind)?.first().copied()
    }

    pub(super) fn u16(&self, kind: u16) -> Option<u16> {
        Some(u16::from_ne_bytes(self.bytes(kind)?.try_into().ok()?))
    }

    pub(super) fn u32(&self, kind: u16) -> Option<u32> {
        Some(u32::from_ne_bytes(self.bytes(kind)?.try_into().ok()?))
    }

    pub(super) fn text(&self, kind: u16) -> Option<String> {
        let bytes = self.bytes(kind)?;
        Some(String::from_utf8_lossy(bytes.strip_suffix(b"\0").unwrap_or(bytes)).into_owned())
    }

    pub(super) fn ip(&self, kind: u16) -> Option<IpAddr> {
        super::ip(self.bytes(kind)?)
    }
}

/// Everything of a kind in the calling thread's namespace; asked again where it changed meanwhile.
pub(super) fn dump(kind: u16, header: &[u8], attributes: &[(u16, u32)]) -> Vec<Message> {
    let mut body = header.to_vec();
    for (attribute, value) in attributes {
        body.extend(8_u16.to_ne_bytes());
        body.extend(attribute.to_ne_bytes());
        body.extend(value.to_ne_bytes());
    }
    loop {
        match try_dump(NETLINK_ROUTE, kind, &body) {
            Answer::Whole(messages) => return messages,
            Answer::Changed => {}
            Answer::Refused(code) => panic!("the kernel refuses a dump of kind {kind}: error {code}"),
        }
    }
}

/// True where nf_tables holds a table in the calling thread's namespace: `NFT_MSG_GETTABLE` of
/// `include/uapi/linux/netfilter/nf_tables.h`. A kernel without nf_tables holds none.
pub(crate) fn has_nft_tables() -> bool {
    const NFT_MSG_GETTABLE: u16 = (10 << 8) | 1;
    match try_dump(NETLINK_NETFILTER, NFT_MSG_GETTABLE, &[0; 4]) {
        Answer::Whole(tables) => !tables.is_empty(),
        Answer::Changed => true,
        Answer::Refused(_) => false,
    }
}

/// Sets the loopback interface of the calling thread's namespace up, with index 1 as in each.
pub(crate) fn set_loopback_up() {
    const RTM_NEWLINK: u16 = 16;
    const IFF_UP: u32 = 1;
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&1_u32.to_ne_bytes());
    header[8..12].copy_from_slice(&IFF_UP.to_ne_bytes());
    header[12..16].copy_from_slice(&IFF_UP.to_ne_bytes());
    match ask(NETLINK_ROUTE, RTM_NEWLINK, ACKNOWLEDGED, &header) {
        Answer::Refused(0) => {}
        _ => panic!("the kernel does not set lo up"),
    }
}

enum Answer {
    Whole(Vec<Message>),
    /// Something changed while the kernel answered.
    Changed,
    /// With this error, see errno(3); 0 acknowledges a request.
    Refused(i32),
}

fn try_dump(protocol: isize, kind: u16, body: &[u8]) -> Answer {
    ask(protocol, kind, DUMP_REQUEST, body)
}

fn ask(protocol: isize, kind: u16, flags: u16, body: &[u8]) -> Answer {
    let mut request = Vec::with_capacity(HEADER + body.len());
    let length = u32::try_from(HEADER + body.len()).expect("a short request");
    request.extend(length.to_ne_bytes());
    request.extend(kind.to_ne_bytes());
    request.extend(flags.to_ne_bytes());
    request.extend([0; 8]);
    request.extend(body);
    let socket = Socket::new(protocol).expect("a netlink socket");
    socket.send_to(&request, &SocketAddr::new(0, 0), 0).expect("asking the kernel");

    let (mut found, mut whole) = (Vec::new(), true);
    loop {
        let (datagram, _) = socket.recv_from_full().expect("the kernel's answer");
        let mut rest = datagram.as_slice();
        while rest.len() >= HEADER {
            let word = |at: usize| u16::from_ne_bytes([rest[at], rest[at + 1]]);
            let length = u32::from_ne_bytes(rest[..4].try_into().expect("four bytes"));
            let length = usize::try_from(length).expect("a length").clamp(HEADER, rest.len());
            whole &= word(6) & NLM_F_DUMP_INTR == 0;
            match word(4) {
                NLMSG_DONE if whole => return Answer::Whole(found),
                NLMSG_DONE => return Answer::Changed,
                NLMSG_ERROR => {
                    let code = rest[HEADER..HEADER + 4].try_into().expect("four bytes");
                    return Answer::Refused(-i32::from_ne_bytes(code));
                }
                _ => found.push(Message(rest[HEADER..length].to_vec())),
            }
            rest = &rest[length.next_multiple_of(4).min(rest.len())..];
        }
    }
}
