//! Tables, chains, rules, sets and maps of nf_tables, through netlink.
//!
//! A [`Netfilter`] is a socket in one network namespace. Objects are looked up with it, and changed by
//! a [`Transaction`], which the kernel applies atomically.
//!
//! What a transaction costs is mostly waiting: where it deletes or updates anything, the close of its
//! socket waits for an RCU grace period, of some 15 ms (`nft_rcv_nl_event` in
//! net/netfilter/nf_tables_api.c). So a caller looks up what exists, and adds only what is missing. What
//! waits for such a period anyway is done within [`close_after`].
//!
//! Which attributes and expressions are sent follows what nft(8) sends, so that nft lists the
//! objects as if it had made them.

mod closing;
mod expression;
#[doc(hidden)]
pub mod fuzzing;
mod query;
#[cfg(test)]
mod tests;
mod transaction;
mod uapi;

use std::borrow::Cow;

use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;

use crate::netlink::connection::{Connection, Refusal};
use crate::netlink::message::Message;
use uapi::*;

pub use crate::netlink::{Failure, Result};
pub use closing::close_after;
pub use expression::{Comparison, Expression, Field, Header, Verdict};
pub use transaction::Transaction;

/// A connection to nf_tables in one network namespace.
pub struct Netfilter {
    connection: Connection,
    /// The generation of the ruleset when the connection was opened.
    generation: u32,
}

/// The packets that a table sees (`NFPROTO_*` of include/uapi/linux/netfilter.h).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// IPv4 and IPv6.
    Inet,
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// Frames of bridges.
    Bridge,
}

/// A table, by its name in a family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Table<'a> {
    /// The packets that it sees.
    pub family: Family,
    /// Its name.
    pub name: &'a str,
}

/// A chain of a table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chain<'a> {
    /// Its table.
    pub table: Table<'a>,
    /// Its name.
    pub name: Cow<'a, str>,
    /// Where packets enter it; `None` for one that is only jumped to.
    pub base: Option<BaseChain>,
}

/// Where packets enter a chain. Its policy is to accept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BaseChain {
    /// What its rules may do.
    pub kind: ChainKind,
    /// The place in the kernel.
    pub hook: Hook,
    /// The order among the chains of a hook, lowest first.
    pub priority: i32,
}

/// What the rules of a base chain may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChainKind {
    /// Accept and drop packets.
    Filter,
    /// Also translate addresses.
    Nat,
}

/// The place in the kernel where packets enter a base chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hook {
    /// Before it is known whether a packet is forwarded.
    Prerouting,
    /// After a packet was routed.
    Postrouting,
}

/// A rule of a chain.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rule {
    /// Its expressions, evaluated in this order.
    pub expressions: Vec<Expression>,
    /// Its comment.
    pub comment: Option<String>,
    /// Its number in its table; 0 for one that is not in the kernel.
    pub handle: u64,
}

/// A set of keys, or a map from keys to verdicts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Set<'a> {
    /// Its table.
    pub table: Table<'a>,
    /// Its name.
    pub name: &'a str,
    /// The type of its keys.
    pub key: KeyType,
    /// What the map maps a key to; `None` for a set.
    pub map: Option<MapType>,
}

/// The type of the keys of a set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyType {
    /// An IPv4 address.
    Ipv4,
    /// An IPv6 address.
    Ipv6,
    /// A MAC address.
    Mac,
    /// A port of TCP, UDP or SCTP.
    Port,
}

/// The type of the values of a map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapType {
    /// What happens to the packet.
    Verdict,
}

/// An element of a set or map.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Element {
    /// The key in network byte order.
    pub key: Vec<u8>,
    /// What a map maps it to.
    pub verdict: Option<Verdict>,
    /// Its comment.
    pub comment: Option<String>,
}

