//! Links, addresses and routes of the kernel, through rtnetlink(7).
//!
//! A [`Netlink`] is a socket, which belongs to the network namespace in which it was opened. A
//! plugin holds two: one for the host, one for the container. Calls block: the kernel answers such a
//! request before `send` returns, so that waiting asynchronously gains nothing, and a runtime for it
//! would cost more than the requests.
//!
//! Every failure carries the kernel message where there is one (`NETLINK_EXT_ACK`).

mod address;
mod bridge;
pub(crate) mod connection;
mod create;
#[doc(hidden)]
pub mod fuzzing;
mod link;
pub(crate) mod message;
mod nsid;
mod route;
mod router;
#[cfg(test)]
mod tests;
mod uapi;
mod wait;

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::protocols::NETLINK_ROUTE;

use crate::netns::Netns;
use crate::spec::{Code, Error};

pub use address::Address;
pub use bridge::{BridgePort, BridgeVlan};
pub use create::{IpvlanMode, Kind, MacvlanMode, NewLink};
pub use link::{Link, OperState, RouterAdvertisement};
pub use nix::errno::Errno;
pub use route::InstalledRoute;
pub use router::router_options;
pub use uapi::{RT_TABLE_MAIN, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV6_IFINFO, RTNLGRP_LINK, RTNLGRP_ND_USEROPT};

use connection::{Connection, Next, Refusal};
use message::{Answer, Message};

/// A connection to the kernel in one network namespace.
pub struct Netlink {
    connection: Connection,
    /// The namespace in which it was opened, where that is not the thread's own.
    netns: Option<Netns>,
}

/// An operation that the kernel refused.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The operation and its object: "deleting interface eth0".
    pub operation: String,
    /// The error number.
    pub errno: Errno,
    /// The kernel message; empty where there is none.
    pub kernel_message: String,
    /// The kernel may have done it all the same: its answer did not arrive.
    pub unanswered: bool,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.operation, self.errno.desc())
    }
}

impl std::error::Error for Failure {}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        let mut details = Vec::new();
        if !failure.kernel_message.is_empty() {
            details.push(format!("kernel message: {}", failure.kernel_message));
        }
        let remedy = match failure.errno {
            Errno::EPERM => Some("the plugin needs CAP_NET_ADMIN"),
            Errno::EOPNOTSUPP => Some("the kernel lacks this feature, or its module is not loaded"),
            _ => None,
        };
        details.extend(remedy.map(str::to_owned));
        Error::new(Code::KERNEL, failure.to_string()).details(details.join("; "))
    }
}

/// The result of a request.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

impl Netlink {
    /// Opens a connection to the namespace that this thread is in.
    ///
    /// # Errors
    /// When the process can't have another socket.
    pub fn open() -> Result<Netlink> {
        let connection = Connection::open(NETLINK_ROUTE)
            .map_err(|err| Refusal::from(err).during("opening a netlink socket"))?;
        Ok(Netlink { connection, netns: None })
    }

    /// Opens a connection to another namespace.
    ///
    /// # Errors
    /// When the namespace can't be entered or the socket can't be opened.
    pub fn open_in(netns: &Netns) -> crate::spec::Result<Netlink> {
        let netlink = netns.enter(Netlink::open)??;
        Ok(Netlink { netns: Some(netns.clone()), ..netlink })
    }

    /// Sends a request that changes something and waits for its acknowledgement. `read` gets
    /// what the kernel echoes of it (`NLM_F_ECHO`).
    fn change(
        &self,
        message: &Message,
        operation: impl FnOnce() -> String,
        mut read: impl FnMut(&Answer<'_>),
    ) -> Result<()> {
        let changed = self.connection.change(message, |answer| {
            read(answer);
            Ok(Next::Continue)
        });
        changed.map_err(|refusal| refusal.during(operation()))
    }

    /// Sends a request whose echo does not matter.
    fn apply(&self, message: &Message, operation: impl FnOnce() -> String) -> Result<()> {
        self.change(message, operation, |_| ())
    }

    /// Sends a request for a list and returns what `read` makes of each entry.
    fn list<T>(
        &self,
        message: &Message,
        operation: impl FnOnce() -> String,
        read: impl Fn(&Answer<'_>) -> Option<T>,
    ) -> Result<Vec<T>> {
        self.connection.list(message, read).map_err(|refusal| refusal.during(operation()))
    }

    /// Sends a request for one object.
    fn get<T>(
        &self,
        message: &Message,
        operation: impl FnOnce() -> String,
        read: impl Fn(&Answer<'_>) -> Option<T>,
    ) -> Result<T> {
        self.connection.get(message, read).map_err(|refusal| refusal.during(operation()))
    }
}

impl Refusal {
    /// The failure of an operation.
    pub(crate) fn during(self, operation: impl Into<String>) -> Failure {
        let Refusal { errno, kernel_message, unanswered } = self;
        Failure { operation: operation.into(), errno, kernel_message, unanswered }
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}
