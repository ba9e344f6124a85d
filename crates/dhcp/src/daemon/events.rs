//! Events of the kernel in a container's namespace. Their socket exists only while something is
//! waited for.

use std::io;

use cni_core::netns::Netns;
use netlink_sys::protocols::NETLINK_ROUTE;
use tokio::io::unix::AsyncFd;

use super::watch::watch;

/// A subscription to multicast groups of rtnetlink(7).
pub(crate) struct Events(AsyncFd<netlink_sys::Socket>);

impl Events {
    /// Subscribes in the namespace that this thread is in.
    ///
    /// # Errors
    /// Those of the socket.
    pub(crate) fn here(groups: &[u32]) -> io::Result<Events> {
        let mut socket = netlink_sys::Socket::new(NETLINK_ROUTE)?;
        socket.bind(&netlink_sys::SocketAddr::new(0, 0))?;
        for group in groups {
            socket.add_membership(*group)?;
        }
        socket.set_non_blocking(true)?;
        Ok(Events(watch(socket)?))
    }

    /// Subscribes in another namespace.
    ///
    /// # Errors
    /// Those of the socket.
    pub(crate) fn within(netns: &Netns, groups: &[u32]) -> io::Result<Events> {
        netns.enter(|| Events::here(groups)).map_err(io::Error::other)?
    }

    /// Waits for events, and reads all: what they say is looked up. Events that were lost (`ENOBUFS`) are as
    /// good as others.
    pub(crate) async fn next(&self) {
        if let Ok(mut ready) = self.0.readable().await {
            ready.clear_ready();
        }
        let mut buffer = Vec::with_capacity(4096);
        while self.0.get_ref().recv(&mut buffer, 0).is_ok_and(|read| read > 0) {
            buffer.clear();
        }
    }
}
