//! Messages of DHCPv4: the header of BOOTP (RFC 951) and options (RFC 2132).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// The header up to the options, and the magic cookie before them (RFC 2131, section 2).
const HEADER: usize = 236;
const MAGIC: [u8; 4] = [99, 130, 83, 99];

/// Relays and old servers drop what is shorter than a BOOTP message (RFC 1542, section 2.1).
const SHORTEST: usize = 300;

/// Options by number (RFC 2132, and for the later ones RFC 3397 and RFC 3442).
#[allow(missing_docs)] // the names are those of the RFCs
pub mod code {
    pub const PAD: u8 = 0;
    pub const SUBNET_MASK: u8 = 1;
    pub const ROUTER: u8 = 3;
    pub const DOMAIN_NAME_SERVER: u8 = 6;
    pub const HOST_NAME: u8 = 12;
    pub const DOMAIN_NAME: u8 = 15;
    pub const INTERFACE_MTU: u8 = 26;
    pub const STATIC_ROUTE: u8 = 33;
    pub const REQUESTED_ADDRESS: u8 = 50;
    pub const LEASE_TIME: u8 = 51;
    pub const OVERLOAD: u8 = 52;
    pub const MESSAGE_TYPE: u8 = 53;
    pub const SERVER_ID: u8 = 54;
    pub const PARAMETER_REQUEST_LIST: u8 = 55;
    pub const MESSAGE: u8 = 56;
    pub const MAX_MESSAGE_SIZE: u8 = 57;
    pub const RENEWAL_TIME: u8 = 58;
    pub const REBINDING_TIME: u8 = 59;
    pub const VENDOR_CLASS: u8 = 60;
    pub const CLIENT_ID: u8 = 61;
    pub const USER_CLASS: u8 = 77;
    pub const DOMAIN_SEARCH: u8 = 119;
    pub const CLASSLESS_STATIC_ROUTE: u8 = 121;
    pub const END: u8 = 255;
}

/// What a message is for (RFC 2132, section 9.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // the names are those of the RFC
pub enum MessageType {
    Discover = 1,
    Offer = 2,
    Request = 3,
    Decline = 4,
    Ack = 5,
    Nak = 6,
    Release = 7,
    Inform = 8,
}

impl MessageType {
    /// All in the order of their numbers, with their names in the RFC.
    const ALL: [(MessageType, &'static str); 8] = {
        use MessageType::*;
        [
            (Discover, "DISCOVER"),
            (Offer, "OFFER"),
            (Request, "REQUEST"),
            (Decline, "DECLINE"),
            (Ack, "ACK"),
            (Nak, "NAK"),
            (Release, "RELEASE"),
            (Inform, "INFORM"),
        ]
    };

    /// The type of a number.
    pub fn from_number(number: u8) -> Option<MessageType> {
        Some(MessageType::ALL.get(usize::from(number).checked_sub(1)?)?.0)
    }

    /// Its name in the RFC.
    pub fn name(self) -> &'static str {
        MessageType::ALL[self as usize - 1].1
    }
}

/// The options of a message, by number. A value may be longer than 255 bytes: on the wire it
/// is then split into several options of that number (RFC 3396).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Options(BTreeMap<u8, Vec<u8>>);

impl Options {
    /// The value of an option, where it is there.
    pub fn get(&self, code: u8) -> Option<&[u8]> {
        self.0.get(&code).map(Vec::as_slice)
    }

    /// Sets an option, in place of an earlier value.
    pub fn set(&mut self, code: u8, value: impl Into<Vec<u8>>) {
        self.0.insert(code, value.into());
    }

