//! Waiting for the kernel to tell, without asking again and again.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Failure, Netlink, Result, failure};

impl Netlink {
    /// Looks with `check`, and where that finds nothing yet, again after each event of a
    /// multicast group.
    ///
    /// # Errors
    /// Those of `check`, `ETIMEDOUT` when the limit passes.
    pub(super) fn wait_for<T>(
        &self,
        group: u32,
        limit: Duration,
        operation: impl Fn() -> String,
        mut check: impl FnMut() -> Result<Option<T>>,
    ) -> Result<T> {
        // Mostly all is well already, and then nothing needs to be subscribed to.
        if let Some(found) = check()? {
            return Ok(found);
        }
        let subscribed = match &self.netns {
            None => subscribe(group),
            Some(netns) => {
                netns.enter(|| subscribe(group)).unwrap_or_else(|err| Err(std::io::Error::other(err)))
            }
        };
        let events = subscribed.map_err(|err| failure(&operation(), &err))?;
        let deadline = Instant::now() + limit;
        loop {
            // Between the look above and the subscription something may have happened.
            if let Some(found) = check()? {
                return Ok(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let ready = poll(&mut [PollFd::new(events.as_fd(), PollFlags::POLLIN)], timeout);
            match ready {
                Ok(0) => {
                    return Err(Failure {
                        operation: operation(),
                        errno: Errno::ETIMEDOUT,
                        kernel_message: String::new(),
                    });
                }
                Ok(_) => drain(&events),
                Err(Errno::EINTR) => {}
                Err(errno) => {
                    return Err(Failure { operation: operation(), errno, kernel_message: String::new() });
                }
            }
        }
    }
}

fn subscribe(group: u32) -> std::io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind(&SocketAddr::new(0, 0))?;
    socket.add_membership(group)?;
    socket.set_non_blocking(true)?;
    Ok(socket)
}

/// Reads all events there are: what they say is looked up by the check. Events that were
/// lost for want of space (`ENOBUFS`) are as good as others.
fn drain(events: &Socket) {
    let mut buffer = Vec::with_capacity(4096);
    while let Ok(read) = events.recv(&mut buffer, 0) {
        if read == 0 {
            return;
        }
        buffer.clear();
    }
}
