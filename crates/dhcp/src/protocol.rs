//! What plugin and daemon say to each other: JSON texts, each preceded by its length in four
//! bytes (big endian). The plugin sends one [`Call`]; the daemon answers with [`Answer`]s, of
//! which the last one is not [`Answer::Waiting`].

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use cni_core::spec::{Attachment, Cidr, Dns, Error, NetworkName, Route, Version};
use serde::{Deserialize, Serialize};

/// The version of this protocol.
pub(crate) const VERSION: u32 = 1;

/// The longest message, in bytes.
pub(crate) const MAX_MESSAGE: usize = 1 << 20;

/// How a client of the Go daemon begins: `CONNECT /_goRPC_ HTTP/1.0` (net/rpc, `DialHTTP`).
pub(crate) const GO_CLIENT: [u8; 4] = *b"CONN";

/// How the Go daemon answers what it does not understand.
pub(crate) const GO_DAEMON: [u8; 4] = *b"HTTP";

/// A message of the plugin.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Call {
    pub(crate) version: u32,
    #[serde(flatten)]
    pub(crate) command: Command,
}

/// What is to be done.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "camelCase")]
pub(crate) enum Command {
    /// Obtain a lease.
    Add(Target),
    /// Release a lease.
    Del(Id),
    /// Report a lease; one that the daemon does not know is adopted.
    Check {
        #[serde(flatten)]
        target: Target,
        /// The address that the interface has.
        address: Option<Ipv4Addr>,
        /// The address of a lease of DHCPv6 that it has.
        #[serde(default)]
        ipv6: Option<Ipv6Addr>,
    },
    /// Report that the daemon is there.
    Status,
    /// Release the leases of a network that belong to no valid attachment.
    Gc { network: NetworkName, valid: Vec<Attachment> },
    /// Report all leases, an [`Answer::Lease`] for each before [`Answer::Done`]: together they may be longer than a
    /// message.
    Leases,
    /// Renew a lease now.
    Renew(Id),
}

/// Which attachment a lease belongs to.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub(crate) struct Id {
    pub(crate) network: NetworkName,
    #[serde(flatten)]
    pub(crate) attachment: Attachment,
}

impl Id {
    /// How the Go daemon calls it in its client identifier, and `dhcp leases` in its table.
    pub(crate) fn text(&self) -> String {
        format!("{}/{}/{}", self.attachment.container_id, self.network, self.attachment.ifname)
    }
}

/// An interface that is to get a lease.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Target {
    #[serde(flatten)]
    pub(crate) id: Id,
    /// `CNI_NETNS`.
    pub(crate) netns: PathBuf,
    pub(crate) settings: Settings,
}

/// The addresses that are obtained.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Family {
    /// By DHCPv4.
    #[default]
    Ipv4,
    /// By router advertisements and DHCPv6.
    Ipv6,
    /// Both; only the IPv4 address is waited for.
    Dual,
}

impl Family {
    pub(crate) fn has_ipv4(self) -> bool {
        self != Family::Ipv6
    }

    pub(crate) fn has_ipv6(self) -> bool {
        self != Family::Ipv4
    }
}

/// What a configuration says of the exchange with servers.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Settings {
    /// The options that are requested.
    pub(crate) request: Vec<u8>,
    /// Options that are sent, with their values.
    pub(crate) provide: Vec<(u8, Hex)>,
    /// Whether the link gets the MTU that a server gives.
    pub(crate) set_mtu: bool,
    /// The metric of all routes, 0 for the kernel's default.
    #[serde(default)]
    pub(crate) priority: u32,
    #[serde(default)]
    pub(crate) family: Family,
}

/// Bytes, written as hexadecimal digits.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Hex(pub(crate) Vec<u8>);

impl TryFrom<String> for Hex {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Hex, &'static str> {
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let digit = |byte: u8| char::from(byte).to_digit(16).map(|value| value as u8);
        let byte = |[high, low]: &[u8; 2]| Some(digit(*high)? << 4 | digit(*low)?);
        match pairs.iter().map(byte).collect::<Option<Vec<u8>>>() {
            Some(bytes) if rest.is_empty() => Ok(Hex(bytes)),
            _ => Err("not pairs of hexadecimal digits"),
        }
    }
}