    /// All options with their values.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &[u8])> {
        self.0.iter().map(|(code, value)| (*code, value.as_slice()))
    }

    /// A value that is one IPv4 address.
    pub fn address(&self, code: u8) -> Option<Ipv4Addr> {
        Some(Ipv4Addr::from(<[u8; 4]>::try_from(self.get(code)?).ok()?))
    }

    /// A value that is one number of 32 bits.
    pub fn number(&self, code: u8) -> Option<u32> {
        Some(u32::from_be_bytes(self.get(code)?.try_into().ok()?))
    }

    /// A value that is a list of IPv4 addresses; a rest of less than four bytes is left out.
    pub fn addresses(&self, code: u8) -> Vec<Ipv4Addr> {
        let value = self.get(code).unwrap_or_default();
        value.as_chunks::<4>().0.iter().map(|bytes| Ipv4Addr::from(*bytes)).collect()
    }

    /// Appends the options of one field of a message. What is cut off at its end is left out.
    fn read(&mut self, mut field: &[u8]) {
        loop {
            match field {
                [code::PAD, rest @ ..] => field = rest,
                [code::END, ..] | [] | [_] => return,
                [number, len, rest @ ..] => {
                    let Some((value, rest)) = rest.split_at_checked(usize::from(*len)) else { return };
                    self.0.entry(*number).or_default().extend(value);
                    field = rest;
                }
            }
        }
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        let mut put = |number: u8, value: &[u8]| {
            if value.is_empty() {
                bytes.extend([number, 0]);
            }
            for part in value.chunks(255) {
                bytes.extend([number, part.len() as u8]);
                bytes.extend(part);
            }
        };
        // The type comes first: some servers look at no other place.
        let first = self.0.get_key_value(&code::MESSAGE_TYPE);
        let others = self.0.iter().filter(|(number, _)| **number != code::MESSAGE_TYPE);
        for (number, value) in first.into_iter().chain(others) {
            put(*number, value);
        }
        bytes.push(code::END);
    }
}

/// A message of DHCPv4 over Ethernet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packet {
    /// Whether a server sent it (`op` is BOOTREPLY).
    pub reply: bool,
    /// The transaction id.
    pub xid: u32,
    /// Seconds since the client began.
    pub secs: u16,
    /// Whether the answer is to be broadcast.
    pub broadcast: bool,
    /// The address that the client has.
    pub ciaddr: Ipv4Addr,
    /// The address that the client gets.
    pub yiaddr: Ipv4Addr,
    /// The client's MAC address.
    pub chaddr: [u8; 6],
    /// The options, also those of the fields `sname` and `file` (option 52, "overload").
    pub options: Options,
}

impl Packet {
    /// A request of a type, with no address and no other option yet.
    pub fn request(kind: MessageType, xid: u32, chaddr: [u8; 6]) -> Packet {
        let mut options = Options::default();
        options.set(code::MESSAGE_TYPE, [kind as u8]);
        let none = Ipv4Addr::UNSPECIFIED;
        Packet { reply: false, xid, secs: 0, broadcast: false, ciaddr: none, yiaddr: none, chaddr, options }
    }

    /// Its type; `None` for a message of BOOTP, and for a type that does not exist.
    pub fn kind(&self) -> Option<MessageType> {
        match self.options.get(code::MESSAGE_TYPE)? {
            [number] => MessageType::from_number(*number),
            _ => None,
        }
    }

