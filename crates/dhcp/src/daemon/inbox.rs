//! Sockets that any host of a network can send to. They are read at a bounded pace: such a host can send without end, and
//! the daemon has other leases to keep.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

use dhcp_client::Time;
use socket2::Socket;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::clock::Clock;
use super::watch::watch;

/// How many datagrams are read in each period. What the kernel queues meanwhile is bounded, and the rest is lost.
const DATAGRAMS: u32 = 64;
/// In milliseconds.
const PERIOD: u64 = 10;

/// Longer than any datagram that a client takes.
const LONGEST: usize = 2048;

/// A bound on how often something is done in each period.
pub(crate) struct Pace {
    clock: Rc<Clock>,
    most: u32,
    began: Cell<Time>,
    done: Cell<u32>,
}

impl Pace {
    /// So often in each period.
    pub(crate) fn new(clock: &Rc<Clock>, most: u32) -> Pace {
        Pace { clock: clock.clone(), most, began: Cell::new(clock.now()), done: Cell::new(0) }
    }

    /// Waits until it may be done again.
    pub(crate) async fn wait(&self) {
        if self.done.get() >= self.most {
            self.clock.until(Some(self.began.get().after(PERIOD))).await;
        }
    }

    /// Notes that it was done.
    pub(crate) fn count(&self) {
        let now = self.clock.now();
        if now.since(self.began.get()) >= PERIOD {
            self.began.set(now);
            self.done.set(0);
        }
        self.done.set(self.done.get() + 1);
    }
}

/// A socket with its pace.
pub(crate) struct Inbox {
    socket: AsyncFd<Socket>,
    pace: Pace,
}

impl Inbox {
    /// That of a socket that does not block.
    ///
    /// # Errors
    /// Those of epoll_ctl(2).
    pub(crate) fn new(socket: Socket, clock: &Rc<Clock>) -> io::Result<Inbox> {
        Ok(Inbox { socket: watch(socket)?, pace: Pace::new(clock, DATAGRAMS) })
    }

    /// The socket.
    pub(crate) fn socket(&self) -> &Socket {
        self.socket.get_ref()
    }

    /// The next datagram.
    ///
    /// # Errors
    /// Those of recv(2).
    pub(crate) async fn next(&self) -> io::Result<Vec<u8>> {
        self.pace.wait().await;
        let read = |mut socket: &Socket| {
            let mut buffer = [0; LONGEST];
            socket.read(&mut buffer).map(|length| buffer[..length].to_vec())
        };
        let datagram = self.socket.async_io(Interest::READABLE, read).await;
        self.pace.count();
        datagram
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::{LocalSet, spawn_local};

    use super::super::clock::now;
    use super::*;

    #[test]
    fn more_than_a_period_has_waits_for_the_next_one() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let clock = Clock::new().unwrap();
            spawn_local(clock.clone().drive());
            let pace = Pace::new(&clock, 2);
            let began = clock.now();
            for _ in 0..5 {
                pace.wait().await;
                pace.count();
            }
            assert!(clock.now().since(began) >= 2 * PERIOD);
        });
    }

    #[test]
    fn a_socket_that_is_full_is_not_read_at_once() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let clock = Clock::new().unwrap();
            let (ours, theirs) = std::os::unix::net::UnixDatagram::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            let inbox = Inbox::new(Socket::from(std::os::fd::OwnedFd::from(ours)), &clock).unwrap();
            spawn_local(clock.drive());
            let sent = std::thread::spawn(move || while theirs.send(b"junk").is_ok() {});
            let began = now();
            for _ in 0..3 * DATAGRAMS {
                assert_eq!(inbox.next().await.unwrap(), b"junk");
            }
            assert!(now().since(began) >= 2 * PERIOD);
            drop(inbox);
            sent.join().unwrap();
        });
    }
}
