//! What a step of a client takes and gives.

use std::net::Ipv4Addr;

use super::lease::{Lease, Refused};
use super::packet::{MessageType, Packet};
use crate::{Drop, SECOND};

/// What does not change while a client runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// The MAC address of the interface.
    pub mac: [u8; 6],
    /// The client identifier (option 61), with its type byte.
    pub client_id: Vec<u8>,
    /// The options that are requested (option 55).
    pub request: Vec<u8>,
    /// Options that are sent with every request, in place of those that the client would send.
    pub provide: Vec<(u8, Vec<u8>)>,
    /// Whether servers are to broadcast their answers.
    pub broadcast: bool,
    /// How long is waited for answers.
    pub timing: Timing,
}

/// How long is waited for answers, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// After the first message; each further time twice as long.
    pub first: u64,
    /// The longest wait while a caller may be waiting too, for the first minute.
    pub eager: u64,
    /// The longest wait after that.
    pub longest: u64,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing { first: 2 * SECOND, eager: 8 * SECOND, longest: 64 * SECOND }
    }
}

/// What happens to a client.
pub type Event<'a> = crate::Event<'a, Packet>;

/// What the caller has to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Send a message.
    Send {
        /// What it is.
        kind: MessageType,
        /// Which way it goes.
        via: Via,
        /// Its bytes.
        message: Vec<u8>,
    },
    /// Use the address of this lease, in place of an earlier one.
    Use(Lease),
    /// Stop using the address of this lease.
    Drop(Lease, Drop),
    /// A message was for this client and granted nothing.
    Refused(MessageType, Refused),
}

/// Which way a message goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Via {
    /// As a broadcast of the link, from 0.0.0.0: there may be no address.
    Link,
    /// From the leased address, by the kernel's routes; `to` may be the broadcast address.
    Address {
        /// The leased address.
        from: Ipv4Addr,
        /// The server, or 255.255.255.255.
        to: Ipv4Addr,
    },
}

/// Where answers come in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Listen {
    /// None is expected.
    Nothing,
    /// At the link: they may be for an address that the interface does not have.
    Link,
    /// At the leased address.
    Address(Ipv4Addr),
}

/// The states of the RFC; `Waiting` is before a new beginning, `Stopped` after a release.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // the names are those of the RFC
pub enum Phase {
    Init,
    Selecting,
    Requesting,
    Rebooting,
    Bound,
    Renewing,
    Rebinding,
    Waiting,
    Stopped,
}

impl Phase {
    /// Its name in the RFC, in small letters.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Init => "init",
            Phase::Selecting => "selecting",
            Phase::Requesting => "requesting",
            Phase::Rebooting => "rebooting",
            Phase::Bound => "bound",
            Phase::Renewing => "renewing",
            Phase::Rebinding => "rebinding",
            Phase::Waiting => "waiting",
            Phase::Stopped => "stopped",
        }
    }
}

/// What was sent and received since the client began anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// DISCOVER messages.
    pub discovers: u32,
    /// REQUEST messages.
    pub requests: u32,
    /// OFFER messages for this client.
    pub offers: u32,
    /// NAK messages for this client.
    pub naks: u32,
}
