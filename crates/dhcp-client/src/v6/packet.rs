//! Messages of DHCPv6 and their options (RFC 8415, sections 8 and 21).

use std::net::Ipv6Addr;

/// Options by number (RFC 8415, section 21; RFC 3646 for the last two but one).
#[allow(missing_docs)] // the names are those of the RFCs
pub mod code {
    pub const CLIENT_ID: u16 = 1;
    pub const SERVER_ID: u16 = 2;
    pub const IA_NA: u16 = 3;
    pub const IA_ADDRESS: u16 = 5;
    pub const OPTION_REQUEST: u16 = 6;
    pub const PREFERENCE: u16 = 7;
    pub const ELAPSED_TIME: u16 = 8;
    pub const STATUS: u16 = 13;
    pub const DNS_SERVERS: u16 = 23;
    pub const DOMAIN_LIST: u16 = 24;
    pub const SOL_MAX_RT: u16 = 82;
}

/// Status codes (RFC 8415, section 21.13).
#[allow(missing_docs)] // the names are those of the RFC
pub mod status {
    pub const SUCCESS: u16 = 0;
    pub const UNSPEC_FAIL: u16 = 1;
    pub const NO_ADDRS_AVAIL: u16 = 2;
    pub const NO_BINDING: u16 = 3;
    pub const NOT_ON_LINK: u16 = 4;
    pub const USE_MULTICAST: u16 = 5;
}

/// What a message between client and server is for (RFC 8415, section 7.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // the names are those of the RFC
pub enum MessageType {
    Solicit = 1,
    Advertise = 2,
    Request = 3,
    Confirm = 4,
    Renew = 5,
    Rebind = 6,
    Reply = 7,
    Release = 8,
    Decline = 9,
    Reconfigure = 10,
    InformationRequest = 11,
}

impl MessageType {
    /// All in the order of their numbers, with their names in the RFC.
    const ALL: [(MessageType, &'static str); 11] = {
        use MessageType::*;
        [
            (Solicit, "SOLICIT"),
            (Advertise, "ADVERTISE"),
            (Request, "REQUEST"),
            (Confirm, "CONFIRM"),
            (Renew, "RENEW"),
            (Rebind, "REBIND"),
            (Reply, "REPLY"),
            (Release, "RELEASE"),
            (Decline, "DECLINE"),
            (Reconfigure, "RECONFIGURE"),
            (InformationRequest, "INFORMATION-REQUEST"),
        ]
    };

    /// The type of a number; `None` also for the messages of relays, which have another form.
    pub fn from_number(number: u8) -> Option<MessageType> {
        Some(MessageType::ALL.get(usize::from(number).checked_sub(1)?)?.0)
    }

    /// Its name in the RFC.
    pub fn name(self) -> &'static str {
        MessageType::ALL[self as usize - 1].1
    }
}

/// The options of a message, or of another option, in their order. One number may come several times.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Options(Vec<(u16, Vec<u8>)>);

