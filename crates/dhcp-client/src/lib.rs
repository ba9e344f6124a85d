//! DHCP clients as pure state machines: they get events and the time, and give actions. They
//! open no socket, read no clock and draw no random numbers, so that tests can drive years of
//! lease time in milliseconds.
//!
//! ```
//! use dhcp_client::Time;
//! use dhcp_client::v4::{Action, Client, Config, Event, Timing};
//!
//! let config = Config {
//!     mac: [2, 0, 0, 0, 0, 1],
//!     client_id: b"\0container/network/eth0".to_vec(),
//!     request: vec![1, 3, 6],
//!     provide: Vec::new(),
//!     broadcast: false,
//!     timing: Timing::default(),
//! };
//! let mut client = Client::new(config, 42);
//! let actions = client.step(Event::Start, Time(0));
//! assert!(matches!(actions[..], [Action::Send { .. }]));
//! // The caller sends the DISCOVER, and steps again with each packet and at this time:
//! assert!(client.deadline() > Some(Time(0)));
//! ```
#![deny(missing_docs)]

mod event;
mod names;
mod random;
#[cfg(test)]
mod simulation;
mod time;
mod timers;
pub mod v4;
pub mod v6;

pub use event::Event;
pub use random::Random;
pub use time::{SECOND, Time};
pub use timers::Timers;

/// Why an address is not used any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Drop {
    /// Its lease ended and no server renewed it.
    Expired,
    /// A server refused it.
    Nak,
    /// Another host uses it.
    Conflict,
    /// It was released.
    Released,
}
