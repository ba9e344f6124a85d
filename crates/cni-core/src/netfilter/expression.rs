//! The expressions of a rule: a small program over registers, of which one is enough here.

use std::net::IpAddr;

use super::Family;
use super::uapi::*;
use crate::netlink::message::{Message, NESTED, attributes, be32_at, text};
use crate::spec::Mac;

/// A step of a rule. A rule ends at the first comparison that does not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Expression {
    /// Loads the name of the interface by which the packet arrived.
    InputInterface,
    /// Loads whether the packet is of IPv4 or IPv6.
    Protocol,
    /// Loads bytes of the packet.
    Payload {
        /// The header in which they are.
        header: Header,
        /// Their offset in it.
        offset: u32,
        /// Their number.
        len: u32,
    },
    /// Sets the bits to zero that a mask lacks.
    Mask(Vec<u8>),
    /// Compares what was loaded.
    Compare(Comparison, Vec<u8>),
    /// Looks up what was loaded in a set; in a map, and takes its verdict.
    Lookup {
        /// The name of the set or map.
        set: String,
        /// Whether it is a map.
        map: bool,
    },
    /// Decides about the packet.
    Verdict(Verdict),
    /// Gives the packet the address of the interface by which it leaves.
    Masquerade,
    /// A match of iptables (`xt_match`) that iptables-nft keeps in nf_tables.
    Xtables {
        /// Its name, such as `comment`.
        name: String,
        /// Its private data.
        info: Vec<u8>,
    },
    /// An expression that is not used here, by its name. It can be read, not sent.
    Other(String),
}

/// A header of a packet (`enum nft_payload_bases`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Header {
    /// That of the link layer.
    Link,
    /// That of IPv4 or IPv6.
    Network,
}

/// How a rule compares (`enum nft_cmp_ops`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Comparison {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
}

/// What happens to a packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It passes this hook.
    Accept,
    /// It is dropped.
    Drop,
    /// The calling chain goes on.
    Return,
    /// A chain is called.
    Jump(String),
    /// A chain is called that does not return here.
    Goto(String),
}

/// An address field of the IP header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Field {
    /// The source address.
    Source,
    /// The destination address.
    Destination,
}

impl Expression {
    /// Compares an address field with an address, of which the bits behind a prefix don't matter, in
    /// a table of family `inet`.
    pub fn ip(field: Field, comparison: Comparison, address: IpAddr, prefix: u8) -> Vec<Expression> {
        let (family, source, mut octets) = match address {
            IpAddr::V4(v4) => (Family::Ip, 12, v4.octets().to_vec()),
            IpAddr::V6(v6) => (Family::Ip6, 8, v6.octets().to_vec()),
        };
        let offset = if field == Field::Source { source } else { source + octets.len() as u32 };
        let mut expressions =
            vec![Expression::Protocol, Expression::Compare(Comparison::Eq, vec![family.number()])];
        let payload = |len: usize| Expression::Payload { header: Header::Network, offset, len: len as u32 };
        let whole_bytes = usize::from(prefix / 8);
        if prefix.is_multiple_of(8) && (1..=octets.len()).contains(&whole_bytes) {
            octets.truncate(whole_bytes);
            expressions.extend([payload(whole_bytes), Expression::Compare(comparison, octets)]);
        } else {
            let mask = mask(prefix, octets.len());
            octets.iter_mut().zip(&mask).for_each(|(octet, mask)| *octet &= mask);
            expressions.extend([
                payload(octets.len()),
                Expression::Mask(mask),
                Expression::Compare(comparison, octets),
            ]);
        }
        expressions
    }

    /// Requires the interface by which a packet arrived.
    pub fn input_interface(name: &str) -> Vec<Expression> {
        let mut bytes = name.as_bytes().to_vec();
        bytes.resize(nix::libc::IFNAMSIZ, 0);
        vec![Expression::InputInterface, Expression::Compare(Comparison::Eq, bytes)]
    }

    /// Requires the source MAC address, in a table of family `bridge`.
    pub fn source_mac(mac: Mac) -> Vec<Expression> {
        let payload = Expression::Payload { header: Header::Link, offset: 6, len: 6 };
        vec![payload, Expression::Compare(Comparison::Eq, mac.0.to_vec())]
    }