impl Netfilter {
    /// Opens a connection to the namespace that this thread is in; `None` where the kernel has no
    /// nf_tables.
    ///
    /// # Errors
    /// When the socket can't be opened for another reason, or the kernel can't answer.
    pub fn open() -> Result<Option<Netfilter>> {
        match Connection::open(NETLINK_NETFILTER) {
            Ok(connection) => Netfilter::on(connection),
            Err(err) => supported(Err(err.into())),
        }
    }

    /// A connection over a socket, where nf_tables answers on it.
    fn on(connection: Connection) -> Result<Option<Netfilter>> {
        let generation = query::generation(&connection);
        supported(generation.map(|generation| Netfilter { connection, generation }))
    }
}

/// `None` for the errors by which a kernel without nf_tables refuses the first request: the socket
/// (`netlink_create`) or the subsystem (`nfnetlink_rcv_msg`) is not there.
fn supported(opened: Result<Netfilter, Refusal>) -> Result<Option<Netfilter>> {
    match opened {
        Ok(netfilter) => Ok(Some(netfilter)),
        Err(Refusal { errno: Errno::EPROTONOSUPPORT | Errno::EOPNOTSUPP | Errno::EINVAL, .. }) => Ok(None),
        Err(refusal) => Err(refusal.during("opening a connection to nf_tables")),
    }
}

impl Family {
    fn number(self) -> u8 {
        match self {
            Family::Inet => 1,
            Family::Ip => 2,
            Family::Bridge => 7,
            Family::Ip6 => 10,
        }
    }
}

impl std::fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let family = match self.family {
            Family::Inet => "inet",
            Family::Ip => "ip",
            Family::Bridge => "bridge",
            Family::Ip6 => "ip6",
        };
        write!(f, "{family} {}", self.name)
    }
}

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.table, self.name)
    }
}

impl<'a> Table<'a> {
    /// A chain of this table that is only jumped to.
    pub fn chain(self, name: impl Into<Cow<'a, str>>) -> Chain<'a> {
        Chain { table: self, name: name.into(), base: None }
    }
}

impl<'a> Chain<'a> {
    /// The same chain as a base chain.
    #[must_use]
    pub fn based(self, kind: ChainKind, hook: Hook, priority: i32) -> Chain<'a> {
        Chain { base: Some(BaseChain { kind, hook, priority }), ..self }
    }
}

impl ChainKind {
    fn name(self) -> &'static str {
        match self {
            ChainKind::Filter => "filter",
            ChainKind::Nat => "nat",
        }
    }
}

impl Hook {
    fn number(self) -> u32 {
        match self {
            Hook::Prerouting => 0,
            Hook::Postrouting => 4,
        }
    }
}

impl Rule {
    /// A rule of expressions.
    pub fn new(expressions: impl Into<Vec<Expression>>) -> Rule {
        Rule { expressions: expressions.into(), ..Rule::default() }
    }

    /// With a comment, of which nft(8) allows 128 bytes.
    #[must_use]
    pub fn comment(self, comment: impl Into<String>) -> Rule {
        Rule { comment: Some(comment.into()), ..self }
    }

    /// The chain that the rule jumps to.
    pub fn jump_target(&self) -> Option<&str> {
        self.expressions.iter().find_map(|expression| match expression {
            Expression::Verdict(Verdict::Jump(chain)) => Some(chain.as_str()),
            _ => None,
        })
    }
}

impl KeyType {
    /// Type number of nft(8) (`enum datatypes` in its include/datatype.h) and length in bytes.
    fn type_and_len(self) -> (u32, u32) {
        match self {
            KeyType::Ipv4 => (7, 4),
            KeyType::Ipv6 => (8, 16),
            KeyType::Mac => (9, 6),
            KeyType::Port => (13, 2),
        }
    }
}

/// A message of nf_tables with its header, `struct nfgenmsg`.
fn message(kind: u16, flags: i32, family: Family) -> Message {
    Message::new(NFNL_SUBSYS_NFTABLES << 8 | kind, flags, &[family.number(), 0, 0, 0])
}
