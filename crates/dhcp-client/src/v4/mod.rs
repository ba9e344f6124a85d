//! The client of DHCPv4 (RFC 2131).

mod client;
pub mod frame;
mod lease;
mod packet;
mod step;

pub use client::Client;
pub use lease::{Lease, Refused, Route};
pub use packet::{MessageType, Options, Packet, code};
pub use step::{Action, Config, Counters, Event, Listen, Phase, Timing, Via};
