//! What a step of a client takes and gives.

use super::lease::{Lease, Refused};
use super::packet::{Message, MessageType};
use super::retransmit::{self, Parameters};
use crate::Drop;

/// What does not change while a client runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// The DHCP unique identifier of the client.
    pub duid: Vec<u8>,
    /// The identifier of its identity association.
    pub iaid: u32,
    /// The options that are requested. That of SOL_MAX_RT always is.
    pub request: Vec<u16>,
}

/// What happens to a client.
pub type Event<'a> = crate::Event<'a, Message>;

/// What the caller has to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Send a message to [`super::ALL_SERVERS`], from an address of the link.
    Send {
        /// What it is.
        kind: MessageType,
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

/// What a client does. `Waiting` is before a new beginning, `Stopped` after a release, until it is started again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // by the message that is sent
pub enum Phase {
    Init,
    Soliciting,
    Requesting,
    Confirming,
    Bound,
    Renewing,
    Rebinding,
    Declining,
    Releasing,
    Waiting,
    Stopped,
}

impl Phase {
    /// Its name in small letters.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Init => "init",
            Phase::Soliciting => "soliciting",
            Phase::Requesting => "requesting",
            Phase::Confirming => "confirming",
            Phase::Bound => "bound",
            Phase::Renewing => "renewing",
            Phase::Rebinding => "rebinding",
            Phase::Declining => "declining",
            Phase::Releasing => "releasing",
            Phase::Waiting => "waiting",
            Phase::Stopped => "stopped",
        }
    }

    /// The message that is repeated in it, and how.
    pub(super) fn message(self) -> Option<(MessageType, Parameters)> {
        Some(match self {
            Phase::Soliciting => (MessageType::Solicit, retransmit::SOLICIT),
            Phase::Requesting => (MessageType::Request, retransmit::REQUEST),
            Phase::Confirming => (MessageType::Confirm, retransmit::CONFIRM),
            Phase::Renewing => (MessageType::Renew, retransmit::RENEW),
            Phase::Rebinding => (MessageType::Rebind, retransmit::REBIND),
            Phase::Declining => (MessageType::Decline, retransmit::DECLINE),
            Phase::Releasing => (MessageType::Release, retransmit::RELEASE),
            Phase::Init | Phase::Bound | Phase::Waiting | Phase::Stopped => return None,
        })
    }
}

/// What was sent and received since the client began anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// SOLICIT messages.
    pub solicits: u32,
    /// REQUEST messages.
    pub requests: u32,
    /// ADVERTISE messages that offer an address.
    pub advertises: u32,
    /// Messages that refuse one.
    pub refusals: u32,
}
