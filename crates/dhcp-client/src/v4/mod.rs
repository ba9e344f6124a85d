//! The client of DHCPv4 (RFC 2131).

mod client;
pub mod frame;
mod lease;
mod packet;

pub use client::{Action, Client, Config, Counters, Drop, Event, Listen, Phase, Timing, Via};
pub use lease::{Lease, Refused, Route, Timers};
pub use packet::{MessageType, Options, Packet, code};
