//! Events of the kernel in a container's namespace. Their socket exists only while something is
//! waited for.

use std::io;

use cni_core::netlink::router_options;
use cni_core::netns::Netns;
use netlink_sys::protocols::NETLINK_ROUTE;
use tokio::io::unix::AsyncFd;

use super::log::{Level, log};
use super::watch::watch;

/// The most bytes of an event that are read: what is longer is cut, and looked up all the same.
const DATAGRAM: usize = 4096;

/// The most events that are read at once.
const MOST: usize = 1000;

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

    /// Waits for events.
    pub(crate) async fn next(&self) {
        // What is not read stays: [`Events::read`] says when all is.
        if let Err(err) = self.0.readable().await {
            log(Level::Error, "watch-failed", &[("why", &err)]);
            std::future::pending().await
        }
    }

    /// Reads the events that came, but not for ever where a container makes ever more of them. What they say is looked
    /// up, but for options of router advertisements, which `router_option` gets with the number of their interface.
    /// Events that were lost (`ENOBUFS`) are as good as others.
    pub(crate) fn read(&self, mut router_option: impl FnMut(u32, &[u8])) {
        let mut buffer = Vec::with_capacity(DATAGRAM);
        for _ in 0..MOST {
            buffer.clear();
            let read = self.0.try_io(tokio::io::Interest::READABLE, |socket| socket.recv(&mut buffer, 0));
            match read {
                Ok(_) => router_options(&buffer).for_each(|(index, option)| router_option(index, option)),
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {}
            }
        }
    }
}
