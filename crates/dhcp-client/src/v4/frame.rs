//! IPv4 and UDP headers, for messages that go through a packet socket: before a lease there is
//! no address that the kernel could send from or receive at.

use std::net::Ipv4Addr;

/// The port of servers and relays.
pub const SERVER_PORT: u16 = 67;
/// The port of clients.
pub const CLIENT_PORT: u16 = 68;

const IP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
const UDP: u8 = 17;

/// A message as a broadcast from a client that has no address yet: 0.0.0.0 to 255.255.255.255.
pub fn broadcast(message: &[u8]) -> Vec<u8> {
    datagram((Ipv4Addr::UNSPECIFIED, CLIENT_PORT), (Ipv4Addr::BROADCAST, SERVER_PORT), message)
}

/// A UDP datagram with its IPv4 header.
pub fn datagram(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), payload: &[u8]) -> Vec<u8> {
    let total = IP_HEADER + UDP_HEADER + payload.len();
    let mut bytes = Vec::with_capacity(total);
    // Version and length, type of service, total length, id, don't fragment, TTL, protocol.
    bytes.extend([0x45, 0]);
    bytes.extend((total as u16).to_be_bytes());
    bytes.extend([0, 0, 0x40, 0, 64, UDP, 0, 0]);
    bytes.extend(from.0.octets());
    bytes.extend(to.0.octets());
    let sum = !folded(&bytes, 0);
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes.extend(from.1.to_be_bytes());
    bytes.extend(to.1.to_be_bytes());
    bytes.extend(((UDP_HEADER + payload.len()) as u16).to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(payload);
    let sum = match !folded(&bytes[IP_HEADER..], pseudo_header(from.0, to.0, UDP_HEADER + payload.len())) {
        0 => 0xffff, // 0 means "not computed" (RFC 768)
        sum => sum,
    };
    bytes[26..28].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// The payload of a packet that is a whole UDP datagram to the client's port, and its sender's
/// address; `None` for everything else, and where a checksum is wrong.
///
/// A frame that never left the machine may have a checksum that is not computed yet: it holds
/// the sum of the pseudo header alone (`CHECKSUM_PARTIAL`, include/linux/skbuff.h; packet(7)
/// reports `TP_STATUS_CSUMNOTREADY`). That is accepted.
pub fn payload(packet: &[u8]) -> Option<(Ipv4Addr, &[u8])> {
    let version_and_length = *packet.first()?;
    let header = usize::from(version_and_length & 0x0f) * 4;
    if version_and_length >> 4 != 4 || header < IP_HEADER || packet.len() < header + UDP_HEADER {
        return None;
    }
    let number = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    let total = usize::from(number(2));
    let fragment = number(6) & 0x3fff; // more fragments, or an offset
    if packet[9] != UDP || fragment != 0 || total < header + UDP_HEADER || total > packet.len() {
        return None;
    }
    if folded(&packet[..header], 0) != 0xffff {
        return None;
    }
    let address = |at: usize| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]);
    let (from, to) = (address(12), address(16));
    let udp = &packet[header..total];
    let length = usize::from(u16::from_be_bytes([udp[4], udp[5]]));
    if number(header + 2) != CLIENT_PORT || length < UDP_HEADER || length > udp.len() {
        return None;
    }
    let pseudo = pseudo_header(from, to, length);
    let stored = number(header + 6);
    let not_computed = stored == 0 || stored == fold(pseudo);
    if !not_computed && folded(&udp[..length], pseudo) != 0xffff {
        return None;
    }
    Some((from, &udp[UDP_HEADER..length]))
}

/// The sum of the pseudo header (RFC 768).
fn pseudo_header(from: Ipv4Addr, to: Ipv4Addr, length: usize) -> u32 {
    let words = |ip: Ipv4Addr| {
        let [a, b, c, d] = ip.octets();
        u32::from(u16::from_be_bytes([a, b])) + u32::from(u16::from_be_bytes([c, d]))
    };
    words(from) + words(to) + u32::from(UDP) + length as u32
}

/// The sum of the words of some bytes (RFC 1071), not complemented.
fn folded(bytes: &[u8], start: u32) -> u16 {
    let (words, rest) = bytes.as_chunks::<2>();
    let sum: u32 = words.iter().map(|word| u32::from(u16::from_be_bytes(*word))).sum();
    let last = rest.first().map_or(0, |byte| u32::from(*byte) << 8);
    fold(start + sum + last)
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SERVER: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 0, 0, 1), SERVER_PORT);
    const CLIENT: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 0, 0, 2), CLIENT_PORT);

    #[test]
    fn checksums_are_those_of_a_known_packet() {
        // By hand after RFC 1071: 0x141c of the pseudo header and 0x8f of an empty datagram, inverted.
        let bytes = datagram(SERVER, CLIENT, &[]);
        assert_eq!(folded(&bytes[..20], 0), 0xffff);
        assert_eq!(bytes[10..12], [0x26, 0xcf]);
        assert_eq!(bytes[26..28], [0xeb, 0x54]);
    }

    #[test]
    fn a_changed_byte_is_noticed_and_a_missing_checksum_is_not() {
        let good = datagram(SERVER, CLIENT, b"hello");
        assert_eq!(payload(&good), Some((SERVER.0, &b"hello"[..])));
        for at in [1, 8, 12, 30] {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert_eq!(payload(&bad), None, "byte {at}");
        }
        let mut partial = good.clone();
        partial[26..28].copy_from_slice(&fold(pseudo_header(SERVER.0, CLIENT.0, 13)).to_be_bytes());
        assert!(payload(&partial).is_some(), "what veth gives");
        partial[26..28].copy_from_slice(&[0, 0]);
        assert!(payload(&partial).is_some(), "no checksum at all");
        assert_eq!(payload(&datagram(SERVER, (CLIENT.0, 67), b"hello")), None, "another port");
        let mut fragment = good;
        fragment[6] = 0x20;
        assert_eq!(payload(&fragment), None);
    }

    #[test]
    fn padding_behind_the_packet_is_left_out() {
        let mut bytes = datagram(SERVER, CLIENT, b"hello");
        bytes.resize(60, 7);
        assert_eq!(payload(&bytes), Some((SERVER.0, &b"hello"[..])));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = payload(&bytes);
        }

        #[test]
        fn what_is_sent_is_received(message in proptest::collection::vec(any::<u8>(), 0..100), from: [u8; 4], to: [u8; 4]) {
            let from = Ipv4Addr::from(from);
            let bytes = datagram((from, 67), (to.into(), CLIENT_PORT), &message);
            prop_assert_eq!(payload(&bytes), Some((from, &message[..])));
        }
    }
}
