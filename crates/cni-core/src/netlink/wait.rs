//! Waiting for events of the kernel.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::connection::Refusal;
use super::{Netlink, Result};

impl Netlink {
    /// Calls `check`, and while that finds nothing, again after each event of a multicast group.
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
        // Mostly it is found at once, and a subscription would cost for nothing.
        if let Some(found) = check()? {
            return Ok(found);
        }
        let subscribed = match &self.netns {
            None => subscribe(group),
            Some(netns) => {
                netns.enter(|| subscribe(group)).unwrap_or_else(|err| Err(std::io::Error::other(err)))
            }
        };
        let events = subscribed.map_err(|err| Refusal::from(err).during(operation()))?;
        wait(&events, limit, || drain(&events), operation, check)
    }
}

/// Calls `check` at once, and after each time that there are events, until the limit passes: a container can make
/// events without end.
fn wait<T>(
    events: &impl AsFd,
    limit: Duration,
    drain: impl Fn(),
    operation: impl Fn() -> String,
    mut check: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        // An event between the check before the subscription and the subscription is lost.
        if let Some(found) = check()? {
            return Ok(found);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Refusal::from(Errno::ETIMEDOUT).during(operation()));
        }
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(events.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => drain(),
            Err(errno) => return Err(Refusal::from(errno).during(operation())),
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

/// The most events that are received between two checks.
const MOST: usize = 1000;

/// Receives events and ignores their content: the check looks that up. Events that were lost because the
/// socket's buffer is full (`ENOBUFS`) count as well.
fn drain(events: &Socket) {
    let mut buffer = Vec::with_capacity(4096);
    for _ in 0..MOST {
        if !matches!(events.recv(&mut buffer, 0), Ok(read) if read > 0) {
            return;
        }
        buffer.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_without_end_do_not_keep_a_wait_from_its_end() {
        let (events, writer) = std::os::unix::net::UnixStream::pair().unwrap();
        std::io::Write::write_all(&mut &writer, b"never read").unwrap();
        let limit = Duration::from_millis(20);
        let waited = wait(&events, limit, || (), || "waiting".to_owned(), || Ok(None::<()>));
        assert_eq!(waited.unwrap_err().errno, Errno::ETIMEDOUT);
    }
}
