//! What sockets receive, as the kernel filters it (`SO_ATTACH_FILTER`, socket(7)): others can send what they like, and it
//! would take the room of the answer.

use dhcp_client::v4::frame;
use socket2::SockFilter;

// Operations of include/uapi/linux/bpf_common.h. A load from behind the end of a packet drops it.
const LOAD_BYTE: u16 = 0x30;
const LOAD_HALF: u16 = 0x28;
const LOAD_WORD: u16 = 0x20;
const LOAD_HALF_AFTER_HEADER: u16 = 0x48;
const LOAD_WORD_AFTER_HEADER: u16 = 0x40;
const HEADER_LENGTH: u16 = 0xb1;
const IF_EQUAL: u16 = 0x15;
const IF_SET: u16 = 0x45;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;

const DROP: SockFilter = SockFilter::new(RETURN, 0, 0, 0);
const PASS: SockFilter = SockFilter::new(RETURN, 0, 0, u32::MAX);

/// Where the transaction ID is, from the UDP header on; that of DHCPv6 stands behind the byte of the message type.
const XID: u32 = 12;
const TYPE_AND_XID: u32 = 8;

/// Lets nothing pass: no message was sent yet.
pub(crate) const NOTHING: [SockFilter; 1] = [DROP];

/// Lets pass what is a whole UDP datagram to the client's port with this transaction ID (packet(7); a socket of type
/// `SOCK_DGRAM` begins at the IP header).
pub(crate) fn frames_in_answer_to(xid: u32) -> [SockFilter; 11] {
    [
        SockFilter::new(LOAD_BYTE, 0, 0, 9),
        SockFilter::new(IF_EQUAL, 0, 7, 17), // UDP
        SockFilter::new(LOAD_HALF, 0, 0, 6),
        SockFilter::new(IF_SET, 5, 0, 0x3fff), // a fragment
        SockFilter::new(HEADER_LENGTH, 0, 0, 0),
        SockFilter::new(LOAD_HALF_AFTER_HEADER, 0, 0, 2),
        SockFilter::new(IF_EQUAL, 0, 2, frame::CLIENT_PORT as u32),
        SockFilter::new(LOAD_WORD_AFTER_HEADER, 0, 0, XID),
        SockFilter::new(IF_EQUAL, 1, 0, xid),
        DROP,
        PASS,
    ]
}

/// Lets pass what has this transaction ID, at a UDP socket.
pub(crate) fn datagrams_in_answer_to(xid: u32) -> [SockFilter; 4] {
    [SockFilter::new(LOAD_WORD, 0, 0, XID), SockFilter::new(IF_EQUAL, 1, 0, xid), DROP, PASS]
}

/// The same for DHCPv6, whose transaction IDs have 24 bits.
pub(crate) fn ipv6_datagrams_in_answer_to(xid: u32) -> [SockFilter; 5] {
    [
        SockFilter::new(LOAD_WORD, 0, 0, TYPE_AND_XID),
        SockFilter::new(AND, 0, 0, 0x00ff_ffff),
        SockFilter::new(IF_EQUAL, 1, 0, xid),
        DROP,
        PASS,
    ]
}