    fn name(&self) -> &str {
        match self {
            Expression::InputInterface | Expression::Protocol => "meta",
            Expression::Payload { .. } => "payload",
            Expression::Mask(_) => "bitwise",
            Expression::Compare(..) => "cmp",
            Expression::Lookup { .. } => "lookup",
            Expression::Verdict(_) => "immediate",
            Expression::Masquerade => "masq",
            Expression::Xtables { .. } => "match",
            Expression::Other(name) => name,
        }
    }

    pub(super) fn append(&self, list: &mut Message) {
        list.nest(NFTA_LIST_ELEM | NESTED, |element| {
            element.attr_str(NFTA_EXPR_NAME, self.name());
            element.nest(NFTA_EXPR_DATA | NESTED, |data| self.append_data(data));
        });
    }

    fn append_data(&self, data: &mut Message) {
        match self {
            Expression::InputInterface => meta(data, NFT_META_IIFNAME),
            Expression::Protocol => meta(data, NFT_META_NFPROTO),
            Expression::Payload { header, offset, len } => {
                data.attr_be32(NFTA_PAYLOAD_DREG, NFT_REG_1)
                    .attr_be32(NFTA_PAYLOAD_BASE, header.number())
                    .attr_be32(NFTA_PAYLOAD_OFFSET, *offset)
                    .attr_be32(NFTA_PAYLOAD_LEN, *len);
            }
            Expression::Mask(mask) => {
                data.attr_be32(NFTA_BITWISE_SREG, NFT_REG_1)
                    .attr_be32(NFTA_BITWISE_DREG, NFT_REG_1)
                    .attr_be32(NFTA_BITWISE_LEN, mask.len() as u32);
                value(data, NFTA_BITWISE_MASK, mask);
                value(data, NFTA_BITWISE_XOR, &vec![0; mask.len()]);
            }
            Expression::Compare(comparison, bytes) => {
                data.attr_be32(NFTA_CMP_SREG, NFT_REG_1).attr_be32(NFTA_CMP_OP, comparison.number());
                value(data, NFTA_CMP_DATA, bytes);
            }
            Expression::Lookup { set, map } => {
                data.attr_str(NFTA_LOOKUP_SET, set).attr_be32(NFTA_LOOKUP_SREG, NFT_REG_1);
                if *map {
                    data.attr_be32(NFTA_LOOKUP_DREG, NFT_REG_VERDICT);
                }
            }
            Expression::Verdict(verdict) => {
                data.attr_be32(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
                data.nest(NFTA_IMMEDIATE_DATA | NESTED, |data| verdict.append(data));
            }
            Expression::Masquerade | Expression::Xtables { .. } | Expression::Other(_) => {}
        }
    }

    /// Reads the expressions of a rule.
    pub(super) fn read_all(list: &[u8]) -> Vec<Expression> {
        attributes(list).filter_map(|(_, element)| Expression::read(element)).collect()
    }

    fn read(element: &[u8]) -> Option<Expression> {
        let (mut name, mut data) = ("", &[][..]);
        for (kind, value) in attributes(element) {
            match kind {
                NFTA_EXPR_NAME => name = text(value),
                NFTA_EXPR_DATA => data = value,
                _ => {}
            }
        }
        let known = match name {
            "meta" => match number(data, NFTA_META_KEY)? {
                NFT_META_IIFNAME => Some(Expression::InputInterface),
                NFT_META_NFPROTO => Some(Expression::Protocol),
                _ => None,
            },
            "payload" => Header::read(number(data, NFTA_PAYLOAD_BASE)?).and_then(|header| {
                let (offset, len) = (number(data, NFTA_PAYLOAD_OFFSET)?, number(data, NFTA_PAYLOAD_LEN)?);
                Some(Expression::Payload { header, offset, len })
            }),
            "bitwise" => bytes(data, NFTA_BITWISE_MASK).map(Expression::Mask),
            "cmp" => Comparison::read(number(data, NFTA_CMP_OP)?)
                .and_then(|comparison| Some(Expression::Compare(comparison, bytes(data, NFTA_CMP_DATA)?))),
            "lookup" => attribute(data, NFTA_LOOKUP_SET).map(|set| Expression::Lookup {
                set: text(set).to_owned(),
                map: attribute(data, NFTA_LOOKUP_DREG).is_some(),
            }),
            "immediate" => {
                attribute(data, NFTA_IMMEDIATE_DATA).and_then(Verdict::read).map(Expression::Verdict)
            }
            "masq" => Some(Expression::Masquerade),
            "match" => Some(Expression::Xtables {
                name: text(attribute(data, NFTA_MATCH_NAME)?).to_owned(),
                info: attribute(data, NFTA_MATCH_INFO)?.to_vec(),
            }),
            _ => None,
        };
        Some(known.unwrap_or_else(|| Expression::Other(name.to_owned())))
    }
}

fn meta(data: &mut Message, key: u32) {
    // In this order, as nft sends it.
    data.attr_be32(NFTA_META_KEY, key).attr_be32(NFTA_META_DREG, NFT_REG_1);
}

fn value(data: &mut Message, kind: u16, bytes: &[u8]) {
    data.nest(kind | NESTED, |data| {
        data.attr(NFTA_DATA_VALUE, bytes);
    });
}

pub(super) fn attribute(attrs: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(attrs).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

fn number(attrs: &[u8], kind: u16) -> Option<u32> {
    be32_at(attribute(attrs, kind)?, 0)
}

/// The value of an attribute of `enum nft_data_attributes`.
pub(super) fn bytes(attrs: &[u8], kind: u16) -> Option<Vec<u8>> {
    attribute(attribute(attrs, kind)?, NFTA_DATA_VALUE).map(<[u8]>::to_vec)
}

fn mask(prefix: u8, len: usize) -> Vec<u8> {
    let bits = |byte: usize| usize::from(prefix).saturating_sub(byte * 8).min(8);
    (0..len).map(|byte| !(0xff_u16 >> bits(byte)) as u8).collect()
}

impl Header {
    fn number(self) -> u32 {
        match self {
            Header::Link => NFT_PAYLOAD_LL_HEADER,
            Header::Network => NFT_PAYLOAD_NETWORK_HEADER,
        }
    }

    fn read(number: u32) -> Option<Header> {
        [Header::Link, Header::Network].into_iter().find(|header| header.number() == number)
    }
}

impl Comparison {
    fn number(self) -> u32 {
        match self {
            Comparison::Eq => 0,
            Comparison::Ne => 1,
        }
    }

    fn read(number: u32) -> Option<Comparison> {
        [Comparison::Eq, Comparison::Ne].into_iter().find(|comparison| comparison.number() == number)
    }
}

impl Verdict {
    pub(super) fn append(&self, data: &mut Message) {
        let (code, chain) = match self {
            Verdict::Accept => (NF_ACCEPT, None),
            Verdict::Drop => (NF_DROP, None),
            Verdict::Return => (NFT_RETURN, None),
            Verdict::Jump(chain) => (NFT_JUMP, Some(chain)),
            Verdict::Goto(chain) => (NFT_GOTO, Some(chain)),
        };
        data.nest(NFTA_DATA_VERDICT | NESTED, |verdict| {
            verdict.attr(NFTA_VERDICT_CODE, &code.to_be_bytes());
            if let Some(chain) = chain {
                verdict.attr_str(NFTA_VERDICT_CHAIN, chain);
            }
        });
    }

    pub(super) fn read(data: &[u8]) -> Option<Verdict> {
        let verdict = attribute(data, NFTA_DATA_VERDICT)?;
        let chain = || attribute(verdict, NFTA_VERDICT_CHAIN).map(|name| text(name).to_owned());
        match number(verdict, NFTA_VERDICT_CODE)? as i32 {
            NF_ACCEPT => Some(Verdict::Accept),
            NF_DROP => Some(Verdict::Drop),
            NFT_RETURN => Some(Verdict::Return),
            NFT_JUMP => chain().map(Verdict::Jump),
            NFT_GOTO => chain().map(Verdict::Goto),
            _ => None,
        }
    }
}