impl Options {
    /// Reads options up to the end of the bytes; `None` where one is cut off.
    pub fn parse(mut bytes: &[u8]) -> Option<Options> {
        let mut options = Options::default();
        while let Some((&[a, b, c, d], rest)) = bytes.split_first_chunk::<4>() {
            let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([c, d])))?;
            options.push(u16::from_be_bytes([a, b]), value);
            bytes = rest;
        }
        bytes.is_empty().then_some(options)
    }

    /// The value of the first option of a number.
    pub fn get(&self, code: u16) -> Option<&[u8]> {
        self.all(code).next()
    }

    /// The values of all options of a number.
    pub fn all(&self, code: u16) -> impl Iterator<Item = &[u8]> {
        self.0.iter().filter(move |(number, _)| *number == code).map(|(_, value)| value.as_slice())
    }

    /// Appends an option, of at most 65 535 bytes.
    pub fn push(&mut self, code: u16, value: impl Into<Vec<u8>>) {
        self.0.push((code, value.into()));
    }

    /// All options with their values.
    pub fn iter(&self) -> impl Iterator<Item = (u16, &[u8])> {
        self.0.iter().map(|(code, value)| (*code, value.as_slice()))
    }

    /// The status code; without one it is success.
    pub fn status(&self) -> u16 {
        match self.get(code::STATUS) {
            Some([high, low, ..]) => u16::from_be_bytes([*high, *low]),
            _ => status::SUCCESS,
        }
    }

    /// A value that is a list of IPv6 addresses; a rest of less than 16 bytes is left out.
    pub fn addresses(&self, code: u16) -> Vec<Ipv6Addr> {
        let value = self.get(code).unwrap_or_default();
        value.as_chunks::<16>().0.iter().map(|bytes| Ipv6Addr::from(*bytes)).collect()
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        for (number, value) in &self.0 {
            let value = &value[..value.len().min(usize::from(u16::MAX))];
            bytes.extend(number.to_be_bytes());
            bytes.extend((value.len() as u16).to_be_bytes());
            bytes.extend(value);
        }
    }
}

/// A message between client and server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// Its type.
    pub kind: MessageType,
    /// The transaction ID, of 24 bits.
    pub xid: u32,
    /// Its options.
    pub options: Options,
}

impl Message {
    /// Reads a message; `None` for what is not one, or has an option that is cut off.
    pub fn parse(bytes: &[u8]) -> Option<Message> {
        let (&[kind, a, b, c], rest) = bytes.split_first_chunk::<4>()?;
        let kind = MessageType::from_number(kind)?;
        Some(Message { kind, xid: u32::from_be_bytes([0, a, b, c]), options: Options::parse(rest)? })
    }

    /// The bytes of the message.
    pub fn to_bytes(&self) -> Vec<u8> {
        let [_, a, b, c] = self.xid.to_be_bytes();
        let mut bytes = vec![self.kind as u8, a, b, c];
        self.options.write(&mut bytes);
        bytes
    }
}

/// An identity association for addresses (RFC 8415, section 21.4).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct IaNa {
    /// Its identifier, unique among those of the client.
    pub iaid: u32,
    /// Seconds to the renewal; 0 where the client decides.
    pub t1: u32,
    /// Seconds to the rebinding; 0 where the client decides.
    pub t2: u32,
    /// Addresses and a status.
    pub options: Options,
}

impl IaNa {
    /// Reads the value of an option.
    pub fn parse(value: &[u8]) -> Option<IaNa> {
        let (fixed, rest) = value.split_first_chunk::<12>()?;
        let [iaid, t1, t2] = [number(fixed, 0)?, number(fixed, 4)?, number(fixed, 8)?];
        Some(IaNa { iaid, t1, t2, options: Options::parse(rest)? })
    }

    /// The value of the option.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = [self.iaid, self.t1, self.t2].map(u32::to_be_bytes).concat();
        self.options.write(&mut bytes);
        bytes
    }
}

/// An address of an identity association (RFC 8415, section 21.6).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IaAddress {
    /// The address.
    pub address: Ipv6Addr,
    /// Seconds that it is preferred for; 2^32-1 for ever.
    pub preferred: u32,
    /// Seconds that it is valid for; 2^32-1 for ever.
    pub valid: u32,
    /// A status.
    pub options: Options,
}

impl IaAddress {
    /// Reads the value of an option.
    pub fn parse(value: &[u8]) -> Option<IaAddress> {
        let (fixed, rest) = value.split_first_chunk::<24>()?;
        let (address, _) = fixed.split_first_chunk::<16>()?;
        Some(IaAddress {
            address: Ipv6Addr::from(*address),
            preferred: number(fixed, 16)?,
            valid: number(fixed, 20)?,
            options: Options::parse(rest)?,
        })
    }