impl From<Hex> for String {
    fn from(hex: Hex) -> String {
        hex.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A message of the daemon.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Answer {
    /// It takes up to so many milliseconds from here; the text is for a person.
    Waiting { milliseconds: u64, text: Option<String> },
    /// It is done.
    Done,
    /// The lease of an attachment.
    Lease(Box<Report>),
    /// It failed.
    Failed { code: u32, msg: String, details: String },
}

impl From<Error> for Answer {
    fn from(error: Error) -> Answer {
        #[derive(Deserialize)]
        struct Object {
            code: u32,
            msg: String,
            #[serde(default)]
            details: String,
        }
        let object: Option<Object> = serde_json::from_str(&error.to_json(Version::NEWEST)).ok();
        let Object { code, msg, details } = object.unwrap_or_else(|| Object {
            code: error.code().0,
            msg: error.to_string(),
            details: String::new(),
        });
        Answer::Failed { code, msg, details }
    }
}

/// A lease as it is reported.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    #[serde(flatten)]
    pub(crate) id: Id,
    pub(crate) netns: PathBuf,
    /// The state of RFC 2131; `off` where the family is IPv6.
    pub(crate) state: String,
    /// The address; `None` where there is no lease at this time.
    pub(crate) address: Option<Cidr>,
    pub(crate) gateway: Option<Ipv4Addr>,
    pub(crate) server: Option<Ipv4Addr>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) routes: Vec<Route>,
    #[serde(default)]
    pub(crate) dns: Dns,
    pub(crate) mtu: Option<u16>,
    /// Seconds to the renewal; `None` for never.
    pub(crate) renewal: Option<u64>,
    /// Seconds to the expiry; `None` for never.
    pub(crate) expiry: Option<u64>,
    /// The IPv6 side, where the family has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ipv6: Option<Ipv6Report>,
}

/// The IPv6 addresses of an attachment.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Ipv6Report {
    /// The state of the client of DHCPv6, by the message that it sends.
    pub(crate) state: String,
    /// The leased address; `None` where there is no lease at this time.
    pub(crate) address: Option<Cidr>,
    /// The DUID of the server.
    pub(crate) server: Option<Hex>,
    /// The addresses that the kernel made by router advertisements.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) slaac: Vec<Cidr>,
    #[serde(default)]
    pub(crate) dns: Dns,
    /// Seconds to the renewal of the lease; `None` for never.
    pub(crate) renewal: Option<u64>,
    /// Seconds to its expiry; `None` for never.
    pub(crate) expiry: Option<u64>,
}

/// The bytes of a message. A line end behind the text makes the Go daemon answer.
///
/// # Errors
/// When it is longer than [`MAX_MESSAGE`].
pub(crate) fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(message)?;
    text.push(b'\n');
    if text.len() > MAX_MESSAGE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the message is longer than 1 MiB"));
    }
    let mut bytes = (text.len() as u32).to_be_bytes().to_vec();
    bytes.extend(text);
    Ok(bytes)
}

/// The length that the first four bytes of a message give.
///
/// # Errors
/// When it is longer than [`MAX_MESSAGE`].
pub(crate) fn length(prefix: [u8; 4]) -> io::Result<usize> {
    let length = u32::from_be_bytes(prefix) as usize;
    if length > MAX_MESSAGE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not a message of this protocol"));
    }
    Ok(length)
}

/// Writes a message.
///
/// # Errors
/// Those of write(2).
pub(crate) fn send(stream: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    stream.write_all(&encode(message)?)
}

/// Reads the first four bytes of a message.
///
/// # Errors
/// Those of read(2).
pub(crate) fn receive_prefix(stream: &mut impl Read) -> io::Result<[u8; 4]> {
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix)?;
    Ok(prefix)
}

/// Reads the text of a message of a length.
///
/// # Errors
/// Those of read(2).
pub(crate) fn receive_text(stream: &mut impl Read, length: usize) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    stream.take(length as u64).read_to_end(&mut text)?;
    if text.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn call() -> Call {
        let id = Id {
            network: "net".parse().unwrap(),
            attachment: Attachment { container_id: "c1".parse().unwrap(), ifname: "eth0".parse().unwrap() },
        };
        let provide = vec![(12, Hex(b"host".to_vec()))];
        let settings =
            Settings { request: vec![1, 3], provide, set_mtu: true, priority: 0, family: Family::Dual };
        Call {
            version: VERSION,
            command: Command::Add(Target { id, netns: "/run/netns/x".into(), settings }),
        }
    }

    #[test]
    fn a_call_survives_the_wire() {
        let bytes = encode(&call()).unwrap();
        let mut stream = &bytes[..];
        let length = length(receive_prefix(&mut stream).unwrap()).unwrap();
        let text = receive_text(&mut stream, length).unwrap();
        let read: Call = serde_json::from_slice(&text).unwrap();
        assert_eq!(format!("{read:?}"), format!("{:?}", call()));
        assert!(receive_text(&mut &text[1..], length).is_err(), "cut off");
    }

    #[test]
    fn go_programs_are_not_taken_for_ours() {
        assert!(length(GO_CLIENT).is_err());
        assert!(length(GO_DAEMON).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = serde_json::from_slice::<Call>(&bytes);
            let _ = serde_json::from_slice::<Answer>(&bytes);
        }

        #[test]
        fn hexadecimal_digits_stand_for_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..20), text in ".{0,9}") {
            prop_assert_eq!(Hex::try_from(String::from(Hex(bytes.clone()))), Ok(Hex(bytes)));
            let _ = Hex::try_from(text);
        }
    }
}