    /// Reads a message. Any bytes are read or refused: `None` for what is not DHCP over
    /// Ethernet. Options that this program does not know are kept as they are.
    pub fn parse(bytes: &[u8]) -> Option<Packet> {
        const ETHERNET: [u8; 2] = [1, 6]; // htype, and hlen in bytes
        let (header, rest) = bytes.split_first_chunk::<HEADER>()?;
        let field = rest.strip_prefix(&MAGIC)?;
        let reply = match header[0] {
            1 => false,
            2 => true,
            _ => return None,
        };
        if header[1..3] != ETHERNET {
            return None;
        }
        let mut options = Options::default();
        options.read(field);
        // RFC 3396, section 5: the options field, then `file`, then `sname`.
        let overload = match options.get(code::OVERLOAD) {
            Some([bits]) => *bits,
            _ => 0,
        };
        if overload & 1 != 0 {
            options.read(&header[108..236]);
        }
        if overload & 2 != 0 {
            options.read(&header[44..108]);
        }
        let address = |at: usize| Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]);
        Some(Packet {
            reply,
            xid: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
            secs: u16::from_be_bytes([header[8], header[9]]),
            broadcast: header[10] & 0x80 != 0,
            ciaddr: address(12),
            yiaddr: address(16),
            chaddr: [header[28], header[29], header[30], header[31], header[32], header[33]],
            options,
        })
    }

    /// The bytes of the message, padded to the length that every relay takes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(512);
        bytes.extend([if self.reply { 2 } else { 1 }, 1, 6, 0]);
        bytes.extend(self.xid.to_be_bytes());
        bytes.extend(self.secs.to_be_bytes());
        bytes.extend([if self.broadcast { 0x80 } else { 0 }, 0]);
        bytes.extend(self.ciaddr.octets());
        bytes.extend(self.yiaddr.octets());
        bytes.extend([0; 8]); // siaddr, giaddr
        bytes.extend(self.chaddr);
        bytes.resize(HEADER, 0);
        bytes.extend(MAGIC);
        self.options.write(&mut bytes);
        bytes.resize(bytes.len().max(SHORTEST), 0);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use dhcproto::{Decodable, Decoder, Encodable, Encoder, v4};
    use proptest::prelude::*;

    use super::*;

    fn discover() -> Packet {
        let mut packet = Packet::request(MessageType::Discover, 0x1234_5678, [2, 0, 0, 0, 0, 1]);
        packet.broadcast = true;
        packet.secs = 3;
        packet.options.set(code::CLIENT_ID, *b"\0a/b/eth0");
        packet.options.set(code::PARAMETER_REQUEST_LIST, [1, 3, 121]);
        packet
    }

    #[test]
    fn another_implementation_reads_the_same() {
        let bytes = discover().to_bytes();
        let theirs = v4::Message::decode(&mut Decoder::new(&bytes)).unwrap();
        assert_eq!((theirs.xid(), theirs.secs()), (0x1234_5678, 3));
        assert!(theirs.flags().broadcast());
        assert_eq!(theirs.chaddr(), [2, 0, 0, 0, 0, 1]);
        assert_eq!(theirs.opts().msg_type(), Some(v4::MessageType::Discover));
        let id = theirs.opts().get(v4::OptionCode::ClientIdentifier);
        assert_eq!(id, Some(&v4::DhcpOption::ClientIdentifier(b"\0a/b/eth0".to_vec())));
        let mut again = Vec::new();
        theirs.encode(&mut Encoder::new(&mut again)).unwrap();
        assert_eq!(Packet::parse(&again).unwrap(), discover());
    }

    #[test]
    fn options_are_also_found_in_sname_and_file() {
        let mut packet = discover();
        packet.reply = true;
        packet.options.set(code::OVERLOAD, [3]);
        packet.options.set(code::DOMAIN_NAME, *b"exam");
        let mut bytes = packet.to_bytes();
        bytes[108..116].copy_from_slice(&[15, 3, b'p', b'l', b'e', 0, 3, 4]);
        bytes[116..121].copy_from_slice(&[10, 0, 0, 1, 255]);
        bytes[44..51].copy_from_slice(&[6, 4, 10, 0, 0, 2, 255]);
        let read = Packet::parse(&bytes).unwrap();
        // RFC 3396: parts of an option are joined in the order of the fields.
        assert_eq!(read.options.get(code::DOMAIN_NAME), Some(&b"example"[..]));
        assert_eq!(read.options.address(code::ROUTER), Some(Ipv4Addr::new(10, 0, 0, 1)));
        assert_eq!(read.options.addresses(code::DOMAIN_NAME_SERVER), [Ipv4Addr::new(10, 0, 0, 2)]);
    }

    #[test]
    fn what_is_not_dhcp_over_ethernet_is_refused() {
        let good = discover().to_bytes();
        for (at, byte) in [(0, 3), (1, 6), (2, 16), (236, 0)] {
            let mut bytes = good.clone();
            bytes[at] = byte;
            assert_eq!(Packet::parse(&bytes), None, "byte {at}");
        }
        assert_eq!(Packet::parse(&good[..239]), None);
        assert!(Packet::parse(&good[..240]).unwrap().kind().is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..700), valid: bool) {
            if valid && bytes.len() > 240 {
                bytes[..3].copy_from_slice(&[2, 1, 6]);
                bytes[236..240].copy_from_slice(&MAGIC);
            }
            if let Some(packet) = Packet::parse(&bytes) {
                let total: usize = packet.options.iter().map(|(_, value)| value.len()).sum();
                prop_assert!(total <= bytes.len());
            }
        }

        #[test]
        fn what_is_written_reads_back(
            options in proptest::collection::btree_map(1u8..255, proptest::collection::vec(any::<u8>(), 0..600), 0..6),
            xid: u32, secs: u16, broadcast: bool, chaddr: [u8; 6], ciaddr: [u8; 4],
        ) {
            let mut packet = Packet::request(MessageType::Request, xid, chaddr);
            packet.secs = secs;
            packet.broadcast = broadcast;
            packet.ciaddr = ciaddr.into();
            for (number, value) in options {
                if number != code::OVERLOAD {
                    packet.options.set(number, value);
                }
            }
            prop_assert_eq!(Packet::parse(&packet.to_bytes()), Some(packet));
        }
    }
}