    /// The value of the option.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.address.octets().to_vec();
        bytes.extend([self.preferred, self.valid].map(u32::to_be_bytes).concat());
        self.options.write(&mut bytes);
        bytes
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use dhcproto::{Decodable, Decoder, Encodable, Encoder, v6};
    use proptest::prelude::*;

    use super::*;

    fn request() -> Message {
        let address = IaAddress {
            address: "fd00::7".parse().unwrap(),
            preferred: 30,
            valid: 60,
            options: Options::default(),
        };
        let mut ia = IaNa { iaid: 7, t1: 10, t2: 20, options: Options::default() };
        ia.options.push(code::IA_ADDRESS, address.to_bytes());
        ia.options.push(code::STATUS, [0, 3]);
        let mut options = Options::default();
        options.push(code::CLIENT_ID, super::super::duid_of_uuid([9; 16]));
        options.push(code::ELAPSED_TIME, 5_u16.to_be_bytes());
        options.push(code::OPTION_REQUEST, [0, 23, 0, 24]);
        options.push(code::IA_NA, ia.to_bytes());
        Message { kind: MessageType::Request, xid: 0x12_3456, options }
    }

    #[test]
    fn another_implementation_reads_and_writes_the_same() {
        let bytes = request().to_bytes();
        let theirs = v6::Message::decode(&mut Decoder::new(&bytes)).unwrap();
        assert_eq!((theirs.msg_type(), theirs.xid()), (v6::MessageType::Request, [0x12, 0x34, 0x56]));
        let Some(v6::DhcpOption::IANA(ia)) = theirs.opts().get(v6::OptionCode::IANA) else {
            panic!("{theirs:?}")
        };
        assert_eq!((ia.id, ia.t1, ia.t2), (7, 10, 20));
        let Some(v6::DhcpOption::IAAddr(address)) = ia.opts.get(v6::OptionCode::IAAddr) else {
            panic!("{ia:?}")
        };
        assert_eq!(
            (address.addr, address.preferred_life, address.valid_life),
            ("fd00::7".parse().unwrap(), 30, 60)
        );
        let mut again = Vec::new();
        theirs.encode(&mut Encoder::new(&mut again)).unwrap();
        let read = Message::parse(&again).unwrap();
        let sorted = |message: &Message| {
            let mut options: Vec<_> =
                message.options.iter().map(|(code, value)| (code, value.to_vec())).collect();
            options.sort();
            options
        };
        assert_eq!((read.kind, read.xid), (MessageType::Request, 0x12_3456));
        assert_eq!(sorted(&read), sorted(&request()));
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        let bytes = request().to_bytes();
        assert!(Message::parse(&bytes).is_some());
        let whole: Vec<usize> =
            (0..=bytes.len()).filter(|end| Message::parse(&bytes[..*end]).is_some()).collect();
        // Only behind the header and behind each of the four options.
        assert_eq!(whole.len(), 5, "{whole:?}");
        for kind in [0, 12, 13, 255] {
            assert_eq!(Message::parse(&[kind, 0, 0, 1]), None);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), valid: bool) {
            if valid && !bytes.is_empty() {
                bytes[0] = bytes[0] % 11 + 1;
            }
            if let Some(message) = Message::parse(&bytes) {
                prop_assert_eq!(message.to_bytes(), bytes);
            }
        }

        #[test]
        fn associations_are_read_back(
            iaid: u32, t1: u32, t2: u32, address: [u8; 16], preferred: u32, valid: u32,
            rest in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let address = IaAddress { address: address.into(), preferred, valid, options: Options::default() };
            prop_assert_eq!(IaAddress::parse(&address.to_bytes()), Some(address.clone()));
            let mut ia = IaNa { iaid, t1, t2, options: Options::default() };
            ia.options.push(code::IA_ADDRESS, address.to_bytes());
            prop_assert_eq!(IaNa::parse(&ia.to_bytes()), Some(ia));
            let _ = (IaNa::parse(&rest), IaAddress::parse(&rest));
        }
    }
}
